//! The servers that the network's tests talk to. Each listens on a loopback address of the host at a port that was free,
//! and ends with its handle, also when the test fails.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tempfile::TempDir;

use crate::support::{eventually, kill, root};

/// A program that listens, and prints its port on its first line.
pub(crate) struct Server {
    child: Child,
    /// Where it listens.
    pub(crate) port: u16,
    said: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut first = String::new();
        lines.read_line(&mut first).expect("the server's first line");
        let port = first.trim().parse().unwrap_or_else(|_| panic!("{command:?}: {first:?} is no port"));
        let said = Arc::new(Mutex::new(String::new()));
        let into = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                *into.lock().expect("no panic holds it") += &(line + "\n");
            }
        });
        Self { child, port, said, reader: Some(reader) }
    }

    /// What it has printed after its port.
    pub(crate) fn said(&self) -> String {
        self.said.lock().expect("no panic holds it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.reader.take().map(JoinHandle::join);
    }
}

fn script(name: &str) -> PathBuf {
    root().join("tests/it/servers").join(name)
}

/// A web server of a directory, with more words as `servers/web.py` says.
pub(crate) fn web<'a>(dir: &Path, words: impl IntoIterator<Item = &'a str>) -> Server {
    Server::start(Command::new("/usr/bin/python3").arg(script("web.py")).arg(dir).args(words))
}

/// A server that speaks only HTTP/2, over TLS with a certificate.
pub(crate) fn http2(authority: Option<&Authority>) -> Server {
    let files = authority.map(|authority| [authority.path("cert.pem"), authority.path("key.pem")]);
    Server::start(Command::new("/usr/bin/node").arg(script("http2.mjs")).args(files.iter().flatten()))
}

/// A TCP and UDP server whose manners the first line of a connection chooses (`servers/lines.py`).
pub(crate) fn lines(address: &str) -> Server {
    Server::start(Command::new("/usr/bin/python3").arg(script("lines.py")).arg(address))
}

/// A port of 127.0.0.1 that nobody listens at, for TCP and for UDP.
pub(crate) fn free_port() -> u16 {
    loop {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        if std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// A certificate authority of the test, and a certificate of it for one name.
pub(crate) struct Authority {
    dir: TempDir,
}

impl Authority {
    /// Made by openssl(1): `ca.pem`, and `cert.pem` with `key.pem` for `name`.
    pub(crate) fn new(name: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("sbx-ca-").tempdir().expect("a temporary directory");
        let script = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 \
                        -subj /CN=test-authority -keyout ca.key -out ca.pem
                      openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj \"/CN=$0\" \
                        -keyout key.pem -out request.pem
                      printf 'subjectAltName=DNS:%s' \"$0\" > names
                      openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
                        -extfile names -out cert.pem";
        let made = Command::new("sh").args(["-ec", script, name]).current_dir(dir.path()).output().expect("sh");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        Self { dir }
    }

    /// One of its files.
    pub(crate) fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_str().expect("UTF-8").to_owned()
    }

    /// The authority's own certificate, which a client has to trust.
    pub(crate) fn certificate(&self) -> String {
        fs::read_to_string(self.path("ca.pem")).expect("ca.pem")
    }
}

/// A PostgreSQL server with a fresh data directory, a superuser `postgres` and no password.
pub(crate) struct Postgres {
    child: Child,
    /// Where it listens.
    pub(crate) port: u16,
    _data: TempDir,
}

impl Postgres {
    /// The directory of the newest PostgreSQL's own programs, as Debian has them.
    pub(crate) fn programs() -> Option<PathBuf> {
        let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql").ok()?.flatten().map(|one| one.path()).collect();
        found.sort();
        found.into_iter().rev().map(|path| path.join("bin")).find(|bin| bin.join("initdb").is_file())
    }

    fn command(program: &str) -> Command {
        // It refuses to run as root and as a user without a name: it runs in a user namespace where the caller is `nobody`.
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-user=65534", "--map-group=65534", "--"]);
        command.arg(Self::programs().expect("a PostgreSQL server").join(program));
        command
    }

    /// Makes one and waits until it takes connections.
    pub(crate) fn new() -> Self {
        let data = tempfile::Builder::new().prefix("sbx-pg-").tempdir().expect("a temporary directory");
        let dir = data.path().join("data");
        let made = Self::command("initdb")
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--no-instructions", "--locale=C.UTF-8", "-D"])
            .arg(&dir)
            .current_dir("/")
            .output()
            .expect("initdb");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        loop {
            let port = free_port();
            let mut child = Self::command("postgres")
                .args(["-h", "127.0.0.1", "-k", "", "-F", "-p", &port.to_string(), "-D"])
                .arg(&dir)
                .current_dir("/")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .expect("postgres");
            let mut ended = None;
            eventually("PostgreSQL listens", || {
                ended = child.try_wait().expect("a child");
                ended.is_some() || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
            });
            let mut errors = child.stderr.take().expect("a pipe");
            if ended.is_none() {
                std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
                return Self { child, port, _data: data };
            }
            let mut said = String::new();
            errors.read_to_string(&mut said).expect("its errors");
            // Somebody took the port in the meantime.
            assert!(said.contains("could not bind"), "postgres: {said}");
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_none()) {
            kill("INT", self.child.id());
        }
        let _ = self.child.wait();
    }
}

/// A listener that notes whether anybody ever came.
pub(crate) struct Trap {
    listener: TcpListener,
}

impl Trap {
    /// At an address of the host.
    pub(crate) fn new(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).unwrap_or_else(|error| panic!("{address}: {error}"));
        listener.set_nonblocking(true).expect("a flag");
        Self { listener }
    }

    /// Its port.
    pub(crate) fn port(&self) -> u16 {
        self.listener.local_addr().expect("an address").port()
    }

    /// Whether nobody has connected: a connection stays in the kernel's queue until it is asked for.
    pub(crate) fn is_untouched(&self) -> bool {
        self.listener.accept().is_err()
    }
}
