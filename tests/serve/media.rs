//! Real video, and FFmpeg as a peer.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// 132 frames of 1280x720 at 25 a second. Where the shared clip is not at hand (`GSK_TEST_MEDIA` names its folder), a
/// test card takes its place, and that is said.
pub fn clip(dir: &Path) -> PathBuf {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/media");
    let folder = std::env::var_os("GSK_TEST_MEDIA").map_or(beside, PathBuf::from);
    let shared = folder.join("bbb_720p25.mp4");
    if shared.exists() {
        return shared;
    }
    eprintln!("{} is not here: a test card takes its place", shared.display());
    let made = dir.join("card.mp4");
    ffmpeg(&["-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=25", "-frames:v", "132", path(&made)]);
    made
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Runs FFmpeg to its end, and gives its standard output.
pub fn ffmpeg(words: &[&str]) -> Vec<u8> {
    tool("ffmpeg", &[&["-v", "error", "-y"], words].concat())
}

pub fn tool(name: &str, words: &[&str]) -> Vec<u8> {
    let output = Command::new(name).args(words).stdin(Stdio::null()).output().unwrap();
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {words:?}: {err}");
    output.stdout
}

/// FFmpeg playing a source for ever in real time, as YUV4MPEG2 on its standard output.
pub fn player(input: &[&str]) -> Vec<String> {
    let words = [&["ffmpeg", "-v", "error"], input, &["-f", "yuv4mpegpipe", "-pix_fmt", "yuv420p", "-"]].concat();
    words.into_iter().map(String::from).collect()
}
