/* json_stages.c -- the stages around the vocabulary as tokenizer.json describes them: normalizer
 * (Prepend, Strip, Replace of a string, Unicode normal forms), pre_tokenizer (Split, Digits,
 * ByteLevel, Metaspace) and what the decoder says about the first space. Sequences nest; the JSON
 * reader's depth of 128 bounds the recursion. Anything else is refused: other ids would come
 * out. */
#include "text/vocab.h"

#include <string.h>
#include <utf8proc.h>

static bool text_of(const nb_json_node *object, const char *key, nb_str *out)
{
    *out = (nb_str){"", 0};
    return nb_json_string(nb_json_get(object, key), &out->p, &out->n);
}

static bool is_type(const nb_json_node *v, const char *type)
{
    nb_str s;
    return text_of(v, "type", &s) && strcmp(s.p, type) == 0;
}

static bool flag(const nb_json_node *object, const char *key, bool otherwise)
{
    bool v = otherwise;
    (void)nb_json_bool(nb_json_get(object, key), &v);
    return v;
}

static bool absent(const nb_json_node *v)
{
    return !v || nb_json_typeof(v) == NB_JSON_NULL;
}

static nb_status refuse(const char *path, const nb_json_node *v, const char *what, nb_error *err)
{
    char shown[160];
    nb_str type;
    (void)text_of(v, "type", &type);
    return nb_fail_at(err, NB_UNSUPPORTED, path, (int64_t)nb_json_offset(v),
                      "tokenizer.json: this %s of type \"%s\" is not supported", what,
                      nb_escape(shown, (int64_t)sizeof shown, type.p, (int64_t)type.n));
}

static nb_status add_step(nb_tokenizer *t, const char *path, const nb_json_node *v, nb_step step,
                          nb_error *err)
{
    if (t->n_step == NB_MAX_STEPS)
        return nb_fail_at(err, NB_UNSUPPORTED, path, (int64_t)nb_json_offset(v),
                          "tokenizer.json: more than %d steps of normalization", NB_MAX_STEPS);
    t->step[t->n_step++] = step;
    return NB_OK;
}

nb_status nb_json_read_normalizer(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                  nb_error *err)
{
    enum { kUnicode = UTF8PROC_STABLE, kK = UTF8PROC_COMPAT };
    static const struct {
        const char *type;
        int form;
    } forms[] = {{"NFC", kUnicode | UTF8PROC_COMPOSE},
                 {"NFD", kUnicode | UTF8PROC_DECOMPOSE},
                 {"NFKC", kUnicode | UTF8PROC_COMPOSE | kK},
                 {"NFKD", kUnicode | UTF8PROC_DECOMPOSE | kK}};
    nb_step step = {.when = NB_PREPEND_ALWAYS};
    nb_status st = NB_OK;
    if (absent(v))
        return NB_OK;
    if (is_type(v, "Sequence")) {
        const nb_json_node *e = nb_json_first(nb_json_get(v, "normalizers"));
        for (; e && st == NB_OK; e = nb_json_next(e))
            st = nb_json_read_normalizer(t, path, e, err);
        return st;
    }
    if (is_type(v, "Prepend") && text_of(v, "prepend", &step.to)) {
        step.kind = NB_STEP_PREPEND;
        return add_step(t, path, v, step, err);
    }
    if (is_type(v, "Replace") && text_of(nb_json_get(v, "pattern"), "String", &step.from) &&
        step.from.n && text_of(v, "content", &step.to)) {
        step.kind = NB_STEP_REPLACE;
        return add_step(t, path, v, step, err);
    }
    if (is_type(v, "Strip")) {
        step.kind = NB_STEP_STRIP;
        step.form = (flag(v, "strip_left", true) ? NB_STRIP_LEFT : 0) |
                    (flag(v, "strip_right", true) ? NB_STRIP_RIGHT : 0);
        return add_step(t, path, v, step, err);
    }
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (is_type(v, forms[i].type)) {
            step.kind = NB_STEP_FORM;
            step.form = forms[i].form;
            return add_step(t, path, v, step, err);
        }
    return refuse(path, v, "normalizer", err);
}

