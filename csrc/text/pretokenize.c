/* pretokenize.c -- cutting text into pieces that no token crosses, by regular expressions (PCRE2 with JIT and a match limit).
 *
 * A row may have two patterns: the first cuts the text into its matches and what lies between, the second cuts each of those. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/vocab.h"

#include <pcre2.h>
#include <stdio.h>
#include <string.h>

#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define LLAMA3                                                                                                                             \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QWEN2                                                                                                                              \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

static const struct {
    const char *name, *pattern[NB_MAX_PATTERNS];
} rows[] = {
    {"smollm", {"\\p{N}", GPT2}}, /* each digit alone, then GPT-2's pattern */
    {"gpt-2", {GPT2, NULL}},
    {"llama-bpe", {LLAMA3, NULL}},
    {"qwen2", {QWEN2, NULL}},
    {"none", {NULL, NULL}}, /* the text is one piece */
};

enum { kMatchLimit = 1000000, kMaxTextBytes = 64 << 20 };

nb_status nb_pretokenize_open(nb_tokenizer *t, const char *path, nb_str name, nb_error *err)
{
    char list[128] = "", shown[160];
    int at = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        at += snprintf(list + at, sizeof list - (size_t)at, "%s%s", at ? ", " : "", rows[i].name);
        if (strlen(rows[i].name) != name.n || memcmp(rows[i].name, name.p, name.n) != 0)
            continue;
        for (int k = 0; k < NB_MAX_PATTERNS && rows[i].pattern[k]; k++) {
            int code = 0;
            PCRE2_SIZE where = 0;
            pcre2_code *c = pcre2_compile((PCRE2_SPTR)rows[i].pattern[k], PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code, &where, NULL);
            if (!c)
                return nb_fail(err, NB_INTERNAL, "the pattern %s does not compile at %zu", rows[i].name, where);
            (void)pcre2_jit_compile(c, PCRE2_JIT_COMPLETE); /* without JIT the same matches come slower */
            t->pattern[t->n_pattern++] = c;
        }
        return NB_OK;
    }
    return nb_fail_at(err, NB_UNSUPPORTED, path, -1, "unknown pre-tokenizer \"%s\", known: %s",
                      nb_escape(shown, (int64_t)sizeof shown, name.p, (int64_t)name.n), list);
}

void nb_pretokenize_close(nb_tokenizer *t)
{
    for (int k = 0; k < t->n_pattern; k++)
        pcre2_code_free(t->pattern[k]);
}

static nb_status cut(const nb_tokenizer *t, int level, const char *p, size_t n, pcre2_match_context *limit, nb_piece_fn give, void *arg,
                     nb_error *err)
{
    if (n == 0)
        return NB_OK;
    if (level >= t->n_pattern || level >= NB_MAX_PATTERNS)
        return give(arg, p, n, err);
    pcre2_match_data *m = pcre2_match_data_create(1, NULL);
    nb_status st = m ? NB_OK : nb_fail(err, NB_NO_ROOM, "out of memory for a pattern match");
    for (size_t at = 0; at < n && st == NB_OK;) {
        const int rc = pcre2_match(t->pattern[level], (PCRE2_SPTR)p, n, at, PCRE2_NO_UTF_CHECK, m, limit);
        if (rc == PCRE2_ERROR_NOMATCH) {
            st = cut(t, level + 1, p + at, n - at, limit, give, arg, err);
            break;
        }
        if (rc < 0) {
            st = nb_fail(err, NB_BAD_INPUT, "the pre-tokenizer's pattern takes more than %d steps at byte %zu of the text", kMatchLimit, at);
            break;
        }
        const PCRE2_SIZE *v = pcre2_get_ovector_pointer(m);
        const size_t from = v[0], to = v[1] > v[0] ? v[1] : v[0] + 1;
        st = cut(t, level + 1, p + at, from - at, limit, give, arg, err);
        if (st == NB_OK)
            st = cut(t, level + 1, p + from, to - from, limit, give, arg, err);
        at = to;
    }
    pcre2_match_data_free(m);
    return st;
}

nb_status nb_pretokenize(const nb_tokenizer *t, const char *p, size_t n, nb_piece_fn give, void *arg, nb_error *err)
{
    if (n > kMaxTextBytes)
        return nb_fail(err, NB_NO_ROOM, "a text of %zu bytes, at most %d are taken at once", n, kMaxTextBytes);
    pcre2_match_context *limit = pcre2_match_context_create(NULL);
    if (!limit)
        return nb_fail(err, NB_NO_ROOM, "out of memory for a pattern match");
    pcre2_set_match_limit(limit, kMatchLimit);
    const nb_status st = cut(t, 0, p, n, limit, give, arg, err);
    pcre2_match_context_free(limit);
    return st;
}
