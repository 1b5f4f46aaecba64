/* replay.c -- runs a fuzz target without libFuzzer: every file of its corpus, and kMutants seeded
 * mutations of each (bytes flipped, set, removed, the end cut), so that any compiler and sanitizer
 * sees some of what the fuzzer sees.
 *
 *   test_fuzz_json [FILE ...]     without files: tests/fuzz/corpus/TARGET */
#include "base/random.h"
#include "fuzz/fuzz.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { kMaxFile = 1 << 20, kMutants = 2000 };

/* The target sees an allocation of exactly n bytes. */
static void run(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);
    if (!copy)
        exit(1);
    if (n)
        memcpy(copy, p, n);
    (void)LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static size_t mutate(uint8_t *p, size_t n, nb_rng *r)
{
    for (uint64_t k = nb_rng_u64(r) % 4 + 1; k && n; k--) {
        const size_t at = nb_rng_u64(r) % n;
        switch (nb_rng_u64(r) % 6) {
        case 0:
        case 1:
            p[at] ^= (uint8_t)(1u << nb_rng_u64(r) % 8);
            break;
        case 2:
            p[at] = (uint8_t)nb_rng_u64(r);
            break;
        case 3:
            p[at] = (uint8_t)(nb_rng_u64(r) % 2 ? 0 : 0xff);
            break;
        case 4:
            memmove(p + at, p + at + 1, n - at - 1);
            n--;
            break;
        default:
            n = nb_rng_u64(r) % 8 ? n : at;
        }
    }
    return n;
}

static int replay(const char *path, uint64_t seed)
{
    static const size_t room = kMaxFile;
    nb_rng r;
    nb_rng_seed(&r, seed);
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(2 * room);
    if (!f || !p)
        exit(1);
    const size_t n = fread(p, 1, room, f);
    fclose(f);
    run(p, n);
    for (int i = 0; i < kMutants && n; i++) {
        uint8_t *mutant = p + room;
        memcpy(mutant, p, n);
        run(mutant, mutate(mutant, n, &r));
    }
    free(p);
    return 1;
}

int main(int argc, char **argv)
{
    int n = 0;
    char path[1200];
    for (int i = 1; i < argc; i++)
        n += replay(argv[i], 1);
    if (argc == 1) {
        DIR *dir = opendir(NB_FUZZ_CORPUS);
        for (const struct dirent *e; dir && (e = readdir(dir));)
            if (e->d_name[0] != '.') {
                uint64_t seed = 0; /* by name, so that the order of the folder does not matter */
                for (const char *s = e->d_name; *s; s++)
                    seed = seed * 31 + (unsigned char)*s;
                snprintf(path, sizeof path, "%s/%s", NB_FUZZ_CORPUS, e->d_name);
                n += replay(path, seed);
            }
        if (dir)
            closedir(dir);
    }
    printf("%d inputs, %d mutants of each\n", n, (int)kMutants);
    return n ? 0 : 1;
}
