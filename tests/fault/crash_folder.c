/* crash_folder.c -- kills while a folder of packed linears is written, in several files
 * (crash.h). */
#include "fault/crash.h"

static const crash_job job = {.out = "out",
                              .run = "quantize %T/tiny.gguf -o %T/out --format gptq --group 32 "
                                     "--act-order --max-shard-size 40K --calib %T/text.txt "
                                     "--samples 2 -c 16 -t 1 -q",
                              .resume = "quantize -o %T/out --resume -t 1 -q",
                              .inspect = "inspect %T/out --verify --json",
                              .n_by_chance = 25};

static void writes(check *c)
{
    CHECK(c, killed_at(c, "before-write") > 60); /* a module's tensors, headers, texts */
    CHECK(c, killed_at(c, "after-write") > 60);
}

static void syncs(check *c)
{
    CHECK(c, killed_at(c, "before-sync") >= 10);
    CHECK(c, killed_at(c, "after-sync") >= 10);
}

static void appends(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-append"), 5); /* begin, calib, two layers, the ends */
    CHECK_EQ(c, killed_at(c, "half-append"), 5);
    CHECK_EQ(c, killed_at(c, "after-append"), 5);
}

static void renames(check *c)
{
    /* calib, files of tensors, their index, texts, the manifest, the folder */
    CHECK(c, killed_at(c, "before-rename") >= 10);
    CHECK(c, killed_at(c, "after-rename") >= 10);
}

static void removal(check *c)
{
    CHECK(c, killed_at(c, "before-remove") >= 1);
}

static const check_case cases[] = {
    {"a kill at any write is gone on from", writes},
    {"a kill around any sync is gone on from", syncs},
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill around any rename is gone on from", renames},
    {"a kill while the work folder is removed is gone on from", removal},
    {"a kill at any moment is gone on from", by_chance},
};

int main(int argc, char **argv)
{
    return crash_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
