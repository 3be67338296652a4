/* libnvcuvid.so.1 as the scene has it: the functions of cuviddec.h and nvcuvid.h (SDK 12.1) for H.264, HEVC and AV1 of 4:2:0.
 *
 * Pictures are truly decoded where the stand-in's own encoders wrote them (reader.h), and AV1's whoever did; others are grey,
 * and the log says so. A parser calls back on the thread that feeds it. Without CUVID_PKT_ENDOFPICTURE a picture waits for
 * the next packet, as the driver's does. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "nvcuvid_abi.h"
#include "entry.h"
#include "reader.h"
#include "scene.h"

#define EXPORT __attribute__((visibility("default")))

/* CUresult */
enum {
    OK = 0,
    INVALID_VALUE = 1,
    OUT_OF_MEMORY = 2,
    NO_DEVICE = 100,
    INVALID_CONTEXT = 201,
    INVALID_HANDLE = 400,
    NOT_SUPPORTED = 801,
    UNKNOWN = 999
};

#define MAX_SURFACES 32

/* An output surface that is mapped. */
struct frame {
    struct frame *next;
    uint64_t address;
};

struct decoder {
    struct decoder *next;
    void *context;
    enum codec codec;
    unsigned width, height, surfaces, outputs;
    struct surface surface[MAX_SURFACES];
    bool decoded[MAX_SURFACES];
    int newest; /* the surface of the picture before, or -1 */
    void *av1;
    struct frame *frames;
    unsigned long long pictures;
    bool told;
};

struct parser {
    struct parser *next;
    struct parser_params params;
    enum codec codec;
    bool begun;
    struct sequence sequence;
    unsigned surfaces, turn;
    /* A packet that may go on. */
    uint8_t *held;
    size_t held_length;
};

static pthread_mutex_t mutex; /* recursive: callbacks call us */
static struct decoder *decoders;
static struct parser *parsers;

static void __attribute__((constructor)) begin(void) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&mutex, &attributes);
}

#define BEGIN() BEGIN_OR(NO_DEVICE)

/* --- the other library --- */

static const struct board *board_of(void *context) {
    int (*board)(const void *) = (int (*)(const void *))cuda_symbol("standin_context_board");
    int index = board ? board(context) : -1;
    return index < 0 ? NULL : &scene_now()->board[index];
}

static bool is_stream(void *stream) {
    bool (*lives)(const void *, void *) = (bool (*)(const void *, void *))cuda_symbol("standin_stream_lives");
    return lives && lives(stream, current());
}

static uint64_t memory_new(void *context, size_t size) {
    uint64_t (*make)(void *, size_t) = (uint64_t (*)(void *, size_t))cuda_symbol("standin_memory_new");
    return make ? make(context, size) : 0;
}

static void memory_end(uint64_t address) {
    void (*end)(uint64_t) = (void (*)(uint64_t))cuda_symbol("standin_memory_end");
    if (end) end(address);
}

/* --- what is handed out --- */

static struct decoder *decoder_of(const void *handle) {
    struct decoder *d = decoders;
    while (d && d != handle) d = d->next;
    return d;
}

static struct parser *parser_of(const void *handle) {
    struct parser *p = parsers;
    while (p && p != handle) p = p->next;
    return p;
}

static void frame_end(struct decoder *d, struct frame *frame) {
    struct frame **at = &d->frames;
    while (*at != frame) at = &(*at)->next;
    *at = frame->next;
    memory_end(frame->address);
    free(frame);
}

static void leak_frames(const struct decoder *d) {
    for (const struct frame *frame = d->frames; frame; frame = frame->next)
        scene_log("leak", "kind=nvdec-frame handle=%p", (void *)(uintptr_t)frame->address);
}

static void __attribute__((destructor)) leaks(void) {
    for (const struct parser *p = parsers; p; p = p->next)
        scene_log("leak", "kind=nvdec-parser handle=%p", (const void *)p);
    for (const struct decoder *d = decoders; d; d = d->next) {
        scene_log("leak", "kind=nvdec-decoder handle=%p", (const void *)d);
        leak_frames(d);
    }
}

/* --- capabilities --- */

/* False: a codec that this does not know. */
static bool codec_of(unsigned raw, enum codec *codec) {
    *codec = raw == RAW_H264 ? CODEC_H264 : raw == RAW_HEVC ? CODEC_HEVC : CODEC_AV1;
    return raw == RAW_H264 || raw == RAW_HEVC || raw == RAW_AV1;
}

static bool decodes(const struct board *board, enum codec codec) {
    return board && board->decoders && board->decodes & 1u << codec;
}

