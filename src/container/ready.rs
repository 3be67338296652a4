//! Waiting until a stream can be watched: its log, its port, its page.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bollard::container::LogOutput;
use bollard::query_parameters::LogsOptionsBuilder;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{interval, timeout};

use super::engine::Engine;
use super::managed;
use super::plan::{Login, Plan};
use super::profile::{Known, Profile};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};
use crate::output::Printer;

/// Between two looks.
const PACE: Duration = Duration::from_millis(150);
/// How long a page may take to answer.
const ANSWER: Duration = Duration::from_secs(2);
/// Between two lines on a start that says nothing new, where there is no terminal.
const REMINDER: Duration = Duration::from_secs(60);
/// Lines of the log that are kept, for when it fails, and how many of them are shown then.
const KEPT: usize = 400;
const SHOWN: usize = 15;
/// The most of one line that is kept, bytes.
const LINE: usize = 4096;

/// What is asked of a stream to know that it can be watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// Its port accepts a connection.
    Tcp(u16),
    /// Its page answers 200, or asks for a password that we do not know.
    Http(u16, String),
    /// Nothing: it has said so in its log.
    Nothing,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Probe::Nothing => Ok(()),
            Probe::Tcp(port) => write!(f, "tcp {port}"),
            Probe::Http(port, path) => write!(f, "http {port} {path}"),
        }
    }
}

impl Probe {
    /// What is asked of a plan's container.
    pub fn planned(plan: &Plan) -> Result<Probe> {
        let ready = &plan.profile.ready;
        let Some(name) = &ready.port else { return Ok(Probe::Nothing) };
        let port = plan.port(name)?;
        Ok(ready.http.clone().map_or(Probe::Tcp(port), |path| Probe::Http(port, path)))
    }

    /// Reads a label of [`managed`]: `tcp PORT`, `http PORT PATH`, or nothing.
    pub fn of(label: &str) -> Probe {
        let words: Vec<&str> = label.split(' ').collect();
        match words.as_slice() {
            ["tcp", port] => port.parse().map_or(Probe::Nothing, Probe::Tcp),
            ["http", port, path] => port.parse().map_or(Probe::Nothing, |port| Probe::Http(port, path.to_string())),
            _ => Probe::Nothing,
        }
    }

    /// Whether it can be watched now; if not, why.
    pub async fn ask(&self, host: &str, login: Option<(&str, &Secret)>) -> Result<(), String> {
        match self {
            Probe::Nothing => Ok(()),
            Probe::Tcp(port) => connect(host, *port).await.map(drop),
            Probe::Http(port, path) => {
                let status = timeout(ANSWER, page(host, *port, path, login)).await;
                match status.map_err(|_| format!("port {port} does not answer within {} s", ANSWER.as_secs()))?? {
                    200 => Ok(()),
                    401 if login.is_none() => Ok(()),
                    status => Err(format!("the page at port {port} answers {status}")),
                }
            }
        }
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    match timeout(ANSWER, TcpStream::connect((host, port))).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("port {port}: {error}")),
        Err(_) => Err(format!("port {port} does not answer")),
    }
}

/// The status that a page answers with.
async fn page(host: &str, port: u16, path: &str, login: Option<(&str, &Secret)>) -> Result<u16, String> {
    let mut stream = connect(host, port).await?;
    let authorization = login.map_or(String::new(), |(user, password)| {
        let pair = base64::prelude::BASE64_STANDARD.encode(format!("{user}:{}", password.reveal()));
        format!("Authorization: Basic {pair}\r\n")
    });
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{authorization}Connection: close\r\n\r\n");
    let failed = |error: std::io::Error| format!("port {port}: {error}");
    stream.write_all(request.as_bytes()).await.map_err(failed)?;
    // RFC 9112, section 4: HTTP/1.1 SP three digits.
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.map_err(|_| format!("port {port} closes the connection without an answer"))?;
    let status = head.strip_prefix(b"HTTP/1.").and_then(|rest| std::str::from_utf8(&rest[2..]).ok()?.parse().ok());
    status.ok_or_else(|| format!("what listens on port {port} does not speak HTTP"))
}

/// What a log has told so far.
struct Told<'a> {
    profile: &'a Profile,
    lines: VecDeque<String>,
    /// What of standard output's and standard error's last lines has come.
    parts: [String; 2],
    /// The number of the phase that is under way.
    phase: usize,
    ready: bool,
    known: Option<&'a Known>,
    last: Instant,
}

