/* count.c -- addresses that are only numbers, sizes that are added up (count.h). A new op of
 * backend.h is one line of the table at the end; tests/unit/count.c misses it there. */
#include "backend/count.h"
#include "base/memory.h"

#include <stdlib.h>
#include <string.h>

/* Addresses from here on belong to no one: below the kernel's half, above what mmap hands out by
 * default for our sizes. */
#define FIRST ((uintptr_t)1 << 46)

typedef struct held {
    uintptr_t at;
    size_t bytes;
    bool host;
} held;

typedef struct counter {
    nb_backend base;
    nb_backend *inner;
    bool owned;
    nb_count n;
    uintptr_t next;
    held *held;
    size_t n_held, room;
    nb_backend_ops op;
} counter;

/* What callers hold as nb_weight: never read but here. */
typedef struct counted_weight {
    nb_weight *inner;
    size_t bytes;
} counted_weight;

static counter *of(const nb_backend *be)
{
    return (counter *)(uintptr_t)be;
}

static nb_weight *inner_weight(const nb_weight *w)
{
    return w ? ((const counted_weight *)(const void *)w)->inner : NULL;
}

/* ---- sizes ---- */

static void add(counter *c, size_t bytes, bool host)
{
    size_t *now = host ? &c->n.host : &c->n.device,
           *peak = host ? &c->n.host_peak : &c->n.device_peak;
    *now += bytes;
    *peak = *now > *peak ? *now : *peak;
    c->n.peak = c->n.host + c->n.device > c->n.peak ? c->n.host + c->n.device : c->n.peak;
}

/* As nb_alloc_aligned rounds: large blocks are whole huge pages. */
static size_t whole(size_t bytes)
{
    const size_t huge = (size_t)2 << 20, align = bytes >= 2 * huge ? huge : 64;
    return (bytes + align - 1) / align * align;
}

static nb_status hold(counter *c, size_t bytes, bool host, void **out, nb_error *err)
{
    *out = NULL;
    if (bytes > PTRDIFF_MAX / 4)
        return nb_fail(err, NB_NO_ROOM, "out of memory: a buffer of %zu bytes", bytes);
    if (c->n_held == c->room) {
        const size_t room = c->room ? 2 * c->room : 64;
        held *more = realloc(c->held, room * sizeof *more);
        if (!more)
            return nb_fail(err, NB_NO_ROOM, "out of memory: %zu buffers of a plan", room);
        c->held = more;
        c->room = room;
    }
    c->held[c->n_held++] = (held){c->next, whole(bytes), host};
    *out = (void *)c->next;
    c->next += (whole(bytes) + 4095) / 4096 * 4096 + 4096;
    add(c, whole(bytes), host);
    return NB_OK;
}

static void let_go(counter *c, const void *p)
{
    for (size_t i = 0; i < c->n_held; i++)
        if (c->held[i].at == (uintptr_t)p) {
            *(c->held[i].host ? &c->n.host : &c->n.device) -= c->held[i].bytes;
            c->held[i] = c->held[--c->n_held];
            return;
        }
}

nb_status nb_count_host(nb_backend *be, size_t bytes, void **out, nb_error *err)
{
    return hold(of(be), bytes, true, out, err);
}

void nb_count_host_free(nb_backend *be, void *p)
{
    let_go(of(be), p);
}

nb_status nb_host_alloc(nb_backend *be, size_t n, size_t size, const char *what, void **out,
                        nb_error *err)
{
    if (nb_backend_counts(be))
        return nb_count_host(be, n * size, out, err);
    *out = nb_alloc_aligned(n, size, what, err);
    return *out ? NB_OK : NB_NO_ROOM;
}

void nb_host_free(nb_backend *be, void *p)
{
    if (nb_backend_counts(be))
        nb_count_host_free(be, p);
    else
        free(p);
}

/* ---- memory ---- */

static void count_close(nb_backend *be)
{
    counter *c = of(be);
    if (c->owned)
        nb_backend_close(c->inner);
    free(c->held);
    free(c);
}

static nb_status count_alloc(nb_backend *be, size_t bytes, const char *what, void **out,
                             nb_error *err)
{
    (void)what;
    return hold(of(be), bytes, false, out, err);
}

static void count_release(nb_backend *be, void *p)
{
    let_go(of(be), p);
}

static nb_status count_upload(nb_backend *be, void *dst, const void *src, size_t bytes,
                              nb_error *err)
{
    (void)be, (void)dst, (void)src, (void)bytes, (void)err;
    return NB_OK;
}

