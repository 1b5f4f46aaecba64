// simt.h -- CUDA on a CPU, for tests without a GPU: what a .cu file sees when the host compiler
// compiles it. The kernels and their launch code are the product's own; every load and store is
// observed through the compiler's -fsanitize=thread hooks, which the runtime defines itself.
//
//   simt_numeric.h  bit casts, bfloat16, byte and logic instructions: plain functions
//   simt_device.h   threads, shared memory, barriers, warps, asynchronous copies, matrix units
//   simt_host.h     the subset of the CUDA runtime API that launch code uses
//
// Limits: no timing, no divergence cost, sequentially consistent memory (weak memory shows only
// through the race rules of race.cpp), one host thread at a time inside the emulator.
#pragma once
#include "simt_numeric.h"
#include "simt_device.h"
#include "simt_host.h"

#include <cstdio> // nvcc brings these three, too
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <type_traits>

namespace simt
{
// Which thread runs next when one blocks; the order of blocks follows.
enum Sched {
    FORWARD,  // the next ready thread, cyclic
    REVERSE,  // the previous one, cyclic
    WARP,     // the lowest ready thread
    WARP_REV, // the highest
    RANDOM,   // any, by Config::seed and the launch's number
    N_SCHED
};
extern const char *const sched_names[N_SCHED];

// What memory and the units did; requests are those of whole warps, as the hardware would issue.
struct Stats {
    uint64_t ld_req, ld_bytes, ld_sec, st_req, st_bytes, st_sec; // global: requests, bytes, sectors
    uint64_t uniq_ld_sec, uniq_st_sec; // sectors touched at least once: the floor of DRAM traffic
    uint64_t atom;                     // atomic operations of single lanes
    uint64_t sld_req, sld_wave, sld_ideal; // shared loads: requests, wavefronts, without conflicts
    uint64_t sst_req, sst_wave, sst_ideal; // shared stores
    uint64_t local;                        // accesses of a thread's own stack
    uint64_t bars, syncwarp, shfl, mma, ldm;
    uint64_t cp_bytes, tma_bytes; // read by cp.async and by bulk tensor copies
    uint64_t hooks, switches, threads;
};

struct Config {
    int sched = FORWARD;
    unsigned seed = 1;
    int race = 1, count = 1; // the two costly checks
    int preempt = 0;         // also switch inside accesses, every n or so
    int resident = 1;        // blocks alive together (grid barriers, spinning across blocks)
    int quiet = 0;
    int protect = 1;                // device memory is PROT_NONE while host code runs
    int max_errors = 2000;          // a launch with more is ended
    unsigned max_yields = 20000000; // in a row by threads that spin; more is for ever
    size_t memory_limit = 0;        // bytes cudaMalloc gives out at one time; 0: all there is
    int libraries = 1;              // gpu_library finds what there are stand-ins for
    int sm = 90;                    // compute capability of the device, 10 major + minor
};

extern Config cfg;
// "NAME[:SEED[:PREEMPT]]" into cfg's sched, seed and preempt, as if new where they are not named;
// nullptr: all of them. False: it is none of that, and cfg stays as it was.
bool set_schedule(const char *text);
extern Stats last, total; // of the last launch, of all launches

int errors();                // how many since the last reset
const char *first_error();   // kind of the first one, "" if none
const char *first_message(); // its sentence, with the source line unless cfg.quiet
const char *error_kinds();   // all kinds seen, in order, separated by commas
void reset_errors();

struct Kernel {
    const void *fn;
    const char *name;
    dim3 grid, block;
    size_t smem;                              // bytes of dynamic shared memory
    void (*call)(const void *fn, void *args); // unpacks args
    void *args;                               // readable by the kernel, not writable
    void (*release)(void *args);
    size_t args_bytes;
};
cudaError_t enqueue(cudaStream_t s, const Kernel &k); // takes over k.args

template <class... P, class... A>
inline cudaError_t launch_named(const char *name, void (*fn)(P...), dim3 grid, dim3 block,
                                size_t smem, cudaStream_t s, A &&...a)
{
    using Args = std::tuple<std::decay_t<P>...>;
    const auto call = [](const void *f, void *args) {
        std::apply((void (*)(P...))f, *static_cast<Args *>(args));
    };
    const auto release = [](void *args) { delete static_cast<Args *>(args); };
    return enqueue(s, Kernel{(const void *)fn, name, grid, block, smem, call,
                             new Args(static_cast<P>(a)...), release, sizeof(Args)});
}
} // namespace simt

// launch(kernel, grid, block, smem, stream, args...); variadic, as template arguments hold commas
#define launch(...) simt::launch_named(#__VA_ARGS__, __VA_ARGS__)
