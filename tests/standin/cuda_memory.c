/* Device memory, which is host memory here, and copies, each checked to lie within what was allocated, and counted. */
#define _GNU_SOURCE
#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "cuda.h"

#define ALIGNMENT 512

typedef uint64_t pointer_t;

enum memory_type { HOST = 1, DEVICE = 2, ARRAY = 3, UNIFIED = 4 };

struct copy_2d {
    size_t src_x, src_y;
    int src_type;
    const void *src_host;
    pointer_t src_device;
    void *src_array;
    size_t src_pitch;
    size_t dst_x, dst_y;
    int dst_type;
    void *dst_host;
    pointer_t dst_device;
    void *dst_array;
    size_t dst_pitch;
    size_t width, height;
};
static_assert(sizeof(struct copy_2d) == 128 && offsetof(struct copy_2d, src_host) == 24 &&
                  offsetof(struct copy_2d, dst_x) == 56 && offsetof(struct copy_2d, dst_pitch) == 104,
              "CUDA_MEMCPY2D");

/* --- allocation --- */

/* Shared, so that another process can open it. NULL where there is none. */
static void *shared_memory(int *file, size_t bytes) {
    *file = memfd_create("device memory", MFD_CLOEXEC);
    void *memory = *file < 0 || ftruncate(*file, (off_t)bytes)
                       ? MAP_FAILED
                       : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, *file, 0);
    if (memory != MAP_FAILED) return memory;
    if (*file >= 0) close(*file);
    return NULL;
}

int memory_new(struct context *context, pointer_t *pointer, size_t bytes) {
    int file;
    if (!pointer || !bytes) return INVALID_VALUE;
    if (bytes > INT64_MAX / 2 || !state_memory(scene_now(), context->board, (int64_t)bytes)) return OUT_OF_MEMORY;
    void *memory = shared_memory(&file, bytes);
    if (!memory) {
        state_memory(scene_now(), context->board, -(int64_t)bytes);
        return OUT_OF_MEMORY;
    }
    /* As on a GPU, it holds anything but zeros. */
    memset(memory, 0xcd, bytes);
    struct object *object = object_new(OBJECT_MEMORY, context);
    object->size = bytes;
    object->file = file;
    object->base = memory;
    *pointer = (uintptr_t)memory;
    return CUDA_SUCCESS;
}

static int release(const char *function, pointer_t pointer, enum object_kind kind) {
    struct object *object = object_around(pointer, 1);
    if (!object || object->kind != kind || (uintptr_t)object->base != pointer)
        return violation(function, INVALID_VALUE, "not the beginning of an allocation");
    object_free(object);
    return CUDA_SUCCESS;
}

API int cuMemAlloc_v2(pointer_t *pointer, size_t bytes) {
    BEGIN_IN_CONTEXT();
    return memory_new(context, pointer, bytes);
}

API int cuMemAllocAsync(pointer_t *pointer, size_t bytes, void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    return memory_new(context, pointer, bytes);
}

API int cuMemAllocPitch_v2(pointer_t *pointer, size_t *pitch, size_t width, size_t height, unsigned element) {
    BEGIN_IN_CONTEXT();
    if (!pitch || (element != 4 && element != 8 && element != 16) || width > UINT32_MAX || height > UINT32_MAX)
        return INVALID_VALUE;
    *pitch = (width + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return memory_new(context, pointer, *pitch * height);
}

API int cuMemFree_v2(pointer_t pointer) {
    BEGIN();
    return pointer ? release(__func__, pointer, OBJECT_MEMORY) : CUDA_SUCCESS;
}

API int cuMemFreeAsync(pointer_t pointer, void *stream) {
    BEGIN();
    WANT_STREAM(stream);
    return pointer ? release(__func__, pointer, OBJECT_MEMORY) : CUDA_SUCCESS;
}

static int allocate_host(struct context *context, void **pointer, size_t bytes) {
    if (!pointer || !bytes) return INVALID_VALUE;
    if (posix_memalign(pointer, ALIGNMENT, bytes)) return OUT_OF_MEMORY;
    struct object *object = object_new(OBJECT_HOST_MEMORY, context);
    object->size = bytes;
    object->base = *pointer;
    return CUDA_SUCCESS;
}

API int cuMemAllocHost_v2(void **pointer, size_t bytes) {
    BEGIN_IN_CONTEXT();
    return allocate_host(context, pointer, bytes);
}

API int cuMemHostAlloc(void **pointer, size_t bytes, unsigned flags) {
    BEGIN_IN_CONTEXT();
    (void)flags;
    return allocate_host(context, pointer, bytes);
}

API int cuMemFreeHost(void *pointer) {
    BEGIN();
    return release(__func__, (uintptr_t)pointer, OBJECT_HOST_MEMORY);
}

API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total) {
    BEGIN_IN_CONTEXT();
    if (!free_bytes || !total) return INVALID_VALUE;
    *total = scene_now()->board[context->board].mem_total;
    *free_bytes = *total - state_used(scene_now(), context->board);
    return CUDA_SUCCESS;
}

