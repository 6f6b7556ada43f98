// By what `driver.cpp` calls the kernels of a module: compiled once, linked with each of them.

#include "host.cpp"

extern "C" __attribute__((visibility("default"))) int host_count(const char *name) {
    for (const host::Kernel &kernel : host::kernels())
        if (kernel.name == name) return (int)kernel.arguments;
    return -1;
}
extern "C" __attribute__((visibility("default"))) int host_launch(const char *name, const unsigned *grid,
                                                                  unsigned threads, const uint64_t *words) {
    for (const host::Kernel &kernel : host::kernels()) {
        if (kernel.name != name) continue;
        std::vector<host::Argument> arguments(kernel.arguments);
        for (size_t at = 0; at < kernel.arguments; at++) memcpy(&arguments[at], &words[at], sizeof words[at]);
        host::body = kernel.run;
        host::body_arguments = arguments.data();
        host::run_grid(Index{grid[0], grid[1], grid[2]}, threads, 2);
        return 0;
    }
    return 1;
}
