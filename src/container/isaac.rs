//! Isaac Sim: instances on the machine's own network, each with its ports, its GPU and its caches.

use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::gpu::Asked;
use super::managed::Stream;
use super::plan::{Plan, Vars};
use super::profile::{self, Bytes, Profile};
use crate::error::{Error, Kind, Result};
use crate::gpu::choose::Wanted;
use crate::gpu::{self, Driver, Inventory};
use crate::proc;

/// The profiles that gsk ships.
pub const SHIPPED: &str = include_str!("isaac.yaml");

/// How long NVML may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a user asks for. What is `None` is the profile's.
#[derive(Clone, Debug, Default)]
pub struct Options {
    pub image: Option<String>,
    pub tag: Option<String>,
    pub profile: Option<PathBuf>,
    /// Which ones, from 0.
    pub instances: Vec<u16>,
    pub accept_eula: bool,
    pub privacy_consent: bool,
    /// Where caches, settings and logs of all versions and instances lie.
    pub data: PathBuf,
    /// Instance i has the i-th, beginning anew behind the last.
    pub gpus: Vec<Asked>,
    pub memory_limit: Option<Bytes>,
    /// What one instance is taken to need.
    pub memory_each: Option<Bytes>,
    pub gpu_memory_each: Option<Bytes>,
    pub host_ip: Option<String>,
    pub timeout: Option<Duration>,
}

/// The container of each instance.
pub fn plans(options: &Options) -> Result<Vec<Plan>> {
    if !options.accept_eula {
        return Err(Error::usage("Isaac Sim's licence has to be accepted, and gsk does not do that for you")
            .cause("the image ends at once without")
            .hint("read https://docs.isaacsim.omniverse.nvidia.com/latest/common/licenses-isaac-sim.html, then: --accept-eula"));
    }
    let (profile, image) = choose(options)?;
    options.instances.iter().map(|&instance| plan(options, profile.clone(), &image, instance)).collect()
}

fn plan(options: &Options, mut profile: Profile, image: &str, instance: u16) -> Result<Plan> {
    let version = image.rsplit_once(':').map_or("latest", |(_, tag)| tag);
    let version: String =
        version.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '_' }).collect();
    let cache = options.data.join(version).join(instance.to_string()).display().to_string();
    let mut vars = Vars::default();
    vars.set("eula", Some("Y"));
    vars.set("privacy_consent", options.privacy_consent.then_some("Y"));
    vars.set("host_ip", Some(options.host_ip.clone().unwrap_or_else(|| "127.0.0.1".into())));
    vars.set("cache", Some(cache));
    vars.set("hub", Some(options.data.join("hub").display().to_string()));
    vars.set("instance", Some(instance.to_string()));
    let filled = profile.mounts.iter().map(|mount| vars.fill(&mount.source)).collect::<Result<Vec<_>>>()?;
    // Those that are the user's own are neither made nor given away.
    let below = |path: &PathBuf| path != &options.data && path.starts_with(&options.data) && !climbs(path);
    let folders = filled.into_iter().flatten().map(PathBuf::from).filter(below).collect();
    profile.memory = options.memory_each.or(profile.memory);
    profile.gpu_memory = options.gpu_memory_each.or(profile.gpu_memory);
    let gpu = match options.gpus.as_slice() {
        [] => Asked::Auto,
        gpus => gpus[usize::from(instance) % gpus.len()].clone(),
    };
    let plan = Plan {
        stream: Stream::Isaac,
        name: instance.to_string(),
        image: image.into(),
        vars,
        // All of this machine's addresses: the program takes no other.
        bind: std::net::Ipv4Addr::UNSPECIFIED.into(),
        gpu,
        login: None,
        shelf: None,
        memory_limit: options.memory_limit,
        timeout: options.timeout.unwrap_or(profile.timeout),
        instance,
        environment: Default::default(),
        mounts: Vec::new(),
        folders,
        owner: profile.user.as_deref().map(owner).transpose()?,
        profile,
    };
    plan.ports().map(|_| plan)
}

/// Whether a path has a `..`, by which it can lead out of the folder that it begins with.
fn climbs(path: &Path) -> bool {
    path.components().any(|part| part == Component::ParentDir)
}

