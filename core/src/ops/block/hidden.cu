// What happens to the hidden features h [N, ROWS, FEATURES] between the two pointwise layers: bias, GELU, and in V2
// (GRN 1) global response normalisation. Forward: h is read once for the statistics, and once to write u. Backward: h
// and the gradient of u are read once for the sums, and once to write the gradient of h, with u for the weights.
//
//     a = gelu(h + bias)        s_c = sqrt(sum_r a^2)        factor_c = 1 + gamma_c s_c / (mean_c s + epsilon)
//     u = a factor + beta
//
// FEATURES, ROWS a sample, SEGMENT rows a block, SEGMENTS of them a sample, VECTOR, LANES x GROUPS threads at work,
// THREADS. Blocks: samples * SEGMENTS x chunks of features. The kernels that end in `_finish` have a block a sample, of
// FINISH threads.

using Columns = Place<FEATURES, LANES, GROUPS, VECTOR>;
using Values = Pack<REAL, VECTOR>;

// The rows that a thread takes, GROUPS apart, and where its columns of row 0 begin.
struct Rows {
    size_t base;
    int sample, first, end;

    __device__ __forceinline__ explicit Rows(const Columns &place) {
        sample = (int)blockIdx.x / SEGMENTS;
        const int begin = (int)blockIdx.x % SEGMENTS * SEGMENT;
        first = begin + place.group;
        end = min(begin + SEGMENT, ROWS);
        base = (size_t)sample * ROWS * FEATURES + place.column;
    }
};

__device__ __forceinline__ void clear(float (&values)[VECTOR]) {
#pragma unroll
    for (int v = 0; v < VECTOR; v++) values[v] = 0.0f;
}

// u = gelu(h + bias) factor + beta. u may be h. Without GRN: u = gelu(h + bias).
extern "C" __global__ void __launch_bounds__(THREADS)
    hidden_apply(const REAL *h, const float *__restrict__ bias, const float *__restrict__ factor,
                 const float *__restrict__ beta, REAL *u) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    const Rows rows(place);
    float add[VECTOR];
    load_floats<VECTOR>(bias + place.column, add);
#if GRN
    float scale[VECTOR], shift[VECTOR];
    load_floats<VECTOR>(factor + (size_t)rows.sample * FEATURES + place.column, scale);
    load_floats<VECTOR>(beta + place.column, shift);
#endif
    const REAL *const from = h + rows.base;
    REAL *const to = u + rows.base;
    const auto get = [&](int row) { return fetch<VECTOR>(from + (size_t)row * FEATURES); };
    walk<4>(rows.first, rows.end, GROUPS, get, [&](int row, const Values &pack) {
        float values[VECTOR];
        pack.widen_to(values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            values[v] = Gelu<REAL>::value(values[v] + add[v]);
#if GRN
            values[v] = values[v] * scale[v] + shift[v];
#endif
        }
        store<VECTOR>(to + (size_t)row * FEATURES, values);
    });
}

// A vector of h and the gradient of u.
struct Both {
    Values h, grad;
};

