//! What `gsk nvenc-status` shows: GPUs, encoder sessions, slots and workers of one moment.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::cleanup::user_name;
use super::holders::{self, File, Holder, Owner};
use super::sweep::line;
use crate::client::{self, State, Target, Worker};
use crate::clock::rfc3339_now;
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::exit::Code;
use crate::gpu::{self, Capacities, Codec, Driver, Hung, Inventory, Verdict};
use crate::lease::{Limit, Pool, Seen, slot_name};
use crate::proc;
use crate::wire::lease::Record;
use crate::wire::status;

/// Whom to ask, and how long.
#[derive(Clone, Debug)]
pub struct Options {
    pub workers: Vec<Target>,
    /// For the workers that want one.
    pub token: Option<Secret>,
    /// How long each of workers, driver and slots may take; they are asked at once.
    pub timeout: Duration,
    /// The session limit where it was set, and by what.
    pub limit: Option<(u32, String)>,
}

/// All there is to know, of one moment. What is not known is null.
#[derive(Clone, Debug, Serialize)]
pub struct Picture {
    /// RFC 3339.
    pub at: String,
    pub driver: DriverInfo,
    /// Whether NVENC can be used here, and where not, why and what to do.
    pub verdict: Verdict,
    pub limit: LimitInfo,
    /// Open sessions that count against the limit.
    pub sessions_used: Option<u32>,
    pub gpus: Vec<Gpu>,
    pub sessions: Option<Vec<Session>>,
    /// Where slot files lie; null where no program has taken one on this machine yet.
    pub lease_dir: Option<String>,
    /// The slots that are held, or whose record a dead owner left.
    pub leases: Option<Vec<Lease>>,
    pub workers: Vec<Worker>,
    #[serde(skip)]
    pub(super) errors: Vec<Error>,
}

/// How far the driver answers.
#[derive(Clone, Debug, Serialize)]
pub struct DriverInfo {
    pub state: Driver,
    pub detail: Option<String>,
    pub version: Option<String>,
    pub kernel_module: Option<String>,
    pub cuda_version: Option<String>,
    /// The call into it that did not return in time.
    pub hung: Option<Hung>,
}

/// How many sessions the machine bears.
#[derive(Clone, Debug, Serialize)]
pub struct LimitInfo {
    /// `sessions`, `unlimited` or `unknown`.
    pub kind: &'static str,
    pub sessions: Option<u32>,
    /// The flag, the variable, the file's line, or the support table with the driver's version.
    pub from: String,
}

/// One GPU.
#[derive(Clone, Debug, Serialize)]
pub struct Gpu {
    pub index: u32,
    pub uuid: Option<String>,
    pub pci: Option<String>,
    pub name: Option<String>,
    pub architecture: Option<&'static str>,
    pub mig: Option<bool>,
    /// NVENC engines by the support table; null for a board that it does not know.
    pub engines: Option<u32>,
    /// Open encoder sessions on this GPU.
    pub sessions: Option<u32>,
    /// Whether they count against the machine's limit; null where there is none or it is not known.
    pub limited: Option<bool>,
    /// %
    pub encoder_utilization: Option<u32>,
    /// %
    pub decoder_utilization: Option<u32>,
    /// % by codec
    pub encoder_capacity: Capacities,
    /// Calls that failed for another reason than that the board does not support them.
    pub faults: Vec<String>,
}

/// One encoder session.
#[derive(Clone, Debug, Serialize)]
pub struct Session {
    pub gpu: u32,
    pub id: u32,
    /// As the driver reports it: the host's number, or ours.
    pub pid: u32,
    /// Null where pids cannot be compared, from within a container.
    pub program: Option<String>,
    pub user: Option<String>,
    pub codec: Codec,
    pub width: u32,
    pub height: u32,
    /// The driver's average.
    pub fps: u32,
    /// The driver's average, ms.
    pub latency_ms: f64,
    /// GPU memory of the process, bytes.
    pub memory: Option<u64>,
    /// Whether its process holds a slot or runs below a live holder; null where pids cannot be compared.
    pub ours: Option<bool>,
    /// The slot that it runs with.
    pub lease: Option<String>,
}

