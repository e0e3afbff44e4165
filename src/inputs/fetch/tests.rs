//! Longer than 500 lines: a server, and a short test for each thing that a server or an archive can do.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use super::client::Patience;
use super::*;
use crate::inputs::Silent;
use crate::path::RelPath;

/// A server on loopback. What it answers to the n-th request (from 0) is for the test to say, byte by byte; the connection
/// ends after the answer.
struct Server {
    address: std::net::SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn new(mut answer: impl FnMut(usize, &str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // It ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let head = read_head(&mut stream);
                let number = {
                    let mut seen = seen.lock().unwrap();
                    seen.push(head.clone());
                    seen.len() - 1
                };
                let _client_may_be_gone = stream.write_all(&answer(number, &head));
            }
        });
        Self { address, requests }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    [format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n").as_bytes(), body]
        .concat()
}

struct Fixture {
    dir: tempfile::TempDir,
    store: Store,
    proxies: Proxies,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path().join("store")).unwrap();
        Self { dir, store, proxies: Proxies::default() }
    }

    fn client(&self) -> Client<'_> {
        let mut client = Client::new(&self.proxies, &self.store, &Silent);
        client.patience.pause = Duration::from_millis(1);
        client.patience.longest = Duration::from_millis(1);
        client
    }

    fn get(&self, url: &str, content: &[u8]) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        match self.client().get(&fetch(url, content)) {
            Ok(mut file) => file.read_to_end(&mut bytes).map(|_| bytes).map_err(|error| error.to_string()),
            Err(error) => Err(chain(&error)),
        }
    }

    /// What `content` unpacks to, in `d` of an empty project.
    fn unpack(&self, content: &[u8]) -> Result<Vec<String>, String> {
        let path = self.dir.path().join("archive");
        fs::write(&path, content).unwrap();
        let fetch = Fetch { unpack: true, ..fetch(&format!("file://{}", path.display()), content) };
        let mut manifest = Manifest::default();
        add(&mut manifest, &[fetch], &self.proxies, &self.store, &Silent).map_err(|error| chain(&error))?;
        assert!(manifest.entries.is_sorted_by(|one, other| path_order(&one.path, &other.path).is_lt()));
        assert!(manifest.entries.iter().all(|entry| entry.path.starts_with("d/")));
        Ok(manifest.entries.iter().map(shown).collect())
    }
}

fn shown(entry: &Entry) -> String {
    match &entry.node {
        Node::File { executable: true, .. } => format!("{}*", entry.path),
        Node::File { .. } => entry.path.clone(),
        Node::Symlink { target } => format!("{} -> {target}", entry.path),
        Node::EmptyDirectory => format!("{}/", entry.path),
    }
}