API int cuMemGetAddressRange_v2(pointer_t *base, size_t *size, pointer_t pointer) {
    BEGIN_IN_CONTEXT();
    const struct object *object = device_memory(pointer, 1, NULL);
    if (!object) return NOT_FOUND;
    if (base) *base = (uintptr_t)object->base;
    if (size) *size = object->size;
    return CUDA_SUCCESS;
}

/* Attributes: 1 context, 2 memory type, 3 device pointer, 4 host pointer, 9 device ordinal. */
API int cuPointerGetAttribute(void *value, int attribute, pointer_t pointer) {
    BEGIN();
    const struct object *object = object_around(pointer, 1);
    if (!value || !object) return INVALID_VALUE;
    bool device = object->kind != OBJECT_HOST_MEMORY;
    switch (attribute) {
    case 1: *(struct context **)value = object->context; return CUDA_SUCCESS;
    case 2: *(unsigned *)value = device ? DEVICE : HOST; return CUDA_SUCCESS;
    case 3: *(pointer_t *)value = pointer; return CUDA_SUCCESS;
    case 4:
        if (device) return INVALID_VALUE;
        *(pointer_t *)value = pointer;
        return CUDA_SUCCESS;
    case 9: *(int *)value = object->context->device; return CUDA_SUCCESS;
    default: return NOT_SUPPORTED;
    }
}

/* --- setting --- */

static bool is_device(const char *function, pointer_t pointer, size_t bytes) {
    if (!bytes || object_around(pointer, bytes)) return true;
    violation(function, INVALID_VALUE, "beyond device memory");
    return false;
}

static int set(const char *function, pointer_t pointer, const void *value, size_t width, size_t count) {
    if (count > SIZE_MAX / width || !is_device(function, pointer, count * width)) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) memcpy((char *)(uintptr_t)pointer + i * width, value, width);
    return CUDA_SUCCESS;
}

#define SET(function, type)                                         \
    API int function(pointer_t pointer, type value, size_t count) { \
        BEGIN_IN_CONTEXT();                                         \
        return set(__func__, pointer, &value, sizeof value, count); \
    }
#define SET_ASYNC(function, type)                                                 \
    API int function(pointer_t pointer, type value, size_t count, void *stream) { \
        BEGIN_IN_CONTEXT();                                                       \
        WANT_STREAM(stream);                                                      \
        return set(__func__, pointer, &value, sizeof value, count);               \
    }

SET(cuMemsetD8_v2, uint8_t)
SET(cuMemsetD16_v2, uint16_t)
SET(cuMemsetD32_v2, uint32_t)
SET_ASYNC(cuMemsetD8Async, uint8_t)
SET_ASYNC(cuMemsetD16Async, uint16_t)
SET_ASYNC(cuMemsetD32Async, uint32_t)

API int cuMemsetD2D8_v2(pointer_t pointer, size_t pitch, uint8_t value, size_t width, size_t height) {
    BEGIN_IN_CONTEXT();
    if (width > pitch || (height && !is_device(__func__, pointer, pitch * (height - 1) + width))) return INVALID_VALUE;
    for (size_t y = 0; y < height; y++) memset((char *)(uintptr_t)pointer + y * pitch, value, width);
    return CUDA_SUCCESS;
}

/* --- counting --- */

/* By whether each side is in device memory, an array's among it. What stays on the host is no copy of the GPU's. */
static struct {
    uint64_t calls, bytes;
} copies[2][2];

static void count_copy(bool from_device, bool to_device, size_t bytes) {
    __atomic_add_fetch(&copies[from_device][to_device].calls, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&copies[from_device][to_device].bytes, bytes, __ATOMIC_RELAXED);
}

void copies_tell(void) {
    static uint64_t told = UINT64_MAX;
    uint64_t calls = copies[0][1].calls + copies[1][0].calls + copies[1][1].calls;
    if (calls == told) return;
    told = calls;
#define FIELDS(from, to) (unsigned long long)copies[from][to].calls, (unsigned long long)copies[from][to].bytes
    scene_log("copies", "htod=%llu htod-bytes=%llu dtoh=%llu dtoh-bytes=%llu dtod=%llu dtod-bytes=%llu", FIELDS(0, 1),
              FIELDS(1, 0), FIELDS(1, 1));
}

