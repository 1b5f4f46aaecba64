/* nibble.h -- the C API of nibble: everything the command line does, callable from C.
 *
 * Handles are opaque, strings are const, there are no globals. Every function that can fail returns
 * nb_status (the program's exit codes) and writes one sentence into the nb_error it was given. One
 * thread per handle; several handles run in parallel. */
#ifndef NIBBLE_H
#define NIBBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nibble_status.h" /* nb_status, nb_error, NB_CHECKED */

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define NB_API __attribute__((visibility("default")))
#else
#define NB_API
#endif

NB_API const char *nb_version(void); /* "0.1.0" */

/* ---- models ---- */

typedef struct nb_model nb_model;

typedef struct nb_model_options {
    const char *device;   /* "auto" "cpu" "ref" "cuda:N" "simt"; NULL: "auto" */
    bool exact;           /* CPU: activations, KV cache and sums in f32; no int8 shortcut */
    int32_t n_thread;     /* 0: all this process may use */
    const char *kv_type;  /* "f32" "f16" "bf16" "q8" "fp8"; NULL: the device's own, f16, with
                          * exact f32 */
    bool allow_nonfinite; /* scales of packed linears may be NaN or infinite; else NB_BAD_INPUT
                           * names the tensor */
    int32_t offload;    /* layers kept on the CPU, the first ones, with the embedding: 0 to n_layer,
                      * or one of the two below; no matter on the CPU */
    int32_t ctx, n_seq; /* of the session that is to fit, for NB_OFFLOAD_AUTO and for the hint
                         * when something does not; 0: the model's, 1 */
} nb_model_options;
/* as few as the device's free memory allows; NB_NO_ROOM when it does not even hold the output
 * layer */
enum { NB_OFFLOAD_AUTO = -1 };
#define NB_OFFLOAD_ALL_BUT(n) (-2 - (n)) /* n layers on the device, the others on the CPU */

/* path: a GGUF file (of a split one any part), a folder with safetensors and config.json, or a name
 * of the hub, ORG/REPO[@REVISION], that is in its cache (nb_pull). The model keeps no reference to
 * the options. */
NB_API nb_status nb_model_open(const char *path, const nb_model_options *o, nb_model **out,
                               nb_error *err) NB_CHECKED;
NB_API void nb_model_close(nb_model *m); /* NULL is fine */

typedef struct nb_model_info {
    const char *arch;   /* "llama" */
    const char *device; /* "cpu" ... */
    int32_t vocab_size, ctx_len, n_layer, hidden_size, n_head, n_kv_head, head_dim;
    int64_t n_param;
    int64_t weights_bytes; /* packed, on the device */
    int32_t n_offload;     /* layers on the CPU beside a device */
    int64_t offload_bytes; /* of the packed weights there */
    int64_t file_bytes;
    double load_s;
    bool has_chat_template;
    int32_t n_thread;           /* CPU threads */
    const char *warning;        /* what is odd about its files, or NULL */
    const char *device_warning; /* why --device auto is the CPU though a GPU's driver is there, or
                                 * NULL */
} nb_model_info;
NB_API void nb_model_get_info(const nb_model *m, nb_model_info *out);

/* Which kernel serves the model's linears at n_token tokens: a call for each pair of format and
 * row, with the number of packed weights and their bytes. row is "" where the device does not
 * say. */
NB_API void nb_model_list_rows(const nb_model *m, int32_t n_token,
                               void (*row)(void *arg, const char *format, const char *row,
                                           int64_t n_weight, int64_t bytes),
                               void *arg);

/* ---- text ---- */

/* add BOS as the model asks; parse control tokens in the text */
enum { NB_TEXT_BOS = 1, NB_TEXT_SPECIAL = 2 };
/* *ids is allocated; free with nb_free. */
NB_API nb_status nb_model_tokenize(const nb_model *m, const char *text, size_t n, unsigned flags,
                                   int32_t **ids, size_t *n_id, nb_error *err) NB_CHECKED;
/* The token as the vocabulary spells it; borrowed; NULL when id is out of range. */
NB_API const char *nb_model_token(const nb_model *m, int32_t id, size_t *n);
/* Renders the conversation (JSON:
 * {"messages":[...],"tools":[...],"add_generation_prompt":true,...}) with the model's template.
 * path is named in errors. *text is allocated; free with nb_free. */
