// Cross entropy against soft targets. CLASSES, THREADS. A block a sample.

// losses [N] = sum_c t_c (logsumexp(z) - z_c); grad_logits = weight * (sum(t) softmax(z) - t). grad_logits may be logits.
extern "C" __global__ void __launch_bounds__(THREADS)
    cross_entropy(const REAL *logits, const float *__restrict__ targets, REAL *grad_logits, float *__restrict__ losses,
                  float weight) {
    __shared__ float warps[THREADS / WARP];
    const REAL *z = logits + (size_t)blockIdx.x * CLASSES;
    const float *t = targets + (size_t)blockIdx.x * CLASSES;
    REAL *grad = grad_logits + (size_t)blockIdx.x * CLASSES;
    float top = widen(z[0]);
    for (int c = (int)threadIdx.x; c < CLASSES; c += THREADS) top = fmaxf(top, widen(z[c]));
    top = block_maximum<THREADS>(warps, top);
    float sum = 0.0f, mass = 0.0f, product = 0.0f;
    for (int c = (int)threadIdx.x; c < CLASSES; c += THREADS) {
        const float below = widen(z[c]) - top;
        sum += expf(below);
        mass += t[c];
        product += t[c] * below;
    }
    sum = block_sum<THREADS>(warps, sum);
    mass = block_sum<THREADS>(warps, mass);
    product = block_sum<THREADS>(warps, product);
    const float log_sum = logf(sum);
    for (int c = (int)threadIdx.x; c < CLASSES; c += THREADS) {
        const float softmax = expf(widen(z[c]) - top - log_sum);
        grad[c] = narrow<REAL>(weight * (mass * softmax - t[c]));
    }
    if (threadIdx.x == 0) losses[blockIdx.x] = mass * log_sum - product;
}
