/* quantize.c -- `nibble quantize MODEL -o OUT`: a smaller model, and what was lost. */
#include "base/clock.h"
#include "base/status.h"
#include "out.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const nb_flag flags[] = {
    {"output", 'o', "OUT", "the file (*.gguf) or folder to write"},
    {"method", 0, "rtn|gptq|...",
     "how to choose the codes (default gptq); an unknown one lists them"},
    {"bits", 0, "2|3|4|8", "of a weight (default 4); in GGUF 4 is q4_0, 8 is q8_0"},
    {"group", 0, "N|row",
     "inputs that share a scale (default: in GGUF 32; in a folder the first of 128, 64, 32 that "
     "packs most linears)"},
    {"sym", 0, NULL, "symmetric groups (default)"},
    {"asym", 0, NULL, "groups with a zero of their own; in GGUF q4_1"},
    {"range", 0, "full|absmax", "what symmetric groups reach in a folder (default full)"},
    {"act-order", 0, NULL, "heaviest inputs first, groups by index: --format gptq, gptq_v2, plain"},
    {"grid", 0, "q4_0|q5_0|...", "the number format; an unknown one lists them"},
    {"format", 0, "FORMAT",
     "gguf, gptq, gptq_v2, awq, compressed-tensors, bnb, plain: the rounded values as floats "
     "(default "
     "by OUT: gguf or gptq)"},
    {"embedding", 0, "TYPE|keep",
     "format of embedding and head (default q8_0; keep in a folder, where they are floats)"},
    {"correction", 0, "0..1", "correction for drifted inputs (default 1)"},
    {"damp", 0, "X", "share of the mean diagonal added to H (default 0.05)"},
    {"token-limit", 0, "X",
     "a token's input counts as X times the median's length at most (default 1.2; 0: as it is)"},
    {"no-static-groups", 0, NULL, "scales from current values, natural order"},
    {"calib", 0, "FILE|self", "calibration text; self (default): the model writes it"},
    {"samples", 0, "N", "sequences (default 64)"},
    {"ctx", 'c', "N", "tokens a sequence (default 512)"},
    {"clip", 0, "HOW",
     "narrow the groups' ranges: none, mse, p99.9 (default none), output (default of awq and "
     "awq-gptq)"},
    {"seed", 0, "S", "seed of self-calibration"},
    {"eval", 0, "FILE", "measure perplexity before and after, KL and agreement on this text"},
    {"max-kl", 0, "X",
     "with --eval: exit 1 when the mean KL exceeds X nats a token; the file stays"},
    {"report", 0, "R.html", "write a page of what was done and lost"},
    {"max-shard-size", 0, "SIZE", "data in one file of a folder, at most (default 5GB)"},
    {"memory", 0, "SIZE",
     "hard budget of memory, such as 24G: activations go to disk, or the run is refused"},
    {"layers", 0, "A:B", "only the layers A .. B-1, the others copied as they are"},
    {"resume", 0, NULL, "go on with an unfinished OUT; MODEL and settings are known"},
    {"restart", 0, NULL, "throw away what an unfinished run left"},
    {"dry-run", 0, NULL, "everything but the work: sizes, memory"},
    {NULL, 0, NULL, NULL},
};

static volatile sig_atomic_t interrupted;
static volatile int stop;

/* What was last said of the work, for SIGUSR1; a handler that meets it half written shows less of
 * it. */
static char last_said[256];

static void say_now(const char *line)
{
    const ssize_t n = write(STDERR_FILENO, line, strlen(line));
    (void)n; /* nobody is left to be told */
}

/* The first signal lets the group of linears be finished, which takes minutes in a large model; a
 * second one ends at once, which is no worse: what is sealed stays. */
static void on_signal(int s)
{
    if (interrupted)
        _exit(128 + s);
    interrupted = s;
    stop = 1;
    say_now(
        "\nends behind the linears at work; once more: at once. Sealed layers stay either way\n");
}

