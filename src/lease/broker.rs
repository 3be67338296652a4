//! Who gets a slot, and why not: pure, over what was seen under the gate.

use std::fmt;

use crate::proc;
use crate::wire::lease::Record;

/// How many encoder sessions the machine bears, all its boards together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limit {
    /// Nobody knows: slots only name their holders.
    Unknown,
    /// As many as memory holds: slots only name their holders.
    Unlimited,
    Sessions(u32),
}

/// A slot as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub index: u32,
    /// Some process holds its lock.
    pub held: bool,
    /// What its file says; of a slot that nobody holds, what a dead holder left.
    pub record: Option<Record>,
}

/// What is decided upon.
pub struct Scene<'a> {
    pub limit: Limit,
    pub slots: &'a [Seen],
    /// The pids of all the machine's encoder sessions, as the driver reports them; `None` where it cannot be asked.
    pub sessions: Option<&'a [u32]>,
    pub pids: Pids<'a>,
}

/// How this process sees others.
pub struct Pids<'a> {
    /// Inode number of our pid namespace.
    pub namespace: u64,
    /// Whether the driver's pids are those of our namespace.
    pub host: bool,
    /// A process's parent.
    pub parent: &'a dyn Fn(u32) -> Option<u32>,
    /// Whether the recorded owner of a slot runs, as far as that can be told from here.
    pub alive: &'a dyn Fn(&Record) -> Option<bool>,
}

/// Why there is no slot: to be told to whoever asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub limit: u32,
    /// The slots that are held, by index.
    pub held: Vec<Seen>,
    /// Sessions of programs that hold no slot.
    pub foreign: u32,
}

/// The slot to take: the lowest that is free.
pub fn admit(scene: &Scene) -> Result<u32, Refusal> {
    let held: Vec<Seen> = scene.slots.iter().filter(|slot| slot.held).cloned().collect();
    if let Limit::Sessions(limit) = scene.limit {
        let foreign = foreign(scene);
        if held.len() as u64 + u64::from(foreign) >= u64::from(limit) {
            return Err(Refusal { limit, held, foreign });
        }
    }
    let taken = |index: &u32| held.iter().any(|slot| slot.index == *index);
    Ok((0..).find(|index| !taken(index)).expect("fewer slots are held than there are numbers"))
}

/// The sessions that no holder of a slot accounts for.
///
/// A session is a holder's if its process is the holder or below it; of several, the nearest's. A holder may not have opened
/// its session yet, and one session a slot is what a slot is for: what it opens beyond counts as foreign. Where pids
/// cannot be compared, or a dead owner has left the slot to a process that nothing leads to, a session of nobody's is taken
/// for that of a slot without one.
pub fn foreign(scene: &Scene) -> u32 {
    let mut idle: Vec<&Seen> = scene.slots.iter().filter(|slot| slot.held).collect();
    let mut unmatched = 0_u32;
    for &pid in scene.sessions.unwrap_or_default() {
        let of = |slot: &Seen, pid| {
            slot.record.as_ref().is_some_and(|r| r.pid == pid && r.pid_namespace == scene.pids.namespace)
        };
        let own = proc::line(pid, scene.pids.parent).find_map(|pid| idle.iter().position(|slot| of(slot, pid)));
        match own {
            Some(at) => drop(idle.swap_remove(at)),
            None => unmatched += 1,
        }
    }
    let incomparable = idle.iter().filter(|slot| {
        let own = slot.record.as_ref().filter(|record| record.pid_namespace == scene.pids.namespace && scene.pids.host);
        own.is_none_or(|record| (scene.pids.alive)(record) == Some(false))
    });
    unmatched.saturating_sub(incomparable.count() as u32)
}

/// The holder of a slot in words.
pub fn holder(slot: &Seen) -> String {
    match &slot.record {
        Some(Record { instance_id, pid, label: Some(label), .. }) if instance_id.is_empty() => {
            format!("{label} (pid {pid})")
        }
        Some(Record { instance_id, pid, .. }) => format!("{instance_id} (pid {pid})"),
        None => format!("slot-{}, whose holder is not named", slot.index),
    }
}

