//! What it costs to work inside, to bring outputs back, and to reach the network by the relay.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::files::tree;
use super::hash::ratio;
use super::report::{Beside, Figure, Report};
use super::rounds::{self, Subject, side_by_side};
use super::stats::{self, Interval};
use super::world::{Setup, World, program};
use super::{BenchError, Interrupts, Size, relay};

/// Runs the bench.
///
/// # Errors
/// When sbx can't be run, or a signal asks for the end.
pub fn run(
    setup: &Setup,
    size: Size,
    interrupts: &Interrupts,
    tell: &mut dyn FnMut(&str),
) -> Result<Report, BenchError> {
    let mut report = super::begin("io", size);
    let world = World::new(setup)?;
    let bench = Bench { world: &world, size, interrupts };
    let empty = world.project("empty", "")?;
    rounds::output(&mut world.sbx(&empty, &["-q", "run", "--", "true"]), interrupts)?;
    tell("outputs that come back");
    bench.outputs(&mut report)?;
    bench.compile(&mut report, tell)?;
    bench.configure(&mut report, tell)?;
    bench.files(&mut report, tell)?;
    tell("the network");
    relay::run(&bench, &mut report)?;
    super::warn_of_noise(&mut report, &["compile", "configure", "files"], OUTSIDE);
    Ok(report)
}

const INSIDE: &str = "inside";
const OUTSIDE: &str = "outside";

/// What autoconf's scripts do in each of their checks, as often as `$1` says: a small file is written, compiled, linked, run and looked at
/// by small programs.
const CONFIGURE: &str = r##"set -e
index=0
while test "$index" -lt "$1"; do
    index=`expr "$index" + 1`
    cat >conftest.c <<END
#include <stddef.h>
int check_$index(void);
int check_$index(void) { return (int)sizeof(size_t) > $index; }
int main(void) { return check_$index() > 1; }
END
    cc -E conftest.c >conftest.i
    grep "check_$index" conftest.i >/dev/null
    cc -c conftest.c -o conftest.o
    cc conftest.o -o conftest
    ./conftest
    name=`echo "have check_$index" | sed 's/[^a-z0-9]/_/g' | tr a-z A-Z`
    twice=`expr "$index" \* 2`
    echo "#define $name $twice" >>confdefs.h
    sed "s/@VALUE@/$index/" conftest.c >conftest.out
    cmp conftest.c conftest.out
    rm -f conftest.c conftest.i conftest.o conftest conftest.out
done
test `wc -l <confdefs.h` -eq "$1"
"##;

pub(super) struct Bench<'a> {
    pub(super) world: &'a World,
    pub(super) size: Size,
    pub(super) interrupts: &'a Interrupts,
}

