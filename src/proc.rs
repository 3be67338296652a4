//! What `/proc` says of a process: the kernel's word, where records and environments only suggest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

/// The inode number of the machine's own pid namespace (`PROC_PID_INIT_INO` in Linux's `include/linux/proc_ns.h`).
const INITIAL_NAMESPACE: u64 = 0xEFFF_FFFC;

/// One line of `/proc/PID/stat`, as far as it is used here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub parent: u32,
    /// Clock ticks from boot to the process's start: with the pid it names one process, not a later one of that number.
    pub start: u64,
    /// It has ended, and only waits to be reaped: its descriptors are closed.
    pub ended: bool,
}

/// What runs under a pid now; `None`: nothing, or nothing that may be seen.
pub fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// proc_pid_stat(5): "PID (NAME) STATE PARENT …", where NAME may hold anything; the start is field 22.
fn parse(stat: &[u8]) -> Option<Stat> {
    let behind = &stat[stat.iter().rposition(|&b| b == b')')? + 1..];
    let mut fields = std::str::from_utf8(behind).ok()?.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some(Stat { parent, start, ended: matches!(state, "Z" | "X") })
}

/// CPU time of the whole machine since boot, s (proc_stat(5)).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ticks {
    /// Of all programs and the kernel, all cores together.
    pub busy: f64,
    /// What a hypervisor gave to others.
    pub stolen: f64,
    pub cores: usize,
}

impl Ticks {
    /// As of now; `None` where the kernel does not tell.
    pub fn machine() -> Option<Ticks> {
        ticks(&fs::read_to_string("/proc/stat").ok()?, rustix::param::clock_ticks_per_second() as f64)
    }
}

/// The first line is `cpu USER NICE SYSTEM IDLE IOWAIT IRQ SOFTIRQ STEAL …`, in ticks; then comes one for each core.
fn ticks(stat: &str, per_second: f64) -> Option<Ticks> {
    let fields: Vec<f64> =
        stat.lines().next()?.strip_prefix("cpu ")?.split_ascii_whitespace().flat_map(str::parse).collect();
    let [user, nice, system, _idle, _iowait, irq, softirq, stolen, ..] = fields[..] else { return None };
    let is_core = |line: &&str| line.starts_with("cpu") && !line.starts_with("cpu ");
    Some(Ticks {
        busy: (user + nice + system + irq + softirq) / per_second,
        stolen: stolen / per_second,
        cores: stat.lines().filter(is_core).count(),
    })
}

/// This process's resident memory, and the most that it has been since [`forget_peak`], bytes.
pub fn resident() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some((kilobytes(&status, "VmRSS:")?, kilobytes(&status, "VmHWM:")?))
}

/// What a process has used of the processor, all its threads, µs, and its resident memory, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub cpu_us: u64,
    pub resident: u64,
}

/// As of now; `None` where there is no such process.
pub fn usage(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // Behind the name come the state (field 3) and numbers: 14 and 15 are the ticks used, 24 the resident pages.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..].split_ascii_whitespace().collect();
    let number = |at: usize| fields.get(at - 3)?.parse::<u64>().ok();
    let ticks = number(14)? + number(15)?;
    Some(Usage {
        cpu_us: ticks * 1_000_000 / rustix::param::clock_ticks_per_second(),
        resident: number(24)? * rustix::param::page_size() as u64,
    })
}

/// Memory that programs could still have, and all there is, bytes (proc_meminfo(5)).
pub fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    Some((kilobytes(&text, "MemAvailable:")?, kilobytes(&text, "MemTotal:")?))
}

/// The bytes that a line says in kB, as in `VmRSS:   1234 kB`.
fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// Begins the peak of [`resident`] anew; `false` where the kernel does not allow it.
pub fn forget_peak() -> bool {
    // proc_pid_clear_refs(5): 5 sets the peak to what is resident now.
    fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// A process, its `parent`, and so on, init excepted. They are seen one after another while processes come and go: a bound
/// keeps a loop from lasting.
pub fn line(pid: u32, parent: impl Fn(u32) -> Option<u32>) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(pid), move |&pid| parent(pid).filter(|&parent| parent > 1)).take(256)
}

/// A process's parent.
pub fn parent(pid: u32) -> Option<u32> {
    stat(pid).map(|stat| stat.parent)
}

/// Every pid that can be seen.
pub fn pids() -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// The kernel's name for the program, at most 15 bytes.
pub fn name(pid: u32) -> Option<String> {
    let name = fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&name).trim_end().to_string())
}

