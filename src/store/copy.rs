//! Copying a file's content, hashed on its way.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};

use sha2::{Digest as _, Sha256};

use crate::digest::Digest;
use crate::sys::sparse::next_data;

/// Which side of a copy failed.
#[derive(Debug)]
pub(crate) enum CopyError {
    Read(io::Error),
    Write(io::Error),
}

/// Copies and hashes the whole of `from`; holes stay holes.
///
/// There is nothing to gain by `FICLONE` or `copy_file_range`: the content must be read for its hash, and out of an overlay
/// the kernel shares no blocks with another file system (`EXDEV`).
pub(crate) fn copy(mut from: &File, to: &mut File, buffer: &mut [u8]) -> Result<Digest, CopyError> {
    let size = from.metadata().map_err(CopyError::Read)?.len();
    let mut hash = Sha256::new();
    let mut done = 0;
    while let Some(data) = next_data(from, done).map_err(CopyError::Read)? {
        hash_zeros(&mut hash, data.start - done);
        from.seek(SeekFrom::Start(data.start)).map_err(CopyError::Read)?;
        to.seek(SeekFrom::Start(data.start)).map_err(CopyError::Write)?;
        done = data.start;
        while done < data.end {
            let most = usize::try_from(data.end - done).unwrap_or(usize::MAX).min(buffer.len());
            let chunk = &mut buffer[..most];
            from.read_exact(chunk).map_err(CopyError::Read)?;
            hash.update(&*chunk);
            to.write_all(chunk).map_err(CopyError::Write)?;
            done += most as u64;
        }
    }
    hash_zeros(&mut hash, size - done);
    to.set_len(size).map_err(CopyError::Write)?;
    Ok(Digest { hash: hash.finalize().into(), size })
}

fn hash_zeros(hash: &mut Sha256, mut count: u64) {
    const ZEROS: &[u8] = &[0; 64 * 1024];
    while count > 0 {
        let some = usize::try_from(count).unwrap_or(usize::MAX).min(ZEROS.len());
        hash.update(&ZEROS[..some]);
        count -= some as u64;
    }
}
