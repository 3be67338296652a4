//! `gsk cleanup`: observes, plans, and, where it was asked to, does what the plan says.
//!
//! Between a look and a signal a number may come to mean another process. So a process is first pinned by a pidfd, then
//! everything is observed and planned anew, and only what is in both plans gets the signal, through the pidfd.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::Serialize;

use super::cleanup::{Action, Facts, Item, Kind, Outcome, Session, plan};
use super::holders::{self, Owner};
use crate::error::{self, Error, Result};
use crate::exit::Code;
use crate::gpu;
use crate::lease::{Pool, Seen, slot_name};
use crate::proc;

/// What `gsk cleanup` is to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Clear the records that dead owners left.
    pub leases: bool,
    /// End the processes that hold slots of dead owners.
    pub kill: bool,
    /// Between SIGTERM and SIGKILL.
    pub grace: Duration,
}

/// How long the driver may take to list its sessions.
const DRIVER: Duration = Duration::from_millis(1500);
/// How long an end by SIGKILL, and the driver's notice of it, are waited for.
const LAST: Duration = Duration::from_secs(1);

/// The plan, and what was done of it.
#[derive(Clone, Debug, Serialize)]
pub struct Cleanup {
    /// Null where no program has taken a slot on this machine yet.
    pub lease_dir: Option<String>,
    /// Whether anything was to be done: otherwise this is a plan.
    pub carried_out: bool,
    pub items: Vec<Item>,
    /// What is free now and was not before; null in a plan.
    pub freed: Option<Freed>,
    #[serde(skip)]
    options: Options,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Freed {
    pub slots: Vec<String>,
    /// Encoder sessions before and after, by NVML; null where it cannot be asked.
    pub sessions_before: Option<usize>,
    pub sessions_after: Option<usize>,
}

/// Plans, and does of it what the options say.
pub fn run(options: Options) -> Result<Cleanup> {
    if options.kill && !proc::shows_own_namespace() {
        return Err(Error::new(
            error::Kind::Permission,
            "/proc shows the processes of another pid namespace than ours",
        )
        .cause("their numbers are not those that signals go by here")
        .hint("mount it anew where the namespace is entered: unshare --pid --fork --mount-proc"));
    }
    let pool = Pool::existing()?;
    let facts = observe(pool.as_ref())?;
    let mut cleanup = Cleanup {
        lease_dir: pool.as_ref().map(|pool| pool.path().display().to_string()),
        carried_out: options.kill || options.leases,
        items: plan(&facts),
        freed: None,
        options,
    };
    if options.kill {
        end(&mut cleanup.items, options.grace, || Ok(plan(&observe(pool.as_ref())?)))?;
    }
    if let Some(pool) = pool.as_ref().filter(|_| cleanup.carried_out) {
        cleanup.clear(pool, &facts)?;
        cleanup.freed = Some(freed(pool, &facts, &cleanup.items)?);
    }
    Ok(cleanup)
}

impl Cleanup {
    /// Clears the records of the plan, and those of slots that became free by an end.
    fn clear(&mut self, pool: &Pool, facts: &Facts) -> Result<()> {
        let wanted = |seen: &Seen| {
            let ours = seen.record.as_ref().is_some_and(|record| record.pid_namespace == facts.namespace);
            let ended = |item: &Item| {
                item.index == Some(seen.index) && matches!(item.outcome, Some(Outcome::Ended | Outcome::Killed))
            };
            ours && (self.options.leases || self.items.iter().any(ended))
        };
        let cleared: BTreeSet<u32> = pool.clear_stale(wanted)?.into_iter().map(|seen| seen.index).collect();
        if self.options.leases {
            let planned = self.items.iter_mut().filter(|item| item.action == Action::Clear);
            for item in planned {
                // One that is not stale any more was taken meanwhile, which cleared it as well.
                let done = item.index.is_some_and(|index| cleared.contains(&index));
                item.outcome = Some(if done { Outcome::Cleared } else { Outcome::Spared });
            }
        }
        Ok(())
    }

