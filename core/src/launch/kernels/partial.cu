// Joins partial sums that other kernels left, always in the same order. Nothing is specialised but THREADS.

// One of the sums that are joined at once.
#define SUM(at)                                                                                                        \
    const float *__restrict__ partial##at, float *__restrict__ out##at, int rows##at, int stride##at, int columns##at

// If the block is one of this sum's, takes it; else goes on to the next sum.
#define TAKE(at)                                                                                                       \
    if (columns == 0) {                                                                                                \
        const int blocks = (columns##at + WARP - 1) / WARP;                                                            \
        if (block < blocks) {                                                                                          \
            partial = partial##at, out = out##at, rows = rows##at, stride = stride##at, columns = columns##at;         \
        } else {                                                                                                       \
            block -= blocks;                                                                                           \
        }                                                                                                              \
    }

// Of up to eight sums: out [columns] = (out +) the sum over rows of partial, rows `stride` values apart. A block adds up
// WARP columns of one sum, its warps share the rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_rows(SUM(0), SUM(1), SUM(2), SUM(3), SUM(4), SUM(5), SUM(6), SUM(7), int accumulate) {
    constexpr int GROUPS = THREADS / WARP;
    __shared__ float shared[GROUPS][WARP + 1];
    int block = (int)blockIdx.x;
    const float *partial = nullptr;
    float *out = nullptr;
    int rows = 0, stride = 0, columns = 0;
    TAKE(0) TAKE(1) TAKE(2) TAKE(3) TAKE(4) TAKE(5) TAKE(6) TAKE(7)
    const int lane = (int)threadIdx.x % WARP, group = (int)threadIdx.x / WARP;
    const int first = block * WARP;
    float sum = 0.0f;
    if (first + lane < columns) {
#pragma unroll 4
        for (int row = group; row < rows; row += GROUPS) sum += partial[(size_t)row * stride + first + lane];
    }
    shared[group][lane] = sum;
    __syncthreads();
    // Each warp joins columns of its own, a lane for each group.
    for (int column = group; column < WARP; column += GROUPS) {
        const float all = team_sum<WARP>(lane < GROUPS ? shared[lane][column] : 0.0f);
        float *to = out + first + column;
        if (lane == 0 && first + column < columns) *to = accumulate ? *to + all : all;
    }
}

// out [1] = factor * the sum of `count` values. One block.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_all(const float *__restrict__ values, float *__restrict__ out, int count, float factor) {
    __shared__ float warps[THREADS / WARP];
    float sum = 0.0f;
    for (int at = (int)threadIdx.x; at < count; at += THREADS) sum += values[at];
    sum = block_sum<THREADS>(warps, sum);
    if (threadIdx.x == 0) *out = factor * sum;
}
