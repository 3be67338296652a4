/* Device memory that another process opens. The memory is a file without a name, and the handle says where in /proc it
 * is found while the process that made it lives and keeps it; what was opened stays open after that. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuda.h"

#define LAZY_PEER_ACCESS 1 /* the one flag, which cuda.h requires */

static const char mark[8] = "stand-in";

/* CUipcMemHandle, which goes by value. */
struct ipc_handle {
    char mark[8];
    int32_t pid, file;
    uint64_t number, size;
    uint32_t board;
    char reserved[28];
};
_Static_assert(sizeof(struct ipc_handle) == 64, "CUipcMemHandle");

API int cuIpcGetMemHandle(struct ipc_handle *handle, uint64_t pointer) {
    BEGIN_IN_CONTEXT();
    const struct object *object = device_memory(pointer, 1, context);
    struct stat status;
    if (!handle) return INVALID_VALUE;
    if (!object || object->kind != OBJECT_MEMORY || (uintptr_t)object->base != pointer)
        return violation(__func__, INVALID_VALUE, "not the beginning of an allocation of this context");
    if (fstat(object->file, &status)) return OPERATING_SYSTEM;
    *handle = (struct ipc_handle){.pid = getpid(), .file = object->file, .number = status.st_ino, .size = object->size};
    handle->board = context->board;
    memcpy(handle->mark, mark, sizeof mark);
    return CUDA_SUCCESS;
}

/* The memory mapped; NULL if it is not there any more. */
static void *map(const struct ipc_handle *handle) {
    char path[64];
    struct stat status;
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)handle->pid, (int)handle->file);
    int file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0) return NULL;
    /* A number used again is another file. */
    bool same = !fstat(file, &status) && status.st_ino == handle->number && (uint64_t)status.st_size == handle->size;
    void *memory = same ? mmap(NULL, handle->size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0) : MAP_FAILED;
    close(file);
    return memory == MAP_FAILED ? NULL : memory;
}

API int cuIpcOpenMemHandle_v2(uint64_t *pointer, struct ipc_handle handle, unsigned flags) {
    BEGIN_IN_CONTEXT();
    if (!pointer || flags != LAZY_PEER_ACCESS) return INVALID_VALUE;
    if (memcmp(handle.mark, mark, sizeof mark)) return violation(__func__, INVALID_VALUE, "not a handle of memory");
    if (handle.pid == getpid()) return violation(__func__, INVALID_CONTEXT, "opened by the process that made it");
    if (handle.board != context->board) return violation(__func__, MAPPING_FAILED, "the memory is another device's");
    struct object *object = imported_memory(handle.number, context);
    if (!object) {
        void *memory = map(&handle);
        /* Its process may have died: no fault of this one. */
        if (!memory) return INVALID_HANDLE;
        object = object_new(OBJECT_IMPORTED, context);
        object->size = handle.size;
        object->origin = handle.number;
        object->base = memory;
    }
    object->importers++;
    *pointer = (uintptr_t)object->base;
    return CUDA_SUCCESS;
}

API int cuIpcCloseMemHandle(uint64_t pointer) {
    BEGIN_IN_CONTEXT();
    struct object *object = device_memory(pointer, 1, context);
    if (!object || object->kind != OBJECT_IMPORTED || (uintptr_t)object->base != pointer)
        return violation(__func__, INVALID_VALUE, "not memory that was opened");
    if (--object->importers == 0) object_free(object);
    return CUDA_SUCCESS;
}
