//! Values that are more than their TOML type: each function reads one, or says what is wrong and what helps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::digest::parse_hex;
use crate::path::GuestPath;

use super::model::Rootfs;

/// What is wrong with a value (the key is named by the caller), and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) why: String,
    pub(super) hint: Option<String>,
}

impl Bad {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), hint: None }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A path of the host, as written.
pub(super) fn host_path(text: &str) -> Result<PathBuf, Bad> {
    if text.is_empty() {
        return Err(Bad::new("is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(Bad::new("has a control character"));
    }
    if text == "~" || text.starts_with("~/") {
        return Err(Bad::new("begins with `~`, which is not expanded").hint("write the path from `/`, or relative"));
    }
    let path = Path::new(text);
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::ParentDir if normal.parent().is_some() => _ = normal.pop(),
            std::path::Component::ParentDir if path.is_absolute() => {}
            component => normal.push(component),
        }
    }
    if normal == Path::new("/") {
        return Err(Bad::new("is the host's root").hint("name the directories that the command needs"));
    }
    if let Some(place) = ["/proc", "/sys", "/dev"].into_iter().find(|place| normal.starts_with(place)) {
        return Err(Bad::new(format!("is in the host's `{place}`")).hint("the sandbox has its own"));
    }
    Ok(path.to_owned())
}

/// A path inside that sbx leaves to the file.
pub(super) fn guest_path(text: &str) -> Result<GuestPath, Bad> {
    let path = GuestPath::new(text).map_err(|error| Bad::new(format!("is no path inside the sandbox: {error}")))?;
    if path.as_str() == "/" {
        return Err(Bad::new("is the root of the sandbox").hint("name a directory below `/`"));
    }
    for own in ["/proc", "/dev", "/sys", "/tmp"] {
        if path.is_within(&GuestPath::new(own).expect("a constant path")) {
            return Err(Bad::new(format!("is in `{own}`, which the sandbox makes itself")));
        }
    }
    for made in ["/etc", "/etc/passwd", "/etc/group", "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"] {
        if path.as_str() == made {
            return Err(Bad::new(format!("is `{made}`, which the sandbox makes itself")));
        }
    }
    Ok(path)
}

/// The longest name of a task or a scratch directory; such a name can be a file's, with something added.
const NAME_MAX: usize = 64;

/// The name of a task or a scratch directory.
pub(super) fn name(text: &str) -> Result<&str, Bad> {
    let hint = format!("letters, digits, `-`, `_` and `.`; a letter or digit first; at most {NAME_MAX}");
    let fits = (1..=NAME_MAX).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    if fits { Ok(text) } else { Err(Bad::new(format!("can't be {text:?}")).hint(hint)) }
}

/// A host name: labels of RFC 1123 (section 2.1), at most the 64 bytes that sethostname(2) takes.
pub(super) fn hostname(text: &str) -> Result<&str, Bad> {
    if text.len() > 64 {
        return Err(Bad::new(format!("has {} bytes", text.len())).hint("the kernel takes 64"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.split('.').all(is_label) {
        Ok(text)
    } else {
        Err(Bad::new("is no host name").hint("letters, digits and inner `-`, in parts of 1 to 63 with `.` between"))
    }
}

/// A user or group id: `u32::MAX` is the kernel's "no id".
pub(super) fn id(number: i64) -> Result<u32, Bad> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or_else(|| Bad::new(format!("can't be {number}")).hint("an id is from 0 to 4294967294"))
}

/// A duration above zero, in humantime's notation.
pub(super) fn duration(text: &str) -> Result<Duration, Bad> {
    match humantime::parse_duration(text) {
        Ok(Duration::ZERO) => Err(Bad::new("is zero").hint("leave the key out for no limit")),
        Ok(duration) => Ok(duration),
        Err(_) => Err(Bad::new("is no duration").hint("write it as \"90s\", \"10m\" or \"1h30m\"")),
    }
}

/// A size in bytes above zero.
pub(super) fn size(text: &str) -> Result<u64, Bad> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_start() {
        "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        "GiB" => Some(30),
        "TiB" => Some(40),
        _ => None,
    };
    let bytes = shift.and_then(|shift| digits.parse::<u64>().ok()?.checked_mul(1 << shift));
    match bytes {
        Some(0) => Err(Bad::new("is zero").hint("leave the key out for no limit")),
        Some(bytes) => Ok(bytes),
        None => Err(Bad::new("is no size").hint("write it as \"512MiB\" or \"2GiB\" (B, KiB, MiB, GiB, TiB)")),
    }
}

/// The most open files that a kernel can be set to allow (`sysctl_nr_open_max` in fs/file.c).
const OPEN_FILES_MAX: i64 = 2_147_483_584;

/// A limit of open files: descriptors 0, 1 and 2 are open from the start.
pub(super) fn open_files(number: i64) -> Result<u64, Bad> {
    (3..=OPEN_FILES_MAX)
        .contains(&number)
        .then(|| number.unsigned_abs())
        .ok_or_else(|| Bad::new(format!("can't be {number}")).hint(format!("it is from 3 to {OPEN_FILES_MAX}")))
}

/// The digits of a SHA-256.
pub(super) fn sha256(text: &str) -> Result<&str, Bad> {
    let hint = "64 lowercase hexadecimal digits";
    parse_hex(text).map(|_| text).ok_or_else(|| Bad::new("is no SHA-256").hint(hint))
}

/// `oci:PATH@sha256:HEX`
pub(super) fn image(text: &str) -> Result<Rootfs, Bad> {
    let hint = "write it as \"oci:PATH@sha256:…\", the digest of the manifest behind it";
    let parts = text.strip_prefix("oci:").and_then(|rest| rest.rsplit_once("@sha256:"));
    let (layout, hex) = parts.ok_or_else(|| Bad::new("is no image").hint(hint))?;
    let hex = sha256(hex).map_err(|_| Bad::new("has no SHA-256 of 64 lowercase hexadecimal digits").hint(hint))?;
    let layout = host_path(layout).map_err(|bad| Bad { why: format!("has a path that {}", bad.why), ..bad })?;
    Ok(Rootfs::Image { layout, sha256: hex.to_owned() })
}

/// The name of a variable that a file may set or pass.
pub(super) fn variable(name: &str) -> Result<&str, Bad> {
    if name.is_empty() {
        return Err(Bad::new("is no variable: its name is empty"));
    }
    if name.contains(['=', '\0']) {
        return Err(Bad::new("is no variable: its name has a `=` or NUL"));
    }
    if name == "SBX" || name.starts_with("SBX_") {
        return Err(Bad::new("is reserved").hint("`SBX` and names that begin with `SBX_` are sbx's own"));
    }
    Ok(name)
}

/// A value, or an argument: anything but NUL, at which the kernel ends it.
pub(super) fn no_nul(text: &str) -> Result<&str, Bad> {
    if text.contains('\0') { Err(Bad::new("has a NUL character")) } else { Ok(text) }
}
