use std::thread;

use super::*;
use crate::store::care::{Limits, Patience, Watcher};

struct Silent;

impl Watcher for Silent {
    fn at(&self, _: &'static str, _: u64, _: u64) {}
    fn finished(&self) {}
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().join("store")).unwrap();
    (dir, store)
}

fn make(store: &Store, run: &str) -> Scratch {
    Scratch::make(store, run, ScratchKind::Disk).unwrap()
}

#[test]
fn a_sweep_takes_only_what_nobody_holds() {
    let (_dir, store) = store();
    let living = make(&store, "living");
    let dead = make(&store, "dead");
    fs::write(dead.path().join("junk"), "x").unwrap();
    let dead_path = dead.path();
    drop(dead);
    let nameless = Scratch::make(&store, "nameless", ScratchKind::Memory).unwrap();
    fs::remove_file(nameless.path().join(CARD)).unwrap();
    sweep(store.path());
    assert!(!dead_path.exists());
    assert!(!nameless.path().exists());
    assert!(living.path().exists());
    living.remove().unwrap();
    assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
}

#[test]
fn a_sweep_never_takes_what_is_being_made() {
    let (_dir, store) = store();
    thread::scope(|scope| {
        let makers: Vec<_> = (0..4)
            .map(|maker| {
                let store = &store;
                scope.spawn(move || {
                    for run in 0..200 {
                        let scratch = make(store, &format!("{maker}-{run}"));
                        sweep(store.path());
                        assert!(scratch.path().exists());
                        assert!(scratch.path().join(CARD).exists());
                        scratch.remove().unwrap();
                    }
                })
            })
            .collect();
        makers.into_iter().for_each(|maker| maker.join().unwrap());
    });
    assert_eq!(fs::read_dir(store.path().join("scratch")).unwrap().count(), 0);
}

#[test]
fn what_is_left_is_nobody_s() {
    let (_dir, store) = store();
    for run in ["one", "two"] {
        let scratch = make(&store, run);
        fs::create_dir(scratch.path().join("upper/a")).unwrap();
        scratch.leave(&store.left()).unwrap();
    }
    let count = |dir: PathBuf| fs::read_dir(dir).unwrap().count();
    assert!(store.left().has_room());
    sweep(store.path());
    let left = || store.left().path().to_owned();
    assert_eq!((count(left()), count(store.path().join("scratch"))), (2, 0));
    let taken = store.left().take().unwrap();
    assert!(store.left().take().is_none(), "another is at it");
    taken.remove();
    assert_eq!(count(left()), 0);
    assert!(store.left().take().is_none(), "there is nothing");
    (0..16).for_each(|run| fs::create_dir(left().join(run.to_string())).unwrap());
    assert!(!store.left().has_room());
}

#[test]
fn the_next_run_begins_with_what_was_made_anew() {
    let (_dir, store) = store();
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().mode() & 0o7777;
    let inode = |path: &Path| fs::symlink_metadata(path).unwrap().ino();
    let first = make(&store, "first");
    let place = first.path();
    first.announce(b"first").unwrap();
    fs::create_dir_all(place.join("work/work/incompat")).unwrap();
    fs::create_dir(place.join(".staged")).unwrap();
    fs::write(place.join("upper/tmp/junk"), "x").unwrap();
    fs::set_permissions(place.join(UPPER), PermissionsExt::from_mode(0o700)).unwrap();
    first.leave(&store.left()).unwrap();
    make(&store, "second").leave(&store.left()).unwrap();
    let mut left = store.left().take().unwrap();
    // The other one is the last by its name.
    fs::remove_dir_all(store.left().path().join("second/work")).unwrap();
    left.spare(renew);
    assert!(!store.left().spare().exists(), "it was none that a run leaves");
    left.remove();

    make(&store, "third").leave(&store.left()).unwrap();
    fs::create_dir(store.left().path().join("third/work/work")).unwrap();
    let mut left = store.left().take().unwrap();
    left.spare(renew);
    left.spare(|_| panic!("there is one"));
    left.remove();
    assert!(store.left().take().is_none(), "the spare stays");
    sweep(store.path());
    let work_of_spare = inode(&store.left().spare().join(WORK));
    let fourth = make(&store, "fourth");
    assert!(!store.left().spare().exists());
    assert_eq!(inode(&fourth.path().join(WORK)), work_of_spare);
    let fifth = make(&store, "fifth");
    for scratch in [fourth, fifth] {
        let place = scratch.path();
        let found = walkdir::WalkDir::new(&place).sort_by_file_name().into_iter();
        let found: Vec<_> =
            found.map(|entry| entry.unwrap().path().strip_prefix(&place).unwrap().display().to_string()).collect();
        assert_eq!(found, ["", CARD, UPPER, "upper/tmp", WORK]);
        assert_eq!(fs::read(place.join(CARD)).unwrap(), b"");
        let modes = [UPPER, "upper/tmp", WORK, ""].map(|path| mode(&place.join(path)));
        assert_eq!(modes, [0o755, 0o1777, 0o700, 0o700]);
        sweep(store.path());
        assert!(place.exists());
    }
}

