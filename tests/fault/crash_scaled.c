/* crash_scaled.c -- kills of a run that scales inputs (AWQ before GPTQ): what took up scales, the
 * norms, is read back when it is gone on with, and the original stream goes on without them
 * (crash.h). */
#include "fault/crash.h"

static const crash_job job = {.out = "out",
                              .run =
                                  "quantize %M/tiny-llama -o %T/out --method awq-gptq --format "
                                  "gptq --group 32 --calib %T/text.txt --samples 2 -c 16 -t 1 -q",
                              .resume = "quantize -o %T/out --resume -t 1 -q",
                              .inspect = "inspect %T/out --verify --json",
                              .n_by_chance = 5};

static void appends(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-append"), 5); /* begin, calib, two layers, the ends */
    CHECK_EQ(c, killed_at(c, "after-append"), 5);
}

static const check_case cases[] = {
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill at any moment is gone on from", by_chance},
};

int main(int argc, char **argv)
{
    if (!crash_begin())
        return 1;
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
