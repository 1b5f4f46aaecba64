/* template.c -- templates and conversations made to hurt: each is refused with one sentence and the
 * right code, within its budget. Cases JT of the hardening list: ranges, recursion, nesting,
 * strings that double, foreign attributes, includes, every cut, control characters in what is
 * raised. */
#include "templates.h"

static char *times(const char *s, size_t n) /* s n times over; free() it */
{
    const size_t len = strlen(s);
    char *p = malloc(len * n + 1);
    if (!p)
        exit(1);
    for (size_t i = 0; i < n; i++)
        memcpy(p + i * len, s, len);
    p[len * n] = 0;
    return p;
}

static char *around(const char *a, const char *b, const char *d, size_t n) /* a^n b d^n */
{
    char *left = times(a, n), *right = times(d, n);
    const size_t size = strlen(left) + strlen(b) + strlen(right) + 1;
    char *p = malloc(size);
    if (!p)
        exit(1);
    snprintf(p, size, "%s%s%s", left, b, right);
    free(left);
    free(right);
    return p;
}

static void refused(check *c, const char *src, const char *json, nb_status code, const char *part)
{
    rendered r = render_text(c, src, json);
    CHECK_EQ(c, r.st, code);
    CHECK_HAS(c, r.err.message, part);
    if (r.st != code)
        fprintf(stderr, "  in %.200s\n", src);
    nb_buf_free(&r.out);
}

