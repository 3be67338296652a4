//! What the driver's answers about decoding mean, and what to do about them. Pure: what must be known beside the code is an
//! argument.

use crate::error::{Error, Kind};
use crate::gpu::cuda::{self, CUresult};
use crate::gpu::nvenc::grants_video;
use crate::gpu::support::Codec;

/// What is said of NVDEC where it cannot be used at all.
pub(super) const UNUSABLE: &str = "NVDEC cannot be used";

/// What is known when a call fails.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// The board's name.
    pub(super) board: String,
    /// `NVIDIA_DRIVER_CAPABILITIES`, where the environment has it: the container toolkit sets it.
    pub(super) capabilities: Option<String>,
}

/// What a board decodes of a codec (`CUVIDDECODECAPS`), of 8-bit 4:2:0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Able {
    pub supported: bool,
    /// NVDEC engines that decode it.
    pub engines: u8,
    /// Whether pictures come as NV12.
    pub nv12: bool,
    /// Width and height, pixels.
    pub least: (u32, u32),
    pub most: (u32, u32),
    /// Macroblocks of 16x16 of one picture.
    pub macroblocks: u32,
}

/// A stream's pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) width: u32,
    pub(super) height: u32,
    /// Bits of a sample.
    pub(super) depth: u32,
    /// `cudaVideoChromaFormat`.
    pub(super) chroma: u32,
}

/// What a code (`cudaError_enum` in cuda.h) of a call means; `name` is the code with its name.
pub(super) fn explain(call: &str, code: CUresult, name: &str, facts: &Facts) -> Error {
    let Facts { board, capabilities } = facts;
    let (kind, why, hint) = match code {
        // CUDA_ERROR_NO_DEVICE, INVALID_DEVICE and NOT_SUPPORTED: of NVDEC they are of the engine.
        100 | 101 | 801 => {
            let (why, hint) = no_engine(board, capabilities.as_deref());
            (Kind::Missing, why, hint)
        }
        // CUDA_ERROR_INVALID_VALUE and INVALID_SOURCE are of what the driver was given.
        1 | 300 => (Kind::Failed, format!("the driver refuses what {board} was given to decode"), REPORT.to_owned()),
        _ => {
            let (kind, hint) = cuda::explain(code);
            let why = match kind {
                Kind::Capacity => format!("{board} is short of memory"),
                _ => format!("the decoder of {board} failed"),
            };
            (kind, why, hint.unwrap_or(REPORT).to_owned())
        }
    };
    let what = if kind == Kind::Failed { "NVDEC failed" } else { UNUSABLE };
    Error::new(kind, what).cause(format!("{why}; {call} returned {name}")).hint(hint)
}

/// For what no setting mends.
const REPORT: &str = "see what the driver reports: sudo dmesg | grep -E 'NVRM|Xid'\nand report it with what this writes: gsk verify-gl --bundle gsk-report.tar.gz";

/// Why there is none, and what to do.
fn no_engine(board: &str, capabilities: Option<&str>) -> (String, String) {
    match capabilities {
        Some(all) if !grants_video(all) => (
            format!("the container was not given the decoder: NVIDIA_DRIVER_CAPABILITIES is '{all}'"),
            format!("start it with -e NVIDIA_DRIVER_CAPABILITIES={all},video").replace("=,", "="),
        ),
        _ => (
            format!("{board} has no NVDEC engine, or the driver does not offer it here"),
            "a MIG instance may have none; in a container, look at the devices it was given".into(),
        ),
    }
}

impl Able {
    /// Refuses what the board does not decode at all.
    pub(super) fn check_codec(&self, codec: Codec, facts: &Facts) -> Result<(), Error> {
        let (why, hint) = match (self.supported, self.engines) {
            (true, _) if self.nv12 => return Ok(()),
            (true, _) => (format!("{} gives no NV12 of {}", facts.board, codec.title()), DECODE_ELSEWHERE.into()),
            (false, 0) => no_engine(&facts.board, facts.capabilities.as_deref()),
            (false, _) => (format!("{} does not decode {}", facts.board, codec.title()), DECODE_ELSEWHERE.into()),
        };
        Err(Error::missing(UNUSABLE).cause(why).hint(hint))
    }

