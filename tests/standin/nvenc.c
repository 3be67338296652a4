/* libnvidia-encode.so.1 as the scene has it: exports, sessions, capabilities, presets. */
#define _GNU_SOURCE
#include "nvenc.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct encoder *encoders;

/* --- handles --- */

struct guard guard_begin(void) {
    pthread_mutex_lock(&mutex);
    return (struct guard){.held = true};
}

void guard_end(struct guard *guard) {
    if (guard->held) pthread_mutex_unlock(&mutex);
    guard->held = false;
}

void *new_handle(void) {
    static uintptr_t last = 0x5e550000;
    return (void *)(last += 16);
}

int violation(struct encoder *e, const char *function, int code, const char *what) {
    if (e) {
        snprintf(e->error, sizeof e->error, "%s: %s", function, what);
        scene_log("violation", "function=%s code=%d session=%u what=\"%s\"", function, code, e->session, what);
    } else {
        scene_log("violation", "function=%s code=%d what=\"%s\"", function, code, what);
    }
    return code;
}

struct encoder *encoder_of(const char *function, void *handle, int *code) {
    struct encoder *e = encoders;
    while (e && e->handle != handle) e = e->next;
    if (!e && !handle) *code = violation(NULL, function, INVALID_POINTER, "no encoder");
    else if (!e) *code = violation(NULL, function, INVALID_ENCODER_DEVICE, "no such encoder, or not any more");
    return e;
}

struct item *item_new(struct encoder *e, enum item_kind kind) {
    struct item *item = calloc(1, sizeof *item);
    if (!item) abort();
    item->kind = kind;
    item->handle = new_handle();
    item->next = e->items;
    e->items = item;
    return item;
}

struct item *item_of(struct encoder *e, const void *handle, enum item_kind kind) {
    struct item *item = e->items;
    while (item && (item->handle != handle || item->kind != kind)) item = item->next;
    return item;
}

void item_free(struct encoder *e, struct item *item) {
    struct item **at = &e->items;
    while (*at != item) at = &(*at)->next;
    *at = item->next;
    for (struct item *other = e->items; other; other = other->next)
        if (other->source == item) other->source = NULL;
    if (item->kind == ITEM_INPUT) free(item->pixels);
    free(item->data.at);
    free(item);
}

bool same_guid(const guid_t *a, const guid_t *b) {
    return memcmp(a, b, sizeof *a) == 0;
}

/* --- the other library --- */

/* The stand-in libcuda that the program has loaded: NVENC takes its contexts and pointers. */
static void *cuda_symbol(const char *name) {
    void *library = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = library ? dlsym(library, name) : NULL;
    if (library) dlclose(library);
    return symbol;
}

int cuda_board(const void *context) {
    int (*board_of)(const void *) = (int (*)(const void *))cuda_symbol("standin_context_board");
    return board_of ? board_of(context) : -1;
}

bool cuda_holds(const void *context, const void *address, size_t size) {
    bool (*holds)(uint64_t, size_t, const void *) =
        (bool (*)(uint64_t, size_t, const void *))cuda_symbol("standin_memory_holds");
    return holds && holds((uintptr_t)address, size, context);
}

bool cuda_stream_lives(const void *context, const void *stream) {
    bool (*lives)(const void *, const void *) =
        (bool (*)(const void *, const void *))cuda_symbol("standin_stream_lives");
    return lives && lives(stream, context);
}

/* --- sessions --- */

/* A driver that does not speak this API yet. */
static bool too_old(const struct scene *scene) {
    bool old = scene->nvenc_major < API_MAJOR || (scene->nvenc_major == API_MAJOR && scene->nvenc_minor < API_MINOR);
    if (old) scene_log("refused", "code=%d reason=version", INVALID_VERSION);
    return old;
}

