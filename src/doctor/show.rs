//! The doctor's documents as tables.

use std::fmt::Display;

use super::cleanup::{Action, Kind, Outcome};
use super::picture::{Gpu, Lease, Picture, Session};
use super::sweep::{Cleanup, Freed};
use crate::client::Worker;
use crate::error::Error;
use crate::gpu::{Capacities, Driver};
use crate::lease::{Seen, broker};
use crate::output::{Show, Table};

/// A cell for what may not be known.
fn known<T: Display>(value: Option<T>) -> String {
    value.map_or_else(|| "-".into(), |value| value.to_string())
}

/// A serde name, as documents have it.
fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| Some(value.as_str()?.to_string())).unwrap_or_default()
}

impl Show for Picture {
    const SCHEMA: &'static str = "gsk.nvenc-status";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        self.gpus_table().above(self.sessions_table()).above(self.leases_table()).above(self.workers_table())
    }

    fn errors(&self) -> &[Error] {
        &self.errors
    }
}

impl Picture {
    fn gpus_table(&self) -> Table {
        let columns =
            ["gpu", "name", "engines", "sessions", "limit", "encoder_%", "decoder_%", "capacity_%", "limit_from"];
        let mut table = Table::titled("gpus", format!("GPUs: {}", self.driver_words()), columns);
        for gpu in &self.gpus {
            table.row(self.gpu_cells(gpu));
        }
        table
    }

    fn driver_words(&self) -> String {
        let driver = &self.driver;
        let state = match driver.state {
            Driver::Ready => format!("driver {}", driver.version.as_deref().unwrap_or("of unknown version")),
            Driver::NoLibrary => "no NVIDIA driver".into(),
            Driver::BadLibrary => "NVML cannot be used".into(),
            Driver::NotLoaded => "the NVIDIA kernel module is not loaded".into(),
            Driver::Mismatch => "the NVIDIA driver's library and kernel module are of different versions".into(),
            Driver::NoPermission => "no permission to ask the NVIDIA driver".into(),
            Driver::NoGpu => "none, though the NVIDIA driver is there".into(),
            Driver::Hung => "the NVIDIA driver does not answer".into(),
            Driver::Fault => "the NVIDIA driver fails".into(),
        };
        let hung = driver.hung.iter().map(|hung| format!("; {} has not returned for {} ms", hung.call, hung.for_ms));
        let used = (driver.state == Driver::Ready).then(|| format!("; {}", self.used_words()));
        std::iter::once(state).chain(hung).chain(used).collect()
    }

    fn used_words(&self) -> String {
        let sessions = if self.sessions_used == Some(1) { "session" } else { "sessions" };
        match (self.sessions_used, self.limit.sessions) {
            (Some(used), Some(limit)) => format!("{used} of {limit} encoder sessions in use"),
            (Some(used), None) => format!("{used} encoder {sessions} in use"),
            (None, _) => "encoder sessions are not known".into(),
        }
    }

    fn gpu_cells(&self, gpu: &Gpu) -> [String; 9] {
        let mig = if gpu.mig == Some(true) { " (MIG)" } else { "" };
        let name = gpu.name.as_ref().map(|name| format!("{name}{mig}"));
        let limit = match (self.limit.sessions, gpu.limited) {
            (Some(limit), Some(true)) => limit.to_string(),
            (Some(_), _) => "none".into(),
            (None, _) if self.limit.kind == "unlimited" => "none".into(),
            (None, _) => "-".into(),
        };
        [
            gpu.index.to_string(),
            known(name),
            known(gpu.engines),
            known(gpu.sessions),
            limit,
            known(gpu.encoder_utilization),
            known(gpu.decoder_utilization),
            capacity(gpu.encoder_capacity),
            self.limit.from.clone(),
        ]
    }

