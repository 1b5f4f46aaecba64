// warp.cpp -- barriers of a block, collectives of a warp. Lanes deposit their operands, the last
// to arrive executes for all; exited lanes count as arrived. Errors: lanes of a warp at different
// collectives, a lane outside its own mask (DIVERGE), a shuffle from a lane that takes no part
// (SHFL), wrong thread counts (BARRIER), copies never waited for (ASYNC).
#include "simt_runtime.h"

namespace simt
{
static bool barrier_full(const Block *b, const Barrier &bar)
{
    return bar.arrived && bar.arrived >= (bar.want ? bar.want : b->n_live);
}

static void barrier_complete(Block *b, Barrier &bar)
{
    for (Warp &w : b->warps)
        if (bar.warps >> w.id & 1) {
            merge_clocks(w.seen, bar.seen);
            count_flush(&w);
            tick(&w);
            w.lane_clock++;
        }
    for (Thread *t : bar.waiting)
        set_ready(t, true);
    bar.waiting.clear();
    bar.arrived = bar.warps = 0;
    memset(bar.seen, 0, sizeof bar.seen);
    last.bars++;
}

static void shuffle(Warp *w, const Collective &c, int lane)
{
    const Operands &o = c.lane[lane];
    const int width = o.c, first = lane & ~(width - 1), v = o.b;
    int from = lane;
    switch (c.op) {
    case SC_SHFL:
        from = first + (v & (width - 1));
        break;
    case SC_SHFL_UP:
        from = lane - v < first ? lane : lane - v;
        break;
    case SC_SHFL_DN:
        from = lane + v >= first + width ? lane : lane + v;
        break;
    default: // SC_SHFL_XOR
        from = (lane ^ v) >= first + width ? lane : lane ^ v;
    }
    Thread *t = w->block->threads[w->id * 32 + lane];
    t->result = ~0ull;
    if (from >= 0 && from < 32 && c.arrived >> from & 1)
        t->result = c.lane[from].a;
    else
        report("SHFL", c.pc, "shuffle reads lane %d, which takes no part", from);
}

// Calls f(lane) for the lanes that take part.
template <class F> static inline void each_lane(const Collective &c, F f)
{
    for (int l = 0; l < 32; l++)
        if (c.arrived >> l & 1)
            f(l);
}

static void execute(Warp *w, Collective &c)
{
    const auto result = [&](int l) -> u64 & { return w->block->threads[w->id * 32 + l]->result; };
    u64 all = 0;
    switch (c.op) {
    case SC_SYNC:
        w->lane_clock++;
        last.syncwarp++;
        break;
    case SC_BALLOT:
        each_lane(c, [&](int l) { all |= (u64)(c.lane[l].a != 0) << l; });
        each_lane(c, [&](int l) { result(l) = all; });
        break;
    case SC_RADD:
        each_lane(c, [&](int l) { all += c.lane[l].a; });
        each_lane(c, [&](int l) { result(l) = (u32)all; });
        break;
    case SC_MATCH:
        each_lane(c, [&](int l) {
            u64 same = 0;
            each_lane(c, [&](int k) { same |= (u64)(c.lane[k].a == c.lane[l].a) << k; });
            result(l) = same;
        });
        break;
    case SC_LDM:
        run_ldmatrix(w, c);
        last.ldm++;
        break;
    case SC_MMA_BF16:
    case SC_MMA_F16:
    case SC_MMA_S8:
        if (c.arrived != ~0u)
            report("DIVERGE", c.pc, "mma without all 32 lanes");
        else
            run_mma(c);
        last.mma++;
        break;
    case SC_WGMMA:
        issue_wgmma(w, c);
        break;
    default:
        last.shfl++;
        each_lane(c, [&](int l) { shuffle(w, c, l); });
    }
    if (c.arrived == (w->exist & ~w->exited))
        count_flush(w);
}

static bool all_arrived(const Warp *w, const Collective &c)
{
    const u32 want = c.mask & w->exist & ~w->exited;
    return (c.arrived & want) == want;
}

static void complete(Warp *w, Collective &c)
{
    execute(w, c);
    each_lane(c, [&](int l) { set_ready(w->block->threads[w->id * 32 + l], true); });
    c.arrived = 0;
}

// The pending collective of this mask, else a free slot.
static Collective *find_collective(Warp *w, u32 mask, void *pc)
{
    for (Collective &c : w->pending)
        if (c.arrived && c.mask == mask)
            return &c;
    for (Collective &c : w->pending)
        if (!c.arrived)
            return &c;
    report("LIMIT", pc, "too many collectives pending in one warp");
    kill_launch();
}

u64 collective(int op, u32 mask, const Operands &o, void *pc)
{
    Thread *t = cur;
    Warp *w = t->warp;
    if (!(mask >> t->lane & 1))
        report("DIVERGE", pc, "calling lane %u is not in mask %08x", t->lane, mask);
    Collective *c = find_collective(w, mask, pc);
    if (!c->arrived) {
        c->mask = mask;
        c->op = op;
        c->pc = pc;
    } else if (c->op != op) {
        report("DIVERGE", pc, "lanes of a warp wait at different collectives (%d and %d)", c->op,
               op);
        kill_launch();
    }
    c->lane[t->lane] = o;
    c->arrived |= 1u << t->lane;
    if (all_arrived(w, *c))
        complete(w, *c);
    else
        block_on("collective", pc);
    return t->result;
}

// What the warps of a block asked for must be there at one time, or they wait for ever.
static void check_registers(const Block *b)
{
    constexpr u32 kRegisters = 65536, kStep = 8;
    const u32 n_warp = (u32)b->warps.size(),
              launched =
                  kRegisters / 32 / n_warp / kStep * kStep; // for a whole block a multiprocessor
    u32 sum = 0, asked = 0;
    for (const Warp &w : b->warps) {
        sum += 32 * (w.registers ? w.registers : launched);
        asked += w.registers != 0;
    }
    if (asked && sum > kRegisters)
        report("REGS", nullptr, "the warps of a block want %u registers, %u are there", sum,
               kRegisters);
}

void thread_exit(Thread *t)
{
    Block *b = t->block;
    Warp *w = t->warp;
    if (!t->copies.empty())
        report("ASYNC", nullptr, "thread exits with %zu cp.async not waited for", t->copies.size());
    t->done = true;
    set_ready(t, false);
    b->n_live--;
    now.n_live--;
    w->exited |= 1u << t->lane;
    if (b->n_live && barrier_full(b, b->barriers[0]))
        barrier_complete(b, b->barriers[0]);
    for (Collective &c : w->pending)
        if (c.arrived && all_arrived(w, c))
            complete(w, c);
    if ((w->exited & w->exist) == w->exist)
        count_flush(w);
    if (!b->n_live) {
        check_registers(b);
        check_bulk(b);
    }
}
} // namespace simt

