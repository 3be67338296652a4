/* Initialising and reconfiguring an encoder. */
#include <stdlib.h>
#include <string.h>

#include "nvenc.h"

#define MIN_WIDTH 145
#define MIN_HEIGHT 49
#define MAX_SIZE 4096

static int check_h264(struct encoder *e, const char *function, const struct h264_config *c) {
    if (c->chroma_format > 1) return violation(e, function, UNSUPPORTED_PARAM, "4:2:0 only");
    if (c->slice_mode && c->slice_mode != 3) return violation(e, function, UNSUPPORTED_PARAM, "sliceMode 0 or 3 only");
    return OK;
}

static int check_hevc(struct encoder *e, const char *function, const struct hevc_config *c) {
    if ((c->bits & HEVC_CHROMA_FORMAT) != 1 << 9) return violation(e, function, UNSUPPORTED_PARAM, "chromaFormatIDC");
    if (c->bits & HEVC_BIT_DEPTH) return violation(e, function, UNSUPPORTED_PARAM, "8 bits only");
    if (c->slice_mode) return violation(e, function, UNSUPPORTED_PARAM, "the stand-in writes one slice of HEVC");
    return OK;
}

static int check_av1(struct encoder *e, const char *function, const struct av1_config *c) {
    if ((c->bits & AV1_CHROMA_FORMAT) != 1 << 7) return violation(e, function, UNSUPPORTED_PARAM, "chromaFormatIDC");
    if (c->bits & AV1_BIT_DEPTHS) return violation(e, function, UNSUPPORTED_PARAM, "8 bits only");
    if (c->bits & AV1_ANNEX_B) return violation(e, function, UNSUPPORTED_PARAM, "the stand-in writes no Annex B of AV1");
    if (c->level > AV1_ANY_LEVEL) return violation(e, function, INVALID_PARAM, "level");
    return OK;
}

/* The period and the length of intra refresh, 0 for none. */
static void refresh_of(enum codec codec, const struct config *config, unsigned *period, unsigned *count) {
    const struct {
        bool on;
        unsigned period, count;
    } by_codec[] = {
        {config->h264.bits & H264_INTRA_REFRESH, config->h264.intra_refresh_period, config->h264.intra_refresh_count},
        {config->hevc.bits & HEVC_INTRA_REFRESH, config->hevc.intra_refresh_period, config->hevc.intra_refresh_count},
        {config->av1.bits & AV1_INTRA_REFRESH, config->av1.intra_refresh_period, config->av1.intra_refresh_count},
    };
    *period = by_codec[codec].on ? by_codec[codec].period : 0;
    *count = by_codec[codec].on ? by_codec[codec].count : 0;
}

static int check_parameters(struct encoder *e, const char *function, const struct initialize *p,
                            const struct config *config) {
    enum codec codec = codec_of_guid(&p->codec);
    unsigned period, count;
    refresh_of(codec, config, &period, &count);
    const struct {
        bool good;
        int code;
        const char *what;
    } checks[] = {
        {p->version == INITIALIZE_VERSION, INVALID_VERSION, "version word of the parameters"},
        {encodes(e, &p->codec), UNSUPPORTED_PARAM, "the board does not encode this codec"},
        {!e->initialised || codec == e->codec, INVALID_PARAM, "the codec changed"},
        {preset_number(&p->preset), UNSUPPORTED_PARAM, "preset"},
        {p->tuning >= TUNING_HIGH_QUALITY && p->tuning <= TUNING_LOSSLESS, INVALID_PARAM, "tuning"},
        {p->width >= MIN_WIDTH && p->height >= MIN_HEIGHT && p->width <= MAX_SIZE && p->height <= MAX_SIZE,
         INVALID_PARAM, "size"},
        {p->width % 2 == 0 && p->height % 2 == 0, INVALID_PARAM, "odd size"},
        {p->fps_num && p->fps_den, INVALID_PARAM, "frame rate"},
        {!p->async, UNSUPPORTED_PARAM, "asynchronous mode is Windows's"},
        {p->picture_type_decision == 1, UNSUPPORTED_PARAM, "enablePTD"},
        {config->version == CONFIG_VERSION, INVALID_VERSION, "version word of the configuration"},
        {config->rc.version == RC_PARAMS_VERSION, INVALID_VERSION, "version word of the rate control"},
        {config->frame_interval_p == 1, UNSUPPORTED_PARAM, "the stand-in writes no B pictures: frameIntervalP is 1"},
        {config->gop_length > 0, INVALID_PARAM, "gopLength"},
        {config->rc.mode == 0 || config->rc.average_bitrate > 0, INVALID_PARAM, "averageBitRate"},
        {!period || scene_now()->board[e->board].intra_refresh, UNSUPPORTED_PARAM, "no intra refresh on this board"},
        {!period || (count && count < period), INVALID_PARAM, "intraRefreshCnt is not below intraRefreshPeriod"},
        {!period || config->gop_length == INFINITE_GOP, INVALID_PARAM, "intra refresh wants an infinite gopLength"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].good) return violation(e, function, checks[i].code, checks[i].what);
    switch (codec) {
    case CODEC_HEVC: return check_hevc(e, function, &config->hevc);
    case CODEC_AV1: return check_av1(e, function, &config->av1);
    default: return check_h264(e, function, &config->h264);
    }
}

