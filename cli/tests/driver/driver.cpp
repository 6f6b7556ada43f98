// A stand-in for libcuda, libnvrtc and libcublasLt: a device made of the CPU, strict about how it is called.
//
// Kernels are compiled as C++ with KERNEL_OPTIONS behind the header that the kernels' own tests have (HOST_HEADER, with
// fibres for threads), products are plain loops. Streams are as late as they may be: work on one is done when somebody waits for it, and an event
// only brings what was put on its stream before it was recorded. So a copy that nothing waits for is missing, and memory
// that is used again too early holds the wrong values.
//
// What a driver would refuse is refused, and what it would corrupt ends the program with a message: copies outside of an
// allocation, calls that a capture does not allow, memory that is freed under work that is still to be done, or twice.
// A stream is its thread's: what another thread has still to do keeps nobody from freeing memory.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#define API extern "C" __attribute__((visibility("default")))

namespace {

enum : int { OK = 0, INVALID = 1, OUT_OF_MEMORY = 2, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

// Calls come from any thread.
std::recursive_mutex lock;
#define LOCKED std::lock_guard<std::recursive_mutex> guard(lock)

[[noreturn]] void fail(const std::string &what) {
    fprintf(stderr, "stand-in driver: %s\n", what.c_str());
    _exit(4);
}

constexpr size_t MEMORY = size_t(1) << 30;
size_t used = 0;
std::map<uintptr_t, size_t> device_memory, locked_memory;

void check(const std::map<uintptr_t, size_t> &memory, const void *start, size_t bytes, const char *what) {
    auto after = memory.upper_bound((uintptr_t)start);
    if (after != memory.begin()) {
        auto [from, length] = *std::prev(after);
        if ((uintptr_t)start + bytes <= from + length) return;
    }
    fail(std::string(what) + " outside of an allocation");
}

struct Stream;

struct Event {
    uint64_t recorded = 0, happened = 0;
    Stream *stream = nullptr;
};

struct Work {
    std::function<void()> run;
    Event *wait = nullptr, *record = nullptr;
    uint64_t count = 0;
};

struct Stream {
    std::deque<Work> queue;
    const std::thread::id owner = std::this_thread::get_id();
    bool capturing = false, capturing_for_all = false, spoilt = false;
    std::vector<std::function<void()>> captured;
};

std::vector<Stream *> streams;

void until(Event *event, uint64_t count);

void advance(Stream *stream) {
    Work work = stream->queue.front();
    if (work.wait) until(work.wait, work.count);
    stream->queue.pop_front();
    if (work.run) work.run();
    if (work.record) work.record->happened = work.count;
}

void until(Event *event, uint64_t count) {
    while (event->happened < count) {
        if (event->stream->queue.empty()) fail("an event that never happens");
        advance(event->stream);
    }
}

// Whether this thread is kept from what a capture does not allow: by one of its own, or by one that is for all threads.
bool capturing() {
    for (Stream *stream : streams)
        if (stream->capturing && (stream->capturing_for_all || stream->owner == std::this_thread::get_id())) return true;
    return false;
}

int spoil(Stream *stream) {
    stream->spoilt = stream->capturing;
    return CAPTURE_UNSUPPORTED;
}

int put(Stream *stream, std::function<void()> run) {
    if (stream->capturing) stream->captured.push_back(std::move(run));
    else stream->queue.push_back(Work{std::move(run)});
    return OK;
}

bool idle() {
    for (Stream *stream : streams)
        if (stream->owner == std::this_thread::get_id() && !stream->queue.empty()) return false;
    return true;
}

typedef int (*Launch)(const char *, const unsigned *, unsigned, const uint64_t *);
typedef int (*Count)(const char *);

struct Module {
    void *library;
    Launch launch;
    Count count;
};

struct Function {
    Module *module;
    std::string name;
    int arguments;
};

} // namespace

// ---- the driver: devices, contexts, memory ------------------------------------------------------------------------------

API int cuInit(unsigned) { return OK; }
API int cuDriverGetVersion(int *version) {
    const char *asked = getenv("STAND_IN_DRIVER_VERSION");
    return *version = asked ? atoi(asked) : 13000, OK;
}
API int cuDeviceGetCount(int *count) { return *count = 1, OK; }
API int cuDeviceGet(int *device, int ordinal) { return ordinal == 0 ? (*device = 0, OK) : 101; }
API int cuDeviceGetName(char *name, int length, int) { return snprintf(name, length, "stand-in"), OK; }
API int cuDeviceTotalMem_v2(size_t *bytes, int) { return *bytes = MEMORY, OK; }
API int cuDeviceGetAttribute(int *value, int attribute, int) {
    *value = attribute == 75 ? 9 : 0; // the major number of the compute capability; the minor one and all else are 0
    return OK;
}
API int cuDevicePrimaryCtxRetain(void **context, int) { return *context = &device_memory, OK; }
API int cuDevicePrimaryCtxRelease_v2(int) { return OK; }
static thread_local void *current = nullptr;
API int cuCtxSetCurrent(void *context) { return current = context, OK; }
API int cuCtxGetCurrent(void **context) { return *context = current, OK; }
API int cuMemGetInfo_v2(size_t *free, size_t *total) {
    LOCKED;
    return *free = MEMORY - used, *total = MEMORY, OK;
}

static int allocate(std::map<uintptr_t, size_t> &memory, void **start, size_t bytes) {
    LOCKED;
    if (capturing()) return CAPTURE_UNSUPPORTED;
    if (!current || bytes == 0) return INVALID;
    *start = aligned_alloc(256, (bytes + 255) / 256 * 256);
    if (!*start) return OUT_OF_MEMORY;
    memset(*start, 0xff, bytes); // NaN, whatever the type
    memory[(uintptr_t)*start] = bytes;
    return OK;
}
static int release(std::map<uintptr_t, size_t> &memory, void *start) {
    LOCKED;
    if (!idle()) fail("memory is freed while there is work to do");
    if (memory.erase((uintptr_t)start) != 1) fail("memory is freed that was not allocated");
    return free(start), OK;
}
API int cuMemAlloc_v2(void **start, size_t bytes) {
    LOCKED;
    if (bytes > MEMORY - used) return OUT_OF_MEMORY;
    const int result = allocate(device_memory, start, bytes);
    if (result == OK) used += bytes;
    return result;
}
API int cuMemFree_v2(void *start) {
    LOCKED;
    used -= device_memory.count((uintptr_t)start) ? device_memory[(uintptr_t)start] : 0;
    return release(device_memory, start);
}
API int cuMemHostAlloc(void **start, size_t bytes, unsigned) { return allocate(locked_memory, start, bytes); }
API int cuMemFreeHost(void *start) { return release(locked_memory, start); }

API int cuMemcpyHtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    LOCKED;
    check(device_memory, to, bytes, "a copy to the device");
    return put(stream, [=] { memcpy(to, from, bytes); });
}
API int cuMemcpyDtoHAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    LOCKED;
    check(device_memory, from, bytes, "a copy from the device");
    return put(stream, [=] { memcpy(to, from, bytes); });
}
API int cuMemcpyDtoDAsync_v2(void *to, const void *from, size_t bytes, Stream *stream) {
    LOCKED;
    check(device_memory, to, bytes, "a copy within the device");
    check(device_memory, from, bytes, "a copy within the device");
    return put(stream, [=] { memcpy(to, from, bytes); });
}
API int cuMemsetD8Async(void *start, unsigned char value, size_t bytes, Stream *stream) {
    LOCKED;
    check(device_memory, start, bytes, "memory set");
    return put(stream, [=] { memset(start, value, bytes); });
}

