/* rows.h -- the packed weights of a model, one by one, for the reports about them. */
#ifndef NB_API_ROWS_H
#define NB_API_ROWS_H

#include "backend/limits.h"
#include "model/model.h"

typedef struct nb_packed {
    const nb_weight *w;
    nb_backend *be;     /* where it lies */
    const char *format; /* of its first matrix in the checkpoint */
    int64_t N, K;
    bool output; /* the output layer: it sees the last token only */
    double used; /* share of the tokens that it multiplies: of an expert n_expert_used /
                  * n_expert, else 1 */
} nb_packed;

typedef void (*nb_weight_visit)(void *arg, const nb_packed *p);
void nb_model_walk_weights(const nb_model *m, nb_weight_visit visit, void *arg);

#endif
