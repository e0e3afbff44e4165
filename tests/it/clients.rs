//! The allow-list works for every program: real clients inside, against real servers on the host. Each of them is shown
//! three times: it reaches its server by its rule; without a rule for the name it gets "no such name"; with a rule for
//! another port it is refused.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::rules::{NAME, allow, allow_another, allow_only, told};
use crate::servers::{self, Authority, Postgres};
use crate::support::{Project, toolchain};

/// What a client is expected to do.
struct Client<'a> {
    /// The rest of `sandbox.toml`, which ends at the top level or in a table of its own.
    config: &'a str,
    /// What runs inside.
    script: &'a str,
    /// What it prints when it has reached its server.
    prints: &'a str,
    /// What it says when the name does not exist.
    no_name: &'a str,
    /// What it says when it is refused.
    refused: &'a str,
}

impl Client<'_> {
    /// Shows it with its rule and without.
    fn shows(&self, project: &Project, port: u16) {
        let with = |rules: &str| {
            project.write("sandbox.toml", format!("{}\n{rules}", self.config));
            told(project, self.script)
        };
        with(&allow(port)).ok().prints(self.prints).reached(port);
        with(&allow_another()).failed().says(self.no_name).blocks_name(NAME).reached_nothing();
        with(&allow_only(&[&format!("{NAME}:1")])).failed().says(self.refused).blocks_port(port).reached_nothing();
    }
}

fn site(project: &Project) -> std::path::PathBuf {
    let site = project.beside("site");
    fs::create_dir_all(&site).expect("a directory");
    site
}

