// Layer normalisation of rows [rows, CHANNELS]: apply, forward with statistics, backward.
//
// With LINE > 0 the normalised rows are gathered for a 2x2 downsampling: a grid of lines of LINE cells, in which every
// 2x2 cells lie side by side as one row of 4 * CHANNELS. A patch of a sparse activation is such a grid, and so is the
// whole batch: its lines follow each other.
//
// CHANNELS, VECTOR, TEAM lanes a row (power of two up to a warp), TILE rows at a time in the backward pass, LANES x
// GROUPS threads at work there, THREADS.

constexpr int VECTORS = CHANNELS / VECTOR;
constexpr int STEPS = (VECTORS + TEAM - 1) / TEAM;

// Where a row begins among the normalised ones.
__device__ __forceinline__ size_t gathered(int row) {
#if LINE
    const int y = row / LINE, x = row % LINE;
    return ((size_t)(y / 2 * (LINE / 2) + x / 2) * 4 + y % 2 * 2 + x % 2) * CHANNELS;
#else
    return (size_t)row * CHANNELS;
#endif
}

// z = (x - mean) rate weight + bias; mean and rate = 1 / sqrt(variance + epsilon), [rows].
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_forward(const REAL *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,
                       REAL *__restrict__ z, float *__restrict__ mean, float *__restrict__ rate, int rows) {
    const int lane = (int)threadIdx.x % TEAM;
    const int row = (int)blockIdx.x * (THREADS / TEAM) + (int)threadIdx.x / TEAM;
    const bool there = row < rows; // idle teams take part in the shuffles
    float values[STEPS][VECTOR];
    float sum = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int column = (step * TEAM + lane) * VECTOR;
        if (there && column < CHANNELS) {
            load<VECTOR>(x + (size_t)row * CHANNELS + column, values[step]);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sum += values[step][v];
        }
    }
    const float average = team_sum<TEAM>(sum) / CHANNELS;
    float squares = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int column = (step * TEAM + lane) * VECTOR;
        if (there && column < CHANNELS) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                values[step][v] -= average;
                squares += values[step][v] * values[step][v];
            }
        }
    }
    const float scale = 1.0f / sqrtf(team_sum<TEAM>(squares) / CHANNELS + LAYER_NORM_EPSILON);
    if (!there) return;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int column = (step * TEAM + lane) * VECTOR;
        if (column < CHANNELS) {
            float factor[VECTOR], shift[VECTOR];
            load_floats<VECTOR>(weight + column, factor);
            load_floats<VECTOR>(bias + column, shift);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) values[step][v] = values[step][v] * scale * factor[v] + shift[v];
            store<VECTOR>(z + gathered(row) + column, values[step]);
        }
    }
    if (lane == 0) {
        mean[row] = average;
        rate[row] = scale;
    }
}

// The same with the statistics given. z may be x if LINE is 0.
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_apply(const REAL *x, const float *__restrict__ mean, const float *__restrict__ rate,
                     const float *__restrict__ weight, const float *__restrict__ bias, REAL *z, int rows) {
    const size_t stride = (size_t)gridDim.x * THREADS, end = (size_t)rows * VECTORS;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < end; at += stride) {
        const int row = (int)(at / VECTORS), column = (int)(at % VECTORS) * VECTOR;
        float values[VECTOR], factor[VECTOR], shift[VECTOR];
        load<VECTOR>(x + (size_t)row * CHANNELS + column, values);
        load_floats<VECTOR>(weight + column, factor);
        load_floats<VECTOR>(bias + column, shift);
        const float average = mean[row], scale = rate[row];
#pragma unroll
        for (int v = 0; v < VECTOR; v++) values[v] = (values[v] - average) * scale * factor[v] + shift[v];
        store<VECTOR>(z + gathered(row) + column, values);
    }
}

// grad_x = rate (d - mean(d) - n mean(d n)), d = grad_z weight, n = (x - mean) rate. partial [gridDim.x, 3, CHANNELS]:
// the block's sums over rows of grad_z n, grad_z, and grad_x, for weight, bias, and the bias of whatever made x.
// grad_x may be grad_z if LINE is 0. Each block walks over tiles of TILE rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_backward(const REAL *grad_z, const REAL *__restrict__ x, const float *__restrict__ mean,
                        const float *__restrict__ rate, const float *__restrict__ weight, REAL *grad_x,
                        float *__restrict__ partial, int rows) {
    constexpr int CHUNKS = (VECTORS + LANES - 1) / LANES;
    __shared__ float shared[GROUPS][LANES * VECTOR];
    __shared__ float means[TILE], slopes[TILE];
    float sums[3][CHUNKS][VECTOR];
#pragma unroll
    for (int kind = 0; kind < 3; kind++) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[kind][chunk][v] = 0.0f;
        }
    }
    const int tiles = (rows + TILE - 1) / TILE;
    for (int tile = (int)blockIdx.x; tile < tiles; tile += (int)gridDim.x) {
        const int first = tile * TILE, count = min(TILE, rows - first);
        // The two means of each row: a team a row. The rounds are the same for all threads: they shuffle.
        for (int round = 0; round < TILE; round += THREADS / TEAM) {
            const int at = round + (int)threadIdx.x / TEAM, row = first + at;
            float sum = 0.0f, slope = 0.0f;
            if (at < count) {
                const float average = mean[row], scale = rate[row];
                for (int column = (int)threadIdx.x % TEAM * VECTOR; column < CHANNELS; column += TEAM * VECTOR) {
                    float grad[VECTOR], values[VECTOR], factor[VECTOR];
                    load<VECTOR>(grad_z + gathered(row) + column, grad);
                    load<VECTOR>(x + (size_t)row * CHANNELS + column, values);
                    load_floats<VECTOR>(weight + column, factor);
#pragma unroll
                    for (int v = 0; v < VECTOR; v++) {
                        sum += grad[v] * factor[v];
                        slope += grad[v] * factor[v] * ((values[v] - average) * scale);
                    }
                }
            }
            sum = team_sum<TEAM>(sum);
            slope = team_sum<TEAM>(slope);
            if (at < count && threadIdx.x % TEAM == 0) {
                means[at] = sum / CHANNELS;
                slopes[at] = slope / CHANNELS;
            }
        }
        __syncthreads();
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Place<CHANNELS, LANES, GROUPS, VECTOR> place(chunk);
            if (!place.active) continue;
            float factor[VECTOR];
            load_floats<VECTOR>(weight + place.column, factor);
            for (int at = place.group; at < count; at += GROUPS) {
                const int row = first + at;
                const float average = mean[row], scale = rate[row];
                float grad[VECTOR], values[VECTOR];
                load<VECTOR>(grad_z + gathered(row) + place.column, grad);
                load<VECTOR>(x + (size_t)row * CHANNELS + place.column, values);
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    const float normal = (values[v] - average) * scale;
                    sums[0][chunk][v] += grad[v] * normal;
                    sums[1][chunk][v] += grad[v];
                    grad[v] = scale * (grad[v] * factor[v] - means[at] - normal * slopes[at]);
                    sums[2][chunk][v] += grad[v];
                }
                store<VECTOR>(grad_x + (size_t)row * CHANNELS + place.column, grad);
            }
        }
        __syncthreads(); // the means have been read
    }
#pragma unroll
    for (int kind = 0; kind < 3; kind++) {
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            const Place<CHANNELS, LANES, GROUPS, VECTOR> place(chunk);
            place.sum_groups(shared, sums[kind][chunk]);
            if (place.active && place.group == 0) {
                store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 3 + kind) * CHANNELS + place.column,
                                     sums[kind][chunk]);
            }
        }
    }
}
