/* chat.c -- `nibble chat MODEL`: a conversation at the terminal; without one, stdin is one user
 * turn.
 *
 * Every turn renders the whole conversation by the model's template. What of it the session already
 * holds stays: only the tokens behind the common part are fed, as long as the held ones are a
 * prefix. */
#include "chat.h"
#include "base/status.h"
#include "out.h"

#include <editline/readline.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const nb_flag flags[] = {
    {"system", 0, "TEXT", "the system message"},
    {"max-tokens", 'n', "N", "tokens to generate a turn (default: until the model ends)"},
    {"temp", 0, "T", "temperature; 0, the default, is greedy"},
    {"top-k", 0, "K", "keep the K likeliest"},
    {"top-p", 0, "P", "keep the shortest list of sum P"},
    {"min-p", 0, "P", "keep tokens of at least P times the likeliest"},
    {"seed", 0, "S", "seed of the sampler"},
    {"ctx", 'c', "N", "context length (default: the model's, at most 8192)"},
    {NULL, 0, NULL, NULL},
};

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

static bool print_piece(void *arg, int32_t token, const char *text, size_t n)
{
    (void)arg;
    (void)token;
    nb_put_text(text, n);
    fflush(stdout);
    return !interrupted && !ferror(stdout);
}

nb_status nb_chat_say(nb_chat *c, const char *role, const char *text, size_t n, nb_error *err)
{
    char *all = NULL;
    size_t all_n = 0;
    FILE *f = open_memstream(&all, &all_n);
    if (!f)
        return nb_fail(err, NB_NO_ROOM, "out of memory for the conversation");
    if (c->messages_n) {
        fwrite(c->messages, 1, c->messages_n, f);
        fputc(',', f);
    }
    fprintf(f, "{\"role\":\"%s\",\"content\":", role);
    nb_put_json(f, text, n);
    fputc('}', f);
    if (fclose(f) != 0) {
        free(all);
        return nb_fail(err, NB_NO_ROOM, "out of memory for the conversation");
    }
    free(c->messages);
    c->messages = all;
    c->messages_n = all_n;
    return NB_OK;
}

nb_status nb_chat_render(const nb_chat *c, int32_t **ids, size_t *n, nb_error *err)
{
    char *json = NULL;
    size_t json_n = 0;
    FILE *f = open_memstream(&json, &json_n);
    *ids = NULL;
    if (!f)
        return nb_fail(err, NB_NO_ROOM, "out of memory for the conversation");
    fputs("{\"messages\":[", f);
    fwrite(c->messages, 1, c->messages_n, f);
    fputs("],\"add_generation_prompt\":true}", f);
    const bool whole = fclose(f) == 0;
    const nb_status st =
        whole ? nb_model_template_ids(c->m, "the conversation", json, json_n, ids, n, err)
              : nb_fail(err, NB_NO_ROOM, "out of memory for the conversation");
    free(json);
    return st;
}

/* Remembers what the session holds: the prompt, then those of the new tokens that were fed. */
static nb_status remember(nb_chat *c, const int32_t *ids, size_t n, const nb_generate_result *r,
                          nb_error *err)
{
    const size_t length = (size_t)nb_session_length(c->s, 0);
    int32_t *held = realloc(c->held, (length ? length : 1) * sizeof *held);
    if (!held)
        return nb_fail(err, NB_NO_ROOM, "out of memory: %zu tokens", length);
    for (size_t i = 0; i < length; i++)
        held[i] = i < n ? ids[i] : i - n < r->n_token ? r->tokens[i - n] : -1;
    c->held = held;
    c->n_held = length;
    return NB_OK;
}

void nb_chat_cut(nb_chat *c, size_t n)
{
    c->messages_n = n;
    free(c->last);
    c->last = NULL;
    c->last_n = 0;
}

/* What /regen answers anew; a copy that is not to be had is only that much less. */
static void keep_last(nb_chat *c, const char *text, size_t n, size_t before)
{
    char *copy = malloc(n + 1);
    if (copy) {
        memcpy(copy, text, n);
        copy[n] = 0;
    }
    free(c->last);
    c->last = copy;
    c->last_n = n;
    c->before_last = before;
}

static void count(nb_chat *c, size_t n_prompt, const nb_generate_result *r)
{
    c->now = (nb_chat_figures){n_prompt, r->n_token, r->prompt_s, r->gen_s};
    c->all = (nb_chat_figures){c->all.prompt + n_prompt, c->all.answer + r->n_token,
                               c->all.prompt_s + r->prompt_s, c->all.answer_s + r->gen_s};
}

