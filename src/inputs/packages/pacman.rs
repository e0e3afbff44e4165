//! pacman: a directory for each package, in it `desc`, and `mtree` with the sums of its files as the package brought it.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::{Found, Host, NONE, Package, PackagesError, damaged, field, lines};

/// pacman makes and removes a package's directory whole when it installs, upgrades or removes one, so this directory
/// vouches for all of them.
const LOCAL: &str = "var/lib/pacman/local";
/// There while pacman is at work, when a package's directory may be half filled.
const LOCK: &str = "var/lib/pacman/db.lck";

pub(super) fn read(host: &Host<'_>, found: &mut Found) -> Result<(), PackagesError> {
    host.open(LOCK, &mut found.vouchers)?;
    let Some(names) = host.names(LOCAL, &mut found.vouchers)? else { return Ok(()) };
    for name in names {
        let path = host.path(LOCAL).join(&name);
        // Beside the directories is the format's version.
        if !path.is_dir() {
            continue;
        }
        let name = name.to_str().ok_or_else(|| {
            let shown = crate::path::printable(name.as_bytes());
            damaged(&host.path(LOCAL), shown, "the name is not UTF-8")
        })?;
        let desc = path.join("desc");
        let text = host.whole(&format!("{LOCAL}/{name}/desc"))?;
        let text = text.ok_or_else(|| damaged(&host.path(LOCAL), name.to_owned(), "it has no `desc`"))?;
        let sums = host.fingerprint(&format!("{LOCAL}/{name}/mtree"))?;
        found.packages.push(parse(&text, &desc, sums.unwrap_or_else(|| NONE.to_owned()))?);
    }
    Ok(())
}

/// A part of a `desc` is a line with its name between `%`, lines with values, and an empty line.
fn parse(text: &[u8], path: &Path, fingerprint: String) -> Result<Package, PackagesError> {
    let (mut name, mut version, mut architecture) = (None, None, None);
    let mut wanted: Option<(&mut Option<String>, &'static str)> = None;
    for line in lines(text, path) {
        let (number, line) = line?;
        let place = || format!("line {number}");
        match wanted.take() {
            Some((value, what)) => {
                if value.is_some() {
                    return Err(damaged(path, place(), format!("it has a second {what}")));
                }
                *value = Some(field(line, what, path, place)?);
            }
            None => {
                wanted = match line {
                    b"%NAME%" => Some((&mut name, "name")),
                    b"%VERSION%" => Some((&mut version, "version")),
                    b"%ARCH%" => Some((&mut architecture, "architecture")),
                    _ => None,
                }
            }
        }
    }
    let needed = |value: Option<String>, what| {
        value.ok_or_else(|| damaged(path, "its end".to_owned(), format!("it has no {what}")))
    };
    Ok(Package {
        manager: "pacman",
        name: needed(name, "name")?,
        version: needed(version, "version")?,
        architecture: architecture.unwrap_or_else(|| NONE.to_owned()),
        fingerprint,
    })
}
