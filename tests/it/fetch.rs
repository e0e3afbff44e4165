//! `[[fetch]]`: what comes from elsewhere is checked, kept, and an input like any other. The servers stand on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use sbx::digest::Digest;

use crate::support::{Project, eventually};

/// A server that gives `answer` of each request's path, and counts the requests. It ends with the test's process.
struct Server {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

/// A connection, encrypted or not.
trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Server {
    fn new(answer: impl FnMut(&str) -> Vec<u8> + Send + 'static) -> Self {
        Self::over(answer, |stream| Box::new(stream))
    }

    fn over(
        mut answer: impl FnMut(&str) -> Vec<u8> + Send + 'static,
        wrap: impl Fn(TcpStream) -> Box<dyn Stream> + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = wrap(stream.expect("a connection"));
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
                    head.push(byte[0]);
                }
                if head.is_empty() {
                    continue;
                }
                counted.fetch_add(1, Ordering::SeqCst);
                let head = String::from_utf8_lossy(&head).into_owned();
                let path = head.split(' ').nth(1).unwrap_or_default();
                let _client_may_be_gone = stream.write_all(&answer(path)).and_then(|()| stream.flush());
            }
        });
        Self { address, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn ok(body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len()).as_bytes(), body]
        .concat()
}

fn moved(to: &str) -> Vec<u8> {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").into_bytes()
}

fn entry(url: &str, content: &[u8], target: &str) -> String {
    format!("[[fetch]]\nurl = '{url}'\nsha256 = '{}'\ntarget = '{target}'\n", Digest::of(content).hex())
}

/// A project that fetches `content` from `url` to `got/it`.
fn project(url: &str, content: &[u8]) -> Project {
    Project::new().config(&entry(url, content, "got/it"))
}

