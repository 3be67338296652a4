//! `gsk view`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use serde::{Deserialize, Serialize};

use super::value::{Span, as_text};
use crate::client::view::{self, Address, Decode, Options, Via};
use crate::config::{Keys, Origin, Resolved, Secret};
use crate::error::{Error, Result};
use crate::output::Printer;
use crate::pipeline::encode::Codec;

/// What `gsk view` is given.
#[derive(clap::Args, Clone, Debug)]
pub struct ViewArgs {
    /// The worker: its page's address, the link that gsk serve printed, or a stream's address, such as http://render7:5000/stream.mp4
    #[arg(value_name = "URL")]
    pub url: String,

    #[command(flatten)]
    pub keys: ViewKeys,

    /// End after so many seconds, counted from when everybody is in [default: never]
    #[arg(long, value_name = "N", value_parser = seconds)]
    pub seconds: Option<f64>,

    /// End after so many frames of the first viewer [default: never]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u64>::new().range(1..))]
    pub frames: Option<u64>,

    /// Save a picture, a .png or .jpg: the first, and end; with --seconds, --frames or --record the last
    #[arg(long, value_name = "FILE")]
    pub snapshot: Option<PathBuf>,

    /// Record the first viewer's stream: a .mp4 or .h264, or a .mjpeg of JPEG pictures
    ///
    /// The stream is kept as it comes. A file that is interrupted can be played as far as it goes. It replaces one of that name.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,

    /// Exit code 1 where nothing came for longer, such as 200ms
    #[arg(long, value_name = "DURATION")]
    pub max_stall: Option<Span>,
}

/// The flags of `gsk view`, and the keys below `view:` in a file.
#[derive(clap::Args, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewKeys {
    /// Which way the pictures come [default: ws, or what URL names]
    #[arg(long, value_name = "WAY", value_enum)]
    pub via: Option<Via>,

    /// What to ask for by /ws [default: the worker's own choice]
    #[arg(long, value_name = "CODEC", value_enum)]
    pub codec: Option<Codec>,

    /// As many viewers at once, 1 to 1000 [default: 1]
    #[arg(long, value_name = "N", value_parser = RangedU64ValueParser::<u32>::new().range(1..=1000))]
    pub viewers: Option<u32>,

    /// Whose frames are decoded [default: first]
    #[arg(long, value_name = "WHOSE", value_enum)]
    pub decode: Option<Decode>,

    /// How long connections and first pictures may take, such as 30s [default: 10s]
    #[arg(long, value_name = "DURATION")]
    #[serde(with = "as_text")]
    pub timeout: Option<Span>,

    /// File that holds the access token (or set GSK_TOKEN)
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<String>,
}

impl Keys for ViewKeys {
    const SECTION: Option<&'static str> = Some("view");
    const GUARDED: &'static [&'static str] = &["token_file"];
    const SECRETS: &'static [&'static str] = &["token"];

    fn defaults() -> ViewKeys {
        ViewKeys {
            viewers: Some(1),
            decode: Some(Decode::First),
            timeout: Some(Span(Duration::from_secs(10))),
            ..ViewKeys::default()
        }
    }
}

/// A span of watching, 0.1 s to a week.
fn seconds(text: &str) -> Result<f64> {
    let seconds = text.parse::<f64>().map_err(|_| Error::usage(format!("'{text}' is not a number of seconds")))?;
    let inside = (0.1..=604_800.0).contains(&seconds);
    if inside { Ok(seconds) } else { Err(Error::usage(format!("{text} is outside 0.1 to 604800"))) }
}

pub fn run(args: &ViewArgs, resolved: Resolved<ViewKeys>, printer: &Printer) -> Result<ExitCode> {
    view::run(options(args, resolved)?, printer)
}

fn options(args: &ViewArgs, resolved: Resolved<ViewKeys>) -> Result<Options> {
    let address: Address = args.url.parse()?;
    let token = token(&address, &resolved)?;
    let keys = resolved.values;
    let via = match (keys.via, address.via) {
        (Some(asked), Some(named)) if asked != named => {
            return Err(Error::usage("--via and the address name two ways").hint("give the page's address alone"));
        }
        (asked, named) => asked.or(named).unwrap_or_default(),
    };
    Ok(Options {
        token,
        via,
        codec: keys.codec,
        viewers: keys.viewers.unwrap_or(1),
        decode: keys.decode.unwrap_or_default(),
        seconds: args.seconds,
        frames: args.frames,
        snapshot: args.snapshot.clone(),
        record: args.record.clone(),
        timeout: keys.timeout.map_or(Duration::from_secs(10), |span| span.0),
        max_stall: args.max_stall.map(|span| span.0),
        ..Options::new(address.target)
    })
}

/// The nearest: the link's, the flag's file, the variable's, a settings file's file.
fn token(address: &Address, resolved: &Resolved<ViewKeys>) -> Result<Option<Secret>> {
    let read = |path: &String| {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::io(format!("cannot read the token file '{path}'"), error))?;
        Ok(Some(Secret::from(text.trim().to_string())))
    };
    match (&address.token, &resolved.values.token_file, resolved.secret("token")) {
        (Some(token), ..) => Ok(Some(token.clone())),
        (None, Some(file), _) if matches!(resolved.origin("token_file"), Origin::Flag(_)) => read(file),
        (None, _, Some(token)) => Ok(Some(token.clone())),
        (None, Some(file), None) => read(file),
        (None, None, None) => Ok(None),
    }
}
