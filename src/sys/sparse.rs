//! Where a sparse file has its data.

use std::fs::File;
use std::io;
use std::ops::Range;

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

/// The first stretch of data at or after `offset`, in bytes; `None` when only a hole or the end follows. A file system
/// that knows no holes calls the whole file data (lseek(2), `SEEK_DATA`). Moves the file's offset.
///
/// # Errors
/// Those of lseek(2).
pub fn next_data(file: &File, offset: u64) -> io::Result<Option<Range<u64>>> {
    let start = match seek(file, SeekFrom::Data(offset)) {
        Err(Errno::NXIO) => return Ok(None),
        other => other?,
    };
    Ok(Some(start..seek(file, SeekFrom::Hole(start))?))
}
