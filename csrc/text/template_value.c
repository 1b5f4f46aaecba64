/* template_value.c -- lists, dictionaries, truth, equality, order: Python's rules. */
#include "text/template_run.h"

#include <math.h>
#include <string.h>

nb_tpl_value nb_tpl_literal(const char *s)
{
    return nb_tpl_string(s, strlen(s));
}

nb_tpl_value nb_tpl_list_new(nb_tpl_run *r, nb_tpl_type type, uint32_t cap)
{
    nb_tpl_list *v = nb_tpl_alloc(r, 1, sizeof *v);
    if (!v)
        return nb_tpl_none();
    *v = (nb_tpl_list){.cap = cap};
    if (cap)
        v->at = nb_tpl_alloc(r, cap, sizeof *v->at);
    if (cap && !v->at)
        return nb_tpl_none();
    return (nb_tpl_value){.type = type, .u.list = v};
}

bool nb_tpl_list_add(nb_tpl_run *r, nb_tpl_list *v, nb_tpl_value x)
{
    if (!nb_tpl_step(r, 0))
        return false;
    if (v->n == v->cap) {
        const uint32_t cap = v->cap ? 2 * v->cap : 4;
        nb_tpl_value *at = nb_tpl_alloc(r, cap, sizeof *at);
        if (!at)
            return false;
        if (v->n)
            memcpy(at, v->at, v->n * sizeof *at);
        v->at = at;
        v->cap = cap;
    }
    v->at[v->n++] = x;
    return true;
}

nb_tpl_value nb_tpl_pair(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    nb_tpl_value v = nb_tpl_list_new(r, NB_TPL_TUPLE, 2);
    if (v.type != NB_TPL_TUPLE)
        return v;
    v.u.list->at[0] = a;
    v.u.list->at[1] = b;
    v.u.list->n = 2;
    return v;
}

/* ---- dictionaries ---- */

nb_tpl_value nb_tpl_dict_new(nb_tpl_run *r, nb_tpl_type type)
{
    nb_tpl_dict *d = nb_tpl_alloc(r, 1, sizeof *d);
    if (!d)
        return nb_tpl_none();
    *d = (nb_tpl_dict){0};
    return (nb_tpl_value){.type = type, .u.dict = d};
}

/* Equal values have equal hashes: 1, 1.0 and true; a text with and without guard bytes. */
static uint64_t hash_of(nb_tpl_run *r, nb_tpl_value v)
{
    uint64_t h = 14695981039346656037ull;
    int64_t i = 0;
    switch (v.type) {
    case NB_TPL_STRING:
        nb_tpl_step(r, v.n / 1024);
        for (uint32_t k = 0; k < v.n; k++)
            if (v.u.s[k] != NB_TOKENIZE_GUARD)
                h = (h ^ (unsigned char)v.u.s[k]) * 1099511628211ull;
        return h;
    case NB_TPL_BOOL:
    case NB_TPL_INT:
    case NB_TPL_REAL:
        if (!nb_tpl_as_int(v, &i))
            i = fabs(v.u.r) < 9e18 ? (int64_t)v.u.r : 0;
        return (h ^ (uint64_t)i) * 1099511628211ull;
    case NB_TPL_TUPLE:
        for (uint32_t k = 0; k < v.u.list->n && nb_tpl_step(r, 1) && nb_tpl_enter(r); k++) {
            h = (h ^ hash_of(r, v.u.list->at[k])) * 1099511628211ull;
            nb_tpl_leave(r);
        }
        return h;
    case NB_TPL_NONE:
    case NB_TPL_UNDEFINED:
        return h;
    default:
        NB_TPL_BAD(r, "a %s cannot be a key", nb_tpl_type_name(v));
        return 0;
    }
}

static uint32_t *slot_of(nb_tpl_run *r, const nb_tpl_dict *d, nb_tpl_value key, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash ^ hash >> 32) & (d->n_slot - 1);
    for (size_t probes = 0; d->slot[i]; i = (i + 1) & (d->n_slot - 1)) {
        const nb_tpl_entry *e = &d->at[d->slot[i] - 1];
        if (e->hash == hash && nb_tpl_equal(r, e->key, key))
            break;
        if (++probes % 16 == 0 && !nb_tpl_step(r, 1))
            break;
    }
    return &d->slot[i];
}

static nb_tpl_entry *find_hashed(nb_tpl_run *r, const nb_tpl_dict *d, nb_tpl_value key,
                                 uint64_t hash)
{
    if (d->slot) {
        const uint32_t place = *slot_of(r, d, key, hash);
        return place ? &d->at[place - 1] : NULL;
    }
    for (uint32_t i = 0; i < d->n; i++)
        if (d->at[i].hash == hash && nb_tpl_equal(r, d->at[i].key, key))
            return &d->at[i];
    return NULL;
}