impl<'a> Told<'a> {
    fn new(profile: &'a Profile) -> Told<'a> {
        let ready = profile.ready.log.is_empty();
        let (lines, parts) = (VecDeque::new(), Default::default());
        Told { profile, lines, parts, phase: 0, ready, known: None, last: Instant::now() }
    }

    fn take(&mut self, output: &LogOutput) {
        self.last = Instant::now();
        let (from, bytes) = match output {
            LogOutput::StdErr { message } => (1, message),
            LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
                (0, message)
            }
        };
        for piece in String::from_utf8_lossy(bytes).split_inclusive('\n') {
            let part = &mut self.parts[from];
            if part.len() < LINE {
                part.push_str(piece.trim_end_matches('\n'));
            }
            if piece.ends_with('\n') {
                let line = std::mem::take(part);
                self.line(line);
            }
        }
    }

    fn line(&mut self, line: String) {
        let has = |parts: &[String]| parts.iter().any(|part| line.contains(part.as_str()));
        self.ready = self.ready || has(&self.profile.ready.log);
        let mut later = self.profile.phases.iter().enumerate().skip(self.phase + 1);
        if let Some((phase, _)) = later.rfind(|(_, phase)| has(&phase.log)) {
            self.phase = phase;
        }
        // The first says what the later ones come from.
        self.known = self.known.or_else(|| self.profile.known(&line));
        if self.lines.len() == KEPT {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    fn phase(&self) -> &str {
        self.profile.phases.get(self.phase).map_or("start", |phase| &phase.name)
    }

    /// The last lines, for an error's cause.
    fn tail(&self) -> String {
        let from = self.lines.len().saturating_sub(SHOWN);
        let lines: Vec<&str> = self.lines.iter().skip(from).map(String::as_str).collect();
        match lines.is_empty() {
            true => "its log is empty".into(),
            false => format!("the end of its log:\n{}", lines.join("\n")),
        }
    }

    /// An error, with what the log is known to mean in place of `kind`, and the log's end.
    fn error(&self, kind: Kind, what: String, cause: &str, hint: &str) -> Error {
        let error = match self.known {
            None => Error::new(kind, what).hint(hint).cause(format!("{cause}; {}", self.tail())),
            Some(known) => {
                let error = Error::new(known.kind.into(), what);
                let error = error.cause(format!("{}\n{cause}; {}", known.cause, self.tail()));
                error.hint(known.hint.as_deref().unwrap_or(hint))
            }
        };
        Error { cause: error.cause.map(|cause| crate::output::text::sanitise_lines(&cause)), ..error }
    }
}

/// Waits until the plan's container `id` can be watched, and says on the way how far it is. Where it comes to nothing, the
/// error has the end of its log.
pub(super) async fn wait(engine: &Engine, plan: &Plan, id: &str, printer: &Printer) -> Result<()> {
    let begun = Instant::now();
    let name = plan.container();
    let host = managed::host(engine, plan.bind);
    let probe = Probe::planned(plan)?;
    let login = plan.login.as_ref().map(|Login { user, password, .. }| (user.as_str(), password));
    let mut told = Told::new(&plan.profile);
    let options = LogsOptionsBuilder::new().follow(true).stdout(true).stderr(true).tail("all").build();
    let mut log = Box::pin(engine.docker.logs(id, Some(options)));
    let mut looks = interval(PACE);
    let mut progress = printer.progress();
    progress.begin(&name, plan.timeout.as_secs().max(1));
    let (mut phase, mut waiting, mut reminded) = (0, String::new(), begun);
    let mut open = true;
    loop {
        tokio::select! {
            piece = log.next(), if open => match piece {
                Some(Ok(piece)) => told.take(&piece),
                // It has ended, or the engine has no log of it: the container's state says which.
                _ => open = false,
            },
            _ = looks.tick() => {
                if told.known.is_some_and(|known| known.fatal) {
                    let what = format!("{name} cannot start");
                    return Err(told.error(Kind::Failed, what, "its log says so", &hint(plan)));
                }
                if let Some(words) = managed::ended(engine, id).await? {
                    let told = whole(engine, id, &plan.profile).await;
                    let what = format!("{name} ended while it started");
                    return Err(told.error(Kind::Failed, what, &words, &hint(plan)));
                }
                if told.ready {
                    match probe.ask(&host, login).await {
                        Ok(()) => break,
                        Err(words) => waiting = words,
                    }
                }
                if begun.elapsed() >= plan.timeout {
                    let lines = plan.profile.ready.log.join("' or '");
                    let missing = if told.ready { waiting } else { format!("no line of its log has '{lines}'") };
                    let limit = humantime::format_duration(plan.timeout);
                    let what = format!("{name} was not ready within {limit}");
                    return Err(told.error(Kind::Unreachable, what, &missing, "give it longer: --timeout 30m"));
                }
            }
        }
        let silent = told.last.elapsed().as_secs();
        let now = format!("{}, {} s", told.phase(), begun.elapsed().as_secs());
        let words = if silent >= 5 { format!("{now}; no output for {silent} s") } else { now };
        if told.phase != phase {
            progress.end(&format!("{} after {:.1} s", told.phase(), begun.elapsed().as_secs_f64()));
            progress.begin(&name, plan.timeout.as_secs().max(1));
            phase = told.phase;
        } else if !printer.live() && reminded.elapsed() >= REMINDER {
            reminded = Instant::now();
            printer.note(&format!("{name}: {words}"));
        }
        progress.step(begun.elapsed().as_secs(), || words);
    }
    progress.end(&format!("ready after {:.1} s", begun.elapsed().as_secs_f64()));
    Ok(())
}

fn hint(plan: &Plan) -> String {
    format!("its image by hand: docker run --rm -it {}", plan.image)
}

/// The log of a container that has ended, read anew: one that is followed can lose its last lines.
async fn whole<'a>(engine: &Engine, id: &str, profile: &'a Profile) -> Told<'a> {
    let mut told = Told::new(profile);
    // Not its last lines only: Podman 4.3 then puts some of them together.
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).tail("all").build();
    let mut log = Box::pin(engine.docker.logs(id, Some(options)));
    while let Some(Ok(piece)) = log.next().await {
        told.take(&piece);
    }
    for part in std::mem::take(&mut told.parts) {
        if !part.is_empty() {
            told.line(part);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::profile;

    fn profile() -> Profile {
        let over = "ready: {log: [App is loaded, AppReady]}\nphases: [{name: one}, {name: two, log: [Ext]}, {name: three, log: [Shader]}]\nerrors: [{log: [no gpu], kind: missing, cause: C}]";
        let path = std::path::Path::new("x");
        profile::load(super::super::nsight::SHIPPED, Some((path, over))).unwrap().remove(0)
    }

    fn out(text: &'static str) -> LogOutput {
        LogOutput::StdOut { message: text.into() }
    }

    #[test]
    fn a_log_tells_phases_readiness_and_known_errors_however_it_is_cut() {
        let profile = profile();
        let mut told = Told::new(&profile);
        assert_eq!((told.phase(), told.ready), ("one", false));
        told.take(&out("Exten"));
        told.take(&LogOutput::StdErr { message: "apart\nNo GPU at all\n".into() });
        assert_eq!((told.phase(), told.known.map(|known| known.cause.as_str())), ("one", Some("C")));
        told.take(&out("sions\nShaders\nExt"));
        assert_eq!(told.phase(), "three");
        told.take(&out(" again\n"));
        assert_eq!((told.phase(), told.ready), ("three", false), "never back");
        told.take(&out("Isaac App is loaded.\n"));
        assert!(told.ready);
        assert!(told.tail().contains("apart\nNo GPU at all\nExtensions\nShaders\nExt again\nIsaac App is loaded."));
    }

    #[test]
    fn a_log_is_bounded() {
        let profile = profile();
        let mut told = Told::new(&profile);
        for _ in 0..1000 {
            told.take(&LogOutput::StdOut { message: [b'x'; 1000].to_vec().into() });
        }
        told.take(&out("\n"));
        assert!(told.lines[0].len() <= LINE + 1000);
        for _ in 0..2 * KEPT {
            told.take(&out("line\n"));
        }
        assert_eq!(told.lines.len(), KEPT);
    }

    #[test]
    fn probes_are_read_back_from_labels() {
        for probe in [Probe::Http(8080, "/".into()), Probe::Tcp(49100), Probe::Nothing] {
            assert_eq!(Probe::of(&probe.to_string()), probe);
        }
        assert_eq!(Probe::of("tcp x"), Probe::Nothing);
    }
}
