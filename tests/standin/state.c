/* The shared file. It is changed under an exclusive flock, which the kernel drops with its holder; a change's last
 * step is its entry's `kind`, so that a holder who is killed in between leaves nothing half-made. */
#define _GNU_SOURCE
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct state {
    uint32_t next_id;
    uint32_t unused;
    struct entry entry[MAX_ENTRIES];
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct state *state;
static int state_file, alive_file;
static pid_t opened_by;

static void __attribute__((noreturn)) die(const char *what) {
    fprintf(stderr, "stand-in driver: %s: %s\n", what, strerror(errno));
    abort();
}

static int open_beside(const char *suffix) {
    char path[PATH_MAX];
    scene_path(path, suffix);
    int file = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) die(path);
    return file;
}

static void lock(void) {
    pthread_mutex_lock(&mutex);
    if (opened_by != getpid()) {
        /* Never closed: closing `.alive` anywhere in the process would drop its record locks. After a fork opened
         * anew: an flock excludes no one who shares its file's description. `.alive` comes first, so that at a
         * process's end, too, its locks are gone before the flock. */
        alive_file = open_beside(".alive");
        state_file = open_beside(".state");
        opened_by = getpid();
    }
    while (flock(state_file, LOCK_EX))
        if (errno != EINTR) die("flock");
    if (!state) {
        if (ftruncate(state_file, sizeof *state)) die("ftruncate");
        state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE, MAP_SHARED, state_file, 0);
        if (state == MAP_FAILED) die("mmap");
    }
}

void state_unlock(void) {
    flock(state_file, LOCK_UN);
    pthread_mutex_unlock(&mutex);
}

/* --- who lives --- */

static uint64_t process_started(void) {
    char text[1024];
    int file = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? 0 : read(file, text, sizeof text - 1);
    if (file >= 0) close(file);
    text[length > 0 ? length : 0] = 0;
    /* The name may hold blanks and brackets: fields are counted from its last bracket, the third field following. */
    char *field = strrchr(text, ')');
    for (int i = 2; field && i < 22; i++) field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) : 0;
}

/* This process, read anew after a fork. */
static const struct entry *self(void) {
    static struct entry me;
    if (me.pid != getpid()) {
        struct stat namespace;
        me.pid = getpid();
        me.started = process_started();
        me.namespace = stat("/proc/self/ns/pid", &namespace) ? 0 : namespace.st_ino;
    }
    return &me;
}

static bool is_mine(const struct entry *entry) {
    const struct entry *me = self();
    return entry->pid == me->pid && entry->started == me->started && entry->namespace == me->namespace;
}

static struct flock byte_of(unsigned slot, short type) {
    return (struct flock){.l_type = type, .l_whence = SEEK_SET, .l_start = slot, .l_len = 1};
}

/* Whether an entry's process lives, and its pid as this process's namespace numbers it. (A namespace in which it
 * has no number sees that of its own, as with drivers that tell the host's.) */
static bool lives(unsigned slot, uint32_t *pid) {
    const struct entry *entry = &state->entry[slot];
    *pid = (uint32_t)entry->pid;
    if (is_mine(entry)) return true;
    struct flock byte = byte_of(slot, F_WRLCK);
    if (fcntl(alive_file, F_GETLK, &byte)) die("F_GETLK");
    if (byte.l_type == F_UNLCK) return false;
    if (byte.l_pid > 0) *pid = (uint32_t)byte.l_pid;
    return true;
}

static void prune(void) {
    uint32_t pid;
    for (unsigned slot = 0; slot < MAX_ENTRIES; slot++) {
        struct entry *entry = &state->entry[slot];
        if (entry->kind == KIND_FREE || lives(slot, &pid)) continue;
        if (entry->kind == KIND_SESSION) scene_log("vanished", "holder=%d session=%u", (int)entry->pid, entry->id);
        entry->kind = KIND_FREE;
    }
}

static struct entry *take(enum kind kind, unsigned board, uint64_t mem, unsigned *slot) {
    for (*slot = 0; *slot < MAX_ENTRIES; ++*slot) {
        struct entry *entry = &state->entry[*slot];
        if (entry->kind != KIND_FREE) continue;
        struct flock byte = byte_of(*slot, F_WRLCK);
        if (fcntl(alive_file, F_SETLK, &byte)) die("F_SETLK");
        const struct entry *me = self();
        memset(entry, 0, sizeof *entry);
        entry->id = ++state->next_id;
        entry->pid = me->pid;
        entry->started = me->started;
        entry->namespace = me->namespace;
        entry->board = board;
        entry->mem = mem;
        __atomic_store_n(&entry->kind, kind, __ATOMIC_RELEASE);
        return entry;
    }
    fprintf(stderr, "stand-in driver: more than %d sessions and contexts\n", MAX_ENTRIES);
    abort();
}

static void give_back(unsigned slot) {
    state->entry[slot].kind = KIND_FREE;
    struct flock byte = byte_of(slot, F_UNLCK);
    if (fcntl(alive_file, F_SETLK, &byte)) die("F_SETLK");
}

/* --- sessions and memory --- */

