//! Trees of files to be hashed, copied and looked at.

use std::fs;
use std::path::Path;

use super::{BenchError, Interrupts};

/// Bytes that no two files share and that don't compress; a xorshift generator.
pub fn fill(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Where the file `index` of a tree lies in it: a hundred are in one directory.
pub fn name(index: u64) -> String {
    format!("d{:04}/f{index}", index / 100)
}

/// `count` files of 4 KiB below `at`.
///
/// # Errors
/// When one can't be written, or a signal asks for the end.
pub fn tree(at: &Path, count: u64, interrupts: &Interrupts) -> Result<(), BenchError> {
    let failed = |path: &Path| BenchError::io(format!("make {}", path.display()));
    for index in 0..count {
        let file = at.join(name(index));
        if index % 100 == 0
            && let Some(dir) = file.parent()
        {
            interrupts.check()?;
            fs::create_dir_all(dir).map_err(failed(dir))?;
        }
        fs::write(&file, fill(index + 1, 4096)).map_err(failed(&file))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_files_are_alike() {
        let dir = tempfile::tempdir().unwrap();
        tree(dir.path(), 101, &Interrupts::take().unwrap()).unwrap();
        let read = |name: &str| fs::read(dir.path().join(name)).unwrap();
        assert_eq!(read("d0000/f0").len(), 4096);
        assert_ne!(read("d0000/f0"), read("d0001/f100"));
    }
}