static int nvEncOpenEncodeSessionEx(struct open_session *parameters, void **encoder) {
    struct encoder *e = NULL;
    int code;
    if (encoder) *encoder = NULL;
    if (scene_refuses(__func__, NO_ENCODE_DEVICE, &code)) return code;
    GUARD();
    const struct scene *scene = scene_now();
    REQUIRE(parameters && encoder, INVALID_POINTER, "null");
    if (too_old(scene)) return INVALID_VERSION;
    REQUIRE(parameters->version == OPEN_SESSION_VERSION, INVALID_VERSION, "version word");
    REQUIRE(parameters->api_version == API_WORD, INVALID_VERSION, "apiVersion");
    REQUIRE(parameters->device_type == DEVICE_CUDA, UNSUPPORTED_DEVICE, "not a CUDA device");
    REQUIRE(parameters->device, INVALID_POINTER, "no context");
    int board = cuda_board(parameters->device);
    REQUIRE(board >= 0, INVALID_DEVICE, "no such context");
    unsigned slot, session;
    enum refusal refusal = state_open_session(scene, (unsigned)board, &slot, &session);
    if (refusal) {
        static const char *const reasons[] = {"", "no-engine", "limit", "memory"};
        code = refusal == REFUSED_ENGINE   ? UNSUPPORTED_DEVICE
               : refusal == REFUSED_MEMORY ? OUT_OF_MEMORY
                                           : scene->limit_code;
        scene_log("refused", "board=%d code=%d reason=%s", board, code, reasons[refusal]);
        return code;
    }
    e = calloc(1, sizeof *e);
    if (!e) abort();
    e->handle = new_handle();
    e->context = parameters->device;
    e->board = (unsigned)board;
    e->slot = slot;
    e->session = session;
    e->next = encoders;
    encoders = e;
    *encoder = e->handle;
    scene_log("open", "session=%u board=%d", session, board);
    return OK;
}

/* Both are pointers to a CUstream. All work is done when its call returns, so that only their life matters. */
static int nvEncSetIOCudaStreams(void *handle, void **input, void **output) {
    ENTER(handle);
    REQUIRE(input && output, INVALID_POINTER, "null");
    REQUIRE(cuda_stream_lives(e->context, *input), INVALID_PARAM, "the input's stream is none of the context");
    REQUIRE(cuda_stream_lives(e->context, *output), INVALID_PARAM, "the output's stream is none of the context");
    e->streams[0] = *input;
    e->streams[1] = *output;
    return OK;
}

static void leak(const struct encoder *e, const char *kind, const void *handle) {
    scene_log("leak", "kind=%s handle=%p session=%u", kind, handle, e->session);
}

static void leak_items(const struct encoder *e) {
    static const char *const kinds[] = {"input-buffer", "bitstream-buffer", "registered-resource", "mapped-resource"};
    for (const struct item *item = e->items; item; item = item->next) {
        leak(e, kinds[item->kind], item->handle);
        if (item->locked) leak(e, item->kind == ITEM_INPUT ? "locked-input" : "locked-bitstream", item->handle);
    }
}

static int nvEncDestroyEncoder(void *handle) {
    ENTER(handle);
    leak_items(e);
    while (e->items) item_free(e, e->items);
    struct encoder **at = &encoders;
    while (*at != e) at = &(*at)->next;
    *at = e->next;
    state_close(e->slot);
    scene_log("close", "session=%u frames=%llu", e->session, (unsigned long long)e->frames);
    free(e->planes);
    free(e->h264.reference);
    free(e->hevc.reference);
    av1_end(&e->av1);
    free(e);
    return OK;
}

static void __attribute__((destructor)) leaks(void) {
    for (const struct encoder *e = encoders; e; e = e->next) {
        leak(e, "session", e->handle);
        leak_items(e);
    }
}

static const char *nvEncGetLastErrorString(void *handle) {
    static __thread char text[256];
    GUARD();
    const struct encoder *e = encoders;
    while (e && e->handle != handle) e = e->next;
    copy_text(text, sizeof text, e ? e->error : "no such encoder");
    return text;
}

/* --- capabilities --- */

static unsigned codecs_of(const struct encoder *e, guid_t guids[3]) {
    static const guid_t all[] = {GUID_H264, GUID_HEVC, GUID_AV1};
    unsigned count = 0;
    for (unsigned codec = 0; codec < 3; codec++)
        if (scene_now()->board[e->board].codecs & 1u << codec) guids[count++] = all[codec];
    return count;
}

