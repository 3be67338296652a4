/* A lossless H.264 writer (ITU-T H.264): each macroblock is I_PCM, or skipped where it is what it was. CAVLC, no
 * deblocking, one reference picture, output in coding order. */
#ifndef STANDIN_H264_H
#define STANDIN_H264_H

#include "bits.h"

struct vui {
    bool overscan_info_present, overscan_appropriate;
    bool signal_type_present, full_range, colour_description_present;
    unsigned video_format, primaries, transfer, matrix;
    bool chroma_location_present;
    unsigned chroma_location_top, chroma_location_bottom;
    bool timing_info_present, fixed_rate;
    uint32_t num_units_in_tick, time_scale;
    bool bitstream_restriction;
};

/* How a VUI begins in H.264 and in HEVC: up to where chroma lies. */
void put_vui_colour(struct bits *b, const struct vui *vui);

/* Where a wave of intra coding is that goes over the picture's columns in so many frames; `at` from 0, and 0 frames
 * for none. */
struct refresh {
    unsigned frames, at;
};

/* Whether a column of blocks is to be coded now, whatever it shows. */
bool refreshed(const struct refresh *refresh, unsigned column, unsigned columns);

struct h264 {
    unsigned width, height; /* even */
    unsigned profile;       /* profile_idc: 66, 77 or 100 */
    bool constrained;       /* of 66: constrained baseline; of 100: constrained high */
    unsigned level, sps_id, pps_id;
    unsigned slices;
    bool aud;
    struct vui vui;
    struct refresh refresh;
    bool recovery_point; /* tell where a wave begins */
    /* The writer's own: */
    unsigned frame_num, idr_id;
    uint8_t *reference; /* the picture before: planes Y, Cb, Cr of whole macroblocks */
};

enum picture { PICTURE_P, PICTURE_I, PICTURE_IDR };

/* The lowest level that holds the size, rate (pictures a second) and bits a second, as a level_idc (Table A-1). */
unsigned h264_level(unsigned width, unsigned height, double fps, uint64_t bitrate);

/* Sizes of the picture's planes: whole macroblocks. */
unsigned h264_stride(const struct h264 *h);
unsigned h264_rows(const struct h264 *h);

/* Appends the SPS and PPS. */
void h264_headers(const struct h264 *h, struct bytes *out);

/* Appends one access unit of a picture laid out as `reference` is. `counts`: macroblocks coded and skipped. */
void h264_picture(struct h264 *h, enum picture kind, bool headers, const uint8_t *planes, struct bytes *out,
                  unsigned counts[2]);

#endif
