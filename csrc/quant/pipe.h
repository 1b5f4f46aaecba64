/* pipe.h -- what the files of the layer pipeline share: the streams of activations (streams.c),
 * where they lie (rows.c), what is summed over them (moments.c), one group of linears (group.c, slices.c),
 * the experts of a mixture (experts.c) and which tokens they see (routing.c), the walk over the
 * layers (pipeline.c). */
#ifndef NB_QUANT_PIPE_H
#define NB_QUANT_PIPE_H

#include "base/pool.h"
#include "quant/pipeline.h"

/* Rows of all calibration tokens, kept whole on the device, or in a file with room for one sequence
 * on the device. */
typedef struct nb_rows {
    float *p;      /* [T, width], or [ctx, width] when spilled */
    int64_t width; /* floats a row at most */
    int64_t at;    /* first byte in the file when spilled */
} nb_rows;

/* Linears that share an input: a group of a layer, in a mixture's feed-forward of one expert (else
 * 0). */
typedef struct nb_group_at {
    nb_group_id g;
    int layer, expert;
} nb_group_at;

/* What the calibration tokens say of such an input, and how far they are to be trusted. */
typedef struct nb_moments {
    int64_t N, K;    /* N: rows of wc and w; 0: there are none */
    double *h, *c;   /* [K,K] device: second moments, of the drift; NULL: not measured */
    double *wc;      /* [N,K] device: W C, where that is summed and not C; of the weights */
    float *w;        /* [N,K] device, as they are before they are corrected */
    float *scale;    /* [K] device: what the inputs of the quantized stream alone are divided by,
                      * which wc makes good; NULL: nothing. Lies in w's allocation */
    int64_t n_token; /* summed over */
    double damp;     /* for the quantizer */
    bool too_few;    /* to decide by: the quantizer gets neither; h serves the report */
    char note[96];   /* "" or what is unusual about them */
} nb_moments;

typedef struct nb_token_rows { /* inputs of some tokens, [M,K] without gaps */
    const float *x, *x_orig;   /* of both streams; x_orig is not read where no drift is summed */
    int64_t M;
    bool more; /* other tokens follow: H need not be whole yet (backend.h, nb_gram_args) */
    void *scratch;
} nb_token_rows;

typedef struct nb_stream { /* activations of all calibration tokens through one set of weights */
    nb_rows x;             /* [T, hidden_size] */
    nb_rows mid;    /* [T, n_head head_dim] after attention, [T, nb_act_width] after the gate: in a
                  * mixture with the choice of experts */
    nb_layer layer; /* the weights it runs through; the frame is shared */
} nb_stream;

typedef struct nb_pipe {
    nb_model *m;
    nb_backend *be;
    const nb_pipeline_options *o;
    const nb_calib *calib;
    nb_sink *sink;
    bool dry;      /* the device only counts */
    nb_pool *pool; /* of the host's threads; NULL: the caller alone */
    int64_t T;
    nb_stream quantized, original;
    bool two; /* the original stream runs: the correction is on and the streams differ */
    nb_acts acts;
    nb_kv kv;       /* of one sequence, used anew for each */
    int32_t *pages; /* its table */
    double *h, *c;  /* device, as large as the largest group's moments: H, and C or W C; of a
                    * mixture's experts that many beside each other */
    float *scale[NB_GROUP_COUNT]; /* [K] host, of the inputs of this layer's groups, of a
                                   * mixture's down [n_expert, K]; NULL: not scaled */
    void *scratch;
    size_t scratch_bytes;
    int spill;        /* file descriptor of the spilled rows, -1: none */
    float *stage;     /* host: rows of one sequence on their way to or from the file */
    int64_t start_ns; /* when the first layer of this run began */
    int64_t token_ns; /* spent on tokens in this layer: statistics, forward */
    int batch;        /* experts that are measured at once */
    nb_linear_report *report;
    int64_t n_report;
} nb_pipe;

