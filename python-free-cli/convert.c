/* convert.c -- `nibble convert MODEL -o OUT`: the same model in another container or other number
 * formats. */
#include "base/status.h"
#include "out.h"

#include <signal.h>
#include <unistd.h>

static const nb_flag flags[] = {
    {"output", 'o', "OUT", "the file or folder to write"},
    {"format", 0, "FORMAT",
     "gguf, plain, gptq, gptq_v2, awq, compressed-tensors (default by OUT: gguf or plain, floats)"},
    {"grid", 0, "f16|bf16|q8_0|...",
     "number format of the matrices (default: as they are); an unknown one lists them"},
    {"max-shard-size", 0, "SIZE", "data in one file of a folder, at most (default 5GB)"},
    {NULL, 0, NULL, NULL},
};

static volatile sig_atomic_t interrupted;
static volatile int stop;

static void on_signal(int s)
{
    if (interrupted)
        _exit(128 + s);
    interrupted = s;
    stop = 1;
}

static void show(void *arg, int32_t layer, int32_t n_layer)
{
    (void)arg;
    fprintf(stderr, "\r\x1b[K[%d/%d]%s", layer, n_layer, layer == n_layer ? "\n" : "");
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_convert_result r = {.n_left = 0};
    nb_convert_options o = {.model = a->n_operand ? a->operand[0] : NULL,
                            .out = nb_flag_text(a, "output"),
                            .format = nb_flag_text(a, "format"),
                            .grid = nb_flag_text(a, "grid"),
                            .allow_nonfinite = nb_flag_on(a, "allow-nonfinite"),
                            .stop = &stop,
                            .progress =
                                nb_flag_on(a, "quiet") || !isatty(STDERR_FILENO) ? NULL : show};
    nb_status st = nb_need_operand(a, "MODEL", err);
    if (st == NB_OK)
        st = nb_flag_int(a, "threads", 1, 1024, &o.n_thread, err);
    if (st == NB_OK)
        st = nb_flag_size(a, "max-shard-size", &o.max_shard_bytes, err);
    if (st == NB_OK) {
        signal(SIGINT, on_signal);
        signal(SIGTERM, on_signal);
        st = nb_convert(&o, &r, err);
    }
    if (st == NB_OK && r.n_left)
        fprintf(
            stderr,
            "nibble: note: %lld tensors have no place in the file and stay behind, such as %s\n",
            (long long)r.n_left, r.left);
    if (st == NB_OK && nb_flag_on(a, "json"))
        printf("{\"format\":\"%s\",\"grid\":\"%s\",\"bytes\":%lld,\"tensors\":%lld,\"bits_per_"
               "weight\":%.4f,\"seconds\":%.3f}\n",
               r.format, r.grid, (long long)r.bytes, (long long)r.n_tensor, r.bits_per_weight,
               r.seconds);
    else if (st == NB_OK)
        printf("%s: %lld bytes, %lld tensors, %.3f bits a weight, %.1f s\n", r.format,
               (long long)r.bytes, (long long)r.n_tensor, r.bits_per_weight, r.seconds);
    return st == NB_INTERRUPTED ? (nb_status)(128 + interrupted) : st;
}

const nb_command nb_command_convert = {
    .name = "convert",
    .operands = "MODEL -o OUT",
    .summary = "Writes the same model in another container or other number formats.",
    .flags = flags,
    .run = run,
    .n_operand = 1};
