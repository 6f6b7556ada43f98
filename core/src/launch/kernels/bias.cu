// A bias on every row, where the library of products adds none.
//
// THREADS. One thread a value.

// x [rows, columns] += bias [columns].
extern "C" __global__ void __launch_bounds__(THREADS)
    add_bias(REAL *__restrict__ x, const REAL *__restrict__ bias, int rows, int columns) {
    const size_t end = (size_t)rows * columns, stride = (size_t)gridDim.x * THREADS;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < end; at += stride) {
        x[at] = narrow<REAL>(widen(x[at]) + widen(bias[at % columns]));
    }
}
