//! Names inside: what the resolver of a run with rules answers, to libraries and to queries made by hand.

use crate::rules::{NAME, allow, allow_only, python, told};
use crate::support::Project;

/// A project where `server.test` and all below `wild.test` may be reached. Nothing here connects.
fn project() -> Project {
    Project::new().config(&allow_only(&[&format!("{NAME}:80"), "*.wild.test:80"]))
}

#[test]
fn libraries_find_both_families() {
    need!(Sandbox);
    need!(Ipv6);
    let project = project();
    let both = format!(
        r#"
for flags in [0, socket.AI_ADDRCONFIG]:
    for family, count in [(socket.AF_INET, 1), (socket.AF_INET6, 1), (socket.AF_UNSPEC, 2)]:
        found = socket.getaddrinfo("{NAME}", 80, family, socket.SOCK_STREAM, 0, flags)
        assert len(found) == count, (flags, family, found)
print("both")
"#
    );
    python(&project, &both).ok().prints("both\n");
    let script = format!("getent ahosts {NAME} | grep -c STREAM; getent ahosts a.b.wild.test | grep -c STREAM");
    told(&project, &script).ok().prints("2\n2\n");
    // The same name has the same address all along.
    told(&project, &format!("getent ahostsv4 {NAME} > a; getent ahostsv4 {NAME} > b; cmp a b")).ok();
}

#[test]
fn a_name_may_be_written_in_any_way_that_means_it() {
    need!(Sandbox);
    let code = format!(
        r#"
usual = socket.gethostbyname("{NAME}")
assert socket.gethostbyname("SeRvEr.TEST") == usual
assert socket.gethostbyname("{NAME}.") == usual
answer = ask_dns(question("sErVeR.tEsT", 1))
assert b"\x06sErVeR\x04tEsT\x00" in answer, answer
print(shown(answer))
"#
    );
    python(&project(), &code).ok().prints("('NOERROR', 1, False, 0)\n");
}

/// What is not allowed does not exist: names above, beside and below, short ones, the domain of a wildcard itself.
#[test]
fn other_names_do_not_exist() {
    need!(Sandbox);
    let names = ["other.test", "server", "test", "www.server.test", "wild.test", "server.test.wild", "xserver.test"];
    let code = format!("for name in {names:?}: print(attempt(socket.gethostbyname, name))");
    let mut told = python(&project(), &code).prints(&"EAI_NONAME\n".repeat(names.len())).reached_nothing();
    for name in names {
        told = told.blocks_name(name);
    }
    // Once each, however often it is asked for: glibc asks for two families, twice.
    let told = python(
        &project(),
        &format!(
            "for _ in range(3): {}",
            &code[code.find("print").expect("a print")..].replace("name)", "'other.test')")
        ),
    );
    let told = told.blocks_name("other.test");
    assert!(told.blocked()[0]["count"].as_u64().is_some_and(|count| count >= 3), "{:#}", told.report);
}

/// Queries that libraries make and queries that nobody should make.
#[test]
fn queries_by_hand() {
    need!(Sandbox);
    need!(Ipv6);
    let code = format!(
        r#"
def show(*words, **more):
    print(shown(ask_dns(question(*words), **more)))

for tcp in [False, True]:
    show("{NAME}", 1, tcp=tcp)              # A
    show("{NAME}", 28, tcp=tcp)             # AAAA
    show("{NAME}", 15, tcp=tcp)             # MX: the name exists, and has none
    show("{NAME}", 65, tcp=tcp)             # HTTPS
    show("other.test", 1, tcp=tcp)
    show("other.test", 15, tcp=tcp)
    show("{NAME}", 1, 4096, tcp=tcp)        # EDNS
print(shown(ask_dns(question("4.3.2.1.in-addr.arpa", 12)))[0])
"#
    );
    let one = "('NOERROR', 1, False, 0)\n('NOERROR', 1, False, 0)\n('NOERROR', 0, False, 0)\n('NOERROR', 0, False, 0)\n\
               ('NXDOMAIN', 0, False, 0)\n('NXDOMAIN', 0, False, 0)\n('NOERROR', 1, False, 1)\n";
    python(&project(), &code).prints(&format!("{one}{one}NXDOMAIN\n"));
}

