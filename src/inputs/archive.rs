//! Tar archives, plain or compressed by gzip or zstd, as trees.
//!
//! Nothing is ever written under a name from the archive: contents go into the store by their digest, names into a
//! manifest. Names that are absolute or hold `..` are refused, and so is a name that goes through a link or a file of
//! the same archive.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader, Read};

use tar::{Archive, EntryType};

use super::fault::{Fault, Faults, InputError};
use super::walk::unusable_name;
use super::{Entry, Manifest, Node, path_order};
use crate::path::{PathError, RelPath, printable};
use crate::store::{Family, PutError, Store, Variant};

/// What archives and image layers amount to.
#[derive(Debug, Default)]
pub(super) struct Contents {
    /// By path; directories are there as [`Node::EmptyDirectory`] whether or not they are empty.
    nodes: BTreeMap<String, Node>,
    /// How many devices, sockets and FIFOs were left out.
    pub(super) skipped: u64,
}

/// What names that begin with `.wh.` mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whiteouts {
    /// What they would be in any archive.
    AreFiles,
    /// In an image's layer they take away what the layers below have.
    Hide,
}

/// Why an archive can't be unpacked.
#[derive(Debug)]
pub(super) enum UnpackError {
    Read(io::Error),
    Input(InputError),
}

impl From<InputError> for UnpackError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl Contents {
    /// Puts `node` at `path` in place of whatever is there and below; what is no directory on the way becomes one. A
    /// directory that is there already stays with what it holds.
    pub(super) fn put(&mut self, path: String, node: Node) {
        for (end, _) in path.match_indices('/') {
            if self.nodes.get(&path[..end]).is_none_or(|node| *node != Node::EmptyDirectory) {
                self.nodes.insert(path[..end].to_owned(), Node::EmptyDirectory);
            }
        }
        if node != Node::EmptyDirectory {
            self.remove_below(&path);
        }
        self.nodes.insert(path, node);
    }

    fn remove(&mut self, path: &str) {
        self.nodes.remove(path);
        self.remove_below(path);
    }

    fn remove_below(&mut self, path: &str) {
        // `0` is the character after `/`.
        let below: Vec<_> =
            self.nodes.range(format!("{path}/")..format!("{path}0")).map(|(path, _)| path.clone()).collect();
        for path in below {
            self.nodes.remove(&path);
        }
    }

    /// The manifest, in which only directories without entries are entries.
    pub(super) fn into_manifest(self) -> Manifest {
        let has_entries = |path: &str| self.nodes.range(format!("{path}/")..format!("{path}0")).next().is_some();
        let mut entries: Vec<_> = self
            .nodes
            .iter()
            .filter(|(path, node)| **node != Node::EmptyDirectory || !has_entries(path))
            .map(|(path, node)| Entry { path: path.clone(), node: node.clone() })
            .collect();
        entries.sort_by(|one, other| path_order(&one.path, &other.path));
        Manifest { entries }
    }
}

/// Unpacks the archive that `source` gives over what `contents` holds already, reading `source` to its end.
pub(super) fn unpack(
    source: &mut dyn Read,
    store: &Store,
    contents: &mut Contents,
    whiteouts: Whiteouts,
) -> Result<(), UnpackError> {
    let mut source = BufReader::new(source);
    let plain: Box<dyn Read + '_> = match source.fill_buf().map_err(UnpackError::Read)? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(&mut source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(&mut source).map_err(UnpackError::Read)?)
        }
        _ => Box::new(&mut source),
    };
    let mut archive = Archive::new(plain);
    let mut layer =
        Layer { store, contents, whiteouts, new: Contents::default(), faults: Faults::default(), buffer: Vec::new() };
    for entry in archive.entries().map_err(UnpackError::Read)? {
        layer.take(&mut entry.map_err(UnpackError::Read)?)?;
    }
    layer.finish()?;
    // What follows the archive's end (padding) belongs to what a digest is taken of.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(UnpackError::Read)?;
    io::copy(&mut source, &mut io::sink()).map_err(UnpackError::Read)?;
    Ok(())
}

