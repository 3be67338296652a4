//! Whether the container gets a GPU: what the user asked for, and what the engine can pass through.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use bollard::models::{DeviceRequest, SystemInfo};

pub use super::profile::Need;
use crate::error::{Error, Result};
use crate::gpu::{self, Choice, Driver, Inventory, choose::Wanted};

/// How long NVML may take to answer; a driver that no program uses takes a second and more for each board.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where CDI specifications lie that an engine of before 28.2 does not list (the CDI specification's default folders).
const CDI_FOLDERS: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// Which GPU a user asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Asked {
    /// All of them where that works, else none.
    #[default]
    Auto,
    None,
    One(Choice),
}

impl FromStr for Asked {
    type Err = Error;

    fn from_str(text: &str) -> Result<Asked> {
        match text {
            "auto" => Ok(Asked::Auto),
            "none" => Ok(Asked::None),
            one => one.parse().map(Asked::One).map_err(|_| {
                Error::usage(format!("'{text}' is no GPU"))
                    .hint("write auto, none, nvidia-smi's index, a UUID or a PCI address")
            }),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Auto => f.write_str("auto"),
            Asked::None => f.write_str("none"),
            Asked::One(choice) => choice.fmt(f),
        }
    }
}

/// How an engine passes GPUs through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// NVIDIA's container runtime, as `docker run --gpus`.
    Runtime,
    /// Container Device Interface, as `docker run --device nvidia.com/gpu=…`.
    Cdi,
}

/// What the container is given.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Passed {
    pub requests: Vec<DeviceRequest>,
    /// `all`, `none`, an index or a UUID.
    pub label: String,
    /// Why there is none, though none was not asked for.
    pub why: Option<String>,
}

/// How this engine can pass GPUs through; `local`: it runs on this machine.
pub fn way(info: &SystemInfo, local: bool) -> Option<Way> {
    if info.runtimes.iter().flatten().any(|(name, _)| name == "nvidia") {
        return Some(Way::Runtime);
    }
    let listed = info.discovered_devices.iter().flatten();
    let mut ids = listed.filter_map(|device| device.id.as_deref());
    let cdi = ids.any(|id| id.starts_with("nvidia.com/gpu")) || local && info.cdi_spec_dirs.is_some() && has_specs();
    cdi.then_some(Way::Cdi)
}

fn has_specs() -> bool {
    let files = CDI_FOLDERS.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten();
    files.into_iter().any(|file| file.file_name().to_string_lossy().contains("nvidia"))
}

/// Settles what is passed through. `inventory` asks NVML, where that matters.
pub fn settle(
    asked: &Asked,
    need: Need,
    way: Option<Way>,
    inventory: impl FnOnce(Duration) -> Inventory,
) -> Result<Passed> {
    const TOOLKIT: &str = "install NVIDIA's container toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && sudo systemctl restart docker";
    let none = |why: Option<String>| Ok(Passed { label: "none".into(), why, ..Passed::default() });
    let cannot = "the engine has neither the nvidia runtime nor CDI devices";
    match (asked, need, way) {
        (Asked::None, Need::Required, _) => {
            Err(Error::usage("--gpu none: this program does not start without a GPU").hint("leave --gpu out"))
        }
        (Asked::None, ..) => none(None),
        (Asked::Auto, Need::Optional, None) => none(Some(cannot.into())),
        (_, _, None) => Err(Error::missing("no GPU can be passed to a container").cause(cannot).hint(TOOLKIT)),
        (Asked::Auto, need, Some(way)) => match (need, dead(&inventory(PATIENCE))) {
            (Need::Optional, Some(why)) => none(Some(why)),
            (Need::Required, Some(why)) => {
                Err(Error::missing("there is no GPU that works").cause(why).hint("gsk verify-gl"))
            }
            (_, None) => Ok(request(way, "all")),
        },
        (Asked::One(choice), _, Some(way)) => {
            let id = match choice {
                // The engine's numbers are NVML's, as these are.
                Choice::Index(index) => index.to_string(),
                choice => {
                    let wanted = Wanted::new(choice.clone(), &inventory(PATIENCE))?;
                    wanted.board().map_or_else(|| choice.to_string(), Into::into)
                }
            };
            Ok(request(way, &id))
        }
    }
}

