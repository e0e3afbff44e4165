//! The relay carries connections as the network itself would: both directions, each ended by itself, resets, refusals,
//! slow readers, a thousand at once.

use std::fs;

use crate::rules::{NAME, allow, allow_another, allow_only, python, python_code, told_by};
use crate::servers;
use crate::support::{Live, Project};

/// `sbx run` with a Python script inside, its output in pipes.
fn start(project: &Project, code: &str) -> Live {
    project.run(["/usr/bin/python3", "-uc", &python_code(code)]).start()
}

#[test]
fn a_thousand_connections_at_once() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let rules = allow(server.port);
    let project = Project::new().config(&format!("[limits]\nopen_files = 4096\n{rules}"));
    let code = format!(
        r#"
async def main():
    everybody = asyncio.Event()
    arrived = 0

    async def one(number):
        nonlocal arrived
        reader, writer = await asyncio.open_connection("{NAME}", {port})
        arrived += 1
        if arrived == 1000:
            everybody.set()
        await everybody.wait()
        data = bytes([number % 251]) * (1000 + 7 * number)
        writer.write(b"echo\n" + data)
        writer.write_eof()
        return await reader.read() == data

    print(sum(await asyncio.gather(*(one(number) for number in range(1000)))))

asyncio.run(main())
"#,
        port = server.port
    );
    let told = python(&project, &code).ok().prints("1000\n").reached(server.port);
    let omitted = told.report["connections_omitted"].as_u64().expect("a count");
    assert_eq!(told.connections().len() as u64 + omitted, 1000);
}

#[test]
fn each_direction_ends_by_itself() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let project = Project::new().config(&allow(server.port));
    // The command's direction ends first; the answer comes after that.
    let code = format!(
        r#"
data = os.urandom(3_000_000)
expected = f"{{len(data)}} {{hashlib.sha256(data).hexdigest()}}\n".encode()
print(ask(connect("{NAME}", {port}), b"sum\n" + data) == expected)
"#,
        port = server.port
    );
    let told = python(&project, &code).ok().prints("True\n").reached(server.port);
    assert_eq!(told.connections()[0]["sent"], 3_000_004);
    // The server's ends first; the command sends on.
    let code = format!(
        r#"
connection = connect("{NAME}", {port})
connection.sendall(b"half\n")
print(read_all(connection))
connection.sendall(bytes(1_000_000))
connection.close()
"#,
        port = server.port
    );
    python(&project, &code).ok().prints("b''\n");
    crate::support::eventually("the server has it all", || server.said().contains("half 1000000\n"));
}

/// Where nobody listens on the host's side, the command learns it at once.
#[test]
fn a_refusal_outside_is_one_inside() {
    need!(Sandbox);
    let port = servers::free_port();
    let project = Project::new().config(&allow(port));
    let told = python(&project, &format!("print(try_tcp('{NAME}', {port}))"));
    let told = told.nothing_blocked();
    let said = told.ended.stdout.trim();
    assert!(["ECONNREFUSED", "ECONNRESET", "EPIPE"].contains(&said), "{:?}", told.ended);
    let error = told.connections().first().and_then(|one| one["error"].as_str()).unwrap_or_default();
    assert!(error.contains("refused"), "{:#}", told.report);
}

#[test]
fn a_reset_goes_through_in_either_direction() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let project = Project::new().config(&allow(port));
    let code = format!(
        "connection = connect('{NAME}', {port})\nconnection.sendall(b'reset\\n')\nprint(attempt(connection.recv, 1))"
    );
    python(&project, &code).ok().prints("ECONNRESET\n");
    let code = format!(
        r#"
connection = connect("{NAME}", {port})
connection.sendall(b"hold\n")
time.sleep(0.3)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
connection.close()
time.sleep(0.3)
"#
    );
    python(&project, &code).ok();
    crate::support::eventually("the server has seen it", || server.said().contains("ConnectionResetError"));
}

#[test]
fn an_idle_connection_stays() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let project = Project::new().config(&allow(server.port));
    let code = format!(
        r#"
connection = connect("{NAME}", {})
connection.sendall(b"echo\n")
time.sleep(3)
print(ask(connection, b"still here"))
"#,
        server.port
    );
    python(&project, &code).ok().prints("b'still here'\n");
}

/// The relay holds a slow side's data in the kernel's buffers, not in its own memory.
#[test]
fn a_slow_reader_holds_the_writer_back() {
    need!(Sandbox);
    const MOST_KB: u64 = 80 << 10;
    let server = servers::lines("127.0.0.1");
    let project = Project::new().config(&allow(server.port));
    let down = r#"
connection.sendall(b"send 268435456\n")
time.sleep(1)
print(len(read_all(connection)))
"#;
    let up = r#"
connection.sendall(b"late\n")
for _ in range(256):
    connection.sendall(bytes(1 << 20))
connection.shutdown(socket.SHUT_WR)
print(read_all(connection).split()[0].decode())
"#;
    for code in [down, up] {
        let code = format!("connection = connect('{NAME}', {})\n{code}\ntime.sleep(600)", server.port);
        let mut live = start(&project, &code);
        live.wait_for_line("268435456");
        let status = fs::read_to_string(format!("/proc/{}/status", live.pid())).expect("the status of sbx");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("VmHWM");
        let peak: u64 = peak.trim().trim_end_matches(" kB").parse().expect("a number");
        live.signal("TERM");
        live.end().code(143);
        assert!(peak < MOST_KB, "sbx took {peak} kB while it carried 256 MiB");
    }
}

