//! Root file systems that are not the host's: a directory, archives, an image.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::Project;

/// A root of its own beside the project: the host's shell, cat and ls with their libraries, a file, and a link out of it.
fn small_root(project: &Project) -> PathBuf {
    let root = project.beside("root");
    for program in ["/bin/sh", "/bin/cat", "/bin/ls"] {
        copy_in(&root, Path::new(program));
        for library in libraries(program) {
            copy_in(&root, &library);
        }
    }
    fs::create_dir_all(root.join("opt/empty")).expect("directories");
    fs::create_dir_all(root.join("etc")).expect("a directory");
    fs::write(root.join("opt/mark"), "of the rootfs\n").expect("a file");
    fs::write(root.join("etc/passwd"), "covered\n").expect("a file");
    symlink("../../../opt/mark", root.join("opt/link")).expect("a link");
    root
}

fn copy_in(root: &Path, file: &Path) {
    let to = root.join(file.strip_prefix("/").expect("an absolute path"));
    fs::create_dir_all(to.parent().expect("a parent")).expect("directories");
    fs::copy(file, to).expect("the file is copied");
}

/// The files that ldd(1) names for a program, the dynamic linker among them.
fn libraries(program: &str) -> Vec<PathBuf> {
    let output = done(Command::new("ldd").arg(program));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    text.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

fn done(command: &mut Command) -> Output {
    let output = command.output().expect("the program runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn tar(project: &Project, root: &Path, flags: &[&str], name: &str) -> PathBuf {
    let archive = project.beside(name);
    done(Command::new("tar").args(flags).arg("-cf").arg(&archive).arg("-C").arg(root).arg("."));
    archive
}

const LOOK: &str = "cat /opt/mark /opt/link a; ls /opt; cat /etc/passwd";

/// What every kind of root shows; nothing of the host is there.
fn check(project: &Project) {
    let ended = project.sh(LOOK).ok();
    let (seen, passwd) = ended.stdout.split_at("of the rootfs\nof the rootfs\ninput\nempty\nlink\nmark\n".len());
    assert_eq!(seen, "of the rootfs\nof the rootfs\ninput\nempty\nlink\nmark\n", "{ended:?}");
    assert!(passwd.starts_with("root:x:0:"), "{ended:?}");
    project.sh("ls /usr/share").code(2);
    // What is written does not come into the store.
    project.sh("echo changed > /opt/mark; cat /opt/mark").stdout("changed\n");
    project.sh("cat /opt/mark").stdout("of the rootfs\n");
}

fn project(rootfs: &str) -> Project {
    Project::new().file("a", "input\n").config(&format!("inputs = ['a']\n[rootfs]\n{rootfs}"))
}

#[test]
fn a_directory_is_the_root() {
    need!(Sandbox);
    let project = project("dir = '../root'");
    let root = small_root(&project);
    check(&project);
    // A changed file is seen at the next run.
    fs::write(root.join("opt/mark"), "changed outside\n").expect("a file");
    project.sh("cat /opt/mark").stdout("changed outside\n");
}

#[test]
fn what_can_not_be_taken_is_named() {
    let project = project("dir = '../root'");
    let root = small_root(&project);
    fs::write(root.join("opt/a\nb"), "").expect("a file");
    fs::write(root.join("opt/c\td"), "").expect("a file");
    project.sh("true").code(125).stderr_has("opt/a\\nb");
    project.sh("true").code(125).stderr_has("opt/c\\td");
}

#[test]
fn archives_are_the_root() {
    need!(Sandbox);
    let project = project("tar = '../root.tar'");
    let root = small_root(&project);
    let plain = tar(&project, &root, &[], "root.tar");
    check(&project);
    let gzip = tar(&project, &root, &["--gzip", "--format=pax"], "root.gz");
    // The name says nothing.
    fs::rename(gzip, &plain).expect("rename");
    check(&project);
    let bytes = fs::read(tar(&project, &root, &["--format=gnu"], "root.tar")).expect("the archive");
    fs::write(&plain, zstd::stream::encode_all(bytes.as_slice(), 3).expect("zstd")).expect("the archive");
    check(&project);
}

#[test]
fn a_hostile_archive_is_refused_and_reaches_nothing() {
    let project = project("tar = '../root.tar'");
    let archive = project.beside("root.tar");
    let mut builder = tar::Builder::new(fs::File::create(&archive).expect("the archive"));
    let outside = project.beside("outside");
    fs::create_dir(&outside).expect("a directory");
    let mut member = |name: &str, kind, target: &str| {
        let mut header = tar::Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(kind);
        header.set_link_name_literal(target).expect("a short target");
        header.set_size(0);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, std::io::empty()).expect("a member");
    };
    let target = outside.to_str().expect("UTF-8");
    member("out", tar::EntryType::Symlink, target);
    member("out/evil", tar::EntryType::Regular, "");
    member("../../evil", tar::EntryType::Regular, "");
    member("passwd", tar::EntryType::Link, "/etc/passwd");
    drop(builder);
    for word in ["out/evil", "../../evil", "passwd", "3 inputs"] {
        project.sh("true").code(125).stderr_has(word);
    }
    assert_eq!(fs::read_dir(&outside).expect("the directory").count(), 0);
}

#[test]
fn a_cut_archive_is_refused() {
    let project = project("tar = '../root.tar'");
    let root = small_root(&project);
    let archive = tar(&project, &root, &["--gzip"], "root.tar");
    let bytes = fs::read(&archive).expect("the archive");
    fs::write(&archive, &bytes[..bytes.len() / 2]).expect("the archive");
    project.sh("true").code(125).stderr_has("root.tar");
}

/// A blob of the layout; gives its descriptor.
fn blob(layout: &Path, media_type: &str, bytes: &[u8]) -> String {
    let digest = sbx::digest::Digest::of(bytes);
    fs::create_dir_all(layout.join("blobs/sha256")).expect("directories");
    fs::write(layout.join("blobs/sha256").join(digest.hex()), bytes).expect("a blob");
    format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{}","size":{}}}"#, digest.hex(), digest.size)
}

/// An image of two layers, of which the second hides a file of the first; the manifest's SHA-256.
fn layout(project: &Project) -> String {
    let layout = project.beside("layout");
    let root = small_root(project);
    fs::write(root.join("opt/hidden"), "").expect("a file");
    let first = fs::read(tar(project, &root, &["--gzip"], "first")).expect("a layer");
    let upper = project.beside("upper");
    fs::create_dir_all(upper.join("opt")).expect("directories");
    fs::write(upper.join("opt/.wh.hidden"), "").expect("a file");
    let second = fs::read(tar(project, &upper, &[], "second")).expect("a layer");
    let second = zstd::stream::encode_all(second.as_slice(), 3).expect("zstd");
    let layer = "application/vnd.oci.image.layer.v1.tar";
    let (first, second) =
        (blob(&layout, &format!("{layer}+gzip"), &first), blob(&layout, &format!("{layer}+zstd"), &second));
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = format!(r#"{{"os":"linux","architecture":"{architecture}"}}"#);
    let config = blob(&layout, "application/vnd.oci.image.config.v1+json", config.as_bytes());
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{first},{second}]}}"#);
    blob(&layout, "application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
    sbx::digest::Digest::of(manifest.as_bytes()).hex()
}

#[test]
fn an_image_is_the_root() {
    need!(Sandbox);
    let project = project("");
    let hex = layout(&project);
    let project = project.config(&format!("inputs = ['a']\n[rootfs]\nimage = 'oci:../layout@sha256:{hex}'"));
    check(&project);
}

#[test]
fn a_changed_image_is_refused() {
    let project = project("");
    let hex = layout(&project);
    let project = project.config(&format!("inputs = ['a']\n[rootfs]\nimage = 'oci:../layout@sha256:{hex}'"));
    let manifest = project.beside("layout/blobs/sha256").join(&hex);
    let mut bytes = fs::read(&manifest).expect("the manifest");
    bytes.push(b' ');
    fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644)).expect("chmod");
    fs::write(&manifest, &bytes).expect("the manifest");
    project.sh("true").code(125).stderr_has(&hex);
    project.sh("true").code(125).stderr_has(&sbx::digest::Digest::of(&bytes).hex());
}
