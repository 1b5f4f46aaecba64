/* template.c -- `nibble template MODEL -f CONVERSATION.json`: the prompt that a conversation
 * becomes. */
#include "base/status.h"
#include "out.h"

#include <stdlib.h>

static const nb_flag flags[] = {
    {"file", 'f', "FILE",
     "the conversation (- is stdin): "
     "{\"messages\":[...],\"tools\":[...],\"add_generation_prompt\":true}"},
    {"ids", 0, NULL, "its token ids instead, control tokens inside the messages kept plain"},
    {NULL, 0, NULL, NULL},
};

static void print_ids(const int32_t *ids, size_t n, bool json)
{
    if (json)
        printf("\"ids\":[");
    for (size_t i = 0; i < n; i++)
        printf("%s%d", i ? json ? "," : " " : "", ids[i]);
    if (json)
        printf("]");
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_model *m = NULL;
    const char *file = nb_flag_text(a, "file");
    const bool as_json = nb_flag_on(a, "json"), as_ids = nb_flag_on(a, "ids");
    char *json = NULL, *text = NULL;
    int32_t *ids = NULL;
    size_t json_n = 0, text_n = 0, n = 0;
    nb_status st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK && !file && a->n_operand > 1)
        file = a->operand[1];
    if (st == NB_OK && !file)
        st = nb_fail(err, NB_USAGE, "a conversation is missing: -f CONVERSATION.json");
    if (st == NB_OK)
        st = nb_read_text(file, &json, &json_n, err);
    if (st == NB_OK)
        st = nb_model_open_text(a->operand[0], &m, err);
    if (st == NB_OK && (as_json || !as_ids))
        st = nb_model_template(m, file, json, json_n, &text, &text_n, err);
    if (st == NB_OK && (as_json || as_ids))
        st = nb_model_template_ids(m, file, json, json_n, &ids, &n, err);
    if (st == NB_OK && as_json) {
        printf("{\"text\":");
        nb_put_json(stdout, text, text_n);
        putchar(',');
        print_ids(ids, n, true);
        printf("}\n");
    } else if (st == NB_OK && as_ids) {
        print_ids(ids, n, false);
        putchar('\n');
    } else if (st == NB_OK)
        nb_put_text(text, text_n); /* nothing added: the prompt may be piped on */
    nb_free(text);
    nb_free(ids);
    free(json);
    nb_model_close(m);
    return st;
}

const nb_command nb_command_template = {.name = "template",
                                        .operands = "MODEL -f FILE",
                                        .summary = "Renders a conversation as the model's prompt.",
                                        .flags = flags,
                                        .run = run,
                                        .n_operand = 2};