    fn sessions_table(&self) -> Table {
        let heading = match &self.sessions {
            None => "Sessions: not known, as the driver does not list them".to_string(),
            Some(sessions) if sessions.is_empty() => "Sessions: none".into(),
            Some(sessions) => {
                let foreign = sessions.iter().filter(|session| session.ours == Some(false)).count();
                let untold = sessions.iter().filter(|session| session.ours.is_none()).count();
                let foreign = if foreign > 0 { format!(", {foreign} foreign") } else { String::new() };
                let untold = match untold {
                    0 => String::new(),
                    n => format!(", {n} of the host, whose pids cannot be compared from within a container"),
                };
                format!("Sessions: {}{foreign}{untold}", sessions.len())
            }
        };
        let columns =
            ["gpu", "pid", "program", "user", "codec", "size", "fps", "latency_ms", "memory_mib", "whose", "lease"];
        let mut table = Table::titled("sessions", heading, columns);
        for session in self.sessions.iter().flatten() {
            table.row(session_cells(session));
        }
        table
    }

    fn leases_table(&self) -> Table {
        let heading = match &self.leases {
            None => "Leases: not known".to_string(),
            Some(leases) if leases.is_empty() => "Leases: none".into(),
            Some(leases) => {
                let held = leases.iter().filter(|lease| lease.held).count();
                let limit = self.limit.sessions.map(|limit| format!(" of {limit}")).unwrap_or_default();
                format!("Leases: {held}{limit} held, in {}", known(self.lease_dir.as_ref()))
            }
        };
        let mut table = Table::titled("leases", heading, ["slot", "state", "holder", "encodes", "alive", "since"]);
        for lease in self.leases.iter().flatten() {
            table.row(lease_cells(lease));
        }
        table
    }

    fn workers_table(&self) -> Table {
        let heading = match self.workers.as_slice() {
            [] => "Workers: none asked".to_string(),
            workers => format!("Workers: {}", workers.len()),
        };
        let columns = ["port", "instance", "state", "backend", "viewers", "fps", "drops", "reason"];
        let mut table = Table::titled("workers", heading, columns);
        let one_host =
            self.workers.iter().all(|worker| worker.url == format!("http://127.0.0.1:{}/status", worker.port));
        for worker in &self.workers {
            table.row(worker_cells(worker, one_host));
        }
        table
    }
}

fn capacity(of: Capacities) -> String {
    let each = [("h264", of.h264), ("hevc", of.hevc), ("av1", of.av1)];
    let known: Vec<String> = each.iter().filter_map(|(name, value)| Some(format!("{name} {}", (*value)?))).collect();
    if known.is_empty() { "-".into() } else { known.join(", ") }
}

fn session_cells(session: &Session) -> [String; 11] {
    let whose = match session.ours {
        Some(true) => "ours",
        Some(false) => "foreign",
        None => "-",
    };
    [
        session.gpu.to_string(),
        session.pid.to_string(),
        known(session.program.as_ref()),
        known(session.user.as_ref()),
        session.codec.to_string(),
        format!("{}x{}", session.width, session.height),
        session.fps.to_string(),
        format!("{:.1}", session.latency_ms),
        known(session.memory.map(|bytes| bytes >> 20)),
        whose.into(),
        known(session.lease.as_ref()),
    ]
}

fn lease_cells(lease: &Lease) -> [String; 6] {
    let state = match (lease.held, lease.alive) {
        (false, _) => "stale",
        (true, Some(false)) => "orphaned",
        (true, _) => "held",
    };
    let by = lease.held_by.iter().map(|process| {
        let words = [process.program.as_deref(), process.user.as_deref()];
        format!("pid {} ({})", process.pid, words.into_iter().flatten().collect::<Vec<_>>().join(" of "))
    });
    let by: Vec<String> = by.collect();
    let mut holder = lease
        .holder
        .as_ref()
        .map(|record| broker::holder(&Seen { index: 0, held: lease.held, record: Some(record.clone()) }));
    if !by.is_empty() {
        let by = format!("held by {}", by.join(", "));
        holder = Some(holder.map_or_else(|| by.clone(), |name| format!("{name}; {by}")));
    }
    let encodes = lease.holder.as_ref().map(|record| {
        let size = record.width.zip(record.height).map(|(width, height)| format!("{width}x{height}"));
        let source = record.source.as_ref().map(|source| format!("from {source}"));
        record.codec.clone().into_iter().chain(size).chain(source).collect::<Vec<_>>().join(" ")
    });
    let alive = match lease.alive {
        Some(true) => "yes",
        Some(false) => "no",
        None => "-",
    };
    [
        lease.slot.clone(),
        state.into(),
        known(holder),
        known(encodes.filter(|words| !words.is_empty())),
        alive.into(),
        known(lease.holder.as_ref().map(|record| &record.since)),
    ]
}

