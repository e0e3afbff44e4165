//! The whole relay, between the host's loopback and sockets that stand for those of a sandbox.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream, UdpSocket};
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};

use super::*;
use crate::config::rules::{HostName, Ports, Prefix, Publish, Rule};
use crate::net::publish::bind_published;
use crate::net::tls::tests::hello;
use crate::record::{Blocked, Connection as Connected};
use crate::sys::socket;

/// Longer than anything here takes; what waits that long has failed.
const LONG: Duration = Duration::from_secs(30);

/// Stands for a sandbox: what is made there is on the host's loopback, at a port of its own.
#[derive(Clone, Default)]
struct Fake {
    places: Arc<Mutex<HashMap<(Protocol, SocketAddr), SocketAddr>>>,
    refusals: Arc<Mutex<Vec<UdpSocket>>>,
    taken: Arc<Mutex<Option<SocketAddr>>>,
}

impl Fake {
    fn stand_in(at: SocketAddr) -> SocketAddr {
        let local: IpAddr = match at {
            SocketAddr::V4(_) if at.ip().is_unspecified() => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => "::1".parse().unwrap(),
        };
        SocketAddr::new(local, 0)
    }

    fn keep(&self, protocol: Protocol, at: SocketAddr, fd: &OwnedFd) {
        self.places.lock().unwrap().insert((protocol, at), socket::local_address(fd).unwrap());
    }

    fn place(&self, protocol: Protocol, at: SocketAddr) -> Option<SocketAddr> {
        self.places.lock().unwrap().get(&(protocol, at)).copied()
    }
}

impl Inside for Fake {
    fn listen_tcp(&mut self, at: SocketAddr) -> io::Result<OwnedFd> {
        if *self.taken.lock().unwrap() == Some(at) {
            return Err(ErrorKind::AddrInUse.into());
        }
        let fd = socket::listen_tcp(Self::stand_in(at))?;
        self.keep(Protocol::Tcp, at, &fd);
        Ok(fd)
    }

    fn bind_udp(&mut self, at: SocketAddr) -> io::Result<OwnedFd> {
        let fd = socket::bind_udp(Self::stand_in(at))?;
        if at.ip().is_unspecified() {
            crate::sys::datagram::ask_for_destination(fd.as_fd(), at.is_ipv6())?;
        }
        self.keep(Protocol::Udp, at, &fd);
        Ok(fd)
    }

    fn socket_tcp(&mut self, v6: bool) -> io::Result<OwnedFd> {
        socket::tcp(v6)
    }

    fn socket_udp(&mut self, v6: bool) -> io::Result<OwnedFd> {
        socket::udp(v6)
    }

    fn refusals(&mut self, _kind: Refusals) -> io::Result<OwnedFd> {
        let [ours, theirs] = [UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?];
        theirs.connect(ours.local_addr()?)?;
        ours.set_nonblocking(true)?;
        self.refusals.lock().unwrap().push(theirs);
        Ok(ours.into())
    }
}

/// What names lead to here: `N.to.test` to an address that is no public one.
fn look_up(name: &str) -> io::Result<Vec<IpAddr>> {
    let address = match name {
        "loopback.test" => "127.0.0.1",
        "v4.test" => "10.0.0.5",
        "metadata.test" => "169.254.169.254",
        "v6.test" => "fd00::5",
        "mapped.test" => "::ffff:127.0.0.1",
        "slow.test" => {
            std::thread::sleep(Duration::from_secs(3600));
            "127.0.0.1"
        }
        _ => return Err(io::Error::other("no such name")),
    };
    Ok(vec![address.parse().unwrap()])
}

struct World {
    relay: Relay,
    fake: Fake,
    told: Receiver<Event>,
    published: Vec<SocketAddr>,
}

struct Set {
    rules: Rules,
    descriptors: usize,
}

fn allow(entries: &[String]) -> Set {
    let allow = entries.iter().map(|entry| Rule::parse(entry).unwrap()).collect();
    Set { rules: Rules { allow, ..Rules::default() }, descriptors: 4096 }
}