static void on_question(int s)
{
    (void)s;
    say_now(last_said[0] ? last_said : "no layer is done yet");
    say_now("\n");
}

static void watch_signals(void)
{
    struct sigaction a = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigemptyset(&a.sa_mask);
    sigaction(SIGINT, &a, NULL);
    sigaction(SIGTERM, &a, NULL);
    a.sa_handler = on_question;
    sigaction(SIGUSR1, &a, NULL);
}

typedef struct watcher { /* who reads the progress lines */
    bool tty;
    int32_t done; /* of the line before */
    int64_t said_ns;
} watcher;

/* Redrawn on a terminal; elsewhere a line per step, within a step at most one in kQuietS seconds. */
static void show(void *arg, const char *line, int32_t done, int32_t total, double eta_s)
{
    enum { kQuietS = 30 };
    watcher *w = arg;
    const int64_t now = nb_clock_ns();
    if (eta_s < 0)
        snprintf(last_said, sizeof last_said, "%s", line);
    else if (isinf(eta_s))
        snprintf(last_said, sizeof last_said, "[%d/%d] %s", done, total, line);
    else
        snprintf(last_said, sizeof last_said, "[%d/%d] %s  eta %dm%02ds", done, total, line,
                 (int)eta_s / 60, (int)eta_s % 60);
    if (eta_s >= 0 && w->tty) {
        fprintf(stderr, "\r\x1b[K%s%s", last_said, done == total ? "\n" : "");
        return;
    }
    if (eta_s >= 0 && done == w->done && now - w->said_ns < kQuietS * (int64_t)1000000000)
        return;
    w->done = done;
    w->said_ns = now;
    fprintf(stderr, "%s\n", last_said);
}

static void put_number(const char *key, double v)
{
    if (isfinite(v))
        printf(",\"%s\":%.8g", key, v);
    else
        printf(",\"%s\":null", key);
}

