/* The binary interface of NVENC API 12.1 as far as the stand-in needs it: layouts as facts, under our own names. */
#ifndef STANDIN_NVENC_ABI_H
#define STANDIN_NVENC_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define API_MAJOR 12u
#define API_MINOR 1u
#define API_WORD (API_MAJOR | API_MINOR << 24)
/* A structure's version word. */
#define VERSION(n) (API_WORD | (uint32_t)(n) << 16 | 7u << 28)
#define EXTENDED (1u << 31)

#define CAPS_PARAM_VERSION VERSION(1)
#define CREATE_INPUT_BUFFER_VERSION VERSION(1)
#define CREATE_BITSTREAM_BUFFER_VERSION VERSION(1)
#define RC_PARAMS_VERSION VERSION(1)
#define CONFIG_VERSION (VERSION(8) | EXTENDED)
#define INITIALIZE_VERSION (VERSION(6) | EXTENDED)
#define RECONFIGURE_VERSION (VERSION(1) | EXTENDED)
#define PRESET_CONFIG_VERSION (VERSION(4) | EXTENDED)
#define PIC_PARAMS_VERSION (VERSION(6) | EXTENDED)
#define LOCK_BITSTREAM_VERSION (VERSION(1) | EXTENDED)
#define LOCK_INPUT_BUFFER_VERSION VERSION(1)
#define MAP_INPUT_RESOURCE_VERSION VERSION(4)
#define REGISTER_RESOURCE_VERSION VERSION(4)
#define STAT_VERSION VERSION(1)
#define SEQUENCE_PARAM_VERSION VERSION(1)
#define OPEN_SESSION_VERSION VERSION(1)
#define FUNCTION_LIST_VERSION VERSION(2)

#define INFINITE_GOP UINT32_MAX

enum status {
    OK = 0,
    NO_ENCODE_DEVICE = 1,
    UNSUPPORTED_DEVICE = 2,
    INVALID_ENCODER_DEVICE = 3,
    INVALID_DEVICE = 4,
    DEVICE_NOT_EXIST = 5,
    INVALID_POINTER = 6,
    INVALID_PARAM = 8,
    INVALID_CALL = 9,
    OUT_OF_MEMORY = 10,
    NOT_INITIALIZED = 11,
    UNSUPPORTED_PARAM = 12,
    LOCK_BUSY = 13,
    NOT_ENOUGH_BUFFER = 14,
    INVALID_VERSION = 15,
    ENCODER_BUSY = 18,
    UNIMPLEMENTED = 22,
    REGISTER_FAILED = 23,
    NOT_REGISTERED = 24,
    NOT_MAPPED = 25
};

enum format {
    FORMAT_NV12 = 0x1,
    FORMAT_YV12 = 0x10,
    FORMAT_IYUV = 0x100,
    FORMAT_ARGB = 0x1000000,
    FORMAT_ABGR = 0x10000000
};
enum flags { FORCE_INTRA = 1, FORCE_IDR = 2, OUTPUT_HEADERS = 4, END_OF_STREAM = 8 };
enum picture_type { TYPE_P = 0, TYPE_I = 2, TYPE_IDR = 3 };
enum tuning { TUNING_HIGH_QUALITY = 1, TUNING_LOW_LATENCY = 2, TUNING_ULTRA_LOW_LATENCY = 3, TUNING_LOSSLESS = 4 };
enum {
    DEVICE_CUDA = 1,
    RESOURCE_CUDA_POINTER = 1,
    RC_CBR = 2,
    RC_VBR = 1,
    FRAME_FIELD_FRAME = 1,
    PIC_STRUCT_FRAME = 1
};

typedef struct {
    uint32_t a;
    uint16_t b, c;
    uint8_t d[8];
} guid_t;
static_assert(sizeof(guid_t) == 16, "GUID");