impl Set {
    fn pin(mut self, name: &str, address: &str) -> Self {
        self.rules.hosts.insert(HostName::parse(name).unwrap(), address.parse().unwrap());
        self
    }

    /// A rule for loopback addresses, which no file can have.
    fn loopback(mut self, protocol: Protocol, prefix: &str, port: u16) -> Self {
        let peer = Peer::Addresses(Prefix::parse(prefix).unwrap());
        self.rules.allow.push(Rule { protocol, peer, ports: Ports::parse(&port.to_string()).unwrap() });
        self
    }

    fn publish(mut self, protocol: Protocol, inside: u16) -> Self {
        self.rules.publish.push(Publish { protocol, host: "127.0.0.1:0".parse().unwrap(), inside });
        self
    }

    fn start(self) -> World {
        let fake = Fake::default();
        self.start_in(fake)
    }

    fn start_in(self, fake: Fake) -> World {
        let (sender, told) = mpsc::channel();
        let tell = Box::new(move |event| drop(sender.send(event)));
        let published = bind_published(&self.rules.publish).unwrap();
        let at = published.iter().map(|one| socket::local_address(&one.socket).unwrap()).collect();
        let host = Host { look_up, descriptors: self.descriptors };
        let relay = start_on(host, self.rules, Box::new(fake.clone()), published, tell).unwrap();
        World { relay, fake, told, published: at }
    }
}

impl World {
    fn resolver(&self, protocol: Protocol) -> SocketAddr {
        self.fake.place(protocol, SocketAddr::new(RESOLVER.into(), 53)).unwrap()
    }

    fn ask(&self, name: &str, kind: RecordType) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(LONG)).unwrap();
        socket.send_to(&question(name, kind), self.resolver(Protocol::Udp)).unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    fn address(&self, name: &str) -> IpAddr {
        let reply = self.ask(name, RecordType::A);
        reply.answers.first().unwrap_or_else(|| panic!("{reply:?}")).data.ip_addr().unwrap()
    }

    /// Connects as a command would.
    fn connect(&self, name: &str, port: u16) -> TcpStream {
        let at = SocketAddr::new(self.address(name), port);
        connect(self.fake.place(Protocol::Tcp, at).unwrap())
    }

    fn stop(self) -> (Traffic, Vec<Event>) {
        let traffic = self.relay.stop();
        (traffic, self.told.iter().collect())
    }

    /// The next thing that is refused.
    fn blocked(&self) -> Blocked {
        match self.told.recv_timeout(LONG).unwrap() {
            Event::Blocked(blocked) => blocked,
            other => panic!("{other:?}"),
        }
    }
}

fn question(name: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message.to_vec().unwrap()
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

/// A server on the host, its port, and the rule that allows it by a name.
fn server() -> (TcpListener, u16, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port, format!("files.test:{port}"))
}

fn accept(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.set_write_timeout(Some(LONG)).unwrap();
    stream
}

fn rest(mut stream: &TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    bytes
}

/// The connection was broken off.
fn is_reset(mut stream: &TcpStream) {
    let error = stream.read(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
}

/// The only connection in the list once it is closed, which the relay does a moment after the peers see it.
fn only(traffic: &Traffic) -> &Connected {
    assert_eq!(traffic.connections.len(), 1, "{traffic:?}");
    &traffic.connections[0]
}

#[test]
fn a_name_leads_to_its_server_and_each_side_ends_on_its_own() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    let mut client = world.connect("files.test", port);
    let mut server = accept(&listener);
    client.write_all(b"GET").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&server), b"GET");
    server.write_all(b"here you are").unwrap();
    let mut half = [0; 4];
    client.read_exact(&mut half).unwrap();
    server.write_all(b"!").unwrap();
    drop(server);
    assert_eq!(rest(&client), b" you are!");
    let traffic = world.stop().0;
    let connection = only(&traffic);
    assert_eq!((connection.sent, connection.received), (3, 13));
    assert_eq!((connection.name.as_deref(), connection.address.as_deref()), (Some("files.test"), Some("127.0.0.1")));
    assert_eq!((connection.port, connection.direction.as_str(), connection.error.as_deref()), (port, "out", None));
    assert!(traffic.blocked.is_empty());
}

