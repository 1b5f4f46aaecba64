/* bench.c -- `nibble bench MODEL` and `nibble bench kernels`: speeds, and what the machine
 * allows. */
#include "base/status.h"
#include "out.h"
#include "roofline.h"
#include "table.h"

#include <stdlib.h>
#include <string.h>

static const nb_flag flags[] = {
    {"prompt", 'p', "N", "tokens of the prompt that is read (default 512; 0: leave it out)"},
    {"gen", 'n', "N", "tokens that are generated (default 64; 0: leave it out)"},
    {"batch", 'b', "1,8", "sequences that generate at once (default 1)"},
    {"repeat", 'r', "N", "runs of each test (default 5); one more comes first and does not count"},
    {"output", 'o', "md|csv|json|svg", "form of the table (default md); svg, a picture: kernels"},
    {"op", 0, "linear|attention|prefill",
     "kernels: the operation (default linear); attention: a token of each of -m sequences, "
     "prefill: "
     "a prompt of -m tokens"},
    {"shape", 0, "NxK|HxGxD",
     "kernels: outputs x inputs (default 4096x4096 and 14336x4096); of attention heads x heads of "
     "the cache x values (default 32x8x128)"},
    {"ctx", 'c', "N", "kernels: positions in each cache of --op attention (default 4096)"},
    {"tokens", 'm', "1,16,256", "kernels: tokens at once (--rows names those of 4096, too)"},
    {"kind", 0, "q4_0|q4_k|bf16|nf4|int4g128sym",
     "kernels: the number format (default: the usual ones); of attention the type of the cache"},
    {"rows", 0, NULL, "kernels: only say which row serves what"},
    {NULL, 0, NULL, NULL},
};

enum { kMostInList = 16 };

/* ---- a model ---- */

static const nb_column model_columns[] = {
    {"test", true},
    {"tok_per_s", false},
    {"stddev", false},
    {"gb_per_s", false},
    {"share_of_bandwidth", false},
    {"flop_per_s", false},
    {"share_of_peak", false},
    {"seconds", false},
    {"bandwidth_gb_per_s", false},
    {"peak_flop_per_s", false},
};
enum { kModelColumns = sizeof model_columns / sizeof *model_columns };

static void model_row(void *arg, const nb_bench_row *r)
{
    const nb_number v[kModelColumns] = {
        [1] = nb_table_number(r->tok_per_s),
        [2] = r->tok_per_s > 0 && r->stddev == 0.0 ? nb_table_count(0) : nb_table_number(r->stddev),
        [3] = nb_table_number(r->gb_per_s),
        [4] = nb_table_number(r->share_of_bandwidth),
        [5] = nb_table_number(r->flop_per_s),
        [6] = nb_table_number(r->share_of_peak),
        [7] = nb_table_number(r->seconds),
        [8] = nb_table_number(r->bandwidth_gb_per_s),
        [9] = nb_table_number(r->peak_flop_per_s),
    };
    const char *text[kModelColumns] = {r->test};
    for (int i = 1; i < kModelColumns; i++)
        text[i] = v[i].text;
    nb_table_row(arg, text);
}

/* Of a list that ends with 0. */
static int32_t most_of(const int32_t *list)
{
    int32_t most = 0;
    for (; *list; list++)
        most = *list > most ? *list : most;
    return most;
}

static nb_status run_model(const nb_args *a, nb_error *err)
{
    nb_model *m = NULL;
    nb_table table;
    int32_t batch[kMostInList + 1] = {1, 0};
    nb_bench_options o = {
        .n_prompt = 512, .n_gen = 64, .n_run = 5, .batch = batch, .row = model_row, .arg = &table};
    nb_status st = nb_table_open(a, model_columns, kModelColumns, &table, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "prompt", 0, 1 << 24, &o.n_prompt, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "gen", 0, 1 << 24, &o.n_gen, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "repeat", 1, 1000, &o.n_run, err);
    if (st == NB_OK)
        st = nb_flag_list(a, "batch", 1, 4096, batch, kMostInList, err);
    if (st == NB_OK)
        st = nb_open_from_args(a, o.n_prompt > o.n_gen ? o.n_prompt : o.n_gen, most_of(batch), &m,
                               err);
    if (st == NB_OK)
        st = nb_bench_model(m, &o, err);
    nb_model_close(m);
    return st;
}

/* ---- kernels ---- */

static const nb_column kernel_columns[] = {
    {"op", true},
    {"row", true},
    {"kind", true},
    {"m", false},
    {"n", false},
    {"k", false},
    {"us", false},
    {"us_spread", false},
    {"gb_per_s", false},
    {"tflop_per_s", false},
    {"share_of_limit", false},
    {"ratio_to_cublas_bf16", false},
    {"rotated_bytes", false},
    {"limit_gb_per_s", false},
    {"limit_tflop_per_s", false},
    {"timed", true},
    {"n_call", false},
    {"us_launched", false},
};
enum { kKernelColumns = sizeof kernel_columns / sizeof *kernel_columns, kNameColumns = 6 };