    /// Refuses a stream that is not as the board takes them.
    pub(super) fn check_shape(&self, codec: Codec, shape: Shape, board: &str) -> Result<(), Error> {
        let Shape { width, height, depth, chroma } = shape;
        let refused = |why: String| Err(Error::missing(UNUSABLE).cause(why).hint(DECODE_ELSEWHERE));
        const NAMES: [&str; 4] = ["4:0:0", "4:2:0", "4:2:2", "4:4:4"];
        let sampling = NAMES.get(chroma as usize).copied().unwrap_or("unknown");
        if (depth, sampling) != (8, "4:2:0") {
            return refused(format!("the stream has {depth} bits of {sampling}, and gsk takes 8 bits of 4:2:0"));
        }
        let ((wide, high), (narrow, low)) = (self.most, self.least);
        if !(narrow..=wide).contains(&width) || !(low..=high).contains(&height) {
            let title = codec.title();
            return refused(format!(
                "{board} decodes {title} of {narrow}x{low} to {wide}x{high}, and this is {width}x{height}"
            ));
        }
        let macroblocks = width.div_ceil(16) * height.div_ceil(16);
        if macroblocks > self.macroblocks {
            return refused(format!(
                "{board} decodes {} of up to {} macroblocks, and {width}x{height} has {macroblocks}",
                codec.title(),
                self.macroblocks
            ));
        }
        Ok(())
    }
}

const DECODE_ELSEWHERE: &str = "decode on the CPU; see what the board decodes: gsk verify-gl --only nvdec";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(capabilities: Option<&str>) -> Facts {
        Facts { board: "NVIDIA T4".into(), capabilities: capabilities.map(Into::into) }
    }

    #[test]
    fn every_code_has_its_meaning() {
        for (code, capabilities, kind, says, hints) in [
            (1, None, Kind::Failed, "refuses what NVIDIA T4 was given", "--bundle"),
            (2, None, Kind::Capacity, "NVIDIA T4 is short of memory", "free GPU memory"),
            (100, None, Kind::Missing, "has no NVDEC engine, or", "MIG"),
            (100, Some("all"), Kind::Missing, "has no NVDEC engine, or", "MIG"),
            (801, Some("compute"), Kind::Missing, "not given the decoder", "CAPABILITIES=compute,video"),
            (801, Some(""), Kind::Missing, "not given the decoder", "CAPABILITIES=video"),
            (300, None, Kind::Failed, "refuses what", "dmesg"),
            (201, None, Kind::Failed, "the decoder of NVIDIA T4 failed", "dmesg"),
            (719, None, Kind::Failed, "the decoder of NVIDIA T4 failed", "start it again"),
            (4711, None, Kind::Failed, "the decoder of NVIDIA T4 failed", "dmesg"),
        ] {
            let error = explain("cuvidDecodePicture", code, "N (NAME)", &facts(capabilities));
            let (why, hint) = (error.cause.unwrap(), error.hint.unwrap());
            assert_eq!(error.kind, kind, "{code}");
            assert!(why.contains(says) && why.ends_with("; cuvidDecodePicture returned N (NAME)"), "{code}: {why}");
            assert!(hint.contains(hints), "{code}: {hint}");
            assert_eq!(error.what.ends_with("cannot be used"), kind != Kind::Failed, "{code}");
        }
    }

    #[test]
    fn what_a_board_does_not_decode_is_said() {
        let able =
            Able { supported: true, engines: 1, nv12: true, least: (48, 16), most: (4096, 2304), macroblocks: 8192 };
        let codec = |able: Able, capabilities| able.check_codec(Codec::Hevc, &facts(capabilities)).unwrap_err();
        assert!(able.check_codec(Codec::H264, &facts(None)).is_ok());
        let says = |error: Error, words: &str| assert!(error.cause.as_ref().unwrap().contains(words), "{error:?}");
        says(codec(Able { supported: false, ..able }, None), "NVIDIA T4 does not decode HEVC");
        says(codec(Able { nv12: false, ..able }, None), "gives no NV12");
        says(codec(Able::default(), None), "no NVDEC engine");
        says(codec(Able::default(), Some("utility")), "NVIDIA_DRIVER_CAPABILITIES is 'utility'");
        let shape = Shape { width: 1920, height: 1080, depth: 8, chroma: 1 };
        let refused = |shape| able.check_shape(Codec::H264, shape, "NVIDIA T4").unwrap_err();
        assert!(able.check_shape(Codec::H264, shape, "NVIDIA T4").is_ok());
        says(refused(Shape { depth: 10, ..shape }), "the stream has 10 bits of 4:2:0, and gsk takes 8 bits of 4:2:0");
        says(refused(Shape { chroma: 3, ..shape }), "8 bits of 4:4:4");
        says(refused(Shape { chroma: 7, ..shape }), "8 bits of unknown");
        says(refused(Shape { width: 4098, ..shape }), "48x16 to 4096x2304, and this is 4098x1080");
        says(refused(Shape { height: 8, ..shape }), "this is 1920x8");
        says(refused(Shape { width: 4096, height: 2304, ..shape }), "8192 macroblocks, and 4096x2304 has 36864");
    }
}
