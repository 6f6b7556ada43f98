// The two ends of the residual branch: what is added to x, and what comes back.
//
// CHANNELS, VECTOR, LANES x GROUPS threads at work, THREADS; DROP and SCALE say whether there are drop path scales [N] and
// a LayerScale [CHANNELS]. With DROP there are ROWS a sample, with SCALE FEATURES hidden ones.

using Columns = Place<CHANNELS, LANES, GROUPS, VECTOR>;
using Values = Pack<REAL, VECTOR>;

// What the branch of a row is multiplied with.
__device__ __forceinline__ float drop_of(const float *drop, int row) {
#if DROP
    return drop[row / ROWS];
#else
    return 1.0f;
#endif
}

// A vector of x and of the branch.
struct Both {
    Values x, branch;
    float drop;
};

// A vector of a gradient.
struct Gradient {
    Values values;
    float drop;
};

// out = x + drop * scale * (branch + bias). out may be branch. Left alone, the compiler spills for a sixth block.
extern "C" __global__ void __launch_bounds__(THREADS, 5)
    residual_forward(const REAL *__restrict__ x, const REAL *branch, const float *__restrict__ bias,
                     const float *__restrict__ scale, const float *__restrict__ drop, REAL *out, int rows) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    float add[VECTOR];
    load_floats<VECTOR>(bias + place.column, add);
#if SCALE
    float factor[VECTOR];
    load_floats<VECTOR>(scale + place.column, factor);
#endif
    const auto get = [&](int row) {
        const size_t at = (size_t)row * CHANNELS + place.column;
        return Both{fetch<VECTOR>(x + at), fetch<VECTOR>(branch + at), drop_of(drop, row)};
    };
    const int first = (int)blockIdx.x * GROUPS + place.group, stride = (int)gridDim.x * GROUPS;
    walk<2>(first, rows, stride, get, [&](int row, const Both &both) {
        float values[VECTOR], before[VECTOR];
        both.branch.widen_to(values);
        both.x.widen_to(before);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            values[v] += add[v];
#if SCALE
            values[v] *= factor[v];
#endif
#if DROP
            values[v] *= both.drop;
#endif
            values[v] += before[v];
        }
        store<VECTOR>(out + (size_t)row * CHANNELS + place.column, values);
    });
}

// grad = drop * grad_out, if there is a drop; partial [gridDim.x, CHANNELS] = its sums over the block's rows.
extern "C" __global__ void __launch_bounds__(THREADS)
    residual_backward(const REAL *__restrict__ grad_out, const float *__restrict__ drop, REAL *__restrict__ grad,
                      float *__restrict__ partial, int rows) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    float sums[VECTOR];
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[v] = 0.0f;
    const auto get = [&](int row) {
        return Gradient{fetch<VECTOR>(grad_out + (size_t)row * CHANNELS + place.column), drop_of(drop, row)};
    };
    const int first = (int)blockIdx.x * GROUPS + place.group, stride = (int)gridDim.x * GROUPS;
    walk<4>(first, place.active ? rows : 0, stride, get, [&](int row, const Gradient &gradient) {
        float values[VECTOR];
        gradient.values.widen_to(values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
#if DROP
            values[v] *= gradient.drop;
#endif
            sums[v] += values[v];
        }
#if DROP
        store<VECTOR>(grad + (size_t)row * CHANNELS + place.column, values);
#endif
    });
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * CHANNELS + place.column, sums);
    }
}

#if SCALE
// scaled [FEATURES, CHANNELS] = weight * scale, for the product that brings the gradient back to the hidden features.
extern "C" __global__ void __launch_bounds__(THREADS)
    scale_weight(const float *__restrict__ weight, const float *__restrict__ scale, REAL *__restrict__ scaled) {
    const Columns place((int)blockIdx.y);
    const int row = (int)blockIdx.x * GROUPS + place.group;
    if (!place.active || row >= FEATURES) return;
    const size_t at = (size_t)row * CHANNELS + place.column;
    float values[VECTOR], factor[VECTOR];
    load_floats<VECTOR>(weight + at, values);
    load_floats<VECTOR>(scale + place.column, factor);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) values[v] *= factor[v];
    store<VECTOR>(scaled + at, values);
}

// From unscaled = u^T grad and sums = sum_r grad, the gradients of the weight, LayerScale and the bias, added:
//     grad_weight += scale * unscaled    grad_scale += sum_f weight * unscaled + bias * sums    grad_bias += scale * sums
// Blocks: chunks of channels.
extern "C" __global__ void __launch_bounds__(THREADS)
    layer_scale_backward(const float *__restrict__ unscaled, const float *__restrict__ sums,
                         const float *__restrict__ weight, const float *__restrict__ bias,
                         const float *__restrict__ scale, float *__restrict__ grad_weight,
                         float *__restrict__ grad_bias, float *__restrict__ grad_scale) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.x);
    float total[VECTOR];
#pragma unroll
    for (int v = 0; v < VECTOR; v++) total[v] = 0.0f;
    for (int row = place.group; place.active && row < FEATURES; row += GROUPS) {
        const size_t at = (size_t)row * CHANNELS + place.column;
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            total[v] += weight[at + v] * unscaled[at + v];
            grad_weight[at + v] += scale[place.column + v] * unscaled[at + v];
        }
    }
    place.sum_groups(shared, total);
    if (place.active && place.group == 0) {
#pragma unroll
        for (int v = 0; v < VECTOR; v++) {
            const int c = place.column + v;
            grad_scale[c] += total[v] + bias[c] * sums[c];
            grad_bias[c] += scale[c] * sums[c];
        }
    }
}
#endif
