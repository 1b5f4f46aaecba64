/* run.c -- `nibble run MODEL`: one completion, or the logits of every prompt position. */
#include "base/status.h"
#include "out.h"

#include <stdlib.h>
#include <string.h>

static const nb_flag flags[] = {
    {"prompt", 'p', "TEXT", "the prompt"},
    {"file", 'f', "FILE", "the prompt from a file (- is stdin)"},
    {"ids", 0, "1,2,3", "the prompt as token ids, nothing added"},
    {"max-tokens", 'n', "N", "tokens to generate (default 128)"},
    {"temp", 0, "T", "temperature; 0, the default, is greedy"},
    {"top-k", 0, "K", "keep the K likeliest"},
    {"top-p", 0, "P", "keep the shortest list of sum P"},
    {"min-p", 0, "P", "keep tokens of at least P times the likeliest"},
    {"seed", 0, "S", "seed of the sampler"},
    {"ctx", 'c', "N", "context length (default: the model's)"},
    {"raw", 0, NULL, "take the prompt as it is, without the chat template"},
    {"ignore-eos", 0, NULL, "end tokens do not end it"},
    {"logits", 0, "OUT.npy",
     "write float32 [prompt_tokens, vocab]; nothing is generated without -n"},
    {NULL, 0, NULL, NULL},
};

static bool print_piece(void *arg, int32_t token, const char *text, size_t n)
{
    (void)arg;
    (void)token;
    nb_put_text(text, n);
    fflush(stdout);
    return !ferror(stdout); /* nobody reads: main says so */
}

/* The prompt as a user's turn of the model's template. */
static nb_status user_turn(const nb_model *m, const char *text, size_t n, int32_t **ids,
                           size_t *n_id, nb_error *err)
{
    char *json = NULL;
    size_t json_n = 0;
    FILE *f = open_memstream(&json, &json_n);
    if (!f)
        return nb_fail(err, NB_NO_ROOM, "out of memory for the prompt");
    fputs("{\"messages\":[{\"role\":\"user\",\"content\":", f);
    nb_put_json(f, text, n);
    fputs("}],\"add_generation_prompt\":true}", f);
    const bool whole = fclose(f) == 0;
    const nb_status st = whole
                             ? nb_model_template_ids(m, "the prompt", json, json_n, ids, n_id, err)
                             : nb_fail(err, NB_NO_ROOM, "out of memory for the prompt");
    free(json);
    return st;
}

/* The prompt comes from one place. */
static nb_status one_prompt(const nb_args *a, nb_error *err)
{
    static const char *const names[] = {"prompt", "file", "ids", NULL};
    const nb_status st = nb_flag_one_of(a, names, err);
    if (st != NB_OK || a->n_operand < 2)
        return st;
    for (const char *const *name = names; *name; name++)
        if (nb_flag_on(a, *name))
            return nb_fail(err, NB_USAGE,
                           "a prompt as an argument and --%s exclude each other; give one", *name);
    return NB_OK;
}

/* What was given, before a model of many gigabytes is opened: ids, or a text (*read: what to free
 * of it). */
typedef struct prompt {
    int32_t *ids;
    size_t n;
    const char *text;
    char *read;
    size_t text_n;
} prompt;

static nb_status read_prompt(const nb_args *a, prompt *p, nb_error *err)
{
    const char *given = nb_flag_text(a, "ids"), *file = nb_flag_text(a, "file");
    nb_status st = NB_OK;
    p->text = nb_flag_text(a, "prompt");
    if (given)
        return nb_parse_ids(given, &p->ids, &p->n, err);
    if (!p->text && a->n_operand > 1)
        p->text = a->operand[1];
    if (!p->text && !file)
        return nb_fail(err, NB_USAGE, "a prompt is missing: -p TEXT, -f FILE or --ids 1,2,3");
    p->text_n = p->text ? strlen(p->text) : 0;
    if (!p->text) {
        st = nb_read_text(file, &p->read, &p->text_n, err);
        /* llama.cpp drops one trailing newline too; --raw takes the text as it is */
        if (st == NB_OK && !nb_flag_on(a, "raw") && p->text_n && p->read[p->text_n - 1] == '\n')
            p->text_n--;
        p->text = p->read;
    }
    if (st == NB_OK)
        nb_warn_of_broken_text(a, "the prompt", p->text, p->text_n);
    return st;
}

/* Of a model without a tokenizer the ids are all there is to print. */
static void print_ids(const nb_generate_result *r)
{
    for (size_t i = 0; i < r->n_token; i++)
        printf("%s%d", i ? "," : "", (int)r->tokens[i]);
}

/* No fewer tokens than this run can take, before there is a tokenizer to count them: a token has a
 * byte at least, a template a few hundred. */
