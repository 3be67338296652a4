/* What the parts of the stand-in libcuda share. Device memory is host memory, streams are done when they are asked.
 *
 * cuda.c         devices, contexts, errors, symbols
 * cuda_memory.c  memory and copies, which are counted
 * cuda_ipc.c     memory that another process opens
 * cuda_stream.c  streams and events
 * cuda_graphics.c  OpenGL textures: register, map, their arrays; OpenGL's devices
 * cuda_kernel.c  modules, functions and launches; cuda_convert.cc and cuda_product.cc have the kernels themselves
 */
#ifndef STANDIN_CUDA_H
#define STANDIN_CUDA_H

#include <stddef.h>

#include "state.h"

enum {
    CUDA_SUCCESS = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NOT_INITIALIZED = 3,
    NO_DEVICE = 100,
    INVALID_DEVICE = 101,
    INVALID_CONTEXT = 201,
    MAPPING_FAILED = 205,
    ALREADY_MAPPED = 208,
    NO_BINARY_FOR_GPU = 209,
    NOT_MAPPED = 211,
    INVALID_PTX = 218,
    INVALID_GRAPHICS_CONTEXT = 219,
    UNSUPPORTED_PTX_VERSION = 222,
    OPERATING_SYSTEM = 304,
    INVALID_HANDLE = 400,
    NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700,
    PRIMARY_CONTEXT_ACTIVE = 708,
    CONTEXT_IS_DESTROYED = 709,
    MISALIGNED_ADDRESS = 716,
    NOT_SUPPORTED = 801
};

#define API __attribute__((visibility("default")))

struct context {
    unsigned board;
    int device; /* as CUDA_VISIBLE_DEVICES numbers it */
    unsigned flags;
    bool primary, alive;
    unsigned retained; /* of a primary context */
};

enum object_kind {
    OBJECT_MEMORY,
    OBJECT_HOST_MEMORY,
    OBJECT_STREAM,
    OBJECT_EVENT,
    OBJECT_GRAPHICS,
    OBJECT_MODULE,
    OBJECT_IMPORTED
};

struct object {
    enum object_kind kind;
    struct object *next;
    struct context *context; /* NULL: of no context */
    char *base;              /* of memory */
    size_t size;
    int file;                   /* of device memory, which is that of a file without a name */
    uint64_t origin, importers; /* of imported memory: the file's number, and how often it is open */
    uint64_t recorded_ns;       /* of an event */
    const struct kernel *kernels; /* of a module */
    /* of a registered texture; its handle is its array's as well */
    void *gl;
    unsigned image, flags;
    int width, height; /* pixels of four bytes */
    bool mapped;
    char *pixels;
};

/* Begins an entry point; not SUCCESS: the answer. */
int begin_call(const char *function);
int begin_in_context(const char *function, struct context **context);

#define BEGIN()                             \
    do {                                    \
        int refusal = begin_call(__func__); \
        if (refusal) return refusal;        \
    } while (0)

/* Leaves `context`, the calling thread's. */
#define BEGIN_IN_CONTEXT()                                  \
    struct context *context;                                \
    do {                                                    \
        int refusal = begin_in_context(__func__, &context); \
        if (refusal) return refusal;                        \
    } while (0);                                            \
    (void)context

struct context *current_context(void);

/* The objects handed out; an object's address is its handle. */
struct object *object_new(enum object_kind kind, struct context *context);
/* The object if the handle is one of that kind, else NULL and a line in the log. */
struct object *object_of(const char *function, enum object_kind kind, const void *handle);
void object_free(struct object *object);
/* Device memory of a context: its address; not SUCCESS: why there is none. */
int memory_new(struct context *context, uint64_t *pointer, size_t bytes);
/* The memory that holds these bytes whole, else NULL. */
struct object *object_around(uint64_t address, size_t size);
/* The device memory that holds these bytes whole, if it is the context's (NULL: anyone's), else NULL. */
struct object *device_memory(uint64_t address, size_t size, const struct context *context);
/* What a context has opened of another process's memory: the file of that number, else NULL. */
struct object *imported_memory(uint64_t origin, const struct context *context);
/* The pixels of a mapped array if the bytes `x` to `x + width` of its rows `y` to `y + height` are in it, else NULL. */
char *array_pixels(const char *function, const void *array, size_t x, size_t y, size_t width, size_t height,
                   size_t *pitch);
/* Every object of a context (NULL: of all, and what has none) is told as a leak and freed. */
void objects_leak(const struct context *context);

/* Whether this is a stream that lives; if not, that is a line in the log. */
bool is_stream(const char *function, void *stream);

#define WANT_STREAM(stream)                                      \
    do {                                                         \
        if (!is_stream(__func__, stream)) return INVALID_HANDLE; \
    } while (0)

/* Devices that this process sees. */
unsigned visible_devices(void);
/* The copies of this process, as a line in the log. */
void copies_tell(void);

int violation(const char *function, int code, const char *what);

#endif