#[test]
fn the_server_may_end_first() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    let mut client = world.connect("files.test", port);
    let mut server = accept(&listener);
    server.write_all(b"bye").unwrap();
    server.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rest(&client), b"bye");
    client.write_all(b"late").unwrap();
    drop(client);
    assert_eq!(rest(&server), b"late");
    assert_eq!(only(&world.stop().0).error, None);
}

#[test]
fn much_goes_both_ways_past_a_slow_reader() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    let client = world.connect("files.test", port);
    let server = accept(&listener);
    let sample: Arc<Vec<u8>> = Arc::new((0..12_000_000_u32).map(|index| (index * 7 % 251) as u8).collect());
    let send = |mut stream: TcpStream| {
        let sample = Arc::clone(&sample);
        std::thread::spawn(move || {
            stream.write_all(&sample).unwrap();
            stream.shutdown(Shutdown::Write).unwrap();
        })
    };
    let senders = [send(client.try_clone().unwrap()), send(server.try_clone().unwrap())];
    // Both directions are full now, or soon; nothing is lost by reading one after the other.
    std::thread::sleep(Duration::from_millis(50));
    let back = std::thread::spawn(move || rest(&client));
    let forth = rest(&server);
    assert!(forth == *sample && back.join().unwrap() == *sample);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let traffic = world.stop().0;
    assert_eq!((only(&traffic).sent, only(&traffic).received), (12_000_000, 12_000_000));
}

#[test]
fn a_refusal_outside_is_a_refusal_inside() {
    let (listener, port, rule) = server();
    drop(listener);
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    is_reset(&world.connect("files.test", port));
    let traffic = world.stop().0;
    assert!(only(&traffic).error.as_ref().unwrap().contains("refused"), "{traffic:?}");
    assert!(traffic.blocked.is_empty());
}

#[test]
fn a_name_that_has_no_address_is_a_refusal_too() {
    let world = allow(&["unknown.test:80".to_owned()]).start();
    is_reset(&world.connect("unknown.test", 80));
    let traffic = world.stop().0;
    assert_eq!(only(&traffic).error.as_deref(), Some("can't resolve unknown.test: no such name"));
    assert_eq!(only(&traffic).address, None);
}

#[test]
fn a_reset_is_passed_on_as_a_reset() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    for from_server in [true, false] {
        let mut client = world.connect("files.test", port);
        let mut server = accept(&listener);
        client.write_all(b"x").unwrap();
        server.read_exact(&mut [0]).unwrap();
        let (broken, other) = if from_server { (server, client) } else { (client, server) };
        socket::break_off(&broken);
        drop(broken);
        is_reset(&other);
    }
    let traffic = world.stop().0;
    assert!(traffic.connections.iter().all(|one| one.error.as_deref() == Some("one side broke it off")), "{traffic:?}");
}

#[test]
fn what_was_sent_before_a_reset_arrives() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    let mut client = world.connect("files.test", port);
    let mut server = accept(&listener);
    client.write_all(b"more than the server reads").unwrap();
    server.read_exact(&mut [0; 4]).unwrap();
    server.write_all(b"413 too large").unwrap();
    // With bytes unread its closing is a reset.
    drop(server);
    let mut text = Vec::new();
    let error = client.read_to_end(&mut text).unwrap_err();
    assert_eq!((text.as_slice(), error.kind()), (&b"413 too large"[..], ErrorKind::ConnectionReset));
    world.stop();
}

#[test]
fn a_client_that_is_gone_before_its_server_is_found_is_forgotten() {
    let world = allow(&["slow.test:80".to_owned()]).start();
    let client = world.connect("slow.test", 80);
    socket::break_off(&client);
    drop(client);
    let mut traffic = world.stop().0;
    assert_eq!(traffic.connections.pop().unwrap().error.as_deref(), Some("the client broke it off"));
}

