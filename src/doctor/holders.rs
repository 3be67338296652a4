//! Who holds a slot by the kernel's word: whose descriptors are open on its file with its lock.
//!
//! An exclusive lock of flock(2) belongs to an open file description, which every process has that inherited the
//! descriptor. `/proc/PID/fdinfo/FD` shows it as a line `lock:`, together with the process that took it; a descriptor that
//! was opened for looking or waiting has no such line. The file is the slot's if device and inode are.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use crate::error::Result;
use crate::lease::{Pool, Seen};
use crate::proc;
use crate::wire::lease::Record;

/// A slot's file, as descriptors are compared with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct File {
    pub slot: u32,
    pub inode: (u64, u64),
}

/// A slot's lock that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    pub slot: u32,
    /// The descriptor.
    pub fd: u32,
    /// The process that took it, which may have ended since; `None` where it has no number in the namespace of `/proc`.
    pub taker: Option<u32>,
}

/// A process with a slot's lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub lock: Lock,
    pub pid: u32,
    /// As [`proc::Stat::start`].
    pub start: u64,
    pub namespace: Option<u64>,
    pub program: Option<String>,
    pub user: Option<u32>,
}

/// Everybody who has a slot's lock, as far as it can be seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holders {
    pub all: Vec<Holder>,
    /// There are processes whose descriptors may not be looked at.
    pub hidden: bool,
}

/// The files of these slots.
pub fn files(pool: &Pool, slots: &[Seen]) -> Result<Vec<File>> {
    slots.iter().map(|seen| Ok(File { slot: seen.index, inode: pool.inode(seen.index)? })).collect()
}

/// Looks through all processes that can be seen.
pub fn all(files: &[File]) -> Holders {
    let mut found = Holders::default();
    if files.is_empty() {
        return found;
    }
    for pid in proc::pids() {
        match holder(pid, files) {
            Seeing::Hidden => found.hidden = true,
            Seeing::Locks(holders) => found.all.extend(holders),
        }
    }
    found.all.sort_by_key(|holder| (holder.lock.slot, holder.pid));
    found
}

enum Seeing {
    /// Its descriptors may not be looked at.
    Hidden,
    Locks(Vec<Holder>),
}

fn holder(pid: u32, files: &[File]) -> Seeing {
    // Its start is read first: were the number another process's by the next line, the start would not be that one's, and
    // nothing would come of it.
    let Some(stat) = proc::stat(pid) else { return Seeing::Locks(Vec::new()) };
    let Some(locks) = locks(pid, files) else { return Seeing::Hidden };
    let holder = |lock| Holder {
        lock,
        pid,
        start: stat.start,
        namespace: proc::namespace(pid),
        program: proc::name(pid),
        user: proc::user(pid),
    };
    Seeing::Locks(locks.into_iter().map(holder).collect())
}

/// The slots whose lock a process has, each once; `None` where its descriptors may not be looked at.
pub fn locks(pid: u32, files: &[File]) -> Option<Vec<Lock>> {
    let entries = match fs::read_dir(format!("/proc/{pid}/fdinfo")) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return None,
        // It has ended.
        Err(_) => return Some(Vec::new()),
    };
    let mut locks: Vec<Lock> = Vec::new();
    for entry in entries.flatten() {
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Some(taker) = fs::read_to_string(entry.path()).ok().and_then(|info| exclusive_lock(&info)) else {
            continue;
        };
        // Only where there is a lock is the file itself asked, which may lie on a file system that hangs.
        let Ok(file) = fs::metadata(format!("/proc/{pid}/fd/{fd}")) else { continue };
        let of = files.iter().find(|known| known.inode == (file.dev(), file.ino()));
        if let Some(of) = of.filter(|of| locks.iter().all(|lock| lock.slot != of.slot)) {
            locks.push(Lock { slot: of.slot, fd, taker: Some(taker).filter(|&pid| pid != 0) });
        }
    }
    Some(locks)
}

/// The process that took an exclusive flock, by a line such as `lock: 1: FLOCK  ADVISORY  WRITE 4711 fe:01:123 0 EOF`.
fn exclusive_lock(fdinfo: &str) -> Option<u32> {
    let mut lines = fdinfo.lines().filter_map(|line| line.strip_prefix("lock:"));
    lines.find_map(|line| match line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
        [_, "FLOCK", _, "WRITE", pid, ..] => pid.parse().ok(),
        _ => None,
    })
}

/// Whether the process that a record names still runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    Alive,
    /// Why that is known, in words that fit behind its name.
    Dead(&'static str),
    /// It counts in another pid namespace, and is `alive` where it was found there all the same.
    Elsewhere {
        alive: Option<bool>,
    },
}

