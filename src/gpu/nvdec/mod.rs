//! NVDEC, the decoder of NVIDIA's boards: H.264, HEVC and AV1 of 8-bit 4:2:0, without reordering, as gsk's encoders write them.
//!
//! The library finds a stream's pictures by its own parser, which calls back while it is fed, on the thread that feeds it: of
//! a new size a decoder is made, each picture is handed to it. A unit is fed whole and marked as one, with no delay for
//! reordering asked for (`CUVID_PKT_ENDOFPICTURE` and `ulMaxDisplayDelay` 0: NVDECODE API programming guide, "Parsing the
//! packets"), so that its picture is there when the call returns: in the order of decoding, which is that of display.
//!
//! libnvcuvid is the driver's. It is opened when first asked for: at the path in `GSK_NVCUVID_LIBRARY`, if that is set and not
//! empty, and nowhere else then; else by the loader's usual search.

mod api;
mod decoder;
mod explain;

pub use self::decoder::{Decoder, Picture};
pub use self::explain::Able;
use super::cuda;
use super::support::Codec;
use crate::error::{Error, Result};

/// The library's name, by which the loader finds it.
pub const LIBRARY: &str = api::LIBRARY;

/// Whether this host's driver has a decoder library that can be used, or why not. Touches nothing of CUDA, and no board.
pub fn library() -> Result<()> {
    api::Api::get().map(drop)
}

/// What a device decodes, of those codecs that it decodes at all.
pub fn abilities(device: &cuda::Device) -> Result<Vec<(Codec, Able)>> {
    let board = decoder::Board::of(device)?;
    let mut all = Vec::new();
    for codec in [Codec::H264, Codec::Hevc, Codec::Av1] {
        let able = board.able(codec)?;
        if board.check(codec, &able).is_ok() {
            all.push((codec, able));
        }
    }
    Ok(all)
}

/// Opens a decoder on the device of that UUID, or on the first that decodes the codec.
///
/// # Errors
/// [`Kind::Missing`](crate::error::Kind::Missing) where there is no library, no device, or none that decodes it.
pub fn open(codec: Codec, uuid: Option<&str>) -> Result<Decoder> {
    library()?;
    let mut devices = cuda::devices()?;
    devices.retain(|device| uuid.is_none_or(|uuid| device.is(uuid)));
    let none = || {
        Error::missing(explain::UNUSABLE)
            .cause(match uuid {
                Some(uuid) => format!("CUDA does not show {uuid} to this process"),
                None => "CUDA shows no device to this process".into(),
            })
            .hint("look at CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all")
    };
    let mut refused = None;
    for device in &devices {
        match Decoder::open(device, codec) {
            Ok(decoder) => return Ok(decoder),
            // The first one's reason is told.
            Err(error) => refused = refused.or(Some(error)),
        }
    }
    Err(refused.unwrap_or_else(none))
}
