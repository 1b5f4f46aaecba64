/* modules.c -- what a quantization_config says: its values, and which modules it leaves out
 * (part.h). */
#include "base/regex.h"
#include "scheme/part.h"

#include <stdio.h>
#include <string.h>

/* ---- values ---- */

const nb_json_node *nb_config_at(const nb_config *c, const char *key, const char *key2)
{
    const nb_json_node *v = nb_json_get(c->object, key);
    if ((!v || nb_json_typeof(v) == NB_JSON_NULL) && key2)
        v = nb_json_get(c->object, key2);
    return v && nb_json_typeof(v) != NB_JSON_NULL ? v : NULL;
}

static nb_status wrong(const nb_config *c, const nb_json_node *v, const char *key, const char *what)
{
    return nb_fail_at(c->err, NB_BAD_INPUT, c->path, (int64_t)nb_json_offset(v),
                      "quantization_config: %s is %s", key, what);
}

nb_status nb_config_int(const nb_config *c, const char *key, const char *key2, int64_t fallback,
                        int64_t *out)
{
    const nb_json_node *v = nb_config_at(c, key, key2);
    *out = fallback;
    return !v || nb_json_int(v, out) ? NB_OK : wrong(c, v, key, "no whole number");
}

nb_status nb_config_bool(const nb_config *c, const char *key, bool fallback, bool *out)
{
    const nb_json_node *v = nb_config_at(c, key, NULL);
    *out = fallback;
    return !v || nb_json_bool(v, out) ? NB_OK : wrong(c, v, key, "neither true nor false");
}

nb_status nb_config_word(const nb_config *c, const char *key, const char *key2,
                         const char *fallback, const char **out)
{
    const nb_json_node *v = nb_config_at(c, key, key2);
    size_t n = 0;
    *out = fallback;
    return !v || (nb_json_string(v, out, &n) && strlen(*out) == n) ? NB_OK
                                                                   : wrong(c, v, key, "no word");
}

nb_status nb_spec_check(const char *path, int64_t offset, const char *what, int64_t bits,
                        int64_t group, nb_error *err)
{
    if (bits < 1 || bits > 32 || (bits > 8 && bits != 16 && bits != 32))
        return nb_fail_at(err, NB_BAD_INPUT, path, offset, "%s: codes of %lld bits", what,
                          (long long)bits);
    if (bits != 2 && bits != 3 && bits != 4 && bits != 8)
        return nb_fail_at(err, NB_UNSUPPORTED, path, offset,
                          "%s: codes of %lld bits are not read; 2, 3, 4 and 8 are", what,
                          (long long)bits);
    if (group < 0 || group > INT32_MAX)
        return nb_fail_at(err, NB_BAD_INPUT, path, offset, "%s: groups of %lld inputs", what,
                          (long long)group);
    return NB_OK;
}

/* ---- names ---- */

nb_status nb_pattern_matches(const char *path, const nb_json_node *at, const char *pattern,
                             size_t n, const char *name, bool *yes, nb_error *err)
{
    nb_regex *r = NULL;
    char why[200], shown[160];
    bool gave_up = false;
    *yes = false;
    nb_status st = nb_regex_open(pattern, n, &r, why, sizeof why, err);
    if (st == NB_OK) {
        *yes = nb_regex_match_begin(r, name, strlen(name), &gave_up);
        if (gave_up) {
            snprintf(why, sizeof why, "it takes more than a million steps on the name %.100s",
                     name);
            st = NB_BAD_INPUT;
        }
    }
    nb_regex_close(r);
    if (st != NB_BAD_INPUT)
        return st;
    return nb_fail_at(err, NB_BAD_INPUT, path, at ? (int64_t)nb_json_offset(at) : -1,
                      "quantization_config: the pattern \"%s\" cannot be used: %s",
                      nb_escape(shown, (int64_t)sizeof shown, pattern, (int64_t)n), why);
}

void nb_pattern_of_name(nb_text *t, const char *prefix, const char *name)
{
    nb_text_printf(t, "\"%s^", prefix);
    /* names of modules: letters, digits, _ and dots; anything else is escaped as well */
    for (const char *p = name; *p; p++)
        if (strchr(".^$*+?()[]{}|", *p))
            nb_text_printf(t, "\\\\%c", *p);
        else if (*p == '\\')
            nb_text_puts(t, "\\\\\\\\");
        else if (*p == '"')
            nb_text_puts(t, "\\\"");
        else
            nb_text_add(t, p, 1);
    nb_text_puts(t, "$\"");
}

nb_status nb_config_has_part(const nb_config *c, const char *key, const char *name, bool *yes)
{
    const nb_json_node *list = nb_config_at(c, key, NULL);
    *yes = false;
    if (list && nb_json_typeof(list) != NB_JSON_ARRAY)
        return wrong(c, list, key, "no list");
    for (const nb_json_node *e = nb_json_first(list); e; e = nb_json_next(e)) {
        const char *s = NULL;
        if (!nb_json_string(e, &s, NULL))
            return wrong(c, e, key, "a list that holds what is no name");
        *yes = *yes || (*s && strstr(name, s));
    }
    return NB_OK;
}

void nb_names_put(nb_text *t, const char *const *names)
{
    nb_text_puts(t, "[");
    for (int i = 0; names[i]; i++) {
        nb_text_puts(t, i ? "," : "");
        nb_text_json(t, names[i], strlen(names[i]));
    }
    nb_text_puts(t, "]");
}
