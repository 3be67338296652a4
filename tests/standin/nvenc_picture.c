/* Pictures in, access units out. */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>
#include <time.h>

#include "nvenc.h"

/* --- pixels --- */

struct planes {
    uint8_t *y, *cb, *cr;
    unsigned stride, rows; /* of Y; the others have half of each */
};

static struct planes planes_of(const struct encoder *e) {
    unsigned stride = h264_stride(&e->h264), rows = h264_rows(&e->h264);
    uint8_t *cb = e->planes + (size_t)stride * rows;
    return (struct planes){
        .y = e->planes, .cb = cb, .cr = cb + (size_t)stride / 2 * (rows / 2), .stride = stride, .rows = rows};
}

/* BT.601, limited range, 8-bit fixed point: what NVENC makes of RGB. Chroma is that of the mean of four pixels. */
static uint8_t luma(unsigned r, unsigned g, unsigned b) {
    return (uint8_t)(((66 * r + 129 * g + 25 * b + 128) >> 8) + 16);
}

static void from_rgb(const struct planes *to, const struct item *in, unsigned width, unsigned height, bool red_first) {
    unsigned r = red_first ? 0 : 2, b = red_first ? 2 : 0;
    for (unsigned y = 0; y < height; y++) {
        const uint8_t *row = in->pixels + (size_t)y * in->pitch;
        for (unsigned x = 0; x < width; x++)
            to->y[(size_t)y * to->stride + x] = luma(row[4 * x + r], row[4 * x + 1], row[4 * x + b]);
    }
    for (unsigned y = 0; y < height; y += 2) {
        const uint8_t *row = in->pixels + (size_t)y * in->pitch, *next = row + in->pitch;
        for (unsigned x = 0; x < width; x += 2) {
            int mean[3];
            for (unsigned c = 0; c < 3; c++)
                mean[c] = (row[4 * x + c] + row[4 * x + 4 + c] + next[4 * x + c] + next[4 * x + 4 + c] + 2) >> 2;
            size_t at = (size_t)(y / 2) * (to->stride / 2) + x / 2;
            to->cb[at] = (uint8_t)(((-38 * mean[r] - 74 * mean[1] + 112 * mean[b] + 128) >> 8) + 128);
            to->cr[at] = (uint8_t)(((112 * mean[r] - 94 * mean[1] - 18 * mean[b] + 128) >> 8) + 128);
        }
    }
}

static void copy_plane(uint8_t *to, unsigned stride, const uint8_t *from, unsigned pitch, unsigned width,
                       unsigned height) {
    for (unsigned y = 0; y < height; y++) memcpy(to + (size_t)y * stride, from + (size_t)y * pitch, width);
}

static void from_yuv(const struct planes *to, const struct item *in, unsigned width, unsigned height) {
    const uint8_t *chroma = in->pixels + (size_t)in->pitch * in->height;
    copy_plane(to->y, to->stride, in->pixels, in->pitch, width, height);
    if (in->format == FORMAT_NV12) {
        for (unsigned y = 0; y < height / 2; y++)
            for (unsigned x = 0; x < width / 2; x++) {
                size_t at = (size_t)y * (to->stride / 2) + x;
                to->cb[at] = chroma[(size_t)y * in->pitch + 2 * x];
                to->cr[at] = chroma[(size_t)y * in->pitch + 2 * x + 1];
            }
        return;
    }
    const uint8_t *second = chroma + (size_t)(in->pitch / 2) * (in->height / 2);
    bool cb_first = in->format == FORMAT_IYUV;
    copy_plane(cb_first ? to->cb : to->cr, to->stride / 2, chroma, in->pitch / 2, width / 2, height / 2);
    copy_plane(cb_first ? to->cr : to->cb, to->stride / 2, second, in->pitch / 2, width / 2, height / 2);
}

/* What is beyond the picture repeats its edge. */
static void extend(uint8_t *plane, unsigned stride, unsigned rows, unsigned width, unsigned height) {
    for (unsigned y = 0; y < height; y++)
        memset(plane + (size_t)y * stride + width, plane[(size_t)y * stride + width - 1], stride - width);
    for (unsigned y = height; y < rows; y++)
        memcpy(plane + (size_t)y * stride, plane + (size_t)(height - 1) * stride, stride);
}

static void convert(struct encoder *e, const struct item *in) {
    struct planes to = planes_of(e);
    unsigned width = e->width, height = e->height;
    if (in->format == FORMAT_ARGB || in->format == FORMAT_ABGR)
        from_rgb(&to, in, width, height, in->format == FORMAT_ABGR);
    else from_yuv(&to, in, width, height);
    extend(to.y, to.stride, to.rows, width, height);
    extend(to.cb, to.stride / 2, to.rows / 2, width / 2, height / 2);
    extend(to.cr, to.stride / 2, to.rows / 2, width / 2, height / 2);
}