/* Width and height, at least, as the programming guide's Table 1 has them. */
static const unsigned least[][2] = {{48, 16}, {144, 144}, {128, 128}};

EXPORT int cuvidGetDecoderCaps(struct caps *caps) {
    BEGIN();
    REQUIRE(caps, INVALID_VALUE, "null");
    REQUIRE(current(), INVALID_CONTEXT, "no current context on this thread");
    for (unsigned i = 0; i < 3; i++) REQUIRE(!caps->reserved1[i], INVALID_VALUE, "a reserved field that is not 0");
    const struct board *board = board_of(current());
    enum codec codec;
    bool known = codec_of(caps->codec, &codec);
    caps->engines = (uint8_t)(known && decodes(board, codec) ? board->decoders : 0);
    caps->supported = caps->engines && caps->chroma == 1 && caps->depth_minus8 == 0;
    if (!caps->supported) {
        /* Boards with engines for other codecs have engines all the same. */
        caps->engines = (uint8_t)(board ? board->decoders : 0);
        return OK;
    }
    caps->formats = 1;
    caps->max_width = board->decode_width;
    caps->max_height = board->decode_height;
    caps->max_macroblocks = (board->decode_width + 15) / 16 * ((board->decode_height + 15) / 16);
    caps->min_width = (uint16_t)least[codec][0];
    caps->min_height = (uint16_t)least[codec][1];
    return OK;
}

/* --- the parser --- */

EXPORT int cuvidCreateVideoParser(struct parser **parser, struct parser_params *params) {
    BEGIN();
    enum codec codec;
    REQUIRE(parser && params, INVALID_VALUE, "null");
    REQUIRE(codec_of(params->codec, &codec), NOT_SUPPORTED, "a codec that the stand-in has not");
    REQUIRE(params->sequence && params->decode, INVALID_VALUE, "no callbacks");
    REQUIRE(params->surfaces, INVALID_VALUE, "no decode surface");
    struct parser *p = calloc(1, sizeof *p);
    if (!p) abort();
    *p = (struct parser){.next = parsers, .params = *params, .codec = codec};
    *parser = parsers = p;
    return OK;
}

EXPORT int cuvidDestroyVideoParser(struct parser *parser) {
    BEGIN();
    struct parser *p = parser_of(parser);
    REQUIRE(p, INVALID_HANDLE, "no such parser, or not any more");
    struct parser **at = &parsers;
    while (*at != p) at = &(*at)->next;
    *at = p->next;
    free(p->held);
    free(p);
    return OK;
}

static bool read_sequence(enum codec codec, const uint8_t *unit, size_t length, struct sequence *sequence) {
    switch (codec) {
    case CODEC_H264: return h264_sequence(unit, length, sequence);
    case CODEC_HEVC: return hevc_sequence(unit, length, sequence);
    default: return av1_sequence(unit, length, sequence);
    }
}

/* Tells of a sequence that is not the one before. False: the program stops it. */
static bool tell_sequence(struct parser *p, const uint8_t *unit, size_t length) {
    struct sequence now = p->sequence;
    if (!read_sequence(p->codec, unit, length, &now)) return true;
    if (p->begun && !memcmp(&now, &p->sequence, sizeof now)) return true;
    p->sequence = now;
    p->begun = true;
    struct format format = {.codec = p->params.codec,
                            .rate = {30, 1},
                            .progressive = 1,
                            .luma_depth_minus8 = (uint8_t)(now.depth - 8),
                            .chroma_depth_minus8 = (uint8_t)(now.depth - 8),
                            .surfaces = (uint8_t)now.surfaces,
                            .width = now.width,
                            .height = now.height,
                            .area = {(int)now.left, (int)now.top, (int)now.right, (int)now.bottom},
                            .chroma = now.chroma};
    int answer = p->params.sequence(p->params.user, &format);
    if (answer <= 0) return p->begun = false;
    p->surfaces = answer > 1 ? (unsigned)answer : p->params.surfaces;
    return true;
}

/* The slices of a unit, as offsets to their start codes. */
static unsigned slices_of(const struct parser *p, const uint8_t *unit, size_t length, unsigned offsets[64]) {
    if (p->codec == CODEC_AV1) {
        offsets[0] = 0;
        return length > 0;
    }
    size_t from = 0, at, nal;
    unsigned count = 0;
    while (next_nal(unit, length, &from, &at, &nal)) {
        bool slice = p->codec == CODEC_H264 ? h264_is_slice(unit[at]) : hevc_is_slice(unit[at]);
        if (nal && slice && count < 64) offsets[count++] = (unsigned)(at - 3);
    }
    return count;
}

