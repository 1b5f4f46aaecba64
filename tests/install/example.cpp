// example.cpp -- the same in C++17: every struct of the headers can begin as {0} or {}, and the
// calls link.
#include <cstdio>
#include <nibble.h>

template <class T> static bool empty(const T &t) // {0} left nothing but zeros
{
    const unsigned char *p = reinterpret_cast<const unsigned char *>(&t);
    for (std::size_t i = 0; i < sizeof t; i++)
        if (p[i])
            return false;
    return true;
}

#define BEGINS(type)                                                                               \
    {                                                                                              \
        static const type a = {0}, b = {};                                                         \
        if (!empty(a) || !empty(b))                                                                \
            return 1;                                                                              \
    }

int main(int argc, char **argv)
{
    BEGINS(nb_error)
    BEGINS(nb_model_options)
    BEGINS(nb_model_info)
    BEGINS(nb_sampling)
    BEGINS(nb_generate_options)
    BEGINS(nb_generate_result)
    BEGINS(nb_eval_options)
    BEGINS(nb_eval_result)
    BEGINS(nb_quantize_options)
    BEGINS(nb_quantize_result)
    BEGINS(nb_convert_options)
    BEGINS(nb_convert_result)
    BEGINS(nb_plan_options)
    BEGINS(nb_plan)
    BEGINS(nb_checkpoint_info)
    BEGINS(nb_checkpoint_tensor)
    BEGINS(nb_bench_row)
    BEGINS(nb_bench_options)
    BEGINS(nb_kernel_row)
    BEGINS(nb_bench_kernels_options)
    BEGINS(nb_pull_options)
    BEGINS(nb_pull_result)
    BEGINS(nb_doctor_report)
    if (argc != 2)
        return NB_USAGE;
    nb_error err = {0};
    nb_model_options options = {0};
    options.device = "cpu";
    options.n_thread = 1;
    nb_model *model = nullptr;
    nb_session *session = nullptr;
    nb_generate_result result = {0};
    int32_t *ids = nullptr;
    std::size_t n = 0;
    nb_status st = nb_model_open(argv[1], &options, &model, &err);
    if (st == NB_OK)
        st = nb_model_tokenize(model, "the heath", 9, NB_TEXT_BOS, &ids, &n, &err);
    if (st == NB_OK)
        st = nb_session_open(model, 1, 64, &session, &err);
    nb_generate_options how = {0};
    how.prompt = ids;
    how.n_prompt = n;
    how.n_predict = 8;
    how.ignore_end = true;
    if (st == NB_OK)
        st = nb_generate(session, &how, &result, &err);
    for (std::size_t i = 0; i < result.n_token; i++)
        std::printf("%d%c", static_cast<int>(result.tokens[i]),
                    i + 1 < result.n_token ? ' ' : '\n');
    if (st != NB_OK)
        std::fprintf(stderr, "example: %s\n", err.message);
    nb_generate_result_free(&result);
    nb_session_close(session);
    nb_free(ids);
    nb_model_close(model);
    return st;
}