/* st, err: the gate's answer, or NB_OK. */
static void print_json(const nb_quantize_result *r, bool dry_run, nb_status st, nb_error *err)
{
    printf("{\"method\":\"%s\",\"grid\":\"%s\",\"format\":\"%s\",\"bits_per_weight\":%.4f,\"bits_"
           "per_weight_linears\":%.4f,\"bytes\":%lld,"
           "\"seconds\":%.3f,\"peak_rss_bytes\":%lld",
           r->method, r->grid, r->format, r->bits_per_weight, r->bits_per_weight_linears,
           (long long)r->bytes, r->seconds, (long long)r->peak_rss_bytes);
    printf(",\"plan_bytes\":%lld,\"plan_device_bytes\":%lld,\"spill_bytes\":%lld,\"resumed_"
           "layers\":%d",
           (long long)r->plan_bytes, (long long)r->plan_device_bytes, (long long)r->spill_bytes,
           r->resumed_layers);
    if (r->n_expert_linear || r->expert_passes)
        printf(",\"experts\":{\"passes\":%d,\"linears\":%lld,\"unseen\":%lld,\"rounded\":%lld}",
               r->expert_passes, (long long)r->n_expert_linear, (long long)r->n_expert_unseen,
               (long long)r->n_expert_rounded);
    if (dry_run) /* seconds and peak memory are the planning's own */
        printf(",\"dry_run\":true");
    if (r->requantized[0])
        printf(",\"requantized_from\":\"%s\"", r->requantized);
    if (r->has_full) {
        printf(",\"extrapolated\":{\"layers\":%d", r->full_layers);
        put_number("seconds", r->full_seconds);
        if (r->full_tokens) {
            printf(",\"tokens\":%lld", (long long)r->full_tokens);
            put_number("seconds_at_tokens", r->full_seconds_at_full_tokens);
        }
        printf("}");
    }
    if (r->full_plan_bytes)
        printf(",\"plan_bytes_at_128x2048\":%lld", (long long)r->full_plan_bytes);
    if (r->has_eval) {
        put_number("ppl_before", r->ppl_before);
        put_number("ppl_before_stderr", r->ppl_before_stderr);
        put_number("ppl_after", r->ppl_after);
        put_number("ppl_after_stderr", r->ppl_after_stderr);
        put_number("kl_mean", r->kl_mean);
        put_number("kl_stderr", r->kl_stderr);
        put_number("kl_median", r->kl_median);
        put_number("kl_p99", r->kl_p99);
        put_number("top1", r->top1);
    }
    printf(",\"phases\":[");
    for (int i = 0; i < r->n_phase; i++)
        printf("%s{\"name\":\"%s\",\"seconds\":%.3f}", i ? "," : "", r->phase[i].name,
               r->phase[i].seconds);
    printf("],\"layer_phases\":[");
    for (int i = 0; i < r->n_part; i++)
        printf("%s{\"name\":\"%s\",\"seconds\":%.3f,\"cpu_seconds\":%.3f}", i ? "," : "",
               r->part[i].name, r->part[i].seconds, r->part[i].cpu_seconds);
    printf("],\"layers\":[");
    for (size_t i = 0; i < r->n_layer; i++) {
        printf("%s{\"name\":\"%s\"", i ? "," : "", r->layers[i].name);
        put_number("error", r->layers[i].error);
        put_number("error_rtn", r->layers[i].error_rtn);
        printf(",\"bits_per_weight\":%.4f", r->layers[i].bits_per_weight);
        if (r->layers[i].expert)
            printf(",\"tokens\":%lld,\"rounded\":%s", (long long)r->layers[i].n_token,
                   r->layers[i].rounded ? "true" : "false");
        printf(",\"note\":");
        nb_put_json(stdout, r->layers[i].note, strlen(r->layers[i].note));
        putchar('}');
    }
    printf("]");
    if (st != NB_OK) {
        putchar(',');
        nb_put_error(stdout, st, err);
    }
    printf("}\n");
}

static void print_text(const nb_quantize_result *r, bool dry_run)
{
    size_t noted = 0;
    printf("%s %s: %lld bytes, %.3f bits a weight (%.3f without embedding and head)", r->method,
           r->grid, (long long)r->bytes, r->bits_per_weight, r->bits_per_weight_linears);
    if (dry_run) /* what the planning itself took is nobody's question */
        printf("; a dry run, nothing was written\n");
    else
        printf(", %.1f s, peak memory %.0f MiB\n", r->seconds,
               (double)r->peak_rss_bytes / 1048576.0);
    if (r->plan_bytes)
        printf("planned memory %.0f MiB, without mapped files and --eval%s\n",
               (double)r->plan_bytes / 1048576.0,
               r->spill_bytes ? ", the activations in a file" : "");
    if (r->has_full)
        printf("extrapolated to all %d layers: %.0f s; and to 128 x 2048 tokens: %.0f s\n",
               r->full_layers, r->full_seconds, r->full_seconds_at_full_tokens);
    if (r->has_eval)
        printf("perplexity %.4f +- %.4f -> %.4f +- %.4f, KL %.4f +- %.4f nats a token (median "
               "%.4f, 99 %% %.4f), same top %.2f %%\n",
               r->ppl_before, r->ppl_before_stderr, r->ppl_after, r->ppl_after_stderr, r->kl_mean,
               r->kl_stderr, r->kl_median, r->kl_p99, 100.0 * r->top1);
    if (r->requantized[0])
        printf("(re-quantized): the input holds %s; what is lost is lost beside that, not beside "
               "the model as it was trained\n",
               r->requantized);
    if (r->n_expert_rounded)
        printf("experts: %lld of %lld linears saw too few tokens and were rounded to nearest, %lld "
               "of them none; "
               "more --samples, or a text of more kinds\n",
               (long long)r->n_expert_rounded, (long long)r->n_expert_linear,
               (long long)r->n_expert_unseen);
    for (size_t i = 0; i < r->n_layer; i++) /* those first that lost most by it */
        if (r->layers[i].rounded && noted++ < 10)
            printf("note: %s: %s\n", r->layers[i].name, r->layers[i].note);
    for (size_t i = 0; i < r->n_layer; i++)
        if (r->layers[i].note[0] && !r->layers[i].rounded && noted++ < 10)
            printf("note: %s: %s\n", r->layers[i].name, r->layers[i].note);
    if (noted > 10)
        printf("note: %zu more\n", noted - 10);
}

