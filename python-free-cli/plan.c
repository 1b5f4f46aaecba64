/* plan.c -- `nibble plan MODEL`: will it fit, and where? */
#include "out.h"

static const nb_flag flags[] = {
    {"ctx", 'c', "N", "tokens a sequence (default: the model's)"},
    {"batch", 'b', "B", "sequences at once (default 1)"},
    {NULL, 0, NULL, NULL},
};

static double mib(int64_t bytes)
{
    return (double)bytes / 1048576;
}

static void put_json(const nb_plan *p)
{
    printf("{\"weights_bytes\":%lld,\"kv_bytes\":%lld,\"scratch_bytes\":%lld,\"total_bytes\":%lld,"
           "\"fits\":%s,\"memory_bytes\":%lld,\"free_bytes\":%lld,"
           "\"ctx\":%d,\"batch\":%d,\"device\":\"%s\",\"n_layer\":%d,\"offload\":%d",
           (long long)p->weights_bytes, (long long)p->kv_bytes, (long long)p->scratch_bytes,
           (long long)p->total_bytes, p->fits ? "true" : "false", (long long)p->memory_bytes,
           (long long)p->free_bytes, p->ctx, p->n_seq, p->device, p->n_layer, p->offload);
    if (p->offload)
        printf(",\"cpu\":{\"weights_bytes\":%lld,\"kv_bytes\":%lld,\"scratch_bytes\":%lld,\"total_"
               "bytes\":%lld,\"memory_bytes\":%lld,\"free_bytes\":%lld}",
               (long long)p->cpu.weights_bytes, (long long)p->cpu.kv_bytes,
               (long long)p->cpu.scratch_bytes, (long long)p->cpu.total_bytes,
               (long long)p->cpu.memory_bytes, (long long)p->cpu.free_bytes);
    printf("}\n");
}

static void put_text(const nb_plan *p)
{
    const char *fits = p->fits ? "fits"
                       : p->memory_bytes && p->total_bytes > p->memory_bytes
                           ? "does not fit"
                           : "does not fit beside what is in memory now";
    if (!p->offload) {
        printf("weights    %10.1f MiB\nKV cache   %10.1f MiB   %d x %d tokens\nscratch    %10.1f "
               "MiB\ntotal      %10.1f MiB   %s (%.1f MiB free of %.1f MiB)\n",
               mib(p->weights_bytes), mib(p->kv_bytes), p->n_seq, p->ctx, mib(p->scratch_bytes),
               mib(p->total_bytes), fits, mib(p->free_bytes), mib(p->memory_bytes));
        return;
    }
    printf("           %10s MiB %10s MiB   layers 0:%d of %d on cpu\n", p->device, "cpu",
           p->offload, p->n_layer);
    printf("weights    %10.1f     %10.1f\nKV cache   %10.1f     %10.1f       %d x %d "
           "tokens\nscratch    %10.1f     %10.1f\n"
           "total      %10.1f     %10.1f       %s\nfree       %10.1f     %10.1f\n",
           mib(p->weights_bytes), mib(p->cpu.weights_bytes), mib(p->kv_bytes), mib(p->cpu.kv_bytes),
           p->n_seq, p->ctx, mib(p->scratch_bytes), mib(p->cpu.scratch_bytes), mib(p->total_bytes),
           mib(p->cpu.total_bytes), fits, mib(p->free_bytes), mib(p->cpu.free_bytes));
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_plan p;
    nb_plan_options o = {.model = a->n_operand ? a->operand[0] : NULL,
                         .device = nb_flag_text(a, "device"),
                         .exact = nb_flag_on(a, "exact"),
                         .kv_type = nb_flag_text(a, "kv-type")};
    nb_status st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_flag_int(a, "ctx", 1, 1 << 24, &o.ctx, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "batch", 1, 1 << 16, &o.n_seq, err);
    if (st == NB_OK)
        st = nb_flag_int(a, "threads", 1, 1024, &o.n_thread, err);
    if (st == NB_OK)
        st = nb_offload_from_args(a, &o.offload, err);
    if (st == NB_OK)
        st = nb_plan_model(&o, &p, err);
    if (st != NB_OK)
        return st;
    if (nb_flag_on(a, "json"))
        put_json(&p);
    else
        put_text(&p);
    return NB_OK;
}

const nb_command nb_command_plan = {
    .name = "plan",
    .operands = "MODEL",
    .summary = "Says what memory a model takes and where, without loading it.",
    .flags = flags,
    .run = run,
    .n_operand = 1};
