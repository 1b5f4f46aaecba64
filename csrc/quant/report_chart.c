/* report_chart.c -- the pictures of the report's page, inline SVG coloured by its style sheet.
 *
 * Charts with axes are drawn in units of a 300 x 160 box that the page scales; bars and strips have
 * a height in pixels and widths in percent, so that their text keeps its size on a phone. Every
 * picture has a name, and a table of the page says the same in numbers. */
#include "quant/report_page.h"

#include <math.h>
#include <stdlib.h>

enum { kLeft = 42, kRight = 292, kTop = 8, kBottom = 130, kMostTicks = 6, kMostDots = 1500 };

/* ---- a kind's linears, one point a layer ---- */

typedef struct point {
    int layer;
    double error, error_rtn, bits; /* means over the layer's linears of the kind (experts) */
    const nb_report_linear *first;
} point;

/* The next layer of the kind from *at on; false at the end. */
static bool next_point(const nb_report *r, const nb_page_kinds *k, size_t kind, size_t *at,
                       point *p)
{
    int n = 0;
    *p = (point){.layer = -1};
    for (; *at < r->n_linear; ++*at) {
        const nb_report_linear *l = &r->linear[*at];
        if (nb_page_kind_of(k, l) != kind)
            continue;
        if (n && l->layer != p->layer)
            break;
        if (!n)
            *p = (point){.layer = l->layer, .error = 0, .first = l};
        n++;
        p->error += (l->error - p->error) / n;
        p->error_rtn += (l->error_rtn - p->error_rtn) / n;
        p->bits += (l->bits_per_weight - p->bits) / n;
    }
    return n > 0;
}

static bool has_layer(const point *p)
{
    return p->layer >= 0 && p->layer < NB_PAGE_LAYERS;
}

/* ---- error over layers ---- */

typedef struct scale { /* logarithmic, from one of 1 2 5 x 10^i to another */
    double low, high;
    double tick[64];
    int n_tick;
} scale;

/* The i-th of ... 0.1 0.2 0.5 1 2 5 10 ... ; 0 is 1. */
static double step(int i)
{
    static const double within[] = {1, 2, 5};
    const int decade = i >= 0 ? i / 3 : -((2 - i) / 3);
    return within[i - 3 * decade] * pow(10, decade);
}

static scale scale_of(double low, double high)
{
    scale s = {.n_tick = 0};
    if (!(low > 0))
        low = high = 1; /* all errors are 0 */
    int first = 3 * (int)floor(log10(low)), last = 3 * (int)ceil(log10(high));
    while (step(first + 1) <= low)
        first++;
    while (last > first && step(last - 1) >= high)
        last--;
    if (last == first)
        last++;
    s.low = step(first);
    s.high = step(last);
    int every = 1;
    /* the powers of ten alone, then every second, third ... of them */
    if (last - first >= kMostTicks) {
        every = 3;
        while ((last - first) / every >= kMostTicks)
            every += 3;
    }
    for (int i = first; i <= last && s.n_tick < 64; i++)
        if (i % every == 0)
            s.tick[s.n_tick++] = step(i);
    return s;
}

static double y_of(const scale *s, double v)
{
    const double share = v <= s->low    ? 0
                         : v >= s->high ? 1
                                        : (log(v) - log(s->low)) / (log(s->high) - log(s->low));
    return kBottom - share * (kBottom - kTop);
}

static double x_of(const nb_page_kinds *k, int layer)
{
    return k->n_layer > 1 ? kLeft + (double)layer / (k->n_layer - 1) * (kRight - kLeft)
                          : (kLeft + kRight) / 2.0;
}

static void axes(nb_text *t, const nb_page_kinds *k, const scale *s)
{
    for (int i = 0; i < s->n_tick; i++) {
        const double y = y_of(s, s->tick[i]);
        nb_text_printf(t,
                       "<line class=\"grid\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/><text "
                       "x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>",
                       kLeft, kRight, y, y, kLeft - 4, y + 4, s->tick[i]);
    }
    nb_text_printf(t, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>", kLeft,
                   kRight, kBottom, kBottom);
    const int last = k->n_layer - 1, at[] = {0, last / 2, last};
    for (int i = 0; i < 3; i++)
        if (i == 0 || at[i] != at[i - 1])
            nb_text_printf(t, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"%s\">%d</text>",
                           x_of(k, at[i]), kBottom + 14,
                           k->n_layer > 1 && at[i] == last ? "end" : "middle", at[i]);
    nb_text_printf(t, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">layer</text>",
                   (kLeft + kRight) / 2, kBottom + 27);
}

