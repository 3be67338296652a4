//! What dead owners left: which processes to end, which records to clear, and why. Pure, over what was observed.
//!
//! A process is ended only where all of this holds:
//!
//! - it has a slot's lock open (the kernel's word, see [`holders`](super::holders));
//! - the slot's record names an owner of our pid namespace that is dead, by its number and start time;
//! - the process that took the lock does not have it any more (the kernel's word again: a record that anybody forged
//!   makes no live holder a target);
//! - it runs in our pid namespace, and this command does not run below it.
//!
//! Environment, command line and NVML's list of sessions have no part in it; NVML's pids only confirm.

use serde::Serialize;

use super::holders::{Holder, Holders, Owner};
use crate::lease::{Seen, broker, slot_name};
use crate::output::text::sanitise;

/// All that a plan is made of.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub slots: Vec<(Seen, Option<Owner>)>,
    pub holders: Holders,
    /// `None` where the driver cannot be asked.
    pub sessions: Option<Vec<Session>>,
    /// Inode number of our pid namespace.
    pub namespace: u64,
    /// This process and those that it runs below.
    pub own_line: Vec<u32>,
}

/// An encoder session, as NVML lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    pub gpu: u32,
    pub pid: u32,
    pub program: Option<String>,
    pub user: Option<u32>,
    /// Whether it is a slot holder's or runs below one's live owner; `None` where pids cannot be compared.
    pub ours: Option<bool>,
}

/// What an item is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A slot is held on after its owner's death.
    Zombie,
    /// A free slot whose record names who held it last.
    StaleRecord,
    /// A process that holds a slot, and is to.
    Holder,
    /// An encoder session of a program that takes no slots.
    ForeignSession,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    End,
    Clear,
    Leave,
}

/// What became of an action that was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It ended by itself or by SIGTERM.
    Ended,
    /// It ended by SIGKILL.
    Killed,
    /// When it was looked at again, it was not to be ended any more.
    Spared,
    /// The system refused permission.
    Refused,
    /// It did not even end by SIGKILL in time.
    Survived,
    Cleared,
}

/// One line of the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    pub kind: Kind,
    pub action: Action,
    pub slot: Option<String>,
    pub pid: Option<u32>,
    pub program: Option<String>,
    pub user: Option<String>,
    pub why: String,
    /// Null in a plan.
    pub outcome: Option<Outcome>,
    /// With the pid it names one process.
    #[serde(skip)]
    pub start: u64,
    #[serde(skip)]
    pub index: Option<u32>,
}

impl Item {
    fn new(kind: Kind, action: Action, why: impl Into<String>) -> Item {
        Item {
            kind,
            action,
            slot: None,
            pid: None,
            program: None,
            user: None,
            why: why.into(),
            outcome: None,
            start: 0,
            index: None,
        }
    }

    fn of_slot(self, index: u32) -> Item {
        Item { slot: Some(slot_name(index)), index: Some(index), ..self }
    }

    fn of_holder(self, holder: &Holder) -> Item {
        let named = Item {
            pid: Some(holder.pid),
            program: holder.program.clone(),
            user: holder.user.map(user_name),
            start: holder.start,
            ..self
        };
        named.of_slot(holder.lock.slot)
    }

    /// Whether it is work, done or not.
    pub fn is_work(&self) -> bool {
        matches!(self.kind, Kind::Zombie | Kind::StaleRecord)
    }
}

/// A user's name, or number where it has none here.
pub fn user_name(user: u32) -> String {
    crate::proc::user_name(user).unwrap_or_else(|| user.to_string())
}

/// The plan for what was observed: work first, then what is left alone.
pub fn plan(facts: &Facts) -> Vec<Item> {
    let mut items: Vec<Item> = facts.slots.iter().flat_map(|(seen, owner)| slot(facts, seen, owner.as_ref())).collect();
    items.extend(facts.sessions.iter().flatten().filter(|session| session.ours != Some(true)).map(foreign));
    items.sort_by_key(|item| (!item.is_work(), item.action == Action::Leave));
    items
}

fn slot(facts: &Facts, seen: &Seen, owner: Option<&Owner>) -> Vec<Item> {
    if !seen.held {
        return seen.record.iter().map(|_| stale(facts, seen)).collect();
    }
    let holders: Vec<&Holder> = facts.holders.all.iter().filter(|holder| holder.lock.slot == seen.index).collect();
    if holders.is_empty() {
        return unseen(facts, seen, owner).into_iter().collect();
    }
    holders.iter().map(|holder| held(facts, seen, owner, holder, &holders)).collect()
}

/// Nobody holds it: the kernel says so, whatever the record does.
fn stale(facts: &Facts, seen: &Seen) -> Item {
    let name = slot_name(seen.index);
    let left = format!("nobody holds {name}, and its record still names {}", broker::holder(seen));
    let item = match &seen.record {
        Some(record) if record.pid_namespace != facts.namespace => {
            let why = format!("{left}, of another pid namespace: clear it from there");
            Item::new(Kind::StaleRecord, Action::Leave, why)
        }
        _ => Item::new(Kind::StaleRecord, Action::Clear, left),
    };
    item.of_slot(seen.index)
}