nb_tpl_entry *nb_tpl_dict_find(nb_tpl_run *r, const nb_tpl_dict *d, nb_tpl_value key)
{
    if (d->n == 0)
        return NULL;
    const uint64_t hash = hash_of(r, key);
    return r->st == NB_OK ? find_hashed(r, d, key, hash) : NULL;
}

static void reindex(nb_tpl_run *r, nb_tpl_dict *d)
{
    d->slot = NULL;
    if (d->n <= 8 && d->cap <= 8)
        return;
    d->n_slot = 32;
    while (d->n_slot < 2 * d->cap)
        d->n_slot *= 2;
    uint32_t *slot = nb_tpl_alloc(r, d->n_slot, sizeof *slot);
    if (!slot)
        return;
    memset(slot, 0, d->n_slot * sizeof *slot);
    d->slot = slot;
    for (uint32_t i = 0; i < d->n; i++)
        *slot_of(r, d, d->at[i].key, d->at[i].hash) = i + 1;
}

bool nb_tpl_dict_set(nb_tpl_run *r, nb_tpl_dict *d, nb_tpl_value key, nb_tpl_value value)
{
    const uint64_t hash = hash_of(r, key);
    if (r->st != NB_OK)
        return false;
    nb_tpl_entry *e = find_hashed(r, d, key, hash);
    if (e) {
        e->value = value;
        return true;
    }
    if (d->n == d->cap) {
        const uint32_t cap = d->cap ? 2 * d->cap : 8;
        nb_tpl_entry *at = nb_tpl_alloc(r, cap, sizeof *at);
        if (!at)
            return false;
        if (d->n)
            memcpy(at, d->at, d->n * sizeof *at);
        d->at = at;
        d->cap = cap;
        reindex(r, d);
    }
    if (r->st != NB_OK)
        return false;
    d->at[d->n] = (nb_tpl_entry){key, value, hash};
    if (d->slot)
        *slot_of(r, d, key, hash) = d->n + 1;
    d->n++;
    return true;
}

void nb_tpl_dict_remove(nb_tpl_run *r, nb_tpl_dict *d, nb_tpl_entry *e)
{
    const size_t after = d->n - (size_t)(e - d->at) - 1;
    memmove(e, e + 1, after * sizeof *e);
    d->n--;
    if (nb_tpl_step(r, 1 + d->n / 16))
        reindex(r, d);
}

/* ---- questions ---- */

bool nb_tpl_truth(nb_tpl_value v)
{
    switch (v.type) {
    case NB_TPL_UNDEFINED:
    case NB_TPL_NONE:
        return false;
    case NB_TPL_BOOL:
        return v.u.b;
    case NB_TPL_INT:
        return v.u.i != 0;
    case NB_TPL_REAL:
        return v.u.r != 0;
    case NB_TPL_STRING:
        return v.n != 0;
    case NB_TPL_LIST:
    case NB_TPL_TUPLE:
        return v.u.list->n != 0;
    case NB_TPL_DICT:
        return v.u.dict->n != 0;
    default:
        return true;
    }
}

bool nb_tpl_as_int(nb_tpl_value v, int64_t *out)
{
    if (v.type != NB_TPL_BOOL && v.type != NB_TPL_INT)
        return false;
    *out = v.type == NB_TPL_BOOL ? v.u.b : v.u.i;
    return true;
}

double nb_tpl_as_real(nb_tpl_value v)
{
    int64_t i = 0;
    return nb_tpl_as_int(v, &i) ? (double)i : v.type == NB_TPL_REAL ? v.u.r : 0.0;
}

static int order_numbers(nb_tpl_value a, nb_tpl_value b)
{
    int64_t i = 0, k = 0;
    if (nb_tpl_as_int(a, &i) && nb_tpl_as_int(b, &k))
        return (i > k) - (i < k);
    const double x = nb_tpl_as_real(a), y = nb_tpl_as_real(b);
    return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
}

static bool equal_dicts(nb_tpl_run *r, const nb_tpl_dict *a, const nb_tpl_dict *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n && nb_tpl_step(r, 1); i++) {
        const nb_tpl_entry *e = nb_tpl_dict_find(r, b, a->at[i].key);
        if (!e || !nb_tpl_equal(r, a->at[i].value, e->value))
            return false;
    }
    return true;
}

static bool equal_lists(nb_tpl_run *r, const nb_tpl_list *a, const nb_tpl_list *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; i < a->n && same && nb_tpl_step(r, 1); i++)
        same = nb_tpl_equal(r, a->at[i], b->at[i]);
    return same;
}

