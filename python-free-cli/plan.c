/* plan.c -- `nibble plan MODEL`: will it fit? */
#include "out.h"

static const nb_flag flags[] = {
    {"ctx", 'c', "N", "tokens a sequence (default: the model's)"},
    {"batch", 'b', "B", "sequences at once (default 1)"},
    {NULL, 0, NULL, NULL},
};

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_plan p;
    nb_plan_options o = {.model = a->n_operand ? a->operand[0] : NULL, .device = nb_flag_text(a, "device"), .exact = nb_flag_on(a, "exact")};
    nb_status st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ctx", 1, 1 << 24, &o.ctx, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "batch", 1, 1 << 16, &o.n_seq, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "threads", 1, 1024, &o.n_thread, err);
    if (st == NB_OK)
        st = nb_plan_model(&o, &p, err);
    if (st != NB_OK)
        return st;
    if (nb_flag_on(a, "json"))
        printf("{\"weights_bytes\":%lld,\"kv_bytes\":%lld,\"scratch_bytes\":%lld,\"total_bytes\":%lld,\"fits\":%s,\"memory_bytes\":%lld,\"ctx\":%d,\"batch\":%d}\n",
               (long long)p.weights_bytes, (long long)p.kv_bytes, (long long)p.scratch_bytes, (long long)p.total_bytes, p.fits ? "true" : "false",
               (long long)p.memory_bytes, p.ctx, p.n_seq);
    else
        printf("weights    %10.1f MiB\nKV cache   %10.1f MiB   %d x %d tokens\nscratch    %10.1f MiB\ntotal      %10.1f MiB   %s (%.1f MiB there)\n",
               (double)p.weights_bytes / 1048576, (double)p.kv_bytes / 1048576, p.n_seq, p.ctx, (double)p.scratch_bytes / 1048576,
               (double)p.total_bytes / 1048576, p.fits ? "fits" : "does not fit", (double)p.memory_bytes / 1048576);
    return NB_OK;
}

const nb_command nb_command_plan = {"plan", "MODEL", "Says what memory a model takes, without loading it.", flags, run, 1};