/// It is held, and no process that we may look into holds it.
fn unseen(facts: &Facts, seen: &Seen, owner: Option<&Owner>) -> Option<Item> {
    let by = match facts.holders.hidden {
        true => "by a process that may only be looked into with its user's rights or root's",
        false => "by a process that cannot be seen from this pid namespace",
    };
    let (kind, of) = match owner {
        None => (Kind::Holder, "its record names nobody".into()),
        Some(Owner::Alive) => (Kind::Holder, format!("its owner {} is alive", broker::holder(seen))),
        Some(Owner::Elsewhere { .. }) => {
            (Kind::Holder, format!("its record names {}, of another pid namespace", broker::holder(seen)))
        }
        Some(Owner::Dead(why)) => (Kind::Zombie, format!("its owner {} {why}", broker::holder(seen))),
    };
    let why = format!("{} is held {by}; {of}", slot_name(seen.index));
    Some(Item::new(kind, Action::Leave, why).of_slot(seen.index))
}

/// One process that has the slot's lock.
fn held(facts: &Facts, seen: &Seen, owner: Option<&Owner>, holder: &Holder, all: &[&Holder]) -> Item {
    let name = slot_name(seen.index);
    let leave = |kind, why: String| Item::new(kind, Action::Leave, why).of_holder(holder);
    let keep = |why: String| leave(Kind::Holder, why);
    let who = broker::holder(seen);
    let dead = match owner {
        None => return keep(format!("it has {name}'s lock; the record names no owner, so nothing shows one dead")),
        Some(Owner::Alive) if seen.record.as_ref().is_some_and(|record| record.pid == holder.pid) => {
            return keep(format!("it owns {name} and is alive"));
        }
        Some(Owner::Alive) => return keep(format!("it has {name}'s lock from its owner {who}, which is alive")),
        Some(Owner::Elsewhere { alive: Some(false) }) => {
            let why =
                format!("it has {name}'s lock, and the owner {who} is gone; but that was another pid namespace's");
            return leave(Kind::Zombie, format!("{why}: run gsk cleanup there, or end it by hand"));
        }
        Some(Owner::Elsewhere { .. }) => {
            return keep(format!("it has {name}'s lock; the owner {who} is of another pid namespace"));
        }
        Some(Owner::Dead(why)) => why,
    };
    if let Some(taker) = all.iter().find(|other| Some(other.pid) == other.lock.taker) {
        let is = if taker.pid == holder.pid { "it".into() } else { format!("pid {}", taker.pid) };
        return keep(format!(
            "the record of {name} names {who}, which {dead}; but {is} took the lock itself and is alive"
        ));
    }
    let has = format!("it has {name}'s lock (descriptor {}) from its owner {who}, which {dead}", holder.lock.fd);
    if holder.namespace != Some(facts.namespace) {
        return leave(Kind::Zombie, format!("{has}; but it runs in another pid namespace: run gsk cleanup there"));
    }
    if facts.own_line.contains(&holder.pid) {
        return leave(Kind::Zombie, format!("{has}; but this command runs below it: end it by hand"));
    }
    let sessions = facts.sessions.iter().flatten().filter(|session| session.pid == holder.pid).count();
    let confirmed = match sessions {
        0 => String::new(),
        1 => "; NVML lists a session of it".into(),
        many => format!("; NVML lists {many} sessions of it"),
    };
    Item::new(Kind::Zombie, Action::End, has + &confirmed).of_holder(holder)
}

fn foreign(session: &Session) -> Item {
    let why = match session.ours {
        None => format!("a session on GPU {}; from within a container its pid does not tell whose it is", session.gpu),
        Some(_) => format!("a session on GPU {} of a program that takes no slots", session.gpu),
    };
    Item {
        pid: Some(session.pid),
        program: session.program.as_deref().map(sanitise),
        user: session.user.map(user_name),
        ..Item::new(Kind::ForeignSession, Action::Leave, why)
    }
}

#[cfg(test)]
mod tests {
    use super::super::holders::Lock;
    use super::*;
    use crate::wire::lease::Record;

    const HERE: u64 = 100;
    const DEAD: Owner = Owner::Dead("is gone");

    fn seen(index: u32, held: bool, namespace: u64) -> Seen {
        let record = Record {
            pid: 10 + index,
            pid_namespace: namespace,
            instance_id: format!("omega-{index}"),
            ..Record::default()
        };
        Seen { index, held, record: Some(record) }
    }

    fn holder(slot: u32, pid: u32, taker: Option<u32>) -> Holder {
        Holder {
            lock: Lock { slot, fd: 3, taker },
            pid,
            start: 7,
            namespace: Some(HERE),
            program: Some("sleep".into()),
            user: Some(0),
        }
    }

    fn facts(slots: Vec<(Seen, Option<Owner>)>, holders: Vec<Holder>) -> Facts {
        Facts {
            slots,
            holders: Holders { all: holders, hidden: false },
            sessions: None,
            namespace: HERE,
            own_line: vec![900, 901],
        }
    }

