//! A container as it is to be, before any engine is asked: pure.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use bollard::models::{ContainerCreateBody, HostConfig, Mount as EngineMount, MountType, PortBinding};
use serde::{Deserialize, Serialize};

use super::gpu::{Asked, Passed};
use super::login;
use super::managed::{self, Stream};
use super::profile::{Bytes, Mount, Network, Port, Profile};
use super::ready::Probe;
use crate::config::Secret;
use crate::error::{Error, Result};

/// What `{…}` in a profile's texts stands for. One without a value leaves out the entry that it stands in.
#[derive(Clone, Debug, Default)]
pub struct Vars(BTreeMap<String, Option<String>>);

impl Vars {
    pub fn set(&mut self, name: impl Into<String>, value: Option<impl Into<String>>) {
        self.0.insert(name.into(), value.map(Into::into));
    }

    /// The text with every `{…}` filled in; `None` where one has no value.
    ///
    /// # Errors
    /// A name that is not known, or a brace that is not closed.
    pub fn fill(&self, text: &str) -> Result<Option<String>> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once('{') {
            let closed = behind.split_once('}');
            let (name, after) =
                closed.ok_or_else(|| Error::usage(format!("'{text}' in the profile has a {{ that is not closed")))?;
            filled += before;
            match self.0.get(name) {
                Some(Some(value)) => filled += value,
                Some(None) => return Ok(None),
                None => {
                    let known: Vec<&str> = self.0.keys().map(String::as_str).collect();
                    return Err(Error::usage(format!(
                        "'{text}' in the profile asks for {{{name}}}, which is not known"
                    ))
                    .hint(format!("there are {}", known.join(", "))));
                }
            }
            rest = after;
        }
        Ok(Some(filled + rest))
    }

    fn all<'a>(&self, texts: impl IntoIterator<Item = &'a String>) -> Result<Vec<String>> {
        let filled: Result<Vec<Option<String>>> = texts.into_iter().map(|text| self.fill(text)).collect();
        Ok(filled?.into_iter().flatten().collect())
    }
}

/// A port of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Planned {
    pub name: String,
    /// Where it is published, or listens on the machine's own network.
    pub number: u16,
    /// Its number inside the container.
    pub inside: u16,
    /// `tcp` or `udp`.
    pub protocol: String,
}

/// Who may look at a page.
#[derive(Clone, Debug)]
pub struct Login {
    pub user: String,
    pub password: Secret,
    /// Where the password is kept.
    pub file: PathBuf,
}

/// A folder whose reports the stream shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shelf {
    pub dir: PathBuf,
    /// Endings of the files that are reports.
    pub endings: Vec<String>,
}

/// A container that is to run.
#[derive(Clone, Debug)]
pub struct Plan {
    pub stream: Stream,
    /// Among its kind.
    pub name: String,
    /// With its tag.
    pub image: String,
    pub profile: Profile,
    pub vars: Vars,
    /// Where published ports listen.
    pub bind: IpAddr,
    pub gpu: Asked,
    pub login: Option<Login>,
    pub shelf: Option<Shelf>,
    pub memory_limit: Option<Bytes>,
    pub timeout: Duration,
    /// Which of its kind, from 0: its ports are so many steps on.
    pub instance: u16,
    /// Beside the profile's, and before it.
    pub environment: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Folders to be made before the start, for this user and group.
    pub folders: Vec<PathBuf>,
    pub owner: Option<(u32, u32)>,
}

impl Plan {
    /// The container's name.
    pub fn container(&self) -> String {
        managed::container(self.stream, &self.name)
    }

    /// This instance's ports.
    ///
    /// # Errors
    /// A second instance where there can be only one, or a number beyond 65535.
    pub fn ports(&self) -> Result<Vec<Planned>> {
        let port = |port: &Port| {
            if self.instance > 0 && port.step == 0 {
                return Err(Error::usage(format!("{} can run only once", self.image))
                    .cause(format!(
                        "its {} port is {} whatever it is told, on the machine's own network",
                        port.name, port.number
                    ))
                    .hint("one instance: --instances 1; or an image whose ports can be chosen"));
            }
            let number = u32::from(port.number) + u32::from(port.step) * u32::from(self.instance);
            let number = u16::try_from(number)
                .map_err(|_| Error::usage(format!("port {number} of instance {} is beyond 65535", self.instance)))?;
            let inside = port.inside.unwrap_or(number);
            Ok(Planned { name: port.name.clone(), number, inside, protocol: port.protocol.word().into() })
        };
        self.profile.ports.iter().map(port).collect()
    }

