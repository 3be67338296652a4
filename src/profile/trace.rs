//! A recording as JSON in the Trace Event Format, which Perfetto and chrome://tracing open
//! ("Trace Event Format", document 1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU of Google's Trace Viewer).

use std::io::{self, Write};

use serde_json::json;

use crate::range::Recorded;

/// Writes complete events (`X`), times in µs from the first one's begin, and the threads' names (`M`).
pub fn write(recorded: &Recorded, job: &str, mut out: impl Write) -> io::Result<()> {
    let pid = std::process::id();
    let zero = recorded.events.iter().map(|event| event.start_ns).min().unwrap_or(0);
    writeln!(out, "{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[")?;
    write!(out, "{}", json!({"ph": "M", "name": "process_name", "pid": pid, "tid": 0, "args": {"name": job}}))?;
    for (number, name) in recorded.threads.iter().enumerate() {
        let named = json!({"ph": "M", "name": "thread_name", "pid": pid, "tid": number, "args": {"name": name}});
        write!(out, ",\n{named}")?;
    }
    for event in &recorded.events {
        let us = |ns: u64| format!("{}.{:03}", ns / 1000, ns % 1000);
        let (start, length) = (us(event.start_ns - zero), us(event.end_ns - event.start_ns));
        let name = json!(event.name);
        write!(
            out,
            ",\n{{\"ph\":\"X\",\"cat\":\"nvtx\",\"name\":{name},\"pid\":{pid},\"tid\":{},\"ts\":{start},\"dur\":{length}}}",
            event.thread
        )?;
    }
    writeln!(out, "\n]}}")?;
    out.flush()
}