/// `UID:GID`, or one number for both.
fn owner(user: &str) -> Result<(u32, u32)> {
    let (uid, gid) = user.split_once(':').unwrap_or((user, user));
    match (uid.parse(), gid.parse()) {
        (Ok(uid), Ok(gid)) => Ok((uid, gid)),
        _ => Err(Error::usage(format!("the profile's user '{user}' is not UID:GID"))),
    }
}

/// The profile of the image's version, and the image with its tag.
fn choose(options: &Options) -> Result<(Profile, String)> {
    let over = options.profile.as_deref().map(|path| profile::read(path).map(|text| (path, text))).transpose()?;
    let profiles = profile::load(SHIPPED, over.as_ref().map(|(path, text)| (*path, text.as_str())))?;
    let newest = profiles.first().ok_or_else(|| Error::bug("there is no profile"))?;
    let named = options.image.clone().unwrap_or_else(|| newest.image.clone());
    let tagged = named.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).map(|(_, tag)| tag.to_string());
    let image = match (&options.tag, tagged) {
        (Some(_), Some(_)) => {
            return Err(
                Error::usage(format!("--image {named} has a tag, and --tag another")).hint("leave one of them out")
            );
        }
        (Some(tag), None) => format!("{named}:{tag}"),
        (None, Some(_)) => named,
        (None, None) => format!("{named}:{}", newest.tag),
    };
    let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
    let profile = match version(tag) {
        // "latest", a digest, or a name of the user's own.
        None => newest,
        Some(wanted) => {
            let fits = |one: &&Profile| one.from.as_deref().and_then(version).is_some_and(|from| from <= wanted);
            profiles.iter().find(fits).ok_or_else(|| {
                Error::usage(format!("Isaac Sim {tag} is older than what gsk knows to start"))
                    .hint("2022.0 or newer; --profile says how else")
            })?
        }
    };
    Ok((profile.clone(), image))
}

/// The version that a tag begins with, to be compared: numbers after years (2022.2 … 2023.1.1) came before 4.0.
fn version(tag: &str) -> Option<(bool, u32, u32)> {
    let mut numbers = tag.split(['.', '-', '_']).map(str::parse::<u32>);
    let major = numbers.next()?.ok()?;
    let minor = numbers.next().and_then(Result::ok).unwrap_or(0);
    Some((major < 2000, major, minor))
}

/// That the machine bears `starting` instances more: its memory all of them, its GPUs those `beside` each other on the same. What
/// is not known hinders nothing.
pub fn admit(plan: &Plan, starting: u64, beside: u64) -> Result<()> {
    let profile = &plan.profile;
    if let (Some(need), Some((free, _))) = (profile.memory, proc::memory()) {
        admits("memory", starting, need, &[free], "--memory-each")?;
    }
    let Some(need) = profile.gpu_memory else { return Ok(()) };
    bears(&plan.gpu, beside, need, &gpu::inventory(PATIENCE))
}

/// Whether the GPUs of an inventory bear as many: each with its memory, and with an encoder, without which nothing streams.
fn bears(asked: &Asked, starting: u64, need: Bytes, inventory: &Inventory) -> Result<()> {
    if inventory.driver != Driver::Ready {
        return Ok(());
    }
    let boards = boards(asked, inventory)?;
    let encodes = |gpu: &&&gpu::Gpu| gpu.support().is_none_or(|row| row.engines != Some(0));
    if !boards.is_empty() && boards.iter().filter(encodes).count() == 0 {
        let labels: Vec<String> = boards.iter().map(|gpu| gpu.label()).collect();
        return Err(Error::missing("Isaac Sim cannot stream from here")
            .cause(format!("no NVENC engine: {}; that is how these boards are made", labels.join(", ")))
            .hint("another GPU, with an encoder: gsk nvenc-status; --gpu ID"));
    }
    let free: Option<Vec<u64>> =
        boards.iter().map(|gpu| gpu.memory.map(|memory| memory.total.saturating_sub(memory.used))).collect();
    free.map_or(Ok(()), |free| admits("GPU memory", starting, need, &free, "--gpu-memory-each"))
}

