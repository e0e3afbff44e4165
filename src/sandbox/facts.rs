//! What the plan has to know of this machine: gathered once, before anything is decided.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use super::group;
use crate::config::model::{Network, Rootfs, Settings};
use crate::inputs::{Manifest, Node};
use crate::path::GuestPath;
use crate::plan::{Facts, HostPlace};
use crate::sys::errno::CallError;
use crate::sys::landlock;
use crate::sys::process::{self, Resource};

/// Where a project's kept scratch directories live, by name.
pub fn kept_scratch(store: &Path, project: &str, name: &str) -> PathBuf {
    store.join("kept").join(project).join(name)
}

/// Gathers the facts for `settings` of the project at `root`; makes its kept scratch directories.
///
/// # Errors
/// When the caller's own limits can't be read.
pub fn gather(
    settings: &Settings,
    root: &Path,
    store: &Path,
    project: &str,
    rootfs: Option<&Manifest>,
) -> Result<Facts, CallError> {
    let (_, uid, gid) = process::caller_ids();
    let scratch = settings.scratch.iter().map(|scratch| {
        let path = kept_scratch(store, project, &scratch.name);
        match fs::DirBuilder::new().recursive(true).mode(0o700).create(&path) {
            Ok(()) => source(&path),
            Err(error) => HostPlace::Unreadable(error.to_string()),
        }
    });
    let resolver = match settings.network {
        Network::None | Network::Rules(_) => Vec::new(),
        Network::Host => ["/etc/resolv.conf", "/etc/hosts"]
            .map(|path| (GuestPath::new(path).expect("a constant path"), source(Path::new(path))))
            .into(),
    };
    Ok(Facts {
        uid,
        gid,
        open_files: process::limit(Resource::OpenFiles)?,
        stack: process::limit(Resource::Stack)?.1,
        inherited: inherited()?,
        group: group::facts(&settings.limits),
        host: host(settings),
        mounts: mounts(settings, root),
        scratch: scratch.collect(),
        resolver,
        rootfs_top: rootfs.map(top_names).unwrap_or_default(),
        landlock: landlock::version(),
        rootfs_in_workdir: rootfs.is_some_and(|rootfs| has_below(rootfs, &settings.sandbox.workdir)),
    })
}

/// What stands at each path of `rootfs.host`.
pub fn host(settings: &Settings) -> Vec<HostPlace> {
    match &settings.rootfs {
        Rootfs::Host { paths, .. } => paths.iter().map(|path| host_path(Path::new(path.as_str()))).collect(),
        _ => Vec::new(),
    }
}

/// What stands at the source of each mount of the project at `root`.
pub fn mounts(settings: &Settings, root: &Path) -> Vec<HostPlace> {
    settings.mounts.iter().map(|mount| source(&root.join(&mount.source))).collect()
}

/// The caller's limits that the command keeps, where there are any.
fn inherited() -> Result<BTreeMap<String, u64>, CallError> {
    let resources = [
        ("address_space", Resource::AddressSpace),
        ("cpu_time", Resource::CpuTime),
        ("data_size", Resource::DataSize),
        ("file_size", Resource::FileSize),
    ];
    let mut inherited = BTreeMap::new();
    for (name, resource) in resources {
        let (soft, hard) = process::limit(resource)?;
        if soft.min(hard) < u64::MAX {
            inherited.insert(name.to_owned(), soft);
            inherited.insert(format!("{name}_hard"), hard);
        }
    }
    Ok(inherited)
}

/// Whether anything but an empty directory stands at `place`.
fn has_below(manifest: &Manifest, place: &GuestPath) -> bool {
    let path = place.relative();
    manifest.has(path) && !manifest.entries.iter().any(|entry| entry.path == path && entry.node == Node::EmptyDirectory)
}

fn top_names(manifest: &Manifest) -> BTreeMap<String, bool> {
    let mut names = BTreeMap::new();
    for entry in &manifest.entries {
        match entry.path.split_once('/') {
            Some((top, _)) => names.insert(top.to_owned(), true),
            None => names.insert(entry.path.clone(), entry.node == Node::EmptyDirectory),
        };
    }
    names
}

/// What stands at a path that is shown under its own name: a link stays a link.
fn host_path(path: &Path) -> HostPlace {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_symlink() => match fs::read_link(path).map(PathBuf::into_os_string) {
            Ok(target) => match target.into_string() {
                Ok(target) => HostPlace::Link(target),
                Err(_) => HostPlace::Unreadable("the link's text is not UTF-8".into()),
            },
            Err(error) => HostPlace::Unreadable(error.to_string()),
        },
        _ => source(path),
    }
}

/// What stands at a path whose links are resolved.
fn source(path: &Path) -> HostPlace {
    let place = fs::canonicalize(path).and_then(|path| Ok((fs::metadata(&path)?, path)));
    match place {
        Ok((metadata, path)) if metadata.is_dir() || metadata.is_file() => {
            HostPlace::Found { path, directory: metadata.is_dir(), device: metadata.dev(), inode: metadata.ino() }
        }
        Ok(_) => HostPlace::Unreadable("it is neither a file nor a directory".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => HostPlace::Missing,
        Err(error) => HostPlace::Unreadable(error.to_string()),
    }
}
