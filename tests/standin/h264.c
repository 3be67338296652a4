/* The writer. Section numbers are those of ITU-T H.264. */
#include "h264.h"

#include <stdlib.h>
#include <string.h>

#define LOG2_MAX_FRAME_NUM 8

static void end_h264(struct bits *bits, uint8_t header, struct bytes *out) {
    end_nal(bits, &header, 1, out);
}

/* --- parameter sets --- */

/* Table A-1: macroblocks a second, macroblocks, kbit/s of the baseline and main profiles. */
static const struct {
    unsigned level, mbs_per_second, mbs, kbits;
} levels[] = {
    {10, 1485, 99, 64},
    {11, 3000, 396, 192},
    {12, 6000, 396, 384},
    {13, 11880, 396, 768},
    {20, 11880, 396, 2000},
    {21, 19800, 792, 4000},
    {22, 20250, 1620, 4000},
    {30, 40500, 1620, 10000},
    {31, 108000, 3600, 14000},
    {32, 216000, 5120, 20000},
    {40, 245760, 8192, 20000},
    {41, 245760, 8192, 50000},
    {42, 522240, 8704, 50000},
    {50, 589824, 22080, 135000},
    {51, 983040, 36864, 240000},
    {52, 2073600, 36864, 240000},
    {60, 4177920, 139264, 240000},
    {61, 8355840, 139264, 480000},
    {62, 16711680, 139264, 800000},
};

unsigned h264_level(unsigned width, unsigned height, double fps, uint64_t bitrate) {
    unsigned mbs = (width + 15) / 16 * ((height + 15) / 16), count = sizeof levels / sizeof *levels;
    for (unsigned i = 0; i < count; i++)
        if (mbs <= levels[i].mbs && mbs * fps <= levels[i].mbs_per_second && bitrate <= levels[i].kbits * 1000ull)
            return levels[i].level;
    return levels[count - 1].level;
}

unsigned h264_stride(const struct h264 *h) {
    return (h->width + 15) / 16 * 16;
}

unsigned h264_rows(const struct h264 *h) {
    return (h->height + 15) / 16 * 16;
}

void put_vui_colour(struct bits *b, const struct vui *vui) {
    put(b, 1, 0); /* aspect_ratio_info_present_flag */
    put(b, 1, vui->overscan_info_present);
    if (vui->overscan_info_present) put(b, 1, vui->overscan_appropriate);
    put(b, 1, vui->signal_type_present);
    if (vui->signal_type_present) {
        put(b, 3, vui->video_format);
        put(b, 1, vui->full_range);
        put(b, 1, vui->colour_description_present);
        if (vui->colour_description_present) {
            put(b, 8, vui->primaries);
            put(b, 8, vui->transfer);
            put(b, 8, vui->matrix);
        }
    }
    put(b, 1, vui->chroma_location_present);
    if (vui->chroma_location_present) {
        put_ue(b, vui->chroma_location_top);
        put_ue(b, vui->chroma_location_bottom);
    }
}

/* E.1.1 */
static void put_vui(struct bits *b, const struct vui *vui) {
    put_vui_colour(b, vui);
    put(b, 1, vui->timing_info_present);
    if (vui->timing_info_present) {
        put(b, 32, vui->num_units_in_tick);
        put(b, 32, vui->time_scale);
        put(b, 1, vui->fixed_rate);
    }
    put(b, 1, 0); /* nal_hrd_parameters_present_flag */
    put(b, 1, 0); /* vcl_hrd_parameters_present_flag */
    put(b, 1, 0); /* pic_struct_present_flag */
    put(b, 1, vui->bitstream_restriction);
    if (vui->bitstream_restriction) {
        put(b, 1, 1);  /* motion_vectors_over_pic_boundaries_flag */
        put_ue(b, 0);  /* max_bytes_per_pic_denom: no limit */
        put_ue(b, 0);  /* max_bits_per_mb_denom: no limit */
        put_ue(b, 16); /* log2_max_mv_length_horizontal */
        put_ue(b, 16);
        put_ue(b, 0); /* max_num_reorder_frames */
        put_ue(b, 1); /* max_dec_frame_buffering */
    }
}

