// simt_runtime.h -- what the files of the emulator share; no .cu file includes it. The runtime is
// never compiled with -fsanitize=thread.
//
//   memory.cpp   the device address space and its shadows    report.cpp   errors and their place
//   fibre.cpp    one fibre per CUDA thread, schedules        launch.cpp   blocks of a launch
//   check.cpp    the compiler's hooks, states of bytes       race.cpp     happens-before, atomics
//   count.cpp    requests, sectors, bank conflicts           host.cpp     streams, copies, graphs
//   warp.cpp     barriers, shuffles and votes                matrix.cpp   ldmatrix, mma
//   async.cpp    cp.async, mbarrier, TMA                     wgmma.cpp    warp-group mma
//   cublaslt.cpp stand-in for a library
#pragma once
#include "simt.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>
#if !defined(__x86_64__) && !defined(SIMT_UCONTEXT)
#define SIMT_UCONTEXT
#endif
#ifdef SIMT_UCONTEXT
#include <ucontext.h>
#endif

#pragma GCC visibility push(hidden)
#define PC __builtin_return_address(0)

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef uintptr_t uptr;

namespace simt
{
// ---- memory.cpp: one reserved range [shared arenas | heap | pinned], shadows beside it
constexpr u64 kSpaceBytes = 4ull << 30;
constexpr u64 kArenaBytes = 256 << 10; // shared memory of one block
constexpr u32 kMaxResident = 256;      // blocks alive together, so arenas
constexpr u64 kHeap = kArenaBytes * kMaxResident;
constexpr u64 kPinned = 3ull << 30;
constexpr u32 kMaxThreads = 32768; // alive together, so stacks
constexpr size_t kStackBytes = 64 << 10;
constexpr size_t kPage = 4096;

enum State : u8 { kNone = 0, kUnwritten = 1, kValid = 2, kInFlight = 3 }; // of a byte

struct Race { // of a 4-byte word; records as race.cpp packs them
    u64 write[2], read[2];
};

struct Space {
    char *base = nullptr;
    u8 *state = nullptr;                               // [kSpaceBytes]
    Race *race = nullptr;                              // [kSpaceBytes / 4]
    u32 *load_stamp = nullptr, *store_stamp = nullptr; // [kSpaceBytes / 32] last launch to touch it
    char *stacks = nullptr;
    u64 heap_top = kHeap, pinned_top = kPinned; // addresses are never used twice
    u64 live_bytes = 0;
    int n_open = 0;
};
extern Space space;

// What a program has to give back (memory, streams, events, graphs, handles of a library): n of it is
// there now.
struct Kept {
    static int n;
    Kept()
    {
        n++;
    }
    Kept(const Kept &)
    {
        n++;
    }
    ~Kept()
    {
        n--;
    }
    Kept &operator=(const Kept &) = default;
};

bool space_ready(); // maps the space at its first call; false: the system refuses the range
cudaError_t space_alloc(void **p, size_t n, bool pinned);
cudaError_t space_free(void *p);
void set_state(u64 offset, u64 n, State s);
void space_protect();
static inline u64 offset_of(const void *p)
{
    return (u64)((uptr)p - (uptr)space.base);
}

struct Open { // the scope in which device memory is mapped
    Open()
    {
        if (!space.n_open++)
            space_protect();
    }
    ~Open()
    {
        if (!--space.n_open)
            space_protect();
    }
};

// ---- the model
struct Block;
struct Warp;

struct AsyncCopy { // cp.async: `from` bytes of src, zeros up to n
    u64 dst;
    const char *src;
    int n, from;
};

struct Thread {
    void *sp;
    char *stack;
    Block *block;
    Warp *warp;
    u32 tid, lane, index; // index: among the resident threads
    uint3 id;             // threadIdx
    bool done;
    const char *why; // what it waits for, and where
    void *pc;
    u64 result;  // of its last collective
    u64 proxied; // clocks at its last proxy fence (race.cpp); 0: none yet
    std::vector<AsyncCopy> copies;
    std::vector<size_t> groups; // copies in each committed group, counted from the first
#ifdef SIMT_UCONTEXT
    ucontext_t context;
#endif
};

struct Operands { // what a lane brings to a collective
    u64 a;
    int b, c;
    void *d;
    const void *x, *y;
};

struct Collective { // waiting for the lanes of its mask
    u32 mask = 0, arrived = 0;
    int op = 0;
    void *pc = nullptr;
    Operands lane[32];
};

struct Request { // the lanes of a warp that make one access together
    u32 mask;
    u8 size;
    u32 offset[32];
};

struct Site { // an instruction that accesses memory
    void *pc;
    bool write, shared;
    u16 n_seen[32]; // executions by each lane since the warp last converged
    std::vector<Request> requests;
};

struct WgmmaOp {
    void *pc;
    float *d[32];
    int n, accumulate;
    bool f16, columns;     // for bf16; of B
    u64 a, b;              // descriptors
    const u32 *a_regs[32]; // A in registers; nullptr: `a` says where it is
    u32 a_issued[32][4];   // what they held at issue
    bool first;            // of those under way on these accumulators: it saved them
    std::vector<float> saved;
};

// Accumulators whose products have been waited for, until their thread settles them.
struct WgmmaSums {
    float *d[32]; // nullptr: settled
    int n;        // of a lane
    std::vector<float> sum;
};

struct Warp {
    Block *block;
    u32 id, exist, exited; // masks of lanes
    u32 clock;             // orders this warp against the others
    u32 lane_clock;        // orders the lanes among themselves
    u32 seen[32];          // clock of each warp of the block that is ordered before us
    Collective pending[4];
    std::vector<Site> sites;
    u32 site_hash[64];
    std::vector<WgmmaOp> wgmma;
    std::vector<size_t> wgmma_groups;
    std::vector<WgmmaSums> wgmma_sums;
    bool wgmma_fenced;
    u32 registers; // that setmaxnreg asked for, 0: as launched
};

struct Barrier {               // bar.sync, bar.arrive
    u32 arrived = 0, want = 0; // want 0: all live threads of the block
    u32 warps = 0;             // that wait
    std::vector<Thread *> waiting;
    u32 seen[32] = {}; // what the arrived release
};

struct BulkCopy { // of a box of a tensor, or of `n` contiguous bytes
    CUtensorMap map;
    const char *src; // nullptr: the tensor's
    u64 dst, n;
    int x, y;
    u32 warp, clock;
};

struct MBarrier {
    u32 count, pending, phase;
    int64_t tx; // bytes expected and not yet landed
    std::vector<Thread *> waiting;
    std::vector<BulkCopy> copies;
    Thread *by;                     // that made it
    bool fenced;                    // and let the copy units know
    u32 arriving[32], released[32]; // clocks: of this phase so far, of the last complete one
};

struct Block {
    uint3 id;
    u32 run, slot, n_live; // run: its number among all blocks ever run
    char *arena;
    size_t top; // first free byte of the arena
    std::vector<Thread *> threads;
    std::vector<Warp> warps;
    Barrier barriers[16];
    std::unordered_map<u64, MBarrier> mbarriers;
    std::vector<std::pair<const void *, u64>> statics; // key of a shared variable, its offset
    std::unordered_set<u32> acquired;                  // runs that are ordered before us
    std::unordered_set<u32> met;                       // by an atomic; a __threadfence orders them
    bool fenced;                                       // __threadfence since the last store
};

struct Launch {
    const Kernel *kernel = nullptr;
    uint3 block_dim, grid_dim;
    u32 number = 0;                  // of this launch
    u32 first_run = 0, last_run = 0; // its blocks, numbered over all launches
    std::vector<Thread *> threads;   // resident
    u32 n_live = 0;
    bool killed = false;
};
extern Launch now;
extern Thread *cur; // nullptr: host code runs

// ---- report.cpp
struct Module { // the program or shared object this runtime is linked into
    uptr base, begin, end;
    std::string path;
};
const Module &self();
__attribute__((format(printf, 3, 4))) void report(const char *kind, void *pc, const char *fmt, ...);
static inline bool in_self(uptr a)
{
    const Module &m = self();
    return a >= m.begin && a < m.end;
}

// ---- fibre.cpp
void fibre_start(Thread *t);
void run_fibres(); // all of now.threads, to their end
void block_on(const char *why, void *pc);
void set_ready(Thread *t, bool ready);
void reschedule(bool yielding);
[[noreturn]] void kill_launch();
void seed_random();
u32 random_u32();
void preempt(); // when Config::preempt says so

// ---- launch.cpp
bool valid_config(const Kernel &k);
void run(const Kernel &k);
void thread_exit(Thread *t); // warp.cpp: it is waited for no longer

// ---- host.cpp
void host_op(cudaStream_t s, const char *name, std::function<void()> fn,
             std::vector<SimtRange> reads, std::vector<SimtRange> writes);

// ---- check.cpp
bool state_allows(u64 offset, u32 n, bool write, void *pc);
void access(uptr a, u32 n, bool write, void *pc, bool counted = true);

// ---- race.cpp
void race_check(u64 offset, u32 n, bool write, Thread *t, void *pc, bool atomic = false);
void proxy_fence(Thread *t);
void proxy_check(const Block *b, u64 offset, u32 n, void *pc);
void merge_clocks(u32 *into, const u32 *from);
void release_to(u32 *clocks, Warp *w);
void tick(Warp *w);
void forget_releases(); // at the start of a launch

// ---- count.cpp
u32 wavefronts(const Request &r, u32 *ideal);
void count_access(Thread *t, u64 offset, u32 n, bool write, void *pc);
void count_flush(Warp *w);          // the warp converged
void count_bulk(u64 offset, u64 n); // a bulk copy's reads
void check_bulk(const Block *b);    // that ends

// ---- warp.cpp, matrix.cpp, wgmma.cpp
u64 collective(int op, u32 mask, const Operands &o, void *pc);
float bf16_value(u16 h);
float f16_value(u16 h);
void matrix_read(Warp *w, int lane, u64 offset, u32 n, void *pc);
int most_shared();
void needs_sm90(const char *what, void *pc); // reports a device that has not got it
void run_ldmatrix(Warp *w, Collective &c);
void run_mma(Collective &c);
void issue_wgmma(Warp *w, Collective &c);
} // namespace simt
#pragma GCC visibility pop
