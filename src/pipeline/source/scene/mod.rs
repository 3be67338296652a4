//! The demo scene: solids in motion over a floor, with captions, a time mark and fine patterns, to look at and to judge
//! a stream by. A viewer's input moves its camera.
//!
//! `model` and `overlay` say what a picture holds, in pixels; `gl` and `cpu` draw that.

mod backdrop;
mod camera;
mod cpu;
mod font;
mod gl;
mod mark;
mod mesh;
mod model;
mod overlay;
mod vector;

use crate::error::{Error, Result};
use crate::gpu::picture::Picture;
use crate::pipeline::frame::{Frame, PixelFormat, Size};
use crate::wire::input::Event;

use camera::{Camera, Lens, Rig};
use model::Model;
use overlay::{Layers, Overlay};

/// Reads the time mark off a picture (RGBA, width x height x 4 bytes, rows top-down, tight): the wall clock's
/// milliseconds modulo 2^20 when it was drawn. None where there is none, or no clear one.
pub fn read_mark(rgba: &[u8], size: Size) -> Option<u32> {
    mark::read(rgba, size)
}

/// The same of a frame in host memory, whatever its format.
pub fn read_frame_mark(frame: &Frame) -> Option<u32> {
    let (size, pixels) = (frame.size, frame.host().ok()?);
    if pixels.len() != frame.format.bytes(size) {
        return None;
    }
    let value = |at: usize| u32::from(pixels[at]);
    match frame.format {
        PixelFormat::I420 | PixelFormat::Nv12 => mark::read_by(size, |at| 4 * value(at)),
        PixelFormat::Rgb24 => mark::read_by(size, |at| value(at * 3) + 2 * value(at * 3 + 1) + value(at * 3 + 2)),
        PixelFormat::Rgba | PixelFormat::Bgra => {
            mark::read_by(size, |at| value(at * 4) + 2 * value(at * 4 + 1) + value(at * 4 + 2))
        }
    }
}

/// What draws the scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// OpenGL by EGL.
    Gl,
    /// This program itself.
    Cpu,
}

/// The scene and its renderer. It stays on the thread that opened it, as an OpenGL context does.
pub struct Scene {
    size: Size,
    name: String,
    fallback: Option<String>,
    renderer: Renderer,
    model: Model,
    overlay: Overlay,
    rig: Rig,
    paused: bool,
    /// Whether the space bar is down: a key that is held repeats, and pauses only once.
    space: bool,
    /// When the last call of `draw` was, µs.
    last_us: Option<u64>,
    /// Time that the animation has run, µs.
    run_us: u64,
    /// Pictures drawn.
    frame: u64,
    /// The camera of the last picture.
    drawn: Option<Camera>,
    layers: Layers,
}

enum Renderer {
    Gl(Box<gl::Renderer>),
    Cpu(cpu::Renderer),
}

impl Scene {
    /// Opens the best renderer that this host has: OpenGL on the GPU, OpenGL on Mesa, or the CPU. Even sides from 16 to
    /// 8192 pixels. `cuda`: CUDA's number of the GPU that is to draw, where one was chosen.
    pub fn open(size: Size, cuda: Option<u32>) -> Scene {
        Scene::with_gl(size, cuda)
            .unwrap_or_else(|error| Scene::with_cpu(size, Some(error.cause.unwrap_or(error.what))))
    }

    /// Opens this renderer or none.
    pub fn open_with(size: Size, backend: Backend) -> Result<Scene> {
        match backend {
            Backend::Gl => Scene::with_gl(size, None),
            Backend::Cpu => Ok(Scene::with_cpu(size, None)),
        }
    }

    fn with_gl(size: Size, cuda: Option<u32>) -> Result<Scene> {
        let renderer = gl::Renderer::open(size, cuda)?;
        let name = format!("OpenGL, {}", renderer.name());
        let overlay = Overlay::new(size, &name);
        renderer.load(&backdrop::image(size), overlay.atlas())?;
        Ok(Scene::new(size, name, None, Renderer::Gl(Box::new(renderer)), overlay))
    }

    fn with_cpu(size: Size, fallback: Option<String>) -> Scene {
        let overlay = Overlay::new(size, "CPU");
        let renderer = cpu::Renderer::new(backdrop::image(size), overlay.atlas().clone());
        Scene::new(size, "CPU".into(), fallback, Renderer::Cpu(renderer), overlay)
    }

