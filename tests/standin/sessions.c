/* Prints the open sessions of the scene that GSK_STANDIN names, one a line: how a test sees what programs do. */
#include <stdio.h>

#include "state.h"

int main(void) {
    if (!scene_now()) return 1;
    static struct seen seen[MAX_ENTRIES];
    unsigned count = state_see(seen);
    for (unsigned i = 0; i < count; i++) {
        const struct seen *s = &seen[i];
        if (s->kind != KIND_SESSION) continue;
        printf("session=%u pid=%u board=%u codec=%u size=%ux%u fps=%u/%u bitrate=%u max-bitrate=%u vbv=%u gop=%u "
               "frames=%llu "
               "measured-fps=%u latency-us=%u\n",
               s->id, s->pid, s->board, s->codec, s->width, s->height, s->fps_num, s->fps_den, s->bitrate,
               s->max_bitrate, s->vbv, s->gop, (unsigned long long)s->frames, s->fps, s->latency_us);
    }
    return 0;
}
