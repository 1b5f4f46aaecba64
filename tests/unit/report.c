/* report.c -- the page of a quantization: well formed whatever the names are, complete, without
 * anything from outside. */
#include "quant/report.h"
#include "check.h"
#include "file/utf8.h"
#include "hostile/folder.h"
#include "nibble.h"

#include <math.h>

/* ---- is it well formed? tags balance, attributes are quoted, & < > stand only where they may
 * ---- */

enum { kDeep = 64, kName = 24 };

typedef struct page {
    check *c;
    const char *p, *start;
    char open[kDeep][kName];
    int n_open, n_tag;
    bool raw; /* inside <style> */
} page;

static void complain(page *g, const char *what)
{
    check_report(g->c, __FILE__, __LINE__, "%s at byte %td: %.60s", what, g->p - g->start, g->p);
}

static bool name_char(char ch)
{
    return (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') || (ch >= '0' && ch <= '9') ||
           ch == '-';
}

/* At '&': a named or a decimal entity. */
static bool entity(const char *p)
{
    static const char *const known[] = {"&amp;", "&lt;", "&gt;", "&quot;"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strncmp(p, known[i], strlen(known[i])) == 0)
            return true;
    const size_t digits = p[1] == '#' ? strspn(p + 2, "0123456789") : 0;
    return digits > 0 && p[2 + digits] == ';';
}

/* ` name="value"` up to > or />; false after a complaint. */
static bool attributes(page *g)
{
    for (;;) {
        g->p += strspn(g->p, " ");
        if (*g->p == '>' || (*g->p == '/' && g->p[1] == '>'))
            return true;
        const char *name = g->p;
        while (name_char(*g->p))
            g->p++;
        if (g->p == name || g->p[0] != '=' || g->p[1] != '"') {
            complain(g, "no attribute");
            return false;
        }
        for (g->p += 2; *g->p != '"'; g->p++)
            if (!*g->p || *g->p == '<' || (*g->p == '&' && !entity(g->p))) {
                complain(g, "markup inside an attribute");
                return false;
            }
        g->p++;
    }
}

static bool tag(page *g)
{
    char name[kName] = "";
    const bool end = g->p[1] == '/';
    g->p += end ? 2 : 1;
    for (size_t n = 0; name_char(*g->p) && n + 1 < kName; n++)
        name[n] = *g->p++;
    if (!name[0]) {
        complain(g, "a tag without a name");
        return false;
    }
    g->n_tag++;
    if (!attributes(g))
        return false;
    const bool empty = *g->p == '/';
    g->p += empty ? 2 : 1;
    g->raw = !end && strcmp(name, "style") == 0;
    if (!end && !empty && g->n_open < kDeep)
        memcpy(g->open[g->n_open++], name, kName);
    if (!end)
        return true;
    if (g->n_open == 0 || strcmp(g->open[--g->n_open], name) != 0) {
        complain(g, "an end without its beginning");
        return false;
    }
    return true;
}

static void check_form(check *c, const nb_text *t)
{
    static const char head[] = "<!DOCTYPE html>\n";
    page g = {.c = c, .p = t->p, .start = t->p};
    CHECK_EQ(c, strlen(t->p), t->n); /* no NUL inside */
    CHECK(c, strncmp(t->p, head, sizeof head - 1) == 0);
    for (size_t i = 0; i < t->n;) {
        uint32_t code = 0;
        const size_t len = nb_utf8_at((const unsigned char *)t->p + i, t->n - i, &code);
        if (!len || (code < 0x20 && code != '\n') || (code >= 0x7f && code < 0xa0) ||
            (code >= 0x202a && code <= 0x202e)) {
            check_report(c, __FILE__, __LINE__, "byte %zu: %02x", i,
                         (unsigned)(unsigned char)t->p[i]);
            break;
        }
        i += len;
    }
    for (g.p += sizeof head - 1; *g.p;) {
        if (*g.p == '<') {
            if (!tag(&g))
                return;
        } else if (*g.p == '>' || (*g.p == '&' && !g.raw && !entity(g.p))) {
            complain(&g, "markup as text");
            return;
        } else
            g.p++;
    }
    CHECK_EQ(c, g.n_open, 0);
    CHECK(c, g.n_tag > 10);
}

static void check_page(check *c, const nb_text *t)
{
    check_form(c, t);
    static const char *const outside[] = {"<script", "src=",   "href=",   "url(",      "@import",
                                          "http",    "onload", "onclick", "javascript"};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++)
        CHECK(c, !strstr(t->p, outside[i]));
}