    /// 0 where nothing is left to do; 4 where something that was asked for is not ours to do or was refused; else 1.
    pub fn code(&self) -> Code {
        let code = |item: &Item| {
            let asked = match item.kind {
                Kind::Zombie => self.options.kill,
                Kind::StaleRecord => self.options.leases,
                Kind::Holder | Kind::ForeignSession => return Code::Good,
            };
            match (asked, item.action, item.outcome) {
                (false, ..) => Code::Bad,
                (true, Action::Leave, _) | (true, _, Some(Outcome::Refused)) => Code::Permission,
                (true, _, Some(Outcome::Survived) | None) => Code::Bad,
                (true, _, Some(_)) => Code::Good,
            }
        };
        self.items.iter().map(code).max_by_key(|code| *code as u8).unwrap_or(Code::Good)
    }
}

/// Looks at slots, processes and sessions.
fn observe(pool: Option<&Pool>) -> Result<Facts> {
    let slots = pool.map_or_else(|| Ok(Vec::new()), Pool::slots)?;
    let files = pool.map_or_else(|| Ok(Vec::new()), |pool| holders::files(pool, &slots))?;
    // A free slot has no holder to look for.
    let held: Vec<_> = files.into_iter().zip(&slots).filter(|(_, seen)| seen.held).map(|(file, _)| file).collect();
    let holders = holders::all(&held);
    let slots = holders::owned(slots);
    let namespace = proc::own_namespace();
    let live: Vec<u32> = slots
        .iter()
        .filter(|(_, owner)| *owner == Some(Owner::Alive))
        .filter_map(|(seen, _)| Some(seen.record.as_ref()?.pid))
        .collect();
    let ours =
        |pid: u32| holders.all.iter().any(|holder| holder.pid == pid) || line(pid).iter().any(|pid| live.contains(pid));
    let comparable = proc::sees_host_pids();
    let session = |session: gpu::Session| Session {
        gpu: session.gpu,
        pid: session.pid,
        program: proc::name(session.pid).filter(|_| comparable),
        user: proc::user(session.pid).filter(|_| comparable),
        ours: if ours(session.pid) { Some(true) } else { comparable.then_some(false) },
    };
    let sessions = gpu::sessions(DRIVER).map(|all| all.into_iter().map(session).collect());
    Ok(Facts { slots, sessions, namespace, own_line: line(std::process::id()), holders })
}

/// A process and those that it runs below, init excepted.
pub(super) fn line(pid: u32) -> Vec<u32> {
    proc::line(pid, proc::parent).collect()
}

struct Target<'a> {
    item: &'a mut Item,
    pidfd: OwnedFd,
}

/// Ends the processes of the plan: SIGTERM, the grace, SIGKILL. `again` observes and plans anew.
fn end(items: &mut [Item], grace: Duration, again: impl Fn() -> Result<Vec<Item>>) -> Result<()> {
    let mut targets = Vec::new();
    for item in items.iter_mut().filter(|item| item.action == Action::End) {
        match item.pid.and_then(|pid| Pid::from_raw(pid as i32)).map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(pidfd)) => targets.push(Target { item, pidfd }),
            Some(Err(Errno::SRCH)) => item.outcome = Some(Outcome::Ended),
            _ => item.outcome = Some(Outcome::Refused),
        }
    }
    let targets = signal(targets, Signal::TERM, &again)?;
    let left = wait(targets, grace, Outcome::Ended);
    let left = signal(left, Signal::KILL, &again)?;
    for target in wait(left, LAST, Outcome::Killed) {
        target.item.outcome = Some(Outcome::Survived);
    }
    Ok(())
}

/// Sends a signal to those that a fresh look condemns as well; gives those that got it.
fn signal<'a>(
    targets: Vec<Target<'a>>,
    signal: Signal,
    again: impl Fn() -> Result<Vec<Item>>,
) -> Result<Vec<Target<'a>>> {
    if targets.is_empty() {
        return Ok(targets);
    }
    let now = again()?;
    let mut sent = Vec::new();
    for target in targets {
        let same = |item: &Item| {
            (item.action, item.pid, item.start, item.index)
                == (Action::End, target.item.pid, target.item.start, target.item.index)
        };
        // While the pidfd does not show an end, the number was its process's all along, and so is what was seen under it.
        let outcome = if ended(&target.pidfd) {
            Outcome::Ended
        } else if !now.iter().any(same) {
            Outcome::Spared
        } else {
            match pidfd_send_signal(&target.pidfd, signal) {
                Ok(()) => {
                    sent.push(target);
                    continue;
                }
                Err(Errno::SRCH) => Outcome::Ended,
                Err(_) => Outcome::Refused,
            }
        };
        target.item.outcome = Some(outcome);
    }
    Ok(sent)
}

/// Waits for the ends of all; gives those that have not ended in time.
fn wait(mut targets: Vec<Target>, at_most: Duration, outcome: Outcome) -> Vec<Target> {
    let until = Instant::now() + at_most;
    loop {
        targets.retain_mut(|target| {
            let ended = ended(&target.pidfd);
            if ended {
                target.item.outcome = Some(outcome);
            }
            !ended
        });
        let left = until.saturating_duration_since(Instant::now());
        if targets.is_empty() || left.is_zero() {
            return targets;
        }
        let mut fds: Vec<PollFd> = targets.iter().map(|target| PollFd::new(&target.pidfd, PollFlags::IN)).collect();
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        // An interrupted wait is looked at as one that is over.
        let _ = poll(&mut fds, Some(&timeout));
    }
}

