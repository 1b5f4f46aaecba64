/* report_kinds.c -- the kinds of linears of a report: attn_q, ffn_down ..., in the order in which
 * they come. */
#include "quant/report_page.h"

#include <math.h>
#include <string.h>

static const char kOthers[] = "others";

size_t nb_page_kind_of(const nb_page_kinds *k, const nb_report_linear *l)
{
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->kind[i].name, l->kind) == 0)
            return i;
    return k->n ? k->n - 1 : 0; /* the list is full: its last is kOthers */
}

/* Sums of what was measured. */
typedef struct sums {
    double error, rtn, bits;
    size_t n_error, n_rtn, n_bits;
} sums;

static void add(double *sum, size_t *n, double x)
{
    if (!isfinite(x))
        return;
    *sum += x;
    ++*n;
}

static void add_to(nb_page_kind *a, const nb_report_linear *l, sums *s)
{
    a->n++;
    add(&s->error, &s->n_error, l->error);
    add(&s->rtn, &s->n_rtn, l->error_rtn);
    add(&s->bits, &s->n_bits, l->bits_per_weight);
    if (isfinite(l->error) && (!a->worst || l->error > a->worst->error))
        a->worst = l;
}

static double mean(double sum, size_t n)
{
    return n ? sum / (double)n : (double)NAN;
}

static void see_range(nb_page_kinds *k, double error)
{
    if (!isfinite(error))
        return;
    k->measured = true;
    if (error <= 0)
        return;
    k->low = k->low > 0 && k->low < error ? k->low : error;
    k->high = k->high > error ? k->high : error;
}

void nb_page_find_kinds(const nb_report *r, nb_page_kinds *k)
{
    sums s[NB_PAGE_KINDS + 1] = {0};
    *k = (nb_page_kinds){.n = 0};
    for (size_t i = 0; i < r->n_linear; i++) {
        const nb_report_linear *l = &r->linear[i];
        size_t at = 0;
        while (at < k->n && strcmp(k->kind[at].name, l->kind) != 0)
            at++;
        if (at > NB_PAGE_KINDS)
            at = NB_PAGE_KINDS;
        if (at == k->n)
            k->kind[k->n++].name = at == NB_PAGE_KINDS ? kOthers : l->kind;
        add_to(&k->kind[at], l, &s[at]);
        k->n_layer =
            l->layer >= k->n_layer && l->layer < NB_PAGE_LAYERS ? l->layer + 1 : k->n_layer;
        if (isfinite(l->bits_per_weight)) {
            k->least_bits =
                k->most_bits > 0 ? fmin(k->least_bits, l->bits_per_weight) : l->bits_per_weight;
            k->most_bits = fmax(k->most_bits, l->bits_per_weight);
        }
        see_range(k, l->error);
        see_range(k, l->error_rtn);
    }
    for (size_t i = 0; i < k->n; i++) {
        k->kind[i].error = mean(s[i].error, s[i].n_error);
        k->kind[i].error_rtn = mean(s[i].rtn, s[i].n_rtn);
        k->kind[i].bits = mean(s[i].bits, s[i].n_bits);
    }
}
