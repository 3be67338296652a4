//! The log: tracing's events on standard error.

use std::fmt;
use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::FormatTime;

use super::Color;
use crate::error::{Error, Result};

/// Starts the log. `-q` and `-v` outrank `filter`, the text of `GSK_LOG` (`level` or `target=level,…`).
pub fn init(quiet: bool, verbose: u8, filter: Option<&str>, color: Color) -> Result<()> {
    let filter = parse(directives(quiet, verbose, filter))?;
    let stderr = std::io::stderr();
    let started = tracing_subscriber::fmt()
        .compact()
        .with_env_filter(filter)
        .with_target(false)
        .with_timer(Clock)
        .with_ansi(color.on(stderr.is_terminal()))
        .with_writer(std::io::stderr)
        // Its complaint would be an eprintln!, which panics where standard error is closed.
        .log_internal_errors(false)
        .try_init();
    started.map_err(|e| Error::bug("the log was started twice").cause(e))
}

fn directives(quiet: bool, verbose: u8, filter: Option<&str>) -> &str {
    match (quiet, verbose, filter) {
        (true, ..) => "error",
        (_, 0, Some(filter)) => filter,
        (_, 0, None) => "warn,gsk=info",
        (_, 1, _) => "warn,gsk=debug",
        _ => "debug,gsk=trace",
    }
}

fn parse(directives: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(directives).map_err(|e| {
        Error::usage(format!("GSK_LOG: '{directives}' is not a log filter"))
            .cause(e)
            .hint("write a level, such as GSK_LOG=debug, or GSK_LOG=gsk::serve=trace,warn")
    })
}

/// Seconds in UTC: enough to order a service's log, and short.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", humantime::format_rfc3339_seconds(std::time::SystemTime::now()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_outrank_the_variable() {
        assert_eq!(directives(false, 0, None), "warn,gsk=info");
        assert_eq!(directives(false, 0, Some("trace")), "trace");
        assert_eq!(directives(false, 1, Some("trace")), "warn,gsk=debug");
        assert_eq!(directives(true, 0, Some("trace")), "error");
    }

    #[test]
    fn a_bad_filter_names_the_variable() {
        assert!(parse("gsk=debug,warn").is_ok());
        let error = parse("gsk=loud").unwrap_err();
        assert!(error.what.contains("GSK_LOG"), "{error}");
    }
}