// grad_h = the gradient of h, u = what hidden_apply wrote; partial [gridDim.x, FEATURES] = sums of grad_h over the
// block's rows, for the bias. grad_h may be grad_u. slope is ds / s: what reaches `a` through its norm.
extern "C" __global__ void __launch_bounds__(THREADS)
    hidden_backward(const REAL *__restrict__ h, const float *__restrict__ bias, const float *__restrict__ factor,
                    const float *__restrict__ slope, const float *__restrict__ beta, const REAL *grad_u, REAL *grad_h,
                    REAL *__restrict__ u, float *__restrict__ partial) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    float sums[VECTOR];
    clear(sums);
    if (place.active) {
        const Rows rows(place);
        float add[VECTOR];
        load_floats<VECTOR>(bias + place.column, add);
#if GRN
        float scale[VECTOR], rise[VECTOR], shift[VECTOR];
        load_floats<VECTOR>(factor + (size_t)rows.sample * FEATURES + place.column, scale);
        load_floats<VECTOR>(slope + (size_t)rows.sample * FEATURES + place.column, rise);
        load_floats<VECTOR>(beta + place.column, shift);
#endif
        const REAL *const features = h + rows.base, *const from = grad_u + rows.base;
        REAL *const to = grad_h + rows.base, *const again = u + rows.base;
        const auto get = [&](int row) {
            const size_t at = (size_t)row * FEATURES;
            return Both{fetch<VECTOR>(features + at), fetch<VECTOR>(from + at)};
        };
        walk<2>(rows.first, rows.end, GROUPS, get, [&](int row, const Both &both) {
            float values[VECTOR], grad[VECTOR];
            both.h.widen_to(values);
            both.grad.widen_to(grad);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                float steepness;
                const float a = Gelu<REAL>::value(values[v] + add[v], steepness);
#if GRN
                grad[v] = grad[v] * scale[v] + rise[v] * a;
                values[v] = a * scale[v] + shift[v];
#else
                values[v] = a;
#endif
                grad[v] *= steepness;
                sums[v] += grad[v];
            }
            store<VECTOR>(again + (size_t)row * FEATURES, values);
            store<VECTOR>(to + (size_t)row * FEATURES, grad);
        });
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * FEATURES + place.column, sums);
    }
}

#if GRN
// partial [N * SEGMENTS, FEATURES]: sums of a^2 over the block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    grn_statistics(const REAL *__restrict__ h, const float *__restrict__ bias, float *__restrict__ partial) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    float sums[VECTOR];
    clear(sums);
    if (place.active) {
        const Rows rows(place);
        float add[VECTOR];
        load_floats<VECTOR>(bias + place.column, add);
        const REAL *const from = h + rows.base;
        const auto get = [&](int row) { return fetch<VECTOR>(from + (size_t)row * FEATURES); };
        walk<4>(rows.first, rows.end, GROUPS, get, [&](int, const Values &pack) {
            float values[VECTOR];
            pack.widen_to(values);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                const float a = Gelu<REAL>::value(values[v] + add[v]);
                sums[v] += a * a;
            }
        });
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * FEATURES + place.column, sums);
    }
}

// The features of a thread of a `_finish` kernel: vectors of four if they can be had, FINISH of them apart.
constexpr int WIDE = FEATURES % 4 == 0 ? 4 : FEATURES % 2 == 0 ? 2 : 1;
constexpr int STEPS = (FEATURES / WIDE + FINISH - 1) / FINISH;

__device__ __forceinline__ int feature(int step) { return (step * FINISH + (int)threadIdx.x) * WIDE; }

// Adds up the partial sums of a sample's segments, [SEGMENTS, stride], in order.
__device__ __forceinline__ void sum_segments(const float *partial, int stride, float (&sums)[WIDE]) {
#pragma unroll
    for (int v = 0; v < WIDE; v++) sums[v] = 0.0f;
#pragma unroll 8
    for (int segment = 0; segment < SEGMENTS; segment++) {
        float part[WIDE];
        load_floats<WIDE>(partial + (size_t)segment * stride, part);
#pragma unroll
        for (int v = 0; v < WIDE; v++) sums[v] += part[v];
    }
}

// norm [N, FEATURES] = s; factor [N, FEATURES]; mean [N] = mean_c s + epsilon.
extern "C" __global__ void __launch_bounds__(FINISH)
    grn_statistics_finish(const float *__restrict__ partial, const float *__restrict__ gamma, float *__restrict__ norm,
                          float *__restrict__ factor, float *__restrict__ mean) {
    __shared__ float warps[FINISH / WARP];
    const size_t sample = blockIdx.x;
    float s[STEPS][WIDE], total = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int c = feature(step);
        if (c >= FEATURES) continue;
        sum_segments(partial + sample * SEGMENTS * FEATURES + c, FEATURES, s[step]);
#pragma unroll
        for (int v = 0; v < WIDE; v++) {
            s[step][v] = sqrtf(s[step][v]);
            total += s[step][v];
        }
        store_floats<WIDE>(norm + sample * FEATURES + c, s[step]);
    }
    const float average = block_sum<FINISH>(warps, total) / FEATURES + GRN_EPSILON;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int c = feature(step);
        if (c >= FEATURES) continue;
        float weight[WIDE];
        load_floats<WIDE>(gamma + c, weight);
