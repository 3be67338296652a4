/* What the parts of the stand-in libnvidia-encode share.
 *
 * nvenc.c          the library's two exports, sessions, capabilities, presets
 * nvenc_config.c   initialising and reconfiguring
 * nvenc_buffer.c   input and bitstream buffers, registered and mapped resources
 * nvenc_picture.c  pictures in, access units out
 */
#ifndef STANDIN_NVENC_H
#define STANDIN_NVENC_H

#include "av1.h"
#include "h264.h"
#include "hevc.h"
#include "nvenc_abi.h"
#include "state.h"

#define EXPORT __attribute__((visibility("default")))
#define PRESETS 7

enum item_kind { ITEM_INPUT, ITEM_BITSTREAM, ITEM_REGISTERED, ITEM_MAPPED };

/* Something an encoder handed out. Handles are numbers that are never given twice, so that one used after its end is
 * known as such. */
struct item {
    enum item_kind kind;
    void *handle;
    struct item *next;
    /* Of pixels: */
    unsigned width, height, pitch;
    uint32_t format;
    uint8_t *pixels; /* of a registered resource, the program's own */
    bool locked;
    struct item *of;   /* of a mapped resource, the registered one */
    unsigned maps;     /* of a registered one */
    unsigned pending;  /* pictures made of it and not read yet */
    uint64_t ready_ns; /* when the last of them is done */
    /* Of a bitstream: */
    struct bytes data;
    bool filled;
    struct item *source;
    uint64_t timestamp, duration, number; /* `number` counts the encoder's pictures */
    uint32_t frame, type, counts[2];
};

struct encoder {
    void *handle;
    struct encoder *next;
    void *context;
    void *streams[2]; /* of input and output; NULL is the context's own */
    unsigned board, slot, session;
    bool initialised, ended, headers_due, idr_due;
    struct initialize initialize; /* its `config` is not used */
    struct config config;
    unsigned max_width, max_height;
    enum codec codec;
    unsigned width, height;
    struct h264 h264;
    struct hevc hevc;
    struct av1 av1;
    bool aud, repeats_headers, disables_headers;
    unsigned refresh_period, refresh_frames; /* 0: none */
    uint8_t *planes;                         /* laid out as H.264's, whatever the codec */
    uint64_t frames, since_idr, since_refresh, ready_ns;
    struct encode_stat stat;
    struct item *items;
    char error[256];
};

/* Locks the library until the scope ends. */
struct guard {
    bool held;
};
void guard_end(struct guard *guard);
struct guard guard_begin(void);
#define GUARD() __attribute__((cleanup(guard_end), unused)) struct guard guard = guard_begin()

/* Counts the call, then leaves `e`, the encoder of `handle`, with the library locked. */
struct encoder *encoder_of(const char *function, void *handle, int *code);
#define ENTER(handle)                                                              \
    int entry_code;                                                                \
    if (scene_refuses(__func__, NO_ENCODE_DEVICE, &entry_code)) return entry_code; \
    GUARD();                                                                       \
    struct encoder *e = encoder_of(__func__, handle, &entry_code);                 \
    if (!e) return entry_code

/* A call that the driver refuses: a line of the log, the encoder's last error (of `e`, if any), and the code. */
int violation(struct encoder *e, const char *function, int code, const char *what);

#define REQUIRE(condition, code, what)                               \
    do {                                                             \
        if (!(condition)) return violation(e, __func__, code, what); \
    } while (0)
#define REQUIRE_VERSION(parameters, word)                                                          \
    do {                                                                                           \
        REQUIRE(parameters, INVALID_POINTER, "null");                                              \
        REQUIRE((parameters)->version == (word), INVALID_VERSION, "version word of " #parameters); \
    } while (0)

void *new_handle(void);
struct item *item_new(struct encoder *e, enum item_kind kind);
struct item *item_of(struct encoder *e, const void *handle, enum item_kind kind);
void item_free(struct encoder *e, struct item *item);
bool same_guid(const guid_t *a, const guid_t *b);
/* 1 to 7, or 0 if it is none. */
unsigned preset_number(const guid_t *preset);
void preset_fill(struct config *config, const guid_t *codec, unsigned preset, uint32_t tuning);
/* Whether the encoder's board encodes a codec; which one it is. */
bool encodes(const struct encoder *e, const guid_t *codec);
enum codec codec_of_guid(const guid_t *codec);
/* Appends the parameter sets. */
void headers_of(struct encoder *e, struct bytes *out);
/* Bytes that a picture of this format and size takes, or 0 for a format that is not encoded. */
size_t picture_bytes(uint32_t format, unsigned width, unsigned height, unsigned pitch);
/* The board of a context of the stand-in libcuda, or -1. */
int cuda_board(const void *context);
/* Whether these bytes are device memory of a context; whether this is a stream of it. */
bool cuda_holds(const void *context, const void *address, size_t size);
bool cuda_stream_lives(const void *context, const void *stream);

int nvEncInitializeEncoder(void *, struct initialize *);
int nvEncReconfigureEncoder(void *, struct reconfigure *);
int nvEncGetSequenceParams(void *, struct sequence_params *);
int nvEncCreateInputBuffer(void *, struct create_input_buffer *);
int nvEncDestroyInputBuffer(void *, void *);
int nvEncLockInputBuffer(void *, struct lock_input_buffer *);
int nvEncUnlockInputBuffer(void *, void *);
int nvEncCreateBitstreamBuffer(void *, struct create_bitstream_buffer *);
int nvEncDestroyBitstreamBuffer(void *, void *);
int nvEncRegisterResource(void *, struct register_resource *);
int nvEncUnregisterResource(void *, void *);
int nvEncMapInputResource(void *, struct map_input_resource *);
int nvEncUnmapInputResource(void *, void *);
int nvEncEncodePicture(void *, struct pic_params *);
int nvEncLockBitstream(void *, struct lock_bitstream *);
int nvEncUnlockBitstream(void *, void *);
int nvEncGetEncodeStats(void *, struct encode_stat *);
int nvEncInvalidateRefFrames(void *, uint64_t);

#endif
