//! `gsk verify-gl --bundle`: what a bug report needs of this machine, in one archive that says nothing of whose it is.
//!
//! All is gathered and redacted in memory, and written to a file without a name, which gets its name when it is whole: an
//! end at any moment leaves nothing behind, and no file is ever replaced.

mod redact;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::{Value, json};

use self::redact::{Private, Redactor};
use super::picture;
use super::verify::{Report, in_container, vendor_files};
use crate::error::{Error, Result};
use crate::{output, proc};

/// The folder in the archive.
const FOLDER: &str = "gsk-verify-gl";

/// How long the driver may take to say who encodes.
const ASKING: Duration = Duration::from_millis(1500);

/// The beginnings of variables that bear on a GPU or on gsk.
const VARIABLES: [&str; 8] = ["NVIDIA_", "CUDA_", "__EGL", "__GLX", "LIBGL", "MESA", "EGL_", "GSK_"];

/// Parts of the names of variables that hold what nobody is to read.
const SECRET: [&str; 6] = ["TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "API_KEY"];

const README: &str = "\
What `gsk verify-gl --bundle` found on a machine, for a bug report.

verify-gl.json, verify-gl.txt  the checks, as a document and as tables
nvenc-status.json              GPUs, encoder sessions and slots
config.json                    the settings of each command, and where each came from
system.json                    versions, environment, device files, container

Redacted: user and host names, home folders, network and mail addresses, access
tokens. UUIDs are numbered: the same number is the same device. The environment
holds only variables of NVIDIA, CUDA, EGL, GLX, Mesa and gsk, and
LD_LIBRARY_PATH. Look it through before you send it: it is plain text.
";

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// Names of the files in the archive.
    pub files: Vec<String>,
    pub bytes: usize,
}

/// Refuses a place that no new file can be made at, before anything is gathered for it.
pub fn check(path: &Path) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("'{}' is a folder", path.display()))
            .hint(format!("name a file in it: --bundle '{}'", path.join("gsk.tar.gz").display())));
    }
    if path.symlink_metadata().is_ok() {
        return Err(there_already(path));
    }
    match folder(path).metadata() {
        Ok(folder) if folder.is_dir() && path.file_name().is_some() => Ok(()),
        Ok(_) => Err(Error::usage(format!("'{}' names no file in a folder", path.display()))),
        Err(error) => Err(cannot(path, error)),
    }
}

fn there_already(path: &Path) -> Error {
    Error::usage(format!("'{}' is there already", path.display()))
        .cause("a bundle replaces no file")
        .hint(format!("take another name, or look at it and remove it: rm '{}'", path.display()))
}

fn cannot(path: &Path, error: std::io::Error) -> Error {
    Error::io(format!("cannot write the bundle '{}'", path.display()), error)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Gathers, redacts and writes. `settings`: those of each command, secrets hidden. `limit`: the session limit where it was set.
pub fn write(path: &Path, report: &Report, settings: Value, limit: Option<u32>) -> Result<Written> {
    let options = picture::Options {
        workers: Vec::new(),
        token: None,
        timeout: ASKING,
        limit: limit.map(|limit| (limit, "the settings".into())),
    };
    let status = match report.nvml_fault() {
        // It would end us as well.
        Some(fault) => json!({ "error": Error::failed("NVML is not asked again").cause(fault) }),
        None => match picture::take(&options) {
            Ok(picture) => output::document(&picture)?,
            Err(error) => json!({ "error": error }),
        },
    };
    let mut redactor = Redactor::new(private(&status, &settings));
    let mut files = vec![("README.txt".to_owned(), README.to_owned())];
    let checks = ("verify-gl", output::document(report)?);
    for (name, mut document) in [checks, ("nvenc-status", status), ("config", settings), ("system", json!(system()))] {
        redactor.json(&mut document);
        let text = serde_json::to_string_pretty(&document).map_err(|error| Error::bug("no JSON").cause(error))?;
        files.push((format!("{name}.json"), text + "\n"));
    }
    files.insert(1, ("verify-gl.txt".into(), output::plain(report, |cell| redactor.text(cell))));
    let archive = archive(&files).map_err(|error| Error::bug("no archive").cause(error))?;
    keep(path, &archive)?;
    Ok(Written { files: files.into_iter().map(|(name, _)| name).collect(), bytes: archive.len() })
}

fn archive(files: &[(String, String)]) -> std::io::Result<Vec<u8>> {
    let packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    let mut archive = tar::Builder::new(packed);
    for (name, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(crate::clock::wall_ms() / 1000);
        archive.append_data(&mut header, format!("{FOLDER}/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}

/// Makes the file, for its owner alone, with all its bytes or not at all.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = |from: &Path| {
        let follow = AtFlags::SYMLINK_FOLLOW;
        match rustix::fs::linkat(CWD, from, CWD, path, follow) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(there_already(path)),
            Err(error) => Err(cannot(path, error.into())),
        }
    };
    let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(folder(path), nameless, Mode::RUSR | Mode::WUSR) {
        Ok(file) => {
            let mut file = File::from(file);
            file.write_all(bytes).and_then(|()| file.sync_all()).map_err(|error| cannot(path, error))?;
            name(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())))
        }
        // A file system without nameless files.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
            let draft = Draft(folder(path).join(format!(".gsk-bundle-{}", std::process::id())));
            let made = File::options().write(true).create_new(true).mode(0o600).open(&draft.0);
            let written = made.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
            written.map_err(|error| cannot(path, error))?;
            name(&draft.0)
        }
        Err(error) => Err(cannot(path, error.into())),
    }
}

