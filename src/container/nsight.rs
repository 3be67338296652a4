//! Nsight Streamer: the windows of the Nsight tools in a browser, over the reports of a folder.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::compose::{self, Published, Service};
use super::gpu::Asked;
use super::managed::{Stream, host};
use super::plan::{Login, Plan, Shelf, Vars};
use super::profile::{self, Mount, OnChange, Profile};
use super::show::{File, Reports};
use super::{engine::Engine, login};
use crate::config::Secret;
use crate::error::{Error, Kind, Result};

/// The profiles that gsk ships.
pub const SHIPPED: &str = include_str!("nsight.yaml");

/// Where the reports lie that nobody names.
pub const REPORTS: &str = "profiling_output";
/// The user that logs in where nobody names one.
pub const USER: &str = "gsk";

/// Whose windows are streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tool {
    /// Nsight Systems.
    #[default]
    Nsys,
    /// Nsight Compute.
    Ncu,
}

impl Tool {
    /// The profile of that name.
    pub fn word(self) -> &'static str {
        match self {
            Tool::Nsys => "nsys",
            Tool::Ncu => "ncu",
        }
    }
}

/// What a user asks for. What is `None` is taken from the Compose file, else from the profile.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub tool: Tool,
    pub name: Option<String>,
    pub image: Option<String>,
    pub tag: Option<String>,
    pub profile: Option<PathBuf>,
    pub compose: Option<PathBuf>,
    pub reports: Option<PathBuf>,
    /// A report to open.
    pub open: Option<PathBuf>,
    pub port: Option<u16>,
    pub turn_port: Option<u16>,
    pub bind: Option<IpAddr>,
    pub host_ip: Option<String>,
    pub max_resolution: Option<String>,
    pub resize: Option<bool>,
    pub gpu: Asked,
    /// Empty: no login.
    pub username: Option<String>,
    pub password_file: Option<PathBuf>,
    pub timeout: Option<Duration>,
}

/// The container that is asked for, and what its user should know.
pub fn plan(options: &Options) -> Result<(Plan, Vec<String>)> {
    let mut words = Vec::new();
    let mut profile = profile(options)?;
    let name = options.name.clone().unwrap_or_else(|| options.tool.word().into());
    let service = options.compose.as_deref().map(compose::read).transpose()?.unwrap_or_default();
    let mut service = Taken::of(service, options, &mut profile, &mut words)?;

    let bind = options.bind.unwrap_or(Ipv4Addr::LOCALHOST.into());
    let host_ip = options.host_ip.clone().or_else(|| service.take("HOST_IP"));
    let host_ip = match host_ip {
        Some(host_ip) => host_ip,
        None if !bind.is_unspecified() => bind.to_string(),
        None => own_address()?,
    };
    let login = login(options, &name, bind, &mut words)?;
    let shelf = shelf_of(options, &mut service, &profile)?;

    let mut vars = Vars::default();
    vars.set("host_ip", Some(host_ip));
    let given = options.max_resolution.clone().or_else(|| service.take("MAX_RESOLUTION"));
    vars.set("max_resolution", Some(given.unwrap_or_else(|| "1920x1080".into())));
    let resize = options.resize.map(|resize| resize.to_string()).or_else(|| service.take("ENABLE_RESIZE"));
    vars.set("resize", Some(resize.unwrap_or_else(|| "true".into())));
    // The Compose file's own mount brings the reports where it names one.
    let dir = shelf.dir.display().to_string();
    vars.set("reports", service.shelf.is_none().then_some(dir));
    vars.set("report", options.open.as_deref().map(|report| inside(report, &shelf, &service, &profile)).transpose()?);
    if options.open.is_some() {
        // Another report is another start.
        profile.on_change = OnChange::Recreate;
    }
    let image = image(options, service.image.as_deref(), &profile);
    let plan = Plan {
        stream: Stream::Nsight,
        name,
        image,
        vars,
        bind,
        gpu: options.gpu.clone(),
        login,
        shelf: Some(shelf),
        memory_limit: None,
        timeout: options.timeout.unwrap_or(profile.timeout),
        instance: 0,
        environment: service.environment,
        mounts: service.mounts,
        folders: Vec::new(),
        owner: None,
        profile,
    };
    let (http, turn) = (plan.port("http")?, plan.port("turn")?);
    if http == turn {
        return Err(Error::usage(format!("--port and --turn-port are both {http}")).hint("choose two ports"));
    }
    Ok((plan, words))
}

