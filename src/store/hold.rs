//! Layers in use: who uses one holds it, and knows that it survived.
//!
//! Who uses a layer holds a shared flock(2) on its directory, from before it looks at it until the sandbox is over. Who
//! removes one must have the lock for itself, without waiting, and renames it into `tmp/` first; so a layer that is held
//! stays, and one that is found after its lock was taken is held. [`Held::new`] looks for a name that changed meanwhile.
//!
//! Nothing waits for the disk when a layer is made. A loss of power can therefore leave files whose content never reached
//! the disk, with all else in place. So each layer has a marker beside it with the id of the boot in which it was made or
//! last looked through. In another boot every path of it is looked at once, and a damaged layer is made again. The
//! marker's time is when the layer was last used.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::{Store, StoreError};
use crate::sys;

/// A layer that nobody removes as long as this lives.
#[derive(Debug)]
pub struct Held {
    directory: File,
}

/// What the names in `tmp/` of removed layers begin with.
const GONE: &str = "gone-";

/// How exactly the last use of a layer is known.
const USE_GRANULARITY: Duration = Duration::from_mins(10);

impl Held {
    /// Holds the directory at `path`; `None` when there is none.
    pub(super) fn new(path: &Path) -> Result<Option<Self>, StoreError> {
        loop {
            let Some(held) = Self::unlocked(path)? else { return Ok(None) };
            // Where a file system has no such locks, nobody can have it for itself either, and nothing is removed.
            let _ = held.directory.lock_shared();
            if held.is_at(path) {
                return Ok(Some(held));
            }
        }
    }

    /// The directory at `path`, not held yet; `None` when there is none.
    pub(super) fn unlocked(path: &Path) -> Result<Option<Self>, StoreError> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => opened.map(|directory| Some(Self { directory })).map_err(StoreError::io("open", path)),
        }
    }

    /// Whether `path` is still its name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        names(path, &self.directory)
    }

    /// Has the layer for itself from now on. When somebody else holds it, that fails, and it is not held here any more:
    /// a lock is converted by giving it up first (flock(2)).
    pub(super) fn alone(&self) -> bool {
        self.directory.try_lock().is_ok()
    }
}

/// Whether `path` is still the name of `directory`.
fn names(path: &Path, directory: &File) -> bool {
    let both = directory.metadata().ok().zip(fs::symlink_metadata(path).ok());
    both.is_some_and(|(held, named)| (held.dev(), held.ino()) == (named.dev(), named.ino()))
}

impl Store {
    /// Holds the layer. One that was not used since the machine's start is held when it `is_whole`; `mend` then sees to
    /// what stands beside it. `None` when there is no such layer, or when it was damaged and is gone now.
    pub(super) fn hold(
        &self,
        layer: &str,
        is_whole: &dyn Fn(&Path) -> bool,
        mend: &dyn Fn() -> Result<(), StoreError>,
    ) -> Result<Option<Held>, StoreError> {
        let path = self.dir.join(layer);
        let Some(held) = Held::new(&path)? else { return Ok(None) };
        if self.is_vouched_for(layer) {
            return Ok(Some(held));
        }
        if is_whole(&path) {
            mend()?;
            self.vouch_for(layer)?;
            return Ok(Some(held));
        }
        self.remove_layer(layer, &held)?;
        Ok(None)
    }

    /// Removes a layer that was held. What another process holds loses its name only; `tmp/` is swept later.
    pub(super) fn remove_layer(&self, layer: &str, held: &Held) -> Result<(), StoreError> {
        let alone = held.alone();
        if let Some(taken) = self.take_name(layer, held)?
            && !alone
        {
            let _left_for_the_sweep = taken.keep();
        }
        Ok(())
    }

