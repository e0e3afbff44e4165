use super::*;
use crate::config::model::{HostIdentity, KeptScratch, Limits, Mount, MountIdentity, Sandbox};

fn guest(path: &str) -> GuestPath {
    GuestPath::new(path).unwrap()
}

fn found(path: &str, directory: bool) -> HostPlace {
    HostPlace::Found { path: path.into(), directory, device: 1, inode: 2 }
}

fn facts() -> Facts {
    let link = |target: &str| HostPlace::Link(target.into());
    Facts {
        uid: 7,
        gid: 8,
        open_files: (1024, 4096),
        stack: u64::MAX,
        host: vec![
            found("/usr", true),
            link("usr/bin"),
            link("usr/lib"),
            HostPlace::Missing,
            link("usr/sbin"),
            HostPlace::Missing,
            found("/etc/ssl", true),
        ],
        ..Facts::default()
    }
}

fn invocation() -> Invocation {
    Invocation { argv: vec!["make".into()], below: None, environment: BTreeMap::new(), terminal: false }
}

fn bound(plan: &Plan) -> Vec<&Bind> {
    plan.setup.iter().filter_map(|step| if let Step::Bind(bind) = step { Some(bind) } else { None }).collect()
}

#[test]
fn the_default_shows_the_host_read_only_and_no_network() {
    let plan = build(&Settings::default(), &facts(), &invocation()).unwrap();
    let targets: Vec<_> = bound(&plan).iter().map(|bind| bind.target.as_str().to_owned()).collect();
    assert_eq!(
        targets,
        ["/etc/ssl", "/usr", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"]
    );
    assert!(bound(&plan).iter().all(|bind| !bind.writable));
    assert!(plan.namespaces.contains(&Namespace::Net));
    assert!(plan.skeleton.places().any(|(path, place)| path == "bin" && *place == Place::Link("usr/bin".into())));
    assert_eq!(plan.candidates[0], "/usr/local/sbin/make");
}

#[test]
fn what_a_refused_run_had_is_what_came_before() {
    let facts = Facts { landlock: 6, ..facts() };
    let plan = build(&Settings::default(), &facts, &invocation()).unwrap();
    let steps = plan.setup.len() + plan.start.len();
    let words = |done| plan.isolation_after(done);
    let has = |done, word: &str| words(done).iter().any(|known| known == word);
    assert!(words(0).iter().all(|word| word.ends_with("-namespace")) && has(0, "net-namespace"));
    assert!(!has(0, "time-namespace") && has(plan.setup.len(), "time-namespace"));
    assert!(has(plan.setup.len(), "filtered-calls") && !has(plan.setup.len(), "landlock"));
    assert!(has(steps, "landlock") && words(steps) == plan.isolation());
    let counts: Vec<usize> = (0..=steps).map(|done| words(done).len()).collect();
    assert!(counts.is_sorted(), "{counts:?}");
}

#[test]
fn the_order_of_the_set_up_is_fixed() {
    let plan = build(&Settings::default(), &facts(), &invocation()).unwrap();
    let place = |wanted: &Step| plan.setup.iter().position(|step| step == wanted).unwrap();
    assert!(matches!(plan.setup[0], Step::MapIds(Ids { uid: 1000, gid: 1000, host_uid: 7, host_gid: 8 })));
    assert!(place(&Step::MakeMountsPrivate) < place(&Step::MountRoot { memory: false, size: None }));
    assert!(place(&Step::MountProc { writable: false }) < place(&Step::EnterRoot));
    assert!(place(&Step::EnterRoot) < place(&Step::DropCapabilities));
    assert_eq!(plan.setup.last(), Some(&Step::FilterCalls(Calls::default())));
    assert_eq!(plan.start.last(), Some(&Step::Execute));
}

#[test]
fn the_host_network_makes_no_namespace_and_touches_no_interface() {
    let settings = Settings { network: Network::Host, ..Settings::default() };
    let plan = build(&settings, &facts(), &invocation()).unwrap();
    assert!(!plan.namespaces.contains(&Namespace::Net));
    assert!(!plan.setup.contains(&Step::BringLoopbackUp));
}

#[test]
fn a_mount_below_another_needs_no_mount_point_and_comes_later() {
    let mount = |source: &str, target: &str| Mount {
        source: source.into(),
        target: guest(target),
        identity: MountIdentity::Content,
    };
    let settings = Settings {
        mounts: vec![mount("/a", "/opt/tool/lib"), mount("/b", "/opt/tool")],
        scratch: vec![KeptScratch { name: "ccache".into(), target: guest("/cache") }],
        ..Settings::default()
    };
    let facts = Facts {
        mounts: vec![found("/a", true), found("/b", true)],
        scratch: vec![found("/store/kept/x/ccache", true)],
        ..facts()
    };
    let plan = build(&settings, &facts, &invocation()).unwrap();
    let targets: Vec<_> = bound(&plan).iter().map(|bind| bind.target.as_str().to_owned()).collect();
    assert_eq!(targets[..5], ["/cache", "/etc/ssl", "/opt/tool", "/opt/tool/lib", "/usr"]);
    assert!(bound(&plan)[0].writable);
    assert!(plan.skeleton.places().any(|(path, _)| path == "opt/tool"));
    assert!(!plan.skeleton.places().any(|(path, _)| path == "opt/tool/lib"));
}

#[test]
fn what_the_machine_lacks_is_an_error_with_a_way_out() {
    let explicit = Settings {
        rootfs: Rootfs::Host { paths: vec![guest("/opt/none")], identity: HostIdentity::Packages },
        ..Settings::default()
    };
    let missing = Facts { host: vec![HostPlace::Missing], ..facts() };
    let error = build(&explicit, &missing, &invocation()).unwrap_err();
    assert_eq!(error, PlanError::HostMissing { path: guest("/opt/none") });
    assert!(error.hint().is_some());

    let whole = Settings {
        rootfs: Rootfs::Host { paths: vec![guest("/etc")], identity: HostIdentity::Packages },
        ..Settings::default()
    };
    let there = Facts { host: vec![found("/etc", true)], ..facts() };
    assert_eq!(build(&whole, &there, &invocation()).unwrap_err(), PlanError::HostReserved { path: guest("/etc") });

    let greedy = Settings { limits: Limits { open_files: Some(5000), ..Limits::default() }, ..Settings::default() };
    let error = build(&greedy, &facts(), &invocation()).unwrap_err();
    assert_eq!(error, PlanError::OpenFiles { wanted: 5000, hard: 4096 });
}

#[test]
fn a_source_that_leads_to_the_kernel_is_refused() {
    let settings = Settings {
        mounts: vec![Mount { source: "link".into(), target: guest("/opt/p"), identity: MountIdentity::Metadata }],
        ..Settings::default()
    };
    for (path, refused) in [("/proc", true), ("/sys/kernel", true), ("/dev/shm/x", true), ("/devel", false)] {
        let facts = Facts { mounts: vec![found(path, true)], ..facts() };
        let result = build(&settings, &facts, &invocation());
        assert_eq!(matches!(result, Err(PlanError::KernelPlace { .. })), refused, "{path}");
    }
}

#[test]
fn an_image_may_not_have_a_link_where_the_sandbox_has_a_directory() {
    let settings = Settings { rootfs: Rootfs::Dir("root".into()), ..Settings::default() };
    for name in ["proc", "dev", "etc", "tmp", "src"] {
        let facts = Facts { rootfs_top: [(name.to_owned(), false)].into(), ..facts() };
        let error = build(&settings, &facts, &invocation()).unwrap_err();
        assert_eq!(error, PlanError::RootfsTop { name: name.into() });
    }
    let facts = Facts { rootfs_top: [("lib".to_owned(), false), ("proc".to_owned(), true)].into(), ..facts() };
    assert_eq!(build(&settings, &facts, &invocation()).unwrap().layers.len(), 3);
    let facts = Facts { rootfs_in_workdir: true, ..facts };
    let error = build(&settings, &facts, &invocation()).unwrap_err();
    assert_eq!(error, PlanError::RootfsWorkdir { workdir: guest("/src") });
}

#[test]
fn the_command_starts_where_the_caller_stands() {
    let settings =
        Settings { sandbox: Sandbox { workdir: guest("/work/x"), ..Sandbox::default() }, ..Settings::default() };
    let invocation = Invocation { below: Some(RelPath::new("sub/dir").unwrap()), ..invocation() };
    let plan = build(&settings, &facts(), &invocation).unwrap();
    assert_eq!(plan.directory.as_str(), "/work/x/sub/dir");
    assert!(plan.skeleton.places().any(|(path, _)| path == "work/x/sub/dir"));
}

#[test]
fn every_step_says_what_it_does() {
    let plan = build(&Settings::default(), &facts(), &invocation()).unwrap();
    let text = explain::explain(&plan);
    for step in plan.setup.iter().chain(&plan.start) {
        assert!(text.contains(&step.purpose()), "{step:?}");
    }
}
