/* template_call.c -- what can be called: functions, methods of str, dict, list, loop; macros. */
#include "text/template_run.h"

#include <string.h>

const tpl_row *tpl_find_row(const tpl_row *rows, const char *name, size_t n)
{
    for (; rows->name; rows++)
        if (strlen(rows->name) == n && memcmp(rows->name, name, n) == 0)
            return rows;
    return NULL;
}

/* ---- arguments ---- */

const tpl_value *tpl_arg(const tpl_args *a, uint32_t place, const char *name)
{
    if (place < a->n)
        return &a->at[place];
    const size_t n = strlen(name);
    for (uint32_t i = 0; i < a->n_key && n; i++)
        if (a->key[i]->n == n && memcmp(a->key[i]->s, name, n) == 0)
            return &a->by_key[i];
    return NULL;
}

int64_t tpl_int_arg(tpl_run *r, const tpl_args *a, uint32_t place, const char *name,
                    int64_t otherwise)
{
    const tpl_value *v = tpl_arg(a, place, name);
    if (v && v->type != TPL_NONE && !tpl_as_int(*v, &otherwise))
        TPL_BAD(r, "an integer is expected, not %s", tpl_type_name(*v));
    return otherwise;
}

bool tpl_bool_arg(const tpl_args *a, uint32_t place, const char *name, bool otherwise)
{
    const tpl_value *v = tpl_arg(a, place, name);
    return v ? tpl_truth(*v) : otherwise;
}

static tpl_value text_arg(tpl_run *r, const tpl_args *a, uint32_t place, const char *name)
{
    const tpl_value *v = tpl_arg(a, place, name);
    if (v && v->type == TPL_STRING)
        return *v;
    TPL_BAD(r, "a str is expected%s%s", v ? ", not " : "", v ? tpl_type_name(*v) : "");
    return tpl_string("", 0);
}

/* ---- functions ---- */

static tpl_value call_raise(tpl_run *r, const tpl_args *a)
{
    char shown[200];
    const tpl_value *v = tpl_arg(a, 0, "message");
    const tpl_value text = v ? tpl_str(r, *v) : tpl_string("", 0);
    return TPL_BAD(r, "it refuses the conversation: %s",
                   nb_escape(shown, (int64_t)sizeof shown, text.u.s, text.n));
}

static tpl_value call_now(tpl_run *r, const tpl_args *a)
{
    const tpl_value format = text_arg(r, a, 0, "format");
    return r->st == NB_OK ? tpl_strftime(r, format) : format;
}

