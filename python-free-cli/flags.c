/* flags.c -- parsing by the tables; help from the same tables. */
#include "flags.h"
#include "base/nearest.h"
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const nb_flag nb_global_flags[] = {
    {"device", 0, "auto|cpu|ref|cuda:N|simt", "where to compute"},
    {"threads", 't', "N", "CPU threads (default: all this process may use)"},
    {"exact", 0, NULL, "activations, KV cache and sums in f32 (on a GPU: no change)"},
    {"kv-type", 0, "f32|f16|bf16|q8|fp8", "type of the KV cache (default f16, with --exact f32)"},
    {"offload", 0, "N|auto",
     "layers kept on the CPU, the first ones; auto: as few as the device's memory allows"},
    {"ngl", 0, "N", "layers on the device, the others on the CPU (also -ngl)"},
    {"allow-nonfinite", 0, NULL,
     "read packed linears whose scales are NaN or infinite, to look at or convert them"},
    {"json", 0, NULL, "one JSON object on stdout"},
    {"quiet", 'q', NULL, "no progress"},
    {"verbose", 'v', NULL, "say on stderr which kernels serve the model, the device, the threads"},
    {"help", 'h', NULL, "this text"},
    {"version", 0, NULL, "which nibble this is"},
    {NULL, 0, NULL, NULL},
};

static const nb_flag *find_in(const nb_flag *f, const char *name, size_t n, char letter)
{
    for (; f->name; f++)
        if (letter ? f->letter == letter : strlen(f->name) == n && memcmp(f->name, name, n) == 0)
            return f;
    return NULL;
}

const nb_flag *nb_global_flag(const char *arg)
{
    if (arg[0] == '-' && arg[1] == '-')
        return find_in(nb_global_flags, arg + 2, strcspn(arg + 2, "="), 0);
    return arg[0] == '-' && arg[1] && !arg[2] ? find_in(nb_global_flags, NULL, 0, arg[1]) : NULL;
}

/* Other spellings, and flags that are not there yet (exit 5, not "unknown"). command NULL:
 * everywhere; alias NULL: not there yet. */
static const struct {
    const char *command, *name, *alias;
} others[] = {
    {NULL, "tp", NULL},
    {NULL, "lora", NULL},
    {NULL, "ctx-size", "ctx"},
    {NULL, "max-model-len", "ctx"},
    {"eval", "ppl", "file"},
    {"eval", "text", "file"},
    {"eval", "kl", "against"},
    {"quantize", "group-size", "group"},
    {"quantize", "calib-samples", "samples"},
    {"quantize", "calib-len", "ctx"},
    {"quantize", "desc-act", "act-order"},
    {"quantize", "skip", NULL},
    {"quantize", "rule", NULL},
    {"quantize", "recipe", NULL},
    {"quantize", "bpw", NULL},
    {"quantize", "size", NULL},
};
enum { kOthers = sizeof others / sizeof *others };

/* Flags with a value that each may be given several times; of all others two are a mistake. */
static const struct {
    const char *command, *name;
} repeated[] = {{"pull", "include"}};

static bool may_repeat(const nb_command *c, const nb_flag *f)
{
    for (size_t i = 0; i < sizeof repeated / sizeof *repeated; i++)
        if (strcmp(repeated[i].command, c->name) == 0 && strcmp(repeated[i].name, f->name) == 0)
            return true;
    return false;
}

/* Its place in `others`, -1 if it has none. */
static int other(const nb_command *c, const char *name, size_t n)
{
    for (int i = 0; i < kOthers; i++)
        if ((!others[i].command || strcmp(others[i].command, c->name) == 0) &&
            strlen(others[i].name) == n && memcmp(others[i].name, name, n) == 0)
            return i;
    return -1;
}

static const nb_flag *find(const nb_command *c, const char *name, size_t n, char letter)
{
    const nb_flag *f = find_in(c->flags, name, n, letter);
    f = f ? f : find_in(nb_global_flags, name, n, letter);
    const int i = f || letter ? -1 : other(c, name, n);
    return i >= 0 && others[i].alias
               ? find_in(c->flags, others[i].alias, strlen(others[i].alias), 0)
               : f;
}

/* What was meant: the long name with one dash, the letter with its value glued to it, or the
 * nearest name. */
