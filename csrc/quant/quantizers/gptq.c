/* gptq.c -- GPTQ (Frantar et al. 2022): round column by column, each error is made good by the
 * columns not yet rounded.
 *
 *   H = sum x x^T (+ lambda I)        minimise tr((W - Q) H (W - Q)^T)
 *   H_kk = 0: the input k is dead, W_k = 0, H_kk = 1
 *   C or W C given: W := W + alpha W C (H + lambda_c I)^-1, the least-squares target for inputs
 *       that drifted (quantizers.md 2.3)
 *   order: columns by falling H_kk with static groups (parameters of every group from W before any
 *          update); or natural order with parameters from the current values when a group begins;
 *          or act-order: by falling H_kk, groups formed in that order (g_idx says which input is in
 *          which)
 *   R R^T = P (H + lambda I) P^T, U = R^-1 (one factorisation; backend.h nb_factor_args), then the
 *       sweep (nb_gptq_sweep_args)
 *
 * lambda = damp x the mean of H's diagonal; lambda_c = (damp + kRidge K / tokens) x that mean. W C
 * (H + lambda_c I)^-1 is a ridge regression of the drift's effect on the inputs. Of that effect
 * only a part is linear in them, and fitting the rest costs as much as K / tokens of it elsewhere:
 * the prior that it is isotropic, and 1 / kRidge of what is no function of the inputs, gives that
 * lambda_c (Hoerl and Kennard 1970). docs/QUALITY.md has what was tried.
 *
 * When the factor fails lambda grows tenfold, from damp up to 1; then the matrix is rounded to
 * nearest. All of it goes into the note.
 * Without H (an expert that too few tokens were sent to) it is rounded with the ranges of least
 * squared error.
 * Where the device can, R lies in H's upper triangle, and H comes back from the lower one at the
 * end (backend.h, unfactor).
 * Cost: K^3 / 3 + N K^2 FLOP (K^3 / 3 + 4 N K^2 more to correct, 2 N K^2 where W C is given); 8 K^2
 * bytes, 8 K^2 more for C or 8 N K for W C, and 8 K^2 for R where it has its own. */
#include "base/memory.h"
#include "quant/quantizer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const double kRidge = 3.0;

struct gptq {
    const nb_quant_job *j;
    int64_t K, G;
    double *diag, *add, *sorted_add; /* [K] host: H_kk; what is added to it; act-order: in the
                                      * order perm */
    int32_t *perm;                   /* [K] host, or NULL: natural order */
    int32_t *place;                  /* [K] host, act-order: where perm put a column */
    int32_t *col;                    /* [K] device, for `take` */
    double *r;                       /* [K,K] device: H's own memory, or `own` */
    double *own;                     /* [K,K] device, or NULL */
    bool taken;                      /* H's upper triangle is not H's at the moment */
    float *sorted;   /* [N,K] device, act-order: W with its columns in the order perm */
    nb_group *fixed; /* [N,G] device, static groups */
    void *scratch;
};

/* ---- statistics of the input ---- */

/* to[n][j] = from[n][col[j]], 0 where col[j] < 0; elements of `size` bytes. col [K] host, or NULL: a
 * copy. */
static nb_status take(const struct gptq *g, void *to, const void *from, size_t size,
                      const int32_t *col, nb_error *err)
{
    nb_backend *be = g->j->be;
    const nb_take_args a = {.x = from,
                            .M = g->j->N,
                            .K = g->K,
                            .ldx = g->K,
                            .ldy = g->K,
                            .size = (int32_t)size,
                            .col = col ? g->col : NULL,
                            .y = to};
    const nb_status st =
        col ? be->op->upload(be, g->col, col, (size_t)g->K * sizeof *col, err) : NB_OK;
    return st == NB_OK ? be->op->take_columns(be, &a, err) : st;
}

/* Zeroes the columns of dead inputs in W. */
static nb_status clear_dead(struct gptq *g, nb_error *err)
{
    const nb_quant_job *j = g->j;
    j->stats->n_dead = 0;
    for (int64_t k = 0; k < g->K; k++)
        j->stats->n_dead += g->diag[k] == 0.0;
    if (!j->stats->n_dead)
        return NB_OK;
    int32_t *alive = nb_alloc((size_t)g->K, sizeof *alive, "dead inputs", err);
    for (int64_t k = 0; k < g->K && alive; k++)
        alive[k] = g->diag[k] == 0.0 ? -1 : (int32_t)k;
    const nb_status st = alive ? take(g, j->w, j->w, sizeof *j->w, alive, err) : NB_NO_ROOM;
    free(alive);
    return st;
}