/// A pidfd is readable once its process has ended.
fn ended(pidfd: &OwnedFd) -> bool {
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
}

/// What became free. The driver learns of an end a moment after it: it is asked until it shows fewer sessions, or time is up.
fn freed(pool: &Pool, before: &Facts, items: &[Item]) -> Result<Freed> {
    let held =
        |slots: Vec<Seen>| slots.into_iter().filter(|seen| seen.held).map(|seen| seen.index).collect::<BTreeSet<_>>();
    let was = held(before.slots.iter().map(|(seen, _)| seen.clone()).collect());
    let is = held(pool.slots()?);
    let gone: BTreeSet<u32> = items
        .iter()
        .filter(|item| matches!(item.outcome, Some(Outcome::Ended | Outcome::Killed)))
        .filter_map(|item| item.pid)
        .collect();
    let listed = |pids: &[u32]| pids.iter().any(|pid| gone.contains(pid));
    let pids = || gpu::sessions(DRIVER).map(|all| all.iter().map(|session| session.pid).collect::<Vec<u32>>());
    let until = Instant::now() + LAST;
    let mut after = before.sessions.as_ref().and_then(|_| pids());
    while after.as_deref().is_some_and(listed) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(20));
        after = pids();
    }
    Ok(Freed {
        slots: was.difference(&is).map(|&index| slot_name(index)).collect(),
        sessions_before: before.sessions.as_ref().map(Vec::len),
        sessions_after: after.map(|pids| pids.len()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(kind: Kind, action: Action, outcome: Option<Outcome>) -> Item {
        let pid = Some(7);
        Item {
            kind,
            action,
            slot: None,
            pid,
            program: None,
            user: None,
            why: String::new(),
            outcome,
            start: 0,
            index: None,
        }
    }

    #[test]
    fn the_exit_code_says_whether_anything_is_left() {
        use Action::*;
        use Kind::*;
        use Outcome::*;
        let zombie = |outcome| item(Zombie, End, outcome);
        let record = |outcome| item(StaleRecord, Clear, outcome);
        let cases = [
            (false, false, vec![], Code::Good),
            (false, false, vec![item(Holder, Leave, None), item(ForeignSession, Leave, None)], Code::Good),
            (false, false, vec![zombie(None)], Code::Bad),
            (false, false, vec![record(None)], Code::Bad),
            (false, false, vec![item(Zombie, Leave, None)], Code::Bad),
            (true, false, vec![zombie(Some(Ended))], Code::Good),
            (true, false, vec![zombie(Some(Killed)), record(None)], Code::Bad),
            (true, false, vec![zombie(Some(Survived))], Code::Bad),
            (true, false, vec![zombie(Some(Spared))], Code::Good),
            (true, false, vec![zombie(Some(Refused)), record(None)], Code::Permission),
            (true, false, vec![zombie(Some(Ended)), item(Zombie, Leave, None)], Code::Permission),
            (false, true, vec![record(Some(Cleared))], Code::Good),
            (false, true, vec![record(Some(Cleared)), zombie(None)], Code::Bad),
            (false, true, vec![item(StaleRecord, Leave, None)], Code::Permission),
            (true, true, vec![record(Some(Cleared)), zombie(Some(Ended))], Code::Good),
        ];
        for (kill, leases, items, code) in cases {
            let options = Options { kill, leases, grace: Duration::ZERO };
            let cleanup = Cleanup { lease_dir: None, carried_out: kill || leases, items, freed: None, options };
            assert_eq!(cleanup.code(), code, "{cleanup:?}");
        }
    }

    #[test]
    fn who_is_not_condemned_twice_gets_no_signal() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let target =
            || Item { pid: Some(child.id()), start: 5, index: Some(0), ..item(Kind::Zombie, Action::End, None) };
        for other in [
            Item { start: 6, ..target() },
            Item { index: Some(1), ..target() },
            Item { action: Action::Leave, ..target() },
        ] {
            let mut items = [target()];
            end(&mut items, Duration::ZERO, || Ok(vec![other.clone()])).unwrap();
            assert_eq!(items[0].outcome, Some(Outcome::Spared));
        }
        let mut items = [target()];
        end(&mut items, Duration::from_secs(20), || Ok(vec![target()])).unwrap();
        assert_eq!(items[0].outcome, Some(Outcome::Ended));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.wait().unwrap()), Some(15));
        let mut items = [Item { pid: Some(child.id()), ..item(Kind::Zombie, Action::End, None) }];
        end(&mut items, Duration::ZERO, || panic!("nothing is left to look at")).unwrap();
        assert_eq!(items[0].outcome, Some(Outcome::Ended));
    }
}