fn profile(options: &Options) -> Result<Profile> {
    let over = options.profile.as_deref().map(|path| profile::read(path).map(|text| (path, text))).transpose()?;
    let profiles = profile::load(SHIPPED, over.as_ref().map(|(path, text)| (*path, text.as_str())))?;
    let word = options.tool.word();
    let mut found = profiles.into_iter().find(|one| one.name == word).ok_or_else(|| Error::bug("no such profile"))?;
    for (name, number) in [("http", options.port), ("turn", options.turn_port)] {
        let port = found.ports.iter_mut().find(|port| port.name == name);
        if let (Some(port), Some(number)) = (port, number) {
            port.number = number;
        }
    }
    Ok(found)
}

/// What of a Compose file is left to be used.
struct Taken {
    image: Option<String>,
    environment: BTreeMap<String, String>,
    mounts: Vec<Mount>,
    /// The mount that has the reports, where the user names no other folder.
    shelf: Option<Mount>,
}

impl Taken {
    fn of(service: Service, options: &Options, profile: &mut Profile, words: &mut Vec<String>) -> Result<Taken> {
        let Service { image, ports, mut environment, mounts, left_out } = service;
        if !left_out.is_empty() {
            words.push(format!("of the Compose file's service these are left out: {}", left_out.join(", ")));
        }
        for secret in ["WEB_USERNAME", "WEB_PASSWORD", "TURN_USERNAME", "TURN_PASSWORD"] {
            if environment.remove(secret).is_some() && secret == "WEB_PASSWORD" {
                words.push("the Compose file's password is not used: anybody may know it. A new one is made".into());
            }
        }
        let turn_inside = environment.remove("TURN_PORT").and_then(|text| text.parse().ok()).unwrap_or(3478);
        let http_inside = environment.remove("HTTP_PORT").and_then(|text| text.parse().ok()).unwrap_or(8080);
        let inside = |number: u16| ports.iter().find(|port| port.container == number && port.protocol == "tcp");
        let (http, turn) = (inside(http_inside), inside(turn_inside));
        if let Some(Published { host, container, .. }) = turn.filter(|port| port.host != port.container) {
            return Err(Error::usage(format!("the Compose file publishes the TURN port {container} as {host}"))
                .cause("the browser is told the number inside, so that both have to be the same")
                .hint(format!("write \"{host}:{host}\" and TURN_PORT={host}; or --turn-port PORT")));
        }
        for (name, port, given) in [("http", http, options.port), ("turn", turn, options.turn_port)] {
            let own = profile.ports.iter_mut().find(|port| port.name == name);
            if let (Some(own), Some(port), None) = (own, port, given) {
                own.number = port.host;
            }
        }
        let open = |port: &&Published| port.address.is_none_or(|address| !address.is_loopback());
        if options.bind.is_none() && [http, turn].into_iter().flatten().any(|port| open(&port)) {
            words.push(
                "the Compose file publishes to every address; gsk listens on 127.0.0.1 (--bind says otherwise)".into(),
            );
        }
        let others = ports.iter().filter(|port| Some(*port) != http && Some(*port) != turn);
        let others: Vec<String> = others.map(|port| format!("{}:{}", port.host, port.container)).collect();
        if !others.is_empty() {
            words.push(format!("the Compose file's other ports are not published: {}", others.join(", ")));
        }
        let of_reports = |mount: &&Mount| mount.source.starts_with('/') && mount.target.starts_with("/mnt/host");
        let shelf = mounts.iter().find(of_reports).filter(|_| options.reports.is_none()).cloned();
        // A folder of the user's own takes the place of the file's.
        let mounts = mounts.iter().filter(|mount| options.reports.is_none() || !of_reports(mount)).cloned().collect();
        Ok(Taken { image, environment, mounts, shelf })
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.environment.remove(name)
    }
}

