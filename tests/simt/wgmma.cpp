// wgmma.cpp -- warp-group mma m64nNk16 of sm_90, A and B in shared memory with the 128-byte swizzle,
// or A in registers as of m16n8k16 (matrix.cpp). Descriptor: address >> 4, stride of groups of 8 lines of 128 bytes >> 4 at bit 32, layout 1 at
// bit 62. A line is 64 k of a row; the next k16 is descriptor + 2. Or, B by columns (MN-major), it is 64 columns of a k; `leading` >> 4, to the next
// 64 columns, at bit 16; the next k16 is two groups on. Warp w of the group has rows 16w + g + 8 ((i >> 1) & 1),
// columns 8 (i >> 2) + 2t + (i & 1) of element i, with g = lane / 4, t = lane % 4.
//
// From issue on the accumulators are NaN, until behind the wait their thread settles them: before that the
// compiler may have taken them out of their registers; operands are read at the wait, as late as the model
// allows, and are checked and recorded at both ends; registers of A must hold the same at both.
#include "simt_runtime.h"

#include <algorithm>

namespace simt
{
// Offset of element (row, k) of an operand; row n of B is column n of the product.
static u64 element(const Block *b, u64 descriptor, bool columns, int row, int k)
{
    const u64 group = (descriptor >> 32 & 0x3fff) << 4, leading = (descriptor >> 16 & 0x3fff) << 4;
    const int line = columns ? k : row, in = columns ? row & 63 : k;
    u64 a = (descriptor & 0x3fff) << 4;
    a += (u64)(line >> 3) * group + (u64)(line & 7) * 128 + (u64)in * 2;
    a += columns ? (u64)(row >> 6) * leading : 0;
    return b->slot * kArenaBytes + (a ^ ((a >> 7 & 7) << 4));
}

void needs_sm90(const char *what, void *pc)
{
    if (cfg.sm < 90)
        report("ARCH", pc, "%s on a device of sm_%d", what, cfg.sm);
}

static void read16(Warp *w, int lane, u64 offset, void *pc)
{
    matrix_read(w, lane, offset, 16, pc);
    if (cfg.race && offset < kHeap)
        proxy_check(w->block, offset, 16, pc);
}

static void touch_operands(Warp *w, const WgmmaOp &o)
{
    const int row0 = (int)(w->id & 3) * 16;
    for (int r = 0; r < 16 && !o.a_regs[0]; r++)
        for (int c = 0; c < 2; c++)
            read16(w, r, element(w->block, o.a, false, row0 + r, 8 * c), o.pc);
    const int quarter = (int)(w->id & 3) * o.n / 4; // of B, which the four warps read together
    for (int i = 0; i < o.n / 2; i++) {             // 16 bytes each
        const int row = o.columns ? quarter + 8 * (i / 16) : quarter + i / 2,
                  k = o.columns ? i % 16 : 8 * (i % 2);
        read16(w, i & 31, element(w->block, o.b, o.columns, row, k), o.pc);
    }
}

static WgmmaSums *sums_of(Warp *w, const float *d, int lane)
{
    for (WgmmaSums &s : w->wgmma_sums)
        if (s.d[lane] == d)
            return &s;
    return nullptr;
}

// What the accumulators held, or would hold had they been settled.
static void save_sums(Warp *w, WgmmaOp &o)
{
    const int n = o.n / 2;
    for (int l = 0; l < 32; l++) {
        WgmmaSums *s = sums_of(w, o.d[l], l);
        const float *from = s ? &s->sum[(size_t)(l * n)] : o.d[l];
        o.saved.insert(o.saved.end(), from, from + n);
        memset(o.d[l], 255, (size_t)n * sizeof(float));
        if (s)
            s->d[l] = nullptr;
    }
}

void issue_wgmma(Warp *w, Collective &c)
{
    WgmmaOp o;
    o.pc = c.pc;
    o.n = c.lane[0].b & 0xffff;
    o.f16 = c.lane[0].b >> 16 & SIMT_WG_F16;
    o.columns = c.lane[0].b >> 16 & SIMT_WG_COLUMNS;
    o.accumulate = c.lane[0].c;
    o.a = c.lane[0].a;
    o.b = (u64)c.lane[0].x;
    o.first = true;
    if (!w->wgmma_fenced)
        report("WGMMA", c.pc, "wgmma without wgmma_fence since the registers were last touched");
    needs_sm90("wgmma", c.pc);
    if ((!c.lane[0].y && (o.a >> 62) != 1) || (o.b >> 62) != 1)
        report("WGMMA", c.pc, "only the 128-byte swizzle layout is emulated");
    for (int l = 0; l < 32; l++) {
        o.d[l] = (float *)c.lane[l].d;
        o.a_regs[l] = (const u32 *)c.lane[l].y;
        if (o.a_regs[l])
            memcpy(o.a_issued[l], o.a_regs[l], sizeof o.a_issued[l]);
        if (c.lane[l].a != o.a || (u64)c.lane[l].x != o.b)
            report("WGMMA", c.pc, "descriptor differs between lanes");
    }
    for (const WgmmaOp &earlier : w->wgmma)
        if (earlier.d[0] == o.d[0])
            o.first = false;
    if (o.first)
        save_sums(w, o);
    touch_operands(w, o);
    w->wgmma.push_back(std::move(o));
    last.mma++;
}

static double value(const WgmmaOp &o, u16 h)
{
    return (double)(o.f16 ? f16_value(h) : bf16_value(h));
}

static double load(const Warp *w, const WgmmaOp &o, u64 descriptor, bool columns, int row, int k)
{
    u16 h;
    memcpy(&h, space.base + element(w->block, descriptor, columns, row, k), sizeof h);
    return value(o, h);
}

// The warp's 16 rows of A.
static void load_a(const Warp *w, const WgmmaOp &o, double (&A)[16][16])
{
    const int row0 = (int)(w->id & 3) * 16;
    for (int r = 0; r < 16 && !o.a_regs[0]; r++)
        for (int k = 0; k < 16; k++)
            A[r][k] = load(w, o, o.a, false, row0 + r, k);
    for (int l = 0; l < 32 && o.a_regs[0]; l++) {
        const u32 *a = o.a_regs[l];
        if (memcmp(a, o.a_issued[l], sizeof o.a_issued[l]) != 0)
            report("WGMMA", o.pc, "registers of A changed between wgmma and its wait");
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                A[(l >> 2) + (i & 1) * 8][(l & 3) * 2 + h + (i >> 1) * 8] =
                    value(o, (u16)(a[i] >> (16 * h)));
    }
}

static void run_wgmma(Warp *w, WgmmaOp &o)
{
    double A[16][16];
    std::vector<double> B((size_t)o.n * 16);
    touch_operands(w, o);
    load_a(w, o, A);
    for (int r = 0; r < o.n; r++)
        for (int k = 0; k < 16; k++)
            B[(size_t)(r * 16 + k)] = load(w, o, o.b, o.columns, r, k);
    if (o.first) {
        WgmmaSums s = {{}, o.n / 2, std::move(o.saved)};
        memcpy(s.d, o.d, sizeof s.d);
        w->wgmma_sums.push_back(std::move(s));
    }
    WgmmaSums *to = sums_of(w, o.d[0], 0);
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < to->n; i++) {
            float *d = &to->sum[(size_t)(l * to->n + i)];
            const double *x = A[(l >> 2) + (i >> 1 & 1) * 8];
            const double *y = &B[(size_t)((i >> 2) * 8 + (l & 3) * 2 + (i & 1)) * 16];
            double sum = o.accumulate ? (double)*d : 0.0;
            for (int k = 0; k < 16; k++)
                sum += x[k] * y[k];
            *d = (float)sum;
        }
}
} // namespace simt

