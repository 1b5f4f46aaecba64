/* crash.c -- kills while a GGUF file is written (crash.h). */
#include "fault/crash.h"

static const crash_job job = {
    .out = "out.gguf",
    .beside = "out.gguf.manifest.json",
    .run = "quantize %T/tiny.gguf -o %T/out.gguf --calib %T/text.txt --samples 2 -c 16 -t 1 -q",
    .resume = "quantize -o %T/out.gguf --resume -t 1 -q",
    .inspect = "inspect %T/out.gguf --verify --json",
    .n_by_chance = 25};

static void writes(check *c)
{
    CHECK(c, killed_at(c, "before-write") > 20);
    CHECK(c, killed_at(c, "after-write") > 20);
}

static void syncs(check *c)
{
    /* calib, two layers, the ends, the file, the manifest */
    CHECK(c, killed_at(c, "before-sync") >= 5);
    CHECK(c, killed_at(c, "after-sync") >= 5);
}

static void appends(check *c)
{
    CHECK_EQ(c, killed_at(c, "before-append"), 5); /* begin, calib, two layers, the ends */
    CHECK_EQ(c, killed_at(c, "half-append"), 5);
    CHECK_EQ(c, killed_at(c, "after-append"), 5);
}

static void renames(check *c)
{
    /* calib; manifest into the work folder, the file, the manifest */
    CHECK_EQ(c, killed_at(c, "before-rename"), 4);
    CHECK_EQ(c, killed_at(c, "after-rename"), 4);
}

static void removal(check *c)
{
    /* what the journal speaks of, the journal, the lock */
    CHECK_EQ(c, killed_at(c, "before-remove"), 3);
}

static void same_as(check *c, const char *name, const char *want)
{
    size_t n = 0;
    char *p = folder_bytes(&here, name, &n);
    CHECK(c, n == strlen(want) && memcmp(p, want, n) == 0);
    free(p);
}

static void replaced(check *c)
{
    char message[256];
    folder_write(&here, "out.gguf", "old", 3);
    folder_write(&here, "out.gguf.manifest.json", "old", 3);
    setenv("NIBBLE_CRASH_AT", "before-rename:3", 1); /* the file's */
    CHECK_EQ(c, run(job.run, message), 128 + SIGKILL);
    unsetenv("NIBBLE_CRASH_AT");
    same_as(c, "out.gguf", "old");
    CHECK(c, !there("out.gguf.manifest.json")); /* no manifest that speaks of the other file */
    CHECK_EQ(c, run(job.resume, message), 0);
    same_results(c, "after the rename");
    remove_results();
}

static const check_case cases[] = {
    {"a kill at any write is gone on from", writes},
    {"a kill around any sync is gone on from", syncs},
    {"a kill around any record of the journal is gone on from", appends},
    {"a kill around any rename is gone on from", renames},
    {"a kill while the work folder is removed is gone on from", removal},
    {"a kill at any moment is gone on from", by_chance},
    {"the file that was there stays until the new one takes its name", replaced},
};

int main(int argc, char **argv)
{
    return crash_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
