//! Draws the scene with OpenGL, into a texture of a framebuffer object, for CUDA to capture or to be read back.
//!
//! All is drawn upside down, so that the texture's first row, which is the first to be taken, is the picture's top.

use std::sync::Arc;

use glow::{HasContext, PixelPackData, PixelUnpackData};

use super::backdrop::Image;
use super::model::{HALF_LINE, Shape};
use super::overlay::{Layers, Sprite};
use crate::error::{Error, Result};
use crate::gpu::interop::{self, Capture};
use crate::gpu::picture::Picture;
use crate::gpu::{cuda, egl};
use crate::pipeline::frame::Size;

/// Position (x, y), two floats that the program gives meaning to, and a colour: 20 bytes.
const VERTEX: i32 = 20;

const COMMON: &str = "
layout(location = 0) in vec2 at;
layout(location = 1) in vec2 extra;
layout(location = 2) in vec4 colour;
uniform vec2 size;
out vec4 tint;
out vec2 with;
void main() {
    gl_Position = vec4(at / size * 2.0 - 1.0, 0.0, 1.0);
    tint = colour;
    with = extra;
}";

/// `with.x`: distance from a line's middle, 0 in areas.
const SHAPES: &str = "
in vec4 tint;
in vec2 with;
uniform float reach;
out vec4 pixel;
void main() { pixel = vec4(tint.rgb, tint.a * clamp(reach - abs(with.x), 0.0, 1.0)); }";

/// `with`: a pixel of the atlas.
const SPRITES: &str = "
in vec4 tint;
in vec2 with;
uniform sampler2D atlas;
out vec4 pixel;
void main() { pixel = texelFetch(atlas, ivec2(with), 0) * tint; }";

/// A renderer and all its objects in OpenGL. These belong to the context and go with it.
pub struct Renderer {
    size: Size,
    name: String,
    /// CUDA's hold on `texture`, once it was asked for.
    capture: Option<Capture>,
    gl: glow::Context,
    shapes: glow::Program,
    sprites: glow::Program,
    picture: glow::Framebuffer,
    /// What `picture` draws into.
    texture: glow::Texture,
    backdrop: glow::Framebuffer,
    /// The backdrop with what stands still on it.
    ground: glow::Framebuffer,
    atlas: glow::Framebuffer,
    vertices: glow::Buffer,
    /// Quads that the index buffer reaches.
    room: usize,
    bytes: Vec<u8>,
    context: egl::Context,
}

impl Renderer {
    /// For pictures of `size`, on the GPU of CUDA's number `cuda` or the best there is. Before the first, [`Renderer::load`]
    /// and [`Renderer::ground`] are due.
    pub fn open(size: Size, cuda: Option<u32>) -> Result<Renderer> {
        let missing = |cause: String| Error::missing("there is no OpenGL").cause(cause);
        let context = egl::Context::open(cuda).map_err(missing)?;
        // SAFETY: here and in every block below, the context is current on this thread, and the objects that calls name
        // are of this context and not deleted before it.
        unsafe {
            let gl = glow::Context::from_loader_function(|name| context.function(name));
            let name = gl.get_parameter_string(glow::RENDERER);
            let most = gl.get_parameter_i32(glow::MAX_TEXTURE_SIZE);
            if size.width.max(size.height) > most.max(0) as u32 {
                return Err(missing(format!("{name} draws no more than {most} pixels a side")));
            }
            let failed = |cause: String| Error::missing(format!("OpenGL ({name}) cannot draw the scene")).cause(cause);
            let shapes = program(&gl, context.es, SHAPES, size).map_err(failed)?;
            let sprites = program(&gl, context.es, SPRITES, size).map_err(failed)?;
            gl.use_program(Some(shapes));
            gl.uniform_1_f32(gl.get_uniform_location(shapes, "reach").as_ref(), HALF_LINE + 0.5);
            let (picture, texture) = target(&gl, size).map_err(failed)?;
            let (ground, _) = target(&gl, size).map_err(failed)?;
            let backdrop = gl.create_framebuffer().map_err(failed)?;
            let atlas = gl.create_framebuffer().map_err(failed)?;
            let vertices = vertices(&gl).map_err(failed)?;
            gl.viewport(0, 0, size.width as i32, size.height as i32);
            gl.blend_func_separate(glow::SRC_ALPHA, glow::ONE_MINUS_SRC_ALPHA, glow::ONE, glow::ONE_MINUS_SRC_ALPHA);
            gl.enable(glow::BLEND);
            gl.pixel_store_i32(glow::PACK_ALIGNMENT, 1);
            gl.pixel_store_i32(glow::UNPACK_ALIGNMENT, 1);
            Ok(Renderer {
                size,
                name,
                capture: None,
                shapes,
                sprites,
                picture,
                texture,
                backdrop,
                ground,
                atlas,
                vertices,
                room: 0,
                bytes: Vec::new(),
                gl,
                context,
            })
        }
    }

