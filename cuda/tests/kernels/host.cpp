// The threads, the memory and the requests behind `host.hpp`: compiled once, linked with every kernel.

#include "host.hpp"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

Index threadIdx, blockIdx, blockDim, gridDim;

// So that there is a section even if a kernel has no shared memory.
static float host_shared_anchor __attribute__((section("shared_memory"), used));
extern "C" char __start_shared_memory[], __stop_shared_memory[];

namespace host {

enum State { READY, AT_BARRIER, AT_SHUFFLE, DONE };

constexpr size_t STACK = 64 << 10;

struct Fibre {
    State state;
    int line;
    uint64_t given;
    ucontext_t start;
    jmp_buf resume;
    bool started;
};

static std::vector<Fibre> fibres;
static std::unique_ptr<char[]> stacks;
static ucontext_t home;
static jmp_buf home_jump;
unsigned current;
static void (*body)(void *);
static void *body_arguments;

[[noreturn]] void fail(const char *what) {
    fprintf(stderr, "%s; block (%u, %u, %u), thread %u\n", what, blockIdx.x, blockIdx.y, blockIdx.z, current);
    _exit(3);
}

static __attribute__((noinline)) void give_up() {
    if (_setjmp(fibres[current].resume) == 0) _longjmp(home_jump, 1);
}

static void wait(State state, int line) {
    fibres[current].state = state;
    fibres[current].line = line;
    give_up();
}

void barrier(int line) { wait(AT_BARRIER, line); }

uint64_t exchange(uint64_t bits, unsigned from) {
    const unsigned first = current / LANES * LANES;
    fibres[current].given = bits;
    wait(AT_SHUFFLE, -1);
    const uint64_t taken = fibres[first + from].given;
    wait(AT_SHUFFLE, -2); // nobody may give again before all have taken
    return taken;
}

// A fibre runs its thread of one block after another: to make one costs two calls of the system.
static void enter() {
    for (;;) {
        body(body_arguments);
        fibres[current].state = DONE;
        give_up();
    }
}

static __attribute__((noinline)) void resume(unsigned thread) {
    current = thread;
    threadIdx = Index{thread, 0, 0};
    Fibre &fibre = fibres[thread];
    if (_setjmp(home_jump) != 0) return;
    if (fibre.started) _longjmp(fibre.resume, 1);
    fibre.started = true;
    getcontext(&fibre.start);
    fibre.start.uc_stack.ss_sp = stacks.get() + thread * STACK;
    fibre.start.uc_stack.ss_size = STACK;
    fibre.start.uc_link = &home;
    makecontext(&fibre.start, enter, 0);
    setcontext(&fibre.start);
}

// Lets a warp, or the block if `first` is 0 and `count` its size, go on if all of it waits at the same place.
static bool release(unsigned first, unsigned count, State state) {
    for (unsigned thread = first; thread < first + count; thread++) {
        if (fibres[thread].state != state) return false;
        if (fibres[thread].line != fibres[first].line) {
            current = thread;
            fail("threads wait at different places");
        }
    }
    for (unsigned thread = first; thread < first + count; thread++) fibres[thread].state = READY;
    return true;
}

// 0: ascending; 1: descending; 2: odd strides.
static unsigned ordered(unsigned at, unsigned count, unsigned order) {
    switch (order) {
    case 0: return at;
    case 1: return count - 1 - at;
    default: {
        unsigned stride = 7;
        while (std::gcd(stride, count) != 1) stride += 2; // so that everything has its turn
        return (unsigned)(((uint64_t)at * stride + 3) % count);
    }
    }
}

// Runs a warp until all of it waits at a barrier or has ended; whether anything ran.
static bool run_warp(unsigned first, unsigned order) {
    bool any = false;
    for (;;) {
        for (unsigned at = 0; at < LANES; at++) {
            const unsigned thread = first + ordered(at, LANES, order);
            if (fibres[thread].state == READY) resume(thread), any = true;
        }
        if (!release(first, LANES, AT_SHUFFLE)) return any;
    }
}

// A warp goes as far as it can before the next one starts: what another warp should have written before is not there.
static void run_block(unsigned threads, unsigned order) {
    memset(__start_shared_memory, 0xff, __stop_shared_memory - __start_shared_memory);
    for (Fibre &fibre : fibres) fibre.state = READY;
    const unsigned warps = threads / LANES;
    for (;;) {
        bool ran = false;
        for (unsigned at = 0; at < warps; at++) ran |= run_warp(ordered(at, warps, order) * LANES, order);
        unsigned done = 0;
        for (const Fibre &fibre : fibres) done += fibre.state == DONE;
        if (done == threads) return;
        if (!release(0, threads, AT_BARRIER) && !ran) fail("a barrier or a shuffle that not all threads reach");
    }
}

static void run_grid(Index grid, unsigned threads, unsigned order) {
    if (threads % LANES != 0 || threads > 1024) fail("a block is whole warps, and 1024 threads at most");
    if (grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) fail("the grid is too large");
    fibres.assign(threads, Fibre());
    stacks.reset(new char[threads * STACK]); // not filled: a block of 1024 needs 64 MB, and touches little of it
    gridDim = grid;
    blockDim = Index{threads, 1, 1};
    const unsigned blocks = grid.x * grid.y * grid.z;
    for (unsigned at = 0; at < blocks; at++) {
        const unsigned block = ordered(at, blocks, order);
        blockIdx = Index{block % grid.x, block / grid.x % grid.y, block / grid.x / grid.y};
        run_block(threads, order);
    }
}

// A buffer of global memory.
struct Buffer {
    static constexpr size_t MARGIN = 64;
    static constexpr unsigned char FILL = 0xff; // NaN, whatever the type
    char *data;
    size_t bytes;

