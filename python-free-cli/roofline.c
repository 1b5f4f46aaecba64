/* roofline.c -- the picture of `nibble bench kernels -o svg`. */
#include "roofline.h"
#include "base/status.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Units of the picture; the legend stands right of the plot. */
enum {
    kLeft = 64,
    kRight = 664,
    kTop = 24,
    kBottom = 424,
    kWidth = 860,
    kHeight = 476,
    kLine = 16
};

/* Okabe and Ito's colours, which the colour-blind tell apart; kinds beyond them begin again. */
static const char *const colour[] = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                     "#e69f00", "#56b4e9", "#000000", "#8a6d00"};
enum { kColours = sizeof colour / sizeof *colour };

void nb_roofline_add(void *arg, const nb_kernel_row *r)
{
    nb_roofline *p = arg;
    if (!(r->us > 0) || p->err.message[0])
        return;
    if (p->n == p->room) {
        const size_t room = p->room ? 2 * p->room : 64;
        nb_kernel_row *row = realloc(p->row, room * sizeof *row);
        if (!row) {
            (void)nb_fail(&p->err, NB_NO_ROOM, "a picture of %zu kernels", room);
            return;
        }
        p->row = row;
        p->room = room;
    }
    p->row[p->n++] = *r;
}

typedef struct axis {
    double low, high; /* whole powers of ten */
    int from, to;     /* where they lie in the picture */
} axis;

static double place(const axis *a, double v)
{
    return a->from +
           (log10(v) - log10(a->low)) / (log10(a->high) - log10(a->low)) * (a->to - a->from);
}

static void widen(axis *a, double v)
{
    if (!(v > 0))
        return;
    a->low = a->low > 0 && a->low <= v ? a->low : pow(10, floor(log10(v)));
    a->high = a->high >= v ? a->high : pow(10, ceil(log10(v)));
}

static double products_a_byte(const nb_kernel_row *r)
{
    return r->tflop_per_s * 1e3 / r->gb_per_s;
}

static void grid(const axis *x, const axis *y)
{
    for (double v = x->low; v <= x->high * 1.01; v *= 10)
        printf("<path class=\"grid\" d=\"M%.1f %dV%d\"/><text x=\"%.1f\" y=\"%d\" "
               "text-anchor=\"middle\">%g</text>\n",
               place(x, v), kTop, kBottom, place(x, v), kBottom + kLine, v);
    for (double v = y->low; v <= y->high * 1.01; v *= 10)
        printf("<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
               "text-anchor=\"end\">%g</text>\n",
               kLeft, place(y, v), kRight, kLeft - 6, place(y, v) + 4, v);
    printf("<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">FLOP a byte</text>\n",
           (kLeft + kRight) / 2, kBottom + 2 * kLine + 4);
    printf("<text x=\"%d\" y=\"%d\">TFLOP/s</text>\n", kLeft - 40, kTop - 10);
}

/* Up along the memory, then flat along the products. */
static void roof(const nb_kernel_row *r, const axis *x, const axis *y)
{
    const double knee = r->limit_tflop_per_s * 1e3 / r->limit_gb_per_s,
                 from = x->low * r->limit_gb_per_s * 1e-3;
    const double begin = from < y->low ? y->low * 1e3 / r->limit_gb_per_s : x->low;
    if (knee <= begin || knee >= x->high)
        return;
    printf("<path class=\"roof\" d=\"M%.1f %.1fL%.1f %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" "
           "text-anchor=\"end\">%.3g TFLOP/s</text>\n",
           place(x, begin), place(y, begin * r->limit_gb_per_s * 1e-3), place(x, knee),
           place(y, r->limit_tflop_per_s), kRight, kRight - 4, place(y, r->limit_tflop_per_s) - 5,
           r->limit_tflop_per_s);
}

/* The first row of the same kind, or of the same roof. */
static size_t first_of(const nb_roofline *p, size_t i, bool by_kind)
{
    size_t f = 0;
    while (by_kind ? strcmp(p->row[f].kind, p->row[i].kind) != 0
                   : p->row[f].limit_tflop_per_s != p->row[i].limit_tflop_per_s)
        f++;
    return f;
}

/* Colours go by the order in which kinds come. */
static int kind_number(const nb_roofline *p, size_t i)
{
    int number = 0;
    for (size_t f = 0; f < first_of(p, i, true); f++)
        number += first_of(p, f, true) == f;
    return number;
}

static void draw(const nb_roofline *p)
{
    axis x = {.from = kLeft, .to = kRight}, y = {.from = kBottom, .to = kTop};
    for (size_t i = 0; i < p->n; i++) {
        const nb_kernel_row *r = &p->row[i];
        widen(&x, products_a_byte(r));
        /* so that the roof's flat part is seen */
        widen(&x, r->limit_gb_per_s > 0 ? r->limit_tflop_per_s * 2e3 / r->limit_gb_per_s : 0);
        widen(&y, r->tflop_per_s);
        widen(&y, r->limit_tflop_per_s);
    }
    printf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" "
           "font-family=\"sans-serif\" font-size=\"12\" fill=\"#333\">\n",
           kWidth, kHeight);
    puts("<title>Measured kernels under the limits of this machine</title>\n"
         "<style>.grid{stroke:#ddd}.roof{stroke:#333;stroke-width:2;fill:none}circle{fill-opacity:."
         "8}</style>\n"
         "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>");
    grid(&x, &y);
    for (size_t i = 0; i < p->n; i++)
        if (p->row[i].limit_gb_per_s > 0 && p->row[i].limit_tflop_per_s > 0 &&
            first_of(p, i, false) == i)
            roof(&p->row[i], &x, &y);
    for (size_t i = 0; i < p->n; i++) {
        const nb_kernel_row *r = &p->row[i];
        const int number = kind_number(p, i);
        printf("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"><title>%s %s %s, M %lld, N "
               "%lld, K %lld: %.4g us, %.4g GB/s, %.0f %% of the limit</title></circle>\n",
               place(&x, products_a_byte(r)), place(&y, r->tflop_per_s), colour[number % kColours],
               r->op, r->kind, r->row, (long long)r->m, (long long)r->n, (long long)r->k, r->us,
               r->gb_per_s, 100 * r->share_of_limit);
        if (first_of(p, i, true) == i)
            printf("<circle cx=\"%d\" cy=\"%d\" r=\"4\" fill=\"%s\"/><text x=\"%d\" "
                   "y=\"%d\">%s</text>\n",
                   kRight + 20, kTop + number * kLine, colour[number % kColours], kRight + 30,
                   kTop + number * kLine + 4, r->kind);
    }
    puts("</svg>");
}

nb_status nb_roofline_write(nb_roofline *p, nb_error *err)
{
    nb_status st = NB_OK;
    if (p->err.message[0]) {
        if (err)
            *err = p->err;
        st = NB_NO_ROOM;
    } else if (!p->n)
        st = nb_fail(err, NB_UNSUPPORTED, "-o svg: nothing was timed; --rows has no picture");
    else
        draw(p);
    free(p->row);
    *p = (nb_roofline){.n = 0};
    return st;
}
