//! dpkg: `/var/lib/dpkg/status`, and for each package the sums of its files that it came with.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Found, Host, NONE, Package, PackagesError, damaged, field, lines};

const STATUS: &str = "var/lib/dpkg/status";
/// What dpkg did since it wrote `status` anew: files with digits for names, each a part of the same form, later ones
/// instead of earlier ones. An interrupted dpkg leaves them.
const UPDATES: &str = "var/lib/dpkg/updates";
/// Where `NAME.md5sums` is, or `NAME:ARCHITECTURE.md5sums` for what may be installed for several architectures at once.
/// dpkg puts files there by rename only, so the directory vouches for all of them.
const INFO: &str = "var/lib/dpkg/info";

pub(super) fn read(host: &Host<'_>, found: &mut Found) -> Result<(), PackagesError> {
    let Some(status) = host.content(STATUS, &mut found.vouchers)? else { return Ok(()) };
    let mut paragraphs = parse(&status, &host.path(STATUS))?;
    for name in host.names(UPDATES, &mut found.vouchers)?.unwrap_or_default() {
        let Some(name) = name.to_str().filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())) else { continue };
        let path = format!("{UPDATES}/{name}");
        if let Some(update) = host.content(&path, &mut found.vouchers)? {
            paragraphs.extend(parse(&update, &host.path(&path))?);
        }
    }
    host.names(INFO, &mut found.vouchers)?;
    for ((name, architecture), paragraph) in paragraphs {
        let Some(version) = paragraph.version else { continue };
        let mut sums = None;
        if paragraph.side_by_side {
            sums = host.fingerprint(&format!("{INFO}/{name}:{architecture}.md5sums"))?;
        }
        if sums.is_none() {
            sums = host.fingerprint(&format!("{INFO}/{name}.md5sums"))?;
        }
        let sums = sums.unwrap_or_else(|| NONE.to_owned());
        let fingerprint = match paragraph.state {
            State::Whole => sums,
            State::Partly(state) => format!("{state},{sums}"),
        };
        found.packages.push(Package { manager: "dpkg", name, version, architecture, fingerprint });
    }
    Ok(())
}

/// How much of a package is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// All of it; what triggers have still to do is not the package's own.
    Whole,
    /// It is being installed or removed, or that was interrupted.
    Partly(&'static str),
}

/// What is known of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Paragraph {
    /// `None` when nothing of it is on the disk but configuration.
    version: Option<String>,
    state: State,
    /// `Multi-Arch: same`
    side_by_side: bool,
}

/// Packages by name and architecture.
type Paragraphs = BTreeMap<(String, String), Paragraph>;

fn parse(text: &[u8], path: &Path) -> Result<Paragraphs, PackagesError> {
    let mut all = Paragraphs::new();
    let mut open = Open::default();
    for line in lines(text, path) {
        let (number, line) = line?;
        match line.first() {
            None => open.close(path, &mut all)?,
            Some(b' ' | b'\t') if open.begins > 0 => {}
            Some(_) => open.field(number, line, path)?,
        }
    }
    open.close(path, &mut all)?;
    Ok(all)
}

/// A paragraph that is being read.
#[derive(Default)]
struct Open<'a> {
    /// The number of its first line; 0 before that.
    begins: usize,
    name: Option<&'a [u8]>,
    status: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    architecture: Option<&'a [u8]>,
    multi_arch: Option<&'a [u8]>,
}

impl<'a> Open<'a> {
    fn field(&mut self, number: usize, line: &'a [u8], path: &Path) -> Result<(), PackagesError> {
        let place = || format!("line {number}");
        let colon = line.iter().position(|byte| *byte == b':');
        let colon = colon.filter(|colon| *colon > 0).ok_or_else(|| damaged(path, place(), "it is no field"))?;
        let value = line[colon + 1..].trim_ascii();
        if self.begins == 0 {
            self.begins = number;
        }
        let known = match line[..colon].to_ascii_lowercase().as_slice() {
            b"package" => &mut self.name,
            b"status" => &mut self.status,
            b"version" => &mut self.version,
            b"architecture" => &mut self.architecture,
            b"multi-arch" => &mut self.multi_arch,
            _ => return Ok(()),
        };
        match known.replace(value) {
            Some(_) => Err(damaged(path, place(), "the paragraph has this field twice")),
            None => Ok(()),
        }
    }

    fn close(&mut self, path: &Path, all: &mut Paragraphs) -> Result<(), PackagesError> {
        let this = std::mem::take(self);
        if this.begins == 0 {
            return Ok(());
        }
        let place = || format!("the paragraph at line {}", this.begins);
        let name = this.name.ok_or_else(|| damaged(path, place(), "it has no `Package`"))?;
        let name = field(name, "name", path, place)?;
        // It becomes a file's name.
        if name.contains('/') || name.starts_with('.') {
            return Err(damaged(path, place(), format!("{name:?} is no name")));
        }
        let architecture = match this.architecture {
            Some(architecture) => field(architecture, "architecture", path, place)?,
            None => NONE.to_owned(),
        };
        if architecture.contains('/') {
            return Err(damaged(path, place(), format!("{architecture:?} is no architecture")));
        }
        let state = match this.status.and_then(|status| status.rsplit(|byte| *byte == b' ').next()) {
            // Without a status nothing is installed (dpkg's lib/dpkg/parse.c).
            None | Some(b"not-installed" | b"config-files") => None,
            Some(b"installed" | b"triggers-pending" | b"triggers-awaited") => Some(State::Whole),
            Some(b"half-installed") => Some(State::Partly("half-installed")),
            Some(b"unpacked") => Some(State::Partly("unpacked")),
            Some(b"half-configured") => Some(State::Partly("half-configured")),
            Some(_) => return Err(damaged(path, place(), "its `Status` is not known")),
        };
        let version = match (state, this.version) {
            (None, _) => None,
            (Some(_), Some(version)) => Some(field(version, "version", path, place)?),
            (Some(State::Partly(_)), None) => Some(NONE.to_owned()),
            (Some(State::Whole), None) => return Err(damaged(path, place(), "it has no `Version`")),
        };
        let paragraph =
            Paragraph { version, state: state.unwrap_or(State::Whole), side_by_side: this.multi_arch == Some(b"same") };
        all.insert((name, architecture), paragraph);
        Ok(())
    }
}
