//! nsys, the command line of NVIDIA's Nsight Systems: where it is, and what it is told.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::interrupt::{Interrupts, Target};
use super::summary::{Reports, Row};
use crate::child::{Ended, Guarded};
use crate::error::{Error, Result};

/// The oldest whose reports have the names that are asked for; before, `nvtx_sum` was `nvtxsum`.
const OLDEST: (u32, u32) = (2023, 1);

/// How long it may take to say its version.
const ANSWER: Duration = Duration::from_secs(20);

/// Where NVIDIA's packages put it (`*`: any text without '/'), the newest first of each.
const FOLDERS: [&str; 8] = [
    "opt/nvidia/nsight-systems/*/bin/nsys",
    "opt/nvidia/nsight-systems/*/target-linux-*/nsys",
    "opt/nvidia/nsight-systems-cli/*/bin/nsys",
    "opt/nvidia/nsight-systems-cli/*/target-linux-*/nsys",
    "usr/local/cuda*/bin/nsys",
    "usr/local/cuda*/nsight-systems-*/bin/nsys",
    "usr/local/cuda*/nsight-systems-*/target-linux-*/nsys",
    "usr/lib/nsight-systems/*/nsys",
];

/// An nsys that can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nsys {
    pub path: String,
    /// Such as "2025.3.1.90".
    pub version: String,
}

/// Finds it: where `named` says, else in `NSYS_PATH` (the program or its folder), on the PATH, and where it is installed. One
/// that cannot be used is passed over, unless it was named.
pub fn find(named: Option<&str>) -> Result<Nsys> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path =
        |name: &str| std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| is_program(file));
    if let Some(named) = named {
        let file = if named.contains('/') { Some(inside(Path::new(named))) } else { on_path(named) };
        let file = file.filter(|file| is_program(file)).ok_or_else(|| {
            Error::missing(format!("there is no nsys at '{named}'")).hint("gsk train-nvtx --no-nsys collects by itself")
        })?;
        return check(&file);
    }
    let variable = std::env::var_os("NSYS_PATH").filter(|text| !text.is_empty());
    let candidates = variable
        .map(|text| inside(Path::new(&text)))
        .into_iter()
        .chain(on_path("nsys"))
        .chain(FOLDERS.iter().flat_map(|pattern| expand(Path::new("/"), pattern)))
        .filter(|file| is_program(file));
    let mut first = None;
    for file in candidates {
        match check(&file) {
            Ok(nsys) => return Ok(nsys),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or_else(|| {
        Error::missing("nsys was not found")
            .cause("it is neither in NSYS_PATH, nor on the PATH, nor where it is usually installed")
            .hint("install Nsight Systems, or name it: gsk train-nvtx --nsys FILE")
    }))
}

/// The program in a folder, or the program itself.
fn inside(path: &Path) -> PathBuf {
    if path.is_dir() { path.join("nsys") } else { path.into() }
}

