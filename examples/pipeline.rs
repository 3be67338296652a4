//! The pipeline as a library: records two seconds of the scene, as bare H.264, without a network.
//!
//!     cargo run --release --example pipeline -- scene.h264
//!     ffplay scene.h264

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use gsk::pipeline::encode::{Choice, Codec, Slots, WhenFull};
use gsk::pipeline::frame::{PixelFormat, Size};
use gsk::pipeline::queue::Item;
use gsk::pipeline::rate::Quality;
use gsk::pipeline::source::{Options, Restart, Spec};
use gsk::pipeline::timing::Stage;
use gsk::pipeline::{Config, Pipeline};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Sources that are programs run under a guard, which is this same executable.
    gsk::child::guard_if_asked();
    let path = std::env::args().nth(1).unwrap_or_else(|| "scene.h264".into());
    let mut file = File::create(&path)?;

    let pipeline = Pipeline::start(Config {
        source: Options {
            spec: Spec::Scene,
            size: Some(Size::new(640, 360)),
            format: PixelFormat::Rgba,
            fps: 30.0,
            repeat: false,
            restart: Restart::Never,
            gpu: None,
        },
        encoder: Choice::Auto,
        slots: Arc::new(Slots::new(None, WhenFull::Refuse, "example".into(), "scene".into())),
        bitrate: 2_000_000,
        quality: Quality::Auto,
        nvenc: Default::default(),
    })?;

    // Capture and encoding begin with the first viewer, and its first unit is an IDR.
    let viewer = pipeline.join(Codec::H264);
    let mut units = 0;
    let recording = async {
        while let Some(item) = viewer.next().await {
            match item {
                Item::Unit(packet) => {
                    file.write_all(&packet.unit())?;
                    units += 1;
                }
                Item::Drop(skipped) => eprintln!("too slow: {skipped} units were skipped"),
            }
        }
        Ok::<(), std::io::Error>(())
    };
    if let Ok(ended) = tokio::time::timeout(Duration::from_secs(2), recording).await {
        ended?;
    }
    let encode = pipeline.timing().percentiles(Stage::Encode, gsk::clock::now_us());
    println!("{units} access units in {path}; encoding, ms: {encode:?}");
    Ok(())
}