/* 7.3.2.1.1 */
static void put_sps(struct bits *b, const struct h264 *h) {
    const struct vui *vui = &h->vui;
    bool baseline = h->profile == 66, high = h->profile == 100;
    put(b, 8, h->profile);
    /* constraint_set0 to 5: a baseline stream of ours is a main one too; a high one may be constrained. */
    put(b, 1, baseline);
    put(b, 1, (baseline && h->constrained) || h->profile == 77);
    put(b, 2, 0);
    put(b, 1, high && h->constrained);
    put(b, 1, high && h->constrained);
    put(b, 2, 0);
    put(b, 8, h->level);
    put_ue(b, h->sps_id);
    if (high) {
        put_ue(b, 1); /* chroma_format_idc: 4:2:0 */
        put_ue(b, 0); /* 8 bits of luma */
        put_ue(b, 0); /* and of chroma */
        put(b, 2, 0); /* no bypass, no scaling matrix */
    }
    put_ue(b, LOG2_MAX_FRAME_NUM - 4);
    put_ue(b, 2); /* pic_order_cnt_type: output in coding order */
    put_ue(b, 1); /* max_num_ref_frames */
    put(b, 1, 0); /* gaps_in_frame_num_value_allowed_flag */
    put_ue(b, h264_stride(h) / 16 - 1);
    put_ue(b, h264_rows(h) / 16 - 1);
    put(b, 1, 1); /* frame_mbs_only_flag */
    put(b, 1, 1); /* direct_8x8_inference_flag */
    unsigned right = (h264_stride(h) - h->width) / 2, bottom = (h264_rows(h) - h->height) / 2;
    put(b, 1, right || bottom);
    if (right || bottom) {
        put_ue(b, 0);
        put_ue(b, right);
        put_ue(b, 0);
        put_ue(b, bottom);
    }
    bool any = vui->overscan_info_present || vui->signal_type_present || vui->chroma_location_present ||
               vui->timing_info_present || vui->bitstream_restriction;
    put(b, 1, any);
    if (any) put_vui(b, vui);
}

/* 7.3.2.2 */
static void put_pps(struct bits *b, const struct h264 *h) {
    put_ue(b, h->pps_id);
    put_ue(b, h->sps_id);
    put(b, 1, 0); /* entropy_coding_mode_flag: CAVLC */
    put(b, 1, 0);
    put_ue(b, 0); /* one slice group */
    put_ue(b, 0); /* one reference each */
    put_ue(b, 0);
    put(b, 1, 0); /* no weighted prediction */
    put(b, 2, 0);
    put_se(b, 0); /* pic_init_qp 26 */
    put_se(b, 0);
    put_se(b, 0); /* chroma_qp_index_offset */
    put(b, 1, 1); /* deblocking_filter_control_present_flag */
    put(b, 1, 0);
    put(b, 1, 0);
}

void h264_headers(const struct h264 *h, struct bytes *out) {
    struct bits bits = {0};
    put_sps(&bits, h);
    end_h264(&bits, 0x67, out);
    put_pps(&bits, h);
    end_h264(&bits, 0x68, out);
    free(bits.out.at);
}

/* --- pictures --- */

/* 7.3.3 */
static void put_slice_header(struct bits *b, const struct h264 *h, enum picture kind, unsigned first) {
    put_ue(b, first);
    /* P or I, as are all slices of the picture. */
    put_ue(b, kind == PICTURE_P ? 5 : 7);
    put_ue(b, h->pps_id);
    put(b, LOG2_MAX_FRAME_NUM, h->frame_num);
    if (kind == PICTURE_IDR) put_ue(b, h->idr_id);
    if (kind == PICTURE_P) {
        put(b, 1, 0); /* num_ref_idx_active_override_flag */
        put(b, 1, 0); /* ref_pic_list_modification_flag_l0 */
    }
    if (kind == PICTURE_IDR) put(b, 2, 0); /* no_output_of_prior_pics_flag, long_term_reference_flag */
    else put(b, 1, 0);                     /* adaptive_ref_pic_marking_mode_flag */
    put_se(b, 0);                          /* slice_qp_delta */
    put_ue(b, 1);                          /* disable_deblocking_filter_idc */
}

struct macroblock {
    const uint8_t *row[32]; /* 16 of Y, 8 of Cb, 8 of Cr */
};

static struct macroblock macroblock_at(const struct h264 *h, const uint8_t *planes, unsigned x, unsigned y) {
    struct macroblock mb;
    size_t stride = h264_stride(h), rows = h264_rows(h);
    const uint8_t *cb = planes + stride * rows, *cr = cb + stride / 2 * (rows / 2);
    for (unsigned i = 0; i < 16; i++) mb.row[i] = planes + (y * 16 + i) * stride + x * 16;
    for (unsigned i = 0; i < 8; i++) {
        mb.row[16 + i] = cb + (y * 8 + i) * (stride / 2) + x * 8;
        mb.row[24 + i] = cr + (y * 8 + i) * (stride / 2) + x * 8;
    }
    return mb;
}

