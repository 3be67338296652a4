//! The `nsight-streamer` service of a Compose file that somebody already has.
//!
//! Read are the service's `image`, `ports`, `environment` and `volumes`, in the short and the long forms of the Compose
//! specification, with `${NAME}`, `${NAME:-default}` and `$$` filled in from gsk's environment. What else it says is told and
//! left out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

use super::profile::{self, Mount};
use crate::error::{Error, Result};

/// The service that is read.
pub const SERVICE: &str = "nsight-streamer";

/// What a service says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub image: Option<String>,
    pub ports: Vec<Published>,
    pub environment: BTreeMap<String, String>,
    pub mounts: Vec<Mount>,
    /// Keys that are left out.
    pub left_out: Vec<String>,
}

/// A published port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub address: Option<IpAddr>,
    pub host: u16,
    pub container: u16,
    pub protocol: String,
}

/// What answers `${NAME}`.
pub(crate) type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Reads the service from a file.
pub fn read(path: &Path) -> Result<Service> {
    let text = profile::read(path)?;
    let folder = std::path::absolute(path).ok().and_then(|path| Some(path.parent()?.to_path_buf()));
    parse(path, &text, &folder.unwrap_or_default(), &|name| std::env::var(name).ok())
}

/// Reads the service from a file's text; `folder`: what its relative paths are relative to.
pub(crate) fn parse(path: &Path, text: &str, folder: &Path, variables: Variables) -> Result<Service> {
    let fault = |what: String| Error::usage(format!("{}: {what}", path.display()));
    let mut file: Value = serde_yaml::from_str(text).map_err(|e| fault("this is not YAML".into()).cause(e))?;
    file.apply_merge().map_err(|e| fault("this is not YAML".into()).cause(e))?;
    let services = file.get("services").and_then(Value::as_mapping);
    let found = services.and_then(|services| services.get(SERVICE)).and_then(Value::as_mapping);
    let Some(found) = found else {
        let names: Vec<&str> = services.into_iter().flatten().filter_map(|(name, _)| name.as_str()).collect();
        return Err(fault(format!("there is no service '{SERVICE}'")).cause(format!("it has {}", names.join(", "))));
    };
    let project = file.get("name").and_then(Value::as_str).map_or_else(|| project(folder), Into::into);
    let place = Place { folder, project: &project, variables };
    let wrong = |what: &'static str| {
        move |error: Error| Error { what: format!("{}: {what}: {}", path.display(), error.what), ..error }
    };
    let mut service = Service::default();
    for (key, value) in found {
        match key.as_str().unwrap_or_default() {
            "image" => service.image = Some(place.text(value).map_err(wrong("image"))?),
            "ports" => {
                let ports: Result<Vec<_>> = list(value)?.iter().map(|value| place.port(value)).collect();
                service.ports = ports.map_err(wrong("ports"))?;
            }
            "environment" => service.environment = place.environment(value).map_err(wrong("environment"))?,
            "volumes" => {
                let mounts: Result<Vec<_>> = list(value)?.iter().map(|value| place.mount(value)).collect();
                service.mounts = mounts.map_err(wrong("volumes"))?;
            }
            // These are gsk's own business in any case.
            "container_name" | "restart" | "deploy" | "shm_size" | "stdin_open" | "tty" => {}
            other => service.left_out.push(other.into()),
        }
    }
    if service.image.is_none() && found.contains_key("build") {
        return Err(fault(format!("the service '{SERVICE}' is built, and has no image's name")).hint(format!(
            "build it, and name it: docker compose build {SERVICE}; docker compose images; --image NAME --tag TAG"
        )));
    }
    Ok(service)
}

/// What Compose calls a project that has no name: its folder, in lower case, of letters, digits, '-' and '_'.
fn project(folder: &Path) -> String {
    let name = folder.file_name().map(|name| name.to_string_lossy().to_lowercase()).unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect()
}

fn list(value: &Value) -> Result<&[Value]> {
    value.as_sequence().map(Vec::as_slice).ok_or_else(|| Error::usage("this is not a list"))
}

struct Place<'a> {
    folder: &'a Path,
    project: &'a str,
    variables: Variables<'a>,
}