/* A string as a pattern that matches it and nothing else: ASCII as \xHH, which is never syntax. */
static nb_status quote(nb_tokenizer *t, nb_str s, nb_str *out, nb_error *err)
{
    static const char hex[] = "0123456789abcdef";
    char *p = s.n <= 1024 ? nb_arena_alloc(t->arena, s.n, 4, err) : NULL;
    *out = (nb_str){p, 0};
    if (!p)
        return s.n <= 1024 ? NB_NO_ROOM
                           : nb_fail(err, NB_UNSUPPORTED, "a Split by a string of %zu bytes", s.n);
    for (size_t i = 0; i < s.n; i++) {
        const unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x80) {
            p[out->n++] = s.p[i];
            continue;
        }
        memcpy(p + out->n, "\\x", 2);
        p[out->n + 2] = hex[c >> 4];
        p[out->n + 3] = hex[c & 15];
        out->n += 4;
    }
    return NB_OK;
}

/* Split: the matches on their own, the rest on its own (Isolated) or left out (Removed and
 * inverted). By a space that the normalizer has replaced it does nothing, whatever its behavior. */
static nb_status read_split(nb_tokenizer *t, const char *path, const nb_json_node *v, nb_error *err)
{
    nb_str behavior, pattern;
    const nb_json_node *p = nb_json_get(v, "pattern");
    const bool regex = text_of(p, "Regex", &pattern), invert = flag(v, "invert", false);
    if (!regex && (!text_of(p, "String", &pattern) || pattern.n == 0))
        return refuse(path, v, "pre_tokenizer", err);
    (void)text_of(v, "behavior", &behavior);
    for (int i = 0; i < t->n_step && !regex; i++)
        if (t->step[i].kind == NB_STEP_REPLACE && t->step[i].from.n == pattern.n &&
            memcmp(t->step[i].from.p, pattern.p, pattern.n) == 0 && i == t->n_step - 1)
            return NB_OK;
    const bool isolated = strcmp(behavior.p, "Isolated") == 0;
    if (!isolated && !(invert && strcmp(behavior.p, "Removed") == 0))
        return refuse(path, v, "pre_tokenizer", err);
    if (!regex) {
        const nb_status st = quote(t, pattern, &pattern, err);
        if (st != NB_OK)
            return st;
    }
    return nb_pretokenize_add(t, path, (int64_t)nb_json_offset(p), pattern, !isolated, err);
}

/* Metaspace: spaces as its replacement, one put before the text; split: pieces begin with it. */
static nb_status read_metaspace(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                nb_error *err)
{
    static const char words[] = NB_SPACE_MARK "[^" NB_SPACE_MARK "]*|[^" NB_SPACE_MARK "]+";
    nb_str mark, scheme;
    nb_status st = NB_OK;
    if (!text_of(v, "replacement", &mark) || strcmp(mark.p, NB_SPACE_MARK) != 0 || t->n_cut)
        return refuse(path, v, "pre_tokenizer", err);
    if (!text_of(v, "prepend_scheme", &scheme))
        scheme.p = flag(v, "add_prefix_space", true) ? "always" : "never";
    const bool first = strcmp(scheme.p, "first") == 0, always = strcmp(scheme.p, "always") == 0;
    if (!first && !always && strcmp(scheme.p, "never") != 0)
        return refuse(path, v, "pre_tokenizer", err);
    st =
        add_step(t, path, v, (nb_step){NB_STEP_REPLACE, NB_PREPEND_ALWAYS, 0, {" ", 1}, mark}, err);
    if (st == NB_OK && (first || always))
        st = add_step(
            t, path, v,
            (nb_step){
                NB_STEP_PREPEND, first ? NB_PREPEND_FIRST : NB_PREPEND_MISSING, 0, {"", 0}, mark},
            err);
    if (st == NB_OK && flag(v, "split", true))
        st = nb_pretokenize_add(t, path, (int64_t)nb_json_offset(v),
                                (nb_str){words, sizeof words - 1}, false, err);
    return st;
}

