//! What the relay of the allow-list costs: a stream in either direction, and a connection with one byte each way, against
//! plain loopback TCP.
//!
//! `cargo bench --bench network [-- MEBIBYTES]`. The same client does both, this program: outside, and inside by a rule for
//! the server's name. It measures by itself, so the launch is not counted.

mod common;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Sample, below, directory, heading, ms, ratio, row, say, sbx, side_by_side, time};

const ROUNDS: usize = 15;
const CONNECTIONS: u64 = 500;
const CHUNK: usize = 256 << 10;
/// The first byte of a connection: send me bytes, take bytes, send each byte back.
const DOWN: u8 = b'd';
const UP: u8 = b'u';
const ECHO: u8 = b'e';

/// Answers one connection as its first byte says.
fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut head = [0; 9];
    stream.read_exact(&mut head)?;
    let mut left = usize::try_from(u64::from_le_bytes(head[1..].try_into().expect("eight bytes"))).expect("a size");
    let mut chunk = vec![0; CHUNK.min(left)];
    while left > 0 {
        match head[0] {
            DOWN => {
                let length = CHUNK.min(left);
                stream.write_all(&chunk[..length])?;
                left -= length;
            }
            _ => left -= stream.read(&mut chunk)?,
        }
    }
    if head[0] == DOWN { Ok(()) } else { stream.write_all(&[0]) }
}

/// A server that lives as long as the bench.
fn serve() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("an address").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // A client that fails says so itself.
            std::thread::spawn(move || answer(stream));
        }
    });
    port
}

/// One connection of the client: from before it connects to the last byte.
fn exchange(address: std::net::SocketAddr, kind: u8, bytes: u64) -> Duration {
    let mut chunk = vec![0; CHUNK.min(usize::try_from(bytes).expect("a size"))];
    let began = Instant::now();
    let mut stream = TcpStream::connect(address).expect("the server takes connections");
    stream.set_nodelay(true).expect("an option");
    let mut head = vec![kind];
    head.extend(bytes.to_le_bytes());
    let mut left = bytes;
    if kind == ECHO {
        head.push(0);
        left = 0;
    }
    stream.write_all(&head).expect("the server takes the head");
    while left > 0 {
        let length = chunk.len().min(usize::try_from(left).expect("a size"));
        let done = if kind == DOWN {
            stream.read(&mut chunk[..length]).expect("the server sends")
        } else {
            stream.write(&chunk[..length]).expect("the server takes bytes")
        };
        assert!(done > 0, "the stream ended early");
        left -= done as u64;
    }
    if kind != DOWN {
        stream.read_exact(&mut [0]).expect("the server answers");
    }
    began.elapsed()
}

/// The client: prints the nanoseconds of each connection.
fn client(words: &[String]) {
    let [host, port, kind, bytes, count] = words else { panic!("client HOST PORT KIND BYTES COUNT") };
    let number = |word: &String| word.parse::<u64>().expect("a number");
    let port = u16::try_from(number(port)).expect("a port");
    let address = (host.as_str(), port).to_socket_addrs().expect("the name is known").next().expect("an address");
    for _ in 0..number(count) {
        say(&exchange(address, kind.as_bytes()[0], number(bytes)).as_nanos().to_string());
    }
}

/// Runs a client and gives what it measured.
fn measured(command: &mut Command) -> Vec<Duration> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().expect("the client starts");
    assert!(output.status.success(), "{command:?}: {}", output.status);
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines().map(|line| Duration::from_nanos(line.parse().expect("a number"))).collect()
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    if words.first().is_some_and(|word| word == "client") {
        return client(&words[1..]);
    }
    let mebibytes = words.iter().filter_map(|word| word.parse().ok()).next().unwrap_or(512_u64);
    let base = directory();
    let (project, cache) = (below(&base, "project"), below(&base, "cache"));
    let own = std::env::current_exe().expect("this program");
    std::fs::copy(&own, project.join("client")).expect("the client is copied");
    let port = serve();
    let config = format!(
        "inputs = ['client']\ngitignore = false\n[network]\nallow = ['bench.test:{port}']\nhosts = {{ 'bench.test' = '127.0.0.1' }}\n"
    );
    std::fs::write(project.join("sandbox.toml"), config).expect("sandbox.toml");
    let words = |host: &str, kind: u8, bytes: u64, count: u64| {
        [host, &port.to_string(), &char::from(kind).to_string(), &bytes.to_string(), &count.to_string()]
            .map(str::to_owned)
    };
    let plain = |kind, bytes, count| {
        let mut command = Command::new(&own);
        measured(command.arg("client").args(words("127.0.0.1", kind, bytes, count)))
    };
    let relayed = |kind, bytes, count| {
        let mut command = sbx(&project, &cache, &["-q", "run", "--", "./client", "client"]);
        measured(command.args(words("bench.test", kind, bytes, count)))
    };

    say(&format!("one stream of {mebibytes} MiB, {ROUNDS} rounds"));
    let bytes = mebibytes << 20;
    let mut rows = Vec::new();
    for (name, kind) in [("towards the command", DOWN), ("from the command", UP)] {
        let subjects: [&dyn Fn() -> Duration; 2] = [&|| plain(kind, bytes, 1)[0], &|| relayed(kind, bytes, 1)[0]];
        let samples = side_by_side(ROUNDS, Duration::ZERO, &subjects);
        for (subject, sample) in ["plain loopback", "the relay"].iter().zip(&samples) {
            let rate = bytes as f64 * 8.0 / sample.median().as_secs_f64() / 1e9;
            say(&format!("  {name:<20} {subject:<16} median {:>10}   {rate:>6.2} Gbit/s", ms(sample.median())));
        }
        rows.push((
            name,
            ratio(samples[0].median(), samples[1].median()),
            ratio(samples[1].median(), samples[0].median()),
        ));
    }
    heading();
    for (name, throughput, time) in rows {
        // A throughput of at least half is a time of at most twice.
        row(&format!("stream {name}: the relay's time / loopback's ({throughput:.2} of its throughput)"), time, 2.0);
    }
    say("");

    say(&format!("connect and one byte each way, {ROUNDS} rounds of {CONNECTIONS}"));
    let mut latencies = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        latencies[0].extend(plain(ECHO, 1, CONNECTIONS));
        latencies[1].extend(relayed(ECHO, 1, CONNECTIONS));
    }
    let samples = latencies.map(Sample::new);
    for (subject, sample) in ["plain loopback", "the relay"].iter().zip(&samples) {
        let [p50, p99] = [500, 990].map(|permille| sample.quantile(permille).as_secs_f64() * 1e6);
        say(&format!("  {subject:<16} p50 {p50:>8.1} µs   p99 {p99:>8.1} µs"));
    }
    for (name, permille) in [("p50", 500), ("p99", 990)] {
        let times = ratio(samples[1].quantile(permille), samples[0].quantile(permille));
        say(&format!("  {name}: the relay's / loopback's {times:.2}"));
    }
    say("");

    say("the launch of `true`, 100 rounds");
    let without = below(&base, "without");
    std::fs::write(without.join("sandbox.toml"), "inputs = []\n").expect("sandbox.toml");
    let launch = |project: &Path| time(&mut sbx(project, &cache, &["-q", "run", "--", "true"]));
    let samples = side_by_side(100, Duration::ZERO, &[&|| launch(&without), &|| launch(&project)]);
    for (subject, sample) in ["no network", "an allow-list"].iter().zip(&samples) {
        say(&format!("  {subject:<16} median {:>9}", ms(sample.median())));
    }
}
