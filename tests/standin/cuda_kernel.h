/* The kernels that the stand-in knows, as cuda_kernel.c asks for them: their own text, compiled by cuda_convert.cc and
 * cuda_product.cc. */
#ifndef STANDIN_CUDA_KERNEL_H
#define STANDIN_CUDA_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MAX_REACHES 4

struct launch {
    unsigned grid[3], block[3];
    void **parameters;
};

/* Memory that a launch touches by one of its pointers. */
struct reach {
    uint64_t address;
    size_t size;
    /* Whether every access is aligned as its type is. */
    bool aligned;
};

struct kernel {
    const char *name;
    /* Fills `into`, returns how many. */
    unsigned (*reaches)(const struct launch *, struct reach into[MAX_REACHES]);
    /* All threads of a launch. */
    void (*run)(const struct launch *);
};

#ifdef __cplusplus
extern "C" {
#endif

/* Each of a file of src/gpu/kernels; they end with a kernel without a name. */
extern const struct kernel convert_kernels[], product_kernels[];

#ifdef __cplusplus
}
#endif

#endif
