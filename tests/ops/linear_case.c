/* linear_case.c -- linear_case.h: the case, its run, and what is compared. NUMERICS.md "linear". */
#include "ops/linear_case.h"
#include "backend/limits.h"
#include "ops/bounds.h"

enum { MAX_PART = 3 };

static const char *const through_name[] = {"", " normed", " silu", " gelu"};

typedef struct linear_case {
    int64_t M, N, K, ldx, ldy;
    int through;
    const float *norm, *up; /* [K]; [M, ldx] */
    int kind, n_part;
    const ops_weight *w;
    nb_matrix part[MAX_PART];
    const float *x, *bias,
        *y; /* bias NULL: none; y: what the output holds at first, its gaps 0xff */
    bool add;
} linear_case;

/* Cuts the rows of w into n parts, as q, k and v stacked would be. */
static void cut(const ops_weight *w, int n, nb_matrix *part)
{
    const int64_t N = w->m.N, K = w->m.K, group = w->m.group ? w->m.group : K;
    for (int i = 0; i < n; i++) {
        const int64_t first = N * i / n, end = N * (i + 1) / n;
        part[i] = w->m;
        part[i].N = end - first;
        if (w->m.dtype)
            part[i].rows += first * nb_dtype_row_bytes(w->m.dtype, K);
        else {
            part[i].codes += first * K;
            part[i].groups += first * ((K + group - 1) / group);
        }
    }
}

linear_wants linear_wanted;

static const float norm_eps = 1e-5f;

/* The row that runs is the one that is wanted; but the library's only where y has an address that
 * it takes. Only the library is there on any device, and only where it was found. */
static void check_row(ops *o, const nb_linear_args *a, const char *row)
{
    const bool library = linear_wanted.row && strcmp(linear_wanted.row, "cublaslt") == 0,
               takes = !library || a->ldy % 4 == 0;
    if (linear_wanted.row && o->row->arith == OPS_BF16 && row &&
        (library || strcmp(o->row->device, "simt") == 0)) {
        o->c->n_check++;
        if ((strcmp(row, linear_wanted.row) == 0) != takes)
            check_report(o->c, __FILE__, __LINE__, "%s: served by %s", o->what, row);
    }
}

/* What x is gated with, on the device; for every other M it begins behind a multiple of 16 bytes,
 * as up does behind a gate of odd width, and x not. */
static const float *up_in(ops *o, const linear_case *k)
{
    const size_t n = (size_t)(k->M * k->ldx), skew = (size_t)(k->M % 2);
    float *host = ops_alloc(n + skew, sizeof *host);
    memcpy(host + skew, k->up, n * sizeof *host);
    const float *p = ops_in(o, host, (n + skew) * sizeof *host);
    free(host);
    return p ? p + skew : NULL;
}

/* The linear, what x goes through included: by itself where the device has that. */
static nb_status run_through(ops *o, const linear_case *k, nb_linear_args *a, nb_error *err)
{
    static int n_run;
    nb_backend *be = o->be;
    const nb_backend_ops *own = be->op;
    nb_backend_ops apart = *own;
    apart.linear_takes = NULL;
    if (linear_wanted.apart && n_run++ % 2)
        be->op = &apart;
    float *room = k->through ? ops_out(o, (size_t)(k->M * k->K) * sizeof *room) : NULL;
    const int64_t before = be->n_launch;
    nb_status st = nb_linear_ready(be, a, 1, k->K, room, err);
    if (st == NB_OK)
        st = be->op->linear(be, a, err);
    if (linear_wanted.launches && be->op == own && be->n_launch != before) {
        o->c->n_check++;
        if (be->n_launch - before > linear_wanted.launches)
            check_report(o->c, __FILE__, __LINE__, "%s: %d kernels, at most %d are wanted", o->what,
                         (int)(be->n_launch - before), linear_wanted.launches);
    }
    be->op = own;
    return st;
}

/* A packed weight takes no more than it was measured to take; but codes with zeros of their own, which
 * measuring does not look at. */
static void check_bytes(ops *o, const linear_case *k, const nb_weight *w)
{
    const bool zeros = strstr(o->what, ", int") && !strstr(o->what, " sym ");
    nb_error err = {.message = ""};
    nb_weight *planned = NULL;
    if (!ops_ok(o, o->be->op->measure_weight(o->be, k->part, k->n_part, &planned, &err), &err))
        return;
    const size_t is = o->be->op->weight_bytes(w), most = o->be->op->weight_bytes(planned);
    o->c->n_check++;
    if (is == 0 || (is > most && !zeros))
        check_report(o->c, __FILE__, __LINE__, "%s: a packed weight of %zu bytes, %zu measured",
                     o->what, is, most);
    o->be->op->release_weight(o->be, planned);
}

