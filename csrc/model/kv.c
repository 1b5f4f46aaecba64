/* kv.c -- the caches of a model, and which pages of them its sequences hold.
 *
 * One table serves all layers: page p of a sequence is page p of every layer's keys and values. A
 * sequence takes a page when its first position is to be written and gives all back when it is
 * cleared; those given back last are taken first, then from the lowest number up. */
#include "backend/kv.h"
#include "model/model.h"

#include <stdlib.h>
#include <string.h>

nb_status nb_kv_open(nb_backend *be, const nb_hparams *hp, int32_t n_seq, int32_t ctx_len,
                     nb_kv *kv, nb_error *err)
{
    const int32_t pages = nb_kv_pages(ctx_len);
    *kv = (nb_kv){.type = be->kv_type,
                  .n_page = n_seq * pages,
                  .n_seq = n_seq,
                  .seq_pages = pages,
                  .n_kv_head = hp->n_kv_head,
                  .head_dim = hp->head_dim};
    const size_t bytes = nb_kv_bytes(kv);
    nb_status st = be->op->alloc(be, bytes, "keys of the cache", &kv->k, err);
    if (st == NB_OK)
        st = be->op->alloc(be, bytes, "values of the cache", &kv->v, err);
    if (st != NB_OK)
        nb_kv_close(be, kv);
    return st;
}

void nb_kv_close(nb_backend *be, nb_kv *kv)
{
    be->op->release(be, kv->k);
    be->op->release(be, kv->v);
    kv->k = kv->v = NULL;
}

static size_t table_bytes(const nb_pages *p)
{
    return (size_t)p->n_seq * (size_t)p->seq_pages * sizeof *p->table;
}

nb_status nb_pages_open(const nb_model *m, int32_t n_seq, int32_t ctx_len, nb_pages *p,
                        nb_error *err)
{
    const int32_t per = nb_kv_pages(ctx_len), n = n_seq * per;
    *p = (nb_pages){.n_seq = n_seq, .seq_pages = per, .stale = true};
    p->table = nb_alloc_zero((size_t)n, sizeof *p->table, "a table of pages", err);
    p->held = nb_alloc_zero((size_t)n_seq, sizeof *p->held, "pages of sequences", err);
    p->unused = nb_alloc((size_t)n, sizeof *p->unused, "pages nobody holds", err);
    nb_status st = p->table && p->held && p->unused ? NB_OK : NB_NO_ROOM;
    for (; st == NB_OK && p->n_unused < n; p->n_unused++)
        p->unused[p->n_unused] = n - 1 - p->n_unused;
    for (const nb_model *part = m; part && st == NB_OK; part = part->front) {
        nb_page_table *t = &p->on[p->n_device++];
        t->be = part->be;
        st = t->be->op->alloc(t->be, table_bytes(p), "the cache's table of pages",
                              (void **)&t->page, err);
    }
    if (st != NB_OK)
        nb_pages_close(p);
    return st;
}

void nb_pages_close(nb_pages *p)
{
    for (int i = 0; i < p->n_device; i++)
        p->on[i].be->op->release(p->on[i].be, p->on[i].page);
    free(p->table);
    free(p->held);
    free(p->unused);
    *p = (nb_pages){0};
}

const int32_t *nb_pages_on(const nb_pages *p, const nb_backend *be)
{
    for (int i = 0; i < p->n_device; i++)
        if (p->on[i].be == be)
            return p->on[i].page;
    return NULL;
}

void nb_pages_hold(nb_pages *p, int32_t seq, int32_t len)
{
    for (const int32_t want = nb_kv_pages(len); p->held[seq] < want; p->stale = true)
        p->table[(int64_t)seq * p->seq_pages + p->held[seq]++] = p->unused[--p->n_unused];
}

void nb_pages_drop(nb_pages *p, int32_t seq)
{
    while (p->held[seq] > 0)
        p->unused[p->n_unused++] = p->table[(int64_t)seq * p->seq_pages + --p->held[seq]];
}

nb_status nb_pages_send(nb_pages *p, nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; p->stale && i < p->n_device && st == NB_OK; i++)
        st = p->on[i].be->op->upload(p->on[i].be, p->on[i].page, p->table, table_bytes(p), err);
    p->stale = p->stale && st != NB_OK;
    return st;
}
