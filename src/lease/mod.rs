//! Encoder slots across processes: who may open an encoder session, and who holds one.
//!
//! A slot is an exclusive lock (flock(2)) on a file in a directory that all users of the machine share. The kernel lets it
//! go when the last process that has it open is gone, in whatever way, so that nothing of a dead holder is ever in the
//! way. Counting and taking happen under one more lock, the gate; sessions of programs that take no slots are counted in
//! there too. The [broker] decides and does no I/O; how many sessions the machine bears is an argument.
//!
//! The file of a slot names its holder ([`Record`]), for people: it proves nothing, as any user can write to it.

pub mod broker;
mod dir;
pub mod run;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

pub use self::broker::{Limit, Refusal, Seen};
use self::broker::{Pids, Scene};
use self::dir::Dir;
pub use self::dir::slot_name;
use crate::clock::rfc3339_now;
use crate::error::{Error, Kind, Result};
use crate::proc;
use crate::wire::lease::{BLOCK, Record, Trial};

/// The variable that names another directory.
pub const VARIABLE: &str = "GSK_LEASE_DIR";

/// The file that keeps a trial's answer.
const TRIAL: &str = "trial";

/// How long the gate is waited for. It is held for some 50 µs, and as long as the driver takes to list its sessions.
const GATE: Duration = Duration::from_secs(3);

/// The slots of this machine.
pub struct Pool {
    dir: Dir,
    patience: Duration,
}

/// Why a slot was not taken.
#[derive(Clone, Debug)]
pub enum Denied {
    /// All are in use.
    Full(Refusal),
    /// The slots could not be looked at.
    Failed(Error),
}

impl From<Error> for Denied {
    fn from(error: Error) -> Denied {
        Denied::Failed(error)
    }
}

impl From<Denied> for Error {
    fn from(denied: Denied) -> Error {
        match denied {
            Denied::Full(refusal) => refusal.error(),
            Denied::Failed(error) => error,
        }
    }
}

impl Refusal {
    /// As an error, with what to do.
    pub fn error(&self) -> Error {
        let hint = match self {
            Refusal { limit: 0, .. } => {
                "see what this host can encode with: gsk nvenc-status\nor allow some: --slots N"
            }
            Refusal { foreign: 1.., .. } => "see who uses them: gsk nvenc-status",
            _ => "see who holds them: gsk nvenc-status\nor free what the dead left: gsk cleanup",
        };
        Error::new(Kind::Capacity, "no encoder slot").cause(self).hint(hint)
    }
}

impl Pool {
    /// The directory that [`VARIABLE`] names, else the one that all users of this machine share.
    pub fn open() -> Result<Pool> {
        Pool::at(&place())
    }

    /// The same, or `None` where nobody has made it yet: for those who only look.
    pub fn existing() -> Result<Option<Pool>> {
        let path = place();
        match rustix::fs::lstat(&path) {
            Err(Errno::NOENT) => Ok(None),
            _ => Pool::at(&path).map(Some),
        }
    }

    pub fn at(path: &Path) -> Result<Pool> {
        Ok(Pool { dir: Dir::open(path)?, patience: GATE })
    }