/* Zero-length pieces show a layer whose neighbours were not measured. */
static void line(nb_text *t, const nb_report *r, const nb_page_kinds *k, size_t kind,
                 const scale *s, bool rtn)
{
    point p;
    bool down = false, any = false;
    for (size_t at = 0; next_point(r, k, kind, &at, &p);) {
        const double v = rtn ? p.error_rtn : p.error;
        if (!has_layer(&p) || !isfinite(v)) {
            down = false;
            continue;
        }
        if (!any)
            nb_text_printf(t, "<path class=\"%s\" d=\"", rtn ? "rtn" : "line");
        any = true;
        nb_text_printf(t, down ? "L%.1f %.1f" : "M%.1f %.1fh0", x_of(k, p.layer), y_of(s, v));
        down = true;
    }
    if (any)
        nb_text_puts(t, "\"/>");
}

static void dots(nb_text *t, const nb_report *r, const nb_page_kinds *k, size_t kind,
                 const scale *s)
{
    point p;
    for (size_t at = 0; next_point(r, k, kind, &at, &p);) {
        if (!has_layer(&p) || !isfinite(p.error))
            continue;
        nb_text_printf(t, "<circle class=\"dot\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.5\"><title>",
                       x_of(k, p.layer), y_of(s, p.error));
        nb_page_text(t, p.first->name);
        nb_text_puts(t, ": ");
        nb_page_number(t, p.error);
        nb_text_puts(t, ", rounding ");
        nb_page_number(t, p.error_rtn);
        nb_text_puts(t, "</title></circle>");
    }
}

void nb_page_error_charts(nb_text *t, const nb_report *r, const nb_page_kinds *k)
{
    const scale s = scale_of(k->low, k->high);
    nb_text_puts(t, "<div class=\"charts\">\n");
    for (size_t i = 0; i < k->n; i++) {
        if (!isfinite(k->kind[i].error))
            continue;
        nb_text_puts(t, "<figure><figcaption>");
        nb_page_text(t, k->kind[i].name);
        nb_text_puts(
            t, "</figcaption><svg viewBox=\"0 0 300 160\" role=\"img\" aria-label=\"error of ");
        nb_page_text(t, k->kind[i].name);
        nb_text_printf(t, " in %d layers: mean ", k->n_layer);
        nb_page_number(t, k->kind[i].error);
        nb_text_puts(t, ", of rounding ");
        nb_page_number(t, k->kind[i].error_rtn);
        nb_text_puts(t, "\">");
        axes(t, k, &s);
        line(t, r, k, i, &s, true);
        line(t, r, k, i, &s, false);
        if (r->n_linear <= kMostDots)
            dots(t, r, k, i, &s);
        nb_text_puts(t, "</svg></figure>\n");
    }
    nb_text_puts(t, "</div>\n");
}

/* ---- strips and bars ---- */

static void row_begin(nb_text *t, const char *label)
{
    nb_text_puts(t, "<div class=\"row\"><span class=\"label\">");
    nb_page_text(t, label);
    nb_text_puts(t, "</span><svg class=\"bar\" role=\"img\" aria-label=\"");
    nb_page_text(t, label);
    nb_text_puts(t, "\">");
}

/* From the fewest bits of the page to the most; never so dark that a number on it cannot be
 * read. */
static double shade(const nb_page_kinds *k, double bits)
{
    return k->most_bits > k->least_bits
               ? 0.08 + 0.44 * (bits - k->least_bits) / (k->most_bits - k->least_bits)
               : 0.25;
}