static bool parse_unit(struct parser *p, const uint8_t *unit, size_t length) {
    unsigned offsets[64];
    if (!tell_sequence(p, unit, length)) return false;
    unsigned slices = slices_of(p, unit, length, offsets);
    /* What comes before the parameters is passed over. */
    if (!slices || !p->begun) return true;
    struct pic_params *picture = calloc(1, sizeof *picture);
    if (!picture) abort();
    int index = (int)(p->turn++ % p->surfaces);
    picture->width_mbs = (int)(p->sequence.width + 15) / 16;
    picture->height_mbs = (int)(p->sequence.height + 15) / 16;
    picture->index = index;
    picture->length = (unsigned)length;
    picture->data = unit;
    picture->slices = slices;
    picture->offsets = offsets;
    picture->h264.log2_frame_num_minus4 = (int)p->sequence.log2_frame_num - 4;
    picture->h264.poc_type = (int)p->sequence.poc_type;
    picture->h264.cabac = (int)p->sequence.cabac;
    picture->h264.deblocking_control = (int)p->sequence.deblocking_control;
    bool on = p->params.decode(p->params.user, picture) > 0;
    free(picture);
    if (on && p->params.display) {
        struct display_info info = {.index = index, .progressive = 1};
        on = p->params.display(p->params.user, &info) > 0;
    }
    return on;
}

EXPORT int cuvidParseVideoData(struct parser *parser, struct packet *packet) {
    BEGIN();
    struct parser *p = parser_of(parser);
    REQUIRE(p, INVALID_HANDLE, "no such parser, or not any more");
    REQUIRE(packet && (packet->payload || !packet->size), INVALID_VALUE, "null");
    bool on = true;
    if (p->held) {
        uint8_t *unit = p->held;
        p->held = NULL;
        on = parse_unit(p, unit, p->held_length);
        free(unit);
    }
    if (on && packet->flags & (END_OF_PICTURE | END_OF_STREAM)) on = parse_unit(p, packet->payload, packet->size);
    else if (on) {
        p->held = malloc(packet->size + 1);
        if (!p->held) abort();
        memcpy(p->held, packet->payload, packet->size);
        p->held_length = packet->size;
    }
    return on ? OK : UNKNOWN;
}

/* --- the decoder --- */

EXPORT int cuvidCreateDecoder(struct decoder **decoder, struct create_info *info) {
    BEGIN();
    enum codec codec;
    REQUIRE(decoder && info, INVALID_VALUE, "null");
    void *context = current();
    REQUIRE(context, INVALID_CONTEXT, "no current context on this thread");
    const struct board *board = board_of(context);
    REQUIRE(codec_of((unsigned)info->codec, &codec) && decodes(board, codec), NOT_SUPPORTED,
            "a codec that the board does not decode");
    REQUIRE(info->chroma == 1 && info->depth_minus8 == 0 && info->output == 0, NOT_SUPPORTED, "not 8 bits of 4:2:0 as NV12");
    REQUIRE(info->width >= least[codec][0] && info->height >= least[codec][1] && info->width <= board->decode_width &&
                info->height <= board->decode_height,
            INVALID_VALUE, "a size that the board does not decode");
    REQUIRE(info->target_width == info->width && info->target_height == info->height, NOT_SUPPORTED,
            "the stand-in does not scale");
    REQUIRE(info->surfaces && info->surfaces <= MAX_SURFACES && info->outputs, INVALID_VALUE, "surfaces");
    struct decoder *d = calloc(1, sizeof *d);
    if (!d) abort();
    *d = (struct decoder){.next = decoders, .context = context, .codec = codec, .newest = -1};
    d->width = (unsigned)info->width;
    d->height = (unsigned)info->height;
    d->surfaces = (unsigned)info->surfaces;
    d->outputs = (unsigned)info->outputs;
    for (unsigned i = 0; i < d->surfaces; i++) {
        d->surface[i] = (struct surface){.width = d->width, .height = d->height,
                                         .at = calloc((size_t)d->width * d->height * 3 / 2, 1)};
        if (!d->surface[i].at) abort();
    }
    *decoder = decoders = d;
    scene_log("nvdec-open", "board=%d codec=%d size=%ux%u surfaces=%u", (int)(board - scene_now()->board), (int)codec,
              d->width, d->height, d->surfaces);
    return OK;
}

/* Leaves `d`, whose context is current. */
#define DECODER(handle)                                                       \
    struct decoder *d = decoder_of(handle);                                   \
    REQUIRE(d, INVALID_HANDLE, "no such decoder, or not any more");           \
    REQUIRE(current() == d->context, INVALID_CONTEXT, "the decoder's context is not current")