static tpl_value fill_dict(tpl_run *r, tpl_type type, const tpl_args *a)
{
    tpl_value d = tpl_dict_new(r, type);
    if (a->n && tpl_is_dict(a->at[0]))
        for (uint32_t i = 0; i < a->at[0].u.dict->n && tpl_step(r, 1); i++)
            tpl_dict_set(r, d.u.dict, a->at[0].u.dict->at[i].key, a->at[0].u.dict->at[i].value);
    else if (a->n) {
        const tpl_list *pairs = tpl_iterate(r, a->at[0]);
        for (uint32_t i = 0; i < pairs->n && tpl_step(r, 1); i++) {
            const tpl_list *pair = tpl_iterate(r, pairs->at[i]);
            if (r->st == NB_OK && pair->n != 2)
                return TPL_BAD(r, "a dict is made of pairs");
            if (r->st == NB_OK)
                tpl_dict_set(r, d.u.dict, pair->at[0], pair->at[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++)
        tpl_dict_set(r, d.u.dict, tpl_string(a->key[i]->s, a->key[i]->n), a->by_key[i]);
    return d;
}

static tpl_value call_dict(tpl_run *r, const tpl_args *a)
{
    return fill_dict(r, TPL_DICT, a);
}

static tpl_value call_namespace(tpl_run *r, const tpl_args *a)
{
    return fill_dict(r, TPL_NAMESPACE, a);
}

static tpl_value call_range(tpl_run *r, const tpl_args *a)
{
    enum { kMost = 100000 }; /* Jinja's sandbox has the same limit */
    int64_t from = 0, to = tpl_int_arg(r, a, 0, "", 0), step = tpl_int_arg(r, a, 2, "", 1);
    if (a->n > 1) {
        from = to;
        to = tpl_int_arg(r, a, 1, "", 0);
    }
    if (a->n < 1 || a->n > 3 || step == 0)
        return TPL_BAD(r, "range takes one to three integers, its step is not 0");
    const bool up = step > 0;
    const uint64_t span = up          ? to > from ? (uint64_t)to - (uint64_t)from : 0
                          : from > to ? (uint64_t)from - (uint64_t)to
                                      : 0;
    const uint64_t stride = up ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = span / stride + (span % stride != 0);
    if (n > kMost)
        return TPL_BAD(r, "a range of more than %d numbers", kMost);
    tpl_value list = tpl_list_new(r, TPL_LIST, (uint32_t)n);
    for (uint64_t i = 0; i < n && tpl_step(r, i % 16 == 0); i++)
        tpl_list_add(r, list.u.list, tpl_int((int64_t)((uint64_t)from + i * (uint64_t)step)));
    return list;
}

static const tpl_function functions[] = {{"raise_exception", call_raise},
                                         {"strftime_now", call_now},
                                         {"namespace", call_namespace},
                                         {"dict", call_dict},
                                         {"range", call_range}};

void tpl_define_functions(tpl_run *r)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        tpl_name *name = tpl_intern(r, functions[i].name, strlen(functions[i].name));
        if (name)
            name->global = (tpl_value){.type = TPL_FUNCTION, .u.function = &functions[i]};
    }
}

tpl_value tpl_call_value(tpl_run *r, tpl_value f, const tpl_args *a)
{
    char name[64];
    if (f.type == TPL_FUNCTION)
        return f.u.function->call(r, a);
    if (f.type == TPL_METHOD)
        return f.u.method->row->call(r, f.u.method->self, a);
    if (f.type == TPL_MACRO)
        return tpl_call_macro(r, f.u.macro, a);
    if (f.type == TPL_UNDEFINED)
        return TPL_BAD(r, "%s is undefined and cannot be called",
                       f.n ? nb_escape(name, (int64_t)sizeof name, f.u.s, f.n) : "a value");
    return TPL_BAD(r, "a %s cannot be called", tpl_type_name(f));
}

/* ---- methods of dictionaries ---- */

tpl_value tpl_items_of(tpl_run *r, const tpl_dict *d)
{
    tpl_value list = tpl_list_new(r, TPL_LIST, d->n);
    for (uint32_t i = 0; i < d->n && tpl_step(r, i % 16 == 0); i++)
        tpl_list_add(r, list.u.list, tpl_pair(r, d->at[i].key, d->at[i].value));
    return list;
}

static tpl_value dict_items(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return tpl_items_of(r, on.u.dict);
}

static tpl_value dict_keys(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_value list = tpl_list_new(r, TPL_LIST, on.u.dict->n);
    (void)a;
    for (uint32_t i = 0; i < on.u.dict->n && tpl_step(r, i % 16 == 0); i++)
        tpl_list_add(r, list.u.list, on.u.dict->at[i].key);
    return list;
}

static tpl_value dict_values(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_value list = tpl_list_new(r, TPL_LIST, on.u.dict->n);
    (void)a;
    for (uint32_t i = 0; i < on.u.dict->n && tpl_step(r, i % 16 == 0); i++)
        tpl_list_add(r, list.u.list, on.u.dict->at[i].value);
    return list;
}

static tpl_value dict_get(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value *otherwise = tpl_arg(a, 1, "default");
    if (a->n < 1)
        return TPL_BAD(r, "get takes a key");
    const tpl_entry *e = tpl_dict_find(r, on.u.dict, a->at[0]);
    return e ? e->value : otherwise ? *otherwise : tpl_none();
}

static tpl_value dict_pop(tpl_run *r, tpl_value on, const tpl_args *a)
{
    if (a->n < 1)
        return TPL_BAD(r, "pop takes a key");
    tpl_entry *e = tpl_dict_find(r, on.u.dict, a->at[0]);
    if (!e && a->n < 2)
        return TPL_BAD(r, "pop of a key that is not there");
    const tpl_value v = e ? e->value : a->at[1];
    if (e)
        tpl_dict_remove(r, on.u.dict, e);
    return v;
}

static tpl_value dict_copy(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return fill_dict(r, TPL_DICT, &(tpl_args){.at = &on, .n = 1});
}

static tpl_value dict_update(tpl_run *r, tpl_value on, const tpl_args *a)
{
    const tpl_value more = fill_dict(r, TPL_DICT, a);
    for (uint32_t i = 0; r->st == NB_OK && i < more.u.dict->n && tpl_step(r, 1); i++)
        tpl_dict_set(r, on.u.dict, more.u.dict->at[i].key, more.u.dict->at[i].value);
    return tpl_none();
}

static tpl_value not_allowed(tpl_run *r, tpl_value on, const tpl_args *a)
{
    (void)a;
    return TPL_BAD(r, "this method of %s is not allowed in a template", tpl_type_name(on));
}

static const tpl_row dict_methods[] = {
    {"items", dict_items},       {"keys", dict_keys},       {"values", dict_values},
    {"get", dict_get},           {"pop", dict_pop},         {"copy", dict_copy},
    {"update", dict_update},     {"clear", not_allowed},    {"popitem", not_allowed},
    {"setdefault", not_allowed}, {"fromkeys", not_allowed}, {NULL, NULL}};

/* ---- methods of lists: some templates append, which transformers' sandbox refuses ---- */

static tpl_value list_append(tpl_run *r, tpl_value on, const tpl_args *a)
{
    if (a->n != 1)
        return TPL_BAD(r, "append takes one value");
    tpl_list_add(r, on.u.list, a->at[0]);
    return tpl_none();
}

static tpl_value list_pop(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_list *v = on.u.list;
    int64_t i = tpl_int_arg(r, a, 0, "", -1);
    i += i < 0 ? v->n : 0;
    if (r->st != NB_OK || i < 0 || i >= v->n)
        return TPL_BAD(r, "pop of a place that is not there");
    const tpl_value x = v->at[i];
    tpl_step(r, (v->n - (size_t)i) / 16);
    memmove(v->at + i, v->at + i + 1, (v->n - (size_t)i - 1) * sizeof *v->at);
    v->n--;
    return x;
}

static tpl_value row_index(tpl_run *r, tpl_value on, const tpl_args *a)
{
    for (uint32_t i = 0; a->n && i < on.u.list->n && tpl_step(r, i % 16 == 0); i++)
        if (tpl_equal(r, on.u.list->at[i], a->at[0]))
            return tpl_int(i);
    return TPL_BAD(r, "index of a value that is not there");
}

static tpl_value row_count(tpl_run *r, tpl_value on, const tpl_args *a)
{
    int64_t n = 0;
    for (uint32_t i = 0; a->n && i < on.u.list->n && tpl_step(r, i % 16 == 0); i++)
        n += tpl_equal(r, on.u.list->at[i], a->at[0]);
    return tpl_int(n);
}

static const tpl_row list_methods[] = {
    {"append", list_append}, {"pop", list_pop},       {"index", row_index},
    {"count", row_count},    {"extend", not_allowed}, {"insert", not_allowed},
    {"remove", not_allowed}, {"clear", not_allowed},  {"reverse", not_allowed},
    {"sort", not_allowed},   {"copy", not_allowed},   {NULL, NULL}};
static const tpl_row tuple_methods[] = {{"index", row_index}, {"count", row_count}, {NULL, NULL}};

/* ---- methods of the loop ---- */

static tpl_value loop_cycle(tpl_run *r, tpl_value on, const tpl_args *a)
{
    return a->n ? a->at[on.u.loop->at % a->n] : TPL_BAD(r, "cycle takes values");
}

static tpl_value loop_changed(tpl_run *r, tpl_value on, const tpl_args *a)
{
    tpl_value now = tpl_list_new(r, TPL_TUPLE, 0);
    for (uint32_t i = 0; i < a->n && r->st == NB_OK; i++)
        tpl_list_add(r, now.u.list, a->at[i]);
    const bool same = r->st == NB_OK && tpl_equal(r, on.u.loop->changed, now);
    on.u.loop->changed = now;
    return tpl_bool(!same);
}

static const tpl_row loop_methods[] = {
    {"cycle", loop_cycle}, {"changed", loop_changed}, {NULL, NULL}};

const tpl_row *tpl_find_method(tpl_value self, const char *name, size_t n)
{
    static const tpl_row *const rows[TPL_LOOP + 1] = {[TPL_STRING] = tpl_string_methods,
                                                      [TPL_LIST] = list_methods,
                                                      [TPL_TUPLE] = tuple_methods,
                                                      [TPL_DICT] = dict_methods,
                                                      [TPL_LOOP] = loop_methods};
    return rows[self.type] ? tpl_find_row(rows[self.type], name, n) : NULL;
}
