//! apk: one text file, of which each package's part has its name, version, architecture, and the checksum that the
//! package itself is known by.

use std::path::Path;

use super::{Found, Host, NONE, Package, PackagesError, damaged, field, lines};

/// The newer place comes second; a host has one of them, or one leads to the other.
const PLACES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

pub(super) fn read(host: &Host<'_>, found: &mut Found) -> Result<(), PackagesError> {
    for place in PLACES {
        if let Some(text) = host.content(place, &mut found.vouchers)? {
            found.packages.extend(parse(&text, &host.path(place))?);
        }
    }
    Ok(())
}

fn parse(text: &[u8], path: &Path) -> Result<Vec<Package>, PackagesError> {
    let mut packages = Vec::new();
    let mut open = Open::default();
    for line in lines(text, path) {
        let (number, line) = line?;
        if line.is_empty() {
            packages.extend(open.close(path)?);
            continue;
        }
        let [letter, b':', value @ ..] = line else {
            return Err(damaged(path, format!("line {number}"), "it is no field"));
        };
        if open.begins == 0 {
            open.begins = number;
        }
        let known = match letter {
            b'P' => &mut open.name,
            b'V' => &mut open.version,
            b'A' => &mut open.architecture,
            b'C' => &mut open.checksum,
            _ => continue,
        };
        if known.replace(value).is_some() {
            return Err(damaged(path, format!("line {number}"), "the package has this field twice"));
        }
    }
    packages.extend(open.close(path)?);
    Ok(packages)
}

/// A package that is being read.
#[derive(Default)]
struct Open<'a> {
    /// The number of its first line; 0 before that.
    begins: usize,
    name: Option<&'a [u8]>,
    version: Option<&'a [u8]>,
    architecture: Option<&'a [u8]>,
    checksum: Option<&'a [u8]>,
}

impl Open<'_> {
    fn close(&mut self, path: &Path) -> Result<Option<Package>, PackagesError> {
        let this = std::mem::take(self);
        if this.begins == 0 {
            return Ok(None);
        }
        let place = || format!("the package at line {}", this.begins);
        let needed = |value: Option<&[u8]>, name: &str| match value {
            Some(value) => field(value, name, path, place),
            None => Err(damaged(path, place(), format!("it has no {name}"))),
        };
        let optional = |value: Option<&[u8]>, name: &str| match value {
            Some(value) => field(value, name, path, place),
            None => Ok(NONE.to_owned()),
        };
        Ok(Some(Package {
            manager: "apk",
            name: needed(this.name, "name")?,
            version: needed(this.version, "version")?,
            architecture: optional(this.architecture, "architecture")?,
            fingerprint: optional(this.checksum, "checksum")?,
        }))
    }
}
