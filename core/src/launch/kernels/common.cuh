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

// Rounds to nearest, ties to even; NaNs become one NaN.
template <class T> __device__ __forceinline__ T narrow(float value);
template <> __device__ __forceinline__ float narrow<float>(float value) { return value; }
template <> __device__ __forceinline__ bf16 narrow<bf16>(float value) {
#ifdef __CUDA_ARCH__
    bf16 rounded;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(rounded.bits) : "f"(value));
    return rounded;
#else
    const u32 bits = __float_as_uint(value);
    if (value != value) return bf16{0x7fff};
    return bf16{(u16)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
#endif
}

// Two values as they lie in memory: the first in the lower half.
__device__ __forceinline__ u32 narrow_pair(float first, float second) {
#ifdef __CUDA_ARCH__
    u32 pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
#else
    return narrow<bf16>(first).bits | (u32)narrow<bf16>(second).bits << 16;
#endif
}

// Width values that one instruction moves; the address must be a multiple of their size. A pair of bf16 is one word,
// so that widening and rounding take one instruction a value or less.
template <class T, int Width, bool Paired = sizeof(T) == 2 && Width % 2 == 0> struct alignas(sizeof(T) * Width) Pack {
    T value[Width];

    __device__ __forceinline__ void widen_to(float (&to)[Width]) const {
#pragma unroll
        for (int v = 0; v < Width; v++) to[v] = widen(value[v]);
    }

    __device__ __forceinline__ void narrow_from(const float (&from)[Width]) {
#pragma unroll
        for (int v = 0; v < Width; v++) value[v] = narrow<T>(from[v]);
    }

    __device__ __forceinline__ void write(T *to) const { *reinterpret_cast<Pack *>(to) = *this; }
};

template <class T, int Width> struct alignas(sizeof(T) * Width) Pack<T, Width, true> {
    u32 pair[Width / 2];

    __device__ __forceinline__ void widen_to(float (&to)[Width]) const {
#pragma unroll
        for (int v = 0; v < Width; v += 2) {
            to[v] = __uint_as_float(pair[v / 2] << 16);
            to[v + 1] = __uint_as_float(pair[v / 2] & 0xffff0000u);
        }
    }

    __device__ __forceinline__ void narrow_from(const float (&from)[Width]) {
#pragma unroll
        for (int v = 0; v < Width; v += 2) pair[v / 2] = narrow_pair(from[v], from[v + 1]);
    }

    // Vectors are written out: the compiler cuts stores of halves into words.
    __device__ __forceinline__ void write(T *to) const {
#ifdef __CUDA_ARCH__
        if constexpr (Width == 8) {
            asm volatile("st.global.v4.b32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(pair[0]),
                         "r"(pair[1]), "r"(pair[2]), "r"(pair[3])
                         : "memory");
            return;
        }
        if constexpr (Width == 4) {
            asm volatile("st.global.v2.b32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(pair[0]),
                         "r"(pair[1])
                         : "memory");
            return;
        }
#endif
        *reinterpret_cast<Pack *>(to) = *this;
    }
};

// A vector of global memory, as it lies there.
template <int Width, class T> __device__ __forceinline__ Pack<T, Width> fetch(const T *from) {
    return *reinterpret_cast<const Pack<T, Width> *>(from);
}

template <int Width, class T> __device__ __forceinline__ void load(const T *from, float (&to)[Width]) {
    fetch<Width>(from).widen_to(to);
}

// To global memory.
template <int Width, class T> __device__ __forceinline__ void store(T *to, const float (&from)[Width]) {
    Pack<T, Width> pack;
    pack.narrow_from(from);
    pack.write(to);
}