impl Place<'_> {
    fn text(&self, value: &Value) -> Result<String> {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Bool(flag) => flag.to_string(),
            Value::Null => String::new(),
            _ => return Err(Error::usage("a single value is expected")),
        };
        fill(&text, self.variables)
    }

    /// `[[ADDRESS:]HOST:]CONTAINER[/PROTOCOL]`, or `{target, published, host_ip, protocol}`.
    fn port(&self, value: &Value) -> Result<Published> {
        let number = |text: &str| text.parse::<u16>().map_err(|_| Error::usage(format!("'{text}' is not one port")));
        let address = |text: &str| {
            text.trim_matches(['[', ']']).parse::<IpAddr>().map_err(|_| Error::usage(format!("'{text}' is no address")))
        };
        if let Value::Mapping(long) = value {
            let get = |key: &str| long.get(key).map(|value| self.text(value)).transpose();
            let container = number(&get("target")?.unwrap_or_default())?;
            return Ok(Published {
                address: get("host_ip")?.as_deref().map(address).transpose()?,
                host: get("published")?.as_deref().map_or(Ok(container), number)?,
                container,
                protocol: get("protocol")?.unwrap_or_else(|| "tcp".into()),
            });
        }
        let text = self.text(value)?;
        let (ports, protocol) = text.split_once('/').unwrap_or((&text, "tcp"));
        let (rest, container) = ports.rsplit_once(':').map_or((None, ports), |(rest, last)| (Some(rest), last));
        let container = number(container)?;
        let (at, host) = match rest {
            None => (None, container),
            Some(rest) => match rest.rsplit_once(':') {
                None => (None, number(rest)?),
                Some((at, host)) => (Some(address(at)?), number(host)?),
            },
        };
        Ok(Published { address: at, host, container, protocol: protocol.into() })
    }

    /// A list of `NAME=VALUE` and names to be taken over, or a mapping.
    fn environment(&self, value: &Value) -> Result<BTreeMap<String, String>> {
        let own = |name: &str| Some((name.to_string(), (self.variables)(name)?));
        match value {
            Value::Mapping(all) => {
                let pair = |(name, value): (&Value, &Value)| -> Option<Result<(String, String)>> {
                    let name = name.as_str()?;
                    if value.is_null() {
                        own(name).map(Ok)
                    } else {
                        Some(self.text(value).map(|text| (name.into(), text)))
                    }
                };
                all.iter().filter_map(pair).collect()
            }
            other => {
                let texts: Result<Vec<String>> = list(other)?.iter().map(|value| self.text(value)).collect();
                let pair = |text: String| match text.split_once('=') {
                    Some((name, value)) => Some((name.to_string(), value.to_string())),
                    None => own(&text),
                };
                Ok(texts?.into_iter().filter_map(pair).collect())
            }
        }
    }

    /// `SOURCE:TARGET[:ro]`, or `{source, target, read_only}`.
    fn mount(&self, value: &Value) -> Result<Mount> {
        let (source, target, read_only) = match value {
            Value::Mapping(long) => {
                let get = |long: &Mapping, key: &str| long.get(key).map(|value| self.text(value)).transpose();
                let (source, target) = (get(long, "source")?, get(long, "target")?);
                (
                    source.unwrap_or_default(),
                    target.unwrap_or_default(),
                    get(long, "read_only")?.as_deref() == Some("true"),
                )
            }
            short => {
                let text = self.text(short)?;
                let words: Vec<&str> = text.split(':').collect();
                match words.as_slice() {
                    [source, target] => (source.to_string(), target.to_string(), false),
                    [source, target, modes] => {
                        (source.to_string(), target.to_string(), modes.split(',').any(|mode| mode == "ro"))
                    }
                    _ => return Err(Error::usage(format!("'{text}' is not SOURCE:TARGET"))),
                }
            }
        };
        if source.is_empty() || !target.starts_with('/') {
            return Err(Error::usage(format!("'{source}:{target}' is not SOURCE:TARGET")));
        }
        Ok(Mount { source: self.source(&source), target, read_only })
    }

    /// A path is taken from the file's folder; a volume is called as Compose would call it.
    fn source(&self, text: &str) -> String {
        let home = || std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
        match text {
            "~" => home().display().to_string(),
            _ if text.starts_with("~/") => home().join(&text[2..]).display().to_string(),
            _ if text.starts_with('/') => text.into(),
            _ if text.starts_with('.') => {
                let mut path = self.folder.to_path_buf();
                for part in Path::new(text).components() {
                    match part {
                        std::path::Component::CurDir => {}
                        std::path::Component::ParentDir => drop(path.pop()),
                        part => path.push(part),
                    }
                }
                path.display().to_string()
            }
            _ => format!("{}_{text}", self.project),
        }
    }
}

