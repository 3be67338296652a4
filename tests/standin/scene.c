/* The scene file's parser, the counting of calls, and the log. The format is described in scene.h. */
#define _GNU_SOURCE
#include "scene.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORDS 40
#define MAX_FUNCTIONS 256

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

struct reader {
    const char *path;
    unsigned line;
    unsigned words;
    char *word[MAX_WORDS];
};

uint64_t clock_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void copy_text(char *into, uint64_t room, const char *text) {
    snprintf(into, room, "%s", text);
}

static void __attribute__((noreturn)) die(const struct reader *at, const char *what, const char *word) {
    fprintf(stderr, "stand-in driver: %s:%u: %s: %s\n", at->path, at->line, what, word);
    abort();
}

/* --- words and values --- */

static void split(struct reader *at, char *line) {
    at->words = 0;
    char *in = line;
    for (;;) {
        while (*in == ' ' || *in == '\t' || *in == '\n' || *in == '\r') in++;
        if (*in == 0 || *in == '#') return;
        if (at->words == MAX_WORDS) die(at, "too many words", in);
        char *out = at->word[at->words++] = in;
        bool quoted = false, ends = false;
        while (!ends) {
            if (*in == 0 || (!quoted && strchr(" \t\r\n", *in))) {
                ends = true;
            } else if (*in == '"') {
                quoted = !quoted;
                in++;
            } else {
                *out++ = *in++;
            }
        }
        if (quoted) die(at, "a quote is not closed", at->word[at->words - 1]);
        if (*in) in++;
        *out = 0;
    }
}

static uint64_t number_to(const struct reader *at, const char *text, char stop, const char **rest) {
    char *end = NULL;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (end == text || *text == '-' || errno || *end != stop) die(at, "not a number", text);
    if (rest) *rest = end + 1;
    return value;
}

static uint64_t number(const struct reader *at, const char *text) {
    return number_to(at, text, 0, NULL);
}

/* The value if the word is `key=value`, else NULL. */
static const char *value_of(const char *word, const char *key) {
    size_t length = strlen(key);
    return strncmp(word, key, length) == 0 && word[length] == '=' ? word + length + 1 : NULL;
}

static const char *only_word(const struct reader *at) {
    if (at->words != 2) die(at, "one value is wanted", at->word[0]);
    return at->word[1];
}

static bool yes_or_no(const struct reader *at, const char *text) {
    if (strcmp(text, "yes") && strcmp(text, "no")) die(at, "yes or no is wanted", text);
    return text[0] == 'y';
}

static unsigned codec_of(const struct reader *at, const char *text) {
    static const char *const names[] = {"h264", "hevc", "av1"};
    for (unsigned codec = 0; codec < 3; codec++)
        if (strcmp(text, names[codec]) == 0) return codec;
    return (unsigned)number(at, text);
}

/* --- statements --- */

static void read_uuid(const struct reader *at, struct board *board, const char *text) {
    unsigned digits = 0;
    if (strncmp(text, "GPU-", 4)) die(at, "a UUID begins with GPU-", text);
    for (const char *c = text + 4; *c; c++) {
        if (*c == '-') continue;
        if (!strchr("0123456789abcdef", *c)) die(at, "not a UUID", text);
        digits++;
    }
    if (digits != 32) die(at, "a UUID has 32 digits", text);
    copy_text(board->uuid, sizeof board->uuid, text);
}

static void read_codecs(const struct reader *at, unsigned *codecs, const char *text) {
    char list[64], *left = NULL;
    copy_text(list, sizeof list, text);
    *codecs = 0;
    for (char *name = strtok_r(list, ",", &left); name; name = strtok_r(NULL, ",", &left)) {
        unsigned codec = codec_of(at, name);
        if (codec > CODEC_AV1) die(at, "no such codec", name);
        *codecs |= 1u << codec;
    }
}

