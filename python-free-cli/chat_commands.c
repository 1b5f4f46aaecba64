/* chat_commands.c -- what a line of `nibble chat` that begins with / does: a row a command.
 *
 * A saved conversation is what `nibble template -f` reads, a message a line:
 *   {"messages":[
 *   {"role":"user","content":"Hi"},
 *   {"role":"assistant","content":"Hello"}
 *   ]} */
#include "base/nearest.h"
#include "base/status.h"
#include "base/text.h"
#include "chat.h"
#include "out.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char head[] = "{\"messages\":[\n", foot[] = "\n]}\n", between[] = "},\n{";

typedef struct row {
    const char *name, *operand, *help; /* operand NULL: none is taken */
    nb_status (*run)(nb_chat *c, const char *operand, nb_error *err);
} row;

static nb_status help(nb_chat *c, const char *operand, nb_error *err);

static nb_status set_system(nb_chat *c, const char *text, nb_error *err)
{
    nb_chat_cut(c, 0);
    c->system_n = 0;
    const nb_status st = nb_chat_say(c, "system", text, strlen(text), err);
    c->system_n = c->messages_n;
    return st;
}

static nb_status reset(nb_chat *c, const char *operand, nb_error *err)
{
    (void)operand, (void)err;
    nb_chat_cut(c, c->system_n);
    return NB_OK;
}

/* The last user turn once more. When it fails the old answer stays. */
static nb_status regenerate(nb_chat *c, const char *operand, nb_error *err)
{
    (void)operand;
    if (!c->last)
        return nb_fail(err, NB_USAGE, "/regen: there is no answer yet");
    const size_t n = c->messages_n, last_n = c->last_n;
    char *messages = malloc(n + 1), *text = c->last;
    if (!messages)
        return nb_fail(err, NB_NO_ROOM, "out of memory for the conversation");
    memcpy(messages, c->messages, n);
    if (c->o.sampling.temp <= 0)
        fprintf(stderr, "the temperature is 0, so the answer will be the same; start with --temp "
                        "0.8 for others\n");
    c->o.sampling.seed++;
    c->last = NULL; /* the turn keeps a copy of its own */
    c->messages_n = c->before_last;
    const nb_status st = nb_chat_turn(c, text, last_n, err);
    if (st == NB_OK) {
        free(messages);
        free(text);
        return NB_OK;
    }
    free(c->messages);
    c->messages = messages;
    c->messages_n = n;
    c->last = text;
    c->last_n = last_n;
    return st;
}

static double per_second(size_t n, double seconds)
{
    return seconds > 0 ? (double)n / seconds : 0.0;
}

static void put_figures(const char *what, const nb_chat_figures *f)
{
    fprintf(stderr, "%s%zu tokens read (%.1f a second), %zu answered (%.1f a second)\n", what,
            f->prompt, per_second(f->prompt, f->prompt_s), f->answer,
            per_second(f->answer, f->answer_s));
}

static nb_status stats(nb_chat *c, const char *operand, nb_error *err)
{
    (void)operand, (void)err;
    fprintf(stderr, "context: %d of %d tokens\n", nb_session_length(c->s, 0), c->ctx);
    put_figures("last turn: ", &c->now);
    put_figures("in all: ", &c->all);
    return NB_OK;
}

/* ---- files ---- */

/* What is there already must be a conversation too: a slip of the fingers costs no model. */
static nb_status check_place(const char *path, nb_error *err)
{
    char start[sizeof head] = "";
    struct stat sb;
    if (stat(path, &sb) != 0)
        return NB_OK;
    FILE *f = S_ISREG(sb.st_mode) ? fopen(path, "rb") : NULL;
    const size_t n = f ? fread(start, 1, sizeof head - 1, f) : 0;
    if (f)
        fclose(f);
    return n == sizeof head - 1 && memcmp(start, head, n) == 0
               ? NB_OK
               : nb_fail_at(err, NB_USAGE, path, -1, "exists and is no saved conversation");
}

static nb_status write_file(const char *path, const nb_text *t, nb_error *err)
{
    char partial[4096];
    const int n = snprintf(partial, sizeof partial, "%s.XXXXXX", path);
    if (n < 0 || (size_t)n >= sizeof partial)
        return nb_fail_at(err, NB_IO, path, -1, "a path of more than %zu bytes",
                          sizeof partial - 8);
    const int fd = mkstemp(partial);
    if (fd < 0)
        return nb_fail_errno_at(err, path, "cannot create it");
    size_t at = 0;
    while (at < t->n) {
        const ssize_t done = write(fd, t->p + at, t->n - at);
        if (done < 0 && errno != EINTR)
            break;
        at += done > 0 ? (size_t)done : 0;
    }
    const bool whole = at == t->n && fsync(fd) == 0;
    if (close(fd) == 0 && whole && rename(partial, path) == 0)
        return NB_OK;
    const nb_status st = nb_fail_errno_at(err, path, "cannot write it");
    unlink(partial);
    return st;
}