    /// The same for one who waits for the gate no longer than that.
    pub fn with_patience(self, patience: Duration) -> Pool {
        Pool { patience, ..self }
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Takes the lowest free slot, unless as many as `limit` are held or used. `sessions` gives the pids of all encoder
    /// sessions of the machine, or `None` where the driver cannot be asked; it is called under the gate, and only where
    /// there is a limit that slots alone do not fill. `record` says who we are; its process and time are filled in.
    pub fn take(
        &self,
        limit: Limit,
        sessions: impl FnOnce() -> Option<Vec<u32>>,
        record: Record,
    ) -> Result<Slot, Denied> {
        self.gate()?.take(limit, sessions, record)
    }

    /// How many sessions this machine was seen to bear, where somebody whom we may believe, root or ourselves, has tried it
    /// with this version of the driver.
    pub fn trial(&self, driver: &str) -> Option<Trial> {
        let text = self.dir.read_trusted(TRIAL, 4096).ok()??;
        serde_json::from_slice(&text).ok().filter(|trial: &Trial| trial.driver == driver)
    }

    /// Keeps what a trial showed, for all users who believe us.
    pub fn keep(&self, trial: &Trial) -> Result<()> {
        let json = serde_json::to_vec(trial).map_err(|error| Error::bug("a trial is plain data").cause(error))?;
        let path = self.path().join(TRIAL);
        let failed = |error| Error::io(format!("cannot keep the trial in '{}'", path.display()), error);
        self.dir.replace(TRIAL, &json).map_err(failed)
    }

    /// Whether a slot would be given now; takes none.
    pub fn peek(&self, limit: Limit, sessions: impl FnOnce() -> Option<Vec<u32>>) -> Result<(), Denied> {
        let _gate = self.gate()?;
        decide(limit, &self.survey()?, sessions).map(drop).map_err(Denied::Full)
    }

    /// All slots that there ever were, by index.
    pub fn slots(&self) -> Result<Vec<Seen>> {
        let _gate = self.gate()?;
        Ok(self.survey()?.into_iter().map(|entry| entry.seen).collect())
    }

    /// Device and inode number of a slot's file: what its lock is known by in `/proc`.
    pub fn inode(&self, index: u32) -> Result<(u64, u64)> {
        let path = self.path().join(slot_name(index));
        let stat = rustix::fs::lstat(&path).map_err(|error| self.failed(index, error.into()))?;
        Ok((stat.st_dev, stat.st_ino))
    }

    /// Clears what dead holders left in slots that are free, as far as it is `wanted`; tells what it cleared.
    pub fn clear_stale(&self, wanted: impl Fn(&Seen) -> bool) -> Result<Vec<Seen>> {
        let _gate = self.gate()?;
        let stale = |entry: &Entry| !entry.seen.held && entry.seen.record.is_some() && wanted(&entry.seen);
        self.survey()?
            .into_iter()
            .filter(stale)
            .map(|Entry { seen, file }| {
                write(&file, &Record::none()).map_err(|error| self.failed(seen.index, error))?;
                Ok(seen)
            })
            .collect()
    }

    /// Counting and taking are one: who has the gate is alone with the slots. It is held until it is dropped; others wait for
    /// it some seconds.
    pub fn gate(&self) -> Result<Gate<'_>> {
        let until = Instant::now() + self.patience;
        let mut pause = Duration::from_micros(50);
        loop {
            let gate = self.dir.file("gate")?;
            // flock has no time limit of its own, and who holds the gate may have been stopped.
            while !try_lock(&gate).map_err(|error| Error::io("cannot lock the gate of the encoder slots", error))? {
                if Instant::now() > until {
                    return Err(Error::new(Kind::Unreachable, "the gate of the encoder slots stays locked")
                        .cause(format!(
                            "for {}, by a program that was stopped or waits for the driver",
                            humantime::format_duration(self.patience)
                        ))
                        .hint(format!("see which: fuser -v '{}'", self.path().join("gate").display())));
                }
                std::thread::sleep(pause);
                pause = (pause * 2).min(Duration::from_millis(2));
            }
            if self.dir.is_current(&gate, "gate").unwrap_or(false) {
                return Ok(Gate { pool: self, _lock: gate });
            }
        }
    }

    /// Every slot that there is; those that nobody held are locked by now, until their files are dropped.
    fn survey(&self) -> Result<Vec<Entry>> {
        self.dir.slots()?.into_iter().map(|index| self.look(index)).collect()
    }

    fn look(&self, index: u32) -> Result<Entry> {
        let (file, free) = self.lock(index)?;
        let mut block = [0; BLOCK];
        let record = file.read_exact_at(&mut block, 0).ok().and_then(|()| Record::parse(&block));
        Ok(Entry { seen: Seen { index, held: !free, record }, file })
    }

    /// A slot that was not there before.
    fn make(&self, index: u32) -> Result<File, Denied> {
        match self.lock(index)? {
            (file, true) => Ok(file),
            // Only who has the gate takes slots.
            (_, false) => {
                Err(self.failed(index, io::Error::other("it is locked by a program that passed the gate by")).into())
            }
        }
    }

    /// The slot's file, and whether it is ours now.
    fn lock(&self, index: u32) -> Result<(File, bool)> {
        let name = slot_name(index);
        loop {
            let file = self.dir.file(&name)?;
            let free = try_lock(&file).map_err(|error| self.failed(index, error))?;
            // Were it another's by now, who takes that one would not see us.
            if self.dir.is_current(&file, &name).map_err(|error| self.failed(index, error))? {
                return Ok((file, free));
            }
        }
    }

    fn failed(&self, index: u32, error: io::Error) -> Error {
        Error::io(format!("cannot use the encoder slot '{}'", self.path().join(slot_name(index)).display()), error)
    }
}

