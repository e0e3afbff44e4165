//! Tar archives, plain or compressed by gzip or zstd, as trees; zip archives by way of `zip`.
//!
//! Nothing is ever written under a name from the archive: contents go into the store by their digest, names into a
//! manifest. Names that are absolute or hold `..` are refused, and so is a name that goes through a link or a file of
//! the same archive. What is unpacked to be inputs is held to more: no link may lead out, no device, no name twice, and
//! what it comes to is bounded.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read, Seek as _};

use tar::{Archive, EntryType};

use super::fault::{Fault, Faults, InputError};
use super::walk::unusable_name;
use super::{Entry, Manifest, Node, path_order, zip};
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

/// What an archive is unpacked to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// A root file system, or a layer of one: whatever it has, less devices, sockets and FIFOs.
    RootFs(Whiteouts),
    /// Inputs: what it has is asked for, or a fault.
    Inputs,
}

/// The most entries of an archive of inputs.
const ENTRIES_MAX: u64 = 1_000_000;
/// The most that an archive of inputs unpacks to: this many times its size, but at least and at most so many bytes.
/// Deflate can't do better than 1032; real archives stay below 100.
const RATIO_MAX: u64 = 500;
const UNPACKED_MIN: u64 = 256 << 20;
const UNPACKED_MAX: u64 = 64 << 30;
/// How many links are followed to see where one leads, as the kernel does (path_resolution(7)).
const LINKS_MAX: usize = 40;

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

    /// Whether the link at `path` leads out of the tree, by way of whatever other links; what does not exist counts as a
    /// directory.
    fn leads_out(&self, path: &str) -> bool {
        let mut here: Vec<&str> = Vec::new();
        let mut ahead: Vec<&str> = path.split('/').rev().collect();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            match part {
                "" | "." => continue,
                ".." if here.pop().is_none() => return true,
                ".." => continue,
                name => here.push(name),
            }
            if let Some(Node::Symlink { target }) = self.nodes.get(&here.join("/")) {
                links += 1;
                if target.starts_with('/') {
                    return true;
                }
                if links > LINKS_MAX {
                    return false;
                }
                here.pop();
                ahead.extend(target.split('/').rev());
            }
        }
        false
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
    let mut layer = Layer::new(store, contents, Purpose::RootFs(whiteouts));
    untar(source, None, &mut layer)?;
    Ok(layer.finish()?)
}

/// Unpacks the archive `file`, of `size` bytes, to be inputs.
pub(super) fn unpack_inputs(file: &mut File, size: u64, store: &Store) -> Result<Manifest, UnpackError> {
    let limit = size.saturating_mul(RATIO_MAX).clamp(UNPACKED_MIN, UNPACKED_MAX);
    let mut contents = Contents::default();
    let mut layer = Layer::new(store, &mut contents, Purpose::Inputs);
    let mut magic = Vec::new();
    file.take(6).read_to_end(&mut magic).and_then(|_| file.rewind()).map_err(UnpackError::Read)?;
    let other = |kind: &str| {
        UnpackError::Read(io::Error::other(format!("{kind} is not read; tar (plain, gzip, zstd) and zip are")))
    };
    match magic.as_slice() {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => zip::unpack(file, limit, &mut layer)?,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => return Err(other("xz")),
        [b'B', b'Z', b'h', ..] => return Err(other("bzip2")),
        _ => untar(file, Some(limit), &mut layer)?,
    }
    if layer.entries == 0 {
        return Err(UnpackError::Read(io::Error::other("it holds nothing")));
    }
    layer.finish()?;
    Ok(contents.into_manifest())
}

/// Reads a tar archive into `layer`; what is compressed comes to at most `limit` bytes.
fn untar(source: &mut dyn Read, limit: Option<u64>, layer: &mut Layer<'_>) -> Result<(), UnpackError> {
    let mut source = BufReader::new(source);
    let mut plain: Box<dyn Read + '_> = match source.fill_buf().map_err(UnpackError::Read)? {
        [0x1f, 0x8b, ..] => Box::new(flate2::bufread::MultiGzDecoder::new(&mut source)),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => {
            Box::new(zstd::stream::read::Decoder::with_buffer(&mut source).map_err(UnpackError::Read)?)
        }
        _ => Box::new(&mut source),
    };
    let mut left = limit.unwrap_or(u64::MAX);
    let mut archive = Archive::new(Bounded { inner: &mut *plain, left: &mut left, limit: limit.unwrap_or(u64::MAX) });
    for entry in archive.entries().map_err(UnpackError::Read)? {
        layer.take(&mut entry.map_err(UnpackError::Read)?)?;
    }
    // What follows the archive's end (padding) belongs to what a digest is taken of.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(UnpackError::Read)?;
    drop(plain);
    io::copy(&mut source, &mut io::sink()).map_err(UnpackError::Read)?;
    Ok(())
}

