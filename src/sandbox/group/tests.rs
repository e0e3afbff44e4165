use std::fs;
use std::path::Path;

use super::scene::Scene;
use super::*;
use crate::plan::group::Obstacle;
use crate::sys::process;

/// A directory that stands for a mounted hierarchy.
fn hierarchy() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn put(directory: &Path, files: &[(&str, &str)]) {
    fs::create_dir_all(directory).unwrap();
    files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
}

fn unified(top: &Path, own: &str, wanted: &[Controller]) -> Result<Way, Obstacle> {
    let mounts = format!("1 2 0:3 / {} rw - cgroup2 cgroup2 rw\n", top.display());
    Scene { groups: &format!("0::{own}\n"), mounts: &mounts, swap: false, manager: true, own: 77 }.find(wanted)
}

const ALL: &str = "cpu io memory pids";

/// A cgroup of version 2 as its files show it.
fn group(top: &Path, path: &str, enabled: &str, members: &str) {
    let directory = top.join(path);
    let files = [("cgroup.controllers", ALL), ("cgroup.subtree_control", enabled), ("cgroup.procs", members)];
    put(&directory, &files);
    if !path.is_empty() {
        put(&directory, &[("cgroup.type", "domain")]);
    }
}

fn way(parent: &Path, enable: &[Controller], step_aside: bool) -> Result<Way, Obstacle> {
    Ok(Way::Unified { parent: parent.to_owned(), enable: enable.to_vec(), step_aside })
}

#[test]
fn the_nearest_cgroup_that_has_the_controllers_is_taken() {
    let top = hierarchy();
    group(top.path(), "", ALL, "1\n");
    group(top.path(), "user", "memory pids", "");
    group(top.path(), "user/main", "", "77\n78\n");
    let wanted = [Controller::Memory, Controller::Pids];
    assert_eq!(unified(top.path(), "/user/main", &wanted), way(&top.path().join("user"), &[], false));
    // The one below lacks it; nothing is switched on where one above has it on.
    assert_eq!(unified(top.path(), "/user/main", &[Controller::Cpu]), way(top.path(), &[], false));
}

#[test]
fn controllers_are_switched_on_where_no_process_is_in_the_way() {
    let top = hierarchy();
    group(top.path(), "", "", "");
    group(top.path(), "scope", "memory", "77\n");
    let wanted = [Controller::Memory, Controller::Cpu];
    let own = top.path().join("scope");
    assert_eq!(unified(top.path(), "/scope", &wanted), way(&own, &[Controller::Cpu], true));
    group(top.path(), "scope", "", "77\n78\n");
    assert_eq!(unified(top.path(), "/scope", &wanted), way(top.path(), &wanted, false));
    group(top.path(), "", "", "1\n");
    fs::write(top.path().join("cgroup.type"), "domain").unwrap();
    let obstacle = unified(top.path(), "/scope", &wanted).unwrap_err();
    assert!(obstacle.cause.contains("other processes than sbx are in"), "{}", obstacle.cause);
    assert!(obstacle.fix.contains("systemd-run --user --scope -p Delegate=yes sbx run"), "{}", obstacle.fix);
}

#[test]
fn a_hierarchy_without_the_controller_or_out_of_sight_is_of_no_use() {
    let top = hierarchy();
    group(top.path(), "", "", "");
    let why = |own: &str, controller: &str| {
        fs::write(top.path().join("cgroup.controllers"), controller).unwrap();
        unified(top.path(), own, &[Controller::Memory]).unwrap_err().cause
    };
    assert!(why("/", "cpu").ends_with("has no controller `memory`"));
    assert_eq!(why("/../other", ALL), "cgroup v2 is not mounted");
    let obstacle =
        Scene { groups: "", mounts: "", swap: false, manager: true, own: 1 }.find(&Controller::ALL).unwrap_err();
    assert_eq!(obstacle.cause, "cgroup v2 is not mounted");
    assert_eq!(obstacle.fix, "run sbx as root, or leave the limit out");
}

#[test]
fn version_1_serves_where_version_2_does_not_and_swap_can_be_limited() {
    let top = hierarchy();
    let line = |name: &str| {
        format!("1 2 0:3 / {}/{name} rw,relatime shared:3 - cgroup cgroup rw,{name}\n", top.path().display())
    };
    let mounts = line("memory") + &line("pids");
    let groups = "8:pids:/\n4:name=x,memory:/a/b\n0::/\n";
    put(&top.path().join("memory/a/b"), &[]);
    put(&top.path().join("pids"), &[]);
    let find =
        |swap, wanted: &[Controller]| Scene { groups, mounts: &mounts, swap, manager: false, own: 1 }.find(wanted);
    let parents =
        vec![(Controller::Memory, top.path().join("memory/a/b")), (Controller::Pids, top.path().join("pids"))];
    assert_eq!(find(false, &[Controller::Memory, Controller::Pids]), Ok(Way::Legacy { parents }));
    assert!(find(true, &[Controller::Memory]).unwrap_err().cause.contains("can't limit swap"));
    put(&top.path().join("memory/a/b"), &[("memory.memsw.limit_in_bytes", "")]);
    assert!(find(true, &[Controller::Memory]).is_ok());
    assert!(find(false, &Controller::ALL).unwrap_err().cause.contains("cgroup v1 has no controller `cpu`"));
}

