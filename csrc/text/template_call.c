/* template_call.c -- what can be called: functions, methods of str, dict, list, loop; macros. */
#include "text/template_run.h"

#include <string.h>

const nb_tpl_row *nb_tpl_find_row(const nb_tpl_row *rows, const char *name, size_t n)
{
    for (; rows->name; rows++)
        if (strlen(rows->name) == n && memcmp(rows->name, name, n) == 0)
            return rows;
    return NULL;
}

/* ---- arguments ---- */

const nb_tpl_value *nb_tpl_arg(const nb_tpl_args *a, uint32_t place, const char *name)
{
    if (place < a->n)
        return &a->at[place];
    const size_t n = strlen(name);
    for (uint32_t i = 0; i < a->n_key && n; i++)
        if (a->key[i]->n == n && memcmp(a->key[i]->s, name, n) == 0)
            return &a->by_key[i];
    return NULL;
}

int64_t nb_tpl_int_arg(nb_tpl_run *r, const nb_tpl_args *a, uint32_t place, const char *name,
                       int64_t otherwise)
{
    const nb_tpl_value *v = nb_tpl_arg(a, place, name);
    if (v && v->type != NB_TPL_NONE && !nb_tpl_as_int(*v, &otherwise))
        NB_TPL_BAD(r, "an integer is expected, not %s", nb_tpl_type_name(*v));
    return otherwise;
}

bool nb_tpl_bool_arg(const nb_tpl_args *a, uint32_t place, const char *name, bool otherwise)
{
    const nb_tpl_value *v = nb_tpl_arg(a, place, name);
    return v ? nb_tpl_truth(*v) : otherwise;
}

static nb_tpl_value text_arg(nb_tpl_run *r, const nb_tpl_args *a, uint32_t place, const char *name)
{
    const nb_tpl_value *v = nb_tpl_arg(a, place, name);
    if (v && v->type == NB_TPL_STRING)
        return *v;
    NB_TPL_BAD(r, "a str is expected%s%s", v ? ", not " : "", v ? nb_tpl_type_name(*v) : "");
    return nb_tpl_string("", 0);
}

/* ---- functions ---- */

static nb_tpl_value call_raise(nb_tpl_run *r, const nb_tpl_args *a)
{
    char shown[200];
    const nb_tpl_value *v = nb_tpl_arg(a, 0, "message");
    const nb_tpl_value text = v ? nb_tpl_str(r, *v) : nb_tpl_string("", 0);
    return NB_TPL_BAD(r, "it refuses the conversation: %s",
                      nb_escape(shown, (int64_t)sizeof shown, text.u.s, text.n));
}

static nb_tpl_value call_now(nb_tpl_run *r, const nb_tpl_args *a)
{
    const nb_tpl_value format = text_arg(r, a, 0, "format");
    return r->st == NB_OK ? nb_tpl_strftime(r, format) : format;
}

static nb_tpl_value fill_dict(nb_tpl_run *r, nb_tpl_type type, const nb_tpl_args *a)
{
    nb_tpl_value d = nb_tpl_dict_new(r, type);
    if (a->n && nb_tpl_is_dict(a->at[0]))
        for (uint32_t i = 0; i < a->at[0].u.dict->n && nb_tpl_step(r, 1); i++)
            nb_tpl_dict_set(r, d.u.dict, a->at[0].u.dict->at[i].key, a->at[0].u.dict->at[i].value);
    else if (a->n) {
        const nb_tpl_list *pairs = nb_tpl_iterate(r, a->at[0]);
        for (uint32_t i = 0; i < pairs->n && nb_tpl_step(r, 1); i++) {
            const nb_tpl_list *pair = nb_tpl_iterate(r, pairs->at[i]);
            if (r->st == NB_OK && pair->n != 2)
                return NB_TPL_BAD(r, "a dict is made of pairs");
            if (r->st == NB_OK)
                nb_tpl_dict_set(r, d.u.dict, pair->at[0], pair->at[1]);
        }
    }
    for (uint32_t i = 0; i < a->n_key && r->st == NB_OK; i++)
        nb_tpl_dict_set(r, d.u.dict, nb_tpl_string(a->key[i]->s, a->key[i]->n), a->by_key[i]);
    return d;
}

static nb_tpl_value call_dict(nb_tpl_run *r, const nb_tpl_args *a)
{
    return fill_dict(r, NB_TPL_DICT, a);
}

static nb_tpl_value call_namespace(nb_tpl_run *r, const nb_tpl_args *a)
{
    return fill_dict(r, NB_TPL_NAMESPACE, a);
}