#[test]
fn names_that_no_rule_allows_are_told_once() {
    let world = allow(&["*.files.test:80".to_owned()]).start();
    for _ in 0..3 {
        let reply = world.ask("evil.test", RecordType::A);
        assert_eq!(reply.metadata.response_code, ResponseCode::NXDomain);
    }
    let blocked = world.blocked();
    assert_eq!((blocked.name.as_deref(), blocked.protocol, blocked.port), (Some("evil.test"), None, None));
    assert_eq!(blocked.remedy.as_deref(), Some("allow = [\"evil.test:443\"] # or another port"));
    let name = world.address("a.files.test");
    assert_eq!(world.address("A.Files.TEST"), name);
    assert_ne!(world.address("b.c.files.test"), name);
    let (traffic, rest) = world.stop();
    assert_eq!((traffic.blocked.len(), traffic.blocked[0].count, rest.len()), (1, 3, 0));
}

#[test]
fn a_name_leads_to_no_address_that_is_not_public() {
    let names = ["loopback.test", "v4.test", "metadata.test", "v6.test", "mapped.test"];
    let rules: Vec<_> = names.iter().map(|name| format!("{name}:80")).collect();
    let world = allow(&rules).start();
    for (name, address, kind) in [
        ("loopback.test", "127.0.0.1", "a loopback address"),
        ("v4.test", "10.0.0.5", "a private address"),
        ("metadata.test", "169.254.169.254", "the address of a cloud's metadata"),
        ("v6.test", "fd00::5", "a private address"),
        ("mapped.test", "127.0.0.1", "a loopback address"),
    ] {
        is_reset(&world.connect(name, 80));
        let blocked = world.blocked();
        assert_eq!(blocked.reason, format!("{name} resolves to {address}, {kind}"));
        assert_eq!(blocked.remedy, Some(format!("hosts = {{ \"{name}\" = \"{address}\" }}")));
        assert_eq!((blocked.address.as_deref(), blocked.port), (Some(address), Some(80)));
    }
    assert!(world.stop().0.connections.iter().all(|one| one.address.is_none() && one.error.is_some()));
}

#[test]
fn an_address_that_a_rule_allows_by_number_is_one_that_a_name_may_lead_to() {
    let (listener, port, _) = server();
    let set = allow(&[format!("loopback.test:{port}")]).loopback(Protocol::Tcp, "127.0.0.1", port);
    let world = set.start();
    let mut client = world.connect("loopback.test", port);
    accept(&listener).write_all(b"found").unwrap();
    let mut text = [0; 5];
    client.read_exact(&mut text).unwrap();
    world.stop();
}