enum codec codec_of_guid(const guid_t *codec) {
    return same_guid(codec, &GUID_HEVC) ? CODEC_HEVC : same_guid(codec, &GUID_AV1) ? CODEC_AV1 : CODEC_H264;
}

bool encodes(const struct encoder *e, const guid_t *codec) {
    guid_t guids[3];
    unsigned count = codecs_of(e, guids), i = 0;
    while (i < count && !same_guid(&guids[i], codec)) i++;
    return i < count;
}

/* As many of `from` as there is room for. */
static void list_out(const void *from, size_t size, unsigned count, void *into, unsigned room, unsigned *written) {
    *written = count < room ? count : room;
    memcpy(into, from, size * *written);
}

static int nvEncGetEncodeGUIDCount(void *handle, unsigned *count) {
    ENTER(handle);
    guid_t guids[3];
    REQUIRE(count, INVALID_POINTER, "null");
    *count = codecs_of(e, guids);
    return OK;
}

static int nvEncGetEncodeGUIDs(void *handle, guid_t *into, unsigned room, unsigned *count) {
    ENTER(handle);
    guid_t guids[3];
    REQUIRE(into && count, INVALID_POINTER, "null");
    list_out(guids, sizeof *guids, codecs_of(e, guids), into, room, count);
    return OK;
}

static const guid_t profiles[] = {GUID_AUTOSELECT, GUID_BASELINE, GUID_MAIN, GUID_HIGH, GUID_CONSTRAINED_HIGH};
static const guid_t hevc_profiles[] = {GUID_AUTOSELECT, GUID_HEVC_MAIN};
static const guid_t av1_profiles[] = {GUID_AUTOSELECT, GUID_AV1_MAIN};
static const guid_t presets[PRESETS] = GUID_PRESETS;
static const uint32_t formats[] = {FORMAT_NV12, FORMAT_YV12, FORMAT_IYUV, FORMAT_ARGB, FORMAT_ABGR};

#define COUNT_AND_LIST(count_function, list_function, type, array)                                     \
    static int count_function(void *handle, guid_t codec, unsigned *count) {                           \
        ENTER(handle);                                                                                 \
        REQUIRE(count, INVALID_POINTER, "null");                                                       \
        REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");                                           \
        *count = sizeof array / sizeof *array;                                                         \
        return OK;                                                                                     \
    }                                                                                                  \
    static int list_function(void *handle, guid_t codec, type *into, unsigned room, unsigned *count) { \
        ENTER(handle);                                                                                 \
        REQUIRE(into && count, INVALID_POINTER, "null");                                               \
        REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");                                           \
        list_out(array, sizeof *array, sizeof array / sizeof *array, into, room, count);               \
        return OK;                                                                                     \
    }

static unsigned profiles_of(const guid_t *codec, const guid_t **list) {
    switch (codec_of_guid(codec)) {
    case CODEC_HEVC: *list = hevc_profiles; return sizeof hevc_profiles / sizeof *hevc_profiles;
    case CODEC_AV1: *list = av1_profiles; return sizeof av1_profiles / sizeof *av1_profiles;
    default: *list = profiles; return sizeof profiles / sizeof *profiles;
    }
}

static int nvEncGetEncodeProfileGUIDCount(void *handle, guid_t codec, unsigned *count) {
    const guid_t *list;
    ENTER(handle);
    REQUIRE(count, INVALID_POINTER, "null");
    REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");
    *count = profiles_of(&codec, &list);
    return OK;
}

static int nvEncGetEncodeProfileGUIDs(void *handle, guid_t codec, guid_t *into, unsigned room, unsigned *count) {
    const guid_t *list;
    ENTER(handle);
    REQUIRE(into && count, INVALID_POINTER, "null");
    REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");
    unsigned known = profiles_of(&codec, &list);
    list_out(list, sizeof *list, known, into, room, count);
    return OK;
}

COUNT_AND_LIST(nvEncGetEncodePresetCount, nvEncGetEncodePresetGUIDs, guid_t, presets)
COUNT_AND_LIST(nvEncGetInputFormatCount, nvEncGetInputFormats, uint32_t, formats)