// ---- streams, events, graphs --------------------------------------------------------------------------------------------

API int cuStreamCreate(Stream **stream, unsigned) {
    LOCKED;
    streams.push_back(*stream = new Stream);
    return OK;
}
API int cuStreamDestroy_v2(Stream *stream) {
    LOCKED;
    if (!stream->queue.empty()) fail("a stream is destroyed that has work to do");
    std::erase(streams, stream);
    return delete stream, OK;
}
API int cuStreamSynchronize(Stream *stream) {
    LOCKED;
    if (stream->capturing) return spoil(stream);
    while (!stream->queue.empty()) advance(stream);
    return OK;
}
// Refused even if no other thread captures now: whoever calls it cannot know.
API int cuCtxSynchronize() {
    LOCKED;
    for (Stream *stream : streams) spoil(stream);
    return CAPTURE_UNSUPPORTED;
}
API int cuStreamWaitEvent(Stream *stream, Event *event, unsigned) {
    LOCKED;
    if (stream->capturing) return CAPTURE_UNSUPPORTED;
    stream->queue.push_back(Work{nullptr, event, nullptr, event->recorded});
    return OK;
}
API int cuEventCreate(Event **event, unsigned) { return *event = new Event, OK; }
API int cuEventDestroy_v2(Event *event) {
    LOCKED;
    if (!idle()) fail("an event is destroyed while there is work to do");
    return delete event, OK;
}
API int cuEventElapsedTime_v2(float *milliseconds, Event *, Event *) { return *milliseconds = 1, OK; }
API int cuEventRecord(Event *event, Stream *stream) {
    LOCKED;
    if (stream->capturing) return CAPTURE_UNSUPPORTED;
    event->stream = stream;
    stream->queue.push_back(Work{nullptr, nullptr, event, ++event->recorded});
    return OK;
}
API int cuEventSynchronize(Event *event) {
    LOCKED;
    return until(event, event->recorded), OK;
}
API int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    {
        LOCKED;
        if (stream->capturing) return INVALID;
        stream->capturing = true, stream->capturing_for_all = mode == 0, stream->spoilt = false;
        stream->captured.clear();
    }
    return usleep(2000), OK; // time for other threads to come in between
}
API int cuStreamEndCapture(Stream *stream, std::vector<std::function<void()>> **graph) {
    LOCKED;
    if (!stream->capturing) return INVALID;
    stream->capturing = false;
    if (stream->spoilt) return CAPTURE_INVALIDATED;
    return *graph = new auto(std::move(stream->captured)), OK;
}
API int cuGraphInstantiateWithFlags(void **instance, std::vector<std::function<void()>> *graph, unsigned long long) {
    return *instance = new auto(*graph), OK;
}
API int cuGraphDestroy(std::vector<std::function<void()>> *graph) { return delete graph, OK; }
API int cuGraphExecDestroy(std::vector<std::function<void()>> *instance) {
    LOCKED;
    if (!idle()) fail("a graph is destroyed while there is work to do");
    return delete instance, OK;
}
API int cuGraphLaunch(std::vector<std::function<void()>> *instance, Stream *stream) {
    LOCKED;
    if (stream->capturing) return CAPTURE_UNSUPPORTED;
    return put(stream, [=] {
        for (auto &run : *instance) run();
    });
}

