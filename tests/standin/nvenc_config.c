/* Initialising and reconfiguring an encoder. */
#include <stdlib.h>
#include <string.h>

#include "nvenc.h"

#define MIN_WIDTH 145
#define MIN_HEIGHT 49
#define MAX_SIZE 4096

static int check_parameters(struct encoder *e, const char *function, const struct initialize *p,
                            const struct config *config) {
    const struct {
        bool good;
        int code;
        const char *what;
    } checks[] = {
        {p->version == INITIALIZE_VERSION, INVALID_VERSION, "version word of the parameters"},
        {same_guid(&p->codec, &GUID_H264), UNSUPPORTED_PARAM, "the stand-in encodes H.264 only"},
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
        {config->h264.chroma_format <= 1, UNSUPPORTED_PARAM, "4:2:0 only"},
        {config->h264.slice_mode == 0 || config->h264.slice_mode == 3, UNSUPPORTED_PARAM, "sliceMode 0 or 3 only"},
        {config->rc.mode == 0 || config->rc.average_bitrate > 0, INVALID_PARAM, "averageBitRate"},
    };
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
        if (!checks[i].good) return violation(e, function, checks[i].code, checks[i].what);
    return OK;
}

static struct vui vui_of(const struct encoder *e) {
    const struct h264_config *config = &e->config.h264;
    const struct vui_params *v = &config->vui;
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
        .time_scale = v->time_scale ? v->time_scale : e->initialize.fps_num * 2,
        .fixed_rate = !(config->bits & H264_VFR),
        .bitstream_restriction = v->restriction,
    };
}

/* Takes over what is asked for, and tells it to whoever looks on. */
static void apply(struct encoder *e) {
    const struct initialize *p = &e->initialize;
    const struct h264_config *config = &e->config.h264;
    const struct rc_params *rc = &e->config.rc;
    struct h264 *h = &e->h264;
    bool same_size = h->width == p->width && h->height == p->height;
    guid_t profile = e->config.profile;
    h->width = p->width;
    h->height = p->height;
    h->profile = same_guid(&profile, &GUID_BASELINE) ? 66 : same_guid(&profile, &GUID_MAIN) ? 77 : 100;
    h->constrained = h->profile == 66 || same_guid(&profile, &GUID_CONSTRAINED_HIGH);
    uint32_t peak = rc->max_bitrate > rc->average_bitrate ? rc->max_bitrate : rc->average_bitrate;
    h->level = config->level ? config->level : h264_level(p->width, p->height, (double)p->fps_num / p->fps_den, peak);
    h->sps_id = config->sps_id;
    h->pps_id = config->pps_id;
    h->slices = config->slice_mode == 3 && config->slice_data ? config->slice_data : 1;
    h->aud = config->bits & H264_OUTPUT_AUD;
    h->vui = vui_of(e);
    if (!same_size) {
        size_t size = (size_t)h264_stride(h) * h264_rows(h) * 3 / 2;
        free(h->reference);
        free(e->planes);
        h->reference = NULL;
        e->planes = malloc(size);
        if (!e->planes) abort();
        e->headers_due = e->idr_due = true;
    }
    struct entry *entry = state_lock_entry(e->slot);
    entry->codec = CODEC_H264;
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

int nvEncInitializeEncoder(void *handle, struct initialize *parameters) {
    ENTER(handle);
    REQUIRE(parameters, INVALID_POINTER, "null");
    REQUIRE(!e->initialised, INVALID_CALL, "initialised twice");
    struct config config;
    preset_fill(&config, preset_number(&parameters->preset), parameters->tuning);
    if (parameters->config) config = *parameters->config;
    int code = check_parameters(e, __func__, parameters, &config);
    if (code) return code;
    e->initialize = *parameters;
    e->config = config;
    e->max_width = parameters->max_width ? parameters->max_width : parameters->width;
    e->max_height = parameters->max_height ? parameters->max_height : parameters->height;
    e->initialised = true;
    apply(e);
    scene_log("initialize", "session=%u size=%ux%u fps=%u/%u bitrate=%u gop=%u bframes=%d preset=P%u tuning=%u aud=%d",
              e->session, parameters->width, parameters->height, parameters->fps_num, parameters->fps_den,
              config.rc.average_bitrate, config.gop_length, config.frame_interval_p - 1,
              preset_number(&parameters->preset), parameters->tuning, e->h264.aud);
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
    h264_headers(&e->h264, &headers);
    bool fits = headers.length <= parameters->room;
    *parameters->size = (uint32_t)headers.length;
    if (fits) memcpy(parameters->buffer, headers.at, headers.length);
    free(headers.at);
    REQUIRE(fits, NOT_ENOUGH_BUFFER, "the buffer is too small");
    return OK;
}
