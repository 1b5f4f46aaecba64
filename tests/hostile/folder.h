/* folder.h -- a fresh folder of files for one test, and its end. */
#ifndef NB_TESTS_HOSTILE_FOLDER_H
#define NB_TESTS_HOSTILE_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct folder {
    char path[512];
} folder;

static inline folder folder_new(void)
{
    folder d;
    snprintf(d.path, sizeof d.path, "%s/test-XXXXXX", NB_BINARY_DIR);
    if (!mkdtemp(d.path))
        exit(1);
    return d;
}

/* FOLDER/NAME, in path. */
static inline const char *folder_in(const folder *d, const char *name, char path[1024])
{
    snprintf(path, 1024, "%s/%s", d->path, name);
    return path;
}

static inline void folder_write(const folder *d, const char *name, const void *p, size_t n)
{
    char path[1024];
    FILE *f = fopen(folder_in(d, name, path), "wb");
    if (!f || (n && fwrite(p, 1, n, f) != n) || fclose(f) != 0)
        exit(1);
}

/* Removes the folder and the files in it. */
static inline void folder_gone(const folder *d)
{
    char path[1024];
    DIR *dir = opendir(d->path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        unlink(folder_in(d, e->d_name, path));
    if (dir)
        closedir(dir);
    rmdir(d->path);
}

#endif
