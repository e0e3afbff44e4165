//! Zip archives, entry by entry, into the same layer that tar archives are read into.

use std::fs::File;
use std::io::{self, BufReader, Read as _};

use zip::ZipArchive;
use zip::result::ZipError;

use super::archive::{Bounded, Layer, UnpackError};
use super::fault::Fault;

/// The longest text of a link, as the kernel takes it (PATH_MAX).
const LINK_MAX: u64 = 4096;
/// The file type in a Unix mode, and two of its values (inode(7)).
const TYPE: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const DIRECTORY: u32 = 0o040_000;

/// Takes every entry of the archive `file`; all files together unpack to at most `limit` bytes.
pub(super) fn unpack(file: &File, limit: u64, layer: &mut Layer<'_>) -> Result<(), UnpackError> {
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    // A few bytes that many entries share unpack to any size; two entries of one name are read as one or the other.
    if archive.has_duplicate_names() {
        return Err(UnpackError::Read(io::Error::other("it has two entries of one name")));
    }
    if archive.has_overlapping_files().map_err(broken)? {
        return Err(UnpackError::Read(io::Error::other("its entries lie over each other")));
    }
    let mut left = limit;
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let name = entry.name_raw().to_vec();
        let Some(path) = layer.place(&name)? else { continue };
        let mode = entry.unix_mode().unwrap_or(0);
        if entry.is_dir() {
            layer.directory(path);
            continue;
        }
        match mode & TYPE {
            0 | REGULAR => {
                let mut content = Bounded { inner: &mut entry, left: &mut left, limit };
                layer.file(path, mode & 0o100 != 0, &mut content)?;
            }
            LINK => {
                let mut target = Vec::new();
                entry.by_ref().take(LINK_MAX).read_to_end(&mut target).map_err(UnpackError::Read)?;
                layer.link(path, target);
            }
            DIRECTORY => layer.directory(path),
            _ => layer.refuse(Fault::Special { path, kind: "a device, socket or FIFO" }),
        }
    }
    Ok(())
}

fn broken(error: ZipError) -> UnpackError {
    UnpackError::Read(match error {
        ZipError::Io(error) => error,
        other => io::Error::other(other),
    })
}