NB_API nb_status nb_model_template(const nb_model *m, const char *path, const char *json, size_t n,
                                   char **text, size_t *text_n, nb_error *err) NB_CHECKED;
/* The same text as token ids, control tokens of the template parsed, those inside the messages kept
 * plain. */
NB_API nb_status nb_model_template_ids(const nb_model *m, const char *path, const char *json,
                                       size_t n, int32_t **ids, size_t *n_id,
                                       nb_error *err) NB_CHECKED;
NB_API void nb_free(void *p);

/* ---- tokenizer alone (no weights are loaded) ---- */
/* Opens a model for text only: tokenize, token, template work; everything else is NB_USAGE. */
NB_API nb_status nb_model_open_text(const char *path, nb_model **out, nb_error *err) NB_CHECKED;

/* ---- inference ---- */

/* KV cache and buffers for n_seq sequences of up to ctx_len tokens */
typedef struct nb_session nb_session;
NB_API nb_status nb_session_open(nb_model *m, int32_t n_seq, int32_t ctx_len, nb_session **out,
                                 nb_error *err) NB_CHECKED;
NB_API void nb_session_close(nb_session *s);
NB_API void nb_session_clear(nb_session *s, int32_t seq);           /* forgets the sequence */
NB_API int32_t nb_session_length(const nb_session *s, int32_t seq); /* tokens it holds */

/* Feeds n_token tokens to sequence seq; logits: f32 of the caller, not normalised, [n_token,
 * vocab_size] when all_logits, else [vocab_size] of the last one; NULL skips the output layer. Cost
 * about n_token * (2 n_param + 4 n_layer n_ctx n_head head_dim) FLOP.
 * NB_BAD_INPUT an id or n_token out of range, nothing changed; NB_NO_ROOM the context is full, the
 * sequence keeps what it held; NB_DEVICE only close is valid now. */
NB_API nb_status nb_session_step(nb_session *s, int32_t seq, const int32_t *tokens, int32_t n_token,
                                 bool all_logits, float *logits, nb_error *err) NB_CHECKED;
/* One token for each of the sequences 0 .. n_seq-1 at once (batched decode); logits [n_seq,
 * vocab_size] or NULL. */
NB_API nb_status nb_session_decode(nb_session *s, const int32_t *tokens, int32_t n_seq,
                                   float *logits, nb_error *err) NB_CHECKED;

typedef struct nb_sampling {
    float temp;         /* 0: greedy */
    int32_t top_k;      /* 0: off */
    float top_p, min_p; /* 1 and 0: off */
    uint64_t seed;
} nb_sampling;

typedef struct nb_generate_options {
    const int32_t *prompt;
    size_t n_prompt;
    int32_t n_predict; /* -1: until the context is full */
    bool ignore_end;   /* end tokens do not stop it */
    bool continues;    /* the text goes on where the prompt's ended: a space that begins its first
                     * word is kept, as a SentencePiece-style text's own first is not */
    nb_sampling sampling;
    /* Called with whole UTF-8 characters as they come, n may be 0; returns false to stop. May be
     * NULL. */
    bool (*on_text)(void *arg, int32_t token, const char *text, size_t n);
    void *arg;
} nb_generate_options;

typedef struct nb_generate_result {
    int32_t *tokens; /* allocated; nb_free */
    size_t n_token;
    char *text; /* allocated; nb_free */
    size_t text_n;
    double prompt_s, gen_s, first_token_s; /* first_token_s: from the call to the first token */
    const char *stop;                      /* "end" "length" "caller" "context" */
} nb_generate_result;

/* Continues sequence 0 of the session. NB_BAD_INPUT: the model computes numbers that are not
 * finite. */
NB_API nb_status nb_generate(nb_session *s, const nb_generate_options *o, nb_generate_result *r,
                             nb_error *err) NB_CHECKED;
NB_API void nb_generate_result_free(nb_generate_result *r);

/* Writes float32 [rows, cols] as a NumPy .npy file. */
NB_API nb_status nb_write_npy(const char *path, const float *data, int64_t rows, int64_t cols,
                              nb_error *err) NB_CHECKED;

/* ---- evaluation ---- */

