//! The containers that are ours: found, looked at, removed.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant, SystemTime};

use bollard::container::LogOutput;
use bollard::models::{ContainerInspectResponse, ContainerState, ContainerStateStatusEnum, HostConfig};
use bollard::query_parameters::{
    ListContainersOptionsBuilder, LogsOptionsBuilder, RemoveContainerOptionsBuilder, StopContainerOptionsBuilder,
};
use futures_util::StreamExt;
use serde::Serialize;

use super::engine::Engine;
use super::plan::Planned;
use super::ready::Probe;
use super::show::{Change, Login, Report, Seen, State};
use super::{fault, image, isaac, login, nsight, profile};
use crate::clock::parse_rfc3339;
use crate::error::{Error, Result};

/// The label that makes a container ours; the others begin with `gsk.` too.
pub const MANAGED: &str = "gsk.managed";
/// The label that tells each start from every other.
const START: &str = "gsk.start";

/// A kind of managed stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Nsight,
    Isaac,
}

impl Stream {
    /// The command, and the value of its label.
    pub fn word(self) -> &'static str {
        match self {
            Stream::Nsight => "nsight",
            Stream::Isaac => "isaac",
        }
    }

    fn shipped(self) -> &'static str {
        match self {
            Stream::Nsight => nsight::SHIPPED,
            Stream::Isaac => isaac::SHIPPED,
        }
    }
}

/// A container's name.
pub fn container(stream: Stream, name: &str) -> String {
    format!("gsk-{}-{name}", stream.word())
}

/// A container's labels.
pub(super) fn labels<const N: usize>(stream: Stream, name: &str, more: [(&str, String); N]) -> HashMap<String, String> {
    let own = [("managed", "true".to_string()), ("stream", stream.word().into()), ("name", name.into())];
    own.into_iter().chain(more).map(|(key, value)| (format!("gsk.{key}"), value)).collect()
}

/// A container of ours.
pub(super) struct Ours {
    pub id: String,
    pub container: String,
    labels: HashMap<String, String>,
    pub state: ContainerState,
    image: String,
    image_id: String,
    /// Where its published ports listen, as the engine has it; all addresses for one on the machine's own network.
    bind: IpAddr,
    created: Option<SystemTime>,
}

impl Ours {
    /// A label, without `gsk.`.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.get(&format!("gsk.{key}")).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Among its kind.
    pub fn name(&self) -> &str {
        self.label("name").unwrap_or("-")
    }

    pub fn runs(&self) -> bool {
        self.state.running == Some(true)
    }

    fn seconds(&self, key: &str, default: u64) -> Duration {
        Duration::from_secs(self.label(key).and_then(|text| text.parse().ok()).unwrap_or(default))
    }

    /// Its ports, as they were planned.
    pub fn ports(&self) -> Vec<Planned> {
        self.label("ports").and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Whether a start has just made it, and has yet to start it.
    fn begins(&self) -> bool {
        let age = self.created.and_then(|at| SystemTime::now().duration_since(at).ok());
        self.state.status == Some(ContainerStateStatusEnum::CREATED) && age.is_none_or(|age| age < BEGINNING)
    }
}

/// How long a container may be there before the start that made it has started it.
const BEGINNING: Duration = Duration::from_secs(30);

/// The container of a name, as far as it matters who made it.
enum Found {
    None,
    Others,
    Ours(Box<Ours>),
}

async fn found(engine: &Engine, container: &str) -> Result<Found> {
    let seen = match inspect(engine, container).await {
        Err(error) if fault::absent(&error) => return Ok(Found::None),
        seen => seen.map_err(|error| fault::of(format!("the container {container} cannot be looked at"), error))?,
    };
    let config = seen.config.unwrap_or_default();
    let ours = Ours {
        id: seen.id.unwrap_or_else(|| container.into()),
        container: seen.name.map_or_else(|| container.into(), |name| name.trim_start_matches('/').into()),
        labels: config.labels.unwrap_or_default(),
        state: seen.state.unwrap_or_default(),
        image: config.image.unwrap_or_default(),
        image_id: seen.image.unwrap_or_default(),
        bind: bind(&seen.host_config.unwrap_or_default()),
        created: seen.created.as_deref().and_then(parse_rfc3339),
    };
    let named = |key: &str| ours.label(key).unwrap_or_default();
    if named("managed") != "true" || ours.container != format!("gsk-{}-{}", named("stream"), named("name")) {
        return Ok(Found::Others);
    }
    // A container inherits its image's labels, and an image that was committed from ours has ours: not that of the start.
    let inherited = image::labels(engine, &ours.image_id).await?;
    match ours.labels.get(START) {
        Some(start) if inherited.get(START) != Some(start) => Ok(Found::Ours(Box::new(ours))),
        _ => Ok(Found::Others),
    }
}

/// Where a container's ports listen, by what the engine was told.
fn bind(host: &HostConfig) -> IpAddr {
    let published = host.port_bindings.iter().flatten().flat_map(|(_, bindings)| bindings.iter().flatten());
    let mut addresses = published.filter_map(|binding| binding.host_ip.as_deref()?.parse().ok());
    addresses.next().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED.into())
}