    #[test]
    fn what_is_ended_and_what_is_not() {
        use Action::{End, Leave};
        use Kind::{Holder as Kept, Zombie};
        let held = || seen(0, true, HERE);
        let unnamed = Seen { record: None, ..held() };
        let away = Owner::Elsewhere { alive: Some(true) };
        let lost = Owner::Elsewhere { alive: Some(false) };
        let inner = Holder { namespace: Some(HERE + 1), ..holder(0, 50, None) };
        let cases = [
            (
                held(),
                Some(DEAD),
                holder(0, 50, Some(10)),
                Zombie,
                End,
                "from its owner omega-0 (pid 10), which is gone",
            ),
            (held(), Some(DEAD), holder(0, 50, None), Zombie, End, "descriptor 3"),
            (held(), Some(Owner::Alive), holder(0, 10, Some(10)), Kept, Leave, "owns slot-0 and is alive"),
            (
                held(),
                Some(Owner::Alive),
                holder(0, 50, Some(10)),
                Kept,
                Leave,
                "from its owner omega-0 (pid 10), which is alive",
            ),
            (held(), Some(DEAD), holder(0, 50, Some(50)), Kept, Leave, "but it took the lock itself"),
            (unnamed, None, holder(0, 50, Some(10)), Kept, Leave, "nothing shows one dead"),
            (held(), Some(away.clone()), holder(0, 50, Some(10)), Kept, Leave, "another pid namespace"),
            (held(), Some(lost), holder(0, 50, Some(10)), Zombie, Leave, "run gsk cleanup there"),
            (held(), Some(DEAD), inner, Zombie, Leave, "runs in another pid namespace"),
            (held(), Some(DEAD), holder(0, 900, Some(10)), Zombie, Leave, "this command runs below it"),
        ];
        for (seen, owner, holder, kind, action, words) in cases {
            let items = plan(&facts(vec![(seen, owner)], vec![holder.clone()]));
            assert_eq!(items.len(), 1, "{words}");
            let item = &items[0];
            assert_eq!((item.kind, item.action, item.pid), (kind, action, Some(holder.pid)), "{words}: {item:?}");
            assert!(item.why.contains(words), "{words}: {}", item.why);
        }
    }

    #[test]
    fn a_forged_record_makes_no_live_holder_a_target() {
        // 20 took the lock and lives, 21 has it from there; the record names a dead process.
        let both = vec![holder(0, 20, Some(20)), holder(0, 21, Some(20))];
        let items = plan(&facts(vec![(seen(0, true, HERE), Some(DEAD))], both));
        assert!(items.iter().all(|item| item.action == Action::Leave), "{items:?}");
        assert!(items[1].why.contains("but pid 20 took the lock itself"), "{items:?}");
    }

    #[test]
    fn records_that_nobody_holds_are_cleared_where_they_are_ours() {
        let items = plan(&facts(vec![(seen(0, false, HERE), Some(DEAD)), (seen(1, false, HERE + 1), None)], vec![]));
        let got: Vec<_> = items.iter().map(|item| (item.action, item.slot.as_deref().unwrap())).collect();
        assert_eq!(got, [(Action::Clear, "slot-0"), (Action::Leave, "slot-1")]);
        assert!(items.iter().all(|item| item.kind == Kind::StaleRecord));
        let free = Seen { record: None, ..seen(0, false, HERE) };
        assert!(plan(&facts(vec![(free, None)], vec![])).is_empty());
    }

    #[test]
    fn holders_that_cannot_be_seen_are_told() {
        let cases = [
            (Some(DEAD), Kind::Zombie, "is gone"),
            (Some(Owner::Alive), Kind::Holder, "is alive"),
            (None, Kind::Holder, "nobody"),
        ];
        for (owner, kind, words) in cases {
            let mut facts = facts(vec![(seen(0, true, HERE), owner)], vec![]);
            facts.holders.hidden = true;
            let items = plan(&facts);
            assert_eq!((items[0].kind, items[0].action), (kind, Action::Leave));
            assert!(items[0].why.contains(words) && items[0].why.contains("rights"), "{}", items[0].why);
        }
    }

    #[test]
    fn sessions_of_others_are_listed_and_ours_confirm() {
        let session =
            |pid, ours| Session { pid, ours, program: Some("obs".into()), user: Some(0), ..Session::default() };
        let mut facts = facts(vec![(seen(0, true, HERE), Some(DEAD))], vec![holder(0, 50, Some(10))]);
        facts.sessions = Some(vec![session(50, Some(true)), session(60, Some(false)), session(70, None)]);
        let items = plan(&facts);
        assert!(items[0].why.ends_with("NVML lists a session of it"), "{}", items[0].why);
        let rest: Vec<_> = items[1..].iter().map(|item| (item.kind, item.action, item.pid)).collect();
        assert_eq!(
            rest,
            [(Kind::ForeignSession, Action::Leave, Some(60)), (Kind::ForeignSession, Action::Leave, Some(70))]
        );
    }
}
