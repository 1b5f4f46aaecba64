// async.cpp -- copies that land later. Each lands at the latest moment the model allows, and what
// lies there meanwhile is poison, so that a missing wait cannot give the right value by luck.
//
//   cp.async  lands when the wait_group of the issuing thread covers it, as that thread's write:
//             others still need a barrier. A source size below 16 fills with zeros
//   TMA       lands when somebody waits at the mbarrier and all arrivals are in; what lies outside
//             the tensor is zero; with a 128-byte swizzle address bits 4-6 ^= bits 7-9
//   bulk      contiguous bytes, the same way; their source must still hold them then
#include "simt_runtime.h"

namespace simt
{
static void deliver(Block *b, const BulkCopy &copy)
{
    const CUtensorMap &m = copy.map;
    if (copy.src) {
        set_state(copy.dst, copy.n, kValid);
        memcpy(space.base + copy.dst, copy.src, copy.n);
        return;
    }
    const u64 row_bytes = (u64)m.box[0] * m.elem;
    for (u32 r = 0; r < m.box[1]; r++)
        for (u64 c = 0; c < row_bytes; c += 16) {
            u64 at = copy.dst % kArenaBytes + r * row_bytes + c;
            if (m.sw)
                at ^= (at >> 7 & 7) << 4;
            char *to = b->arena + at;
            const int64_t y = copy.y + (int64_t)r;
            set_state(offset_of(to), 16, kValid);
            for (u64 e = 0; e < 16; e += m.elem) {
                const int64_t x = copy.x + (int64_t)((c + e) / m.elem);
                const bool inside =
                    x >= 0 && y >= 0 && x < (int64_t)m.dim[0] && y < (int64_t)m.dim[1];
                if (inside)
                    memcpy(to + e, m.base + (u64)y * m.pitch + (u64)x * m.elem, m.elem);
                else
                    memset(to + e, 0, m.elem);
            }
        }
}

// Completes the phase if all arrivals and all bytes are in.
static void try_complete(Block *b, MBarrier &m)
{
    if (m.pending)
        return;
    if (!m.waiting.empty()) {
        for (const BulkCopy &c : m.copies) {
            deliver(b, c);
            m.tx -= (int64_t)c.n;
            if (c.clock > m.arriving[c.warp])
                m.arriving[c.warp] = c.clock;
        }
        m.copies.clear();
    }
    if (m.tx)
        return;
    m.phase ^= 1;
    m.pending = m.count;
    memcpy(m.released, m.arriving, sizeof m.released);
    for (Thread *t : m.waiting)
        set_ready(t, true);
    m.waiting.clear();
}

void check_bulk(const Block *b)
{
    size_t n = 0;
    for (const auto &m : b->mbarriers)
        n += m.second.copies.size();
    if (n)
        report("ASYNC", nullptr, "block ends with %zu bulk copies not waited for", n);
}

static MBarrier &find_mbarrier(const uint64_t *p, void *pc)
{
    const auto found = cur->block->mbarriers.find(offset_of(p));
    if (found == cur->block->mbarriers.end()) {
        report("MBAR", pc, "mbarrier used before mbarrier_init");
        kill_launch();
    }
    if (cfg.race) // with who made it, who must have done so before in every order
        race_check(found->first, sizeof *p, false, cur, pc, true);
    return found->second;
}
} // namespace simt

using namespace simt;

void simt_cp_async(void *s, const void *g, int n, int src)
{
    const u64 dst = offset_of(s);
    Thread *t = cur;
    if (dst >= kHeap) {
        report("OOB", PC, "cp.async destination is not shared memory");
        kill_launch();
    }
    if ((dst | (src ? (uptr)g : 0)) & (u64)(n - 1))
        report("MISALIGN", PC, "cp.async of %d bytes", n);
    if (src < 0 || src > n) {
        report("ASYNC", PC, "cp.async source size %d", src);
        kill_launch();
    }
    if (src)
        access((uptr)g, (u32)src, false, PC);
    access((uptr)s, (u32)n, true, (char *)PC + 1); // an instruction of its own for the counters
    memset(s, 255, (size_t)n);
    set_state(dst, (u64)n, kInFlight);
    t->copies.push_back({dst, (const char *)g, n, src});
    last.cp_bytes += (u64)src;
}

void simt_cp_commit()
{
    cur->groups.push_back(cur->copies.size());
}

void simt_cp_wait(int n)
{
    Thread *t = cur;
    if ((int)t->groups.size() <= n)
        return;
    const size_t n_group = t->groups.size() - (size_t)n, n_copy = t->groups[n_group - 1];
    for (size_t i = 0; i < n_copy; i++) {
        const AsyncCopy &c = t->copies[i];
        set_state(c.dst, (u64)c.n, kValid);
        if (c.from)
            memcpy(space.base + c.dst, c.src, (size_t)c.from);
        memset(space.base + c.dst + c.from, 0, (size_t)(c.n - c.from));
        if (cfg.race)
            race_check(c.dst, (u32)c.n, true, t, PC);
    }
    if (n_copy)
        t->proxied = 0; // a fence before the wait fences nothing of it
    t->copies.erase(t->copies.begin(), t->copies.begin() + (long)n_copy);
    t->groups.erase(t->groups.begin(), t->groups.begin() + (long)n_group);
    for (size_t &end : t->groups)
        end -= n_copy;
}