/// Fills in `$NAME`, `${NAME}`, `${NAME:-default}`, `${NAME-default}`; `$$` is a dollar.
fn fill(text: &str, variables: Variables) -> Result<String> {
    let mut filled = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        filled += before;
        if let Some(after) = behind.strip_prefix('$') {
            filled.push('$');
            rest = after;
        } else if let Some(braced) = behind.strip_prefix('{') {
            let (inner, after) =
                braced.split_once('}').ok_or_else(|| Error::usage(format!("'{text}' has a ${{ that is not closed")))?;
            let name: String = inner.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            let value = variables(&name);
            filled += &match &inner[name.len()..] {
                "" => value.unwrap_or_default(),
                other if other.starts_with(":-") => {
                    value.filter(|v| !v.is_empty()).unwrap_or_else(|| other[2..].into())
                }
                other if other.starts_with('-') => value.unwrap_or_else(|| other[1..].into()),
                _ => return Err(Error::usage(format!("'${{{inner}}}' is beyond what gsk fills in"))),
            };
            rest = after;
        } else {
            let name: String = behind.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            filled += &variables(&name).unwrap_or_default();
            rest = &behind[name.len()..];
        }
    }
    Ok(filled + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Service> {
        let variables = |name: &str| (name == "TAG").then(|| "2025.3.1".to_string());
        parse(Path::new("c.yaml"), text, Path::new("/srv/My Lab"), &variables)
    }

    /// The shape of a service that people have (`docker-compose.yml` of the Nsight Streamer's users).
    const SEED: &str = "
services:
  nsight-streamer:
    image: nvcr.io/nvidia/devtools/nsight-streamer-nsys:${TAG:-1}
    ports:
      - \"8081:8080\"
      - 127.0.0.1:3479:3479/tcp
    environment:
      - TURN_PORT=3479
      - ENABLE_RESIZE=true
      - WEB_USERNAME=nvidia
      - LEFT
    volumes:
      - ./profiling_output:/mnt/host/volumes/reports
      - ../data:/data:ro
      - logs:/logs
    restart: unless-stopped
    depends_on: [other]
";

    #[test]
    fn a_service_is_read_in_its_short_forms() {
        let service = of(SEED).unwrap();
        assert_eq!(service.image.as_deref(), Some("nvcr.io/nvidia/devtools/nsight-streamer-nsys:2025.3.1"));
        let port = |address: Option<&str>, host, container| Published {
            address: address.map(|text| text.parse().unwrap()),
            host,
            container,
            protocol: "tcp".into(),
        };
        assert_eq!(service.ports, [port(None, 8081, 8080), port(Some("127.0.0.1"), 3479, 3479)]);
        assert_eq!(service.environment.keys().collect::<Vec<_>>(), ["ENABLE_RESIZE", "TURN_PORT", "WEB_USERNAME"]);
        let mount =
            |source: &str, target: &str, read_only| Mount { source: source.into(), target: target.into(), read_only };
        let mounts = [
            mount("/srv/My Lab/profiling_output", "/mnt/host/volumes/reports", false),
            mount("/srv/data", "/data", true),
            mount("mylab_logs", "/logs", false),
        ];
        assert_eq!(service.mounts, mounts);
        assert_eq!(service.left_out, ["depends_on"]);
    }

    #[test]
    fn and_in_its_long_forms() {
        let text = "services: {nsight-streamer: {image: a, ports: [{target: 80, published: \"81\", host_ip: '::1'}], environment: {A: 1, B: null}, volumes: [{type: bind, source: /x, target: /y, read_only: true}]}}";
        let service = of(text).unwrap();
        assert_eq!((service.ports[0].host, service.ports[0].container), (81, 80));
        assert_eq!(service.environment.into_iter().collect::<Vec<_>>(), [("A".to_string(), "1".to_string())]);
        assert!(service.mounts[0].read_only);
    }

    #[test]
    fn what_cannot_be_read_is_refused_by_its_place() {
        for (text, says) in [
            ("services: {other: {}}", "no service 'nsight-streamer'"),
            ("services: {nsight-streamer: {build: .}}", "is built"),
            ("services: {nsight-streamer: {image: a, ports: [\"80-90:80\"]}}", "ports: '80-90' is not one port"),
            ("services: {nsight-streamer: {image: \"${A?b}\"}}", "image: "),
            ("services: {nsight-streamer: {image: a, volumes: [x]}}", "volumes: 'x' is not SOURCE:TARGET"),
            ("- [", "not YAML"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.what.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn variables_are_filled_in() {
        let variables = |name: &str| match name {
            "A" => Some("1".to_string()),
            "E" => Some(String::new()),
            _ => None,
        };
        for (text, filled) in
            [("$A-${A}", "1-1"), ("${B:-x}${E:-y}${E-z}", "xy"), ("$$A", "$A"), ("${B}.", "."), ("plain", "plain")]
        {
            assert_eq!(fill(text, &variables).unwrap(), filled, "{text}");
        }
    }
}
