//! Values that are more than their TOML type: each function reads one, or says what is wrong and what helps.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use syscalls::{aarch64, x86_64};

use crate::digest::parse_hex;
use crate::path::{GuestPath, RelPath, STAGING_PREFIX};

use super::model::{CPU_PERIOD_US, Rootfs};

/// What is wrong with a value, and what helps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bad {
    /// The end of a sentence that begins with the value.
    pub why: String,
    /// What to write instead.
    pub hint: Option<String>,
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

/// What the store may take, in bytes.
pub(super) fn cache_size(text: &str) -> Result<u64, Bad> {
    size(text).map_err(|bad| match bad.why.as_str() {
        "is zero" => bad.hint("leave the key out for the default"),
        _ => bad,
    })
}

/// More threads than this bring nothing.
const JOBS_MAX: usize = 1024;

/// A number of threads.
pub(super) fn jobs(number: i64) -> Result<NonZero<usize>, Bad> {
    usize::try_from(number)
        .ok()
        .filter(|number| *number <= JOBS_MAX)
        .and_then(NonZero::new)
        .ok_or_else(|| Bad::new(format!("can't be {number}")).hint(format!("it is from 1 to {JOBS_MAX}")))
}

/// A directory of the host that does not depend on where sbx is started.
pub(super) fn absolute_path(text: &str) -> Result<PathBuf, Bad> {
    let path = Path::new(text);
    if text.chars().any(char::is_control) {
        return Err(Bad::new("has a control character"));
    }
    if !path.is_absolute() {
        return Err(Bad::new("is no absolute path").hint("write it from `/`; `~` and variables are not expanded"));
    }
    Ok(path.to_owned())
}

/// The most open files that a kernel can be set to allow (`sysctl_nr_open_max` in fs/file.c).
const OPEN_FILES_MAX: i64 = 2_147_483_584;

/// The name of a system call on any machine that sbx filters calls on.
pub(super) fn system_call(name: &str) -> Result<&str, Bad> {
    if name.parse::<x86_64::Sysno>().is_ok() || name.parse::<aarch64::Sysno>().is_ok() {
        return Ok(name);
    }
    let alike = |known: &&str| strsim::damerau_levenshtein(known, name) <= 2;
    let known = x86_64::Sysno::iter().map(|call| call.name());
    let bad = Bad::new(format!("is {name:?}, which is no system call"));
    let nearest = known.filter(alike).min_by_key(|known| strsim::damerau_levenshtein(known, name));
    Err(match nearest {
        Some(nearest) => bad.hint(format!("did you mean {nearest:?}?")),
        None => bad.hint("syscalls(2) lists their names, such as \"io_uring_setup\""),
    })
}

/// A limit of open files: descriptors 0, 1 and 2 are open from the start.
pub(super) fn open_files(number: i64) -> Result<u64, Bad> {
    (3..=OPEN_FILES_MAX)
        .contains(&number)
        .then(|| number.unsigned_abs())
        .ok_or_else(|| Bad::new(format!("can't be {number}")).hint(format!("it is from 3 to {OPEN_FILES_MAX}")))
}

/// The most processes that a cgroup can be told to allow, one left for PID 1 (`PIDS_MAX` in kernel/cgroup/pids.c).
const PIDS_MAX: i64 = 4_194_303;

/// A limit of processes.
pub(super) fn pids(number: i64) -> Result<u64, Bad> {
    match number {
        0 => Err(Bad::new("is zero").hint("leave the key out for no limit")),
        1..=PIDS_MAX => Ok(number.unsigned_abs()),
        _ => Err(Bad::new(format!("can't be {number}")).hint(format!("it is from 1 to {PIDS_MAX}"))),
    }
}

/// The least and the most processors: the kernel takes no quota below a millisecond, and knows no more processors.
const CPUS: (f64, f64) = (0.01, 8192.0);

/// A number of processors, as microseconds of CPU time for each period.
pub(super) fn cpus(number: f64) -> Result<u64, Bad> {
    let (least, most) = CPUS;
    match number {
        0.0 => Err(Bad::new("is zero").hint("leave the key out for no limit")),
        number if (least..=most).contains(&number) => Ok((number * CPU_PERIOD_US as f64).round() as u64),
        _ => Err(Bad::new(format!("can't be {number}")).hint(format!("it is from {least} to {most}"))),
    }
}

/// The digits of a SHA-256.
pub(super) fn sha256(text: &str) -> Result<&str, Bad> {
    let hint = "64 lowercase hexadecimal digits";
    parse_hex(text).map(|_| text).ok_or_else(|| Bad::new("is no SHA-256").hint(hint))
}