static void hint_flag(const nb_command *c, const char *arg, nb_error *err)
{
    char name[64];
    const size_t dashes = strspn(arg, "-");
    snprintf(name, sizeof name, "%.*s", (int)strcspn(arg + dashes, "="), arg + dashes);
    const nb_flag *letter = dashes == 1 && arg[1] ? find(c, "", 0, arg[1]) : NULL;
    nb_nearest near = {.given = name};
    const nb_flag *const tables[] = {c->flags, nb_global_flags};
    for (int t = 0; t < 2; t++)
        for (const nb_flag *f = tables[t]; f->name; f++)
            nb_nearest_offer(&near, f->name);
    for (int i = 0; i < kOthers; i++)
        if (others[i].alias && find(c, others[i].name, strlen(others[i].name), 0))
            nb_nearest_offer(&near, others[i].name);
    if (letter && letter->operand && !(near.name && near.distance == 0))
        nb_hint(err, "did you mean -%c %.64s?", letter->letter, arg + 2);
    else
        nb_nearest_hint(&near, "--", err);
}

static nb_status unknown(const nb_command *c, const char *arg, nb_error *err)
{
    char shown[160];
    const char *name = arg + strspn(arg, "-");
    const size_t n = strcspn(name, "=");
    const int i = other(c, name, n);
    /* as it was typed, without its value */
    nb_escape(shown, (int64_t)sizeof shown, arg, (int64_t)(name - arg) + (int64_t)n);
    if (i >= 0 && !others[i].alias)
        return nb_fail(err, NB_UNSUPPORTED, "%s: %s is not there yet", c->name, shown);
    const nb_status st = nb_fail(err, NB_USAGE, "%s: unknown flag %s", c->name, shown);
    hint_flag(c, arg, err);
    return st;
}

nb_status nb_args_parse(const nb_command *c, int n, char **argv, nb_args *out, nb_error *err)
{
    memset(out, 0, sizeof *out);
    bool flags = true;
    for (int i = 0; i < n; i++) {
        const char *arg = argv[i];
        if (flags && strcmp(arg, "--") == 0) {
            flags = false;
            continue;
        }
        if (!flags || arg[0] != '-' || arg[1] == 0) {
            if (out->n_operand == c->n_operand) {
                char shown[160];
                return nb_fail(err, NB_USAGE, "%s: too many arguments, the first is %s", c->name,
                               nb_escape(shown, (int64_t)sizeof shown, arg, (int64_t)strlen(arg)));
            }
            out->operand[out->n_operand++] = arg;
            continue;
        }
        const char *equals = strchr(arg, '=');
        const nb_flag *f =
            arg[1] == '-'
                ? find(c, arg + 2, equals ? (size_t)(equals - arg - 2) : strlen(arg + 2), 0)
            : arg[2] == 0 ? find(c, "", 0, arg[1])
            /* as llama.cpp spells it */
            : strcmp(arg, "-ngl") == 0 ? find(c, "ngl", 3, 0)
                                       : NULL;
        if (!f)
            return unknown(c, arg, err);
        if (out->n == NB_MAX_FLAGS)
            return nb_fail(err, NB_USAGE, "%s: more than %d flags", c->name, NB_MAX_FLAGS);
        for (int k = 0; f->operand && k < out->n; k++) /* a switch says the same twice */
            if (out->flag[k] == f && !may_repeat(c, f))
                return nb_fail(err, NB_USAGE, "%s: --%s is given twice; give one", c->name,
                               f->name);
        if (f->operand && !equals && i + 1 == n)
            return nb_fail(err, NB_USAGE, "%s: --%s needs %s", c->name, f->name, f->operand);
        if (!f->operand && equals && arg[1] == '-')
            return nb_fail(err, NB_USAGE, "%s: --%s takes no value", c->name, f->name);
        out->flag[out->n] = f;
        out->value[out->n++] = !f->operand ? "" : arg[1] == '-' && equals ? equals + 1 : argv[++i];
    }
    return NB_OK;
}

const char *nb_flag_text(const nb_args *a, const char *name)
{
    for (int i = a->n - 1; i >= 0; i--)
        if (strcmp(a->flag[i]->name, name) == 0)
            return a->value[i];
    return NULL;
}

bool nb_flag_on(const nb_args *a, const char *name)
{
    return nb_flag_text(a, name) != NULL;
}

static bool digits_only(const char *s)
{
    return *s && strspn(s, "+-0123456789.eE") == strlen(s) && *s != '+';
}

nb_status nb_flag_int(const nb_args *a, const char *name, int64_t least, int64_t most, int32_t *out,
                      nb_error *err)
{
    const char *s = nb_flag_text(a, name);
    char *end = NULL;
    if (!s)
        return NB_OK;
    errno = 0;
    const long long v = digits_only(s) ? strtoll(s, &end, 10) : 0;
    if (!end || *end || errno || v < least || v > most)
        return nb_fail(err, NB_USAGE, "--%s %.64s: it must be a whole number from %lld to %lld",
                       name, s, (long long)least, (long long)most);
    *out = (int32_t)v;
    return NB_OK;
}