static nb_tpl_value call_range(nb_tpl_run *r, const nb_tpl_args *a)
{
    enum { kMost = 100000 }; /* Jinja's sandbox has the same limit */
    int64_t from = 0, to = nb_tpl_int_arg(r, a, 0, "", 0), step = nb_tpl_int_arg(r, a, 2, "", 1);
    if (a->n > 1) {
        from = to;
        to = nb_tpl_int_arg(r, a, 1, "", 0);
    }
    if (a->n < 1 || a->n > 3 || step == 0)
        return NB_TPL_BAD(r, "range takes one to three integers, its step is not 0");
    const bool up = step > 0;
    const uint64_t span = up          ? to > from ? (uint64_t)to - (uint64_t)from : 0
                          : from > to ? (uint64_t)from - (uint64_t)to
                                      : 0;
    const uint64_t stride = up ? (uint64_t)step : 0 - (uint64_t)step;
    const uint64_t n = span / stride + (span % stride != 0);
    if (n > kMost)
        return NB_TPL_BAD(r, "a range of more than %d numbers", kMost);
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, (uint32_t)n);
    for (uint64_t i = 0; i < n && nb_tpl_step(r, i % 16 == 0); i++)
        nb_tpl_list_add(r, list.u.list, nb_tpl_int((int64_t)((uint64_t)from + i * (uint64_t)step)));
    return list;
}

static const nb_tpl_function functions[] = {{"raise_exception", call_raise},
                                            {"strftime_now", call_now},
                                            {"namespace", call_namespace},
                                            {"dict", call_dict},
                                            {"range", call_range}};

void nb_tpl_define_functions(nb_tpl_run *r)
{
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        nb_tpl_name *name = nb_tpl_intern(r, functions[i].name, strlen(functions[i].name));
        if (name)
            name->global = (nb_tpl_value){.type = NB_TPL_FUNCTION, .u.function = &functions[i]};
    }
}

nb_tpl_value nb_tpl_call_value(nb_tpl_run *r, nb_tpl_value f, const nb_tpl_args *a)
{
    char name[64];
    if (f.type == NB_TPL_FUNCTION)
        return f.u.function->call(r, a);
    if (f.type == NB_TPL_METHOD)
        return f.u.method->row->call(r, f.u.method->self, a);
    if (f.type == NB_TPL_MACRO)
        return nb_tpl_call_macro(r, f.u.macro, a);
    if (f.type == NB_TPL_UNDEFINED)
        return NB_TPL_BAD(r, "%s is undefined and cannot be called",
                          f.n ? nb_escape(name, (int64_t)sizeof name, f.u.s, f.n) : "a value");
    return NB_TPL_BAD(r, "a %s cannot be called", nb_tpl_type_name(f));
}

/* ---- methods of dictionaries ---- */

nb_tpl_value nb_tpl_items_of(nb_tpl_run *r, const nb_tpl_dict *d)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, d->n);
    for (uint32_t i = 0; i < d->n && nb_tpl_step(r, i % 16 == 0); i++)
        nb_tpl_list_add(r, list.u.list, nb_tpl_pair(r, d->at[i].key, d->at[i].value));
    return list;
}

static nb_tpl_value dict_items(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return nb_tpl_items_of(r, on.u.dict);
}

static nb_tpl_value dict_keys(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, on.u.dict->n);
    (void)a;
    for (uint32_t i = 0; i < on.u.dict->n && nb_tpl_step(r, i % 16 == 0); i++)
        nb_tpl_list_add(r, list.u.list, on.u.dict->at[i].key);
    return list;
}

static nb_tpl_value dict_values(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, on.u.dict->n);
    (void)a;
    for (uint32_t i = 0; i < on.u.dict->n && nb_tpl_step(r, i % 16 == 0); i++)
        nb_tpl_list_add(r, list.u.list, on.u.dict->at[i].value);
    return list;
}

static nb_tpl_value dict_get(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value *otherwise = nb_tpl_arg(a, 1, "default");
    if (a->n < 1)
        return NB_TPL_BAD(r, "get takes a key");
    const nb_tpl_entry *e = nb_tpl_dict_find(r, on.u.dict, a->at[0]);
    return e ? e->value : otherwise ? *otherwise : nb_tpl_none();
}

static nb_tpl_value dict_pop(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    if (a->n < 1)
        return NB_TPL_BAD(r, "pop takes a key");
    nb_tpl_entry *e = nb_tpl_dict_find(r, on.u.dict, a->at[0]);
    if (!e && a->n < 2)
        return NB_TPL_BAD(r, "pop of a key that is not there");
    const nb_tpl_value v = e ? e->value : a->at[1];
    if (e)
        nb_tpl_dict_remove(r, on.u.dict, e);
    return v;
}