/// Where the slots are.
fn place() -> PathBuf {
    let named = std::env::var_os(VARIABLE).filter(|path| !path.is_empty());
    named.map_or_else(dir::default_path, PathBuf::from)
}

/// The lock under which slots are counted and taken.
pub struct Gate<'a> {
    pool: &'a Pool,
    _lock: File,
}

impl Gate<'_> {
    /// As [`Pool::take`], for one who has the gate already.
    pub fn take(
        &self,
        limit: Limit,
        sessions: impl FnOnce() -> Option<Vec<u32>>,
        record: Record,
    ) -> Result<Slot, Denied> {
        let survey = self.pool.survey()?;
        let index = decide(limit, &survey, sessions).map_err(Denied::Full)?;
        let file = match survey.into_iter().find(|entry| entry.seen.index == index) {
            Some(Entry { file, .. }) => file,
            None => self.pool.make(index)?,
        };
        let record = Record {
            pid: std::process::id(),
            start: proc::own_start(),
            pid_namespace: proc::own_namespace(),
            since: rfc3339_now(),
            ..record
        };
        let slot = Slot { file, index, record, shared: false };
        slot.write(&slot.record.block())?;
        Ok(slot)
    }
}

struct Entry {
    seen: Seen,
    file: File,
}

fn decide(limit: Limit, survey: &[Entry], sessions: impl FnOnce() -> Option<Vec<u32>>) -> Result<u32, Refusal> {
    let slots: Vec<Seen> = survey.iter().map(|entry| entry.seen.clone()).collect();
    let held = slots.iter().filter(|seen| seen.held).count();
    // Where slots alone fill the limit, the driver's answer would change nothing.
    let matters = matches!(limit, Limit::Sessions(limit) if held < limit as usize);
    let sessions = if matters { sessions() } else { None };
    let pids =
        Pids { namespace: proc::own_namespace(), host: proc::sees_host_pids(), parent: &proc::parent, alive: &alive };
    broker::admit(&Scene { limit, slots: &slots, sessions: sessions.as_deref(), pids })
}