/// Several queries in one connection, in pieces, and answers in their order.
#[test]
fn queries_over_one_connection() {
    need!(Sandbox);
    let code = format!(
        r#"
with socket.create_connection((resolver(), 53), 10) as connection:
    stream = b""
    for number in range(20):
        packet = question("{NAME}", 1, None, number)
        stream += struct.pack(">H", len(packet)) + packet
    for at in range(0, len(stream), 7):
        connection.sendall(stream[at : at + 7])
    answers = b""
    numbers = []
    while len(numbers) < 20:
        chunk = connection.recv(65535)
        assert chunk, numbers
        answers += chunk
        while len(answers) > 2 and len(answers) >= 2 + struct.unpack(">H", answers[:2])[0]:
            length = struct.unpack(">H", answers[:2])[0]
            numbers.append(struct.unpack(">H", answers[2:4])[0])
            answers = answers[2 + length :]
print(sorted(numbers) == list(range(20)))
"#
    );
    python(&project(), &code).ok().prints("True\n");
}

/// Bytes that are no query do no harm: the resolver still answers afterwards.
#[test]
fn garbage_is_borne() {
    need!(Sandbox);
    let code = format!(
        r#"
import random
random.seed(7)
good = question("{NAME}", 1)
packets = [b"", b"\0", good[:11], good[:13], good[:-1], good[:12] + b"\xc0\x0c\0\1\0\1", good[:12] + b"\xff" * 500]
packets += [good[:4] + b"\xff\xff" + good[6:], good[:2] + b"\x80\0" + good[4:], bytes(65000)]
packets += [random.randbytes(random.randrange(1, 600)) for _ in range(300)]
for _ in range(300):
    broken = bytearray(good)
    for _ in range(random.randrange(1, 4)):
        broken[random.randrange(len(broken))] = random.randrange(256)
    packets.append(bytes(broken))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for packet in packets:
    udp.sendto(packet, (resolver(), 53))
    with socket.create_connection((resolver(), 53)) as tcp:
        attempt(tcp.sendall, struct.pack(">H", len(packet)) + packet)
hold = [socket.create_connection((resolver(), 53)) for _ in range(100)]
print(shown(ask_dns(good)), shown(ask_dns(good, tcp=True)))
"#
    );
    let told = python(&project(), &code);
    let told = told.prints("('NOERROR', 1, False, 0) ('NOERROR', 1, False, 0)\n").reached_nothing();
    let evil = |c: char| c.is_control() && c != '\n';
    assert!(!told.ended.stderr.contains(evil), "{:?}", told.ended);
}

/// Labels with bytes that no host name has: never the allowed name, never raw on the terminal.
#[test]
fn odd_labels_are_other_names() {
    need!(Sandbox);
    let code = r#"
for labels in [[b"server.test"], [b"server\0", b"test"], [b"server\x1b[31m", b"test"], [b"ser ver", b"test"],
               [b"evil\0", b"server", b"test"], [b"\xff\xfe", b"wild", b"test"], [b"a\r\nb", b"other"], [b"*", b"wild", b"test"]]:
    print(shown(ask_dns(question(labels, 1)))[0])
"#;
    let told = python(&project(), code).reached_nothing();
    for answer in told.ended.stdout.lines() {
        assert!(["NXDOMAIN", "FORMERR", "REFUSED"].contains(&answer), "{:?}", told.ended);
    }
    assert_eq!(told.ended.stdout.lines().count(), 8);
    let evil = |c: char| c.is_control() && c != '\n';
    assert!(!told.ended.stderr.contains(evil), "{:?}", told.ended);
    for line in told.ended.stderr.lines().filter(|line| !line.is_empty()) {
        assert!(line.starts_with("sbx: ") || line.starts_with(' '), "a name made a line of its own: {line:?}");
    }
}

/// Another server's address answers nothing.
#[test]
fn there_is_no_other_resolver() {
    need!(Sandbox);
    let code = format!(
        r#"
packet = question("{NAME}", 1)
for address in ["192.0.2.53", "127.0.0.53", "127.0.0.1"]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(10)
        udp.connect((address, 53))
        print(attempt(lambda: (udp.send(packet), udp.recv(100))))
"#
    );
    let told = python(&Project::new().config(&allow(80)), &code).prints(&"ECONNREFUSED\n".repeat(3));
    told.blocks("udp:192.0.2.53:53", Some("udp:192.0.2.53:53"), |one| one["address"] == "192.0.2.53");
}

/// `/etc/resolv.conf` sends short names nowhere, and asks quickly.
#[test]
fn resolv_conf_has_one_server_and_no_search_domains() {
    need!(Sandbox);
    let conf = told(&project(), "cat /etc/resolv.conf").ok().ended.stdout;
    assert_eq!(conf.matches("nameserver ").count(), 1, "{conf}");
    assert!(!conf.contains("search") || conf.contains("search .\n"), "{conf}");
}