#[test]
fn a_spare_is_taken_once_and_whole() {
    let (_dir, store) = store();
    thread::scope(|scope| {
        for maker in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for run in 0..100 {
                    let scratch = make(store, &format!("{maker}-{run}"));
                    sweep(store.path());
                    assert!(scratch.path().join("upper/tmp").exists() && scratch.path().join(WORK).exists());
                    fs::write(scratch.path().join("upper/mine"), "").unwrap();
                    assert_eq!(fs::read_dir(scratch.path().join(UPPER)).unwrap().count(), 2);
                    scratch.leave(&store.left()).unwrap();
                    if let Some(mut left) = store.left().take() {
                        left.spare(renew);
                        left.remove();
                    }
                    if run % 10 == 0 {
                        store.collect_garbage(&Limits::default(), Patience::Wait, &Silent).unwrap();
                    }
                }
            });
        }
    });
}

#[test]
fn what_is_of_another_group_is_no_spare() {
    let (_dir, store) = store();
    make(&store, "one").leave(&store.left()).unwrap();
    store.left().take().unwrap().spare(renew);
    let spare = store.left().spare();
    assert!(is_fit(&spare));
    for part in [CARD, WORK, "upper/tmp"] {
        fs::rename(spare.join(part), spare.join("away")).unwrap();
        assert!(!is_fit(&spare), "without {part}");
        fs::rename(spare.join("away"), spare.join(part)).unwrap();
    }
    // Only root may give a directory to any group.
    if std::os::unix::fs::chown(spare.join(UPPER), None, Some(12345)).is_ok() {
        assert!(!is_fit(&spare));
    }
    assert!(!is_fit(Path::new("/nowhere")));
}

#[test]
fn little_is_few_files_of_few_bytes() {
    let (_dir, store) = store();
    let scratch = make(&store, "one");
    assert!(scratch.is_little().unwrap());
    let directory = scratch.path().join("upper/a");
    fs::create_dir(&directory).unwrap();
    let file = File::create(directory.join("file")).unwrap();
    file.set_len(LITTLE_BYTES).unwrap();
    assert!(scratch.is_little().unwrap());
    file.set_len(LITTLE_BYTES + 1).unwrap();
    assert!(!scratch.is_little().unwrap());
    file.set_len(0).unwrap();
    // Besides the card, the work directory, the upper layer with two directories, and that file.
    (6..LITTLE_ENTRIES).for_each(|number| fs::write(directory.join(number.to_string()), "").unwrap());
    assert!(scratch.is_little().unwrap());
    fs::write(directory.join("one-more"), "").unwrap();
    assert!(!scratch.is_little().unwrap());
}

#[test]
fn what_stays_is_open_to_its_owner() {
    let (_dir, store) = store();
    let scratch = make(&store, "one");
    let closed = scratch.path().join("work/work");
    fs::create_dir_all(closed.join("incompat")).unwrap();
    let mode = |mode| fs::set_permissions(&closed, PermissionsExt::from_mode(mode)).unwrap();
    mode(0);
    assert!(scratch.is_little().unwrap());
    assert_eq!(fs::metadata(&closed).unwrap().mode() & 0o777, 0o700);
}

#[test]
fn what_is_kept_survives_a_sweep() {
    let (_dir, store) = store();
    let kept = make(&store, "one").keep().unwrap();
    sweep(store.path());
    assert!(!kept.join(CARD).exists() && !kept.join(WORK).exists() && kept.join(UPPER).exists());
}
