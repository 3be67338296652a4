#include "jpeg.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Annex K.1: tables for luminance and chrominance, row by row. */
static const uint8_t quantisers[2][64] = {
    {16, 11, 10, 16, 24,  40,  51,  61,  12, 12, 14, 19, 26,  58,  60,  55,  14, 13, 16, 24, 40,  57,
     69, 56, 14, 17, 22,  29,  51,  87,  80, 62, 18, 22, 37,  56,  68,  109, 103, 77, 24, 35, 55,  64,
     81, 104, 113, 92, 49, 64,  78,  87,  103, 121, 120, 101, 72, 92,  95,  98,  112, 100, 103, 99},
    {17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
     99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
     99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99},
};

/* Figure A.6: the place of each coefficient in a row-by-row block. */
static const uint8_t zigzag[64] = {0,  1,  8,  16, 9,  2,  3,  10, 17, 24, 32, 25, 18, 11, 4,  5,  12, 19, 26, 33, 40, 48,
                                   41, 34, 27, 20, 13, 6,  7,  14, 21, 28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23,
                                   30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63};

/* Annex K.3: how many codes there are of each length, and their values. */
struct huffman {
    uint8_t lengths[16], count;
    uint8_t values[162];
};

/* DC of luminance and chrominance, then AC. */
static const struct huffman tables[4] = {
    {{0, 1, 5, 1, 1, 1, 1, 1, 1}, 12, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
    {{0, 3, 1, 1, 1, 1, 1, 1, 1, 1, 1}, 12, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}},
    {{0, 2, 1, 3, 3, 2, 4, 3, 5, 5, 4, 4, 0, 0, 1, 125},
     162,
     {0x01, 0x02, 0x03, 0x00, 0x04, 0x11, 0x05, 0x12, 0x21, 0x31, 0x41, 0x06, 0x13, 0x51, 0x61, 0x07, 0x22, 0x71,
      0x14, 0x32, 0x81, 0x91, 0xa1, 0x08, 0x23, 0x42, 0xb1, 0xc1, 0x15, 0x52, 0xd1, 0xf0, 0x24, 0x33, 0x62, 0x72,
      0x82, 0x09, 0x0a, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x34, 0x35, 0x36, 0x37,
      0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0x59,
      0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a, 0x83,
      0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0xa2, 0xa3,
      0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba, 0xc2, 0xc3,
      0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda, 0xe1, 0xe2,
      0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa}},
    {{0, 2, 1, 2, 4, 4, 3, 4, 7, 5, 4, 4, 0, 1, 2, 119},
     162,
     {0x00, 0x01, 0x02, 0x03, 0x11, 0x04, 0x05, 0x21, 0x31, 0x06, 0x12, 0x41, 0x51, 0x07, 0x61, 0x71, 0x13, 0x22,
      0x32, 0x81, 0x08, 0x14, 0x42, 0x91, 0xa1, 0xb1, 0xc1, 0x09, 0x23, 0x33, 0x52, 0xf0, 0x15, 0x62, 0x72, 0xd1,
      0x0a, 0x16, 0x24, 0x34, 0xe1, 0x25, 0xf1, 0x17, 0x18, 0x19, 0x1a, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x35, 0x36,
      0x37, 0x38, 0x39, 0x3a, 0x43, 0x44, 0x45, 0x46, 0x47, 0x48, 0x49, 0x4a, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58,
      0x59, 0x5a, 0x63, 0x64, 0x65, 0x66, 0x67, 0x68, 0x69, 0x6a, 0x73, 0x74, 0x75, 0x76, 0x77, 0x78, 0x79, 0x7a,
      0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x92, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a,
      0xa2, 0xa3, 0xa4, 0xa5, 0xa6, 0xa7, 0xa8, 0xa9, 0xaa, 0xb2, 0xb3, 0xb4, 0xb5, 0xb6, 0xb7, 0xb8, 0xb9, 0xba,
      0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7, 0xc8, 0xc9, 0xca, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9, 0xda,
      0xe2, 0xe3, 0xe4, 0xe5, 0xe6, 0xe7, 0xe8, 0xe9, 0xea, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9, 0xfa}},
};

/* --- bytes and bits --- */

