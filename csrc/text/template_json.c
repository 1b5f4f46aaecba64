/* template_json.c -- the conversation into values, its text kept from being control tokens.
 *
 * Guarding: a string of the conversation is copied with a guard byte behind every byte that begins
 * some control token, so that none can begin in it, whatever the template cuts out of it or writes
 * behind it. A user-defined token ("<think>" in many models) stays whole, as the tokenizer matches
 * those in plain text too; the guard follows it. Strings that need no guard are borrowed. */
#include "text/template_run.h"
#include "text/vocab.h"

#include <string.h>
#include <stdlib.h>

bool nb_tpl_guard_open(nb_tpl_run *r)
{
    const nb_tokenizer *t = r->env->guard;
    if (!t)
        return true;
    r->begins = nb_tpl_alloc(r, 256, sizeof *r->begins);
    if (!r->begins)
        return false;
    memset(r->begins, 0, 256 * sizeof *r->begins);
    for (int32_t id = 0; id < nb_tokenizer_vocab_size(t); id++) {
        size_t n = 0;
        const char *s = nb_tokenizer_is_control(t, id) ? nb_tokenizer_token(t, id, &n) : NULL;
        if (s && n) {
            r->begins[(unsigned char)s[0]] = true;
            r->guards = true;
        }
    }
    return true;
}

static bool any_begins(const nb_tpl_run *r, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (r->begins[(unsigned char)s[i]])
            return true;
    return false;
}

static nb_tpl_value guard_text(nb_tpl_run *r, const char *s, size_t n)
{
    nb_hits hits = {0};
    nb_error err = {0};
    size_t i = 0;
    if (!r->guards || !any_begins(r, s, n) || !nb_tpl_step(r, n / 256))
        return nb_tpl_string(s, n);
    const nb_status st = nb_special_find(r->env->guard, s, n, false, &hits, &err);
    if (st != NB_OK)
        nb_tpl_fail(r, st, "%s", err.message);
    char *p = nb_tpl_alloc(r, 2 * n, 1);
    size_t o = 0, k = hits.n; /* the first in the text is last in the list */
    while (p && i < n) {
        while (k > 0 && hits.p[k - 1].at < i)
            k--;
        size_t whole = 1;
        if (k > 0 && hits.p[k - 1].at == i)
            nb_tokenizer_token(r->env->guard, hits.p[k - 1].id, &whole);
        memcpy(p + o, s + i, whole);
        o += whole;
        if (any_begins(r, s + i, whole))
            p[o++] = NB_TOKENIZE_GUARD;
        i += whole;
    }
    free(hits.p);
    return p ? nb_tpl_string(p, o) : nb_tpl_none();
}

static nb_tpl_value text_of(nb_tpl_run *r, const char *s, size_t n)
{
    return n > NB_TEMPLATE_HEAP ? NB_TPL_BAD(r, "a text of the conversation has %zu bytes", n)
                                : guard_text(r, s, n);
}

static nb_tpl_value list_of(nb_tpl_run *r, const nb_json_node *v, int depth)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, (uint32_t)nb_json_count(v));
    const nb_json_node *e = list.type == NB_TPL_LIST ? nb_json_first(v) : NULL;
    for (; e && r->st == NB_OK; e = nb_json_next(e))
        nb_tpl_list_add(r, list.u.list, nb_tpl_from_json(r, e, depth));
    return list;
}

static nb_tpl_value dict_of(nb_tpl_run *r, const nb_json_node *v, int depth)
{
    nb_tpl_value dict = nb_tpl_dict_new(r, NB_TPL_DICT);
    const nb_json_node *e = dict.type == NB_TPL_DICT ? nb_json_first(v) : NULL;
    for (; e && r->st == NB_OK; e = nb_json_next(e)) {
        size_t n = 0;
        const char *key = nb_json_key(e, &n);
        const nb_tpl_value name = text_of(r, key, n);
        nb_tpl_dict_set(r, dict.u.dict, name, nb_tpl_from_json(r, e, depth));
    }
    return dict;
}

nb_tpl_value nb_tpl_from_json(nb_tpl_run *r, const nb_json_node *v, int depth)
{
    const char *s = "";
    size_t n = 0;
    int64_t i = 0;
    double x = 0;
    bool b = false;
    if (depth > NB_TEMPLATE_DEPTH)
        return NB_TPL_BAD(r, "the conversation is nested deeper than %d levels", NB_TEMPLATE_DEPTH);
    if (!nb_tpl_step(r, 0))
        return nb_tpl_none();
    switch (nb_json_typeof(v)) {
    case NB_JSON_STRING:
        (void)nb_json_string(v, &s, &n);
        return text_of(r, s, n);
    case NB_JSON_ARRAY:
        return list_of(r, v, depth + 1);
    case NB_JSON_OBJECT:
        return dict_of(r, v, depth + 1);
    case NB_JSON_BOOL:
        (void)nb_json_bool(v, &b);
        return nb_tpl_bool(b);
    case NB_JSON_INT:
    case NB_JSON_REAL:
        if (nb_json_int(v, &i))
            return nb_tpl_int(i);
        (void)nb_json_real(v, &x);
        return nb_tpl_real(x);
    default:
        return nb_tpl_none();
    }
}
