/* config_out.h -- config.json and generation_config.json of a model, whatever it lies in. */
#ifndef NB_CONVERT_CONFIG_OUT_H
#define NB_CONVERT_CONFIG_OUT_H

#include "base/text.h"
#include "model/model.h"

/* One JSON object that transformers loads and our reader understands as the same numbers, or
 * NB_UNSUPPORTED names what it has no key for. From a folder: its own config with another
 * torch_dtype and without quantization_config. torch_dtype: "bfloat16" "float16" "float32". out is
 * the caller's to free, also on failure. */
nb_status nb_config_to_json(const nb_model *m, const char *torch_dtype, nb_text *out,
                            nb_error *err) NB_CHECKED;

/* Which tokens begin and end a text. From a folder: its own file, else "" (n 0) and no file is
 * written. */
nb_status nb_generation_config_to_json(const nb_model *m, nb_text *out, nb_error *err) NB_CHECKED;

/* The family whose config.json says most of a GGUF file's model: "llama" in GGUF may be Mistral. */
const nb_family *nb_config_family(const nb_model *m);

/* What torch calls a float type, NULL: it is none of f32, f16, bf16. */
const char *nb_torch_dtype(const nb_dtype *t);

/* ---- config_rope.c ---- */

/* The llama3 rule whose frequencies are those of the model, found from a file that has them only
 * one by one. false: there is none. */
bool nb_config_find_llama3(const nb_hparams *hp, nb_rope_llama3 *out);

#endif