using namespace simt;

uint64_t simt_wg_desc(const void *s)
{
    constexpr u64 kGroupBytes = 1024; // 8 rows of 128 bytes
    return offset_of(s) % kArenaBytes >> 4 | 1ull << 16 | kGroupBytes >> 4 << 32 | 1ull << 62;
}

uint64_t simt_wg_desc_columns(const void *s, unsigned next)
{
    return (simt_wg_desc(s) & ~(0x3fffull << 16)) | (u64)(next >> 4) << 16;
}

void simt_wgmma(float *d, int n, const uint32_t *a, uint64_t da, uint64_t db, int acc, int how)
{
    collective(SC_WGMMA, ~0u, Operands{da, n | how << 16, acc, d, (const void *)db, a}, PC);
}

void simt_wg_settle(float *d)
{
    Warp *w = cur->warp;
    const int lane = (int)cur->tid & 31;
    WgmmaSums *s = sums_of(w, d, lane);
    for (const WgmmaOp &o : w->wgmma)
        s = o.d[lane] == d ? nullptr : s; // more is under way
    if (!s)
        return;
    memcpy(d, &s->sum[(size_t)(lane * s->n)], (size_t)s->n * sizeof *d);
    s->d[lane] = nullptr;
    for (size_t i = w->wgmma_sums.size(); i-- > 0;)
        if (std::all_of(w->wgmma_sums[i].d, w->wgmma_sums[i].d + 32, [](float *p) { return !p; }))
            w->wgmma_sums.erase(w->wgmma_sums.begin() + (long)i);
}

void simt_wg_fence()
{
    collective(SC_SYNC, ~0u, Operands{}, PC);
    cur->warp->wgmma_fenced = true;
}

// All lanes meet, then the first one through does the work for the warp.
static void meet(u64 value, void *pc)
{
    collective(SC_BALLOT, ~0u, Operands{value, 0, 0, nullptr, nullptr, nullptr}, pc);
}

void simt_wg_commit()
{
    Warp *w = cur->warp;
    meet(1, PC);
    if (w->wgmma_groups.empty() || w->wgmma_groups.back() != w->wgmma.size())
        w->wgmma_groups.push_back(w->wgmma.size());
}

void simt_wg_wait(int n)
{
    Warp *w = cur->warp;
    meet(2, PC);
    if ((int)w->wgmma_groups.size() <= n)
        return;
    const size_t n_group = w->wgmma_groups.size() - (size_t)n;
    const size_t n_op = w->wgmma_groups[n_group - 1];
    for (size_t i = 0; i < n_op; i++)
        run_wgmma(w, w->wgmma[i]);
    w->wgmma.erase(w->wgmma.begin(), w->wgmma.begin() + (long)n_op);
    w->wgmma_groups.erase(w->wgmma_groups.begin(), w->wgmma_groups.begin() + (long)n_group);
    for (size_t &end : w->wgmma_groups)
        end -= n_op;
    w->wgmma_fenced = !w->wgmma.empty();
}