    fn new(size: Size, name: String, fallback: Option<String>, renderer: Renderer, overlay: Overlay) -> Scene {
        let lens = Lens::new(size);
        Scene {
            size,
            name,
            fallback,
            renderer,
            model: Model::new(lens),
            overlay,
            rig: Rig::new(lens),
            paused: false,
            space: false,
            last_us: None,
            run_us: 0,
            frame: 0,
            drawn: None,
            layers: Layers::default(),
        }
    }

    /// What draws: "OpenGL, llvmpipe (LLVM 15.0.6, 256 bits)", or "CPU".
    pub fn renderer(&self) -> &str {
        &self.name
    }

    /// Why [`Scene::open`] did not take OpenGL; None when it did.
    pub fn fallback(&self) -> Option<&str> {
        self.fallback.as_deref()
    }

    /// Why OpenGL does not draw on the GPU that was chosen.
    pub fn astray(&self) -> Option<&str> {
        match &self.renderer {
            Renderer::Gl(gl) => gl.astray(),
            Renderer::Cpu(_) => None,
        }
    }

    /// A viewer's input. Dragging with the primary button orbits; with the secondary or middle one, or with shift, it
    /// pans. The wheel, + and - zoom, arrows orbit, 0 and Home go back to the first view, space stops and resumes time.
    pub fn input(&mut self, event: &Event) {
        match event {
            Event::Key { key, down } if key == " " => {
                self.paused ^= *down && !self.space;
                self.space = *down;
            }
            event => self.rig.input(event),
        }
    }

    /// Draws the next picture, for [`Scene::read`] or [`Scene::capture`] to give.
    ///
    /// `now_us` is a monotonic time. The animation depends only on how much of it has gone by unpaused since the first
    /// call. `wall_ms` goes into the time mark. False if the picture would be the last one again (time stands still, and
    /// so does the camera): then nothing is drawn.
    pub fn draw(&mut self, now_us: u64, wall_ms: u64) -> Result<bool> {
        let passed_us = now_us.saturating_sub(self.last_us.unwrap_or(now_us));
        self.last_us = Some(now_us);
        self.rig.advance(passed_us as f32 / 1e6);
        if self.paused && self.drawn == Some(self.rig.camera) {
            return Ok(false);
        }
        if !self.paused {
            self.run_us += passed_us;
        }
        let seconds = self.run_us as f64 / 1e6;
        let view = self.rig.camera.view();
        let shapes = &mut self.layers.shapes;
        if self.drawn != Some(self.rig.camera) {
            shapes.clear();
            self.model.ground(&view, shapes);
            match &mut self.renderer {
                Renderer::Gl(gl) => gl.ground(shapes)?,
                Renderer::Cpu(cpu) => cpu.ground(shapes),
            }
        }
        shapes.clear();
        self.model.draw(seconds, &view, shapes);
        self.overlay.draw(self.frame, seconds, wall_ms, &mut self.layers);
        if let Renderer::Gl(gl) = &mut self.renderer {
            gl.draw(&self.layers)?;
        }
        self.frame += 1;
        self.drawn = Some(self.rig.camera);
        Ok(true)
    }

    /// Gives back what [`Scene::capture`] has taken of the GPU's memory; the next picture is drawn anew.
    pub fn rest(&mut self) {
        if let Renderer::Gl(gl) = &mut self.renderer {
            gl.rest();
        }
        self.drawn = None;
    }

    /// The picture drawn last: RGBA, width x height x 4 bytes, rows top-down, tight.
    pub fn read(&self, out: &mut [u8]) -> Result<()> {
        if out.len() != self.size.pixels() * 4 {
            return Err(Error::bug(format!("{} bytes for a picture of {} in RGBA", out.len(), self.size)));
        }
        match &self.renderer {
            Renderer::Gl(gl) => gl.read(out),
            Renderer::Cpu(cpu) => {
                cpu.draw(&self.layers, out);
                Ok(())
            }
        }
    }

    /// The same in the memory of the GPU that drew it; `None` where the CPU did.
    pub fn capture(&mut self) -> Result<Option<Picture>> {
        match &mut self.renderer {
            Renderer::Gl(gl) => gl.capture().map(Some),
            Renderer::Cpu(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests;
