/* model.h -- a model on a device: packed weights, and the decoder as six stages a layer.
 *
 * The stages (forward.c) are separate functions because quantization walks the same layer stage by
 * stage, gathering statistics between them (csrc/quant/pipeline.c); inference calls them one after
 * the other. */
#ifndef NB_MODEL_MODEL_H
#define NB_MODEL_MODEL_H

#include "backend/backend.h"
#include "model/family.h"
#include "nibble.h"
#include "scheme/scheme.h"
#include "text/tokenizer.h"

/* Linears that read the same input, stacked along N: one packed weight when their formats agree,
 * else one each. */
typedef struct nb_stack {
    int n_weight;
    nb_weight *w[3];
    int64_t at[3]; /* first output column of each */
    int64_t N, K;
} nb_stack;

/* The four groups of linears of a layer, in the order the decoder reaches them. */
typedef enum nb_group_id {
    NB_GROUP_QKV,
    NB_GROUP_O,
    NB_GROUP_GATE_UP,
    NB_GROUP_DOWN,
    NB_GROUP_COUNT
} nb_group_id;

/* The roles of a group, in stacking order; returns how many. */
int nb_group_roles(nb_group_id g, nb_role role[3]);

/* The same of every expert of a mixture. */
typedef struct nb_experts {
    int n_weight;
    nb_weight **w[2]; /* [n_expert] each */
    int64_t at[2];
    int64_t N, K;
} nb_experts;

/* What a layer has besides the linears that are quantized. Vectors are device memory, NULL where
 * the model has none. */
typedef struct nb_frame {
    float *attn_norm, *ffn_norm, *attn_post_norm, *ffn_post_norm; /* [hidden_size] */
    float *q_norm, *k_norm;                                       /* [head_dim] */
    float *bias[NB_GROUP_COUNT]; /* [N] of the group's stack; 0 where one of its linears has none */
    nb_weight *router;           /* of a mixture */
    bool local;                  /* attends within the window */
    bool unrotated;              /* q and k stay as they are */
} nb_frame;

typedef struct nb_layer {
    nb_frame frame;
    nb_stack stack[NB_GROUP_COUNT]; /* in a mixture without the last two, which are: */
    nb_experts gate_up, down;
} nb_layer;

struct nb_model {
    nb_container *container;
    nb_tokenizer *tokenizer; /* NULL when the checkpoint has none */
    const nb_family *family;
    nb_hparams hp;
    nb_scheme_spec scheme; /* how the linears of a folder are packed; its scheme is NULL where
                            * all are plain */
    nb_backend *be;        /* NULL: opened for text only */
    char be_told[256];     /* why auto did not take the GPU (backend/open.h), or "" */
    nb_model *front; /* the embedding and the layers [0, n_front), on the CPU (offload.c); NULL:
                      * everything is here */
    int32_t n_front;
    nb_layer *layer; /* [n_layer]; those that lie on the other device are empty */
    float *output_norm, *inv_freq, *inv_freq_local; /* device */
    float *inv_freq_none;           /* zeros, for layers that do not rotate; NULL where all do */
    nb_weight *embed, *output;      /* the same when tied; beside a front embed is NULL, of a front
                                * output */
    int64_t n_param, weights_bytes; /* weights_bytes: without the front's */
    double load_s;
};

/* Checks that every tensor of the family is there with its shape and a format that can be decoded:
 * before any weight is read. */
nb_status nb_model_check_tensors(const nb_model *m, nb_error *err) NB_CHECKED;

/* Whether the model has the slot: its family has the role, the checkpoint the tensor, and the
 * config does not deny it. */
bool nb_model_has(const nb_model *m, nb_slot at);

/* How many slots a role has in a layer: the experts of a mixture, else 1. */
int nb_model_n_slot(const nb_model *m, nb_role role);

/* The matrix of a slot as the checkpoint holds it: a whole tensor, or a slice of rows; of a linear
 * that a scheme packed its codes. *made: memory that *out lies in, the caller's to free when done
 * with it; NULL where it lies in the file. */
nb_status nb_model_matrix(const nb_model *m, nb_slot at, nb_matrix *out, void **made,
                          nb_error *err) NB_CHECKED;

/* ---- linears that a scheme packed (scheme_weights.c) ---- */

/* Reads what config.json (or quantize_config.json) says of quantization; NB_BAD_INPUT when the two
 * disagree. */
