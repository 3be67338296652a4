//! OpenGL programs, for whoever draws.

use glow::HasContext;

/// Compiles and links a program, in OpenGL ES 3.0's (`es`) or OpenGL 3.3's language; the error is the compiler's words.
///
/// # Safety
/// `gl`'s context is current on this thread.
pub unsafe fn program(gl: &glow::Context, es: bool, vertex: &str, fragment: &str) -> Result<glow::Program, String> {
    let header = match es {
        true => "#version 300 es\nprecision highp float;\nprecision highp int;\n",
        false => "#version 330 core\n",
    };
    // SAFETY: as the caller promises; the objects are this context's.
    unsafe {
        let program = gl.create_program()?;
        for (stage, text) in [(glow::VERTEX_SHADER, vertex), (glow::FRAGMENT_SHADER, fragment)] {
            let shader = gl.create_shader(stage)?;
            gl.shader_source(shader, &format!("{header}{text}"));
            gl.compile_shader(shader);
            if !gl.get_shader_compile_status(shader) {
                return Err(gl.get_shader_info_log(shader));
            }
            gl.attach_shader(program, shader);
            gl.delete_shader(shader);
        }
        gl.link_program(program);
        if !gl.get_program_link_status(program) {
            return Err(gl.get_program_info_log(program));
        }
        Ok(program)
    }
}