/* Layers [first, last] of n, all of so many bits. */
static void piece(nb_text *t, const nb_page_kinds *k, int first, int last, int n, double bits)
{
    if (!isfinite(bits))
        return;
    const double x = 100.0 * first / n, width = 100.0 * (last + 1 - first) / n;
    nb_text_printf(t,
                   "<rect class=\"piece\" x=\"%.2f%%\" y=\"1\" width=\"%.2f%%\" height=\"22\" "
                   "fill-opacity=\"%.2f\"><title>",
                   x, width, shade(k, bits));
    if (n > 1 && first == last)
        nb_text_printf(t, "layer %d: ", first);
    else if (n > 1)
        nb_text_printf(t, "layers %d to %d: ", first, last);
    nb_text_printf(t, "%.4g bits</title></rect>", bits);
    if (width >= 14)
        nb_text_printf(t, "<text x=\"%.2f%%\" y=\"16\" text-anchor=\"middle\">%.4g</text>",
                       x + width / 2, bits);
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What the shades stand for, where they are few. */
static void bits_legend(nb_text *t, const nb_report *r, const nb_page_kinds *k)
{
    enum { kMost = 12 };
    double seen[kMost];
    int n = 0;
    for (size_t i = 0; i < r->n_linear; i++) {
        const double bits = r->linear[i].bits_per_weight;
        int at = 0;
        while (at < n && (seen[at] < bits || seen[at] > bits))
            at++;
        if (!isfinite(bits) || at < n)
            continue;
        if (n == kMost)
            return;
        seen[n++] = bits;
    }
    if (n < 2)
        return;
    qsort(seen, (size_t)n, sizeof *seen, ascending);
    nb_text_puts(t, "<div class=\"legend\" aria-hidden=\"true\">");
    for (int i = 0; i < n; i++)
        nb_text_printf(t,
                       "<span><svg viewBox=\"0 0 34 10\"><rect class=\"piece\" width=\"34\" "
                       "height=\"10\" fill-opacity=\"%.2f\"/></svg>%.4g bits</span>",
                       shade(k, seen[i]), seen[i]);
    nb_text_puts(t, "</div>\n");
}

void nb_page_bits_strips(nb_text *t, const nb_report *r, const nb_page_kinds *k)
{
    bits_legend(t, r, k);
    nb_text_puts(t, "<div class=\"rows\">\n");
    for (size_t i = 0; i < k->n; i++) {
        point p;
        int first = 0, last = -1;
        double bits = 0;
        row_begin(t, k->kind[i].name);
        for (size_t at = 0; next_point(r, k, i, &at, &p);) {
            if (!has_layer(&p)) {
                piece(t, k, 0, 0, 1, p.bits);
                continue;
            }
            if (last >= first && (p.bits < bits || p.bits > bits || p.layer != last + 1))
                piece(t, k, first, last, k->n_layer, bits);
            if (last < first || p.bits < bits || p.bits > bits || p.layer != last + 1)
                first = p.layer;
            last = p.layer;
            bits = p.bits;
        }
        if (last >= first)
            piece(t, k, first, last, k->n_layer, bits);
        nb_text_puts(t, "</svg><span class=\"value\">");
        nb_page_bits(t, k->kind[i].bits);
        nb_text_puts(t, "</span></div>\n");
    }
    nb_text_puts(t, "</div>\n");
}

static double took(const nb_report_phase *p)
{
    return isfinite(p->seconds) && p->seconds > 0 ? p->seconds : 0;
}

void nb_page_phase_bars(nb_text *t, const nb_report *r)
{
    double sum = 0, most = 0;
    for (size_t i = 0; i < r->n_phase; i++) {
        sum += took(&r->phase[i]);
        most = fmax(most, took(&r->phase[i]));
    }
    nb_text_puts(t, "<div class=\"rows\">\n");
    for (size_t i = 0; i < r->n_phase; i++) {
        const double s = took(&r->phase[i]);
        row_begin(t, r->phase[i].name);
        nb_text_printf(t,
                       "<rect class=\"fill\" x=\"0\" y=\"4\" width=\"%.2f%%\" height=\"16\" "
                       "rx=\"2\"/></svg><span class=\"value\">",
                       most > 0 ? 100 * s / most : 0.0);
        nb_page_seconds(t, r->phase[i].seconds);
        nb_text_printf(t,
                       s > 0 && s < 0.005 * sum ? " &#183; &lt;1 %%</span></div>\n"
                                                : " &#183; %.0f %%</span></div>\n",
                       sum > 0 ? 100 * s / sum : 0.0);
    }
    nb_text_puts(t, "</div>\n");
}

void nb_page_ppl_bars(nb_text *t, const nb_report_eval *e)
{
    const double z = 1.96; /* 95 % of a normal distribution */
    const double v[] = {e->ppl_before, e->ppl_after},
                 half[] = {z * e->ppl_before_stderr, z * e->ppl_after_stderr};
    double low = fmin(v[0] - half[0], v[1] - half[1]), high = fmax(v[0] + half[0], v[1] + half[1]);
    if (!isfinite(low) || !isfinite(high))
        return; /* the table has the numbers */
    const double room = high > low ? 0.08 * (high - low) : 1;
    low -= room;
    high += room;
    nb_text_puts(t, "<div class=\"rows\">\n");
    for (int i = 0; i < 2; i++) {
        const double x = 100 * (v[i] - low) / (high - low), w = 100 * half[i] / (high - low);
        row_begin(t, i ? "after" : "before");
        nb_text_printf(t,
                       "<line class=\"grid\" x1=\"0\" x2=\"100%%\" y1=\"12\" y2=\"12\"/><line "
                       "class=\"%s\" x1=\"%.2f%%\" x2=\"%.2f%%\" y1=\"12\" y2=\"12\"/>"
                       "<circle class=\"%s\" cx=\"%.2f%%\" cy=\"12\" r=\"5\"/></svg><span "
                       "class=\"value\">%.4f &#177; %.4f</span></div>\n",
                       i ? "whisker after" : "whisker", x - w, x + w, i ? "mean after" : "mean", x,
                       v[i], half[i]);
    }
    nb_text_puts(t, "</div>\n");
}