nb_status nb_scheme_read(const nb_container *c, nb_scheme_spec *out, nb_error *err) NB_CHECKED;
/* Whether t holds the codes of a linear. */
bool nb_tensor_is_packed(const nb_container *c, const nb_tensor *t);
/* Whether t belongs to a packed linear and is not its codes: scales, zeros, indices. */
bool nb_tensor_is_part(const nb_model *m, const nb_tensor *t);
/* That the config means it, and all its tensors are there as they must be; unpacks nothing. */
nb_status nb_model_check_packed(const nb_model *m, nb_slot at, nb_error *err) NB_CHECKED;
/* Its codes; *made is the caller's to free, also on failure. */
nb_status nb_model_unpack(const nb_model *m, nb_slot at, nb_matrix *out, void **made,
                          nb_error *err) NB_CHECKED;
/* Weights of the model that the tensor holds: 0 for scales, zeros and indices of a scheme. */
int64_t nb_tensor_n_weight(const nb_container *c, const nb_scheme_spec *s, const nb_tensor *t);

/* Packs the matrix of one slot. */
nb_status nb_model_pack(const nb_model *m, nb_slot at, nb_weight **out, nb_error *err) NB_CHECKED;
/* Packs the linears of one group as they are in the checkpoint / releases them. */
nb_status nb_stack_load(const nb_model *m, nb_group_id g, int layer, nb_stack *out,
                        nb_error *err) NB_CHECKED;
/* Packs one f32 matrix [N,K] of host memory as the whole group. */
nb_status nb_stack_from_f32(nb_backend *be, const float *w, int64_t N, int64_t K, nb_stack *out,
                            nb_error *err) NB_CHECKED;
void nb_stack_close(nb_backend *be, nb_stack *s);
/* The same of every expert of a mixture; close also what a failed load left. */
nb_status nb_experts_load(const nb_model *m, nb_group_id g, int layer, nb_experts *out,
                          nb_error *err) NB_CHECKED;
void nb_experts_close(const nb_model *m, nb_experts *x);

/* A vector tensor (norm, bias) decoded to f32 as the decoder uses it: with the 1 that the Hub
 * leaves out of Gemma's norms, paired elements halved. host [K of the slot] is the caller's. */
nb_status nb_model_decode_vector(const nb_model *m, nb_slot at, float *host,
                                 nb_error *err) NB_CHECKED;
/* The same in device memory, multiplied by scale. */
nb_status nb_model_vector(const nb_model *m, nb_slot at, float scale, float **out,
                          nb_error *err) NB_CHECKED;

/* ---- one layer (layer.c); close what a failed open left ---- */
nb_status nb_frame_open(const nb_model *m, int layer, nb_frame *out, nb_error *err) NB_CHECKED;
void nb_frame_close(nb_backend *be, nb_frame *f);
nb_status nb_layer_open(const nb_model *m, int layer, nb_layer *out, nb_error *err) NB_CHECKED;
void nb_layer_close(const nb_model *m, nb_layer *y);
/* Scratch that the stages of a step of n_token tokens need with this layer's weights; y NULL: what
 * does not depend on them. */
/* Tells of every tensor of a layer that the file has under its own name (a packed scheme has others);
 * of none behind the last layer. */
void nb_layer_pages(const nb_model *m, int layer,
                    void (*tell)(const nb_container *c, const nb_tensor *t));
size_t nb_layer_scratch(const nb_model *m, const nb_layer *y, int32_t n_token, int32_t ctx_len);
/* Of it, what the last step of attention and of the feed-forward keeps at the front. */
size_t nb_front_bytes(const nb_model *m, int64_t n_token);

/* Frequencies, embedding, output layer and layers, the front's too; close also what a failed load
 * left. */
nb_status nb_model_load_weights(nb_model *m, bool layers, nb_error *err) NB_CHECKED;
void nb_model_close_weights(nb_model *m);

/* ---- a model on two devices (offload.c) ---- */

/* The part of the model that has a layer. */
static inline const nb_model *nb_model_at(const nb_model *m, int layer)
{
    return m->front && layer < m->n_front ? m->front : m;
}
/* The type of the cache by its name; NULL: the device's own. */
nb_status nb_model_set_kv_type(nb_model *m, const char *name, nb_error *err) NB_CHECKED;
/* Before weights are loaded: puts the first n layers on the CPU; 0, or a device that is the CPU:
 * nothing to do. */
nb_status nb_front_open(nb_model *m, int32_t n, const nb_model_options *o,
                        nb_error *err) NB_CHECKED;
