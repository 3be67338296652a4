/* Bits of NAL units. */
#include "bits.h"

#include <stdlib.h>
#include <string.h>

void room_for(struct bytes *bytes, size_t more) {
    if (bytes->length + more <= bytes->room) return;
    bytes->room = (bytes->length + more) * 2;
    bytes->at = realloc(bytes->at, bytes->room);
    if (!bytes->at) abort();
}

void append(struct bytes *bytes, const void *from, size_t length) {
    room_for(bytes, length);
    memcpy(bytes->at + bytes->length, from, length);
    bytes->length += length;
}

void put(struct bits *bits, unsigned width, uint32_t value) {
    while (width--) {
        bits->held = bits->held << 1 | (value >> width & 1);
        if (++bits->count == 8) {
            uint8_t byte = (uint8_t)bits->held;
            append(&bits->out, &byte, 1);
            bits->count = 0;
        }
    }
}

void put_ue(struct bits *bits, uint32_t value) {
    unsigned width = 0;
    while ((value + 1) >> width > 1) width++;
    put(bits, width, 0);
    put(bits, width + 1, value + 1);
}

void put_se(struct bits *bits, int32_t value) {
    put_ue(bits, value > 0 ? (uint32_t)value * 2 - 1 : (uint32_t)-value * 2);
}

void align_with_zeros(struct bits *bits) {
    if (bits->count) put(bits, 8 - bits->count, 0);
}

void flush_nal(struct bits *bits, const uint8_t *header, size_t header_length, struct bytes *out) {
    align_with_zeros(bits);
    const uint8_t *from = bits->out.at;
    size_t length = bits->out.length, plain = 0;
    append(out, (const uint8_t[]){0, 0, 0, 1}, 4);
    append(out, header, header_length);
    for (size_t i = 2; i < length; i++) {
        if (from[i] > 3 || from[i - 1] || from[i - 2] || i - plain < 2) continue;
        append(out, from + plain, i - plain);
        append(out, (const uint8_t[]){3}, 1);
        plain = i;
    }
    append(out, from + plain, length - plain);
    bits->out.length = 0;
}

void end_nal(struct bits *bits, const uint8_t *header, size_t header_length, struct bytes *out) {
    put(bits, 1, 1);
    flush_nal(bits, header, header_length, out);
}
