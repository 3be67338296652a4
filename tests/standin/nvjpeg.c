/* libnvjpeg.so.12 as the scene has it: the encoder's functions, as nvjpeg.h of 12.4 declares them. Pictures are read from
 * memory of the stand-in libcuda alone. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "entry.h"
#include "jpeg.h"
#include "scene.h"

#define EXPORT __attribute__((visibility("default")))

/* nvjpegStatus_t */
enum { OK = 0, NOT_INITIALIZED = 1, INVALID_PARAMETER = 2, JPEG_NOT_SUPPORTED = 4, ARCH_MISMATCH = 7 };

enum { CSS_444 = 0, CSS_420 = 2 };

enum kind { KIND_HANDLE, KIND_STATE, KIND_PARAMS };

/* Something that was handed out. */
struct item {
    enum kind kind;
    struct item *next, *of; /* `of`: its handle */
    void *context;          /* that was current when it was made */
    int quality, optimised, sampling;
    bool encoded;
    struct jpeg_bytes data;
};

struct image {
    uint8_t *channel[4];
    size_t pitch[4];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct item *items;

#define BEGIN() BEGIN_OR(ARCH_MISMATCH)

/* --- the other library --- */

/* Whether these bytes are memory of the current context's device. */
static bool cuda_holds(const void *address, size_t size) {
    bool (*holds)(uint64_t, size_t, void *) = (bool (*)(uint64_t, size_t, void *))cuda_symbol("standin_memory_holds");
    return holds && holds((uintptr_t)address, size, current());
}

static bool is_stream(const void *stream) {
    bool (*lives)(const void *, void *) = (bool (*)(const void *, void *))cuda_symbol("standin_stream_lives");
    return lives && lives(stream, current());
}

/* --- what is handed out --- */

static struct item *item_of(const void *pointer, enum kind kind) {
    struct item *item = items;
    while (item && (item != pointer || item->kind != kind)) item = item->next;
    return item;
}

static struct item *item_new(enum kind kind, struct item *of) {
    struct item *item = calloc(1, sizeof *item);
    if (!item) abort();
    *item = (struct item){.kind = kind, .next = items, .of = of, .context = current(), .quality = 70};
    items = item;
    return item;
}

static void item_free(struct item *item) {
    struct item **at = &items;
    while (*at != item) at = &(*at)->next;
    *at = item->next;
    free(item->data.at);
    free(item);
}

static void __attribute__((destructor)) leaks(void) {
    static const char *const kinds[] = {"nvjpeg-handle", "nvjpeg-state", "nvjpeg-params"};
    for (const struct item *item = items; item; item = item->next)
        scene_log("leak", "kind=%s handle=%p", kinds[item->kind], (const void *)item);
}

static int destroy(const char *function, void *pointer, enum kind kind) {
    struct item *item = item_of(pointer, kind);
    if (!item) return violation(function, INVALID_PARAMETER, "no such handle, or not any more");
    for (struct item *other = items; other; other = other->next)
        if (other->of == item) return violation(function, INVALID_PARAMETER, "what was made of it is still there");
    if (current() != item->context) return violation(function, INVALID_PARAMETER, "its context is not current");
    if (kind == KIND_HANDLE) scene_log("nvjpeg-close", NULL);
    item_free(item);
    return OK;
}

/* --- exports --- */

/* Types: major version, minor, patch level (libraryPropertyType). */
EXPORT int nvjpegGetProperty(int type, int *value) {
    static const int version[] = {12, 4, 0};
    BEGIN();
    REQUIRE(value && type >= 0 && type < 3, INVALID_PARAMETER, "no such property");
    *value = version[type];
    return OK;
}

EXPORT int nvjpegCreateSimple(struct item **handle) {
    BEGIN();
    REQUIRE(handle, INVALID_PARAMETER, "null");
    REQUIRE(current(), NOT_INITIALIZED, "no current context on this thread");
    *handle = item_new(KIND_HANDLE, NULL);
    scene_log("nvjpeg-open", NULL);
    return OK;
}

EXPORT int nvjpegDestroy(void *handle) {
    BEGIN();
    return destroy(__func__, handle, KIND_HANDLE);
}

static int create(const char *function, void *handle, enum kind kind, struct item **made, const void *stream) {
    struct item *of = item_of(handle, KIND_HANDLE);
    if (!of || !made) return violation(function, INVALID_PARAMETER, "no such handle");
    if (!is_stream(stream)) return violation(function, INVALID_PARAMETER, "no such stream");
    if (current() != of->context) return violation(function, INVALID_PARAMETER, "the handle's context is not current");
    *made = item_new(kind, of);
    return OK;
}

EXPORT int nvjpegEncoderStateCreate(void *handle, struct item **state, void *stream) {
    BEGIN();
    return create(__func__, handle, KIND_STATE, state, stream);
}

EXPORT int nvjpegEncoderStateDestroy(void *state) {
    BEGIN();
    return destroy(__func__, state, KIND_STATE);
}

EXPORT int nvjpegEncoderParamsCreate(void *handle, struct item **params, void *stream) {
    BEGIN();
    return create(__func__, handle, KIND_PARAMS, params, stream);
}

EXPORT int nvjpegEncoderParamsDestroy(void *params) {
    BEGIN();
    return destroy(__func__, params, KIND_PARAMS);
}

#define SETTER(function, field, least, most, event)                          \
    EXPORT int function(void *handle, int value, void *stream) {             \
        BEGIN();                                                             \
        struct item *params = item_of(handle, KIND_PARAMS);                  \
        REQUIRE(params, INVALID_PARAMETER, "no such parameters");            \
        REQUIRE(is_stream(stream), INVALID_PARAMETER, "no such stream");     \
        REQUIRE(value >= least && value <= most, INVALID_PARAMETER, #field); \
        params->field = value;                                               \
        scene_log("nvjpeg-" event, "value=%d", value);                       \
        return OK;                                                           \
    }

SETTER(nvjpegEncoderParamsSetQuality, quality, 1, 100, "quality")
SETTER(nvjpegEncoderParamsSetOptimizedHuffman, optimised, 0, 1, "huffman")
SETTER(nvjpegEncoderParamsSetSamplingFactors, sampling, 0, 6, "sampling")

EXPORT int nvjpegEncodeYUV(void *handle, void *state_handle, const void *params_handle, const struct image *source,
                           int sampling, int width, int height, void *stream) {
    BEGIN();
    struct item *of = item_of(handle, KIND_HANDLE), *state = item_of(state_handle, KIND_STATE),
                *params = item_of(params_handle, KIND_PARAMS);
    REQUIRE(of && state && params && source, INVALID_PARAMETER, "no such handle");
    REQUIRE(state->of == of && params->of == of, INVALID_PARAMETER, "state and parameters are of different handles");
    REQUIRE(current() == of->context, INVALID_PARAMETER, "the handle's context is not current");
    REQUIRE(is_stream(stream), INVALID_PARAMETER, "no such stream");
    REQUIRE(width > 0 && height > 0, INVALID_PARAMETER, "size");
    REQUIRE(sampling == CSS_420 && params->sampling == CSS_420, JPEG_NOT_SUPPORTED, "another sampling than 4:2:0");
    struct jpeg_plane planes[3];
    for (unsigned i = 0; i < 3; i++) {
        size_t row = i ? ((size_t)width + 1) / 2 : (size_t)width, rows = i ? ((size_t)height + 1) / 2 : (size_t)height;
        planes[i] = (struct jpeg_plane){.at = source->channel[i], .pitch = source->pitch[i]};
        REQUIRE(planes[i].pitch >= row, INVALID_PARAMETER, "a row longer than its pitch");
        REQUIRE(cuda_holds(planes[i].at, planes[i].pitch * (rows - 1) + row), INVALID_PARAMETER,
                "a plane that is not whole in device memory");
    }
    jpeg_write(planes, (unsigned)width, (unsigned)height, (unsigned)params->quality, &state->data);
    state->encoded = true;
    return OK;
}

/* What does not fit is told by the code alone: a caller may guess the room, and ask for the length where that fails. */
EXPORT int nvjpegEncodeRetrieveBitstream(void *handle, void *state_handle, uint8_t *data, size_t *length, void *stream) {
    BEGIN();
    struct item *of = item_of(handle, KIND_HANDLE), *state = item_of(state_handle, KIND_STATE);
    REQUIRE(of && state && state->of == of && length, INVALID_PARAMETER, "no such handle");
    REQUIRE(current() == of->context, INVALID_PARAMETER, "the handle's context is not current");
    REQUIRE(is_stream(stream), INVALID_PARAMETER, "no such stream");
    REQUIRE(state->encoded, INVALID_PARAMETER, "nothing was encoded");
    bool fits = data && *length >= state->data.length;
    if (data && !fits) return INVALID_PARAMETER;
    *length = state->data.length;
    if (data) memcpy(data, state->data.at, state->data.length);
    return OK;
}
