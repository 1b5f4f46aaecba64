/* template.h -- chat templates: the Jinja subset that models on the hub use, as an interpreter
 * without host objects.
 *
 * Set up as transformers does it: trim_blocks, lstrip_blocks, loop controls, generation blocks;
 * variables messages, tools and documents (none when absent), add_generation_prompt, bos_token,
 * eos_token and whatever else the conversation's JSON object holds; functions raise_exception,
 * strftime_now, namespace, range, dict. */
#ifndef NB_TEXT_TEMPLATE_H
#define NB_TEXT_TEMPLATE_H

#include "base/memory.h"
#include "file/json.h"
#include "text/tokenizer.h"

enum { /* budgets of one render (docs/SECURITY.md) */
       NB_TEMPLATE_SOURCE = 1 << 20,
       NB_TEMPLATE_STEPS = 1000000,
       NB_TEMPLATE_OUTPUT = 8 << 20,
       NB_TEMPLATE_HEAP = 64 << 20,
       NB_TEMPLATE_DEPTH = 64 /* of nested syntax, of macro calls */
};

typedef struct nb_template_env {
    const char *bos_token, *eos_token; /* need no NUL behind them; may be NULL where n is 0 */
    size_t bos_token_n, eos_token_n;
    int64_t now; /* seconds since 1970, local calendar already applied: what strftime_now prints */
    /* Its control tokens are kept out of the conversation: no byte of a conversation's string
     * begins one, because the guard byte (tokenizer.h) follows each that could. The output is then
     * for nb_tokenizer_encode alone. NULL: nothing is guarded, the output is text. */
    const nb_tokenizer *guard;
} nb_template_env;

/* Renders src over the conversation object. NB_BAD_INPUT: a syntax error, what Jinja refuses,
 * raise_exception (its text escaped), a budget spent; NB_UNSUPPORTED: include, import, extends,
 * block, recursive loops. out keeps what it held before and is undefined after a failure. */
nb_status nb_template_render(const char *src, size_t n, const nb_json_node *conversation,
                             const nb_template_env *env, nb_buf *out, nb_error *err) NB_CHECKED;

#endif