/* lambda = damp x mean of the diagonal after the dead inputs got their 1. Of scaled inputs it is
 * that of the unscaled ones, lambda / s_k^2: what is known of the inputs does not grow with the
 * scales, which make small ones as large as the others. */
static void set_damping(struct gptq *g, double damp)
{
    const float *s = g->j->scale;
    double mean = 0.0;
    for (int64_t k = 0; k < g->K; k++)
        mean += g->diag[k] == 0.0 ? 1.0 : s ? g->diag[k] * (double)s[k] * (double)s[k] : g->diag[k];
    mean /= (double)g->K;
    for (int64_t k = 0; k < g->K; k++)
        g->add[k] =
            damp * mean / (s ? (double)s[k] * (double)s[k] : 1.0) + (g->diag[k] == 0.0 ? 1.0 : 0.0);
}

struct key {
    double h;
    int32_t k;
};
static int falling(const void *a, const void *b)
{
    const struct key *x = a, *y = b; /* equal ones keep their order: the same bytes everywhere */
    return x->h != y->h ? (x->h < y->h ? 1 : -1) : (x->k > y->k) - (x->k < y->k);
}

static nb_status order_columns(struct gptq *g, nb_error *err)
{
    struct key *key = nb_alloc((size_t)g->K, sizeof *key, "an order of columns", err);
    if (!key)
        return NB_NO_ROOM;
    for (int64_t k = 0; k < g->K; k++)
        key[k] = (struct key){g->diag[k], (int32_t)k};
    qsort(key, (size_t)g->K, sizeof *key, falling);
    for (int64_t k = 0; k < g->K; k++)
        g->perm[k] = key[k].k;
    free(key);
    return NB_OK;
}

/* ---- the steps ---- */

/* H's factor, from damp on in steps of ten until there is one; *damp: which it was, *done false:
 * not even the mean of the diagonal helped. */
static nb_status factor(struct gptq *g, double *damp, bool *done, nb_error *err)
{
    nb_backend *be = g->j->be;
    for (*done = false;; *damp *= 10.0) {
        int64_t failed = 0;
        set_damping(g, *damp);
        const nb_factor_args a = {.h = g->j->h,
                                  .diag = g->diag,
                                  .diag_add = g->add,
                                  .perm = g->perm,
                                  .K = g->K,
                                  .r = g->r,
                                  .failed_minor = &failed};
        g->taken = !g->own;
        const nb_status st = be->op->factor(be, &a, err);
        *done = failed == 0;
        if (st != NB_OK || *done || *damp >= 1.0)
            return st;
    }
}

/* H as it was. */
static nb_status give_back(struct gptq *g, nb_error *err)
{
    const nb_unfactor_args a = {.h = g->j->h, .diag = g->diag, .K = g->K};
    if (!g->taken)
        return NB_OK;
    g->taken = false;
    return g->j->be->op->unfactor(g->j->be, &a, err);
}

static nb_status with_scratch(struct gptq *g, size_t bytes, nb_error *err)
{
    g->j->be->op->release(g->j->be, g->scratch);
    g->scratch = NULL;
    return g->j->be->op->alloc(g->j->be, bytes ? bytes : 64, "scratch of GPTQ", &g->scratch, err);
}

/* Moves W to where the drifted inputs give what the original's gave; an H that has no factor moves
 * nothing. */
static nb_status correct(struct gptq *g, nb_error *err)
{
    nb_backend *be = g->j->be;
    const nb_quant_job *j = g->j;
    nb_correct_args a = {.w = j->w,
                         .N = j->N,
                         .K = g->K,
                         .c = j->c,
                         .wc = j->wc,
                         .r = g->r,
                         .perm = g->perm,
                         .alpha = j->correction};
    double damp = j->damp + (j->n_token ? kRidge * (double)g->K / (double)j->n_token : 0.0);
    bool factored = false;
    nb_status st = nb_op_check(be, be->op->correct != NULL, "correct", err);
    if (st == NB_OK)
        st = factor(g, &damp, &factored, err);
    if (st == NB_OK && factored)
        st = with_scratch(g, be->op->correct_scratch ? be->op->correct_scratch(be, &a) : 0, err);
    a.scratch = g->scratch;
    if (st == NB_OK && factored)
        st = be->op->correct(be, &a, err);
    return st == NB_OK ? give_back(g, err) : st;
}

