/* The product's own text as C++, run one thread after another. */
#include "cuda_device.h"

#include "../../src/gpu/kernels/product.cu"

/* What a matrix of so many rows and columns spans; C's rows are tightly packed. */
static reach span(const void *pointer, size_t row, size_t column, size_t rows, size_t columns) {
    uint64_t address = (uintptr_t)pointer;
    bool some = rows && columns;
    size_t last = some ? (rows - 1) * row + (columns - 1) * column + 1 : 0;
    return {address, last * sizeof(float), address % alignof(float) == 0};
}

static unsigned product_reaches(const launch *l, reach into[MAX_REACHES]) {
    size_t rows = number(l, 7), columns = number(l, 8), depth = number(l, 9);
    /* As far as some thread of the launch gets. */
    size_t down = (size_t)l->grid[1] * l->block[1] * TILE, across = (size_t)l->grid[0] * l->block[0] * TILE;
    if (rows > down) rows = down;
    size_t written = columns > across ? across : columns;
    into[0] = span(parameter<const float *>(l, 0), number(l, 1), number(l, 2), rows, depth);
    into[1] = span(parameter<const float *>(l, 3), number(l, 4), number(l, 5), depth, written);
    into[2] = span(parameter<const float *>(l, 6), columns, 1, rows, written);
    return 3;
}

static void product_run(const launch *l) {
    const float *a = parameter<const float *>(l, 0), *b = parameter<const float *>(l, 3);
    float *c = parameter<float *>(l, 6);
    unsigned a_row = number(l, 1), a_column = number(l, 2), b_row = number(l, 4), b_column = number(l, 5);
    unsigned rows = number(l, 7), columns = number(l, 8), depth = number(l, 9);
    each_thread(l, [=] { product(a, a_row, a_column, b, b_row, b_column, c, rows, columns, depth); });
}

const kernel product_kernels[] = {
    {"product", product_reaches, product_run},
    {nullptr, nullptr, nullptr},
};
