/* report.c -- the page: figures, what was asked for, quality, error, bits, time, every linear
 * (report.h). */
#include "quant/report.h"
#include "quant/report_page.h"

#include <math.h>
#include <stdlib.h>

static const char kStyle[] =
    ":root{color-scheme:light "
    "dark;--bg:#fafaf8;--ink:#1b1c1e;--soft:#585c63;--rule:#d8dadd;--panel:#fff;"
    "--accent:#0a66c2;--base:#7b7f86;--warn:#8f3300}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#141619;--ink:#e8e9eb;--soft:#a8adb5;--rule:#"
    "353a41;--panel:#1b1e22;--accent:#5fabff;"
    "--base:#9096a0;--warn:#ffb582}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 "
    "system-ui,-apple-system,\"Segoe UI\",Roboto,\"Liberation Sans\",sans-serif}\n"
    "main{max-width:1240px;margin:0 auto;padding:20px 16px 48px}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:0 0 16px;overflow-wrap:anywhere}\n"
    "h2{font-size:1.15rem;margin:36px 0 6px}\n"
    "p{margin:4px 0 12px;color:var(--soft);max-width:70ch}\n"
    "dl{margin:0}dt{color:var(--soft);font-size:.85rem}dd{margin:0;overflow-wrap:anywhere}\n"
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(130px,1fr));gap:10px}\n"
    ".figures div{background:var(--panel);border:1px solid "
    "var(--rule);border-radius:8px;padding:10px 12px;display:flex;flex-direction:column;"
    "justify-content:space-between}\n"
    ".figures dd{font-size:1.3rem;font-weight:600;font-variant-numeric:tabular-nums}\n"
    ".settings{display:grid;grid-template-columns:repeat(auto-fill,minmax(240px,1fr));gap:8px "
    "20px}\n"
    ".warnings{border-left:4px solid var(--warn);margin:16px 0;padding:4px 0 4px 28px}\n"
    ".warnings li{overflow-wrap:anywhere}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:14px}\n"
    "figure{margin:0;background:var(--panel);border:1px solid "
    "var(--rule);border-radius:8px;padding:8px 8px 2px;min-width:0}\n"
    "figcaption{font-weight:600;font-size:.9rem;overflow-wrap:anywhere}\n"
    "figure svg{display:block;width:100%;height:auto}\n"
    "svg "
    "text{fill:var(--soft);font-size:11px;font-family:inherit;font-variant-numeric:tabular-nums}\n"
    ".grid{stroke:var(--rule);stroke-width:1}.axis{stroke:var(--base);stroke-width:1}\n"
    ".line,.rtn{fill:none;stroke-width:2;stroke-linejoin:round;stroke-linecap:round;vector-effect:"
    "non-scaling-stroke}\n"
    ".line{stroke:var(--accent)}.rtn{stroke:var(--base);stroke-dasharray:5 "
    "4;stroke-width:1.5}.dot{fill:var(--accent)}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:4px 22px;margin:0 0 "
    "10px;color:var(--soft);font-size:.9rem}\n"
    ".legend svg{width:34px;height:10px;margin-right:7px;vertical-align:middle}\n"
    ".rows{display:grid;grid-template-columns:minmax(88px,auto) minmax(0,1fr) auto;gap:6px "
    "14px;align-items:center;max-width:900px}\n"
    ".row{display:contents}\n"
    ".label{overflow-wrap:anywhere}\n"
    ".value{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}\n"
    ".bar{width:100%;height:24px;display:block;overflow:visible}\n"
    ".bar text{fill:var(--ink);font-size:12px}\n"
    ".piece{fill:var(--accent);stroke:var(--bg);stroke-width:1}.fill{fill:var(--accent)}\n"
    ".whisker{stroke:var(--base);stroke-width:3;stroke-linecap:round}.mean{fill:var(--base)}\n"
    ".whisker.after{stroke:var(--accent)}.mean.after{fill:var(--accent)}\n"
    ".scroll{overflow-x:auto;border:1px solid "
    "var(--rule);border-radius:8px;background:var(--panel);margin:12px 0}\n"
    "table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}\n"
    "caption{text-align:left;padding:8px 12px;color:var(--soft)}\n"
    "th,td{padding:5px 12px;text-align:right;border-top:1px solid var(--rule);white-space:nowrap}\n"
    "th:first-child,td:first-child,.words td:last-child,.words th:last-child{text-align:left}\n"
    ".formula{white-space:nowrap}sup{line-height:0}\n"
    "th[scope=row]{font-weight:400}.scroll.plain{max-width:900px}.plain "
    "th[scope=row]{white-space:normal}\n"
    ".words td:last-child{white-space:normal;min-width:280px;overflow-wrap:anywhere}\n"
    "summary{cursor:pointer;padding:6px 0;color:var(--accent)}\n"
    ":focus-visible{outline:2px solid var(--accent);outline-offset:2px}\n"
    "@media(max-width:560px){.rows{grid-template-columns:minmax(0,1fr)}.row{display:grid;grid-"
    "template-columns:minmax(0,1fr) auto;gap:0 10px}"
    ".row .bar{grid-column:1/-1;grid-row:2}th,td{padding:5px 7px}"
    ".figures{grid-template-columns:repeat(2,1fr)}h1{font-size:1.35rem}}\n"
    "@media print{.scroll{overflow:visible}}\n";

