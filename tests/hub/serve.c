/* serve.c -- the fake hub as a program, for scripts:
 *
 *   fake_hub FOLDER PORTFILE [FAULT]     serves FOLDER/ORG/NAME/FILE; writes its port to PORTFILE;
 *                                        ends with its standard input
 *
 * .safetensors and .gguf files are large ones: the hub sends them on to its other port. FAULT, of
 * those: down, cut, wrong, stall. */
#include "hub/fake_hub.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kMost = 100 };
static fake_file files[kMost];
static size_t n_file;

static char *copy(const char *s)
{
    char *p = strdup(s);
    if (!p)
        exit(1);
    return p;
}

static void add(const char *path, const char *repo, const char *name, fake_fault fault)
{
    struct stat sb;
    FILE *f = fopen(path, "rb");
    if (!f || fstat(fileno(f), &sb) != 0 || !S_ISREG(sb.st_mode) || n_file == kMost) {
        perror(path);
        exit(1);
    }
    char *p = malloc((size_t)sb.st_size + 1);
    const bool large = strstr(name, ".safetensors") || strstr(name, ".gguf");
    if (!p || fread(p, 1, (size_t)sb.st_size, f) != (size_t)sb.st_size)
        exit(1);
    fclose(f);
    files[n_file++] = (fake_file){.repo = copy(repo),
                                  .path = copy(name),
                                  .p = p,
                                  .n = (size_t)sb.st_size,
                                  .lfs = large,
                                  .fault = fault != FAKE_SOUND && large ? fault
                                           : large                      ? FAKE_REDIRECT
                                                                        : FAKE_SOUND};
}

/* depth 0: FOLDER, of ORGs; 1: of NAMEs; 2: of files */
static void walk(const char *folder, const char *repo, int depth, fake_fault fault)
{
    DIR *d = opendir(folder);
    for (const struct dirent *e; d && (e = readdir(d));) {
        char path[2048], inner[600];
        if (e->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%.1500s/%s", folder, e->d_name);
        snprintf(inner, sizeof inner, "%.256s%s%.256s", repo, depth == 1 ? "/" : "", e->d_name);
        if (depth == 2)
            add(path, repo, e->d_name, fault);
        else
            walk(path, inner, depth + 1, fault);
    }
    if (d)
        closedir(d);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        fake_fault fault;
    } faults[] = {{"down", FAKE_DOWN},
                  {"cut", FAKE_CUT_NO_RANGE},
                  {"wrong", FAKE_WRONG_BYTES},
                  {"stall", FAKE_STALL}};
    fake_fault fault = FAKE_SOUND;
    char part[2048], piece[64];
    if (argc < 3) {
        fprintf(stderr, "usage: fake_hub FOLDER PORTFILE [down|cut|wrong|stall]\n");
        return 2;
    }
    for (size_t i = 0; argc > 3 && i < sizeof faults / sizeof *faults; i++)
        if (strcmp(argv[3], faults[i].name) == 0)
            fault = faults[i].fault;
    walk(argv[1], "", 0, fault);
    fake_hub *h = fake_hub_open(files, n_file, 0);
    snprintf(part, sizeof part, "%.2000s.part", argv[2]);
    FILE *f = fopen(part, "w");
    if (!f || fprintf(f, "%d\n", fake_hub_port(h, 0)) < 0 || fclose(f) != 0 ||
        rename(part, argv[2]) != 0)
        return 1;
    while (read(0, piece, sizeof piece) > 0)
        continue;
    fake_hub_close(h);
    return 0;
}