typedef struct nb_eval_options {
    const char *text;
    size_t text_n;         /* the whole text, tokenized as one string */
    const char *text_path; /* named in errors */
    int32_t ctx;           /* chunk length, 0: 512 */
    int32_t first_chunk;   /* index of the first chunk */
    int32_t n_chunk;       /* 0: all */
    bool spread; /* n_chunk chunks spread evenly: start i * floor((n - ctx) / (n_chunk - 1)) */
    bool all_positions; /* score every position that has a target, not the second half only */
    void (*progress)(void *arg, int32_t done, int32_t total, double ppl_so_far);
    void *arg;
    const volatile int *stop; /* set by a signal handler: finish the chunk, then NB_INTERRUPTED;
                               * may be NULL */
} nb_eval_options;

typedef struct nb_eval_result {
    double ppl, ppl_stderr;
    int64_t tokens; /* scored */
    bool overlap;   /* the chunks are more than the text has: standard errors are too small */
    bool has_kl;    /* a reference was given */
    double kl_mean, kl_stderr, kl_median, kl_p99, top1; /* KL(reference || model) in nats a
                                                         * token; top1: share of equal argmax */
    double seconds, tok_per_s; /* of the model itself, not of the reference; tokens evaluated per
                                * second */
} nb_eval_result;

/* reference may be NULL. Its vocabulary must be the model's (NB_BAD_INPUT). */
/* whether the text suffices: before hours of work */
NB_API nb_status nb_eval_check(const nb_model *m, const nb_eval_options *o,
                               nb_error *err) NB_CHECKED;
NB_API nb_status nb_eval(nb_model *m, nb_model *reference, const nb_eval_options *o,
                         nb_eval_result *r, nb_error *err) NB_CHECKED;

/* ---- quantization ---- */

/* What GPTQ adds to the diagonal of H, as a share of its mean; docs/QUALITY.md has what others
 * gave. */
#define NB_DEFAULT_DAMP 0.05
/* How long the input of a token may be in H and C, in medians; docs/QUALITY.md has what others
 * gave. */
#define NB_DEFAULT_TOKEN_LIMIT 1.2

typedef struct nb_quantize_options {
    const char *model, *out; /* out: *.gguf, or a folder */
    const char *method;      /* "rtn" "gptq"; others: NB_UNSUPPORTED */
    int32_t bits;            /* 0: from the grid, else 2 3 4 8 */
    int32_t group;           /* 0: default; -1: row */
    bool sym_set, sym;       /* --sym / --asym */
    const char *grid;   /* NULL or a grid name: q4_0 q4_1 q5_0 q5_1 q8_0 int4 ...; an unknown one
                       * lists all */
    const char *format; /* NULL: from out; "gguf" "plain" (floats) "gptq" "gptq_v2" "awq"
                         * "compressed-tensors" */
    bool correction_set;
    double correction; /* 0..1, default 1 */
    double damp;       /* 0: NB_DEFAULT_DAMP */
    bool token_limit_set;
    double token_limit; /* default NB_DEFAULT_TOKEN_LIMIT; 0: every token counts as it is */
    const char *clip;   /* NULL: the method's own; none, mse, p99.9, output */
    const char *range;  /* of symmetric groups in a folder: NULL: "full"; "absmax" */
    bool act_order; /* gptq into gptq, gptq_v2, plain: inputs in the order of their weight in the
                     * error, groups by index */
    bool no_static_groups; /* gptq: parameters from current values, natural order */
    const char *calib;     /* NULL: built-in default "self"; "self"; or a text file's path */
    int32_t samples, ctx;  /* 0: 64 and 512 on the CPU */
    uint64_t seed;
    const char *embedding; /* grid of the embedding and head: NULL: q8_0; "keep": as in the
                            * source */
    const char *device;
    int32_t n_thread;
    bool dry_run;            /* everything but the work: plan and sizes */
    int64_t max_shard_bytes; /* of tensors in one file of a folder, unless one alone is larger;
                              * 0: 5 GB */
    int64_t memory;          /* hard budget of the host's memory in bytes; 0: what the machine has.
                     * glibc's malloc keeps freed blocks of up to 32 MiB unless
                     * mallopt(M_MMAP_THRESHOLD, 1 << 20) was called, as the command line does */
    bool layers_set; /* only the layers [layer_from, layer_to) are quantized, the others copied
                      * as they are */
    int32_t layer_from, layer_to;
    bool resume;  /* go on with what OUT.nibble/ holds; model and settings come from there where
                  * model is NULL */
    bool restart; /* throw away what OUT.nibble/ holds */
    const char *eval_path; /* --eval FILE, NULL: none */
    /* What is done of how many: layers, tokens of the text that the model writes, chunks of --eval.
     * Also says within a layer how far it is. eta_s < 0: a line that stands alone; INFINITY: not
     * known yet. */
    void (*progress)(void *arg, const char *line, int32_t done, int32_t total, double eta_s);
    void *arg;
    const volatile int *stop; /* set by a signal handler: finish the tensor, token or chunk, then
                               * NB_INTERRUPTED; may be NULL */
} nb_quantize_options;