/// One slot that is held, or was.
#[derive(Clone, Debug, Serialize)]
pub struct Lease {
    pub slot: String,
    pub held: bool,
    /// Who holds it in their own words; null where the slot's file does not say.
    pub holder: Option<Record>,
    /// Whether the recorded owner runs; null where that cannot be told from here.
    pub alive: Option<bool>,
    /// Who has the lock, where the owner is dead or not recorded: nobody, where that cannot be seen.
    pub held_by: Vec<Process>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Process {
    pub pid: u32,
    pub program: Option<String>,
    pub user: Option<String>,
}

/// Asks everybody at once.
///
/// # Errors
/// Only where the system has no resources left to ask anybody: what does not answer is null.
pub fn take(options: &Options) -> Result<Picture> {
    let timeout = options.timeout;
    let inventory = within(timeout + MARGIN, move || gpu::inventory(timeout));
    let nvenc = within(timeout, gpu::nvenc::library);
    let slots = within(timeout, slots);
    let workers = ask(options)?;
    let inventory = inventory.get().unwrap_or_default();
    let nvenc = nvenc.get().unwrap_or_else(|| Err("it could not be loaded in time".into()));
    let verdict = gpu::verdict(&inventory, nvenc.as_ref().map_err(String::as_str).copied());
    let mut errors = Vec::new();
    let slots = slots.get().unwrap_or_else(|| {
        Err(Error::new(Kind::Unreachable, "the encoder slots cannot be looked at")
            .cause(format!("their gate stays locked, for {} s by now", timeout.as_secs_f64())))
    });
    let slots = slots.map_err(|error| errors.push(error)).ok();
    Ok(assemble(options, &inventory, verdict, slots, workers, errors))
}

/// NVML's own limit comes first.
const MARGIN: Duration = Duration::from_millis(200);

/// Something that is worked at on a thread of its own, and given up at a time.
struct Within<T> {
    answer: mpsc::Receiver<T>,
    until: Instant,
}

fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> Within<T> {
    let (sender, answer) = mpsc::sync_channel(1);
    // Nobody may wait for it any more.
    thread::spawn(move || drop(sender.send(work())));
    Within { answer, until: Instant::now() + limit }
}

impl<T> Within<T> {
    fn get(&self) -> Option<T> {
        self.answer.recv_timeout(self.until.saturating_duration_since(Instant::now())).ok()
    }
}

fn ask(options: &Options) -> Result<Vec<Worker>> {
    if options.workers.is_empty() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("cannot ask the workers", error))?;
    let workers = runtime.block_on(client::workers(&options.workers, options.token.as_ref(), options.timeout));
    // A name that is still looked up is not waited for.
    runtime.shutdown_background();
    Ok(workers)
}

/// The slots and who owns them.
#[derive(Default)]
struct Slots {
    dir: Option<String>,
    all: Vec<(Seen, Option<Owner>)>,
    files: Vec<File>,
    /// Looked for only where an owner is dead or unknown.
    holders: Vec<Holder>,
}

fn slots() -> Result<Slots> {
    let Some(pool) = Pool::existing()? else { return Ok(Slots::default()) };
    let seen = pool.slots()?;
    let files = holders::files(&pool, &seen)?;
    let all = holders::owned(seen);
    let lost = |(seen, owner): &(Seen, Option<Owner>)| seen.held && matches!(owner, None | Some(Owner::Dead(_)));
    let holders = if all.iter().any(lost) { holders::all(&files).all } else { Vec::new() };
    Ok(Slots { dir: Some(pool.path().display().to_string()), all, files, holders })
}

