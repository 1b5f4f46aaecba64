/* crash_experts.c -- kills of the quantization of a mixture, with scaled inputs (AWQ before GPTQ):
 * all experts of a layer, the router among what took up scales, and what each expert was told are
 * read back when it is gone on with (crash.h). */
#include "fault/crash.h"

static const crash_job job = {.out = "out.gguf",
                              .beside = "out.gguf.manifest.json",
                              .run = "quantize %M/gguf-mixtral/model.gguf -o %T/out.gguf --method "
                                     "awq-gptq --calib %T/text.txt --samples 2 -c 16 -t 1 -q",
                              .resume = "quantize -o %T/out.gguf --resume -t 1 -q",
                              .inspect = "inspect %T/out.gguf --verify --json",
                              .n_by_chance = 5};

static void appends(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-append"), 5); /* begin, calib, two layers, the ends */
    CHECK_EQ(c, killed_at(c, "after-append"), 5);
}

static void syncs(check *c)
{
    CHECK(c, killed_at(c, "after-sync") >= 5);
}

static const check_case cases[] = {
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill behind any sync is gone on from", syncs},
    {"a kill at any moment is gone on from", by_chance},
};

int main(int argc, char **argv)
{
    return crash_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
