/* AV1's reader: libaom's. */
#include "reader.h"

#include <aom/aom_decoder.h>
#include <aom/aomdx.h>
#include <stdlib.h>
#include <string.h>

bool av1_sequence(const uint8_t *unit, size_t length, struct sequence *sequence) {
    aom_codec_stream_info_t info = {0};
    if (aom_codec_peek_stream_info(aom_codec_av1_dx(), unit, length, &info) || !info.is_kf || !info.w) return false;
    *sequence = (struct sequence){.width = info.w, .height = info.h, .right = info.w, .bottom = info.h, .depth = 8,
                                  .chroma = 1, .surfaces = 9};
    return true;
}

bool av1_read(void **decoder, const uint8_t *unit, size_t length, const struct surface *to) {
    aom_codec_ctx_t *codec = *decoder;
    if (!codec) {
        codec = *decoder = calloc(1, sizeof *codec);
        if (!codec || aom_codec_dec_init(codec, aom_codec_av1_dx(), NULL, 0)) abort();
    }
    if (aom_codec_decode(codec, unit, length, NULL)) return false;
    aom_codec_iter_t at = NULL;
    const aom_image_t *image = aom_codec_get_frame(codec, &at);
    if (!image || image->fmt != AOM_IMG_FMT_I420 || image->d_w != to->width || image->d_h != to->height) return false;
    uint8_t *chroma = to->at + (size_t)to->width * to->height;
    for (unsigned y = 0; y < to->height; y++)
        memcpy(to->at + (size_t)y * to->width, image->planes[0] + (ptrdiff_t)y * image->stride[0], to->width);
    for (unsigned y = 0; y < to->height / 2; y++)
        for (unsigned x = 0; x < to->width; x++)
            chroma[(size_t)y * to->width + x] = image->planes[1 + x % 2][(ptrdiff_t)y * image->stride[1 + x % 2] + x / 2];
    return true;
}

void av1_read_end(void **decoder) {
    if (*decoder) aom_codec_destroy(*decoder);
    free(*decoder);
    *decoder = NULL;
}
