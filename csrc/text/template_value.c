/* template_value.c -- lists, dictionaries, truth, equality, order: Python's rules. */
#include "text/template_run.h"

#include <math.h>
#include <string.h>

tpl_value tpl_literal(const char *s)
{
    return tpl_string(s, strlen(s));
}

tpl_value tpl_list_new(tpl_run *r, tpl_type type, uint32_t cap)
{
    tpl_list *v = tpl_alloc(r, 1, sizeof *v);
    if (!v)
        return tpl_none();
    *v = (tpl_list){.cap = cap};
    if (cap)
        v->at = tpl_alloc(r, cap, sizeof *v->at);
    if (cap && !v->at)
        return tpl_none();
    return (tpl_value){.type = type, .u.list = v};
}

bool tpl_list_add(tpl_run *r, tpl_list *v, tpl_value x)
{
    if (!tpl_step(r, 0))
        return false;
    if (v->n == v->cap) {
        const uint32_t cap = v->cap ? 2 * v->cap : 4;
        tpl_value *at = tpl_alloc(r, cap, sizeof *at);
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

tpl_value tpl_pair(tpl_run *r, tpl_value a, tpl_value b)
{
    tpl_value v = tpl_list_new(r, TPL_TUPLE, 2);
    if (v.type != TPL_TUPLE)
        return v;
    v.u.list->at[0] = a;
    v.u.list->at[1] = b;
    v.u.list->n = 2;
    return v;
}

/* ---- dictionaries ---- */

tpl_value tpl_dict_new(tpl_run *r, tpl_type type)
{
    tpl_dict *d = tpl_alloc(r, 1, sizeof *d);
    if (!d)
        return tpl_none();
    *d = (tpl_dict){0};
    return (tpl_value){.type = type, .u.dict = d};
}

/* Equal values have equal hashes: 1, 1.0 and true; a text with and without guard bytes. */
static uint64_t hash_of(tpl_run *r, tpl_value v)
{
    uint64_t h = 14695981039346656037ull;
    int64_t i = 0;
    switch (v.type) {
    case TPL_STRING:
        tpl_step(r, v.n / 1024);
        for (uint32_t k = 0; k < v.n; k++)
            if (v.u.s[k] != NB_TOKENIZE_GUARD)
                h = (h ^ (unsigned char)v.u.s[k]) * 1099511628211ull;
        return h;
    case TPL_BOOL:
    case TPL_INT:
    case TPL_REAL:
        if (!tpl_as_int(v, &i))
            i = fabs(v.u.r) < 9e18 ? (int64_t)v.u.r : 0;
        return (h ^ (uint64_t)i) * 1099511628211ull;
    case TPL_TUPLE:
        for (uint32_t k = 0; k < v.u.list->n && tpl_step(r, 1) && tpl_enter(r); k++) {
            h = (h ^ hash_of(r, v.u.list->at[k])) * 1099511628211ull;
            tpl_leave(r);
        }
        return h;
    case TPL_NONE:
    case TPL_UNDEFINED:
        return h;
    default:
        TPL_BAD(r, "a %s cannot be a key", tpl_type_name(v));
        return 0;
    }
}

static uint32_t *slot_of(tpl_run *r, const tpl_dict *d, tpl_value key, uint64_t hash)
{
    uint32_t i = (uint32_t)(hash ^ hash >> 32) & (d->n_slot - 1);
    for (size_t probes = 0; d->slot[i]; i = (i + 1) & (d->n_slot - 1)) {
        const tpl_entry *e = &d->at[d->slot[i] - 1];
        if (e->hash == hash && tpl_equal(r, e->key, key))
            break;
        if (++probes % 16 == 0 && !tpl_step(r, 1))
            break;
    }
    return &d->slot[i];
}

static tpl_entry *find_hashed(tpl_run *r, const tpl_dict *d, tpl_value key, uint64_t hash)
{
    if (d->slot) {
        const uint32_t place = *slot_of(r, d, key, hash);
        return place ? &d->at[place - 1] : NULL;
    }
    for (uint32_t i = 0; i < d->n; i++)
        if (d->at[i].hash == hash && tpl_equal(r, d->at[i].key, key))
            return &d->at[i];
    return NULL;
}

tpl_entry *tpl_dict_find(tpl_run *r, const tpl_dict *d, tpl_value key)
{
    if (d->n == 0)
        return NULL;
    const uint64_t hash = hash_of(r, key);
    return r->st == NB_OK ? find_hashed(r, d, key, hash) : NULL;
}

static void reindex(tpl_run *r, tpl_dict *d)
{
    d->slot = NULL;
    if (d->n <= 8 && d->cap <= 8)
        return;
    d->n_slot = 32;
    while (d->n_slot < 2 * d->cap)
        d->n_slot *= 2;
    uint32_t *slot = tpl_alloc(r, d->n_slot, sizeof *slot);
    if (!slot)
        return;
    memset(slot, 0, d->n_slot * sizeof *slot);
    d->slot = slot;
    for (uint32_t i = 0; i < d->n; i++)
        *slot_of(r, d, d->at[i].key, d->at[i].hash) = i + 1;
}

bool tpl_dict_set(tpl_run *r, tpl_dict *d, tpl_value key, tpl_value value)
{
    const uint64_t hash = hash_of(r, key);
    if (r->st != NB_OK)
        return false;
    tpl_entry *e = find_hashed(r, d, key, hash);
    if (e) {
        e->value = value;
        return true;
    }
    if (d->n == d->cap) {
        const uint32_t cap = d->cap ? 2 * d->cap : 8;
        tpl_entry *at = tpl_alloc(r, cap, sizeof *at);
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
    d->at[d->n] = (tpl_entry){key, value, hash};
    if (d->slot)
        *slot_of(r, d, key, hash) = d->n + 1;
    d->n++;
    return true;
}

void tpl_dict_remove(tpl_run *r, tpl_dict *d, tpl_entry *e)
{
    const size_t after = d->n - (size_t)(e - d->at) - 1;
    memmove(e, e + 1, after * sizeof *e);
    d->n--;
    if (tpl_step(r, 1 + d->n / 16))
        reindex(r, d);
}

/* ---- questions ---- */

bool tpl_truth(tpl_value v)
{
    switch (v.type) {
    case TPL_UNDEFINED:
    case TPL_NONE:
        return false;
    case TPL_BOOL:
        return v.u.b;
    case TPL_INT:
        return v.u.i != 0;
    case TPL_REAL:
        return v.u.r != 0;
    case TPL_STRING:
        return v.n != 0;
    case TPL_LIST:
    case TPL_TUPLE:
        return v.u.list->n != 0;
    case TPL_DICT:
        return v.u.dict->n != 0;
    default:
        return true;
    }
}

bool tpl_as_int(tpl_value v, int64_t *out)
{
    if (v.type != TPL_BOOL && v.type != TPL_INT)
        return false;
    *out = v.type == TPL_BOOL ? v.u.b : v.u.i;
    return true;
}

double tpl_as_real(tpl_value v)
{
    int64_t i = 0;
    return tpl_as_int(v, &i) ? (double)i : v.type == TPL_REAL ? v.u.r : 0.0;
}

static int order_numbers(tpl_value a, tpl_value b)
{
    int64_t i = 0, k = 0;
    if (tpl_as_int(a, &i) && tpl_as_int(b, &k))
        return (i > k) - (i < k);
    const double x = tpl_as_real(a), y = tpl_as_real(b);
    return isnan(x) || isnan(y) ? 2 : (x > y) - (x < y);
}

static bool equal_dicts(tpl_run *r, const tpl_dict *a, const tpl_dict *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n && tpl_step(r, 1); i++) {
        const tpl_entry *e = tpl_dict_find(r, b, a->at[i].key);
        if (!e || !tpl_equal(r, a->at[i].value, e->value))
            return false;
    }
    return true;
}

static bool equal_lists(tpl_run *r, const tpl_list *a, const tpl_list *b)
{
    bool same = a->n == b->n;
    for (uint32_t i = 0; i < a->n && same && tpl_step(r, 1); i++)
        same = tpl_equal(r, a->at[i], b->at[i]);
    return same;
}

bool tpl_equal(tpl_run *r, tpl_value a, tpl_value b)
{
    if (a.type == TPL_STRING && b.type == TPL_STRING)
        return tpl_step(r, (a.n < b.n ? a.n : b.n) / 1024) && tpl_same_text(a, b);
    if (tpl_is_number(a) && tpl_is_number(b))
        return order_numbers(a, b) == 0;
    if (a.type != b.type)
        return false;
    bool same = false;
    switch (a.type) {
    case TPL_UNDEFINED:
    case TPL_NONE:
        return true;
    case TPL_LIST:
    case TPL_TUPLE:
        if (tpl_enter(r)) {
            same = equal_lists(r, a.u.list, b.u.list);
            tpl_leave(r);
        }
        return same;
    case TPL_DICT:
        if (tpl_enter(r)) {
            same = equal_dicts(r, a.u.dict, b.u.dict);
            tpl_leave(r);
        }
        return same;
    default: /* the same thing */
        return a.u.s == b.u.s;
    }
}

static int order_text(tpl_value a, tpl_value b)
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

int tpl_order(tpl_run *r, tpl_value a, tpl_value b)
{
    if (!tpl_step(r, a.type == TPL_STRING ? a.n / 1024 : 0))
        return 0;
    if (a.type == TPL_STRING && b.type == TPL_STRING)
        return order_text(a, b);
    if (tpl_is_number(a) && tpl_is_number(b))
        return order_numbers(a, b);
    if (tpl_is_row(a) && a.type == b.type && tpl_enter(r)) {
        int o = 0;
        for (uint32_t i = 0; o == 0; i++) {
            const bool a_ends = i >= a.u.list->n, b_ends = i >= b.u.list->n;
            if (a_ends || b_ends || !tpl_step(r, 1)) {
                o = a_ends - b_ends;
                o = -o;
                break;
            }
            o = tpl_order(r, a.u.list->at[i], b.u.list->at[i]);
        }
        tpl_leave(r);
        return o;
    }
    TPL_BAD(r, "%s and %s have no order", tpl_type_name(a), tpl_type_name(b));
    return 0;
}

const tpl_list *tpl_iterate(tpl_run *r, tpl_value v)
{
    static const tpl_list nothing = {0};
    if (tpl_is_row(v))
        return v.u.list;
    if (v.type == TPL_UNDEFINED)
        return &nothing;
    if (v.type != TPL_STRING && v.type != TPL_DICT) {
        TPL_BAD(r, "a %s cannot be looped over", tpl_type_name(v));
        return &nothing;
    }
    tpl_value list = tpl_list_new(r, TPL_LIST, v.type == TPL_DICT ? v.u.dict->n : 0);
    if (list.type != TPL_LIST)
        return &nothing;
    if (v.type == TPL_DICT)
        for (uint32_t i = 0; i < v.u.dict->n; i++)
            tpl_list_add(r, list.u.list, v.u.dict->at[i].key);
    for (size_t i = 0; v.type == TPL_STRING && i < v.n && r->st == NB_OK;) {
        uint32_t c = 0;
        const size_t n = tpl_char(v.u.s + i, v.n - i, &c);
        tpl_list_add(r, list.u.list, tpl_string(v.u.s + i, n));
        i += n;
    }
    return r->st == NB_OK ? list.u.list : &nothing;
}

const char *tpl_type_name(tpl_value v)
{
    static const char *const names[] = {[TPL_UNDEFINED] = "undefined value",
                                        [TPL_NONE] = "None",
                                        [TPL_BOOL] = "bool",
                                        [TPL_INT] = "int",
                                        [TPL_REAL] = "float",
                                        [TPL_STRING] = "str",
                                        [TPL_LIST] = "list",
                                        [TPL_TUPLE] = "tuple",
                                        [TPL_GENERATOR] = "generator",
                                        [TPL_DICT] = "dict",
                                        [TPL_NAMESPACE] = "namespace",
                                        [TPL_FUNCTION] = "function",
                                        [TPL_METHOD] = "method",
                                        [TPL_MACRO] = "macro",
                                        [TPL_LOOP] = "loop"};
    return names[v.type];
}
