//! The lines of a scene that have many keys: boards and foreign sessions.

use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Video {
    H264,
    Hevc,
    Av1,
}

impl Video {
    fn name(self) -> &'static str {
        match self {
            Video::H264 => "h264",
            Video::Hevc => "hevc",
            Video::Av1 => "av1",
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Mig {
    Off,
    On,
}

/// A line `board`: a GPU.
#[derive(Clone, Debug)]
pub struct Board(pub(super) String);

impl Board {
    /// An Ampere board with one engine and nothing special.
    pub fn new(name: &str) -> Board {
        Board(format!("board name=\"{name}\""))
    }

    pub fn geforce() -> Board {
        Board::new("NVIDIA GeForce RTX 4090")
            .cc(8, 9)
            .engines(2)
            .codecs(&[Video::H264, Video::Hevc, Video::Av1])
            .decodes(&[Video::H264, Video::Hevc, Video::Av1])
            .memory_mib(24_564, 1_000)
    }

    pub fn rtx() -> Board {
        Board::new("NVIDIA RTX 6000 Ada Generation")
            .cc(8, 9)
            .engines(3)
            .codecs(&[Video::H264, Video::Hevc, Video::Av1])
            .decodes(&[Video::H264, Video::Hevc, Video::Av1])
            .memory_mib(49_140, 1_000)
    }

    pub fn a100() -> Board {
        Board::new("NVIDIA A100-SXM4-80GB").cc(8, 0).engines(0).memory_mib(81_920, 1_000).mig(Mig::Off)
    }

    pub fn h200() -> Board {
        Board::new("NVIDIA H200").cc(9, 0).engines(0).memory_mib(143_771, 1_000).mig(Mig::Off)
    }

    fn with(mut self, key: &str, value: impl std::fmt::Display) -> Board {
        self.0.push_str(&format!(" {key}={value}"));
        self
    }

    pub fn uuid(self, uuid: &str) -> Board {
        self.with("uuid", uuid)
    }

    /// As `00000000:01:00.0`.
    pub fn pci(self, address: &str) -> Board {
        self.with("pci", address)
    }

    pub fn cc(self, major: u32, minor: u32) -> Board {
        self.with("cc", format_args!("{major}.{minor}"))
    }

    pub fn engines(self, engines: u32) -> Board {
        self.with("engines", engines)
    }

    pub fn codecs(self, codecs: &[Video]) -> Board {
        self.with("codecs", list(codecs))
    }

    /// NVDEC engines; with 0 nothing is decoded.
    pub fn decoders(self, engines: u32) -> Board {
        self.with("decoders", engines)
    }

    pub fn decodes(self, codecs: &[Video]) -> Board {
        self.with("decodes", list(codecs))
    }

    /// The largest picture that is decoded.
    pub fn decode_most(self, width: u32, height: u32) -> Board {
        self.with("decode-max", format_args!("{width}x{height}"))
    }

    pub fn without_intra_refresh(self) -> Board {
        self.with("intra-refresh", "no")
    }

    pub fn encoder_util(self, percent: u32) -> Board {
        self.with("encoder-util", percent)
    }

    pub fn decoder_util(self, percent: u32) -> Board {
        self.with("decoder-util", percent)
    }

    pub fn capacity(self, percent: u32) -> Board {
        self.with("capacity", percent)
    }

    pub fn memory_mib(self, total: u64, used: u64) -> Board {
        self.with("mem-total", total).with("mem-used", used)
    }

    /// What one encoder session takes of the memory, MiB. Where less is free, opening one answers 10, limit or not.
    pub fn session_mib(self, mib: u64) -> Board {
        self.with("session-mem", mib)
    }

    /// How long a picture takes from `nvEncEncodePicture` to its end.
    pub fn encode_time(self, time: Duration) -> Board {
        self.with("encode-us", time.as_micros())
    }

    pub fn mig(self, mig: Mig) -> Board {
        self.with("mig", if matches!(mig, Mig::On) { "on" } else { "off" })
    }

    /// NVML functions that answer NOT_SUPPORTED for this board, by their exported names.
    pub fn unsupported(self, functions: &[&str]) -> Board {
        self.with("unsupported", functions.join(","))
    }
}

fn list(codecs: &[Video]) -> String {
    codecs.iter().map(|codec| codec.name()).collect::<Vec<_>>().join(",")
}

/// A line `foreign`: an encoder session of a program that is not here.
#[derive(Clone, Debug)]
pub struct Foreign(pub(super) String);

impl Foreign {
    /// H.264, 1920x1080, 60 pictures a second of 2000 µs each.
    pub fn new(board: u32, pid: u32) -> Foreign {
        Foreign(format!("foreign board={board} pid={pid}"))
    }

    fn with(mut self, key: &str, value: impl std::fmt::Display) -> Foreign {
        self.0.push_str(&format!(" {key}={value}"));
        self
    }

    pub fn codec(self, codec: Video) -> Foreign {
        self.with("codec", codec.name())
    }

    /// A codec as NVML numbers it, known or not.
    pub fn codec_number(self, codec: u32) -> Foreign {
        self.with("codec", codec)
    }

    pub fn size(self, width: u32, height: u32) -> Foreign {
        self.with("size", format_args!("{width}x{height}"))
    }

    pub fn fps(self, fps: u32) -> Foreign {
        self.with("fps", fps)
    }

    pub fn latency_us(self, latency: u32) -> Foreign {
        self.with("latency", latency)
    }

    pub fn session(self, id: u32) -> Foreign {
        self.with("session", id)
    }
}
