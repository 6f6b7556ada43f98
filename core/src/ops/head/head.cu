// Global average pooling and its gradient. CHANNELS, ROWS a sample, VECTOR, LANES x GROUPS threads at work, THREADS.

using Columns = Place<CHANNELS, LANES, GROUPS, VECTOR>;

// pooled [N, CHANNELS] = mean over rows of x [N, ROWS, CHANNELS]. Blocks: samples x chunks of channels.
extern "C" __global__ void __launch_bounds__(THREADS) pool(const REAL *__restrict__ x, REAL *__restrict__ pooled) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    const size_t sample = blockIdx.x;
    float sums[VECTOR];
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[v] = 0.0f;
    for (int row = place.group; place.active && row < ROWS; row += GROUPS) {
        float values[VECTOR];
        load<VECTOR>(x + (sample * ROWS + row) * CHANNELS + place.column, values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sums[v] += values[v];
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sums[v] /= ROWS;
        store<VECTOR>(pooled + sample * CHANNELS + place.column, sums);
    }
}

// grad_x [N, ROWS, CHANNELS] = grad_pooled / ROWS in every row.
extern "C" __global__ void __launch_bounds__(THREADS)
    unpool(const REAL *__restrict__ grad_pooled, REAL *__restrict__ grad_x) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    const size_t sample = blockIdx.x;
    float values[VECTOR];
    load<VECTOR>(grad_pooled + sample * CHANNELS + place.column, values);
#pragma unroll
    for (int v = 0; v < VECTOR; v++) values[v] /= ROWS;
    for (int row = place.group; row < ROWS; row += GROUPS) {
        store<VECTOR>(grad_x + (sample * ROWS + row) * CHANNELS + place.column, values);
    }
}
