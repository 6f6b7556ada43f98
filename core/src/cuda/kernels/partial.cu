// Joins partial sums that other kernels left, always in the same order. Nothing is specialised but THREADS.

// out [columns] = (out +) the sum over rows of partial, rows `stride` values apart. Blocks of 32 columns x THREADS / 32
// rows; blockIdx.y takes `segment` rows each and writes `columns` values further on.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_rows(const float *__restrict__ partial, float *__restrict__ out, int rows, int stride, int columns, int segment,
             int accumulate) {
    constexpr int GROUPS = THREADS / WARP;
    __shared__ float shared[GROUPS][WARP];
    const int lane = (int)threadIdx.x % WARP, group = (int)threadIdx.x / WARP;
    const int column = (int)blockIdx.x * WARP + lane;
    const int begin = (int)blockIdx.y * segment, end = min(begin + segment, rows);
    float sum = 0.0f;
    if (column < columns) {
        for (int row = begin + group; row < end; row += GROUPS) sum += partial[(size_t)row * stride + column];
    }
    shared[group][lane] = sum;
    __syncthreads();
    if (group == 0 && column < columns) {
        for (int other = 1; other < GROUPS; other++) sum += shared[other][lane];
        float *to = out + (size_t)blockIdx.y * columns + column;
        *to = accumulate ? *to + sum : sum;
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
