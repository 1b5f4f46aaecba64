/* bench_peer.c -- the speed of bf16 weights in the hands of the device's vendor, measured beside
 * ours with the same shapes: random bits, copies that take turns. The copies hold the same numbers:
 * a cache goes by addresses. */
#include "api/bench_kernels.h"
#include "base/memory.h"

#include <stdlib.h>

enum { kMost = 256 };

struct nb_bench_peer {
    nb_backend *be;
    int64_t M, N, K;
    void *x, *y, *w[kMost];
    size_t n, next;
};

static nb_status one(void *arg, nb_error *err)
{
    nb_bench_peer *p = arg;
    const void *w = p->w[p->next];
    p->next = (p->next + 1) % p->n;
    return p->be->op->peer_bf16(p->be, p->M, p->N, p->K, p->x, w, p->y, err);
}

static nb_status put(nb_backend *be, const uint16_t *host, int64_t n, const char *what, void **out,
                     nb_error *err)
{
    const size_t bytes = (size_t)n * sizeof *host;
    const nb_status st = be->op->alloc(be, bytes, what, out, err);
    return st == NB_OK ? be->op->upload(be, *out, host, bytes, err) : st;
}

nb_status nb_bench_peer_open(nb_backend *be, const nb_limits *l, int64_t most_m, int64_t N,
                             int64_t K, nb_bench_peer **out, nb_error *err)
{
    *out = NULL;
    if (!be->op->peer_bf16)
        return NB_OK;
    const size_t want = nb_bench_copies(l, (size_t)(N * K) * sizeof(uint16_t));
    const int64_t n = N > most_m ? N * K : most_m * K;
    nb_bench_peer *p = nb_alloc_zero(1, sizeof *p, "a peer", err);
    uint16_t *host = nb_alloc((size_t)n, sizeof *host, "a bf16 weight", err);
    nb_status st = p && host ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK) {
        *p = (nb_bench_peer){.be = be, .N = N, .K = K};
        nb_bench_bf16(host, n, 3);
        st = be->op->alloc(be, (size_t)(most_m * N) * sizeof *host, "bf16 outputs", &p->y, err);
    }
    if (st == NB_OK)
        st = put(be, host, most_m * K, "bf16 inputs", &p->x, err);
    for (size_t i = 0; i < want && i < kMost && st == NB_OK; i++) {
        st = put(be, host, N * K, "a bf16 weight", &p->w[i], err);
        p->n += st == NB_OK;
        if (i == 0 && st == NB_OK) { /* one call, before the others cost their time */
            p->M = 1;
            st = one(p, err);
        }
    }
    if (p && st == NB_OK)
        st = be->op->sync(be, err); /* host may go */
    free(host);
    if (st == NB_OK)
        *out = p;
    else
        nb_bench_peer_close(p);
    return st == NB_UNSUPPORTED ? NB_OK : st; /* the library is not there */
}

nb_status nb_bench_peer_time(nb_bench_peer *p, int64_t M, nb_bench_times *out, nb_error *err)
{
    p->M = M;
    return nb_bench_time(p->be, one, p, (int64_t)p->n, out, err);
}

void nb_bench_peer_close(nb_bench_peer *p)
{
    if (!p)
        return;
    for (size_t i = 0; i < kMost; i++)
        p->be->op->release(p->be, p->w[i]);
    p->be->op->release(p->be, p->x);
    p->be->op->release(p->be, p->y);
    free(p);
}
