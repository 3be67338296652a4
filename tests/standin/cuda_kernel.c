/* Modules, functions and launches. A module is a PTX of src/gpu/kernels, known by its version, target and entries;
 * what runs is the kernels' own text, compiled for the CPU (cuda_convert.cc, cuda_product.cc). A launch is done when its
 * call returns.
 */
#include "cuda_kernel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda.h"

enum {
    PTX_MAJOR = 8, /* the PTX ISA of CUDA 12.0 */
    PTX_MINOR = 0,
    PTX_CUDA = 12000,
    TARGET = 52,
    MAX_THREADS = 1024, /* of a block */
    SHARED_BYTES = 48 * 1024
};

/* A function's handle is an address inside its module, so that it is none any more when the module is unloaded. */
static void *function_handle(struct object *module, unsigned index) {
    return (char *)module + 1 + index;
}

static struct object *function_of(const char *function, const void *handle, const struct kernel **kernel) {
    uintptr_t address = (uintptr_t)handle, base = address & ~(uintptr_t)15;
    struct object *module = object_of(function, OBJECT_MODULE, (void *)base);
    if (!module) return NULL;
    unsigned index = (unsigned)(address - base) - 1, count = 0;
    while (module->kernels[count].name) count++;
    if (address == base || index >= count) return violation(function, INVALID_HANDLE, "no such function"), NULL;
    *kernel = &module->kernels[index];
    return module;
}

/* --- modules --- */

/* The text behind a directive at a line's beginning, NULL without one. */
static const char *directive(const char *ptx, const char *name) {
    size_t length = strlen(name);
    for (const char *line = ptx; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (!strncmp(line, name, length) && line[length] == ' ') return line + length + 1;
    }
    return NULL;
}

static bool has_entry(const char *ptx, const char *name) {
    char line[128];
    snprintf(line, sizeof line, "\n.visible .entry %s(", name);
    return strstr(ptx, line) != NULL;
}

/* The file whose entries the text has, all of them. */
static const struct kernel *kernels_of(const char *ptx) {
    const struct kernel *const files[] = {convert_kernels, product_kernels};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        const struct kernel *kernel = files[i];
        while (kernel->name && has_entry(ptx, kernel->name)) kernel++;
        if (!kernel->name) return files[i];
    }
    return NULL;
}

static int check_ptx(const char *function, const struct context *context, const char *ptx,
                     const struct kernel **kernels) {
    const char *version = directive(ptx, ".version"), *target = directive(ptx, ".target");
    unsigned major, minor, arch;
    if (!version || !target || sscanf(version, "%u.%u", &major, &minor) != 2 || sscanf(target, "sm_%u", &arch) != 1)
        return violation(function, INVALID_PTX, "not PTX");
    if (major != PTX_MAJOR || minor != PTX_MINOR || arch != TARGET)
        return violation(function, INVALID_PTX, "the stand-in knows PTX 8.0 for sm_52 only");
    *kernels = kernels_of(ptx);
    if (!*kernels) return violation(function, INVALID_PTX, "an entry is missing");
    const struct board *board = &scene_now()->board[context->board];
    /* What a host may be: no fault of the program. */
    if (scene_now()->cuda < PTX_CUDA) return UNSUPPORTED_PTX_VERSION;
    return board->cc_major * 10 + board->cc_minor < TARGET ? NO_BINARY_FOR_GPU : CUDA_SUCCESS;
}

static int load(const char *function, struct context *context, struct object **module, const char *ptx) {
    if (!module || !ptx) return INVALID_VALUE;
    const struct kernel *kernels;
    int code = check_ptx(function, context, ptx, &kernels);
    if (code) return code;
    *module = object_new(OBJECT_MODULE, context);
    (*module)->kernels = kernels;
    return CUDA_SUCCESS;
}

API int cuModuleLoadData(struct object **module, const char *ptx) {
    BEGIN_IN_CONTEXT();
    return load(__func__, context, module, ptx);
}

/* The options say how to compile, which changes nothing here. */
API int cuModuleLoadDataEx(struct object **module, const char *ptx, unsigned count, int *options, void **values) {
    BEGIN_IN_CONTEXT();
    if (count && (!options || !values)) return INVALID_VALUE;
    return load(__func__, context, module, ptx);
}

API int cuModuleUnload(struct object *module) {
    BEGIN_IN_CONTEXT();
    struct object *object = object_of(__func__, OBJECT_MODULE, module);
    if (!object) return INVALID_HANDLE;
    if (object->context != context) return violation(__func__, INVALID_CONTEXT, "the module is another context's");
    object_free(object);
    return CUDA_SUCCESS;
}

API int cuModuleGetFunction(void **function, struct object *module, const char *name) {
    BEGIN_IN_CONTEXT();
    struct object *object = object_of(__func__, OBJECT_MODULE, module);
    if (!object) return INVALID_HANDLE;
    if (!function || !name) return INVALID_VALUE;
    for (unsigned i = 0; object->kernels[i].name; i++)
        if (!strcmp(object->kernels[i].name, name)) return *function = function_handle(object, i), CUDA_SUCCESS;
    return NOT_FOUND;
}

/* --- launches --- */

/* Whether all that the launch touches is the context's memory. */
static int check_reaches(const char *function, const struct context *context, const struct kernel *kernel,
                         const struct launch *launch) {
    struct reach all[MAX_REACHES];
    unsigned count = kernel->reaches(launch, all);
    for (unsigned i = 0; i < count; i++) {
        if (!all[i].size) continue;
        if (!all[i].aligned) return violation(function, MISALIGNED_ADDRESS, "an access that is not aligned");
        if (!device_memory(all[i].address, all[i].size, context))
            return violation(function, ILLEGAL_ADDRESS, "beyond the context's device memory");
    }
    return CUDA_SUCCESS;
}

API int cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                       unsigned block_y, unsigned block_z, unsigned shared, void *stream, void **parameters,
                       void **extra) {
    BEGIN_IN_CONTEXT();
    WANT_STREAM(stream);
    const struct kernel *kernel;
    const struct object *module = function_of(__func__, function, &kernel);
    if (!module) return INVALID_HANDLE;
    if (module->context != context) return violation(__func__, INVALID_CONTEXT, "the function is another context's");
    if ((uintptr_t)stream > 2 && ((struct object *)stream)->context != context)
        return violation(__func__, INVALID_HANDLE, "the stream is another context's");
    if (!grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z)
        return violation(__func__, INVALID_VALUE, "a dimension of 0");
    if ((uint64_t)block_x * block_y * block_z > MAX_THREADS || block_z > 64 || grid_x > INT32_MAX || grid_y > 65535 ||
        grid_z > 65535 || shared > SHARED_BYTES)
        return violation(__func__, INVALID_VALUE, "more than a launch may have");
    if (!parameters || extra) return violation(__func__, INVALID_VALUE, "the stand-in takes kernelParams only");
    struct launch launch = {{grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, parameters};
    int code = check_reaches(__func__, context, kernel, &launch);
    if (!code) kernel->run(&launch);
    return code;
}

/* Attributes: 0 threads per block at most, 5 PTX version; the others are 0. */
API int cuFuncGetAttribute(int *value, int attribute, void *function) {
    BEGIN();
    const struct kernel *kernel;
    if (!function_of(__func__, function, &kernel)) return INVALID_HANDLE;
    if (!value || attribute < 0) return INVALID_VALUE;
    *value = attribute == 0 ? MAX_THREADS : attribute == 5 ? TARGET : 0;
    return CUDA_SUCCESS;
}
