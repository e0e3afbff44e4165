//! The digest of a blob as the Remote Execution API defines it: SHA-256 and length.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

/// SHA-256 of a blob and its length in bytes (REAPI `Digest`).
///
/// ```
/// use sbx::digest::Digest;
/// let empty = Digest::of(b"");
/// assert_eq!(empty.to_string(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855/0");
/// assert_eq!(empty.to_string().parse::<Digest>().unwrap(), empty);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    /// The SHA-256 value.
    pub hash: [u8; 32],
    /// The blob's length in bytes.
    pub size: u64,
}

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self { hash: Sha256::digest(bytes).into(), size: bytes.len() as u64 }
    }

    /// The hash alone, as 64 lowercase hexadecimal digits.
    pub fn hex(&self) -> String {
        str::from_utf8(&self.digits()).expect("digits are ASCII").to_owned()
    }

    /// The same digits, in ASCII.
    pub fn digits(&self) -> [u8; 64] {
        let mut digits = [0; 64];
        for (index, byte) in self.hash.into_iter().enumerate() {
            digits[2 * index] = HEX[usize::from(byte >> 4)];
            digits[2 * index + 1] = HEX[usize::from(byte & 15)];
        }
        digits
    }
}

const HEX: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hex(), self.size)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `<64 lowercase hex digits>/<decimal length>`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a digest (64 lowercase hex digits, `/`, length)")]
pub struct ParseDigestError(String);

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parsed =
            text.split_once('/').and_then(|(hex, size)| Some(Self { hash: parse_hex(hex)?, size: size.parse().ok()? }));
        parsed.ok_or_else(|| ParseDigestError(text.to_owned()))
    }
}

/// Parses exactly 64 lowercase hexadecimal digits.
pub fn parse_hex(hex: &str) -> Option<[u8; 32]> {
    let bytes = hex.as_bytes();
    if bytes.len() != 64 {
        return None;
    }
    let mut hash = [0; 32];
    for (byte, pair) in hash.iter_mut().zip(bytes.chunks_exact(2)) {
        let high = HEX.iter().position(|digit| *digit == pair[0])?;
        let low = HEX.iter().position(|digit| *digit == pair[1])?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_text_parses() {
        let good = Digest::of(b"abc").to_string();
        assert_eq!(good.parse::<Digest>().unwrap(), Digest::of(b"abc"));
        for bad in ["", "abc", &good.to_uppercase(), &good[1..], "zz/3", &good.replace('/', ":")] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
    }
}