fn assemble(
    options: &Options,
    inventory: &Inventory,
    verdict: Verdict,
    slots: Option<Slots>,
    workers: Vec<Worker>,
    errors: Vec<Error>,
) -> Picture {
    let capacity = gpu::known_capacity(inventory);
    let (limit, from) = match &options.limit {
        Some((limit, from)) => (Limit::Sessions(*limit), from.clone()),
        None => (capacity.limit, capacity.from),
    };
    // A limit that somebody set without such boards is for all that there are.
    let counts = |index: u32| capacity.gpus.is_empty() || capacity.gpus.contains(&index);
    let (kind, sessions) = match limit {
        Limit::Sessions(limit) => ("sessions", Some(limit)),
        Limit::Unlimited => ("unlimited", None),
        Limit::Unknown => ("unknown", None),
    };
    let gpus: Vec<Gpu> = inventory.gpus.iter().map(|gpu| gpu_row(gpu, sessions.map(|_| counts(gpu.index)))).collect();
    let used = inventory.gpus.iter().filter(|gpu| counts(gpu.index)).map(used).sum::<Option<u32>>();
    let ready = inventory.driver == Driver::Ready;
    let known = inventory.gpus.iter().any(|gpu| gpu.sessions.is_some());
    let slots_or_none = slots.as_ref().map(|slots| slots.all.as_slice()).unwrap_or_default();
    let files = slots.as_ref().map(|slots| slots.files.as_slice()).unwrap_or_default();
    let sessions_rows = inventory
        .gpus
        .iter()
        .flat_map(|gpu| gpu.sessions.iter().flatten().map(move |session| (gpu, session)))
        .map(|(gpu, session)| session_row(gpu, session, slots_or_none, files));
    Picture {
        at: rfc3339_now(),
        verdict,
        driver: DriverInfo {
            state: inventory.driver,
            detail: inventory.detail.clone(),
            version: inventory.driver_version.clone(),
            kernel_module: inventory.kernel_module.clone(),
            cuda_version: inventory.cuda_version.clone(),
            hung: inventory.hung.clone(),
        },
        limit: LimitInfo { kind, sessions, from },
        sessions_used: used.filter(|_| ready),
        sessions: (ready && known).then(|| sessions_rows.collect()),
        gpus,
        lease_dir: slots.as_ref().and_then(|slots| slots.dir.clone()),
        leases: slots.as_ref().map(leases),
        workers,
        errors,
    }
}

/// The list's length, or the driver's own count where it gives no list.
fn used(gpu: &gpu::Gpu) -> Option<u32> {
    let engines = gpu.support().is_none_or(|board| board.has_encoder());
    let listed = gpu.sessions.as_ref().map(|sessions| sessions.len() as u32);
    // A board without an engine can have none, whether the driver answers or not.
    listed.or(gpu.encoder_stats.map(|stats| stats.sessions)).or((!engines).then_some(0))
}

fn gpu_row(gpu: &gpu::Gpu, limited: Option<bool>) -> Gpu {
    Gpu {
        index: gpu.index,
        uuid: gpu.uuid.clone(),
        pci: gpu.pci.clone(),
        name: gpu.name.clone(),
        architecture: gpu.architecture,
        mig: gpu.mig,
        engines: gpu.support().and_then(|board| board.engines),
        sessions: used(gpu),
        limited,
        encoder_utilization: gpu.encoder_utilization,
        decoder_utilization: gpu.decoder_utilization,
        encoder_capacity: gpu.encoder_capacity,
        faults: gpu.faults.clone(),
    }
}

fn session_row(gpu: &gpu::Gpu, session: &gpu::Session, slots: &[(Seen, Option<Owner>)], files: &[File]) -> Session {
    let comparable = proc::sees_host_pids();
    let held = |slot: u32| slots.iter().any(|(seen, _)| seen.index == slot && seen.held);
    let locked = holders::locks(session.pid, files).into_iter().flatten().find(|lock| held(lock.slot));
    let slot = locked.map(|lock| lock.slot).or_else(|| below(&line(session.pid), slots));
    let memory = gpu.processes.iter().flatten().find(|process| process.pid == session.pid);
    Session {
        gpu: session.gpu,
        id: session.id,
        pid: session.pid,
        program: proc::name(session.pid).filter(|_| comparable),
        user: proc::user(session.pid).filter(|_| comparable).map(user_name),
        codec: session.codec,
        width: session.width,
        height: session.height,
        fps: session.average_fps,
        latency_ms: f64::from(session.average_latency_us) / 1000.0,
        memory: memory.and_then(|process| process.memory),
        ours: if slot.is_some() { Some(true) } else { comparable.then_some(false) },
        lease: slot.map(slot_name),
    }
}

/// The slot of the nearest live owner that a process is or runs below.
fn below(line: &[u32], slots: &[(Seen, Option<Owner>)]) -> Option<u32> {
    let owned_by = |pid: &u32| {
        let owns = |(seen, owner): &&(Seen, Option<Owner>)| {
            seen.held && *owner == Some(Owner::Alive) && seen.record.as_ref().is_some_and(|record| record.pid == *pid)
        };
        slots.iter().find(owns).map(|(seen, _)| seen.index)
    };
    line.iter().find_map(owned_by)
}

