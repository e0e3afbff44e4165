//! Files that only sbx reads: eight bytes that name the format and its version, the body, the CRC-32 of both. A file that
//! is damaged in any way reads as if it were not there.

use std::fs;
use std::path::Path;

use super::{Store, StoreError};

const NAME: usize = 8;
const CHECK: usize = 4;

impl Store {
    /// Writes `body` to `path` under the format's `name`; the old file is replaced whole or stays.
    pub(crate) fn write_frame(&self, path: &Path, name: &[u8; NAME], body: &[u8]) -> Result<(), StoreError> {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(name);
        hasher.update(body);
        self.replace(path, &[name, body, &hasher.finalize().to_le_bytes()])
    }
}

/// The body of the frame at `path`; `None` when there is none of that name, whole and undamaged.
pub(crate) fn read_frame(path: &Path, name: &[u8; NAME]) -> Option<Vec<u8>> {
    let mut bytes = fs::read(path).ok()?;
    let check = bytes.split_off(bytes.len().checked_sub(CHECK)?);
    if !bytes.starts_with(name) || crc32fast::hash(&bytes).to_le_bytes() != *check {
        return None;
    }
    bytes.drain(..NAME);
    Some(bytes)
}

/// Whether the file at `path` is a frame of any format, undamaged.
pub(super) fn is_sound(path: &Path) -> bool {
    let Ok(mut bytes) = fs::read(path) else { return false };
    if bytes.len() < NAME + CHECK {
        return false;
    }
    let check = bytes.split_off(bytes.len() - CHECK);
    crc32fast::hash(&bytes).to_le_bytes() == *check
}

/// Takes values off the front of a body. `None` means that the body is not of this format.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn bytes<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.bytes().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Option<i64> {
        self.bytes().map(i64::from_le_bytes)
    }

    /// Bytes as [`put_slice`] writes them.
    pub(crate) fn slice(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(u32::from_le_bytes(self.bytes()?)).ok()?;
        let (slice, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(slice)
    }

    /// A text as [`put_text`] writes it.
    pub(crate) fn text(&mut self) -> Option<&'a str> {
        str::from_utf8(self.slice()?).ok()
    }
}

/// Appends the length of `text` and `text`.
pub(crate) fn put_text(body: &mut Vec<u8>, text: &str) {
    put_slice(body, text.as_bytes());
}

/// Appends the length of `bytes` and `bytes`.
pub(crate) fn put_slice(body: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("paths and link targets are shorter than 4 GiB");
    body.extend_from_slice(&length.to_le_bytes());
    body.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_frame_is_no_frame() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let path = dir.path().join("store/tmp/frame");
        assert_eq!(read_frame(&path, b"testtest"), None);
        store.write_frame(&path, b"testtest", b"body").unwrap();
        assert_eq!(read_frame(&path, b"testtest").unwrap(), b"body");
        assert_eq!(read_frame(&path, b"testtes2"), None);
        let whole = fs::read(&path).unwrap();
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1;
            fs::write(&path, flipped).unwrap();
            assert_eq!(read_frame(&path, b"testtest"), None, "byte {index}");
            fs::write(&path, &whole[..index]).unwrap();
            assert_eq!(read_frame(&path, b"testtest"), None, "cut at {index}");
        }
    }

    #[test]
    fn what_is_put_is_read() {
        let mut body = Vec::new();
        put_text(&mut body, "ä");
        body.extend_from_slice(&7_u64.to_le_bytes());
        body.extend_from_slice(&(-7_i64).to_le_bytes());
        let mut reader = Reader(&body);
        assert_eq!((reader.text(), reader.u64(), reader.i64()), (Some("ä"), Some(7), Some(-7)));
        assert!(reader.is_empty());
        assert_eq!((reader.text(), reader.u64()), (None, None));
    }
}