/* Codes and q of the sorted columns go back to their places, by way of the sorted W, which nobody
 * reads any more; groups stay in sorted order, g_idx leads to them. */
static nb_status unsort(struct gptq *g, nb_error *err)
{
    const nb_quant_job *j = g->j;
    const int64_t group = nb_grid_group(j->grid, g->K);
    for (int64_t k = 0; k < g->K; k++) {
        j->g_idx[g->perm[k]] = (int32_t)(k / group);
        g->place[g->perm[k]] = (int32_t)k;
    }
    nb_status st = take(g, g->sorted, j->q, sizeof *j->q, g->place, err);
    if (st == NB_OK)
        st = take(g, j->q, g->sorted, sizeof *j->q, NULL, err);
    if (st == NB_OK)
        st = take(g, g->sorted, j->codes, sizeof *j->codes, g->place, err);
    return st == NB_OK ? take(g, j->codes, g->sorted, sizeof *j->codes, NULL, err) : st;
}

static nb_status sweep(struct gptq *g, nb_error *err)
{
    const nb_quant_job *j = g->j;
    nb_backend *be = j->be;
    nb_gptq_sweep_args a = {.w = j->w,
                            .N = j->N,
                            .K = g->K,
                            .r = g->r,
                            .perm = j->act_order ? NULL : g->perm,
                            .grid = j->grid,
                            .groups_fixed = g->fixed,
                            .groups = j->groups,
                            .codes = j->codes,
                            .diag_add = g->add,
                            .error = j->row_error};
    nb_status st = g->fixed ? nb_quant_round(j, g->fixed, NULL, err) : NB_OK;
    if (st == NB_OK && j->act_order) {
        /* R is that of the sorted inputs, so to the sweep their order is the natural one */
        a.w = g->sorted;
        for (int64_t k = 0; k < g->K; k++)
            g->sorted_add[k] = g->add[g->perm[k]];
        a.diag_add = g->sorted_add;
        st = take(g, g->sorted, j->w, sizeof *g->sorted, g->perm, err);
    }
    if (st == NB_OK)
        st = with_scratch(g, be->op->gptq_sweep_scratch(be, &a), err);
    a.scratch = g->scratch;
    if (st == NB_OK)
        st = be->op->gptq_sweep(be, &a, err);
    if (st == NB_OK)
        st = nb_quant_values(j, err);
    return st == NB_OK && j->act_order ? unsort(g, err) : st;
}

static nb_status round_to_nearest(const nb_quant_job *j, nb_error *err)
{
    const int64_t group = nb_grid_group(j->grid, j->K);
    for (int64_t k = 0; j->act_order && k < j->K; k++)
        j->g_idx[k] = (int32_t)(k / group);
    const nb_status st = nb_quant_round(j, j->groups, j->codes, err);
    return st == NB_OK ? nb_quant_values(j, err) : st;
}

