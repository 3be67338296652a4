/* A baseline JPEG writer (ITU-T T.81): 4:2:0, the standard's own Huffman tables, quantisation as libjpeg scales it. */
#ifndef STANDIN_JPEG_H
#define STANDIN_JPEG_H

#include <stddef.h>
#include <stdint.h>

struct jpeg_plane {
    const uint8_t *at;
    size_t pitch;
};

struct jpeg_bytes {
    uint8_t *at;
    size_t length, room;
};

/* Replaces what is in `out` by a JFIF file of planes Y, Cb and Cr. `quality`: 1 to 100. */
void jpeg_write(const struct jpeg_plane planes[3], unsigned width, unsigned height, unsigned quality,
                struct jpeg_bytes *out);

#endif