fn fetch(url: &str, content: &[u8]) -> Fetch {
    Fetch {
        url: FetchUrl::parse(url).unwrap(),
        sha256: Digest::of(content).hex(),
        target: RelPath::new("d").unwrap(),
        unpack: false,
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}

// --- the client ----------------------------------------------------------------------------------------------------

#[test]
fn a_file_comes_whole_and_says_who_asks() {
    let server = Server::new(|_, _| answer("200 OK", "", b"content"));
    assert_eq!(Fixture::new().get(&server.url("/a?b"), b"content").unwrap(), b"content");
    let head = server.requests.lock().unwrap()[0].to_lowercase();
    assert!(head.starts_with("get /a?b http/1.1\r\n"), "{head}");
    assert!(head.contains("user-agent: sbx/") && head.contains("accept-encoding: identity"), "{head}");
}

#[test]
fn a_file_of_unknown_size_comes_whole() {
    let server = Server::new(|_, head| match head.contains("/chunked") {
        true => b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n".to_vec(),
        false => b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\ncontent".to_vec(),
    });
    for path in ["/chunked", "/until-the-end"] {
        assert_eq!(Fixture::new().get(&server.url(path), b"content").unwrap(), b"content");
    }
}

#[test]
fn another_content_is_named_with_both_digests_and_not_tried_again() {
    let server = Server::new(|_, _| answer("200 OK", "", b"other"));
    let fixture = Fixture::new();
    let error = fixture.get(&server.url("/a"), b"content").unwrap_err();
    for part in
        ["is not what sandbox.toml declares", &Digest::of(b"content").hex(), &Digest::of(b"other").hex(), "5 bytes"]
    {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(server.count(), 1);
    assert!(fixture.store.open_blob(&Digest::of(b"other"), false).is_err());
    assert_eq!(fs::read_dir(fixture.store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn what_passes_is_tried_again() {
    for failing in ["500 X", "502 X", "503 X\r\nretry-after: 0", "429 X\r\nretry-after: 99999", "408 X"] {
        let server = Server::new(move |number, _| match number {
            0..3 => answer(failing, "", b"later"),
            _ => answer("200 OK", "", b"content"),
        });
        assert_eq!(Fixture::new().get(&server.url("/a"), b"content").unwrap(), b"content", "{failing}");
        assert_eq!(server.count(), 4);
    }
}

#[test]
fn after_four_tries_it_is_over() {
    let server = Server::new(|_, _| answer("503 Service Unavailable", "", b""));
    let error = Fixture::new().get(&server.url("/a"), b"content").unwrap_err();
    assert!(error.ends_with("/a: the server answers 503 (Service Unavailable)"), "{error}");
    assert_eq!(server.count(), 4);
}

#[test]
fn what_lasts_is_not_tried_again() {
    for status in [400, 401, 403, 404, 410, 204, 206, 304] {
        let server = Server::new(move |_, _| answer(&format!("{status} X"), "", b""));
        let error = Fixture::new().get(&server.url("/a"), b"content").unwrap_err();
        assert!(error.contains(&format!("the server answers {status}")), "{error}");
        assert_eq!(server.count(), 1, "{status}");
    }
}

#[test]
fn half_a_file_is_no_file_and_is_asked_for_again() {
    let half = || b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ncon".to_vec();
    let server = Server::new(move |number, _| if number == 0 { half() } else { answer("200 OK", "", b"content") });
    assert_eq!(Fixture::new().get(&server.url("/a"), b"content").unwrap(), b"content");
    let server = Server::new(move |_, _| half());
    let fixture = Fixture::new();
    assert!(fixture.get(&server.url("/a"), b"content").unwrap_err().contains("can't fetch"));
    assert_eq!(server.count(), 4);
    assert_eq!(fs::read_dir(fixture.store.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_server_that_stops_is_left() {
    // It answers with a part, and then holds the connection until the test is over.
    let (over, wait) = mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut held = Vec::new();
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            read_head(&mut stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\ncon").unwrap();
            held.push(stream);
        }
        let _ended = wait.recv();
    });
    let fixture = Fixture::new();
    let mut client = fixture.client();
    client.patience = Patience { progress: Duration::from_millis(50), tries: 2, ..client.patience };
    let error = client.get(&fetch(&format!("http://{address}/a"), b"content")).unwrap_err();
    assert!(chain(&error).contains("timeout"), "{}", chain(&error));
    drop(over);
    server.join().unwrap();
}

#[test]
fn a_refused_connection_is_tried_again_and_named() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = Fixture::new().get(&format!("http://{address}/a"), b"content").unwrap_err();
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn bytes_that_are_no_http_are_an_error() {
    for bytes in [
        &b"SSH-2.0-OpenSSH_9.9\r\n"[..],
        b"",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
    ] {
        let server = Server::new(|_, _| bytes.to_vec());
        assert!(Fixture::new().get(&server.url("/a"), b"content").is_err());
    }
}

#[test]
fn redirects_are_followed_and_named() {
    let server = Server::new(|_, head| match head.split(' ').nth(1).unwrap_or_default() {
        "/a" => answer("302 Found", "location: /b?c\r\n", b"away"),
        "/b?c" => answer("308 Permanent Redirect", "location: d/e\r\n", b""),
        "/d/e" => answer("200 OK", "", b"content"),
        "/none" => answer("301 Moved", "location: /gone\r\n", b""),
        "/round" => answer("307 Temporary Redirect", "location: /round\r\n", b""),
        "/nowhere" => answer("302 Found", "", b""),
        "/file" => answer("302 Found", "location: file:///etc/passwd\r\n", b""),
        "/ftp" => answer("302 Found", "location: ftp://a/\r\n", b""),
        _ => answer("404 Not Found", "", b""),
    });
    let fixture = Fixture::new();
    assert_eq!(fixture.get(&server.url("/a"), b"content").unwrap(), b"content");
    for (path, why) in [
        ("/none", "/gone): the server answers 404 (Not Found)"),
        ("/round", "the server redirects too often"),
        ("/nowhere", "the server answers 302 (Found)"),
        ("/file", "the server redirects to a file of this machine"),
        ("/ftp", "the server redirects to no URL that can be fetched"),
    ] {
        let error = fixture.get(&server.url(path), b"content").unwrap_err();
        assert!(error.contains(why), "{path}: {error}");
    }
}

#[test]
fn credentials_go_to_their_server_only_and_into_no_message() {
    let other = Server::new(|_, _| answer("404 Not Found", "", b""));
    let away = other.url("/b");
    let server = Server::new(move |number, _| match number {
        0 => answer("302 Found", "location: /same\r\n", b""),
        _ => answer("302 Found", &format!("location: {away}\r\n"), b""),
    });
    let url = format!("http://me:s%3Acret@{}/a?token=hidden", server.address);
    let error = Fixture::new().get(&url, b"content").unwrap_err();
    assert!(!["me:", "cret", "hidden", "token"].iter().any(|secret| error.contains(secret)), "{error}");
    let heads = server.requests.lock().unwrap();
    assert_eq!(heads.len(), 2);
    assert!(heads.iter().all(|head| head.contains("authorization: Basic bWU6czpjcmV0\r\n")), "{heads:?}");
    assert!(!other.requests.lock().unwrap()[0].to_lowercase().contains("authorization"));
}

#[test]
fn a_proxy_is_asked_for_a_tunnel() {
    let server = Server::new(|_, _| answer("200 OK", "", b"content"));
    let target = server.address;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap();
    let tunnel = thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let head = read_head(&mut client);
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let mut there = TcpStream::connect(target).unwrap();
        let request = read_head(&mut client);
        there.write_all(request.as_bytes()).unwrap();
        std::io::copy(&mut there, &mut client).unwrap();
        head
    });
    let variables = format!("http://me:secret@{proxy}");
    let mut fixture = Fixture::new();
    fixture.proxies = Proxies::from_variables(|name| (name == "http_proxy").then(|| variables.clone()));
    assert_eq!(fixture.get("http://files.example:81/a", b"content").unwrap(), b"content");
    let head = tunnel.join().unwrap();
    assert!(head.starts_with("CONNECT files.example:81 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains("Proxy-Authorization: Basic bWU6c2VjcmV0\r\n"), "{head}");
}

#[test]
fn a_variable_that_names_no_proxy_is_named_without_its_value() {
    let mut fixture = Fixture::new();
    fixture.proxies =
        Proxies::from_variables(|name| (name == "all_proxy").then(|| "nonsense://me:secret@p".to_owned()));
    let error = fixture.get("http://files.example/a", b"content").unwrap_err();
    assert!(error.contains("all_proxy") && !error.contains("secret"), "{error}");
}

#[test]
fn a_file_of_this_machine_is_one() {
    let fixture = Fixture::new();
    let path = fixture.dir.path().join("a b");
    fs::write(&path, "content").unwrap();
    let url = |path: &Path| format!("file://{}", path.to_str().unwrap().replace(' ', "%20"));
    assert_eq!(fixture.get(&url(&path), b"content").unwrap(), b"content");
    let error = fixture.get(&url(fixture.dir.path()), b"").unwrap_err();
    assert!(error.contains("it is not a regular file"), "{error}");
    let error = fixture.get("file:///dev/zero", b"").unwrap_err();
    assert!(error.contains("it is not a regular file"), "{error}");
    let error = fixture.get(&url(&fixture.dir.path().join("none")), b"").unwrap_err();
    assert!(error.contains("No such file"), "{error}");
}

// --- the store and the manifest ------------------------------------------------------------------------------------

#[test]
fn what_the_store_has_is_not_fetched_again() {
    let server = Server::new(|_, _| answer("200 OK", "", b"content"));
    let fixture = Fixture::new();
    let fetch = fetch(&server.url("/a"), b"content");
    let manifest = || {
        let mut manifest = Manifest::default();
        add(&mut manifest, std::slice::from_ref(&fetch), &fixture.proxies, &fixture.store, &Silent).unwrap();
        manifest
    };
    let first = manifest();
    assert_eq!(first.entries[0].node, Node::File { digest: Digest::of(b"content"), executable: false });
    assert_eq!((manifest(), server.count()), (first.clone(), 1));
    // What is damaged in the store is fetched again.
    let hex = fetch.sha256.clone();
    fs::remove_file(fixture.store.path().join("blobs").join(&hex[..2]).join(&hex[2..])).unwrap();
    assert_eq!((manifest(), server.count()), (first, 2));
}

#[test]
fn nothing_of_the_project_stands_at_a_target() {
    let fixture = Fixture::new();
    let entry = |path: &str, node: &Node| Entry { path: path.to_owned(), node: node.clone() };
    let file = Node::File { digest: Digest::of(b""), executable: false };
    let link = Node::Symlink { target: "x".to_owned() };
    let path = fixture.dir.path().join("a");
    fs::write(&path, "content").unwrap();
    let add = |entry: Entry| {
        let fetch =
            Fetch { target: RelPath::new("a/b").unwrap(), ..fetch(&format!("file://{}", path.display()), b"content") };
        let mut manifest = Manifest { entries: vec![entry] };
        add(&mut manifest, &[fetch], &fixture.proxies, &fixture.store, &Silent)
            .map(|()| manifest)
            .map_err(|error| error.to_string())
    };
    for taken in [
        entry("a/b", &file),
        entry("a/b", &link),
        entry("a/b", &Node::EmptyDirectory),
        entry("a/b/c", &file),
        entry("a", &file),
        entry("a", &link),
    ] {
        let error = add(taken.clone()).unwrap_err();
        assert!(error.starts_with("a/b: it is fetched") && error.contains(&taken.path), "{error}");
    }
    for beside in ["a/a", "a/bb", "a/b0", "b", "a/b-"] {
        assert_eq!(add(entry(beside, &file)).unwrap().entries.len(), 2, "{beside}");
    }
    let entries = add(entry("a", &Node::EmptyDirectory)).unwrap().entries;
    assert_eq!(entries.iter().map(shown).collect::<Vec<_>>(), ["a/b"]);
}

// --- archives ------------------------------------------------------------------------------------------------------

/// An entry of a tar archive: its name as bytes, its type, mode, link and content.
type Member<'m> = (&'m [u8], tar::EntryType, u32, &'m [u8], &'m [u8]);

fn tarball(members: &[Member<'_>]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, mode, link, content) in members {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
        header.set_entry_type(*kind);
        header.set_mode(*mode);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

const FILE: tar::EntryType = tar::EntryType::Regular;
const DIR: tar::EntryType = tar::EntryType::Directory;
const LINK: tar::EntryType = tar::EntryType::Symlink;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Names with their Unix modes and contents; a name that ends with `/` is a directory.
fn zipped(members: &[(&str, u32, &[u8])]) -> Vec<u8> {
    use zip::write::{SimpleFileOptions, ZipWriter};
    let mut writer = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, mode, content) in members {
        let options = SimpleFileOptions::default().unix_permissions(mode & 0o7777);
        if mode & 0o170_000 == 0o120_000 {
            writer.add_symlink(*name, str::from_utf8(content).unwrap(), options).unwrap();
        } else if name.ends_with('/') {
            writer.add_directory(*name, options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(content).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

#[test]
fn an_archive_is_the_directory_of_what_it_holds() {
    let tar = tarball(&[
        (b"./", DIR, 0o755, b"", b""),
        (b"z/run", FILE, 0o4755, b"", b"x"),
        (b"z/text", FILE, 0o2600, b"", b"y"),
        (b"z/same", tar::EntryType::Link, 0o644, b"z/text", b""),
        (b"z/link", LINK, 0o777, b"../z/./run", b""),
        (b"empty/", DIR, 0o700, b"", b""),
    ]);
    let expected = ["d/empty/", "d/z/link -> ../z/./run", "d/z/run*", "d/z/same", "d/z/text"];
    let zstd = zstd::encode_all(&*tar, 1).unwrap();
    for bytes in [tar.clone(), gzip(&tar), zstd] {
        assert_eq!(Fixture::new().unpack(&bytes).unwrap(), expected);
    }
    let zip = zipped(&[
        ("z/", 0o040_755, b""),
        ("z/run", 0o104_755, b"x"),
        ("z/text", 0o100_600, b"y"),
        ("z/link", 0o120_777, b"run"),
        ("empty/", 0o040_755, b""),
    ]);
    assert_eq!(Fixture::new().unpack(&zip).unwrap(), ["d/empty/", "d/z/link -> run", "d/z/run*", "d/z/text"]);
}

#[test]
fn nothing_of_a_tar_archive_leaves_its_directory() {
    fn link<'m>(name: &'m [u8], target: &'m [u8]) -> Member<'m> {
        (name, LINK, 0o777, target, b"")
    }
    fn file(name: &[u8]) -> Member<'_> {
        (name, FILE, 0o644, b"", b"x")
    }
    fn odd<'m>(name: &'m [u8], kind: tar::EntryType, link: &'m [u8]) -> Member<'m> {
        (name, kind, 0o644, link, b"")
    }
    for (members, fault) in [
        (vec![file(b"../x")], "../x: the name leaves the archive's tree"),
        (vec![file(b"a/../../x")], "a/../../x: the name leaves"),
        (vec![file(b"/etc/passwd")], "/etc/passwd: the name leaves"),
        (vec![file(b"a\nb")], "control character"),
        (vec![file(b"a\xff")], "not UTF-8"),
        (vec![link(b"l", b"/etc")], "l: the link leaves the archive's tree, its target is /etc"),
        (vec![link(b"l", b"..")], "l: the link leaves"),
        (vec![link(b"a/b/l", b"../../../x")], "a/b/l: the link leaves"),
        (vec![link(b"l", b"")], "l: the link's target"),
        // Each alone stays within; one by way of the other does not.
        (vec![link(b"a/b/up", b"../.."), link(b"out", b"a/b/up/..")], "out: the link leaves"),
        (vec![link(b"l", b"a"), file(b"l/x")], "l/x: the name leaves"),
        (vec![file(b"f"), file(b"f/x")], "f/x: the name leaves"),
        (vec![odd(b"h", tar::EntryType::Link, b"../x")], "leaves"),
        (vec![odd(b"h", tar::EntryType::Link, b"none")], "h: the link's target `none` can't be stored"),
        (vec![odd(b"dev", tar::EntryType::Char, b"")], "dev: a device, socket or FIFO can't be an input"),
        (vec![odd(b"dev", tar::EntryType::Block, b"")], "dev: a device"),
        (vec![odd(b"pipe", tar::EntryType::Fifo, b"")], "pipe: a device"),
        (vec![file(b"a"), file(b"a")], "a: the archive has it twice"),
        (vec![file(b"a"), file(b"./a")], "a: the archive has it twice"),
        (vec![file(b"a/x"), file(b"a")], "a: the archive has it twice"),
        (vec![file(b"a/x"), link(b"a", b"b")], "a: the archive has it twice"),
        (vec![], "it holds nothing"),
    ] {
        let error = Fixture::new().unpack(&tarball(&members)).unwrap_err();
        assert!(error.contains(fault), "{fault}: {error}");
        assert!(error.starts_with("can't unpack file:///"), "{error}");
    }
    // A loop of links leads nowhere, and so not out.
    let looped = tarball(&[link(b"a", b"b"), link(b"b", b"a")]);
    assert_eq!(Fixture::new().unpack(&looped).unwrap().len(), 2);
}

#[test]
fn nothing_of_a_zip_archive_leaves_its_directory() {
    for (members, fault) in [
        (vec![("../x", 0o100_644, &b"x"[..])], "../x: the name leaves"),
        (vec![("/etc/passwd", 0o100_644, b"x")], "the name leaves"),
        (vec![("a/../../x", 0o100_644, b"x")], "the name leaves"),
        (vec![("l", 0o120_777, b"/etc")], "l: the link leaves"),
        (vec![("l", 0o120_777, b"../x")], "l: the link leaves"),
        (vec![("a/b/up", 0o120_777, b"../.."), ("out", 0o120_777, b"a/b/up/..")], "out: the link leaves"),
        (vec![("l", 0o120_777, b"a"), ("l/x", 0o100_644, b"x")], "l/x: the name leaves"),
        (vec![("a", 0o100_644, b"x"), ("./a", 0o100_644, b"x")], "a: the archive has it twice"),
        (vec![], "it holds nothing"),
    ] {
        let error = Fixture::new().unpack(&zipped(&members)).unwrap_err();
        assert!(error.contains(fault), "{fault}: {error}");
    }
    let twice = zipped(&[("aaaa", 0o100_644, b"x"), ("bbbb", 0o100_644, b"y")]);
    let twice: Vec<u8> = twice.iter().map(|byte| if *byte == b'b' { b'a' } else { *byte }).collect();
    assert!(Fixture::new().unpack(&twice).unwrap_err().contains("two entries of one name"));
}

#[test]
fn what_an_archive_comes_to_is_bounded() {
    let zeros = vec![0; 300 << 20];
    let bomb = gzip(&tarball(&[(b"zeros", FILE, 0o644, b"", &zeros)]));
    let error = Fixture::new().unpack(&bomb).unwrap_err();
    assert!(bomb.len() < 4 << 20 && error.contains("it unpacks to more than "), "{error}");
    let zip = zipped(&[("zeros", 0o100_644, &zeros)]);
    let error = Fixture::new().unpack(&zip).unwrap_err();
    assert!(zip.len() < 4 << 20 && error.contains("it unpacks to more than 256 MiB"), "{error}");
}

#[test]
fn what_is_no_archive_is_an_error() {
    for (bytes, why) in [
        (&b"\xfd7zXZ\0..."[..], "xz is not read"),
        (b"BZh91AY", "bzip2 is not read"),
        (b"", "it holds nothing"),
        (b"PK\x03\x04 and no more", ""),
        (b"\x1f\x8b\x08 and no more", ""),
        (b"\x28\xb5\x2f\xfd and no more", ""),
        (&[b'x'; 2000], ""),
    ] {
        let error = Fixture::new().unpack(bytes).unwrap_err();
        assert!(error.starts_with("can't unpack file:///") && error.contains(why), "{error}");
    }
    // Cut or flipped anywhere it is another file, or an error, and never a panic.
    let whole = gzip(&tarball(&[(b"a", FILE, 0o644, b"", b"content")]));
    let zip = zipped(&[("a", 0o100_644, b"content")]);
    for bytes in [whole, zip] {
        for index in 0..bytes.len() {
            let fixture = Fixture::new();
            let _any = fixture.unpack(&bytes[..index]);
            let mut flipped = bytes.clone();
            flipped[index] ^= 0x41;
            let _any = fixture.unpack(&flipped);
        }
    }
}

#[test]
fn an_archive_is_unpacked_once() {
    let fixture = Fixture::new();
    let tar = tarball(&[(b"a", FILE, 0o644, b"", b"x")]);
    let first = fixture.unpack(&tar).unwrap();
    let memory = fixture.store.path().join("unpacked").join(Digest::of(&tar).hex());
    let bytes = fs::read(&memory).unwrap();
    // What is remembered is what is taken: the archive's blob is not opened a second time.
    let hex = Digest::of(&tar).hex();
    let blob = fixture.store.path().join("blobs").join(&hex[..2]).join(&hex[2..]);
    let metadata = fs::metadata(&blob).unwrap();
    assert_eq!(fixture.unpack(&tar).unwrap(), first);
    assert_eq!(
        (fs::read(&memory).unwrap(), fs::metadata(&blob).unwrap().accessed().unwrap()),
        (bytes, metadata.accessed().unwrap())
    );
    // A damaged memory is no memory.
    fs::write(&memory, "x").unwrap();
    assert_eq!(fixture.unpack(&tar).unwrap(), first);
}