/* D.1.8: a decoder that begins here has whole pictures after `frames` more. */
static void put_recovery_point(struct bits *b, unsigned frames) {
    struct bits payload = {0};
    put_ue(&payload, frames);
    put(&payload, 1, 1); /* exact_match_flag */
    put(&payload, 1, 0); /* broken_link_flag */
    put(&payload, 2, 0); /* changing_slice_group_idc */
    if (payload.count) put(&payload, 1, 1);
    align_with_zeros(&payload);
    put(b, 8, 6); /* payloadType */
    put(b, 8, (uint32_t)payload.out.length);
    for (size_t i = 0; i < payload.out.length; i++) put(b, 8, payload.out.at[i]);
    free(payload.out.at);
}

bool refreshed(const struct refresh *refresh, unsigned column, unsigned columns) {
    if (!refresh->frames || refresh->at >= refresh->frames) return false;
    return column * refresh->frames / columns == refresh->at;
}

static bool same(const struct macroblock *a, const struct macroblock *b) {
    for (unsigned i = 0; i < 32; i++)
        if (memcmp(a->row[i], b->row[i], i < 16 ? 16 : 8)) return false;
    return true;
}

/* 7.3.4, 7.3.5: skipped macroblocks as a run before the next that is coded. A skipped one's motion vector is predicted
 * (8.4.1.1) from neighbours that are intra or did not move: it is zero. */
static void put_slice_data(struct bits *b, const struct h264 *h, enum picture kind, const uint8_t *planes,
                           unsigned first, unsigned end, unsigned counts[2]) {
    unsigned across = h264_stride(h) / 16, skipped = 0;
    for (unsigned at = first; at < end; at++) {
        struct macroblock now = macroblock_at(h, planes, at % across, at / across);
        if (kind == PICTURE_P) {
            struct macroblock before = macroblock_at(h, h->reference, at % across, at / across);
            if (same(&now, &before) && !refreshed(&h->refresh, at % across, across)) {
                skipped++;
                counts[1]++;
                continue;
            }
            put_ue(b, skipped);
            skipped = 0;
        }
        put_ue(b, kind == PICTURE_P ? 5 + 25 : 25); /* mb_type I_PCM */
        align_with_zeros(b);
        for (unsigned i = 0; i < 32; i++) append(&b->out, now.row[i], i < 16 ? 16 : 8);
        counts[0]++;
    }
    if (skipped) put_ue(b, skipped);
}

void h264_picture(struct h264 *h, enum picture kind, bool headers, const uint8_t *planes, struct bytes *out,
                  unsigned counts[2]) {
    size_t size = (size_t)h264_stride(h) * h264_rows(h) * 3 / 2;
    unsigned across = h264_stride(h) / 16, rows = h264_rows(h) / 16, slices = h->slices < rows ? h->slices : rows;
    struct bits bits = {0};
    room_for(&bits.out, size + size / 8);
    if (h->aud) {
        put(&bits, 3, kind == PICTURE_P ? 1 : 0); /* primary_pic_type: I and P, or I only */
        end_h264(&bits, 0x09, out);
    }
    if (headers) h264_headers(h, out);
    if (h->recovery_point && h->refresh.frames && h->refresh.at == 0) {
        put_recovery_point(&bits, h->refresh.frames - 1);
        end_h264(&bits, 0x06, out);
    }
    if (kind == PICTURE_IDR) {
        h->frame_num = 0;
        h->idr_id ^= 1; /* two that follow each other differ (7.4.3) */
    }
    counts[0] = counts[1] = 0;
    for (unsigned slice = 0; slice < slices; slice++) {
        unsigned first = rows * slice / slices * across, end = rows * (slice + 1) / slices * across;
        put_slice_header(&bits, h, kind, first);
        put_slice_data(&bits, h, kind, planes, first, end, counts);
        end_h264(&bits, kind == PICTURE_IDR ? 0x65 : 0x41, out);
    }
    free(bits.out.at);
    h->frame_num = (h->frame_num + 1) % (1u << LOG2_MAX_FRAME_NUM);
    if (!h->reference) h->reference = malloc(size);
    if (!h->reference) abort();
    memcpy(h->reference, planes, size);
}