/// The container of a name, if it is ours; another's is an error.
pub(super) async fn find(engine: &Engine, container: &str) -> Result<Option<Ours>> {
    match found(engine, container).await? {
        Found::None => Ok(None),
        Found::Ours(ours) => Ok(Some(*ours)),
        Found::Others => Err(Error::usage(format!("the container {container} is not gsk's"))
            .cause("it has the name, and was not made by gsk: it is left alone")
            .hint("choose another name: --name NAME; or rename that container: docker rename")),
    }
}

/// Podman calls a container "stopped" for a moment before it is "exited", which the library cannot read: it is asked again.
async fn inspect(engine: &Engine, container: &str) -> Result<ContainerInspectResponse, bollard::errors::Error> {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match engine.docker.inspect_container(container, None).await {
            Err(bollard::errors::Error::JsonDataError { .. }) if Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            answer => return answer,
        }
    }
}

/// All containers of a kind, by name.
pub(super) async fn all(engine: &Engine, stream: Stream) -> Result<Vec<Ours>> {
    let ours = [format!("{MANAGED}=true"), format!("gsk.stream={}", stream.word())];
    let filters: HashMap<&str, Vec<String>> = [("label", ours.to_vec())].into();
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = engine.docker.list_containers(Some(options)).await;
    let listed = listed.map_err(|error| fault::of("the containers cannot be listed", error))?;
    let mut found = Vec::new();
    for id in listed.into_iter().filter_map(|one| one.id) {
        // One that went meanwhile is none, and one that has the labels of its image only is another's.
        if let Found::Ours(one) = self::found(engine, &id).await? {
            found.push(*one);
        }
    }
    found.sort_by(|a, b| a.container.cmp(&b.container));
    Ok(found)
}

/// The names of all of a kind.
pub async fn names(engine: &Engine, stream: Stream) -> Result<Vec<String>> {
    Ok(all(engine, stream).await?.iter().map(|ours| ours.name().into()).collect())
}

/// The names of those that run.
pub async fn running(engine: &Engine, stream: Stream) -> Result<Vec<String>> {
    Ok(all(engine, stream).await?.iter().filter(|ours| ours.runs()).map(|ours| ours.name().into()).collect())
}

/// Which of our containers a command is about.
#[derive(Clone, Debug)]
pub enum Which {
    All,
    Named(Vec<String>),
    /// The only one; refused where there are several.
    Only,
}

/// The containers that were meant; none where there is none of that name.
pub(super) async fn chosen(engine: &Engine, stream: Stream, which: &Which) -> Result<Vec<Ours>> {
    let all = all(engine, stream).await?;
    match which {
        Which::All => Ok(all),
        Which::Named(names) => Ok(all.into_iter().filter(|one| names.iter().any(|name| name == one.name())).collect()),
        Which::Only if all.len() < 2 => Ok(all),
        Which::Only => {
            let names: Vec<&str> = all.iter().map(Ours::name).collect();
            Err(Error::usage(format!("there are several: {}", names.join(", "))).hint(match stream {
                Stream::Nsight => format!("name one, such as --name {}; or all of them: --all", names[0]),
                Stream::Isaac => format!("name one, such as {}; or, to stop them, all of them: --all", names[0]),
            }))
        }
    }
}

/// Where this machine reaches what is published at an address of the engine's.
pub(super) fn host(engine: &Engine, bind: IpAddr) -> String {
    if !engine.local() {
        let address = engine.seen.address.split_once("://").map_or("", |(_, rest)| rest);
        return address.rsplit_once(':').map_or(address, |(host, _)| host).to_string();
    }
    match bind {
        IpAddr::V4(address) if address.is_unspecified() => "127.0.0.1".into(),
        IpAddr::V6(address) if address.is_unspecified() => "::1".into(),
        address => address.to_string(),
    }
}

/// Why a container runs no more, if it does not.
pub(super) async fn ended(engine: &Engine, id: &str) -> Result<Option<String>> {
    let seen = match inspect(engine, id).await {
        Err(error) if fault::absent(&error) => return Ok(Some("it was removed".into())),
        seen => seen.map_err(|error| fault::of(format!("the container {id} cannot be looked at"), error))?,
    };
    let state = seen.state.unwrap_or_default();
    Ok((state.running != Some(true)).then(|| end(&state)))
}

