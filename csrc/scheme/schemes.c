/* schemes.c -- the table of schemes and the questions that go to one of its rows. */
#include "scheme/part.h"

#include <stdio.h>
#include <string.h>

extern const nb_scheme nb_scheme_gptq, nb_scheme_gptq_v2, nb_scheme_awq,
    nb_scheme_compressed_tensors, nb_scheme_bnb;

const nb_scheme *const nb_schemes[] = {&nb_scheme_gptq, &nb_scheme_gptq_v2,
                                       &nb_scheme_awq,  &nb_scheme_compressed_tensors,
                                       &nb_scheme_bnb,  NULL};

const nb_scheme *nb_scheme_find(const char *name)
{
    for (const nb_scheme *const *s = nb_schemes; *s; s++)
        if (strcmp((*s)->name, name) == 0)
            return *s;
    return NULL;
}

nb_status nb_scheme_detect(const char *path, const nb_json_node *qc, nb_scheme_spec *out,
                           nb_error *err)
{
    const nb_config c = {path, qc, err};
    const char *method = NULL;
    char shown[160], names[128] = "";
    size_t at = 0;
    *out = (nb_scheme_spec){0};
    if (!qc || nb_json_typeof(qc) == NB_JSON_NULL)
        return NB_OK;
    if (nb_json_typeof(qc) != NB_JSON_OBJECT)
        return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)nb_json_offset(qc),
                          "quantization_config is no object");
    for (const nb_scheme *const *s = nb_schemes; *s; s++) {
        bool is = false;
        if (!(*s)->read_config)
            continue;
        const nb_status st = (*s)->read_config(path, qc, &is, out, err);
        if (st != NB_OK)
            return st;
        if (is) {
            out->config = qc;
            return NB_OK;
        }
        *out = (nb_scheme_spec){0};
        if (at < sizeof names)
            at += (size_t)snprintf(names + at, sizeof names - at, " %s", (*s)->name);
    }
    const nb_status st = nb_config_word(&c, "quant_method", "method", "none", &method);
    if (st != NB_OK)
        return st;
    return nb_fail_at(err, NB_UNSUPPORTED, path, (int64_t)nb_json_offset(qc),
                      "weights quantized by the method \"%s\" are not read; there are:%s",
                      nb_escape(shown, (int64_t)sizeof shown, method, (int64_t)strlen(method)),
                      names);
}

nb_status nb_scheme_module(const nb_scheme_spec *base, const char *path, const char *module,
                           bool *quantized, nb_scheme_spec *out, nb_error *err)
{
    *out = *base;
    *quantized = true;
    return base->config ? base->scheme->module(base, path, module, quantized, out, err) : NB_OK;
}

nb_status nb_scheme_check_parts(const nb_scheme_spec *s, const char *path, const char *name,
                                int64_t N, int64_t K,
                                const nb_tensor *const part[NB_SCHEME_TENSORS], nb_error *err)
{
    const nb_linear l = {
        .path = path, .name = name, .N = N, .K = K, .G = nb_scheme_groups(s, K), .err = err};
    return nb_parts_check(&l, s, part);
}

int64_t nb_scheme_bytes(const nb_scheme_spec *s, int64_t N, int64_t K)
{
    nb_scheme_tensor t[NB_SCHEME_TENSORS];
    const int n = s->scheme->tensors(s, N, K, t);
    int64_t bytes = 0;
    for (int i = 0; i < n; i++)
        bytes += t[i].written
                     ? t[i].shape[0] * (t[i].n_dim > 1 ? t[i].shape[1] : 1) * t[i].dtype->bytes
                     : 0;
    return bytes;
}