#define GUID_H264 ((guid_t){0x6bc82762, 0x4e63, 0x4ca4, {0xaa, 0x85, 0x1e, 0x50, 0xf3, 0x21, 0xf6, 0xbf}})
#define GUID_HEVC ((guid_t){0x790cdc88, 0x4522, 0x4d7b, {0x94, 0x25, 0xbd, 0xa9, 0x97, 0x5f, 0x76, 0x03}})
#define GUID_AV1 ((guid_t){0x0a352289, 0x0aa7, 0x4759, {0x86, 0x2d, 0x5d, 0x15, 0xcd, 0x16, 0xd2, 0x54}})
#define GUID_AUTOSELECT ((guid_t){0xbfd6f8e7, 0x233c, 0x4341, {0x8b, 0x3e, 0x48, 0x18, 0x52, 0x38, 0x03, 0xf4}})
#define GUID_BASELINE ((guid_t){0x0727bcaa, 0x78c4, 0x4c83, {0x8c, 0x2f, 0xef, 0x3d, 0xff, 0x26, 0x7c, 0x6a}})
#define GUID_MAIN ((guid_t){0x60b5c1d4, 0x67fe, 0x4790, {0x94, 0xd5, 0xc4, 0x72, 0x6d, 0x7b, 0x6e, 0x6d}})
#define GUID_HIGH ((guid_t){0xe7cbc309, 0x4f7a, 0x4b89, {0xaf, 0x2a, 0xd5, 0x37, 0xc9, 0x2b, 0xe3, 0x10}})
#define GUID_CONSTRAINED_HIGH ((guid_t){0xaec1bd87, 0xe85b, 0x48f2, {0x84, 0xc3, 0x98, 0xbc, 0xa6, 0x28, 0x50, 0x72}})
#define GUID_HEVC_MAIN ((guid_t){0xb514c39a, 0xb55b, 0x40fa, {0x87, 0x8f, 0xf1, 0x25, 0x3b, 0x4d, 0xfd, 0xec}})
#define GUID_AV1_MAIN ((guid_t){0x5f2a39f5, 0xf14e, 0x4f95, {0x9a, 0x9e, 0xb7, 0x6d, 0x56, 0x8f, 0xcf, 0x97}})
/* P1 to P7. */
#define GUID_PRESETS                                                                          \
    {                                                                                         \
        {0xfc0a8d3e, 0x45f8, 0x4cf8, {0x80, 0xc7, 0x29, 0x88, 0x71, 0x59, 0x0e, 0xbf}},       \
            {0xf581cfb8, 0x88d6, 0x4381, {0x93, 0xf0, 0xdf, 0x13, 0xf9, 0xc2, 0x7d, 0xab}},   \
            {0x36850110, 0x3a07, 0x441f, {0x94, 0xd5, 0x36, 0x70, 0x63, 0x1f, 0x91, 0xf6}},   \
            {0x90a7b826, 0xdf06, 0x4862, {0xb9, 0xd2, 0xcd, 0x6d, 0x73, 0xa0, 0x86, 0x81}},   \
            {0x21c6e6b4, 0x297a, 0x4cba, {0x99, 0x8f, 0xb6, 0xcb, 0xde, 0x72, 0xad, 0xe3}},   \
            {0x8e75c279, 0x6299, 0x4ab6, {0x83, 0x02, 0x0b, 0x21, 0x5a, 0x33, 0x5c, 0xf5}}, { \
            0x84848c12, 0x6f71, 0x4c13, {0x93, 0x1b, 0x53, 0xe2, 0x83, 0xf5, 0x79, 0x74}      \
        }                                                                                     \
    }

struct caps_param {
    uint32_t version, cap, reserved[62];
};
static_assert(sizeof(struct caps_param) == 256, "NV_ENC_CAPS_PARAM");

struct create_input_buffer {
    uint32_t version, width, height, heap, format, reserved;
    void *input, *system_memory;
    uint32_t reserved1[57];
    void *reserved2[63];
};
static_assert(sizeof(struct create_input_buffer) == 776 && offsetof(struct create_input_buffer, input) == 24,
              "NV_ENC_CREATE_INPUT_BUFFER");

struct create_bitstream_buffer {
    uint32_t version, size, heap, reserved;
    void *bitstream, *pointer;
    uint32_t reserved1[58];
    void *reserved2[64];
};
static_assert(sizeof(struct create_bitstream_buffer) == 776 &&
                  offsetof(struct create_bitstream_buffer, bitstream) == 16,
              "NV_ENC_CREATE_BITSTREAM_BUFFER");

struct rc_params {
    uint32_t version, mode, const_qp[3], average_bitrate, max_bitrate, vbv_size, vbv_delay;
    uint32_t bits; /* min QP, max QP, initial QP, AQ, -, lookahead ... */
    uint32_t min_qp[3], max_qp[3], initial_qp[3], temporal_mask;
    uint8_t temporal_qp[8], quality, quality_lsb;
    uint16_t lookahead;
    uint8_t key_frame_scale;
    int8_t dc_offset[3];
    uint32_t qp_map, multi_pass, alpha_ratio;
    int8_t cb_offset, cr_offset;
    uint16_t reserved2;
    uint32_t reserved[4];
};
static_assert(sizeof(struct rc_params) == 128 && offsetof(struct rc_params, average_bitrate) == 20 &&
                  offsetof(struct rc_params, min_qp) == 40 && offsetof(struct rc_params, key_frame_scale) == 92 &&
                  offsetof(struct rc_params, reserved) == 112,
              "NV_ENC_RC_PARAMS");

