/* Input and bitstream buffers, registered and mapped resources. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nvenc.h"

size_t picture_bytes(uint32_t format, unsigned width, unsigned height, unsigned pitch) {
    size_t rows = height, row = pitch;
    switch (format) {
    case FORMAT_NV12: return width <= pitch ? row * (rows + rows / 2 - 1) + width : 0;
    case FORMAT_YV12:
    case FORMAT_IYUV: return width <= pitch ? row * rows + row / 2 * rows : 0;
    case FORMAT_ARGB:
    case FORMAT_ABGR: return width * 4 <= pitch ? row * (rows - 1) + width * 4 : 0;
    default: return 0;
    }
}

int nvEncCreateInputBuffer(void *handle, struct create_input_buffer *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, CREATE_INPUT_BUFFER_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    unsigned width = parameters->width, height = parameters->height;
    bool rgb = parameters->format == FORMAT_ARGB || parameters->format == FORMAT_ABGR;
    /* Always longer than a row, so that a program which takes the width for the pitch is seen. */
    unsigned pitch = ((rgb ? width * 4 : width) / 256 + 1) * 256;
    size_t size = picture_bytes(parameters->format, width, height, pitch);
    REQUIRE(width && height && width <= 8192 && height <= 8192 && width % 2 == 0 && height % 2 == 0, INVALID_PARAM,
            "size");
    REQUIRE(size, INVALID_PARAM, "format");
    struct item *item = item_new(e, ITEM_INPUT);
    item->width = width;
    item->height = height;
    item->format = parameters->format;
    item->pitch = pitch;
    item->pixels = malloc(size + pitch);
    if (!item->pixels) abort();
    memset(item->pixels, 0xcd, size + pitch);
    parameters->input = item->handle;
    return OK;
}

int nvEncDestroyInputBuffer(void *handle, void *input) {
    ENTER(handle);
    struct item *item = item_of(e, input, ITEM_INPUT);
    REQUIRE(item, INVALID_PARAM, "no such input buffer");
    REQUIRE(!item->locked, INVALID_CALL, "destroyed while locked");
    item_free(e, item);
    return OK;
}

static void wait_until(uint64_t ns) {
    struct timespec until = {.tv_sec = (time_t)(ns / 1000000000u), .tv_nsec = (long)(ns % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
}

int nvEncLockInputBuffer(void *handle, struct lock_input_buffer *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, LOCK_INPUT_BUFFER_VERSION);
    struct item *item = item_of(e, parameters->input, ITEM_INPUT);
    REQUIRE(item, INVALID_PARAM, "no such input buffer");
    REQUIRE(!item->locked, INVALID_CALL, "locked twice");
    if (item->ready_ns > clock_ns()) {
        /* The encoder still reads it. */
        if (parameters->bits & 1) return LOCK_BUSY;
        uint64_t ready_ns = item->ready_ns;
        guard_end(&guard);
        wait_until(ready_ns);
        guard = guard_begin();
        e = encoder_of(__func__, handle, &entry_code);
        item = e ? item_of(e, parameters->input, ITEM_INPUT) : NULL;
        REQUIRE(item && !item->locked, INVALID_CALL, "destroyed or locked while another waits for it");
    }
    item->locked = true;
    parameters->pointer = item->pixels;
    parameters->pitch = item->pitch;
    return OK;
}

int nvEncUnlockInputBuffer(void *handle, void *input) {
    ENTER(handle);
    struct item *item = item_of(e, input, ITEM_INPUT);
    REQUIRE(item, INVALID_PARAM, "no such input buffer");
    REQUIRE(item->locked, INVALID_CALL, "not locked");
    item->locked = false;
    return OK;
}

int nvEncCreateBitstreamBuffer(void *handle, struct create_bitstream_buffer *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, CREATE_BITSTREAM_BUFFER_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    struct item *item = item_new(e, ITEM_BITSTREAM);
    parameters->bitstream = item->handle;
    return OK;
}

int nvEncDestroyBitstreamBuffer(void *handle, void *bitstream) {
    ENTER(handle);
    struct item *item = item_of(e, bitstream, ITEM_BITSTREAM);
    REQUIRE(item, INVALID_PARAM, "no such bitstream buffer");
    REQUIRE(!item->locked, INVALID_CALL, "destroyed while locked");
    item_free(e, item);
    return OK;
}

int nvEncRegisterResource(void *handle, struct register_resource *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, REGISTER_RESOURCE_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    REQUIRE(parameters->type == RESOURCE_CUDA_POINTER, UNSUPPORTED_PARAM,
            "the stand-in takes CUDA device pointers only");
    REQUIRE(parameters->usage == 0, UNSUPPORTED_PARAM, "the stand-in takes input images only");
    REQUIRE(parameters->width && parameters->height, INVALID_PARAM, "size");
    size_t size = picture_bytes(parameters->format, parameters->width, parameters->height, parameters->pitch);
    REQUIRE(size, INVALID_PARAM, "format, or a pitch shorter than a row");
    REQUIRE(cuda_holds(e->context, parameters->resource, size), REGISTER_FAILED,
            "not device memory of the encoder's context, or less than the picture takes");
    struct item *item = item_new(e, ITEM_REGISTERED);
    item->width = parameters->width;
    item->height = parameters->height;
    item->pitch = parameters->pitch;
    item->format = parameters->format;
    item->pixels = parameters->resource;
    parameters->registered = item->handle;
    return OK;
}

int nvEncUnregisterResource(void *handle, void *registered) {
    ENTER(handle);
    struct item *item = item_of(e, registered, ITEM_REGISTERED);
    REQUIRE(item, NOT_REGISTERED, "no such resource");
    REQUIRE(!item->maps, INVALID_CALL, "unregistered while mapped");
    item_free(e, item);
    return OK;
}

int nvEncMapInputResource(void *handle, struct map_input_resource *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, MAP_INPUT_RESOURCE_VERSION);
    struct item *resource = item_of(e, parameters->registered, ITEM_REGISTERED);
    REQUIRE(resource, NOT_REGISTERED, "no such resource");
    REQUIRE(!resource->maps, INVALID_CALL, "mapped twice");
    struct item *item = item_new(e, ITEM_MAPPED);
    item->of = resource;
    item->width = resource->width;
    item->height = resource->height;
    item->pitch = resource->pitch;
    item->format = resource->format;
    item->pixels = resource->pixels;
    resource->maps++;
    parameters->mapped = item->handle;
    parameters->format = item->format;
    return OK;
}

int nvEncUnmapInputResource(void *handle, void *mapped) {
    ENTER(handle);
    struct item *item = item_of(e, mapped, ITEM_MAPPED);
    REQUIRE(item, NOT_MAPPED, "no such mapped resource");
    /* The driver lets it pass and encodes whatever is there by then. */
    if (item->pending && item->ready_ns > clock_ns()) violation(e, __func__, OK, "unmapped while it is being encoded");
    item->of->maps--;
    item_free(e, item);
    return OK;
}
