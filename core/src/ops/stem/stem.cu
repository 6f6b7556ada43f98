// The stem's gather: the pixels under each cell as one row of a matrix, and back.
//
// STRIDE pixels a side of a cell, IMAGE_CHANNELS; ROWS a sample, THREADS; the geometry of common.cuh (HEIGHT and WIDTH
// are cells of the whole grid, in both geometries). One thread a value.

constexpr int SQUARE = STRIDE * STRIDE * IMAGE_CHANNELS;
constexpr int IMAGE_LINE = WIDTH * STRIDE * IMAGE_CHANNELS;
constexpr size_t IMAGE = (size_t)HEIGHT * STRIDE * IMAGE_LINE;

// squares [N, ROWS, STRIDE, STRIDE, IMAGE_CHANNELS] of images [N, HEIGHT * STRIDE, WIDTH * STRIDE, IMAGE_CHANNELS].
extern "C" __global__ void __launch_bounds__(THREADS)
    stem_gather(const float *__restrict__ images, const u32 *__restrict__ visible, REAL *__restrict__ squares,
                int samples) {
    const size_t end = (size_t)samples * ROWS * SQUARE, stride = (size_t)gridDim.x * THREADS;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < end; at += stride) {
        const int value = (int)(at % SQUARE), row = (int)(at / SQUARE % ROWS), sample = (int)(at / SQUARE / ROWS);
        const Cell cell = cell_of(visible, sample, row);
        const int line = cell.y * STRIDE + value / (STRIDE * IMAGE_CHANNELS);
        const int inside = cell.x * STRIDE * IMAGE_CHANNELS + value % (STRIDE * IMAGE_CHANNELS);
        squares[at] = narrow<REAL>(images[sample * IMAGE + (size_t)line * IMAGE_LINE + inside]);
    }
}

// grad_images += what the squares' gradient says; pixels of removed patches get nothing.
extern "C" __global__ void __launch_bounds__(THREADS)
    stem_scatter(const REAL *__restrict__ grad_squares, const int *__restrict__ slots, float *__restrict__ grad_images,
                 int samples) {
    const size_t end = samples * IMAGE, stride = (size_t)gridDim.x * THREADS;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < end; at += stride) {
        const int sample = (int)(at / IMAGE), line = (int)(at % IMAGE / IMAGE_LINE), inside = (int)(at % IMAGE_LINE);
        const int x = inside / (STRIDE * IMAGE_CHANNELS);
        const int row = row_of(slots, sample, line / STRIDE, x);
        if (row < 0) continue;
        const int value = line % STRIDE * STRIDE * IMAGE_CHANNELS + inside % (STRIDE * IMAGE_CHANNELS);
        grad_images[at] += widen(grad_squares[((size_t)sample * ROWS + row) * SQUARE + value]);
    }
}