/// The files below a directory of the cache.
fn files(project: &Project, below: &str) -> Vec<String> {
    let listed =
        Command::new("find").arg(project.beside("cache").join(below)).args(["-type", "f"]).output().expect("find");
    String::from_utf8_lossy(&listed.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn what_was_fetched_is_an_input_and_is_fetched_once() {
    need!(Sandbox);
    let server = Server::new(|_| ok(b"from elsewhere\n"));
    let url = format!("http://{}/a", server.address);
    let project = project(&url, b"from elsewhere\n").file("own", "own\n");
    let text = format!("inputs = ['own']\n{}", project.read("sandbox.toml"));
    let project = project.config(&text);
    project.sbx(["check"]).ok().stderr_has(&format!("sbx: fetched {url} (15 B)"));
    let show = "cat own got/it && stat -c '%a %Y' got/it && echo changed >>got/it && cat got/it";
    let shown = "own\nfrom elsewhere\n644 315619200\nfrom elsewhere\nchanged\n";
    project.sh(show).stdout(shown).stderr_lacks("fetched");
    project.sh(show).stdout(shown);
    project
        .sbx(["hash", "--list"])
        .ok()
        .stdout_has(&format!("file  {}  got/it\n", Digest::of(b"from elsewhere\n").hex()));
    project.sbx(["plan", "--", "true"]).ok();
    assert_eq!(server.count(), 1);
    assert!(!project.has("got"));
}

#[test]
fn where_it_came_from_does_not_identify_a_run() {
    need!(Sandbox);
    let server = Server::new(|_| ok(b"content"));
    let hash = |text: &str| Project::new().config(text).sbx(["hash", "--", "true"]).ok().stdout;
    let one = hash(&entry(&format!("http://{}/a", server.address), b"content", "it"));
    let other = Project::new().file("beside", "content");
    let other = hash(&entry(&format!("file://{}", other.path("beside").display()), b"content", "it"));
    assert_eq!(one, other);
    assert_ne!(one, hash(&entry(&format!("http://{}/a", server.address), b"content", "at")));
}

#[test]
fn another_content_ends_the_run_with_both_digests_and_leaves_nothing() {
    let server = Server::new(|_| ok(b"other"));
    let project = project(&format!("http://{}/a", server.address), b"content");
    let ended = project.run(["true"]).code(125).stderr_has("is not what sandbox.toml declares");
    for digest in [Digest::of(b"content"), Digest::of(b"other")] {
        assert!(ended.stderr.contains(&digest.hex()), "{ended:?}");
    }
    ended.stderr_has("sbx: hint: if this content is the right one, declare it");
    assert_eq!((files(&project, "blobs"), files(&project, "tmp")), (Vec::new(), Vec::new()));
}

#[test]
fn what_can_t_be_fetched_is_named_with_what_helps() {
    let server = Server::new(|_| b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec());
    let url = format!("http://{}/a", server.address);
    let ended = project(&url, b"content").run(["true"]).code(125);
    ended
        .stderr_has(&format!("can't fetch {url}: the server answers 404 (Not Found)"))
        .stderr_has("hint: is the URL still right?");
    // What is wrong for the top level and for a task is said once.
    let text = entry(&url, b"content", "it") + "[task.a]\ncommand = ['true']\n";
    let ended = Project::new().config(&text).sbx(["check"]).code(1);
    assert_eq!(ended.stderr.matches("answers 404").count(), 1, "{ended:?}");
}

#[test]
fn credentials_are_in_no_message_and_no_record() {
    need!(Sandbox);
    let server = Server::new(|path| if path.starts_with("/a") { ok(b"content") } else { moved("/gone?key=tok3n") });
    let url = |path: &str| format!("http://me:secret@{}{path}?key=tok3n", server.address);
    let fetched = project(&url("/a"), b"content");
    let report = fetched.beside("report.json");
    let ended = fetched.sbx(["-v", "run", "--report"]).args([report.to_str().unwrap(), "--", "true"]).ok();
    let plan = fetched.sbx(["plan", "--json", "--", "true"]).ok().stdout;
    let failed = project(&url("/b"), b"content").sbx(["-v", "run", "true"]).code(125);
    let mut said = vec![ended.stderr, failed.stderr, plan, fs::read_to_string(report).expect("a report")];
    let kept = Command::new("grep").args(["-rlE", "secret|tok3n"]).arg(fetched.beside("cache")).output().expect("grep");
    said.push(String::from_utf8_lossy(&kept.stdout).into_owned());
    for text in said {
        assert!(!text.contains("secret") && !text.contains("tok3n"), "{text}");
    }
}

#[test]
fn an_archive_is_unpacked_to_its_directory() {
    need!(Sandbox);
    let made = Project::bare().script("z/run", "#!/bin/sh\necho unpacked\n").link("z/again", "run").dir("z/empty");
    let tar = made.command("tar").args(["-czf", "a.tar.gz", "z"]).ok();
    assert_eq!(tar.code, 0);
    let content = fs::read(made.path("a.tar.gz")).expect("the archive");
    let bytes = content.clone();
    let server = Server::new(move |_| ok(&bytes));
    let text = entry(&format!("http://{}/a.tar.gz", server.address), &content, "third_party/z") + "unpack = true\n";
    let project = Project::new().config(&text);
    project.sh("third_party/z/z/again && find third_party | sort").stdout(
        "unpacked\nthird_party\nthird_party/z\nthird_party/z/z\nthird_party/z/z/again\nthird_party/z/z/empty\nthird_party/z/z/run\n",
    );
    project.sh("third_party/z/z/run").stdout("unpacked\n");
    // Also when the store lost a part of it.
    for file in files(&project, "blobs") {
        fs::remove_file(file).expect("a blob is removed");
    }
    fs::remove_dir_all(project.beside("cache/trees")).expect("the trees are removed");
    project.sh("third_party/z/z/run").stdout("unpacked\n");
    assert_eq!(server.count(), 2);
}

#[test]
fn an_archive_that_leaves_its_directory_is_refused() {
    let made = Project::bare().link("out", "../../etc/passwd");
    made.command("tar").args(["-cf", "a.tar", "out"]).ok();
    let content = fs::read(made.path("a.tar")).expect("the archive");
    let url = format!("file://{}", made.path("a.tar").display());
    let project = Project::new().config(&(entry(&url, &content, "d") + "unpack = true\n"));
    project
        .run(["true"])
        .code(125)
        .stderr_has("out: the link leaves the archive's tree, its target is ../../etc/passwd");
}

#[test]
fn an_input_of_the_project_keeps_its_place() {
    let beside = Project::bare().file("it", "content");
    let text = entry(&format!("file://{}", beside.path("it").display()), b"content", "lib/it");
    let project = Project::new().file("lib/it", "own").config(&format!("inputs = ['lib/**']\n{text}"));
    project.run(["true"]).code(125).stderr_has("lib/it: it is fetched, and the project has the input lib/it");
    let project = Project::new().file("lib", "own").config(&format!("inputs = ['lib']\n{text}"));
    project.run(["true"]).code(125).stderr_has("lib/it: it is fetched, and the project has the input lib ");
}

#[test]
fn many_at_once_do_no_harm() {
    need!(Sandbox);
    let content = vec![b'x'; 3 << 20];
    let body = content.clone();
    let server = Server::new(move |_| ok(&body));
    let project = project(&format!("http://{}/a", server.address), &content);
    let runs: Vec<_> = (0..6).map(|_| project.sh("wc -c <got/it").start()).collect();
    for run in runs {
        run.end().code(0).stdout("3145728\n");
    }
    assert_eq!(files(&project, "tmp"), Vec::<String>::new());
}

#[test]
fn an_interrupt_ends_a_fetch_and_leaves_nothing() {
    let (asked, was_asked) = mpsc::channel();
    let (over, wait) = mpsc::channel::<()>();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n").expect("a head");
        stream.write_all(&[b'x'; 500_000]).expect("a half");
        asked.send(()).expect("the test waits");
        let _ended = wait.recv();
    });
    let project = project(&format!("http://{address}/a"), b"content");
    let live = project.run(["true"]).start();
    was_asked.recv().expect("the client asks");
    live.signal("INT");
    assert_eq!(live.end().code, 130);
    eventually("the cache is empty", || files(&project, "blobs").is_empty() && files(&project, "tmp").is_empty());
    drop(over);
    server.join().expect("the server ends");
}