static void read_board(const struct reader *at, struct scene *scene) {
    unsigned index = scene->boards;
    if (index == MAX_BOARDS) die(at, "too many boards", at->word[0]);
    struct board *board = &scene->board[scene->boards++];
    *board = (struct board){.pci_bus = index + 1,
                            .cc_major = 8,
                            .cc_minor = 6,
                            .engines = 1,
                            .codecs = 3,
                            .decoders = 1,
                            .decodes = 3,
                            .decode_width = 4096,
                            .decode_height = 4096,
                            .intra_refresh = true,
                            .capacity = 100,
                            .mem_total = 8192 * MIB};
    snprintf(board->uuid, sizeof board->uuid, "GPU-00000000-0000-4000-8000-%012x", index);
    int geforce = -1;
    const char *v;
    for (unsigned i = 1; i < at->words; i++) {
        const char *word = at->word[i];
        if ((v = value_of(word, "name"))) copy_text(board->name, sizeof board->name, v);
        else if ((v = value_of(word, "uuid"))) read_uuid(at, board, v);
        else if ((v = value_of(word, "pci"))) {
            int length = 0;
            if (sscanf(v, "%8x:%2x:%2x.0%n", &board->pci_domain, &board->pci_bus, &board->pci_device, &length) != 3 ||
                v[length])
                die(at, "not a PCI address like 00000000:01:00.0", v);
        } else if ((v = value_of(word, "cc"))) {
            board->cc_major = (int)number_to(at, v, '.', &v);
            board->cc_minor = (int)number(at, v);
        } else if ((v = value_of(word, "engines"))) board->engines = (unsigned)number(at, v);
        else if ((v = value_of(word, "geforce"))) geforce = yes_or_no(at, v);
        else if ((v = value_of(word, "codecs"))) read_codecs(at, &board->codecs, v);
        else if ((v = value_of(word, "decoders"))) board->decoders = (unsigned)number(at, v);
        else if ((v = value_of(word, "decodes"))) read_codecs(at, &board->decodes, v);
        else if ((v = value_of(word, "decode-max"))) {
            board->decode_width = (unsigned)number_to(at, v, 'x', &v);
            board->decode_height = (unsigned)number(at, v);
        }
        else if ((v = value_of(word, "intra-refresh"))) board->intra_refresh = yes_or_no(at, v);
        else if ((v = value_of(word, "encoder-util"))) board->encoder_util = (unsigned)number(at, v);
        else if ((v = value_of(word, "decoder-util"))) board->decoder_util = (unsigned)number(at, v);
        else if ((v = value_of(word, "gpu-util"))) board->gpu_util = (unsigned)number(at, v);
        else if ((v = value_of(word, "mem-util"))) board->mem_util = (unsigned)number(at, v);
        else if ((v = value_of(word, "capacity"))) board->capacity = (unsigned)number(at, v);
        else if ((v = value_of(word, "mem-total"))) board->mem_total = number(at, v) * MIB;
        else if ((v = value_of(word, "mem-used"))) board->mem_used = number(at, v) * MIB;
        else if ((v = value_of(word, "session-mem"))) board->session_mem = number(at, v) * MIB;
        else if ((v = value_of(word, "encode-us"))) board->encode_us = number(at, v);
        else if ((v = value_of(word, "mig"))) {
            if (strcmp(v, "none") && strcmp(v, "off") && strcmp(v, "on")) die(at, "none, off or on is wanted", v);
            board->mig = v[0] == 'n' ? MIG_NONE : v[1] == 'f' ? MIG_OFF : MIG_ON;
        } else if ((v = value_of(word, "unsupported"))) {
            if (strlen(v) + 3 > sizeof board->unsupported) die(at, "too many functions", v);
            snprintf(board->unsupported, sizeof board->unsupported, ",%.1020s,", v);
        } else die(at, "no such key of a board", word);
    }
    if (!board->name[0]) die(at, "a board has a name", at->word[0]);
    board->geforce = geforce >= 0 ? geforce : strstr(board->name, "GeForce") != NULL;
}

static unsigned board_number(const struct reader *at, const struct scene *scene, const char *text) {
    uint64_t board = number(at, text);
    if (board >= scene->boards) die(at, "no such board above this line", text);
    return (unsigned)board;
}

static void read_foreign(const struct reader *at, struct scene *scene) {
    if (scene->foreigns == MAX_LINES) die(at, "too many lines", at->word[0]);
    struct foreign *foreign = &scene->foreign[scene->foreigns++];
    *foreign =
        (struct foreign){.width = 1920, .height = 1080, .fps = 60, .latency_us = 2000, .session = 1000 + at->line};
    bool board = false, pid = false;
    const char *v;
    for (unsigned i = 1; i < at->words; i++) {
        const char *word = at->word[i];
        if ((v = value_of(word, "board"))) foreign->board = board_number(at, scene, v), board = true;
        else if ((v = value_of(word, "pid"))) foreign->pid = (unsigned)number(at, v), pid = true;
        else if ((v = value_of(word, "codec"))) foreign->codec = codec_of(at, v);
        else if ((v = value_of(word, "fps"))) foreign->fps = (unsigned)number(at, v);
        else if ((v = value_of(word, "latency"))) foreign->latency_us = (unsigned)number(at, v);
        else if ((v = value_of(word, "session"))) foreign->session = (unsigned)number(at, v);
        else if ((v = value_of(word, "size"))) {
            foreign->width = (unsigned)number_to(at, v, 'x', &v);
            foreign->height = (unsigned)number(at, v);
        } else die(at, "no such key of a foreign session", word);
    }
    if (!board || !pid) die(at, "board and pid are required", at->word[0]);
}