typedef struct nb_quantize_layer {
    const char *name;
    double error, error_rtn; /* tr(D H D^T) / tr(W H W^T); NAN without calibration */
    double bits_per_weight;
    bool expert;      /* of a mixture's expert: */
    int64_t n_token;  /* of the calibration text that were sent to it */
    bool rounded;     /* which were too few to decide by, so it was rounded to nearest */
    const char *note; /* "" or e.g. "damping 0.1", "kept rtn" */
} nb_quantize_layer;

enum { NB_QUANTIZE_PHASES = 8 };
typedef struct nb_quantize_phase {
    char name[32]; /* "load" "calibration" "layers" ... */
    double seconds;
} nb_quantize_phase;

enum { NB_QUANTIZE_PARTS = 8 };
typedef struct nb_quantize_part { /* of the phase "layers" */
    const char *name;             /* "forward" "statistics" "factor" ... */
    double seconds, cpu_seconds;  /* cpu: of all threads */
} nb_quantize_part;

typedef struct nb_quantize_result {
    char method[32], grid[32], format[32];
    double bits_per_weight, bits_per_weight_linears;
    int64_t bytes;
    double seconds;
    int64_t peak_rss_bytes;
    char requantized
        [32]; /* what the source's linears hold where that is no floats, such as "q4_1": the
                           * figures compare with those, not with the model as it was trained; "" */
    bool has_eval;
    double ppl_before, ppl_after, kl_mean, top1;
    /* as nb_eval_result has them */
    double ppl_before_stderr, ppl_after_stderr, kl_stderr, kl_median, kl_p99;
    nb_quantize_phase phase[NB_QUANTIZE_PHASES]; /* in the order in which they ran */
    int n_phase;
    nb_quantize_part part[NB_QUANTIZE_PARTS];
    int n_part;
    int32_t resumed_layers; /* read back from an interrupted run */
    int64_t plan_bytes;     /* host memory that the run was planned to need at most (0: the device
                         * cannot plan) */
    int64_t plan_device_bytes; /* of a device with memory of its own, else 0 */
    int64_t spill_bytes;       /* of activations in a file, 0: they stayed in memory */
    /* Of a mixture under a calibrated method: the experts' linears; of them those that were rounded
     * to nearest because too few tokens were sent to them; and of these the ones that none was sent
     * to. */
    int64_t n_expert_linear, n_expert_rounded, n_expert_unseen;
    int32_t expert_passes; /* over a layer's activations, as the memory allowed */
    /* Extrapolated from the layers that were quantized, when those were not all: the whole model,
     * with the tokens of this run and with full_tokens. */
    bool has_full;
    int32_t full_layers;
    double full_seconds, full_seconds_at_full_tokens;
    int64_t full_tokens, full_plan_bytes; /* 128 x 2048; the plan for them is counted, not
                                           * extrapolated */
    nb_quantize_layer *layers;
    size_t n_layer;
    void *owner; /* of the strings and the list */
} nb_quantize_result;

/* The work goes on in OUT.nibble/ (lock, journal, log, partial file), which is gone at the end.
 * Killed or stopped at any time, the same call (or one with `resume`) goes on behind the last whole
 * layer and gives the same bytes. NB_LOCKED: another process is writing OUT. NB_BAD_INPUT:
 * OUT.nibble/ is of other settings or inputs, the sentence names one. NB_NO_ROOM: memory or disk
 * does not suffice, seen before the work; or the disk is full, what was done stays. NB_INTERRUPTED:
 * *stop. OUT.manifest.json beside OUT holds settings and hashes. */
NB_API nb_status nb_quantize(const nb_quantize_options *o, nb_quantize_result *r,
                             nb_error *err) NB_CHECKED;
NB_API void nb_quantize_result_free(nb_quantize_result *r);