/* --max-kl and --report, asked before hours of work. */
static nb_status check_ends(const nb_args *a, double *max_kl, nb_error *err)
{
    const char *page = nb_flag_text(a, "report"), *out = nb_flag_text(a, "output");
    nb_status st = nb_flag_real(a, "max-kl", 0, 1e6, max_kl, err);
    if (st == NB_OK && nb_flag_on(a, "max-kl") && !nb_flag_on(a, "eval"))
        st = nb_fail(err, NB_USAGE, "--max-kl needs a text to measure it on: --eval FILE");
    if (st == NB_OK && page && out && strcmp(page, out) == 0)
        st = nb_fail(err, NB_USAGE, "--report and -o name the same file");
    if (st == NB_OK && page && out && strncmp(page, out, strlen(out)) == 0 &&
        strcmp(page + strlen(out), ".manifest.json") == 0)
        st = nb_fail(err, NB_USAGE, "--report %s: the manifest of -o has that name", page);
    if (st == NB_OK && page)
        st = nb_check_output(page, a->operand[0], err);
    return st;
}

/* The answer of --max-kl: NB_NEGATIVE when the model lost more. */
static nb_status gate(const nb_args *a, const nb_quantize_options *o, const nb_quantize_result *r,
                      double max_kl, nb_error *err)
{
    if (!nb_flag_on(a, "max-kl") || o->dry_run || (r->has_eval && r->kl_mean <= max_kl))
        return NB_OK;
    nb_fail(err, NB_NEGATIVE, "KL divergence %.6g nats a token, --max-kl allows %g; the file stays",
            r->kl_mean, max_kl);
    nb_hint(err, "more --bits, a smaller --group, more --samples or --calib FILE lose less");
    return NB_NEGATIVE;
}

static nb_status parse_range(const char *text, int32_t *from, int32_t *to, nb_error *err)
{
    int64_t n[2] = {0, 0};
    int k = 0, digits = 0;
    bool good = true;
    for (const char *p = text; *p && good; p++)
        if (*p == ':' && k == 0 && digits) {
            k = 1;
            digits = 0;
        } else {
            good = *p >= '0' && *p <= '9' && ++digits < 7;
            n[k] = 10 * n[k] + (*p - '0');
        }
    *from = (int32_t)n[0];
    *to = (int32_t)n[1];
    return good && k == 1 && digits
               ? NB_OK
               : nb_fail(err, NB_USAGE, "--layers %.40s: it must be two numbers, such as 0:2",
                         text);
}