/* ---- memory (rows.c) ---- */

/* Buffers of the host that a plan must know of. Free with nb_pipe_host_free. */
nb_status nb_pipe_host(nb_pipe *p, size_t n, size_t size, const char *what, void **out,
                       nb_error *err) NB_CHECKED;
void nb_pipe_host_free(nb_pipe *p, void *buffer);

/* Scratch grows to the largest request; ops run in order, so they share it. */
nb_status nb_pipe_scratch(nb_pipe *p, size_t bytes, nb_error *err) NB_CHECKED;

nb_status nb_rows_open(nb_pipe *p, nb_rows *r, int64_t width, nb_error *err) NB_CHECKED;
void nb_rows_close(nb_pipe *p, nb_rows *r);
/* Opens the file when there is to be one, for n_float values a token in all. NB_NO_ROOM: the disk
 * lacks the bytes named. */
nb_status nb_rows_open_file(nb_pipe *p, int64_t n_float, nb_error *err) NB_CHECKED;
void nb_rows_close_file(nb_pipe *p);
/* Where the rows of sequence i are, `width` floats a row (at most the rows' own); read: with what
 * they hold. */
nb_status nb_rows_get(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width, bool read,
                      float **out, nb_error *err) NB_CHECKED;
/* Keeps what was written where nb_rows_get said. */
nb_status nb_rows_put(nb_pipe *p, const nb_rows *r, int32_t i, int64_t width,
                      nb_error *err) NB_CHECKED;

/* ---- streams (streams.c) ---- */

/* Embeds the calibration tokens into the quantized stream. Close frees what a failed open left. */
nb_status nb_pipe_open_streams(nb_pipe *p, nb_error *err) NB_CHECKED;
void nb_pipe_close_streams(nb_pipe *p);
/* From here on the original weights run beside the quantized ones: the original stream begins as a
 * copy. */
nb_status nb_pipe_fork(nb_pipe *p, nb_error *err) NB_CHECKED;

/* The rows of sequence i that enter group g in t's stream, K floats each: normed into `to` [ctx,
 * hidden_size], or as they lie in mid. s: the layer at work. */
nb_status nb_pipe_input(nb_pipe *p, nb_group_id g, const nb_stream *t, int32_t i, const nb_step *s,
                        float *to, const float **out, nb_error *err) NB_CHECKED;

/* The moments of group g's input over all tokens. */
nb_status nb_pipe_gather(nb_pipe *p, nb_group_id g, nb_moments *s, nb_error *err) NB_CHECKED;

/* Runs the layer's part behind group g over all sequences of every stream. Its weights are
 * released: no later part needs them. */
nb_status nb_pipe_advance(nb_pipe *p, nb_group_id g, nb_error *err) NB_CHECKED;

/* Releases the weights of group g in a stream's layer, its experts' in a mixture. */
void nb_pipe_drop_weights(nb_pipe *p, nb_stream *t, nb_group_id g);

/* ---- sums (moments.c) ---- */

/* p->h and p->c, for the group that needs most. */
nb_status nb_pipe_open_moments(nb_pipe *p, nb_error *err) NB_CHECKED;
/* Which moments group g has and where, of a mixture those of the first expert in the batch; without
 * the weights. */
nb_moments nb_pipe_moments(const nb_pipe *p, nb_group_id g);
/* Those of expert e behind the first. */
nb_moments nb_moments_of(const nb_moments *first, int64_t e);
/* The weights of n experts from `at` on (dense: of the group, 1) and the scales of their inputs,
 * where the sums need them; the caller releases s->w. */
nb_status nb_moments_open_weights(nb_pipe *p, nb_group_at at, int n, nb_moments *s,
                                  nb_error *err) NB_CHECKED;