typedef struct nb_method { /* what `method` names */
    const char *name, *summary;
    const char *cost; /* of a linear of N outputs and K inputs */
} nb_method;
NB_API bool nb_method_at(int i, nb_method *out); /* false: there are i methods */

/* The run as one HTML page: error per layer and kind, bits, time, what the evaluation measured, the
 * settings. It needs no other file and no script; the same result gives the same bytes. NB_USAGE
 * when path is the model or OUT. */
NB_API nb_status nb_quantize_report(const nb_quantize_options *o, const nb_quantize_result *r,
                                    const char *path, nb_error *err) NB_CHECKED;
/* Whether a page or an array (nb_write_npy) can be made at path: asked before hours of work. Leaves
 * nothing behind. NB_USAGE when it would replace the model, or any file that is neither page nor
 * array. */
NB_API nb_status nb_check_output(const char *path, const char *model, nb_error *err) NB_CHECKED;
/* ---- conversion ---- */

typedef struct nb_convert_options {
    const char *model, *out;
    const char *format; /* NULL: "gguf" when out ends in .gguf, else "plain" (a folder of
                         * safetensors); also "gptq" "gptq_v2" "awq" "compressed-tensors" */
    const char *grid; /* number format of the matrices: f32 f16 bf16 q8_0 ...; NULL: as they are */
    int64_t max_shard_bytes; /* as in nb_quantize_options */
    bool allow_nonfinite;    /* as in nb_model_options */
    int32_t n_thread;
    void (*progress)(void *arg, int32_t layer, int32_t n_layer);
    void *arg;
    const volatile int *stop; /* set by a signal handler: NB_INTERRUPTED, nothing is left behind;
                               * may be NULL */
} nb_convert_options;

typedef struct nb_convert_result {
    char format[32], grid[32]; /* grid "keep": as they were */
    int64_t bytes, n_tensor;
    double bits_per_weight;
    int64_t n_left; /* tensors of a folder that a GGUF file of the model has no place for (a
                     * vision tower): they stay behind */
    char left[128]; /* one of them, escaped; "" */
    double seconds;
} nb_convert_result;

/* The same model in the other container, or with other number formats: names, order of rows,
 * metadata, tokenizer and chat template are made anew. Floats are rounded where the grid asks for
 * it; quantized matrices become floats, or codes of another format if every value stays what it is:
 * else NB_UNSUPPORTED names the tensor (nb_quantize rounds). Norms and biases keep their values.
 * OUT appears when it is whole, with its manifest; until then what there is lies in OUT.nibble/.
 * NB_LOCKED: another process is writing OUT. */
NB_API nb_status nb_convert(const nb_convert_options *o, nb_convert_result *r,
                            nb_error *err) NB_CHECKED;

/* ---- planning ---- */

typedef struct nb_plan_options {
    const char *model, *device;
    int32_t ctx, n_seq; /* 0: the model's; 1 */
    bool ctx_at_most;   /* a ctx beyond the model's means the model's; else it is NB_BAD_INPUT */
    int32_t n_thread;
    bool exact;
    int32_t offload;     /* as in nb_model_options */
    const char *kv_type; /* as there */
} nb_plan_options;
typedef struct nb_plan_part { /* of one device */
    /* scratch: activations, logits, work space */
    int64_t weights_bytes, kv_bytes, scratch_bytes, total_bytes;
    int64_t memory_bytes; /* of the device, or what this process may use of the machine's; 0:
                           * unknown */
    int64_t free_bytes;   /* of it, now: of the machine's what can be had without swapping, within
                         * the limits of control groups; 0: unknown */
} nb_plan_part;
typedef struct nb_plan {
    /* of the device, as in nb_plan_part */
    int64_t weights_bytes, kv_bytes, scratch_bytes, total_bytes, memory_bytes, free_bytes;
    bool fits; /* all parts */
    int32_t ctx, n_seq;
    char device[32];
    int32_t n_layer, offload; /* layers of the model; of them on the CPU: */
    nb_plan_part cpu;         /* beside the device; 0 without offload */
} nb_plan;
/* What loading the model and opening a session would take: the very code, over a device that only
 * counts. No weight is read. */
NB_API nb_status nb_plan_model(const nb_plan_options *o, nb_plan *out, nb_error *err) NB_CHECKED;

/* ---- looking into files ---- */

typedef struct nb_checkpoint nb_checkpoint;
NB_API nb_status nb_checkpoint_open(const char *path, nb_checkpoint **out,
                                    nb_error *err) NB_CHECKED;