/// Flags before the Compose file before the profile; a tag alone goes with whatever image it is.
fn image(options: &Options, service: Option<&str>, profile: &Profile) -> String {
    let (own, own_tag) = service.map_or((None, None), split);
    let (given, given_tag) = options.image.as_deref().map_or((None, None), split);
    let tag = options.tag.as_deref().or(given_tag).or(if given.is_none() { own_tag } else { None });
    let name = given.or(own).unwrap_or(&profile.image);
    if name.contains('@') {
        return name.into();
    }
    // An image of the user's own has tags of its own.
    let default = if given.is_some() || own.is_some() { "latest" } else { &profile.tag };
    format!("{name}:{}", tag.unwrap_or(default))
}

/// A name and its tag: what stands behind the last colon, unless that is a registry's port.
fn split(image: &str) -> (Option<&str>, Option<&str>) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !image.contains('@') => (Some(name), Some(tag)),
        _ => (Some(image), None),
    }
}

/// Who may look: a password of the user's own, else a random one, else, on loopback, nobody is asked.
fn login(options: &Options, name: &str, bind: IpAddr, words: &mut Vec<String>) -> Result<Option<Login>> {
    let user = options.username.clone().unwrap_or_else(|| USER.into());
    if user.is_empty() {
        if !bind.is_loopback() {
            return Err(Error::usage(format!("--username '' would open the page to all who reach {bind}"))
                .hint("leave --username out, or listen on loopback: --bind 127.0.0.1"));
        }
        words.push("no login: every user and program of this machine can look".into());
        return Ok(None);
    }
    let (password, file) = match &options.password_file {
        Some(file) => (login::given(file)?, absolute(file)?),
        None => (login::random()?, login::place(Stream::Nsight, name)?),
    };
    Ok(Some(Login { user, password, file }))
}

