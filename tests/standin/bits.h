/* Bits of NAL units, as H.264 and HEVC have them: Exp-Golomb codes (H.264, 9.1; H.265, 9.2), start codes and emulation
 * prevention (Annex B of both). */
#ifndef STANDIN_BITS_H
#define STANDIN_BITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
    uint8_t *at;
    size_t length, room;
};

/* The bits of one NAL unit before emulation prevention. */
struct bits {
    struct bytes out;
    uint32_t held;
    unsigned count; /* bits held, below 8 */
};

void room_for(struct bytes *bytes, size_t more);
void append(struct bytes *bytes, const void *from, size_t length);
void put(struct bits *bits, unsigned width, uint32_t value);
void put_ue(struct bits *bits, uint32_t value);
void put_se(struct bits *bits, int32_t value);
void align_with_zeros(struct bits *bits);

/* Ends the NAL unit with its stop bit, and appends it with start code, header and emulation prevention. */
void end_nal(struct bits *bits, const uint8_t *header, size_t header_length, struct bytes *out);
/* The same of one whose stop bit is written already. */
void flush_nal(struct bits *bits, const uint8_t *header, size_t header_length, struct bytes *out);

#endif
