/* scheme.h -- how a quantized linear lies in a folder of safetensors: which tensors, which bits,
 * which words in config.json.
 *
 * A scheme is one file and one line of the table; it connects the canonical matrix (dtype/matrix.h)
 * with named tensors and knows neither the model nor the quantizer. Layouts: docs/FORMATS.md. */
#ifndef NB_SCHEME_SCHEME_H
#define NB_SCHEME_SCHEME_H

#include "base/text.h"
#include "dtype/matrix.h"
#include "file/container.h"

enum { NB_SCHEME_TENSORS = 6 }; /* at most, a linear */

struct nb_scheme;

/* One setting of a scheme: what a config.json says, or what a writer is asked for. */
typedef struct nb_scheme_spec {
    const struct nb_scheme *scheme;
    int bits, group; /* 2, 3, 4 or 8; group 0: the row */
    bool sym, act_order;
    bool allow_nonfinite;       /* when reading: scales may be NaN or infinite */
    int variant;                /* the scheme's own (GPTQ: the meaning of a stored zero) */
    const nb_dtype *grid;       /* whose levels the codes stand for (a format with a table); NULL:
                           * whole numbers */
    const nb_json_node *config; /* quantization_config as read, borrowed; NULL when writing: the
                                 * modules it leaves out, overrides */
} nb_scheme_spec;

/* One tensor of a linear, NAME.suffix, in a place of its own: tensor i is always the same one. */
typedef struct nb_scheme_tensor {
    const char *suffix;    /* "qweight" */
    const nb_dtype *dtype; /* as written; where it is a float any float may be read */
    int n_dim;
    int64_t shape[2]; /* shape[0] -1: any length is read */
    bool written;     /* a writer writes it */
    bool needed;      /* a reader must find it; neither: it is read if it is there */
} nb_scheme_tensor;

typedef struct nb_scheme {
    const char *name;    /* of --format: "gptq", "gptq_v2", "awq", "compressed-tensors" */
    const char *summary; /* for help and doctor */
    const char *weight;  /* what the tensor of the codes is called, "qweight": where it is, the
                         * module is quantized */
    int variant;         /* of a spec for writing */
    bool orders;         /* its loaders take groups of inputs by index */
    bool config_beside;  /* its loaders also look for quantize_config.json */
    bool tables;         /* its codes stand for the levels of a number format: spec.grid */
    /* Reads quantization_config. *is: this scheme is meant. NB_BAD_INPUT for impossible numbers,
     * NB_UNSUPPORTED for a variant that is not read. NULL: another row reads what this one
     * writes. */
    nb_status (*read_config)(const char *path, const nb_json_node *qc, bool *is,
                             nb_scheme_spec *out, nb_error *err);
    /* Appends the object for config.json's quantization_config. skip: names of modules that stay as
     * they were, NULL-terminated. */
    nb_status (*write_config)(const nb_scheme_spec *s, const char *const *skip, nb_text *out,
                              nb_error *err);
    /* Whether the config quantizes the module, and with which spec: its exceptions and
     * overrides. */
    nb_status (*module)(const nb_scheme_spec *base, const char *path, const char *module,
                        bool *quantized, nb_scheme_spec *out, nb_error *err);
    /* Whether this spec exists and a linear of this shape can be stored: NB_UNSUPPORTED with the
     * reason. */
    nb_status (*check)(const nb_scheme_spec *s, const char *name, int64_t N, int64_t K,
                       nb_error *err);
    /* The tensors of such a linear; returns how many places there are. */
    int (*tensors)(const nb_scheme_spec *s, int64_t N, int64_t K,
                   nb_scheme_tensor out[NB_SCHEME_TENSORS]);
    /* Fills bytes[i] (of tensor i, those that are written) from a canonical matrix of the spec's
     * bits and group, on n_thread threads. NB_UNSUPPORTED when a value cannot be stored (says
     * which). */
    nb_status (*pack)(const nb_scheme_spec *s, const char *name, const nb_matrix *m,
                      uint8_t *const bytes[NB_SCHEME_TENSORS], int n_thread, nb_error *err);
    /* The inverse. part[i]: tensor i or NULL when absent. All indices, scales and shapes are
     * checked: NB_BAD_INPUT names the tensor. codes [N,K], groups [N,G], g_idx [K] are the
     * caller's, sized by N, K and the spec; *act_order: g_idx is not k / group and must be used. */
    nb_status (*unpack)(const nb_scheme_spec *s, const char *path, const char *name, int64_t N,
                        int64_t K, const nb_tensor *const part[NB_SCHEME_TENSORS], uint8_t *codes,
                        nb_group *groups, int32_t *g_idx, bool *act_order, int n_thread,
                        nb_error *err);
    /* The levels of a linear's codes, [1 << bits] of them, where its tensors say so. NULL: those of
     * spec.grid. */
    nb_status (*levels)(const nb_scheme_spec *s, const char *path, const char *name,
                        const nb_tensor *const part[NB_SCHEME_TENSORS], float level[NB_TABLE_MOST],
                        nb_error *err);
} nb_scheme;

extern const nb_scheme *const nb_schemes[];        /* NULL-terminated; the table */
const nb_scheme *nb_scheme_find(const char *name); /* NULL if unknown */

/* The scheme that a quantization_config asks for. qc NULL, or a config that quantizes nothing:
 * *out.scheme NULL, plain weights. NB_UNSUPPORTED names a quant_method that is not read. */
nb_status nb_scheme_detect(const char *path, const nb_json_node *qc, nb_scheme_spec *out,
                           nb_error *err) NB_CHECKED;
/* Whether the module of this name is quantized under the config (its lists of exceptions), and with
 * which spec (its overrides). path: the config's. */
nb_status nb_scheme_module(const nb_scheme_spec *base, const char *path, const char *module,
                           bool *quantized, nb_scheme_spec *out, nb_error *err) NB_CHECKED;
/* Before anything is read: the tensors of a linear that are needed are there, those that are there
 * have their shapes and types, or NB_BAD_INPUT. */
nb_status nb_scheme_check_parts(const nb_scheme_spec *s, const char *path, const char *name,
                                int64_t N, int64_t K,
                                const nb_tensor *const part[NB_SCHEME_TENSORS],
                                nb_error *err) NB_CHECKED;
/* Bytes of all tensors that a writer writes for such a linear. */
int64_t nb_scheme_bytes(const nb_scheme_spec *s, int64_t N, int64_t K);

static inline int64_t nb_scheme_groups(const nb_scheme_spec *s, int64_t K)
{
    return s->group ? (K + s->group - 1) / s->group : 1;
}

#endif
