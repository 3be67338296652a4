//! What a managed stream is made of, as data.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_yaml::Value;

use crate::error::{Error, Kind, Result};

/// The most that an override file may measure, in bytes: far beyond any real one.
const CAP: u64 = 1 << 20;

/// One image and how it is run. Texts in which `{…}` stands are filled by [`super::plan::Vars`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    pub name: String,
    /// As messages call it.
    pub title: String,
    /// The first version that it fits, such as "4.5"; for streams whose profile is chosen by version.
    #[serde(default)]
    pub from: Option<String>,
    pub image: String,
    /// Used where no tag is given.
    pub tag: String,
    #[serde(default)]
    pub entrypoint: Vec<String>,
    #[serde(default)]
    pub command: Vec<String>,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Beside `environment`, where a GPU is passed through.
    #[serde(default)]
    pub with_gpu: BTreeMap<String, String>,
    /// Beside `environment`, where none is.
    #[serde(default)]
    pub without_gpu: BTreeMap<String, String>,
    #[serde(default)]
    pub gpu: Need,
    #[serde(default)]
    pub mounts: Vec<Mount>,
    pub network: Network,
    /// `UID:GID`; the image's own where none is given.
    #[serde(default)]
    pub user: Option<String>,
    /// Size of `/dev/shm`.
    #[serde(default)]
    pub shm: Option<Bytes>,
    pub ports: Vec<Port>,
    pub ready: Ready,
    /// In the order in which a start passes them.
    #[serde(default)]
    pub phases: Vec<Phase>,
    #[serde(default)]
    pub errors: Vec<Known>,
    /// Said once it is ready.
    #[serde(default)]
    pub advice: Vec<String>,
    /// How long a start may take.
    #[serde(deserialize_with = "span")]
    pub timeout: Duration,
    /// Between SIGTERM and SIGKILL.
    #[serde(deserialize_with = "span")]
    pub grace: Duration,
    pub on_change: OnChange,
    /// Endings of the files that are listed as reports.
    #[serde(default)]
    pub reports: Vec<String>,
    /// What one instance needs of the machine's memory, and of a GPU's.
    #[serde(default)]
    pub memory: Option<Bytes>,
    #[serde(default)]
    pub gpu_memory: Option<Bytes>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Need {
    #[default]
    Optional,
    Required,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// A folder of this machine, an absolute path; or a volume's name.
    pub source: String,
    pub target: String,
    #[serde(default)]
    pub read_only: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// Ports are published, each under its own number.
    Bridge,
    /// The machine's own network.
    Host,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    Tcp,
    Udp,
}

impl Protocol {
    pub fn word(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Port {
    pub name: String,
    pub number: u16,
    /// From one instance to the next; 0: there can be only one.
    #[serde(default)]
    pub step: u16,
    /// Its number inside the container, where that is always the same.
    #[serde(default)]
    pub inside: Option<u16>,
    pub protocol: Protocol,
    /// Another container has it, which gsk does not start: it is shown, and neither checked nor published.
    #[serde(default)]
    pub elsewhere: bool,
}

/// What has to be seen, one after the other.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ready {
    /// A line of the log with one of these in it.
    #[serde(default)]
    pub log: Vec<String>,
    /// The name of a TCP port that is to accept connections.
    #[serde(default)]
    pub port: Option<String>,
    /// A path that is to answer 200 on that port.
    #[serde(default)]
    pub http: Option<String>,
}

/// A part of a start.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    pub name: String,
    /// A line of the log with one of these in it begins it; the first begins with the container.
    #[serde(default)]
    pub log: Vec<String>,
}

/// An error that the log is known to tell.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Known {
    /// Any of these in a line, upper or lower case.
    pub log: Vec<String>,
    pub kind: KnownKind,
    pub cause: String,
    #[serde(default)]
    pub hint: Option<String>,
    /// The start is given up at once, though the program runs on.
    #[serde(default)]
    pub fatal: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KnownKind {
    Failed,
    Usage,
    Missing,
    Permission,
    Capacity,
}

impl From<KnownKind> for Kind {
    fn from(kind: KnownKind) -> Kind {
        match kind {
            KnownKind::Failed => Kind::Failed,
            KnownKind::Usage => Kind::Usage,
            KnownKind::Missing => Kind::Missing,
            KnownKind::Permission => Kind::Permission,
            KnownKind::Capacity => Kind::Capacity,
        }
    }
}

/// What a start does with a container that runs with other settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// Leaves it, and says so: somebody may be looking at it.
    Keep,
    /// Creates it anew.
    Recreate,
}

impl Profile {
    /// The known error that a line tells.
    pub fn known(&self, line: &str) -> Option<&Known> {
        let line = line.to_lowercase();
        self.errors.iter().find(|known| known.log.iter().any(|part| line.contains(&part.to_lowercase())))
    }
}

