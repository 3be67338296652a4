/* What a kernel's text needs of CUDA to be C++ for the CPU: qualifiers, vectors, and where the thread is; and what runs
 * it, one thread after another. */
#ifndef STANDIN_CUDA_DEVICE_H
#define STANDIN_CUDA_DEVICE_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "cuda_kernel.h"

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

/* The next place in a box, row by row; false after the last. */
static inline bool step(place &at, const unsigned size[3]) {
    if (++at.x < size[0]) return true;
    at.x = 0;
    if (++at.y < size[1]) return true;
    at.y = 0;
    return ++at.z < size[2];
}

/* Runs a launch's threads, one after another. */
template <typename Thread> static void each_thread(const launch *launch, Thread thread) {
    gridDim = {launch->grid[0], launch->grid[1], launch->grid[2]};
    blockDim = {launch->block[0], launch->block[1], launch->block[2]};
    blockIdx = {0, 0, 0};
    do {
        threadIdx = {0, 0, 0};
        do thread();
        while (step(threadIdx, launch->block));
    } while (step(blockIdx, launch->grid));
}

template <typename T> static T parameter(const launch *launch, unsigned index) {
    return *static_cast<const T *>(launch->parameters[index]);
}

static inline unsigned number(const launch *launch, unsigned index) {
    return parameter<unsigned>(launch, index);
}

#endif
