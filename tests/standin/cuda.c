/* libcuda.so.1 as the scene has it: devices, contexts, errors, symbols. */
#define _GNU_SOURCE
#include "cuda.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_CONTEXTS 1024
#define MAX_DEPTH 32

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;      /* of the lists */
static pthread_mutex_t life_mutex = PTHREAD_MUTEX_INITIALIZER; /* of contexts that begin and end; taken first */
static bool initialised;
static unsigned devices;
static unsigned board_of[MAX_BOARDS];
static struct context primary[MAX_BOARDS];
/* A destroyed context stays, so that its handle is known as one and never given again. */
static struct context *made[MAX_CONTEXTS];
static unsigned contexts;
static struct object *objects;
static __thread struct context *stack[MAX_DEPTH];
static __thread unsigned depth;

/* --- objects --- */

int violation(const char *function, int code, const char *what) {
    scene_log("violation", "function=%s code=%d what=\"%s\"", function, code, what);
    return code;
}

struct object *object_new(enum object_kind kind, struct context *context) {
    struct object *object = calloc(1, sizeof *object);
    if (!object) abort();
    object->kind = kind;
    object->context = context;
    pthread_mutex_lock(&mutex);
    object->next = objects;
    objects = object;
    pthread_mutex_unlock(&mutex);
    return object;
}

static struct object *find_object(enum object_kind kind, const void *handle) {
    pthread_mutex_lock(&mutex);
    struct object *object = objects;
    while (object && (object != handle || object->kind != kind)) object = object->next;
    pthread_mutex_unlock(&mutex);
    return object;
}

struct object *object_of(const char *function, enum object_kind kind, const void *handle) {
    struct object *object = find_object(kind, handle);
    if (!object) violation(function, INVALID_HANDLE, "no such handle");
    return object;
}

void object_free(struct object *object) {
    pthread_mutex_lock(&mutex);
    struct object **at = &objects;
    while (*at != object) at = &(*at)->next;
    *at = object->next;
    pthread_mutex_unlock(&mutex);
    if (object->kind == OBJECT_MEMORY) {
        const struct scene *scene = scene_now();
        if (scene) state_memory(scene, object->context->board, -(int64_t)object->size);
        close(object->file);
    }
    if (object->kind == OBJECT_MEMORY || object->kind == OBJECT_IMPORTED) munmap(object->base, object->size);
    else free(object->base);
    free(object->pixels);
    free(object);
}

struct object *object_around(uint64_t address, size_t size) {
    pthread_mutex_lock(&mutex);
    struct object *object = objects;
    for (; object; object = object->next) {
        uint64_t base = (uint64_t)(uintptr_t)object->base;
        if (object->base && address >= base && size <= object->size && address - base <= object->size - size) break;
    }
    pthread_mutex_unlock(&mutex);
    return object;
}

struct object *device_memory(uint64_t address, size_t size, const struct context *context) {
    struct object *object = object_around(address, size);
    bool found = object && (object->kind == OBJECT_MEMORY || object->kind == OBJECT_IMPORTED) &&
                 (!context || object->context == context);
    return found ? object : NULL;
}

struct object *imported_memory(uint64_t origin, const struct context *context) {
    pthread_mutex_lock(&mutex);
    struct object *object = objects;
    while (object && (object->kind != OBJECT_IMPORTED || object->origin != origin || object->context != context))
        object = object->next;
    pthread_mutex_unlock(&mutex);
    return object;
}

void objects_leak(const struct context *context) {
    static const char *const kinds[] = {"memory", "host-memory", "stream", "event", "graphics-resource",
                                        "module", "imported-memory"};
    for (;;) {
        pthread_mutex_lock(&mutex);
        struct object *object = objects;
        while (object && context && object->context != context) object = object->next;
        pthread_mutex_unlock(&mutex);
        if (!object) return;
        scene_log("leak", "kind=%s handle=%p", kinds[object->kind],
                  object->base ? (void *)object->base : (void *)object);
        object_free(object);
    }
}

/* --- how calls begin --- */

