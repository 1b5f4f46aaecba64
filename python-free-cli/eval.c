/* eval.c -- `nibble eval MODEL -f TEXT`: perplexity, and KL against a second model. */
#include "base/status.h"
#include "out.h"

#include <stdlib.h>
#include <unistd.h>

static const nb_flag flags[] = {
    {"file", 'f', "TEXT", "the text"},
    {"ctx", 'c', "N", "tokens a chunk (default 512)"},
    {"first-chunk", 0, "K", "begin with chunk K"},
    {"chunks", 0, "N", "so many chunks (default: all)"},
    {"spread", 0, NULL, "spread the chunks evenly over the text"},
    {"all-positions", 0, NULL, "score every position, not the second half of each chunk"},
    {"against", 0, "MODEL2",
     "the reference: KL(MODEL2 || MODEL) in nats a token; its cache is of the default type"},
    {NULL, 0, NULL, NULL},
};

static void show(void *arg, int32_t done, int32_t total, double ppl)
{
    (void)arg;
    fprintf(stderr, "\r[%d/%d] perplexity %.4f%s", done, total, ppl, done == total ? "\n" : "");
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_model *m = NULL, *ref = NULL;
    nb_model_options mo;
    nb_eval_result r = {0};
    char *text = NULL;
    const char *path = nb_flag_text(a, "file"), *against = nb_flag_text(a, "against");
    nb_eval_options o = {.text_path = path,
                         .spread = nb_flag_on(a, "spread"),
                         .all_positions = nb_flag_on(a, "all-positions")};
    if (!nb_flag_on(a, "quiet") && isatty(STDERR_FILENO))
        o.progress = show;
    nb_status st = nb_flag_int(a, "ctx", 4, 1 << 24, &o.ctx, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "first-chunk", 0, INT32_MAX, &o.first_chunk, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "chunks", 1, INT32_MAX, &o.n_chunk, err);
    if (st == NB_OK && !path)
        st = nb_fail(err, NB_USAGE, "-f TEXT is missing");
    if (st == NB_OK)
        st = nb_read_text(path, &text, &o.text_n, err);
    o.text = text;
    if (st == NB_OK)
        nb_warn_of_broken_text(a, "the text", text, o.text_n);
    if (st == NB_OK)
        st = nb_open_from_args(a, o.ctx ? o.ctx : 512, 1, &m, err);
    if (st == NB_OK && against) {
        st = nb_model_options_from_args(a, &mo, err);
        mo.ctx = o.ctx ? o.ctx : 512;
        /* so that a model against itself shows what the type of its cache costs */
        mo.kv_type = NULL;
        if (st == NB_OK)
            st = nb_model_open(against, &mo, &ref, err);
    }
    if (st == NB_OK)
        st = nb_eval(m, ref, &o, &r, err);
    if (st == NB_OK && r.overlap && !nb_flag_on(a, "quiet"))
        fprintf(stderr,
                "nibble: warning: %s: the chunks overlap, fewer of them would say as much; the "
                "standard errors are too small\n",
                path);
    if (st == NB_OK && nb_flag_on(a, "json")) {
        printf("{\"ppl\":%.6f,\"ppl_stderr\":%.6f,\"tokens\":%lld", r.ppl, r.ppl_stderr,
               (long long)r.tokens);
        if (r.has_kl)
            printf(",\"kl_mean\":%.6f,\"kl_stderr\":%.6f,\"kl_median\":%.6f,\"kl_p99\":%.6f,"
                   "\"top1\":%.6f",
                   r.kl_mean, r.kl_stderr, r.kl_median, r.kl_p99, r.top1);
        printf(",\"seconds\":%.3f,\"tok_per_s\":%.2f}\n", r.seconds, r.tok_per_s);
    } else if (st == NB_OK) {
        printf("perplexity  %.4f +- %.4f  (%lld tokens scored, %.0f tok/s)\n", r.ppl, r.ppl_stderr,
               (long long)r.tokens, r.tok_per_s);
        if (r.has_kl)
            printf("KL          mean %.4f +- %.4f, median %.4f, 99 %% %.4f nats a token\nsame top  "
                   "  %.2f %%\n",
                   r.kl_mean, r.kl_stderr, r.kl_median, r.kl_p99, 100.0 * r.top1);
    }
    nb_model_close(ref);
    nb_model_close(m);
    free(text);
    return st;
}

const nb_command nb_command_eval = {
    .name = "eval",
    .operands = "MODEL -f TEXT",
    .summary = "Measures perplexity and, against a second model, KL divergence.",
    .flags = flags,
    .run = run,
    .n_operand = 1};