/// Where something fetched stands in the project.
pub(super) fn fetch_target(text: &str) -> Result<RelPath, Bad> {
    let path = RelPath::new(text).map_err(|error| Bad::new(format!("is no path in the project: {error}")))?;
    if path.as_str().split('/').any(|name| name.starts_with(STAGING_PREFIX)) {
        return Err(
            Bad::new(format!("has a name that begins with `{STAGING_PREFIX}`")).hint("such names are sbx's own")
        );
    }
    Ok(path)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_paths_are_kept_as_written() {
        for text in ["a", "../a", "/opt/a/../b", "a b", "./~", "/process", "/devel/x"] {
            assert_eq!(host_path(text).unwrap(), Path::new(text));
        }
        for text in ["", "~", "~/x", "/", "//", "/a/..", "/../..", "/proc", "/a/../sys/x", "/dev/kvm", "a\tb"] {
            assert!(host_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn guest_paths_leave_sbx_its_own() {
        for text in ["/src", "/etc/pki", "/tmpfs", "/home/builder", "/usr"] {
            assert_eq!(guest_path(text).unwrap().as_str(), text);
        }
        for text in
            ["", "/", "src", "/a/../b", "/proc", "/dev/x", "/sys", "/tmp/x", "/etc", "/etc/hosts", "/etc//passwd/"]
        {
            assert!(guest_path(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_can_be_file_names_and_arguments() {
        for text in ["a", "A-1_b.c", "0", &"x".repeat(64)] {
            assert!(name(text).is_ok(), "{text}");
        }
        for text in ["", ".", "..", "-a", "_a", "a/b", "a b", "é", "a\0", &"x".repeat(65)] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn host_names_are_those_of_rfc_1123() {
        let long = format!("{}.a", "x".repeat(62));
        for text in ["a", "3com", "a-b.C9", &"x".repeat(63), &long] {
            assert!(hostname(text).is_ok(), "{text}");
        }
        for text in
            ["", "-a", "a-", "a.-b", "a.", ".a", "a..b", "a_b", "ä", "a\0", &"x".repeat(64), &format!("{long}b")]
        {
            assert!(hostname(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ids_end_before_the_kernels_no_id() {
        assert_eq!(id(0).unwrap(), 0);
        assert_eq!(id(4_294_967_294).unwrap(), u32::MAX - 1);
        for number in [-1, 4_294_967_295, 4_294_967_296, i64::MIN, i64::MAX] {
            assert!(id(number).is_err(), "{number}");
        }
    }

    #[test]
    fn durations_are_above_zero() {
        assert_eq!(duration("1h30m").unwrap(), Duration::from_secs(5400));
        assert_eq!(duration("1ms").unwrap(), Duration::from_millis(1));
        for text in ["", "0s", "0", "10", "-1s", "1x", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(size("512MiB").unwrap(), 512 << 20);
        assert_eq!(size("2 GiB").unwrap(), 2 << 30);
        assert_eq!(size("1B").unwrap(), 1);
        for text in ["", "0B", "5", "GiB", "1GB", "1.5GiB", "-1B", "16777216TiB", "é1B", "1é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn images_name_a_layout_and_a_digest() {
        let hex = "0123456789abcdef".repeat(4);
        let Rootfs::Image { layout, sha256 } = image(&format!("oci:a@b/c@sha256:{hex}")).unwrap() else { panic!() };
        assert_eq!((layout.as_path(), sha256), (Path::new("a@b/c"), hex.clone()));
        for text in
            ["", "oci:", "gcc:14", "oci:a", "oci:a@sha256:", &format!("oci:@sha256:{hex}"), &format!("a@sha256:{hex}")]
        {
            assert!(image(text).is_err(), "{text}");
        }
        assert!(image(&format!("oci:a@sha256:{}", hex.to_uppercase())).is_err());
    }

    #[test]
    fn variables_of_sbx_are_its_own() {
        for name in ["A", "a b", "SBXX", "sbx", "é"] {
            assert!(variable(name).is_ok(), "{name}");
        }
        for name in ["", "A=", "A\0", "SBX", "SBX_", "SBX_CACHE_DIR"] {
            assert!(variable(name).is_err(), "{name}");
        }
    }

    #[test]
    fn open_files_leave_room_for_the_first_three() {
        assert_eq!(open_files(3).unwrap(), 3);
        for number in [-1, 0, 2, OPEN_FILES_MAX + 1] {
            assert!(open_files(number).is_err(), "{number}");
        }
    }
}