/// Runs a shell script of the host in a directory.
fn make(dir: &Path, script: &str) {
    let made = Command::new("sh")
        .args(["-ec", script])
        .current_dir(dir)
        .env("PATH", crate::support::PATH)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .output()
        .expect("sh");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

// --- the web -------------------------------------------------------------------------------------------------------

#[test]
fn curl_and_wget_by_http() {
    need!(Sandbox);
    need!(Program("curl"));
    need!(Program("wget"));
    let project = Project::new();
    fs::write(site(&project).join("hello"), "hello from outside\n").expect("a file");
    let server = servers::web(&site(&project), []);
    let url = format!("http://{NAME}:{}/hello", server.port);
    let client = Client {
        config: "",
        script: &format!("curl -sS {url}"),
        prints: "hello from outside",
        no_name: "Could not resolve host",
        refused: "Failed to connect",
    };
    client.shows(&project, server.port);
    let client = Client {
        script: &format!("wget -nv --tries=1 -O - {url}"),
        no_name: "unable to resolve host address",
        refused: "Connection refused",
        ..client
    };
    client.shows(&project, server.port);
}

#[test]
fn curl_and_wget_by_https_with_an_authority_of_their_own() {
    need!(Sandbox);
    need!(Program("curl"));
    need!(Program("wget"));
    need!(Program("openssl"));
    let authority = Authority::new(NAME);
    let project = Project::new().file("ca.pem", authority.certificate());
    fs::write(site(&project).join("hello"), "hello under TLS\n").expect("a file");
    let (cert, key) = (authority.path("cert.pem"), authority.path("key.pem"));
    let server = servers::web(&site(&project), ["--tls", &cert, &key]);
    let url = format!("https://{NAME}:{}/hello", server.port);
    let client = Client {
        config: "inputs = ['ca.pem']",
        script: &format!("curl -sS --cacert ca.pem {url}"),
        prints: "hello under TLS",
        no_name: "Could not resolve host",
        refused: "Failed to connect",
    };
    client.shows(&project, server.port);
    let client = Client {
        script: &format!("wget -nv --tries=1 --ca-certificate=ca.pem -O - {url}"),
        no_name: "unable to resolve host address",
        refused: "Connection refused",
        ..client
    };
    client.shows(&project, server.port);
    // The relay does not stand in for the server: without the authority the certificate is unknown.
    project.write("sandbox.toml", allow(server.port));
    told(&project, &format!("curl -sS {url}")).failed().says("certificate").nothing_blocked();
}

#[test]
fn curl_by_http_2() {
    need!(Sandbox);
    need!(Program("curl"));
    need!(Program("openssl"));
    need!(Program("node"));
    let authority = Authority::new(NAME);
    let project = Project::new().file("ca.pem", authority.certificate());
    let (plain, tls) = (servers::http2(None), servers::http2(Some(&authority)));
    let client = Client {
        config: "inputs = ['ca.pem']",
        script: &format!("curl -sS --http2-prior-knowledge http://{NAME}:{}/", plain.port),
        prints: "HTTP/2",
        no_name: "Could not resolve host",
        refused: "Failed to connect",
    };
    client.shows(&project, plain.port);
    let client = Client { script: &format!("curl -sS --http2 --cacert ca.pem https://{NAME}:{}/", tls.port), ..client };
    client.shows(&project, tls.port);
}

// --- version control -----------------------------------------------------------------------------------------------

/// Both of git's ways over HTTP: plain files, and its own protocol.
#[test]
fn git_clones() {
    need!(Sandbox);
    need!(Program("git"));
    let project = Project::new();
    let site = site(&project);
    let script = "git init -q -b main work && cd work && echo 'from a clone' > file && git add file
                  git -c user.name=t -c user.email=t@example.org commit -qm one
                  git clone -q --bare . ../repo.git && cd ../repo.git && git update-server-info";
    make(&site, script);
    let server = servers::web(&site, ["--git", site.to_str().expect("UTF-8")]);
    for path in ["repo.git", "git/repo.git"] {
        let client = Client {
            config: "",
            script: &format!("git clone -q http://{NAME}:{}/{path} clone && cat clone/file", server.port),
            prints: "from a clone",
            no_name: "Could not resolve host",
            refused: "Failed to connect",
        };
        client.shows(&project, server.port);
    }
}

// --- package managers ----------------------------------------------------------------------------------------------

#[test]
fn pip_installs() {
    need!(Sandbox);
    need!(Program("pip"));
    let project = Project::new();
    let script = r#"
import os, zipfile
os.makedirs("simple/greeting")
wheel = "greeting-1.0-py3-none-any.whl"
with zipfile.ZipFile("simple/greeting/" + wheel, "w") as archive:
    archive.writestr("greeting.py", "print('greetings from a wheel')\n")
    archive.writestr("greeting-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n")
    archive.writestr("greeting-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
    archive.writestr("greeting-1.0.dist-info/RECORD", "greeting.py,,\n")
with open("simple/greeting/index.html", "w") as index:
    index.write(f"<!DOCTYPE html><a href='{wheel}'>{wheel}</a>")
"#;
    let site = site(&project);
    make(&site, &format!("/usr/bin/python3 -c '{}'", script.replace('\'', "'\\''")));
    let server = servers::web(&site, []);
    let index = format!("--index-url http://{NAME}:{}/simple --trusted-host {NAME}", server.port);
    let client = Client {
        config: "",
        script: &format!(
            "/usr/bin/python3 -m pip install --retries 0 --disable-pip-version-check {index} --target /tmp/t greeting && \
             PYTHONPATH=/tmp/t /usr/bin/python3 -c 'import greeting'"
        ),
        prints: "greetings from a wheel",
        no_name: "No matching distribution found for greeting",
        refused: "No matching distribution found for greeting",
    };
    client.shows(&project, server.port);
}

#[test]
fn npm_installs() {
    need!(Sandbox);
    need!(Program("node"));
    need!(Program("npm"));
    let project = Project::new().file("package.json", r#"{"name":"app","version":"1.0.0"}"#);
    let site = site(&project);
    let script = r#"mkdir package && cd package
                    echo '{"name":"greeting","version":"1.0.0","main":"index.js"}' > package.json
                    echo 'console.log("greetings from a tarball")' > index.js && cd ..
                    tar czf greeting-1.0.0.tgz package"#;
    make(&site, script);
    let server = servers::web(&site, []);
    let tarball = format!("http://{NAME}:{}/greeting-1.0.0.tgz", server.port);
    let about = serde_json::json!({
        "name": "greeting",
        "dist-tags": { "latest": "1.0.0" },
        "versions": { "1.0.0": { "name": "greeting", "version": "1.0.0", "dist": { "tarball": tarball } } },
    });
    fs::write(site.join("greeting"), about.to_string()).expect("a file");
    let options = "--no-audit --no-fund --no-update-notifier --fetch-retries=0";
    let client = Client {
        config: "inputs = ['package.json']",
        script: &format!(
            "npm install {options} --registry http://{NAME}:{}/ greeting && node -e 'require(\"greeting\")'",
            server.port
        ),
        prints: "greetings from a tarball",
        no_name: "ENOTFOUND",
        refused: "ECONNREFUSED",
    };
    client.shows(&project, server.port);
}

/// A sparse registry of static files, with a crate in it.
fn registry(site: &Path, port: u16) {
    let script = r#"mkdir -p greeting-1.0.0/src index/gr/ee dl
                    cd greeting-1.0.0
                    printf '[package]\nname = "greeting"\nversion = "1.0.0"\nedition = "2021"\n' > Cargo.toml
                    echo 'pub fn greet() { println!("greetings from a crate") }' > src/lib.rs
                    cd .. && tar czf dl/greeting-1.0.0.crate greeting-1.0.0
                    sum=$(sha256sum < dl/greeting-1.0.0.crate | cut -c1-64)
                    printf '{"name":"greeting","vers":"1.0.0","deps":[],"cksum":"%s","features":{},"yanked":false}\n' \
                      $sum > index/gr/ee/greeting"#;
    make(site, script);
    let config = serde_json::json!({ "dl": format!("http://{NAME}:{port}/dl/{{crate}}-{{version}}.crate") });
    fs::write(site.join("index/config.json"), config.to_string()).expect("a file");
}

#[test]
fn cargo_builds_with_a_crate_of_a_registry() {
    need!(Sandbox);
    need!(Compiler);
    need!(Toolchain);
    let manifest = "[package]\nname = 'app'\nversion = '1.0.0'\nedition = '2021'\n\
                    [dependencies]\ngreeting = { version = '1', registry = 'local' }\n";
    let project = Project::new().file("Cargo.toml", manifest).file("src/main.rs", "fn main() { greeting::greet() }");
    let site = site(&project);
    let server = servers::web(&site, []);
    registry(&site, server.port);
    let source = toolchain().display();
    let client = Client {
        config: &format!(
            "inputs = ['Cargo.toml', 'src']\n[[mount]]\nsource = '{source}'\ntarget = '/opt/rust'\n\
             identity = 'declared'\nversion = 'the one that built the tests'\n\
             [env]\nset = {{ RUSTC = '/opt/rust/bin/rustc', CARGO_NET_RETRY = '0', \
             CARGO_REGISTRIES_LOCAL_INDEX = 'sparse+http://{NAME}:{}/index/' }}",
            server.port
        ),
        script: "/opt/rust/bin/cargo run -q",
        prints: "greetings from a crate",
        no_name: "Could not resolve host",
        refused: "Failed to connect",
    };
    client.shows(&project, server.port);
}

// --- a database ----------------------------------------------------------------------------------------------------

#[test]
fn psql_asks_a_postgresql_server() {
    need!(Sandbox);
    need!(Program("psql"));
    need!(Postgres);
    let server = Postgres::new();
    let client = Client {
        config: "",
        script: &format!("psql -h {NAME} -p {} -U postgres -Atc 'select 6 * 7'", server.port),
        prints: "42\n",
        no_name: "could not translate host name",
        refused: "Connection refused",
    };
    client.shows(&Project::new(), server.port);
}

// --- programs without the system's resolver ------------------------------------------------------------------------

/// Static binaries, of two C libraries, by the library's resolver and by a query that the program makes itself.
#[test]
fn static_binaries_look_up_and_connect() {
    need!(Sandbox);
    need!(Compiler);
    need!(Program("musl-gcc"));
    let project = Project::new().file("fetch.c", include_str!("probes/fetch.c"));
    fs::write(site(&project).join("hello"), "hello, static\n").expect("a file");
    let server = servers::web(&site(&project), []);
    for compiler in ["cc", "musl-gcc"] {
        make(&project.path(""), &format!("{compiler} -std=gnu11 -O1 -Wall -Wextra -static -o fetch fetch.c"));
        for resolver in ["library", "own"] {
            let client = Client {
                config: "inputs = ['fetch']",
                script: &format!("./fetch {resolver} {NAME} {} /hello", server.port),
                prints: "hello, static",
                no_name: "no such name",
                refused: "Connection refused",
            };
            client.shows(&project, server.port);
        }
    }
}
