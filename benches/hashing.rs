//! What it costs to know the inputs: cold and warm, 10,000 and 100,000 files, large files, one changed file.
//!
//! `cargo bench --bench hashing [-- COUNT…]`, several minutes. Cold means a new store; the page cache is warm for every subject.

mod common;
#[path = "common/files.rs"]
mod files;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::{below, directory, heading, ms, ratio, row, say, sbx, side_by_side, time};
use files::{fill, tree};

const ROUNDS: usize = 15;
const CONFIG: &str = "inputs = ['**', '!sandbox.toml']\n";

/// A project of `count` files of 4 KiB, a hundred a directory.
fn project(base: &tempfile::TempDir, name: &str, count: u64) -> PathBuf {
    let project = below(base, name);
    tree(&project, count);
    fs::write(project.join("sandbox.toml"), CONFIG).expect("sandbox.toml");
    project
}

fn git(project: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.current_dir(project).args(args).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    command
}

fn copy(project: &Path, to: &Path) -> Duration {
    let duration = time(Command::new("cp").arg("-r").arg(project).arg(to));
    fs::remove_dir_all(to).expect("the copy is removed");
    duration
}

fn cold(project: &Path, cache: &Path) -> Duration {
    let duration = time(&mut sbx(project, cache, &["-q", "hash"]));
    fs::remove_dir_all(cache).expect("the store is removed");
    duration
}

fn many(base: &tempfile::TempDir, empty: &Path, count: u64) {
    let project = project(base, &format!("files-{count}"), count);
    let (cache, copied) = (base.path().join("cold"), base.path().join("copied"));
    let rounds = if count > 20_000 { 1 } else { 5 };
    let samples = side_by_side(rounds, Duration::ZERO, &[&|| cold(&project, &cache), &|| copy(&project, &copied)]);
    let [hashed, copied] = samples.as_slice() else { unreachable!("two subjects") };
    say(&format!("{count} files: cold hash {}, cp -r {}", ms(hashed.median()), ms(copied.median())));
    row(
        &format!("cold hash and store of {count} files of 4 KiB / cp -r"),
        ratio(hashed.median(), copied.median()),
        1.5,
    );

    for args in [&["init", "-q"][..], &["add", "-A"]] {
        time(&mut git(&project, args));
    }
    let cache = below(base, &format!("cache-{count}"));
    // A file that is younger than the clock's granularity is not trusted; the first run after a pause trusts all.
    time(&mut sbx(&project, &cache, &["-q", "run", "--no-cache", "--", "true"]));
    std::thread::sleep(Duration::from_secs(2));
    let run = || time(&mut sbx(&project, &cache, &["-q", "run", "--no-cache", "--", "true"]));
    let none = || time(&mut sbx(empty, &cache, &["-q", "run", "--no-cache", "--", "true"]));
    let status = || time(&mut git(&project, &["status", "--short"]));
    let hash = || time(&mut sbx(&project, &cache, &["-q", "hash"]));
    let victim = project.join("d0000/f7");
    let mut seed = count;
    let changed = std::cell::RefCell::new(move || {
        seed += 1;
        fs::write(&victim, fill(seed << 32, 4096)).expect("a file");
    });
    let one_changed = || {
        (changed.borrow_mut())();
        run()
    };
    let samples = side_by_side(ROUNDS, Duration::ZERO, &[&run, &none, &status, &hash]);
    let [unchanged, none, status, hash] = samples.as_slice() else { unreachable!("four subjects") };
    let added = unchanged.median().saturating_sub(none.median());
    say(&format!(
        "{count} files: unchanged run {}, empty project {}, warm hash {}, git status {}",
        ms(unchanged.median()),
        ms(none.median()),
        ms(hash.median()),
        ms(status.median())
    ));
    row(&format!("{count} unchanged inputs: added time / git status"), ratio(added, status.median()), 1.0);
    let samples = side_by_side(ROUNDS, Duration::ZERO, &[&run, &one_changed]);
    let [unchanged, changed] = samples.as_slice() else { unreachable!("two subjects") };
    say(&format!("{count} files: unchanged run {}, one changed {}", ms(unchanged.median()), ms(changed.median())));
    row(&format!("one of {count} changed / unchanged run"), ratio(changed.median(), unchanged.median()), 1.2);

    if count == 10_000 {
        let peak = peak_memory(&project, &cache);
        row("peak memory of sbx around a run of 10,000 inputs, MB", peak, 30.0);
    }
}

/// The peak resident set of sbx in megabytes, read while its command still runs.
fn peak_memory(project: &Path, cache: &Path) -> f64 {
    let mut command = sbx(project, cache, &["-q", "run", "--no-cache", "--", "sh", "-c", "echo ready; sleep 100"]);
    let mut child: Child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("sbx starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("a pipe");
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line).expect("a line");
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("its status");
    child.kill().expect("it is ended");
    child.wait().expect("its end");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    let kilobytes: f64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
    kilobytes / 1000.0
}

/// One GiB in large files, against openssl on as many cores.
fn large(base: &tempfile::TempDir) {
    let project = below(base, "large");
    let cores = std::thread::available_parallelism().expect("the cores").get();
    let files = 16;
    for index in 0..files {
        fs::write(project.join(format!("f{index}")), fill(index + 1, 1 << 26)).expect("a file");
    }
    fs::write(project.join("sandbox.toml"), CONFIG).expect("sandbox.toml");
    let cache = base.path().join("large-cache");
    let openssl = || {
        let began = Instant::now();
        let names = (0..files).map(|index| format!("f{index}"));
        let mut xargs = Command::new("xargs");
        xargs.current_dir(&project).args(["-P", &cores.to_string(), "-n", "1", "openssl", "dgst", "-sha256"]);
        let mut child = xargs.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("xargs starts");
        let list = names.collect::<Vec<_>>().join("\n");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), list.as_bytes()).expect("the list");
        assert!(child.wait().expect("xargs ends").success());
        began.elapsed()
    };
    let samples = side_by_side(5, Duration::ZERO, &[&|| cold(&project, &cache), &openssl]);
    let [hashed, openssl] = samples.as_slice() else { unreachable!("two subjects") };
    say(&format!("1 GiB: cold hash and store {}, openssl {}", ms(hashed.median()), ms(openssl.median())));
    let what = format!("cold hash and store of 1 GiB / openssl dgst -sha256 on {cores} cores");
    row(&what, ratio(hashed.median(), openssl.median()), 1.3);
}

fn main() {
    let base = directory();
    let empty = below(&base, "empty");
    fs::write(empty.join("sandbox.toml"), "").expect("sandbox.toml");
    let mut counts: Vec<u64> = std::env::args().filter_map(|word| word.parse().ok()).collect();
    if counts.is_empty() {
        counts = vec![10_000, 100_000];
    }
    heading();
    for count in counts {
        many(&base, &empty, count);
    }
    large(&base);
}
