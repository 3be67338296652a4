/* Readers of what the stand-in's encoders write: a stream's sequence header, and its pictures.
 *
 * h264_read.c  I_PCM and skipped macroblocks (CAVLC)
 * hevc_read.c  pulse code modulated and skipped coding tree blocks
 * av1_read.c   anything, by libaom
 *
 * A sequence header is read whoever wrote it. Of pictures by others H.264's and HEVC's readers say that they cannot read them.
 */
#ifndef STANDIN_READER_H
#define STANDIN_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What a sequence header says, and what the slices' headers need of the parameter sets. */
struct sequence {
    unsigned width, height;            /* coded */
    unsigned left, top, right, bottom; /* of what is shown */
    unsigned depth, chroma;            /* bits of a sample; chroma_format_idc */
    unsigned surfaces;                 /* pictures that a decoder keeps at the least */
    /* Of H.264: */
    unsigned log2_frame_num, poc_type, cabac, deblocking_control;
};

/* A picture as NV12, coded size, without room between rows. */
struct surface {
    unsigned width, height;
    uint8_t *at;
};

/* Bits of one NAL unit, emulation prevention removed. */
struct in {
    uint8_t *at;
    size_t bits, pos; /* `bits`: those before the stop bit */
};

/* The next NAL unit of Annex B from `*from` on: its place and length, without start code. False: there is none. */
bool next_nal(const uint8_t *unit, size_t length, size_t *from, size_t *at, size_t *nal_length);
/* Takes the payload behind a header of so many bytes; to be freed. */
struct in nal_open(const uint8_t *nal, size_t length, size_t header);
uint32_t get(struct in *in, unsigned width);
uint32_t get_ue(struct in *in);
int32_t get_se(struct in *in);
/* Aligned, the place of so many bytes, or NULL. */
const uint8_t *get_bytes(struct in *in, size_t count);

/* Writes a block of 16x16, 16 rows of Y and 8 each of Cb and Cr one after another, to column and row `x`, `y`. */
void block_write(const struct surface *to, unsigned x, unsigned y, const uint8_t *rows);
/* The same of another picture. */
void block_copy(const struct surface *to, const struct surface *from, unsigned x, unsigned y);

/* Takes what a unit's parameter sets say; true where there is a sequence header among them. */
bool h264_sequence(const uint8_t *unit, size_t length, struct sequence *sequence);
bool hevc_sequence(const uint8_t *unit, size_t length, struct sequence *sequence);
bool av1_sequence(const uint8_t *unit, size_t length, struct sequence *sequence);

/* Whether a NAL unit is a slice, by its first byte. */
bool h264_is_slice(uint8_t header);
bool hevc_is_slice(uint8_t header);

/* Reads a unit's picture; `before` is the one before it, or has no memory. False: not in any way that this reads. */
bool h264_read(const uint8_t *unit, size_t length, const struct sequence *sequence, const struct surface *before,
               const struct surface *to);
bool hevc_read(const uint8_t *unit, size_t length, const struct surface *before, const struct surface *to);

/* `*decoder` begins as NULL. */
bool av1_read(void **decoder, const uint8_t *unit, size_t length, const struct surface *to);
void av1_read_end(void **decoder);

#endif