    explicit Buffer(size_t bytes) : bytes(bytes) {
        const size_t page = (size_t)sysconf(_SC_PAGESIZE);
        const size_t inside = (bytes + 15) / 16 * 16; // keeps the start aligned
        const size_t whole = (inside + MARGIN + page - 1) / page * page;
        char *map = (char *)mmap(nullptr, whole + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (map == MAP_FAILED || mprotect(map + whole, page, PROT_NONE) != 0) fail("no memory");
        memset(map, FILL, whole);
        data = map + whole - inside;
    }

    bool margins_whole() const {
        for (size_t at = 1; at <= MARGIN; at++) {
            if ((unsigned char)data[-(std::ptrdiff_t)at] != FILL) return false;
        }
        for (size_t at = bytes; at < (bytes + 15) / 16 * 16; at++) {
            if ((unsigned char)data[at] != FILL) return false;
        }
        return true;
    }
};

static void read_all(void *to, size_t bytes) {
    if (fread(to, 1, bytes, stdin) != bytes) fail("the request ends early");
}
template <class T> static T read() {
    T value;
    read_all(&value, sizeof value);
    return value;
}

struct Kernel {
    std::string name;
    size_t arguments;
    void (*run)(void *);
};

// Not an object of the file: others are made before it, and add to it.
static std::vector<Kernel> &kernels() {
    static std::vector<Kernel> all;
    return all;
}

void add(const char *name, size_t arguments, void (*run)(void *)) {
    kernels().push_back(Kernel{name, arguments, run});
}

// The request on standard input: grid (3), threads, order; buffers: length in bytes, contents; arguments: kind (0 an
// integer, 1 a float's bits, 2 a buffer, 3 null), value or index of the buffer. The answer: the buffers' contents.
int serve(const char *name) {
    Index grid;
    grid.x = read<uint32_t>(), grid.y = read<uint32_t>(), grid.z = read<uint32_t>();
    const unsigned threads = read<uint32_t>(), order = read<uint32_t>();
    std::vector<Buffer> buffers;
    for (uint32_t left = read<uint32_t>(); left > 0; left--) {
        buffers.emplace_back(read<uint64_t>());
        read_all(buffers.back().data, buffers.back().bytes);
    }
    std::vector<Argument> arguments(read<uint32_t>());
    for (Argument &argument : arguments) {
        switch (read<uint32_t>()) {
        case 0: argument.integer = read<int32_t>(); break;
        case 1: argument.real = read<float>(); break;
        case 2: argument.pointer = buffers.at(read<uint32_t>()).data; break;
        default: argument.pointer = nullptr;
        }
    }
    for (const Kernel &kernel : kernels()) {
        if (kernel.name != name) continue;
        if (kernel.arguments != arguments.size()) fail("another number of arguments than the kernel takes");
        body = kernel.run;
        body_arguments = arguments.data();
        run_grid(grid, threads, order);
        for (const Buffer &buffer : buffers) {
            if (!buffer.margins_whole()) fail("a write outside of a buffer");
            fwrite(buffer.data, 1, buffer.bytes, stdout);
        }
        return 0;
    }
    fail("no such kernel");
}

} // namespace host
