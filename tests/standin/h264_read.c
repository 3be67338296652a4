/* Bits of NAL units, and H.264's reader. Section numbers are those of ITU-T H.264. */
#include "reader.h"

#include <stdlib.h>
#include <string.h>

/* --- bits --- */

static bool start_code(const uint8_t *at, size_t left) {
    return left >= 3 && !at[0] && !at[1] && at[2] == 1;
}

bool next_nal(const uint8_t *unit, size_t length, size_t *from, size_t *at, size_t *nal_length) {
    size_t i = *from;
    while (i < length && !start_code(unit + i, length - i)) i++;
    if (i >= length) return false;
    *at = i += 3;
    while (i < length && !start_code(unit + i, length - i)) i++;
    *from = i;
    /* Zeros before the next start code are not the NAL unit's. */
    while (i > *at && !unit[i - 1]) i--;
    *nal_length = i - *at;
    return true;
}

struct in nal_open(const uint8_t *nal, size_t length, size_t header) {
    struct in in = {.at = calloc(1, length + 1)};
    if (!in.at) abort();
    size_t count = 0, zeros = 0;
    for (size_t i = header; i < length; i++) {
        if (zeros >= 2 && nal[i] == 3) {
            zeros = 0;
            continue;
        }
        zeros = nal[i] ? 0 : zeros + 1;
        in.at[count++] = nal[i];
    }
    while (count && !in.at[count - 1]) count--;
    in.bits = count * 8;
    if (count) in.bits -= 1 + (unsigned)__builtin_ctz(in.at[count - 1]);
    return in;
}

/* Beyond the end there are zeros: what is read there is refused by its meaning. */
uint32_t get(struct in *in, unsigned width) {
    uint32_t value = 0;
    for (; width--; in->pos++)
        value = value << 1 | (in->pos < in->bits + 8 && in->at[in->pos / 8] >> (7 - in->pos % 8) & 1);
    return value;
}

uint32_t get_ue(struct in *in) {
    unsigned zeros = 0;
    while (zeros < 32 && in->pos < in->bits && !get(in, 1)) zeros++;
    return zeros < 32 ? (1u << zeros) - 1 + get(in, zeros) : UINT32_MAX;
}

int32_t get_se(struct in *in) {
    uint32_t value = get_ue(in);
    return value & 1 ? (int32_t)(value / 2 + 1) : -(int32_t)(value / 2);
}

const uint8_t *get_bytes(struct in *in, size_t count) {
    size_t at = (in->pos + 7) / 8;
    if ((at + count) * 8 > in->bits + 8) return NULL;
    in->pos = (at + count) * 8;
    return in->at + at;
}

/* --- blocks --- */

void block_write(const struct surface *to, unsigned x, unsigned y, const uint8_t *rows) {
    uint8_t *chroma = to->at + (size_t)to->width * to->height;
    for (unsigned i = 0; i < 16; i++) memcpy(to->at + ((size_t)y * 16 + i) * to->width + x * 16, rows + i * 16, 16);
    for (unsigned i = 0; i < 64; i++) {
        uint8_t *pair = chroma + ((size_t)y * 8 + i / 8) * to->width + x * 16 + i % 8 * 2;
        pair[0] = rows[256 + i];
        pair[1] = rows[320 + i];
    }
}

void block_copy(const struct surface *to, const struct surface *from, unsigned x, unsigned y) {
    size_t chroma = (size_t)to->width * to->height;
    for (unsigned i = 0; i < 24; i++) {
        size_t at = i < 16 ? ((size_t)y * 16 + i) * to->width : chroma + ((size_t)y * 8 + i - 16) * to->width;
        memcpy(to->at + at + x * 16, from->at + at + x * 16, 16);
    }
}

/* --- parameter sets --- */

