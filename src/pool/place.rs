//! Where the pool's socket is: `sbx/pool.sock` in `$XDG_RUNTIME_DIR`, else `run/pool.sock` in the cache directory.
//!
//! Both ends find it in the same way, hold the directory open, and trust it only when it belongs to the caller and is closed
//! to everybody else.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::PoolError;
use crate::sys::{files, local};

/// The socket's name.
pub const SOCKET: &str = "pool.sock";
/// The name of the lock beside it; who holds it is the pool.
pub const LOCK: &str = "pool.lock";

/// The two directories in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    runtime: Option<PathBuf>,
    cache: PathBuf,
}

impl Place {
    /// `runtime` is what `XDG_RUNTIME_DIR` says, `cache` the directory of the store.
    pub fn new(runtime: Option<PathBuf>, cache: PathBuf) -> Self {
        Self { runtime: runtime.filter(|path| path.is_absolute()), cache }
    }

    /// The directory that both ends use, whether it is there or not, and the open directory above it. A runtime directory
    /// that is somebody else's (sudo keeps the variable), or that others may write to, is none.
    fn above(&self) -> Result<(File, &'static str, PathBuf), PoolError> {
        let user = files::effective_uid();
        if let Some(path) = &self.runtime
            && let Ok(dir) = local::open_directory(path)
            && let Ok(metadata) = dir.metadata()
            && metadata.uid() == user
            && metadata.mode() & 0o022 == 0
        {
            return Ok((dir, "sbx", path.join("sbx")));
        }
        let dir = local::open_directory(&self.cache).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => PoolError::None,
            _ => failed("open", &self.cache)(error),
        })?;
        private(&dir, &self.cache)?;
        Ok((dir, "run", self.cache.join("run")))
    }

    /// The directory for a client.
    ///
    /// # Errors
    /// When there is none, or it is open to others.
    pub fn open(&self) -> Result<File, PoolError> {
        let (above, name, path) = self.above()?;
        match local::open_directory_in(&above, name) {
            Ok(dir) => private(&dir, &path).map(|()| dir),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(PoolError::None),
            Err(source) => Err(failed("open", &path)(source)),
        }
    }

    /// The directory for a server, made when there is none, and its path.
    ///
    /// # Errors
    /// When it can't be made, or is open to others.
    pub fn make(&self) -> Result<(File, PathBuf), PoolError> {
        let (above, name, path) = self.above()?;
        local::make_directory_in(&above, name).map_err(failed("make", &path))?;
        let dir = local::open_directory_in(&above, name).map_err(failed("open", &path))?;
        private(&dir, &path)?;
        Ok((dir, path))
    }
}

fn private(dir: &File, path: &Path) -> Result<(), PoolError> {
    let metadata = dir.metadata().map_err(failed("look at", path))?;
    let (user, owner, mode) = (files::effective_uid(), metadata.uid(), metadata.mode() & 0o7777);
    if owner != user || mode & 0o077 != 0 {
        return Err(PoolError::Open { path: path.to_owned(), user, owner, mode });
    }
    Ok(())
}

pub(super) fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PoolError {
    let path = path.to_owned();
    move |source| PoolError::Place { doing, path, source }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn dirs() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let base = tempfile::tempdir().unwrap();
        let (runtime, cache) = (base.path().join("runtime"), base.path().join("cache"));
        for path in [&runtime, &cache] {
            fs::create_dir(path).unwrap();
            mode(path, 0o700);
        }
        (base, runtime, cache)
    }

    #[test]
    fn the_runtime_directory_comes_before_the_cache() {
        let (_base, runtime, cache) = dirs();
        let place = Place::new(Some(runtime.clone()), cache.clone());
        assert!(matches!(place.open(), Err(PoolError::None)));
        assert_eq!(place.make().unwrap().1, runtime.join("sbx"));
        place.open().unwrap();
        for unusable in [None, Some(PathBuf::from("relative")), Some(runtime.join("none"))] {
            let place = Place::new(unusable, cache.clone());
            assert_eq!(place.make().unwrap().1, cache.join("run"));
            place.open().unwrap();
        }
        mode(&runtime, 0o770);
        assert_eq!(Place::new(Some(runtime), cache.clone()).make().unwrap().1, cache.join("run"));
    }

    #[test]
    fn a_directory_that_is_open_to_others_or_a_link_is_refused_on_both_ends() {
        let (base, runtime, cache) = dirs();
        let place = Place::new(Some(runtime.clone()), cache.clone());
        place.make().unwrap();
        mode(&runtime.join("sbx"), 0o750);
        assert!(matches!(place.open(), Err(PoolError::Open { mode: 0o750, .. })));
        assert!(matches!(place.make(), Err(PoolError::Open { .. })));
        fs::rename(runtime.join("sbx"), base.path().join("elsewhere")).unwrap();
        mode(&base.path().join("elsewhere"), 0o700);
        std::os::unix::fs::symlink(base.path().join("elsewhere"), runtime.join("sbx")).unwrap();
        assert!(matches!(place.open(), Err(PoolError::Place { .. })));
        assert!(matches!(place.make(), Err(PoolError::Place { .. })));
        mode(&cache, 0o755);
        assert!(matches!(Place::new(None, cache).open(), Err(PoolError::Open { .. })));
    }
}
