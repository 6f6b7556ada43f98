// What happens to the hidden features h [N, ROWS, FEATURES] between the two pointwise layers: bias, GELU, and in V2
// (GRN 1) global response normalisation. Forward: h is read once for the statistics, and once to write u. Backward: h
// and the gradient of u are read once for the sums, and once to write the gradient of h, with u for the weights.
//
//     a = gelu(h + bias)        s_c = sqrt(sum_r a^2)        factor_c = 1 + gamma_c s_c / (mean_c s + epsilon)
//     u = a factor + beta
//
// FEATURES, ROWS a sample, SEGMENT rows a block, SEGMENTS of them a sample, VECTOR, LANES x GROUPS threads at work,
// THREADS. Blocks: samples * SEGMENTS x chunks of features. The kernels that end in `_finish` have a block a sample.

using Columns = Place<FEATURES, LANES, GROUPS, VECTOR>;

// The rows of a block: first, last and stride for a thread's group.
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

    __device__ __forceinline__ size_t at(int row) const { return base + (size_t)row * FEATURES; }
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
#pragma unroll 2
    for (int row = rows.first; row < rows.end; row += GROUPS) {
        float values[VECTOR];
        load<VECTOR>(h + rows.at(row), values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            values[v] = gelu(values[v] + add[v]);
#if GRN
            values[v] = values[v] * scale[v] + shift[v];
#endif
        }
        store<VECTOR>(u + rows.at(row), values);
    }
}

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
        for (int row = rows.first; row < rows.end; row += GROUPS) {
            float values[VECTOR], grad[VECTOR];
            load<VECTOR>(h + rows.at(row), values);
            load<VECTOR>(grad_u + rows.at(row), grad);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                const float x = values[v] + add[v], cdf = normal_cdf(x), a = x * cdf;
#if GRN
                grad[v] = grad[v] * scale[v] + rise[v] * a;
                values[v] = a * scale[v] + shift[v];
#else
                values[v] = a;
#endif
                grad[v] *= gelu_derivative(x, cdf);
                sums[v] += grad[v];
            }
            store<VECTOR>(u + rows.at(row), values);
            store<VECTOR>(grad_h + rows.at(row), grad);
        }
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
#pragma unroll 2
        for (int row = rows.first; row < rows.end; row += GROUPS) {
            float values[VECTOR];
            load<VECTOR>(h + rows.at(row), values);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                const float a = gelu(values[v] + add[v]);
                sums[v] += a * a;
            }
        }
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * FEATURES + place.column, sums);
    }
}

// norm [N, FEATURES] = s; factor [N, FEATURES]; mean [N] = mean_c s + epsilon.
extern "C" __global__ void __launch_bounds__(THREADS)
    grn_statistics_finish(const float *__restrict__ partial, const float *__restrict__ gamma, float *__restrict__ norm,
                          float *__restrict__ factor, float *__restrict__ mean) {
    __shared__ float warps[THREADS / WARP];
    const size_t sample = blockIdx.x;
    float total = 0.0f;
    for (int c = (int)threadIdx.x; c < FEATURES; c += THREADS) {
        float sum = 0.0f;
        for (int segment = 0; segment < SEGMENTS; segment++) sum += partial[(sample * SEGMENTS + segment) * FEATURES + c];
        const float s = sqrtf(sum);
        norm[sample * FEATURES + c] = s;
        total += s;
    }
    const float average = block_sum<THREADS>(warps, total) / FEATURES + GRN_EPSILON;
    // Each thread reads what it wrote itself.
    for (int c = (int)threadIdx.x; c < FEATURES; c += THREADS) {
        factor[sample * FEATURES + c] = 1.0f + gamma[c] * (norm[sample * FEATURES + c] / average);
    }
    if (threadIdx.x == 0) mean[sample] = average;
}

// partial [N * SEGMENTS, 2, FEATURES]: sums of grad_u * a, and of grad_u, over the block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
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
        for (int row = rows.first; row < rows.end; row += GROUPS) {
            float values[VECTOR], grad[VECTOR];
            load<VECTOR>(h + rows.at(row), values);
            load<VECTOR>(grad_u + rows.at(row), grad);
#pragma unroll
            for (int v = 0; v < VECTOR; v++) {
                products[v] += grad[v] * gelu(values[v] + add[v]);
                sums[v] += grad[v];
            }
        }
    }
    place.sum_groups(shared, products);
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 2 + 0) * FEATURES + place.column, products);
        store_floats<VECTOR>(partial + ((size_t)blockIdx.x * 2 + 1) * FEATURES + place.column, sums);
    }
}

// slope [N, FEATURES] = ds / s, 0 where s is 0; gradients [N, 2, FEATURES]: the sample's parts of those of gamma and beta.
extern "C" __global__ void __launch_bounds__(THREADS)
    grn_backward_finish(const float *__restrict__ partial, const float *__restrict__ gamma,
                        const float *__restrict__ norm, const float *__restrict__ mean, float *__restrict__ slope,
                        float *__restrict__ gradients) {
    __shared__ float warps[THREADS / WARP];
    const size_t sample = blockIdx.x;
    const float average = mean[sample];
    float total = 0.0f;
    for (int c = (int)threadIdx.x; c < FEATURES; c += THREADS) {
        float t = 0.0f, sum = 0.0f;
        for (int segment = 0; segment < SEGMENTS; segment++) {
            const size_t at = (sample * SEGMENTS + segment) * 2 * FEATURES + c;
            t += partial[at];
            sum += partial[at + FEATURES];
        }
        const float s = norm[sample * FEATURES + c], q = gamma[c] * t;
        gradients[(sample * 2 + 0) * FEATURES + c] = t * (s / average);
        gradients[(sample * 2 + 1) * FEATURES + c] = sum;
        slope[sample * FEATURES + c] = q; // for the second loop, where the same thread reads it
        total += q * (s / average);
    }
    const float common = block_sum<THREADS>(warps, total) / FEATURES;
    for (int c = (int)threadIdx.x; c < FEATURES; c += THREADS) {
        const size_t at = sample * FEATURES + c;
        const float s = norm[at];
        slope[at] = s == 0.0f ? 0.0f : (slope[at] - common) / average / s;
    }
}
#endif