    /// What OpenGL calls the renderer.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Why it is not on the GPU that was chosen.
    pub fn astray(&self) -> Option<&str> {
        self.context.astray.as_deref()
    }

    /// Hands over the images that never change; the backdrop is of the pictures' size.
    pub fn load(&self, backdrop: &Image, atlas: &Image) -> Result<()> {
        self.context.make_current().map_err(fault)?;
        let gl = &self.gl;
        // SAFETY: see `open`; each image has as many bytes as its size says.
        unsafe {
            let most = gl.get_parameter_i32(glow::MAX_TEXTURE_SIZE);
            if atlas.size.height.max(atlas.size.width) > most.max(0) as u32 {
                return Err(Error::missing("there is no room for the captions")
                    .cause(format!("{} is more than {most} pixels", atlas.size)));
            }
            // The atlas comes last and stays bound, for the sprites to be drawn from.
            for (image, frame) in [(backdrop, self.backdrop), (atlas, self.atlas)] {
                let texture = texture(gl, image.size, Some(image.pixels.as_flattened())).map_err(fault)?;
                attach(gl, frame, texture).map_err(fault)?;
            }
        }
        self.check("loading images")
    }

    /// Draws into the picture's texture, which is complete on the GPU's own time.
    pub fn draw(&mut self, layers: &Layers) -> Result<()> {
        self.context.make_current().map_err(fault)?;
        self.copy(self.ground, self.picture, &[self.whole()]);
        self.quads(self.shapes, self.picture, &layers.shapes, shape_corners);
        self.copy(self.atlas, self.picture, &layers.panels);
        self.quads(self.sprites, self.picture, &layers.sprites, sprite_corners);
        self.check("drawing")
    }

