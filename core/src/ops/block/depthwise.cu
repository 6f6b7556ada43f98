// Depthwise convolution of channels-last rows, dense or sparse; forward with the statistics of the layer normalisation
// that follows, input gradient, weight gradient.
//
// A thread computes a run of RUN cells side by side on the grid, VECTOR channels wide: a line of input is read once
// for a run and a kernel row. Cells outside of the grid, and of removed patches, are never read.
//
// CHANNELS, KERNEL (odd), ROWS a sample, LINE cells side by side (WIDTH, or SIDE), RUN, LANES x GROUPS threads at work,
// THREADS in a block; the geometry of common.cuh. The weight gradient also has TAP_ROWS kernel rows a block.

constexpr int HALF = KERNEL / 2;
constexpr int SPAN = RUN + KERNEL - 1;
constexpr int PIECES = (LINE + RUN - 1) / RUN;
constexpr int RUNS = ROWS / LINE * PIECES;

struct Run {
    int sample, row, y, x, cells;
    // Cells from the left edge of its patch.
    int inside;

    __device__ __forceinline__ Run(const u32 *visible, int index) {
        sample = index / RUNS;
        const int line = index % RUNS / PIECES;
        inside = PIECES == 1 ? 0 : index % PIECES * RUN;
        row = line * LINE + inside;
        cells = PIECES == 1 ? LINE : min(RUN, LINE - inside);
        const Cell cell = cell_of(visible, sample, row);
        y = cell.y;
        x = cell.x;
    }

    // The row of the cell `at` columns after HALF columns before the run, on grid line `line`; negative if there is none.
    __device__ __forceinline__ int input(const int *slots, int line, int at) const {
#if SPARSE
        constexpr int BEFORE = (HALF + SIDE - 1) / SIDE;
        const int column = inside + at - HALF + BEFORE * SIDE; // not negative
        const int patch = (x - inside) / SIDE + column / SIDE - BEFORE;
        if (patch < 0 || patch >= PATCHES_WIDE) return -1;
        const int slot = slots[(size_t)sample * PATCHES + line / SIDE * PATCHES_WIDE + patch];
        return slot < 0 ? -1 : (slot * SIDE + line % SIDE) * SIDE + column % SIDE;
#else
        const int column = x + at - HALF;
        return column < 0 || column >= WIDTH ? -1 : line * WIDTH + column;
#endif
    }

    // Rows of a batch fit into an int, values do not.
    __device__ __forceinline__ size_t offset(int row, int column) const {
        return (size_t)(sample * ROWS + row) * CHANNELS + column;
    }

    // A line of input under the run, zeros where there is none; false if there is none at all.
    __device__ __forceinline__ bool load_line(const REAL *x, const int *slots, int line, int column,
                                              float (&values)[SPAN][VECTOR]) const {
        if (line < 0 || line >= HEIGHT) return false;
        bool any = false;
#pragma unroll
        for (int at = 0; at < SPAN; at++) {
            const int row = input(slots, line, at);
            if (row >= 0) {
                load<VECTOR>(x + offset(row, column), values[at]);
                any = true;
            } else {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) values[at][v] = 0.0f;
            }
        }
        return any;
    }
};

// sums += the convolution of x at a run's cells, with the kernel as it is or turned by half a circle.
template <bool TURNED>
__device__ __forceinline__ void convolve(const REAL *x, const float *weight, const int *slots, const Run &run,
                                         int column, float (&sums)[RUN][VECTOR]) {
#pragma unroll 1
    for (int ky = 0; ky < KERNEL; ky++) {
        float values[SPAN][VECTOR];
        if (!run.load_line(x, slots, run.y + ky - HALF, column, values)) continue;
#pragma unroll
        for (int kx = 0; kx < KERNEL; kx++) {
            const int tap = ky * KERNEL + kx;
            float factor[VECTOR];
            load_floats<VECTOR>(weight + (TURNED ? KERNEL * KERNEL - 1 - tap : tap) * CHANNELS + column, factor);
#pragma unroll
            for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) sums[cell][v] += values[cell + kx][v] * factor[v];
            }
        }
    }
}

