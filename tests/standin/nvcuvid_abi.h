/* Structures of cuviddec.h and nvcuvid.h (Video Codec SDK 12.1) for x86-64, as far as the stand-in needs them. */
#ifndef STANDIN_NVCUVID_ABI_H
#define STANDIN_NVCUVID_ABI_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* cudaVideoCodec */
enum { RAW_H264 = 4, RAW_HEVC = 8, RAW_AV1 = 11 };

/* CUvideopacketflags */
enum { END_OF_STREAM = 1, END_OF_PICTURE = 8 };

/* CUVIDDECODECAPS */
struct caps {
    uint32_t codec, chroma, depth_minus8, reserved1[3];
    uint8_t supported, engines;
    uint16_t formats;
    uint32_t max_width, max_height, max_macroblocks;
    uint16_t min_width, min_height;
    uint8_t histogram, counter_bits;
    uint16_t histogram_bins;
    uint32_t reserved3[10];
};
static_assert(sizeof(struct caps) == 88, "CUVIDDECODECAPS");

/* CUVIDDECODECREATEINFO */
struct create_info {
    unsigned long width, height, surfaces;
    uint32_t codec, chroma;
    unsigned long flags, depth_minus8, intra_only, max_width, max_height, reserved1;
    int16_t display_area[4];
    uint32_t output, deinterlace;
    unsigned long target_width, target_height, outputs;
    void *lock;
    int16_t target_rect[4];
    unsigned long histogram, reserved2[4];
};
static_assert(sizeof(struct create_info) == 176 && offsetof(struct create_info, outputs) == 112, "CUVIDDECODECREATEINFO");

/* CUVIDEOFORMAT */
struct format {
    uint32_t codec, rate[2];
    uint8_t progressive, luma_depth_minus8, chroma_depth_minus8, surfaces;
    uint32_t width, height;
    int32_t area[4];
    uint32_t chroma, bitrate;
    int32_t aspect[2];
    uint8_t signal[4];
    uint32_t header_length;
};
static_assert(sizeof(struct format) == 64 && offsetof(struct format, chroma) == 40, "CUVIDEOFORMAT");

/* The head of CUVIDH264PICPARAMS */
struct h264_params {
    int32_t log2_frame_num_minus4, poc_type, log2_poc_lsb_minus4, delta_poc_zero, frame_mbs_only, direct_8x8, references;
    uint8_t unused[4];
    int32_t cabac, poc_present, l0_minus1, l1_minus1, weighted, bipred, init_qp_minus26, deblocking_control;
};
static_assert(offsetof(struct h264_params, deblocking_control) == 60, "CUVIDH264PICPARAMS");

/* CUVIDPICPARAMS */
struct pic_params {
    int32_t width_mbs, height_mbs, index, field, bottom, second;
    uint32_t length;
    const uint8_t *data;
    uint32_t slices;
    const uint32_t *offsets;
    int32_t reference, intra;
    uint32_t reserved[30];
    union {
        struct h264_params h264;
        uint32_t codec_reserved[1024];
        uint64_t aligned;
    };
};
static_assert(sizeof(struct pic_params) == 4280 && offsetof(struct pic_params, h264) == 184, "CUVIDPICPARAMS");

/* CUVIDPROCPARAMS */
struct proc_params {
    int32_t progressive, second, top_first, unpaired;
    uint32_t reserved_flags, reserved_zero;
    uint64_t raw_input;
    uint32_t raw_input_pitch, raw_input_format;
    uint64_t raw_output;
    uint32_t raw_output_pitch, reserved1;
    void *stream;
    uint32_t reserved[46];
    void *histogram, *reserved2[1];
};
static_assert(sizeof(struct proc_params) == 264 && offsetof(struct proc_params, stream) == 56, "CUVIDPROCPARAMS");

/* CUVIDGETDECODESTATUS */
struct decode_status {
    uint32_t status, reserved[31];
    void *reserved_pointers[8];
};
static_assert(sizeof(struct decode_status) == 192, "CUVIDGETDECODESTATUS");

/* CUVIDSOURCEDATAPACKET */
struct packet {
    unsigned long flags, size;
    const uint8_t *payload;
    int64_t timestamp;
};
static_assert(sizeof(struct packet) == 32, "CUVIDSOURCEDATAPACKET");

/* CUVIDPARSERDISPINFO */
struct display_info {
    int32_t index, progressive, top_first, repeat_first;
    int64_t timestamp;
};

/* CUVIDPARSERPARAMS */
struct parser_params {
    uint32_t codec, surfaces, clock_rate, error_threshold, display_delay, bits, reserved1[4];
    void *user;
    int (*sequence)(void *, struct format *);
    int (*decode)(void *, struct pic_params *);
    int (*display)(void *, struct display_info *);
    int (*operating_point)(void *, void *);
    int (*sei)(void *, void *);
    void *reserved2[5], *extended;
};
static_assert(sizeof(struct parser_params) == 136 && offsetof(struct parser_params, user) == 40, "CUVIDPARSERPARAMS");

#endif