// ---- modules and kernels ------------------------------------------------------------------------------------------------

// An image is its length in eight bytes, and a shared library.
API int cuModuleLoadData(Module **module, const char *image) {
    LOCKED;
    if (capturing()) return CAPTURE_UNSUPPORTED;
    uint64_t length;
    memcpy(&length, image, sizeof length);
    const int file = memfd_create("kernels", 0);
    if (file < 0 || write(file, image + sizeof length, length) != (ssize_t)length) return OUT_OF_MEMORY;
    void *library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) fail(dlerror());
    // Left open: a library is known by its path, and the next one must have another.
    *module = new Module{library, (Launch)dlsym(library, "host_launch"), (Count)dlsym(library, "host_count")};
    return OK;
}
API int cuModuleUnload(Module *module) { return delete module, OK; }
API int cuModuleGetFunction(Function **function, Module *module, const char *name) {
    const int count = module->count(name);
    if (count < 0) return NOT_FOUND;
    return *function = new Function{module, name, count}, OK; // as long as the process: there are few
}
API int cuLaunchKernel(Function *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned, unsigned,
                       unsigned, Stream *stream, void **parameters, void **) {
    LOCKED;
    std::vector<uint64_t> words(function->arguments);
    for (int at = 0; at < function->arguments; at++) memcpy(&words[at], parameters[at], sizeof words[at]);
    return put(stream, [=] {
        const unsigned grid[3] = {x, y, z};
        if (function->module->launch(function->name.c_str(), grid, threads, words.data()) != 0) fail("no such kernel");
    });
}

// ---- the compiler -------------------------------------------------------------------------------------------------------

namespace {

struct Program {
    std::string text, image, log;
};

std::string read_file(const std::string &path) {
    std::string text;
    FILE *file = fopen(path.c_str(), "rb");
    if (!file) return text;
    char part[1 << 16];
    for (size_t length; (length = fread(part, 1, sizeof part, file)) > 0;) text.append(part, length);
    fclose(file);
    return text;
}

void write_file(const std::string &path, const std::string &text) {
    FILE *file = fopen(path.c_str(), "wb");
    if (!file || fwrite(text.data(), 1, text.size(), file) != text.size()) fail("cannot write " + path);
    fclose(file);
}

// The names of the kernels that a preprocessed file defines, which it marks.
std::vector<std::string> kernels(const std::string &text) {
    std::vector<std::string> names;
    const std::string mark = "KERNEL_HERE";
    for (size_t at = text.find(mark); at != std::string::npos; at = text.find(mark, at + 1)) {
        const size_t end = text.find('(', at), last = text.find_last_not_of(" \n\t", end - 1);
        const size_t first = text.find_last_of(" \n\t", last);
        names.push_back(text.substr(first + 1, last - first));
    }
    return names;
}

} // namespace