fn is_program(file: &Path) -> bool {
    file.is_file() && rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Asks it for its version, which must not be too old.
fn check(file: &Path) -> Result<Nsys> {
    let path = file.to_string_lossy().into_owned();
    let (mut guarded, stdin, mut stdout, _stderr) = Guarded::spawn(&[file.into(), "--version".into()])?;
    drop(stdin);
    let unusable = |cause: String| Error::missing(format!("nsys at '{path}' cannot be used")).cause(cause);
    let ended = guarded.wait_at_most(ANSWER).ok_or_else(|| unusable("it does not say its version".into()))?;
    let mut said = Vec::new();
    // All of it is in the pipe: it is a line.
    let _ = stdout.by_ref().take(4096).read_to_end(&mut said);
    let said = String::from_utf8_lossy(&said);
    let version = version(&said).ok_or_else(|| {
        unusable(format!("--version says '{}' and {}", said.trim().lines().next().unwrap_or(""), ended.words))
    })?;
    if numbers(&version) < Some(OLDEST) {
        return Err(unusable(format!("it is version {version}, and {}.{} or newer is needed", OLDEST.0, OLDEST.1))
            .hint("update Nsight Systems"));
    }
    Ok(Nsys { path, version })
}

/// Of "NVIDIA Nsight Systems version 2025.3.1.90-253135822126v0".
fn version(said: &str) -> Option<String> {
    let word = said.split_once("version ")?.1.split_whitespace().next()?;
    let version = word.split('-').next()?;
    numbers(version).map(|_| version.to_owned())
}

fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The files that a pattern names below a folder, the highest version first.
fn expand(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    for part in pattern.split('/') {
        found = match part.split_once('*') {
            None => found.into_iter().map(|folder| folder.join(part)).collect(),
            Some((front, back)) => found.iter().flat_map(|folder| entries(folder, front, back)).collect(),
        };
    }
    found.retain(|file| file.is_file());
    found
}

fn entries(folder: &Path, front: &str, back: &str) -> Vec<PathBuf> {
    let names = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let fits =
        |name: &String| name.len() >= front.len() + back.len() && name.starts_with(front) && name.ends_with(back);
    let mut names: Vec<String> = names.filter(fits).collect();
    // "cuda-9.2" is older than "cuda-12.4".
    let versions = |name: &str| -> Vec<u64> {
        name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
    };
    names.sort_by_cached_key(|name| std::cmp::Reverse((versions(name), name.clone())));
    names.into_iter().map(|name| folder.join(name)).collect()
}

/// What is to begin and end the collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Capture {
    /// The whole run.
    All,
    /// `cudaProfilerStart` and `cudaProfilerStop`.
    Cuda,
    /// The first NVTX range of this name, with '@' and its domain behind it.
    Nvtx(String),
}

impl FromStr for Capture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Capture> {
        match text.split_once(':') {
            None if text == "none" => Ok(Capture::All),
            None if text == "cuda" => Ok(Capture::Cuda),
            Some(("nvtx", range)) if !range.is_empty() => Ok(Capture::Nvtx(range.into())),
            _ => Err(Error::usage(format!("'{text}' is no capture range"))
                .hint("use cuda, nvtx:RANGE, nvtx:RANGE@DOMAIN, or none")),
        }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Capture::All => f.write_str("none"),
            Capture::Cuda => f.write_str("cuda"),
            Capture::Nvtx(range) => write!(f, "nvtx:{range}"),
        }
    }
}

/// What `nsys profile` is told.
#[derive(Clone, Debug)]
pub struct Profile {
    pub cublas: bool,
    pub cudnn: bool,
    pub capture: Capture,
    pub force: bool,
    /// Handed on as they are; one of these replaces our own of the same name.
    pub more: Vec<String>,
}

impl Profile {
    /// Its options for a report with this path, less its ending.
    pub fn arguments(&self, report: &Path) -> Result<Vec<OsString>> {
        if let Some(own) = self.more.iter().find(|word| ["-o", "--output"].contains(&name(word))) {
            return Err(Error::usage(format!("--nsys-arg {own}: gsk names the report"))
                .hint("choose its folder with --output-dir and its name with JOB and --stamp"));
        }
        let mut trace = "cuda,nvtx,osrt".to_owned();
        for (wanted, library) in [(self.cublas, "cublas"), (self.cudnn, "cudnn")] {
            if wanted && self.replaced("--trace") {
                return Err(Error::usage(format!("--{library} does nothing beside --nsys-arg with --trace"))
                    .hint(format!("add {library} to that list")));
            }
            if wanted {
                trace = format!("{trace},{library}");
            }
        }
        let mut options = vec![
            ("--trace", trace),
            ("--sample", "none".into()),
            ("--cpuctxsw", "none".into()),
            ("--cuda-graph-trace", "node".into()),
        ];
        match &self.capture {
            Capture::All => {}
            Capture::Cuda => options.push(("--capture-range", "cudaProfilerApi".into())),
            Capture::Nvtx(range) => {
                options.extend([("--capture-range", "nvtx".into()), ("--nvtx-capture", range.clone())]);
            }
        }
        // By itself nsys ends the program behind a range or a --duration.
        if self.capture != Capture::All || self.replaced("--capture-range") {
            options.push(("--capture-range-end", "stop".into()));
        }
        options.push(("--kill", "none".into()));
        options.push(("--force-overwrite", self.force.to_string()));
        options.retain(|(name, _)| !self.replaced(name));
        let mut arguments: Vec<OsString> =
            options.into_iter().map(|(name, value)| format!("{name}={value}").into()).collect();
        let mut output = OsString::from("--output=");
        // nsys fills in what stands behind a '%'.
        match report.to_str() {
            Some(text) => output.push(text.replace('%', "%%")),
            None => output.push(report),
        }
        arguments.push(output);
        arguments.extend(self.more.iter().map(Into::into));
        Ok(arguments)
    }

