/* OpenGL textures in CUDA: the texture of the calling thread's current EGL context is read when it is mapped and written
 * back when it is unmapped, so that what a program draws is what it finds, byte for byte. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

enum {
    GL_TEXTURE_2D = 0x0DE1,
    GL_TEXTURE_BINDING_2D = 0x8069,
    GL_RGBA = 0x1908,
    GL_RGBA8 = 0x8058,
    GL_UNSIGNED_BYTE = 0x1401,
    GL_TEXTURE_WIDTH = 0x1000,
    GL_TEXTURE_HEIGHT = 0x1001,
    GL_TEXTURE_INTERNAL_FORMAT = 0x1003,
    GL_READ_FRAMEBUFFER = 0x8CA8,
    GL_READ_FRAMEBUFFER_BINDING = 0x8CAA,
    GL_COLOR_ATTACHMENT0 = 0x8CE0,
    GL_PIXEL_PACK_BUFFER = 0x88EB,
    GL_PIXEL_PACK_BUFFER_BINDING = 0x88ED,
    GL_PIXEL_UNPACK_BUFFER = 0x88EC,
    GL_PIXEL_UNPACK_BUFFER_BINDING = 0x88EF,
    READ_ONLY = 1 /* CU_GRAPHICS_REGISTER_FLAGS_READ_ONLY */
};

static void *(*current_gl)(void);
static void *(*find)(const char *);

/* The thread's OpenGL context, by the EGL that this process has loaded itself; NULL without one. */
static void *gl_context(void) {
    if (!find) {
        void *egl = dlopen("libEGL.so.1", RTLD_LAZY | RTLD_NOLOAD);
        if (!egl) return NULL;
        current_gl = (void *(*)(void))dlsym(egl, "eglGetCurrentContext");
        find = (void *(*)(const char *))dlsym(egl, "eglGetProcAddress");
    }
    return current_gl && find ? current_gl() : NULL;
}

#define GL(name, ...) ((void (*)(__VA_ARGS__))find(name))

static int get(unsigned what) {
    int value = 0;
    GL("glGetIntegerv", unsigned, int *)(what, &value);
    return value;
}

static int texture_level(unsigned what) {
    int value = 0;
    GL("glGetTexLevelParameteriv", unsigned, int, unsigned, int *)(GL_TEXTURE_2D, 0, what, &value);
    return value;
}

static void bind_texture(unsigned image) {
    GL("glBindTexture", unsigned, unsigned)(GL_TEXTURE_2D, image);
}

static void read_texture(struct object *object) {
    int frame = get(GL_READ_FRAMEBUFFER_BINDING), buffer = get(GL_PIXEL_PACK_BUFFER_BINDING);
    unsigned own;
    GL("glGenFramebuffers", int, unsigned *)(1, &own);
    GL("glBindFramebuffer", unsigned, unsigned)(GL_READ_FRAMEBUFFER, own);
    GL("glBindBuffer", unsigned, unsigned)(GL_PIXEL_PACK_BUFFER, 0);
    GL("glFramebufferTexture2D", unsigned, unsigned, unsigned, unsigned, int)
    (GL_READ_FRAMEBUFFER, GL_COLOR_ATTACHMENT0, GL_TEXTURE_2D, object->image, 0);
    /* Rows of four-byte pixels are aligned whatever the alignment is. */
    GL("glReadPixels", int, int, int, int, unsigned, unsigned, void *)
    (0, 0, object->width, object->height, GL_RGBA, GL_UNSIGNED_BYTE, object->pixels);
    GL("glBindFramebuffer", unsigned, unsigned)(GL_READ_FRAMEBUFFER, (unsigned)frame);
    GL("glBindBuffer", unsigned, unsigned)(GL_PIXEL_PACK_BUFFER, (unsigned)buffer);
    GL("glDeleteFramebuffers", int, unsigned *)(1, &own);
}

static void write_texture(const struct object *object) {
    int bound = get(GL_TEXTURE_BINDING_2D), buffer = get(GL_PIXEL_UNPACK_BUFFER_BINDING);
    GL("glBindBuffer", unsigned, unsigned)(GL_PIXEL_UNPACK_BUFFER, 0);
    bind_texture(object->image);
    GL("glTexSubImage2D", unsigned, int, int, int, int, int, unsigned, unsigned, const void *)
    (GL_TEXTURE_2D, 0, 0, 0, object->width, object->height, GL_RGBA, GL_UNSIGNED_BYTE, object->pixels);
    bind_texture((unsigned)bound);
    GL("glBindBuffer", unsigned, unsigned)(GL_PIXEL_UNPACK_BUFFER, (unsigned)buffer);
}