static void kernel_row(void *arg, const nb_kernel_row *r)
{
    const nb_number v[kKernelColumns] = {
        [3] = nb_table_count(r->m),
        [4] = nb_table_count(r->n),
        [5] = nb_table_count(r->k),
        [6] = nb_table_number(r->us),
        [7] = r->us > 0 && r->us_spread == 0.0 ? nb_table_count(0) : nb_table_number(r->us_spread),
        [8] = nb_table_number(r->gb_per_s),
        [9] = nb_table_number(r->tflop_per_s),
        [10] = nb_table_number(r->share_of_limit),
        [11] = nb_table_number(r->ratio_to_cublas_bf16),
        [12] = nb_table_count(r->rotated_bytes),
        [13] = nb_table_number(r->limit_gb_per_s),
        [14] = nb_table_number(r->limit_tflop_per_s),
        [16] = nb_table_count(r->n_call),
        [17] = nb_table_number(r->us_launched),
    };
    const char *text[kKernelColumns] = {r->op, r->row, r->kind, [15] = r->timed};
    for (int i = 3; i < kKernelColumns; i++)
        text[i] = text[i] ? text[i] : v[i].text;
    nb_table_row(arg, text);
}

/* --shape of one op: so many numbers with an x between them. */
static nb_status read_shape(const nb_args *a, nb_bench_kernels_options *o, nb_error *err)
{
    enum { kMost = 1 << 22, kMostNumbers = 3 };
    const char *s = nb_flag_text(a, "shape"), *at = s;
    const bool linear = !o->op || strcmp(o->op, "linear") == 0;
    const int want = linear ? 2 : kMostNumbers;
    long long v[kMostNumbers] = {0};
    if (!s)
        return NB_OK;
    for (int i = 0; at && i < want; i++) {
        char *end = NULL;
        v[i] = *at >= '1' && *at <= '9' ? strtoll(at, &end, 10) : 0;
        at = v[i] > 0 && v[i] <= kMost && *end == (i + 1 < want ? 'x' : 0) ? end + 1 : NULL;
    }
    if (!at)
        return nb_fail(err, NB_USAGE, "--shape %.40s is no shape like %s of at most %d each", s,
                       linear ? "4096x14336" : "32x8x128", kMost);
    if (linear) {
        o->n = v[0];
        o->k = v[1];
    } else {
        o->n_head = (int32_t)v[0];
        o->n_kv_head = (int32_t)v[1];
        o->head_dim = (int32_t)v[2];
    }
    return NB_OK;
}

static nb_status run_kernels(const nb_args *a, nb_error *err)
{
    int32_t tokens[kMostInList + 1] = {0};
    nb_model_options mo;
    nb_table table;
    nb_roofline picture = {.n = 0};
    const char *form = nb_flag_text(a, "output");
    const bool svg = form && strcmp(form, "svg") == 0 && !nb_flag_on(a, "json");
    nb_bench_kernels_options o = {.op = nb_flag_text(a, "op"),
                                  .kind = nb_flag_text(a, "kind"),
                                  .m = nb_flag_text(a, "tokens") ? tokens : NULL,
                                  .list_rows = nb_flag_on(a, "rows"),
                                  .row = svg ? nb_roofline_add : kernel_row,
                                  .arg = svg ? (void *)&picture : (void *)&table};
    nb_status st = svg ? NB_OK
                       : nb_table_open(a, kernel_columns,
                                       o.list_rows ? kNameColumns : kKernelColumns, &table, err);
    if (st == NB_OK)
        st = nb_model_options_from_args(a, &mo, err);
    if (st == NB_OK)
        st = read_shape(a, &o, err);
    if (st == NB_OK)
        st = nb_flag_list(a, "tokens", 1, 65536, tokens, kMostInList, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ctx", 1, 1 << 24, &o.ctx_len, err);
    if (st != NB_OK)
        return st;
    o.device = mo.device;
    o.n_thread = mo.n_thread;
    o.exact = mo.exact;
    st = nb_bench_kernels(&o, err);
    if (svg && st == NB_OK)
        return nb_roofline_write(&picture, err);
    free(picture.row);
    return st;
}

static nb_status run(const nb_args *a, nb_error *err)
{
    const nb_status st = nb_need_operand(a, "MODEL, or the word kernels,", err);
    if (st != NB_OK)
        return st;
    return strcmp(a->operand[0], "kernels") == 0 ? run_kernels(a, err) : run_model(a, err);
}

const nb_command nb_command_bench = {.name = "bench",
                                     .operands = "MODEL|kernels",
                                     .summary = "Measures speed, beside what this machine allows.",
                                     .flags = flags,
                                     .run = run,
                                     .n_operand = 1};
