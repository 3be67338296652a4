/* A lossless HEVC writer (ITU-T H.265): coding tree blocks of 16x16, each pulse code modulated (pcm_flag) or skipped
 * where it is what it was. One slice, no deblocking, one reference picture, output in coding order. */
#ifndef STANDIN_HEVC_H
#define STANDIN_HEVC_H

#include "h264.h"

struct hevc {
    unsigned width, height; /* even */
    unsigned level;         /* general_level_idc: thirty times the level's number */
    bool high_tier;
    unsigned vps_id, sps_id, pps_id;
    bool aud;
    struct vui vui;
    struct refresh refresh;
    bool recovery_point;
    /* The writer's own: */
    unsigned poc;
    uint8_t *reference; /* the picture before: planes Y, Cb, Cr of whole blocks, laid out as those of H.264 */
};

/* The lowest level that holds the size, rate (pictures a second) and bits a second of the main tier (Tables A.8, A.9). */
unsigned hevc_level(unsigned width, unsigned height, double fps, uint64_t bitrate);

/* Appends the VPS, SPS and PPS. */
void hevc_headers(const struct hevc *h, struct bytes *out);

/* Appends one access unit of a picture laid out as `reference` is. `counts`: blocks coded and skipped. */
void hevc_picture(struct hevc *h, enum picture kind, bool headers, const uint8_t *planes, struct bytes *out,
                  unsigned counts[2]);

#endif