fn leases(slots: &Slots) -> Vec<Lease> {
    let shown = slots.all.iter().filter(|(seen, _)| seen.held || seen.record.is_some());
    let lease = |(seen, owner): &(Seen, Option<Owner>)| {
        let by = slots.holders.iter().filter(|holder| seen.held && holder.lock.slot == seen.index);
        let held_by: Vec<&Holder> = by.collect();
        // Whoever took the lock and still has it is its owner, whatever the record says.
        let took = held_by.iter().any(|holder| Some(holder.pid) == holder.lock.taker);
        Lease {
            slot: slot_name(seen.index),
            held: seen.held,
            holder: seen.record.clone(),
            alive: match owner {
                None => None,
                Some(Owner::Alive) => Some(true),
                Some(Owner::Dead(_)) => Some(took),
                Some(Owner::Elsewhere { alive }) => *alive,
            },
            held_by: held_by.iter().map(|holder| process(holder)).collect(),
        }
    };
    shown.map(lease).collect()
}

fn process(holder: &Holder) -> Process {
    Process { pid: holder.pid, program: holder.program.clone(), user: holder.user.map(user_name) }
}

impl Picture {
    /// What to do where this host cannot encode on a GPU, for people.
    pub fn remedy(&self) -> Option<String> {
        let Verdict { usable: false, detail, remedy, .. } = &self.verdict else { return None };
        let remedy = remedy.as_ref().map(|remedy| format!("\n{remedy}")).unwrap_or_default();
        Some(format!("no encoding on a GPU: {detail}{remedy}"))
    }

