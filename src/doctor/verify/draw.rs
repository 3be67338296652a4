//! A pattern that OpenGL draws into a texture, every byte of which is known.

use glow::{HasContext, PixelPackData, PixelUnpackData};

use crate::gpu::egl;

pub const WIDTH: usize = 333;
pub const HEIGHT: usize = 190;
/// Bytes of a row.
pub const ROW: usize = WIDTH * 4;

/// What the shader below gives a pixel; `y` grows upwards.
fn pixel(x: usize, y: usize) -> [u8; 4] {
    [x, y, (3 * x) ^ (5 * y), x + y].map(|value| value as u8)
}

pub fn pattern() -> Vec<u8> {
    (0..HEIGHT).flat_map(|y| (0..WIDTH).flat_map(move |x| pixel(x, y))).collect()
}

/// The pattern's negative.
pub fn negative() -> Vec<u8> {
    pattern().iter().map(|byte| !byte).collect()
}

const VERTEX: &str = "
void main() { gl_Position = vec4(float(gl_VertexID % 2) * 4.0 - 1.0, float(gl_VertexID / 2) * 4.0 - 1.0, 0.0, 1.0); }";

const FRAGMENT: &str = "
out vec4 colour;
void main() {
    ivec2 at = ivec2(gl_FragCoord.xy);
    ivec4 bytes = ivec4(at.x, at.y, (3 * at.x) ^ (5 * at.y), at.x + at.y) & 255;
    colour = vec4(bytes) / 255.0;
}";

/// A texture and the framebuffer that draws into it, of the context that is current. They go with it.
pub struct Canvas {
    gl: glow::Context,
    pub texture: glow::NativeTexture,
    width: usize,
    height: usize,
}

impl Canvas {
    pub fn new(context: &egl::Context, width: usize, height: usize) -> Result<Canvas, String> {
        // SAFETY: here and in every block below, the context is current on this thread, and the objects that calls name
        // are of this context and not deleted before it.
        unsafe {
            let gl = glow::Context::from_loader_function(|name| context.function(name));
            let texture = gl.create_texture()?;
            gl.bind_texture(glow::TEXTURE_2D, Some(texture));
            gl.tex_parameter_i32(glow::TEXTURE_2D, glow::TEXTURE_MIN_FILTER, glow::NEAREST as i32);
            let (w, h, format) = (width as i32, height as i32, glow::RGBA8 as i32);
            let nothing = PixelUnpackData::Slice(None);
            gl.tex_image_2d(glow::TEXTURE_2D, 0, format, w, h, 0, glow::RGBA, glow::UNSIGNED_BYTE, nothing);
            gl.bind_framebuffer(glow::FRAMEBUFFER, Some(gl.create_framebuffer()?));
            gl.framebuffer_texture_2d(glow::FRAMEBUFFER, glow::COLOR_ATTACHMENT0, glow::TEXTURE_2D, Some(texture), 0);
            match gl.check_framebuffer_status(glow::FRAMEBUFFER) {
                glow::FRAMEBUFFER_COMPLETE => Ok(Canvas { gl, texture, width, height }),
                code => Err(format!("the framebuffer is not complete: {code:#06x}")),
            }
        }
    }

    /// Draws the pattern, and has it done when it returns.
    pub fn draw(&self, es: bool) -> Result<(), String> {
        let gl = &self.gl;
        // SAFETY: see `new`.
        unsafe {
            let program = crate::gpu::gl::program(gl, es, VERTEX, FRAGMENT)?;
            gl.use_program(Some(program));
            gl.bind_vertex_array(Some(gl.create_vertex_array()?));
            gl.viewport(0, 0, self.width as i32, self.height as i32);
            gl.disable(glow::DITHER);
            gl.draw_arrays(glow::TRIANGLES, 0, 3);
            gl.finish();
        }
        self.errors()
    }

    pub fn read(&self) -> Result<Vec<u8>, String> {
        let (width, height) = (self.width as i32, self.height as i32);
        let mut pixels = vec![0; self.width * 4 * self.height];
        let into = PixelPackData::Slice(Some(&mut pixels));
        // SAFETY: see `new`; `pixels` has four bytes for each pixel, whose rows are aligned to four as the default wants.
        unsafe { self.gl.read_pixels(0, 0, width, height, glow::RGBA, glow::UNSIGNED_BYTE, into) };
        self.errors()?;
        Ok(pixels)
    }

    /// Vendor, renderer and version.
    pub fn names(&self) -> [String; 3] {
        // SAFETY: see `new`.
        [glow::VENDOR, glow::RENDERER, glow::VERSION].map(|name| unsafe { self.gl.get_parameter_string(name) })
    }

    fn errors(&self) -> Result<(), String> {
        // SAFETY: see `new`.
        match unsafe { self.gl.get_error() } {
            glow::NO_ERROR => Ok(()),
            code => Err(format!("OpenGL's error {code:#06x}")),
        }
    }
}

/// The first byte that differs, in words.
pub fn compare(expected: &[u8], found: &[u8]) -> Result<(), String> {
    let differ = |(a, b): (&u8, &u8)| a != b;
    let count = expected.iter().zip(found).filter(|pair| differ(*pair)).count();
    match expected.iter().zip(found).position(differ) {
        None if expected.len() == found.len() => Ok(()),
        None => Err(format!("{} bytes instead of {}", found.len(), expected.len())),
        Some(first) => Err(format!(
            "{count} of {} bytes differ, the first at x {} y {} channel {}: {} instead of {}",
            expected.len(),
            first % ROW / 4,
            first / ROW,
            first % 4,
            found[first],
            expected[first]
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_found_where_it_is() {
        let pattern = pattern();
        assert_eq!(compare(&pattern, &pattern), Ok(()));
        let mut other = pattern.clone();
        other[2 * ROW + 7 * 4 + 1] ^= 1;
        let words = compare(&pattern, &other).unwrap_err();
        assert!(words.contains("1 of 253080 bytes differ, the first at x 7 y 2 channel 1: 3 instead of 2"), "{words}");
        assert!(compare(&pattern, &pattern[..4]).is_err());
        assert!(compare(&pattern, &negative()).unwrap_err().starts_with("253080 of"));
    }
}
