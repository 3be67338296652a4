/* libnvidia-ml.so.1 as the scene has it: boards, sessions, processes. */
#include <assert.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "state.h"

enum {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    ARGUMENT_VERSION_MISMATCH = 25
};

typedef struct {
    unsigned index;
} *device_t;

struct pci_info {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};
static_assert(sizeof(struct pci_info) == 68 && offsetof(struct pci_info, bus_id) == 36, "nvmlPciInfo_t");

struct memory {
    unsigned long long total, free, used;
};
static_assert(sizeof(struct memory) == 24, "nvmlMemory_t");

struct memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
static_assert(sizeof(struct memory_v2) == 40 && offsetof(struct memory_v2, total) == 8, "nvmlMemory_v2_t");

struct utilization {
    unsigned gpu, memory;
};
static_assert(sizeof(struct utilization) == 8, "nvmlUtilization_t");

struct session_info {
    unsigned session, pid, vgpu, codec, width, height, fps, latency_us;
};
static_assert(sizeof(struct session_info) == 32, "nvmlEncoderSessionInfo_t");

struct process_info {
    unsigned pid;
    unsigned long long mem;
    unsigned gpu_instance, compute_instance;
};
static_assert(sizeof(struct process_info) == 24 && offsetof(struct process_info, gpu_instance) == 16,
              "nvmlProcessInfo_t");

#define SAMPLING_US 1000000u
#define API __attribute__((visibility("default")))

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int initialised;
static struct {
    unsigned index;
} handle[MAX_BOARDS];

/* --- how calls begin --- */

static int begin(const char *function, bool initialised_only) {
    int code;
    if (scene_refuses(function, DRIVER_NOT_LOADED, &code)) return code;
    pthread_mutex_lock(&mutex);
    bool ready = initialised > 0;
    pthread_mutex_unlock(&mutex);
    return ready || !initialised_only ? SUCCESS : UNINITIALIZED;
}

static int begin_board(const char *function, device_t device, const struct scene **scene, unsigned *index) {
    int code = begin(function, true);
    if (code) return code;
    *scene = scene_now();
    for (*index = 0; *index < (*scene)->boards && (void *)device != (void *)&handle[*index]; ++*index) {}
    if (*index == (*scene)->boards) return INVALID_ARGUMENT;
    char listed[96];
    snprintf(listed, sizeof listed, ",%s,", function);
    return strstr((*scene)->board[*index].unsupported, listed) ? NOT_SUPPORTED : SUCCESS;
}

#define BEGIN()                              \
    do {                                     \
        int refusal = begin(__func__, true); \
        if (refusal) return refusal;         \
    } while (0)

/* Leaves `scene`, `index` and `board`. */
#define BEGIN_BOARD()                                                \
    const struct scene *scene;                                       \
    unsigned index;                                                  \
    do {                                                             \
        int refusal = begin_board(__func__, device, &scene, &index); \
        if (refusal) return refusal;                                 \
    } while (0);                                                     \
    const struct board *board = &scene->board[index];                \
    (void)board

#define WANT(condition)                            \
    do {                                           \
        if (!(condition)) return INVALID_ARGUMENT; \
    } while (0)

static int text_out(const char *text, char *into, unsigned room) {
    if (!into) return INVALID_ARGUMENT;
    if (strlen(text) >= room) return INSUFFICIENT_SIZE;
    strcpy(into, text);
    return SUCCESS;
}

/* --- the system --- */

static int start(void) {
    for (unsigned i = 0; i < MAX_BOARDS; i++) handle[i].index = i;
    pthread_mutex_lock(&mutex);
    initialised++;
    pthread_mutex_unlock(&mutex);
    return SUCCESS;
}

API int nvmlInit_v2(void) {
    int code = begin(__func__, false);
    return code ? code : start();
}

API int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int code = begin(__func__, false);
    return code ? code : start();
}

API int nvmlShutdown(void) {
    BEGIN();
    pthread_mutex_lock(&mutex);
    initialised--;
    pthread_mutex_unlock(&mutex);
    return SUCCESS;
}

static void __attribute__((destructor)) leaks(void) {
    if (initialised > 0) scene_log("leak", "kind=nvml-init handle=%d", initialised);
}

API int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    BEGIN();
    return text_out(scene_now()->driver, version, length);
}