/// A file that goes when this does.
struct Draft(PathBuf);

impl Drop for Draft {
    fn drop(&mut self) {
        // It may not have been made.
        let _ = fs::remove_file(&self.0);
    }
}

/// What of this machine, of us, and of those in `status` is to be taken out.
fn private(status: &Value, settings: &Value) -> Private {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let secret = |name: &str| SECRET.iter().any(|part| name.to_ascii_uppercase().contains(part));
    let own = rustix::process::getuid().as_raw();
    let mut users: Vec<String> = ["USER", "LOGNAME", "SUDO_USER"].into_iter().filter_map(variable).collect();
    users.extend(proc::user_name(own));
    for row in ["sessions", "leases"].iter().flat_map(|list| status[*list].as_array()).flatten() {
        users.extend(row["user"].as_str().map(Into::into));
    }
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let mut homes: Vec<String> = variable("HOME").into_iter().collect();
    for line in passwd.lines() {
        let fields: Vec<&str> = line.split(':').collect();
        let [name, _, id, _, _, home, ..] = fields.as_slice() else { continue };
        // Users that are people: what is below belongs to the system (login.defs, UID_MIN).
        if id.parse::<u32>().is_ok_and(|id| id == own || (1000..60_000).contains(&id)) {
            users.push((*name).into());
            homes.push((*home).into());
        }
    }
    // Settings that name hosts, alone or within a URL.
    let rows = settings.as_array().into_iter().flatten().filter_map(|command| command["values"].as_array()).flatten();
    let named =
        rows.filter(|row| ["allow_host", "allow_origin", "host", "worker"].iter().any(|key| row["key"] == *key));
    let values = named.flat_map(|row| match &row["value"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        value => value.as_str().into_iter().collect::<Vec<_>>(),
    });
    let bare = |text: &str| {
        let authority = text.split_once("://").map_or(text, |(_, rest)| rest);
        authority.split([':', '/']).next().unwrap_or_default().to_owned()
    };
    let hosts = values.map(bare).filter(|host| host.parse::<IpAddr>().is_err());
    Private {
        secrets: std::env::vars().filter(|(name, _)| secret(name)).map(|(_, value)| value).collect(),
        homes,
        users,
        hosts: hosts.chain([Some(output::host()), variable("HOSTNAME")].into_iter().flatten()).collect(),
    }
}

/// What bears on the GPU and is not in the other documents.
#[derive(Serialize)]
struct System {
    schema: Value,
    gsk: &'static str,
    kernel: String,
    machine: String,
    /// As the distribution calls itself.
    os: Option<String>,
    /// The lines of `/proc/driver/nvidia/version`.
    driver: Option<Vec<String>>,
    /// The vendors that EGL would load: file and library.
    egl_vendors: Vec<[String; 2]>,
    environment: BTreeMap<String, String>,
    devices: Vec<DeviceFile>,
    container: Container,
}

#[derive(Serialize)]
struct DeviceFile {
    path: String,
    /// Such as `crw-rw-rw-`; `drwxr-xr-x` for a folder.
    mode: String,
    uid: u32,
    gid: u32,
    /// Major and minor number.
    device: [u32; 2],
    /// Whether this user may read and write it.
    usable: bool,
}

#[derive(Serialize)]
struct Container {
    inside: bool,
    /// What shows it.
    signs: Vec<&'static str>,
    /// Whether pids are the machine's own.
    host_pids: bool,
}

fn system() -> System {
    let uname = rustix::system::uname();
    let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    let driver = fs::read_to_string("/proc/driver/nvidia/version").ok();
    let vendors = vendor_files().into_iter().map(|(file, library)| [file.display().to_string(), library]);
    System {
        schema: json!({ "name": "gsk.system", "version": 1 }),
        gsk: env!("CARGO_PKG_VERSION"),
        kernel: text(uname.release()),
        machine: text(uname.machine()),
        os: os.map(|name| name.trim_matches('"').to_owned()),
        driver: driver.map(|text| text.lines().map(Into::into).collect()),
        egl_vendors: vendors.collect(),
        environment: environment(
            std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))),
        ),
        devices: devices(Path::new("/dev")),
        container: container(),
    }
}