static nb_tpl_value dict_copy(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return fill_dict(r, NB_TPL_DICT, &(nb_tpl_args){.at = &on, .n = 1});
}

static nb_tpl_value dict_update(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    const nb_tpl_value more = fill_dict(r, NB_TPL_DICT, a);
    for (uint32_t i = 0; r->st == NB_OK && i < more.u.dict->n && nb_tpl_step(r, 1); i++)
        nb_tpl_dict_set(r, on.u.dict, more.u.dict->at[i].key, more.u.dict->at[i].value);
    return nb_tpl_none();
}

static nb_tpl_value not_allowed(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    (void)a;
    return NB_TPL_BAD(r, "this method of %s is not allowed in a template", nb_tpl_type_name(on));
}

static const nb_tpl_row dict_methods[] = {
    {"items", dict_items},       {"keys", dict_keys},       {"values", dict_values},
    {"get", dict_get},           {"pop", dict_pop},         {"copy", dict_copy},
    {"update", dict_update},     {"clear", not_allowed},    {"popitem", not_allowed},
    {"setdefault", not_allowed}, {"fromkeys", not_allowed}, {NULL, NULL}};

/* ---- methods of lists: some templates append, which transformers' sandbox refuses ---- */

static nb_tpl_value list_append(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    if (a->n != 1)
        return NB_TPL_BAD(r, "append takes one value");
    nb_tpl_list_add(r, on.u.list, a->at[0]);
    return nb_tpl_none();
}

static nb_tpl_value list_pop(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_list *v = on.u.list;
    int64_t i = nb_tpl_int_arg(r, a, 0, "", -1);
    i += i < 0 ? v->n : 0;
    if (r->st != NB_OK || i < 0 || i >= v->n)
        return NB_TPL_BAD(r, "pop of a place that is not there");
    const nb_tpl_value x = v->at[i];
    nb_tpl_step(r, (v->n - (size_t)i) / 16);
    memmove(v->at + i, v->at + i + 1, (v->n - (size_t)i - 1) * sizeof *v->at);
    v->n--;
    return x;
}

static nb_tpl_value row_index(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    for (uint32_t i = 0; a->n && i < on.u.list->n && nb_tpl_step(r, i % 16 == 0); i++)
        if (nb_tpl_equal(r, on.u.list->at[i], a->at[0]))
            return nb_tpl_int(i);
    return NB_TPL_BAD(r, "index of a value that is not there");
}

static nb_tpl_value row_count(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    int64_t n = 0;
    for (uint32_t i = 0; a->n && i < on.u.list->n && nb_tpl_step(r, i % 16 == 0); i++)
        n += nb_tpl_equal(r, on.u.list->at[i], a->at[0]);
    return nb_tpl_int(n);
}

static const nb_tpl_row list_methods[] = {
    {"append", list_append}, {"pop", list_pop},       {"index", row_index},
    {"count", row_count},    {"extend", not_allowed}, {"insert", not_allowed},
    {"remove", not_allowed}, {"clear", not_allowed},  {"reverse", not_allowed},
    {"sort", not_allowed},   {"copy", not_allowed},   {NULL, NULL}};
static const nb_tpl_row tuple_methods[] = {
    {"index", row_index}, {"count", row_count}, {NULL, NULL}};

/* ---- methods of the loop ---- */

static nb_tpl_value loop_cycle(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    return a->n ? a->at[on.u.loop->at % a->n] : NB_TPL_BAD(r, "cycle takes values");
}

static nb_tpl_value loop_changed(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a)
{
    nb_tpl_value now = nb_tpl_list_new(r, NB_TPL_TUPLE, 0);
    for (uint32_t i = 0; i < a->n && r->st == NB_OK; i++)
        nb_tpl_list_add(r, now.u.list, a->at[i]);
    const bool same = r->st == NB_OK && nb_tpl_equal(r, on.u.loop->changed, now);
    on.u.loop->changed = now;
    return nb_tpl_bool(!same);
}

static const nb_tpl_row loop_methods[] = {
    {"cycle", loop_cycle}, {"changed", loop_changed}, {NULL, NULL}};

const nb_tpl_row *nb_tpl_find_method(nb_tpl_value self, const char *name, size_t n)
{
    static const nb_tpl_row *const rows[NB_TPL_LOOP + 1] = {[NB_TPL_STRING] = nb_tpl_string_methods,
                                                            [NB_TPL_LIST] = list_methods,
                                                            [NB_TPL_TUPLE] = tuple_methods,
                                                            [NB_TPL_DICT] = dict_methods,
                                                            [NB_TPL_LOOP] = loop_methods};
    return rows[self.type] ? nb_tpl_find_row(rows[self.type], name, n) : NULL;
}
