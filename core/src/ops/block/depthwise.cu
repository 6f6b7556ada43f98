// Depthwise convolution of channels-last rows, dense or sparse: forward, input gradient, weight gradient.
//
// A plane is the grid of a sample, or one of its visible patches. It is cut into strips of RUN cells side by side; a thread
// walks down a strip, VECTOR channels wide. A line of input is read once: it is added to the KERNEL lines of output that it
// reaches, which are kept in registers until they are done. The line after it is on its way meanwhile.
//
// CHANNELS, KERNEL (odd), VECTOR, LANES x GROUPS threads at work, THREADS in a block, RESIDENT blocks that a
// multiprocessor should hold, RUN; the geometry of common.cuh. The weight gradient also has TAP_ROWS kernel rows a block.

constexpr int HALF = KERNEL / 2;
constexpr int SPAN = RUN + KERNEL - 1;

#if SPARSE
constexpr int PLANES = VISIBLE, PLANE_HEIGHT = SIDE, PLANE_WIDTH = SIDE;
// Lines before the plane's first and after its last one that reach it.
constexpr int MARGIN = HALF;
// Patches on either side that a strip reaches into.
constexpr int BEFORE = (HALF + SIDE - 1) / SIDE;
#else
constexpr int PLANES = 1, PLANE_HEIGHT = HEIGHT, PLANE_WIDTH = WIDTH;
constexpr int MARGIN = 0;
#endif

constexpr int ACROSS = (PLANE_WIDTH + RUN - 1) / RUN;
constexpr int STRIPS = PLANES * ACROSS; // of a sample

using Columns = Place<CHANNELS, LANES, GROUPS, VECTOR>;
using Values = Pack<REAL, VECTOR>;

// What a thread reads of a line.
struct Line {
    Values cell[SPAN];
};

// 0, which the compiler does not know: what is loaded from this offset is not kept in registers from one round of a loop
// to the next.
__device__ __forceinline__ int unknown_zero() {
    int zero = 0;
#ifdef __CUDA_ARCH__
    asm volatile("" : "+r"(zero));
#endif
    return zero;
}

struct Strip {
    // The sample's first value of the thread's column is `base` values after the first sample's first one.
    size_t base;
    // The plane's first row, the strip's first cell on the grid, and its cells from the left edge of the plane.
    int first_row, y, x, inside;
    const int *slots;

    __device__ __forceinline__ Strip(const u32 *visible, const int *all_slots, int index, int column) {
        const int sample = index / STRIPS, plane = index % STRIPS / ACROSS;
        inside = ACROSS == 1 ? 0 : index % ACROSS * RUN;
        first_row = plane * PLANE_HEIGHT * PLANE_WIDTH;
        base = (size_t)sample * ROWS * CHANNELS + column;
#if SPARSE
        slots = all_slots + (size_t)sample * PATCHES;
#endif
        const Cell cell = cell_of(visible, sample, first_row);
        y = cell.y;
        x = cell.x + inside;
    }

    // Offset of a line of the plane at the strip's first cell.
    __device__ __forceinline__ size_t offset(int line) const {
        return base + (size_t)(first_row + line * PLANE_WIDTH + inside) * CHANNELS;
    }

    __device__ __forceinline__ bool has(int cell) const {
        return PLANE_WIDTH % RUN == 0 || inside + cell < PLANE_WIDTH;
    }

    // A line of input under the strip, counted from the plane's first, zeros where there is no cell; false if there is none
    // at all.
    __device__ __forceinline__ bool load_line(const REAL *__restrict__ from, int line, Line &to) const {
        const Values none{};
#pragma unroll
        for (int at = 0; at < SPAN; at++) to.cell[at] = none;
        if ((u32)(y + line) >= (u32)HEIGHT) return false;
#if SPARSE
        bool any = false;
        const int *patches = slots + (y + line) / SIDE * PATCHES_WIDE;
        const int patch = (x - inside) / SIDE, inside_y = (y + line) % SIDE * SIDE;
#pragma unroll
        for (int at = 0; at < SPAN; at++) {
            const int column = inside + at - HALF + BEFORE * SIDE; // not negative
            const int other = patch + column / SIDE - BEFORE;
            const int slot = (u32)other < (u32)PATCHES_WIDE ? patches[other] : -1;
            if (slot < 0) continue;
            const REAL *row = from + base + (size_t)(slot * SIDE * SIDE + inside_y) * CHANNELS;
            to.cell[at] = fetch<VECTOR>(row + column % SIDE * CHANNELS);
            any = true;
        }
        return any;
#else
        const REAL *row = from + base + ((ptrdiff_t)line * WIDTH + x - HALF) * CHANNELS;
#pragma unroll
        for (int at = 0; at < SPAN; at++) {
            if ((u32)(x + at - HALF) < (u32)WIDTH) to.cell[at] = fetch<VECTOR>(row + at * CHANNELS);
        }
        return true;
#endif
    }