API int nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    BEGIN();
    return text_out(scene_now()->nvml, version, length);
}

API int nvmlSystemGetCudaDriverVersion(int *version) {
    BEGIN();
    WANT(version);
    *version = scene_now()->cuda;
    return SUCCESS;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    BEGIN();
    WANT(version);
    *version = scene_now()->cuda;
    return SUCCESS;
}

API const char *nvmlErrorString(int code) {
    switch (code) {
    case SUCCESS: return "The operation was successful";
    case UNINITIALIZED: return "NVML was not first initialized with nvmlInit()";
    case INVALID_ARGUMENT: return "A supplied argument is invalid";
    case NOT_SUPPORTED: return "The requested operation is not available on target device";
    case 4: return "The current user does not have permission for operation";
    case NOT_FOUND: return "A query to find an object was unsuccessful";
    case INSUFFICIENT_SIZE: return "An input argument is not large enough";
    case DRIVER_NOT_LOADED: return "NVIDIA driver is not loaded";
    case 10: return "User provided timeout passed";
    case 15: return "The GPU has fallen off the bus or has otherwise become inaccessible";
    case 17: return "The GPU control device has been blocked by the operating system";
    case 18: return "RM detects a driver/library version mismatch";
    case ARGUMENT_VERSION_MISMATCH: return "The provided version is invalid/unsupported";
    default: return "An internal driver error occurred";
    }
}

/* --- boards --- */

