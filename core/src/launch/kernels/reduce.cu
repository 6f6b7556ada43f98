// Sums over rows, always in the same order.
//
// COLUMNS, VECTOR, LANES x GROUPS threads at work, THREADS.

// partial [gridDim.x, COLUMNS]: sums of the block's rows of x [rows, COLUMNS].
extern "C" __global__ void __launch_bounds__(THREADS)
    column_sums(const REAL *__restrict__ x, float *__restrict__ partial, int rows) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Place<COLUMNS, LANES, GROUPS, VECTOR> place((int)blockIdx.y);
    float sums[VECTOR];
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[v] = 0.0f;
    for (int row = (int)blockIdx.x * GROUPS + place.group; place.active && row < rows; row += (int)gridDim.x * GROUPS) {
        float values[VECTOR];
        load<VECTOR>(x + (size_t)row * COLUMNS + place.column, values);
#pragma unroll
        for (int v = 0; v < VECTOR; v++) sums[v] += values[v];
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * COLUMNS + place.column, sums);
    }
}
