// The optimiser on flat buffers: norm of the gradient, clipping, AdamW with the moving average. THREADS; EMA; MIRROR:
// whether a copy of the parameters in REAL is kept for the products.

// partial [gridDim.x]: sums of squares. In double: squares of floats cannot overflow it.
extern "C" __global__ void __launch_bounds__(THREADS)
    sum_squares(const float *__restrict__ values, double *__restrict__ partial, int length) {
    __shared__ double shared[THREADS];
    double sum = 0.0;
    for (int at = (int)blockIdx.x * THREADS + (int)threadIdx.x; at < length; at += (int)gridDim.x * THREADS) {
        sum += (double)values[at] * (double)values[at];
    }
    shared[threadIdx.x] = sum;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
    }
    if (threadIdx.x == 0) partial[blockIdx.x] = shared[0];
}

// From the partial sums of squares of the gradients' sum, and the losses' sum: status = {norm of scale * gradients, factor
// on the gradients, 1 if norm and loss are finite, scale * losses}. The factor is scale, and brings the norm down to
// `max_norm` if that is positive. One block.
extern "C" __global__ void __launch_bounds__(THREADS)
    clip(const double *__restrict__ partial, const float *__restrict__ losses, float *__restrict__ status, int count,
         float scale, float max_norm) {
    __shared__ double shared[THREADS];
    double sum = 0.0;
    for (int at = (int)threadIdx.x; at < count; at += THREADS) sum += partial[at];
    shared[threadIdx.x] = sum;
    for (int step = THREADS / 2; step > 0; step /= 2) {
        __syncthreads();
        if ((int)threadIdx.x < step) shared[threadIdx.x] += shared[threadIdx.x + step];
    }
    if (threadIdx.x != 0) return;
    const double norm = sqrt(shared[0]) * (double)scale;
    const double loss = (double)losses[0] * (double)scale;
    const bool finite = norm - norm == 0.0 && loss - loss == 0.0; // of NaN and infinity it is NaN
    const double shrink = finite && max_norm > 0.0f ? (double)max_norm / (norm + 1e-6) : 1.0;
    status[0] = (float)norm;
    status[1] = scale * (float)(shrink < 1.0 ? shrink : 1.0);
    status[2] = finite ? 1.0f : 0.0f;
    status[3] = (float)loss;
}

// The numbers of one update of one tensor; optim::Coefficients in Rust.
struct Coefficients {
    float keep, rate1, beta2, rate2, step, root_scale, eps;
};

// What an update makes of one element.
struct Updated {
    float parameter, m, v;
};

__device__ __forceinline__ Updated updated(const Coefficients &c, float parameter, float gradient, float m, float v) {
    const float m1 = m + c.rate1 * (gradient - m);
    const float v1 = c.beta2 * v + c.rate2 * gradient * gradient;
    return Updated{parameter * c.keep - c.step * m1 / (sqrtf(v1) * c.root_scale + c.eps), m1, v1};
}

// The rule of element `at`: the first that ends behind it.
__device__ int rule_of(const int *__restrict__ ends, int rules, int at) {
    int low = 0, high = rules - 1;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (ends[middle] > at) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    return low;
}

// Sets status[2] to 0 if the update that follows, of which this reads the same, would leave a number that is not finite.
// Whoever finds one writes the same 0; a block that sees it has nothing to add.
extern "C" __global__ void __launch_bounds__(THREADS)
    check_update(const float *__restrict__ parameters, const float *__restrict__ gradients, const float *__restrict__ m,
                 const float *__restrict__ v, const int *__restrict__ ends,
                 const Coefficients *__restrict__ coefficients, float *__restrict__ status, int rules, int length) {
    if (status[2] == 0.0f) return;
    const float scale = status[1];
    const int first = (int)blockIdx.x * CHUNK;
    int low = rule_of(ends, rules, first);
    bool finite = true;
    for (int at = first + (int)threadIdx.x; at < min(length - first, CHUNK) + first; at += THREADS) {
        while (ends[low] <= at) low++;
        const Updated to = updated(coefficients[low], parameters[at], gradients[at] * scale, m[at], v[at]);
        finite = finite && to.parameter - to.parameter == 0.0f && to.v - to.v == 0.0f; // of NaN and infinity it is NaN
    }
    if (!finite) status[2] = 0.0f;
}

// One update of parameters, moments and average, all `length` long. ends [rules]: where each rule's elements end,
// ascending; coefficients [rules]; ema_rate [1]: the weight of the new parameters in the average.
// Where status[2] is 0 nothing is touched.
extern "C" __global__ void __launch_bounds__(THREADS)
    adamw(float *__restrict__ parameters, const float *__restrict__ gradients, float *__restrict__ m,
          float *__restrict__ v, float *__restrict__ average, REAL *__restrict__ mirror, const int *__restrict__ ends,
          const Coefficients *__restrict__ coefficients, const float *__restrict__ status,
          const float *__restrict__ ema_rate, int rules, int length) {
    if (status[2] == 0.0f) return;
    const float scale = status[1];
    const int first = (int)blockIdx.x * CHUNK;
    // The rule of the chunk's first element, then forward from there.
    int low = rule_of(ends, rules, first);
    for (int at = first + (int)threadIdx.x; at < min(length - first, CHUNK) + first; at += THREADS) {
        while (ends[low] <= at) low++;
        const Updated to = updated(coefficients[low], parameters[at], gradients[at] * scale, m[at], v[at]);
        m[at] = to.m;
        v[at] = to.v;
        parameters[at] = to.parameter;
#if EMA
        average[at] += *ema_rate * (to.parameter - average[at]);
#endif
#if MIRROR
        mirror[at] = narrow<REAL>(to.parameter);
#endif
    }
}

// mirror = parameters in REAL, for the first step.
extern "C" __global__ void __launch_bounds__(THREADS)
    copy_parameters(const float *__restrict__ parameters, REAL *__restrict__ mirror, int length) {
    const int at = (int)blockIdx.x * THREADS + (int)threadIdx.x;
    if (at < length) mirror[at] = narrow<REAL>(parameters[at]);
}