/* Whatever the caller says that it is: pinned memory has device addresses as well. */
static bool lies_in_device(uintptr_t address) {
    return device_memory(address, 1, NULL) != NULL;
}

/* --- copying --- */

/* `to_device` and `from_device` say which side is checked. */
static int move(const char *function, uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes) {
    if (!bytes) return CUDA_SUCCESS;
    if (!to || !from) return INVALID_VALUE;
    if ((to_device && !is_device(function, to, bytes)) || (from_device && !is_device(function, from, bytes)))
        return INVALID_VALUE;
    memmove((void *)to, (const void *)from, bytes);
    return CUDA_SUCCESS;
}

static int copy(const char *function, uintptr_t to, bool to_device, uintptr_t from, bool from_device, size_t bytes) {
    int code = move(function, to, to_device, from, from_device, bytes);
    if (!code && bytes) count_copy(lies_in_device(from), lies_in_device(to), bytes);
    return code;
}

#define COPY(function, to_type, to_device, from_type, from_device)                            \
    API int function(to_type to, from_type from, size_t bytes) {                              \
        BEGIN_IN_CONTEXT();                                                                   \
        return copy(__func__, (uintptr_t)to, to_device, (uintptr_t)from, from_device, bytes); \
    }
#define COPY_ASYNC(function, to_type, to_device, from_type, from_device)                      \
    API int function(to_type to, from_type from, size_t bytes, void *stream) {                \
        BEGIN_IN_CONTEXT();                                                                   \
        WANT_STREAM(stream);                                                                  \
        return copy(__func__, (uintptr_t)to, to_device, (uintptr_t)from, from_device, bytes); \
    }

COPY(cuMemcpyHtoD_v2, pointer_t, true, const void *, false)
COPY(cuMemcpyDtoH_v2, void *, false, pointer_t, true)
COPY(cuMemcpyDtoD_v2, pointer_t, true, pointer_t, true)
COPY(cuMemcpy, pointer_t, false, pointer_t, false)
COPY_ASYNC(cuMemcpyHtoDAsync_v2, pointer_t, true, const void *, false)
COPY_ASYNC(cuMemcpyDtoHAsync_v2, void *, false, pointer_t, true)
COPY_ASYNC(cuMemcpyDtoDAsync_v2, pointer_t, true, pointer_t, true)
COPY_ASYNC(cuMemcpyAsync, pointer_t, false, pointer_t, false)

static uintptr_t plane(int type, const void *host, pointer_t device) {
    return type == HOST ? (uintptr_t)host : type == DEVICE || type == UNIFIED ? (uintptr_t)device : 0;
}

static int copy_2d(const char *function, const struct copy_2d *c) {
    if (!c) return INVALID_VALUE;
    if (!c->width || !c->height) return CUDA_SUCCESS;
    uintptr_t from = plane(c->src_type, c->src_host, c->src_device),
              to = plane(c->dst_type, c->dst_host, c->dst_device);
    /* A pitch of 0 is the width's. */
    size_t from_pitch = c->src_pitch ? c->src_pitch : c->src_x + c->width,
           to_pitch = c->dst_pitch ? c->dst_pitch : c->dst_x + c->width;
    /* An array is checked by its own bounds. */
    if (c->src_type == ARRAY)
        from = (uintptr_t)array_pixels(function, c->src_array, c->src_x, c->src_y, c->width, c->height, &from_pitch);
    if (c->dst_type == ARRAY)
        to = (uintptr_t)array_pixels(function, c->dst_array, c->dst_x, c->dst_y, c->width, c->height, &to_pitch);
    if (!from || !to || c->src_x + c->width > from_pitch || c->dst_x + c->width > to_pitch)
        return violation(function, INVALID_VALUE, "no memory, or a row longer than its pitch");
    from += c->src_y * from_pitch + c->src_x;
    to += c->dst_y * to_pitch + c->dst_x;
    for (size_t y = 0; y < c->height; y++) {
        int code = move(function, to + y * to_pitch, c->dst_type == DEVICE, from + y * from_pitch,
                        c->src_type == DEVICE, c->width);
        if (code) return code;
    }
    count_copy(c->src_type == ARRAY || lies_in_device(from), c->dst_type == ARRAY || lies_in_device(to),
               c->width * c->height);
    return CUDA_SUCCESS;
}

API int cuMemcpy2D_v2(const struct copy_2d *what) {
    BEGIN_IN_CONTEXT();
    return copy_2d(__func__, what);
}

API int cuMemcpy2DUnaligned_v2(const struct copy_2d *what) {
    BEGIN_IN_CONTEXT();
    return copy_2d(__func__, what);
}

API int cuMemcpy2DAsync_v2(const struct copy_2d *what, void *stream) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    return copy_2d(__func__, what);
}
