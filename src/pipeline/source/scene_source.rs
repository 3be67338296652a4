//! The demo scene as a source.

use std::time::Duration;

use super::scene::Scene;
use super::{Context, Info, LOG, Next, Options, Source};
use crate::clock::{now_us, wall_ms};
use crate::error::{Error, Result};
use crate::gpu::cuda;
use crate::pipeline::frame::{Frame, PixelFormat, Pixels, Range, Size};
use crate::pipeline::timing::Stage;
use crate::range;

pub struct SceneSource {
    scene: Scene,
    info: Info,
    /// What draws, in words.
    drawn: String,
    on_device: OnDevice,
    sequence: u64,
    view: u32,
}

/// Whether pictures are left where the GPU drew them; otherwise they are read back.
enum OnDevice {
    /// Not seen yet.
    Untried,
    Works,
    /// It had worked, and is tried again at that time, µs; the wait doubles each time.
    Failed {
        again_us: u64,
        wait: Duration,
    },
    Never,
}

/// How long after a failure pictures are left on the device again, at first and at the most.
const AGAIN: Duration = Duration::from_secs(5);
const AGAIN_MOST: Duration = Duration::from_secs(80);

impl OnDevice {
    fn is_due(&self, now_us: u64) -> bool {
        match *self {
            OnDevice::Untried | OnDevice::Works => true,
            OnDevice::Failed { again_us, .. } => now_us >= again_us,
            OnDevice::Never => false,
        }
    }

    /// What never worked is what this host lacks. What did may do so again: memory was short, or the driver began anew.
    fn failed(&self, now_us: u64) -> OnDevice {
        let wait = match *self {
            OnDevice::Untried | OnDevice::Never => return OnDevice::Never,
            OnDevice::Works => AGAIN,
            OnDevice::Failed { wait, .. } => (2 * wait).min(AGAIN_MOST),
        };
        OnDevice::Failed { again_us: now_us + wait.as_micros() as u64, wait }
    }
}

impl SceneSource {
    /// The scene's size where none is given.
    pub const SIZE: Size = Size::new(1280, 720);

    pub fn open(options: &Options) -> SceneSource {
        let size = options.size.unwrap_or(SceneSource::SIZE);
        let scene = Scene::open(size, options.gpu.as_ref().map(|gpu| gpu.ordinal));
        let mut detail = format!("drawn by {}", scene.renderer());
        if let (Some(gpu), Some(why)) = (&options.gpu, scene.astray()) {
            tracing::warn!(target: LOG, "the scene is not drawn on {}: {why}", gpu.label);
            detail = format!("{detail} (not on {}: {why})", gpu.label);
        }
        if let Some(why) = scene.fallback() {
            detail = format!("{detail} (no OpenGL: {why})");
        }
        // A host without CUDA is told of no lack of it here.
        let on_device = if cuda::find().is_ok() { OnDevice::Untried } else { OnDevice::Never };
        let info = Info { detail: detail.clone(), size, fps: options.fps };
        SceneSource { scene, info, drawn: detail, on_device, sequence: 0, view: 0 }
    }

    /// The drawn picture: on the device where that works, else read back.
    fn pixels(&mut self, context: &Context) -> Result<Pixels> {
        if self.on_device.is_due(now_us()) {
            match self.scene.capture() {
                Ok(Some(picture)) => {
                    self.left_on_device();
                    return Ok(picture.into());
                }
                Ok(None) => self.on_device = OnDevice::Never,
                Err(error) => self.read_back(&error),
            }
        }
        let mut pixels = context.pool.take(PixelFormat::Rgba.bytes(self.info.size));
        self.scene.read(&mut pixels)?;
        Ok(pixels.into())
    }

    /// Says why pictures pass through host memory, where that is news.
    fn read_back(&mut self, error: &Error) {
        self.on_device = self.on_device.failed(now_us());
        let detail = format!("{} (read back: {error})", self.drawn);
        if self.info.detail != detail {
            tracing::warn!("pictures are read back: {error}");
            self.info.detail = detail;
        }
    }

    fn left_on_device(&mut self) {
        if let OnDevice::Failed { .. } = self.on_device {
            tracing::info!("pictures are left on the GPU again");
            self.info.detail.clone_from(&self.drawn);
        }
        self.on_device = OnDevice::Works;
    }
}

impl Source for SceneSource {
    fn info(&self) -> Option<&Info> {
        Some(&self.info)
    }

    fn paced(&self) -> bool {
        true
    }

    fn rest(&mut self) {
        self.scene.rest();
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        for input in context.inputs.drain() {
            self.scene.input(&input.event);
            self.view = input.view;
        }
        let _range = range::open(Stage::Capture.name());
        let began_us = now_us();
        if !self.scene.draw(began_us, wall_ms())? {
            return Ok(Next::Unchanged);
        }
        let pixels = self.pixels(context)?;
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Next::Frame(Frame {
            sequence,
            size: self.info.size,
            format: PixelFormat::Rgba,
            range: Range::Full,
            captured_us: (began_us, now_us()),
            view: self.view,
            pixels,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_had_worked_is_tried_again_ever_more_rarely() {
        const S: u64 = 1_000_000;
        assert!(matches!(OnDevice::Untried.failed(0), OnDevice::Never), "this host lacks it");
        let (mut state, mut tries) = (OnDevice::Works.failed(0), Vec::new());
        for second in 1..=400 {
            if state.is_due(second * S) {
                tries.push(second);
                state = state.failed(second * S);
            }
        }
        assert_eq!(tries, [5, 15, 35, 75, 155, 235, 315, 395]);
        assert!(!OnDevice::Never.is_due(u64::MAX));
    }
}