struct vui_params {
    uint32_t overscan_present, overscan, signal_type_present, video_format, full_range, colour_description_present,
        primaries, transfer, matrix, chroma_location, chroma_top, chroma_bottom, restriction, timing_present,
        units_in_tick, time_scale, reserved[12];
};
static_assert(sizeof(struct vui_params) == 112 && offsetof(struct vui_params, primaries) == 24 &&
                  offsetof(struct vui_params, restriction) == 48 && offsetof(struct vui_params, time_scale) == 60,
              "NV_ENC_CONFIG_H264_VUI_PARAMETERS");

/* Bits of `h264_config.bits` */
enum {
    H264_OUTPUT_AUD = 1 << 6,
    H264_DISABLE_HEADERS = 1 << 7,
    H264_RECOVERY_POINT = 1 << 9,
    H264_INTRA_REFRESH = 1 << 10,
    H264_REPEAT_HEADERS = 1 << 12,
    H264_VFR = 1 << 13
};

struct h264_config {
    uint32_t bits, level, idr_period, separate_planes, disable_deblocking, temporal_layers, sps_id, pps_id,
        adaptive_transform, fmo, bdirect, entropy, stereo, intra_refresh_period, intra_refresh_count, max_references,
        slice_mode, slice_data;
    struct vui_params vui;
    uint32_t ltr_frames, ltr_trust, chroma_format, max_temporal_layers, b_as_reference, references_l0, references_l1,
        reserved1[267];
    void *reserved2[64];
};
static_assert(sizeof(struct h264_config) == 1792 && offsetof(struct h264_config, vui) == 72 &&
                  offsetof(struct h264_config, chroma_format) == 192 && offsetof(struct h264_config, reserved2) == 1280,
              "NV_ENC_CONFIG_H264");

/* Bits of `hevc_config.bits` */
enum {
    HEVC_OUTPUT_AUD = 1 << 4,
    HEVC_DISABLE_HEADERS = 1 << 6,
    HEVC_REPEAT_HEADERS = 1 << 7,
    HEVC_INTRA_REFRESH = 1 << 8,
    HEVC_CHROMA_FORMAT = 3 << 9,
    HEVC_BIT_DEPTH = 7 << 11,
    HEVC_RECOVERY_POINT = 1 << 18
};

struct hevc_config {
    uint32_t level, tier, min_unit, max_unit, bits, idr_period, intra_refresh_period, intra_refresh_count,
        max_references, ltr_frames, vps_id, sps_id, pps_id, slice_mode, slice_data, max_temporal_layers;
    struct vui_params vui;
    uint32_t ltr_trust, b_as_reference, references_l0, references_l1, reserved1[214];
    void *reserved2[64];
};
static_assert(sizeof(struct hevc_config) == 1560 && offsetof(struct hevc_config, vui) == 64 &&
                  offsetof(struct hevc_config, reserved2) == 1048,
              "NV_ENC_CONFIG_HEVC");

/* Bits of `av1_config.bits` */
enum {
    AV1_ANNEX_B = 1 << 0,
    AV1_DISABLE_HEADERS = 1 << 4,
    AV1_REPEAT_HEADERS = 1 << 5,
    AV1_INTRA_REFRESH = 1 << 6,
    AV1_CHROMA_FORMAT = 3 << 7,
    AV1_BIT_DEPTHS = 63 << 12
};
enum { AV1_ANY_LEVEL = 24 };

struct av1_config {
    uint32_t level, tier, min_part, max_part, bits, idr_period, intra_refresh_period, intra_refresh_count,
        max_references, tile_columns, tile_rows;
    uint32_t *tile_widths, *tile_heights;
    uint32_t max_temporal_layers, primaries, transfer, matrix, full_range, chroma_position, b_as_reference;
    void *film_grain;
    uint32_t forward_references, backward_references, reserved1[235];
    void *reserved2[62];
};
static_assert(sizeof(struct av1_config) == 1552 && offsetof(struct av1_config, tile_widths) == 48 &&
                  offsetof(struct av1_config, primaries) == 68 && offsetof(struct av1_config, film_grain) == 96,
              "NV_ENC_CONFIG_AV1");

