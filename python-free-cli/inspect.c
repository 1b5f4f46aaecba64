/* inspect.c -- `nibble inspect PATH`: what a checkpoint holds. */
#include "base/status.h"
#include "out.h"

#include <string.h>

static const nb_flag flags[] = {
    {"tensors", 0, NULL, "a line per tensor: name, type, shape, bytes"},
    {"verify", 0, NULL,
     "check every tensor for NaN and Inf, and against the manifest beside it; exit 1 names what "
     "differs"},
    {NULL, 0, NULL, NULL},
};

static void print_tensors(const nb_checkpoint *c, bool json)
{
    nb_checkpoint_tensor t;
    for (int64_t i = 0; nb_checkpoint_get_tensor(c, i, &t); i++) {
        if (json) {
            printf("%s{\"name\":", i ? "," : "");
            nb_put_json(stdout, t.name, strlen(t.name));
            printf(",\"type\":\"%s\",\"shape\":[", t.type);
        } else
            printf("%-44s %-6s [", t.name, t.type);
        for (int d = 0; d < t.n_dim; d++)
            printf("%s%lld", d ? "," : "", (long long)t.shape[d]);
        printf(json ? "],\"bytes\":%lld}" : "] %lld\n", (long long)t.bytes);
    }
}

/* manifest: whether one was looked at; NULL: nothing was verified. */
static void print_json(const nb_checkpoint *c, const nb_checkpoint_info *info, const bool *manifest)
{
    const char *key = NULL, *value = NULL;
    printf("{\"format\":\"%s\",\"scheme\":", info->format);
    /* one that is not read is called as its file calls it */
    nb_put_json(stdout, info->scheme, strlen(info->scheme));
    printf(",\"arch\":");
    nb_put_json(stdout, info->arch, strlen(info->arch));
    printf(",\"params\":%lld,\"bytes\":%lld,\"bits_per_weight\":%.4f,\"metadata\":{",
           (long long)info->n_param, (long long)info->bytes, info->bits_per_weight);
    for (int64_t i = 0; nb_checkpoint_get_metadata(c, i, &key, &value); i++) {
        if (i)
            putchar(',');
        nb_put_json(stdout, key, strlen(key));
        putchar(':');
        nb_put_json_value(stdout, value);
    }
    printf("},\"tensors\":[");
    print_tensors(c, true);
    putchar(']');
    if (manifest)
        printf(",\"verified\":true,\"manifest\":%s", *manifest ? "true" : "false");
    printf("}\n");
}

/* A key's value, of which the first 100 bytes say enough. */
static void print_value(const char *value)
{
    char head[104];
    size_t n = strlen(value);
    const bool cut = n > 100;
    if (cut)
        for (n = 100; n > 96 && (value[n] & 0xc0) == 0x80;) /* no half of a character */
            n--;
    snprintf(head, sizeof head, "%.*s", (int)(cut ? n : sizeof head - 1), value);
    nb_put_json_value(stdout, head);
    printf("%s\n", cut ? "..." : "");
}

static void print_text(const nb_checkpoint *c, const nb_checkpoint_info *info, bool tensors)
{
    const char *key = NULL, *value = NULL;
    char scheme[160];
    /* a file's own word; architecture and keys come escaped */
    nb_escape(scheme, (int64_t)sizeof scheme, info->scheme, (int64_t)strlen(info->scheme));
    printf("format           %s\nscheme           %s\narchitecture     %s\nparameters       "
           "%lld\nbytes            %lld\nbits per weight  %.4f\ntensors          %lld\n",
           info->format, scheme, info->arch, (long long)info->n_param, (long long)info->bytes,
           info->bits_per_weight, (long long)info->n_tensor);
    for (int64_t i = 0; nb_checkpoint_get_metadata(c, i, &key, &value); i++) {
        printf("%-44s ", key);
        print_value(value);
    }
    if (tensors)
        print_tensors(c, false);
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_checkpoint *c = NULL;
    nb_checkpoint_info info;
    bool manifest = false;
    nb_status st = nb_need_operand(a, "PATH", err);
    if (st == NB_OK)
        st = nb_checkpoint_open(a->operand[0], &c, err);
    if (st == NB_OK) {
        nb_checkpoint_get_info(c, &info);
        if (info.warning)
            fprintf(stderr, "nibble: warning: %s\n", info.warning);
        if (nb_flag_on(a, "verify"))
            st = nb_checkpoint_verify(c, &manifest, err);
        if (st == NB_OK && nb_flag_on(a, "json"))
            print_json(c, &info, nb_flag_on(a, "verify") ? &manifest : NULL);
        else if (st == NB_OK) {
            print_text(c, &info, nb_flag_on(a, "tensors"));
            if (nb_flag_on(a, "verify"))
                printf("verified: %lld tensors hold numbers%s\n", (long long)info.n_tensor,
                       manifest ? ", each with the SHA-256 of its manifest"
                                : "; there is no manifest");
        }
    }
    nb_checkpoint_close(c);
    return st;
}

const nb_command nb_command_inspect = {.name = "inspect",
                                       .operands = "PATH",
                                       .summary = "Says what a checkpoint holds.",
                                       .flags = flags,
                                       .run = run,
                                       .n_operand = 1};