    /// Whether there is more to it than what every run has.
    pub fn is_special(&self) -> bool {
        self.cublas || self.cudnn || self.capture != Capture::All || !self.more.is_empty()
    }

    /// Whether an option is given by the user.
    fn replaced(&self, option: &str) -> bool {
        // nsys's own short names of them.
        let short = match option {
            "--trace" => "-t",
            "--sample" => "-s",
            "--capture-range" => "-c",
            "--nvtx-capture" => "-p",
            "--force-overwrite" => "-f",
            _ => option,
        };
        self.more.iter().any(|word| [option, short].contains(&name(word)))
    }

    /// Whether NVTX's ranges are in the report.
    pub fn traces_nvtx(&self) -> bool {
        self.given(&["--trace", "-t"]).last().is_none_or(|list| list.split(',').any(|what| what == "nvtx"))
    }

    /// Whether the CPU is to be sampled or its context switches traced, which the kernel must allow.
    pub fn samples(&self) -> bool {
        self.given(&["--sample", "-s", "--cpuctxsw"]).any(|what| what != "none")
    }

    /// The values that the user gives an option, which has these names.
    fn given<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let named = self.more.iter().enumerate().filter(|(_, word)| names.contains(&name(word)));
        named.filter_map(|(at, word)| match word.split_once('=') {
            Some((_, value)) => Some(value),
            None if name(word).len() < word.len() => word.get(name(word).len()..),
            None => self.more.get(at + 1).map(String::as_str),
        })
    }

    /// What a program is to find in its environment beside ours.
    pub fn environment(&self) -> Vec<(&'static str, OsString)> {
        let nvtx = match self.given(&["--capture-range", "-c"]).last() {
            Some(own) => own == "nvtx",
            None => matches!(self.capture, Capture::Nvtx(_)),
        };
        // Without it nsys knows no range whose name is not registered, as those of PyTorch are not.
        nvtx.then(|| ("NSYS_NVTX_PROFILER_REGISTER_ONLY", "0".into())).into_iter().collect()
    }
}

/// An option's name, without its value, which may stand right behind a short one.
fn name(word: &str) -> &str {
    match word.strip_prefix('-').and_then(|rest| rest.chars().next()) {
        Some(letter) if letter != '-' => &word[..1 + letter.len_utf8()],
        _ => word.split_once('=').map_or(word, |(name, _)| name),
    }
}

/// The ranges of a report, none where it has none; and what is odd about them.
pub fn ranges(nsys: &Nsys, report: &Path, interrupts: &Interrupts) -> Result<(Vec<Row>, Vec<String>)> {
    let mut reports = Reports::default();
    let mut warnings = Vec::new();
    let mut stats =
        |name: &str, fresh: bool, read: &mut dyn FnMut(BufReader<&mut dyn Read>) -> std::io::Result<bool>| {
            let mut argv: Vec<OsString> = vec![nsys.path.clone().into()];
            argv.extend(["stats", "--report", name, "--format", "csv"].map(Into::into));
            argv.extend(fresh.then(|| "--force-export=true".into()));
            argv.push(report.into());
            let (found, said, ended) = printed(&argv, interrupts, read)?;
            if ended.signal.is_some() {
                return Err(Error::failed(format!("nsys stats {}", ended.words)).cause(said.trim()));
            }
            let empty = said.contains("does not contain");
            if ended.code != 0 && (found || empty) {
                warnings.push(format!("nsys stats {}: its report {name} may not be whole", ended.words));
            }
            match found || empty {
                true => Ok(found),
                false => Err(Error::failed(format!("nsys stats has no report {name}")).cause(said.trim())),
            }
        };
    if !stats("nvtx_sum", true, &mut |out| reports.sum(out))? {
        return Ok((Vec::new(), warnings));
    }
    stats("nvtx_pushpop_trace", false, &mut |out| reports.trace(out))?;
    stats("nvtx_gpu_proj_sum", false, &mut |out| reports.projected(out))?;
    Ok((reports.rows(), warnings))
}