struct config {
    uint32_t version;
    guid_t profile;
    uint32_t gop_length;
    int32_t frame_interval_p;
    uint32_t monochrome, frame_field, mv_precision;
    struct rc_params rc;
    union {
        struct h264_config h264;
        struct hevc_config hevc;
        struct av1_config av1;
    };
    uint32_t reserved[278];
    void *reserved2[64];
};
static_assert(sizeof(struct config) == 3584 && offsetof(struct config, rc) == 40 &&
                  offsetof(struct config, h264) == 168 && offsetof(struct config, reserved2) == 3072,
              "NV_ENC_CONFIG");

struct initialize {
    uint32_t version;
    guid_t codec, preset;
    uint32_t width, height, dar_width, dar_height, fps_num, fps_den, async, picture_type_decision, bits, private_size;
    void *private_data;
    struct config *config;
    uint32_t max_width, max_height, me_hints[8], tuning, format, state_buffers, stats_level, reserved[285];
    void *reserved2[64];
};
static_assert(sizeof(struct initialize) == 1808 && offsetof(struct initialize, private_size) == 72 &&
                  offsetof(struct initialize, config) == 88 && offsetof(struct initialize, tuning) == 136 &&
                  offsetof(struct initialize, reserved2) == 1296,
              "NV_ENC_INITIALIZE_PARAMS");

enum { RESET_ENCODER = 1, RECONFIGURE_FORCE_IDR = 2 };

struct reconfigure {
    uint32_t version;
    struct initialize initialize;
    uint32_t bits, padding;
};
static_assert(sizeof(struct reconfigure) == 1824 && offsetof(struct reconfigure, initialize) == 8,
              "NV_ENC_RECONFIGURE_PARAMS");

struct preset_config {
    uint32_t version;
    struct config config;
    uint32_t reserved1[255];
    void *reserved2[64];
};
static_assert(sizeof(struct preset_config) == 5128 && offsetof(struct preset_config, config) == 8,
              "NV_ENC_PRESET_CONFIG");

struct pic_params {
    uint32_t version, width, height, pitch, flags, frame_index;
    uint64_t timestamp, duration;
    void *input, *bitstream, *event;
    uint32_t format, structure, type;
    void *codec[194]; /* per codec; nothing of it matters here */
    uint32_t me_hints[8];
    void *me_external_hints;
    uint32_t reserved1[6];
    void *reserved2[2];
    int8_t *qp_delta_map;
    uint32_t qp_delta_map_size, bits;
    uint16_t me_hint_distance[2];
    void *alpha, *me_external_sb_hints;
    uint32_t me_sb_hints, state_buffer;
    void *recon;
    uint32_t reserved3[284];
    void *reserved4[57];
};
static_assert(sizeof(struct pic_params) == 3360 && offsetof(struct pic_params, codec) == 80 &&
                  offsetof(struct pic_params, me_hints) == 1632 && offsetof(struct pic_params, qp_delta_map) == 1712 &&
                  offsetof(struct pic_params, recon) == 1760,
              "NV_ENC_PIC_PARAMS");

struct lock_bitstream {
    uint32_t version;
    uint32_t bits; /* 1: do not wait */
    void *bitstream;
    uint32_t *slice_offsets;
    uint32_t frame_index, status, slices, size;
    uint64_t timestamp, duration;
    void *pointer;
    uint32_t type, structure, qp, satd, ltr_index, ltr_bitmap, temporal_id, intra_mbs, inter_mbs;
    int32_t mv_x, mv_y;
    uint32_t alpha_size, stats_size;
    void *stats;
    uint32_t display_index, reserved1[220];
    void *reserved2[63];
    uint32_t reserved_internal[8];
};
static_assert(sizeof(struct lock_bitstream) == 1552 && offsetof(struct lock_bitstream, timestamp) == 40 &&
                  offsetof(struct lock_bitstream, intra_mbs) == 92 &&
                  offsetof(struct lock_bitstream, display_index) == 128,
              "NV_ENC_LOCK_BITSTREAM");

struct lock_input_buffer {
    uint32_t version, bits;
    void *input, *pointer;
    uint32_t pitch, reserved1[251];
    void *reserved2[64];
};
static_assert(sizeof(struct lock_input_buffer) == 1544 && offsetof(struct lock_input_buffer, pitch) == 24,
              "NV_ENC_LOCK_INPUT_BUFFER");

struct map_input_resource {
    uint32_t version, sub_resource;
    void *input_resource, *registered, *mapped;
    uint32_t format, reserved1[251];
    void *reserved2[63];
};
static_assert(sizeof(struct map_input_resource) == 1544 && offsetof(struct map_input_resource, format) == 32,
              "NV_ENC_MAP_INPUT_RESOURCE");

