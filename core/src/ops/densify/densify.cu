// From visible patches to the whole grid, and back. CHANNELS, ROWS visible cells a sample, VECTOR, LANES x GROUPS
// threads at work, THREADS; the sparse geometry of common.cuh, HEIGHT and WIDTH the cells of the whole grid.

using Columns = Place<CHANNELS, LANES, GROUPS, VECTOR>;
constexpr int CELLS = HEIGHT * WIDTH;

// out [N, HEIGHT, WIDTH, CHANNELS] = rows [N, ROWS, CHANNELS] on visible cells, token [CHANNELS] on removed ones.
extern "C" __global__ void __launch_bounds__(THREADS)
    densify_forward(const REAL *__restrict__ rows, const int *__restrict__ slots, const float *__restrict__ token,
                    REAL *__restrict__ out, int samples) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    for (int cell = (int)blockIdx.x * GROUPS + place.group; cell < samples * CELLS; cell += (int)gridDim.x * GROUPS) {
        const int sample = cell / CELLS, row = row_of(slots, sample, cell / WIDTH % HEIGHT, cell % WIDTH);
        float values[VECTOR];
        if (row >= 0) {
            load<VECTOR>(rows + ((size_t)sample * ROWS + row) * CHANNELS + place.column, values);
        } else {
            load_floats<VECTOR>(token + place.column, values);
        }
        store<VECTOR>(out + (size_t)cell * CHANNELS + place.column, values);
    }
}

// grad_rows: those of visible cells. partial [gridDim.x, CHANNELS]: the block's sums over removed cells, for the token.
extern "C" __global__ void __launch_bounds__(THREADS)
    densify_backward(const REAL *__restrict__ grad_out, const int *__restrict__ slots, REAL *__restrict__ grad_rows,
                     float *__restrict__ partial, int samples) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Columns place((int)blockIdx.y);
    float sums[VECTOR];
#pragma unroll
    for (int v = 0; v < VECTOR; v++) sums[v] = 0.0f;
    for (int cell = (int)blockIdx.x * GROUPS + place.group; place.active && cell < samples * CELLS;
         cell += (int)gridDim.x * GROUPS) {
        const int sample = cell / CELLS, row = row_of(slots, sample, cell / WIDTH % HEIGHT, cell % WIDTH);
        float values[VECTOR];
        load<VECTOR>(grad_out + (size_t)cell * CHANNELS + place.column, values);
        if (row >= 0) {
            store<VECTOR>(grad_rows + ((size_t)sample * ROWS + row) * CHANNELS + place.column, values);
        } else {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[v] += values[v];
        }
    }
    place.sum_groups(shared, sums);
    if (place.active && place.group == 0) {
        store_floats<VECTOR>(partial + (size_t)blockIdx.x * CHANNELS + place.column, sums);
    }
}