    /// Reads the drawn picture back: RGBA, rows top-down, tight.
    pub fn read(&self, out: &mut [u8]) -> Result<()> {
        self.context.make_current().map_err(fault)?;
        let (width, height) = (self.size.width as i32, self.size.height as i32);
        // SAFETY: see `open`; glow checks nothing, so the length is checked here.
        unsafe {
            assert_eq!(out.len(), self.size.pixels() * 4);
            self.gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(self.picture));
            self.gl.read_pixels(0, 0, width, height, glow::RGBA, glow::UNSIGNED_BYTE, PixelPackData::Slice(Some(out)));
        }
        self.check("reading a picture back")
    }

    /// The drawn picture in the memory of the GPU that drew it.
    pub fn capture(&mut self) -> Result<Picture> {
        self.context.make_current().map_err(fault)?;
        let capture = match self.capture.take() {
            Some(capture) => capture,
            None => {
                let context = Arc::new(cuda::Context::retain(&interop::device(&self.context)?)?);
                Capture::new(&context, self.texture.0.get(), self.size.width, self.size.height)?
            }
        };
        // One that has failed is not tried again.
        self.capture.insert(capture).take().inspect_err(|_| self.capture = None)
    }

    /// Ends CUDA's hold on the picture.
    pub fn rest(&mut self) {
        // CUDA lets the texture go where its context is current; without one there is nobody to tell.
        let _ = self.context.make_current();
        self.capture = None;
    }

    /// Keeps these shapes under those of every picture to come.
    pub fn ground(&mut self, shapes: &[Shape]) -> Result<()> {
        self.context.make_current().map_err(fault)?;
        self.copy(self.backdrop, self.ground, &[self.whole()]);
        self.quads(self.shapes, self.ground, shapes, shape_corners);
        self.check("drawing the floor")
    }

    fn whole(&self) -> Sprite {
        Sprite::plain([0; 2], [0; 2], self.size.width, self.size.height)
    }

    /// Copies parts of one framebuffer to another; on Mesa's software that is far cheaper than drawing them.
    fn copy(&self, from: glow::Framebuffer, to: glow::Framebuffer, parts: &[Sprite]) {
        // SAFETY: see `open`.
        unsafe {
            self.gl.bind_framebuffer(glow::READ_FRAMEBUFFER, Some(from));
            self.gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, Some(to));
            for part in parts {
                let ([x, y], [u, v]) = (part.to.map(|v| v as i32), part.from.map(|v| v as i32));
                let (w, h) = (part.width as i32, part.height as i32);
                self.gl.blit_framebuffer(u, v, u + w, v + h, x, y, x + w, y + h, glow::COLOR_BUFFER_BIT, glow::NEAREST);
            }
        }
    }

    fn quads<T>(&mut self, program: glow::Program, to: glow::Framebuffer, items: &[T], corners: fn(&T) -> [Corner; 4]) {
        self.bytes.clear();
        items.iter().for_each(|item| quad(&mut self.bytes, corners(item)));
        let gl = &self.gl;
        // SAFETY: see `open`; the index buffer reaches every quad drawn, and no further than the vertices.
        unsafe {
            gl.bind_framebuffer(glow::DRAW_FRAMEBUFFER, Some(to));
            gl.bind_buffer(glow::ARRAY_BUFFER, Some(self.vertices));
            gl.buffer_data_u8_slice(glow::ARRAY_BUFFER, &self.bytes, glow::STREAM_DRAW);
            if self.room < items.len() {
                self.room = items.len().next_power_of_two();
                gl.buffer_data_u8_slice(glow::ELEMENT_ARRAY_BUFFER, &indices(self.room), glow::STATIC_DRAW);
            }
            gl.use_program(Some(program));
            gl.draw_elements(glow::TRIANGLES, items.len() as i32 * 6, glow::UNSIGNED_INT, 0);
        }
    }

    fn check(&self, what: &str) -> Result<()> {
        // SAFETY: see `open`.
        match unsafe { self.gl.get_error() } {
            glow::NO_ERROR => Ok(()),
            code => Err(fault(format!("{what}: error {code:#06x}"))),
        }
    }
}

impl Drop for Renderer {
    fn drop(&mut self) {
        self.rest();
    }
}

fn fault(cause: impl std::fmt::Display) -> Error {
    Error::failed("OpenGL failed").cause(cause)
}

/// # Safety
/// Here and in the functions below: `gl`'s context is current on this thread.
unsafe fn program(gl: &glow::Context, es: bool, fragment: &str, size: Size) -> Result<glow::Program, String> {
    // SAFETY: as the caller promises; the objects are this context's.
    unsafe {
        let program = crate::gpu::gl::program(gl, es, COMMON, fragment)?;
        gl.use_program(Some(program));
        gl.uniform_2_f32(gl.get_uniform_location(program, "size").as_ref(), size.width as f32, size.height as f32);
        Ok(program)
    }
}

/// A texture of RGBA, with unspecified pixels where none are given. It stays bound.
///
/// # Safety
/// As for [`program`]; `pixels` has four bytes for each of `size`.
unsafe fn texture(gl: &glow::Context, size: Size, pixels: Option<&[u8]>) -> Result<glow::Texture, String> {
    // SAFETY: as the caller promises.
    unsafe {
        let texture = gl.create_texture()?;
        gl.bind_texture(glow::TEXTURE_2D, Some(texture));
        gl.tex_parameter_i32(glow::TEXTURE_2D, glow::TEXTURE_MIN_FILTER, glow::NEAREST as i32);
        gl.tex_parameter_i32(glow::TEXTURE_2D, glow::TEXTURE_MAG_FILTER, glow::NEAREST as i32);
        let (width, height) = (size.width as i32, size.height as i32);
        let data = PixelUnpackData::Slice(pixels);
        gl.tex_image_2d(
            glow::TEXTURE_2D,
            0,
            glow::RGBA8 as i32,
            width,
            height,
            0,
            glow::RGBA,
            glow::UNSIGNED_BYTE,
            data,
        );
        Ok(texture)
    }
}

/// # Safety
/// As for [`program`].
unsafe fn target(gl: &glow::Context, size: Size) -> Result<(glow::Framebuffer, glow::Texture), String> {
    // SAFETY: as the caller promises.
    unsafe {
        let texture = texture(gl, size, None)?;
        let frame = gl.create_framebuffer()?;
        attach(gl, frame, texture)?;
        Ok((frame, texture))
    }
}

