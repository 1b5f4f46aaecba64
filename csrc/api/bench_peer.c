/* bench_peer.c -- the speed of bf16 weights in the hands of the device's vendor, measured beside
 * ours with the same shapes: random bits, copies that take turns. */
#include "api/bench_kernels.h"
#include "api/samples.h"
#include "base/memory.h"
#include "base/random.h"

#include <stdlib.h>

enum { kMost = 256 };

typedef struct peer {
    nb_backend *be;
    int64_t M, N, K;
    void *x, *y, *w[kMost];
    size_t n, next;
} peer;

static nb_status one(void *arg, nb_error *err)
{
    peer *p = arg;
    const void *w = p->w[p->next];
    p->next = (p->next + 1) % p->n;
    return p->be->op->peer_bf16(p->be, p->M, p->N, p->K, p->x, w, p->y, err);
}

/* bf16 of size 1 to 2, either sign. */
static nb_status put_random(peer *p, int64_t n, const char *what, void **out, nb_error *err)
{
    nb_rng g;
    uint16_t *host = nb_alloc((size_t)n, sizeof *host, what, err);
    nb_status st =
        host ? p->be->op->alloc(p->be, (size_t)n * sizeof *host, what, out, err) : NB_NO_ROOM;
    nb_rng_seed(&g, 3);
    for (int64_t i = 0; i < n && st == NB_OK; i++)
        host[i] = (uint16_t)((nb_rng_u64(&g) & 0x807f) | 0x3f80);
    if (st == NB_OK)
        st = p->be->op->upload(p->be, *out, host, (size_t)n * sizeof *host, err);
    if (st == NB_OK)
        st = p->be->op->sync(p->be, err); /* host may go */
    free(host);
    return st;
}

nb_status nb_bench_peer(nb_backend *be, const nb_limits *l, int64_t M, int64_t N, int64_t K,
                        double *us, nb_error *err)
{
    peer p = {.be = be, .M = M, .N = N, .K = K};
    double sample[NB_BENCH_SAMPLES];
    *us = 0;
    if (!be->op->peer_bf16)
        return NB_OK;
    const size_t want = nb_bench_copies(l, (size_t)(N * K) * sizeof(uint16_t));
    nb_status st = be->op->alloc(be, (size_t)(M * N) * sizeof(uint16_t), "bf16 outputs", &p.y, err);
    if (st == NB_OK)
        st = put_random(&p, M * K, "bf16 inputs", &p.x, err);
    for (; p.n < want && p.n < kMost && st == NB_OK; p.n++)
        st = put_random(&p, N * K, "a bf16 weight", &p.w[p.n], err);
    if (st == NB_OK)
        st = nb_bench_time(be, one, &p, sample, err);
    if (st == NB_OK)
        *us = nb_samples_median(sample, NB_BENCH_SAMPLES);
    for (size_t i = 0; i < kMost; i++)
        be->op->release(be, p.w[i]);
    be->op->release(be, p.x);
    be->op->release(be, p.y);
    return st == NB_UNSUPPORTED ? NB_OK : st; /* the library is not there */
}
