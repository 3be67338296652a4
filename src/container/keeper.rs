//! Who cleans up after a start that is killed.
//!
//! gsk starts itself again under another name, with a pipe as standard input whose other end nobody else has. A byte in it
//! says that the container has been created, or that the start is over and the container is to stay; its end without the
//! latter, that gsk is gone.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use bollard::query_parameters::RemoveContainerOptionsBuilder;

use super::engine::Engine;
use super::{fault, login, managed};
use crate::error::{Error, Kind, Result};

/// The keeper's argv[0]; its arguments are the engine's address, the container's name, the start's label, and the password's
/// file or nothing.
const KEEPER: &str = "gsk-keeper";

/// How long a container may take to appear that was asked for just before gsk died, or to go.
const PATIENCE: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(100);

/// What is said to it.
const CREATED: u8 = b'c';
const OVER: u8 = b'.';

/// A keeper at work. Dropping it is what gsk's death is: the container goes.
pub(super) struct Keeper(Child);

impl Keeper {
    /// `start` is the value of the label that this start's container will have.
    pub fn watch(engine: &Engine, container: &str, start: &str, password: Option<&Path>) -> Result<Keeper> {
        let mut command = Command::new("/proc/self/exe");
        command.arg0(KEEPER).args([engine.seen.address.as_str(), container, start]);
        command.arg(password.map_or(OsStr::new(""), Path::as_os_str));
        // Ctrl-C at a terminal, and a signal to our group, are not for it.
        command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().map(Keeper).map_err(|error| Error::io("the start cannot be guarded", error))
    }

    /// The container is there: none of that start any more means that somebody else has removed it.
    pub fn created(&mut self) {
        self.say(CREATED);
    }

    /// All is well, or there is nothing to remove.
    pub fn release(mut self) {
        self.say(OVER);
        let _ = self.0.wait();
    }

    fn say(&mut self, word: u8) {
        // One that is gone needs no word.
        let _ = self.0.stdin.as_mut().map(|pipe| pipe.write_all(&[word]));
    }

    /// Has the container removed, and returns when it is.
    pub fn remove(mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Does a keeper's work if this process was started as one, and says with what code to end; call it at the start of `main`.
pub fn if_asked() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if args.next().as_deref() != Some(OsStr::new(KEEPER)) {
        return None;
    }
    let words: Vec<OsString> = args.collect();
    let [engine, container, start, password] = words.as_slice() else { return Some(ExitCode::FAILURE) };
    let (mut word, mut created) = ([0], false);
    while std::io::stdin().read_exact(&mut word).is_ok() {
        match word {
            [CREATED] => created = true,
            _ => return Some(ExitCode::SUCCESS),
        }
    }
    let [Some(engine), Some(container), Some(start)] = [engine, container, start].map(|word| word.to_str()) else {
        return Some(ExitCode::FAILURE);
    };
    let removed = super::block_on(async {
        let engine = Engine::at(engine, "keeper").await?;
        if remove(&engine, container, start, created).await? && !password.is_empty() {
            login::forget(Path::new(password));
        }
        Ok(())
    });
    Some(if removed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Removes the container of that start, if it is there or comes, and says whether it was. It is looked for until the engine
/// says that it is gone; what the engine cannot do now it is asked again.
async fn remove(engine: &Engine, container: &str, start: &str, created: bool) -> Result<bool> {
    let until = Instant::now() + PATIENCE;
    let mut seen = created;
    loop {
        let late = Instant::now() >= until;
        match none_left(engine, container, start).await {
            Ok(true) if seen || late => return Ok(seen),
            Ok(true) => {}
            Ok(false) => seen = true,
            Err(error) if late => return Err(error),
            Err(_) => {}
        }
        if late {
            return Ok(seen);
        }
        tokio::time::sleep(PACE).await;
    }
}

/// Whether there is no container of that start; has one removed that there is.
async fn none_left(engine: &Engine, container: &str, start: &str) -> Result<bool> {
    let found = match managed::find(engine, container).await {
        // Somebody else's, under the same name.
        Err(error) if error.kind == Kind::Usage => None,
        found => found?,
    };
    let Some(found) = found.filter(|found| found.label("start") == Some(start)) else { return Ok(true) };
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    match engine.docker.remove_container(&found.id, Some(options)).await {
        Err(error) if !fault::done(&error) => Err(fault::of("it cannot be removed", error)),
        _ => Ok(false),
    }
}