/// # Safety
/// As for [`program`]; `frame` and `texture` are of this context.
unsafe fn attach(gl: &glow::Context, frame: glow::Framebuffer, texture: glow::Texture) -> Result<(), String> {
    // SAFETY: as the caller promises.
    unsafe {
        gl.bind_framebuffer(glow::FRAMEBUFFER, Some(frame));
        gl.framebuffer_texture_2d(glow::FRAMEBUFFER, glow::COLOR_ATTACHMENT0, glow::TEXTURE_2D, Some(texture), 0);
        match gl.check_framebuffer_status(glow::FRAMEBUFFER) {
            glow::FRAMEBUFFER_COMPLETE => Ok(()),
            code => Err(format!("the framebuffer is not complete: {code:#06x}")),
        }
    }
}

/// The buffer for vertices, bound with an index buffer and their layout for good.
///
/// # Safety
/// As for [`program`].
unsafe fn vertices(gl: &glow::Context) -> Result<glow::Buffer, String> {
    // SAFETY: as the caller promises; the offsets lie within a vertex.
    unsafe {
        gl.bind_vertex_array(Some(gl.create_vertex_array()?));
        let buffer = gl.create_buffer()?;
        gl.bind_buffer(glow::ARRAY_BUFFER, Some(buffer));
        gl.bind_buffer(glow::ELEMENT_ARRAY_BUFFER, Some(gl.create_buffer()?));
        gl.vertex_attrib_pointer_f32(0, 2, glow::FLOAT, false, VERTEX, 0);
        gl.vertex_attrib_pointer_f32(1, 2, glow::FLOAT, false, VERTEX, 8);
        gl.vertex_attrib_pointer_f32(2, 4, glow::UNSIGNED_BYTE, true, VERTEX, 16);
        (0..3).for_each(|index| gl.enable_vertex_attrib_array(index));
        Ok(buffer)
    }
}

/// Two triangles for each of `quads` times four vertices.
fn indices(quads: usize) -> Vec<u8> {
    (0..quads as u32 * 4)
        .step_by(4)
        .flat_map(|first| [0, 1, 2, 0, 2, 3].map(|n| first + n))
        .flat_map(u32::to_ne_bytes)
        .collect()
}

/// A vertex's position, its `extra`, and its colour.
type Corner = ([f32; 2], [f32; 2], [u8; 4]);

fn quad(bytes: &mut Vec<u8>, corners: [Corner; 4]) {
    for (at, extra, colour) in corners {
        let mut vertex = [0; VERTEX as usize];
        for (k, value) in at.into_iter().chain(extra).enumerate() {
            vertex[k * 4..k * 4 + 4].copy_from_slice(&value.to_ne_bytes());
        }
        vertex[16..].copy_from_slice(&colour);
        bytes.extend_from_slice(&vertex);
    }
}

fn shape_corners(shape: &Shape) -> [Corner; 4] {
    match *shape {
        Shape::Area { corners, colour } => corners.map(|at| (at, [0.0, 0.0], colour)),
        Shape::Line { ends: [from, to], colour: [r, g, b], opacity } => {
            let (dx, dy) = (to[0] - from[0], to[1] - from[1]);
            let reach = HALF_LINE + 0.5;
            let by = reach / dx.hypot(dy).max(1e-6);
            let corner = |at: [f32; 2], side: f32, opacity| {
                ([at[0] - dy * by * side, at[1] + dx * by * side], [reach * side, 0.0], [r, g, b, opacity])
            };
            [
                corner(from, -1.0, opacity[0]),
                corner(to, -1.0, opacity[1]),
                corner(to, 1.0, opacity[1]),
                corner(from, 1.0, opacity[0]),
            ]
        }
    }
}

fn sprite_corners(sprite: &Sprite) -> [Corner; 4] {
    let [r, g, b] = sprite.tint;
    [(0, 0), (1, 0), (1, 1), (0, 1)].map(|(x, y)| {
        let corner = |from: [u32; 2]| [(from[0] + x * sprite.width) as f32, (from[1] + y * sprite.height) as f32];
        (corner(sprite.to), corner(sprite.from), [r, g, b, 255])
    })
}