static void pairs(nb_text *t, const char *kind, const nb_report_pair *p, size_t n)
{
    if (!n)
        return;
    nb_text_printf(t, "<dl class=\"%s\">\n", kind);
    for (size_t i = 0; i < n; i++) {
        nb_text_puts(t, "<div><dt>");
        nb_page_text(t, p[i].key);
        nb_text_puts(t, "</dt><dd>");
        nb_page_text(t, p[i].value);
        nb_text_puts(t, "</dd></div>\n");
    }
    nb_text_puts(t, "</dl>\n");
}

/* A table that scrolls by itself on a narrow screen, reachable by the keyboard. */
static void table_begin(nb_text *t, const char *caption, const char *kind, const char *const *head)
{
    nb_text_printf(t,
                   "<div class=\"scroll %s\" role=\"region\" tabindex=\"0\" "
                   "aria-label=\"%s\"><table>\n<caption>%s</caption>\n<thead><tr>",
                   kind, caption, caption);
    for (; *head; head++)
        nb_text_printf(t, "<th scope=\"col\">%s</th>", *head);
    nb_text_puts(t, "</tr></thead>\n<tbody>\n");
}

static void table_end(nb_text *t)
{
    nb_text_puts(t, "</tbody></table></div>\n");
}

static void row_head(nb_text *t, const char *name)
{
    nb_text_puts(t, "<tr><th scope=\"row\">");
    nb_page_text(t, name);
    nb_text_puts(t, "</th>");
}

static void cell(nb_text *t, double x)
{
    nb_text_puts(t, "<td>");
    if (isnan(x)) /* short: the table of all linears has thousands */
        nb_text_puts(t, "-");
    else
        nb_page_number(t, x);
    nb_text_puts(t, "</td>");
}

/* ---- sections ---- */

static void warnings(nb_text *t, const nb_report *r)
{
    if (!r->n_warning)
        return;
    nb_text_puts(t, "<ul class=\"warnings\" aria-label=\"warnings\">\n");
    for (size_t i = 0; i < r->n_warning; i++) {
        nb_text_puts(t, "<li>");
        nb_page_text(t, r->warning[i]);
        nb_text_puts(t, "</li>\n");
    }
    nb_text_puts(t, "</ul>\n");
}

/* A row "what | value, with its range where it has one". */
static void measure(nb_text *t, const char *what, double v, double stderr_of, int digits)
{
    nb_text_printf(t, "<tr><th scope=\"row\">%s</th><td>", what);
    if (isfinite(v))
        nb_text_printf(t, "%.*f", digits, v);
    else
        nb_text_puts(t, "not measured");
    if (isfinite(v) && isfinite(stderr_of))
        nb_text_printf(t, " &#177; %.*f", digits, 1.96 * stderr_of);
    nb_text_puts(t, "</td></tr>\n");
}

static void quality(nb_text *t, const nb_report *r)
{
    static const char *const head[] = {"measure", "value", NULL};
    const nb_report_eval *e = &r->eval;
    const double none = (double)NAN;
    nb_text_puts(t, "<section>\n<h2>Quality</h2>\n");
    if (!r->has_eval) {
        nb_text_puts(
            t, "<p>Not measured: no evaluation text was given (--eval FILE).</p>\n</section>\n");
        return;
    }
    nb_text_puts(t, "<p>Perplexity of the evaluation text with the model before and after; the "
                    "ranges hold with 95 % confidence (1.96 standard errors), each "
                    "for its own model. Both saw the same tokens: the divergence of the quantized "
                    "model's predictions from the original's "
                    "(0 is no difference) tells what the ranges hide.</p>\n");
    nb_page_ppl_bars(t, e);
    table_begin(t, "perplexity and divergence", "plain", head);
    measure(t, "perplexity before", e->ppl_before, e->ppl_before_stderr, 4);
    measure(t, "perplexity after", e->ppl_after, e->ppl_after_stderr, 4);
    measure(t, "KL divergence, mean, nats a token", e->kl_mean, e->kl_stderr, 5);
    measure(t, "KL divergence, median", e->kl_median, none, 5);
    measure(t, "KL divergence, 99th percentile", e->kl_p99, none, 5);
    measure(t, "same likeliest token, percent", 100 * e->top1, none, 2);
    table_end(t);
    nb_text_puts(t, "</section>\n");
}

