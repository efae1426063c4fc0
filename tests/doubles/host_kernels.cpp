// engines/sampling/kernels.cu compiled for the CPU: every thread of a launch, one after the other.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#define __global__
#define __device__
using std::max;
using std::min;

struct Place { int x; };
static Place blockIdx, threadIdx, blockDim;

static int atomicAdd(int* address, int value) {
    const int before = *address;
    *address += value;
    return before;
}

static unsigned short to_half(float value) {
    const _Float16 half = (_Float16)value;
    unsigned short bits;
    __builtin_memcpy(&bits, &half, 2);
    return bits;
}

#include KERNELS

// As cuLaunchKernel has it: `arguments` points to each argument.
template <typename... Types, std::size_t... At>
static void call(void (*kernel)(Types...), void** arguments, int blocks, int threads, std::index_sequence<At...>) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) kernel(*static_cast<Types*>(arguments[At])...);
}

template <typename... Types>
static void call(void (*kernel)(Types...), void** arguments, int blocks, int threads) {
    call(kernel, arguments, blocks, threads, std::index_sequence_for<Types...>());
}

#define EXPORT(name) \
    extern "C" void launch_##name(int blocks, int threads, void** arguments) { call(name, arguments, blocks, threads); }
EXPORT(pyramid)
EXPORT(crops)
EXPORT(chips)
EXPORT(candidates)
