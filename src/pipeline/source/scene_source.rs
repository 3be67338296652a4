//! The demo scene as a source.

use std::sync::Arc;

use super::scene::Scene;
use super::{Context, Info, LOG, Next, Options, Source};
use crate::clock::{now_us, wall_ms};
use crate::error::Result;
use crate::pipeline::frame::{Frame, PixelFormat, Range, Size};

pub struct SceneSource {
    scene: Scene,
    info: Info,
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
        SceneSource { scene, info: Info { detail, size, fps: options.fps }, sequence: 0, view: 0 }
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
        let size = self.info.size;
        let mut pixels = context.pool.take(PixelFormat::Rgba.bytes(size));
        if !self.scene.draw(began_us, wall_ms(), &mut pixels)? {
            return Ok(Next::Unchanged);
        }
        let sequence = self.sequence;
        self.sequence += 1;
        Ok(Next::Frame(Frame {
            sequence,
            size,
            format: PixelFormat::Rgba,
            range: Range::Full,
            captured_us: (began_us, now_us()),
            view: self.view,
            pixels: Arc::new(pixels),
        }))
    }
}
