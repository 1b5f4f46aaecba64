/* calib.h -- what the model is shown while it is quantized: sequences of token ids. */
#ifndef NB_QUANT_CALIB_H
#define NB_QUANT_CALIB_H

#include "model/model.h"

typedef struct nb_calib {
    int32_t *ids; /* [n_seq, ctx] */
    int32_t n_seq, ctx;
    int64_t n_distinct; /* tokens, those of overlapping sequences once */
} nb_calib;

/* Fewer tokens than this are followed too closely: on stories260K 4 tokens gave a KL of 0.18 where
 * rounding to nearest gave 0.15, while the error on those 4 was a hundredth of rounding's. */
enum { NB_CALIB_FEW = 1024 };

/* n_seq sequences of ctx tokens spread evenly over a text: start i * floor((n - ctx) / (n_seq -
 * 1)). NB_BAD_INPUT when the text is shorter than one, or so short that all would be the same. */
nb_status nb_calib_text(const nb_model *m, const char *path, const char *text, size_t n,
                        int32_t n_seq, int32_t ctx, nb_calib *out, nb_error *err) NB_CHECKED;

/* Sampled from the model itself, at temperature 1, from our seed prompts (seeds.c), one a sequence
 * in turn. No text is needed; the sequences have the model's own distribution (the idea: Liu et al.
 * 2023, LLM-QAT, section 3.1). m must be opened for inference. */
typedef struct nb_calib_watch { /* all may be NULL */
    /* tokens; at most every 32nd part of them */
    void (*progress)(void *arg, const char *line, int32_t done, int32_t total, double eta_s);
    void *arg;
    const volatile int *stop; /* looked at for every token: NB_INTERRUPTED */
} nb_calib_watch;
nb_status nb_calib_self(nb_model *m, int32_t n_seq, int32_t ctx, uint64_t seed,
                        const nb_calib_watch *watch, nb_calib *out, nb_error *err) NB_CHECKED;

void nb_calib_free(nb_calib *c);

/* The seed prompts; those that begin with a chat turn are rendered by the model's template when it
 * has one. NULL-terminated. */
extern const char *const nb_calib_seeds[];

#endif