// Mean and sum of squared deviations of COUNT values, as they come (Chan's rule).
struct Moments {
    float mean, squares;

    __device__ __forceinline__ void add(int before, const float (&values)[VECTOR]) {
        float sum = 0.0f, deviations = 0.0f;
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sum += values[v];
        const float average = sum / VECTOR;
#pragma unroll
        for (int v = 0; v < VECTOR; v++) deviations += (values[v] - average) * (values[v] - average);
        const float delta = average - mean, share = (float)VECTOR / (float)(before + VECTOR);
        mean += delta * share;
        squares += deviations + delta * delta * (float)before * share;
    }
};

constexpr int CHUNKS = (CHANNELS + LANES * VECTOR - 1) / (LANES * VECTOR);

// Channels that a lane has walked over.
__device__ __forceinline__ int channels_of(int lane) {
    const int last = CHANNELS / VECTOR - (CHUNKS - 1) * LANES;
    return (CHUNKS - 1 + (lane < last ? 1 : 0)) * VECTOR;
}

// y [N, ROWS, CHANNELS] = conv(x) + bias; mean and rate = 1 / sqrt(variance + epsilon), [N, ROWS], of y as it is stored.
// Blocks of GROUPS runs, all channels.
extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_forward(const REAL *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,
                      const int *__restrict__ slots, const u32 *__restrict__ visible, REAL *__restrict__ y,
                      float *__restrict__ mean, float *__restrict__ rate, int samples) {
    __shared__ float means[GROUPS * RUN][LANES];
    __shared__ float squares[GROUPS * RUN][LANES];
    const int lane = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES;
    const int index = (int)blockIdx.x * GROUPS + group;
    if (group < GROUPS && index < samples * RUNS) {
        const Run run(visible, index);
        Moments moments[RUN];
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) moments[cell] = Moments{0.0f, 0.0f};
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const int column = (chunk * LANES + lane) * VECTOR;
            if (column >= CHANNELS) break;
            float sums[RUN][VECTOR];
#pragma unroll
            for (int cell = 0; cell < RUN; cell++) load_floats<VECTOR>(bias + column, sums[cell]);
            convolve<false>(x, weight, slots, run, column, sums);
#pragma unroll
            for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) sums[cell][v] = widen(narrow<REAL>(sums[cell][v]));
                moments[cell].add(chunk * VECTOR, sums[cell]);
                if (cell < run.cells) store<VECTOR>(y + run.offset(run.row + cell, column), sums[cell]);
            }
        }
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
            means[group * RUN + cell][lane] = moments[cell].mean;
            squares[group * RUN + cell][lane] = moments[cell].squares;
        }
    }
    __syncthreads();
    // A warp joins the lanes of one cell: first the mean, then the deviations from it.
    const int warp = (int)threadIdx.x / WARP, in_warp = (int)threadIdx.x % WARP;
    for (int line = warp; line < GROUPS * RUN; line += THREADS / WARP) {
        const int owner = (int)blockIdx.x * GROUPS + line / RUN;
        if (owner >= samples * RUNS) continue; // the same for the whole warp
        float sum = 0.0f;
        for (int at = in_warp; at < LANES; at += WARP) sum += means[line][at] * (float)channels_of(at);
        const float average = team_sum<WARP>(sum) / CHANNELS;
        float deviations = 0.0f;
        for (int at = in_warp; at < LANES; at += WARP) {
            const float delta = means[line][at] - average;
            deviations += squares[line][at] + delta * delta * (float)channels_of(at);
        }
        deviations = team_sum<WARP>(deviations);
        const Run run(visible, owner);
        if (in_warp == 0 && line % RUN < run.cells) {
            const size_t row = (size_t)run.sample * ROWS + run.row + line % RUN;
            mean[row] = average;
            rate[row] = 1.0f / sqrtf(deviations / CHANNELS + LAYER_NORM_EPSILON);
        }
    }
}

