/* quantize_formats.c -- which format each tensor of the output gets, and the sink that writes it. */
#include "api/quantize.h"
#include "convert/gguf_meta.h"
#include "convert/gguf_sink.h"

#include <stdlib.h>

static bool is_end(const nb_quantize_job *j, const nb_tensor *t)
{
    char name[NB_TENSOR_NAME];
    return t == nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_EMBED}, name) ||
           t == nb_family_tensor(j->m->family, j->m->container, (nb_slot){.role = NB_ROLE_OUTPUT}, name);
}

/* Of a folder only what the family names is carried over, its vectors as F32. */
static void choose_carried(nb_quantize_job *j)
{
    const nb_model *m = j->m;
    for (int64_t i = 0; i < m->container->n_tensor; i++)
        j->type[i] = NULL;
    for (int l = 0; l < m->hp.n_layer; l++)
        for (int r = 0; r < NB_ROLE_COUNT; r++)
            for (int e = 0; e < nb_model_n_slot(m, (nb_role)r); e++) {
                char name[NB_TENSOR_NAME];
                const nb_slot at = {.role = (nb_role)r, .layer = l, .expert = e};
                const nb_tensor *t = nb_model_has(m, at) ? nb_family_tensor(m->family, m->container, at, name) : NULL;
                if (t)
                    j->type[t - m->container->tensor] = nb_role_stays_f32(at.role) ? nb_dtype_by_name("f32") : t->dtype;
            }
}

/* Linears of the layers in range are of the grid, or F16 when their width is no multiple of its block (llama.cpp's fallback); embedding and head as asked;
 * everything else as it is. */
nb_status nb_quantize_choose_types(nb_quantize_job *j, nb_error *err)
{
    const nb_container *c = j->m->container;
    j->type = nb_alloc((size_t)c->n_tensor, sizeof *j->type, "formats", err);
    if (!j->type)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < c->n_tensor; i++)
        j->type[i] = c->tensor[i].dtype;
    if (c->kind == NB_CONTAINER_HF)
        choose_carried(j);
    for (int64_t i = 0; i < c->n_tensor; i++) {
        const nb_tensor *t = &c->tensor[i];
        if (t->n_dim == 2 && is_end(j, t) && j->embedding && t->shape[1] % j->embedding->block == 0)
            j->type[i] = j->embedding;
    }
    for (int l = j->o.layer_from; l < j->o.layer_to; l++)
        for (int g = 0; g < NB_GROUP_COUNT; g++) {
            nb_role role[3];
            char name[NB_TENSOR_NAME];
            for (int r = nb_group_roles((nb_group_id)g, role) - 1; r >= 0; r--) {
                const nb_tensor *t = nb_family_tensor(j->m->family, c, (nb_slot){.role = role[r], .layer = l}, name);
                if (t)
                    j->type[t - c->tensor] = nb_pipeline_fits(j->m, (nb_group_id)g, &j->p.grid) ? j->p.grid.dtype : nb_dtype_by_name("f16");
            }
        }
    return NB_OK;
}

static const nb_dtype *type_of(void *arg, const nb_tensor *t)
{
    const nb_quantize_job *j = arg;
    return j->type[t - j->m->container->tensor];
}

nb_status nb_quantize_open_sink(nb_quantize_job *j, bool resume, bool measure, nb_sink **out, nb_error *err)
{
    const nb_gguf_sink_spec spec = {.model = j->m, .out = j->o.out, .work = j->work && !measure ? nb_workdir_path(j->work) : NULL, .resume = resume,
                                    .measure = measure, .file_type = nb_gguf_file_type(j->p.grid.dtype), .choose = type_of, .arg = j,
                                    .n_thread = j->p.n_thread};
    return nb_gguf_sink_open(&spec, out, err);
}

void nb_quantize_count_bits(const nb_quantize_job *j, nb_quantize_result *r)
{
    double all = 0, all_n = 0, linear = 0, linear_n = 0;
    for (int64_t i = 0; i < j->m->container->n_tensor; i++) {
        const nb_tensor *t = &j->m->container->tensor[i];
        double n = 1;
        if (!j->type[i])
            continue;
        for (int d = 0; d < t->n_dim; d++)
            n *= (double)t->shape[d];
        const double bits = 8.0 * j->type[i]->bytes / j->type[i]->block * n;
        all += bits;
        all_n += n;
        if (!(t->n_dim == 2 && is_end(j, t))) {
            linear += bits;
            linear_n += n;
        }
    }
    r->bits_per_weight = all / all_n;
    r->bits_per_weight_linears = linear_n > 0 ? linear / linear_n : 0;
}