API int nvrtcVersion(int *major, int *minor) { return *major = 12, *minor = 0, OK; }
API int nvrtcGetNumSupportedArchs(int *count) { return *count = 1, OK; }
API int nvrtcGetSupportedArchs(int *known) { return *known = 90, OK; }
API const char *nvrtcGetErrorString(int) { return "the stand-in compiler failed"; }
API int nvrtcCreateProgram(Program **program, const char *text, const char *, int, const char **, const char **) {
    return *program = new Program{text, "", ""}, OK;
}
API int nvrtcDestroyProgram(Program **program) { return delete *program, OK; }
API int nvrtcCompileProgram(Program *program, int count, const char **options) {
    char folder[] = "/tmp/stand-in-XXXXXX";
    if (!mkdtemp(folder)) return INVALID;
    const std::string base = folder;
    // The header has names of its own, so the constants come behind it.
    std::string constants;
    for (int at = 0; at < count; at++) {
        const std::string option = options[at];
        const size_t equals = option.find('=');
        if (option.compare(0, 2, "-D") != 0 || equals == std::string::npos) continue;
        constants += "#define " + option.substr(2, equals - 2) + " " + option.substr(equals + 1) + "\n";
    }
    const std::string errors = " 2> " + base + "/log";
    write_file(base + "/marked.cpp", constants + program->text);
    int failed = system(("g++ -E -P '-D__global__=KERNEL_HERE' '-D__launch_bounds__(...)=' " + base +
                         "/marked.cpp -o " + base + "/marked.i" + errors).c_str());
    std::string text = "#include \"" HOST_HEADER "\"\n" + constants + program->text + "\nnamespace {\nstruct Names {\n    Names() {\n";
    for (const std::string &name : kernels(read_file(base + "/marked.i"))) {
        text += "        host::add<" + name + ">(\"" + name + "\");\n";
    }
    write_file(base + "/kernels.cpp", text + "    }\n} names;\n}\n");
    failed = failed ? failed : system(("g++ -shared " KERNEL_OPTIONS " " + base + "/kernels.cpp " HOST_OBJECT " -o " + base + "/kernels.so" + errors).c_str());
    const std::string library = read_file(base + "/kernels.so");
    const uint64_t length = library.size();
    program->image = std::string((const char *)&length, sizeof length) + library;
    program->log = read_file(base + "/log");
    (void)!system(("rm -r " + base).c_str());
    return failed || length == 0 ? 6 : OK;
}
API int nvrtcGetProgramLogSize(Program *program, size_t *bytes) { return *bytes = program->log.size() + 1, OK; }
API int nvrtcGetProgramLog(Program *program, char *log) { return strcpy(log, program->log.c_str()), OK; }
API int nvrtcGetCUBINSize(Program *program, size_t *bytes) { return *bytes = program->image.size(), OK; }
API int nvrtcGetCUBIN(Program *program, char *image) {
    return memcpy(image, program->image.data(), program->image.size()), OK;
}

// ---- products -----------------------------------------------------------------------------------------------------------

