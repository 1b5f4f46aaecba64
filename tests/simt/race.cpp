// race.cpp -- happens-before: two accesses of a word, one of them a write, must be ordered.
//
// Each word keeps two records of writers and two of readers:
//
//   63      44 43    34 33  30 29   15 14         0
//   | run     | thread | bytes| clock | lane clock |     run: number of the block
//
// Warps hold vector clocks, merged at barriers and mbarriers; an arrive releases but does not
// acquire. __syncwarp advances the lane clock, which orders the lanes of one warp. Blocks of a
// launch are unordered, unless __threadfence + atomic (or st_release) on one side meets an atomic
// + __threadfence (or ld_acquire) of the same word on the other. What is found does not depend on
// the schedule.
#include "simt_runtime.h"

namespace simt
{
constexpr u32 kRunMask = 0xfffff, kClockMask = 0x7fff;
constexpr int kRunAt = 44, kThreadAt = 34, kBytesAt = 30, kClockAt = 15;
constexpr u64 kBytes = 15ull << kBytesAt;
constexpr u64 kWho = ~(kBytes | ((1ull << kBytesAt) - 1)); // run and thread

// Blocks that released through an atomic at this offset, in this launch.
static std::unordered_map<u64, std::vector<u32>> releases;

void forget_releases()
{
    releases.clear();
}

static inline u64 record_of(const Thread *t, u32 bytes)
{
    return (u64)(t->block->run & kRunMask) << kRunAt | (u64)t->tid << kThreadAt |
           (u64)bytes << kBytesAt | (u64)(t->warp->clock & kClockMask) << kClockAt |
           (t->warp->lane_clock & kClockMask);
}

static inline u32 run_of(u64 r)
{
    return (u32)(r >> kRunAt);
}

static inline u32 thread_of(u64 r)
{
    return r >> kThreadAt & 1023;
}

static inline bool ordered(u64 r, const Thread *t, bool shared)
{
    const u32 run = run_of(r), tid = thread_of(r);
    if (run == (t->block->run & kRunMask)) {
        if (tid == t->tid)
            return true;
        if (tid >> 5 == t->warp->id && (r & kClockMask) < t->warp->lane_clock)
            return true; // a __syncwarp or a barrier in between
        return (r >> kClockAt & kClockMask) <= t->warp->seen[tid >> 5];
    }
    const bool earlier_launch = run < (now.first_run & kRunMask) || run > (now.last_run & kRunMask);
    return shared || earlier_launch || t->block->acquired.count(run);
}

// Keeps `me`: in the record of the same thread, else in place of one that is ordered before us.
static void place(u64 *slots, u64 me, const Thread *t, bool shared)
{
    for (int i = 0; i < 2; i++)
        if (slots[i] && ((slots[i] ^ me) & kWho) == 0) {
            const bool same_time = (slots[i] & ~kBytes) == (me & ~kBytes);
            slots[i] = same_time ? slots[i] | me : me;
            return;
        }
    for (int i = 0; i < 2; i++)
        if (!slots[i] || ordered(slots[i], t, shared)) {
            slots[i] = me;
            return;
        }
    slots[1] = me;
}

static void report_race(u64 other, bool other_wrote, u64 offset, bool write, const Thread *t,
                        void *pc)
{
    const bool shared = offset < kHeap;
    const u64 at = offset - (shared ? t->block->slot * kArenaBytes : kHeap);
    report("RACE", pc, "%s %s race at %s+%llu with thread %u of %s block",
           other_wrote ? "write" : "read", write ? "write" : "read", shared ? "shared" : "global",
           (unsigned long long)at, thread_of(other),
           run_of(other) == (t->block->run & kRunMask) ? "this" : "another");
}

static inline void check_word(u64 word, u64 offset, u32 bytes, bool write, Thread *t, void *pc,
                              bool atomic)
{
    const bool shared = offset < kHeap;
    Race &r = space.race[word];
    const u64 me = record_of(t, bytes);
    if (!atomic) { // most often the same thread again, and nobody else
        if (write && r.write[0] == me && !(r.write[1] | r.read[0] | r.read[1]))
            return;
        if (!write && r.read[0] == me && !r.write[0])
            return;
    }
    const auto races = [&](u64 other) {
        return other && (other >> kBytesAt & bytes) && !ordered(other, t, shared);
    };
    if (races(r.write[0]))
        report_race(r.write[0], true, offset, write, t, pc);
    else if (races(r.write[1]))
        report_race(r.write[1], true, offset, write, t, pc);
    else if (write && races(r.read[0]))
        report_race(r.read[0], false, offset, write, t, pc);
    else if (write && races(r.read[1]))
        report_race(r.read[1], false, offset, write, t, pc);
    if (!atomic)
        place(write ? r.write : r.read, me, t, shared);
}

void race_check(u64 offset, u32 n, bool write, Thread *t, void *pc, bool atomic)
{
    for (u64 word = offset >> 2; word <= (offset + n - 1) >> 2; word++) {
        const u64 begin = word << 2;
        u32 bytes = 15;
        if (offset > begin)
            bytes &= 15u << (offset - begin);
        if (offset + n < begin + 4)
            bytes &= 15u >> (begin + 4 - offset - n);
        check_word(word, offset, bytes, write, t, pc, atomic);
    }
}

// wgmma reads shared memory by another way than stores and cp.async write it: behind them their
// thread owes a fence.proxy.async. Told by the clocks of the record, so a store behind the fence is
// seen from the thread's next barrier on. Who issues a bulk copy, which goes the same way, counts as
// fenced.
void proxy_fence(Thread *t)
{
    t->proxied = record_of(t, 0) & ((1ull << kBytesAt) - 1);
}

void proxy_check(const Block *b, u64 offset, u32 n, void *pc)
{
    for (u64 word = offset >> 2; word <= (offset + n - 1) >> 2; word++)
        for (const u64 r : space.race[word].write)
            if (r && run_of(r) == (b->run & kRunMask) &&
                (r & ((1ull << kBytesAt) - 1)) > b->threads[thread_of(r)]->proxied) {
                report("PROXY", pc, "wgmma reads what thread %u wrote without fence_proxy_async",
                       thread_of(r));
                return;
            }
}

void merge_clocks(u32 *into, const u32 *from)
{
    for (int i = 0; i < 32; i++)
        if (from[i] > into[i])
            into[i] = from[i];
}

void release_to(u32 *clocks, Warp *w)
{
    merge_clocks(clocks, w->seen);
    if (w->clock > clocks[w->id])
        clocks[w->id] = w->clock;
}

void tick(Warp *w)
{
    if (++w->clock == kClockMask)
        report("LIMIT", nullptr, "race clock exhausted, use a smaller test");
}
} // namespace simt

