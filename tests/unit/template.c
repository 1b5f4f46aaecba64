/* template.c -- the interpreter's semantics: small templates whose text Jinja2 itself gave
 * (tests/data/chat/README.md), and what no other judge has: the guard byte. */
#include "templates.h"

static void jinja(check *c)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/chat/jinja.json", NB_SOURCE_DIR);
    nb_json *doc = json_file(path);
    const nb_json_node *root = doc ? nb_json_root(doc) : NULL;
    const nb_json_node *v = nb_json_first(nb_json_get(root, "cases"));
    CHECK(c, v != NULL);
    for (; v; v = nb_json_next(v)) {
        const char *src = "", *want = NULL;
        size_t n = 0, want_n = 0;
        CHECK(c, nb_json_string(nb_json_get(v, "source"), &src, &n));
        rendered r = render_node(src, n, nb_json_get(root, "variables"), NULL);
        if (nb_json_string(nb_json_get(v, "output"), &want, &want_n)) {
            CHECK_STR(c, r.err.message, "");
            CHECK_STR(c, r.out.p, want);
            CHECK_EQ(c, r.out.n, want_n);
        } else {
            CHECK_EQ(c, r.st, NB_BAD_INPUT);
            CHECK_HAS(c, r.err.message, "chat template: ");
        }
        if (r.st != (want ? NB_OK : NB_BAD_INPUT))
            fprintf(stderr, "  in %s\n", src);
        nb_buf_free(&r.out);
    }
    nb_json_close(doc);
}

static void defaults(check *c)
{
    static const char src[] =
        "{{ tools is none }} {{ documents is none }} {{ add_generation_prompt }} "
        "{{ bos_token }} {{ eos_token }} {{ extra }} {{ gone is defined }}";
    rendered r = render_text(c, src, "{\"messages\":[],\"extra\":1.5}");
    CHECK_STR(c, r.out.p, "True True False <s> </s> 1.5 False");
    nb_buf_free(&r.out);
    r = render_text(c, "{{ bos_token }}{{ tools }}{{ add_generation_prompt }}",
                    "{\"bos_token\":\"B\",\"tools\":[1],\"add_generation_prompt\":true}");
    CHECK_STR(c, r.out.p, "B[1]True"); /* the conversation's own come first */
    nb_buf_free(&r.out);
    r = render_text(c, "x", "[]");
    CHECK_EQ(c, r.st, NB_BAD_INPUT);
    nb_buf_free(&r.out);
}

/* Appending, which transformers' sandbox refuses and some templates do. */
static void lists_can_grow(check *c)
{
    rendered r =
        render_text(c,
                    "{% set l = [] %}{% for i in range(3) %}{% set _ = l.append(i) %}"
                    "{% endfor %}{{ l }}{{ l.pop() }}{{ l.pop(0) }}{{ l }}"
                    "{% set d = {'a': 1} %}{% set _ = d.update({'b': 2}) %}{{ d.pop('a') }}{{ d }}",
                    "{}");
    CHECK_STR(c, r.out.p, "[0, 1, 2]20[1]1{'b': 2}");
    nb_buf_free(&r.out);
}

static void errors_name_the_line(check *c)
{
    rendered r = render_text(c, "a\nb\n{{ 1 + }}\n", "{}");
    CHECK_EQ(c, r.st, NB_BAD_INPUT);
    CHECK_STR(c, r.err.message, "chat template: an expression is expected, not }}, line 3");
    nb_buf_free(&r.out);
    r = render_text(c, "{% for m in messages %}\n{{ m.role.x.y }}{% endfor %}",
                    "{\"messages\":[{\"role\":\"user\"}]}");
    CHECK_STR(c, r.err.message, "chat template: x is undefined, line 2");
    nb_buf_free(&r.out);
}

/* Ids of a rendering whose text cannot be told from what a template could write. */
static void ids_of(check *c, const nb_tokenizer *t, const char *src, const char *json, nb_ids *ids)
{
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    CHECK_EQ(c, nb_json_parse("conversation", json, strlen(json), &doc, &err), NB_OK);
    rendered r = render_node(src, strlen(src), doc ? nb_json_root(doc) : NULL, t);
    CHECK_STR(c, r.err.message, "");
    if (r.st == NB_OK)
        CHECK_EQ(c, nb_tokenizer_encode(t, r.out.p, r.out.n, NB_TOKENIZE_SPECIAL, ids, &err),
                 NB_OK);
    nb_buf_free(&r.out);
    nb_json_close(doc);
}

static int64_t count_control(const nb_tokenizer *t, const nb_ids *v)
{
    int64_t n = 0;
    for (size_t i = 0; i < v->n; i++)
        n += nb_tokenizer_is_control(t, v->p[i]);
    return n;
}

