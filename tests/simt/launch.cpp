// launch.cpp -- a launch: its configuration, its blocks, cfg.resident of them alive together.
#include "simt_runtime.h"

namespace simt
{
Stats last, total;

static std::unordered_map<const void *, int> smem_limit; // set by cudaFuncSetAttribute
static std::vector<Thread *> pool;                       // by index; stacks are kept

bool valid_config(const Kernel &k)
{
    constexpr u32 kMaxBlock = 1024, kMaxGridYZ = 65535;
    constexpr size_t kDefaultSmem = 48 * 1024;
    const u64 n_thread = (u64)k.block.x * k.block.y * k.block.z;
    const u64 n_block = (u64)k.grid.x * k.grid.y * k.grid.z;
    const auto allowed = smem_limit.find(k.fn);
    if (!n_block || n_block > INT32_MAX || !n_thread || n_thread > kMaxBlock ||
        k.grid.y > kMaxGridYZ || k.grid.z > kMaxGridYZ) {
        report("CONFIG", nullptr, "bad launch configuration of %s", k.name);
        return false;
    }
    if (k.smem > kDefaultSmem &&
        (allowed == smem_limit.end() || (size_t)allowed->second < k.smem)) {
        report("CONFIG", nullptr,
               "%s: %zu bytes of dynamic shared memory without cudaFuncSetAttribute", k.name,
               k.smem);
        return false;
    }
    if (n_thread * (u32)cfg.resident > kMaxThreads) {
        report("LIMIT", nullptr, "%s: at most %u threads can be resident", k.name, kMaxThreads);
        return false;
    }
    return true;
}

static void start_warps(Block *b, u32 n_thread)
{
    b->warps.resize((n_thread + 31) / 32);
    for (u32 i = 0; i < b->warps.size(); i++) {
        Warp &w = b->warps[i];
        const u32 n_lane = n_thread - i * 32;
        w.block = b;
        w.id = i;
        w.exist = n_lane >= 32 ? ~0u : (1u << n_lane) - 1;
        w.exited = 0;
        w.clock = w.lane_clock = 1;
        memset(w.seen, 0, sizeof w.seen);
        memset(w.site_hash, 0, sizeof w.site_hash);
        w.wgmma_fenced = false;
        w.wgmma_sums.clear();
        w.registers = 0;
    }
}

static void start_block(Block *b, u32 linear, u32 slot)
{
    const Kernel &k = *now.kernel;
    const u32 n_thread = k.block.x * k.block.y * k.block.z;
    b->id = {linear % k.grid.x, linear / k.grid.x % k.grid.y, linear / k.grid.x / k.grid.y};
    b->run = ++now.last_run;
    b->n_live = n_thread;
    b->slot = slot;
    b->fenced = false;
    b->arena = space.base + slot * kArenaBytes;
    b->top = (k.smem + 127) / 128 * 128 + 128;
    memset(b->arena, 255, b->top);
    set_state(slot * kArenaBytes, kArenaBytes, kNone);
    set_state(slot * kArenaBytes, k.smem, kUnwritten);
    start_warps(b, n_thread);
    for (u32 i = 0; i < n_thread; i++) {
        const u32 index = (u32)now.threads.size();
        if (index >= pool.size())
            pool.push_back(new Thread());
        Thread *t = pool[index];
        t->block = b;
        t->proxied = 0;
        t->warp = &b->warps[i / 32];
        t->tid = i;
        t->lane = i & 31;
        t->index = index;
        t->id = {i % k.block.x, i / k.block.x % k.block.y, i / k.block.x / k.block.y};
        t->done = false;
        t->why = nullptr;
        t->pc = nullptr;
        t->copies.clear();
        t->groups.clear();
        now.threads.push_back(t);
        b->threads.push_back(t);
        fibre_start(t);
    }
}

static std::vector<u32> block_order(u32 n)
{
    const bool backwards = cfg.sched == REVERSE || cfg.sched == WARP_REV;
    std::vector<u32> order(n);
    for (u32 i = 0; i < n; i++)
        order[i] = backwards ? n - 1 - i : i;
    if (cfg.sched == RANDOM)
        for (u32 i = n; i > 1; i--)
            std::swap(order[i - 1], order[random_u32() % i]);
    return order;
}

// Of a module that a test has opened: the counters of all launches since the last call, in the order
// of Stats; how many there are.
extern "C" __attribute__((visibility("default"))) int simt_counts(u64 *out, int most)
{
    const int n = (int)(sizeof total / sizeof(u64));
    memcpy(out, &total, (size_t)(most < n ? most : n) * sizeof(u64));
    total = Stats();
    return n;
}

static void add_to_total()
{
    const u64 *from = (const u64 *)&last;
    u64 *to = (u64 *)&total;
    for (size_t i = 0; i < sizeof(Stats) / sizeof(u64); i++)
        to[i] += from[i];
}

void run(const Kernel &k)
{
    Open open;
    now.kernel = &k;
    now.block_dim = {k.block.x, k.block.y, k.block.z};
    now.grid_dim = {k.grid.x, k.grid.y, k.grid.z};
    now.number++;
    now.first_run = now.last_run + 1;
    now.killed = false;
    last = Stats();
    forget_releases();
    seed_random();
    const u32 n_block = k.grid.x * k.grid.y * k.grid.z;
    const u32 resident = (u32)cfg.resident < kMaxResident ? (u32)cfg.resident : kMaxResident;
    const std::vector<u32> order = block_order(n_block);
    for (u32 b0 = 0; b0 < n_block && !now.killed; b0 += resident) {
        const u32 n = n_block - b0 < resident ? n_block - b0 : resident;
        std::vector<Block> blocks(n);
        now.threads.clear();
        for (u32 i = 0; i < n; i++)
            start_block(&blocks[i], order[b0 + i], i);
        now.n_live = (u32)now.threads.size();
        last.threads += now.n_live;
        run_fibres();
    }
    cur = nullptr;
    add_to_total();
}
} // namespace simt