/* ---- pages ---- */

static const char *const kinds[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                    "ffn_gate", "ffn_up", "ffn_down"};

static nb_report_linear *linears(int n_layer, char (**names)[40])
{
    nb_report_linear *l = calloc((size_t)n_layer * 7, sizeof *l);
    *names = calloc((size_t)n_layer * 7, sizeof **names);
    if (!l || !*names)
        exit(1);
    for (int i = 0; i < n_layer * 7; i++) {
        snprintf((*names)[i], sizeof **names, "model.layers.%d.%s.weight", i / 7, kinds[i % 7]);
        l[i] = (nb_report_linear){.name = (*names)[i],
                                  .layer = i / 7,
                                  .kind = kinds[i % 7],
                                  .error = 1e-3 * (1 + i % 13),
                                  .error_rtn = 2e-3 * (1 + i % 11),
                                  .bits_per_weight = i % 14 < 7 ? 4.5 : 6.5625,
                                  .note = ""};
    }
    return l;
}

static const nb_report_eval eval = {12.345678, 0.101,  12.6, 0.104, 0.023456,
                                    0.0004,    0.0112, 0.31, 0.9312};

static nb_text made(check *c, const nb_report *r)
{
    nb_text t = {0};
    nb_error err = {.offset = -1};
    CHECK_EQ(c, nb_report_html(r, &t, &err), NB_OK);
    if (t.p)
        check_page(c, &t);
    else
        exit(1);
    return t;
}

static int count(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)) != NULL; p++)
        n++;
    return n;
}

static void whole(check *c)
{
    char(*names)[40];
    nb_report_linear *l = linears(4, &names);
    static const nb_report_pair figure[] = {{"bits a weight", "4.55"}, {"file", "88 MiB"}},
                                setting[] = {{"method", "gptq"}, {"grid", "q4_0"}};
    static const nb_report_phase phase[] = {
        {"load", 0.4}, {"calibration", 65}, {"layers", 600}, {"evaluation", 3 * 3600 + 61}};
    static const char *const warning[] = {"blk.3.ffn_down.weight: damping 0.1"};
    const nb_report r = {.title = "tiny.gguf, gptq q4_0",
                         .figure = figure,
                         .n_figure = 2,
                         .setting = setting,
                         .n_setting = 2,
                         .linear = l,
                         .n_linear = 28,
                         .phase = phase,
                         .n_phase = 4,
                         .has_eval = true,
                         .eval = eval,
                         .warning = warning,
                         .n_warning = 1};
    nb_text t = made(c, &r), again = made(c, &r);
    CHECK_STR(c, again.p, t.p); /* the same facts, the same bytes */
    static const char *const said[] = {"<title>tiny.gguf, gptq q4_0</title>",
                                       "<dt>bits a weight</dt><dd>4.55</dd>",
                                       "<dt>method</dt><dd>gptq</dd>",
                                       "12.3457 &#177; 0.1980",
                                       "0.02346 &#177; 0.00078",
                                       "<td>93.12</td>",
                                       "blk.3.ffn_down.weight: damping 0.1",
                                       "65 s",
                                       "10 min 00 s",
                                       "3 h 01 min",
                                       "A table of all 28",
                                       "<th scope=\"row\">model.layers.3.ffn_down.weight</th>",
                                       "aria-label=\"error of attn_q in 4 layers: mean "};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        CHECK_HAS(c, t.p, said[i]);
    CHECK_EQ(c, count(t.p, "<figure>"), 7);
    CHECK_EQ(c, count(t.p, "<circle class=\"dot\""), 28);
    CHECK_EQ(c, count(t.p, "class=\"piece\" x="), 28); /* 4.5 and 6.5625 by turns */
    nb_text_free(&t);
    nb_text_free(&again);
    free(l);
    free(names);
}

/* Where the numbers are: the error of 0.001 lies on the lowest line of the scale, that of 0.1 on
 * the highest. */