/// Judges the process that a record names by what the kernel says of that number.
pub fn owner(record: &Record) -> Owner {
    if record.pid_namespace != proc::own_namespace() || !proc::shows_own_namespace() {
        return Owner::Elsewhere { alive: elsewhere(record) };
    }
    match proc::stat(record.pid) {
        None => Owner::Dead("is gone"),
        Some(stat) if stat.start != record.start => Owner::Dead("is gone, and another process has its number"),
        Some(stat) if stat.ended => Owner::Dead("has ended"),
        Some(_) => Owner::Alive,
    }
}

/// Slots, and who owns them by their records.
pub fn owned(slots: Vec<Seen>) -> Vec<(Seen, Option<Owner>)> {
    let with_owner = |seen: Seen| {
        let owner = seen.record.as_ref().map(owner);
        (seen, owner)
    };
    slots.into_iter().map(with_owner).collect()
}

/// A process of an inner namespace can be seen from an outer one, under another number. From anywhere else, what is not seen
/// may still be there.
fn elsewhere(record: &Record) -> Option<bool> {
    let is_it = |&pid: &u32| {
        proc::namespace(pid) == Some(record.pid_namespace)
            && proc::inner_pid(pid) == Some(record.pid)
            && proc::stat(pid).is_some_and(|stat| stat.start == record.start && !stat.ended)
    };
    if proc::pids().iter().any(is_it) { Some(true) } else { proc::sees_host_pids().then_some(false) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lease::Limit;

    #[test]
    fn the_lock_line_is_read() {
        let head = "pos:\t0\nflags:\t02100002\nmnt_id:\t27\nino:\t12\n";
        for (line, taker) in [
            ("lock:\t1: FLOCK  ADVISORY  WRITE 4711 fe:00:12 0 EOF\n", Some(4711)),
            (
                "lock:\t1: POSIX  ADVISORY  WRITE 4 fe:00:12 0 EOF\nlock:\t2: FLOCK  ADVISORY  WRITE 0 fe:00:12 0 EOF\n",
                Some(0),
            ),
            ("lock:\t1: FLOCK  ADVISORY  READ 4711 fe:00:12 0 EOF\n", None),
            ("lock:\t1: LEASE  ACTIVE    WRITE 4711 fe:00:12 0 EOF\n", None),
            ("lock:\tFLOCK\n", None),
            ("", None),
        ] {
            assert_eq!(exclusive_lock(&format!("{head}{line}")), taker, "{line}");
        }
    }

    #[test]
    fn who_has_a_lock_is_told_from_who_has_only_the_file() {
        let home = tempfile::tempdir().unwrap();
        let pool = Pool::at(&home.path().join("leases")).unwrap();
        let record = Record { instance_id: "omega-0".into(), ..Record::default() };
        let held = pool.take(Limit::Unknown, || None, record.clone()).unwrap();
        let other = pool.take(Limit::Unknown, || None, record).unwrap();
        let slots = pool.slots().unwrap();
        let files = files(&pool, &slots).unwrap();
        drop(other);
        let _looker = fs::File::open(pool.path().join("slot-1")).unwrap();
        let me = std::process::id();
        let locks = locks(me, &files).unwrap();
        assert_eq!(locks.iter().map(|lock| (lock.slot, lock.taker)).collect::<Vec<_>>(), [(0, Some(me))]);
        let all = all(&files);
        let own = all.all.iter().find(|holder| holder.pid == me).unwrap();
        assert_eq!((own.lock.slot, own.namespace), (0, Some(proc::own_namespace())));
        drop(held);
        assert_eq!(super::locks(me, &files), Some(Vec::new()));
    }

    #[test]
    fn an_owner_is_its_number_and_its_start() {
        let me = std::process::id();
        let start = proc::stat(me).unwrap().start;
        let record = Record { pid: me, start, pid_namespace: proc::own_namespace(), ..Record::default() };
        assert_eq!(owner(&record), Owner::Alive);
        assert!(
            matches!(owner(&Record { start: start - 1, ..record.clone() }), Owner::Dead(why) if why.contains("another"))
        );
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(owner(&Record { pid: child.id(), ..record.clone() }), Owner::Dead("is gone"));
        assert!(matches!(owner(&Record { pid_namespace: 1, ..record }), Owner::Elsewhere { .. }));
    }

    #[test]
    fn one_that_waits_to_be_reaped_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let ended = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
        rustix::process::waitid(rustix::process::WaitId::Pid(pid), ended).unwrap();
        let start = proc::stat(child.id()).unwrap().start;
        let record = Record { pid: child.id(), start, pid_namespace: proc::own_namespace(), ..Record::default() };
        assert_eq!(owner(&record), Owner::Dead("has ended"));
        child.wait().unwrap();
    }
}
