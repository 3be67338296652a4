// RGBA pictures to YUV 4:2:0 on the GPU: NV12 for NVENC, I420 for nvJPEG.
//
// `convert.ptx` beside this file is this text compiled; `tests/ptx --write` makes it anew. The stand-in driver of the
// tests compiles the same text as C++.
//
// # Pictures
//
// Rows go from the top down, `pitch` bytes from one to the next; `width` and `height` are pixels, both even. RGBA has
// four bytes a pixel, of which alpha counts for nothing. NV12 is a plane of luma, then one of interleaved chroma (U, V)
// of the same pitch with half as many rows. I420 is a plane of luma and two of chroma, half as wide and half as high.
//
// `rgba` and its pitch are multiples of 4; the other pointers and pitches are even. The planes of one chroma value a
// block, and their pitch, may be odd.
//
// # Colour
//
// Bytes as the encoder takes them: Y = y_offset + y.RGB, U = 128 + u.RGB, V = 128 + v.RGB, with weights in units of
// 1/65536. The caller's weights and offset (16: limited range, 0: full range) make the colour space: ITU-R BT.709-6,
// section 3 (items 3.2 to 3.4), has those of H.264; JFIF 1.02, page 3, which is ITU-R BT.601 in full range, has those
// of JPEG. Luma is rounded to nearest; chroma is that of the mean of a block's four pixels, rounded
// once, so that its place is the block's centre. Both are clamped to 0..255.
//
// # Launch
//
// A thread does a block of 2x2 pixels: blocks of 32x8 threads, a grid of ceil(width/64) x ceil(height/16). A warp then
// reads rows of 256 adjacent bytes and writes rows of 64.

// Weights of R, G and B.
struct Matrix {
    int y[3], u[3], v[3];
    int y_offset;
};

struct Sum {
    int r, g, b;
};

// A block: four luma bytes (two rows of two) and its chroma.
struct Block {
    uchar2 luma[2];
    unsigned char u, v;
};

static __device__ __forceinline__ int weighed(const int weights[3], int r, int g, int b) {
    return weights[0] * r + weights[1] * g + weights[2] * b;
}

static __device__ __forceinline__ unsigned char clamped(int value) {
    return (unsigned char)(value < 0 ? 0 : value > 255 ? 255 : value);
}

static __device__ __forceinline__ unsigned char luma_of(uchar4 pixel, const Matrix &matrix) {
    return clamped(matrix.y_offset + ((weighed(matrix.y, pixel.x, pixel.y, pixel.z) + (1 << 15)) >> 16));
}

// Of the sum of four pixels: two bits more than a pixel's. The largest sum is 1020 * 65536 / 2, far from an int's end.
static __device__ __forceinline__ unsigned char chroma_of(Sum sum, const int weights[3]) {
    return clamped(128 + ((weighed(weights, sum.r, sum.g, sum.b) + (1 << 17)) >> 18));
}

// `x` and `y` are those of the block's first pixel.
static __device__ __forceinline__ Block converted(const unsigned char *rgba, unsigned pitch, unsigned x, unsigned y,
                                                  const Matrix &matrix) {
    Block block;
    Sum sum = {0, 0, 0};
    for (unsigned row = 0; row < 2; row++) {
        const uchar4 *pixels = (const uchar4 *)(rgba + (size_t)(y + row) * pitch) + x;
        uchar4 left = pixels[0], right = pixels[1];
        block.luma[row] = make_uchar2(luma_of(left, matrix), luma_of(right, matrix));
        sum.r += left.x + right.x;
        sum.g += left.y + right.y;
        sum.b += left.z + right.z;
    }
    block.u = chroma_of(sum, matrix.u);
    block.v = chroma_of(sum, matrix.v);
    return block;
}

static __device__ __forceinline__ void store_luma(unsigned char *luma, unsigned pitch, unsigned x, unsigned y,
                                                  const Block &block) {
    for (unsigned row = 0; row < 2; row++) *(uchar2 *)(luma + (size_t)(y + row) * pitch + x) = block.luma[row];
}

extern "C" __global__ void rgba_to_nv12(const unsigned char *rgba, unsigned pitch, unsigned char *luma,
                                        unsigned char *chroma, unsigned out_pitch, unsigned width, unsigned height,
                                        Matrix matrix) {
    unsigned x = 2 * (blockIdx.x * blockDim.x + threadIdx.x), y = 2 * (blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) return;
    Block block = converted(rgba, pitch, x, y, matrix);
    store_luma(luma, out_pitch, x, y, block);
    *(uchar2 *)(chroma + (size_t)(y / 2) * out_pitch + x) = make_uchar2(block.u, block.v);
}

extern "C" __global__ void rgba_to_i420(const unsigned char *rgba, unsigned pitch, unsigned char *y_plane,
                                        unsigned y_pitch, unsigned char *u_plane, unsigned char *v_plane,
                                        unsigned chroma_pitch, unsigned width, unsigned height, Matrix matrix) {
    unsigned x = 2 * (blockIdx.x * blockDim.x + threadIdx.x), y = 2 * (blockIdx.y * blockDim.y + threadIdx.y);
    if (x >= width || y >= height) return;
    Block block = converted(rgba, pitch, x, y, matrix);
    store_luma(y_plane, y_pitch, x, y, block);
    size_t at = (size_t)(y / 2) * chroma_pitch + x / 2;
    u_plane[at] = block.u;
    v_plane[at] = block.v;
}