static void read_process(const struct reader *at, struct scene *scene) {
    if (scene->processes == MAX_LINES) die(at, "too many lines", at->word[0]);
    struct process *process = &scene->process[scene->processes++];
    bool board = false, pid = false, mem = false;
    const char *v;
    for (unsigned i = 1; i < at->words; i++) {
        const char *word = at->word[i];
        if ((v = value_of(word, "board"))) process->board = board_number(at, scene, v), board = true;
        else if ((v = value_of(word, "pid"))) process->pid = (unsigned)number(at, v), pid = true;
        else if ((v = value_of(word, "mem"))) process->mem = number(at, v) * MIB, mem = true;
        else if ((v = value_of(word, "type")) && (!strcmp(v, "compute") || !strcmp(v, "graphics")))
            process->graphics = *v == 'g';
        else die(at, "no such key or value of a process", word);
    }
    if (!board || !pid || !mem) die(at, "board, pid and mem are required", at->word[0]);
}

enum trouble { FAULT, HANG, CRASH };

static void read_fault(const struct reader *at, struct scene *scene, enum trouble trouble) {
    if (scene->faults == MAX_LINES) die(at, "too many lines", at->word[0]);
    if (at->words < 3) die(at, "a function and a call are wanted", at->word[0]);
    struct fault *fault = &scene->fault[scene->faults++];
    *fault = (struct fault){.hang = trouble == HANG, .crash = trouble == CRASH, .ms = -1};
    copy_text(fault->function, sizeof fault->function, at->word[1]);
    bool code = false;
    for (unsigned i = 2; i < at->words; i++) {
        char *word = at->word[i];
        size_t length = strlen(word);
        const char *v;
        if (value_of(word, "call") && word[length - 1] == '+') fault->onwards = true, word[length - 1] = 0;
        if ((v = value_of(word, "call"))) fault->call = number(at, v);
        else if (trouble == FAULT && (v = value_of(word, "code"))) fault->code = (int)number(at, v), code = true;
        else if (!strcmp(word, "anew=yes")) fault->anew = true;
        else if (trouble == HANG && (v = value_of(word, "ms"))) fault->ms = (int64_t)number(at, v);
        else die(at, "no such key", word);
    }
    if (!fault->call || (trouble == FAULT && !code))
        die(at, "call (from 1) and, of a fault, code are required", at->word[1]);
}

static void read_limit(const struct reader *at, struct scene *scene) {
    const char *code = at->words == 3 ? value_of(at->word[2], "code") : NULL;
    if (at->words < 2 || at->words > 3 || (at->words == 3 && !code))
        die(at, "a number and perhaps code= are wanted", at->word[0]);
    scene->limit = (int64_t)number(at, at->word[1]);
    if (code) scene->limit_code = (int)number(at, code);
}

static void read_race(const struct reader *at, struct scene *scene) {
    const char *word = only_word(at), *v;
    if ((v = value_of(word, "insufficient"))) scene->race_insufficient = number(at, v);
    else if ((v = value_of(word, "fewer"))) scene->race_fewer = (unsigned)number(at, v);
    else die(at, "no such race", word);
}

static void read_statement(const struct reader *at, struct scene *scene) {
    const char *word = at->word[0], *v;
    if (!strcmp(word, "driver")) copy_text(scene->driver, sizeof scene->driver, only_word(at));
    else if (!strcmp(word, "nvml")) copy_text(scene->nvml, sizeof scene->nvml, only_word(at));
    else if (!strcmp(word, "cuda")) scene->cuda = (int)number(at, only_word(at));
    else if (!strcmp(word, "log")) copy_text(scene->log, sizeof scene->log, only_word(at));
    else if (!strcmp(word, "nvenc-api")) {
        scene->nvenc_major = (unsigned)number_to(at, only_word(at), '.', &v);
        scene->nvenc_minor = (unsigned)number(at, v);
    } else if (!strcmp(word, "limit")) read_limit(at, scene);
    else if (!strcmp(word, "race")) read_race(at, scene);
    else if (!strcmp(word, "fault")) read_fault(at, scene, FAULT);
    else if (!strcmp(word, "hang")) read_fault(at, scene, HANG);
    else if (!strcmp(word, "crash")) read_fault(at, scene, CRASH);
    else if (!strcmp(word, "trace") && !strcmp(only_word(at), "calls")) scene->trace = true;
    else if (!strcmp(word, "board")) read_board(at, scene);
    else if (!strcmp(word, "foreign")) read_foreign(at, scene);
    else if (!strcmp(word, "process")) read_process(at, scene);
    else die(at, "no such statement", word);
}