fn try_lock(file: &File) -> io::Result<bool> {
    loop {
        match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => return Ok(false),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// One write of the whole block, so that a reader sees the old or the new.
fn write(file: &File, block: &[u8; BLOCK]) -> io::Result<()> {
    match file.write_at(block, 0)? {
        BLOCK => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// An encoder slot in hand. Dropping it gives it back; so does the end of this process, in whatever way, unless a program
/// that was started with [its descriptor](AsFd) lives on.
#[derive(Debug)]
pub struct Slot {
    file: File,
    index: u32,
    record: Record,
    /// Others may hold it too: then what is written there is theirs as well.
    shared: bool,
}

impl Slot {
    /// Another size of picture, where the encoder takes it in place.
    pub fn resize(&self, width: u32, height: u32) -> Result<()> {
        self.write(&Record { width: Some(width), height: Some(height), ..self.record.clone() }.block())
    }

    /// Closes our hold on it. Where a program that was started with its descriptor lives on, the slot stays held, and its
    /// record with it; else it is cleared.
    pub fn leave(mut self, pool: &Pool) -> Result<()> {
        let index = self.index;
        self.shared = true;
        drop(self);
        pool.clear_stale(|seen| seen.index == index).map(drop)
    }

    /// As `/status` names it.
    pub fn name(&self) -> String {
        slot_name(self.index)
    }

    pub fn record(&self) -> &Record {
        &self.record
    }

    fn write(&self, block: &[u8; BLOCK]) -> Result<()> {
        write(&self.file, block)
            .map_err(|error| Error::io(format!("cannot write to the encoder {}", self.name()), error))
    }
}

impl AsFd for Slot {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if !self.shared {
            // What stays of it is stale, and cleared by who takes the slot next.
            let _ = self.write(&Record::none());
        }
    }
}

/// Whether the recorded holder still runs; `None` where that cannot be told from here.
pub fn alive(record: &Record) -> Option<bool> {
    let same = record.pid_namespace == proc::own_namespace();
    same.then(|| proc::stat(record.pid).is_some_and(|stat| stat.start == record.start && !stat.ended))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> (tempfile::TempDir, Pool) {
        let home = tempfile::tempdir().unwrap();
        let pool = Pool::at(&home.path().join("leases")).unwrap();
        (home, pool)
    }

    fn me() -> Record {
        Record { instance_id: "omega-0".into(), ..Record::default() }
    }

    fn take(pool: &Pool, limit: u32) -> Result<Slot, Denied> {
        pool.take(Limit::Sessions(limit), || None, me())
    }

    #[test]
    fn slots_are_taken_up_to_the_limit_and_given_back() {
        let (_home, pool) = pool();
        let (first, second) = (take(&pool, 2).unwrap(), take(&pool, 2).unwrap());
        assert_eq!([first.name(), second.name()], ["slot-0", "slot-1"]);
        let Err(Denied::Full(refusal)) = take(&pool, 2) else { panic!("a third of two") };
        let names: Vec<_> = refusal.held.iter().map(|seen| seen.record.clone().unwrap()).collect();
        assert_eq!(names, [first.record().clone(), second.record().clone()]);
        assert_eq!(alive(&names[0]), Some(true));
        assert!(matches!(pool.peek(Limit::Sessions(2), || None), Err(Denied::Full(_))));
        drop(first);
        pool.peek(Limit::Sessions(2), || None).unwrap();
        assert_eq!(pool.slots().unwrap()[0], Seen { index: 0, held: false, record: None });
        assert_eq!(take(&pool, 2).unwrap().name(), "slot-0");
    }

    #[test]
    fn without_a_limit_slots_only_name_their_holders() {
        let (_home, pool) = pool();
        let asked = || panic!("there is nothing to count");
        let held: Vec<Slot> = (0..20).map(|_| pool.take(Limit::Unlimited, asked, me()).unwrap()).collect();
        assert_eq!(held[19].name(), "slot-19");
        assert!(pool.slots().unwrap().iter().all(|seen| seen.held && seen.record.is_some()));
    }

    #[test]
    fn foreign_sessions_are_counted_under_the_gate() {
        let (_home, pool) = pool();
        let strangers = || Some(vec![1, 1]);
        let Err(Denied::Full(refusal)) = pool.take(Limit::Sessions(2), strangers, me()) else { panic!("full") };
        assert_eq!((refusal.foreign, refusal.held.len()), (2, 0));
        let closed = || {
            assert!(!try_lock(&pool.dir.file("gate").unwrap()).unwrap(), "the gate is held meanwhile");
            Some(vec![1])
        };
        pool.take(Limit::Sessions(2), closed, me()).unwrap();
    }

    #[test]
    fn what_the_dead_left_is_seen_and_cleared() {
        let (_home, pool) = pool();
        let left = Record { pid: 1, start: 0, pid_namespace: proc::own_namespace(), ..me() };
        write(&pool.dir.file("slot-0").unwrap(), &left.block()).unwrap();
        assert_eq!(pool.slots().unwrap(), [Seen { index: 0, held: false, record: Some(left.clone()) }]);
        assert_eq!(alive(&left), Some(false), "another process has the number");
        assert_eq!(alive(&Record { pid_namespace: 1, ..left.clone() }), None);
        let held = take(&pool, 9).unwrap();
        write(&pool.dir.file("slot-1").unwrap(), &left.block()).unwrap();
        assert!(pool.clear_stale(|seen| seen.index == 0).unwrap().is_empty());
        let cleared = pool.clear_stale(|_| true).unwrap();
        assert_eq!(cleared.iter().map(|seen| seen.index).collect::<Vec<_>>(), [1]);
        assert_eq!(pool.slots().unwrap()[0].record.as_ref(), Some(held.record()));
        assert!(pool.clear_stale(|_| true).unwrap().is_empty());
    }

    #[test]
    fn a_slot_file_that_was_replaced_is_not_the_slot() {
        let (_home, pool) = pool();
        let path = pool.path().join("slot-0");
        let held = take(&pool, 1).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(!pool.dir.is_current(&held.file, "slot-0").unwrap());
        // Nobody can see the old one any more; the new one is a slot of its own.
        let again = take(&pool, 1).unwrap();
        assert!(pool.dir.is_current(&again.file, "slot-0").unwrap());
    }

    #[test]
    fn a_gate_that_stays_locked_is_told() {
        let (_home, pool) = pool();
        let gate = pool.dir.file("gate").unwrap();
        assert!(try_lock(&gate).unwrap());
        let began = Instant::now();
        let Err(Denied::Failed(error)) = take(&pool, 1) else { panic!("the gate is locked") };
        assert_eq!(error.kind, Kind::Unreachable);
        assert!(began.elapsed() < GATE * 2);
    }
}