#define LOOP "{% for a in range(100000) %}"
static void budgets(check *c)
{
    static const struct {
        const char *src, *part;
    } rows[] = {
        {"{{ range(10**9) }}", "a range of more than"},
        {"{{ range(-9223372036854775807, 9223372036854775807) }}", "a range of more than"},
        {LOOP LOOP LOOP "{% endfor %}{% endfor %}{% endfor %}", "more than"},
        {LOOP LOOP "{% for b in range(100) %}x{% endfor %}{% endfor %}{% endfor %}", "more than"},
        {"{% set r = range(100000) %}{% for a in r %}{% for b in r %}{% endfor %}{% endfor %}",
         "steps"},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "macros call each other deeper"},
        {"{% macro f() %}{{ g() }}{% endmacro %}{% macro g() %}{{ f() }}{% endmacro %}{{ f() }}",
         "macros call each other deeper"},
        {"{{ 'a' * 10**9 }}", "MiB of memory"},
        {"{{ 'a' * 9223372036854775807 }}", "MiB of memory"},
        {"{{ [1] * 10**9 }}", ""},
        {"{% set ns = namespace(s='aaaaaaaa') %}" LOOP "{% set ns.s = ns.s + ns.s %}{% endfor %}",
         ""},
        {"{% set ns = namespace(s='a') %}" LOOP
         "{% set ns.s = ns.s ~ 'bbbbbbbbbbbb' * 1000 %}{% endfor %}",
         ""},
        {"{% set s = 'a' * 1000000 %}{{ (s | replace('a', s)) | length }}", "MiB"},
        {"{% set s = 'a' * 1000000 %}{{ (s | list | join(s)) | length }}", ""},
        {"{{ ('\\n' * 1000000) | indent(100000) }}", ""},
        {"{{ 'a' | indent(10**12, true) }}", "MiB of memory"},
        {"{{ '%1000000000d' % 1 }}", ""},
        {"{{ '{:>999999999}'.format(1) }}", ""},
        {"{{ 'a'.center(10**15) }}", "MiB of memory"},
        {"{{ 'x'.zfill(10**15) }}", "MiB of memory"},
        {"{{ ['a'] | tojson(indent=1000000000) }}{{ 1 / 0 }}", ""},
        {"{% for a in range(9) %}{{ 'a' * 1000000 }}{% endfor %}", "it writes more than 8 MiB"},
        {"{% set x = 'a' * 8000000 %}" LOOP "{% set y = 'ab' in x %}{% endfor %}", "steps"},
        {"{% set x = 'a' * 4000000 %}{{ x.find('a' * 2000000 ~ 'b') }}", "steps"},
        {"{% set ns = namespace(l=[0]) %}" LOOP "{% set ns.l = ns.l + ns.l %}{% endfor %}", ""},
        {"{% set ns = namespace(x=[]) %}{% for a in range(2000) %}{% set ns.x = [ns.x] %}{% endfor "
         "%}{{ ns.x }}",
         "nested deeper"},
        {"{% set ns = namespace(x=[]) %}{% for a in range(2000) %}{% set ns.x = [ns.x] %}{% endfor "
         "%}"
         "{{ ns.x | tojson }}",
         "nested deeper"},
        {"{% set ns = namespace(x=1, y=1) %}{% for a in range(2000) %}{% set ns.x = [ns.x] %}"
         "{% set ns.y = [ns.y] %}{% endfor %}{{ ns.x == ns.y }}",
         "nested deeper"},
        {"{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}", "nested deeper"},
        {"{% set l = [] %}{% set _ = l.append(l) %}{{ l }}", "nested deeper"},
        {"{% set l = [] %}{% set _ = l.append(l) %}{{ l | tojson }}", "nested deeper"},
        {"{% set l = [] %}{% set m = [] %}{% set _ = l.append(m) %}{% set _ = m.append(l) %}{{ l "
         "== m }}",
         "nested deeper"},
        {"{% set d = {} %}{% set _ = d.update(a=d) %}{{ d }}", "nested deeper"},
        {"{{ 9223372036854775807 + 1 }}", "an integer beyond 64 bits"},
        {"{{ -9223372036854775807 - 2 }}", "an integer beyond 64 bits"},
        {"{{ 3 ** 1000 }}", "an integer beyond 64 bits"},
        {"{{ (-9223372036854775807 - 1) // -1 }}", "an integer beyond 64 bits"},
        {"{{ 9223372036854775808 }}", "a number that is not understood"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        refused(c, rows[i].src, "{}", NB_BAD_INPUT, rows[i].part);
}

static void nesting(check *c)
{
    static const struct {
        const char *a, *b, *d;
        size_t n;
    } rows[] = {
        {"(", "1", ")", 100000},      {"[", "1", "]", 100000},    {"{'a':", "1", "}", 100000},
        {"not ", "1", "", 100000},    {"-", "1", "", 100000},     {"1 if 1 else ", "1", "", 20000},
        {"f(", "1", ")", 100000},     {"x[", "1", "]", 100000},   {"1", "", "+1", 100000},
        {"x", "", ".x", 100000},      {"x", "", "()", 100000},    {"1", "", "|abs", 100000},
        {"1", "", " is odd", 100000}, {"1 ** ", "1", "", 100000}, {"a ", "", " and a", 100000},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *e = around(rows[i].a, rows[i].b, rows[i].d, rows[i].n), *all = malloc(strlen(e) + 16);
        if (!all)
            exit(1);
        snprintf(all, strlen(e) + 16, "{{ %s }}", e);
        refused(c, all, "{\"x\":{},\"a\":1}", NB_BAD_INPUT, "chat template: ");
        free(all);
        free(e);
    }
    char *blocks = around("{% if 1 %}", "x", "{% endif %}", 10000);
    refused(c, blocks, "{}", NB_BAD_INPUT, "nested deeper than 64 levels");
    free(blocks);
    blocks = around("{% for a in [1] %}", "1", "{% endfor %}", 10000);
    refused(c, blocks, "{}", NB_BAD_INPUT, "nested deeper than 64 levels");
    free(blocks);
    char *names = times("'map',", 50000), *map = malloc(strlen(names) + 64);
    if (!map)
        exit(1);
    snprintf(map, strlen(names) + 64, "{{ ['a'] | map(%s'upper') | list }}", names);
    refused(c, map, "{}", NB_BAD_INPUT, "nested deeper");
    free(map);
    free(names);
    char *json = around("[", "1", "]", 100), *talk = malloc(strlen(json) + 32);
    if (!talk)
        exit(1);
    snprintf(talk, strlen(json) + 32, "{\"messages\":%s}", json);
    refused(c, "{{ messages }}", talk, NB_BAD_INPUT, "the conversation is nested deeper");
    free(talk);
    free(json);
}

/* 5000 elifs, 5000 statements, a chain of ~: long is not deep. */
static void long_is_fine(check *c)
{
    char *elif = times("{% elif x == 1 %}a", 5000), *all = malloc(strlen(elif) + 64);
    if (!all)
        exit(1);
    snprintf(all, strlen(elif) + 64, "{%% if 0 %%}%s{%% else %%}z{%% endif %%}", elif);
    rendered r = render_text(c, all, "{\"x\":2}");
    CHECK_STR(c, r.out.p, "z");
    nb_buf_free(&r.out);
    free(all);
    free(elif);
    char *chain = times("'a' ~ ", 20000);
    all = malloc(strlen(chain) + 64);
    if (!all)
        exit(1);
    snprintf(all, strlen(chain) + 64, "{{ (%s 'b') | length }}", chain);
    r = render_text(c, all, "{}");
    CHECK_STR(c, r.out.p, "20001");
    nb_buf_free(&r.out);
    free(all);
    free(chain);
}

static void foreign(check *c)
{
    static const char *const empty[] = {
        "{{ ''.__class__ }}",
        "{{ [].__class__.__base__ if [].__class__ else '' }}",
        "{{ 'a' | attr('__class__') }}",
        "{{ {}.__class__ }}",
        "{{ range.__globals__ }}",
        "{{ ''['__class__'] }}",
        "{{ self }}{{ request }}{{ config }}{{ cycler }}{{ lipsum }}",
    };
    static const char *const files[] = {
        "{% include 'x' %}",           "{% import 'x' as y %}",
        "{% from 'x' import y %}",     "{% extends 'x' %}",
        "{% block a %}{% endblock %}", "{% for a in b recursive %}{% endfor %}"};
    for (size_t i = 0; i < sizeof empty / sizeof *empty; i++) {
        rendered r = render_text(c, empty[i], "{}");
        CHECK_STR(c, r.err.message, "");
        CHECK_STR(c, r.out.p, "");
        nb_buf_free(&r.out);
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        refused(c, files[i], "{}", NB_UNSUPPORTED, "not supported");
    refused(c, "{{ ''.__class__.__mro__ }}", "{}", NB_BAD_INPUT, "__class__ is undefined");
}

static void raised(check *c)
{
    refused(c, "{{ raise_exception('a\\x1b[31mb\\u202ec') }}", "{}", NB_BAD_INPUT,
            "it refuses the conversation: a\\x1b[31mb\\u202ec, line 1");
    char *big = times("a", 100000), *src = malloc(100100);
    if (!src)
        exit(1);
    snprintf(src, 100100, "{{ raise_exception('%s') }}", big);
    refused(c, src, "{}", NB_BAD_INPUT, "aaa..., line 1");
    free(src);
    free(big);
}

static void too_long(check *c)
{
    char *big = times("a", NB_TEMPLATE_SOURCE + 1);
    refused(c, big, "{}", NB_BAD_INPUT, "at most 1048576 are allowed");
    free(big);
}

/* A template cut at every byte, and with every byte replaced: text or one sentence. */
static void every_cut(check *c)
{
    static const char src[] =
        "{%- set ns = namespace(a=[1, 'b'], d={'k': 1.5e3}) -%}{% macro m(x, y=2) %}{{ x ~ y }}{% "
        "endmacro %}\n"
        "{%- for k, v in ns.d.items() if v > 0x1 %}{{ loop.index }}{{ m(k, y=v) | upper }}{% else "
        "%}n{% endfor %}\n"
        "{% raw %}{{ x }}{% endraw %}{# c #}{{- '%s\\u00e9' % ns.a[0:1:1] if ns.a is defined and "
        "not none }}\n"
        "{% if messages[-1].role in ('user', \"x\") %}{% set q %}t{% endset %}{{ q | "
        "tojson(indent=2) }}{% elif 1 %}\n"
        "{% endif %}{% filter upper %}{% generation %}g{% endgeneration %}{% endfilter %}";
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    static const char json[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u00e9<s>\"}]}";
    CHECK_EQ(c, nb_json_parse("c", json, strlen(json), &doc, &err), NB_OK);
    int bad = 0;
    for (size_t n = 0; n < sizeof src; n++)
        for (int put = 0; put < 8; put++) {
            char *copy = malloc(n + 1);
            if (!copy)
                exit(1);
            memcpy(copy, src, n);
            if (put && n)
                copy[n - 1] = "x{}%'(\xff"[put - 1];
            rendered r = render_node(copy, n, nb_json_root(doc), NULL);
            const bool one_sentence = (r.st == NB_BAD_INPUT || r.st == NB_UNSUPPORTED) &&
                                      strncmp(r.err.message, "chat template: ", 15) == 0;
            bad += !(r.st == NB_OK || one_sentence);
            nb_buf_free(&r.out);
            free(copy);
        }
    CHECK_EQ(c, bad, 0);
    rendered r = render_node(src, sizeof src - 1, nb_json_root(doc), NULL);
    CHECK_STR(c, r.err.message, "");
    nb_buf_free(&r.out);
    nb_json_close(doc);
}

static const check_case cases[] = {
    {"what costs too much is refused within its budget", budgets},
    {"what is nested too deep is refused", nesting},
    {"what is only long is rendered", long_is_fine},
    {"foreign attributes are undefined, other files unsupported", foreign},
    {"what a template raises is escaped and short", raised},
    {"a template over its size is refused", too_long},
    {"a template cut or changed anywhere gives text or one sentence", every_cut},
};
CHECK_MAIN(cases)