/// The user that a process runs as.
pub fn user(pid: u32) -> Option<u32> {
    Some(fs::metadata(format!("/proc/{pid}")).ok()?.uid())
}

/// The inode number of a process's pid namespace: pids of different ones cannot be compared.
pub fn namespace(pid: u32) -> Option<u64> {
    namespace_at(&format!("/proc/{pid}/ns/pid"))
}

/// Our own pid namespace, in which a process stays for life; 0 where there is no `/proc`.
pub fn own_namespace() -> u64 {
    static OWN: OnceLock<u64> = OnceLock::new();
    *OWN.get_or_init(|| namespace_at("/proc/self/ns/pid").unwrap_or(0))
}

/// When this process started, as [`Stat::start`] has it; 0 where there is no `/proc`.
pub fn own_start() -> u64 {
    static OWN: OnceLock<u64> = OnceLock::new();
    *OWN.get_or_init(|| stat(std::process::id()).map_or(0, |stat| stat.start))
}

fn namespace_at(path: &str) -> Option<u64> {
    Some(fs::metadata(path).ok()?.ino())
}

/// Whether this process sees the machine's own pids, as the driver reports them, and not a container's.
pub fn sees_host_pids() -> bool {
    own_namespace() == INITIAL_NAMESPACE
}

/// Whether `/proc` shows the pid namespace that we are in. It shows another's where a namespace was entered and `/proc` was not
/// mounted anew: then its numbers are not those that signals go by.
pub fn shows_own_namespace() -> bool {
    let me = std::process::id().to_string();
    let named = fs::read_link("/proc/self").is_ok_and(|link| link.as_os_str() == me.as_str());
    // proc_pid_status(5): NSpid has a number for each namespace from the one that /proc shows down to the process's own.
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    named && numbers.is_some_and(|numbers| numbers.trim() == me)
}

/// A process's number in its own, innermost pid namespace.
pub fn inner_pid(pid: u32) -> Option<u32> {
    let status = fs::read(format!("/proc/{pid}/status")).ok()?;
    let status = String::from_utf8_lossy(&status);
    status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_ascii_whitespace().last()?.parse().ok()
}

/// A user's name by `/etc/passwd`; users that only a directory service knows have none here.
pub fn user_name(user: u32) -> Option<String> {
    named_in(&fs::read_to_string("/etc/passwd").ok()?, user)
}

/// passwd(5): NAME:PASSWORD:UID:…
fn named_in(passwd: &str, user: u32) -> Option<String> {
    let mut lines = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    lines.find_map(|fields| match fields[..] {
        [name, _, uid, ..] if uid.parse() == Ok(user) => Some(name.to_string()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_time_is_read_by_its_fields() {
        let got = ticks("cpu  100 20 30 1000 5 1 2 7 0 0\ncpu0 50 10 15 500 3 1 1 4 0 0\ncpu1 50 10\nintr 5\n", 10.0);
        assert_eq!(got, Some(Ticks { busy: 15.3, stolen: 0.7, cores: 2 }));
        assert_eq!(ticks("cpu 1 2\n", 100.0), None);
        assert_eq!(ticks("", 100.0), None);
    }

    #[test]
    fn resident_memory_is_known_and_its_peak_is_no_less() {
        let (now, peak) = resident().unwrap();
        assert!(now > 100_000 && peak >= now);
    }

    #[test]
    fn a_name_may_hold_anything() {
        let line = b"17 (a) Z (b)) S 4 17 17 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 98765 1 2\n";
        assert_eq!(parse(line), Some(Stat { parent: 4, start: 98765, ended: false }));
        assert_eq!(parse(b"17 (a) Z 4 0"), None);
    }

    #[test]
    fn a_process_sees_itself() {
        let me = std::process::id();
        let stat = stat(me).unwrap();
        assert_eq!((stat.parent, stat.ended), (std::os::unix::process::parent_id(), false));
        assert!(stat.start > 0 && pids().contains(&me));
        assert_eq!(namespace(me), Some(own_namespace()));
        assert_eq!(user(me), Some(rustix::process::getuid().as_raw()));
        assert!(shows_own_namespace());
        assert_eq!(inner_pid(me), Some(me));
    }

    #[test]
    fn users_have_the_names_that_passwd_gives_them() {
        let passwd = "root:x:0:0:root:/root:/bin/bash\n\n# no user\n+::::::\nren der:x:1001:1001::/:/bin/sh\n";
        assert_eq!(named_in(passwd, 0).as_deref(), Some("root"));
        assert_eq!(named_in(passwd, 1001).as_deref(), Some("ren der"));
        assert_eq!(named_in(passwd, 100), None);
    }
}