/// On a file system that makes none of the kernel's files, each of them is refused.
#[test]
fn what_is_refused_is_told_and_nothing_stays() {
    let top = hierarchy();
    let bounds = Bounds { memory: Some(1 << 20), pids: Some(5), cpu_us: None };
    let unified = |enable: &[Controller], step_aside| Way::Unified {
        parent: top.path().to_owned(),
        enable: enable.to_vec(),
        step_aside,
    };
    let error = |way| {
        let error = Living::make(&Group { bounds, way }, "id").unwrap_err();
        let left = fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.filter(|name| name.to_string_lossy().starts_with(PREFIX)).count(), 0);
        error.to_string()
    };
    let begin = "can't hold the sandbox to 1 MiB of memory, 5 processes: can't ";
    let place = top.path().display();
    assert_eq!(error(unified(&[], false)), format!("{begin}write to {place}/sbx-id/memory.max"));
    assert_eq!(error(unified(&[Controller::Pids], false)), format!("{begin}write to {place}/cgroup.subtree_control"));
    assert_eq!(error(unified(&[Controller::Pids], true)), format!("{begin}open {place}/cgroup.subtree_control"));
    put(top.path(), &[("cgroup.subtree_control", "pids"), ("cgroup.procs", "")]);
    assert_eq!(error(unified(&[Controller::Pids], true)), format!("{begin}write to {place}/sbx-id-own/cgroup.procs"));
    let read = |name: &str| fs::read_to_string(top.path().join(name)).unwrap();
    // What would have switched it off again, and brought sbx back.
    assert_eq!(read("cgroup.subtree_control"), "-pids");
    let own = std::process::id().to_string();
    assert_eq!(read("cgroup.procs"), format!("0{}", &own[1..]), "each writes at the file's beginning");
    let parents = vec![(Controller::Pids, top.path().to_owned())];
    assert_eq!(error(Way::Legacy { parents }), format!("{begin}write to {place}/sbx-id/pids.max"));
    let gone = vec![(Controller::Pids, top.path().join("gone"))];
    assert_eq!(error(Way::Legacy { parents: gone }), format!("{begin}open {place}/gone"));
    assert!(entry_of(&[top.path().join("gone")]).unwrap_err().to_string().ends_with("gone/cgroup.procs"));
}

/// What only looks like the kernel's files holds nobody.
#[test]
fn a_limit_that_does_not_read_back_is_none() {
    let top = hierarchy();
    let bounds = Bounds { memory: Some(1 << 20), ..Bounds::default() };
    let making = Making { bounds: &bounds, id: "id" };
    put(top.path(), &[("memory.max", ""), ("memory.oom.group", "")]);
    making.limit(Controller::Memory, top.path(), true).unwrap();
    let file = top.path().join("memory.max");
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("/dev/null", &file).unwrap();
    let error = making.limit(Controller::Memory, top.path(), true).unwrap_err();
    assert!(error.to_string().ends_with(&format!("can't rely on {}", file.display())), "{error}");
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(cause, "1048576 was written to it, and it says nothing");
}

#[test]
fn a_sweep_takes_what_nobody_holds_and_nothing_else() {
    let top = hierarchy();
    let dead = "sbx-20261124-23071415-123456-00ff00ff00";
    let [dead_own, living] = [format!("{dead}-own"), format!("{dead}1")];
    for name in [dead, &dead_own, &living, "sbx-builder", "other"] {
        fs::create_dir(top.path().join(name)).unwrap();
    }
    let held = fs::File::open(top.path().join(&living)).unwrap();
    held.lock().unwrap();
    sweep(top.path());
    let mut left: Vec<_> = fs::read_dir(top.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["other", &living, "sbx-builder"]);
}

#[test]
fn a_janitor_removes_what_its_maker_leaves_and_lets_pipes_go() {
    let top = hierarchy();
    fs::create_dir(top.path().join("g")).unwrap();
    let duties = [Duty::Remove { parent: fs::File::open(top.path()).unwrap().into(), name: c"g".to_owned() }];
    let (end, life) = process::pipe().unwrap();
    let janitor = Janitor::start(&duties).unwrap();
    drop(life);
    assert_eq!(process::read_byte(std::os::fd::AsFd::as_fd(&end)), Ok(None), "the janitor keeps no pipe open");
    assert!(top.path().join("g").exists());
    drop(janitor);
    assert!(!top.path().join("g").exists());
}

#[test]
fn the_kernel_s_files_are_read() {
    assert_eq!(field("low 0\noom 3\noom_kill 4\n", "oom_kill"), Some(4));
    assert_eq!(field("low 0\noom 3\noom_kill 4\n", "oom"), Some(3));
    assert_eq!(field("", "oom"), None);
    assert_eq!(read_io("8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=7 wbytes=8\n"), Some((12, 14)));
    assert_eq!(read_io(""), None);
    let used = clone::Usage { user_us: 1, system_us: 2, largest: 3, read: 4, written: 5 };
    let alone = usage(None, Some(used)).unwrap();
    assert_eq!((alone.peak_memory, alone.peak_of.as_str(), alone.user_us), (3, Usage::LARGEST, 1));
    let held = Held { peak: Some(9), cpu_us: Some((7, 8)), ..Held::default() };
    let together = usage(Some(held), Some(used)).unwrap();
    assert_eq!((together.peak_memory, together.peak_of.as_str(), together.system_us), (9, Usage::ALL, 8));
}