/// The folder of reports: the user's, that of the report to open, the Compose file's, or `./profiling_output`.
fn shelf_of(options: &Options, service: &mut Taken, profile: &Profile) -> Result<Shelf> {
    let named = options.reports.clone();
    let dir = match (named, &options.open, &service.shelf) {
        (Some(dir), ..) => dir,
        (None, _, Some(mount)) => PathBuf::from(&mount.source),
        (None, Some(report), None) => {
            report.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf()
        }
        (None, None, None) => PathBuf::from(REPORTS),
    };
    let dir = absolute(&dir)?;
    let fault = |error: std::io::Error| {
        let missing = error.kind() == std::io::ErrorKind::NotFound;
        let error = Error::io(format!("the reports' folder {} cannot be read", dir.display()), error);
        match missing {
            true => error.hint(format!("name another: --reports DIR; or make it: mkdir -p {}", dir.display())),
            false => error.hint(format!("ls -ld {}; or name another: --reports DIR", dir.display())),
        }
    };
    match std::fs::read_dir(&dir) {
        Ok(_) => Ok(Shelf { dir, endings: profile.reports.clone() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            Err(Error::usage(format!("{} is not a folder", dir.display()))
                .hint("--reports names the folder of the reports"))
        }
        Err(error) => Err(fault(error)),
    }
}

/// A report's path in the container.
fn inside(report: &Path, shelf: &Shelf, service: &Taken, profile: &Profile) -> Result<String> {
    let path = absolute(report)?;
    if !path.is_file() {
        let names: Vec<String> =
            files(&shelf.dir, &shelf.endings).unwrap_or_default().into_iter().map(|f| f.name).collect();
        return Err(Error::usage(format!("{}: there is no such report", report.display())).cause(
            match names.is_empty() {
                true => format!("{} has none", shelf.dir.display()),
                false => format!("{} has {}", shelf.dir.display(), names.join(", ")),
            },
        ));
    }
    let below = path.strip_prefix(&shelf.dir).map_err(|_| {
        Error::usage(format!("{} does not lie in the reports' folder", path.display()))
            .cause(format!("only {} is shown to the container", shelf.dir.display()))
            .hint(format!("--reports {}", path.parent().unwrap_or(&path).display()))
    })?;
    let below = below.to_string_lossy();
    // It becomes words of a command line.
    if !below.chars().all(|c| c.is_ascii_alphanumeric() || "._-+=,@%/".contains(c)) {
        return Err(Error::usage(format!("'{below}' has characters that the viewer's command line does not bear"))
            .hint("rename it: letters, digits and ._-+=,@% only"));
    }
    let own = || profile.mounts.iter().find(|mount| mount.source == "{reports}").map(|mount| mount.target.as_str());
    let target = service.shelf.as_ref().map(|mount| mount.target.as_str()).or_else(own);
    let target = target.ok_or_else(|| Error::usage("the profile mounts no {reports}, in which the report would be"))?;
    Ok(format!("{}/{below}", target.trim_end_matches('/')))
}

/// The path from the root on, with links resolved where it is there.
fn absolute(path: &Path) -> Result<PathBuf> {
    let whole = path.canonicalize().or_else(|_| std::path::absolute(path));
    whole.map_err(|error| Error::io(format!("{}: there is no such path", path.display()), error))
}

/// The address that this machine would speak to others from: no packet is sent for it.
fn own_address() -> Result<String> {
    let ask = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        // A documentation address (RFC 5737), to be routed as any other.
        socket.connect("192.0.2.1:9")?;
        socket.local_addr()
    };
    let found = ask().map(|address| address.ip().to_string());
    found.map_err(|error| {
        Error::new(Kind::Usage, "the address that browsers reach this machine by is not known")
            .cause(error)
            .hint("name it: --host-ip ADDRESS")
    })
}

/// What a folder of reports has.
pub(super) fn shelf(dir: &str, endings: &str) -> Reports {
    let endings: Vec<String> = endings.split(' ').map(Into::into).collect();
    Reports { dir: dir.into(), files: files(Path::new(dir), &endings) }
}

/// Reports, the newest first.
fn files(dir: &Path, endings: &[String]) -> Option<Vec<File>> {
    let mut found: Vec<(SystemTime, File)> = Vec::new();
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        let Ok(meta) = entry.metadata() else { continue };
        if !meta.is_file() || !endings.iter().any(|one| one == ending) {
            continue;
        }
        let at = meta.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        let modified = humantime::format_rfc3339_seconds(at).to_string();
        found.push((at, File { name, bytes: meta.len(), modified }));
    }
    found.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    Some(found.into_iter().map(|(_, file)| file).collect())
}

/// What a browser needs to be told, for a stream at this address.
pub fn advice(engine: &Engine, bind: IpAddr) -> Vec<String> {
    let at = host(engine, bind);
    match bind.is_loopback() {
        true => vec![
            "Firefox: set media.peerconnection.ice.loopback to true in about:config, or the page waits for its stream; Chromium and Chrome need nothing".into(),
        ],
        false => vec![format!(
            "the page is plain HTTP at {at}, password and all: a tunnel to --bind 127.0.0.1 is safer, and lets the browser use the clipboard"
        )],
    }
}