static void errors(nb_text *t, const nb_report *r, const nb_page_kinds *k)
{
    static const char *const head[] = {
        "kind",          "linears",       "mean error", "of rounding",
        "largest error", "bits a weight", "largest in", NULL};
    nb_text_puts(t, "<section>\n<h2>Error per layer and kind</h2>\n");
    if (k->measured) {
        nb_text_puts(t, "<p>The share of a linear's output that quantization changed, on the "
                        "calibration text: <span class=\"formula\">tr(D H D<sup>T</sup>) / "
                        "tr(W H W<sup>T</sup>)</span>, with D the "
                        "change of the weights W and H the second moments of the inputs. Less is "
                        "better; one logarithmic scale for all kinds.</p>\n"
                        "<div class=\"legend\" aria-hidden=\"true\"><span><svg viewBox=\"0 0 34 "
                        "10\"><path class=\"line\" d=\"M2 5H32\"/></svg>this method</span>"
                        "<span><svg viewBox=\"0 0 34 10\"><path class=\"rtn\" d=\"M2 "
                        "5H32\"/></svg>rounding to the same grid</span></div>\n");
        nb_page_error_charts(t, r, k);
    } else
        nb_text_puts(t, r->n_linear
                            ? "<p>Not measured: the method ran without calibration text.</p>\n"
                            : "<p>No linear was quantized.</p>\n");
    if (k->measured) { /* bits by kind stand in the next section too */
        table_begin(t, "by kind", "words", head);
        for (size_t i = 0; i < k->n; i++) {
            const nb_page_kind *a = &k->kind[i];
            row_head(t, a->name);
            nb_text_printf(t, "<td>%zu</td>", a->n);
            cell(t, a->error);
            cell(t, a->error_rtn);
            cell(t, a->worst ? a->worst->error : (double)NAN);
            nb_text_puts(t, "<td>");
            nb_page_bits(t, a->bits);
            nb_text_puts(t, "</td><td>");
            if (a->worst)
                nb_page_text(t, a->worst->name);
            nb_text_puts(t, "</td></tr>\n");
        }
        table_end(t);
    }
    nb_text_puts(t, "</section>\n");
}

static void bits(nb_text *t, const nb_report *r, const nb_page_kinds *k)
{
    if (!r->n_linear)
        return;
    nb_text_puts(t, "<section>\n<h2>Bits per tensor</h2>\n<p>Bits a weight, scales included, from "
                    "the first layer on the left to the last on the right; a "
                    "stronger colour has more. The number at the end is the kind's mean.</p>\n");
    nb_page_bits_strips(t, r, k);
    nb_text_puts(t, "</section>\n");
}

static void times(nb_text *t, const nb_report *r)
{
    if (!r->n_phase)
        return;
    nb_text_puts(t, "<section>\n<h2>Time per phase</h2>\n");
    nb_page_phase_bars(t, r);
    nb_text_puts(t, "</section>\n");
}

static void every_linear(nb_text *t, const nb_report *r)
{
    static const char *const head[] = {"tensor",        "error", "of rounding",
                                       "bits a weight", "note",  NULL};
    if (!r->n_linear)
        return;
    nb_text_printf(
        t, "<section>\n<h2>Every linear</h2>\n<details><summary>A table of all %zu</summary>\n",
        r->n_linear);
    table_begin(t, "every quantized linear", "words", head);
    for (size_t i = 0; i < r->n_linear; i++) {
        const nb_report_linear *l = &r->linear[i];
        row_head(t, l->name);
        cell(t, l->error);
        cell(t, l->error_rtn);
        nb_text_puts(t, "<td>");
        nb_page_bits(t, l->bits_per_weight);
        nb_text_puts(t, "</td>");
        nb_text_puts(t, "<td>");
        nb_page_text(t, l->note);
        nb_text_puts(t, "</td></tr>\n");
    }
    table_end(t);
    nb_text_puts(t, "</details>\n</section>\n");
}

nb_status nb_report_html(const nb_report *r, nb_text *t, nb_error *err)
{
    nb_page_kinds *k = malloc(sizeof *k);
    if (!k)
        return nb_fail(err, NB_NO_ROOM, "no memory left for the report");
    nb_page_find_kinds(r, k);
    nb_text_puts(t, NB_REPORT_HEAD
                 "<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n"
                 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<meta "
                 "name=\"color-scheme\" content=\"light dark\"/>\n<title>");
    nb_page_text(t, r->title);
    nb_text_printf(t, "</title>\n<style>\n%s</style>\n</head>\n<body>\n<main>\n<h1>", kStyle);
    nb_page_text(t, r->title);
    nb_text_puts(t, "</h1>\n");
    pairs(t, "figures", r->figure, r->n_figure);
    warnings(t, r);
    quality(t, r);
    errors(t, r, k);
    bits(t, r, k);
    times(t, r);
    every_linear(t, r);
    if (r->n_setting)
        nb_text_puts(t, "<h2>Settings</h2>\n");
    pairs(t, "settings", r->setting, r->n_setting);
    nb_text_puts(t, "</main>\n</body>\n</html>\n");
    free(k);
    return nb_text_check(t, "the report", err);
}