/// Runs a program and reads what it prints; gives what `read` does, the last of its words on both streams, and how it ended.
fn printed(
    argv: &[OsString],
    interrupts: &Interrupts,
    read: &mut dyn FnMut(BufReader<&mut dyn Read>) -> std::io::Result<bool>,
) -> Result<(bool, String, Ended)> {
    let (mut guarded, stdin, stdout, mut stderr) = Guarded::spawn(argv)?;
    drop(stdin);
    let _passing = guarded.pid().map(|pid| interrupts.pass_to(Target::Reader(pid)));
    let errors = std::thread::spawn(move || {
        let mut last = Last::default();
        let _ = std::io::copy(&mut stderr, &mut last);
        last
    });
    let mut tee = Tee { from: stdout, last: Last::default() };
    let found = read(BufReader::new(&mut tee));
    // What is behind the table.
    let _ = std::io::copy(&mut tee, &mut std::io::sink());
    let ended = guarded.wait();
    let found = found.map_err(|error| Error::io("cannot read what nsys stats prints", error))?;
    let errors = errors.join().unwrap_or_default();
    Ok((found, format!("{}{}", tee.last.text(), errors.text()), ended))
}

/// The last bytes that were written.
#[derive(Default)]
struct Last(Vec<u8>);

impl Last {
    const ROOM: usize = 2000;

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }
}

impl std::io::Write for Last {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.extend_from_slice(bytes);
        self.0.drain(..self.0.len().saturating_sub(Last::ROOM));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Keeps the last of what is read.
struct Tee<R> {
    from: R,
    last: Last,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let count = self.from.read(into)?;
        std::io::Write::write_all(&mut self.last, &into[..count])?;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> Profile {
        Profile { cublas: false, cudnn: false, capture: Capture::All, force: false, more: Vec::new() }
    }

    fn told(profile: &Profile) -> Vec<String> {
        let words = profile.arguments(Path::new("/tmp/50%/demo")).unwrap();
        words.into_iter().map(|word| word.into_string().unwrap()).collect()
    }

    #[test]
    fn nsys_is_told_what_costs_least_and_never_to_end_the_program() {
        let plain = [
            "--trace=cuda,nvtx,osrt",
            "--sample=none",
            "--cpuctxsw=none",
            "--cuda-graph-trace=node",
            "--kill=none",
            "--force-overwrite=false",
            "--output=/tmp/50%%/demo",
        ];
        assert_eq!(told(&profile()), plain);
        let words = told(&Profile { cublas: true, cudnn: true, capture: Capture::Cuda, ..profile() });
        assert_eq!(words[0], "--trace=cuda,nvtx,osrt,cublas,cudnn");
        for word in ["--capture-range=cudaProfilerApi", "--capture-range-end=stop", "--kill=none"] {
            assert!(words.iter().any(|one| one == word), "{words:?}");
        }
        let words = told(&Profile { capture: "nvtx:epoch@train".parse().unwrap(), ..profile() });
        assert!(words.contains(&"--capture-range=nvtx".into()) && words.contains(&"--nvtx-capture=epoch@train".into()));
        let registered = |profile: Profile| profile.environment().len() == 1;
        assert!(registered(Profile { capture: Capture::Nvtx("epoch".into()), ..profile() }));
        assert!(!registered(Profile { capture: Capture::Cuda, ..profile() }) && !registered(profile()));
    }