static void byte(struct jpeg_bytes *out, unsigned value) {
    if (out->length == out->room) {
        out->room = out->room ? 2 * out->room : 65536;
        out->at = realloc(out->at, out->room);
        if (!out->at) abort();
    }
    out->at[out->length++] = (uint8_t)value;
}

static void word(struct jpeg_bytes *out, unsigned value) {
    byte(out, value >> 8);
    byte(out, value & 255);
}

static void bytes(struct jpeg_bytes *out, const void *from, size_t count) {
    for (size_t i = 0; i < count; i++) byte(out, ((const uint8_t *)from)[i]);
}

struct bits {
    struct jpeg_bytes *out;
    uint64_t held;
    unsigned count;
};

static void put(struct bits *bits, unsigned value, unsigned length) {
    bits->held = bits->held << length | value;
    for (bits->count += length; bits->count >= 8; bits->count -= 8) {
        unsigned next = bits->held >> (bits->count - 8) & 255;
        byte(bits->out, next);
        if (next == 255) byte(bits->out, 0);
    }
}

/* --- a block --- */

struct code {
    uint16_t bits;
    uint8_t length;
};

struct coder {
    struct bits bits;
    struct code codes[4][256];
    uint8_t quantiser[2][64];
    float cosine[8][8]; /* of frequency and place, with the transform's factors */
};

/* Annex C.2. */
static void make_codes(struct code codes[256], const struct huffman *table) {
    unsigned code = 0, at = 0;
    for (unsigned length = 1; length <= 16; length++, code <<= 1)
        for (unsigned i = 0; i < table->lengths[length - 1]; i++)
            codes[table->values[at++]] = (struct code){.bits = (uint16_t)code++, .length = (uint8_t)length};
}

/* cos(x), by its series, for 0 <= x < 8 pi: the library of mathematics is one more to link. */
static double cosine(double x) {
    const double pi = 3.14159265358979323846;
    while (x > pi) x -= 2 * pi;
    double term = 1, sum = 1;
    for (int n = 1; n < 16; n++) sum += term *= -x * x / ((2 * n - 1) * (2 * n));
    return sum;
}

/* A.3.3. */
static void transform(const struct coder *coder, const float in[64], float out[64]) {
    float half[64];
    for (unsigned y = 0; y < 8; y++)
        for (unsigned u = 0; u < 8; u++) {
            float sum = 0;
            for (unsigned x = 0; x < 8; x++) sum += in[8 * y + x] * coder->cosine[u][x];
            half[8 * y + u] = sum;
        }
    for (unsigned v = 0; v < 8; v++)
        for (unsigned u = 0; u < 8; u++) {
            float sum = 0;
            for (unsigned y = 0; y < 8; y++) sum += half[8 * y + u] * coder->cosine[v][y];
            out[8 * v + u] = sum;
        }
}

/* A value's bits behind its category (F.1.2.1). */
static unsigned category(int value, unsigned *bits) {
    unsigned size = 0, magnitude = (unsigned)abs(value);
    while (magnitude >> size) size++;
    *bits = (value < 0 ? (unsigned)(value - 1) : (unsigned)value) & ((1u << size) - 1);
    return size;
}

static void block(struct coder *coder, const float pixels[64], unsigned kind, int *last_dc) {
    float frequencies[64];
    transform(coder, pixels, frequencies);
    int levels[64];
    for (unsigned i = 0; i < 64; i++) {
        float level = frequencies[zigzag[i]] / coder->quantiser[kind][zigzag[i]];
        levels[i] = (int)(level < 0 ? level - 0.5f : level + 0.5f);
    }
    unsigned bits, size = category(levels[0] - *last_dc, &bits);
    *last_dc = levels[0];
    put(&coder->bits, coder->codes[kind][size].bits, coder->codes[kind][size].length);
    put(&coder->bits, bits, size);
    const struct code *ac = coder->codes[2 + kind];
    unsigned zeros = 0;
    for (unsigned i = 1; i < 64; i++) {
        if (!levels[i]) {
            zeros++;
            continue;
        }
        for (; zeros > 15; zeros -= 16) put(&coder->bits, ac[0xf0].bits, ac[0xf0].length);
        size = category(levels[i], &bits);
        put(&coder->bits, ac[zeros << 4 | size].bits, ac[zeros << 4 | size].length);
        put(&coder->bits, bits, size);
        zeros = 0;
    }
    if (zeros) put(&coder->bits, ac[0].bits, ac[0].length);
}

