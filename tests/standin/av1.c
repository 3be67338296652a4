/* AV1 by libaom. */
#include "av1.h"

#include <aom/aom_encoder.h>
#include <aom/aomcx.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct writer {
    aom_codec_ctx_t context;
    aom_codec_pts_t next;
};

static void check(const struct writer *w, aom_codec_err_t code, const char *what) {
    if (code == AOM_CODEC_OK) return;
    const char *detail = aom_codec_error_detail((aom_codec_ctx_t *)&w->context);
    fprintf(stderr, "stand-in driver: libaom: %s: %s: %s\n", what, aom_codec_err_to_string(code), detail ? detail : "");
    abort();
}

static struct writer *writer_of(struct av1 *a) {
    if (a->codec) return a->codec;
    struct writer *w = calloc(1, sizeof *w);
    if (!w) abort();
    aom_codec_enc_cfg_t config;
    check(w, aom_codec_enc_config_default(aom_codec_av1_cx(), &config, AOM_USAGE_REALTIME), "configuration");
    config.g_w = a->width;
    config.g_h = a->height;
    config.g_threads = 1;
    config.g_timebase = (struct aom_rational){1, 1000};
    config.g_lag_in_frames = 0;
    config.kf_mode = AOM_KF_DISABLED;
    config.rc_end_usage = AOM_Q;
    config.rc_min_quantizer = config.rc_max_quantizer = 0;
    check(w, aom_codec_enc_init(&w->context, aom_codec_av1_cx(), &config, 0), "start");
    const struct {
        int control, value;
    } controls[] = {
        /* Faster ones lose something in spite of what follows. */
        {AOME_SET_CPUUSED, 6},
        {AV1E_SET_LOSSLESS, 1},
        {AV1E_SET_COLOR_PRIMARIES, (int)a->primaries},
        {AV1E_SET_TRANSFER_CHARACTERISTICS, (int)a->transfer},
        {AV1E_SET_MATRIX_COEFFICIENTS, (int)a->matrix},
        {AV1E_SET_COLOR_RANGE, a->full_range},
    };
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++)
        check(w, aom_codec_control(&w->context, controls[i].control, controls[i].value), "setting");
    return a->codec = w;
}

void av1_end(struct av1 *a) {
    struct writer *w = a->codec;
    if (w) check(w, aom_codec_destroy(&w->context), "end");
    free(w);
    a->codec = NULL;
}

void av1_headers(struct av1 *a, struct bytes *out) {
    struct writer *w = writer_of(a);
    aom_fixed_buf_t *header = aom_codec_get_global_headers(&w->context);
    if (!header) abort();
    append(out, header->buf, header->sz);
    free(header->buf);
    free(header);
}

void av1_picture(struct av1 *a, bool key, const uint8_t *planes, struct bytes *out) {
    struct writer *w = writer_of(a);
    unsigned stride = (a->width + 15) / 16 * 16, rows = (a->height + 15) / 16 * 16;
    const uint8_t *cb = planes + (size_t)stride * rows, *cr = cb + (size_t)stride / 2 * (rows / 2);
    aom_image_t image;
    aom_img_wrap(&image, AOM_IMG_FMT_I420, a->width, a->height, 1, (uint8_t *)planes);
    const uint8_t *const at[] = {planes, cb, cr};
    for (unsigned i = 0; i < 3; i++) {
        image.planes[i] = (uint8_t *)at[i];
        image.stride[i] = (int)(i ? stride / 2 : stride);
    }
    check(w, aom_codec_encode(&w->context, &image, w->next++, 1, key ? AOM_EFLAG_FORCE_KF : 0), "picture");
    aom_codec_iter_t at_packet = NULL;
    const aom_codec_cx_pkt_t *packet;
    while ((packet = aom_codec_get_cx_data(&w->context, &at_packet)))
        if (packet->kind == AOM_CODEC_CX_FRAME_PKT) append(out, packet->data.frame.buf, packet->data.frame.sz);
}
