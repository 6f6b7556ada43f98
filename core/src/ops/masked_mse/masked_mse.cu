// The loss on removed patches: features of their cells gathered for one product, its squared error, and back.
//
// CHANNELS of the decoder; STRIDE pixels a side of a cell, IMAGE_CHANNELS; REMOVED patches a sample; NORMALISED targets;
// VECTOR, LANES x GROUPS threads at work, THREADS; the sparse geometry of common.cuh.
// Rows are the removed cells: REMOVED_ROWS a sample, [N, REMOVED, SIDE, SIDE]. removed [N, REMOVED] lists the patches.

using Columns = Place<CHANNELS, LANES, GROUPS, VECTOR>;
constexpr int PATCH_CELLS = SIDE * SIDE;
constexpr int REMOVED_ROWS = REMOVED * PATCH_CELLS;
constexpr int CELLS = HEIGHT * WIDTH;
constexpr int PIXELS = STRIDE * STRIDE * IMAGE_CHANNELS;
constexpr int PATCH = PATCH_CELLS * PIXELS;
constexpr int IMAGE_LINE = WIDTH * STRIDE * IMAGE_CHANNELS;

// rows [N, REMOVED_ROWS, CHANNELS] = the removed cells of features [N, HEIGHT, WIDTH, CHANNELS].
extern "C" __global__ void __launch_bounds__(THREADS)
    removed_gather(const REAL *__restrict__ features, const u32 *__restrict__ removed, REAL *__restrict__ rows,
                   int samples) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    for (int row = (int)blockIdx.x * GROUPS + place.group; row < samples * REMOVED_ROWS; row += (int)gridDim.x * GROUPS) {
        const int sample = row / REMOVED_ROWS, patch = (int)removed[row / PATCH_CELLS], inside = row % PATCH_CELLS;
        const int y = patch / PATCHES_WIDE * SIDE + inside / SIDE, x = patch % PATCHES_WIDE * SIDE + inside % SIDE;
        float values[VECTOR];
        load<VECTOR>(features + ((size_t)sample * CELLS + y * WIDTH + x) * CHANNELS + place.column, values);
        store<VECTOR>(rows + (size_t)row * CHANNELS + place.column, values);
    }
}

// grad_features = those of the removed cells' rows, 0 on visible cells.
extern "C" __global__ void __launch_bounds__(THREADS)
    removed_scatter(const REAL *__restrict__ grad_rows, const int *__restrict__ slots,
                    REAL *__restrict__ grad_features, int samples) {
    const Columns place((int)blockIdx.y);
    if (!place.active) return;
    for (int cell = (int)blockIdx.x * GROUPS + place.group; cell < samples * CELLS; cell += (int)gridDim.x * GROUPS) {
        const int sample = cell / CELLS, y = cell / WIDTH % HEIGHT, x = cell % WIDTH;
        const int slot = slots[(size_t)sample * PATCHES + y / SIDE * PATCHES_WIDE + x / SIDE];
        float values[VECTOR];
        if (slot < 0) {
            const int row = (-1 - slot) * PATCH_CELLS + y % SIDE * SIDE + x % SIDE;
            load<VECTOR>(grad_rows + ((size_t)sample * REMOVED_ROWS + row) * CHANNELS + place.column, values);
        } else {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) values[v] = 0.0f;
        }
        store<VECTOR>(grad_features + (size_t)cell * CHANNELS + place.column, values);
    }
}

// Turns the predictions [N, REMOVED, PATCH] of a patch into their gradient, 2 * weight * (prediction - target), in
// place; losses [N * REMOVED] = sums of squared errors. A block a patch.
extern "C" __global__ void __launch_bounds__(THREADS)
    masked_mse(REAL *__restrict__ predictions, const float *__restrict__ images, const u32 *__restrict__ removed,
               float *__restrict__ losses, float weight) {
    __shared__ float warps[THREADS / WARP];
    const int sample = (int)blockIdx.x / REMOVED, patch = (int)removed[blockIdx.x];
    const int top = patch / PATCHES_WIDE * SIDE * STRIDE, left = patch % PATCHES_WIDE * SIDE * STRIDE;
    const float *corner = images + (size_t)sample * HEIGHT * STRIDE * IMAGE_LINE + (size_t)top * IMAGE_LINE +
                          left * IMAGE_CHANNELS;
    // The pixel that value `at` of a patch predicts: cells row-major, and in a cell (py, px, c).
    auto pixel = [corner](int at) {
        const int cell = at / PIXELS, value = at % PIXELS;
        const int y = cell / SIDE * STRIDE + value / (STRIDE * IMAGE_CHANNELS);
        const int x = cell % SIDE * STRIDE * IMAGE_CHANNELS + value % (STRIDE * IMAGE_CHANNELS);
        return corner[(size_t)y * IMAGE_LINE + x];
    };
    float mean = 0.0f, deviation = 1.0f;
#if NORMALISED
    float sum = 0.0f, squares = 0.0f;
    for (int at = (int)threadIdx.x; at < PATCH; at += THREADS) sum += pixel(at);
    mean = block_sum<THREADS>(warps, sum) / PATCH;
    for (int at = (int)threadIdx.x; at < PATCH; at += THREADS) squares += (pixel(at) - mean) * (pixel(at) - mean);
    // A patch of one value has no unbiased variance; it counts as constant.
    deviation = sqrtf(block_sum<THREADS>(warps, squares) / (PATCH > 1 ? PATCH - 1 : 1) + TARGET_EPSILON);
#endif
    REAL *here = predictions + (size_t)blockIdx.x * PATCH;
    float loss = 0.0f;
    for (int at = (int)threadIdx.x; at < PATCH; at += THREADS) {
        const float error = widen(here[at]) - (pixel(at) - mean) / deviation;
        loss += error * error;
        here[at] = narrow<REAL>(2.0f * weight * error);
    }
    loss = block_sum<THREADS>(warps, loss);
    if (threadIdx.x == 0) losses[blockIdx.x] = loss;
}