EXPORT int cuvidDestroyDecoder(struct decoder *decoder) {
    BEGIN();
    DECODER(decoder);
    leak_frames(d);
    while (d->frames) frame_end(d, d->frames);
    struct decoder **at = &decoders;
    while (*at != d) at = &(*at)->next;
    *at = d->next;
    for (unsigned i = 0; i < d->surfaces; i++) free(d->surface[i].at);
    av1_read_end(&d->av1);
    scene_log("nvdec-close", "pictures=%llu", d->pictures);
    free(d);
    return OK;
}

static bool read_picture(struct decoder *d, const struct pic_params *p) {
    static const struct surface none;
    const struct surface *to = &d->surface[p->index], *before = d->newest < 0 ? &none : &d->surface[d->newest];
    const struct sequence sequence = {.log2_frame_num = (unsigned)p->h264.log2_frame_num_minus4 + 4,
                                      .poc_type = (unsigned)p->h264.poc_type,
                                      .cabac = (unsigned)p->h264.cabac,
                                      .deblocking_control = (unsigned)p->h264.deblocking_control};
    switch (d->codec) {
    case CODEC_H264: return h264_read(p->data, p->length, &sequence, before, to);
    case CODEC_HEVC: return hevc_read(p->data, p->length, before, to);
    default: return av1_read(&d->av1, p->data, p->length, to);
    }
}

EXPORT int cuvidDecodePicture(struct decoder *decoder, struct pic_params *picture) {
    BEGIN();
    DECODER(decoder);
    REQUIRE(picture && picture->data && picture->length && picture->slices && picture->offsets, INVALID_VALUE, "null");
    REQUIRE(picture->index >= 0 && (unsigned)picture->index < d->surfaces, INVALID_VALUE, "more pictures than surfaces");
    REQUIRE((unsigned)picture->width_mbs == (d->width + 15) / 16 && (unsigned)picture->height_mbs == (d->height + 15) / 16,
            INVALID_VALUE, "a picture that is not of the decoder's size");
    /* A decoder with one surface has its picture before in it; what is written over what is not changed is the same. */
    if (!read_picture(d, picture)) {
        memset(d->surface[picture->index].at, 128, (size_t)d->width * d->height * 3 / 2);
        if (!d->told) scene_log("nvdec-unread", NULL);
        d->told = true;
    }
    d->newest = picture->index;
    d->decoded[picture->index] = true;
    d->pictures++;
    return OK;
}

EXPORT int cuvidGetDecodeStatus(struct decoder *decoder, int index, struct decode_status *status) {
    BEGIN();
    DECODER(decoder);
    REQUIRE(status && index >= 0 && (unsigned)index < d->surfaces && d->decoded[index], INVALID_VALUE, "no such picture");
    if (d->codec == CODEC_AV1) return NOT_SUPPORTED;
    status->status = 2; /* cuvidDecodeStatus_Success */
    return OK;
}

EXPORT int cuvidMapVideoFrame64(struct decoder *decoder, int index, unsigned long long *address, unsigned *pitch,
                                struct proc_params *params) {
    BEGIN();
    DECODER(decoder);
    REQUIRE(address && pitch && params, INVALID_VALUE, "null");
    REQUIRE(index >= 0 && (unsigned)index < d->surfaces && d->decoded[index], INVALID_VALUE, "nothing was decoded into it");
    REQUIRE(is_stream(params->stream), INVALID_HANDLE, "the stream is none of the context");
    unsigned mapped = 0;
    for (const struct frame *frame = d->frames; frame; frame = frame->next) mapped++;
    REQUIRE(mapped < d->outputs, INVALID_VALUE, "more frames mapped than output surfaces");
    size_t row = (d->width + 511u) / 512 * 512, rows = (d->height + 1) / 2 * 3;
    struct frame *frame = calloc(1, sizeof *frame);
    if (!frame) abort();
    frame->address = memory_new(d->context, row * rows);
    if (!frame->address) {
        free(frame);
        return OUT_OF_MEMORY;
    }
    frame->next = d->frames;
    d->frames = frame;
    for (unsigned y = 0; y < d->height * 3 / 2; y++)
        memcpy((uint8_t *)(uintptr_t)frame->address + y * row, d->surface[index].at + (size_t)y * d->width, d->width);
    *address = frame->address;
    *pitch = (unsigned)row;
    return OK;
}

EXPORT int cuvidUnmapVideoFrame64(struct decoder *decoder, unsigned long long address) {
    BEGIN();
    DECODER(decoder);
    struct frame *frame = d->frames;
    while (frame && frame->address != address) frame = frame->next;
    REQUIRE(frame, INVALID_VALUE, "not mapped, or not any more");
    frame_end(d, frame);
    return OK;
}