#[test]
fn one_listener_for_many_addresses_takes_those_of_the_rule() {
    let server = TcpListener::bind("127.1.2.3:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let world = allow(&[]).loopback(Protocol::Tcp, "127.0.0.0/9", port).start();
    let any = world.fake.place(Protocol::Tcp, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).unwrap();
    let client = connect(SocketAddr::new([127, 1, 2, 3].into(), any.port()));
    drop(accept(&server));
    assert!(rest(&client).is_empty());
    is_reset(&connect(SocketAddr::new([127, 200, 0, 1].into(), any.port())));
    // A loopback address is the sandbox's own: nothing to report.
    let (traffic, told) = world.stop();
    assert_eq!((only(&traffic).address.as_deref(), told.len()), (Some("127.1.2.3"), 0));
}

#[test]
fn what_the_kernel_refuses_inside_is_told_by_its_name() {
    let world = allow(&["files.test:443".to_owned()]).start();
    let IpAddr::V4(address) = world.address("files.test") else { panic!("IPv4") };
    let mut reset = vec![0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
    reset.extend_from_slice(&address.octets());
    reset.extend_from_slice(&[127, 0, 0, 1, 0, 22, 200, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0x50, 0x14, 0, 0, 0, 0, 0, 0]);
    let mut by_number = reset.clone();
    by_number[12..16].copy_from_slice(&[192, 0, 2, 1]);
    for packet in [&reset, &by_number] {
        world.fake.refusals.lock().unwrap()[0].send(packet).unwrap();
    }
    let blocked = world.blocked();
    assert_eq!((blocked.name.as_deref(), blocked.port), (Some("files.test"), Some(22)));
    assert_eq!(blocked.remedy.as_deref(), Some("allow = [\"files.test:22\"]"));
    let blocked = world.blocked();
    assert_eq!((blocked.name, blocked.address.as_deref(), blocked.port), (None, Some("192.0.2.1"), Some(22)));
    world.stop();
}

#[test]
fn tls_must_ask_for_the_name_that_was_connected_to() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    for name in ["files.test", "FILES.test", "192.0.2.1"] {
        let mut client = world.connect("files.test", port);
        let mut server = accept(&listener);
        let greeting = hello(name);
        // In two pieces: it is held back until it is whole.
        client.write_all(&greeting[..50]).unwrap();
        server.write_all(b"first").unwrap();
        client.read_exact(&mut [0; 5]).unwrap();
        client.write_all(&greeting[50..]).unwrap();
        let mut got = vec![0; greeting.len()];
        server.read_exact(&mut got).unwrap();
        assert!(got == greeting);
    }
    let mut client = world.connect("files.test", port);
    let server = accept(&listener);
    client.write_all(&hello("other.test")).unwrap();
    is_reset(&client);
    is_reset(&server);
    let blocked = world.blocked();
    assert_eq!(blocked.reason, "the TLS client asks for other.test on a connection to files.test");
    assert_eq!(blocked.remedy, Some(format!("allow = [\"other.test:{port}\"]")));
    let (traffic, _) = world.stop();
    assert_eq!(traffic.connections[3].sent, 0);
}

#[test]
fn names_are_answered_over_tcp_too() {
    let world = allow(&["files.test:80".to_owned()]).start();
    let mut asker = connect(world.resolver(Protocol::Tcp));
    let mut bytes = Vec::new();
    for kind in [RecordType::A, RecordType::AAAA] {
        let question = question("files.test", kind);
        bytes.extend_from_slice(&(question.len() as u16).to_be_bytes());
        bytes.extend_from_slice(&question);
    }
    // In pieces, both at once.
    for piece in bytes.chunks(7) {
        asker.write_all(piece).unwrap();
    }
    asker.shutdown(Shutdown::Write).unwrap();
    let replies = rest(&asker);
    let length = usize::from(u16::from_be_bytes([replies[0], replies[1]]));
    let first = Message::from_vec(&replies[2..2 + length]).unwrap();
    let second = Message::from_vec(&replies[4 + length..]).unwrap();
    let shown = [first, second].map(|reply| reply.answers[0].data.to_string());
    assert_eq!(shown, ["198.18.1.0", "2001:2::100"]);
    world.stop();
}

#[test]
fn datagrams_go_to_a_name_and_back() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let world = allow(&[format!("udp:time.test:{port}")]).pin("time.test", "127.0.0.1").start();
    let at = SocketAddr::new(world.address("time.test"), port);
    assert_eq!(world.fake.place(Protocol::Tcp, at), None, "no TCP listener for a rule of UDP");
    let at = world.fake.place(Protocol::Udp, at).unwrap();
    let clients = [0; 2].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap());
    let mut buffer = [0; 100];
    for (index, client) in clients.iter().enumerate() {
        client.set_read_timeout(Some(LONG)).unwrap();
        client.connect(at).unwrap();
        client.send(&vec![b'x'; 5 + index]).unwrap();
        let (length, peer) = server.recv_from(&mut buffer).unwrap();
        server.send_to(&buffer[..length - 1], peer).unwrap();
    }
    for (index, client) in clients.iter().enumerate() {
        assert_eq!(client.recv(&mut buffer).unwrap(), 4 + index);
    }
    let traffic = world.stop().0;
    let carried: Vec<_> = traffic.connections.iter().map(|one| (one.sent, one.received)).collect();
    assert_eq!(carried, [(5, 4), (6, 5)]);
    assert_eq!(traffic.connections[0].protocol, "udp");
}

