/* columns.c -- take_columns on every backend: bytes, words of 4 and of 8, as they are. NUMERICS.md
 * "take_columns". */
#include "ops/ops.h"

typedef enum how { MOVED, CLEARED, COPIED, DIAGONAL } how;

typedef struct take_case {
    how how;
    int64_t M, K, ldx, ldy;
    int32_t size;
    const uint8_t *x;
    const int32_t *col;
} take_case;

static size_t x_bytes(const take_case *k) /* the last row of a diagonal is one element long */
{
    return (size_t)(k->how == DIAGONAL ? k->M * k->M : k->M * k->ldx) * (size_t)k->size;
}

static bool run_take(ops *o, const void *args, void *out)
{
    const take_case *k = args;
    nb_error err = {.message = ""};
    if (!ops_has(o, o->be->op->take_columns != NULL, "take_columns"))
        return false;
    const bool in_place = k->how == CLEARED;
    void *x = in_place ? ops_inout(o, k->x, x_bytes(k)) : ops_in(o, k->x, x_bytes(k));
    const nb_take_args a = {
        .x = x,
        .M = k->M,
        .K = k->K,
        .ldx = k->ldx,
        .ldy = k->ldy,
        .size = k->size,
        .col = k->col ? ops_in(o, k->col, (size_t)k->K * sizeof(int32_t)) : NULL,
        .y = in_place ? x : ops_out(o, (size_t)(k->M * k->ldy) * (size_t)k->size)};
    const bool good = ops_ok(o, o->be->op->take_columns(o->be, &a, &err), &err);
    if (good)
        ops_get(o, a.y, out);
    return good;
}

static void compare_take(ops *o, const void *args, const void *got, const void *want)
{
    const take_case *k = args;
    const size_t bytes = (size_t)(k->M * k->ldy) * (size_t)k->size;
    o->c->n_check++;
    if (memcmp(got, want, bytes) != 0)
        check_report(o->c, __FILE__, __LINE__, "%s: other bytes than ref's", o->what);
}

static const ops_test test = {run_take, compare_take};

static void each_case(check *c, ops_set *set)
{
    static const int64_t shape[][2] = {{1, 1}, {3, 40}, {65, 129}, {200, 300}};
    static const int32_t size[] = {1, 4, 8};
    static const char *const name[] = {"moved", "cleared in place", "copied", "diagonal"};
    for (int i = 0; i < 4 * 3 * 4; i++) {
        nb_rng r;
        nb_rng_seed(&r, (uint64_t)(7700 + i));
        take_case k = {.how = (how)(i % 4),
                       .size = size[i / 4 % 3],
                       .M = shape[i / 12][0],
                       .K = shape[i / 12][1]};
        k.ldx = k.how == MOVED ? k.K + i % 3 : k.K;
        k.ldy = k.how == MOVED || k.how == COPIED ? k.K + i / 4 % 2 : k.K;
        if (k.how == DIAGONAL) {
            k.ldx = k.M + 1;
            k.K = k.ldy = 1;
        }
        uint8_t *x = ops_alloc(x_bytes(&k), 1);
        int32_t *col = ops_alloc((size_t)k.K, sizeof *col);
        for (size_t b = 0; b < x_bytes(&k); b++)
            x[b] = (uint8_t)nb_rng_u64(&r); /* NaN among them: nothing is computed */
        for (int64_t j = 0; j < k.K; j++)   /* all of them, back to front, then some cleared */
            col[j] = k.how == MOVED ? (int32_t)(k.K - 1 - j) : nb_rng_u64(&r) % 3 ? (int32_t)j : -1;
        if (k.how == MOVED && k.K > 2)
            col[k.K / 2] = -1;
        k.x = x;
        k.col = k.how == MOVED || k.how == CLEARED ? col : NULL;
        char what[128];
        snprintf(what, sizeof what, "%s M %d K %d, %d bytes each", name[k.how], (int)k.M, (int)k.K,
                 k.size);
        const size_t bytes = (size_t)(k.M * k.ldy) * (size_t)k.size;
        if (set)
            ops_against_ref(set, &test, &k, bytes, k.M * k.K, what);
        else
            ops_same_bits(c, &test, &k, bytes, k.M * k.K, what);
        free(x);
        free(col);
    }
}

/* 3 x 3, by hand. */
static void worked(check *c)
{
    static const double x[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
    static const int32_t col[] = {2, -1, 0};
    static const double moved[] = {3, 0, 1, 6, 0, 4, 9, 0, 7}, diagonal[] = {1, 5, 9};
    const nb_backend_options opt = {.exact = true};
    nb_backend *be = NULL;
    nb_error err = {.message = ""};
    double y[9];
    CHECK_EQ(c, nb_backend_open("ref", &opt, &be, &err), NB_OK);
    if (!be)
        return;
    nb_take_args a = {.x = x, .M = 3, .K = 3, .ldx = 3, .ldy = 3, .size = 8, .col = col, .y = y};
    CHECK_EQ(c, be->op->take_columns(be, &a, &err), NB_OK);
    CHECK(c, memcmp(y, moved, sizeof moved) == 0);
    a = (nb_take_args){.x = x, .M = 3, .K = 1, .ldx = 4, .ldy = 1, .size = 8, .y = y};
    CHECK_EQ(c, be->op->take_columns(be, &a, &err), NB_OK);
    CHECK(c, memcmp(y, diagonal, sizeof diagonal) == 0);
    nb_backend_close(be);
}

static void every_case(check *c)
{
    ops_set set;
    ops_set_open(&set, c);
    each_case(c, &set);
    ops_set_close(&set);
}

static void same_bits(check *c)
{
    each_case(c, NULL);
}

static const check_case cases[] = {
    {"ref takes columns and a diagonal as worked by hand", worked},
    {"every backend moves the same bytes", every_case},
    {"whatever the threads", same_bits},
};
CHECK_MAIN(cases)
