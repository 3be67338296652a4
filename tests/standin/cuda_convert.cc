/* The kernels' own text as C++, run one thread after another. */
#include "cuda_device.h"

#include "../../src/gpu/kernels/convert.cu"

/* --- parameters --- */

static const unsigned char *source(const launch *launch, unsigned index) {
    return parameter<const unsigned char *>(launch, index);
}

static unsigned char *target(const launch *launch, unsigned index) {
    return parameter<unsigned char *>(launch, index);
}

/* --- what a launch touches --- */

struct extent {
    size_t columns, rows;
};

/* Pixels of the blocks of 2x2 that some thread of the launch does. */
static extent pixels(const launch *launch, unsigned width, unsigned height) {
    size_t columns = (size_t)launch->grid[0] * launch->block[0] * 2,
           rows = (size_t)launch->grid[1] * launch->block[1] * 2;
    size_t across = ((size_t)width + 1) / 2 * 2, down = ((size_t)height + 1) / 2 * 2;
    return {columns < across ? columns : across, rows < down ? rows : down};
}

/* Rows of so many bytes; `alignment` is that of each access. */
static reach plane(const void *pointer, size_t pitch, size_t bytes, size_t rows, unsigned alignment) {
    uint64_t address = (uintptr_t)pointer;
    bool aligned = address % alignment == 0 && pitch % alignment == 0;
    return {address, bytes && rows ? pitch * (rows - 1) + bytes : 0, aligned};
}

static unsigned nv12_reaches(const launch *launch, reach into[MAX_REACHES]) {
    extent size = pixels(launch, number(launch, 5), number(launch, 6));
    unsigned pitch = number(launch, 4);
    into[0] = plane(source(launch, 0), number(launch, 1), size.columns * 4, size.rows, alignof(uchar4));
    into[1] = plane(target(launch, 2), pitch, size.columns, size.rows, alignof(uchar2));
    into[2] = plane(target(launch, 3), pitch, size.columns, size.rows / 2, alignof(uchar2));
    return 3;
}

static unsigned i420_reaches(const launch *launch, reach into[MAX_REACHES]) {
    extent size = pixels(launch, number(launch, 7), number(launch, 8));
    unsigned pitch = number(launch, 6);
    into[0] = plane(source(launch, 0), number(launch, 1), size.columns * 4, size.rows, alignof(uchar4));
    into[1] = plane(target(launch, 2), number(launch, 3), size.columns, size.rows, alignof(uchar2));
    into[2] = plane(target(launch, 4), pitch, size.columns / 2, size.rows / 2, 1);
    into[3] = plane(target(launch, 5), pitch, size.columns / 2, size.rows / 2, 1);
    return 4;
}

/* --- running --- */

static void nv12_run(const launch *l) {
    const unsigned char *rgba = source(l, 0);
    unsigned char *luma = target(l, 2), *chroma = target(l, 3);
    unsigned pitch = number(l, 1), out_pitch = number(l, 4), width = number(l, 5), height = number(l, 6);
    Matrix matrix = parameter<Matrix>(l, 7);
    each_thread(l, [=] { rgba_to_nv12(rgba, pitch, luma, chroma, out_pitch, width, height, matrix); });
}

static void i420_run(const launch *l) {
    const unsigned char *rgba = source(l, 0);
    unsigned char *y = target(l, 2), *u = target(l, 4), *v = target(l, 5);
    unsigned pitch = number(l, 1), y_pitch = number(l, 3), chroma_pitch = number(l, 6), width = number(l, 7),
             height = number(l, 8);
    Matrix matrix = parameter<Matrix>(l, 9);
    each_thread(l, [=] { rgba_to_i420(rgba, pitch, y, y_pitch, u, v, chroma_pitch, width, height, matrix); });
}

const kernel convert_kernels[] = {
    {"rgba_to_nv12", nv12_reaches, nv12_run},
    {"rgba_to_i420", i420_reaches, i420_run},
    {nullptr, nullptr, nullptr},
};