static nb_status save(nb_chat *c, const char *path, nb_error *err)
{
    nb_text t = {0};
    nb_status st = check_place(path, err);
    nb_text_puts(&t, head);
    for (size_t i = 0; i < c->messages_n;
         i++) { /* inside of a text quotes are escaped: {"role":" begins a message */
        nb_text_add(&t, c->messages + i, 1);
        if (c->messages[i] == ',' && i > 0 && c->messages[i - 1] == '}' &&
            strncmp(c->messages + i + 1, "{\"role\":\"", 9) == 0)
            nb_text_puts(&t, "\n");
    }
    nb_text_puts(&t, foot);
    if (st == NB_OK)
        st = nb_text_check(&t, "the conversation", err);
    if (st == NB_OK)
        st = write_file(path, &t, err);
    nb_text_free(&t);
    if (st == NB_OK)
        fprintf(stderr, "saved; /load brings it back, nibble template MODEL -f shows it\n");
    return st;
}

/* The text between head and foot becomes the conversation if the model's template takes it;
 * otherwise the old one stays. */
static nb_status load(nb_chat *c, const char *path, nb_error *err)
{
    static const char system_role[] = "{\"role\":\"system\",";
    char *text = NULL;
    size_t n = 0, n_id = 0;
    int32_t *ids = NULL;
    nb_status st = nb_read_text(path, &text, &n, err);
    const size_t around = sizeof head - 1 + sizeof foot - 1;
    if (st == NB_OK && (n < around || memcmp(text, head, sizeof head - 1) != 0 ||
                        memcmp(text + n - (sizeof foot - 1), foot, sizeof foot - 1) != 0))
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1, "no conversation that /save wrote");
    if (st != NB_OK) {
        free(text);
        return st;
    }
    n -= around;
    memmove(text, text + sizeof head - 1, n);
    text[n] = 0;
    nb_chat other = {.m = c->m, .messages = text, .messages_n = n};
    if (n)
        st = nb_chat_render(&other, &ids, &n_id, err);
    nb_free(ids);
    if (st != NB_OK) {
        free(text);
        return st;
    }
    nb_chat_cut(c, n);
    free(c->messages);
    c->messages = text;
    const char *second =
        strncmp(text, system_role, sizeof system_role - 1) == 0 ? strstr(text, between) : text;
    c->system_n = second ? (size_t)(second - text) + (second > text) : n;
    fprintf(stderr, "%zu tokens of conversation\n", n_id);
    return NB_OK;
}

/* ---- the rows ---- */

static const row rows[] = {
    {"help", NULL, "this list", help},
    {"system", "TEXT", "a system message; the conversation begins anew", set_system},
    {"reset", NULL, "forget the conversation, but for the system message", reset},
    {"clear", NULL, "the same", reset},
    {"regen", NULL, "answer the last message anew", regenerate},
    {"stats", NULL, "tokens, speed, how full the context is", stats},
    {"save", "FILE", "write the conversation", save},
    {"load", "FILE", "go on with one that was saved", load},
    {"quit", NULL, "end, as /exit and Ctrl-D do", NULL},
    {"exit", NULL, "end", NULL},
};
enum { kRows = sizeof rows / sizeof *rows };

static nb_status help(nb_chat *c, const char *operand, nb_error *err)
{
    (void)c, (void)operand, (void)err;
    for (int i = 0; i < kRows; i++)
        fprintf(stderr, "  /%-7s %-5s %s\n", rows[i].name, rows[i].operand ? rows[i].operand : "",
                rows[i].help);
    fprintf(stderr, "  //            a message that begins with /\n");
    return NB_OK;
}

nb_status nb_chat_command(nb_chat *c, const char *line, bool *end, nb_error *err)
{
    char name[64], shown[160];
    const char *words = line + 1 + strcspn(line + 1, " ");
    snprintf(name, sizeof name, "%.*s", (int)(words - line - 1), line + 1);
    words += strspn(words, " ");
    nb_nearest near = {.given = name};
    for (int i = 0; i < kRows; i++) {
        nb_nearest_offer(&near, rows[i].name);
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if (rows[i].operand && !*words)
            return nb_fail(err, NB_USAGE, "/%s needs %s", name, rows[i].operand);
        if (!rows[i].operand && *words)
            return nb_fail(err, NB_USAGE, "/%s stands alone", name);
        *end = !rows[i].run;
        return *end ? NB_OK : rows[i].run(c, words, err);
    }
    const nb_status st =
        nb_fail(err, NB_USAGE,
                "unknown command /%s, nothing was sent to the model; // begins a message with /",
                nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name)));
    nb_hint(err, "/help");
    nb_nearest_hint(&near, "/", err);
    return st;
}
