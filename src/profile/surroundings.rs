//! What a run's figures depend on beside its program: environment, driver and boards, the commit.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::gpu;

/// How long the driver may take to name its boards.
const DRIVER: Duration = Duration::from_secs(10);

/// Beginnings of names of variables that change what a training program does, or how fast.
const MATTER: [&str; 26] = [
    "CUBLAS",
    "CUDA",
    "CUDNN",
    "CONDA_DEFAULT_ENV",
    "GSK_",
    "JAX_",
    "KMP_",
    "LD_LIBRARY_PATH",
    "LD_PRELOAD",
    "LOCAL_RANK",
    "MKL_",
    "NCCL_",
    "NSYS_",
    "NVIDIA_",
    "NVTX_",
    "OMP_",
    "OPENBLAS_",
    "PYTHONHASHSEED",
    "PYTHONPATH",
    "PYTORCH_",
    "RANK",
    "SLURM_JOB_ID",
    "TF_",
    "TORCH",
    "VIRTUAL_ENV",
    "WORLD_SIZE",
];
/// Parts of names of variables that may hold a secret.
const SECRET: [&str; 6] = ["AUTH", "CREDENTIAL", "KEY", "PASS", "SECRET", "TOKEN"];

/// The variables that matter, without secrets.
pub fn variables() -> BTreeMap<String, String> {
    let all = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
    let kept = all.filter(|(name, _)| matters(name));
    kept.map(|(name, value)| (name, value.to_string_lossy().into_owned())).collect()
}

fn matters(name: &str) -> bool {
    MATTER.iter().any(|front| name.starts_with(front)) && !SECRET.iter().any(|part| name.contains(part))
}

/// The driver and its boards, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Hardware {
    /// Such as "550.54.14".
    pub driver: Option<String>,
    /// The newest CUDA that the driver bears.
    pub cuda: Option<String>,
    pub gpus: Vec<Board>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Board {
    pub index: u32,
    pub name: Option<String>,
    pub uuid: Option<String>,
}

pub fn hardware() -> Hardware {
    let inventory = gpu::inventory(DRIVER);
    let board = |gpu: gpu::Gpu| Board { index: gpu.index, name: gpu.name, uuid: gpu.uuid };
    Hardware {
        driver: inventory.driver_version.or(inventory.kernel_module),
        cuda: inventory.cuda_version,
        gpus: inventory.gpus.into_iter().map(board).collect(),
    }
}

/// What is checked out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Git {
    pub commit: String,
    /// Null where none is.
    pub branch: Option<String>,
}

/// Of the working tree that a folder is in, read from its files: git itself would run what a cloned folder's
/// configuration says.
pub fn git(folder: &Path) -> Option<Git> {
    let above = folder.ancestors().map(|folder| folder.join(".git")).find(|git| git.exists())?;
    // gitrepository-layout(5): a file in its place names the folder of a work tree.
    let own = match above.is_dir() {
        true => above,
        false => above.parent()?.join(text(above.clone())?.strip_prefix("gitdir:")?.trim()),
    };
    let common = text(own.join("commondir")).map_or_else(|| own.clone(), |path| own.join(path));
    let head = text(own.join("HEAD"))?;
    let Some(name) = head.strip_prefix("ref:").map(str::trim) else { return commit(&head, None) };
    if name.starts_with('/') || name.split('/').any(|part| part == "..") {
        return None;
    }
    let packed = || {
        let packed = text(common.join("packed-refs"))?;
        packed.lines().find_map(|line| line.strip_suffix(name)?.strip_suffix(' ').map(str::to_owned))
    };
    commit(&text(common.join(name)).or_else(packed)?, name.strip_prefix("refs/heads/"))
}

/// The whole of a file that is no longer than git's own are.
fn text(path: PathBuf) -> Option<String> {
    const MOST: u64 = 16 << 20;
    // What is no file, such as a FIFO, may have no end.
    let size = fs::metadata(&path).ok().filter(|of| of.is_file())?.len();
    let mut text = String::new();
    fs::File::open(path).ok()?.take(MOST).read_to_string(&mut text).ok()?;
    (size < MOST).then(|| text.trim().to_owned())
}

fn commit(hash: &str, branch: Option<&str>) -> Option<Git> {
    let is_hash = hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| Git { commit: hash.into(), branch: branch.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_is_kept_and_secrets_are_not() {
        for kept in ["CUDA_VISIBLE_DEVICES", "GSK_EPOCHS", "OMP_NUM_THREADS", "RANK", "TORCH_LOGS"] {
            assert!(matters(kept), "{kept}");
        }
        for left_out in ["HOME", "GSK_TOKEN", "WANDB_API_KEY", "CUDA_API_KEY", "TORCH_PASSWORD"] {
            assert!(!matters(left_out), "{left_out}");
        }
    }

    #[test]
    fn the_commit_is_found_wherever_git_keeps_it() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let (one, two) = ("1".repeat(40), "2".repeat(40));
        let is =
            |commit: &str, branch: Option<&str>| Some(Git { commit: commit.into(), branch: branch.map(Into::into) });
        let deep = dir.path().join("a/b");
        fs::create_dir_all(&deep).unwrap();
        assert_eq!(git(&deep), None);
        put(".git/HEAD", "ref: refs/heads/work/on it\n");
        assert_eq!(git(&deep), None, "no commit yet");
        put(".git/packed-refs", &format!("# pack-refs\n{two} refs/heads/work/on it\n"));
        assert_eq!(git(&deep), is(&two, Some("work/on it")));
        put(".git/refs/heads/work/on it", &format!("{one}\n"));
        assert_eq!(git(&deep), is(&one, Some("work/on it")));
        put(".git/worktrees/w/HEAD", "ref: refs/heads/work/on it\n");
        put(".git/worktrees/w/commondir", "../..\n");
        put("tree/.git", &format!("gitdir: {}\n", dir.path().join(".git/worktrees/w").display()));
        assert_eq!(git(&dir.path().join("tree")), is(&one, Some("work/on it")));
        put(".git/HEAD", &format!("{two}\n"));
        assert_eq!(git(&deep), is(&two, None));
        put("outside", &format!("{two}\n"));
        for outside in ["../outside".into(), dir.path().join("outside").display().to_string()] {
            put(".git/HEAD", &format!("ref: {outside}\n"));
            assert_eq!(git(&deep), None, "{outside}");
        }
        put(".git/HEAD", &format!("{two}\n{}", " ".repeat(16 << 20)));
        assert_eq!(git(&deep), None, "no file of git's");
    }
}
