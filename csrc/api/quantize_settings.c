/* quantize_settings.c -- the settings of a run as words: written into journal and manifest, read
 * back, held against each other. A new option that changes the output is one row of the table. */
#include "api/quantize.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef enum kind { TEXT, FLAG, INT, BIG, WHOLE, REAL } kind; /* BIG: int64_t, WHOLE: uint64_t */

typedef struct row {
    const char *key; /* as the flag is called */
    kind kind;
    size_t at;
    bool changes; /* the output depends on it */
    size_t set;   /* the bool that says it was given; 0: a value that is not zero was */
} row;

#define AT(field) offsetof(nb_quantize_options, field)
static const row rows[] = {
    {"model", TEXT, AT(model), false, 0}, /* what it holds is compared, not where it lies */
    {"method", TEXT, AT(method), true, 0},
    {"grid", TEXT, AT(grid), true, 0},
    {"bits", INT, AT(bits), true, 0},
    {"group", INT, AT(group), true, 0},
    {"sym", FLAG, AT(sym), true, AT(sym_set)},
    {"format", TEXT, AT(format), true, 0},
    {"embedding", TEXT, AT(embedding), true, 0},
    {"correction", REAL, AT(correction), true, AT(correction_set)},
    {"damp", REAL, AT(damp), true, 0},
    {"token-limit", REAL, AT(token_limit), true, AT(token_limit_set)},
    {"no-static-groups", FLAG, AT(no_static_groups), true, 0},
    {"range", TEXT, AT(range), true, 0},
    {"act-order", FLAG, AT(act_order), true, 0},
    {"clip", TEXT, AT(clip), true, 0},
    {"calib", TEXT, AT(calib), false, 0}, /* its text is hashed */
    {"samples", INT, AT(samples), true, 0},
    {"ctx", INT, AT(ctx), true, 0},
    {"seed", WHOLE, AT(seed), true, 0},
    {"layer-from", INT, AT(layer_from), true, AT(layers_set)},
    {"layer-to", INT, AT(layer_to), true, AT(layers_set)},
    {"max-shard-size", BIG, AT(max_shard_bytes), true, 0},
    {"device", TEXT, AT(device), true, 0},
    {"memory", BIG, AT(memory), false, 0},
    {"eval", TEXT, AT(eval_path), false, 0},
};
enum { kRows = sizeof rows / sizeof *rows };

static void put(const row *r, const nb_quantize_options *o, nb_text *out)
{
    const char *p = (const char *)o + r->at;
    const char *text = NULL;
    int32_t i = 0;
    int64_t big = 0;
    uint64_t u = 0;
    double d = 0;
    switch (r->kind) {
    case TEXT:
        memcpy(&text, p, sizeof text);
        if (text)
            nb_text_json(out, text, strlen(text));
        else
            nb_text_puts(out, "null");
        break;
    case FLAG:
        nb_text_puts(out, *(const bool *)p ? "true" : "false");
        break;
    case INT:
        memcpy(&i, p, sizeof i);
        nb_text_printf(out, "%d", i);
        break;
    case BIG:
        memcpy(&big, p, sizeof big);
        nb_text_printf(out, "%lld", (long long)big);
        break;
    case WHOLE:
        memcpy(&u, p, sizeof u);
        nb_text_printf(out, "%llu", (unsigned long long)u);
        break;
    case REAL:
        memcpy(&d, p, sizeof d);
        nb_text_number(out, d);
        break;
    }
}

void nb_quantize_settings_write(const nb_quantize_options *o, bool all, nb_text *out)
{
    const char *comma = "{";
    for (int i = 0; i < kRows; i++)
        if (all || rows[i].changes) {
            nb_text_printf(out, "%s\"%s\":", comma, rows[i].key);
            put(&rows[i], o, out);
            comma = ",";
        }
    nb_text_puts(out, "}");
}

/* Whether the caller gave the setting. */
static bool given(const row *r, const nb_quantize_options *o)
{
    static const size_t size[] = {
        [TEXT] = sizeof(char *), [FLAG] = sizeof(bool),      [INT] = sizeof(int32_t),
        [BIG] = sizeof(int64_t), [WHOLE] = sizeof(uint64_t), [REAL] = sizeof(double)};
    static const char zero[sizeof(uint64_t)] = "";
    const char *p = (const char *)o;
    return r->set ? *(const bool *)(p + r->set) : memcmp(p + r->at, zero, size[r->kind]) != 0;
}

static bool take(const row *r, const nb_json_node *v, nb_quantize_options *o)
{
    char *p = (char *)o + r->at;
    const char *text = NULL;
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    size_t n = 0;
    bool good = true;
    switch (r->kind) {
    case TEXT:
        good = nb_json_typeof(v) == NB_JSON_NULL ||
               (nb_json_string(v, &text, &n) && strlen(text) == n);
        memcpy(p, &text, sizeof text);
        break;
    case FLAG:
        good = nb_json_bool(v, &b);
        memcpy(p, &b, sizeof b);
        break;
    case INT:
        good = nb_json_int(v, &i) && i >= INT32_MIN && i <= INT32_MAX;
        memcpy(p, &(int32_t){(int32_t)i}, sizeof(int32_t));
        break;
    case BIG:
        good = nb_json_int(v, &i) && i >= 0;
        memcpy(p, &i, sizeof i);
        break;
    case WHOLE:
        good = nb_json_u64(v, &u);
        memcpy(p, &u, sizeof u);
        break;
    case REAL:
        good = nb_json_real(v, &d);
        memcpy(p, &d, sizeof d);
        break;
    }
    return good;
}

nb_status nb_quantize_settings_read(const char *path, const nb_json_node *settings,
                                    nb_quantize_options *o, nb_error *err)
{
    const nb_quantize_options asked = *o;
    for (int i = 0; i < kRows; i++) {
        const nb_json_node *v = nb_json_get(settings, rows[i].key);
        nb_quantize_options had = *o;
        if (v && take(&rows[i], v, &had)) {
            if (!given(&rows[i], &asked))
                *o = had;
        } else
            return nb_fail_at(err, NB_BAD_INPUT, path, -1, "its setting %s cannot be read",
                              rows[i].key);
    }
    o->sym_set = o->correction_set = o->layers_set = true;
    return NB_OK;
}

nb_status nb_quantize_settings_compare(const char *path, const nb_json_node *settings,
                                       const nb_quantize_options *o, nb_error *err)
{
    nb_quantize_options had = {0};
    nb_status st = nb_quantize_settings_read(path, settings, &had, err);
    for (int i = 0; i < kRows && st == NB_OK; i++) {
        nb_text a = {0}, b = {0};
        put(&rows[i], o, &a);
        put(&rows[i], &had, &b);
        st = nb_text_check(&a, "a setting", err);
        if (st == NB_OK)
            st = nb_text_check(&b, "a setting", err);
        if (st == NB_OK && rows[i].changes && strcmp(a.p, b.p) != 0) {
            char now[100], then[100];
            st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                            "%s is %s now, the unfinished run had %s; --restart begins anew",
                            rows[i].key,
                            nb_escape(now, sizeof now, a.p, (int64_t)(a.n < 90 ? a.n : 90)),
                            nb_escape(then, sizeof then, b.p, (int64_t)(b.n < 90 ? b.n : 90)));
        }
        nb_text_free(&a);
        nb_text_free(&b);
    }
    return st;
}