static nb_status read_byte_level(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                 nb_error *err)
{
    const nb_str gpt2 = {nb_pretokenize_gpt2, strlen(nb_pretokenize_gpt2)};
    nb_status st = NB_OK;
    t->byte_level = true;
    if (flag(v, "add_prefix_space", true)) {
        if (t->n_cut) /* a space before every piece of an earlier cut */
            return refuse(path, v, "pre_tokenizer", err);
        st = add_step(t, path, v,
                      (nb_step){NB_STEP_PREPEND, NB_PREPEND_MISSING, 0, {"", 0}, {" ", 1}}, err);
    }
    return st == NB_OK && flag(v, "use_regex", true)
               ? nb_pretokenize_add(t, path, (int64_t)nb_json_offset(v), gpt2, false, err)
               : st;
}

/* Digits are what Rust's standard library calls numeric: it has Unicode 17, so 13 more than \p{N}.
 * The cut is known under the name of \p{N} all the same: nothing else tells the numbers apart. */
static nb_status read_digits(nb_tokenizer *t, const char *path, const nb_json_node *v,
                             nb_error *err)
{
#define NUMERIC "[\\p{N}\\x{11de0}-\\x{11de9}\\x{16ff4}-\\x{16ff6}]"
    static const nb_str one = {NUMERIC, sizeof NUMERIC - 1}, row = {NUMERIC "+", sizeof NUMERIC};
    static const nb_str one_name = {"\\p{N}", 5}, row_name = {"\\p{N}+", 6};
    const bool each = flag(v, "individual_digits", false);
    const nb_status st =
        nb_pretokenize_add(t, path, (int64_t)nb_json_offset(v), each ? one : row, false, err);
    if (st == NB_OK)
        t->cut[t->n_cut - 1].source = each ? one_name : row_name;
    return st;
}

nb_status nb_json_read_pretokenizer(nb_tokenizer *t, const char *path, const nb_json_node *v,
                                    nb_error *err)
{
    nb_status st = NB_OK;
    if (absent(v))
        return NB_OK;
    if (t->byte_level) /* its output is spelled bytes: no cut can follow */
        return refuse(path, v, "pre_tokenizer behind ByteLevel", err);
    if (is_type(v, "Sequence")) {
        const nb_json_node *e = nb_json_first(nb_json_get(v, "pretokenizers"));
        for (; e && st == NB_OK; e = nb_json_next(e))
            st = nb_json_read_pretokenizer(t, path, e, err);
        return st;
    }
    if (is_type(v, "Split"))
        return read_split(t, path, v, err);
    if (is_type(v, "Digits"))
        return read_digits(t, path, v, err);
    if (is_type(v, "ByteLevel"))
        return read_byte_level(t, path, v, err);
    if (is_type(v, "Metaspace"))
        return read_metaspace(t, path, v, err);
    return refuse(path, v, "pre_tokenizer", err);
}

void nb_json_read_decoder(nb_tokenizer *t, const nb_json_node *v)
{
    nb_str scheme;
    int64_t start = 0;
    for (const nb_json_node *e = nb_json_first(nb_json_get(v, "decoders")); e; e = nb_json_next(e))
        nb_json_read_decoder(t, e);
    if (is_type(v, "Strip") && nb_json_int(nb_json_get(v, "start"), &start) && start > 0)
        t->drops_space = true;
    if (is_type(v, "Metaspace"))
        t->drops_space = !(text_of(v, "prepend_scheme", &scheme) && strcmp(scheme.p, "never") == 0);
}
