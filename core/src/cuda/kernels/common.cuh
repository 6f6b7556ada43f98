// What every kernel file begins with. It is put before each of them as text, so none of them includes anything.
//
// REAL is the type in which activations are stored: float or bf16. All arithmetic and all sums are in float. Sizes
// are constants given with -D; only the number of samples is an argument. Offsets into activations are size_t: a batch
// may have more than 2^31 values, but never as many rows.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

constexpr int WARP = 32;
constexpr u32 ALL_LANES = 0xffffffffu;

struct bf16 {
    u16 bits;
};

__device__ __forceinline__ float widen(float value) { return value; }
__device__ __forceinline__ float widen(bf16 value) { return __uint_as_float((u32)value.bits << 16); }

// Rounds to nearest, ties to even.
template <class T> __device__ __forceinline__ T narrow(float value);
template <> __device__ __forceinline__ float narrow<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float value) {
    const u32 bits = __float_as_uint(value);
    if (value != value) return bf16{0x7fff};
    return bf16{(u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

// Width values that one instruction moves; the address must be a multiple of their size.
template <class T, int Width> struct alignas(sizeof(T) * Width) Pack {
    T value[Width];
};

template <int Width, class T> __device__ __forceinline__ void load(const T *from, float (&to)[Width]) {
    const Pack<T, Width> pack = *reinterpret_cast<const Pack<T, Width> *>(from);
#pragma unroll
    for (int v = 0; v < Width; v++) to[v] = widen(pack.value[v]);
}

template <int Width, class T> __device__ __forceinline__ void store(T *to, const float (&from)[Width]) {
    Pack<T, Width> pack;
#pragma unroll
    for (int v = 0; v < Width; v++) pack.value[v] = narrow<T>(from[v]);
    *reinterpret_cast<Pack<T, Width> *>(to) = pack;
}

// Width floats of a parameter: vectors of four at most, so that Width may be that of a shorter type.
template <int Width> __device__ __forceinline__ void load_floats(const float *from, float (&to)[Width]) {
    constexpr int Part = Width < 4 ? Width : 4;
#pragma unroll
    for (int first = 0; first < Width; first += Part) {
        const Pack<float, Part> pack = *reinterpret_cast<const Pack<float, Part> *>(from + first);
#pragma unroll
        for (int v = 0; v < Part; v++) to[first + v] = pack.value[v];
    }
}

template <int Width> __device__ __forceinline__ void store_floats(float *to, const float (&from)[Width]) {
    constexpr int Part = Width < 4 ? Width : 4;
#pragma unroll
    for (int first = 0; first < Width; first += Part) {
        Pack<float, Part> pack;
#pragma unroll
        for (int v = 0; v < Part; v++) pack.value[v] = from[first + v];
        *reinterpret_cast<Pack<float, Part> *>(to + first) = pack;
    }
}

// Sum over teams of Team neighbouring lanes, a power of two up to a warp; every lane gets it. Every lane of the warp
// must call it.
template <int Team> __device__ __forceinline__ float team_sum(float value) {
#pragma unroll
    for (int step = Team / 2; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
    return value;
}

__device__ __forceinline__ float warp_maximum(float value) {
#pragma unroll
    for (int step = WARP / 2; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, step));
    return value;
}

// Sum over a block of Threads threads; every thread gets it, always in the same order. Every thread must call it.
template <int Threads> __device__ __forceinline__ float block_sum(float (&warps)[Threads / WARP], float value) {
    value = team_sum<WARP>(value);
    __syncthreads(); // the sums of the last call have been read
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = value;
    __syncthreads();
    float sum = 0.0f;
#pragma unroll
    for (int warp = 0; warp < Threads / WARP; warp++) sum += warps[warp];
    return sum;
}

template <int Threads> __device__ __forceinline__ float block_maximum(float (&warps)[Threads / WARP], float value) {
    value = warp_maximum(value);
    __syncthreads();
    if (threadIdx.x % WARP == 0) warps[threadIdx.x / WARP] = value;
    __syncthreads();
    float maximum = warps[0];
#pragma unroll
    for (int warp = 1; warp < Threads / WARP; warp++) maximum = fmaxf(maximum, warps[warp]);
    return maximum;
}

// Where a thread stands in a block that Lanes threads wide walks over columns, Width at a time, and Groups deep over rows.
// Threads beyond Lanes * Groups, and columns beyond the last, are idle.
template <int Columns, int Lanes, int Groups, int Width> struct Place {
    int lane, group, column;
    bool active;

    __device__ __forceinline__ explicit Place(int chunk) {
        lane = (int)threadIdx.x % Lanes;
        group = (int)threadIdx.x / Lanes;
        column = (chunk * Lanes + lane) * Width;
        active = group < Groups && column < Columns;
    }

    // Adds up the groups' values in order; group 0 gets the sums. Every thread of the block must call it.
    __device__ __forceinline__ void sum_groups(float (&shared)[Groups][Lanes * Width], float (&value)[Width]) const {
        if (Groups == 1) return;
        __syncthreads(); // the values of the last call have been read
        if (group < Groups) {
#pragma unroll
            for (int v = 0; v < Width; v++) shared[group][lane * Width + v] = value[v];
        }
        __syncthreads();
        if (group == 0) {
            for (int other = 1; other < Groups; other++) {
#pragma unroll
                for (int v = 0; v < Width; v++) value[v] += shared[other][lane * Width + v];
            }
        }
    }
};

// The standard normal distribution function.
__device__ __forceinline__ float normal_cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

__device__ __forceinline__ float gelu(float x) { return x * normal_cdf(x); }

// x phi(x) + Phi(x); cdf is normal_cdf(x), which the caller has already.
__device__ __forceinline__ float gelu_derivative(float x, float cdf) {
    return cdf + x * (0.39894228040143268f * expf(-0.5f * x * x));
}

#ifdef SPARSE
// The geometry of an activation [N, ROWS, C]; ops/cells.rs says the same in Rust.
//
// The whole grid is HEIGHT x WIDTH cells. Dense (SPARSE 0): rows are its cells. Sparse (SPARSE 1): they are the cells of
// VISIBLE patches, each SIDE x SIDE cells; the grid has PATCHES_WIDE patches a line and PATCHES in all.
// visible [N, VISIBLE] lists the visible patches; slots [N, PATCHES] is its inverse: the slot of a visible patch,
// -1 - rank of a removed one.
struct Cell {
    int y, x;
};

__device__ __forceinline__ Cell cell_of(const u32 *visible, int sample, int row) {
#if SPARSE
    const int patch = (int)visible[(size_t)sample * VISIBLE + row / (SIDE * SIDE)];
    const int inside = row % (SIDE * SIDE);
    return Cell{patch / PATCHES_WIDE * SIDE + inside / SIDE, patch % PATCHES_WIDE * SIDE + inside % SIDE};
#else
    return Cell{row / WIDTH, row % WIDTH};
#endif
}

// The row that holds a cell of the grid; negative if its patch was removed.
__device__ __forceinline__ int row_of(const int *slots, int sample, int y, int x) {
#if SPARSE
    const int slot = slots[(size_t)sample * PATCHES + y / SIDE * PATCHES_WIDE + x / SIDE];
    return slot < 0 ? -1 : (slot * SIDE + y % SIDE) * SIDE + x % SIDE;
#else
    return y * WIDTH + x;
#endif
}
#endif
