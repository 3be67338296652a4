/* What a kernel's text needs of CUDA to be C++ for the CPU: qualifiers, vectors, and where the thread is. */
#ifndef STANDIN_CUDA_DEVICE_H
#define STANDIN_CUDA_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#define __global__
#define __device__
#define __forceinline__ inline

struct place {
    unsigned x, y, z;
};

/* Of the one thread that runs now, here. */
static thread_local place gridDim, blockDim, blockIdx, threadIdx;

/* Aligned as CUDA's are. */
struct alignas(2) uchar2 {
    unsigned char x, y;
};

struct alignas(4) uchar4 {
    unsigned char x, y, z, w;
};

static inline uchar2 make_uchar2(unsigned char x, unsigned char y) {
    return {x, y};
}

#endif