static nb_status run(const nb_args *a, nb_error *err)
{
    watcher w = {.tty = isatty(STDERR_FILENO), .said_ns = nb_clock_ns()};
    nb_quantize_result r = {.n_layer = 0};
    nb_quantize_options o = {.model = a->n_operand ? a->operand[0] : NULL,
                             .out = nb_flag_text(a, "output"),
                             .method = nb_flag_text(a, "method"),
                             .sym_set = nb_flag_on(a, "sym") || nb_flag_on(a, "asym"),
                             .sym = !nb_flag_on(a, "asym"),
                             .grid = nb_flag_text(a, "grid"),
                             .format = nb_flag_text(a, "format"),
                             .embedding = nb_flag_text(a, "embedding"),
                             .correction_set = nb_flag_on(a, "correction"),
                             .token_limit_set = nb_flag_on(a, "token-limit"),
                             .no_static_groups = nb_flag_on(a, "no-static-groups"),
                             .range = nb_flag_text(a, "range"),
                             .act_order = nb_flag_on(a, "act-order"),
                             .clip = nb_flag_text(a, "clip"),
                             .calib = nb_flag_text(a, "calib"),
                             .device = nb_flag_text(a, "device"),
                             .dry_run = nb_flag_on(a, "dry-run"),
                             .eval_path = nb_flag_text(a, "eval"),
                             .stop = &stop,
                             .arg = &w,
                             .resume = nb_flag_on(a, "resume"),
                             .restart = nb_flag_on(a, "restart"),
                             .layers_set = nb_flag_on(a, "layers"),
                             .progress = nb_flag_on(a, "quiet") ? NULL : show};
    int32_t seed = 0;
    double max_kl = 0;
    nb_status st = o.resume ? NB_OK : nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_flag_size(a, "memory", &o.memory, err);
    if (st == NB_OK)
        st = nb_flag_size(a, "max-shard-size", &o.max_shard_bytes, err);
    if (st == NB_OK && o.layers_set)
        st = parse_range(nb_flag_text(a, "layers"), &o.layer_from, &o.layer_to, err);
    if (st == NB_OK && nb_flag_on(a, "sym") && nb_flag_on(a, "asym"))
        st = nb_fail(err, NB_USAGE, "--sym and --asym exclude each other; give one");
    if (st == NB_OK)
        st = nb_flag_int(a, "bits", 2, 8, &o.bits, err);
    if (st == NB_OK && nb_flag_text(a, "group") &&
        (strcmp(nb_flag_text(a, "group"), "row") == 0 ||
         strcmp(nb_flag_text(a, "group"), "-1") == 0))
        o.group = -1;
    else if (st == NB_OK)
        st = nb_flag_int(a, "group", 8, 4096, &o.group, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "samples", 1, 1 << 20, &o.samples, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ctx", 2, 1 << 20, &o.ctx, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "seed", 0, INT32_MAX, &seed, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "threads", 1, 1024, &o.n_thread, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "correction", 0, 1, &o.correction, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "damp", 1e-6, 10, &o.damp, err);
    if (st == NB_OK)
        st = nb_flag_real(a, "token-limit", 0, 1e6, &o.token_limit, err);
    if (st == NB_OK)
        st = check_ends(a, &max_kl, err);
    o.seed = (uint64_t)seed;
    if (st == NB_OK) {
        watch_signals();
        st = nb_quantize(&o, &r, err);
    }
    if (st == NB_OK && nb_flag_text(a, "report") && !o.dry_run)
        st = nb_quantize_report(&o, &r, nb_flag_text(a, "report"), err);
    if (st == NB_OK) {
        st = gate(a, &o, &r, max_kl, err);
        if (nb_flag_on(a, "json"))
            print_json(&r, o.dry_run, st, err);
        else
            print_text(&r, o.dry_run);
    }
    nb_quantize_result_free(&r);
    return st == NB_INTERRUPTED ? (nb_status)(128 + interrupted) : st;
}

static void methods(void (*word)(const char *word, const char *means))
{
    nb_method m;
    for (int i = 0; nb_method_at(i, &m); i++) {
        char left[64], right[256];
        snprintf(left, sizeof left, "--method %s", m.name);
        snprintf(right, sizeof right, "%s; a linear of N x K: %s", m.summary, m.cost);
        word(left, right);
    }
}

const nb_command nb_command_quantize = {.name = "quantize",
                                        .operands = "MODEL -o OUT",
                                        .summary = "Writes a smaller model and says what was lost.",
                                        .flags = flags,
                                        .run = run,
                                        .n_operand = 1,
                                        .words = methods};