static void places(check *c)
{
    const nb_report_linear l[] = {{"a0", 0, "a", 0.001, 0.1, 4, ""},
                                  {"a1", 1, "a", 0.01, 0.1, 4, ""},
                                  {"a2", 2, "a", 0.1, 0.1, 8, ""}};
    const nb_report r = {.title = "t", .linear = l, .n_linear = 3};
    nb_text t = made(c, &r);
    CHECK_HAS(c, t.p, "<path class=\"line\" d=\"M42.0 130.0h0L167.0 69.0L292.0 8.0\"/>");
    CHECK_HAS(c, t.p, "<path class=\"rtn\" d=\"M42.0 8.0h0L167.0 8.0L292.0 8.0\"/>");
    CHECK_HAS(c, t.p, "text-anchor=\"end\">0.001</text>");
    CHECK_HAS(c, t.p, "text-anchor=\"end\">0.1</text>");
    CHECK_HAS(c, t.p,
              "<rect class=\"piece\" x=\"0.00%\" y=\"1\" width=\"66.67%\" height=\"22\" "
              "fill-opacity=\"0.08\"><title>layers 0 to 1: 4 bits</title>");
    CHECK_HAS(c, t.p,
              "<rect class=\"piece\" x=\"66.67%\" y=\"1\" width=\"33.33%\" height=\"22\" "
              "fill-opacity=\"0.52\"><title>layer 2: 8 bits</title>");
    nb_text_free(&t);
}

static void nothing(check *c)
{
    const nb_report r = {.title = ""};
    nb_text t = made(c, &r);
    CHECK_HAS(c, t.p, "Not measured: no evaluation text was given");
    CHECK_HAS(c, t.p, "No linear was quantized");
    CHECK(c, !strstr(t.p, "<table") && !strstr(t.p, "<svg") && !strstr(t.p, "nan"));
    nb_text_free(&t);
}

static void unmeasured(check *c)
{
    const double none = (double)NAN, inf = (double)INFINITY;
    const nb_report_linear l[] = {{"a", 0, "a", none, none, 4.5, "kept f16"},
                                  {"head", -1, "output", none, none, 8.5, ""},
                                  {"b", 0, "b", 0, 0, 4.5, ""},
                                  {"c", 0, "c", inf, 1e300, 4.5, ""},
                                  {"d", INT32_MAX, "d", 1e-300, -1, none, ""},
                                  {"e", 5, "a", 0.5, none, 4.5, ""}};
    const nb_report_phase phase[] = {{"nothing", 0}, {"never", none}};
    for (size_t n = 1; n <= 6; n++) {
        const nb_report r = {.title = "t",
                             .linear = l,
                             .n_linear = n,
                             .has_eval = true,
                             .eval = {inf, none, none, inf, none, none, none, none, none},
                             .phase = phase,
                             .n_phase = n % 3};
        nb_text t = made(c, &r);
        CHECK(c, !strstr(t.p, "nan\"") && !strstr(t.p, "nan%") && !strstr(t.p, "inf\"") &&
                     !strstr(t.p, "inf%") && !strstr(t.p, "nan "));
        nb_text_free(&t);
    }
}

static void hostile_names(check *c)
{
    static const char *const bad[] = {"</title><script>alert(1)</script>",
                                      "\"><img src=x onerror=alert(1)>",
                                      "' onload='x",
                                      "&lt;b&gt;",
                                      "\x1b[31mred\x07",
                                      "\xe2\x80\xae"
                                      "gnp.exe",
                                      "\xc2\x9b"
                                      "31m",
                                      "\xff\xfe broken \xc3",
                                      "\xef\xbf\xbf",
                                      "\xf0\x9f\x98\x80 plain",
                                      "a\nb\tc",
                                      ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const nb_report_pair pair = {bad[i], bad[i]};
        const nb_report_linear l[] = {{bad[i], 0, bad[i], 0.1, 0.2, 4, bad[i]},
                                      {bad[i], 1, bad[i], 0.1, 0.2, 4, bad[i]}};
        const nb_report_phase phase = {bad[i], 1};
        const nb_report r = {.title = bad[i],
                             .figure = &pair,
                             .n_figure = 1,
                             .setting = &pair,
                             .n_setting = 1,
                             .linear = l,
                             .n_linear = 2,
                             .phase = &phase,
                             .n_phase = 1,
                             .warning = &bad[i],
                             .n_warning = 1};
        nb_text t = {0};
        CHECK_EQ(c, nb_report_html(&r, &t, NULL), NB_OK);
        if (t.p) /* the words for what must not be loaded may be shown: they are text */
            check_form(c, &t);
        CHECK(c, t.p && !strstr(t.p, "<script") && !strstr(t.p, "<img"));
        nb_text_free(&t);
    }
    const nb_report_pair pair = {"key", "</dd>&\"'\x1b\xe2\x80\xae\xff"};
    const nb_report r = {.title = "<x>", .figure = &pair, .n_figure = 1};
    nb_text t = made(c, &r);
    CHECK_HAS(c, t.p, "<title>&lt;x&gt;</title>");
    CHECK_HAS(c, t.p, "<dd>&lt;/dd&gt;&amp;&quot;&#39;\\x1b\\u202e\\xff</dd>");
    nb_text_free(&t);
}