static struct scene *read_scene(const char *path, FILE *file) {
    struct scene *scene = calloc(1, sizeof *scene);
    struct reader at = {.path = path};
    if (!scene) die(&at, "memory", "none");
    copy_text(scene->driver, sizeof scene->driver, "550.54.14");
    scene->cuda = 12040;
    scene->nvenc_major = 12;
    scene->nvenc_minor = 2;
    scene->limit = -1;
    scene->limit_code = 21;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) >= 0) {
        at.line++;
        split(&at, line);
        if (at.words) read_statement(&at, scene);
    }
    free(line);
    if (!scene->nvml[0]) snprintf(scene->nvml, sizeof scene->nvml, "12.%s", scene->driver);
    if (!scene->log[0]) scene_path(scene->log, ".log");
    return scene;
}

/* --- the scene as it is now --- */

/* Calls so far, by function; `mutex` guards it. */
static struct {
    const char *name;
    uint64_t calls;
} counted[MAX_FUNCTIONS];
static unsigned functions;

/* What is counted anew begins with what was called so far. */
static void count_anew(struct scene *scene) {
    for (unsigned i = 0; i < scene->faults; i++)
        for (unsigned k = 0; scene->fault[i].anew && k < functions; k++)
            if (!strcmp(counted[k].name, scene->fault[i].function)) scene->fault[i].before = counted[k].calls;
}

void scene_path(char path[PATH_MAX], const char *suffix) {
    snprintf(path, PATH_MAX, "%s%s", getenv("GSK_STANDIN"), suffix);
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_ino == b->st_ino && a->st_dev == b->st_dev && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

const struct scene *scene_now(void) {
    static const struct scene *scene;
    static struct stat seen;
    const char *path = getenv("GSK_STANDIN");
    if (!path || !*path) return NULL;
    pthread_mutex_lock(&mutex);
    struct stat now;
    if (!scene || (stat(path, &now) == 0 && !same_file(&now, &seen))) {
        FILE *file = fopen(path, "re");
        /* A scene that is gone while its program still ends stays as it was. */
        if (!file && !scene) die(&(struct reader){.path = path}, "cannot be opened", strerror(errno));
        if (file) {
            if (fstat(fileno(file), &seen)) die(&(struct reader){.path = path}, "cannot be read", strerror(errno));
            struct scene *fresh = read_scene(path, file);
            count_anew(fresh);
            fresh->older = scene;
            scene = fresh;
            fclose(file);
        }
    }
    const struct scene *found = scene;
    pthread_mutex_unlock(&mutex);
    return found;
}

static uint64_t count_call(const char *function) {
    pthread_mutex_lock(&mutex);
    unsigned i = 0;
    while (i < functions && strcmp(counted[i].name, function)) i++;
    if (i == functions && functions < MAX_FUNCTIONS) counted[functions++].name = function;
    uint64_t calls = i < functions ? ++counted[i].calls : 0;
    pthread_mutex_unlock(&mutex);
    return calls;
}

static void hang(int64_t ms) {
    if (ms < 0)
        for (;;) pause();
    uint64_t end = clock_ns() + (uint64_t)ms * 1000000u;
    struct timespec until = {.tv_sec = (time_t)(end / 1000000000u), .tv_nsec = (long)(end % 1000000000u)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR) {}
}

bool scene_refuses(const char *function, int absent, int *code) {
    const struct scene *scene = scene_now();
    *code = absent;
    if (!scene) return true;
    uint64_t calls = count_call(function);
    if (scene->trace) scene_log("call", "function=%s", function);
    for (unsigned i = 0; i < scene->faults; i++) {
        const struct fault *fault = &scene->fault[i];
        uint64_t call = calls - fault->before;
        if (strcmp(fault->function, function) || (call != fault->call && !(fault->onwards && call > fault->call)))
            continue;
        if (fault->hang) {
            scene_log("hang", "function=%s call=%llu", function, (unsigned long long)call);
            hang(fault->ms);
        } else if (fault->crash) {
            scene_log("crash", "function=%s call=%llu", function, (unsigned long long)call);
            /* A handler that waits for the access to be made again would have it go on. */
            signal(SIGSEGV, SIG_DFL);
            raise(SIGSEGV);
        } else {
            scene_log("fault", "function=%s call=%llu code=%d", function, (unsigned long long)call, fault->code);
            *code = fault->code;
            return true;
        }
    }
    return false;
}

void scene_log(const char *event, const char *format, ...) {
    const struct scene *scene = scene_now();
    if (!scene) return;
    char line[1024];
    int length = snprintf(line, sizeof line - 1, "%s pid=%d", event, (int)getpid());
    if (format) {
        line[length++] = ' ';
        va_list values;
        va_start(values, format);
        length += vsnprintf(line + length, sizeof line - 1 - (size_t)length, format, values);
        va_end(values);
    }
    if (length > (int)sizeof line - 2) length = (int)sizeof line - 2;
    line[length++] = '\n';
    int file = open(scene->log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (file < 0) return;
    /* Whole or not at all: a short write would be a full disk's. */
    if (write(file, line, (size_t)length) != length) perror("stand-in driver: log");
    close(file);
}
