/* What the processes of one scene share: open encoder sessions and the memory of CUDA contexts, in a mapped file. */
#ifndef STANDIN_STATE_H
#define STANDIN_STATE_H

#include "scene.h"

#define MAX_ENTRIES 512
#define STAMPS 256

enum kind { KIND_FREE, KIND_SESSION, KIND_CONTEXT };

/* A picture that was encoded: when it was ready, and how long it took. */
struct stamp {
    uint64_t ready_ns;
    uint64_t took_ns;
};

struct entry {
    uint32_t kind;
    uint32_t id;
    int32_t pid;
    uint32_t board;
    uint64_t started;   /* of the process, in clock ticks since boot */
    uint64_t namespace; /* of its pid */
    uint64_t mem;       /* bytes on the board */
    /* Of a session; zero until it is initialised: */
    uint32_t codec, width, height, fps_num, fps_den, bitrate, max_bitrate, vbv, gop;
    uint64_t frames;
    struct stamp stamp[STAMPS]; /* that of frame n at n % STAMPS */
};

/* An entry as others see it. */
struct seen {
    uint32_t kind, id, pid, board;
    uint64_t mem;
    uint32_t codec, width, height, fps_num, fps_den, bitrate, max_bitrate, vbv, gop;
    uint64_t frames;
    uint32_t fps, latency_us; /* measured: pictures of the last second, and their mean time */
};

enum refusal { REFUSED_NOT, REFUSED_ENGINE, REFUSED_LIMIT, REFUSED_MEMORY };

/* Opens a session on a board: an entry's index in `*slot` and its id in `*id`, or why not. */
enum refusal state_open_session(const struct scene *scene, unsigned board, unsigned *slot, unsigned *id);

/* The entry under the lock, to be given back by state_unlock. */
struct entry *state_lock_entry(unsigned slot);
void state_unlock(void);
void state_close(unsigned slot);

/* Adds to the memory of this process on a board (made at its first use), or takes away. False where less is free. */
bool state_memory(const struct scene *scene, unsigned board, int64_t bytes);

/* This process has no context on the board any more. */
void state_leave(unsigned board);

/* All entries that live, after those of dead processes were cleared. Returns their number. */
unsigned state_see(struct seen into[MAX_ENTRIES]);

/* Bytes of a board's memory in use, everyone's. */
uint64_t state_used(const struct scene *scene, unsigned board);

#endif