    /// The login whose password gsk has made and keeps; not one of the user's own.
    pub fn made_login(&self) -> Option<&Login> {
        let place = login::place(self.stream, &self.name).ok()?;
        self.login.as_ref().filter(|login| login.file == place)
    }

    /// Those that its container listens on.
    pub(super) fn own_ports(&self) -> Result<Vec<Planned>> {
        let all = self.ports()?.into_iter().zip(&self.profile.ports);
        Ok(all.filter(|(_, port)| !port.elsewhere).map(|(planned, _)| planned).collect())
    }

    /// The number of a port.
    pub fn port(&self, name: &str) -> Result<u16> {
        let port = self.ports()?.into_iter().find(|port| port.name == name);
        port.map(|port| port.number).ok_or_else(|| Error::usage(format!("the profile has no port '{name}'")))
    }

    /// What its user is told once it is ready.
    pub fn advice(&self) -> Result<Vec<String>> {
        self.variables(&[], "")?.all(&self.profile.advice)
    }

    /// The profile's variables, this instance's ports and login, and the image's own environment (`{image.NAME}`).
    fn variables(&self, image: &[String], password: &str) -> Result<Vars> {
        let mut vars = self.vars.clone();
        for port in self.ports()? {
            vars.set(format!("port.{}", port.name), Some(port.number.to_string()));
        }
        vars.set("username", Some(self.login.as_ref().map_or("", |login| &login.user)));
        vars.set("password", Some(password));
        for (name, value) in image.iter().filter_map(|pair| pair.split_once('=')) {
            vars.set(format!("image.{name}"), Some(value));
        }
        Ok(vars)
    }

    /// What the engine is told. `image` is the image's own environment; `start` tells this start from any other.
    pub fn body(&self, image: &[String], gpu: &Passed, start: &str) -> Result<ContainerCreateBody> {
        let password = self.login.as_ref().map_or("", |login| login.password.reveal());
        let mut body = self.told(image, gpu, password)?;
        // The password changes with every start, and no setting with it.
        let settings = format!("{:?}", settled(&self.told(image, gpu, "")?));
        let ports = self.ports()?;
        let labels = [
            ("config", format!("{:08x}", crc32fast::hash(settings.as_bytes()))),
            ("start", start.into()),
            ("profile", self.profile.name.clone()),
            ("title", self.profile.title.clone()),
            ("ports", serde_json::to_string(&ports).map_err(|e| Error::bug("ports cannot be written").cause(e))?),
            ("probe", Probe::planned(self)?.to_string()),
            ("timeout", self.timeout.as_secs().to_string()),
            ("grace", self.profile.grace.as_secs().to_string()),
            ("gpu", gpu.label.clone()),
            ("user", self.login.as_ref().map_or(String::new(), |login| login.user.clone())),
            ("password-file", self.login.as_ref().map_or(String::new(), |login| login.file.display().to_string())),
            ("reports", self.shelf.as_ref().map_or(String::new(), |shelf| shelf.dir.display().to_string())),
            ("report-endings", self.shelf.as_ref().map_or(String::new(), |shelf| shelf.endings.join(" "))),
        ];
        body.labels = Some(managed::labels(self.stream, &self.name, labels));
        Ok(body)
    }

