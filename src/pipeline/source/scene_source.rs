//! The demo scene as a source.

use super::scene::Scene;
use super::{Context, Info, LOG, Next, Options, Source};
use crate::clock::{now_us, wall_ms};
use crate::error::{Error, Result};
use crate::gpu::cuda;
use crate::pipeline::frame::{Frame, PixelFormat, Pixels, Range, Size};

pub struct SceneSource {
    scene: Scene,
    info: Info,
    /// Whether pictures are left where the GPU drew them; otherwise they are read back.
    on_device: bool,
    sequence: u64,
    view: u32,
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
        let on_device = cuda::find().is_ok();
        SceneSource { scene, info: Info { detail, size, fps: options.fps }, on_device, sequence: 0, view: 0 }
    }

    /// The drawn picture: on the device where that works, else read back, for good.
    fn pixels(&mut self, context: &Context) -> Result<Pixels> {
        if self.on_device {
            match self.scene.capture() {
                Ok(Some(picture)) => return Ok(picture.into()),
                Ok(None) => {}
                Err(error) => self.read_back(&error),
            }
            self.on_device = false;
        }
        let mut pixels = context.pool.take(PixelFormat::Rgba.bytes(self.info.size));
        self.scene.read(&mut pixels)?;
        Ok(pixels.into())
    }

    /// Says why pictures pass through host memory.
    fn read_back(&mut self, error: &Error) {
        tracing::warn!("pictures are read back: {error}");
        self.info.detail += &format!(" (read back: {error})");
    }
}

impl Source for SceneSource {
    fn info(&self) -> Option<&Info> {
        Some(&self.info)
    }

    fn paced(&self) -> bool {
        true
    }

    fn next(&mut self, context: &Context) -> Result<Next> {
        for input in context.inputs.drain() {
            self.scene.input(&input.event);
            self.view = input.view;
        }
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