static int nvEncGetEncodeCaps(void *handle, guid_t codec, struct caps_param *parameters, int *value) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, CAPS_PARAM_VERSION);
    REQUIRE(value, INVALID_POINTER, "null");
    REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");
    switch (parameters->cap) {
    case 1: *value = 63; break;  /* rate control modes, a set */
    case 7: *value = 1; break;   /* CABAC */
    case 13: *value = 62; break; /* level, at most */
    case 14: *value = 10; break; /* and at least */
    case 16: *value = 4096; break;
    case 17: *value = 4096; break;
    case 19:
    case 20: *value = 1; break;     /* size and rate change while it runs */
    case 25: *value = scene_now()->board[e->board].intra_refresh; break;
    case 26: *value = 1; break;     /* VBV size */
    case 28: *value = 1; break;     /* references invalidated */
    case 31: *value = 65536; break; /* macroblocks */
    case 32: *value = 983040; break;
    case 42: *value = 100; break; /* capacity: always 100 on Linux */
    case 45: *value = 145; break; /* size, at least */
    case 46: *value = 49; break;
    case 49: *value = (int)scene_now()->board[e->board].engines; break;
    case 50: *value = scene_now()->board[e->board].intra_refresh && !same_guid(&codec, &GUID_AV1); break;
    default: *value = 0;
    }
    return OK;
}

/* --- presets --- */

unsigned preset_number(const guid_t *preset) {
    for (unsigned i = 0; i < PRESETS; i++)
        if (same_guid(preset, &presets[i])) return i + 1;
    return 0;
}

/* As the driver's: with the tunings of quality, B pictures and a short GOP; with those of latency, neither. */
void preset_fill(struct config *config, const guid_t *codec, unsigned preset, uint32_t tuning) {
    bool low_latency = tuning == TUNING_LOW_LATENCY || tuning == TUNING_ULTRA_LOW_LATENCY;
    *config = (struct config){.version = CONFIG_VERSION, .profile = GUID_AUTOSELECT, .frame_field = FRAME_FIELD_FRAME};
    config->gop_length = low_latency ? INFINITE_GOP : 250;
    config->frame_interval_p = low_latency || preset < 3 ? 1 : 4;
    config->rc = (struct rc_params){.version = RC_PARAMS_VERSION,
                                    .mode = low_latency ? RC_CBR : RC_VBR,
                                    .key_frame_scale = low_latency,
                                    .average_bitrate = 5000000,
                                    .max_bitrate = low_latency ? 5000000 : 7500000};
    switch (codec_of_guid(codec)) {
    case CODEC_H264:
        config->h264.idr_period = config->gop_length;
        config->h264.chroma_format = 1;
        break;
    case CODEC_HEVC:
        config->hevc.idr_period = config->gop_length;
        config->hevc.bits = 1 << 9;
        break;
    case CODEC_AV1:
        config->av1.idr_period = config->gop_length;
        config->av1.level = AV1_ANY_LEVEL;
        config->av1.bits = 1 << 7;
        break;
    }
}

static int nvEncGetEncodePresetConfigEx(void *handle, guid_t codec, guid_t preset, uint32_t tuning,
                                        struct preset_config *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, PRESET_CONFIG_VERSION);
    REQUIRE(parameters->config.version == CONFIG_VERSION, INVALID_VERSION, "version word of presetCfg");
    REQUIRE(encodes(e, &codec), INVALID_PARAM, "codec");
    REQUIRE(preset_number(&preset), UNSUPPORTED_PARAM, "preset");
    REQUIRE(tuning >= TUNING_HIGH_QUALITY && tuning <= TUNING_LOSSLESS, INVALID_PARAM, "tuning");
    preset_fill(&parameters->config, &codec, preset_number(&preset), tuning);
    return OK;
}

/* --- exports --- */

static int unimplemented(void) {
    return UNIMPLEMENTED;
}