using namespace simt;

void simt_fence()
{
    Block *b = cur->block;
    b->fenced = true;
    b->acquired.insert(b->met.begin(), b->met.end());
    b->met.clear();
}

static u32 atomic_result(int op, u32 old, u32 v, u32 compare)
{
    switch (op) {
    case SA_ADD:
        return old + v;
    case SA_MAX:
        return (int)old > (int)v ? old : v;
    case SA_MIN:
        return (int)old < (int)v ? old : v;
    case SA_EXCH:
    case SA_STORE:
        return v;
    case SA_CAS:
        return old == compare ? v : old;
    case SA_OR:
        return old | v;
    case SA_AND:
        return old & v;
    case SA_FADD:
        return simt_bits<u32>(simt_bits<float>(old) + simt_bits<float>(v));
    default: // SA_LOAD
        return old;
    }
}

uint64_t simt_atomic(void *p, int bytes, int op, uint64_t v, uint64_t cmp)
{
    const u64 offset = offset_of(p);
    Block *b = cur->block;
    u64 old = 0;
    if (offset >= kSpaceBytes) {
        report("WILD", PC, "atomic at %p: not device memory", p);
        kill_launch();
    }
    state_allows(offset, (u32)bytes, op == SA_STORE || op == SA_EXCH, PC);
    if (cfg.race)
        race_check(offset, (u32)bytes, op != SA_LOAD, cur, PC, true);
    last.atom++;
    memcpy(&old, p, (size_t)bytes);
    if (op != SA_LOAD) {
        const u64 result = bytes == 8 ? old + v // of 8 bytes only the sum
                                      : atomic_result(op, (u32)old, (u32)v, (u32)cmp);
        memcpy(p, &result, (size_t)bytes);
        set_state(offset, (u64)bytes, kValid);
    }
    if (offset >= kHeap) {
        auto &released = releases[offset];
        for (u32 run : released)
            (op == SA_LOAD ? b->acquired : b->met).insert(run & kRunMask);
        if (op != SA_LOAD && (b->fenced || op == SA_STORE))
            released.push_back(b->run);
    }
    return old;
}