static int32_t longest(const prompt *p, int32_t n_predict)
{
    enum { kTemplate = 512, kMost = 1 << 24 };
    const size_t n = p->ids ? p->n : p->text_n + kTemplate;
    return n_predict < 0 || n > kMost || n_predict > kMost ? 0 : (int32_t)n + n_predict;
}

static nb_status encode_prompt(const nb_args *a, const nb_model *m, prompt *p, nb_error *err)
{
    nb_model_info info;
    if (p->ids)
        return NB_OK;
    nb_model_get_info(m, &info);
    return info.has_chat_template && !nb_flag_on(a, "raw")
               ? user_turn(m, p->text, p->text_n, &p->ids, &p->n, err)
               : nb_model_tokenize(m, p->text, p->text_n, NB_TEXT_BOS, &p->ids, &p->n, err);
}

static nb_status write_logits(nb_model *m, const int32_t *ids, size_t n, int32_t ctx,
                              const char *path, nb_error *err)
{
    nb_model_info info;
    nb_session *s = NULL;
    nb_model_get_info(m, &info);
    float *logits = malloc(n * (size_t)info.vocab_size * sizeof *logits);
    nb_status st = logits ? nb_session_open(m, 1, ctx, &s, err)
                          : nb_fail(err, NB_NO_ROOM, "out of memory: logits of %zu tokens", n);
    if (st == NB_OK)
        st = nb_session_step(s, 0, ids, (int32_t)n, true, logits, err);
    if (st == NB_OK)
        st = nb_write_npy(path, logits, (int64_t)n, info.vocab_size, err);
    nb_session_close(s);
    free(logits);
    return st;
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_model *m = NULL;
    nb_session *s = NULL;
    nb_generate_result r = {.stop = "length"};
    nb_sampling sampling = {.top_p = 1};
    prompt p = {.ids = NULL};
    const char *logits = nb_flag_text(a, "logits");
    int32_t n_predict = logits ? 0 : 128, ctx = 0;
    nb_status st = one_prompt(a, err);
    if (st == NB_OK)
        st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_sampling_from_args(a, &n_predict, &ctx, &sampling, err);
    if (st == NB_OK && logits)
        st = nb_check_output(logits, a->n_operand ? a->operand[0] : NULL, err);
    if (st == NB_OK)
        st = read_prompt(a, &p, err);
    if (st == NB_OK)
        st = nb_open_from_args(a, ctx ? ctx : longest(&p, n_predict), 1, &m, err);
    if (st == NB_OK)
        st = encode_prompt(a, m, &p, err);
    nb_model_info info = {0};
    if (st == NB_OK)
        nb_model_get_info(m, &info);
    if (st == NB_OK && ctx == 0) { /* no larger a cache than this run can fill */
        const int64_t need = (int64_t)p.n + (n_predict < 0 ? info.ctx_len : n_predict);
        ctx = need < info.ctx_len ? (int32_t)need : info.ctx_len;
    }
    /* with a cache of their own: generation feeds the prompt again, and its figures are those of a
     * run without --logits */
    if (st == NB_OK && logits)
        st = write_logits(m, p.ids, p.n, ctx, logits, err);
    if (st == NB_OK && logits && n_predict == 0) {
        if (nb_flag_on(a, "json"))
            nb_print_generation(m, p.n, &r); /* nothing was generated */
    } else if (st == NB_OK) {
        const bool json = nb_flag_on(a, "json");
        const nb_generate_options o = {
            .prompt = p.ids,
            .n_prompt = p.n,
            .n_predict = n_predict,
            .ignore_end = nb_flag_on(a, "ignore-eos"),
            .continues = nb_flag_on(a, "raw") || nb_flag_text(a, "ids") || !info.has_chat_template,
            .sampling = sampling,
            .on_text = json ? NULL : print_piece};
        st = nb_session_open(m, 1, ctx, &s, err);
        if (st == NB_OK)
            st = nb_generate(s, &o, &r, err);
        if (st == NB_OK && json)
            nb_print_generation(m, p.n, &r);
        else if (st == NB_OK) {
            size_t length;
            if (!nb_model_token(m, 0, &length))
                print_ids(&r);
            putchar('\n');
            if (strcmp(r.stop, "context") == 0)
                fprintf(stderr, "nibble: the context of %d tokens is full; --ctx gives more\n",
                        ctx);
        }
    }
    nb_generate_result_free(&r);
    nb_session_close(s);
    nb_free(p.ids);
    free(p.read);
    nb_model_close(m);
    return st;
}

const nb_command nb_command_run = {.name = "run",
                                   .operands = "MODEL -p TEXT",
                                   .summary = "Continues a text.",
                                   .flags = flags,
                                   .run = run,
                                   .n_operand = 2};