nb_status nb_chat_turn(nb_chat *c, const char *text, size_t text_n, nb_error *err)
{
    const size_t before = c->messages_n;
    nb_generate_result r = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    nb_status st = nb_chat_say(c, "user", text, text_n, err);
    if (st == NB_OK)
        st = nb_chat_render(c, &ids, &n, err);
    if (st == NB_OK) {
        const bool goes_on =
            c->n_held < n && (c->n_held == 0 || memcmp(c->held, ids, c->n_held * sizeof *ids) == 0);
        if (!goes_on) {
            nb_session_clear(c->s, 0);
            c->n_held = 0;
        }
        c->o.prompt = ids + c->n_held;
        c->o.n_prompt = n - c->n_held;
        st = nb_generate(c->s, &c->o, &r, err);
    }
    if (st == NB_OK) {
        count(c, c->o.n_prompt, &r);
        st = remember(c, ids, n, &r, err);
    } else { /* the session may hold a part of the prompt */
        nb_session_clear(c->s, 0);
        c->n_held = 0;
    }
    if (st == NB_OK)
        st = nb_chat_say(c, "assistant", r.text, r.text_n, err);
    if (st == NB_OK && c->json)
        nb_print_generation(c->m, n, &r);
    else if (st == NB_OK)
        putchar('\n');
    if (st != NB_OK)
        c->messages_n = before;
    else
        keep_last(c, text, text_n, before);
    nb_generate_result_free(&r);
    nb_free(ids);
    return st;
}

/* What a line asks for: an answer, or what a command does. "//x" is the text "/x". */
static nb_status take_line(nb_chat *c, const char *line, bool *end, nb_error *err)
{
    if (line[0] == '/' && line[1] != '/')
        return nb_chat_command(c, line, end, err);
    line += line[0] == '/';
    return nb_chat_turn(c, line, strlen(line), err);
}

static nb_status talk(nb_chat *c, nb_error *err)
{
    nb_status st = NB_OK;
    bool end = false;
    fprintf(stderr, "/help lists the commands, /quit or Ctrl-D ends, Ctrl-C stops an answer.\n");
    for (char *line = NULL; st == NB_OK && !end && (line = readline("> ")) != NULL; free(line)) {
        if (line[0] == 0)
            continue;
        add_history(line);
        interrupted = 0;
        void (*old)(int) = signal(SIGINT, on_interrupt);
        st = take_line(c, line, &end, err);
        signal(SIGINT, old);
        /* another line may do */
        if (st != NB_OK && (line[0] == '/' || st == NB_NO_ROOM || st == NB_BAD_INPUT)) {
            nb_tell_error(err);
            st = ferror(stdout) ? st : NB_OK;
        }
    }
    return st;
}

static nb_status once(const nb_args *a, nb_chat *c, nb_error *err)
{
    char *text = NULL;
    size_t n = 0;
    nb_status st = nb_read_text("-", &text, &n, err);
    if (st == NB_OK && n && text[n - 1] == '\n')
        n--;
    if (st == NB_OK && n == 0)
        st = nb_fail(err, NB_BAD_INPUT, "stdin: the user turn is empty");
    if (st == NB_OK)
        nb_warn_of_broken_text(a, "stdin", text, n);
    if (st == NB_OK)
        st = nb_chat_turn(c, text, n, err);
    free(text);
    return st;
}

static nb_status run(const nb_args *a, nb_error *err)
{
    enum { kUsualCtx = 8192 }; /* a cache that fits in any memory; --ctx asks for more */
    const char *system = nb_flag_text(a, "system");
    nb_chat c = {.json = nb_flag_on(a, "json")};
    nb_model_info info;
    int32_t ctx = 0;
    c.o = (nb_generate_options){
        .n_predict = -1, .sampling = {.top_p = 1}, .on_text = c.json ? NULL : print_piece};
    nb_status st = nb_sampling_from_args(a, &c.o.n_predict, &ctx, &c.o.sampling, err);
    if (st == NB_OK)
        st = nb_open_from_args(a, ctx ? ctx : kUsualCtx, 1, &c.m, err);
    if (st == NB_OK) {
        nb_model_get_info(c.m, &info);
        if (ctx == 0)
            ctx = info.ctx_len < kUsualCtx ? info.ctx_len : kUsualCtx;
        if (!info.has_chat_template) {
            st = nb_fail_at(err, NB_UNSUPPORTED, a->operand[0], -1,
                            "the model has no chat template");
            nb_hint(err, "nibble run MODEL --raw -p TEXT continues a text");
        }
    }
    if (st == NB_OK)
        st = nb_session_open(c.m, 1, ctx, &c.s, err);
    c.ctx = ctx;
    if (st == NB_OK && system)
        st = nb_chat_say(&c, "system", system, strlen(system), err);
    c.system_n = c.messages_n;
    if (st == NB_OK)
        st = isatty(STDIN_FILENO) ? talk(&c, err) : once(a, &c, err);
    free(c.messages);
    free(c.last);
    free(c.held);
    nb_session_close(c.s);
    nb_model_close(c.m);
    return st;
}

const nb_command nb_command_chat = {
    .name = "chat",
    .operands = "MODEL",
    .summary = "A conversation at the terminal; piped in, all of stdin is one turn.",
    .flags = flags,
    .run = run,
    .n_operand = 1};