int begin_call(const char *function) {
    int code;
    if (scene_refuses(function, NO_DEVICE, &code)) return code;
    pthread_mutex_lock(&mutex);
    bool ready = initialised;
    pthread_mutex_unlock(&mutex);
    return ready ? CUDA_SUCCESS : NOT_INITIALIZED;
}

int begin_in_context(const char *function, struct context **context) {
    int code = begin_call(function);
    if (code) return code;
    *context = current_context();
    if (!*context) return violation(function, INVALID_CONTEXT, "no current context on this thread");
    return (*context)->alive ? CUDA_SUCCESS
                             : violation(function, CONTEXT_IS_DESTROYED, "the current context is destroyed");
}

struct context *current_context(void) {
    return depth ? stack[depth - 1] : NULL;
}

/* --- the driver --- */

/* CUDA_VISIBLE_DEVICES: numbers or UUIDs; what follows one that is unknown is not visible. */
static void choose_devices(const struct scene *scene) {
    const char *visible = getenv("CUDA_VISIBLE_DEVICES");
    char list[4096], *left = NULL;
    devices = 0;
    if (!visible) {
        for (; devices < scene->boards; devices++) board_of[devices] = devices;
        return;
    }
    copy_text(list, sizeof list, visible);
    for (char *word = strtok_r(list, ",", &left); word && devices < MAX_BOARDS; word = strtok_r(NULL, ",", &left)) {
        unsigned board = scene->boards;
        while (*word == ' ') word++;
        if (!strncasecmp(word, "GPU-", 4)) {
            for (board = 0; board < scene->boards; board++)
                if (!strncasecmp(scene->board[board].uuid, word, strlen(word))) break;
        } else {
            char *end;
            unsigned long index = strtoul(word, &end, 10);
            if (end != word && (*end == 0 || *end == ' ') && index < scene->boards) board = (unsigned)index;
        }
        if (board == scene->boards) return;
        board_of[devices++] = board;
    }
}

API int cuInit(unsigned flags) {
    int code;
    if (scene_refuses(__func__, NO_DEVICE, &code)) return code;
    if (flags) return INVALID_VALUE;
    pthread_mutex_lock(&mutex);
    if (!initialised) choose_devices(scene_now());
    initialised = devices > 0;
    pthread_mutex_unlock(&mutex);
    return initialised ? CUDA_SUCCESS : NO_DEVICE;
}

