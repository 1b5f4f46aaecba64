/* amx.h -- AMX tiles: eight registers of 16 rows x 64 bytes, and what must surround their use.
 *
 * Tile state belongs to a thread: whoever multiplies with tiles opens them first and closes them
 * after, so that the system has 8 KiB less to save when it changes threads. The permission is the
 * process's (cpu.c).
 *
 * gcc 12 tells its optimizer that ldtilecfg reads 8 of the 64 bytes and tileloadd none: a
 * configuration in local memory loses its other stores, and stores of operands may move behind the
 * loads. Hence a constant here, and the fence before tiles are read. */
#ifndef NB_BACKEND_CPU_AMX_H
#define NB_BACKEND_CPU_AMX_H

#include <immintrin.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>

enum { NB_AMX_ROWS = 16, NB_AMX_BYTES = 64 /* of a row */, NB_AMX_K = 32 /* bf16 in a row */ };

static inline void nb_amx_open(void)
{
    static const struct {
        uint8_t palette, start_row, zero[14];
        uint16_t row_bytes[16];
        uint8_t rows[16];
    } whole = {.palette = 1,
               .row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
               .rows = {16, 16, 16, 16, 16, 16, 16, 16}};
    _Static_assert(sizeof whole == 64, "the operand of ldtilecfg");
    _tile_loadconfig(&whole);
}

static inline void nb_amx_close(void)
{
    _tile_release();
}

/* What was stored before is in memory for the tile loads that follow. */
static inline void nb_amx_fence(void)
{
    atomic_signal_fence(memory_order_seq_cst);
}

#endif