static uint64_t used(const struct scene *scene, unsigned board) {
    uint64_t bytes = scene->board[board].mem_used;
    for (unsigned slot = 0; slot < MAX_ENTRIES; slot++) {
        const struct entry *entry = &state->entry[slot];
        if (entry->kind != KIND_FREE && entry->board == board) bytes += entry->mem;
    }
    return bytes;
}

static bool fits(const struct scene *scene, unsigned board, uint64_t bytes) {
    uint64_t taken = used(scene, board), total = scene->board[board].mem_total;
    return taken <= total && bytes <= total - taken;
}

static int64_t geforce_sessions(const struct scene *scene) {
    int64_t sessions = 0;
    for (unsigned i = 0; i < scene->foreigns; i++) sessions += scene->board[scene->foreign[i].board].geforce;
    for (unsigned slot = 0; slot < MAX_ENTRIES; slot++) {
        const struct entry *entry = &state->entry[slot];
        sessions += entry->kind == KIND_SESSION && scene->board[entry->board].geforce;
    }
    return sessions;
}

enum refusal state_open_session(const struct scene *scene, unsigned board, unsigned *slot, unsigned *id) {
    const struct board *on = &scene->board[board];
    if (on->engines == 0) return REFUSED_ENGINE;
    lock();
    prune();
    enum refusal refusal = REFUSED_NOT;
    if (!fits(scene, board, on->session_mem)) refusal = REFUSED_MEMORY;
    else if (on->geforce && scene->limit >= 0 && geforce_sessions(scene) >= scene->limit) refusal = REFUSED_LIMIT;
    else *id = take(KIND_SESSION, board, on->session_mem, slot)->id;
    state_unlock();
    return refusal;
}

struct entry *state_lock_entry(unsigned slot) {
    lock();
    return &state->entry[slot];
}

void state_close(unsigned slot) {
    lock();
    give_back(slot);
    state_unlock();
}

/* This process's entry for its contexts on a board, or MAX_ENTRIES. */
static unsigned context_slot(unsigned board) {
    unsigned slot = 0;
    while (slot < MAX_ENTRIES) {
        const struct entry *entry = &state->entry[slot];
        if (entry->kind == KIND_CONTEXT && entry->board == board && is_mine(entry)) break;
        slot++;
    }
    return slot;
}

bool state_memory(const struct scene *scene, unsigned board, int64_t bytes) {
    lock();
    prune();
    bool enough = bytes <= 0 || fits(scene, board, (uint64_t)bytes);
    unsigned slot = context_slot(board);
    if (enough && slot == MAX_ENTRIES) take(KIND_CONTEXT, board, 0, &slot);
    if (enough) state->entry[slot].mem += (uint64_t)bytes;
    state_unlock();
    return enough;
}

void state_leave(unsigned board) {
    lock();
    unsigned slot = context_slot(board);
    if (slot < MAX_ENTRIES) give_back(slot);
    state_unlock();
}

uint64_t state_used(const struct scene *scene, unsigned board) {
    lock();
    prune();
    uint64_t bytes = used(scene, board);
    state_unlock();
    return bytes;
}

/* --- what others see --- */

static void measure(const struct entry *entry, struct seen *seen) {
    uint64_t now = clock_ns(), took = 0, first = 0, last = 0;
    uint32_t pictures = 0;
    for (uint64_t back = 0; back < STAMPS && back < entry->frames; back++) {
        const struct stamp *stamp = &entry->stamp[(entry->frames - 1 - back) % STAMPS];
        /* One that is not ready yet is of the future, and no part of what was done. */
        if (stamp->ready_ns > now) continue;
        if (now - stamp->ready_ns > 1000000000u) break;
        last = pictures++ ? last : stamp->ready_ns;
        first = stamp->ready_ns;
        took += stamp->took_ns;
    }
    seen->latency_us = pictures ? (uint32_t)(took / pictures / 1000) : 0;
    /* As many as are kept: there were more in that second, at this rate. */
    if (pictures == STAMPS && last > first) seen->fps = (uint32_t)((STAMPS - 1) * 1000000000ull / (last - first));
    else seen->fps = pictures;
}

unsigned state_see(struct seen into[MAX_ENTRIES]) {
    unsigned count = 0;
    lock();
    prune();
    for (unsigned slot = 0; slot < MAX_ENTRIES; slot++) {
        const struct entry *entry = &state->entry[slot];
        uint32_t pid;
        if (entry->kind == KIND_FREE || !lives(slot, &pid)) continue;
        struct seen *seen = &into[count++];
        *seen = (struct seen){.kind = entry->kind,
                              .id = entry->id,
                              .pid = pid,
                              .board = entry->board,
                              .mem = entry->mem,
                              .codec = entry->codec,
                              .width = entry->width,
                              .height = entry->height,
                              .fps_num = entry->fps_num,
                              .fps_den = entry->fps_den,
                              .bitrate = entry->bitrate,
                              .max_bitrate = entry->max_bitrate,
                              .vbv = entry->vbv,
                              .gop = entry->gop,
                              .frames = entry->frames};
        if (entry->kind == KIND_SESSION) measure(entry, seen);
    }
    state_unlock();
    return count;
}