    /// Moves a layer into `tmp/`, where it goes with what is returned; `None` when the name is another one's by now.
    pub(super) fn take_name(&self, layer: &str, held: &Held) -> Result<Option<TempDir>, StoreError> {
        let path = self.dir.join(layer);
        // Between the look and the rename nobody else may give the name away.
        let _removal = self.lock_removal()?;
        if !names(&path, &held.directory) {
            return Ok(None);
        }
        let temp = self.temp_dir()?;
        let temp = tempfile::Builder::new().prefix(GONE).tempdir_in(&temp).map_err(StoreError::io("write", &temp))?;
        // Before the layer: who makes it again writes these first.
        for beside in [self.marker(layer), self.manifest_path(layer)] {
            match fs::remove_file(&beside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io("remove", &beside)(error));
                }
                _ => {}
            }
        }
        fs::rename(&path, temp.path().join("layer")).map_err(StoreError::io("move", &path))?;
        Ok(Some(temp))
    }

    fn lock_removal(&self) -> Result<File, StoreError> {
        let path = self.dir.join("removal.lock");
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(StoreError::io("open", &path))?;
        file.lock().map_err(StoreError::io("lock", &path))?;
        Ok(file)
    }

    /// Removes what killed processes were removing.
    pub(super) fn sweep_gone(&self) -> Result<(), StoreError> {
        let temp = self.temp_dir()?;
        let entries = fs::read_dir(&temp).map_err(StoreError::io("list", &temp))?;
        for entry in entries.flatten() {
            let path = entry.path();
            if !entry.file_name().as_encoded_bytes().starts_with(GONE.as_bytes()) {
                continue;
            }
            let _left_for_the_next_time = match Held::unlocked(&path.join("layer"))? {
                Some(held) if held.alone() => fs::remove_dir_all(&path),
                Some(_) => Ok(()),
                None => {
                    // A layer may be about to come here.
                    let _removal = self.lock_removal()?;
                    fs::remove_dir(&path)
                }
            };
        }
        Ok(())
    }

    /// Says that the layer, which is about to get its name or was looked through, is whole in this boot.
    pub(super) fn vouch_for(&self, layer: &str) -> Result<(), StoreError> {
        let Some(boot) = self.boot() else { return Ok(()) };
        let path = self.marker(layer);
        // A part of it is no boot's id: nothing worse comes of a crash than one more look.
        let written = match fs::write(&path, boot) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), super::make_private_dir)?;
                fs::write(&path, boot)
            }
            written => written,
        };
        written.map_err(StoreError::io("write", &path))
    }

    /// Takes back that the layer is whole: who holds it next looks it through, and makes it again if it is damaged.
    ///
    /// # Errors
    /// When the marker can't be removed.
    pub(crate) fn doubt(&self, layer: &str) -> Result<(), StoreError> {
        let path = self.marker(layer);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(StoreError::io("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Whether the layer was made or looked through in this boot; it counts as used now.
    fn is_vouched_for(&self, layer: &str) -> bool {
        let Ok(mut file) = File::open(self.marker(layer)) else { return false };
        let mut id = [0; 64];
        let Ok(length) = file.read(&mut id) else { return false };
        if self.boot().is_none_or(|boot| boot.as_bytes() != &id[..length]) {
            return false;
        }
        let used = file.metadata().and_then(|metadata| metadata.modified());
        if used.is_ok_and(|used| used.elapsed().is_ok_and(|age| age > USE_GRANULARITY)) {
            // Whether it can be set decides nothing.
            let _ = file.set_modified(SystemTime::now());
        }
        true
    }

    /// Whether nothing stands beside the layer: a process that was removing it was killed.
    pub(super) fn is_abandoned(&self, layer: &str) -> bool {
        !self.marker(layer).exists() && !self.manifest_path(layer).exists()
    }

    /// Where it stands in which boot the layer was whole.
    pub(super) fn marker(&self, layer: &str) -> PathBuf {
        self.dir.join(format!("{layer}.boot"))
    }

    /// Where it stands what the layer shows.
    pub(super) fn manifest_path(&self, layer: &str) -> PathBuf {
        self.dir.join(format!("{layer}.manifest"))
    }

    fn boot(&self) -> Option<&str> {
        self.boot.get_or_init(sys::proc::boot_id).as_deref()
    }
}