struct register_resource {
    uint32_t version, type, width, height, pitch, sub_resource;
    void *resource, *registered;
    uint32_t format, usage;
    void *fence;
    uint32_t chroma_offset[2], reserved1[245];
    void *reserved2[61];
};
static_assert(sizeof(struct register_resource) == 1536 && offsetof(struct register_resource, registered) == 32 &&
                  offsetof(struct register_resource, reserved2) == 1048,
              "NV_ENC_REGISTER_RESOURCE");

struct encode_stat {
    uint32_t version, reserved;
    void *bitstream;
    uint32_t size, type, last_valid, slice_offsets[16], picture, qp, bits, ltr_index, intra_mbs, inter_mbs;
    int32_t mv_x, mv_y;
    uint32_t reserved1[226];
    void *reserved2[64];
};
static_assert(sizeof(struct encode_stat) == 1544 && offsetof(struct encode_stat, picture) == 92 &&
                  offsetof(struct encode_stat, reserved2) == 1032,
              "NV_ENC_STAT");

struct sequence_params {
    uint32_t version, room, sps_id, pps_id;
    void *buffer;
    uint32_t *size;
    uint32_t reserved[250];
    void *reserved2[64];
};
static_assert(sizeof(struct sequence_params) == 1544 && offsetof(struct sequence_params, size) == 24,
              "NV_ENC_SEQUENCE_PARAM_PAYLOAD");

struct open_session {
    uint32_t version, device_type;
    void *device, *reserved;
    uint32_t api_version, reserved1[253];
    void *reserved2[64];
};
static_assert(sizeof(struct open_session) == 1552 && offsetof(struct open_session, api_version) == 24,
              "NV_ENC_OPEN_ENCODE_SESSION_EX_PARAMS");

/* The functions in the order of the API's list. */
enum function {
    F_OPEN_ENCODE_SESSION,
    F_GET_ENCODE_GUID_COUNT,
    F_GET_PROFILE_COUNT,
    F_GET_PROFILES,
    F_GET_ENCODE_GUIDS,
    F_GET_INPUT_FORMAT_COUNT,
    F_GET_INPUT_FORMATS,
    F_GET_ENCODE_CAPS,
    F_GET_PRESET_COUNT,
    F_GET_PRESETS,
    F_GET_PRESET_CONFIG,
    F_INITIALIZE,
    F_CREATE_INPUT_BUFFER,
    F_DESTROY_INPUT_BUFFER,
    F_CREATE_BITSTREAM_BUFFER,
    F_DESTROY_BITSTREAM_BUFFER,
    F_ENCODE_PICTURE,
    F_LOCK_BITSTREAM,
    F_UNLOCK_BITSTREAM,
    F_LOCK_INPUT_BUFFER,
    F_UNLOCK_INPUT_BUFFER,
    F_GET_ENCODE_STATS,
    F_GET_SEQUENCE_PARAMS,
    F_REGISTER_ASYNC_EVENT,
    F_UNREGISTER_ASYNC_EVENT,
    F_MAP_INPUT_RESOURCE,
    F_UNMAP_INPUT_RESOURCE,
    F_DESTROY_ENCODER,
    F_INVALIDATE_REF_FRAMES,
    F_OPEN_ENCODE_SESSION_EX,
    F_REGISTER_RESOURCE,
    F_UNREGISTER_RESOURCE,
    F_RECONFIGURE,
    F_RESERVED1,
    F_CREATE_MV_BUFFER,
    F_DESTROY_MV_BUFFER,
    F_RUN_MOTION_ESTIMATION,
    F_GET_LAST_ERROR_STRING,
    F_SET_IO_CUDA_STREAMS,
    F_GET_PRESET_CONFIG_EX,
    F_GET_SEQUENCE_PARAM_EX,
    F_RESTORE_ENCODER_STATE,
    F_LOOKAHEAD_PICTURE,
    FUNCTIONS
};
static_assert(8 + 8 * F_ENCODE_PICTURE == 136 && 8 + 8 * F_OPEN_ENCODE_SESSION_EX == 240 &&
                  8 + 8 * F_RECONFIGURE == 264 && 8 + 8 * F_GET_LAST_ERROR_STRING == 304 && 8 + 8 * FUNCTIONS == 352,
              "the functions' places");

struct function_list {
    uint32_t version, reserved;
    void *function[FUNCTIONS];
    void *reserved2[275];
};
static_assert(sizeof(struct function_list) == 2552, "NV_ENCODE_API_FUNCTION_LIST");

#endif