namespace {

enum { R_32F = 0, R_16BF = 14 };
enum { NOT_SUPPORTED = 15, INVALID_VALUE = 7 };

struct Description {
    int transposed[2] = {0, 0}, epilogue = 1;
    const void *bias = nullptr;
};

struct Layout {
    int type;
    uint64_t rows, columns;
    int64_t stride;
};

float read_value(const void *from, int type, size_t at) {
    if (type == R_32F) return ((const float *)from)[at];
    const uint32_t bits = (uint32_t)((const uint16_t *)from)[at] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

void write_value(void *to, int type, size_t at, float value) {
    if (type == R_32F) {
        ((float *)to)[at] = value;
        return;
    }
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    ((uint16_t *)to)[at] = value != value ? 0x7fff : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

size_t bytes_of(const Layout &layout) {
    return (layout.stride * (layout.columns - 1) + layout.rows) * (layout.type == R_32F ? 4 : 2);
}

} // namespace

API size_t cublasLtGetVersion() { return 120000; }
API int cublasLtCreate(void **handle) { return *handle = &streams, OK; }
API int cublasLtDestroy(void *) { return OK; }
API int cublasLtMatmulDescCreate(Description **description, int, int) { return *description = new Description, OK; }
API int cublasLtMatmulDescDestroy(Description *description) { return delete description, OK; }
API int cublasLtMatmulDescSetAttribute(Description *description, int attribute, const void *value, size_t bytes) {
    if (attribute == 8 && bytes == 8) return memcpy(&description->bias, value, 8), OK;
    if (bytes != 4) return INVALID_VALUE;
    if (attribute == 3 || attribute == 4) return memcpy(&description->transposed[attribute - 3], value, 4), OK;
    if (attribute == 7) return memcpy(&description->epilogue, value, 4), OK;
    return NOT_SUPPORTED;
}
API int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    if ((type != R_32F && type != R_16BF) || rows == 0 || columns == 0 || stride < (int64_t)rows) return INVALID_VALUE;
    return *layout = new Layout{type, rows, columns, stride}, OK;
}
API int cublasLtMatrixLayoutDestroy(Layout *layout) { return delete layout, OK; }
API int cublasLtMatmulPreferenceCreate(void **preference) { return *preference = new int(0), OK; }
API int cublasLtMatmulPreferenceSetAttribute(void *, int, const void *, size_t) { return OK; }
API int cublasLtMatmulPreferenceDestroy(int *preference) { return delete preference, OK; }

// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
    uint64_t algorithm[8];
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
};

API int cublasLtMatmulAlgoGetHeuristic(void *, const Description *description, const Layout *a, const Layout *b,
                                       const Layout *c, const Layout *d, void *, int wanted, Heuristic *results,
                                       int *found) {
    const bool ta = description->transposed[0], tb = description->transposed[1];
    const uint64_t rows = ta ? a->columns : a->rows, inner = ta ? a->rows : a->columns;
    const bool fits = inner == (tb ? b->columns : b->rows) && d->rows == rows && d->columns == (tb ? b->rows : b->columns);
    if (!fits || c->rows != d->rows || c->columns != d->columns || a->type != b->type || wanted < 1) return INVALID_VALUE;
    if (description->epilogue != 1 && description->epilogue != 4) return NOT_SUPPORTED;
    // A bias where a size is 1: some versions of the library have no algorithm, and one may do without it anywhere.
    if (description->epilogue == 4 && (rows == 1 || inner == 1 || d->columns == 1)) return NOT_SUPPORTED;
    memset(results, 0, sizeof *results);
    return *found = 1, OK;
}

// Column-major: D = alpha A B + beta C, with the bias on rows.
API int cublasLtMatmul(void *, const Description *description, const float *alpha, const void *a, const Layout *la,
                       const void *b, const Layout *lb, const float *beta, const void *c, const Layout *lc, void *d,
                       const Layout *ld, const void *, void *workspace, size_t workspace_bytes, Stream *stream) {
    LOCKED;
    check(device_memory, a, bytes_of(*la), "a factor");
    check(device_memory, b, bytes_of(*lb), "a factor");
    check(device_memory, c, bytes_of(*lc), "a product");
    check(device_memory, d, bytes_of(*ld), "a product");
    check(device_memory, workspace, workspace_bytes, "scratch memory");
    const Description how = *description;
    const Layout A = *la, B = *lb, C = *lc, D = *ld;
    const float one = *alpha, add = *beta;
    return put(stream, [=] {
        const uint64_t inner = how.transposed[0] ? A.rows : A.columns;
        std::vector<double> left(inner * D.rows), sums(D.rows);
        for (uint64_t at = 0; at < inner; at++) {
            for (uint64_t row = 0; row < D.rows; row++) {
                const size_t from = how.transposed[0] ? row * A.stride + at : at * A.stride + row;
                left[at * D.rows + row] = read_value(a, A.type, from);
            }
        }
        for (uint64_t column = 0; column < D.columns; column++) {
            sums.assign(D.rows, 0.0);
            for (uint64_t at = 0; at < inner; at++) {
                const size_t from = how.transposed[1] ? at * B.stride + column : column * B.stride + at;
                const double right = read_value(b, B.type, from);
                for (uint64_t row = 0; row < D.rows; row++) sums[row] += left[at * D.rows + row] * right;
            }
            for (uint64_t row = 0; row < D.rows; row++) {
                double sum = sums[row] * one;
                if (add != 0.0f) sum += (double)add * (double)read_value(c, C.type, column * C.stride + row);
                if (how.epilogue == 4) sum += (double)read_value(how.bias, D.type, row);
                write_value(d, D.type, column * D.stride + row, (float)sum);
            }
        }
    });
}
