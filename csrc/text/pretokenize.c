/* pretokenize.c -- cutting text into pieces that no token crosses, by regular expressions.
 *
 * A cut splits a piece into the matches of its pattern and what lies between; the next cut splits
 * each of those. Patterns are PCRE2's with Unicode classes, compiled for the machine where it can
 * be. They may come from a file: at most kPatternBytes, kMatchLimit + 4 n steps a match in n bytes
 * (a bound on backtracking such as (a|aa)+$; \s*[\r\n]+ goes back over n spaces), no \C, no nesting
 * beyond PCRE2's 250.
 *
 * Without patterns a SentencePiece-style text is cut before U+2581 where the vocabulary has no
 * token that would cross it: the same ids, and the merge loop works on words instead of whole
 * books. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/broken.h"
#include "text/vocab.h"

#include <pcre2.h>
#include <string.h>

enum { kMatchLimit = 1000000, kPatternBytes = 64 << 10 };

/* Lines: `$` and `^` mean those to the hub's engine. */
static pcre2_code *compile(const char *p, size_t n, int *code, PCRE2_SIZE *where)
{
    return pcre2_compile((PCRE2_SPTR)p, n,
                         PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C, code,
                         where, NULL);
}

static nb_status does_not_compile(const char *path, int64_t offset, nb_str pattern, int code,
                                  size_t where, nb_error *err)
{
    char why[128] = "", shown[160];
    (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)why, sizeof why);
    return nb_fail_at(
        err, NB_BAD_INPUT, path, offset, "the pattern \"%s\" does not compile: %s at its byte %zu",
        nb_escape(shown, (int64_t)sizeof shown, pattern.p, (int64_t)pattern.n), why, where);
}

nb_status nb_pretokenize_add(nb_tokenizer *t, const char *path, int64_t offset, nb_str pattern,
                             bool drops_rest, nb_error *err)
{
    int code = 0;
    PCRE2_SIZE where = 0;
    if (t->n_cut == NB_MAX_CUTS)
        return nb_fail_at(err, NB_UNSUPPORTED, path, offset, "more than %d pre-tokenizers",
                          NB_MAX_CUTS);
    if (pattern.n > kPatternBytes)
        return nb_fail_at(err, NB_BAD_INPUT, path, offset,
                          "a pattern of %zu bytes, at most %d are allowed", pattern.n,
                          kPatternBytes);
    nb_buf read;
    nb_status st = nb_pattern_rewrite(path, offset, pattern, &read, err);
    pcre2_code *c = st == NB_OK ? compile(read.p ? read.p : "", read.n, &code, &where) : NULL;
    if (st == NB_OK && !c) { /* the file's own text is what to look at */
        pcre2_code_free(compile(pattern.p, pattern.n, &code, &where));
        st = does_not_compile(path, offset, pattern, code, where, err);
    }
    nb_buf_free(&read);
    if (st != NB_OK)
        return st;
    (void)pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* without it the same matches come slower */
    t->cut[t->n_cut++] = (nb_cut){c, pattern, drops_rest};
    return NB_OK;
}

void nb_pretokenize_close(nb_tokenizer *t)
{
    for (int k = 0; k < t->n_cut; k++)
        pcre2_code_free(t->cut[k].pattern);
}

nb_status nb_cutter_open(const nb_tokenizer *t, nb_cutter *w, nb_error *err)
{
    *w = (nb_cutter){0};
    w->context = pcre2_match_context_create(NULL);
    bool room = w->context != NULL;
    for (int k = 0; k < t->n_cut && room; k++)
        room = (w->match[k] = pcre2_match_data_create(1, NULL)) != NULL;
    if (!room) {
        nb_cutter_close(w);
        return nb_fail(err, NB_NO_ROOM, "out of memory for matching patterns");
    }
    return NB_OK;
}

void nb_cutter_close(nb_cutter *w)
{
    for (int k = 0; k < NB_MAX_CUTS; k++)
        pcre2_match_data_free(w->match[k]);
    pcre2_match_context_free(w->context);
    *w = (nb_cutter){0};
}