#[test]
fn datagrams_are_answered_from_the_address_that_was_asked() {
    let server = UdpSocket::bind("127.3.2.1:0").unwrap();
    let port = server.local_addr().unwrap().port();
    let world = allow(&[]).loopback(Protocol::Udp, "127.0.0.0/9", port).start();
    let any = world.fake.place(Protocol::Udp, SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port)).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(LONG)).unwrap();
    client.connect(SocketAddr::new([127, 3, 2, 1].into(), any.port())).unwrap();
    client.send(b"ping").unwrap();
    let mut buffer = [0; 100];
    let (length, peer) = server.recv_from(&mut buffer).unwrap();
    server.send_to(&buffer[..length], peer).unwrap();
    assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    client.connect(SocketAddr::new([127, 200, 0, 1].into(), any.port())).unwrap();
    client.send(b"ping").unwrap();
    let traffic = world.stop().0;
    assert_eq!((only(&traffic).sent, only(&traffic).received), (4, 4));
}

#[test]
fn a_published_port_leads_inside() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let inside = TcpListener::bind(address).unwrap();
        let port = inside.local_addr().unwrap().port();
        let world = allow(&[]).publish(Protocol::Tcp, port).start();
        let mut client = connect(world.published[0]);
        let mut server = accept(&inside);
        client.write_all(b"hello").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(rest(&server), b"hello");
        server.write_all(b"hi").unwrap();
        drop(server);
        assert_eq!(rest(&client), b"hi");
        let traffic = world.stop().0;
        let connection = only(&traffic);
        assert_eq!((connection.direction.as_str(), connection.port), ("in", port));
        assert_eq!((connection.sent, connection.received, connection.error.as_deref()), (2, 5, None));
        assert_eq!(connection.address.as_deref(), Some("127.0.0.1"));
    }
}

#[test]
fn a_published_port_with_nobody_inside_is_refused() {
    let (listener, port, _) = server();
    drop(listener);
    let world = allow(&[]).publish(Protocol::Tcp, port).start();
    is_reset(&connect(world.published[0]));
    world.stop();
}

#[test]
fn a_published_port_takes_datagrams() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let inside = UdpSocket::bind(address).unwrap();
        let port = inside.local_addr().unwrap().port();
        let world = allow(&[]).publish(Protocol::Udp, port).start();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.set_read_timeout(Some(LONG)).unwrap();
        client.connect(world.published[0]).unwrap();
        client.send(b"ping").unwrap();
        let mut buffer = [0; 100];
        let (length, peer) = inside.recv_from(&mut buffer).unwrap();
        inside.send_to(&buffer[..length], peer).unwrap();
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
        let traffic = world.stop().0;
        assert_eq!(only(&traffic).direction, "in");
        assert_eq!(only(&traffic).received, 4, "{traffic:?}");
    }
}

#[test]
fn hundreds_of_connections_live_side_by_side() {
    let (listener, port, rule) = server();
    let world = allow(&[rule]).pin("files.test", "127.0.0.1").start();
    let at = SocketAddr::new(world.address("files.test"), port);
    let at = world.fake.place(Protocol::Tcp, at).unwrap();
    let mut pairs: Vec<_> = (0..150_u8)
        .map(|index| {
            let client = connect(at);
            // No byte that a TLS client could begin with.
            (&client).write_all(&[index + 100]).unwrap();
            (client, accept(&listener))
        })
        .collect();
    // Whichever server a client got, it knows the client by its byte.
    for (_, server) in &mut pairs {
        let mut byte = [0];
        server.read_exact(&mut byte).unwrap();
        server.write_all(&byte).unwrap();
    }
    for (index, (client, _)) in pairs.iter_mut().enumerate() {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(usize::from(byte[0]), index + 100);
    }
    drop(pairs);
    assert_eq!(world.stop().0.connections.len(), 150);
}

