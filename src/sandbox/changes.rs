//! What the command wrote and nobody declared, read off the overlay's upper directory.
//!
//! What overlayfs leaves there (Documentation/filesystems/overlayfs.rst): a character device 0:0, or an empty file with
//! the attribute `user.overlay.whiteout`, stands for a name that is deleted; a directory with `user.overlay.opaque` = `y`
//! hides all that was below the same name; any other directory that existed before is there because something below it
//! changed.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;

use crate::config::model::Pattern;
use crate::inputs::{Entry, Manifest, Node};
use crate::path::{GuestPath, printable};
use crate::record::Changes;
use crate::sandbox::outputs::Selection;
use crate::sys::beneath::{self, Kind, LONGEST_PATH, Status};

/// How many paths the lists hold together; what is more is counted.
pub const MOST_PATHS: usize = 10_000;

/// What to compare.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The overlay's upper directory; no process of the sandbox is alive any more.
    pub upper: BorrowedFd<'a>,
    /// Whether an absolute path inside existed before the command ran.
    pub existed: &'a dyn Fn(&str) -> bool,
    /// The inputs, which stood below `workdir`.
    pub inputs: &'a Manifest,
    /// Where the inputs stood inside.
    pub workdir: &'a GuestPath,
    /// The declared outputs, relative to `workdir`; they are left out.
    pub outputs: &'a [Pattern],
    /// Places that every command may fill (`/tmp`, `/dev`, the home, …); they are left out with all below them.
    pub ignored: &'a [GuestPath],
}

/// Why the changes can't be told.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    /// A pattern can't be compiled.
    #[error("an output pattern is not a glob")]
    Pattern(#[from] globset::Error),
    /// A part of the upper directory can't be read.
    #[error("can't read `{path}` of what the command wrote")]
    Read {
        /// The path inside, safe to print.
        path: String,
        /// Why.
        source: io::Error,
    },
}

/// Lists what was added, changed and deleted. A new directory is listed only when it is empty, a deleted one only when
/// the inputs tell nothing of what was in it; directories that only hold changes are not listed.
///
/// # Errors
/// When a part of the upper directory can't be read.
pub fn changes(request: &Request<'_>) -> Result<Changes, ChangesError> {
    let mut walk = Walk {
        request,
        selection: Selection::new(request.outputs)?,
        changes: Changes::default(),
        room: MOST_PATHS,
        directories: vec![Vec::new()],
        opaque: Vec::new(),
    };
    while let Some(path) = walk.directories.pop() {
        walk.directory(path)?;
    }
    for path in std::mem::take(&mut walk.opaque) {
        walk.deleted_below(&path);
    }
    let mut changes = walk.changes;
    for list in [&mut changes.added, &mut changes.changed, &mut changes.deleted] {
        list.sort_unstable();
        list.dedup();
    }
    Ok(changes)
}

#[derive(Clone, Copy)]
enum Change {
    Added,
    Changed,
    Deleted,
}

struct Walk<'a> {
    request: &'a Request<'a>,
    selection: Selection,
    changes: Changes,
    /// How many more paths the lists may hold.
    room: usize,
    /// Directories still to be entered, without the leading `/`.
    directories: Vec<Vec<u8>>,
    /// Directories that hide what was below the same name.
    opaque: Vec<Vec<u8>>,
}