    /// 1 where something is wrong: a worker in `error`, a slot that is held on after its owner's death, more sessions than
    /// the limit. Otherwise what keeps the picture from being whole: 5 where driver or slots did not answer in time, 4 where
    /// they may not be asked, 3 where there is no driver or no GPU. Else 0.
    pub fn code(&self) -> Code {
        let in_error = |worker: &Worker| worker.status.state == State::Worker(status::State::Error);
        let orphaned = |lease: &Lease| lease.held && lease.alive == Some(false);
        let over = matches!((self.sessions_used, self.limit.sessions), (Some(used), Some(limit)) if used > limit);
        if over || self.workers.iter().any(in_error) || self.leases.iter().flatten().any(orphaned) {
            return Code::Bad;
        }
        let driver = match self.driver.state {
            Driver::Hung => Code::Unreachable,
            Driver::NoPermission => Code::Permission,
            Driver::Ready if self.driver.hung.is_some() => Code::Unreachable,
            Driver::Ready => Code::Good,
            _ => Code::Missing,
        };
        let slots = self.errors.first().map_or(Code::Good, |error| error.kind.code());
        if slots as u8 > driver as u8 { slots } else { driver }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(limit: Option<u32>) -> Options {
        let limit = limit.map(|limit| (limit, "--slots".to_string()));
        Options { workers: Vec::new(), token: None, timeout: Duration::from_secs(1), limit }
    }

    fn session(pid: u32) -> gpu::Session {
        let (gpu, id) = (0, pid);
        gpu::Session {
            gpu,
            id,
            pid,
            codec: Codec::H264,
            width: 1280,
            height: 720,
            average_fps: 30,
            average_latency_us: 4200,
        }
    }

    fn geforce(sessions: Option<Vec<gpu::Session>>) -> Inventory {
        let name = Some("NVIDIA GeForce RTX 3060".to_string());
        let compute = Some(gpu::Compute { major: 8, minor: 6 });
        let gpu = gpu::Gpu { name, compute, sessions, ..gpu::Gpu::default() };
        let driver_version = Some("550.54.14".to_string());
        Inventory { driver: Driver::Ready, driver_version, gpus: vec![gpu], ..Inventory::default() }
    }

    /// The verdict where the encoder's library is there.
    fn encodes(inventory: &Inventory) -> Verdict {
        gpu::verdict(inventory, Ok(()))
    }

    fn bare(inventory: &Inventory, limit: Option<u32>) -> Picture {
        assemble(&options(limit), inventory, encodes(inventory), Some(Slots::default()), Vec::new(), Vec::new())
    }

    #[test]
    fn a_figure_is_known_or_null() {
        let picture = bare(&geforce(Some(vec![session(1), session(2)])), None);
        assert_eq!((picture.sessions_used, picture.limit.sessions, picture.limit.kind), (Some(2), Some(8), "sessions"));
        assert!(picture.limit.from.contains("support table"), "{}", picture.limit.from);
        assert_eq!((picture.gpus[0].sessions, picture.gpus[0].limited), (Some(2), Some(true)));
        let picture = bare(&geforce(None), Some(3));
        assert_eq!((picture.sessions_used, picture.limit.sessions, &*picture.limit.from), (None, Some(3), "--slots"));
        assert!(picture.sessions.is_none());
        let nothing = Inventory { driver: Driver::NoLibrary, ..Inventory::default() };
        let picture = bare(&nothing, None);
        assert_eq!((picture.sessions_used, picture.limit.kind, picture.gpus.len()), (None, "unknown", 0));
        let json = serde_json::to_value(&picture).unwrap();
        assert!(json["sessions"].is_null() && json["sessions_used"].is_null() && json["driver"]["version"].is_null());
    }

    fn lease(held: bool, alive: Option<bool>) -> Lease {
        Lease { slot: "slot-0".into(), held, holder: None, alive, held_by: Vec::new() }
    }

    fn worker(state: &str) -> Worker {
        let body = format!("{{\"state\":\"{state}\"}}");
        Worker::new(&Target::new("127.0.0.1", 5000), client::Status::parse(body.as_bytes()))
    }

    #[test]
    fn the_exit_code_says_the_worst() {
        let ready = || geforce(Some(Vec::new()));
        let driver = |driver| Inventory { driver, ..Inventory::default() };
        let full = geforce(Some(vec![session(1), session(2)]));
        let hung = Hung { call: "nvmlDeviceGetName".into(), gpu: Some(0), for_ms: 900 };
        let stuck = Error::new(Kind::Unreachable, "the encoder slots cannot be looked at");
        let cases = [
            (ready(), None, None, vec![], Code::Good),
            (ready(), Some(lease(true, Some(true))), Some(worker("no-slot")), vec![], Code::Good),
            (ready(), Some(lease(true, None)), Some(worker("idle")), vec![], Code::Good),
            (ready(), Some(lease(false, Some(false))), None, vec![], Code::Good),
            (ready(), Some(lease(true, Some(false))), None, vec![], Code::Bad),
            (ready(), None, Some(worker("error")), vec![], Code::Bad),
            (full.clone(), None, None, vec![], Code::Bad),
            (driver(Driver::NoLibrary), None, None, vec![], Code::Missing),
            (driver(Driver::NoGpu), None, None, vec![], Code::Missing),
            (driver(Driver::NoPermission), None, None, vec![], Code::Permission),
            (driver(Driver::Hung), None, None, vec![], Code::Unreachable),
            (Inventory { hung: Some(hung), ..ready() }, None, None, vec![], Code::Unreachable),
            (driver(Driver::NoLibrary), None, Some(worker("error")), vec![], Code::Bad),
            (driver(Driver::NoLibrary), Some(lease(true, Some(false))), None, vec![], Code::Bad),
            (ready(), None, None, vec![stuck.clone()], Code::Unreachable),
            (driver(Driver::NoLibrary), None, None, vec![stuck], Code::Unreachable),
        ];
        for (inventory, lease, worker, errors, code) in cases {
            let limit = if inventory == full { 1 } else { 2 };
            let mut picture = assemble(
                &options(Some(limit)),
                &inventory,
                encodes(&inventory),
                None,
                worker.into_iter().collect(),
                errors,
            );
            picture.leases = Some(lease.into_iter().collect());
            assert_eq!(picture.code(), code, "{picture:?}");
        }
    }

    #[test]
    fn a_session_below_a_holder_is_the_nearest_ones() {
        let slot = |index, pid, owner| {
            let record = Record { pid, ..Record::default() };
            (Seen { index, held: true, record: Some(record) }, Some(owner))
        };
        let slots = [slot(0, 10, Owner::Alive), slot(1, 20, Owner::Alive), slot(2, 30, Owner::Dead("is gone"))];
        assert_eq!(below(&[40, 20, 10], &slots), Some(1));
        assert_eq!(below(&[10], &slots), Some(0));
        assert_eq!(below(&[40, 30], &slots), None, "a dead owner's number is anybody's");
        assert_eq!(below(&[], &slots), None);
    }
}