/// The password, for the start that has just made it; one of the user's own is never told.
pub fn password(plan: &Plan) -> Option<Secret> {
    plan.made_login().map(|login| login.password.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Options) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.nsys-rep"), "x").unwrap();
        std::fs::write(dir.path().join("b c.nsys-rep"), "x").unwrap();
        std::fs::write(dir.path().join("notes.txt"), "x").unwrap();
        let options = Options { reports: Some(dir.path().into()), username: Some("".into()), ..Options::default() };
        (dir, options)
    }

    fn environment(options: &Options, image: &[&str]) -> Vec<String> {
        let image: Vec<String> = image.iter().map(|text| text.to_string()).collect();
        let body = plan(options).unwrap().0.body(&image, &Default::default(), "s").unwrap();
        body.env.unwrap()
    }

    #[test]
    fn the_container_is_as_the_vendor_wants_it() {
        let (dir, options) = place();
        let options = Options { port: Some(9000), turn_port: Some(3500), ..options };
        let (plan, _) = plan(&options).unwrap();
        assert_eq!(plan.image, "nvcr.io/nvidia/devtools/nsight-streamer-nsys:2026.4.1");
        let body = plan.body(&[], &Default::default(), "s").unwrap();
        let env = body.env.clone().unwrap();
        for pair in [
            "HTTP_PORT=8080",
            "TURN_PORT=3500",
            "HOST_IP=127.0.0.1",
            "WEB_USERNAME=",
            "WEB_PASSWORD=",
            "MAX_RESOLUTION=1920x1080",
            "ENABLE_RESIZE=true",
            "NVIDIA_VISIBLE_DEVICES=void",
        ] {
            assert!(env.iter().any(|one| one == pair), "{pair}: {env:?}");
        }
        assert!(!env.iter().any(|pair| pair.starts_with("DEVTOOL_CMD")), "{env:?}");
        let host = body.host_config.unwrap();
        let bindings = serde_json::to_value(host.port_bindings.unwrap()).unwrap();
        assert_eq!(bindings["8080/tcp"][0], serde_json::json!({"HostIp": "127.0.0.1", "HostPort": "9000"}));
        assert_eq!(bindings["3500/tcp"][0]["HostPort"], "3500", "the same number inside and out");
        let mount = &host.mounts.unwrap()[0];
        assert_eq!(
            (mount.source.as_deref(), mount.read_only),
            (dir.path().canonicalize().unwrap().to_str(), Some(true))
        );
        assert_eq!((host.shm_size, host.auto_remove), (Some(1 << 30), None));
    }

    #[test]
    fn a_report_is_opened_by_the_images_own_command() {
        let (dir, mut options) = place();
        options.open = Some(dir.path().join("a.nsys-rep"));
        let env = environment(&options, &["DEVTOOL_CMD=nsys-ui --fullscreen"]);
        assert!(env.contains(&"DEVTOOL_CMD=nsys-ui --fullscreen /mnt/host/reports/a.nsys-rep".to_string()), "{env:?}");
        let plan = |options: &Options| super::plan(options);
        let none = plan(&options).unwrap().0.body(&[], &Default::default(), "s").unwrap_err();
        assert!(none.what.contains("cannot be told which report"), "{none}");
        for (name, says) in [
            ("b c.nsys-rep", "does not bear"),
            ("none.nsys-rep", "no such report"),
            ("/etc/hostname", "does not lie in"),
        ] {
            options.open = Some(dir.path().join(name));
            let error = plan(&options).unwrap_err();
            assert!(error.what.contains(says), "{name}: {error}");
        }
        options.reports = None;
        options.open = Some(dir.path().join("a.nsys-rep"));
        assert_eq!(plan(&options).unwrap().0.shelf.unwrap().dir, dir.path().canonicalize().unwrap());
    }

    #[test]
    fn settings_have_one_hash_whatever_the_password_and_another_for_another_setting() {
        let (dir, options) = place();
        let file = dir.path().join("p");
        let hash = |options: &Options, password: &str| {
            std::fs::write(&file, password).unwrap();
            let options = Options { username: None, password_file: Some(file.clone()), ..options.clone() };
            let body = plan(&options).unwrap().0.body(&[], &Default::default(), "s").unwrap();
            let labels = body.labels.unwrap();
            assert!(labels.values().all(|value| !value.contains(password)), "{labels:?}");
            labels["gsk.config"].clone()
        };
        let first = hash(&options, "planted-password-1");
        assert_eq!(hash(&options, "planted-password-2"), first);
        let other = Options { max_resolution: Some("1280x720".into()), ..options };
        assert_ne!(hash(&other, "planted-password-1"), first);
    }

    #[test]
    fn images_and_tags_are_put_together() {
        let (_dir, options) = place();
        let profile = profile(&options).unwrap();
        let of = |given: Option<&str>, tag: Option<&str>, service: Option<&str>| {
            let options = Options { image: given.map(Into::into), tag: tag.map(Into::into), ..Options::default() };
            image(&options, service, &profile)
        };
        assert_eq!(of(None, Some("1"), None), "nvcr.io/nvidia/devtools/nsight-streamer-nsys:1");
        assert_eq!(of(Some("a/b:2"), None, Some("c:3")), "a/b:2");
        assert_eq!(of(Some("h:5000/b"), None, None), "h:5000/b:latest");
        assert_eq!(of(None, None, Some("c:3")), "c:3");
        assert_eq!(of(None, Some("4"), Some("c:3")), "c:4");
        assert_eq!(of(Some("a@sha256:0"), Some("4"), None), "a@sha256:0");
    }

    #[test]
    fn a_page_without_login_is_for_loopback_only() {
        let (_dir, options) = place();
        assert!(plan(&options).unwrap().1.iter().any(|words| words.contains("no login")));
        let open =
            Options { bind: Some("0.0.0.0".parse().unwrap()), host_ip: Some("10.0.0.1".into()), ..options.clone() };
        assert!(plan(&open).unwrap_err().what.contains("--username ''"));
        let clash = Options { turn_port: Some(8080), ..options };
        assert!(plan(&clash).unwrap_err().what.contains("both 8080"));
    }

    #[test]
    fn a_compose_file_gives_what_flags_do_not() {
        let (dir, options) = place();
        let file = dir.path().join("c.yaml");
        let text = "services: {nsight-streamer: {image: 'x:1', ports: ['8081:8080', '3479:3479', '9:9'], environment: {TURN_PORT: 3479, WEB_PASSWORD: nvidia, MAX_RESOLUTION: 800x600, OTHER: o}, volumes: ['.:/mnt/host/volumes/reports', 'v:/v']}}";
        std::fs::write(&file, text).unwrap();
        let options = Options { reports: None, compose: Some(file.clone()), ..options };
        let (plan, words) = super::plan(&options).unwrap();
        assert_eq!((plan.image.as_str(), plan.port("http").unwrap(), plan.port("turn").unwrap()), ("x:1", 8081, 3479));
        assert_eq!(plan.shelf.as_ref().unwrap().dir, dir.path().canonicalize().unwrap());
        let all = words.join("\n");
        for part in ["password is not used", "every address", "9:9"] {
            assert!(all.contains(part), "{part}: {all}");
        }
        let env = environment(&options, &[]);
        assert!(env.contains(&"OTHER=o".into()) && env.contains(&"MAX_RESOLUTION=800x600".into()), "{env:?}");
        assert!(env.iter().filter(|pair| pair.contains("nvidia")).count() == 0, "{env:?}");
        let opened = Options { open: Some(dir.path().join("a.nsys-rep")), ..options.clone() };
        let env = environment(&opened, &["DEVTOOL_CMD=ui"]);
        assert!(env.contains(&"DEVTOOL_CMD=ui /mnt/host/volumes/reports/a.nsys-rep".into()), "{env:?}");

        std::fs::write(&file, text.replace("3479:3479", "3480:3479")).unwrap();
        assert!(super::plan(&options).unwrap_err().what.contains("TURN port 3479 as 3480"));
    }
}