// grad_x = residual + the transposed convolution of grad_y. residual may be grad_x.
extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_input_gradient(const REAL *__restrict__ grad_y, const float *__restrict__ weight,
                             const int *__restrict__ slots, const u32 *__restrict__ visible, const REAL *residual,
                             REAL *grad_x, int samples) {
    const int lane = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES;
    const int index = (int)blockIdx.x * GROUPS + group;
    if (group >= GROUPS || index >= samples * RUNS) return;
    const Run run(visible, index);
    for (int column = lane * VECTOR; column < CHANNELS; column += LANES * VECTOR) {
        float sums[RUN][VECTOR];
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[cell][v] = 0.0f;
        }
        convolve<true>(grad_y, weight, slots, run, column, sums);
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
            if (cell >= run.cells) continue;
            const size_t at = run.offset(run.row + cell, column);
            float before[VECTOR];
            load<VECTOR>(residual + at, before);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[cell][v] += before[v];
            store<VECTOR>(grad_x + at, sums[cell]);
        }
    }
}

// partial [gridDim.x, KERNEL * KERNEL, CHANNELS]: what the runs of a block, `segment` of them, add to the gradient of
// the weight. Blocks: segments x chunks of channels x parts of TAP_ROWS kernel rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    depthwise_weight_gradient(const REAL *__restrict__ x, const REAL *__restrict__ grad_y,
                              const int *__restrict__ slots, const u32 *__restrict__ visible,
                              float *__restrict__ partial, int samples, int segment) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Place<CHANNELS, LANES, GROUPS, VECTOR> place((int)blockIdx.y);
    const int first_tap_row = (int)blockIdx.z * TAP_ROWS;
    float sums[TAP_ROWS][KERNEL][VECTOR];
#pragma unroll
    for (int ky = 0; ky < TAP_ROWS; ky++) {
#pragma unroll
        for (int kx = 0; kx < KERNEL; kx++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[ky][kx][v] = 0.0f;
        }
    }
    const int begin = (int)blockIdx.x * segment, end = min(begin + segment, samples * RUNS);
    for (int index = begin + place.group; place.active && index < end; index += GROUPS) {
        const Run run(visible, index);
        float slopes[RUN][VECTOR];
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
            if (cell < run.cells) {
                load<VECTOR>(grad_y + run.offset(run.row + cell, place.column), slopes[cell]);
            } else {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) slopes[cell][v] = 0.0f;
            }
        }
#pragma unroll
        for (int ky = 0; ky < TAP_ROWS; ky++) {
            float values[SPAN][VECTOR];
            if (first_tap_row + ky >= KERNEL) continue;
            if (!run.load_line(x, slots, run.y + first_tap_row + ky - HALF, place.column, values)) continue;
#pragma unroll
            for (int kx = 0; kx < KERNEL; kx++) {
#pragma unroll
                for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
                    for (int v = 0; v < VECTOR; v++) sums[ky][kx][v] += values[cell + kx][v] * slopes[cell][v];
                }
            }
        }
    }
#pragma unroll
    for (int ky = 0; ky < TAP_ROWS; ky++) {
#pragma unroll
        for (int kx = 0; kx < KERNEL; kx++) {
            place.sum_groups(shared, sums[ky][kx]);
            const int tap = (first_tap_row + ky) * KERNEL + kx;
            if (place.active && place.group == 0 && first_tap_row + ky < KERNEL) {
                const size_t at = ((size_t)blockIdx.x * KERNEL * KERNEL + tap) * CHANNELS + place.column;
                store_floats<VECTOR>(partial + at, sums[ky][kx]);
            }
        }
    }
}