nb_status nb_flag_real(const nb_args *a, const char *name, double least, double most, double *out,
                       nb_error *err)
{
    const char *s = nb_flag_text(a, name);
    char *end = NULL;
    if (!s)
        return NB_OK;
    errno = 0;
    const double v = digits_only(s) ? strtod(s, &end) : 0.0;
    if (!end || *end || errno || !(v >= least && v <= most))
        return nb_fail(err, NB_USAGE, "--%s %.64s: it must be a number from %g to %g", name, s,
                       least, most);
    *out = v;
    return NB_OK;
}

nb_status nb_flag_size(const nb_args *a, const char *name, int64_t *out, nb_error *err)
{
    static const char units[] = "KMGT";
    const char *s = nb_flag_text(a, name);
    int64_t n = 0;
    size_t i = 0;
    if (!s)
        return NB_OK;
    bool good = true;
    for (; s[i] >= '0' && s[i] <= '9' && good; i++)
        good = !__builtin_mul_overflow(n, 10, &n) && !__builtin_add_overflow(n, s[i] - '0', &n);
    const char *unit = good && i && s[i] ? strchr(units, s[i]) : NULL;
    const bool decimal = unit && s[i + 1] == 'B';
    for (const char *u = units; unit && u <= unit && good; u++)
        good = !__builtin_mul_overflow(n, decimal ? 1000 : 1024, &n);
    good = good && i && n > 0 && !s[i + (unit != NULL) + decimal];
    *out = n;
    return good ? NB_OK
                : nb_fail(err, NB_USAGE, "--%s %.40s: it must be a size, such as 24G or 500M", name,
                          s);
}

nb_status nb_flag_list(const nb_args *a, const char *name, int64_t least, int64_t most,
                       int32_t *out, int most_n, nb_error *err)
{
    const char *s = nb_flag_text(a, name);
    int n = 0;
    for (const char *p = s; p; p++) {
        char *end = NULL;
        errno = 0;
        const long long v = *p >= '0' && *p <= '9' ? strtoll(p, &end, 10) : 0;
        if (!end || (*end && *end != ',') || errno || v < least || v > most || n == most_n)
            return nb_fail(
                err, NB_USAGE,
                "--%s %.64s: it must be at most %d whole numbers from %lld to %lld, like 1,8", name,
                s, most_n, (long long)least, (long long)most);
        out[n++] = (int32_t)v;
        out[n] = 0;
        p = end;
        if (!*p)
            break;
    }
    return NB_OK;
}

nb_status nb_flag_one_of(const nb_args *a, const char *const *names, nb_error *err)
{
    const char *first = NULL;
    for (; *names; names++) {
        if (first && nb_flag_on(a, *names))
            return nb_fail(err, NB_USAGE, "--%s and --%s exclude each other; give one", first,
                           *names);
        if (nb_flag_on(a, *names))
            first = *names;
    }
    return NB_OK;
}

nb_status nb_parse_ids(const char *text, int32_t **out, size_t *n, nb_error *err)
{
    const size_t most = strlen(text) / 2 + 1;
    *n = 0;
    *out = calloc(most, sizeof **out);
    if (!*out)
        return nb_fail(err, NB_NO_ROOM, "out of memory: %zu token ids", most);
    for (const char *p = text;; p++) {
        char *end = NULL;
        errno = 0;
        const long v = *p >= '0' && *p <= '9' ? strtol(p, &end, 10) : -1;
        if (v < 0 || v > INT32_MAX || errno || (*end && *end != ',')) {
            free(*out);
            *out = NULL;
            return nb_fail(err, NB_USAGE, "--ids: \"%.40s\" is no list of token ids like 1,2,3", p);
        }
        (*out)[(*n)++] = (int32_t)v;
        p = end;
        if (!*p)
            return NB_OK;
    }
}

static void print_flags(const nb_flag *f)
{
    for (; f->name; f++) {
        char left[64];
        const char letter[] = {'-', f->letter, ',', ' ', 0};
        snprintf(left, sizeof left, "%s--%s %s", f->letter ? letter : "    ", f->name,
                 f->operand ? f->operand : "");
        printf("  %-36s %s\n", left, f->help);
    }
}

static void print_word(const char *word, const char *means)
{
    printf("  %-36s %s\n", word, means);
}

void nb_print_help(const nb_command *c)
{
    printf("nibble %s %s\n\n%s\n\n", c->name, c->operands, c->summary);
    print_flags(c->flags);
    if (c->words) {
        putchar('\n');
        c->words(print_word);
    }
    printf("\nEverywhere:\n");
    print_flags(nb_global_flags);
}