/// In words, after "no encoder slot: ".
impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Refusal { limit, held, foreign } = self;
        if *limit == 0 {
            return f.write_str("this machine is to use none (limit 0)");
        }
        let mut parts = Vec::new();
        if !held.is_empty() {
            let names: Vec<String> = held.iter().map(holder).collect();
            parts.push(format!("{} of {limit} held by {}", held.len(), names.join(", ")));
        }
        if *foreign > 0 {
            let of = if held.is_empty() { format!(" of {limit}") } else { String::new() };
            let programs = if *foreign == 1 { "a program that takes" } else { "programs that take" };
            parts.push(format!("{foreign}{of} used by {programs} no slots"));
        }
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: u64 = 100;
    const THERE: u64 = 200;

    fn slot(index: u32, pid: u32, namespace: u64) -> Seen {
        let record =
            Record { pid, pid_namespace: namespace, instance_id: format!("omega-{index}"), ..Record::default() };
        Seen { index, held: true, record: Some(record) }
    }

    fn free(index: u32) -> Seen {
        Seen { held: false, ..slot(index, 9999, HERE) }
    }

    /// 11 is the child of 10, 12 of 11; 21 of 20; the rest are init's.
    fn parent(pid: u32) -> Option<u32> {
        match pid {
            11 => Some(10),
            12 => Some(11),
            21 => Some(20),
            0 | 1 => None,
            _ => Some(1),
        }
    }

    /// 40 is dead.
    fn alive(record: &Record) -> Option<bool> {
        (record.pid_namespace == HERE).then_some(record.pid != 40)
    }

    fn scene<'a>(limit: Limit, slots: &'a [Seen], sessions: &'a [u32], host: bool) -> Scene<'a> {
        Scene {
            limit,
            slots,
            sessions: Some(sessions),
            pids: Pids { namespace: HERE, host, parent: &parent, alive: &alive },
        }
    }

    #[test]
    fn the_lowest_free_slot_is_given_until_all_are_held() {
        let two = Limit::Sessions(2);
        let cases: &[(Limit, &[Seen], Result<u32, usize>)] = &[
            (two, &[], Ok(0)),
            (two, &[free(0), free(1)], Ok(0)),
            (two, &[slot(0, 10, HERE)], Ok(1)),
            (two, &[free(0), slot(1, 10, HERE)], Ok(0)),
            (two, &[slot(0, 10, HERE), slot(1, 20, HERE)], Err(2)),
            // The limit was larger when they were taken.
            (two, &[free(0), slot(1, 10, HERE), slot(4, 20, HERE)], Err(2)),
            (Limit::Sessions(1), &[slot(7, 10, HERE)], Err(1)),
            (Limit::Sessions(0), &[], Err(0)),
            (Limit::Unlimited, &[slot(0, 10, HERE), slot(1, 20, HERE)], Ok(2)),
            (Limit::Unknown, &[slot(0, 10, HERE), free(1), slot(2, 20, HERE)], Ok(1)),
        ];
        for (limit, slots, want) in cases {
            let got = admit(&scene(*limit, slots, &[], true)).map_err(|refusal| refusal.held.len());
            assert_eq!(got, *want, "{limit:?} {slots:?}");
        }
    }

    #[test]
    fn foreign_sessions_are_those_that_no_holder_accounts_for() {
        let mine = [slot(0, 10, HERE)];
        let both = [slot(0, 10, HERE), slot(1, 20, HERE)];
        let away = [slot(0, 10, HERE), slot(1, 20, THERE)];
        let orphaned = [slot(0, 40, HERE)];
        let nested = [slot(0, 10, HERE), slot(1, 11, HERE)];
        let unnamed = [Seen { index: 0, held: true, record: None }];
        /// Slots, the sessions' pids, whether these are of our namespace, how many are foreign, and why.
        type Case<'a> = (&'a [Seen], &'a [u32], bool, u32, &'a str);
        let cases: &[Case] = &[
            (&[], &[], true, 0, "nothing"),
            (&[], &[50, 51], true, 2, "nobody holds a slot"),
            (&mine, &[10], true, 0, "the holder itself"),
            (&mine, &[12], true, 0, "a grandchild of the holder"),
            (&mine, &[10, 10], true, 1, "one session a slot"),
            (&mine, &[11, 12], true, 1, "below one holder"),
            (&mine, &[50], true, 1, "a holder has not opened its own yet"),
            (&both, &[21, 10], true, 0, "each its own"),
            (&both, &[10, 50], true, 1, "one of ours is still to come"),
            (&away, &[10, 777], true, 0, "a holder in a container has another pid there"),
            (&away, &[10, 777, 778], true, 1, "and one session only"),
            (&mine, &[777], false, 0, "seen from within a container"),
            (&mine, &[777, 778], false, 1, "seen from within a container"),
            (&unnamed, &[777], true, 0, "a holder that cannot be read"),
            (&orphaned, &[777], true, 0, "what a dead owner left to a process that nothing leads to"),
            (&orphaned, &[777, 778], true, 1, "and no more than that"),
            (&nested, &[11, 10], true, 0, "a holder below a holder, each with its own"),
            (&nested, &[12, 10], true, 0, "the nearest is meant, whatever the order"),
            (&nested, &[10, 12], true, 0, "the nearest is meant, whatever the order"),
            (&[free(0)], &[9999], true, 1, "what a dead holder left accounts for nothing"),
        ];
        for (slots, sessions, host, want, why) in cases {
            assert_eq!(foreign(&scene(Limit::Sessions(9), slots, sessions, *host)), *want, "{why}");
        }
        let blind = Scene { sessions: None, ..scene(Limit::Sessions(1), &mine, &[], true) };
        assert_eq!(foreign(&blind), 0, "the driver cannot be asked");
    }

    #[test]
    fn foreign_sessions_take_capacity() {
        let mine = [slot(0, 10, HERE)];
        let three = Limit::Sessions(3);
        assert_eq!(admit(&scene(three, &mine, &[10, 50], true)), Ok(1));
        let refusal = admit(&scene(three, &mine, &[10, 50, 51], true)).unwrap_err();
        assert_eq!((refusal.limit, refusal.held.len(), refusal.foreign), (3, 1, 2));
    }

    #[test]
    fn a_refusal_names_the_holders() {
        let label = |mut seen: Seen| {
            let record = seen.record.as_mut().unwrap();
            (record.instance_id, record.label) = (String::new(), Some("ffmpeg".into()));
            seen
        };
        let words = |limit, held: &[Seen], foreign| Refusal { limit, held: held.to_vec(), foreign }.to_string();
        assert_eq!(
            words(2, &[slot(0, 10, HERE), label(slot(1, 20, HERE))], 0),
            "2 of 2 held by omega-0 (pid 10), ffmpeg (pid 20)"
        );
        assert_eq!(
            words(2, &[slot(0, 10, HERE)], 1),
            "1 of 2 held by omega-0 (pid 10), 1 used by a program that takes no slots"
        );
        assert_eq!(words(2, &[], 2), "2 of 2 used by programs that take no slots");
        assert_eq!(words(0, &[], 0), "this machine is to use none (limit 0)");
    }

    #[test]
    fn a_loop_of_parents_ends() {
        let parent = |pid| Some(if pid == 30 { 31 } else { 30 });
        let pids = Pids { namespace: HERE, host: true, parent: &parent, alive: &alive };
        let slots = [slot(0, 10, HERE)];
        assert_eq!(foreign(&Scene { limit: Limit::Unknown, slots: &slots, sessions: Some(&[30]), pids }), 1);
    }
}
