/* The writer. Section numbers are those of ITU-T H.265. */
#include "cabac.h"
#include "hevc.h"

#include <stdlib.h>
#include <string.h>

#define LOG2_MAX_POC_LSB 8
#define BLOCK 16

/* nal_unit_type (Table 7-1) */
enum { TRAIL_R = 1, IDR_W_RADL = 19, VPS = 32, SPS = 33, PPS = 34, AUD = 35, PREFIX_SEI = 39 };

static void end_hevc(struct bits *bits, unsigned type, struct bytes *out) {
    end_nal(bits, (const uint8_t[]){(uint8_t)(type << 1), 1}, 2, out);
}

/* --- CABAC: 9.3.4.3 turned round, as 9.3.5 does --- */

struct cabac {
    struct bits *bits;
    uint32_t low, range, outstanding;
    bool first;
    struct context skip[3], pred_mode, part_mode;
};

static void restart(struct cabac *c) {
    c->low = 0;
    c->range = 510;
    c->outstanding = 0;
    c->first = true;
}

static void put_bit(struct cabac *c, unsigned bit) {
    if (c->first) c->first = false;
    else put(c->bits, 1, bit);
    for (; c->outstanding; c->outstanding--) put(c->bits, 1, 1 - bit);
}

static void renormalise(struct cabac *c) {
    while (c->range < 256) {
        if (c->low < 256) put_bit(c, 0);
        else if (c->low >= 512) {
            c->low -= 512;
            put_bit(c, 1);
        } else {
            c->low -= 256;
            c->outstanding++;
        }
        c->range <<= 1;
        c->low <<= 1;
    }
}

static void put_bin(struct cabac *c, struct context *with, unsigned bin) {
    unsigned lps = range_lps[with->state][c->range >> 6 & 3];
    c->range -= lps;
    if (bin != with->mps) {
        c->low += c->range;
        c->range = lps;
        if (!with->state) with->mps = 1 - with->mps;
        with->state = next_lps[with->state];
    } else if (with->state < 62) with->state++;
    renormalise(c);
}

/* After a 1 the bits end with a 1 of their own: the stop bit of a slice, or what comes before PCM samples. */
static void put_terminal_bin(struct cabac *c, unsigned bin) {
    c->range -= 2;
    if (!bin) return renormalise(c);
    c->low += c->range;
    c->range = 2;
    renormalise(c);
    put_bit(c, c->low >> 9 & 1);
    put(c->bits, 2, (c->low >> 7 & 3) | 1);
}

/* --- parameter sets --- */

/* Tables A.8 and A.9: thirty times the level, luma samples a picture and a second, kbit/s of the main tier. */
static const struct {
    unsigned level;
    uint64_t samples, samples_per_second, kbits;
} levels[] = {
    {30, 36864, 552960, 128},          {60, 122880, 3686400, 1500},        {63, 245760, 7372800, 3000},
    {90, 552960, 16588800, 6000},      {93, 983040, 33177600, 10000},      {120, 2228224, 66846720, 12000},
    {123, 2228224, 133693440, 20000},  {150, 8912896, 267386880, 25000},   {153, 8912896, 534773760, 40000},
    {156, 8912896, 1069547520, 60000}, {180, 35651584, 1069547520, 60000}, {183, 35651584, 2139095040, 120000},
    {186, 35651584, 4278190080, 240000},
};

unsigned hevc_level(unsigned width, unsigned height, double fps, uint64_t bitrate) {
    unsigned count = sizeof levels / sizeof *levels;
    uint64_t samples = (uint64_t)width * height;
    for (unsigned i = 0; i < count; i++)
        if (samples <= levels[i].samples && (double)samples * fps <= (double)levels[i].samples_per_second &&
            bitrate <= levels[i].kbits * 1000)
            return levels[i].level;
    return levels[count - 1].level;
}

static unsigned stride_of(const struct hevc *h) {
    return (h->width + BLOCK - 1) / BLOCK * BLOCK;
}

static unsigned rows_of(const struct hevc *h) {
    return (h->height + BLOCK - 1) / BLOCK * BLOCK;
}

/* 7.3.3, of one layer: the main profile, which main 10 holds too. */
static void put_profile_tier_level(struct bits *b, const struct hevc *h) {
    put(b, 2, 0);
    put(b, 1, h->high_tier);
    put(b, 5, 1);
    put(b, 32, 0x60000000);
    put(b, 4, 9); /* progressive, not interlaced, no constraint of packing, frames only */
    put(b, 22, 0);
    put(b, 22, 0);
    put(b, 8, h->level);
}

static void put_sub_layers(struct bits *b) {
    put(b, 1, 1);
    put_ue(b, 1); /* max_dec_pic_buffering_minus1 */
    put_ue(b, 0); /* max_num_reorder_pics */
    put_ue(b, 0);
}

/* 7.3.2.1 */
static void put_vps(struct bits *b, const struct hevc *h) {
    put(b, 4, h->vps_id);
    put(b, 2, 3);
    put(b, 6, 0);
    put(b, 3, 0);
    put(b, 1, 1);
    put(b, 16, 0xffff);
    put_profile_tier_level(b, h);
    put_sub_layers(b);
    put(b, 6, 0);
    put_ue(b, 0);
    put(b, 2, 0);
}