static nb_status count_download(nb_backend *be, void *dst, const void *src, size_t bytes,
                                nb_error *err)
{
    (void)be, (void)src, (void)err;
    if ((uintptr_t)dst < FIRST || (uintptr_t)dst >= of(be)->next) /* memory that is there */
        memset(dst, 0x3f, bytes);
    return NB_OK;
}

static nb_status count_zero(nb_backend *be, void *dst, size_t bytes, nb_error *err)
{
    (void)be, (void)dst, (void)bytes, (void)err;
    return NB_OK;
}

static nb_status count_sync(nb_backend *be, nb_error *err)
{
    (void)be, (void)err;
    return NB_OK;
}

/* ---- weights ---- */

static nb_status count_pack_weight(nb_backend *be, const nb_matrix *part, int n_part,
                                   nb_weight **out, nb_error *err)
{
    counter *c = of(be);
    *out = NULL;
    counted_weight *w = nb_alloc_zero(1, sizeof *w, "a weight", err);
    if (!w)
        return NB_NO_ROOM;
    const nb_status st = c->inner->op->measure_weight(c->inner, part, n_part, &w->inner, err);
    if (st != NB_OK) {
        free(w);
        return st;
    }
    w->bytes = whole(c->inner->op->weight_bytes(w->inner));
    add(c, w->bytes, false);
    *out = (nb_weight *)(void *)w;
    return NB_OK;
}

static void count_release_weight(nb_backend *be, nb_weight *weight)
{
    counter *c = of(be);
    counted_weight *w = (counted_weight *)(void *)weight;
    if (!w)
        return;
    c->n.device -= w->bytes;
    c->inner->op->release_weight(c->inner, w->inner);
    free(w);
}

static size_t count_weight_bytes(const nb_weight *w)
{
    return ((const counted_weight *)(const void *)w)->bytes;
}

static size_t count_linear_scratch(nb_backend *be, const nb_linear_args *a)
{
    const counter *c = of(be);
    nb_linear_args inner = *a;
    inner.w = inner_weight(a->w);
    return c->inner->op->linear_scratch(c->inner, &inner);
}

static bool count_linear_takes(nb_backend *be, const nb_linear_args *a)
{
    const counter *c = of(be);
    nb_linear_args inner = *a;
    inner.w = inner_weight(a->w);
    return c->inner->op->linear_takes(c->inner, &inner);
}

static size_t count_grouped_linear_scratch(nb_backend *be, const nb_grouped_args *a)
{
    enum { kExperts = 4096 }; /* no more are read (hparams.c) */
    const counter *c = of(be);
    const nb_weight *w[kExperts];
    nb_grouped_args inner = *a;
    inner.w = w;
    inner.n_expert = a->n_expert < kExperts ? a->n_expert : kExperts;
    for (int32_t e = 0; e < inner.n_expert; e++)
        w[e] = inner_weight(a->w[e]);
    return c->inner->op->grouped_linear_scratch(c->inner, &inner);
}

/* ---- ops ---- */

#define NOTHING(op, args)                                                                          \
    static nb_status count_##op(nb_backend *be, const args *a, nb_error *err)                      \
    {                                                                                              \
        (void)be, (void)a, (void)err;                                                              \
        return NB_OK;                                                                              \
    }
#define SCRATCH(name, args)                                                                        \
    static size_t count_##name##_scratch(nb_backend *be, const args *a)                            \
    {                                                                                              \
        return of(be)->inner->op->name##_scratch(of(be)->inner, a);                                \
    }
NOTHING(embed, nb_embed_args)
NOTHING(rms_norm, nb_rms_norm_args)
NOTHING(linear, nb_linear_args)
NOTHING(rope_append_kv, nb_rope_args)
NOTHING(attention, nb_attention_args)
SCRATCH(attention, nb_attention_args)
NOTHING(gated_activation, nb_gated_args)
NOTHING(logits_soft_cap, nb_soft_cap_args)
NOTHING(argmax, nb_argmax_args)
NOTHING(sample, nb_sample_args)
SCRATCH(sample, nb_sample_args)
NOTHING(add_scaled, nb_add_args)
NOTHING(route_experts, nb_route_args)
NOTHING(grouped_linear, nb_grouped_args)
NOTHING(combine_experts, nb_combine_args)
NOTHING(gather_rows, nb_gather_args)
NOTHING(take_columns, nb_take_args)
NOTHING(limit_rows, nb_limit_rows_args)
NOTHING(gram_accumulate, nb_gram_args)
SCRATCH(gram, nb_gram_args)
NOTHING(drift_accumulate, nb_drift_args)
SCRATCH(drift, nb_drift_args)
NOTHING(unfactor, nb_unfactor_args)
NOTHING(correct, nb_correct_args)
SCRATCH(correct, nb_correct_args)
NOTHING(quantize_rows, nb_quantize_rows_args)
NOTHING(clip_rows, nb_clip_rows_args)
SCRATCH(clip_rows, nb_clip_rows_args)
NOTHING(scale_error, nb_scale_error_args)
SCRATCH(scale_error, nb_scale_error_args)
NOTHING(gptq_sweep, nb_gptq_sweep_args)
SCRATCH(gptq_sweep, nb_gptq_sweep_args)
NOTHING(dequantize, nb_dequantize_args)
SCRATCH(quant_error, nb_quant_error_args)