struct job {
    const nb_tokenizer *t;
    nb_cutter *w;
    nb_piece_fn give;
    void *arg;
};

/* n is at most 16 times NB_MAX_TEXT_BYTES and some: no wrap */
static uint32_t match_limit(size_t n)
{
    return kMatchLimit + (uint32_t)(n < UINT32_MAX / 8 ? 4 * n : UINT32_MAX / 2);
}

/* The next match at or behind `at`: true with [*from, *to). An empty match cuts nothing. */
static nb_status next_match(const struct job *j, int level, const char *p, size_t n, size_t at,
                            bool *found, size_t *from, size_t *to, nb_error *err)
{
    const pcre2_code *c = j->t->cut[level].pattern;
    pcre2_match_data *m = j->w->match[level];
    *found = false;
    pcre2_set_match_limit(j->w->context, match_limit(n));
    while (at < n) {
        j->w->steps++;
        int rc = pcre2_match(c, (PCRE2_SPTR)p, n, at, PCRE2_NO_UTF_CHECK, m, j->w->context);
        if (rc == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter keeps its stack on the heap */
            rc = pcre2_match(c, (PCRE2_SPTR)p, n, at, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m,
                             j->w->context);
        if (rc == PCRE2_ERROR_NOMATCH)
            return NB_OK;
        if (rc < 0)
            return nb_fail(err, NB_BAD_INPUT,
                           "the tokenizer's pattern %d takes more than %u steps at byte %zu of a "
                           "piece of text",
                           level + 1, match_limit(n), at);
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m);
        if (v[1] > v[0] && v[0] >= at) {
            *from = v[0];
            *to = v[1];
            *found = true;
            return NB_OK;
        }
        const size_t next = v[0] > at ? v[0] : at;
        at = next < n ? next + nb_utf8_whole(p + next, n - next) : n;
    }
    return NB_OK;
}

/* One character stays one piece, whatever the cuts from this level on. */
static bool is_whole(const struct job *j, int level, const char *p, size_t n)
{
    for (int k = level; k < j->t->n_cut; k++)
        if (j->t->cut[k].drops_rest)
            return false;
    return n <= 4 && nb_utf8_whole(p, n) == n;
}

static nb_status cut(const struct job *j, int level, const char *p, size_t n, nb_error *err)
{
    if (n == 0)
        return NB_OK;
    if (level == j->t->n_cut || is_whole(j, level, p, n))
        return j->give(j->arg, p, n, err);
    nb_status st = NB_OK;
    for (size_t at = 0; at < n && st == NB_OK;) {
        bool found = false;
        size_t from = n, to = n;
        st = next_match(j, level, p, n, at, &found, &from, &to, err);
        if (st == NB_OK && !j->t->cut[level].drops_rest)
            st = cut(j, level + 1, p + at, from - at, err);
        if (st == NB_OK && found)
            st = cut(j, level + 1, p + from, to - from, err);
        at = to;
    }
    return st;
}

/* Pieces that begin with a row of U+2581. */
static nb_status cut_at_mark(const struct job *j, const char *p, size_t n, nb_error *err)
{
    nb_status st = NB_OK;
    size_t from = 0, i = 0;
    while (i < n && st == NB_OK) {
        while (n - i >= 3 && memcmp(p + i, NB_SPACE_MARK, 3) == 0)
            i += 3;
        while (i < n && (n - i < 3 || memcmp(p + i, NB_SPACE_MARK, 3) != 0))
            i++;
        st = j->give(j->arg, p + from, i - from, err);
        from = i;
    }
    return st;
}

nb_status nb_pretokenize(const nb_tokenizer *t, nb_cutter *w, const char *p, size_t n,
                         nb_piece_fn give, void *arg, nb_error *err)
{
    const struct job j = {t, w, give, arg};
    if (t->n_cut == 0 && t->cuts_at_mark)
        return cut_at_mark(&j, p, n, err);
    return cut(&j, 0, p, n, err);
}