using namespace simt;

uint3 simt_tid()
{
    return cur->id;
}

uint3 simt_bid()
{
    return cur->block->id;
}

uint3 simt_bdim()
{
    return now.block_dim;
}

uint3 simt_gdim()
{
    return now.grid_dim;
}

void *simt_smem_dyn()
{
    return cur->block->arena;
}

// Every variable starts at bank 0 and is followed by an unaddressable gap.
void *simt_smem_static(const void *key, size_t n, size_t align)
{
    constexpr size_t kGap = 128;
    Block *b = cur->block;
    for (const auto &s : b->statics)
        if (s.first == key)
            return b->arena + s.second;
    align = align < kGap ? kGap : align;
    const size_t offset = (b->top + align - 1) / align * align;
    b->top = offset + n + kGap;
    if (b->top > kArenaBytes) {
        report("CONFIG", PC, "static + dynamic shared memory over the limit");
        kill_launch();
    }
    b->statics.push_back({key, offset});
    set_state(b->slot * kArenaBytes + offset, n, kUnwritten);
    memset(b->arena + offset, 255, n);
    return b->arena + offset;
}

namespace simt
{
int most_shared() // of one block; CUDA programming guide, compute capabilities
{
    const int minor = cfg.sm % 10;
    return (cfg.sm < 90 && minor == 0 ? 163
            : cfg.sm < 90             ? 99
            : cfg.sm / 10 == 12       ? 99
                                      : 227)
           << 10;
}
} // namespace simt

cudaError_t simt_func_smem(const void *f, int bytes)
{
    if (bytes < 0 || bytes > most_shared())
        return cudaErrorInvalidConfiguration;
    smem_limit[f] = bytes;
    return cudaSuccess;
}