static struct vui vui_of(const struct encoder *e, const struct vui_params *v, bool fixed_rate, unsigned fields) {
    return (struct vui){
        .overscan_info_present = v->overscan_present,
        .overscan_appropriate = v->overscan,
        .signal_type_present = v->signal_type_present,
        .video_format = v->video_format,
        .full_range = v->full_range,
        .colour_description_present = v->colour_description_present,
        .primaries = v->primaries,
        .transfer = v->transfer,
        .matrix = v->matrix,
        .chroma_location_present = v->chroma_location,
        .chroma_location_top = v->chroma_top,
        .chroma_location_bottom = v->chroma_bottom,
        .timing_info_present = v->timing_present,
        .num_units_in_tick = v->units_in_tick ? v->units_in_tick : e->initialize.fps_den,
        .time_scale = v->time_scale ? v->time_scale : e->initialize.fps_num * fields,
        .fixed_rate = fixed_rate,
        .bitstream_restriction = v->restriction,
    };
}

static double rate_of(const struct initialize *p) {
    return (double)p->fps_num / p->fps_den;
}

static void apply_h264(struct encoder *e, uint32_t peak) {
    const struct h264_config *config = &e->config.h264;
    struct h264 *h = &e->h264;
    guid_t profile = e->config.profile;
    h->profile = same_guid(&profile, &GUID_BASELINE) ? 66 : same_guid(&profile, &GUID_MAIN) ? 77 : 100;
    h->constrained = h->profile == 66 || same_guid(&profile, &GUID_CONSTRAINED_HIGH);
    h->level = config->level ? config->level : h264_level(e->width, e->height, rate_of(&e->initialize), peak);
    h->sps_id = config->sps_id;
    h->pps_id = config->pps_id;
    h->slices = config->slice_mode == 3 && config->slice_data ? config->slice_data : 1;
    h->recovery_point = config->bits & H264_RECOVERY_POINT;
    h->vui = vui_of(e, &config->vui, !(config->bits & H264_VFR), 2);
    e->aud = h->aud = config->bits & H264_OUTPUT_AUD;
    e->repeats_headers = config->bits & H264_REPEAT_HEADERS;
    e->disables_headers = config->bits & H264_DISABLE_HEADERS;
}

static void apply_hevc(struct encoder *e, uint32_t peak) {
    const struct hevc_config *config = &e->config.hevc;
    struct hevc *h = &e->hevc;
    h->width = e->width;
    h->height = e->height;
    h->level = config->level ? config->level : hevc_level(e->width, e->height, rate_of(&e->initialize), peak);
    h->high_tier = config->tier;
    h->vps_id = config->vps_id;
    h->sps_id = config->sps_id;
    h->pps_id = config->pps_id;
    h->recovery_point = config->bits & HEVC_RECOVERY_POINT;
    h->vui = vui_of(e, &config->vui, true, 1);
    e->aud = h->aud = config->bits & HEVC_OUTPUT_AUD;
    e->repeats_headers = config->bits & HEVC_REPEAT_HEADERS;
    e->disables_headers = config->bits & HEVC_DISABLE_HEADERS;
}

static void apply_av1(struct encoder *e) {
    const struct av1_config *config = &e->config.av1;
    struct av1 *a = &e->av1;
    a->width = e->width;
    a->height = e->height;
    a->primaries = config->primaries;
    a->transfer = config->transfer;
    a->matrix = config->matrix;
    a->full_range = config->full_range;
    e->repeats_headers = config->bits & AV1_REPEAT_HEADERS;
    e->disables_headers = config->bits & AV1_DISABLE_HEADERS;
}