impl Bench<'_> {
    fn time(&self, command: &mut Command) -> Result<f64, BenchError> {
        rounds::time(command, self.interrupts)
    }

    pub(super) fn measure(
        &self,
        report: &mut Report,
        group: &str,
        rounds: usize,
        subjects: Vec<Subject<'_>>,
    ) -> Result<(), BenchError> {
        let turns = side_by_side(rounds, Duration::ZERO, subjects, self.interrupts)?;
        rounds::record(report, group, turns, None);
        Ok(())
    }

    /// A known result with many outputs: brought back, and found in place.
    fn outputs(&self, report: &mut Report) -> Result<(), BenchError> {
        let count = self.size.pick(1_000, 20);
        let project = self.world.project("outputs", "inputs = ['in']\noutputs = ['out']\n")?;
        tree(&project.join("in"), count, self.interrupts)?;
        let (out, copied) = (project.join("out"), self.world.path("copied"));
        let run = || self.time(&mut self.world.sbx(&project, &["-q", "run", "--", "cp", "-r", "in", "out"]));
        run()?;
        report.group("outputs", format!("a known result of {count} files"), Beside::Ratio);
        let copy = || {
            let seconds = self.time(self.world.command("cp").arg("-r").arg(project.join("in")).arg(&copied))?;
            remove(&copied)?;
            Ok(seconds)
        };
        let hit = || {
            remove(&out)?;
            run()
        };
        let subjects = vec![
            Subject::new("cp -r", copy),
            Subject::new("sbx run, brought back", hit),
            Subject::new("sbx run, found in place", run),
        ];
        self.measure(report, "outputs", self.size.rounds * 2, subjects)?;
        let what = format!("cache hit with {count} output files / cp -r of them");
        ratio(report, &what, ("outputs", "sbx run, brought back", "cp -r"), 1.3);
        Ok(())
    }

    /// The same script inside and outside.
    fn both(&self, report: &mut Report, group: &str, work: &Work<'_>) -> Result<(), BenchError> {
        let outside = || {
            let seconds = self.time(self.world.command("sh").args(["-ec", work.script]).current_dir(work.project))?;
            (work.tidy)()?;
            Ok(seconds)
        };
        let inside = ["-q", "run", "--no-cache", "--", "sh", "-ec", work.script];
        let inside = || self.time(&mut self.world.sbx(work.project, &inside));
        let subjects = vec![Subject::new(OUTSIDE, outside), Subject::new(INSIDE, inside)];
        self.measure(report, group, work.rounds, subjects)
    }

    /// Many C files by as many compilers as there are processors.
    fn compile(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        let (count, rounds) = (self.size.pick(200, 4), self.size.rounds);
        if program(Path::new("cc")).is_none() {
            report.lacks("a compiler's work", "there is no C compiler (cc)");
            return Ok(());
        }
        tell(&format!("{count} C files compiled, {rounds} times outside and inside"));
        let project = self.world.project("compile", "inputs = ['*.c']\n")?;
        for index in 0..count {
            let path = project.join(format!("f{index}.c"));
            fs::write(&path, source(index)).map_err(BenchError::io("make sources"))?;
        }
        report.group("compile", format!("{count} C files compiled"), Beside::Ratio);
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let script = format!("printf '%s\\n' *.c | xargs -P {cores} -n 5 cc -O1 -c");
        let tidy = || {
            let objects = (0..count).map(|index| project.join(format!("f{index}.o")));
            objects
                .into_iter()
                .try_for_each(|path| fs::remove_file(path).map_err(BenchError::io("remove an object file")))
        };
        self.both(report, "compile", &Work { project: &project, script: &script, rounds, tidy: &tidy })?;
        ratio(report, &format!("compiling {count} C files inside / outside"), ("compile", INSIDE, OUTSIDE), 1.03);
        Ok(())
    }

    /// Many small processes, as autoconf's scripts start them. The design has no target for them.
    fn configure(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        let (checks, rounds) = (self.size.pick(50, 3), self.size.rounds);
        if program(Path::new("cc")).is_none() {
            report.lacks("many small processes", "there is no C compiler (cc)");
            return Ok(());
        }
        tell(&format!("{checks} checks of a configure script, {rounds} times outside and inside"));
        let project = self.world.project("configure", "inputs = ['configure']\n")?;
        fs::write(project.join("configure"), CONFIGURE).map_err(BenchError::io("write a configure script"))?;
        let title = format!("a configure script of {checks} checks, each of a dozen small programs");
        report.group("configure", title, Beside::Ratio);
        let script = format!("mkdir build; cd build; sh ../configure {checks}");
        let tidy = || remove(&project.join("build"));
        self.both(report, "configure", &Work { project: &project, script: &script, rounds, tidy: &tidy })?;
        let sample = |name: &str| report.find("configure", name)?.sample();
        if let (Some(inside), Some(outside)) = (sample(INSIDE), sample(OUTSIDE)) {
            let Interval { value, low, high } = stats::ratio(&inside, &outside);
            report.figures.push(Figure {
                name: format!("a configure script of {checks} checks inside / outside"),
                group: "ratios without a target, and the ends of their 95 % intervals".to_owned(),
                value: Some(value),
                low,
                high,
                unit: "×".to_owned(),
            });
        }
        Ok(())
    }

    /// Many files unpacked and deleted.
    fn files(&self, report: &mut Report, tell: &mut dyn FnMut(&str)) -> Result<(), BenchError> {
        // A round takes seconds, and far less than the whole of it can be noise.
        let (count, rounds) = (self.size.pick(20_000, 100), self.size.rounds.div_ceil(2).max(2));
        tell(&format!("{count} files unpacked and deleted, {rounds} times outside and inside"));
        let project = self.world.project("files", "inputs = ['files.tar']\n")?;
        let unpacked: PathBuf = self.world.directory("unpacked")?;
        tree(&unpacked, count, self.interrupts)?;
        let mut tar = self.world.command("tar");
        tar.arg("-cf").arg(project.join("files.tar")).arg("-C").arg(&unpacked).arg(".");
        rounds::output(&mut tar, self.interrupts)?;
        remove(&unpacked)?;
        report.group("files", format!("{count} files of 4 KiB unpacked and deleted"), Beside::Ratio);
        let script = "mkdir out; tar -xf files.tar -C out; rm -r out";
        self.both(report, "files", &Work { project: &project, script, rounds, tidy: &|| Ok(()) })?;
        ratio(
            report,
            &format!("unpacking and deleting {count} files inside / outside"),
            ("files", INSIDE, OUTSIDE),
            1.25,
        );
        Ok(())
    }
}

/// What is done inside and outside.
struct Work<'a> {
    project: &'a Path,
    script: &'a str,
    /// How often.
    rounds: usize,
    /// Removes what it leaves outside.
    tidy: &'a dyn Fn() -> Result<(), BenchError>,
}

fn remove(path: &Path) -> Result<(), BenchError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(BenchError::io("remove a copy")(error)),
        _ => Ok(()),
    }
}

/// A file that keeps a compiler busy for a while.
fn source(index: usize) -> String {
    let mut text = String::from("#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n");
    for number in 0..10 {
        let _ = writeln!(
            text,
            "int f{index}_{number}(const char *s, int n) {{ int sum = {number}; for (int i = 0; i < n; i++) {{ \
             if (s[i] == {number}) sum += i * n; else sum ^= s[i] << (i % 7); }} \
             return sum > {index} ? sum : (int)strlen(s) + printf(\"%d %s\\n\", sum, s); }}"
        );
    }
    text
}