void nb_front_close(nb_model *m);
/* How many layers the options keep on the CPU: as asked, all but so many, or the fewest that fit
 * (NB_NO_ROOM: not even all would do). NB_USAGE: more than there are. */
nb_status nb_offload_choose(const nb_model *m, const nb_model_options *o, int32_t *n,
                            nb_error *err) NB_CHECKED;
/* Behind a failure for want of the device's memory, its buffers released: the --offload that would
 * fit. held: bytes of m's weights that are still there. */
void nb_offload_hint(const nb_model *m, int32_t n_seq, int32_t ctx_len, bool held, nb_error *err);

/* Opens no weights when `layers` is false: the quantization pipeline streams the layers and reads
 * single rows of the embedding. */
nb_status nb_model_load(const char *path, const nb_model_options *o, bool layers, nb_model **out,
                        nb_error *err) NB_CHECKED;

/* ---- activations (acts.c) and the decoder (forward.c) ---- */

/* Device buffers for at most max_token tokens. */
typedef struct nb_acts {
    int32_t max_token;
    float *x;   /* [M, hidden_size] the residual stream */
    float *h;   /* [M, hidden_size] after a norm */
    float *qkv; /* [M, (n_head + 2 n_kv_head) head_dim] */
    float *att; /* [M, n_head head_dim] */
    float *gu;  /* [M, gu_width]: gate and up [M, 2 intermediate_size]; of a mixture [M
                * n_expert_used, 2 intermediate_size], then the router's logits [M, n_expert] */
    float *act; /* [M, act_width]: [M, intermediate_size]; of a mixture [P, intermediate_size]
                 * with P = M n_expert_used, then the weights [P] and, as int32, the experts [P] */
    int32_t *ids, *seq, *pos; /* [M] one behind the other (nb_acts_place) */
    void *scratch;
    size_t scratch_bytes;
    nb_backend *be;        /* where they are; borrowed */
    struct nb_acts *front; /* the same on the front's device; NULL where the model has none */
} nb_acts;
int64_t nb_gu_width(const nb_hparams *hp); /* floats a token */
int64_t nb_act_width(const nb_hparams *hp);
nb_status nb_acts_open(const nb_model *m, int32_t max_token, int32_t ctx_len, nb_acts *a,
                       nb_error *err) NB_CHECKED;
/* Sequences and positions right behind so many ids, so that all three travel at once; max_token of
 * them when the buffers are opened. */
void nb_acts_place(nb_acts *a, int32_t n_token);
void nb_acts_close(nb_backend *be, nb_acts *a);

/* One layer at work: whose weights, which tokens, which cache. */
typedef struct nb_step {
    const nb_model *m;
    const nb_layer *layer;
    const nb_batch *batch;
    const nb_kv *kv;
    void *scratch;
    size_t scratch_bytes;
} nb_step;

/* Stages; all matrices are device memory with the dense row stride of their width. */
/* h = norm(x) */
nb_status nb_attn_norm(const nb_step *s, const float *x, float *h, nb_error *err) NB_CHECKED;
/* q,k,v, their norms, rope, cache, attention */
nb_status nb_attn_mix(const nb_step *s, const float *h, float *qkv, float *att,
                      nb_error *err) NB_CHECKED;
/* x += att Wo^T, normed or scaled */
nb_status nb_attn_out(const nb_step *s, const float *att, float *x, nb_error *err) NB_CHECKED;
/* h = norm(x) */
nb_status nb_ffn_norm(const nb_step *s, const float *x, float *h, nb_error *err) NB_CHECKED;
/* Of a mixture: which experts each token of h is sent to, n_expert_used a token: expert, weight [M,
 * n_expert_used]; logits [M, n_expert] is room. */
nb_status nb_ffn_choose(const nb_step *s, const float *h, float *logits, float *weight,
                        int32_t *expert, nb_error *err) NB_CHECKED;
/* act(h Wg^T) * (h Wu^T) */
nb_status nb_ffn_mix(const nb_step *s, const float *h, float *gu, float *act,
                     nb_error *err) NB_CHECKED;
/* x += act Wd^T, normed or scaled */
nb_status nb_ffn_out(const nb_step *s, const float *act, float *x, nb_error *err) NB_CHECKED;

/* x = embedding of the ids; y = final norm and output layer of n_row rows of x (h: scratch of the
 * same rows). */
nb_status nb_embed_tokens(const nb_model *m, const int32_t *ids, int64_t M, float *x,
                          nb_error *err) NB_CHECKED;
nb_status nb_output_logits(const nb_model *m, const float *x, int64_t n_row, float *h,
                           float *logits, void *scratch, nb_error *err) NB_CHECKED;