void simt_fence_proxy()
{
    proxy_fence(cur);
}

void simt_mb_init(uint64_t *b, unsigned n)
{
    access((uptr)b, 8, true, PC);
    *b = 0;
    MBarrier &m = cur->block->mbarriers[offset_of(b)];
    m = MBarrier();
    m.count = m.pending = n;
    m.by = cur;
}

void simt_mb_fence()
{
    for (auto &m : cur->block->mbarriers)
        m.second.fenced = m.second.fenced || m.second.by == cur;
}

void simt_mb_arrive(uint64_t *b, unsigned tx)
{
    MBarrier &m = find_mbarrier(b, PC);
    release_to(m.arriving, cur->warp);
    tick(cur->warp);
    m.tx += tx;
    if (!m.pending)
        report("MBAR", PC, "more arrivals than the mbarrier expects");
    else
        m.pending--;
    try_complete(cur->block, m);
}

void simt_mb_wait(uint64_t *b, unsigned parity)
{
    MBarrier &m = find_mbarrier(b, PC);
    while (m.phase == (parity & 1)) {
        m.waiting.push_back(cur);
        try_complete(cur->block, m);
        if (m.phase == (parity & 1))
            block_on("mbarrier", PC);
        else
            set_ready(cur, true);
    }
    merge_clocks(cur->warp->seen, m.released);
}

// Issues a copy whose n, and source, are filled in; its destination to a multiple of `align`.
static void issue(BulkCopy &copy, void *s, u64 align, uint64_t *b, void *pc)
{
    MBarrier &m = find_mbarrier(b, pc);
    Thread *t = cur;
    copy.dst = offset_of(s);
    needs_sm90("a bulk copy", pc);
    if (!m.fenced)
        report("MBAR", pc, "bulk copy without mbarrier_fence_init since its mbarrier was made");
    if (copy.dst >= kHeap || (copy.dst & (align - 1))) {
        report("MISALIGN", pc, "bulk copy destination");
        kill_launch();
    }
    for (u64 i = 0; i < copy.n; i += 16)
        access((uptr)s + i, 16, true, pc, false); // no lane's store
    memset(s, 255, copy.n);
    set_state(copy.dst, copy.n, kInFlight);
    last.tma_bytes += copy.n;
    proxy_fence(t);
    copy.warp = t->warp->id;
    copy.clock =
        t->warp->clock; // not before the accesses: another lane may run, and tick, meanwhile
    m.copies.push_back(copy);
    try_complete(t->block, m);
}

void simt_tma_2d(void *s, const CUtensorMap *map, int x, int y, uint64_t *b)
{
    BulkCopy copy = {*map, nullptr, 0, (u64)map->box[0] * map->box[1] * map->elem, x, y, 0, 0};
    issue(copy, s, map->sw ? 1024 : 128, b, PC);
}

void simt_bulk(void *s, const void *g, unsigned n, uint64_t *b)
{
    BulkCopy copy = {{}, (const char *)g, 0, n, 0, 0, 0, 0};
    const u64 from = offset_of(g);
    if (!n || n % 16 || (uptr)g % 16) {
        report("MISALIGN", PC, "bulk copy of %u bytes from %p", n, g);
        kill_launch();
    }
    if (from < kHeap || from >= kSpaceBytes) {
        report("WILD", PC, "bulk copy from %p: not global memory", g);
        kill_launch();
    }
    for (u64 i = 0; i < n; i += 16) {
        state_allows(from + i, 16, false, PC);
        if (cfg.race)
            race_check(from + i, 16, false, cur, PC);
    }
    if (cfg.count)
        count_bulk(from, n);
    issue(copy, s, 16, b, PC);
}

int gpu_tensormap_2d(CUtensorMap *m, void *base, uint64_t cols, uint64_t rows, uint64_t pitch,
                     unsigned box_cols, unsigned box_rows)
{
    constexpr unsigned kElem = 2, kSwizzle = 128, kMaxBox = 256;
    if ((uptr)base & 15 || pitch & 15 || box_cols * kElem > kSwizzle || box_rows > kMaxBox)
        return -1;
    *m = CUtensorMap{};
    m->base = (char *)base;
    m->dim[0] = cols;
    m->dim[1] = rows;
    m->pitch = pitch;
    m->box[0] = box_cols;
    m->box[1] = box_rows;
    m->elem = kElem;
    m->sw = box_cols * kElem == kSwizzle;
    return 0;
}