API int cuGraphicsGLRegisterImage(struct object **resource, unsigned image, unsigned target, unsigned flags) {
    BEGIN_IN_CONTEXT();
    void *gl = gl_context();
    if (!gl) return violation(__func__, INVALID_GRAPHICS_CONTEXT, "no current OpenGL context on this thread");
    if (!resource || target != GL_TEXTURE_2D) return INVALID_VALUE;
    if (!((unsigned char (*)(unsigned))find("glIsTexture"))(image))
        return violation(__func__, INVALID_VALUE, "not a texture of the current OpenGL context");
    int bound = get(GL_TEXTURE_BINDING_2D);
    bind_texture(image);
    int width = texture_level(GL_TEXTURE_WIDTH), height = texture_level(GL_TEXTURE_HEIGHT),
        format = texture_level(GL_TEXTURE_INTERNAL_FORMAT);
    bind_texture((unsigned)bound);
    if (width <= 0 || height <= 0 || format != GL_RGBA8)
        return violation(__func__, INVALID_VALUE, "not a texture of RGBA8 with an image");
    struct object *object = object_new(OBJECT_GRAPHICS, context);
    object->gl = gl;
    object->image = image;
    object->flags = flags;
    object->width = width;
    object->height = height;
    *resource = object;
    return CUDA_SUCCESS;
}

/* The registered texture, if the OpenGL context that it belongs to is current. */
static int resource_of(const char *function, struct object *handle, struct object **object) {
    *object = object_of(function, OBJECT_GRAPHICS, handle);
    if (!*object) return INVALID_HANDLE;
    if (gl_context() != (*object)->gl)
        return violation(function, INVALID_GRAPHICS_CONTEXT, "the texture's OpenGL context is not current here");
    return CUDA_SUCCESS;
}

API int cuGraphicsUnregisterResource(struct object *resource) {
    BEGIN_IN_CONTEXT();
    struct object *object = object_of(__func__, OBJECT_GRAPHICS, resource);
    if (!object) return INVALID_HANDLE;
    if (object->mapped) return violation(__func__, ALREADY_MAPPED, "unregistered while mapped");
    object_free(object);
    return CUDA_SUCCESS;
}

API int cuGraphicsMapResources(unsigned count, struct object **resources, void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    for (unsigned i = 0; i < count; i++) {
        struct object *object;
        int code = resource_of(__func__, resources[i], &object);
        if (code) return code;
        if (object->mapped) return violation(__func__, ALREADY_MAPPED, "mapped twice");
        object->pixels = calloc((size_t)object->width * 4, (size_t)object->height);
        if (!object->pixels) return OUT_OF_MEMORY;
        object->mapped = true;
        read_texture(object);
    }
    return CUDA_SUCCESS;
}

API int cuGraphicsUnmapResources(unsigned count, struct object **resources, void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    for (unsigned i = 0; i < count; i++) {
        struct object *object;
        int code = resource_of(__func__, resources[i], &object);
        if (code) return code;
        if (!object->mapped) return violation(__func__, NOT_MAPPED, "not mapped");
        if (!(object->flags & READ_ONLY)) write_texture(object);
        free(object->pixels);
        object->pixels = NULL;
        object->mapped = false;
    }
    return CUDA_SUCCESS;
}

API int cuGraphicsSubResourceGetMappedArray(struct object **array, struct object *resource, unsigned index,
                                            unsigned level) {
    BEGIN_IN_CONTEXT();
    struct object *object = object_of(__func__, OBJECT_GRAPHICS, resource);
    if (!object) return INVALID_HANDLE;
    if (!array || index || level) return INVALID_VALUE;
    if (!object->mapped) return violation(__func__, NOT_MAPPED, "not mapped");
    *array = object;
    return CUDA_SUCCESS;
}

char *array_pixels(const char *function, const void *array, size_t x, size_t y, size_t width, size_t height,
                   size_t *pitch) {
    struct object *object = object_of(function, OBJECT_GRAPHICS, array);
    if (!object || !object->mapped) return NULL;
    *pitch = (size_t)object->width * 4;
    bool inside = x + width <= *pitch && y + height <= (size_t)object->height;
    return inside ? object->pixels : NULL;
}

/* Any of the devices may be OpenGL's here. `list`: 1 all, 2 this frame's, 3 the next one's. */
API int cuGLGetDevices_v2(unsigned *count, int *list, unsigned room, unsigned which) {
    BEGIN();
    if (!gl_context()) return violation(__func__, INVALID_GRAPHICS_CONTEXT, "no current OpenGL context on this thread");
    if (!count || (room && !list) || which < 1 || which > 3) return INVALID_VALUE;
    *count = visible_devices();
    for (unsigned i = 0; i < *count && i < room; i++) list[i] = (int)i;
    return CUDA_SUCCESS;
}