fn end(state: &ContainerState) -> String {
    let code = state.exit_code.unwrap_or_default();
    let words = match state.oom_killed {
        Some(true) => "it was killed for memory".into(),
        _ if state.started_at.as_deref().is_none_or(|at| at.starts_with("0001-")) => {
            "it was created and never started".into()
        }
        _ => format!("it ended with exit code {code}"),
    };
    match state.error.as_deref().filter(|error| !error.is_empty()) {
        Some(error) => format!("{words}: {error}"),
        None => words,
    }
}

/// Stops a container if it runs, removes it, and forgets its password. One that had ended and has been started since is
/// removed by `force` only; false where it is left.
pub(super) async fn remove(engine: &Engine, stream: Stream, ours: &Ours, force: bool) -> Result<bool> {
    if ours.runs() {
        let grace = ours.seconds("grace", 5).as_secs();
        let options = StopContainerOptionsBuilder::new().t(i32::try_from(grace).unwrap_or(i32::MAX)).build();
        match engine.docker.stop_container(&ours.id, Some(options)).await {
            Err(error) if !fault::done(&error) => {
                return Err(fault::of(format!("{} cannot be stopped", ours.container), error));
            }
            _ => {}
        }
    }
    // With the volumes that have no name.
    let options = RemoveContainerOptionsBuilder::new().force(force).v(true).build();
    match engine.docker.remove_container(&ours.id, Some(options)).await {
        Err(error) if !fault::done(&error) => {
            return Err(fault::of(format!("{} cannot be removed", ours.container), error));
        }
        // The engine says the same of one that runs and of one that is being removed.
        Err(_) if ended(engine, &ours.id).await?.is_none() => return Ok(false),
        _ => {}
    }
    // The place is told by the name, not by the label: that is text, and this deletes a file.
    if let Ok(file) = login::place(stream, ours.name()) {
        login::forget(&file);
    }
    Ok(true)
}

/// Removes the containers that were meant: running ones are stopped first.
pub async fn stop(engine: &Engine, stream: Stream, which: &Which) -> Result<Report> {
    let mut changes = Vec::new();
    for ours in chosen(engine, stream, which).await? {
        remove(engine, stream, &ours, true).await?;
        let why = if ours.runs() { "it ran".into() } else { end(&ours.state) };
        changes.push(Change::removed(&ours.container, why));
    }
    Ok(Report { changes, ..report(engine, stream, &Which::All).await? })
}

/// Those that have ended, and with `remove` are removed.
pub async fn cleanup(engine: &Engine, stream: Stream, remove_them: bool) -> Result<Report> {
    let mut changes = Vec::new();
    for ours in all(engine, stream).await?.into_iter().filter(|ours| !ours.runs() && !ours.begins()) {
        let why = end(&ours.state);
        if !remove_them {
            changes.push(Change::planned(&ours.container, why));
        } else if remove(engine, stream, &ours, false).await? {
            changes.push(Change::removed(&ours.container, why));
        }
    }
    Ok(Report { changes, ..report(engine, stream, &Which::All).await? })
}

/// What there is of a kind, and how it does.
pub async fn report(engine: &Engine, stream: Stream, which: &Which) -> Result<Report> {
    let ours = chosen(engine, stream, which).await?;
    let looks = ours.iter().map(|one| look(engine, stream, one));
    let streams = futures_util::future::join_all(looks).await;
    Ok(Report { stream, engine: engine.seen.clone(), streams, changes: Vec::new(), errors: Vec::new() })
}

