/* transcript.h -- command lines as a table: what must come back on either stream, and with which
 * exit code. */
#ifndef NB_TESTS_CLI_TRANSCRIPT_H
#define NB_TESTS_CLI_TRANSCRIPT_H

#include "check.h"
#include "cli/program.h"
#include "file/json.h"

typedef struct transcript {
    const char *sentence; /* the case's name */
    const char *line;     /* without the program; %T the folder, %M tests/data/models */
    int code;
    const char *out; /* stdout contains it; NULL: stdout is empty (with --json: an object) */
    const char *err; /* stderr contains it; NULL: stderr is empty */
    program_stdout stdout_is;
} transcript;

/* One JSON object and a newline, nothing else; the caller closes it. */
static inline nb_json *one_object(check *c, const char *text)
{
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    CHECK_EQ(c, nb_json_parse("stdout", text, strlen(text), &doc, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    if (doc)
        CHECK_EQ(c, nb_json_typeof(nb_json_root(doc)), NB_JSON_OBJECT);
    return doc;
}

/* A number of the one object that a command prints. */
static inline double number_of(check *c, const folder *d, const char *line, const char *key)
{
    outcome o = program_run(d, line, OUT_CAPTURED);
    nb_json *doc = o.code == 0 ? one_object(c, o.out) : NULL;
    double v = (double)NAN;
    CHECK_EQ(c, o.code, 0);
    CHECK(c, doc && nb_json_real(nb_json_get(nb_json_root(doc), key), &v));
    nb_json_close(doc);
    program_free(&o);
    return v;
}

/* The first part of a text is for calibration, the rest to be measured on: %T/calib.txt,
 * %T/eval.txt. */
static inline bool write_texts(const folder *d)
{
    static char text[1 << 17];
    FILE *f = fopen(NB_SOURCE_DIR "/tests/data/text/eval-own.txt", "rb");
    const size_t n = f ? fread(text, 1, sizeof text, f) : 0;
    if (f)
        fclose(f);
    folder_write(d, "calib.txt", text, n / 2);
    folder_write(d, "eval.txt", text + n / 2, n - n / 2);
    return n > 10000;
}

/* What every failure owes, whatever the command: one sentence, one hint below it (none mends stdout
 * itself), with --json the same as an object. */
static inline void check_failure(check *c, const char *line, const outcome *o)
{
    static const char start[] = "nibble: error: ";
    CHECK_HAS(c, o->err, start);
    const char *at = strstr(o->err, start);
    const char *end = at ? strchr(at, '\n') : NULL;
    if (!end)
        return;
    CHECK(c, !strstr(end, start));
    const bool hinted =
        strncmp(end + 1, "hint: ", 6) == 0 && end[7] != '\n' && strchr(end + 1, '\n')[1] == 0;
    c->n_check++;
    if (!hinted && !(end[1] == 0 && strncmp(at + sizeof start - 1, "stdout:", 7) == 0))
        check_report(c, __FILE__, __LINE__, "no hint, or more than one, below: %s", at);
    CHECK(c, !strchr(o->err, '\x1b')); /* no control bytes of others on a terminal */
    if (!strstr(line, "--json"))
        return;
    nb_json *doc = one_object(c, o->out);
    const nb_json_node *e = doc ? nb_json_get(nb_json_root(doc), "error") : NULL;
    int64_t code = -1;
    const char *message = NULL;
    size_t n = 0;
    CHECK(c, e && nb_json_int(nb_json_get(e, "code"), &code) && nb_json_get(e, "file") &&
                 nb_json_get(e, "offset"));
    CHECK_EQ(c, code, o->code);
    if (e && nb_json_string(nb_json_get(e, "message"), &message, &n))
        CHECK(c,
              strncmp(message, at + sizeof start - 1, n) == 0 && at[sizeof start - 1 + n] == '\n');
    else
        CHECK(c, e == NULL);
    if (e && hinted && nb_json_string(nb_json_get(e, "hint"), &message, &n))
        CHECK(c, strncmp(message, end + 7, n) == 0 && end[7 + n] == '\n');
    else
        CHECK(c, e && !hinted);
    nb_json_close(doc);
}

/* Two files of the folder, neither empty, have the same bytes, or not. */
static inline void check_same(check *c, const folder *d, const char *a, const char *b, bool want)
{
    size_t n = 0, m = 0;
    char *p = folder_bytes(d, a, &n), *q = folder_bytes(d, b, &m);
    c->n_check++;
    if (!n || !m || (n == m && memcmp(p, q, n) == 0) != want)
        check_report(c, __FILE__, __LINE__, "%s (%zu bytes) and %s (%zu) should %sbe the same", a,
                     n, b, m, want ? "" : "not ");
    free(p);
    free(q);
}

static inline void check_transcript(check *c, const folder *d, const transcript *row)
{
    outcome o = program_run(d, row->line, row->stdout_is);
    const bool json = strstr(row->line, "--json") != NULL;
    CHECK_EQ(c, o.code, row->code);
    if (row->out)
        CHECK_HAS(c, o.out, row->out);
    else if (!json && row->stdout_is == OUT_CAPTURED)
        CHECK_STR(c, o.out, "");
    if (row->err)
        CHECK_HAS(c, o.err, row->err);
    else
        CHECK_STR(c, o.err, "");
    if (o.code != 0 && row->err && row->stdout_is == OUT_CAPTURED)
        check_failure(c, row->line, &o);
    else if (json && row->stdout_is == OUT_CAPTURED)
        nb_json_close(one_object(c, o.out));
    program_free(&o);
}

#endif