/* E.2.1 */
static void put_vui(struct bits *b, const struct vui *vui) {
    put_vui_colour(b, vui);
    put(b, 4, 0); /* neutral chroma, fields, frame_field_info, default display window */
    put(b, 1, vui->timing_info_present);
    if (vui->timing_info_present) {
        put(b, 32, vui->num_units_in_tick);
        put(b, 32, vui->time_scale);
        put(b, 2, 0);
    }
    put(b, 1, vui->bitstream_restriction);
    if (vui->bitstream_restriction) {
        put(b, 3, 3); /* tiles may change, vectors may lead outside, lists stay */
        put_ue(b, 0);
        put_ue(b, 0);
        put_ue(b, 0);
        put_ue(b, 15);
        put_ue(b, 15);
    }
}

/* 7.3.2.2 */
static void put_sps(struct bits *b, const struct hevc *h) {
    const struct vui *vui = &h->vui;
    put(b, 4, h->vps_id);
    put(b, 3, 0);
    put(b, 1, 1);
    put_profile_tier_level(b, h);
    put_ue(b, h->sps_id);
    put_ue(b, 1); /* chroma_format_idc: 4:2:0 */
    put_ue(b, stride_of(h));
    put_ue(b, rows_of(h));
    unsigned right = (stride_of(h) - h->width) / 2, bottom = (rows_of(h) - h->height) / 2;
    put(b, 1, right || bottom);
    if (right || bottom) {
        put_ue(b, 0);
        put_ue(b, right);
        put_ue(b, 0);
        put_ue(b, bottom);
    }
    put_ue(b, 0); /* 8 bits of luma */
    put_ue(b, 0); /* and of chroma */
    put_ue(b, LOG2_MAX_POC_LSB - 4);
    put_sub_layers(b);
    put_ue(b, 1); /* coding blocks of 16x16 */
    put_ue(b, 0); /* and no other: they are the coding tree blocks */
    put_ue(b, 0); /* transform blocks from 4x4 */
    put_ue(b, 2); /* to 16x16 */
    put_ue(b, 0);
    put_ue(b, 0);
    put(b, 3, 0); /* no scaling lists, asymmetric partitions, sample adaptive offset */
    put(b, 1, 1); /* pcm_enabled_flag */
    put(b, 4, 7);
    put(b, 4, 7);
    put_ue(b, 1); /* of 16x16 */
    put_ue(b, 0);
    put(b, 1, 1);  /* pcm_loop_filter_disabled_flag */
    put_ue(b, 1);  /* one short-term reference picture set: */
    put_ue(b, 1);  /* one picture before, */
    put_ue(b, 0);  /* none after; */
    put_ue(b, 0);  /* it is the last, */
    put(b, 1, 1);  /* which is referred to */
    put(b, 3, 0);  /* no long-term pictures, temporal vectors, strong smoothing */
    bool any = vui->overscan_info_present || vui->signal_type_present || vui->chroma_location_present ||
               vui->timing_info_present || vui->bitstream_restriction;
    put(b, 1, any);
    if (any) put_vui(b, vui);
    put(b, 1, 0);
}

/* 7.3.2.3 */
static void put_pps(struct bits *b, const struct hevc *h) {
    put_ue(b, h->pps_id);
    put_ue(b, h->sps_id);
    put(b, 7, 0); /* no dependent slices, output flags, extra bits, hidden signs, choice of CABAC's start */
    put_ue(b, 0);
    put_ue(b, 0);
    put_se(b, 0); /* init_qp 26 */
    put(b, 3, 0);
    put_se(b, 0);
    put_se(b, 0);
    put(b, 7, 0);  /* ... no weights, bypass, tiles, wavefronts, filter across slices */
    put(b, 3, 5);  /* deblocking: is spoken of, not changed by slices, and off */
    put(b, 2, 0);  /* no scaling lists, changed reference lists */
    put_ue(b, 0);
    put(b, 2, 0);
}

void hevc_headers(const struct hevc *h, struct bytes *out) {
    struct bits bits = {0};
    put_vps(&bits, h);
    end_hevc(&bits, VPS, out);
    put_sps(&bits, h);
    end_hevc(&bits, SPS, out);
    put_pps(&bits, h);
    end_hevc(&bits, PPS, out);
    free(bits.out.at);
}

/* --- pictures --- */

/* 7.3.6.1, and byte_alignment() behind it */
static void put_slice_header(struct bits *b, const struct hevc *h, enum picture kind) {
    put(b, 1, 1); /* first_slice_segment_in_pic_flag */
    if (kind == PICTURE_IDR) put(b, 1, 0);
    put_ue(b, h->pps_id);
    put_ue(b, kind == PICTURE_P ? 1 : 2);
    if (kind != PICTURE_IDR) {
        put(b, LOG2_MAX_POC_LSB, h->poc);
        put(b, 1, 1); /* short_term_ref_pic_set_sps_flag */
    }
    if (kind == PICTURE_P) {
        put(b, 1, 0); /* num_ref_idx_active_override_flag */
        put_ue(b, 4); /* one merging candidate */
    }
    put_se(b, 0); /* slice_qp_delta */
    put(b, 1, 1);
    align_with_zeros(b);
}