static nb_status count_factor(nb_backend *be, const nb_factor_args *a, nb_error *err)
{
    (void)be, (void)err;
    *a->failed_minor = 0;
    return NB_OK;
}

static nb_status count_quant_error(nb_backend *be, const nb_quant_error_args *a, nb_error *err)
{
    (void)be, (void)err;
    *a->out = 1.0;
    return NB_OK;
}

static size_t count_free_bytes(nb_backend *be) /* of the device as it is: nothing is allocated */
{
    return of(be)->inner->op->free_bytes(of(be)->inner);
}

/* An op that the device lacks is lacking here too. */
static nb_backend_ops table(const nb_backend_ops *in)
{
#define IF(op) .op = in->op ? count_##op : NULL
    return (nb_backend_ops){
        .close = count_close,
        .alloc = count_alloc,
        .release = count_release,
        .upload = count_upload,
        .download = count_download,
        .zero = count_zero,
        .sync = count_sync,
        .pack_weight = count_pack_weight,
        .measure_weight = count_pack_weight,
        .release_weight = count_release_weight,
        .weight_bytes = count_weight_bytes,
        IF(free_bytes),
        IF(linear_scratch),
        IF(embed),
        IF(rms_norm),
        IF(linear),
        IF(linear_takes),
        IF(rope_append_kv),
        IF(attention),
        IF(attention_scratch),
        IF(gated_activation),
        IF(logits_soft_cap),
        IF(argmax),
        IF(sample),
        IF(sample_scratch),
        IF(add_scaled),
        IF(route_experts),
        IF(grouped_linear_scratch),
        IF(grouped_linear),
        IF(combine_experts),
        IF(gather_rows),
        IF(take_columns),
        IF(limit_rows),
        IF(gram_accumulate),
        IF(gram_scratch),
        IF(drift_accumulate),
        IF(drift_scratch),
        IF(factor),
        IF(unfactor),
        IF(correct),
        IF(correct_scratch),
        IF(quantize_rows),
        IF(clip_rows_scratch),
        IF(clip_rows),
        IF(scale_error_scratch),
        IF(scale_error),
        IF(gptq_sweep),
        IF(gptq_sweep_scratch),
        IF(dequantize),
        IF(quant_error),
        IF(quant_error_scratch),
    };
#undef IF
}

/* ---- opening ---- */

nb_status nb_backend_count_open(nb_backend *inner, bool owned, nb_backend **out, nb_error *err)
{
    *out = NULL;
    nb_status st =
        nb_op_check(inner, inner->op->measure_weight != NULL, "planning (measure_weight)", err);
    counter *c = st == NB_OK ? nb_alloc_zero(1, sizeof *c, "a plan", err) : NULL;
    if (!c) {
        if (owned)
            nb_backend_close(inner);
        return st == NB_OK ? NB_NO_ROOM : st;
    }
    c->base = *inner;
    c->op = table(inner->op);
    c->base.op = &c->op;
    c->inner = inner;
    c->owned = owned;
    c->next = FIRST;
    *out = &c->base;
    return NB_OK;
}

bool nb_backend_counts(const nb_backend *be)
{
    return be->op->close == count_close;
}

const nb_count *nb_backend_count(const nb_backend *be)
{
    return &of(be)->n;
}

void nb_backend_count_restart(nb_backend *be)
{
    nb_count *n = &of(be)->n;
    n->device_peak = n->device;
    n->host_peak = n->host;
    n->peak = n->device + n->host;
}

bool nb_backend_in_host_memory(const nb_backend *be)
{
    return strncmp(be->name, "cuda", 4) != 0;
}
