//! What a sandbox shows of the living host: its own directories and the sources of mounts. Unlike the inputs they are not
//! copied, so they can change while the command runs.

use std::collections::BTreeMap;
use std::path::Path;

use super::{SandboxError, facts};
use crate::action::policy::ContentIdentity;
use crate::config::model::{MountIdentity, Rootfs, Settings};
use crate::inputs::host::{self, Identified, Place, Shown};
use crate::inputs::{self, Progress, Silent};
use crate::plan::HostPlace;
use crate::store::Store;

/// What stood for it in the identity of a run, at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Live {
    /// Each mount, by its place inside.
    pub mounts: BTreeMap<String, ContentIdentity>,
    /// The host's own paths, by their place inside; what no package owns below one of them has an entry of its own. Empty
    /// when the root file system is not the host's.
    pub host: BTreeMap<String, ContentIdentity>,
    /// The host has no package data base that could stand for what packages manage; its metadata does.
    pub without_packages: bool,
}

impl Live {
    /// Looks at all of it: the `rootfs.host` paths, of which `host` says what stands there, and the sources of the mounts,
    /// of which `mounts` says it, both in the settings' order.
    ///
    /// # Errors
    /// When something can't be read, or the store can't be written.
    pub fn look(
        store: &Store,
        settings: &Settings,
        host: &[HostPlace],
        mounts: &[HostPlace],
        progress: &dyn Progress,
    ) -> Result<Self, SandboxError> {
        let mut live = Self { mounts: BTreeMap::new(), host: BTreeMap::new(), without_packages: false };
        for (mount, place) in settings.mounts.iter().zip(mounts) {
            let HostPlace::Found { path, .. } = place else { continue };
            let identity = match &mount.identity {
                MountIdentity::Declared(version) => ContentIdentity::Declared(version.clone()),
                MountIdentity::Content => inputs::identity::content(path, store, progress)?,
                MountIdentity::Metadata => inputs::identity::metadata(path, store, progress)?,
            };
            live.mounts.insert(mount.target.as_str().to_owned(), identity);
        }
        if let Rootfs::Host { paths, identity } = &settings.rootfs {
            let shown: Vec<_> = paths
                .iter()
                .zip(host)
                .filter_map(|(path, place)| {
                    let place = match place {
                        HostPlace::Link(text) => Place::Link(text.clone()),
                        HostPlace::Found { path, .. } => Place::Tree(path.clone()),
                        HostPlace::Missing | HostPlace::Unreadable(_) => return None,
                    };
                    Some(Shown { name: path.as_str().to_owned(), place })
                })
                .collect();
            let identified = host::identify(Path::new("/"), &shown, *identity, store, progress)?;
            Identified { places: live.host, without_packages: live.without_packages } = identified;
        }
        Ok(live)
    }

    /// Looks again, at the host as it is now, for the same settings of the project at `root`: `None` when everything is
    /// what it was, else what changed, in words.
    ///
    /// # Errors
    /// When something can't be read any more, or the store can't be written.
    pub fn still_holds(&self, store: &Store, settings: &Settings, root: &Path) -> Result<Option<String>, SandboxError> {
        let now = Self::look(store, settings, &facts::host(settings), &facts::mounts(settings, root), &Silent)?;
        let mounts = difference(&self.mounts, &now.mounts).map(|place| format!("what is mounted at {place} changed"));
        Ok(mounts.or_else(|| {
            let place = difference(&self.host, &now.host)?;
            Some(match self.host.get(place) {
                Some(ContentIdentity::Packages(_)) => "the packages of this machine changed".to_owned(),
                _ => format!("{place} of this machine changed"),
            })
        }))
    }
}

/// The first place at which two maps differ.
fn difference<'a>(
    before: &'a BTreeMap<String, ContentIdentity>,
    after: &'a BTreeMap<String, ContentIdentity>,
) -> Option<&'a str> {
    let mut places = before.keys().chain(after.keys());
    places.find(|place| before.get(*place) != after.get(*place)).map(String::as_str)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::config::model::{HostIdentity, Mount};
    use crate::path::GuestPath;

    #[test]
    fn what_changes_under_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        let guest = |path: &str| GuestPath::new(path).unwrap();
        let (tool, shown) = (dir.path().join("tool"), dir.path().join("shown"));
        for place in [&tool, &shown] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("file"), "one").unwrap();
        }
        let mount = Mount { source: "tool".into(), target: guest("/opt/tool"), identity: MountIdentity::Content };
        let settings = Settings {
            mounts: vec![mount],
            rootfs: Rootfs::Host { paths: vec![guest(shown.to_str().unwrap())], identity: HostIdentity::Packages },
            ..Settings::default()
        };
        let look = || {
            let (host, mounts) = (facts::host(&settings), facts::mounts(&settings, dir.path()));
            Live::look(&store, &settings, &host, &mounts, &Silent).unwrap()
        };
        let live = look();
        let changed = |live: &Live| live.still_holds(&store, &settings, dir.path()).unwrap();
        assert_eq!(changed(&live), None);
        fs::write(shown.join("file"), "two").unwrap();
        assert_eq!(changed(&live).unwrap(), format!("{} of this machine changed", shown.display()));
        let live = look();
        fs::write(tool.join("more"), "").unwrap();
        assert_eq!(changed(&live).unwrap(), "what is mounted at /opt/tool changed");
        fs::remove_dir_all(&tool).unwrap();
        assert_eq!(changed(&live).unwrap(), "what is mounted at /opt/tool changed");
    }
}
