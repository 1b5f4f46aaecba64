/* report_page.h -- what the files of the report share: escaped text, numbers as they are read, the
 * charts. */
#ifndef NB_QUANT_REPORT_PAGE_H
#define NB_QUANT_REPORT_PAGE_H

#include "quant/report.h"

/* ---- report_text.c ---- */

/* Text of others as text of the page: & < > " ' as entities; control characters, what turns the
 * direction of writing, code points that no page may hold and broken UTF-8 as \x1b or \u202e. */
void nb_page_text(nb_text *t, const char *s);
/* Three significant digits; "not measured" for NAN. */
void nb_page_number(nb_text *t, double x);
/* Bits a weight: four significant digits; "-" for NAN. */
void nb_page_bits(nb_text *t, double bits);
/* "0.8 s" "41 s" "12 min 05 s" "3 h 20 min". */
void nb_page_seconds(nb_text *t, double s);

/* ---- report_kinds.c ---- */

enum {
    NB_PAGE_KINDS = 48,      /* shown alone; what comes after them is one kind more, "others" */
    NB_PAGE_LAYERS = 1 << 20 /* a layer from here on is none */
};

typedef struct nb_page_kind {
    const char *name;
    size_t n;                      /* linears */
    double error, error_rtn, bits; /* means of what was measured; NAN: nothing was */
    const nb_report_linear *worst; /* of the largest error, NULL: not measured */
} nb_page_kind;

typedef struct nb_page_kinds {
    nb_page_kind kind[NB_PAGE_KINDS + 1];
    size_t n;
    int n_layer;                  /* largest layer and one */
    bool measured;                /* any error at all */
    double low, high;             /* of all errors above 0 */
    double least_bits, most_bits; /* of all linears */
} nb_page_kinds;

void nb_page_find_kinds(const nb_report *r, nb_page_kinds *out);
/* The kind's place in the list. */
size_t nb_page_kind_of(const nb_page_kinds *k, const nb_report_linear *l);

/* ---- report_chart.c ---- */

/* A chart per kind: error over the layers, logarithmic, the same scale in all. */
void nb_page_error_charts(nb_text *t, const nb_report *r, const nb_page_kinds *k);
/* A strip per kind: bits of each layer, equal neighbours as one piece with its number. */
void nb_page_bits_strips(nb_text *t, const nb_report *r, const nb_page_kinds *k);
/* A bar per phase. */
void nb_page_phase_bars(nb_text *t, const nb_report *r);
/* Perplexity before and after on one scale, with intervals. */
void nb_page_ppl_bars(nb_text *t, const nb_report_eval *e);

#endif