/* Of n experts. */
nb_status nb_moments_zero(nb_pipe *p, const nb_moments *s, int64_t n, nb_error *err) NB_CHECKED;
static inline bool nb_moments_have_drift(const nb_moments *s)
{
    return s->c || s->wc;
}
/* For as many rows as there are at most. */
size_t nb_moments_scratch(const nb_pipe *p, const nb_moments *s, const nb_token_rows *t);
nb_status nb_moments_add(nb_pipe *p, const nb_moments *s, const nb_token_rows *t,
                         nb_error *err) NB_CHECKED;

/* ---- their matrices (matrices.c) ---- */

static inline nb_slot nb_slot_of(nb_group_at at, nb_role role)
{
    return (nb_slot){.role = role, .layer = at.layer, .expert = at.expert};
}
/* What people call a linear: its tensor; where that holds all experts, with the expert's number
 * before the last dot, as if it lay alone. */
const char *nb_pipe_linear_name(const nb_pipe *p, nb_slot at, char name[NB_TENSOR_NAME]);
/* Rows and inputs of the group's matrices, stacked. */
int64_t nb_pipe_group_shape(const nb_pipe *p, nb_group_id g, int64_t *K);
/* Rows [n0, n0 + n) of the matrix a of a slot of the source. NB_BAD_INPUT names a tensor that is
 * not finite. */
nb_status nb_pipe_decode_rows(nb_pipe *p, nb_slot at, const nb_matrix *a, int64_t n0, int64_t n,
                              float *to, nb_error *err) NB_CHECKED;
/* The group's matrices, stacked [N,K], from the source, with the layer's scales. NB_BAD_INPUT as
 * above. */
nb_status nb_pipe_decode(nb_pipe *p, nb_group_at at, float *to, nb_error *err) NB_CHECKED;
/* The same on the device. */
nb_status nb_pipe_upload(nb_pipe *p, nb_group_at at, float *to, nb_error *err) NB_CHECKED;
/* A row with a value that is not finite, or -1. Of codes: -1, their scales were looked at when they
 * were read. */
int64_t nb_pipe_bad_row(const nb_pipe *p, const nb_matrix *a);
/* Leaves the stacks of a group that an earlier run wrote. */
nb_status nb_pipe_read_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* Leaves the source's own stack in the quantized stream (and the original one, when it runs). */
nb_status nb_pipe_source_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* Writes a slot as the sink decided for it, if the model has it; its tensor's pages of the source
 * may go. */
nb_status nb_pipe_copy(nb_pipe *p, nb_slot at, nb_error *err) NB_CHECKED;
/* The pages of the group's tensors may go. */
void nb_pipe_release_pages(nb_pipe *p, nb_group_at at);

/* ---- groups (group.c) ---- */

/* Quantizes group g of a layer into the sink, reports its linears, and leaves the stacks of both
 * streams. */