static bool run_linear(ops *o, const void *args, void *out)
{
    const linear_case *k = args;
    nb_error err = {.message = ""};
    nb_weight *w = NULL;
    if (!ops_has(o, o->be->op->linear != NULL, "linear") ||
        !ops_ok(o, o->be->op->pack_weight(o->be, k->part, k->n_part, &w, &err), &err))
        return false;
    nb_linear_args a = {.x = ops_in(o, k->x, (size_t)(k->M * k->ldx) * sizeof(float)),
                        .M = k->M,
                        .ldx = k->ldx,
                        .ldy = k->ldy,
                        .w = w,
                        .bias = k->bias ? ops_in(o, k->bias, (size_t)k->N * sizeof(float)) : NULL,
                        .add = k->add,
                        .y = k->add ? ops_inout(o, k->y, (size_t)(k->M * k->ldy) * sizeof(float))
                                    : ops_out(o, (size_t)(k->M * k->ldy) * sizeof(float))};
    if (k->through == NORMED)
        a.through =
            (nb_through){.norm = ops_in(o, k->norm, (size_t)k->K * sizeof(float)), .eps = norm_eps};
    else if (k->through)
        a.through = (nb_through){.up = up_in(o, k),
                                 .act = k->through == GELU ? NB_ACT_GELU_TANH : NB_ACT_SILU};
    nb_arith arith;
    const char *row = nb_backend_linear_row(o->be, &a, &arith);
    o->no_int8 = row && arith == NB_ARITH_BF16_TILES;
    check_row(o, &a, row);
    a.scratch = ops_out(o, o->be->op->linear_scratch(o->be, &a));
    const bool good = ops_ok(o, run_through(o, k, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    check_bytes(o, k, w);
    o->be->op->release_weight(o->be, w);
    return good;
}

/* Token m's x as the product sees it, and how far off each may be. Returns by how much of itself all
 * of it may be off together: the norm's factor. NUMERICS.md "rms_norm", "gated_activation". */
static double x_of(const linear_case *c, int64_t m, float *x, double *off)
{
    const float *from = c->x + m * c->ldx;
    bound_sum squares = {0, 0};
    for (int64_t k = 0; k < c->K; k++)
        bound_add(&squares, (double)from[k] * (double)from[k]);
    const double r = 1 / sqrt(squares.sum / (double)c->K + (double)norm_eps);
    for (int64_t k = 0; k < c->K; k++) {
        const double g = (double)from[k];
        if (c->through == AS_IT_LIES)
            x[k] = from[k];
        else if (c->through == NORMED)
            x[k] = (float)(g * r * (double)c->norm[k]);
        else {
            const double up = (double)c->up[m * c->ldx + k],
                         act = c->through == SILU
                                   ? g / (1 + exp(-g))
                                   : 0.5 * g * (1 + tanh(0.79788456 * (g + 0.044715 * g * g * g)));
            x[k] = (float)(act * up);
            off[k] = BOUND_U * (16 + 2 * fmin(fabs(g), 104)) * fabs(act * up) +
                     4 * BOUND_U * fabs(g * up);
        }
    }
    return c->through == NORMED ? 4 * BOUND_U + bound_of(&squares) / squares.sum / 2 : 0;
}

static void compare_linear(ops *o, const void *args, const void *got, const void *want)
{
    const linear_case *c = args;
    const float *y = got, *ref = want;
    float *half = ops_alloc((size_t)c->K, sizeof *half), *x = ops_alloc((size_t)c->K, sizeof *x);
    double *off = ops_alloc((size_t)c->K, sizeof *off);
    double error = 0, variance = 0; /* over the whole matrix */
    ops_gaps(o, got, sizeof(float), c->M, c->N, c->ldy);
    for (int64_t m = 0; m < c->M; m++) {
        const double together = x_of(c, m, x, off);
        ops_int8_half_steps(x, c->K, half);
        for (int64_t n = 0; n < c->N; n++) {
            bound_sum whole = {0, 0};
            double rss = 0;
            ops_product(o, c->kind, c->w->value + n * c->K, c->w->part + n * c->K, x, half, c->K,
                        &whole, &rss);
            const double factor = together * fabs(whole.sum);
            for (int64_t k = 0; k < c->K && c->through > NORMED; k++)
                rss += off[k] * off[k] * (double)c->w->value[n * c->K + k] *
                       (double)c->w->value[n * c->K + k];
            bound_add(&whole, c->bias ? (double)c->bias[n] : 0);
            bound_add(&whole, c->add ? (double)c->y[m * c->ldy + n] : 0);
            const double tol = bound_of(&whole) + factor + 4 * sqrt(rss),
                         d = (double)y[m * c->ldy + n] - (double)ref[m * c->ldy + n];
            CHECK_NEAR(o->c, y[m * c->ldy + n], ref[m * c->ldy + n], tol, o->what);
            error += d * d;
            variance += rss / 3 + bound_of(&whole) * bound_of(&whole); /* uniform in +-h: h^2 / 3 */
        }
    }
    if (c->M * c->N >= 256) { /* together the errors must be as small as independent roundings are:
                                 a systematic one is not */
        o->c->n_check++;
        if (!(error <= 4 * variance))
            check_report(o->c, __FILE__, __LINE__, "%s: rms error %.3g, roundings explain %.3g",
                         o->what, sqrt(error / (double)(c->M * c->N)),
                         sqrt(variance / (double)(c->M * c->N)));
    }
    free(half);
    free(x);
    free(off);
}

static const ops_test test = {run_linear, compare_linear};

void linear_case_of(check *c, ops_set *set, int kind, int64_t M, int64_t N, int64_t K,
                    uint64_t seed, int64_t most_work)
{
    nb_rng r;
    ops_seed(&r, seed * 1000003 + (uint64_t)(kind * 7919 + M * 131 + N * 17 + K));
    ops_weight w;
    char name[64], what[160];
    ops_kind_name(kind, name, sizeof name);
    if (!ops_weight_make(kind, N, K, &r, &w)) {
        check_report(c, __FILE__, __LINE__, "no valid block of %s was found", name);
        ops_weight_free(&w);
        return;
    }
    linear_case k = {.M = M,
                     .N = N,
                     .K = K,
                     .ldx = K + (seed % 3 == 1   ? 3
                                 : seed % 3 == 2 ? 16
                                                 : 0),
                     .ldy = N + (seed % 4 == 1   ? 5
                                 : seed % 4 == 3 ? 16
                                                 : 0),
                     .kind = kind,
                     .w = &w,
                     .through = linear_wanted.through,
                     .add = seed % 2 == 1};
    k.n_part = N >= 15 ? (int)(seed % MAX_PART) + 1 : 1;
    cut(&w, k.n_part, k.part);
    float *x = ops_rows(&r, M, K, k.ldx, 1.0f), *y = ops_rows(&r, M, N, k.ldy, 4.0f),
          *bias = ops_normals(&r, N, 2.0f),
          *norm = linear_wanted.through == NORMED ? ops_normals(&r, K, 1.0f) : NULL,
          *up = linear_wanted.through > NORMED ? ops_rows(&r, M, K, k.ldx, 1.0f) : NULL;
    k.x = x;
    k.y = y;
    k.norm = norm;
    k.up = up;
    k.bias = seed % 5 < 2 ? bias : NULL;
    snprintf(what, sizeof what, "%s M %d N %d K %d parts %d ldx %d ldy %d%s%s%s", name, (int)M,
             (int)N, (int)K, k.n_part, (int)k.ldx, (int)k.ldy, k.bias ? " bias" : "",
             k.add ? " add" : "", through_name[k.through]);
    const size_t out_bytes = (size_t)(M * k.ldy) * sizeof(float);
    const int64_t work = M * N * K < most_work ? M * N * K : most_work;
    if (set)
        ops_against_ref(set, &test, &k, out_bytes, work, what);
    else
        ops_same_bits(c, &test, &k, out_bytes, work, what);
    free(x);
    free(y);
    free(bias);
    free(norm);
    free(up);
    ops_weight_free(&w);
}

int ops_kind_named(const char *want)
{
    char name[64];
    for (int kind = 0; kind < ops_kind_count(); kind++) {
        ops_kind_name(kind, name, sizeof name);
        if (strcmp(name, want) == 0)
            return kind;
    }
    return -1;
}