impl Walk<'_> {
    fn directory(&mut self, path: Vec<u8>) -> Result<(), ChangesError> {
        let read_error = |source| ChangesError::Read { path: shown(&path), source };
        let directory = beneath::open_hostile_directory(self.request.upper, OsStr::from_bytes(&path));
        let directory = directory.map_err(read_error)?;
        let opaque = beneath::short_attribute(&directory, "user.overlay.opaque").map_err(read_error)?;
        let names = beneath::list(&directory).map_err(read_error)?;
        if names.is_empty() && !path.is_empty() && !self.existed(&path) {
            self.note(Change::Added, &path);
        }
        for name in names {
            let mut below = path.clone();
            if !path.is_empty() {
                below.push(b'/');
            }
            below.extend_from_slice(name.as_bytes());
            if self.is_ignored(&below) {
                continue;
            }
            if below.len() > LONGEST_PATH {
                // It can't be opened by its path: counted as one, whatever is in it.
                self.changes.omitted += 1;
                continue;
            }
            self.entry(&directory, &name, below)?;
        }
        if opaque.as_deref() == Some(b"y") {
            self.opaque.push(path);
        }
        Ok(())
    }

    fn entry(&mut self, directory: &OwnedFd, name: &OsStr, path: Vec<u8>) -> Result<(), ChangesError> {
        let read_error = |source| ChangesError::Read { path: shown(&path), source };
        let Some(status) = beneath::status(directory, name).map_err(read_error)? else { return Ok(()) };
        if is_whiteout(directory, name, &status).map_err(read_error)? {
            self.deleted(&path);
            return Ok(());
        }
        match status.kind {
            Kind::Directory => {
                if self.input(&path).is_some_and(|entry| entry.node != Node::EmptyDirectory) {
                    self.note(Change::Deleted, &path);
                }
                self.directories.push(path);
            }
            _ => {
                for gone in self.inputs_below(&path) {
                    self.note(Change::Deleted, &gone);
                }
                let change = if self.existed(&path) { Change::Changed } else { Change::Added };
                self.note(change, &path);
            }
        }
        Ok(())
    }

    /// The inputs below the opaque directory `path` that have no successor. To be asked when the walk has opened up all
    /// that was closed.
    fn deleted_below(&mut self, path: &[u8]) {
        for gone in self.inputs_below(path) {
            // An error is a link that has taken the place of a directory on the way.
            if !matches!(beneath::status(self.request.upper, OsStr::from_bytes(&gone)), Ok(Some(_))) {
                self.note(Change::Deleted, &gone);
            }
        }
    }

    fn deleted(&mut self, path: &[u8]) {
        let below = self.inputs_below(path);
        if below.is_empty() {
            self.note(Change::Deleted, path);
        }
        for gone in below {
            self.note(Change::Deleted, &gone);
        }
    }

    fn note(&mut self, change: Change, path: &[u8]) {
        if self.is_declared(path) {
            return;
        }
        if self.room == 0 {
            self.changes.omitted += 1;
            return;
        }
        self.room -= 1;
        let list = match change {
            Change::Added => &mut self.changes.added,
            Change::Changed => &mut self.changes.changed,
            Change::Deleted => &mut self.changes.deleted,
        };
        list.push(shown(path));
    }

    fn existed(&self, path: &[u8]) -> bool {
        str::from_utf8(path).is_ok_and(|path| (self.request.existed)(&format!("/{path}")))
    }

    fn is_ignored(&self, path: &[u8]) -> bool {
        let ignored = |place: &GuestPath| is_at_or_below(path, place.relative().as_bytes());
        self.request.ignored.iter().any(ignored)
    }

    fn is_declared(&self, path: &[u8]) -> bool {
        let relative = self.below_workdir(path).map(String::from_utf8_lossy);
        relative.is_some_and(|relative| self.selection.contains(&relative))
    }

    /// `path` relative to the working directory, when it lies below it.
    fn below_workdir<'p>(&self, path: &'p [u8]) -> Option<&'p [u8]> {
        let workdir = self.request.workdir.relative().as_bytes();
        if workdir.is_empty() {
            return Some(path);
        }
        path.strip_prefix(workdir)?.strip_prefix(b"/")
    }

    /// The input at exactly `path`.
    fn input(&self, path: &[u8]) -> Option<&Entry> {
        let relative = self.below_workdir(path)?;
        let entries = &self.request.inputs.entries;
        let found = entries.binary_search_by(|entry| components(entry.path.as_bytes()).cmp(components(relative)));
        found.ok().map(|index| &entries[index])
    }

    /// The paths (as `path` is written) of all inputs below it. The manifest is sorted by components, so they follow one
    /// another.
    fn inputs_below(&self, path: &[u8]) -> Vec<Vec<u8>> {
        let workdir = self.request.workdir.relative().as_bytes();
        let Some(relative) = (if path == workdir { Some(&b""[..]) } else { self.below_workdir(path) }) else {
            return Vec::new();
        };
        let entries = &self.request.inputs.entries;
        let is_before = |entry: &Entry| components(entry.path.as_bytes()).lt(components(relative));
        let first = if relative.is_empty() { 0 } else { entries.partition_point(is_before) };
        let inside = entries[first..].iter().take_while(|entry| is_at_or_below(entry.path.as_bytes(), relative));
        let below = inside.filter(|entry| entry.path.as_bytes() != relative);
        let prefix = if workdir.is_empty() { Vec::new() } else { [workdir, b"/"].concat() };
        below.map(|entry| [&prefix, entry.path.as_bytes()].concat()).collect()
    }
}

fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/')
}

