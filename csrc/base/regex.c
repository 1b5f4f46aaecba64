/* regex.c -- PCRE2 with a limit on the length of patterns and on the steps of a match (regex.h). */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "base/regex.h"
#include "base/memory.h"

#include <pcre2.h>
#include <stdio.h>
#include <stdlib.h>

enum { kPatternBytes = 64 << 10, kMatchLimit = 1000000 };

struct nb_regex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
};

nb_status nb_regex_open(const char *pattern, size_t n, nb_regex **out, char *why, size_t n_why,
                        nb_error *err)
{
    int code = 0;
    PCRE2_SIZE where = 0;
    *out = NULL;
    if (n > kPatternBytes) {
        snprintf(why, n_why, "it has %zu bytes, at most %d are allowed", n, kPatternBytes);
        return NB_BAD_INPUT;
    }
    nb_regex *r = nb_alloc_zero(1, sizeof *r, "a pattern", err);
    if (!r)
        return NB_NO_ROOM;
    r->code = pcre2_compile((PCRE2_SPTR)pattern, n, PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &code,
                            &where, NULL);
    if (!r->code) {
        char text[128] = "";
        (void)pcre2_get_error_message(code, (PCRE2_UCHAR *)text, sizeof text);
        snprintf(why, n_why, "%s at its byte %zu", text, where);
        nb_regex_close(r);
        return NB_BAD_INPUT;
    }
    r->match = pcre2_match_data_create(1, NULL);
    r->context = pcre2_match_context_create(NULL);
    if (!r->match || !r->context) {
        nb_regex_close(r);
        return nb_fail(err, NB_NO_ROOM, "out of memory for matching patterns");
    }
    pcre2_set_match_limit(r->context, kMatchLimit);
    *out = r;
    return NB_OK;
}

void nb_regex_close(nb_regex *r)
{
    if (!r)
        return;
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->match);
    pcre2_code_free(r->code);
    free(r);
}

bool nb_regex_match_begin(const nb_regex *r, const char *text, size_t n, bool *gave_up)
{
    const int rc =
        pcre2_match(r->code, (PCRE2_SPTR)text, n, 0, PCRE2_ANCHORED, r->match, r->context);
    *gave_up = rc < 0 && rc != PCRE2_ERROR_NOMATCH;
    return rc >= 0;
}