/* Names that need no escape in attributes and elements alike: the strict reader sees them too. */
static void hostile_kinds(check *c)
{
    nb_report_linear l[200];
    char names[200][40];
    for (int i = 0; i < 200; i++) { /* more kinds than the page shows alone */
        snprintf(names[i], sizeof names[i], "<kind %d>\"'&", i);
        l[i] = (nb_report_linear){names[i], 0, names[i], 0.1, 0.2, 4, names[i]};
    }
    const nb_report r = {.title = "many", .linear = l, .n_linear = 200};
    nb_text t = made(c, &r);
    CHECK_EQ(c, count(t.p, "<figure>"), 49);
    CHECK_HAS(c, t.p, "<th scope=\"row\">others</th><td>152</td>");
    nb_text_free(&t);
}

static void a_thousand_layers(check *c)
{
    char(*names)[40];
    nb_report_linear *l = linears(1000, &names);
    const nb_report r = {
        .title = "large", .linear = l, .n_linear = 7000, .has_eval = true, .eval = eval};
    nb_text t = made(c, &r);
    CHECK(c, t.n < 2000000);
    CHECK_HAS(c, t.p, "<th scope=\"row\">model.layers.999.ffn_down.weight</th>");
    nb_text_free(&t);
    free(l);
    free(names);
}

/* Tensor names of either container, and those of no layer, as layers and kinds. */
static void names_to_kinds(check *c)
{
    static const struct {
        const char *name, *kind; /* of layer 7 unless the name has none */
    } rows[] = {
        {"blk.7.attn_q.weight", "attn_q"},
        {"model.layers.7.self_attn.q_proj.weight", "self_attn.q_proj"},
        {"model.layers.7.mlp.experts.12.down_proj.weight", "mlp.experts.*.down_proj"},
        {"output.weight", "output"},
        {"lm_head", "lm_head"},
        {"blk.7.weight", "blk.7"},
        {"weight", "weight"},
        {"..7..", "..7.."},
        {"blk.99999999999.x", "blk.99999999999.x"},
    };
    static char text[1 << 18];
    char path[1024];
    folder d = folder_new();
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_quantize_layer l = {.name = rows[i].name,
                               .error = 0.1,
                               .error_rtn = 0.2,
                               .bits_per_weight = 4.5,
                               .note = ""};
        const nb_quantize_result r = {
            .method = "gptq", .grid = "q4_0", .format = "gguf", .layers = &l, .n_layer = 1};
        const nb_quantize_options o = {.model = "m.gguf", .out = "folder/o.gguf"};
        nb_error err = {.offset = -1};
        char want[200];
        CHECK_EQ(c, nb_quantize_report(&o, &r, folder_in(&d, "r.html", path), &err), NB_OK);
        CHECK_STR(c, err.message, "");
        FILE *f = fopen(path, "rb");
        const size_t n = f ? fread(text, 1, sizeof text - 1, f) : 0;
        text[n] = 0;
        if (f)
            fclose(f);
        const nb_text t = {.p = text, .n = n};
        check_page(c, &t);
        snprintf(want, sizeof want, "<figcaption>%s</figcaption>", rows[i].kind);
        CHECK_HAS(c, text, want);
        CHECK_HAS(c, text, "<h1>o.gguf: gptq, q4_0</h1>");
        if (strstr(rows[i].name, ".7.") == NULL)
            CHECK(c, !strstr(text, "in 8 layers"));
        else
            CHECK_HAS(c, text, "in 8 layers");
    }
    folder_gone(&d);
}

static const check_case cases[] = {
    {"the page says everything it was given, and the same twice", whole},
    {"values stand where their scale says", places},
    {"a report of nothing is a page", nothing},
    {"what was not measured is said, not drawn", unmeasured},
    {"names of others are shown, never markup or control characters", hostile_names},
    {"more kinds than can be shown are put together", hostile_kinds},
    {"tensor names become layers and kinds", names_to_kinds},
    {"a thousand layers stay below 2 MB", a_thousand_layers},
};
CHECK_MAIN(cases)