fn environment(all: impl Iterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let wanted = |name: &str| name == "LD_LIBRARY_PATH" || VARIABLES.iter().any(|start| name.starts_with(start));
    let hidden = |name: &str| SECRET.iter().any(|part| name.contains(part) && !name.ends_with("_FILE"));
    all.filter(|(name, _)| wanted(name))
        .map(|(name, value)| if hidden(&name) { (name, "set (hidden)".into()) } else { (name, value) })
        .collect()
}

fn devices(dev: &Path) -> Vec<DeviceFile> {
    let list = |folder: &Path, wanted: &dyn Fn(&OsStr) -> bool| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        entries.filter(|entry| wanted(&entry.file_name())).map(|entry| entry.path()).collect()
    };
    let ours = |name: &OsStr| name.to_str().is_some_and(|name| name.starts_with("nvidia") || name == "dxg");
    let mut paths = list(dev, &ours);
    paths.extend(list(&dev.join("nvidia-caps"), &|_| true));
    paths.extend(list(&dev.join("dri"), &|_| true));
    paths.sort();
    paths.iter().filter_map(|path| DeviceFile::of(path)).collect()
}

impl DeviceFile {
    fn of(path: &Path) -> Option<DeviceFile> {
        use rustix::fs::Access;
        let file = path.metadata().ok()?;
        let kind = match file.file_type() {
            kind if kind.is_char_device() => 'c',
            kind if kind.is_dir() => 'd',
            _ => '-',
        };
        let bits = (0..9).rev().zip("rwxrwxrwx".chars());
        let mode = bits.map(|(bit, letter)| if file.mode() >> bit & 1 == 1 { letter } else { '-' });
        Some(DeviceFile {
            path: path.display().to_string(),
            mode: std::iter::once(kind).chain(mode).collect(),
            uid: file.uid(),
            gid: file.gid(),
            device: [rustix::fs::major(file.rdev()), rustix::fs::minor(file.rdev())],
            usable: rustix::fs::access(path, Access::READ_OK | Access::WRITE_OK).is_ok(),
        })
    }
}

fn container() -> Container {
    let files = ["/.dockerenv", "/run/.containerenv"].into_iter().filter(|path| Path::new(path).exists());
    let variables =
        ["container", "KUBERNETES_SERVICE_HOST"].into_iter().filter(|name| std::env::var_os(name).is_some());
    Container { inside: in_container(), signs: files.chain(variables).collect(), host_pids: proc::sees_host_pids() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Kind;

    #[test]
    fn only_what_bears_on_the_gpu_is_told_of_the_environment() {
        let all = [
            ("CUDA_VISIBLE_DEVICES", "0"),
            ("__EGL_VENDOR_LIBRARY_DIRS", "/x"),
            ("GSK_TOKEN", "hunter22"),
            ("GSK_TOKEN_FILE", "/run/token"),
            ("NVIDIA_API_KEY", "hunter22"),
            ("LD_LIBRARY_PATH", "/y"),
            ("AWS_SECRET_ACCESS_KEY", "hunter22"),
            ("LD_PRELOAD", "/z"),
        ];
        let told = environment(all.iter().map(|(name, value)| (name.to_string(), value.to_string())));
        assert_eq!(
            json!(told),
            json!({
                "CUDA_VISIBLE_DEVICES": "0",
                "GSK_TOKEN": "set (hidden)",
                "GSK_TOKEN_FILE": "/run/token",
                "LD_LIBRARY_PATH": "/y",
                "NVIDIA_API_KEY": "set (hidden)",
                "__EGL_VENDOR_LIBRARY_DIRS": "/x",
            })
        );
    }

    #[test]
    fn a_file_is_made_whole_for_its_owner_and_replaces_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bundle.tar.gz");
        check(&path).unwrap();
        keep(&path, b"whole").unwrap();
        assert_eq!(
            (fs::read(&path).unwrap().as_slice(), fs::metadata(&path).unwrap().mode() & 0o777),
            (&b"whole"[..], 0o600)
        );
        for refused in [check(&path), keep(&path, b"other")] {
            let error = refused.unwrap_err();
            assert_eq!(error.kind, Kind::Usage);
            assert!(error.what.ends_with("is there already") && error.hint.is_some(), "{error}");
        }
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        assert_eq!(check(&dir.path().join("none/x")).unwrap_err().kind, Kind::Usage);
        assert_eq!(check(dir.path()).unwrap_err().kind, Kind::Usage);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn device_files_are_listed_with_their_modes() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["nvidia0", "nvidiactl", "null", "dri/card0"] {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            File::options().write(true).create_new(true).mode(0o640).open(path).unwrap();
        }
        let listed = devices(dir.path());
        let names: Vec<&str> = listed.iter().filter_map(|file| file.path.rsplit('/').next()).collect();
        assert_eq!(names, ["card0", "nvidia0", "nvidiactl"]);
        assert!(listed.iter().all(|file| file.mode == "-rw-r-----" && file.usable));
        assert_eq!(DeviceFile::of(Path::new("/dev/null")).unwrap().mode, "crw-rw-rw-");
    }
}
