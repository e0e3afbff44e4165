//! Trees of files for the benches that look at files.

use std::fs;
use std::path::Path;

/// Bytes that no two files share and that don't compress; a xorshift generator.
pub(crate) fn fill(seed: u64, length: usize) -> Vec<u8> {
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

/// `count` files of 4 KiB below `at`, a hundred a directory.
pub(crate) fn tree(at: &Path, count: u64) {
    for index in 0..count {
        let dir = at.join(format!("d{:04}", index / 100));
        if index % 100 == 0 {
            fs::create_dir_all(&dir).expect("a directory");
        }
        fs::write(dir.join(format!("f{index}")), fill(index + 1, 4096)).expect("a file");
    }
}
