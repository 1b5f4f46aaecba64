/* report.h -- what a quantization did as one HTML page: figures, charts (inline SVG), the tables
 * behind them.
 *
 * The page needs no other file and no script, follows the reader's light or dark setting, and is
 * read at the width of a phone and of a desk. The same facts give the same bytes. All texts are
 * escaped: markup, control characters and what would turn the direction of writing are shown, never
 * sent. */
#ifndef NB_QUANT_REPORT_H
#define NB_QUANT_REPORT_H

#include "base/text.h"
#include <stdint.h>

typedef struct nb_report_pair {
    const char *key, *value;
} nb_report_pair;

typedef struct nb_report_linear { /* a quantized matrix */
    const char *name;
    int layer;               /* -1: none, such as the head */
    const char *kind;        /* the same in every layer: "attn_q" */
    double error, error_rtn; /* tr(D H D^T) / tr(W H W^T), of the method and of rounding; NAN:
                              * not measured */
    double bits_per_weight;
    const char *note; /* "" or what was special */
} nb_report_linear;

typedef struct nb_report_phase {
    const char *name;
    double seconds;
} nb_report_phase;

typedef struct nb_report_eval { /* as nb_eval measures it */
    double ppl_before, ppl_before_stderr, ppl_after, ppl_after_stderr;
    double kl_mean, kl_stderr, kl_median, kl_p99; /* nats a token */
    double top1;                                  /* 0..1 */
} nb_report_eval;

typedef struct nb_report { /* borrows everything */
    const char *title;
    const nb_report_pair *figure; /* the few numbers that stand on top, ready to read: {"bits a
                                   * weight", "4.55"} */
    size_t n_figure;
    const nb_report_pair *setting; /* what would have to be asked for again */
    size_t n_setting;
    const nb_report_linear *linear; /* layer by layer */
    size_t n_linear;
    const nb_report_phase *phase;
    size_t n_phase;
    bool has_eval;
    nb_report_eval eval;
    const char *const *warning;
    size_t n_warning;
} nb_report;

#define NB_REPORT_HEAD "<!DOCTYPE html>\n" /* how every page begins */

/* Appends the page to out. Cost: about 250 bytes a linear. NB_NO_ROOM when memory ran out; then out
 * is not to be used. */
nb_status nb_report_html(const nb_report *r, nb_text *out, nb_error *err) NB_CHECKED;

#endif