/// The profiles of a shipped file, each with the keys of `over` (an override file's path and text) in place of its own.
pub fn load(shipped: &str, over: Option<(&Path, &str)>) -> Result<Vec<Profile>> {
    let bug = |error: serde_yaml::Error| Error::bug("the shipped profiles cannot be read").cause(error);
    let mut file: Value = serde_yaml::from_str(shipped).map_err(bug)?;
    file.apply_merge().map_err(bug)?;
    let Some(profiles) = file.get("profiles").and_then(Value::as_sequence) else {
        return Err(Error::bug("the shipped profiles are no list"));
    };
    let Some((path, text)) = over else {
        return profiles.iter().map(|one| serde_yaml::from_value(one.clone()).map_err(bug)).collect();
    };
    let wrong = |error: serde_yaml::Error| {
        Error::usage(format!("{}: this is no profile that gsk can use", path.display())).cause(error)
    };
    let over: Value = serde_yaml::from_str(text).map_err(wrong)?;
    if !over.is_mapping() {
        return Err(Error::usage(format!("{}: the profile is not a list of keys", path.display()))
            .hint("write\n  image: my/image\n  tag: \"1\""));
    }
    let merged = |one: &Value| {
        let mut one = one.clone();
        merge(&mut one, &over);
        serde_yaml::from_value(one).map_err(wrong)
    };
    profiles.iter().map(merged).collect()
}

/// The text of an override file.
pub fn read(path: &Path) -> Result<String> {
    use std::io::Read;
    let fault = |error| Error::io(format!("{}: the file cannot be read", path.display()), error);
    let mut text = String::new();
    std::fs::File::open(path).map_err(fault)?.take(CAP + 1).read_to_string(&mut text).map_err(fault)?;
    match text.len() as u64 > CAP {
        true => Err(Error::usage(format!("{}: the file is larger than 1 MiB", path.display()))),
        false => Ok(text),
    }
}

/// Lists of keys are merged key by key, anything else is replaced.
fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Mapping(into), Value::Mapping(from)) => {
            for (key, value) in from {
                match into.get_mut(key) {
                    Some(old) => merge(old, value),
                    None => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// An amount of memory, written `512M`, `8G` or in bytes; the units are powers of 1024, as the engine's are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl FromStr for Bytes {
    type Err = Error;

    fn from_str(text: &str) -> Result<Bytes> {
        let lower = text.trim().to_ascii_lowercase();
        let lower = lower.strip_suffix('b').map_or(lower.as_str(), |rest| rest.strip_suffix('i').unwrap_or(rest));
        let digits = lower.trim_end_matches(['k', 'm', 'g', 't']);
        let shift = match &lower[digits.len()..] {
            "" => 0,
            "k" => 10,
            "m" => 20,
            "g" => 30,
            "t" => 40,
            _ => 64,
        };
        let number = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1u64.checked_shl(shift)?));
        number.filter(|&number| number <= i64::MAX as u64).map(Bytes).ok_or_else(|| {
            Error::usage(format!("'{text}' is not an amount of memory"))
                .hint("write it with its unit, such as 512M or 32G")
        })
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = [(40, "T"), (30, "G"), (20, "M"), (10, "K")];
        match units.iter().find(|(shift, _)| self.0 > 0 && self.0.is_multiple_of(1 << shift)) {
            Some((shift, unit)) => write!(f, "{}{unit}", self.0 >> shift),
            None => write!(f, "{}", self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Bytes, D::Error> {
        String::deserialize(from)?.parse().map_err(|error: Error| de::Error::custom(error.what))
    }
}

fn span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    humantime::parse_duration(&String::deserialize(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_profiles_can_be_read_and_overridden_key_by_key() {
        let shipped = load(super::super::nsight::SHIPPED, None).unwrap();
        assert_eq!(shipped.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["nsys", "ncu"]);
        assert!(shipped[0].image.ends_with("-nsys") && shipped[1].image.ends_with("-ncu"));
        assert_eq!(shipped[1].environment, shipped[0].environment, "merged from one");

        let text = "image: mine\nenvironment: {EXTRA: \"1\", HOST_IP: x}\nports: []\n";
        let over = load(super::super::nsight::SHIPPED, Some((Path::new("f.yaml"), text))).unwrap();
        assert_eq!((over[0].image.as_str(), over[0].ports.len()), ("mine", 0));
        assert_eq!((over[0].environment["EXTRA"].as_str(), over[0].environment["HOST_IP"].as_str()), ("1", "x"));
        assert_eq!(over[0].environment.len(), shipped[0].environment.len() + 1);

        for (text, says) in [("- a", "not a list of keys"), ("imag: x", "no profile"), ("shm: lots", "no profile")] {
            let error = load(super::super::nsight::SHIPPED, Some((Path::new("f.yaml"), text))).unwrap_err();
            assert!(error.what.contains(says) && error.kind == Kind::Usage, "{text}: {error}");
        }
    }

    #[test]
    fn amounts_of_memory() {
        for (text, bytes, shown) in
            [("1g", 1 << 30, "1G"), ("512M", 512 << 20, "512M"), ("8GiB", 8 << 30, "8G"), ("1500", 1500, "1500")]
        {
            let got: Bytes = text.parse().unwrap();
            assert_eq!((got.0, got.to_string().as_str()), (bytes, shown), "{text}");
        }
        for text in ["", "G", "-1G", "1.5G", "99999999999T", "8 G", "8X", "1gg"] {
            assert!(text.parse::<Bytes>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_error_is_known_by_a_part_of_its_line() {
        let mut profile = load(super::super::nsight::SHIPPED, None).unwrap().remove(0);
        profile.errors = vec![Known {
            log: vec!["No Suitable".into()],
            kind: KnownKind::Missing,
            cause: "c".into(),
            hint: None,
            fatal: true,
        }];
        assert!(profile.known("[Error] no suitable CUDA GPU was found").is_some());
        assert!(profile.known("all is well").is_none());
    }
}