#[test]
fn the_caller_s_proxies_are_used_and_excepted() {
    need!(Sandbox);
    // To the client it is a proxy; what it tunnels to is its own answer.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let proxy = listener.local_addr().expect("an address");
    let seen = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let head = head_of(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").expect("the tunnel");
        head_of(&mut stream);
        stream.write_all(&ok(b"content")).expect("the answer");
        head
    });
    let tunnelled = project("http://files.example/a", b"content");
    tunnelled.sh("cat got/it").env("http_proxy", format!("http://{proxy}")).stdout("content");
    assert!(seen.join().expect("the proxy ends").starts_with("CONNECT files.example:80 "));

    let server = Server::new(|_| ok(b"content"));
    let direct = project(&format!("http://{}/a", server.address), b"content");
    let run = direct.sh("cat got/it; env").env("ALL_PROXY", "http://files.example:1").env("NO_PROXY", "127.0.0.0/8");
    run.ok().stdout_has("content").stdout_lacks("PROXY");
}

fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8_lossy(&head).into_owned()
}

/// An authority of the test's own in `dir`, and a certificate of it for 127.0.0.1.
fn certificates(dir: &Path) {
    let script = "set -e
        ec='-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes'
        openssl req -x509 $ec -keyout ca.key -out ca.pem -days 2 -subj /CN=test-authority
        openssl req $ec -keyout key.pem -out request.pem -subj /CN=test
        printf 'subjectAltName=IP:127.0.0.1\\nbasicConstraints=CA:FALSE\\nextendedKeyUsage=serverAuth\\n' >ext
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out cert.pem";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).output().expect("openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn https_trusts_the_machine_s_certificates_and_never_goes_back_to_http() {
    need!(Sandbox);
    need!(Openssl);
    let keys = Project::bare();
    certificates(&keys.path(""));
    let chain = vec![CertificateDer::from_pem_file(keys.path("cert.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(keys.path("key.pem")).expect("a key");
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a usable certificate");
    let config = Arc::new(config);
    let plain = Server::new(|_| ok(b"content"));
    let away = format!("http://{}/a", plain.address);
    let server = Server::over(
        move |path| if path == "/away" { moved(&away) } else { ok(b"content") },
        move |stream| {
            let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a connection");
            Box::new(rustls::StreamOwned::new(connection, stream))
        },
    );
    let url = |path: &str| format!("https://{}{path}", server.address);
    let trusted = keys.path("ca.pem");
    project(&url("/a"), b"content").sh("cat got/it").env("SSL_CERT_FILE", &trusted).stdout("content");
    let refused = project(&url("/a"), b"content").run(["true"]).code(125);
    refused.stderr_has("safely: ").stderr_has("SSL_CERT_FILE can name");
    let refused = project(&url("/away"), b"content").run(["true"]).env("SSL_CERT_FILE", &trusted).code(125);
    refused.stderr_has("the server redirects from https to http");
    assert_eq!(plain.count(), 0);
}