/// A reader of what may come to so many bytes and no more.
pub(super) struct Bounded<'r> {
    pub(super) inner: &'r mut dyn Read,
    /// How many are left of the limit.
    pub(super) left: &'r mut u64,
    pub(super) limit: u64,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        match self.left.checked_sub(length as u64) {
            Some(left) => *self.left = left,
            None => {
                let limit = self.limit >> 20;
                return Err(io::Error::other(format!(
                    "it unpacks to more than {limit} MiB, which its size does not explain"
                )));
            }
        }
        Ok(length)
    }
}

/// One archive while it is read.
pub(super) struct Layer<'a> {
    store: &'a Store,
    /// What the layers below hold.
    contents: &'a mut Contents,
    purpose: Purpose,
    /// What this archive holds.
    new: Contents,
    entries: u64,
    faults: Faults,
    buffer: Vec<u8>,
}

impl<'a> Layer<'a> {
    fn new(store: &'a Store, contents: &'a mut Contents, purpose: Purpose) -> Self {
        let (new, faults) = (Contents::default(), Faults::default());
        Self { store, contents, purpose, new, entries: 0, faults, buffer: Vec::new() }
    }

    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let name = entry.path_bytes().into_owned();
        let Some(path) = self.place(&name)? else { return Ok(()) };
        if self.purpose == Purpose::RootFs(Whiteouts::Hide) && self.hide(&path) {
            return Ok(());
        }
        let link = entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        match kind {
            // Its holes are made of nothing, whatever the archive's size.
            EntryType::GNUSparse if self.purpose == Purpose::Inputs => {
                self.refuse(Fault::Special { path, kind: "a sparse file of an archive" });
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                let executable = entry.header().mode().map_err(UnpackError::Read)? & 0o100 != 0;
                self.file(path, executable, entry)?;
            }
            EntryType::Directory => self.directory(path),
            EntryType::Symlink => self.link(path, link),
            EntryType::Link => match self.linked(&path, &link) {
                Ok(node) => self.put(path, node),
                Err(fault) => self.refuse(fault),
            },
            EntryType::Block | EntryType::Char | EntryType::Fifo if self.purpose == Purpose::Inputs => {
                self.refuse(Fault::Special { path, kind: "a device, socket or FIFO" });
            }
            EntryType::Block | EntryType::Char | EntryType::Fifo => self.new.skipped += 1,
            _ => self.refuse(Fault::Special { path, kind: "an unknown kind of archive entry" }),
        }
        Ok(())
    }

    /// Where the entry `name` stands; `None` for the root itself, and when the name is refused.
    pub(super) fn place(&mut self, name: &[u8]) -> Result<Option<String>, UnpackError> {
        self.entries += 1;
        if self.purpose == Purpose::Inputs && self.entries > ENTRIES_MAX {
            return Err(UnpackError::Read(io::Error::other(format!("it has more than {ENTRIES_MAX} entries"))));
        }
        Ok(self.checked(name).unwrap_or_else(|fault| {
            self.faults.push(fault);
            None
        }))
    }

    /// Stores the content of a file.
    pub(super) fn file(&mut self, path: String, executable: bool, content: &mut dyn Read) -> Result<(), UnpackError> {
        let family = match self.purpose {
            Purpose::RootFs(_) => Family::RootFs,
            Purpose::Inputs => Family::Inputs,
        };
        let variant = Variant { executable, family };
        let digest = self.store.put_stream(content, variant, &mut self.buffer).map_err(|error| match error {
            PutError::Read(error) => UnpackError::Read(error),
            PutError::Store(error) => UnpackError::Input(error.into()),
        })?;
        self.put(path, Node::File { digest, executable });
        Ok(())
    }

    pub(super) fn directory(&mut self, path: String) {
        self.put(path, Node::EmptyDirectory);
    }

    pub(super) fn link(&mut self, path: String, target: Vec<u8>) {
        match String::from_utf8(target) {
            Ok(target) if !target.is_empty() && !target.chars().any(char::is_control) => {
                self.put(path, Node::Symlink { target });
            }
            bad => {
                let target = bad.map_or_else(std::string::FromUtf8Error::into_bytes, String::into_bytes);
                self.refuse(Fault::BadTarget { path, target: printable(&target) });
            }
        }
    }

    pub(super) fn refuse(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    fn put(&mut self, path: String, node: Node) {
        if self.purpose == Purpose::Inputs
            && let Some(there) = self.new.nodes.get(&path)
            && (*there != Node::EmptyDirectory || node != Node::EmptyDirectory)
        {
            return self.refuse(Fault::Twice { path });
        }
        self.new.put(path, node);
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
    fn finish(mut self) -> Result<(), InputError> {
        if self.purpose == Purpose::Inputs {
            let links = self.new.nodes.iter().filter_map(|(path, node)| match node {
                Node::Symlink { target } if self.new.leads_out(path) => {
                    Some(Fault::LinkLeavesArchive { path: path.clone(), target: printable(target.as_bytes()) })
                }
                _ => None,
            });
            self.faults.append(links.collect());
        }
        self.faults.into_result()?;
        for (path, node) in self.new.nodes {
            self.contents.put(path, node);
        }
        self.contents.skipped += self.new.skipped;
        Ok(())
    }
}
