// Layer normalisation of rows [rows, CHANNELS]: apply, forward with statistics, backward.
//
// With LINE > 0 the normalised rows are gathered for a 2x2 downsampling: a grid of lines of LINE cells, in which every
// 2x2 cells lie side by side as one row of 4 * CHANNELS. A patch of a sparse activation is such a grid, and so is the
// whole batch: its lines follow each other.
//
// CHANNELS, VECTOR, LANES x GROUPS threads at work, THREADS; TEAM lanes a row (power of two up to a warp) forwards, and
// BACKWARD_TEAM of BACKWARD_THREADS (powers of two) backwards.

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

// A vector of a row and the row's statistics.
struct Part {
    Pack<REAL, VECTOR> x;
    float mean, rate;
};

// The same with the statistics given. z may be x if LINE is 0.
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_norm_apply(const REAL *x, const float *__restrict__ mean, const float *__restrict__ rate,
                     const float *__restrict__ weight, const float *__restrict__ bias, REAL *z, int rows) {
    const Place<CHANNELS, LANES, GROUPS, VECTOR> place((int)blockIdx.y);
    if (!place.active) return;
    float factor[VECTOR], shift[VECTOR];
    load_floats<VECTOR>(weight + place.column, factor);
    load_floats<VECTOR>(bias + place.column, shift);
    const REAL *const from = x + place.column;
    REAL *const to = z + place.column;
    const auto get = [&](int row) {
        return Part{fetch<VECTOR>(from + (size_t)row * CHANNELS), mean[row], rate[row]};
    };
    const int first = (int)blockIdx.x * GROUPS + place.group, stride = (int)gridDim.x * GROUPS;
    walk<4>(first, rows, stride, get, [&](int row, const Part &part) {
        float values[VECTOR];
        part.x.widen_to(values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) values[v] = (values[v] - part.mean) * part.rate * factor[v] + shift[v];
        store<VECTOR>(to + gathered(row), values);
    });
}

// How the backward pass is laid out: a team has the same vectors of every row that it takes, DEEP of them at a time, so
// that a row is read once, and sums over rows are in registers.
constexpr int TEAMS = BACKWARD_THREADS / BACKWARD_TEAM;
constexpr int BACKWARD_STEPS = (VECTORS + BACKWARD_TEAM - 1) / BACKWARD_TEAM;
constexpr int DEEP = BACKWARD_STEPS == 1 ? 2 : 1;
using BackwardPlace = Place<CHANNELS, BACKWARD_TEAM, TEAMS, VECTOR>;

// Adds up two values of DEEP rows over their teams. Those of more than a warp meet in shared memory; the caller takes
// turns with two of these. Every thread of the block must call it.
struct Exchange {
    static constexpr int WARPS = BACKWARD_TEAM > WARP ? BACKWARD_TEAM / WARP : 1;
    float parts[DEEP][2][TEAMS][WARPS];

    __device__ __forceinline__ void sum(float (&values)[DEEP][2]) {
        constexpr int Lanes = BACKWARD_TEAM < WARP ? BACKWARD_TEAM : WARP;
        const int team = (int)threadIdx.x / BACKWARD_TEAM, warp = (int)threadIdx.x % BACKWARD_TEAM / WARP;
#pragma unroll
        for (int row = 0; row < DEEP; row++) {
#pragma unroll
            for (int kind = 0; kind < 2; kind++) {
                values[row][kind] = team_sum<Lanes>(values[row][kind]);
                if (WARPS > 1 && threadIdx.x % WARP == 0) parts[row][kind][team][warp] = values[row][kind];
            }
        }
        if (WARPS == 1) return;
        __syncthreads();
#pragma unroll
        for (int row = 0; row < DEEP; row++) {
#pragma unroll
            for (int kind = 0; kind < 2; kind++) {
                values[row][kind] = 0.0f;
#pragma unroll
                for (int other = 0; other < WARPS; other++) values[row][kind] += parts[row][kind][team][other];
            }
        }
    }
};

