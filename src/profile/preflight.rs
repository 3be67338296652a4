//! What would spoil a run hours later is found before it begins.

use std::path::Path;

use crate::error::{Error, Kind, Result};

/// Free disk below which a run is refused: not even a trace of the built-in run fits. Bytes.
const LEAST: u64 = 64 << 20;
/// Free disk below which an nsys report may not fit: half an hour of a training program is of this order. Bytes.
const NEEDED: u64 = 1 << 30;

/// Makes the folder, and sees that there is room in it. Gives a warning where there may be too little for nsys.
pub fn folder(folder: &Path, nsys: bool) -> Result<Option<String>> {
    let hint = "choose another folder: --output-dir DIR";
    let shown = folder.display();
    std::fs::create_dir_all(folder)
        .map_err(|error| Error::io(format!("cannot make the folder '{shown}'"), error).hint(hint))?;
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| Error::io(format!("cannot write to the folder '{shown}'"), error.into()).hint(hint))?;
    let free = free(folder).map_err(|error| Error::io(format!("cannot see the free space of '{shown}'"), error))?;
    space(free, nsys).map_err(|error| error.hint(format!("free some, or {hint}")))
}

/// Bytes that we may still write there.
fn free(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

fn space(free: u64, nsys: bool) -> Result<Option<String>> {
    let mib = free >> 20;
    if free < LEAST {
        let cause = format!("{mib} MiB are free, and a run wants {} MiB", LEAST >> 20);
        return Err(Error::new(Kind::Capacity, "the disk is full").cause(cause));
    }
    let words = || format!("{mib} MiB are free on the disk: the report of a long run may not fit");
    Ok((nsys && free < NEEDED).then(words))
}

/// Whether the kernel lets nsys sample the CPU; asked only where it is to.
pub fn sampling() -> Result<()> {
    let paranoid = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").ok();
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    may_sample(paranoid.as_deref(), &status)
}

/// NVIDIA's "Nsight Systems User Guide", "Requirements for x86_64 and Arm SBSA Targets on Linux": the level must be 2 or
/// less. capabilities(7): `CAP_PERFMON` and `CAP_SYS_ADMIN` are above it.
fn may_sample(paranoid: Option<&str>, status: &str) -> Result<()> {
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let capabilities = capabilities.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0);
    let above = [SYS_ADMIN, PERFMON].into_iter().any(|bit| capabilities >> bit & 1 == 1);
    match paranoid.and_then(|text| text.trim().parse::<i32>().ok()) {
        Some(level) if level > 2 && !above => Err(Error::new(Kind::Permission, "the CPU may not be sampled")
            .cause(format!("kernel.perf_event_paranoid is {level}, and nsys needs 2 or less"))
            .hint("sudo sysctl kernel.perf_event_paranoid=2\nor leave --sample and --cpuctxsw out")),
        None => Err(Error::missing("the CPU may not be sampled")
            .cause("this kernel has no perf_event_paranoid: it was built without perf events")
            .hint("leave --sample and --cpuctxsw out")),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_refused_and_a_small_one_told() {
        assert_eq!(space(LEAST - 1, false).unwrap_err().kind, Kind::Capacity);
        assert_eq!(space(LEAST, false).unwrap(), None);
        assert!(space(NEEDED - 1, true).unwrap().unwrap().starts_with("1023 MiB"));
        assert_eq!(space(NEEDED, true).unwrap(), None);
    }

    #[test]
    fn sampling_is_for_those_whom_the_kernel_lets() {
        let plain = "Name:\tx\nCapEff:\t0000000000000000\n";
        assert_eq!(may_sample(Some("2\n"), plain).map_err(|error| error.kind), Ok(()));
        assert_eq!(may_sample(Some("-1\n"), plain).map_err(|error| error.kind), Ok(()));
        let refused = may_sample(Some("4\n"), plain).unwrap_err();
        assert!(refused.kind == Kind::Permission && refused.cause.unwrap().contains("is 4"));
        for capable in ["CapEff:\t0000004000000000\n", "CapEff:\t0000000000200000\n", "CapEff:\t000001ffffffffff\n"] {
            may_sample(Some("4\n"), capable).unwrap();
        }
        assert_eq!(may_sample(None, plain).unwrap_err().kind, Kind::Missing);
    }
}