/// A connection that a command leaves open ends with the run, on the host's side too.
#[test]
fn connections_end_with_the_run() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let project = Project::new().config(&allow(server.port));
    let code = format!(
        "connection = connect('{NAME}', {})\nconnection.sendall(b'half\\n')\nread_all(connection)\n\
         print('up')\ntime.sleep(600)",
        server.port
    );
    for signal in ["TERM", "KILL"] {
        let before = server.said().matches("half 0\n").count() + server.said().matches("ConnectionResetError").count();
        let mut live = start(&project, &code);
        live.wait_for_line("up");
        live.signal(signal);
        live.end();
        crate::support::eventually("the server's side has ended", || {
            server.said().matches("half 0\n").count() + server.said().matches("ConnectionResetError").count() > before
        });
    }
}

/// The host's side may be IPv6 whatever the command's is, and the other way round.
#[test]
fn a_server_of_either_family_is_reached_by_either() {
    need!(Sandbox);
    need!(Ipv6);
    for address in ["127.0.0.1", "::1"] {
        let server = servers::lines(address);
        let port = server.port;
        let rules = format!("[network]\nallow = ['{NAME}:{port}']\nhosts = {{ '{NAME}' = '{address}' }}\n");
        let code = format!("for family in [socket.AF_INET, socket.AF_INET6]: print(try_tcp('{NAME}', {port}, family))");
        let told = python(&Project::new().config(&rules), &code).ok().prints("hello\nhello\n").reached(port);
        assert!(told.connections().iter().all(|one| one["address"] == address), "{:#}", told.report);
    }
}

#[test]
fn datagrams_by_a_rule_for_them() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let rule = format!("udp:{NAME}:{port}");
    let both = format!("print(try_udp('{NAME}', {port}), try_tcp('{NAME}', {port}))");
    let project = Project::new().config(&allow_only(&[&rule]));
    // UDP's rule is none of TCP's, and the other way round.
    python(&project, &both).prints("udp hello ECONNREFUSED\n").blocks_port(port);
    let project = Project::new().config(&allow(port));
    let of_udp = |one: &serde_json::Value| one["protocol"] == "udp" && one["name"] == NAME && one["port"] == port;
    python(&project, &both).prints("ECONNREFUSED hello\n").blocks(&rule, Some(&rule), of_udp);
    let project = Project::new().config(&allow_another());
    python(&project, &both).prints("EAI_NONAME EAI_NONAME\n").blocks_name(NAME);
    assert!(!server.said().contains("udp\nudp"), "{}", server.said());
}

/// Many datagrams of several sockets come back to the socket that sent them.
#[test]
fn datagrams_find_their_way_back() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let project = Project::new().config(&allow_only(&[&format!("udp:{NAME}:{port}")]));
    let code = format!(
        r#"
sockets = [connect("{NAME}", {port}, 0, socket.SOCK_DGRAM) for _ in range(50)]
for turn in range(5):
    for number, one in enumerate(sockets):
        one.send(b"%d %d" % (number, turn))
    for number, one in enumerate(sockets):
        assert one.recv(100) == b"udp %d %d" % (number, turn)
big = bytes(range(256)) * 32
sockets[0].send(big)
assert sockets[0].recv(65535) == b"udp " + big
print("all")
"#
    );
    python(&project, &code).ok().prints("all\n");
}

/// The relay's listeners take no port of the command's own servers.
#[test]
fn every_port_is_free_for_the_command() {
    need!(Sandbox);
    need!(Ipv6);
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let project = Project::new().config(&allow(port));
    let code = format!(
        r#"
assert try_tcp("{NAME}", {port}) == "hello"
for family, address in [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"), (socket.AF_INET, "127.0.0.53")]:
    own = socket.socket(family)
    own.bind((address, {port}))
    own.listen()
    client = socket.create_connection((address, {port}))
    own.accept()[0].sendall(b"own")
    assert client.recv(10) == b"own"
assert try_tcp("{NAME}", {port}) == "hello"
print("both")
"#
    );
    python(&project, &code).ok().prints("both\n");
}

/// The record counts what went each way.
#[test]
fn the_record_has_every_connection() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let project = Project::new().config(&allow(server.port));
    let code = format!("for _ in range(3): print(ask(connect('{NAME}', {}), b'echo\\n12345'))", server.port);
    let told = python(&project, &code).ok();
    assert_eq!(told.report["network"], "rules");
    assert_eq!(told.connections().len(), 3, "{:#}", told.report);
    for one in told.connections() {
        assert_eq!((&one["protocol"], &one["direction"]), (&"tcp".into(), &"out".into()));
        assert_eq!((&one["name"], &one["address"]), (&NAME.into(), &"127.0.0.1".into()));
        assert_eq!((&one["sent"], &one["received"], &one["port"]), (&10.into(), &5.into(), &server.port.into()));
        assert!(one["error"].is_null(), "{one}");
    }
    // A command without connections has none.
    assert_eq!(told_by(&project, &["true"]).ok().connections().len(), 0);
}

/// A command that closes its connections and ends at once has still ended them in order, and what was refused last is told.
#[test]
fn the_last_moments_of_a_run_are_in_the_record() {
    need!(Sandbox);
    let server = servers::lines("127.0.0.1");
    let port = server.port;
    let project = Project::new().config(&allow(port));
    let code = format!(
        r#"
connection = connect("{NAME}", {port})
connection.sendall(b"echo\n12345")
assert connection.recv(5, socket.MSG_WAITALL) == b"12345"
try_tcp("{NAME}", 1)
os._exit(0)
"#
    );
    for _ in 0..20 {
        let told = python(&project, &code).reached(port).blocks_port(1);
        assert_eq!(told.connections().len(), 1, "{:#}", told.report);
        let one = &told.connections()[0];
        assert!(one["sent"] == 10 && one["received"] == 5 && one["error"].is_null(), "{one}");
    }
}