// grad_x = rate (d - mean(d) - n mean(d n)), d = grad_z weight, n = (x - mean) rate. partial [gridDim.x, 3, CHANNELS]:
// the block's sums over rows of grad_z n, grad_z, and grad_x, for weight, bias, and the bias of whatever made x.
// grad_x may be grad_z if LINE is 0.
extern "C" __global__ void __launch_bounds__(BACKWARD_THREADS)
    layer_norm_backward(const REAL *grad_z, const REAL *__restrict__ x, const float *__restrict__ mean,
                        const float *__restrict__ rate, const float *__restrict__ weight, REAL *grad_x,
                        float *__restrict__ partial, int rows) {
    __shared__ float shared[TEAMS][BACKWARD_TEAM * VECTOR];
    __shared__ Exchange exchange[2];
    float sums[3][BACKWARD_STEPS][VECTOR], factor[BACKWARD_STEPS][VECTOR];
#pragma unroll
    for (int step = 0; step < BACKWARD_STEPS; step++) {
        const BackwardPlace place(step);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sums[0][step][v] = sums[1][step][v] = sums[2][step][v] = factor[step][v] = 0.0f;
        if (place.active) load_floats<VECTOR>(weight + place.column, factor[step]);
    }
    const int team = (int)threadIdx.x / BACKWARD_TEAM;
    int turn = 0;
    for (int first = (int)blockIdx.x * TEAMS * DEEP; first < rows; first += (int)gridDim.x * TEAMS * DEEP) {
        Pack<REAL, VECTOR> grads[DEEP][BACKWARD_STEPS], inputs[DEEP][BACKWARD_STEPS];
        float average[DEEP], scale[DEEP], means[DEEP][2];
#pragma unroll
        for (int ahead = 0; ahead < DEEP; ahead++) {
            const int row = min(first + ahead * TEAMS + team, rows - 1); // what lies beyond is read, and not used
#pragma unroll
            for (int step = 0; step < BACKWARD_STEPS; step++) {
                const BackwardPlace place(step);
                grads[ahead][step] = inputs[ahead][step] = Pack<REAL, VECTOR>{};
                if (!place.active) continue;
                grads[ahead][step] = fetch<VECTOR>(grad_z + gathered(row) + place.column);
                inputs[ahead][step] = fetch<VECTOR>(x + (size_t)row * CHANNELS + place.column);
            }
            average[ahead] = mean[row];
            scale[ahead] = rate[row];
        }
#pragma unroll
        for (int ahead = 0; ahead < DEEP; ahead++) {
            means[ahead][0] = means[ahead][1] = 0.0f;
#pragma unroll
            for (int step = 0; step < BACKWARD_STEPS; step++) {
                float grad[VECTOR], normal[VECTOR];
                grads[ahead][step].widen_to(grad);
                inputs[ahead][step].widen_to(normal);
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    const float d = grad[v] * factor[step][v];
                    means[ahead][0] += d;
                    means[ahead][1] += d * (normal[v] - average[ahead]);
                }
            }
        }
        exchange[turn].sum(means);
        turn = 1 - turn;
#pragma unroll
        for (int ahead = 0; ahead < DEEP; ahead++) {
            const int row = first + ahead * TEAMS + team;
            if (row >= rows) continue;
            const float common = means[ahead][0] * (1.0f / CHANNELS);
            const float slope = means[ahead][1] * scale[ahead] * (1.0f / CHANNELS);
#pragma unroll
            for (int step = 0; step < BACKWARD_STEPS; step++) {
                const BackwardPlace place(step);
                if (!place.active) continue;
                float grad[VECTOR], normal[VECTOR];
                grads[ahead][step].widen_to(grad);
                inputs[ahead][step].widen_to(normal);
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    normal[v] = (normal[v] - average[ahead]) * scale[ahead];
                    sums[0][step][v] += grad[v] * normal[v];
                    sums[1][step][v] += grad[v];
                    grad[v] = scale[ahead] * (grad[v] * factor[step][v] - common - normal[v] * slope);
                    sums[2][step][v] += grad[v];
                }
                store<VECTOR>(grad_x + (size_t)row * CHANNELS + place.column, grad);
            }
        }
    }
#pragma unroll
    for (int kind = 0; kind < 3; kind++) {
#pragma unroll
        for (int step = 0; step < BACKWARD_STEPS; step++) {
            const BackwardPlace place(step);
            place.sum_groups(shared, sums[kind][step]);
            if (place.active && place.group == 0) {
                store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 3 + kind) * CHANNELS + place.column,
                                     sums[kind][step]);
            }
        }
    }
}