async fn look(engine: &Engine, stream: Stream, ours: &Ours) -> Seen {
    let file = ours.label("password-file").map(std::path::PathBuf::from);
    // A user's own file is not ours to read: a page that asks for a password is there.
    let own = file.as_deref().filter(|file| login::place(stream, ours.name()).is_ok_and(|place| place == *file));
    let password = own.and_then(login::known);
    let user = ours.label("user").unwrap_or_default();
    let probe = Probe::of(ours.label("probe").unwrap_or_default());
    let host = host(engine, ours.bind);
    let (state, reason) = match ours.runs() {
        false => (State::Exited, Some(ended_because(engine, stream, ours).await)),
        true => match probe.ask(&host, password.as_ref().map(|password| (user, password))).await {
            Ok(()) => (State::Ready, None),
            Err(words) if age(&ours.state) < ours.seconds("timeout", 120) => (State::Starting, Some(words)),
            Err(words) => (State::Unhealthy, Some(words)),
        },
    };
    let at = if ours.runs() { &ours.state.started_at } else { &ours.state.finished_at };
    let ports = ours.ports();
    let page = match &probe {
        Probe::Http(port, path) if ours.runs() => Some(format!("http://{}:{port}{path}", bracketed(&host))),
        _ => None,
    };
    let tunnelled = ports.iter().filter(|port| port.protocol == "tcp").map(|port| port.number).collect::<Vec<_>>();
    Seen {
        name: ours.name().into(),
        container: ours.container.clone(),
        id: ours.id.clone(),
        title: ours.label("title").unwrap_or_default().into(),
        state,
        reason,
        // What was never comes as the year 1, before what can be read.
        since: at.as_deref().and_then(parse_rfc3339).map(|at| humantime::format_rfc3339_seconds(at).to_string()),
        image: ours.image.clone(),
        digest: image::digest(engine, &ours.image_id).await,
        tunnel: (engine.local() && ours.bind.is_loopback() && page.is_some()).then(|| tunnel(&tunnelled)),
        page,
        address: ours.bind.to_string(),
        ports,
        login: (!user.is_empty()).then(|| Login { user: user.into(), password: None, file }),
        gpu: ours.label("gpu").unwrap_or("none").into(),
        reports: ours.label("reports").map(|dir| nsight::shelf(dir, ours.label("report-endings").unwrap_or_default())),
    }
}

/// Why it ended, with what its log is known to mean.
async fn ended_because(engine: &Engine, stream: Stream, ours: &Ours) -> String {
    let words = end(&ours.state);
    let profiles = profile::load(stream.shipped(), None).unwrap_or_default();
    let Some(profile) = profiles.iter().find(|one| Some(one.name.as_str()) == ours.label("profile")) else {
        return words;
    };
    let lines = lines(engine, &ours.id, 200).await.unwrap_or_default();
    match lines.iter().find_map(|line| profile.known(&line.text)) {
        Some(known) => format!("{words}: {}", known.cause),
        None => words,
    }
}

/// How long it has run: past every limit where nobody knows since when.
fn age(state: &ContainerState) -> Duration {
    let Some(started) = state.started_at.as_deref().and_then(parse_rfc3339) else { return Duration::MAX };
    SystemTime::now().duration_since(started).unwrap_or_default()
}

fn bracketed(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.into() }
}

/// The whole line that brings ports to another machine.
fn tunnel(ports: &[u16]) -> String {
    let forwards: Vec<String> = ports.iter().map(|port| format!("-L {port}:127.0.0.1:{port}")).collect();
    format!("ssh -N {} {}", forwards.join(" "), crate::output::host())
}

/// A line of a container's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    /// `stdout` or `stderr`.
    pub from: &'static str,
    pub text: String,
}

impl Line {
    fn of(output: LogOutput) -> Vec<Line> {
        let from = if matches!(output, LogOutput::StdErr { .. }) { "stderr" } else { "stdout" };
        let text = String::from_utf8_lossy(&output.into_bytes()).into_owned();
        text.lines().map(|text| Line { from, text: text.into() }).collect()
    }
}

async fn lines(engine: &Engine, id: &str, tail: u32) -> Result<Vec<Line>> {
    let mut all = Vec::new();
    follow(engine, id, tail, false, |line| {
        all.push(line);
        Ok(())
    })
    .await?;
    Ok(all)
}

async fn follow(
    engine: &Engine,
    id: &str,
    tail: u32,
    follow: bool,
    mut line: impl FnMut(Line) -> Result<()>,
) -> Result<()> {
    let options = LogsOptionsBuilder::new().stdout(true).stderr(true).follow(follow).tail(&tail.to_string()).build();
    let mut log = Box::pin(engine.docker.logs(id, Some(options)));
    while let Some(piece) = log.next().await {
        let piece = piece.map_err(|error| fault::of("the log cannot be read", error))?;
        Line::of(piece).into_iter().try_for_each(&mut line)?;
    }
    Ok(())
}

/// Hands on the last `tail` lines of the log of the one container that was meant, and with `on` those to come until it ends.
pub async fn logs(
    engine: &Engine,
    stream: Stream,
    which: &Which,
    tail: u32,
    on: bool,
    line: impl FnMut(Line) -> Result<()>,
) -> Result<()> {
    let ours = chosen(engine, stream, which).await?;
    let [ours] = ours.as_slice() else {
        return Err(Error::usage(format!("there is no such {} container of gsk's", stream.word()))
            .hint(format!("gsk {} status", stream.word())));
    };
    follow(engine, &ours.id, tail, on, line).await
}
