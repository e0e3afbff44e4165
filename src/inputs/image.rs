//! OCI images in a layout directory, every blob checked by its digest.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::archive::{self, Contents, UnpackError, Whiteouts};
use super::fault::InputError;
use crate::digest::{Digest, parse_hex};
use crate::store::Store;

/// The longest index or manifest that is read; registries accept no longer one.
const LONGEST: u64 = 4 * 1024 * 1024;

/// Why an image can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A blob can't be read.
    #[error("can't read the image's blob {}", path.display())]
    Read {
        /// The blob.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// A blob is not what its name says.
    #[error("the image's blob {} has the SHA-256 {found}", path.display())]
    Digest {
        /// The blob.
        path: PathBuf,
        /// Its digest, 64 hexadecimal digits.
        found: String,
    },
    /// A digest that is not `sha256:` and 64 lowercase hexadecimal digits.
    #[error("`{}` is not a SHA-256 digest", digest.escape_debug())]
    NotSha256 {
        /// The digest.
        digest: String,
    },
    /// The manifest is not one.
    #[error("the image's manifest {} can't be understood", path.display())]
    Manifest {
        /// The blob.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// An index has no image for this machine.
    #[error("the image's index sha256:{index} has no image for linux/{architecture}")]
    NoPlatform {
        /// The index's SHA-256, 64 hexadecimal digits.
        index: String,
        /// What was looked for.
        architecture: &'static str,
    },
    /// A layer holds what a tree can't carry, or the store failed.
    #[error(transparent)]
    Input(#[from] InputError),
}

/// An image manifest or an index of them; other fields mean nothing here.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Unpacks the image whose manifest (or index) has the SHA-256 `sha256` from the layout directory `layout`.
pub(super) fn unpack(layout: &Path, sha256: &str, store: &Store) -> Result<Contents, ImageError> {
    let mut document = read_document(layout, sha256)?;
    if document.layers.is_empty() && !document.manifests.is_empty() {
        let architecture = architecture();
        let fits = |platform: &Platform| platform.os == "linux" && platform.architecture == architecture;
        let image = document.manifests.iter().find(|image| image.platform.as_ref().is_some_and(fits));
        let no_platform = || ImageError::NoPlatform { index: sha256.to_owned(), architecture };
        document = read_document(layout, hex(&image.ok_or_else(no_platform)?.digest)?)?;
    }
    let mut contents = Contents::default();
    for layer in &document.layers {
        let mut blob = Blob::open(layout, hex(&layer.digest)?)?;
        archive::unpack(&mut blob, store, &mut contents, Whiteouts::Hide).map_err(|error| match error {
            UnpackError::Read(source) => ImageError::Read { path: blob.path.clone(), source },
            UnpackError::Input(error) => error.into(),
        })?;
        blob.check()?;
    }
    Ok(contents)
}

fn read_document(layout: &Path, hex: &str) -> Result<Document, ImageError> {
    let mut blob = Blob::open(layout, hex)?;
    let mut text = Vec::new();
    if let Err(source) = (&mut blob).take(LONGEST).read_to_end(&mut text) {
        return Err(ImageError::Read { path: blob.path, source });
    }
    let path = blob.check()?;
    serde_json::from_slice(&text).map_err(|source| ImageError::Manifest { path, source })
}

/// The hexadecimal digits of a digest as OCI writes it.
fn hex(digest: &str) -> Result<&str, ImageError> {
    digest.strip_prefix("sha256:").ok_or_else(|| ImageError::NotSha256 { digest: digest.to_owned() })
}

/// This machine as OCI (and Go) calls it.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        other => other,
    }
}

/// A blob of the layout that is hashed while it is read.
struct Blob {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    expected: [u8; 32],
}

impl Blob {
    /// Opens the blob with that SHA-256; the name is checked to be one, as it comes from a file.
    fn open(layout: &Path, hex: &str) -> Result<Self, ImageError> {
        let expected = parse_hex(hex).ok_or_else(|| ImageError::NotSha256 { digest: hex.to_owned() })?;
        let path = layout.join("blobs/sha256").join(hex);
        match File::open(&path) {
            Ok(file) => Ok(Self { path, file, hasher: Sha256::new(), expected }),
            Err(source) => Err(ImageError::Read { path, source }),
        }
    }

    /// The blob's path, when all of it was read and is what its name says.
    fn check(self) -> Result<PathBuf, ImageError> {
        let hash = self.hasher.finalize().into();
        if hash == self.expected {
            return Ok(self.path);
        }
        Err(ImageError::Digest { path: self.path, found: Digest { hash, size: 0 }.hex() })
    }
}

impl Read for Blob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}
