//! The relay of the allow-list beside plain loopback TCP: a stream in either direction, and connections with a byte each
//! way. The client is bash with cat and head, the same inside and outside; the server, here, has the time of a stream, so
//! that no launch is in it.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::BenchError;
use super::hash::ratio;
use super::io::Bench;
use super::report::{Beside, Measurement, Report};
use super::rounds::{self, Subject};
use super::world::program;
use crate::sys::thread;

const CHUNK: usize = 256 << 10;
/// How long the server may need to notice that a client has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// `$1` the name or address, `$2` the port, `$3` what, `$4` how many bytes or connections. The first byte of a connection says
/// to the server what it is about.
const CLIENT: &str = r#"set -e
case $1 in *[!0-9.]*) address=$(getent ahostsv4 "$1"); address=${address%% *} ;; *) address=$1 ;; esac
case $3 in
down) exec 3<>"/dev/tcp/$address/$2"; printf d >&3; cat <&3 >/dev/null ;;
up) exec 3<>"/dev/tcp/$address/$2"; printf u >&3; head -c "$4" /dev/zero >&3 ;;
echo)
    for ((i = 0; i < $4; i++)); do
        before=$EPOCHREALTIME
        exec 3<>"/dev/tcp/$address/$2"; printf e >&3; read -r -N 1 <&3
        echo "$before $EPOCHREALTIME"
        exec 3>&-
    done ;;
esac"#;

const PLAIN: &str = "plain loopback";
const RELAYED: &str = "the relay";

/// Adds the relay's rows.
pub(super) fn run(bench: &Bench<'_>, report: &mut Report) -> Result<(), BenchError> {
    if program(Path::new("bash")).is_none() {
        report.lacks("the relay", "there is no bash to be the client");
        return Ok(());
    }
    let bytes = bench.size.pick(512 << 20, 4 << 20);
    let (port, times) = serve(bytes)?;
    let rule = format!("allow = ['bench.test:{port}']\nhosts = {{ 'bench.test' = '127.0.0.1' }}\n");
    let project = bench.world.project("relay", &format!("[network]\n{rule}"))?;
    let words = |host: &str, what: &str, count: usize| {
        let client = ["bash", "-c", CLIENT, "client", host, &port.to_string(), what, &count.to_string()];
        client.map(str::to_owned)
    };
    let plain = |what: &str, count: usize| {
        let [program, words @ ..] = words("127.0.0.1", what, count);
        let mut command = bench.world.command(program);
        command.args(words);
        command
    };
    let relayed = |what: &str, count: usize| {
        let mut command = bench.world.sbx(&project, &["-q", "run", "--no-cache", "--"]);
        command.args(words("bench.test", what, count));
        command
    };
    let mebibytes = bytes >> 20;
    for (group, what, title) in [("down", "down", "towards the command"), ("up", "up", "from the command")] {
        report.group(group, format!("a stream of {mebibytes} MiB {title}"), Beside::Ratio);
        let stream = |mut command: Command| {
            rounds::output(&mut command, bench.interrupts)?;
            let late =
                |_| BenchError::Subject { what: group.to_owned(), reason: "the stream did not arrive".to_owned() };
            times.recv_timeout(PATIENCE).map_err(late)
        };
        let subjects = vec![
            Subject::new(PLAIN, || stream(plain(what, bytes))),
            Subject::new(RELAYED, || stream(relayed(what, bytes))),
        ];
        // Where the two ends run, on one processor or two, is the scheduler's choice, and doubles a time.
        bench.measure(report, group, bench.size.rounds * 4, subjects)?;
        // A throughput of at least half is a time of at most twice.
        let target = format!("a stream {title}: the relay's time / plain loopback's (half the throughput is 2)");
        ratio(report, &target, (group, RELAYED, PLAIN), 2.0);
    }

    let connections = bench.size.pick(500, 10);
    report.group("connections", "a connection with a byte each way", Beside::Ratio);
    let mut found = [Vec::new(), Vec::new()];
    for _ in 0..bench.size.rounds.min(5) {
        for (all, mut command) in found.iter_mut().zip([plain("echo", connections), relayed("echo", connections)]) {
            match rounds::output(&mut command, bench.interrupts) {
                Ok(said) => all.extend(String::from_utf8_lossy(&said).lines().filter_map(length)),
                Err(BenchError::Subject { reason, .. }) => report.lacks("connections", reason),
                Err(error) => return Err(error),
            }
        }
    }
    for (name, all) in [PLAIN, RELAYED].into_iter().zip(found) {
        report.results.extend(Measurement::new("connections", name, all));
    }

    report.group("allowing", "a launch of `true`", Beside::Ratio);
    let none = bench.world.path("empty");
    let launch = |project: &Path| {
        let mut command = bench.world.sbx(project, &["-q", "run", "--no-cache", "--", "true"]);
        rounds::time(&mut command, bench.interrupts)
    };
    let subjects =
        vec![Subject::new("no network", || launch(&none)), Subject::new("an allow-list", || launch(&project))];
    bench.measure(report, "allowing", bench.size.rounds * 5, subjects)
}

/// The seconds between two times of day in seconds.
fn length(line: &str) -> Option<f64> {
    let (before, after) = line.split_once(' ')?;
    let length = after.parse::<f64>().ok()? - before.parse::<f64>().ok()?;
    (length >= 0.0).then_some(length)
}

/// A server that lives as long as the process: its port, and the seconds of each stream.
fn serve(bytes: usize) -> Result<(u16, Receiver<f64>), BenchError> {
    let io = || BenchError::io("make a server");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(io())?;
    let port = listener.local_addr().map_err(io())?.port();
    let (sender, receiver) = channel();
    let work = move || {
        for stream in listener.incoming().flatten() {
            // A client that fails says so itself.
            let _ = answer(stream, bytes, &sender);
        }
    };
    thread::spawn("bench", work).map_err(io())?;
    Ok((port, receiver))
}

/// Answers one connection as its first byte says. A stream lasts until the other side has closed it.
fn answer(mut stream: TcpStream, bytes: usize, times: &Sender<f64>) -> std::io::Result<()> {
    let mut kind = [0];
    stream.read_exact(&mut kind)?;
    if kind == *b"e" {
        return stream.write_all(b"e");
    }
    let began = Instant::now();
    let mut chunk = vec![0; CHUNK];
    if kind == *b"d" {
        let mut left = bytes;
        while left > 0 {
            let length = CHUNK.min(left);
            stream.write_all(&chunk[..length])?;
            left -= length;
        }
        stream.shutdown(Shutdown::Write)?;
    }
    while stream.read(&mut chunk)? > 0 {}
    // Nobody waits any more when the bench is over.
    let _ = times.send(began.elapsed().as_secs_f64());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_and_the_server_understand_each_other() {
        let bytes = 1 << 20;
        let (port, times) = serve(bytes).unwrap();
        let client = |what: &str, count: usize| {
            let words = ["-c", CLIENT, "client", "127.0.0.1", &port.to_string(), what, &count.to_string()];
            Command::new("bash").args(words).output().unwrap()
        };
        for what in ["down", "up"] {
            assert!(client(what, bytes).status.success());
            assert!(times.recv_timeout(PATIENCE).unwrap() > 0.0, "{what}");
        }
        let said = String::from_utf8(client("echo", 3).stdout).unwrap();
        assert_eq!(said.lines().filter_map(length).count(), 3, "{said}");
        assert_eq!(length("2.5 2.0"), None);
    }
}
