/* quantize.h -- what the files of nb_quantize share: choices (quantize_choose.c, quantize_grid.c),
 * formats of tensors (quantize_formats.c), calibration (quantize_calib.c), settings as words
 * (quantize_settings.c), the work folder (quantize_work.c), the plan (quantize_plan.c), room on
 * disk (quantize_room.c), figures (quantize_figures.c), and the run itself (quantize.c). */
#ifndef NB_API_QUANTIZE_H
#define NB_API_QUANTIZE_H

#include "base/text.h"
#include "file/journal.h"
#include "file/json.h"
#include "file/workdir.h"
#include "quant/pipeline.h"

struct nb_quantize_job;

/* What --format names: a container, and how linears lie in it. */
typedef struct nb_quantize_form {
    const char *name;
    bool folder;
    const char *scheme;  /* of a folder whose linears are codes, else NULL */
    const char *partial; /* the output in the making, in the work folder */
    nb_status (*open)(struct nb_quantize_job *j, bool resume, bool measure, nb_sink **out,
                      nb_error *err);
    nb_status (*finish)(const char *out, const char *work, bool *done, nb_error *err);
    void (*discard)(const char *work);
} nb_quantize_form;
extern const nb_quantize_form nb_quantize_forms[]; /* ended by a row without a name */

/* What a quantization run holds from beginning to end. */
typedef struct nb_quantize_job {
    nb_quantize_options o; /* the caller's, every default filled in by nb_quantize_resolve */
    nb_pipeline_options p;
    const nb_quantize_form *form;
    nb_scheme_spec scheme;     /* of a folder whose linears are codes */
    const nb_dtype *embedding; /* format of embedding and head; NULL: as in the source */
    nb_model *m;
    const nb_dtype **type; /* [n_tensor] of the output */
    nb_calib calib;
    bool calibrated;
    nb_sink *sink;
    nb_linear_report *report;
    int64_t n_report;
    int32_t resumed; /* layers that an earlier run sealed */
    /* the work folder */
    nb_workdir *work;
    nb_journal *journal;
    int log;          /* file descriptor, -1: none */
    nb_json **record; /* [n_record] what the journal held, parsed */
    size_t n_record;
    nb_text input;           /* JSON: the files of the source and what they were like */
    char calib_sha[65];      /* of the calibration text, "" */
    bool earlier;            /* the work folder is of an earlier run */
    bool keep;               /* it is worth keeping when the run fails */
    nb_times times;          /* of the layers */
    double layer_s, token_s; /* time of the layers quantized here; the part of it that grows with
                              * the tokens */
    int32_t n_timed;
    char model_path[4096], out_path[4096], calib_path[4096], device[32];
} nb_quantize_job;

/* ---- choices ---- */
/* Method, format, grid, embedding and ranges of the options: NB_USAGE or NB_UNSUPPORTED before any
 * file is touched. */
nb_status nb_quantize_choose(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* Whether a number format or one of llama.cpp's mixes is called so, there or not. */
bool nb_quantize_is_grid(const char *name);
/* Of them, the grid: --grid, --bits, --group, --sym, --range; --embedding. */
nb_status nb_quantize_choose_grid(nb_quantize_job *j, nb_error *err) NB_CHECKED;
nb_status nb_quantize_choose_embedding(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* With the model open, in a folder, where --group says nothing: the greatest of 128, 64, 32 that
 * packs the most linears. NB_UNSUPPORTED: one that was asked for leaves linears out which another
 * packs. */
nb_status nb_quantize_choose_group(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* With the model open: what was left to defaults gets its value, so that settings can be compared
 * and written down. */
nb_status nb_quantize_resolve(nb_quantize_job *j, nb_error *err) NB_CHECKED;

/* ---- formats ---- */
nb_status nb_quantize_choose_types(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* measure: sizes only. */
nb_status nb_quantize_open_sink(nb_quantize_job *j, bool resume, bool measure, nb_sink **out,
                                nb_error *err) NB_CHECKED;
void nb_quantize_count_bits(const nb_quantize_job *j, nb_quantize_result *r);

/* ---- calibration ---- */
/* From the work folder, the text, or the model itself; kept in the work folder. */
nb_status nb_quantize_calibrate(nb_quantize_job *j, nb_error *err) NB_CHECKED;

/* ---- settings ---- */
/* {"method":"gptq",...}: all: also those that do not change the output, to be read back. */
void nb_quantize_settings_write(const nb_quantize_options *o, bool all, nb_text *out);
/* Fills options that were not given from what was written; texts are borrowed from the document.
 * NB_BAD_INPUT. */
nb_status nb_quantize_settings_read(const char *path, const nb_json_node *settings,
                                    nb_quantize_options *o, nb_error *err) NB_CHECKED;
/* NB_BAD_INPUT names the first setting that changes the output and differs. */
nb_status nb_quantize_settings_compare(const char *path, const nb_json_node *settings,
                                       const nb_quantize_options *o, nb_error *err) NB_CHECKED;

/* ---- the work folder ---- */
/* Takes OUT.nibble/ and reads its journal; with `resume` and no model the options come from
 * there. */
nb_status nb_quantize_work_open(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* Begins a journal, or holds it against this run: NB_BAD_INPUT names what differs. The reports of
 * finished layers are restored. */
nb_status nb_quantize_work_begin(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* After the sink was opened: every sealed layer must have the digest of the journal. */
nb_status nb_quantize_work_verify(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* nb_pipeline_options.sealed: a line of the journal, a line of the log. */
nb_status nb_quantize_work_sealed(void *job, int layer, const uint8_t digest[32],
                                  const nb_linear_report *r, int n_report, double seconds,
                                  double token_seconds, nb_error *err);
/* {"type":"calib"} with the hash of the token ids that lie in the folder; *found: there is one. */
nb_status nb_quantize_work_read_calib(nb_quantize_job *j, bool *found, nb_error *err) NB_CHECKED;
nb_status nb_quantize_work_write_calib(nb_quantize_job *j, nb_error *err) NB_CHECKED;
/* Gives a run its names that was killed while it did. *done: nothing else is left to do. */
nb_status nb_quantize_work_finish(nb_quantize_job *j, bool *done, nb_error *err) NB_CHECKED;
/* Keeps or removes the folder as the outcome asks. */
void nb_quantize_work_close(nb_quantize_job *j, nb_status outcome, nb_error *err);
/* Options that came from the journal are not to be read afterwards. */
void nb_quantize_work_forget(nb_quantize_job *j);

/* ---- plan ---- */
/* Fills plan_* of the result, decides whether activations are spilled, and refuses with NB_NO_ROOM
 * what does not fit. */
nb_status nb_quantize_plan(nb_quantize_job *j, nb_quantize_result *r, nb_error *err) NB_CHECKED;

/* ---- room on disk ---- */
/* Whether the sentence speaks of a file of this run that found no room on disk, and does not say
 * yet what the whole run lacks. */
bool nb_quantize_found_no_room(const nb_quantize_job *j, nb_status st, const nb_error *err);
/* Says that, with the model open and its types chosen. */
void nb_quantize_say_missing_room(nb_quantize_job *j, nb_error *err);

/* What ran since the last phase, under a name. */
void nb_quantize_phase_ends(nb_quantize_result *r, const char *name, int64_t *since);

/* ---- figures ---- */
nb_status nb_quantize_fill_result(nb_quantize_job *j, nb_quantize_result *r,
                                  nb_error *err) NB_CHECKED;
nb_status nb_quantize_evaluate(const nb_quantize_options *o, nb_quantize_result *r,
                               nb_error *err) NB_CHECKED;

#endif
