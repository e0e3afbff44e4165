//! Many runs at once, and many that are killed: none disturbs another, nothing is left, the store stays whole.

use std::time::Duration;

use crate::life::{mounts, processes};
use crate::support::{Project, copy_program, eventually, sbx};

#[test]
fn a_hundred_runs_at_once_in_one_project() {
    need!(Sandbox);
    const RUNS: usize = 100;
    let mut config = String::from("inputs = ['data/**']\n");
    for number in 0..RUNS {
        config += &format!(
            "[task.t{number}]\ncommand = ['sh', '-c', 'cat data/{number} data/shared > out-{number}; echo {number}']\n\
             outputs = ['out-{number}']\n"
        );
    }
    let mut project = Project::new().file("data/shared", "shared").config(&config);
    for number in 0..RUNS {
        project = project.file(&format!("data/{number}"), format!("{number}-"));
    }
    let runs: Vec<_> =
        (0..RUNS).map(|number| project.sbx(["run", "--no-cache", &format!("t{number}")]).start()).collect();
    for (number, run) in runs.into_iter().enumerate() {
        run.end().code(0).stdout(&format!("{number}\n"));
    }
    for number in 0..RUNS {
        assert_eq!(project.read(&format!("out-{number}")), format!("{number}-shared"));
    }
    // Every stored object still has the content that its name says, and a new run finds it all.
    assert_eq!(damaged_objects(&project), Vec::<String>::new());
    project.sh_anew("cat data/* | wc -c").ok();
    eventually("no mount is left", || mounts(project.beside("cache").to_str().expect("UTF-8")).is_empty());
}

/// 200 runs, each killed after another while: from before its first system call to after its last.
#[test]
fn two_hundred_kills_leave_nothing() {
    need!(Sandbox);
    let project = Project::new().file("a/b", "content").config("inputs = ['a/**']\noutputs = ['c']");
    // A copy of its own, so that its processes are known by its path.
    let copy = project.beside("sbx-that-is-killed");
    copy_program(sbx(), &copy);
    let run = || project.command(&copy).args(["run", "--no-cache", "--", "sh", "-c", "cat a/b > c; sleep 0.01"]);
    run().ok();
    // A linear congruential generator: the offsets differ from each other, not from run to run.
    let mut random = 12345_u64;
    for _ in 0..200 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mut live = run().start_silent();
        std::thread::sleep(Duration::from_micros((random >> 33) % 30_000));
        live.child().kill().expect("it can be killed");
        live.status();
    }
    let base = project.beside("").to_str().expect("UTF-8").to_owned();
    eventually("every process is gone", || processes(copy.to_str().expect("UTF-8")).is_empty());
    eventually("every mount is gone", || mounts(&base).is_empty());
    run().ok();
    assert_eq!(project.read("c"), "content");
    assert_eq!(damaged_objects(&project), Vec::<String>::new());
    let listing = |path: &str| {
        let found = project.command("find").args([project.beside(path)]).args(["-mindepth", "1"]).ok().stdout;
        found.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(listing("project").len(), 4, "no temporary file is left in the project: {:?}", listing("project"));
    assert_eq!(listing("tmp"), Vec::<String>::new(), "no temporary file is left");
    let scratch: Vec<_> = listing("cache").into_iter().filter(|path| path.ends_with("/upper")).collect();
    assert_eq!(scratch, Vec::<String>::new(), "the scratch directories are swept");
}

/// The files of the store whose name is a SHA-256 (in one or two parts) that is not the one of their content.
fn damaged_objects(project: &Project) -> Vec<String> {
    let script = r#"find "$0/blobs" -type f | while read -r file; do
        name=$(echo "$file" | sed -E 's#.*/([0-9a-f]{2})/([0-9a-f]{62})(-x)?(\.[0-9]+)?$#\1\2#')
        echo "$name" | grep -Eqx '[0-9a-f]{64}' || continue
        [ "$(sha256sum < "$file" | cut -c1-64)" = "$name" ] || echo "$file"
    done"#;
    let ended = project.command("sh").args(["-c", script]).args([project.beside("cache")]).ok();
    ended.stdout.lines().map(str::to_owned).collect()
}