/* --- pictures in --- */

static enum picture kind_of(struct encoder *e, uint32_t flags) {
    const uint32_t by_codec[] = {e->config.h264.idr_period, e->config.hevc.idr_period, e->config.av1.idr_period};
    uint32_t period = by_codec[e->codec] ? by_codec[e->codec] : e->config.gop_length;
    if (e->config.gop_length < period) period = e->config.gop_length;
    bool due =
        e->frames == 0 || e->idr_due || (flags & FORCE_IDR) || (period != INFINITE_GOP && e->since_idr >= period);
    if (flags & FORCE_IDR) scene_log("force-idr", "session=%u frame=%llu", e->session, (unsigned long long)e->frames);
    return due ? PICTURE_IDR : flags & FORCE_INTRA ? PICTURE_I : PICTURE_P;
}

/* One engine works for a session: a picture begins when the one before is done. */
static void record(struct encoder *e, uint64_t started_ns) {
    uint64_t encode_ns = scene_now()->board[e->board].encode_us * 1000, now = clock_ns();
    uint64_t begins = e->ready_ns > started_ns ? e->ready_ns : started_ns;
    e->ready_ns = begins + encode_ns > now ? begins + encode_ns : now;
    struct entry *entry = state_lock_entry(e->slot);
    entry->stamp[entry->frames % STAMPS] = (struct stamp){.ready_ns = e->ready_ns, .took_ns = e->ready_ns - started_ns};
    entry->frames++;
    state_unlock();
}

/* Where the wave of intra refresh is in this picture; an IDR begins one anew behind it. */
static struct refresh wave_of(struct encoder *e, enum picture kind) {
    if (kind == PICTURE_IDR || !e->refresh_period) {
        e->since_refresh = 0;
        return (struct refresh){0};
    }
    return (struct refresh){.frames = e->refresh_frames, .at = (unsigned)(e->since_refresh++ % e->refresh_period)};
}

/* One access unit of e->planes. */
static void write_picture(struct encoder *e, enum picture kind, bool headers, struct item *out) {
    struct refresh wave = wave_of(e, kind);
    switch (e->codec) {
    case CODEC_H264:
        e->h264.refresh = wave;
        h264_picture(&e->h264, kind, headers, e->planes, &out->data, out->counts);
        break;
    case CODEC_HEVC:
        e->hevc.refresh = wave;
        hevc_picture(&e->hevc, kind, headers, e->planes, &out->data, out->counts);
        break;
    case CODEC_AV1:
        /* Its refresh is logged and no more: the wave is the encoder's own affair, which the format has no word for. */
        out->counts[0] = out->counts[1] = 0;
        av1_picture(&e->av1, kind == PICTURE_IDR, e->planes, &out->data);
        break;
    }
}

static void encode(struct encoder *e, const struct pic_params *p, struct item *in, struct item *out) {
    uint64_t started_ns = clock_ns();
    enum picture kind = kind_of(e, p->flags);
    bool wanted = e->frames == 0 || e->headers_due || e->repeats_headers;
    bool headers = (kind == PICTURE_IDR && wanted && !e->disables_headers) || p->flags & OUTPUT_HEADERS;
    convert(e, in);
    out->data.length = 0;
    write_picture(e, kind, headers, out);
    if (kind == PICTURE_IDR) e->idr_due = e->headers_due = false;
    record(e, started_ns);
    out->filled = true;
    out->source = in;
    out->ready_ns = in->ready_ns = e->ready_ns;
    in->pending++;
    out->timestamp = p->timestamp;
    out->number = e->frames;
    out->duration = p->duration;
    out->frame = p->frame_index ? p->frame_index : (uint32_t)e->frames;
    out->type = kind == PICTURE_IDR ? TYPE_IDR : kind == PICTURE_I ? TYPE_I : TYPE_P;
    e->stat = (struct encode_stat){.version = STAT_VERSION,
                                   .size = (uint32_t)out->data.length,
                                   .type = out->type,
                                   .last_valid = (uint32_t)out->data.length,
                                   .picture = (uint32_t)e->frames,
                                   .intra_mbs = out->counts[0],
                                   .inter_mbs = out->counts[1]};
    e->frames++;
    e->since_idr = kind == PICTURE_IDR ? 1 : e->since_idr + 1;
}

