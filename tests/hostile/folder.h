/* folder.h -- a fresh folder of files for one test, and its end. */
#ifndef NB_TESTS_HOSTILE_FOLDER_H
#define NB_TESTS_HOSTILE_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
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

/* Removes what is at path, folders with all that is in them; links are not followed. */
static inline void folder_remove(const char *path)
{
    char in[1024];
    struct stat sb;
    if (lstat(path, &sb) != 0)
        return;
    if (!S_ISDIR(sb.st_mode)) {
        unlink(path);
        return;
    }
    chmod(path, 0700); /* a test may have taken the right to change it */
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));)
        if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
            snprintf(in, sizeof in, "%.760s/%s", path, e->d_name) > 0)
            folder_remove(in);
    if (dir)
        closedir(dir);
    rmdir(path);
}

static inline int folder_shown(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

/* All bytes of the file at path, or of a folder's files in the order of their names, each behind
 * its name. *n = 0 and an empty text: it is not there. The caller frees it. */
static inline char *folder_read(const char *path, size_t *n)
{
    enum { kMost = 1 << 22 };
    char *p = calloc(1, kMost), in[1024];
    struct dirent **e = NULL;
    struct stat sb;
    *n = 0;
    if (!p)
        exit(1);
    const int many = stat(path, &sb) == 0 && S_ISDIR(sb.st_mode),
              count = many ? scandir(path, &e, folder_shown, alphasort) : 1;
    for (int i = 0; i < count; i++) {
        snprintf(in, sizeof in, "%.700s%s%.255s", path, many ? "/" : "", many ? e[i]->d_name : "");
        if (many)
            *n += (size_t)snprintf(p + *n, kMost - *n, "%s:", e[i]->d_name);
        FILE *f = fopen(in, "rb");
        *n += f ? fread(p + *n, 1, kMost - *n, f) : 0;
        if (f)
            fclose(f);
        if (many)
            free(e[i]);
    }
    free(e);
    return p;
}

/* The same of a name in the folder. */
static inline char *folder_bytes(const folder *d, const char *name, size_t *n)
{
    char path[1024];
    return folder_read(folder_in(d, name, path), n);
}

static inline void folder_gone(const folder *d)
{
    folder_remove(d->path);
}

#endif
