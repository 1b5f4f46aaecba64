/* example.c -- a program of somebody else: opens a model, tokenizes a text, generates 8 tokens,
 * prints them. */
#include <nibble.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    nb_error err = {.offset = -1};
    const nb_model_options options = {.device = "cpu", .n_thread = 1};
    nb_model *model = NULL;
    nb_session *session = NULL;
    nb_generate_result result = {0};
    int32_t *ids = NULL;
    size_t n = 0;
    if (argc != 2)
        return NB_USAGE;
    nb_status st = nb_model_open(argv[1], &options, &model, &err);
    if (st == NB_OK)
        st = nb_model_tokenize(model, "the heath", 9, NB_TEXT_BOS, &ids, &n, &err);
    if (st == NB_OK)
        st = nb_session_open(model, 1, 64, &session, &err);
    const nb_generate_options how = {
        .prompt = ids, .n_prompt = n, .n_predict = 8, .ignore_end = true};
    if (st == NB_OK)
        st = nb_generate(session, &how, &result, &err);
    for (size_t i = 0; i < result.n_token; i++)
        printf("%d%c", (int)result.tokens[i], i + 1 < result.n_token ? ' ' : '\n');
    if (st != NB_OK)
        fprintf(stderr, "example: %s\n", err.message);
    nb_generate_result_free(&result);
    nb_session_close(session);
    nb_free(ids);
    nb_model_close(model);
    return (int)st;
}