API int cuDriverGetVersion(int *version) {
    int code;
    if (scene_refuses(__func__, NO_DEVICE, &code)) return code;
    if (!version) return INVALID_VALUE;
    *version = scene_now()->cuda;
    return CUDA_SUCCESS;
}

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {205, "CUDA_ERROR_MAP_FAILED", "mapping of buffer object failed"},
    {208, "CUDA_ERROR_ALREADY_MAPPED", "resource already mapped"},
    {209, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {211, "CUDA_ERROR_NOT_MAPPED", "resource not mapped"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {219, "CUDA_ERROR_INVALID_GRAPHICS_CONTEXT", "invalid OpenGL or DirectX context"},
    {222, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", "the provided PTX was compiled with an unsupported toolchain."},
    {304, "CUDA_ERROR_OPERATING_SYSTEM", "OS call failed or operation not supported on this OS"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {708, "CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE", "cannot set while device is active in this process"},
    {709, "CUDA_ERROR_CONTEXT_IS_DESTROYED", "context is destroyed"},
    {716, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {801, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {999, "CUDA_ERROR_UNKNOWN", "unknown error"},
};

API int cuGetErrorName(int code, const char **name) {
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return *name = errors[i].name, CUDA_SUCCESS;
    *name = NULL;
    return INVALID_VALUE;
}

API int cuGetErrorString(int code, const char **text) {
    for (unsigned i = 0; i < sizeof errors / sizeof *errors; i++)
        if (errors[i].code == code) return *text = errors[i].text, CUDA_SUCCESS;
    *text = NULL;
    return INVALID_VALUE;
}

API int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status);

/* The newest form of a function that this library has, as the driver picks by the version it is asked for. */
static int find_symbol(const char *symbol, void **function, int version) {
    static const char *const suffixes[] = {"_v2", ""};
    Dl_info self;
    if (!symbol || !function || !dladdr((void *)cuInit, &self)) return INVALID_VALUE;
    if (!strcmp(symbol, "cuGetProcAddress") && version >= 12000)
        return *function = (void *)cuGetProcAddress_v2, CUDA_SUCCESS;
    void *library = dlopen(self.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    *function = NULL;
    for (unsigned i = 0; library && !*function && i < 2; i++) {
        char name[128];
        snprintf(name, sizeof name, "%s%s", symbol, suffixes[i]);
        *function = dlsym(library, name);
    }
    if (library) dlclose(library);
    return *function ? CUDA_SUCCESS : NOT_FOUND;
}

API int cuGetProcAddress(const char *symbol, void **function, int version, uint64_t flags) {
    int code;
    (void)flags;
    if (scene_refuses(__func__, NO_DEVICE, &code)) return code;
    return find_symbol(symbol, function, version);
}

/* `status`: 0 found, 1 no such symbol. */
API int cuGetProcAddress_v2(const char *symbol, void **function, int version, uint64_t flags, int *status) {
    int code;
    (void)flags;
    if (scene_refuses(__func__, NO_DEVICE, &code)) return code;
    code = find_symbol(symbol, function, version);
    if (status) *status = code == NOT_FOUND;
    return code;
}

/* --- devices --- */

/* Leaves `board`. */
#define BEGIN_ON(device)                                                      \
    BEGIN();                                                                  \
    if ((device) < 0 || (unsigned)(device) >= devices) return INVALID_DEVICE; \
    const struct board *board = &scene_now()->board[board_of[device]];        \
    (void)board

unsigned visible_devices(void) {
    return devices;
}

API int cuDeviceGetCount(int *count) {
    BEGIN();
    if (!count) return INVALID_VALUE;
    *count = (int)devices;
    return CUDA_SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal) {
    BEGIN_ON(ordinal);
    if (!device) return INVALID_VALUE;
    *device = ordinal;
    return CUDA_SUCCESS;
}

API int cuDeviceGetName(char *name, int length, int device) {
    BEGIN_ON(device);
    if (!name || length <= 0) return INVALID_VALUE;
    copy_text(name, (uint64_t)length, board->name);
    return CUDA_SUCCESS;
}

static int uuid_out(const struct board *board, uint8_t uuid[16]) {
    const char *digit = board->uuid + 4;
    for (unsigned i = 0; i < 16; i++) {
        while (*digit == '-') digit++;
        char pair[3] = {digit[0], digit[1] == '-' ? digit[2] : digit[1], 0};
        digit += digit[1] == '-' ? 3 : 2;
        uuid[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
    return CUDA_SUCCESS;
}

API int cuDeviceGetUuid(uint8_t uuid[16], int device) {
    BEGIN_ON(device);
    return uuid ? uuid_out(board, uuid) : INVALID_VALUE;
}

API int cuDeviceGetUuid_v2(uint8_t uuid[16], int device) {
    BEGIN_ON(device);
    return uuid ? uuid_out(board, uuid) : INVALID_VALUE;
}

API int cuDeviceGetPCIBusId(char *address, int length, int device) {
    BEGIN_ON(device);
    if (!address || length < 13) return INVALID_VALUE;
    snprintf(address, (size_t)length, "%04x:%02x:%02x.0", board->pci_domain, board->pci_bus, board->pci_device);
    return CUDA_SUCCESS;
}

API int cuDeviceGetByPCIBusId(int *device, const char *address) {
    BEGIN();
    unsigned domain, bus, number;
    if (!device || !address || sscanf(address, "%x:%x:%x.0", &domain, &bus, &number) != 3) return INVALID_VALUE;
    for (unsigned i = 0; i < devices; i++) {
        const struct board *board = &scene_now()->board[board_of[i]];
        if (board->pci_domain == domain && board->pci_bus == bus && board->pci_device == number)
            return *device = (int)i, CUDA_SUCCESS;
    }
    return INVALID_DEVICE;
}

API int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    BEGIN_ON(device);
    if (!bytes) return INVALID_VALUE;
    *bytes = board->mem_total;
    return CUDA_SUCCESS;
}

/* The attributes that the scene says, or that hold for every board; the others are 0. */
API int cuDeviceGetAttribute(int *value, int attribute, int device) {
    BEGIN_ON(device);
    if (!value || attribute <= 0) return INVALID_VALUE;
    switch (attribute) {
    case 1: *value = 1024; break; /* threads per block */
    case 10: *value = 32; break;  /* warp */
    case 16: *value = 46; break;  /* multiprocessors */
    case 33: *value = (int)board->pci_bus; break;
    case 34: *value = (int)board->pci_device; break;
    case 41: *value = 1; break; /* unified addressing */
    case 50: *value = (int)board->pci_domain; break;
    case 75: *value = board->cc_major; break;
    case 76: *value = board->cc_minor; break;
    default: *value = 0; /* also 115: no memory pools */
    }
    return CUDA_SUCCESS;
}

/* --- contexts --- */

static struct context *known(const void *handle) {
    for (unsigned i = 0; i < contexts; i++)
        if (made[i] == handle) return made[i];
    for (unsigned i = 0; i < devices; i++)
        if (&primary[i] == handle) return &primary[i];
    return NULL;
}

/* The board of a context that lives, for libnvidia-encode; -1 for anything else. */
API int standin_context_board(const void *handle) {
    pthread_mutex_lock(&mutex);
    const struct context *context = known(handle);
    int board = context && context->alive ? (int)context->board : -1;
    pthread_mutex_unlock(&mutex);
    return board;
}

/* Whether these bytes are a context's device memory, for libnvidia-encode and libnvjpeg. */
API bool standin_memory_holds(uint64_t address, size_t size, const struct context *context) {
    return device_memory(address, size, context) != NULL;
}

/* Whether this is a stream that lives, of the context unless it is one of the three that every context has. */
API bool standin_stream_lives(void *stream, const struct context *context) {
    if ((uintptr_t)stream <= 2) return true;
    const struct object *object = find_object(OBJECT_STREAM, stream);
    return object && object->context == context;
}

/* Memory of a context's device, for libnvcuvid; 0 where there is none left. It counts as no call. */
API uint64_t standin_memory_new(struct context *context, size_t size) {
    uint64_t pointer = 0;
    return memory_new(context, &pointer, size) == CUDA_SUCCESS ? pointer : 0;
}

API void standin_memory_end(uint64_t pointer) {
    struct object *object = object_around(pointer, 1);
    if (object && object->kind == OBJECT_MEMORY) object_free(object);
}

/* The calling thread's context if it lives, else NULL: for libnvjpeg and libnvcuvid. */
API const void *standin_current_context(void) {
    const struct context *context = current_context();
    return context && context->alive ? context : NULL;
}

static void context_begins(struct context *context, int device) {
    context->device = device;
    context->board = board_of[device];
    context->alive = true;
    state_memory(scene_now(), context->board, 0);
}

static void context_ends(struct context *context) {
    objects_leak(context);
    /* Who ends by a signal ends its contexts before, if it can. */
    copies_tell();
    context->alive = false;
    bool others = false;
    for (unsigned i = 0; i < contexts; i++) others |= made[i]->alive && made[i]->board == context->board;
    for (unsigned i = 0; i < devices; i++) others |= primary[i].alive && primary[i].board == context->board;
    if (!others) state_leave(context->board);
}

API int cuDevicePrimaryCtxRetain(struct context **context, int device) {
    BEGIN_ON(device);
    if (!context) return INVALID_VALUE;
    *context = &primary[device];
    pthread_mutex_lock(&life_mutex);
    (*context)->primary = true;
    if ((*context)->retained++ == 0) context_begins(*context, device);
    pthread_mutex_unlock(&life_mutex);
    return CUDA_SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    BEGIN_ON(device);
    struct context *context = &primary[device];
    pthread_mutex_lock(&life_mutex);
    bool retained = context->retained > 0;
    if (retained && --context->retained == 0) context_ends(context);
    pthread_mutex_unlock(&life_mutex);
    return retained ? CUDA_SUCCESS : violation(__func__, INVALID_CONTEXT, "released more often than retained");
}

API int cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active) {
    BEGIN_ON(device);
    if (!flags || !active) return INVALID_VALUE;
    *flags = primary[device].flags;
    *active = primary[device].alive;
    return CUDA_SUCCESS;
}

API int cuDevicePrimaryCtxSetFlags_v2(int device, unsigned flags) {
    BEGIN_ON(device);
    primary[device].flags = flags;
    return CUDA_SUCCESS;
}

static int push(struct context *context) {
    if (depth == MAX_DEPTH) return OUT_OF_MEMORY;
    stack[depth++] = context;
    return CUDA_SUCCESS;
}

API int cuCtxCreate_v2(struct context **context, unsigned flags, int device) {
    BEGIN_ON(device);
    if (!context) return INVALID_VALUE;
    *context = calloc(1, sizeof **context);
    pthread_mutex_lock(&mutex);
    bool room = *context && contexts < MAX_CONTEXTS;
    if (room) made[contexts++] = *context;
    pthread_mutex_unlock(&mutex);
    if (!room) return OUT_OF_MEMORY;
    (*context)->flags = flags;
    pthread_mutex_lock(&life_mutex);
    context_begins(*context, device);
    pthread_mutex_unlock(&life_mutex);
    return push(*context);
}

API int cuCtxDestroy_v2(struct context *context) {
    BEGIN();
    if (!known(context) || !context->alive) return violation(__func__, INVALID_CONTEXT, "no such context");
    if (context->primary) return violation(__func__, INVALID_CONTEXT, "a primary context is released, not destroyed");
    pthread_mutex_lock(&life_mutex);
    if (context->alive) context_ends(context);
    pthread_mutex_unlock(&life_mutex);
    if (current_context() == context) depth--;
    return CUDA_SUCCESS;
}

API int cuCtxPushCurrent_v2(struct context *context) {
    BEGIN();
    if (!known(context) || !context->alive) return violation(__func__, INVALID_CONTEXT, "no such context");
    return push(context);
}

API int cuCtxPopCurrent_v2(struct context **context) {
    BEGIN();
    if (!depth) return violation(__func__, INVALID_CONTEXT, "no current context on this thread");
    depth--;
    if (context) *context = stack[depth];
    return CUDA_SUCCESS;
}

API int cuCtxSetCurrent(struct context *context) {
    BEGIN();
    if (context && (!known(context) || !context->alive)) return violation(__func__, INVALID_CONTEXT, "no such context");
    if (depth) depth--;
    return context ? push(context) : CUDA_SUCCESS;
}

API int cuCtxGetCurrent(struct context **context) {
    BEGIN();
    if (!context) return INVALID_VALUE;
    *context = current_context();
    return CUDA_SUCCESS;
}

API int cuCtxGetDevice(int *device) {
    BEGIN_IN_CONTEXT();
    if (!device) return INVALID_VALUE;
    *device = context->device;
    return CUDA_SUCCESS;
}

API int cuCtxGetApiVersion(struct context *context, unsigned *version) {
    BEGIN();
    if (!known(context) || !version) return INVALID_VALUE;
    *version = 3020;
    return CUDA_SUCCESS;
}

API int cuCtxSetFlags(unsigned flags) {
    BEGIN_IN_CONTEXT();
    context->flags = flags;
    return CUDA_SUCCESS;
}

API int cuCtxGetFlags(unsigned *flags) {
    BEGIN_IN_CONTEXT();
    if (!flags) return INVALID_VALUE;
    *flags = context->flags;
    return CUDA_SUCCESS;
}

API int cuCtxSynchronize(void) {
    BEGIN_IN_CONTEXT();
    return CUDA_SUCCESS;
}

API int cuCtxGetStreamPriorityRange(int *least, int *greatest) {
    BEGIN_IN_CONTEXT();
    if (least) *least = 0;
    if (greatest) *greatest = 0;
    return CUDA_SUCCESS;
}

static void __attribute__((destructor)) leaks(void) {
    if (initialised) copies_tell();
    for (unsigned i = 0; i < devices; i++)
        if (primary[i].alive) scene_log("leak", "kind=primary-context handle=%p", (void *)&primary[i]);
    for (unsigned i = 0; i < contexts; i++)
        if (made[i]->alive) scene_log("leak", "kind=context handle=%p", (void *)made[i]);
    objects_leak(NULL);
}