int nvEncEncodePicture(void *handle, struct pic_params *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, PIC_PARAMS_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    REQUIRE(!e->ended, INVALID_CALL, "a picture after the end of the stream");
    bool end = parameters->flags & END_OF_STREAM;
    if (!end || parameters->input) {
        struct item *in = item_of(e, parameters->input, ITEM_INPUT),
                    *out = item_of(e, parameters->bitstream, ITEM_BITSTREAM);
        if (!in) in = item_of(e, parameters->input, ITEM_MAPPED);
        REQUIRE(in || !item_of(e, parameters->input, ITEM_REGISTERED), NOT_MAPPED,
                "a registered resource that is not mapped");
        REQUIRE(in, INVALID_PARAM, "no such input");
        REQUIRE(out, INVALID_PARAM, "no such bitstream buffer");
        REQUIRE(!in->locked, INVALID_CALL, "the input is still locked");
        REQUIRE(!out->locked, INVALID_CALL, "the bitstream buffer is still locked");
        REQUIRE(!out->filled, ENCODER_BUSY, "the bitstream buffer holds a picture that was not read");
        REQUIRE(parameters->structure == PIC_STRUCT_FRAME, INVALID_PARAM, "pictureStruct");
        REQUIRE(parameters->format == in->format, INVALID_PARAM, "bufferFmt is not the input's");
        REQUIRE(parameters->width == e->width && parameters->height == e->height, INVALID_PARAM,
                "size is not the encoder's");
        REQUIRE(in->width >= e->width && in->height >= e->height, INVALID_PARAM,
                "the input is smaller than the picture");
        REQUIRE(cuda_board(e->context) >= 0, INVALID_DEVICE, "the context is destroyed");
        size_t size = picture_bytes(in->format, in->width, in->height, in->pitch);
        REQUIRE(in->kind == ITEM_INPUT || cuda_holds(e->context, in->pixels, size), INVALID_PARAM,
                "the input's memory was freed");
        for (unsigned i = 0; i < 2; i++)
            REQUIRE(cuda_stream_lives(e->context, e->streams[i]), INVALID_PARAM, "the encoder's stream is destroyed");
        encode(e, parameters, in, out);
    }
    if (end) {
        e->ended = true;
        scene_log("end-of-stream", "session=%u", e->session);
    }
    return OK;
}

/* --- access units out --- */

int nvEncLockBitstream(void *handle, struct lock_bitstream *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, LOCK_BITSTREAM_VERSION);
    struct item *item = item_of(e, parameters->bitstream, ITEM_BITSTREAM);
    REQUIRE(item, INVALID_PARAM, "no such bitstream buffer");
    REQUIRE(!item->locked, INVALID_CALL, "locked twice");
    REQUIRE(item->filled, INVALID_CALL, "nothing was encoded into it");
    for (struct item *other = e->items; other; other = other->next)
        REQUIRE(other->kind != ITEM_BITSTREAM || !other->filled || other->locked || other->number >= item->number,
                INVALID_CALL, "an older picture was not read");
    item->locked = true;
    if (item->ready_ns > clock_ns()) {
        if (parameters->bits & 1) {
            item->locked = false;
            return LOCK_BUSY;
        }
        struct timespec until = {.tv_sec = (time_t)(item->ready_ns / 1000000000u),
                                 .tv_nsec = (long)(item->ready_ns % 1000000000u)};
        /* Locked, it cannot be destroyed by another thread; its encoder may. */
        guard_end(&guard);
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
        guard = guard_begin();
        e = encoder_of(__func__, handle, &entry_code);
        item = e ? item_of(e, parameters->bitstream, ITEM_BITSTREAM) : NULL;
        REQUIRE(item, INVALID_CALL, "destroyed while another waits for it");
    }
    if (item->source && item->source->pending) item->source->pending--;
    item->source = NULL;
    parameters->frame_index = item->frame;
    parameters->status = 0;
    parameters->slices = e->codec == CODEC_H264 ? e->h264.slices : 1;
    parameters->size = (uint32_t)item->data.length;
    parameters->timestamp = item->timestamp;
    parameters->duration = item->duration;
    parameters->pointer = item->data.at;
    parameters->type = item->type;
    parameters->structure = PIC_STRUCT_FRAME;
    parameters->qp = 0;
    parameters->intra_mbs = item->counts[0];
    parameters->inter_mbs = item->counts[1];
    parameters->display_index = item->frame;
    return OK;
}

int nvEncUnlockBitstream(void *handle, void *bitstream) {
    ENTER(handle);
    struct item *item = item_of(e, bitstream, ITEM_BITSTREAM);
    REQUIRE(item, INVALID_PARAM, "no such bitstream buffer");
    REQUIRE(item->locked, INVALID_CALL, "not locked");
    item->locked = item->filled = false;
    return OK;
}

int nvEncGetEncodeStats(void *handle, struct encode_stat *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, STAT_VERSION);
    REQUIRE(e->frames, INVALID_CALL, "nothing was encoded");
    void *bitstream = parameters->bitstream;
    *parameters = e->stat;
    parameters->bitstream = bitstream;
    return OK;
}

int nvEncInvalidateRefFrames(void *handle, uint64_t timestamp) {
    ENTER(handle);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    /* With one reference picture, what does not depend on it is an IDR. */
    e->idr_due = true;
    scene_log("invalidate", "session=%u timestamp=%llu", e->session, (unsigned long long)timestamp);
    return OK;
}
