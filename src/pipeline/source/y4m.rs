//! YUV4MPEG2 headers (mjpegtools' yuv4mpeg(5); `XCOLORRANGE` is FFmpeg's).

use crate::error::{Error, Result};
use crate::pipeline::frame::{Range, Size};

/// What every stream begins with.
pub const MAGIC: &[u8] = b"YUV4MPEG2";

/// A header line longer than this is refused.
pub const MAX_LINE: usize = 1024;

/// What a stream header says. Frames are I420.
#[derive(Clone, Debug, PartialEq)]
pub struct Header {
    pub size: Size,
    pub fps: f64,
    pub range: Range,
}

impl Header {
    /// Parses the first line, without its newline.
    pub fn parse(line: &[u8]) -> Result<Header> {
        let bad = |why: String| Error::failed("the YUV4MPEG2 header is wrong").cause(why);
        let text = std::str::from_utf8(line).map_err(|_| bad("it is not ASCII".into()))?;
        let mut words = text.split_ascii_whitespace();
        if words.next() != Some("YUV4MPEG2") {
            return Err(bad("it does not begin with YUV4MPEG2".into()));
        }
        let (mut width, mut height, mut fps, mut range) = (None, None, 30.0, Range::Limited);
        for word in words {
            let Some((tag, value)) = word.split_at_checked(1) else { continue };
            let number = || value.parse::<u32>().map_err(|_| bad(format!("'{word}' has no number")));
            match tag {
                "W" => width = Some(number()?),
                "H" => height = Some(number()?),
                "F" => fps = rate(value).ok_or_else(|| bad(format!("'{word}' is no frame rate")))?,
                "C" if !matches!(value, "420" | "420jpeg" | "420mpeg2" | "420paldv") => {
                    return Err(bad(format!("pixels are {value}, and only eight-bit 4:2:0 is read"))
                        .hint("write it with ffmpeg's -pix_fmt yuv420p"));
                }
                "I" if !matches!(value, "p" | "?") => return Err(bad("the video is interlaced".into())),
                "X" if value == "COLORRANGE=FULL" => range = Range::Full,
                _ => {}
            }
        }
        let (Some(width), Some(height)) = (width, height) else { return Err(bad("W or H is missing".into())) };
        Ok(Header { size: Size::new(width, height).check()?, fps, range })
    }
}

/// Whether a line, its newline included, begins a frame: "FRAME", and parameters that may be passed over.
pub fn begins_frame(line: &[u8]) -> bool {
    line.strip_prefix(b"FRAME").is_some_and(|rest| matches!(rest, [b'\n'] | [b' ', .., b'\n']))
}

/// `30000:1001` and such; 0:0 is "unknown", read as 30.
fn rate(value: &str) -> Option<f64> {
    let (n, d) = value.split_once(':')?;
    let (n, d): (u32, u32) = (n.parse().ok()?, d.parse().ok()?);
    match (n, d) {
        (0, 0) => Some(30.0),
        (_, 0) => None,
        _ => Some(f64::from(n) / f64::from(d)).filter(|fps| (0.1..=1000.0).contains(fps)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let header = Header::parse(b"YUV4MPEG2 W1280 H720 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG").unwrap();
        assert_eq!((header.size, header.range), (Size::new(1280, 720), Range::Limited));
        assert!((header.fps - 29.97).abs() < 0.001);
        assert_eq!(Header::parse(b"YUV4MPEG2 W64 H64 F25:1 XCOLORRANGE=FULL").unwrap().range, Range::Full);
    }

    #[test]
    fn frame_lines_are_told_from_others() {
        for line in [&b"FRAME\n"[..], b"FRAME \n", b"FRAME Ip XA=1\n"] {
            assert!(begins_frame(line));
        }
        for line in [&b"FRAME"[..], b"FRAMES\n", b"FRAM\n", b"FRAME x", b"\n", b""] {
            assert!(!begins_frame(line));
        }
    }

    #[test]
    fn lies_are_refused_with_the_reason() {
        for (line, says) in [
            (&b"YUV4MPEG2 H720 F25:1"[..], "W or H is missing"),
            (b"YUV4MPEG2 W12x0 H720", "'W12x0' has no number"),
            (b"YUV4MPEG2 W-4 H720", "'W-4'"),
            (b"YUV4MPEG2 W64 H64 F25:0", "'F25:0'"),
            (b"YUV4MPEG2 W64 H64 C444", "pixels are 444"),
            (b"YUV4MPEG2 W64 H64 C420p10", "pixels are 420p10"),
            (b"YUV4MPEG2 W64 H64 It", "interlaced"),
            (b"YUV4MPEG2 W65 H64", "odd"),
            (b"YUV4MPEG2 W99999999 H64", "outside"),
            (b"YUV4MPEG2 W1\xff", "not ASCII"),
            (b"hello", "does not begin"),
        ] {
            let error = Header::parse(line).unwrap_err().to_string();
            assert!(error.contains(says), "{}: {error}", String::from_utf8_lossy(line));
        }
    }
}