using namespace simt;

uint64_t simt_coll(int op, unsigned mask, uint64_t a, int b, int c)
{
    return collective(op, mask, Operands{a, b, c, nullptr, nullptr, nullptr}, PC);
}

void simt_registers(int n)
{
    constexpr int kLeast = 24, kMost = 256, kStep = 8;
    collective(SC_BALLOT, ~0u, Operands{1, 0, 0, nullptr, nullptr, nullptr}, PC);
    needs_sm90("setmaxnreg", PC);
    if (n < kLeast || n > kMost || n % kStep)
        report("REGS", PC, "setmaxnreg of %d", n);
    cur->warp->registers = (u32)n;
}

void simt_bar(int id, int n, int arrive_only)
{
    Thread *t = cur;
    Block *b = t->block;
    Barrier &bar = b->barriers[id & 15];
    if (n % 32)
        report("BARRIER", PC, "barrier %d of %d threads, not of whole warps", id, n);
    if (bar.arrived && bar.want != (u32)n)
        report("BARRIER", PC, "barrier %d used with two thread counts (%u and %d)", id, bar.want,
               n);
    bar.want = (u32)n;
    bar.arrived++;
    release_to(bar.seen, t->warp);
    if (arrive_only) {
        tick(t->warp); // what follows an arrive is not released by it
    } else {
        bar.warps |= 1u << t->warp->id; // only those who wait acquire
        bar.waiting.push_back(t);
    }
    if (barrier_full(b, bar))
        barrier_complete(b, bar);
    else if (!arrive_only)
        block_on("barrier", PC);
}