static nb_status open_buffers(struct gptq *g, nb_error *err)
{
    const nb_quant_job *j = g->j;
    const int64_t group = nb_grid_group(j->grid, g->K);
    g->G = (g->K + group - 1) / group;
    g->diag = nb_alloc((size_t)g->K, sizeof *g->diag, "a diagonal", err);
    g->add = nb_alloc((size_t)g->K, sizeof *g->add, "a diagonal", err);
    nb_status st = g->diag && g->add ? NB_OK : NB_NO_ROOM;
    if (st == NB_OK && j->act_order) {
        g->sorted_add = nb_alloc((size_t)g->K, sizeof *g->sorted_add, "a diagonal", err);
        g->place = nb_alloc((size_t)g->K, sizeof *g->place, "an order of columns", err);
        st = g->sorted_add && g->place ? NB_OK : NB_NO_ROOM;
    }
    if (st == NB_OK && (j->static_groups || j->act_order)) {
        g->perm = nb_alloc((size_t)g->K, sizeof *g->perm, "an order of columns", err);
        st = g->perm ? NB_OK : NB_NO_ROOM;
    }
    if (st == NB_OK)
        st = j->be->op->alloc(j->be, (size_t)g->K * sizeof *g->col, "an order of columns",
                              (void **)&g->col, err);
    if (st == NB_OK && j->act_order)
        st = j->be->op->alloc(j->be, (size_t)(j->N * g->K) * sizeof *g->sorted, "columns in order",
                              (void **)&g->sorted, err);
    else if (st == NB_OK && j->static_groups)
        st = j->be->op->alloc(j->be, (size_t)(j->N * g->G) * sizeof *g->fixed, "static groups",
                              (void **)&g->fixed, err);
    g->r = j->h;
    /* that clipping reads H behind the factor */
    if (st != NB_OK || (j->be->op->unfactor && j->clip != NB_CLIP_OUTPUT))
        return st;
    st = j->be->op->alloc(j->be, (size_t)(g->K * g->K) * sizeof(double), "a factor",
                          (void **)&g->own, err);
    g->r = g->own;
    return st;
}

static nb_status gptq_layer(const nb_quant_job *j, nb_error *err)
{
    struct gptq g = {.j = j, .K = j->K};
    bool factored = false;
    const nb_backend_ops *op = j->be->op;
    if (!j->h) { /* an expert that saw too little */
        nb_quant_job unseen = *j;
        unseen.clip = j->clip == NB_CLIP_NONE ? NB_CLIP_MSE : j->clip;
        return round_to_nearest(&unseen, err);
    }
    nb_status st = nb_op_check(j->be,
                               op->factor && op->gptq_sweep && op->quantize_rows &&
                                   op->dequantize && op->take_columns,
                               "gptq_sweep", err);
    if (st == NB_OK)
        st = open_buffers(&g, err);
    if (st == NB_OK)
        st = nb_quant_diagonal(j->be, j->h, j->K, g.diag, err);
    if (st == NB_OK)
        st = clear_dead(&g, err);
    if (st == NB_OK && g.perm)
        st = order_columns(&g, err);
    if (st == NB_OK && (j->c || j->wc) && j->correction > 0.0)
        st = correct(&g, err);
    nb_times_lap(j->times, NB_LAP_CORRECT);
    double damp = j->damp;
    if (st == NB_OK)
        st = factor(&g, &damp, &factored, err);
    nb_times_lap(j->times, NB_LAP_FACTOR);
    j->stats->damp = damp;
    if (st == NB_OK && factored) {
        if (damp > j->damp)
            snprintf(j->stats->note, sizeof j->stats->note, "damping raised to %.3g", damp);
        st = sweep(&g, err);
    }
    if (st == NB_OK)
        st = give_back(&g, err);
    if (st == NB_OK && !factored) {
        snprintf(j->stats->note, sizeof j->stats->note,
                 "not positive definite at damping %.3g: rounded to nearest", damp);
        st = round_to_nearest(j, err);
    }
    free(g.diag);
    free(g.add);
    free(g.sorted_add);
    free(g.perm);
    free(g.place);
    op->release(j->be, g.col);
    op->release(j->be, g.own);
    op->release(j->be, g.fixed);
    op->release(j->be, g.sorted);
    op->release(j->be, g.scratch);
    return st;
}

const nb_quantizer nb_quantizer_gptq = {
    .name = "gptq",
    .summary = "error feedback through the Hessian of the inputs, corrected for drift",
    .cost = "K^3 / 3 + 5 N K^2 FLOP, 16 K^2 bytes",
    .needs = NB_NEEDS_HESSIAN,
    .orders = true,
    .corrects = true,
    .layer = gptq_layer};

const nb_quantizer nb_quantizer_awq_gptq = {
    .name = "awq-gptq",
    .summary = "inputs scaled as awq does it, rounded as gptq does it",
    .cost = "that of awq and that of gptq",
    .needs = NB_NEEDS_HESSIAN,
    .orders = true,
    .corrects = true,
    .input_scales = true,
    .clip = NB_CLIP_OUTPUT,
    .layer = gptq_layer};
