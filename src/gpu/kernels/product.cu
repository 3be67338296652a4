// The product of two matrices of floats on the GPU: C = A.B, for the built-in training run.
//
// `product.ptx` beside this file is this text compiled; `tests/ptx --write` makes it anew. The stand-in driver of the
// tests compiles the same text as C++.
//
// # Matrices
//
// A is `rows` x `depth`, B is `depth` x `columns`, C is `rows` x `columns`, none of them 0. C's rows are tightly packed.
// The value of A in row i and column k lies at a[i * a_row + k * a_column], and that of B likewise, so that a matrix is
// transposed by the order of its steps. Pointers are multiples of 4.
//
// # Launch
//
// A thread makes a tile of 2x2 values, so that each value that it reads counts twice: blocks of 16x16 threads, a grid of
// ceil(columns/32) x ceil(rows/32). A tile beyond the edge reads its first row or column again, and writes only what is
// inside. Sums are in the order of k, each step a fused multiply and add.

#define TILE 2

extern "C" __global__ void product(const float *a, unsigned a_row, unsigned a_column, const float *b, unsigned b_row,
                                   unsigned b_column, float *c, unsigned rows, unsigned columns, unsigned depth) {
    unsigned column = (blockIdx.x * blockDim.x + threadIdx.x) * TILE;
    unsigned row = (blockIdx.y * blockDim.y + threadIdx.y) * TILE;
    if (row >= rows || column >= columns) return;
    bool below = row + 1 < rows, right = column + 1 < columns;
    const float *upper = a + (size_t)row * a_row, *lower = below ? upper + a_row : upper;
    const float *near = b + (size_t)column * b_column, *far = right ? near + b_column : near;
    float upper_near = 0, upper_far = 0, lower_near = 0, lower_far = 0;
    for (unsigned k = 0; k < depth; k++) {
        float first = *near, second = *far;
        upper_near = fmaf(*upper, first, upper_near);
        upper_far = fmaf(*upper, second, upper_far);
        lower_near = fmaf(*lower, first, lower_near);
        lower_far = fmaf(*lower, second, lower_far);
        upper += a_column;
        lower += a_column;
        near += b_row;
        far += b_row;
    }
    float *into = c + (size_t)row * columns + column;
    into[0] = upper_near;
    if (right) into[1] = upper_far;
    if (below) into[columns] = lower_near;
    if (below && right) into[columns + 1] = lower_far;
}