    fn told(&self, image: &[String], gpu: &Passed, password: &str) -> Result<ContainerCreateBody> {
        let profile = &self.profile;
        let vars = self.variables(image, password)?;
        if profile.environment.values().any(|text| text.contains("{report}"))
            && vars.fill("{report}")?.is_some()
            && vars.fill("{image.DEVTOOL_CMD}").is_err()
        {
            return Err(Error::usage(format!("{} cannot be told which report to open", self.image))
                .cause("the image's environment has no DEVTOOL_CMD, which names the tool that it starts")
                .hint("leave the report out, and open it by the tool's own menu"));
        }
        let mut environment = self.environment.clone();
        let more = if gpu.requests.is_empty() { &profile.without_gpu } else { &profile.with_gpu };
        for (name, text) in profile.environment.iter().chain(more) {
            if let Some(value) = vars.fill_or_leave(text)? {
                environment.insert(name.clone(), value);
            }
        }
        let mut mounts = Vec::new();
        for mount in profile.mounts.iter().chain(&self.mounts) {
            let (source, target) = (vars.fill(&mount.source)?, vars.fill(&mount.target)?);
            if let (Some(source), Some(target)) = (source, target) {
                mounts.push(engine_mount(source, target, mount.read_only));
            }
        }
        let key = |port: &Planned| format!("{}/{}", port.inside, port.protocol);
        let binding = |port: &Planned| {
            let host = PortBinding { host_ip: Some(self.bind.to_string()), host_port: Some(port.number.to_string()) };
            (key(port), Some(vec![host]))
        };
        let ports = self.own_ports()?;
        let published = profile.network == Network::Bridge;
        let some = |all: Vec<String>| if all.is_empty() { None } else { Some(all) };
        Ok(ContainerCreateBody {
            image: Some(self.image.clone()),
            entrypoint: some(vars.all(&profile.entrypoint)?),
            cmd: some(vars.all(&profile.command)?),
            env: Some(environment.iter().map(|(name, value)| format!("{name}={value}")).collect()),
            user: profile.user.clone(),
            exposed_ports: published.then(|| ports.iter().map(key).collect()),
            host_config: Some(HostConfig {
                network_mode: (!published).then(|| "host".into()),
                port_bindings: published.then(|| ports.iter().map(binding).collect::<HashMap<_, _>>()),
                mounts: Some(mounts),
                shm_size: profile.shm.map(|bytes| bytes.0 as i64),
                memory: self.memory_limit.map(|bytes| bytes.0 as i64),
                device_requests: (!gpu.requests.is_empty()).then(|| gpu.requests.clone()),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        })
    }
}

impl Vars {
    /// [`Vars::fill`], where what the image does not say counts as having no value.
    fn fill_or_leave(&self, text: &str) -> Result<Option<String>> {
        let image: Vec<&str> = text.split('{').skip(1).filter(|part| part.starts_with("image.")).collect();
        let said = |part: &&str| part.split_once('}').is_some_and(|(name, _)| self.0.contains_key(name));
        if image.iter().all(said) { self.fill(text) } else { Ok(None) }
    }
}

/// Folders are given by their paths, volumes by their names.
fn engine_mount(source: String, target: String, read_only: bool) -> EngineMount {
    let typ = if source.starts_with('/') { MountType::BIND } else { MountType::VOLUME };
    EngineMount {
        typ: Some(typ),
        source: Some(source),
        target: Some(target),
        read_only: Some(read_only),
        ..EngineMount::default()
    }
}

/// All of a container that settings decide, in an order that does not change.
fn settled(body: &ContainerCreateBody) -> impl std::fmt::Debug {
    let host = body.host_config.clone().unwrap_or_default();
    let ports: Option<BTreeMap<_, _>> = host.port_bindings.map(|ports| ports.into_iter().collect());
    (
        (body.image.clone(), body.entrypoint.clone(), body.cmd.clone(), body.env.clone(), body.user.clone()),
        (host.network_mode, ports, host.mounts, host.shm_size, host.memory, host.device_requests),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vars() -> Vars {
        let mut vars = Vars::default();
        vars.set("a", Some("1"));
        vars.set("none", None::<String>);
        vars
    }

    #[test]
    fn texts_are_filled_and_left_out_where_a_value_is_missing() {
        let fill = |text: &str| vars().fill(text);
        assert_eq!(fill("x").unwrap().as_deref(), Some("x"));
        assert_eq!(fill("{a}+{a}").unwrap().as_deref(), Some("1+1"));
        assert_eq!(fill("{a} {none}").unwrap(), None);
        assert!(fill("{b}").unwrap_err().hint.unwrap().contains("there are a, none"));
        assert!(fill("{a").unwrap_err().what.contains("not closed"));
        assert_eq!(vars().fill_or_leave("{image.X} {a}").unwrap(), None, "the image does not say it");
        assert!(vars().fill_or_leave("{x}").is_err());
    }
}