bool nb_tpl_equal(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    if (a.type == NB_TPL_STRING && b.type == NB_TPL_STRING)
        return nb_tpl_step(r, (a.n < b.n ? a.n : b.n) / 1024) && nb_tpl_same_text(a, b);
    if (nb_tpl_is_number(a) && nb_tpl_is_number(b))
        return order_numbers(a, b) == 0;
    if (a.type != b.type)
        return false;
    bool same = false;
    switch (a.type) {
    case NB_TPL_UNDEFINED:
    case NB_TPL_NONE:
        return true;
    case NB_TPL_LIST:
    case NB_TPL_TUPLE:
        if (nb_tpl_enter(r)) {
            same = equal_lists(r, a.u.list, b.u.list);
            nb_tpl_leave(r);
        }
        return same;
    case NB_TPL_DICT:
        if (nb_tpl_enter(r)) {
            same = equal_dicts(r, a.u.dict, b.u.dict);
            nb_tpl_leave(r);
        }
        return same;
    default: /* the same thing */
        return a.u.s == b.u.s;
    }
}

static int order_text(nb_tpl_value a, nb_tpl_value b)
{
    uint32_t i = 0, k = 0;
    for (;;) { /* UTF-8 sorts as its code points do */
        while (i < a.n && a.u.s[i] == NB_TOKENIZE_GUARD)
            i++;
        while (k < b.n && b.u.s[k] == NB_TOKENIZE_GUARD)
            k++;
        if (i == a.n || k == b.n)
            return (i < a.n) - (k < b.n);
        if (a.u.s[i] != b.u.s[k])
            return (unsigned char)a.u.s[i] < (unsigned char)b.u.s[k] ? -1 : 1;
        i++;
        k++;
    }
}

int nb_tpl_order(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b)
{
    if (!nb_tpl_step(r, a.type == NB_TPL_STRING ? a.n / 1024 : 0))
        return 0;
    if (a.type == NB_TPL_STRING && b.type == NB_TPL_STRING)
        return order_text(a, b);
    if (nb_tpl_is_number(a) && nb_tpl_is_number(b))
        return order_numbers(a, b);
    if (nb_tpl_is_row(a) && a.type == b.type && nb_tpl_enter(r)) {
        int o = 0;
        for (uint32_t i = 0; o == 0; i++) {
            const bool a_ends = i >= a.u.list->n, b_ends = i >= b.u.list->n;
            if (a_ends || b_ends || !nb_tpl_step(r, 1)) {
                o = a_ends - b_ends;
                o = -o;
                break;
            }
            o = nb_tpl_order(r, a.u.list->at[i], b.u.list->at[i]);
        }
        nb_tpl_leave(r);
        return o;
    }
    NB_TPL_BAD(r, "%s and %s have no order", nb_tpl_type_name(a), nb_tpl_type_name(b));
    return 0;
}

const nb_tpl_list *nb_tpl_iterate(nb_tpl_run *r, nb_tpl_value v)
{
    static const nb_tpl_list nothing = {0};
    if (nb_tpl_is_row(v))
        return v.u.list;
    if (v.type == NB_TPL_UNDEFINED)
        return &nothing;
    if (v.type != NB_TPL_STRING && v.type != NB_TPL_DICT) {
        NB_TPL_BAD(r, "a %s cannot be looped over", nb_tpl_type_name(v));
        return &nothing;
    }
    nb_tpl_value list = nb_tpl_list_new(r, NB_TPL_LIST, v.type == NB_TPL_DICT ? v.u.dict->n : 0);
    if (list.type != NB_TPL_LIST)
        return &nothing;
    if (v.type == NB_TPL_DICT)
        for (uint32_t i = 0; i < v.u.dict->n; i++)
            nb_tpl_list_add(r, list.u.list, v.u.dict->at[i].key);
    for (size_t i = 0; v.type == NB_TPL_STRING && i < v.n && r->st == NB_OK;) {
        uint32_t c = 0;
        const size_t n = nb_tpl_char(v.u.s + i, v.n - i, &c);
        nb_tpl_list_add(r, list.u.list, nb_tpl_string(v.u.s + i, n));
        i += n;
    }
    return r->st == NB_OK ? list.u.list : &nothing;
}

const char *nb_tpl_type_name(nb_tpl_value v)
{
    static const char *const names[] = {[NB_TPL_UNDEFINED] = "undefined value",
                                        [NB_TPL_NONE] = "None",
                                        [NB_TPL_BOOL] = "bool",
                                        [NB_TPL_INT] = "int",
                                        [NB_TPL_REAL] = "float",
                                        [NB_TPL_STRING] = "str",
                                        [NB_TPL_LIST] = "list",
                                        [NB_TPL_TUPLE] = "tuple",
                                        [NB_TPL_GENERATOR] = "generator",
                                        [NB_TPL_DICT] = "dict",
                                        [NB_TPL_NAMESPACE] = "namespace",
                                        [NB_TPL_FUNCTION] = "function",
                                        [NB_TPL_METHOD] = "method",
                                        [NB_TPL_MACRO] = "macro",
                                        [NB_TPL_LOOP] = "loop"};
    return names[v.type];
}
