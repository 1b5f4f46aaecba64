/* memory.h -- checked sizes, arenas, growing buffers.
 *
 * A size from a file is bounded before it is used (hardening R2, R3): the helpers below return
 * false instead of wrapping. */
#ifndef NB_BASE_MEMORY_H
#define NB_BASE_MEMORY_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

static inline bool nb_mul_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_mul_overflow(a, b, out);
}
static inline bool nb_add_ok(uint64_t a, uint64_t b, uint64_t *out)
{
    return !__builtin_add_overflow(a, b, out);
}

/* malloc and calloc of n elements of `size` bytes with the product checked; n = 0 gives one byte.
 * NULL sets a sentence and the caller returns NB_NO_ROOM. `what` names the thing in the
 * sentence. */
void *nb_alloc(size_t n, size_t size, const char *what, nb_error *err);
void *nb_alloc_zero(size_t n, size_t size, const char *what, nb_error *err);
/* 64-byte aligned, for vector loads; transparent huge pages are asked for from 4 MiB up. Free with
 * free(). */
void *nb_alloc_aligned(size_t n, size_t size, const char *what, nb_error *err);

/* A region allocator: everything in it is freed at once, or back to a mark. */
typedef struct nb_arena nb_arena;
nb_arena *nb_arena_open(const char *what, nb_error *err);
/* 64-byte aligned, uninitialised */
void *nb_arena_alloc(nb_arena *a, size_t n, size_t size, nb_error *err);
char *nb_arena_strdup(nb_arena *a, const char *s, size_t n, nb_error *err);
size_t nb_arena_bytes(const nb_arena *a);
void nb_arena_close(nb_arena *a);

/* A growing byte buffer with a maximum set at init (curl's dynbuf idea). Zeroed struct +
 * nb_buf_init. */
typedef struct nb_buf {
    char *p; /* always NUL terminated once anything was added; NULL before */
    size_t n, cap, max;
} nb_buf;
void nb_buf_init(nb_buf *b, size_t max);
nb_status nb_buf_add(nb_buf *b, const void *p, size_t n, nb_error *err) NB_CHECKED;
nb_status nb_buf_str(nb_buf *b, const char *s, nb_error *err) NB_CHECKED;
nb_status nb_buf_printf(nb_buf *b, nb_error *err, const char *fmt, ...) NB_PRINTF(3, 4) NB_CHECKED;
void nb_buf_free(nb_buf *b);

#ifdef __cplusplus
}
#endif
#endif