struct block {
    const uint8_t *row[32]; /* 16 of Y, 8 of Cb, 8 of Cr */
};

static struct block block_at(const struct hevc *h, const uint8_t *planes, unsigned x, unsigned y) {
    struct block block;
    size_t stride = stride_of(h), rows = rows_of(h);
    const uint8_t *cb = planes + stride * rows, *cr = cb + stride / 2 * (rows / 2);
    for (unsigned i = 0; i < 16; i++) block.row[i] = planes + (y * 16 + i) * stride + x * 16;
    for (unsigned i = 0; i < 8; i++) {
        block.row[16 + i] = cb + (y * 8 + i) * (stride / 2) + x * 8;
        block.row[24 + i] = cr + (y * 8 + i) * (stride / 2) + x * 8;
    }
    return block;
}

static bool same(const struct block *a, const struct block *b) {
    for (unsigned i = 0; i < 32; i++)
        if (memcmp(a->row[i], b->row[i], i < 16 ? 16 : 8)) return false;
    return true;
}

/* 7.3.8: a coding tree is one coding unit. A skipped one takes the only merging candidate: its neighbours are intra or
 * did not move, so that it does not move either (8.5.3.2.2). */
static void put_slice_data(struct bits *b, const struct hevc *h, enum picture kind, const uint8_t *planes,
                           unsigned counts[2]) {
    unsigned across = stride_of(h) / BLOCK, blocks = across * (rows_of(h) / BLOCK);
    bool p = kind == PICTURE_P;
    /* Tables 9-11 to 9-13, initType 0 and 1 */
    struct cabac c = {.bits = b,
                      .skip = {context(197), context(185), context(201)},
                      .pred_mode = context(149),
                      .part_mode = context(p ? 154 : 184)};
    bool *skipped = calloc(blocks, sizeof *skipped);
    if (!skipped) abort();
    restart(&c);
    for (unsigned at = 0; at < blocks; at++) {
        unsigned x = at % across, y = at / across;
        struct block now = block_at(h, planes, x, y);
        if (p) {
            struct block before = block_at(h, h->reference, x, y);
            skipped[at] = same(&now, &before) && !refreshed(&h->refresh, x, across);
            unsigned beside = (x && skipped[at - 1]) + (y && skipped[at - across]);
            put_bin(&c, &c.skip[beside], skipped[at]);
            if (!skipped[at]) put_bin(&c, &c.pred_mode, 1);
        }
        counts[skipped[at]]++;
        if (!skipped[at]) {
            put_bin(&c, &c.part_mode, 1); /* 2Nx2N */
            put_terminal_bin(&c, 1);      /* pcm_flag */
            align_with_zeros(b);
            for (unsigned i = 0; i < 32; i++) append(&b->out, now.row[i], i < 16 ? 16 : 8);
            restart(&c);
        }
        put_terminal_bin(&c, at + 1 == blocks);
    }
    free(skipped);
}

/* D.2.8, as H.264's but for how the count is written */
static void put_recovery_point(struct bits *b, int pictures) {
    struct bits payload = {0};
    put_se(&payload, pictures);
    put(&payload, 2, 2); /* exact_match_flag, broken_link_flag */
    if (payload.count) put(&payload, 1, 1);
    align_with_zeros(&payload);
    put(b, 8, 6);
    put(b, 8, (uint32_t)payload.out.length);
    for (size_t i = 0; i < payload.out.length; i++) put(b, 8, payload.out.at[i]);
    free(payload.out.at);
}

void hevc_picture(struct hevc *h, enum picture kind, bool headers, const uint8_t *planes, struct bytes *out,
                  unsigned counts[2]) {
    size_t size = (size_t)stride_of(h) * rows_of(h) * 3 / 2;
    struct bits bits = {0};
    room_for(&bits.out, size + size / 8);
    if (h->aud) {
        put(&bits, 3, kind == PICTURE_P ? 1 : 0);
        end_hevc(&bits, AUD, out);
    }
    if (headers) hevc_headers(h, out);
    if (h->recovery_point && h->refresh.frames && h->refresh.at == 0) {
        put_recovery_point(&bits, (int)h->refresh.frames - 1);
        end_hevc(&bits, PREFIX_SEI, out);
    }
    if (kind == PICTURE_IDR) h->poc = 0;
    counts[0] = counts[1] = 0;
    put_slice_header(&bits, h, kind);
    put_slice_data(&bits, h, kind, planes, counts);
    unsigned type = kind == PICTURE_IDR ? IDR_W_RADL : TRAIL_R;
    flush_nal(&bits, (const uint8_t[]){(uint8_t)(type << 1), 1}, 2, out);
    free(bits.out.at);
    h->poc = (h->poc + 1) % (1u << LOG2_MAX_POC_LSB);
    if (!h->reference) h->reference = malloc(size);
    if (!h->reference) abort();
    memcpy(h->reference, planes, size);
}