/* Takes over what is asked for, and tells it to whoever looks on. */
static void apply(struct encoder *e) {
    const struct initialize *p = &e->initialize;
    const struct rc_params *rc = &e->config.rc;
    bool same_size = e->width == p->width && e->height == p->height;
    e->codec = codec_of_guid(&p->codec);
    e->width = e->h264.width = p->width;
    e->height = e->h264.height = p->height;
    refresh_of(e->codec, &e->config, &e->refresh_period, &e->refresh_frames);
    uint32_t peak = rc->max_bitrate > rc->average_bitrate ? rc->max_bitrate : rc->average_bitrate;
    switch (e->codec) {
    case CODEC_H264: apply_h264(e, peak); break;
    case CODEC_HEVC: apply_hevc(e, peak); break;
    case CODEC_AV1: apply_av1(e); break;
    }
    if (!same_size) {
        size_t size = (size_t)h264_stride(&e->h264) * h264_rows(&e->h264) * 3 / 2;
        free(e->h264.reference);
        free(e->hevc.reference);
        free(e->planes);
        av1_end(&e->av1);
        e->h264.reference = e->hevc.reference = NULL;
        e->planes = malloc(size);
        if (!e->planes) abort();
        e->headers_due = e->idr_due = true;
    }
    struct entry *entry = state_lock_entry(e->slot);
    entry->codec = e->codec;
    entry->width = p->width;
    entry->height = p->height;
    entry->fps_num = p->fps_num;
    entry->fps_den = p->fps_den;
    entry->bitrate = rc->average_bitrate;
    entry->max_bitrate = rc->max_bitrate;
    entry->vbv = rc->vbv_size;
    entry->gop = e->config.gop_length;
    state_unlock();
}

void headers_of(struct encoder *e, struct bytes *out) {
    switch (e->codec) {
    case CODEC_H264: h264_headers(&e->h264, out); break;
    case CODEC_HEVC: hevc_headers(&e->hevc, out); break;
    case CODEC_AV1: av1_headers(&e->av1, out); break;
    }
}

int nvEncInitializeEncoder(void *handle, struct initialize *parameters) {
    ENTER(handle);
    REQUIRE(parameters, INVALID_POINTER, "null");
    REQUIRE(!e->initialised, INVALID_CALL, "initialised twice");
    struct config config;
    preset_fill(&config, &parameters->codec, preset_number(&parameters->preset), parameters->tuning);
    if (parameters->config) config = *parameters->config;
    int code = check_parameters(e, __func__, parameters, &config);
    if (code) return code;
    e->initialize = *parameters;
    e->config = config;
    e->max_width = parameters->max_width ? parameters->max_width : parameters->width;
    e->max_height = parameters->max_height ? parameters->max_height : parameters->height;
    e->initialised = true;
    apply(e);
    static const char *const names[] = {"h264", "hevc", "av1"};
    scene_log("initialize",
              "session=%u codec=%s size=%ux%u fps=%u/%u bitrate=%u gop=%u bframes=%d preset=P%u tuning=%u aud=%d "
              "refresh=%u/%u",
              e->session, names[e->codec], parameters->width, parameters->height, parameters->fps_num,
              parameters->fps_den, config.rc.average_bitrate, config.gop_length, config.frame_interval_p - 1,
              preset_number(&parameters->preset), parameters->tuning, e->aud, e->refresh_frames, e->refresh_period);
    return OK;
}

int nvEncReconfigureEncoder(void *handle, struct reconfigure *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, RECONFIGURE_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    const struct initialize *p = &parameters->initialize;
    struct config config = p->config ? *p->config : e->config;
    int code = check_parameters(e, __func__, p, &config);
    if (code) return code;
    REQUIRE(p->width <= e->max_width && p->height <= e->max_height, INVALID_PARAM,
            "larger than maxEncodeWidth and maxEncodeHeight");
    REQUIRE(p->picture_type_decision == e->initialize.picture_type_decision, INVALID_PARAM, "enablePTD changed");
    bool reset = parameters->bits & RESET_ENCODER, idr = parameters->bits & RECONFIGURE_FORCE_IDR;
    e->initialize = *p;
    e->config = config;
    e->idr_due |= idr || reset;
    apply(e);
    scene_log("reconfigure", "session=%u size=%ux%u fps=%u/%u bitrate=%u max-bitrate=%u vbv=%u reset=%d idr=%d",
              e->session, p->width, p->height, p->fps_num, p->fps_den, config.rc.average_bitrate, config.rc.max_bitrate,
              config.rc.vbv_size, reset, idr);
    return OK;
}

int nvEncGetSequenceParams(void *handle, struct sequence_params *parameters) {
    ENTER(handle);
    REQUIRE_VERSION(parameters, SEQUENCE_PARAM_VERSION);
    REQUIRE(e->initialised, NOT_INITIALIZED, "not initialised");
    REQUIRE(parameters->buffer && parameters->size, INVALID_POINTER, "null");
    struct bytes headers = {0};
    headers_of(e, &headers);
    bool fits = headers.length <= parameters->room;
    *parameters->size = (uint32_t)headers.length;
    if (fits) memcpy(parameters->buffer, headers.at, headers.length);
    free(headers.at);
    REQUIRE(fits, NOT_ENOUGH_BUFFER, "the buffer is too small");
    return OK;
}