// Walks over rows from `row` on: use(row, fetch(row)). Deep fetches come before the first use: that many loads are under
// way at a time.
template <int Deep, class Fetch, class Use>
__device__ __forceinline__ void walk(int row, int end, int stride, Fetch fetch, Use use) {
    using Fetched = decltype(fetch(row));
#pragma unroll 1
    for (; row + (Deep - 1) * stride < end; row += Deep * stride) {
        Fetched fetched[Deep];
#pragma unroll
        for (int ahead = 0; ahead < Deep; ahead++) fetched[ahead] = fetch(row + ahead * stride);
#pragma unroll
        for (int ahead = 0; ahead < Deep; ahead++) use(row + ahead * stride, fetched[ahead]);
    }
    if (row >= end) return;
    // What is left is less than Deep rows. What would lie beyond the last is the first of them again, and not used.
    Fetched fetched[Deep];
#pragma unroll
    for (int ahead = 0; ahead < Deep - 1; ahead++) {
        const int next = row + ahead * stride;
        fetched[ahead] = fetch(next < end ? next : row);
    }
#pragma unroll
    for (int ahead = 0; ahead < Deep - 1; ahead++) {
        if (row + ahead * stride < end) use(row + ahead * stride, fetched[ahead]);
    }
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

// GELU for activations of type T: x Phi(x), and its slope Phi(x) + x phi(x), with the normal distribution's Phi and phi.
template <class T> struct Gelu;

template <> struct Gelu<float> {
    static __device__ __forceinline__ float cdf(float x) { return 0.5f * (1.0f + erff(x * 0.70710678118654752f)); }

    static __device__ __forceinline__ float value(float x) { return x * cdf(x); }

    static __device__ __forceinline__ float value(float x, float &slope) {
        const float below = cdf(x);
        slope = below + x * (0.39894228040143268f * expf(-0.5f * x * x));
        return x * below;
    }
};

// 2^x, to a few units in the last place; 0 where that is not a normal number.
__device__ __forceinline__ float exp2_approximately(float x) {
#ifdef __CUDA_ARCH__
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
    return power;
#else
    return exp2f(x);
#endif
}

// The smaller one; NaN if x is.
__device__ __forceinline__ float minimum_or_nan(float x, float limit) {
#ifdef __CUDA_ARCH__
    float smaller;
    asm("min.NaN.f32 %0, %1, %2;" : "=f"(smaller) : "f"(x), "f"(limit));
    return smaller;
#else
    return x > limit ? limit : x;
#endif
}

// With a = |x|, Phi(-a) = 2^p(a), where p is all but a parabola: of degree 4 it is enough for bf16, and takes a third of
// erff's instructions. Then gelu(x) = max(x, 0) - a Phi(-a), and slope(-a) = Phi(-a) - a phi(a) = 1 - slope(a).
//
// The coefficients are a minimax fit on [0, 5.5] of a |2^p(a) - Phi(-a)|, weighed by 1 / sqrt(a Phi(-a)) where that is
// more than 0.002. Error of gelu: 1.7e-5, and 5e-4 of its value down to x = -3, 2e-6 below; of the slope: 2.2e-4. bf16
// rounds to 4e-3 of a value. Beyond 8 nothing is left of Phi(-a), and p rises again from 14 on.
template <> struct Gelu<bf16> {
    static __device__ __forceinline__ float tail(float a) {
        const float p = fmaf(fmaf(0.0034211811f, a, -0.041897409f), a, -0.47126126f);
        return exp2_approximately(fmaf(fmaf(p, a, -1.145831f), a, -1.0006112f));
    }

    static __device__ __forceinline__ float value(float x) {
        const float a = minimum_or_nan(fabsf(x), 8.0f);
        return fmaf(-a, tail(a), fmaxf(x, 0.0f));
    }

    static __device__ __forceinline__ float value(float x, float &slope) {
        const float a = minimum_or_nan(fabsf(x), 8.0f), above = tail(a);
        // phi(a) = 2^(-a^2 / (2 ln 2) - log2(2 pi) / 2)
        const float left = fmaf(-a, exp2_approximately(fmaf(a * a, -0.72134752f, -1.3257481f)), above);
        slope = x < 0.0f ? left : 1.0f - left;
        return fmaf(-a, above, fmaxf(x, 0.0f));
    }
};

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