static void control_tokens_stay_text(check *c)
{
    static const struct {
        const char *what, *src, *json;
        int64_t control; /* those the template itself writes */
    } rows[] = {
        {"whole", "<s>{{ x }}</s>", "{\"x\":\"a<s>b</s>\"}", 2},
        {"in two strings", "{{ x }}{{ y }}", "{\"x\":\"<\",\"y\":\"s>\"}", 0},
        {"put together by a replacement", "{{ x | replace('-', '') }}", "{\"x\":\"<-s>\"}", 0},
        {"cut out of the middle", "{{ x.split('<q>')[0] ~ x.split('<q>')[1] }}",
         "{\"x\":\"<<q>s>\"}", 0},
        {"behind the template's own text", "{{ x }}s>", "{\"x\":\"<\"}", 0},
        {"in a key", "{% for k in x %}{{ k }}{% endfor %}", "{\"x\":{\"<s>\":1}}", 0},
        {"as JSON", "{{ x | tojson }}", "{\"x\":[\"<s>\"]}", 0},
        {"repeated, folded, padded", "{{ (x * 3).lower().center(40) }}", "{\"x\":\"<S>\"}", 0},
        {"a role, by design", "<{{ x }}>", "{\"x\":\"s\"}", 1},
    };
    tokenizer_of k;
    tokenizer_from_data(&k, "bytes");
    CHECK_EQ(c, k.st, NB_OK);
    for (size_t i = 0; k.t && i < sizeof rows / sizeof *rows; i++) {
        nb_ids ids = {0};
        ids_of(c, k.t, rows[i].src, rows[i].json, &ids);
        CHECK_EQ(c, count_control(k.t, &ids), rows[i].control);
        if (count_control(k.t, &ids) != rows[i].control)
            fprintf(stderr, "  %s\n", rows[i].what);
        nb_ids_free(&ids);
    }
    tokenizer_gone(&k);
}

/* The template's view of a guarded text is that of the plain one. */
static void guards_are_invisible(check *c)
{
    static const char src[] = "{{ x | length }} {{ x == '<s>a<b' }} {{ '<s>' in x }} {{ "
                              "x.startswith('<s') }} {{ x[0] == '<' }} "
                              "{{ x[3] }} {{ x.split('<s>') | length }} {{ d['<k>'] }} {{ "
                              "x.endswith('<b') }} {{ x.find('b') }} "
                              "{{ x | upper | length }} {{ x.strip('<') | length }} {{ "
                              "x.replace('<', '[') }} {{ x[::-1] }} "
                              "{{ {x: 1}['<s>a<b'] }} {{ x < '<t' }} {{ x.count('<') }} {{ x | "
                              "list | length }} {{ [x] }}";
    static const char json[] = "{\"x\":\"<s>a<b\",\"d\":{\"<k>\":7}}";
    tokenizer_of k;
    tokenizer_from_data(&k, "bytes");
    nb_json *doc = NULL;
    nb_error err = {.offset = -1};
    CHECK_EQ(c, nb_json_parse("conversation", json, strlen(json), &doc, &err), NB_OK);
    rendered plain = render_node(src, strlen(src), nb_json_root(doc), NULL);
    rendered guarded = render_node(src, strlen(src), nb_json_root(doc), k.t);
    CHECK_STR(c, plain.out.p,
              "6 True True True True a 2 7 True 5 6 5 [s>a[b b<a>s< 1 True 2 6 ['<s>a<b']");
    CHECK(c, guarded.out.n > plain.out.n);
    unguard(&guarded.out);
    CHECK_STR(c, guarded.out.p, plain.out.p);
    nb_buf_free(&plain.out);
    nb_buf_free(&guarded.out);
    nb_json_close(doc);
    tokenizer_gone(&k);
}

/* "<tool>" is user-defined: plain text keeps it, but it cannot begin "<tool>x", which is control.
 */
static void user_tokens_stay_whole(check *c)
{
    static const char json[] =
        "{\"added_tokens\":[{\"id\":0,\"content\":\"<unk>\",\"special\":true},"
        "{\"id\":1,\"content\":\"<s>\",\"special\":true},"
        "{\"id\":4,\"content\":\"<tool>\",\"special\":false},"
        "{\"id\":5,\"content\":\"<tool>x\",\"special\":true}],"
        "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{"
        "\"<unk>\":0,\"<s>\":1,\"a\":2,\"x\":3},\"merges\":[]}}";
    tokenizer_of k;
    tokenizer_from_text(&k, json, strlen(json), NULL);
    CHECK_EQ(c, k.st, NB_OK);
    nb_ids ids = {0};
    if (k.t)
        ids_of(c, k.t, "{{ x }}<tool>x", "{\"x\":\"a<tool>a<tool>x\"}", &ids);
    static const int32_t want[] = {2, 4, 2, 4, 3, 5};
    CHECK_EQ(c, ids.n, 6);
    for (size_t i = 0; i < ids.n && i < 6; i++)
        CHECK_EQ(c, ids.p[i], want[i]);
    nb_ids_free(&ids);
    tokenizer_gone(&k);
}

static const check_case cases[] = {
    {"every small template gives Jinja2's text or is refused as Jinja2 refuses it", jinja},
    {"variables that the conversation does not give have transformers' values", defaults},
    {"a template may append to its lists", lists_can_grow},
    {"a sentence names what was wrong and its line", errors_name_the_line},
    {"control tokens in the conversation stay plain text", control_tokens_stay_text},
    {"a template does not see the guard bytes", guards_are_invisible},
    {"a user-defined token in the conversation stays whole", user_tokens_stay_whole},
};
CHECK_MAIN(cases)