/* 7.3.2.1.1 as far as it is needed */
static bool read_sps(struct in *in, struct sequence *s) {
    unsigned profile = get(in, 8);
    get(in, 16); /* constraints and level */
    get_ue(in);
    s->chroma = 1;
    s->depth = 8;
    if (strchr("\x64\x6e\x7a\xf4\x2c", (int)profile)) {
        s->chroma = get_ue(in);
        if (s->chroma == 3) get(in, 1);
        unsigned luma = 8 + get_ue(in), chroma = 8 + get_ue(in);
        s->depth = luma > chroma ? luma : chroma;
        get(in, 1);
        if (get(in, 1)) return false; /* scaling lists */
    }
    s->log2_frame_num = get_ue(in) + 4;
    s->poc_type = get_ue(in);
    if (s->poc_type == 1) return false;
    if (s->poc_type == 0) get_ue(in);
    s->surfaces = get_ue(in) + 1; /* max_num_ref_frames, and the picture itself */
    get(in, 1);
    s->width = (get_ue(in) + 1) * 16;
    s->height = (get_ue(in) + 1) * 16;
    if (!get(in, 1)) return false; /* frame_mbs_only_flag */
    get(in, 1);
    s->left = s->top = 0;
    s->right = s->width;
    s->bottom = s->height;
    if (get(in, 1)) {
        s->left = get_ue(in) * 2;
        s->right -= get_ue(in) * 2;
        s->top = get_ue(in) * 2;
        s->bottom -= get_ue(in) * 2;
    }
    return in->pos <= in->bits;
}

/* 7.3.2.2 */
static void read_pps(struct in *in, struct sequence *s) {
    get_ue(in);
    get_ue(in);
    s->cabac = get(in, 1);
    get(in, 1);
    if (get_ue(in)) return; /* slice groups */
    get_ue(in);
    get_ue(in);
    get(in, 3);
    get_se(in);
    get_se(in);
    get_se(in);
    s->deblocking_control = get(in, 1);
}

bool h264_sequence(const uint8_t *unit, size_t length, struct sequence *sequence) {
    size_t from = 0, at, nal;
    bool found = false;
    while (next_nal(unit, length, &from, &at, &nal)) {
        unsigned type = unit[at] & 31;
        if (type != 7 && type != 8) continue;
        struct in in = nal_open(unit + at, nal, 1);
        if (type == 7) found = read_sps(&in, sequence);
        else read_pps(&in, sequence);
        free(in.at);
    }
    return found;
}

bool h264_is_slice(uint8_t header) {
    return (header & 31) == 1 || (header & 31) == 5;
}

/* --- pictures --- */

/* 7.3.3, with nothing in it that our writer does not write: then the answer is false. */
static bool read_slice_header(struct in *in, const struct sequence *s, uint8_t header, unsigned *first, bool *p) {
    bool idr = (header & 31) == 5;
    *first = get_ue(in);
    unsigned type = get_ue(in) % 5;
    *p = type == 0;
    if (type != 0 && type != 2) return false;
    get_ue(in);
    get(in, s->log2_frame_num);
    if (idr) get_ue(in);
    if (*p && get(in, 2)) return false; /* changed reference lists */
    if (idr) get(in, 2);
    else if (get(in, 1)) return false; /* memory management */
    get_se(in);
    return !s->deblocking_control || get_ue(in) == 1; /* not deblocked */
}

static bool read_slice(struct in *in, const struct sequence *s, uint8_t header, const struct surface *before,
                       const struct surface *to) {
    unsigned at, across = to->width / 16, count = across * (to->height / 16);
    bool p;
    if (!read_slice_header(in, s, header, &at, &p) || (p && !before->at)) return false;
    while (in->pos < in->bits) {
        for (unsigned run = p ? get_ue(in) : 0; run; run--, at++) {
            if (at >= count) return false;
            block_copy(to, before, at % across, at / across);
        }
        if (in->pos >= in->bits) break;
        const uint8_t *rows = get_ue(in) == (p ? 5u + 25 : 25) ? get_bytes(in, 384) : NULL;
        if (!rows || at >= count) return false;
        block_write(to, at % across, at / across, rows);
        at++;
    }
    return true;
}

bool h264_read(const uint8_t *unit, size_t length, const struct sequence *sequence, const struct surface *before,
               const struct surface *to) {
    size_t from = 0, at, nal;
    bool whole = !sequence->cabac && sequence->poc_type == 2;
    while (whole && next_nal(unit, length, &from, &at, &nal)) {
        if (!h264_is_slice(unit[at])) continue;
        struct in in = nal_open(unit + at, nal, 1);
        whole = read_slice(&in, sequence, unit[at], before, to);
        free(in.at);
    }
    return whole;
}