    #[test]
    fn what_the_user_says_replaces_our_own() {
        let more = |words: &[&str]| Profile { more: words.iter().map(|word| word.to_string()).collect(), ..profile() };
        let words = told(&more(&["--trace=cuda", "-s", "process-tree", "--duration=10"]));
        assert_eq!(words.iter().filter(|word| word.starts_with("--trace")).collect::<Vec<_>>(), ["--trace=cuda"]);
        assert!(!words.contains(&"--sample=none".into()) && words.contains(&"--duration=10".into()));
        assert!(more(&["-s", "process-tree"]).samples() && more(&["--cpuctxsw=process-tree"]).samples());
        assert!(!more(&["--sample=none"]).samples() && !more(&["-s", "none"]).samples() && !profile().samples());
        for word in ["--output=x", "-ofoo", "-o=foo", "-o"] {
            assert!(more(&[word]).arguments(Path::new("a")).is_err(), "{word}");
        }
        let words = told(&more(&["--duration=9"]));
        assert!(words.contains(&"--kill=none".into()) && !words.iter().any(|word| word.starts_with("--capture")));
        let words = told(&more(&["--duration=9", "--kill=sigterm"]));
        assert_eq!(words.iter().filter(|word| word.starts_with("--kill")).count(), 1);
        for nvtx in [&["--capture-range=nvtx"][..], &["--capture-range", "nvtx"], &["-c", "nvtx"], &["-cnvtx"]] {
            let own = more(nvtx);
            assert!(told(&own).contains(&"--capture-range-end=stop".into()), "{nvtx:?}");
            assert_eq!(own.environment()[0].0, "NSYS_NVTX_PROFILER_REGISTER_ONLY", "{nvtx:?}");
        }
        assert!(more(&["-tcuda"]).replaced("--trace") && !more(&["-tcuda"]).traces_nvtx());
        assert!(more(&["-c", "cudaProfilerApi"]).environment().is_empty());
        let both = Profile { cublas: true, ..more(&["-t", "cuda"]) };
        assert!(both.arguments(Path::new("a")).unwrap_err().hint.unwrap().contains("add cublas"));
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version("NVIDIA Nsight Systems version 2025.3.1.90-253135822126v0\n").as_deref(),
            Some("2025.3.1.90")
        );
        assert_eq!(version("NVIDIA Nsight Systems version 2021.3.2.4-027534f\n").as_deref(), Some("2021.3.2.4"));
        assert_eq!(version("command not found"), None);
        assert!(numbers("2023.1.2") >= Some(OLDEST) && numbers("2022.4.2") < Some(OLDEST));
    }

    #[test]
    fn install_folders_are_searched_the_newest_first() {
        let root = tempfile::tempdir().unwrap();
        for place in [
            "usr/local/cuda-9.2/bin/nsys",
            "usr/local/cuda-12.4/bin/nsys",
            "usr/local/cuda-12.4/nsight-systems-2023.4.4/target-linux-x64/nsys",
            "opt/nvidia/nsight-systems/2025.3.1/target-linux-x64/nsys",
        ] {
            let file = root.path().join(place);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, "").unwrap();
        }
        let all: Vec<PathBuf> = FOLDERS.iter().flat_map(|pattern| expand(root.path(), pattern)).collect();
        let all: Vec<&str> = all.iter().map(|file| file.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        let expected = [
            "opt/nvidia/nsight-systems/2025.3.1/target-linux-x64/nsys",
            "usr/local/cuda-12.4/bin/nsys",
            "usr/local/cuda-9.2/bin/nsys",
            "usr/local/cuda-12.4/nsight-systems-2023.4.4/target-linux-x64/nsys",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn capture_ranges_are_written_as_they_are_read() {
        for text in ["none", "cuda", "nvtx:epoch", "nvtx:epoch@train"] {
            assert_eq!(text.parse::<Capture>().unwrap().to_string(), text);
        }
        for wrong in ["", "nvtx", "nvtx:", "cudaProfilerApi:1"] {
            assert!(wrong.parse::<Capture>().is_err(), "{wrong}");
        }
    }
}
