//! What stands for the content of a read-only mount in a run's identity.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use walkdir::WalkDir;

use super::InputError;
use crate::action::policy::ContentIdentity;
use crate::config::model::MountIdentity;
use crate::digest::Digest;
use crate::store;

/// Computes the identity that `wanted` asks for of the file or directory at `source`, a canonical path.
///
/// Both digests are over one record for each path below `source`, sorted bytewise within each directory: its kind, its
/// relative path, and what is known of it. `content` reads every file each time.
///
/// # Errors
/// When something below `source` can't be looked at or read.
pub fn identify(source: &Path, wanted: &MountIdentity) -> Result<ContentIdentity, InputError> {
    Ok(match wanted {
        MountIdentity::Declared(version) => ContentIdentity::Declared(version.clone()),
        MountIdentity::Content => ContentIdentity::Content(digest(source, content)?.to_string()),
        MountIdentity::Metadata => ContentIdentity::Metadata(digest(source, metadata)?.to_string()),
    })
}

/// What is known of one path.
type Known = fn(&Path, &Metadata) -> io::Result<Vec<u8>>;

fn digest(source: &Path, known: Known) -> Result<Digest, InputError> {
    let failed = |path: &Path, source| InputError::Mount { path: path.to_owned(), source };
    let mut hasher = Sha256::new();
    let mut size = 0;
    for entry in WalkDir::new(source).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let path = error.path().unwrap_or(source).to_owned();
            failed(&path, error.into())
        })?;
        let found = entry.metadata().map_err(|error| failed(entry.path(), error.into()))?;
        let relative = entry.path().strip_prefix(source).unwrap_or(entry.path()).as_os_str().as_bytes();
        let words = known(entry.path(), &found).map_err(|error| failed(entry.path(), error))?;
        for field in [&[kind(&found)], relative, &words] {
            let length = field.len() as u64;
            hasher.update(length.to_le_bytes());
            hasher.update(field);
            size += 8 + length;
        }
    }
    Ok(Digest { hash: hasher.finalize().into(), size })
}

fn kind(metadata: &Metadata) -> u8 {
    let kind = metadata.file_type();
    match () {
        () if kind.is_file() => b'f',
        () if kind.is_dir() => b'd',
        () if kind.is_symlink() => b'l',
        () => b'o',
    }
}

/// A link's text; a file's hash and whether it can be executed.
fn content(path: &Path, found: &Metadata) -> io::Result<Vec<u8>> {
    if found.is_symlink() {
        return Ok(fs::read_link(path)?.into_os_string().into_encoded_bytes());
    }
    if !found.is_file() {
        return Ok(Vec::new());
    }
    let mut known = store::hash(&mut File::open(path)?, &mut Vec::new())?.hash.to_vec();
    known.push(u8::from(found.mode() & 0o100 != 0));
    Ok(known)
}

/// A link's text; a file's size and mtime.
fn metadata(path: &Path, found: &Metadata) -> io::Result<Vec<u8>> {
    if !found.is_file() {
        return content(path, found);
    }
    let numbers = [found.len(), found.mtime().cast_unsigned(), found.mtime_nsec().cast_unsigned()];
    Ok(numbers.iter().flat_map(|number| number.to_le_bytes()).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn sample() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("sub/file"), "text").unwrap();
        symlink("/anywhere", dir.path().join("link")).unwrap();
        touch(&dir.path().join("sub/file"), 1000);
        dir
    }

    fn touch(path: &Path, seconds: u64) {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        File::options().append(true).open(path).unwrap().set_modified(time).unwrap();
    }

    fn identities(path: &Path) -> [ContentIdentity; 2] {
        [MountIdentity::Content, MountIdentity::Metadata].map(|wanted| identify(path, &wanted).unwrap())
    }

    #[test]
    fn each_identity_sees_what_it_says() {
        let (one, other) = (sample(), sample());
        let before = identities(one.path());
        assert_eq!(before, identities(other.path()), "the place does not matter");

        touch(&one.path().join("sub/file"), 2000);
        let touched = identities(one.path());
        assert_eq!(touched[0], before[0]);
        assert_ne!(touched[1], before[1]);

        fs::write(other.path().join("sub/file"), "tEXt").unwrap();
        touch(&other.path().join("sub/file"), 1000);
        let written = identities(other.path());
        assert_ne!(written[0], before[0]);
        assert_eq!(written[1], before[1], "the same size and time, which is what `metadata` can miss");
    }

    #[test]
    fn names_links_and_executable_bits_count() {
        let changes: [fn(&Path); 4] = [
            |root| fs::rename(root.join("sub/file"), root.join("sub/fil")).unwrap(),
            |root| fs::create_dir(root.join("empty")).unwrap(),
            |root| {
                fs::remove_file(root.join("link")).unwrap();
                symlink("/elsewhere", root.join("link")).unwrap();
            },
            |root| fs::set_permissions(root.join("sub/file"), fs::Permissions::from_mode(0o755)).unwrap(),
        ];
        for change in changes {
            let dir = sample();
            let before = identify(dir.path(), &MountIdentity::Content).unwrap();
            change(dir.path());
            assert_ne!(identify(dir.path(), &MountIdentity::Content).unwrap(), before);
        }
    }

    #[test]
    fn a_single_file_and_a_missing_one() {
        let dir = sample();
        let file = dir.path().join("sub/file");
        assert!(matches!(identify(&file, &MountIdentity::Content).unwrap(), ContentIdentity::Content(_)));
        let error = identify(&dir.path().join("none"), &MountIdentity::Content).unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
    }
}
