//! The container engine: where it is, and whether it answers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::SystemInfo;
use bollard::{API_DEFAULT_VERSION, Docker};
use serde::Serialize;

use super::fault;
use crate::error::{Error, Kind, Result};

/// How long an engine may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take over any other question, s. (Pulling and logs are streams, and as long as they like.)
const ANSWER: u64 = 120;

/// An engine that answers.
pub struct Engine {
    pub(super) docker: Docker,
    pub seen: Seen,
    pub(super) info: SystemInfo,
}

/// As documents show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Such as `unix:///var/run/docker.sock`.
    pub address: String,
    /// What named it: a variable, a context, or that it is a usual place.
    pub from: String,
    pub version: Option<String>,
}

/// Where an engine may be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    address: String,
    from: String,
}

impl Candidate {
    fn new(address: impl Into<String>, from: impl Into<String>) -> Candidate {
        Candidate { address: address.into(), from: from.into() }
    }
}

/// What decides where an engine is looked for.
struct Surroundings<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
}

impl Surroundings<'_> {
    fn folder(&self, name: &str) -> Option<PathBuf> {
        (self.variable)(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// Where the Docker command keeps its settings.
    fn settings(&self) -> Option<PathBuf> {
        self.folder("DOCKER_CONFIG").or_else(|| Some(self.folder("HOME")?.join(".docker")))
    }

    /// `DOCKER_HOST`, else the context that was chosen, else the usual places, Docker's before Podman's.
    fn candidates(&self) -> Result<Vec<Candidate>> {
        if let Some(host) = (self.variable)("DOCKER_HOST") {
            return Ok(vec![Candidate::new(host, "DOCKER_HOST")]);
        }
        let settings = self.settings();
        let chosen = (self.variable)("DOCKER_CONTEXT").or_else(|| current_context(settings.as_deref()?));
        if let Some(name) = chosen.filter(|name| name != "default") {
            let host = settings.as_deref().and_then(|settings| context_host(settings, &name));
            let host = host.ok_or_else(|| {
                Error::usage(format!("the Docker context '{name}' cannot be read"))
                    .hint("docker context ls; docker context use default")
            })?;
            return Ok(vec![Candidate::new(host, format!("context {name}"))]);
        }
        let run = self.folder("XDG_RUNTIME_DIR");
        let home = self.folder("HOME");
        let below = |folder: &Option<PathBuf>, path: &str| folder.as_ref().map(|folder| folder.join(path));
        let places = [
            Some(PathBuf::from("/var/run/docker.sock")),
            below(&run, "docker.sock"),
            below(&home, ".docker/run/docker.sock"),
            below(&home, ".docker/desktop/docker.sock"),
            Some(PathBuf::from("/run/podman/podman.sock")),
            below(&run, "podman/podman.sock"),
        ];
        let usual = |path: PathBuf| Candidate::new(format!("unix://{}", path.display()), "usual place");
        Ok(places.into_iter().flatten().map(usual).collect())
    }
}

/// `currentContext` of Docker's `config.json`.
fn current_context(settings: &Path) -> Option<String> {
    let text = std::fs::read(settings.join("config.json")).ok()?;
    let config: serde_json::Value = serde_json::from_slice(&text).ok()?;
    Some(config.get("currentContext")?.as_str()?.to_string())
}

/// The host of a context: each has a `meta.json` in a folder that is called by a hash of its name.
fn context_host(settings: &Path, name: &str) -> Option<String> {
    let folders = std::fs::read_dir(settings.join("contexts/meta")).ok()?.flatten();
    let metas = folders.filter_map(|folder| std::fs::read(folder.path().join("meta.json")).ok());
    let mut metas = metas.filter_map(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
    let meta = metas.find(|meta| meta["Name"] == name)?;
    Some(meta["Endpoints"]["docker"]["Host"].as_str()?.to_string())
}

impl Engine {
    /// The first engine that answers, by `DOCKER_HOST`, the current Docker context, or in the usual places.
    pub async fn find() -> Result<Engine> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let candidates = Surroundings { variable: &variable }.candidates()?;
        let mut refusals = Vec::new();
        for candidate in &candidates {
            match Engine::at(&candidate.address, &candidate.from).await {
                Ok(engine) => return Ok(engine),
                Err(refusal) => refusals.push(refusal),
            }
        }
        // The one that says most: an engine that is there and will not have us, before one that is not there.
        let rank = |error: &Error| match error.kind {
            Kind::Permission => 0,
            Kind::Missing => 2,
            _ => 1,
        };
        refusals.sort_by_key(rank);
        let tried = candidates.iter().map(|one| format!("{} ({})", one.address, one.from)).collect::<Vec<_>>();
        Err(match refusals.into_iter().next() {
            Some(error) if error.kind != Kind::Missing || candidates.len() == 1 => error,
            _ => Error::missing("there is no container engine")
                .cause(format!("nothing answers at\n{}", tried.join("\n")))
                .hint(
                    "install one: sudo apt install docker.io\nor say where it is: DOCKER_HOST=unix:///path/docker.sock",
                ),
        })
    }

    /// The engine at an address.
    pub async fn at(address: &str, from: &str) -> Result<Engine> {
        let refused = |error: Error| Error { what: format!("{} at {address} ({from})", error.what), ..error };
        let docker = connect(address).map_err(refused)?;
        let answer = async {
            let docker = docker.negotiate_version().await?;
            let info = docker.info().await?;
            Ok::<_, bollard::errors::Error>((docker, info))
        };
        let (docker, info) = match tokio::time::timeout(PATIENCE, answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => return Err(refused(fault::unreached(error))),
            Err(_) => {
                return Err(refused(
                    Error::new(Kind::Unreachable, "the container engine does not answer")
                        .cause(format!("nothing came within {} s", PATIENCE.as_secs()))
                        .hint("sudo systemctl status docker"),
                ));
            }
        };
        let seen = Seen { address: address.into(), from: from.into(), version: info.server_version.clone() };
        Ok(Engine { docker, seen, info })
    }

    /// Whether it runs on this machine, so that ports and folders are this machine's.
    pub fn local(&self) -> bool {
        self.seen.address.starts_with("unix://")
    }
}

fn connect(address: &str) -> Result<Docker> {
    let scheme = address.split_once("://").map_or("", |(scheme, _)| scheme);
    let tls = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
    match scheme {
        "unix" => Docker::connect_with_unix(address, ANSWER, API_DEFAULT_VERSION).map_err(fault::unreached),
        "tcp" | "http" if !tls => {
            Docker::connect_with_http(address, ANSWER, API_DEFAULT_VERSION).map_err(fault::unreached)
        }
        _ => Err(Error::usage("gsk cannot speak to the container engine")
            .cause("it speaks over a unix socket and plain http, not over TLS or ssh")
            .hint("bring the socket here: ssh -NL /tmp/docker.sock:/var/run/docker.sock HOST &\nthen DOCKER_HOST=unix:///tmp/docker.sock; or run gsk on that machine")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(variables: &[(&str, &str)]) -> Result<Vec<Candidate>> {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.to_string());
        Surroundings { variable: &variable }.candidates()
    }

    #[test]
    fn the_variable_then_the_context_then_the_usual_places() {
        let home = tempfile::tempdir().unwrap();
        let at = home.path().to_str().unwrap();
        let usual = candidates(&[("HOME", at), ("XDG_RUNTIME_DIR", "/run/user/7")]).unwrap();
        let addresses: Vec<&str> = usual.iter().map(|one| one.address.as_str()).collect();
        assert_eq!((addresses.len(), addresses[0]), (6, "unix:///var/run/docker.sock"));
        assert!(addresses.contains(&"unix:///run/user/7/podman/podman.sock"), "{addresses:?}");

        let meta = home.path().join(".docker/contexts/meta/0a1b");
        std::fs::create_dir_all(&meta).unwrap();
        let text = r#"{"Name":"far","Metadata":{},"Endpoints":{"docker":{"Host":"tcp://10.0.0.9:2375"}}}"#;
        std::fs::write(meta.join("meta.json"), text).unwrap();
        std::fs::write(home.path().join(".docker/config.json"), r#"{"currentContext":"far"}"#).unwrap();
        let far = Candidate::new("tcp://10.0.0.9:2375", "context far");
        assert_eq!(candidates(&[("HOME", at)]).unwrap(), std::slice::from_ref(&far));
        assert_eq!(candidates(&[("HOME", "/none"), ("DOCKER_CONFIG", &format!("{at}/.docker"))]).unwrap(), [far]);
        assert_eq!(candidates(&[("HOME", at), ("DOCKER_CONTEXT", "default")]).unwrap().len(), 4);
        let lost = candidates(&[("HOME", at), ("DOCKER_CONTEXT", "lost")]).unwrap_err();
        assert_eq!((lost.kind, lost.hint.is_some()), (Kind::Usage, true));

        let named = candidates(&[("HOME", at), ("DOCKER_HOST", "unix:///x.sock")]).unwrap();
        assert_eq!(named, [Candidate::new("unix:///x.sock", "DOCKER_HOST")]);
    }

    #[test]
    fn what_gsk_cannot_speak_is_refused_with_a_way_round() {
        for address in ["ssh://gpu1", "https://gpu1:2376", "/var/run/docker.sock"] {
            let error = connect(address).err().unwrap();
            assert_eq!((error.kind, error.hint.unwrap().contains("ssh -NL")), (Kind::Usage, true), "{address}");
        }
    }
}