/* The whole decoder over the batch: embedding to the residual stream after the last layer, in a->x.
 * kv [n_layer]. The batch's seq and pos are a->seq, a->pos; the front reads its own. */
nb_status nb_decoder(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                     nb_error *err) NB_CHECKED;
/* Its two parts: what runs on another device, to the residual stream in a->x (nothing to do without
 * a front); and ops of m's own device alone, which may be recorded. */
nb_status nb_decoder_front(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                           nb_error *err) NB_CHECKED;
nb_status nb_decoder_rest(const nb_model *m, nb_acts *a, const nb_batch *batch, const nb_kv *kv,
                          nb_error *err) NB_CHECKED;

/* ---- caches (kv.c) ---- */
/* Keys and values of one layer, as many pages as n_seq sequences of ctx_len need; no table yet. */
nb_status nb_kv_open(nb_backend *be, const nb_hparams *hp, int32_t n_seq, int32_t ctx_len,
                     nb_kv *kv, nb_error *err) NB_CHECKED;
void nb_kv_close(nb_backend *be, nb_kv *kv);

/* Which pages the sequences of a session hold, and the same table on every device of its model. */
typedef struct nb_page_table {
    nb_backend *be;
    int32_t *page;
} nb_page_table;
typedef struct nb_pages {
    int32_t n_seq, seq_pages;
    int32_t *table;  /* [n_seq][seq_pages] host; the first held[s] of a row count */
    int32_t *held;   /* [n_seq] */
    int32_t *unused; /* [n_unused] pages that nobody holds; the last is taken next */
    int32_t n_unused;
    nb_page_table on[2]; /* of the model's device, and of its front's */
    int n_device;
    bool stale; /* the devices have an older table */
} nb_pages;

nb_status nb_pages_open(const nb_model *m, int32_t n_seq, int32_t ctx_len, nb_pages *p,
                        nb_error *err) NB_CHECKED;
void nb_pages_close(nb_pages *p);
const int32_t *nb_pages_on(const nb_pages *p, const nb_backend *be); /* for nb_kv.page */
/* Pages for positions 0 .. len - 1 of a sequence; there are always enough, len at most the ctx_len
 * they were opened for. */
void nb_pages_hold(nb_pages *p, int32_t seq, int32_t len);
void nb_pages_drop(nb_pages *p, int32_t seq); /* gives back all that it holds */
/* Brings the tables of the devices up to date, in the order of the ops. */
nb_status nb_pages_send(nb_pages *p, nb_error *err) NB_CHECKED;

/* ---- sessions (session.c) ---- */

/* Receives n_row rows of logits [n_row, vocab_size] in host memory, the first for token `row` of
 * the call. */
typedef nb_status (*nb_logit_sink)(void *arg, int64_t row, int64_t n_row, const float *logits,
                                   nb_error *err);

/* Feeds tokens to a sequence; rows from first_row on go through the output layer in slices and to
 * the sink. */
nb_status nb_session_feed(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                          int64_t first_row, nb_logit_sink sink, void *arg,
                          nb_error *err) NB_CHECKED;
/* NB_BAD_INPUT: the model's logits after `position` tokens are NaN or infinite. */
nb_status nb_logits_fault(const nb_model *m, int64_t position, nb_error *err);
/* Feeds tokens to sequence seq and picks the next one from the logits after the last, without these
 * leaving the device: the likeliest at temp 0, else the one that `draw`, 64 random bits, falls on
 * (backend.h, sample). NB_BAD_INPUT: they are not finite. */
nb_status nb_session_step_pick(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                               const nb_sampling *how, uint64_t draw, int32_t *next,
                               nb_error *err) NB_CHECKED;
/* The same for one token of each of the sequences 0 .. n_seq - 1; draw [n_seq], may be NULL at temp
 * 0. */
nb_status nb_session_decode_pick(nb_session *s, const int32_t *tokens, int32_t n_seq,
                                 const nb_sampling *how, const uint64_t *draw, int32_t *next,
                                 nb_error *err) NB_CHECKED;
const nb_model *nb_session_model(const nb_session *s);
int32_t nb_session_ctx_len(const nb_session *s);
/* A hint for n tokens that do not fit: the --ctx that they need, or that the model has no such
 * context. */
void nb_session_hint_room(const nb_session *s, int64_t n, nb_error *err);
/* of the large buffers on the host: the logits */
int64_t nb_session_host_bytes(const nb_session *s);

#endif
