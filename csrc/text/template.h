/* template.h -- chat templates: the Jinja subset that models on the hub use, as an interpreter without host objects.
 *
 * Set up as transformers does it: trim_blocks, lstrip_blocks, loop controls; variables messages, tools, add_generation_prompt, bos_token, eos_token and
 * whatever else the conversation's JSON object holds; functions raise_exception, strftime_now, namespace, range, dict. Budgets per render: 10^6
 * steps, 8 MiB output, 64 MiB heap, depth 64 (hardening.md JT). */
#ifndef NB_TEXT_TEMPLATE_H
#define NB_TEXT_TEMPLATE_H

#include "base/memory.h"
#include "file/json.h"

typedef struct nb_template_env {
    const char *bos_token, *eos_token; /* "" if none */
    int64_t now;                       /* seconds since 1970, local calendar already applied: what strftime_now prints */
    const char *const *control;        /* control token texts, NULL-terminated: where a string of the conversation contains one, the guard byte (tokenizer.h) is put after
                                          its first byte, so the rendered text keeps it plain. NULL: no guarding */
} nb_template_env;

/* Renders src over the conversation object. Errors: NB_BAD_INPUT (syntax, raise_exception: its text escaped, over budget), NB_UNSUPPORTED (include, import). */
nb_status nb_template_render(const char *src, size_t n, const nb_json_node *conversation, const nb_template_env *env, nb_buf *out, nb_error *err) NB_CHECKED;

#endif