/// One archive while it is read.
struct Layer<'a> {
    store: &'a Store,
    /// What the layers below hold.
    contents: &'a mut Contents,
    whiteouts: Whiteouts,
    /// What this archive holds.
    new: Contents,
    faults: Faults,
    buffer: Vec<u8>,
}

impl Layer<'_> {
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let path = match self.checked(&name) {
            Ok(Some(path)) => path,
            Ok(None) => return Ok(()),
            Err(fault) => {
                self.faults.push(fault);
                return Ok(());
            }
        };
        if self.whiteouts == Whiteouts::Hide && self.hide(&path) {
            return Ok(());
        }
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let node = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = entry.header().mode().map_err(UnpackError::Read)? & 0o100 != 0;
                let variant = Variant { executable, family: Family::RootFs };
                let digest = self.store.put_stream(entry, variant, &mut self.buffer).map_err(|error| match error {
                    PutError::Read(error) => UnpackError::Read(error),
                    PutError::Store(error) => UnpackError::Input(error.into()),
                })?;
                Ok(Node::File { digest, executable })
            }
            EntryType::Directory => Ok(Node::EmptyDirectory),
            EntryType::Symlink => match String::from_utf8(link) {
                Ok(target) if !target.is_empty() && !target.chars().any(char::is_control) => {
                    Ok(Node::Symlink { target })
                }
                bad => {
                    let link = bad.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                    Err(Fault::BadTarget { path: path.clone(), target: printable(&link) })
                }
            },
            EntryType::Link => self.linked(&path, &link),
            EntryType::Block | EntryType::Char | EntryType::Fifo => {
                self.new.skipped += 1;
                return Ok(());
            }
            _ => Err(Fault::Special { path: path.clone(), kind: "an unknown kind of archive entry" }),
        };
        match node {
            Ok(node) => self.new.put(path, node),
            Err(fault) => self.faults.push(fault),
        }
        Ok(())
    }

    /// The name as a path below the root; `None` for the root itself.
    fn checked(&self, name: &[u8]) -> Result<Option<String>, Fault> {
        if let Some(fault) = unusable_name(name) {
            return Err(fault);
        }
        let text = String::from_utf8_lossy(name);
        let path = match RelPath::new(&text) {
            Ok(path) => path.as_str().to_owned(),
            Err(PathError::Empty) => return Ok(None),
            Err(_) => return Err(Fault::LeavesArchive { path: printable(name) }),
        };
        // What this archive has there stands over what the layers below have.
        let stands = |above: &str| self.new.nodes.get(above).or_else(|| self.contents.nodes.get(above));
        let through = |end: usize| stands(&path[..end]).is_some_and(|node| *node != Node::EmptyDirectory);
        if path.match_indices('/').any(|(end, _)| through(end)) {
            return Err(Fault::LeavesArchive { path });
        }
        Ok(Some(path))
    }

    /// The file that a hard link names, which is one of this archive's or of those below.
    fn linked(&self, path: &str, link: &[u8]) -> Result<Node, Fault> {
        let target = self.checked(link)?.unwrap_or_default();
        let node = self.new.nodes.get(&target).or_else(|| self.contents.nodes.get(&target));
        match node {
            Some(node) if *node != Node::EmptyDirectory => Ok(node.clone()),
            _ => Err(Fault::BadTarget { path: path.to_owned(), target: printable(link) }),
        }
    }

    /// Takes `path` away from the layers below when it is a whiteout.
    fn hide(&mut self, path: &str) -> bool {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let Some(hidden) = name.strip_prefix(".wh.") else { return false };
        let hidden = match (dir, hidden) {
            ("", ".wh..opq") => {
                self.contents.nodes.clear();
                return true;
            }
            (dir, ".wh..opq") => {
                self.contents.remove_below(dir);
                return true;
            }
            ("", hidden) => hidden.to_owned(),
            (dir, hidden) => format!("{dir}/{hidden}"),
        };
        self.contents.remove(&hidden);
        true
    }

    /// Lays what was read over what is below.
    fn finish(self) -> Result<(), InputError> {
        self.faults.into_result()?;
        for (path, node) in self.new.nodes {
            self.contents.put(path, node);
        }
        self.contents.skipped += self.new.skipped;
        Ok(())
    }
}