#pragma unroll
        for (int v = 0; v < WIDE; v++) s[step][v] = 1.0f + weight[v] * (s[step][v] / average);
        store_floats<WIDE>(factor + sample * FEATURES + c, s[step]);
    }
    if (threadIdx.x == 0) mean[sample] = average;
}

// partial [N * SEGMENTS, 2, FEATURES]: sums of grad_u * a, and of grad_u, over the block's rows. Left alone, the compiler
// spills for a fifth block.
extern "C" __global__ void __launch_bounds__(THREADS, 4)
    grn_backward_statistics(const REAL *__restrict__ h, const float *__restrict__ bias,
                            const REAL *__restrict__ grad_u, float *__restrict__ partial) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    float products[VECTOR], sums[VECTOR];
    clear(products);
    clear(sums);
    if (place.active) {
        const Rows rows(place);
        float add[VECTOR];
        load_floats<VECTOR>(bias + place.column, add);
        const REAL *const features = h + rows.base, *const from = grad_u + rows.base;
        const auto get = [&](int row) {
            const size_t at = (size_t)row * FEATURES;
            return Both{fetch<VECTOR>(features + at), fetch<VECTOR>(from + at)};
        };
        walk<2>(rows.first, rows.end, GROUPS, get, [&](int, const Both &both) {
            float values[VECTOR], grad[VECTOR];
            both.h.widen_to(values);
            both.grad.widen_to(grad);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                products[v] += grad[v] * Gelu<REAL>::value(values[v] + add[v]);
                sums[v] += grad[v];
            }
        });
    }
    place.sum_groups(shared, products);
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 2 + 0) * FEATURES + place.column, products);
        store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 2 + 1) * FEATURES + place.column, sums);
    }
}

// slope [N, FEATURES] = ds / s, 0 where s is 0; gradients [N, 2, FEATURES]: the sample's parts of those of gamma and beta.
extern "C" __global__ void __launch_bounds__(FINISH)
    grn_backward_finish(const float *__restrict__ partial, const float *__restrict__ gamma,
                        const float *__restrict__ norm, const float *__restrict__ mean, float *__restrict__ slope,
                        float *__restrict__ gradients) {
    __shared__ float warps[FINISH / WARP];
    const size_t sample = blockIdx.x;
    const float average = mean[sample];
    float s[STEPS][WIDE], q[STEPS][WIDE], total = 0.0f;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int c = feature(step);
        if (c >= FEATURES) continue;
        float t[WIDE], sums[WIDE], weight[WIDE];
        const float *const from = partial + sample * SEGMENTS * 2 * FEATURES + c;
        sum_segments(from, 2 * FEATURES, t);
        sum_segments(from + FEATURES, 2 * FEATURES, sums);
        load_floats<WIDE>(norm + sample * FEATURES + c, s[step]);
        load_floats<WIDE>(gamma + c, weight);
#pragma unroll
        for (int v = 0; v < WIDE; v++) {
            const float n = s[step][v] / average;
            q[step][v] = weight[v] * t[v];
            total += q[step][v] * n;
            t[v] *= n;
        }
        store_floats<WIDE>(gradients + sample * 2 * FEATURES + c, t);
        store_floats<WIDE>(gradients + (sample * 2 + 1) * FEATURES + c, sums);
    }
    const float common = block_sum<FINISH>(warps, total) / FEATURES;
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
        const int c = feature(step);
        if (c >= FEATURES) continue;
#pragma unroll
        for (int v = 0; v < WIDE; v++) {
            q[step][v] = s[step][v] == 0.0f ? 0.0f : (q[step][v] - common) / average / s[step][v];
        }
        store_floats<WIDE>(slope + sample * FEATURES + c, q[step]);
    }
}
#endif
