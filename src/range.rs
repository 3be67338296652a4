//! Named ranges of time: told to NVTX, for the profilers that listen there, and recorded by ourselves where asked to.
//!
//! NVTX looks for a profiler once, when a process first calls it: `NVTX_INJECTION64_PATH` names its library, and nsys sets
//! that. Without one a range costs less than 0.1 µs, so that ranges stay where they are in every build.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use crate::clock::now_ns;

/// What a recording holds at most, in ranges: some 80 MB. What comes after is counted.
const ROOM: usize = 2_000_000;

/// A range of this thread, from its making to its end. Ranges of a thread nest.
#[must_use = "a range ends when it is dropped"]
pub struct Range {
    name: &'static str,
    /// Where it is to be recorded.
    start_ns: Option<u64>,
    /// Which range is ended goes by the thread.
    here: PhantomData<*const ()>,
}

/// Begins a range.
pub fn open(name: &'static str) -> Range {
    nvtx::range_push!("{name}");
    Range { name, start_ns: RECORDS.load(Relaxed).then(now_ns), here: PhantomData }
}

/// Does `work` in a range.
pub fn within<T>(name: &'static str, work: impl FnOnce() -> T) -> T {
    let _range = open(name);
    work()
}

impl Drop for Range {
    fn drop(&mut self) {
        if let Some(start_ns) = self.start_ns {
            record(self.name, start_ns, now_ns());
        }
        nvtx::range_pop!();
    }
}

/// Names this thread in what profilers show, and in what is recorded of it from now on.
pub fn name_thread(name: &'static str) {
    nvtx::name_thread!("{name}");
    NAME.set(Some(name));
}

/// A range that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub name: &'static str,
    /// Index into [`Recorded::threads`].
    pub thread: u32,
    /// On the system's monotonic clock.
    pub start_ns: u64,
    pub end_ns: u64,
}

/// All ranges that began while it was recorded, in the order of their ends.
#[derive(Debug, Default)]
pub struct Recorded {
    pub events: Vec<Event>,
    /// The threads' names.
    pub threads: Vec<String>,
    /// Ranges that there was no room for.
    pub lost: u64,
}

static RECORDS: AtomicBool = AtomicBool::new(false);
/// Which recording it is, so that a thread knows whether it has a number in it.
static NUMBER: AtomicU32 = AtomicU32::new(0);
static RECORDED: Mutex<Recorded> = Mutex::new(Recorded { events: Vec::new(), threads: Vec::new(), lost: 0 });

thread_local! {
    /// The recording, and this thread's number in it.
    static HERE: Cell<(u32, u32)> = const { Cell::new((0, 0)) };
    static NAME: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// A recording of all threads' ranges; a process has one at a time.
pub struct Recording(());

impl Recording {
    pub fn start() -> Recording {
        *RECORDED.lock().unwrap() = Recorded::default();
        NUMBER.fetch_add(1, Relaxed);
        RECORDS.store(true, Relaxed);
        Recording(())
    }

    /// Ranges that are still open are not in it.
    pub fn end(self) -> Recorded {
        RECORDS.store(false, Relaxed);
        std::mem::take(&mut *RECORDED.lock().unwrap())
    }
}

fn record(name: &'static str, start_ns: u64, end_ns: u64) {
    let mut recorded = RECORDED.lock().unwrap();
    if recorded.events.len() == ROOM {
        recorded.lost += 1;
        return;
    }
    let number = NUMBER.load(Relaxed);
    let thread = match HERE.get() {
        (of, thread) if of == number => thread,
        _ => {
            let thread = recorded.threads.len() as u32;
            let system = std::thread::current();
            recorded.threads.push(NAME.get().or(system.name()).unwrap_or("unnamed").to_owned());
            HERE.set((number, thread));
            thread
        }
    };
    recorded.events.push(Event { name, thread, start_ns, end_ns });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_nest_and_know_their_threads() {
        drop(open("before"));
        let recording = Recording::start();
        {
            let _outer = open("outer");
            drop(open("inner"));
            let other = std::thread::Builder::new().name("other".into()).spawn(|| drop(open("elsewhere"))).unwrap();
            other.join().unwrap();
        }
        let recorded = recording.end();
        drop(open("after"));
        let names: Vec<&str> = recorded.events.iter().map(|event| event.name).collect();
        assert_eq!(names, ["inner", "elsewhere", "outer"]);
        let [inner, elsewhere, outer] = recorded.events[..] else { unreachable!() };
        assert!(outer.start_ns <= inner.start_ns && inner.end_ns <= outer.end_ns);
        assert_eq!((inner.thread, recorded.lost), (outer.thread, 0));
        assert_eq!(recorded.threads[elsewhere.thread as usize], "other");
        assert_eq!(recorded.threads.len(), 2);
    }
}