/// The GPUs that a container would see.
fn boards<'a>(asked: &Asked, inventory: &'a Inventory) -> Result<Vec<&'a gpu::Gpu>> {
    let Asked::One(choice) = asked else { return Ok(inventory.gpus.iter().collect()) };
    let wanted = Wanted::new(choice.clone(), inventory)?;
    Ok(inventory.gpus.iter().filter(|gpu| gpu.uuid.as_deref() == wanted.board()).collect())
}

/// Whether as many fit, each whole into one of the places.
fn admits(what: &str, starting: u64, need: Bytes, free: &[u64], flag: &str) -> Result<()> {
    let room: u64 = free.iter().map(|free| free / need.0.max(1)).sum();
    if room >= starting {
        return Ok(());
    }
    let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
    let places: Vec<String> = free.iter().map(|&free| gib(free)).collect();
    Err(Error::new(Kind::Capacity, format!("there is not enough {what} for {starting} more"))
        .cause(format!("{} free, and each takes about {}", places.join(" and "), gib(need.0)))
        .hint(match room {
            0 => format!("end what uses it; or say what one of yours takes: {flag} 4G"),
            room => format!("fewer at once: {room}; or say what one of yours takes: {flag} 4G"),
        }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::gpu::Way;
    use crate::container::gpu::{Need, settle};

    fn options(tag: &str, instances: u16) -> Options {
        Options {
            tag: Some(tag.into()),
            instances: (0..instances).collect(),
            accept_eula: true,
            data: "/data/isaac".into(),
            ..Options::default()
        }
    }

    fn ports(tag: &str, instances: u16) -> Result<Vec<Vec<(String, u16)>>> {
        let named = |plan: Plan| Ok(plan.ports()?.into_iter().map(|port| (port.name, port.number)).collect());
        plans(&options(tag, instances))?.into_iter().map(named).collect()
    }

    #[test]
    fn each_version_has_its_ports() {
        let pair = |name: &str, number| (name.to_string(), number);
        let six = [
            [pair("signal", 49100), pair("stream", 47998), pair("viewer", 8210)],
            [pair("signal", 49200), pair("stream", 48098), pair("viewer", 8211)],
        ];
        assert_eq!(ports("6.0.0", 2).unwrap(), six);
        assert_eq!(ports("latest", 2).unwrap(), six, "the newest");
        assert_eq!(ports("6.1.0-rc.3", 1).unwrap().len(), 1);
        for tag in ["5.0.0", "5.1.0", "4.5.0"] {
            assert_eq!(ports(tag, 1).unwrap(), [[pair("signal", 49100), pair("stream", 47998)]], "{tag}");
            let second = ports(tag, 2).unwrap_err();
            assert!(second.what.contains("only once") && second.cause.unwrap().contains("49100"), "{tag}");
        }
        for tag in ["4.2.0", "4.0.0", "2023.1.1", "2022.2.0"] {
            let two = ports(tag, 2).unwrap();
            assert_eq!(two[1], [pair("http", 8212), pair("webrtc", 8012), pair("native", 8900)], "{tag}");
        }
        assert!(ports("2021.1.0", 1).unwrap_err().what.contains("older than"));
    }

    #[test]
    fn a_container_is_as_the_vendor_wants_it() {
        let plan = plans(&options("6.0.0", 2)).unwrap().remove(1);
        let gpu = settle(&Asked::Auto, Need::Required, Some(Way::Runtime), |_| Inventory::default()).unwrap();
        let body = plan.body(&[], &gpu, "s").unwrap();
        let env = body.env.unwrap();
        assert_eq!(
            env,
            ["ACCEPT_EULA=Y", "ISAACSIM_HOST=127.0.0.1", "ISAACSIM_SIGNAL_PORT=49200", "ISAACSIM_STREAM_PORT=48098"]
        );
        assert_eq!(
            (body.entrypoint.unwrap(), body.cmd.unwrap()),
            (vec!["bash".into()], vec!["./runheadless.sh".to_string(), "-v".into()])
        );
        assert_eq!(body.user.as_deref(), Some("1234:1234"));
        let host = body.host_config.unwrap();
        assert_eq!((host.network_mode.as_deref(), host.port_bindings), (Some("host"), None));
        let sources: Vec<String> = host.mounts.unwrap().into_iter().filter_map(|mount| mount.source).collect();
        assert_eq!(sources[0], "/data/isaac/6.0.0/1/cache/main");
        assert_eq!((sources.len(), sources[6].as_str()), (7, "/data/isaac/hub"));
        assert_eq!((plan.owner, plan.folders.len()), (Some((1234, 1234)), 7));

        let old = plans(&options("4.2.0", 1)).unwrap().remove(0);
        let body = old.body(&[], &gpu, "s").unwrap();
        assert_eq!((body.user, old.owner), (None, None));
        assert!(body.cmd.unwrap().contains(&"--/exts/omni.services.transport.server.http/port=8211".into()));
    }

    #[test]
    fn only_folders_below_the_streams_own_are_made_and_given_away() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let sources =
            ["{cache}/a", "{cache}/../../../../etc", "/home/ada", "/data/isaac", "/data/isaacs", "volume", "{hub}"];
        let mounts = sources.map(|source| format!("{{source: '{source}', target: /x}}")).join(", ");
        std::fs::write(file.path(), format!("mounts: [{mounts}]")).unwrap();
        let own = Options { profile: Some(file.path().into()), ..options("6.0.0", 1) };
        let plan = plans(&own).unwrap().remove(0);
        assert_eq!(plan.folders, ["/data/isaac/6.0.0/0/a", "/data/isaac/hub"].map(PathBuf::from));
    }

    #[test]
    fn the_licence_is_the_users_to_accept() {
        let refused = plans(&Options { accept_eula: false, ..options("6.0.0", 1) }).unwrap_err();
        assert!(refused.kind == Kind::Usage && refused.hint.unwrap().contains("--accept-eula"));
    }

    #[test]
    fn gpus_are_dealt_out_in_turn() {
        let gpus: Vec<Asked> = ["0", "2"].iter().map(|text| text.parse().unwrap()).collect();
        let plans = plans(&Options { gpus, ..options("6.0.0", 3) }).unwrap();
        let seen: Vec<String> = plans.iter().map(|plan| plan.gpu.to_string()).collect();
        assert_eq!(seen, ["0", "2", "0"]);
    }

    #[test]
    fn as_many_as_fit_are_admitted() {
        let gib = |n: u64| n << 30;
        let need = Bytes(gib(8));
        assert!(admits("memory", 2, need, &[gib(17)], "--x").is_ok());
        assert!(admits("GPU memory", 3, need, &[gib(17), gib(9)], "--x").is_ok());
        let refused = admits("GPU memory", 2, need, &[gib(12), gib(3)], "--x").unwrap_err();
        assert_eq!(refused.kind, Kind::Capacity, "4 GiB and 3 GiB that are left make no 8");
        assert!(refused.cause.unwrap().contains("12.0 GiB and 3.0 GiB free, and each takes about 8.0 GiB"));
    }

    #[test]
    fn gpus_bear_what_they_have_memory_and_encoders_for() {
        let board = |index: u32, name: &str, free: u64| gpu::Gpu {
            index,
            uuid: Some(format!("GPU-{index}")),
            name: Some(name.into()),
            memory: Some(gpu::Memory { total: 24 << 30, used: (24 - free) << 30 }),
            ..gpu::Gpu::default()
        };
        let of = |gpus: Vec<gpu::Gpu>| Inventory { driver: Driver::Ready, gpus, ..Inventory::default() };
        let need = Bytes(8 << 30);
        let two = of(vec![board(0, "NVIDIA GeForce RTX 4090", 20), board(1, "NVIDIA A100-SXM4-80GB", 9)]);
        assert!(bears(&Asked::Auto, 3, need, &two).is_ok());
        assert_eq!(bears(&Asked::Auto, 4, need, &two).unwrap_err().kind, Kind::Capacity);
        let one = |text: &str| text.parse::<Asked>().unwrap();
        assert!(bears(&one("0"), 2, need, &two).is_ok());
        let full = bears(&one("0"), 3, need, &two).unwrap_err();
        assert!(full.what.contains("not enough GPU memory") && full.hint.unwrap().contains("--gpu-memory-each"));
        let none = bears(&one("1"), 1, need, &two).unwrap_err();
        assert!(none.kind == Kind::Missing && none.cause.unwrap().contains("no NVENC engine: GPU 1"));
        assert!(bears(&Asked::Auto, 9, need, &Inventory::default()).is_ok(), "nothing is known");
    }
}