    // The cells of a line of the plane.
    __device__ __forceinline__ void load_cells(const REAL *from, int line, Values (&to)[RUN]) const {
        const Values none{};
        const bool there = (u32)line < (u32)PLANE_HEIGHT;
        const REAL *row = from + offset(line);
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
            to[cell] = none;
            if (there && has(cell)) to[cell] = fetch<VECTOR>(row + cell * CHANNELS);
        }
    }

    __device__ __forceinline__ void store_cells(REAL *to, int line, const float (&values)[RUN][VECTOR]) const {
        if ((u32)line >= (u32)PLANE_HEIGHT) return;
        REAL *row = to + offset(line);
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
            if (has(cell)) store<VECTOR>(row + cell * CHANNELS, values[cell]);
        }
    }
};

template <int Count> __device__ __forceinline__ void widen_all(const Values (&from)[Count], float (&to)[Count][VECTOR]) {
#pragma unroll
    for (int at = 0; at < Count; at++) {
        from[at].widen_to(to[at]);
#ifdef __CUDA_ARCH__
        // Here and now, not again in every branch that uses it.
#pragma unroll
        for (int v = 0; v < VECTOR; v++) asm volatile("" : "+f"(to[at][v]));
#endif
    }
}

// sums += the taps of a kernel row.
__device__ __forceinline__ void add_row(const float (&values)[SPAN][VECTOR], const float *__restrict__ weight,
                                        int first_tap, int step, float (&sums)[RUN][VECTOR]) {
#pragma unroll
    for (int kx = 0; kx < KERNEL; kx++) {
        float factor[VECTOR];
        load_floats<VECTOR>(weight + (first_tap + kx * step) * CHANNELS, factor);
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[cell][v] += values[cell + kx][v] * factor[v];
        }
    }
}

// Walks down a strip with the kernel as it is or turned by half a circle. Lines of output begin as `begin(line, sums)` says
// and end in `end(line, sums)`.
template <bool TURNED, class Begin, class End>
__device__ __forceinline__ void convolve(const REAL *__restrict__ x, const float *__restrict__ weight,
                                         const Strip &strip, const Begin &begin, const End &end) {
    // Line `line - HALF + row` of the output, when `line` of the input is added.
    float sums[KERNEL][RUN][VECTOR];
#pragma unroll
    for (int row = 0; row < KERNEL - 1; row++) begin(row - HALF - MARGIN, sums[row + 1]);
    Line next;
    bool any = strip.load_line(x, -MARGIN, next);
#pragma unroll 1
    for (int line = -MARGIN; line < PLANE_HEIGHT + MARGIN; line++) {
        float values[SPAN][VECTOR], fresh[RUN][VECTOR];
        widen_all(next.cell, values);
        const bool now = any;
        any = strip.load_line(x, line + 1, next);
        begin(line + HALF, fresh);
        const float *taps = weight + unknown_zero();
#pragma unroll
        for (int row = 0; row < KERNEL; row++) {
#pragma unroll
            for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
                for (int v = 0; v < VECTOR; v++) {
                    sums[row][cell][v] = row == KERNEL - 1 ? fresh[cell][v] : sums[(row + 1) % KERNEL][cell][v];
                }
            }
            if (SPARSE && (!now || (u32)(line - HALF + row) >= (u32)PLANE_HEIGHT)) continue;
            const int ky = KERNEL - 1 - row;
            add_row(values, taps, (TURNED ? KERNEL - 1 - ky : ky) * KERNEL + (TURNED ? KERNEL - 1 : 0),
                    TURNED ? -1 : 1, sums[row]);
        }
        end(line - HALF, sums[0]);
    }
#pragma unroll
    for (int row = 1; row <= HALF - MARGIN; row++) end(PLANE_HEIGHT - 1 - HALF + row, sums[row]);
}

// The strips of a block, and that of one of its threads.
struct Work {
    int index;
    Columns place;

    __device__ __forceinline__ Work() : place((int)blockIdx.y) { index = (int)blockIdx.x * GROUPS + place.group; }
};

// y [N, ROWS, CHANNELS] = conv(x) + bias. Blocks: GROUPS strips x chunks of channels.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    depthwise_forward(const REAL *__restrict__ x, const float *__restrict__ weight, const float *__restrict__ bias,
                      const int *__restrict__ slots, const u32 *__restrict__ visible, REAL *__restrict__ y,
                      int samples) {
    const Work work;
    if (!work.place.active || work.index >= samples * STRIPS) return;
    const int column = work.place.column;
    const Strip strip(visible, slots, work.index, column);
    float shift[VECTOR];
    load_floats<VECTOR>(bias + column, shift);
    const auto begin = [&](int, float(&sums)[RUN][VECTOR]) {
#pragma unroll
        for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[cell][v] = shift[v];
        }
    };
    const auto end = [&](int line, const float(&sums)[RUN][VECTOR]) { strip.store_cells(y, line, sums); };
    convolve<false>(x, weight + column, strip, begin, end);
}