EXPORT int NvEncodeAPIGetMaxSupportedVersion(uint32_t *version) {
    int code;
    if (scene_refuses(__func__, NO_ENCODE_DEVICE, &code)) return code;
    if (!version) return INVALID_POINTER;
    *version = scene_now()->nvenc_major << 4 | scene_now()->nvenc_minor;
    return OK;
}

EXPORT int NvEncodeAPICreateInstance(struct function_list *list) {
    struct encoder *e = NULL;
    int code;
    if (scene_refuses(__func__, NO_ENCODE_DEVICE, &code)) return code;
    const struct scene *scene = scene_now();
    if (too_old(scene)) return INVALID_VERSION;
    REQUIRE_VERSION(list, FUNCTION_LIST_VERSION);
    for (unsigned i = 0; i < FUNCTIONS; i++) list->function[i] = i == F_RESERVED1 ? NULL : (void *)unimplemented;
    void **f = list->function;
    f[F_OPEN_ENCODE_SESSION_EX] = (void *)nvEncOpenEncodeSessionEx;
    f[F_DESTROY_ENCODER] = (void *)nvEncDestroyEncoder;
    f[F_GET_LAST_ERROR_STRING] = (void *)nvEncGetLastErrorString;
    f[F_GET_ENCODE_GUID_COUNT] = (void *)nvEncGetEncodeGUIDCount;
    f[F_GET_ENCODE_GUIDS] = (void *)nvEncGetEncodeGUIDs;
    f[F_GET_PROFILE_COUNT] = (void *)nvEncGetEncodeProfileGUIDCount;
    f[F_GET_PROFILES] = (void *)nvEncGetEncodeProfileGUIDs;
    f[F_GET_PRESET_COUNT] = (void *)nvEncGetEncodePresetCount;
    f[F_GET_PRESETS] = (void *)nvEncGetEncodePresetGUIDs;
    f[F_GET_PRESET_CONFIG_EX] = (void *)nvEncGetEncodePresetConfigEx;
    f[F_GET_INPUT_FORMAT_COUNT] = (void *)nvEncGetInputFormatCount;
    f[F_GET_INPUT_FORMATS] = (void *)nvEncGetInputFormats;
    f[F_GET_ENCODE_CAPS] = (void *)nvEncGetEncodeCaps;
    f[F_INITIALIZE] = (void *)nvEncInitializeEncoder;
    f[F_RECONFIGURE] = (void *)nvEncReconfigureEncoder;
    f[F_GET_SEQUENCE_PARAMS] = (void *)nvEncGetSequenceParams;
    f[F_CREATE_INPUT_BUFFER] = (void *)nvEncCreateInputBuffer;
    f[F_DESTROY_INPUT_BUFFER] = (void *)nvEncDestroyInputBuffer;
    f[F_LOCK_INPUT_BUFFER] = (void *)nvEncLockInputBuffer;
    f[F_UNLOCK_INPUT_BUFFER] = (void *)nvEncUnlockInputBuffer;
    f[F_CREATE_BITSTREAM_BUFFER] = (void *)nvEncCreateBitstreamBuffer;
    f[F_DESTROY_BITSTREAM_BUFFER] = (void *)nvEncDestroyBitstreamBuffer;
    f[F_REGISTER_RESOURCE] = (void *)nvEncRegisterResource;
    f[F_UNREGISTER_RESOURCE] = (void *)nvEncUnregisterResource;
    f[F_MAP_INPUT_RESOURCE] = (void *)nvEncMapInputResource;
    f[F_UNMAP_INPUT_RESOURCE] = (void *)nvEncUnmapInputResource;
    f[F_ENCODE_PICTURE] = (void *)nvEncEncodePicture;
    f[F_LOCK_BITSTREAM] = (void *)nvEncLockBitstream;
    f[F_UNLOCK_BITSTREAM] = (void *)nvEncUnlockBitstream;
    f[F_GET_ENCODE_STATS] = (void *)nvEncGetEncodeStats;
    f[F_SET_IO_CUDA_STREAMS] = (void *)nvEncSetIOCudaStreams;
    f[F_INVALIDATE_REF_FRAMES] = (void *)nvEncInvalidateRefFrames;
    return OK;
}