#[test]
fn without_descriptors_new_connections_wait() {
    let (listener, port, rule) = server();
    let mut set = allow(&[rule]).pin("files.test", "127.0.0.1");
    set.descriptors = SPARE + 16;
    let world = set.start();
    let at = SocketAddr::new(world.address("files.test"), port);
    let at = world.fake.place(Protocol::Tcp, at).unwrap();
    let clients: Vec<_> = (0..20).map(|_| connect(at)).collect();
    let told = world.told.recv_timeout(LONG).unwrap();
    assert!(matches!(&told, Event::Failed { what, .. } if what.contains("too many connections")), "{told:?}");
    // As the first ones end the others get their turn.
    for client in clients {
        drop(accept(&listener));
        drop(client);
    }
    let (traffic, told) = world.stop();
    assert_eq!((traffic.connections.len(), told.len()), (20, 0));
}

#[test]
fn a_name_that_can_t_be_served_is_a_failure_that_is_told() {
    let fake = Fake::default();
    *fake.taken.lock().unwrap() = Some("198.18.1.0:81".parse().unwrap());
    let world = allow(&["files.test:80,81".to_owned()]).start_in(fake);
    for _ in 0..2 {
        assert_eq!(world.ask("files.test", RecordType::A).metadata.response_code, ResponseCode::ServFail);
    }
    *world.fake.taken.lock().unwrap() = None;
    assert_eq!(world.address("files.test").to_string(), "198.18.1.0");
    let (_, told) = world.stop();
    assert!(matches!(&told[..], [Event::Failed { what, .. }] if what.contains("files.test")), "{told:?}");
}

#[test]
fn rules_that_need_too_many_sockets_are_refused() {
    let mut set = allow(&["files.test:1-1024".to_owned()]);
    set.descriptors = 1024;
    let host = Host { look_up, descriptors: set.descriptors };
    let error = start_on(host, set.rules, Box::new(Fake::default()), Vec::new(), Box::new(|_| ())).unwrap_err();
    assert!(matches!(error, NetError::TooMany { needed: 2048, most: 448 }), "{error:?}");
}

/// Counts descriptors and threads of this process: for a process that runs nothing else.
#[test]
#[ignore = "needs a process of its own, which the next test gives it"]
fn alone_a_stopped_relay_leaves_nothing() {
    let count = |what: &str| std::fs::read_dir(format!("/proc/self/{what}")).unwrap().count();
    let (listener, port, rule) = server();
    let before = (count("fd"), count("task"));
    let rules = [rule, "slow.test:80".to_owned(), "udp:slow.test:80".to_owned(), format!("udp:files.test:{port}")];
    let world = allow(&rules).pin("files.test", "127.0.0.1").start();
    let client = world.connect("files.test", port);
    let server = accept(&listener);
    // Bytes under way, a connection that waits for its name, and datagrams.
    server.set_nonblocking(true).unwrap();
    while (&server).write(&[0; 65_536]).is_ok() {}
    let waiting = world.connect("slow.test", 80);
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    for name in ["slow.test", "files.test"] {
        let at = SocketAddr::new(world.address(name), if name == "slow.test" { 80 } else { port });
        datagrams.send_to(b"x", world.fake.place(Protocol::Udp, at).unwrap()).unwrap();
    }
    let asker = connect(world.resolver(Protocol::Tcp));
    let (traffic, _) = world.stop();
    assert_eq!(traffic.connections.len(), 4, "{traffic:?}");
    let cut = traffic.connections.iter().filter(|one| one.error.as_deref() == Some("the run ended"));
    assert!(cut.count() == 2 && traffic.connections[0].error.is_some(), "{traffic:?}");
    drop((client, server, waiting, datagrams, asker));
    // The one thread that looks `slow.test` up, if it had begun, has not come back, and holds nothing.
    assert_eq!(count("fd"), before.0);
    assert!((before.1..=before.1 + 1).contains(&count("task")));
}

#[test]
fn a_stopped_relay_leaves_nothing() {
    let name = "net::relay::tests::alone_a_stopped_relay_leaves_nothing";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