NB_API void nb_checkpoint_close(nb_checkpoint *c);
typedef struct nb_checkpoint_info {
    const char *format; /* "gguf" "safetensors" */
    const char *scheme; /* "gguf" "plain" */
    const char *arch;   /* "" if it names none */
    int64_t n_param, bytes, n_tensor, n_metadata;
    double bits_per_weight; /* 8 x tensor bytes / parameters */
    const char *warning;    /* NULL or a sentence */
} nb_checkpoint_info;
NB_API void nb_checkpoint_get_info(const nb_checkpoint *c, nb_checkpoint_info *out);
typedef struct nb_checkpoint_tensor {
    const char *name, *type;
    int n_dim;
    int64_t shape[8]; /* outermost first */
    int64_t bytes;
} nb_checkpoint_tensor;
NB_API bool nb_checkpoint_get_tensor(const nb_checkpoint *c, int64_t i, nb_checkpoint_tensor *out);
/* Metadata entry i as key and its value as JSON text (long arrays cut: "[...] of N"); valid until
 * the next call on c. */
NB_API bool nb_checkpoint_get_metadata(const nb_checkpoint *c, int64_t i, const char **key,
                                       const char **value_json);
/* Checks every tensor: finite scales and floats, codes in range; and against the manifest beside it
 * (OUT.manifest.json, or manifest.json in a folder), where there is one (*manifest): type, size,
 * SHA-256; every file of a folder; head, length and padding of a single file. NB_NEGATIVE names the
 * first that fails. */
NB_API nb_status nb_checkpoint_verify(const nb_checkpoint *c, bool *manifest,
                                      nb_error *err) NB_CHECKED;

/* ---- measuring ---- */

/* Shares are of what this machine reads and multiplies, measured in the same call with the same
 * threads (about a second, before the tests). */
typedef struct nb_bench_row {
    char test[32]; /* "load" "pp512" "tg64" "tg64@8" */
    /* 0 where it does not apply */
    double tok_per_s, stddev, gb_per_s, share_of_bandwidth, flop_per_s, share_of_peak;
    double seconds;                             /* of one run, median */
    double bandwidth_gb_per_s, peak_flop_per_s; /* the limits: read bandwidth; rate of the rows
                                                 * that serve this test */
} nb_bench_row;
typedef struct nb_bench_options {
    int32_t n_prompt, n_gen; /* 512, 64; 0 leaves the test out */
    const int32_t *batch;    /* of decode, 0-terminated; NULL: {1} */
    int32_t n_run;           /* 5; one more is run first and thrown away */
    void (*row)(void *arg, const nb_bench_row *row);
    void *arg;
} nb_bench_options;
/* Random tokens, every run from an empty cache; the output layer once a step (of the last token
 * when a prompt is read). load is the opening of m, as it was. NB_USAGE when the context is too
 * short. */
NB_API nb_status nb_bench_model(nb_model *m, const nb_bench_options *o, nb_error *err) NB_CHECKED;

typedef struct nb_kernel_row {
    char op[24], row[32], kind[24];
    int64_t m, n, k;
    /* 0 where it does not apply; us: median, spread: between the quartiles */
    double us, us_spread, gb_per_s, tflop_per_s, share_of_limit;
    int64_t rotated_bytes;       /* of all copies of the weight that take turns */
    double ratio_to_cublas_bf16; /* time of bf16 weights by the vendor's library over ours, same
                                  * shape, same call; 0: it is not there */
    double limit_gb_per_s, limit_tflop_per_s; /* of this machine, measured in the same call:
                                               * reading; products of this row's kind; 0: not
                                               * known */
    char timed[24];     /* how us came about: "graph by events", a series of calls as one recording
                         * by the device's clock; "calls by clock", one by one by the host's */
    int64_t n_call;     /* of a series */
    double us_launched; /* of a call enqueued by itself, by the host's clock, beside a graph; else
                         * 0 */
} nb_kernel_row;
typedef struct nb_bench_kernels_options {
    const char *device;
    int32_t n_thread;
    bool exact;
    const char *op, *kind; /* op: linear (NULL), attention (a token of each of m sequences, whose
                            * caches are full), prefill (m tokens of one prompt); kind: NULL: all;
                            * of attention a type of the cache; else a number format, or intB, intBgG (B bits, groups
                            * of G, random scales and zeros), intBsym, intBgGsym (one zero) */
    int64_t n, k;          /* 0: default shapes */
    int32_t n_head, n_kv_head, head_dim, ctx_len; /* of attention; 0: an 8B model's, 4096 */
    const int32_t *m; /* 0-terminated; NULL: {1, 16, 256}, and 4096 where rows are only named */
    bool list_rows;   /* only name the rows that would run; attention's for every type of cache */
    void (*row)(void *arg, const nb_kernel_row *row);
    void *arg;
} nb_bench_kernels_options;
/* Random weights and inputs; so many copies of a weight take turns that none is found in the last
 * cache (at most 256 copies). A device that records replays series of calls and times them itself. */
