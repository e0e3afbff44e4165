//! Many runs at once: none disturbs another, nothing is left, the store stays whole.

use crate::life::mounts;
use crate::support::{Project, eventually};

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

/// The files of the store whose name is a SHA-256 (in one or two parts) that is not the one of their content.
pub(crate) fn damaged_objects(project: &Project) -> Vec<String> {
    let script = r#"find "$0/blobs" -type f | while read -r file; do
        name=$(echo "$file" | sed -E 's#.*/([0-9a-f]{2})/([0-9a-f]{62})(-x)?(\.[0-9]+)?$#\1\2#')
        echo "$name" | grep -Eqx '[0-9a-f]{64}' || continue
        [ "$(sha256sum < "$file" | cut -c1-64)" = "$name" ] || echo "$file"
    done"#;
    let ended = project.command("sh").args(["-c", script]).args([project.beside("cache")]).ok();
    ended.stdout.lines().map(str::to_owned).collect()
}