/// Why the machine's GPUs are known not to work; `None` also where nothing is known, as inside another container.
fn dead(inventory: &Inventory) -> Option<String> {
    let words = match inventory.driver {
        Driver::NotLoaded => "the NVIDIA kernel module is not loaded",
        Driver::Mismatch => "the NVIDIA driver's library and kernel module are of different versions",
        Driver::NoGpu => "the NVIDIA driver finds no GPU",
        _ => return None,
    };
    Some(words.into())
}

fn request(way: Way, id: &str) -> Passed {
    let all = id == "all";
    let request = match way {
        Way::Runtime => DeviceRequest {
            count: all.then_some(-1),
            device_ids: (!all).then(|| vec![id.into()]),
            capabilities: Some(vec![vec!["gpu".into()]]),
            ..DeviceRequest::default()
        },
        Way::Cdi => DeviceRequest {
            driver: Some("cdi".into()),
            device_ids: Some(vec![format!("nvidia.com/gpu={id}")]),
            ..DeviceRequest::default()
        },
    };
    Passed { requests: vec![request], label: id.into(), why: None }
}

/// [`settle`] on this machine.
pub fn passed(asked: &Asked, need: Need, info: &SystemInfo, local: bool) -> Result<Passed> {
    settle(asked, need, way(info, local), gpu::inventory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    fn with(driver: Driver) -> impl FnOnce(Duration) -> Inventory {
        move |_| Inventory { driver, ..Inventory::default() }
    }

    #[test]
    fn a_gpu_is_given_where_that_works_and_refused_with_what_to_do() {
        let one: Asked = "1".parse().unwrap();
        let (runtime, cdi) = (Some(Way::Runtime), Some(Way::Cdi));
        let settle = |asked: &Asked, need, way, driver| settle(asked, need, way, with(driver));
        let all = settle(&Asked::Auto, Need::Optional, runtime, Driver::Ready).unwrap();
        assert_eq!((all.label.as_str(), all.requests[0].count), ("all", Some(-1)));
        let all = settle(&Asked::Auto, Need::Required, cdi, Driver::NoLibrary).unwrap();
        assert_eq!(all.requests[0].device_ids.as_deref(), Some(&["nvidia.com/gpu=all".to_string()][..]));
        let second = settle(&one, Need::Optional, runtime, Driver::Ready).unwrap();
        assert_eq!((second.requests[0].count, second.label.as_str()), (None, "1"));

        let none = settle(&Asked::Auto, Need::Optional, None, Driver::Ready).unwrap();
        assert!(none.requests.is_empty() && none.why.unwrap().contains("nvidia runtime"));
        let none = settle(&Asked::Auto, Need::Optional, runtime, Driver::NotLoaded).unwrap();
        assert!(none.why.unwrap().contains("kernel module"));
        assert_eq!(settle(&Asked::None, Need::Optional, runtime, Driver::Ready).unwrap().why, None);

        let kind = |asked: &Asked, need, way, driver| settle(asked, need, way, driver).unwrap_err().kind;
        assert_eq!(kind(&Asked::None, Need::Required, runtime, Driver::Ready), Kind::Usage);
        assert_eq!(kind(&Asked::Auto, Need::Required, None, Driver::Ready), Kind::Missing);
        assert_eq!(kind(&Asked::Auto, Need::Required, runtime, Driver::NoGpu), Kind::Missing);
        assert_eq!(kind(&one, Need::Optional, None, Driver::Ready), Kind::Missing);
    }

    #[test]
    fn the_engine_says_how() {
        let mut info = SystemInfo::default();
        assert_eq!(way(&info, false), None);
        info.discovered_devices =
            Some(vec![bollard::models::DeviceInfo { source: None, id: Some("nvidia.com/gpu=0".into()) }]);
        assert_eq!(way(&info, false), Some(Way::Cdi));
        info.runtimes = Some([("nvidia".to_string(), Default::default())].into());
        assert_eq!(way(&info, false), Some(Way::Runtime));
    }

    #[test]
    fn words_for_a_gpu() {
        for (text, asked) in [("auto", Asked::Auto), ("none", Asked::None), ("0", Asked::One(Choice::Index(0)))] {
            let got: Asked = text.parse().unwrap();
            assert_eq!((&got, got.to_string().as_str()), (&asked, text));
        }
        assert!("best".parse::<Asked>().is_err());
    }
}
