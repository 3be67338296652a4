//! A worker to measure from outside: `gsk serve` of this build, as a process of its own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::ValueEnum;
use serde_json::Value;

use super::{Options, Source};
use crate::child::Guarded;
use crate::client::view::{self, Address};
use crate::error::{Error, Kind, Result};
use crate::pipeline::frame::Size;
use crate::proc::{self, Usage};

/// How long it may take until it listens; a GPU that was chosen takes 15 s to come up at worst.
const START: Duration = Duration::from_secs(20);

/// A running `gsk serve` on a port of the system's choice. It and what it starts end with this value.
pub struct Worker {
    guarded: Guarded,
    pub address: Address,
    /// The address of its page, with its token, if it has one.
    pub link: String,
}

impl Worker {
    /// Serves what the run's options say.
    ///
    /// # Errors
    /// A source that only this process has, and a worker that does not start: in its own words.
    pub fn start(options: &Options, size: Option<Size>) -> Result<Worker> {
        let mut argv: Vec<OsString> = vec![
            std::env::current_exe().map_err(|error| Error::io("this program's own file is not known", error))?.into(),
        ];
        let mut word = |word: &str| argv.push(word.into());
        ["serve", "--listen", "127.0.0.1:0", "--format", "jsonl", "--max-viewers", "1100"]
            .into_iter()
            .for_each(&mut word);
        match &options.source {
            Source::Scene => ["--source", "scene"].into_iter().for_each(&mut word),
            Source::File(path) => {
                ["--source", &path.to_string_lossy(), "--loop"].into_iter().for_each(&mut word);
            }
            Source::Noise | Source::Still => {
                return Err(Error::usage(format!("a worker of its own cannot show '{}'", options.source))
                    .cause("that is made in the bench's own memory"));
            }
        }
        if let (Some(size), Source::Scene) = (size, &options.source) {
            ["--size", &size.to_string(), "--fps", &options.fps.to_string()].into_iter().for_each(&mut word);
        }
        let encoder =
            options.encoder.to_possible_value().map_or_else(|| "auto".into(), |value| value.get_name().to_string());
        ["--encoder", &encoder, "--bitrate", &options.bitrate.to_string()].into_iter().for_each(&mut word);
        ["--jpeg-quality", &options.quality.to_string()].into_iter().for_each(&mut word);
        if let Some(gpu) = &options.gpu {
            ["--gpu", &gpu.uuid].into_iter().for_each(&mut word);
        }
        if let Some(slots) = options.slots {
            ["--slots", &slots.to_string()].into_iter().for_each(&mut word);
        }
        let (guarded, _stdin, stdout, stderr) = Guarded::spawn(&argv)?;
        let said = Arc::new(Mutex::new(String::new()));
        let into = said.clone();
        // Both are read to their ends, so that it never waits for us.
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(std::result::Result::ok) {
                *into.lock().unwrap() = line;
            }
        });
        let (tell, first) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                // After the first nobody listens.
                let _ = tell.send(line);
            }
        });
        let failed = || Error::failed("a worker to measure did not start").cause(said.lock().unwrap().clone());
        let line = first.recv_timeout(START).map_err(|_| failed())?;
        let link = serde_json::from_str::<Value>(&line).ok().and_then(|told| Some(told["url"].as_str()?.to_string()));
        let link = link.ok_or_else(failed)?;
        let address = link.parse()?;
        Ok(Worker { guarded, address, link })
    }

    /// What it has used of the machine.
    pub fn usage(&self) -> Option<Usage> {
        proc::usage(self.guarded.pid()?)
    }

    /// For viewers of it who decode nothing.
    pub fn view(&self, options: &Options, viewers: u32) -> view::Options {
        view::Options {
            token: self.address.token.clone(),
            codec: options.codec,
            viewers,
            decode: view::Decode::None,
            ..view::Options::new(self.address.target.clone())
        }
    }
}

/// Whether an error means that the worker had no room, such as no encoder slot.
pub fn no_room(error: &Error) -> bool {
    error.kind == Kind::Capacity
}