// grad_x = residual + the transposed convolution of grad_y. residual may be grad_x. Blocks as above.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    depthwise_input_gradient(const REAL *__restrict__ grad_y, const float *__restrict__ weight,
                             const int *__restrict__ slots, const u32 *__restrict__ visible, const REAL *residual,
                             REAL *grad_x, int samples) {
    const Work work;
    if (!work.place.active || work.index >= samples * STRIPS) return;
    const int column = work.place.column;
    const Strip strip(visible, slots, work.index, column);
    const auto begin = [&](int line, float(&sums)[RUN][VECTOR]) {
        Values before[RUN];
        strip.load_cells(residual, line, before);
        widen_all(before, sums);
    };
    const auto end = [&](int line, const float(&sums)[RUN][VECTOR]) { strip.store_cells(grad_x, line, sums); };
    convolve<true>(grad_y, weight + column, strip, begin, end);
}

// partial [gridDim.x, KERNEL * KERNEL, CHANNELS]: what the strips of a block, every gridDim.x-th GROUPS of them, add to
// the gradient of the weight. Blocks: parts of the strips x chunks of channels x parts of TAP_ROWS kernel rows.
extern "C" __global__ void __launch_bounds__(THREADS, RESIDENT)
    depthwise_weight_gradient(const REAL *__restrict__ x, const REAL *__restrict__ grad_y,
                              const int *__restrict__ slots, const u32 *__restrict__ visible,
                              float *__restrict__ partial, int samples) {
    __shared__ float shared[GROUPS][LANES * VECTOR];
    const Work work;
    const int first_tap_row = (int)blockIdx.z * TAP_ROWS, column = work.place.column;
    float sums[TAP_ROWS][KERNEL][VECTOR];
#pragma unroll
    for (int ky = 0; ky < TAP_ROWS; ky++) {
#pragma unroll
        for (int kx = 0; kx < KERNEL; kx++) {
#pragma unroll
            for (int v = 0; v < VECTOR; v++) sums[ky][kx][v] = 0.0f;
        }
    }
    for (int index = work.index; work.place.active && index < samples * STRIPS; index += (int)gridDim.x * GROUPS) {
        const Strip strip(visible, slots, index, column);
        // Lines that reach the plane by one of the kernel rows.
        const int begin = max(-MARGIN, first_tap_row - HALF);
        const int end = min(PLANE_HEIGHT + MARGIN, PLANE_HEIGHT + first_tap_row + TAP_ROWS - 1 - HALF);
        Line next;
        bool any = strip.load_line(x, begin, next);
#pragma unroll 1
        for (int line = begin; line < end; line++) {
            float values[SPAN][VECTOR];
            widen_all(next.cell, values);
            const bool now = any;
            any = strip.load_line(x, line + 1, next);
            if (SPARSE && !now) continue;
#pragma unroll
            for (int ky = 0; ky < TAP_ROWS; ky++) {
                const int out = line + HALF - first_tap_row - ky;
                if ((KERNEL % TAP_ROWS != 0 && first_tap_row + ky >= KERNEL) || (u32)out >= (u32)PLANE_HEIGHT) continue;
                Values cells[RUN];
                float slopes[RUN][VECTOR];
                strip.load_cells(grad_y, out, cells);
                widen_all(cells, slopes);
#pragma unroll
                for (int kx = 0; kx < KERNEL; kx++) {
#pragma unroll
                    for (int cell = 0; cell < RUN; cell++) {
#pragma unroll
                        for (int v = 0; v < VECTOR; v++) sums[ky][kx][v] += values[cell + kx][v] * slopes[cell][v];
                    }
                }
            }
        }
    }
#pragma unroll
    for (int ky = 0; ky < TAP_ROWS; ky++) {
#pragma unroll
        for (int kx = 0; kx < KERNEL; kx++) {
            work.place.sum_groups(shared, sums[ky][kx]);
            const int tap = (first_tap_row + ky) * KERNEL + kx;
            if (work.place.active && work.place.group == 0 && first_tap_row + ky < KERNEL) {
                const size_t at = ((size_t)blockIdx.x * KERNEL * KERNEL + tap) * CHANNELS + column;
                store_floats<VECTOR>(partial + at, sums[ky][kx]);
            }
        }
    }
}
