// Runs CUDA kernels on the CPU: the kernel file is compiled as C++ after this header, and linked with `host.cpp`.
//
// The threads of a block are fibres. A barrier or a shuffle gives up the processor until every thread of the block or
// warp has come to it. Blocks run one after another, and a warp as far as it can before the next one starts. The order of
// threads, warps and blocks is a choice of the caller: a kernel that lacks a barrier, or writes where another block
// writes, gives other bits in another order.
//
// What would be undefined on a device ends the program with a message: a barrier that not all threads reach, or that
// they reach on different lines; a shuffle without its whole warp. Global buffers end at a page that cannot be touched
// and begin after a margin that is checked. Shared memory is filled with NaNs before each block.
//
// It is compiled with every kernel, so it includes and defines no more than they need.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static __attribute__((section("shared_memory")))
#define __syncthreads() host::barrier(__LINE__)

struct Index {
    unsigned x, y, z;
};
extern Index threadIdx, blockIdx, blockDim, gridDim;

inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
template <class T> inline T min(T a, T b) { return b < a ? b : a; }
template <class T> inline T max(T a, T b) { return a < b ? b : a; }

namespace host {

constexpr unsigned LANES = 32;

// The thread of the block that runs.
extern unsigned current;

[[noreturn]] void fail(const char *what);
void barrier(int line);
// What the thread `from` of this one's warp gives.
uint64_t exchange(uint64_t bits, unsigned from);
// A kernel that can be called by its name.
void add(const char *name, size_t arguments, void (*run)(void *));
// Answers a request for a kernel; see there.
int serve(const char *name);

// A number, or a place in a buffer.
union Argument {
    int32_t integer;
    float real;
    void *pointer;
};

template <class T> inline void take(const Argument &from, T *&to) { to = (T *)from.pointer; }
inline void take(const Argument &from, int &to) { to = from.integer; }
inline void take(const Argument &from, float &to) { to = from.real; }

template <class F> struct Call;
template <class... A> struct Call<void (*)(A...)> {
    template <size_t... I> static void with(void (*kernel)(A...), const Argument *from, std::index_sequence<I...>) {
        auto one = [](auto tag, const Argument &argument) {
            typename decltype(tag)::type value;
            take(argument, value);
            return value;
        };
        kernel(one(std::common_type<A>{}, from[I])...);
    }
    static constexpr size_t COUNT = sizeof...(A);
};

template <auto kernel> void add(const char *name) {
    using This = Call<decltype(kernel)>;
    add(name, This::COUNT, [](void *arguments) {
        This::with(kernel, (const Argument *)arguments, std::make_index_sequence<This::COUNT>());
    });
}

} // namespace host

inline float __shfl_xor_sync(unsigned mask, float value, int step) {
    if (mask != 0xffffffffu) host::fail("a shuffle of part of a warp");
    const unsigned lane = host::current % host::LANES;
    return __uint_as_float((unsigned)host::exchange(__float_as_uint(value), lane ^ (unsigned)step));
}
