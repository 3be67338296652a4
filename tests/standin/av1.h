/* A lossless AV1 writer: libaom, in its fastest way of working, one temporal unit out for each picture in. */
#ifndef STANDIN_AV1_H
#define STANDIN_AV1_H

#include "h264.h"

struct av1 {
    unsigned width, height; /* even */
    unsigned primaries, transfer, matrix;
    bool full_range;
    /* The writer's own; NULL before the first picture, and after the size or colour has changed: */
    void *codec;
};

/* The sequence header OBU. */
void av1_headers(struct av1 *a, struct bytes *out);

/* Appends one temporal unit, in the low-overhead format and with its temporal delimiter, of a picture laid out as those of
 * H.264; a key frame has a sequence header in front. */
void av1_picture(struct av1 *a, bool key, const uint8_t *planes, struct bytes *out);

/* Ends the writer; the next picture begins another. */
void av1_end(struct av1 *a);

#endif