/// Whether `path` is `place` or lies below it; everything lies below the empty place.
fn is_at_or_below(path: &[u8], place: &[u8]) -> bool {
    place.is_empty() || path.strip_prefix(place).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

fn is_whiteout(directory: &OwnedFd, name: &OsStr, status: &Status) -> io::Result<bool> {
    match status.kind {
        Kind::CharacterDevice { whiteout } => Ok(whiteout),
        Kind::File if status.size == 0 => {
            let file = beneath::open_hostile_file(directory, name)?;
            Ok(beneath::short_attribute(file, "user.overlay.whiteout")?.is_some())
        }
        _ => Ok(false),
    }
}

/// The absolute path as text; escaped only where it would not be safe to print.
fn shown(path: &[u8]) -> String {
    match str::from_utf8(path) {
        Ok(text) if !text.chars().any(char::is_control) => format!("/{text}"),
        _ => format!("/{}", printable(path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::path::RelPath;
    use std::fs::{self, File, Permissions};
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::path::{Path, PathBuf};
    use std::process::Command;

    struct Upper(tempfile::TempDir);

    impl Upper {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn at(&self, path: &str) -> PathBuf {
            let path = self.0.path().join(path.trim_start_matches('/'));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            path
        }

        fn write(&self, path: &str) {
            fs::write(self.at(path), "content").unwrap();
        }

        fn directory(&self, path: &str) -> PathBuf {
            let path = self.at(path);
            fs::create_dir_all(&path).unwrap();
            path
        }

        fn whiteout(&self, path: &str) {
            assert!(Command::new("mknod").arg(self.at(path)).args(["c", "0", "0"]).status().unwrap().success());
        }

        fn opaque(&self, path: &str) {
            set_attribute(&self.directory(path), "user.overlay.opaque", "y");
        }

        fn changes(&self, inputs: &[&str], outputs: &[&str]) -> Changes {
            let entry = |path: &&str| Entry {
                path: path.trim_end_matches('/').to_owned(),
                node: if path.ends_with('/') {
                    Node::EmptyDirectory
                } else {
                    Node::File { digest: Digest::of(b""), executable: false }
                },
            };
            let inputs = Manifest { entries: inputs.iter().map(entry).collect() };
            let existed = |path: &str| {
                let before = inputs.entries.iter().map(|entry| format!("/src/{}", entry.path));
                before.chain(["/usr/bin/tool".to_owned()]).any(|before| Path::new(&before).starts_with(path))
            };
            let pattern = |text: &&str| Pattern { glob: RelPath::new(text).unwrap(), negated: false };
            let outputs: Vec<Pattern> = outputs.iter().map(pattern).collect();
            let ignored = [GuestPath::new("/tmp").unwrap(), GuestPath::new("/home/builder").unwrap()];
            let workdir = GuestPath::new("/src").unwrap();
            let upper = File::open(self.0.path()).unwrap();
            changes(&Request {
                upper: upper.as_fd(),
                existed: &existed,
                inputs: &inputs,
                workdir: &workdir,
                outputs: &outputs,
                ignored: &ignored,
            })
            .unwrap()
        }
    }

    fn set_attribute(path: &Path, name: &str, value: &str) {
        beneath::set_attribute(File::open(path).unwrap(), name, value.as_bytes()).unwrap();
    }

    fn check(changes: &Changes, added: &[&str], changed: &[&str], deleted: &[&str]) {
        assert_eq!(changes.added, added, "added");
        assert_eq!(changes.changed, changed, "changed");
        assert_eq!(changes.deleted, deleted, "deleted");
        assert_eq!(changes.omitted, 0);
    }

    #[test]
    fn an_empty_upper_layer_has_no_changes() {
        check(&Upper::new().changes(&["a"], &[]), &[], &[], &[]);
    }

    #[test]
    fn added_changed_and_deleted_are_told_apart() {
        let upper = Upper::new();
        upper.write("/src/new/file");
        upper.write("/src/dir/known");
        upper.directory("/src/copied-up");
        upper.directory("/src/new/empty");
        upper.whiteout("/src/dir/gone");
        upper.whiteout("/usr/bin/tool");
        upper.write("/usr/bin/own");
        symlink("anywhere", upper.at("/src/link")).unwrap();
        let inputs = ["copied-up/x", "dir/gone", "dir/known"];
        check(
            &upper.changes(&inputs, &[]),
            &["/src/link", "/src/new/empty", "/src/new/file", "/usr/bin/own"],
            &["/src/dir/known"],
            &["/src/dir/gone", "/usr/bin/tool"],
        );
    }

    #[test]
    fn outputs_and_places_for_anything_are_left_out() {
        let upper = Upper::new();
        upper.write("/src/build/app");
        upper.write("/src/build.log");
        upper.whiteout("/src/build/old");
        upper.write("/tmp/x");
        upper.write("/home/builder/.cache/x");
        upper.write("/home/builders/x");
        upper.write("/tmpx");
        check(&upper.changes(&["build/old"], &["build"]), &["/home/builders/x", "/src/build.log", "/tmpx"], &[], &[]);
    }

    #[test]
    fn a_deleted_directory_is_told_by_its_files() {
        let upper = Upper::new();
        upper.whiteout("/src/dir");
        upper.whiteout("/src/unknown");
        let inputs = ["dir/a", "dir/sub/b", "dir.c", "dir0"];
        check(&upper.changes(&inputs, &["dir/a"]), &[], &[], &["/src/dir/sub/b", "/src/unknown"]);
    }

    #[test]
    fn a_replaced_directory_hides_what_was_below() {
        let upper = Upper::new();
        upper.opaque("/src/dir");
        upper.write("/src/dir/kept");
        upper.write("/src/dir/new");
        upper.write("/src/dir/closed/kept");
        fs::set_permissions(upper.at("/src/dir/closed"), Permissions::from_mode(0o000)).unwrap();
        symlink("kept", upper.at("/src/dir/sub")).unwrap();
        let inputs = ["dir/closed/kept", "dir/gone", "dir/kept", "dir/sub/gone", "other"];
        check(
            &upper.changes(&inputs, &[]),
            &["/src/dir/new"],
            &["/src/dir/closed/kept", "/src/dir/kept", "/src/dir/sub"],
            &["/src/dir/gone", "/src/dir/sub/gone"],
        );
    }

    #[test]
    fn a_changed_kind_is_a_deletion_of_what_was_below() {
        let upper = Upper::new();
        upper.write("/src/was-dir");
        upper.write("/src/was-file/x");
        check(
            &upper.changes(&["was-dir/a", "was-file"], &[]),
            &["/src/was-file/x"],
            &["/src/was-dir"],
            &["/src/was-dir/a", "/src/was-file"],
        );
    }

    #[test]
    fn a_whiteout_may_be_an_attribute() {
        let upper = Upper::new();
        fs::write(upper.at("/src/gone"), "").unwrap();
        set_attribute(&upper.at("/src/gone"), "user.overlay.whiteout", "y");
        fs::write(upper.at("/src/empty"), "").unwrap();
        check(&upper.changes(&["gone"], &[]), &["/src/empty"], &[], &["/src/gone"]);
    }

    #[test]
    fn hostile_trees_are_listed_too() {
        let upper = Upper::new();
        upper.write("/src/closed/file");
        fs::write(upper.at("/src/unreadable"), "").unwrap();
        fs::write(upper.at("/src").join(OsStr::from_bytes(b"\xff\x1b")), "").unwrap();
        assert!(Command::new("mkfifo").arg(upper.at("/src/pipe")).status().unwrap().success());
        symlink("/etc", upper.at("/src/etc")).unwrap();
        fs::set_permissions(upper.at("/src/unreadable"), Permissions::from_mode(0o000)).unwrap();
        fs::set_permissions(upper.at("/src/closed"), Permissions::from_mode(0o000)).unwrap();
        check(
            &upper.changes(&[], &[]),
            &["/src/\\xff\\u{1b}", "/src/closed/file", "/src/etc", "/src/pipe", "/src/unreadable"],
            &[],
            &[],
        );
    }

    #[test]
    fn the_lists_are_bounded_and_the_rest_counted() {
        let upper = Upper::new();
        let directory = upper.directory("/src/many");
        (0..MOST_PATHS + 7).for_each(|index| drop(File::create(directory.join(index.to_string())).unwrap()));
        let changes = upper.changes(&[], &[]);
        assert_eq!((changes.added.len(), changes.omitted), (MOST_PATHS, 7));
        assert_eq!(changes.count(), MOST_PATHS as u64 + 7);
    }

    #[test]
    fn a_tree_deeper_than_a_path_is_counted() {
        let upper = Upper::new();
        let mut at: OwnedFd = File::open(upper.directory("/src")).unwrap().into();
        for _ in 0..3000 {
            beneath::create_directory(&at, "d".as_ref(), 0o755).unwrap();
            at = beneath::open_directory(&at, "d").unwrap();
        }
        let changes = upper.changes(&[], &[]);
        assert_eq!((changes.count(), changes.omitted), (1, 1));
        beneath::remove_tree(File::open(upper.at("/src")).unwrap(), "d".as_ref()).unwrap();
    }
}
