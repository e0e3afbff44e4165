//! Published ports: a server inside, reached from the host.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use crate::rules::python_code;
use crate::servers::free_port;
use crate::support::{Live, Project, eventually};

/// A server inside at a port of TCP and UDP; it says `ready`, and ends after it was told so by TCP.
fn serve(project: &Project, port: u16) -> Live {
    let code = format!(
        r#"
tcp = socket.create_server(("127.0.0.1", {port}))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", {port}))

import threading
def datagrams():
    while True:
        data, peer = udp.recvfrom(65535)
        udp.sendto(b"inside " + data, peer)
threading.Thread(target=datagrams, daemon=True).start()
print("ready")
while True:
    connection, peer = tcp.accept()
    data = read_all(connection)
    connection.sendall(b"inside " + data)
    connection.close()
    if data == b"end":
        break
"#
    );
    let run = project.sbx(["run", "--report", "report.json", "--", "/usr/bin/python3", "-uc", &python_code(&code)]);
    let mut live = run.start();
    live.wait_for_line("ready");
    live
}

fn ask(port: u16, text: &str) -> String {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the published port takes connections");
    stream.write_all(text.as_bytes()).expect("it takes bytes");
    stream.shutdown(Shutdown::Write).expect("it takes an end");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    answer
}

#[test]
fn a_server_inside_is_reached_by_tcp_and_udp() {
    need!(Sandbox);
    for inside in [8080, 80] {
        let port = free_port();
        let rules = format!("[network]\npublish = ['127.0.0.1:{port}:{inside}', 'udp:127.0.0.1:{port}:{inside}']");
        let project = Project::new().config(&rules);
        let live = serve(&project, inside);
        assert_eq!(ask(port, "hello"), "inside hello");
        let big = "x".repeat(1 << 20);
        assert_eq!(ask(port, &big), format!("inside {big}"));
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        socket.send_to(b"hello", (Ipv4Addr::LOCALHOST, port)).expect("it is sent");
        let mut answer = [0; 100];
        let length = socket.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..length], b"inside hello");
        assert_eq!(ask(port, "end"), "inside end");
        live.end().code(0);
        let report: serde_json::Value = serde_json::from_str(&project.read("report.json")).expect("JSON");
        let incoming = report["connections"].as_array().expect("a list");
        let count =
            |protocol| incoming.iter().filter(|one| one["direction"] == "in" && one["protocol"] == protocol).count();
        assert_eq!((count("tcp"), count("udp")), (3, 1), "{report:#}");
        assert!(incoming.iter().all(|one| one["port"] == inside), "{report:#}");
        // The port is the host's again.
        eventually("the port is free", || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}

/// A published port leads nowhere until the command listens, and lets nothing out.
#[test]
fn publishing_allows_nothing_else() {
    need!(Sandbox);
    let (port, trap) = (free_port(), crate::servers::Trap::new(Ipv4Addr::LOCALHOST.into()));
    let project = Project::new().config(&format!("[network]\npublish = ['127.0.0.1:{port}:8080']"));
    let code = format!(
        "print(try_tcp('127.0.0.1', {}), try_tcp('127.0.0.1', {port}), attempt(socket.gethostbyname, 'other.test'))\n\
         print('up')\ntime.sleep(600)",
        trap.port()
    );
    let mut live = project.run(["/usr/bin/python3", "-uc", &python_code(&code)]).start();
    live.wait_for_line("ECONNREFUSED ECONNREFUSED EAI_NONAME");
    live.wait_for_line("up");
    // Nobody listens inside.
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("sbx listens");
    let mut nothing = Vec::new();
    assert!(stream.read_to_end(&mut nothing).is_err() || nothing.is_empty());
    live.signal("TERM");
    live.end().code(143);
    assert!(trap.is_untouched());
}

#[test]
fn an_address_in_use_is_an_error_before_the_command_starts() {
    need!(Sandbox);
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let taken_port = taken.local_addr().expect("an address").port();
    let free = free_port();
    // The first half could be bound; the second can't.
    let rules = format!("[network]\npublish = ['127.0.0.1:{free}:8080', '127.0.0.1:{taken_port}:8081']");
    let ended = Project::new().config(&rules).run(["echo", "it ran"]).code(125).stdout("");
    let ended = ended.stderr_has(&format!("127.0.0.1:{taken_port}")).stderr_has("in use");
    assert!(!ended.stderr.contains("os error"), "{ended:?}");
    drop(TcpListener::bind((Ipv4Addr::LOCALHOST, free)).expect("nothing holds the first half"));
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let udp_port = udp.local_addr().expect("an address").port();
    let rules = format!("[network]\npublish = ['127.0.0.1:{free}:8080', 'udp:127.0.0.1:{udp_port}:8081']");
    Project::new().config(&rules).run(["echo", "it ran"]).code(125).stdout("").stderr_has("in use");
    drop(TcpListener::bind((Ipv4Addr::LOCALHOST, free)).expect("nothing holds the first half"));
    // An address that is none of the host's.
    let rules = format!("[network]\npublish = ['203.0.113.77:{free}:8080']");
    Project::new().config(&rules).run(["echo", "it ran"]).code(125).stdout("").stderr_has("203.0.113.77");
}