API int nvmlDeviceGetCount_v2(unsigned *count) {
    BEGIN();
    WANT(count);
    *count = scene_now()->boards;
    return SUCCESS;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, device_t *device) {
    BEGIN();
    WANT(device && index < scene_now()->boards);
    *device = (device_t)&handle[index];
    return SUCCESS;
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, device_t *device) {
    BEGIN();
    WANT(uuid && device);
    const struct scene *scene = scene_now();
    for (unsigned i = 0; i < scene->boards; i++) {
        if (strcmp(scene->board[i].uuid, uuid)) continue;
        *device = (device_t)&handle[i];
        return SUCCESS;
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *address, device_t *device) {
    BEGIN();
    unsigned domain, bus, number;
    WANT(address && device && sscanf(address, "%x:%x:%x.0", &domain, &bus, &number) == 3);
    const struct scene *scene = scene_now();
    for (unsigned i = 0; i < scene->boards; i++) {
        const struct board *board = &scene->board[i];
        if (board->pci_domain != domain || board->pci_bus != bus || board->pci_device != number) continue;
        *device = (device_t)&handle[i];
        return SUCCESS;
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetIndex(device_t device, unsigned *index_out) {
    BEGIN_BOARD();
    WANT(index_out);
    *index_out = index;
    return SUCCESS;
}

API int nvmlDeviceGetMinorNumber(device_t device, unsigned *minor) {
    BEGIN_BOARD();
    WANT(minor);
    *minor = index;
    return SUCCESS;
}

API int nvmlDeviceGetName(device_t device, char *name, unsigned length) {
    BEGIN_BOARD();
    return text_out(board->name, name, length);
}

API int nvmlDeviceGetUUID(device_t device, char *uuid, unsigned length) {
    BEGIN_BOARD();
    return text_out(board->uuid, uuid, length);
}

API int nvmlDeviceGetPciInfo_v3(device_t device, struct pci_info *pci) {
    BEGIN_BOARD();
    WANT(pci);
    *pci = (struct pci_info){.domain = board->pci_domain,
                             .bus = board->pci_bus,
                             .device = board->pci_device,
                             .device_id = 0x10de,
                             .subsystem_id = 0};
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "%04X:%02X:%02X.0", board->pci_domain & 0xffff,
             board->pci_bus & 0xff, board->pci_device & 0xff);
    snprintf(pci->bus_id, sizeof pci->bus_id, "%08X:%02X:%02X.0", board->pci_domain, board->pci_bus, board->pci_device);
    return SUCCESS;
}

API int nvmlDeviceGetCudaComputeCapability(device_t device, int *major, int *minor) {
    BEGIN_BOARD();
    WANT(major && minor);
    *major = board->cc_major;
    *minor = board->cc_minor;
    return SUCCESS;
}

/* NVML_DEVICE_ARCH_*, by compute capability. */
API int nvmlDeviceGetArchitecture(device_t device, unsigned *architecture) {
    BEGIN_BOARD();
    WANT(architecture);
    int cc = board->cc_major * 10 + board->cc_minor;
    *architecture = cc >= 100  ? 10
                    : cc >= 90 ? 9
                    : cc >= 89 ? 8
                    : cc >= 80 ? 7
                    : cc >= 75 ? 6
                    : cc >= 70 ? 5
                    : cc >= 60 ? 4
                    : cc >= 50 ? 3
                               : 2;
    return SUCCESS;
}

/* NVML_BRAND_*: GeForce, or NVIDIA's other boards. */
API int nvmlDeviceGetBrand(device_t device, unsigned *brand) {
    BEGIN_BOARD();
    WANT(brand);
    *brand = board->geforce ? (strstr(board->name, "RTX") ? 15 : 5) : 14;
    return SUCCESS;
}

API int nvmlDeviceGetMigMode(device_t device, unsigned *current, unsigned *pending) {
    BEGIN_BOARD();
    WANT(current && pending);
    if (board->mig == MIG_NONE) return NOT_SUPPORTED;
    *current = *pending = board->mig == MIG_ON;
    return SUCCESS;
}

/* Two thirds of an L4's clocks, in P0. */
API int nvmlDeviceGetPerformanceState(device_t device, int *state) {
    BEGIN_BOARD();
    WANT(state);
    *state = 0;
    return SUCCESS;
}

API int nvmlDeviceGetClockInfo(device_t device, int type, unsigned *mhz) {
    BEGIN_BOARD();
    WANT(mhz);
    static const unsigned clocks[] = {1360, 1360, 4167, 1190};
    if (type < 0 || type > 3) return INVALID_ARGUMENT;
    *mhz = clocks[type];
    return SUCCESS;
}

API int nvmlDeviceIsMigDeviceHandle(device_t device, unsigned *is) {
    BEGIN_BOARD();
    WANT(is);
    *is = 0;
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo(device_t device, struct memory *memory) {
    BEGIN_BOARD();
    WANT(memory);
    uint64_t used = state_used(scene, index);
    *memory = (struct memory){.total = board->mem_total, .used = used, .free = board->mem_total - used};
    return SUCCESS;
}

API int nvmlDeviceGetMemoryInfo_v2(device_t device, struct memory_v2 *memory) {
    BEGIN_BOARD();
    WANT(memory);
    unsigned version = memory->version;
    if (version != (sizeof *memory | 2u << 24)) return ARGUMENT_VERSION_MISMATCH;
    uint64_t used = state_used(scene, index);
    *memory = (struct memory_v2){
        .version = version, .total = board->mem_total, .used = used, .free = board->mem_total - used};
    return SUCCESS;
}

/* --- encoders --- */

API int nvmlDeviceGetUtilizationRates(device_t device, struct utilization *utilization) {
    BEGIN_BOARD();
    WANT(utilization);
    *utilization = (struct utilization){.gpu = board->gpu_util, .memory = board->mem_util};
    return SUCCESS;
}

API int nvmlDeviceGetEncoderUtilization(device_t device, unsigned *percent, unsigned *sampling_us) {
    BEGIN_BOARD();
    WANT(percent && sampling_us);
    *percent = board->encoder_util;
    *sampling_us = SAMPLING_US;
    return SUCCESS;
}

API int nvmlDeviceGetDecoderUtilization(device_t device, unsigned *percent, unsigned *sampling_us) {
    BEGIN_BOARD();
    WANT(percent && sampling_us);
    *percent = board->decoder_util;
    *sampling_us = SAMPLING_US;
    return SUCCESS;
}

API int nvmlDeviceGetEncoderCapacity(device_t device, unsigned codec, unsigned *percent) {
    BEGIN_BOARD();
    WANT(percent && codec <= CODEC_AV1);
    if (board->engines == 0 || !(board->codecs & 1u << codec)) return NOT_SUPPORTED;
    *percent = board->capacity;
    return SUCCESS;
}

/* A board's sessions, foreign ones first. */
static unsigned sessions_of(const struct scene *scene, unsigned board,
                            struct session_info into[MAX_LINES + MAX_ENTRIES]) {
    static struct seen seen[MAX_ENTRIES];
    unsigned count = 0;
    for (unsigned i = 0; i < scene->foreigns; i++) {
        const struct foreign *f = &scene->foreign[i];
        if (f->board == board)
            into[count++] = (struct session_info){.session = f->session,
                                                  .pid = f->pid,
                                                  .codec = f->codec,
                                                  .width = f->width,
                                                  .height = f->height,
                                                  .fps = f->fps,
                                                  .latency_us = f->latency_us};
    }
    pthread_mutex_lock(&mutex);
    unsigned entries = state_see(seen);
    for (unsigned i = 0; i < entries; i++) {
        const struct seen *s = &seen[i];
        if (s->kind == KIND_SESSION && s->board == board)
            into[count++] = (struct session_info){.session = s->id,
                                                  .pid = s->pid,
                                                  .codec = s->codec,
                                                  .width = s->width,
                                                  .height = s->height,
                                                  .fps = s->fps,
                                                  .latency_us = s->latency_us};
    }
    pthread_mutex_unlock(&mutex);
    return count;
}

API int nvmlDeviceGetEncoderStats(device_t device, unsigned *sessions, unsigned *fps, unsigned *latency_us) {
    BEGIN_BOARD();
    WANT(sessions && fps && latency_us);
    struct session_info info[MAX_LINES + MAX_ENTRIES];
    unsigned count = sessions_of(scene, index, info);
    unsigned long long all_fps = 0, all_latency = 0;
    for (unsigned i = 0; i < count; i++) {
        all_fps += info[i].fps;
        all_latency += info[i].latency_us;
    }
    *sessions = count;
    *fps = count ? (unsigned)(all_fps / count) : 0;
    *latency_us = count ? (unsigned)(all_latency / count) : 0;
    return SUCCESS;
}

API int nvmlDeviceGetEncoderSessions(device_t device, unsigned *count, struct session_info *infos) {
    static uint64_t fetches;
    BEGIN_BOARD();
    WANT(count);
    struct session_info info[MAX_LINES + MAX_ENTRIES];
    unsigned found = sessions_of(scene, index, info);
    if (!infos) {
        *count = found;
        return SUCCESS;
    }
    unsigned room = *count;
    if (__atomic_add_fetch(&fetches, 1, __ATOMIC_RELAXED) <= scene->race_insufficient || found > room) {
        *count = found;
        return INSUFFICIENT_SIZE;
    }
    found -= scene->race_fewer < found ? scene->race_fewer : found;
    memcpy(infos, info, found * sizeof *info);
    *count = found;
    return SUCCESS;
}

/* --- processes --- */

static int list_processes(const struct scene *scene, unsigned board, bool graphics, unsigned *count,
                          struct process_info *infos) {
    static struct seen seen[MAX_ENTRIES];
    static struct process_info all[MAX_LINES + MAX_ENTRIES];
    WANT(count);
    unsigned found = 0, room = *count;
    pthread_mutex_lock(&mutex);
    for (unsigned i = 0; i < scene->processes; i++) {
        const struct process *p = &scene->process[i];
        if (p->board == board && p->graphics == graphics)
            all[found++] =
                (struct process_info){.pid = p->pid, .mem = p->mem, .gpu_instance = ~0u, .compute_instance = ~0u};
    }
    unsigned entries = graphics ? 0 : state_see(seen);
    for (unsigned i = 0; i < entries; i++) {
        const struct seen *s = &seen[i];
        unsigned at = 0;
        if (s->board != board) continue;
        while (at < found && all[at].pid != s->pid) at++;
        if (at == found)
            all[found++] = (struct process_info){.pid = s->pid, .gpu_instance = ~0u, .compute_instance = ~0u};
        all[at].mem += s->mem;
    }
    bool enough = found == 0 || (infos && found <= room);
    if (enough && infos) memcpy(infos, all, found * sizeof *all);
    pthread_mutex_unlock(&mutex);
    *count = found;
    return enough ? SUCCESS : INSUFFICIENT_SIZE;
}

#define PROCESSES(function, graphics)                                                \
    API int function(device_t device, unsigned *count, struct process_info *infos) { \
        BEGIN_BOARD();                                                               \
        return list_processes(scene, index, graphics, count, infos);                 \
    }

PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, false)
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, false)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v2, true)
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, true)