NB_API nb_status nb_bench_kernels(const nb_bench_kernels_options *o, nb_error *err) NB_CHECKED;

/* ---- the hub: fetching into the cache that huggingface_hub uses too; a model name
 * ORG/REPO[@REVISION] is then found there ---- */

typedef struct nb_pull_file {
    const char *name;
    int64_t bytes;
    bool cached; /* was there before */
} nb_pull_file;
typedef struct nb_pull_options {
    const char *name; /* ORG/REPO or ORG/REPO@REVISION: a branch, tag or commit; without it main */
    const char *const *include; /* patterns (fnmatch, * crosses folders) of what is wanted; none:
                                 * everything but other programs' formats */
    size_t n_include;
    bool dry_run; /* say what would be fetched, write nothing */
    /* from several threads, one at a time; may be NULL */
    void (*progress)(void *arg, const char *file, int64_t done, int64_t bytes, int64_t all_done,
                     int64_t all_bytes);
    /* Asked at least once a second, from any thread, also while nothing comes; true ends the pull
     * with NB_INTERRUPTED (what came is kept and gone on with). May be NULL. */
    bool (*stopped)(void *arg);
    void *arg;
} nb_pull_options;
typedef struct nb_pull_result {
    char commit[48];
    char *path;          /* the snapshot's folder */
    nb_pull_file *files; /* by name */
    size_t n_file;
    int64_t bytes, fetched_bytes; /* of all files; of those that were not there (dry_run: are
                                   * not) */
} nb_pull_result;
/* Takes the address and the token from HF_ENDPOINT, HF_TOKEN, HF_TOKEN_PATH, the place from
 * HF_HUB_CACHE, HF_HOME, XDG_CACHE_HOME. The token goes to the endpoint only. Every file's length
 * and hash are held to what the hub says of them; the revision points to the snapshot when all of
 * it is there. NB_USAGE no such name; NB_NOT_FOUND no such repository, revision or file;
 * NB_NETWORK; NB_NO_ROOM before anything is fetched; NB_LOCKED another process fetches the same
 * file; NB_UNSUPPORTED without libcurl, which is loaded here and nowhere else. */
NB_API nb_status nb_pull(const nb_pull_options *o, nb_pull_result *r, nb_error *err) NB_CHECKED;
NB_API void nb_pull_result_free(nb_pull_result *r); /* what it holds; zeroed is fine */

typedef struct nb_doctor_gpu {
    char name[128];
    int sm;
    int64_t memory_bytes;
    char driver[32];
} nb_doctor_gpu;
typedef struct nb_doctor_report {
    char cpu[128], isa[256]; /* isa: the sets that nibble knows and this machine has, space
                              * separated; a note says which no row uses */
    int32_t threads;
    int64_t memory_bytes;
    double bandwidth_gb_per_s; /* read, measured */
    nb_doctor_gpu gpu[16];
    int n_gpu;
    struct {
        char name[32], version[64];
    } library[16];
    int n_library;
    char note[4][256]; /* what is missing and the remedy */
    int n_note;
} nb_doctor_report;
/* NB_NEGATIVE, with a full report, when something that is there cannot be used (a GPU without its
 * driver's library); the sentence says what. */
NB_API nb_status nb_doctor(nb_doctor_report *r, nb_error *err) NB_CHECKED;
/* A row per format x family x backend: "native" (kernels read the format's own codes or floats),
 * "generic" (decoded to f32 when loaded) or "refused". */
NB_API void nb_doctor_features(void (*row)(void *arg, const char *format, const char *family,
                                           const char *backend, const char *how),
                               void *arg);

#ifdef __cplusplus
}
#endif
#endif