/* The block of a plane whose first pixel is this one; what is beyond the plane repeats its edge. */
static void plane_block(struct coder *coder, const struct jpeg_plane *plane, unsigned width, unsigned height,
                        unsigned left, unsigned top, unsigned kind, int *last_dc) {
    float pixels[64];
    for (unsigned y = 0; y < 8; y++) {
        const uint8_t *row = plane->at + (top + y < height ? top + y : height - 1) * plane->pitch;
        for (unsigned x = 0; x < 8; x++) pixels[8 * y + x] = (float)row[left + x < width ? left + x : width - 1] - 128;
    }
    block(coder, pixels, kind, last_dc);
}

/* --- the file --- */

static void headers(const struct coder *coder, unsigned width, unsigned height, struct jpeg_bytes *out) {
    static const uint8_t jfif[] = {0xff, 0xd8, 0xff, 0xe0, 0, 16, 'J', 'F', 'I', 'F', 0, 1, 1, 0, 0, 1, 0, 1, 0, 0};
    bytes(out, jfif, sizeof jfif);
    for (unsigned kind = 0; kind < 2; kind++) {
        word(out, 0xffdb);
        word(out, 67);
        byte(out, kind);
        for (unsigned i = 0; i < 64; i++) byte(out, coder->quantiser[kind][zigzag[i]]);
    }
    static const uint8_t components[] = {3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1};
    word(out, 0xffc0);
    word(out, 17);
    byte(out, 8);
    word(out, height);
    word(out, width);
    bytes(out, components, sizeof components);
    for (unsigned i = 0; i < 4; i++) {
        word(out, 0xffc4);
        word(out, 19u + tables[i].count);
        byte(out, i & 2 ? 0x10 | (i & 1) : i);
        bytes(out, tables[i].lengths, 16);
        bytes(out, tables[i].values, tables[i].count);
    }
    static const uint8_t scan[] = {0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0};
    bytes(out, scan, sizeof scan);
}

void jpeg_write(const struct jpeg_plane planes[3], unsigned width, unsigned height, unsigned quality,
                struct jpeg_bytes *out) {
    struct coder coder = {.bits = {.out = out}};
    for (unsigned i = 0; i < 4; i++) make_codes(coder.codes[i], &tables[i]);
    unsigned scale = quality < 50 ? 5000 / quality : 200 - 2 * quality;
    for (unsigned kind = 0; kind < 2; kind++)
        for (unsigned i = 0; i < 64; i++) {
            unsigned step = (quantisers[kind][i] * scale + 50) / 100;
            coder.quantiser[kind][i] = (uint8_t)(step < 1 ? 1 : step > 255 ? 255 : step);
        }
    for (unsigned u = 0; u < 8; u++)
        for (unsigned x = 0; x < 8; x++)
            coder.cosine[u][x] =
                (float)(cosine((2 * x + 1) * u * 3.14159265358979323846 / 16) * (u ? 0.5 : 0.35355339059327376));
    out->length = 0;
    headers(&coder, width, height, out);
    unsigned half_width = (width + 1) / 2, half_height = (height + 1) / 2;
    int dc[3] = {0, 0, 0};
    for (unsigned y = 0; y < height; y += 16)
        for (unsigned x = 0; x < width; x += 16) {
            for (unsigned i = 0; i < 4; i++)
                plane_block(&coder, &planes[0], width, height, x + 8 * (i & 1), y + 8 * (i >> 1), 0, &dc[0]);
            for (unsigned i = 1; i < 3; i++)
                plane_block(&coder, &planes[i], half_width, half_height, x / 2, y / 2, 1, &dc[i]);
        }
    /* The last byte is filled up with ones (F.1.2.3). */
    if (coder.bits.count) put(&coder.bits, (1u << (8 - coder.bits.count)) - 1, 8 - coder.bits.count);
    word(out, 0xffd9);
}
