//! NVML, asked within a time limit.
//!
//! A call into the driver can hang (a GPU that fell off the bus, a reset that is under way), and a thread inside it cannot be
//! stopped. So one thread a process makes all calls. It writes what it learns into a shared record and says which call it is
//! in. Whoever asks waits for its answer as long as he may; then he takes the record as it is, and the call's name. As long as
//! that call has not returned nobody waits for it again, and no second thread is sent after it; when it does return, what was
//! asked meanwhile and given up is skipped, and the next question is answered as ever.
//!
//! NVML is initialised once and never shut down. Where that failed it is tried again with the next question, so that a
//! driver which is loaded later is found.

use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::{Driver, Hung, Inventory, Session};

mod read;

use read::Worker;

/// The name that the loader is asked for (nvidia-smi's own).
const LIBRARY: &str = "libnvidia-ml.so.1";

/// How old the answer of [`recent_sessions`] may be.
const RECENT: Duration = Duration::from_secs(1);

/// Everything that NVML says of this machine, within `limit`. To open NVML alone takes a driver that no program uses a second
/// or more for each GPU (NVIDIA's "Driver Persistence"), so that a `limit` below some seconds takes such a driver for hung.
pub fn inventory(limit: Duration) -> Inventory {
    match ask(limit, Question::Inventory) {
        Ok(inventory) => inventory,
        Err(unanswered) => unanswered.into_inventory(),
    }
}

/// The encoder sessions of all GPUs as they are now, within `limit`; `None` where they cannot be known. Asks for nothing
/// else, for it is called while others wait for a lock. The first question of a process opens NVML as well, which takes
/// longer: ask once before the lock is taken.
pub fn sessions(limit: Duration) -> Option<Vec<Session>> {
    ask(limit, Question::Sessions).ok().flatten()
}

/// [`sessions`], at most 1 s old. One caller asks and the others wait for its answer, so that all should have one `limit`.
pub fn recent_sessions(limit: Duration) -> Option<Vec<Session>> {
    type Recent = Option<(Instant, Option<Vec<Session>>)>;
    static LAST: Mutex<Recent> = Mutex::new(None);
    let mut last = lock(&LAST);
    if let Some((at, sessions)) = &*last
        && at.elapsed() < RECENT
    {
        return sessions.clone();
    }
    let sessions = sessions(limit);
    *last = Some((Instant::now(), sessions.clone()));
    sessions
}

/// What is asked of the NVML thread, with the way back of the answer.
enum Question {
    Inventory(Ask<Inventory>),
    Sessions(Ask<Option<Vec<Session>>>),
}

/// The way back of an answer.
struct Ask<T> {
    reply: SyncSender<T>,
    /// Nobody waits for it any more.
    given_up: Arc<AtomicBool>,
}

/// What the NVML thread and those who ask it share.
#[derive(Default)]
struct Shared {
    /// What is known. Figures that change are taken out of it when it is asked for anew, so that none is older than the
    /// question.
    known: Mutex<Inventory>,
    call: Mutex<Option<Call>>,
}

/// The call into the driver that is under way.
struct Call {
    name: &'static str,
    gpu: Option<u32>,
    since: Instant,
    /// Somebody has waited for it in vain.
    given_up: bool,
}

impl Call {
    fn hung(&self) -> Hung {
        Hung { call: self.name.into(), gpu: self.gpu, for_ms: self.since.elapsed().as_millis() as u64 }
    }
}

/// The thread's mailbox, and the record.
struct Clerk {
    questions: mpsc::Sender<Question>,
    shared: Arc<Shared>,
}

/// Why there is no answer.
enum Unanswered {
    /// It did not come in time: what is known without it.
    Late(Box<Inventory>),
    /// There is no thread to ask.
    NoThread(String),
}

impl Unanswered {
    fn into_inventory(self) -> Inventory {
        match self {
            Unanswered::Late(inventory) => *inventory,
            Unanswered::NoThread(why) => Inventory {
                driver: Driver::Fault,
                detail: Some(why),
                library: library().to_string_lossy().into_owned(),
                ..Inventory::default()
            },
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The library to open: `GSK_NVML_LIBRARY`, unless that is empty (an empty name would open this program itself).
fn library() -> OsString {
    std::env::var_os("GSK_NVML_LIBRARY").filter(|path| !path.is_empty()).unwrap_or_else(|| LIBRARY.into())
}

/// The thread's mailbox; the thread begins with the first question.
fn clerk() -> Result<&'static Clerk, &'static str> {
    static CLERK: OnceLock<Result<Clerk, String>> = OnceLock::new();
    let clerk = CLERK.get_or_init(|| {
        let (questions, inbox) = mpsc::channel();
        let shared = Arc::new(Shared::default());
        lock(&shared.known).library = library().to_string_lossy().into_owned();
        let mut worker = Worker::new(shared.clone());
        std::thread::Builder::new()
            .name("gsk-nvml".into())
            .spawn(move || inbox.into_iter().for_each(|question| worker.answer(question)))
            .map_err(|error| format!("no thread for NVML: {error}"))?;
        Ok(Clerk { questions, shared })
    });
    clerk.as_ref().map_err(String::as_str)
}

fn ask<T>(limit: Duration, question: fn(Ask<T>) -> Question) -> Result<T, Unanswered> {
    let begun = Instant::now();
    let clerk = clerk().map_err(|why| Unanswered::NoThread(why.into()))?;
    let hung = lock(&clerk.shared.call).as_ref().filter(|call| call.given_up).map(Call::hung);
    if let Some(hung) = hung {
        return Err(clerk.late(hung));
    }
    let (reply, answer) = mpsc::sync_channel(1);
    let given_up = Arc::new(AtomicBool::new(false));
    let gone = || Unanswered::NoThread("the thread for NVML has ended".into());
    clerk.questions.send(question(Ask { reply, given_up: given_up.clone() })).map_err(|_| gone())?;
    match answer.recv_timeout(limit.saturating_sub(begun.elapsed())) {
        Ok(answer) => Ok(answer),
        Err(RecvTimeoutError::Disconnected) => Err(gone()),
        Err(RecvTimeoutError::Timeout) => {
            given_up.store(true, Ordering::Relaxed);
            let hung = lock(&clerk.shared.call).as_mut().map(|call| {
                call.given_up = true;
                call.hung()
            });
            // Between two calls: the time was too short for all of them, and none of them is to blame.
            let for_ms = begun.elapsed().as_millis() as u64;
            Err(clerk.late(hung.unwrap_or(Hung { call: "a series of calls".into(), gpu: None, for_ms })))
        }
    }
}

impl Clerk {
    fn late(&self, hung: Hung) -> Unanswered {
        let known = lock(&self.shared.known).clone();
        Unanswered::Late(Box::new(Inventory { hung: Some(hung), ..known }))
    }
}
