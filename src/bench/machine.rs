//! What of the machine matters to a time: kernel, processors, switches, mitigations.

use std::fs;
use std::path::Path;
use std::time::Instant;

use super::report::Fact;
use crate::sys::{files, probe};

/// The switches of the kernel that change what a namespace costs or who may make how many.
const SWITCHES: [&str; 10] = [
    "kernel/unprivileged_userns_clone",
    "kernel/apparmor_restrict_unprivileged_userns",
    "kernel/sched_autogroup_enabled",
    "net/core/bpf_jit_enable",
    "fs/mount-max",
    "user/max_user_namespaces",
    "user/max_mnt_namespaces",
    "user/max_net_namespaces",
    "user/max_pid_namespaces",
    "user/max_time_namespaces",
];

/// The facts, those that could be read.
pub fn facts() -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.push(Fact { name: name.to_owned(), value });
        }
    };
    add("kernel", Some(format!("Linux {} {}", probe::kernel_release(), std::env::consts::ARCH)));
    let cpu = read("/proc/cpuinfo");
    let field = |name: &str| {
        let line = cpu.as_deref()?.lines().find(|line| line.split(':').next().map(str::trim) == Some(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    let model = field("model name").unwrap_or_else(|| "unknown".to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    add("processors", Some(format!("{cores} of {model}")));
    let is_guest = field("flags").is_some_and(|flags| flags.split(' ').any(|flag| flag == "hypervisor"));
    add("virtual machine", is_guest.then(|| "yes".to_owned()));
    add("cpuid", cpuid());
    let governor = "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor";
    add("frequency governor", read(governor));
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().to_owned();
        let kilobytes: f64 = line.trim_end_matches("kB").trim().parse().ok()?;
        Some(format!("{:.1} GiB", kilobytes / 1_048_576.0))
    });
    add("memory", total);
    let user = if files::effective_uid() == 0 { "root" } else { "an ordinary user" };
    add("measured as", Some(user.to_owned()));
    add("host mounts", read("/proc/self/mountinfo").map(|text| text.lines().count().to_string()));
    add("security modules", read("/sys/kernel/security/lsm"));
    for name in SWITCHES {
        let value = read(Path::new("/proc/sys").join(name));
        add(&name.replace('/', "."), value);
    }
    add("mitigations", mitigations());
    add("load", read("/proc/loadavg").map(|text| text.split(' ').take(3).collect::<Vec<_>>().join(" ")));
    facts
}

/// What it takes to ask the processor what it can. glibc does so 68 times at each start of a program; in a virtual machine each
/// time is a trap to its host.
#[cfg(target_arch = "x86_64")]
fn cpuid() -> Option<String> {
    const TIMES: u32 = 1000;
    let start = Instant::now();
    for _ in 0..TIMES {
        std::hint::black_box(core::arch::x86_64::__cpuid(std::hint::black_box(7)));
    }
    Some(format!("{:.2} µs", start.elapsed().as_secs_f64() * 1e6 / f64::from(TIMES)))
}

#[cfg(not(target_arch = "x86_64"))]
fn cpuid() -> Option<String> {
    None
}

/// The vulnerabilities that the kernel works around, with how; those that it does not, by name.
fn mitigations() -> Option<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/sys/devices/system/cpu/vulnerabilities").ok()?.flatten() {
        let state = read(entry.path())?;
        if state != "Not affected" {
            let state = state.strip_prefix("Mitigation: ").unwrap_or(&state).to_owned();
            found.push(format!("{}: {state}", entry.file_name().to_string_lossy()));
        }
    }
    found.sort();
    Some(if found.is_empty() { "none".to_owned() } else { found.join("; ") })
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_is_named_first() {
        let facts = facts();
        assert!(facts[0].value.starts_with("Linux "), "{facts:?}");
        assert!(facts.len() > 4 && facts.iter().all(|fact| !fact.value.contains('\n')), "{facts:?}");
    }
}
