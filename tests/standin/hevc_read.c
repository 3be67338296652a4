/* HEVC's reader. Section numbers are those of ITU-T H.265. */
#include "cabac.h"
#include "reader.h"

#include <stdlib.h>

enum { IDR_W_RADL = 19, SPS = 33 };

static unsigned type_of(uint8_t header) {
    return header >> 1 & 63;
}

bool hevc_is_slice(uint8_t header) {
    return type_of(header) < 32;
}

/* 7.3.2.2 as far as it is needed */
static bool read_sps(struct in *in, struct sequence *s) {
    get(in, 4);
    unsigned layers = get(in, 3);
    get(in, 1);
    if (layers) return false;
    for (unsigned i = 0; i < 3; i++) get(in, 32); /* profile_tier_level of one layer: 96 bits */
    get_ue(in);
    s->chroma = get_ue(in);
    if (s->chroma == 3) get(in, 1);
    s->width = get_ue(in);
    s->height = get_ue(in);
    s->left = s->top = 0;
    s->right = s->width;
    s->bottom = s->height;
    if (get(in, 1)) {
        s->left = get_ue(in) * 2;
        s->right -= get_ue(in) * 2;
        s->top = get_ue(in) * 2;
        s->bottom -= get_ue(in) * 2;
    }
    unsigned luma = 8 + get_ue(in), chroma = 8 + get_ue(in);
    s->depth = luma > chroma ? luma : chroma;
    s->surfaces = 2;
    return in->pos <= in->bits;
}

bool hevc_sequence(const uint8_t *unit, size_t length, struct sequence *sequence) {
    size_t from = 0, at, nal;
    bool found = false;
    while (next_nal(unit, length, &from, &at, &nal)) {
        if (type_of(unit[at]) != SPS) continue;
        struct in in = nal_open(unit + at, nal, 2);
        found = read_sps(&in, sequence);
        free(in.at);
    }
    return found;
}

/* --- CABAC: 9.3.4.3 --- */

struct cabac {
    struct in *in;
    uint32_t range, offset;
};

static void restart(struct cabac *c) {
    c->range = 510;
    c->offset = get(c->in, 9);
}

static void renormalise(struct cabac *c) {
    for (; c->range < 256; c->range <<= 1) c->offset = c->offset << 1 | get(c->in, 1);
}

static unsigned get_bin(struct cabac *c, struct context *with) {
    unsigned lps = range_lps[with->state][c->range >> 6 & 3], bin = with->mps;
    c->range -= lps;
    if (c->offset >= c->range) {
        c->offset -= c->range;
        c->range = lps;
        bin = 1 - bin;
        if (!with->state) with->mps = 1 - with->mps;
        with->state = next_lps[with->state];
    } else if (with->state < 62) with->state++;
    renormalise(c);
    return bin;
}

/* After a 1 all bits that belong to the code have been read, the 1 at its end among them. */
static unsigned get_terminal_bin(struct cabac *c) {
    c->range -= 2;
    if (c->offset >= c->range) return 1;
    renormalise(c);
    return 0;
}

/* --- pictures --- */

/* 7.3.6.1, as our writer writes it, and byte_alignment() behind it */
static bool read_slice_header(struct in *in, uint8_t header, bool *p) {
    bool idr = type_of(header) == IDR_W_RADL;
    if (!get(in, 1)) return false; /* first_slice_segment_in_pic_flag: there is one */
    if (idr) get(in, 1);
    get_ue(in);
    unsigned type = get_ue(in);
    *p = type == 1;
    if (!*p && type != 2) return false;
    if (!idr) {
        get(in, 8);
        if (!get(in, 1)) return false; /* short_term_ref_pic_set_sps_flag */
    }
    if (*p && (get(in, 1) || get_ue(in) != 4)) return false;
    if (get_se(in) || !get(in, 1)) return false;
    in->pos = (in->pos + 7) / 8 * 8;
    return true;
}

static bool read_slice(struct in *in, uint8_t header, const struct surface *before, const struct surface *to) {
    unsigned across = to->width / 16, count = across * (to->height / 16);
    bool p;
    if (!read_slice_header(in, header, &p) || (p && !before->at)) return false;
    struct cabac c = {.in = in};
    struct context skip[3] = {context(197), context(185), context(201)}, pred_mode = context(149),
                   part_mode = context(p ? 154 : 184);
    bool *skipped = calloc(count, sizeof *skipped), whole = true;
    if (!skipped) abort();
    restart(&c);
    for (unsigned at = 0; at < count && whole; at++) {
        unsigned x = at % across, y = at / across;
        unsigned beside = p ? (x && skipped[at - 1]) + (y && skipped[at - across]) : 0;
        skipped[at] = p && get_bin(&c, &skip[beside]);
        if (skipped[at]) block_copy(to, before, x, y);
        else {
            /* Intra, 2Nx2N, and pulse code modulated. */
            whole = (!p || get_bin(&c, &pred_mode)) && get_bin(&c, &part_mode) && get_terminal_bin(&c);
            const uint8_t *rows = whole ? get_bytes(in, 384) : NULL;
            whole = rows;
            if (!rows) break;
            block_write(to, x, y, rows);
            restart(&c);
        }
        whole = get_terminal_bin(&c) == (at + 1 == count);
    }
    free(skipped);
    return whole;
}

bool hevc_read(const uint8_t *unit, size_t length, const struct surface *before, const struct surface *to) {
    size_t from = 0, at, nal;
    bool whole = to->width % 16 == 0 && to->height % 16 == 0;
    while (whole && next_nal(unit, length, &from, &at, &nal)) {
        if (!hevc_is_slice(unit[at])) continue;
        struct in in = nal_open(unit + at, nal, 2);
        whole = read_slice(&in, unit[at], before, to);
        free(in.at);
    }
    return whole;
}
