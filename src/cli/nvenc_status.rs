//! `gsk nvenc-status`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{self, Span, as_text};
use crate::client::Target;
use crate::config::{Keys, Resolved};
use crate::doctor::picture::{self, Options};
use crate::doctor::probe;
use crate::error::{Error, Result};
use crate::output::Printer;

/// What `gsk nvenc-status` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct NvencStatusArgs {
    #[command(flatten)]
    pub keys: NvencStatusKeys,

    /// Look again every so many seconds, 0.1 to 3600, until Ctrl-C; with JSON it prints one object a line [default: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2", value_parser = value::interval)]
    pub watch: Option<f64>,

    /// First find the machine's real limit: open encoder sessions until the driver refuses one, close them all, and keep
    /// the answer for all who take slots with this driver; nobody else gets a slot meanwhile
    #[arg(long)]
    pub probe: bool,
}

/// The flags of `gsk nvenc-status`, and the keys below `nvenc-status:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct NvencStatusKeys {
    /// Ask as many workers, on consecutive ports, 0 to 1000 [default: 0]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u16>::new().range(0..=1000))]
    pub workers: Option<u16>,

    /// Port of the first of --workers [default: 5000]
    #[arg(long, value_name = "PORT", value_parser = RangedU64ValueParser::<u16>::new().range(1..))]
    pub base_port: Option<u16>,

    /// Where --workers run, a name or an IP address [default: 127.0.0.1]
    #[arg(long, value_name = "HOST", value_parser = value::name_or_address)]
    pub host: Option<String>,

    /// Ask this worker too, such as http://render7:5000; may be repeated
    #[arg(long, value_name = "URL", value_parser = value::worker, value_delimiter = ',')]
    pub worker: Option<Vec<String>>,

    /// How long workers and driver may take, all asked at once, such as 500ms [default: 1.5s]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub timeout: Option<Span>,

    /// Encoder sessions that this machine bears, all its programs together, 0 to 1024 [default: by board and driver]
    #[arg(long = "slots", value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(0..=1024))]
    pub nvenc_max_sessions: Option<u32>,
}

impl Keys for NvencStatusKeys {
    const SECTION: Option<&'static str> = Some("nvenc-status");
    // The token goes to whom these name.
    const GUARDED: &'static [&'static str] = &["host", "worker"];
    const SECRETS: &'static [&'static str] = &["token"];

    fn defaults() -> NvencStatusKeys {
        NvencStatusKeys {
            workers: Some(0),
            base_port: Some(5000),
            host: Some("127.0.0.1".into()),
            worker: Some(Vec::new()),
            timeout: Some(Span(Duration::from_millis(1500))),
            nvenc_max_sessions: None,
        }
    }
}

pub fn run(args: &NvencStatusArgs, resolved: Resolved<NvencStatusKeys>, printer: &Printer) -> Result<ExitCode> {
    let options = options(resolved)?;
    if args.probe {
        printer.note(&probe::told(&probe::run()?));
    }
    let Some(seconds) = args.watch else {
        let picture = picture::take(&options)?;
        printer.show(&picture)?;
        picture.remedy().iter().for_each(|words| printer.note(words));
        return Ok(picture.code().into());
    };
    loop {
        let next = Instant::now() + Duration::from_secs_f64(seconds);
        printer.show_again(&picture::take(&options)?)?;
        // Ctrl-C ends it here, by the signal's own default.
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

fn options(resolved: Resolved<NvencStatusKeys>) -> Result<Options> {
    let token = resolved.secret("token").cloned();
    let from = resolved.origin("nvenc_max_sessions").to_string();
    let keys = resolved.values;
    let (first, count) = (keys.base_port.unwrap_or_default(), keys.workers.unwrap_or_default());
    let host = keys.host.unwrap_or_default();
    if u32::from(first) + u32::from(count) > 65_536 {
        return Err(Error::usage(format!("{count} workers from port {first} on go beyond port 65535")));
    }
    let mut workers: Vec<Target> = (0..count).map(|i| Target::new(&host, first + i)).collect();
    for url in keys.worker.unwrap_or_default() {
        workers.push(url.parse()?);
    }
    Ok(Options {
        workers,
        token,
        timeout: keys.timeout.map_or(Duration::ZERO, |span| span.0),
        limit: keys.nvenc_max_sessions.map(|limit| (limit, from)),
    })
}
