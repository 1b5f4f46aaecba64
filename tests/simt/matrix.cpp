// matrix.cpp -- ldmatrix and mma.sync. With g = lane / 4, t = lane % 4 (PTX ISA, fragment tables):
//
//   m16n8k16 bf16, f16   A reg i half h: row g + 8 (i & 1), k 2t + h + 8 (i >> 1)
//                        B reg i half h: k 2t + h + 8i, column g
//   m16n8k32 s8          A reg i byte j: row g + 8 (i & 1), k 4t + j + 16 (i >> 1)
//                        B reg i byte j: k 4t + j + 16i, column g
//   C, D element i       row g + 8 (i >> 1), column 2t + (i & 1)
//   ldmatrix xN          matrix i: rows from lanes 8i .. 8i + 7; a lane gets row g, columns 2t,
//                        2t + 1; with .trans rows 2t, 2t + 1 of column g
//
// Products are exact, summed with C in double and rounded to float once. Hardware truncates
// aligned partial sums in chunks that depend on its generation (Fasi et al. 2021), so only integer
// data can be compared bit by bit.
#include "simt_runtime.h"

namespace simt
{
float bf16_value(u16 h)
{
    return simt_bits<float>((u32)h << 16);
}

float f16_value(u16 h)
{
    const int e = h >> 10 & 31, m = h & 1023;
    float v;
    if (e == 31)
        v = m ? NAN : INFINITY;
    else
        v = e ? ldexpf((float)(m + 1024), e - 25) : ldexpf((float)m, -24);
    return h & 0x8000 ? -v : v;
}

static void run_mma_s8(Collective &c)
{
    int A[16][32], B[8][32];
    for (int l = 0; l < 32; l++) {
        const int g = l >> 2, k = (l & 3) * 4;
        const u32 *a = (const u32 *)c.lane[l].x, *b = (const u32 *)c.lane[l].y;
        for (int i = 0; i < 16; i++)
            A[g + (i >> 2 & 1) * 8][k + (i & 3) + (i >> 3) * 16] =
                (int8_t)(a[i >> 2] >> (8 * (i & 3)));
        for (int i = 0; i < 8; i++)
            B[g][k + (i & 3) + (i >> 2) * 16] = (int8_t)(b[i >> 2] >> (8 * (i & 3)));
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            int *d = (int *)c.lane[l].d;
            const int *x = A[(l >> 2) + (i >> 1) * 8], *y = B[(l & 3) * 2 + (i & 1)];
            u32 sum = (u32)d[i]; // wraps
            for (int k = 0; k < 32; k++)
                sum += (u32)(x[k] * y[k]);
            d[i] = (int)sum;
        }
}

void run_mma(Collective &c)
{
    if (c.op == SC_MMA_S8) {
        run_mma_s8(c);
        return;
    }
    double A[16][16], B[8][16];
    const auto value = c.op == SC_MMA_BF16 ? bf16_value : f16_value;
    for (int l = 0; l < 32; l++) {
        const int g = l >> 2, k = (l & 3) * 2;
        const u32 *a = (const u32 *)c.lane[l].x, *b = (const u32 *)c.lane[l].y;
        for (int i = 0; i < 4; i++)
            for (int h = 0; h < 2; h++)
                A[g + (i & 1) * 8][k + h + (i >> 1) * 8] = (double)value((u16)(a[i] >> (16 * h)));
        for (int i = 0; i < 2; i++)
            for (int h = 0; h < 2; h++)
                B[g][k + h + i * 8] = (double)value((u16)(b[i] >> (16 * h)));
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < 4; i++) {
            float *d = (float *)c.lane[l].d;
            const double *x = A[(l >> 2) + (i >> 1) * 8], *y = B[(l & 3) * 2 + (i & 1)];
            double sum = 0;
            for (int k = 0; k < 16; k++)
                sum += x[k] * y[k];
            d[i] = (float)(sum + (double)d[i]);
        }
}

// A read by the matrix units on behalf of a lane.
void matrix_read(Warp *w, int lane, u64 offset, u32 n, void *pc)
{
    Thread *t = w->block->threads[w->id * 32 + lane];
    if (offset >= kHeap || offset / kArenaBytes != w->block->slot) {
        report("OOB", pc, "matrix operand outside shared memory");
        return;
    }
    state_allows(offset, n, false, pc);
    if (cfg.race)
        race_check(offset, n, false, t, pc);
}

void run_ldmatrix(Warp *w, Collective &c)
{
    const int n = c.lane[0].b, transposed = c.lane[0].c;
    u16 m[4][8][8];
    last.sld_req++;
    last.sld_ideal += (u32)n;
    for (int i = 0; i < n; i++) {
        Request q = {};
        u32 ideal;
        q.size = 16;
        for (int r = 0; r < 8; r++) {
            const u64 offset = offset_of(c.lane[8 * i + r].x);
            if (offset & 15)
                report("MISALIGN", c.pc, "ldmatrix row address not 16-byte aligned");
            matrix_read(w, 8 * i + r, offset, 16, c.pc);
            if (offset < kHeap)
                memcpy(m[i][r], space.base + offset, 16);
            else
                memset(m[i][r], 255, 16);
            q.mask |= 1u << r;
            q.offset[r] = (u32)(offset % kArenaBytes);
        }
        last.sld_wave += wavefronts(q, &ideal);
    }
    for (int l = 0; l < 32; l++)
        for (int i = 0; i < n; i++) {
            const int r = l >> 2, k = (l & 3) * 2;
            const u16 lo = transposed ? m[i][k][r] : m[i][r][k];
            const u16 hi = transposed ? m[i][k + 1][r] : m[i][r][k + 1];
            ((u32 *)c.lane[l].d)[i] = lo | (u32)hi << 16;
        }
}
} // namespace simt

using namespace simt;

void simt_ldmatrix(uint32_t *r, const void *p, int n, int trans)
{
    collective(SC_LDM, ~0u, Operands{0, n, trans, r, p, nullptr}, PC);
}

void simt_mma(int op, void *d, const uint32_t *a, const uint32_t *b)
{
    collective(op, ~0u, Operands{0, 0, 0, d, a, b}, PC);
}