fn worker_cells(worker: &Worker, one_host: bool) -> [String; 8] {
    let status = &worker.status;
    let port = if one_host { worker.port.to_string() } else { worker.url.clone() };
    let fallback = status.fallback.iter().map(|fallback| format!("not {fallback}"));
    let slot = status.slot.iter().cloned();
    let marks: Vec<String> = slot.chain(fallback).collect();
    let backend = match (&status.backend, marks.as_slice()) {
        (Some(backend), []) => backend.clone(),
        (Some(backend), marks) => format!("{backend} ({})", marks.join(", ")),
        (None, _) => "-".into(),
    };
    [
        port,
        known(status.instance.as_ref()),
        status.state.to_string(),
        backend,
        known(status.viewers),
        known(status.fps.map(|fps| format!("{fps:.1}"))),
        known(status.frames_dropped),
        status.reason.clone(),
    ]
}

impl Show for Cleanup {
    const SCHEMA: &'static str = "gsk.cleanup";
    const VERSION: u32 = 1;

    fn table(&self) -> Table {
        let columns = ["action", "what", "slot", "pid", "program", "user", "outcome", "why"];
        let mut table = Table::titled("", self.summary(), columns);
        for item in &self.items {
            table.row([
                word(item.action),
                what(item.kind).into(),
                known(item.slot.as_ref()),
                known(item.pid),
                known(item.program.as_ref()),
                known(item.user.as_ref()),
                known(item.outcome.map(word)),
                item.why.clone(),
            ]);
        }
        table
    }
}

fn what(kind: Kind) -> &'static str {
    match kind {
        Kind::Zombie => "zombie",
        Kind::StaleRecord => "stale record",
        Kind::Holder => "holder",
        Kind::ForeignSession => "foreign session",
    }
}

impl Cleanup {
    fn summary(&self) -> String {
        let count = |action| self.items.iter().filter(|item| item.action == action).count();
        let work = self.items.iter().filter(|item| item.is_work()).count();
        if work == 0 {
            return "Nothing to clean up".into();
        }
        let (end, clear, left) = (count(Action::End), count(Action::Clear), count(Action::Leave));
        format!(
            "{} to end, {} to clear, {left} left alone",
            plural(end, "process", "processes"),
            plural(clear, "record", "records")
        )
    }

    /// What to run for what was planned and not done.
    pub fn hint(&self) -> Option<String> {
        let open = |action| self.items.iter().any(|item| item.action == action && item.outcome.is_none());
        let flags = match (open(Action::End), open(Action::Clear)) {
            (false, false) => return None,
            (true, false) => "--kill",
            (false, true) => "--leases",
            (true, true) => "--kill --leases",
        };
        Some(format!("this was the plan; to do it: gsk cleanup {flags}"))
    }

    /// What was done and became free, in one line.
    pub fn result(&self) -> Option<String> {
        let freed = self.freed.as_ref()?;
        let count = |outcomes: &[Outcome]| {
            self.items.iter().filter(|item| item.outcome.is_some_and(|outcome| outcomes.contains(&outcome))).count()
        };
        let ended = count(&[Outcome::Ended, Outcome::Killed]);
        let done = [
            (ended > 0).then(|| format!("{} ended", plural(ended, "process", "processes"))),
            Some(count(&[Outcome::Cleared]))
                .filter(|n| *n > 0)
                .map(|n| format!("{} cleared", plural(n, "record", "records"))),
            Some(freed.words()),
        ];
        Some(done.into_iter().flatten().collect::<Vec<_>>().join("; "))
    }
}

fn plural(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

impl Freed {
    fn words(&self) -> String {
        let slots = if self.slots.is_empty() { "no slot".into() } else { self.slots.join(", ") };
        let sessions = match (self.sessions_before, self.sessions_after) {
            (Some(before), Some(after)) => format!("; encoder sessions by NVML: {before} before, {after} now"),
            _ => "; NVML cannot be asked for sessions".into(),
        };
        format!("freed: {slots}{sessions}")
    }
}