nb_status nb_pipe_quantize_group(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
/* The same of one expert (or of a group that has none) with its statistics, NULL: nothing is
 * needed. Works in s->w where it is there. Leaves no stacks. */
nb_status nb_pipe_quantize(nb_pipe *p, nb_group_at at, const nb_moments *s,
                           nb_error *err) NB_CHECKED;
/* The same for a quantizer that needs nothing, a few rows at a time (slices.c). */
nb_status nb_pipe_round(nb_pipe *p, nb_group_at at, nb_error *err) NB_CHECKED;
/* A record for each of the group's linears, of as many bits a weight. */
nb_linear_report *nb_pipe_begin_report(nb_pipe *p, nb_group_at at, double bits);
/* Bits of a weight of a group [N,K], with scales and all. */
double nb_pipe_stored_bits(const nb_pipe *p, int64_t N, int64_t K);
/* The quantizer's own refusals know no names: what it says is said of a tensor, for a group of its
 * first. */
nb_status nb_pipe_name_fault(const nb_pipe *p, nb_status st, nb_slot at, nb_error *err) NB_CHECKED;
/* Writes the linears of a group that has no place in the grid as they are, reports them. */
nb_status nb_pipe_keep(nb_pipe *p, nb_group_at at, nb_error *err) NB_CHECKED;
/* Whether the group's linears get codes; else they are kept. */
static inline bool nb_pipe_rounds(const nb_pipe *p, nb_group_id g)
{
    return p->o->quantizer->layer && nb_pipeline_fits(p->m, g, p->o);
}

/* ---- experts of a mixture (experts.c, routing.c) ---- */

/* Whether the group is of experts: gate, up and down of a mixture. */
static inline bool nb_pipe_is_mixed(const nb_pipe *p, nb_group_id g)
{
    return p->m->hp.n_expert && (g == NB_GROUP_GATE_UP || g == NB_GROUP_DOWN);
}

/* As their namesakes above do, for such a group. */
nb_status nb_pipe_quantize_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
nb_status nb_pipe_read_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;
nb_status nb_pipe_source_experts(nb_pipe *p, nb_group_id g, int layer, nb_error *err) NB_CHECKED;

/* The moments of the inputs of experts [first, first + n) over the tokens that each is sent, C as
 * the layer's scales ask; s: of the first, the others beside it. n_token [n]: how many those are. n
 * <= p->batch. */
nb_status nb_pipe_gather_experts(nb_pipe *p, nb_group_id g, int layer, int first, int n,
                                 const nb_moments *s, int64_t *n_token, nb_error *err) NB_CHECKED;
/* Whether n tokens are too few to decide by, for K inputs. */
bool nb_pipe_saw_little(int64_t n, int64_t K);

/* The same for down, of rows that are not kept: H of experts [first, first + n) is added to h
 * [n][K,K], the tokens to n_token [n], both the caller's. Close also what a failed open left. */
typedef struct nb_routing nb_routing;
nb_status nb_routing_open(nb_pipe *p, int first, int n, int64_t K, double *h, int64_t *n_token,
                          nb_routing **out, nb_error *err) NB_CHECKED;
/* act: of one sequence, as nb_ffn_mix leaves it. */
nb_status nb_routing_add(nb_routing *r, const float *act, nb_error *err) NB_CHECKED;
nb_status nb_routing_finish(nb_routing *r, nb_error *err) NB_CHECKED;
void nb_routing_close(nb_routing *r);

/* ---- scales of inputs (scales.c) ---- */

/* Finds the scales of the layer, writes what is divided by them (its two norms, the bias of v) and
 * the router, which reads a norm as well, and leaves these in the quantized stream's frame. */
nb_status nb_pipe_find_scales(nb_pipe *p, int layer, nb_error *err) NB_CHECKED;
/* The same as an earlier run wrote them. */
nb_status nb_pipe_read_folded(nb_pipe *p, int layer, nb_error *err) NB_CHECKED;
/* Whether the role is one of these. */
bool nb_pipe_is_folded(const nb_pipe *p, nb_role role);
/* Whether the inputs of group g are divided in the quantized stream alone. */
bool nb_pipe_divides_one_stream(const nb_pipe *p, nb_group_id g);
/* C of group g, where it is summed, gathered with inputs of the original stream that are not
 * divided, as if they were. */
nb_status nb_pipe_scale_drift(nb_pipe *p, nb_group_at at, const nb_moments *s,
                              nb_error *err) NB_CHECKED;
/* [K] of the group's inputs, NULL: they are not scaled. */
const float *nb_pipe_scales_of(const nb_pipe *p, nb_group_at at);
/* Whether the group's matrices are not those of the source. */
bool nb_pipe_is_scaled(const nb_pipe *p, nb_group_id g);
/* w [N,K] of a role of the group, multiplied by the scales of its inputs and divided by those of
 * what reads it. */
void nb_pipe_apply_scales(const nb_pipe *p, nb_group_at at, nb_role role, int64_t N, int64_t K,
                          float *w);
void nb_pipe_drop_scales(nb_pipe *p);

#endif
