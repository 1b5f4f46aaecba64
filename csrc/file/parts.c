/* parts.c -- the files of a container, one by one; links and names that several of the openers
 * judge. */
#include "file/parts.h"

#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

nb_status nb_parts_begin(nb_parts *p, int64_t n, nb_error *err)
{
    nb_part *more = nb_alloc_zero((size_t)n, sizeof *more, "the files of a checkpoint", err);
    if (!more)
        return NB_NO_ROOM;
    /* the part that showed that there are more stays the first until the opener puts it in its
     * place */
    if (p->n)
        more[0] = p->part[0];
    free(p->part);
    p->part = more;
    p->n = n;
    return NB_OK;
}

static nb_status map(nb_parts *p, int64_t i, const char *path, nb_error *err)
{
    p->part[i].path = nb_arena_strdup(p->arena, path, strlen(path), err);
    return p->part[i].path ? nb_mapfile_open(path, &p->part[i].file, err) : NB_NO_ROOM;
}

nb_status nb_part_open_gguf(nb_parts *p, int64_t i, const char *path, nb_error *err)
{
    nb_part *part = &p->part[i];
    nb_status st = map(p, i, path, err);
    if (st == NB_OK)
        st = nb_gguf_parse(part->path, part->file->p, part->file->n, &part->gguf, err);
    if (st == NB_OK && part->gguf->end < part->file->n)
        nb_warn_of(p->warning, part->path, "%zu bytes behind the last tensor are ignored",
                   part->file->n - part->gguf->end);
    return st;
}

nb_status nb_part_open_safetensors(nb_parts *p, int64_t i, const char *path, nb_error *err)
{
    nb_part *part = &p->part[i];
    const nb_status st = map(p, i, path, err);
    return st == NB_OK
               ? nb_safetensors_parse(part->path, part->file->p, part->file->n, &part->st, err)
               : st;
}

void nb_parts_close(nb_parts *p)
{
    for (int64_t i = 0; i < p->n; i++) {
        nb_gguf_close(p->part[i].gguf);
        nb_safetensors_close(p->part[i].st);
        nb_mapfile_close(p->part[i].file);
    }
    free(p->part);
    p->part = NULL;
    p->n = 0;
}

void nb_warn_of(nb_text *w, const char *path, const char *format, ...)
{
    char text[300], shown[160];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    nb_text_printf(w, "%s%s: %s", w->n ? "; " : "",
                   nb_escape(shown, (int64_t)sizeof shown, path, (int64_t)strlen(path)), text);
}

const char *nb_path_in(nb_arena *a, const char *folder, size_t n, const char *name, nb_error *err)
{
    const size_t m = strlen(name);
    char *path = nb_arena_alloc(a, n + m + 2, 1, err);
    if (!path)
        return NULL;
    const bool slash = n && folder[n - 1] != '/';
    memcpy(path, folder, n);
    if (slash)
        path[n] = '/';
    memcpy(path + n + slash, name, m + 1);
    return path;
}

/* Does the real path lie in the folder of n bytes? */
static bool inside(const char *real, const char *folder, size_t n)
{
    return strncmp(real, folder, n) == 0 && (real[n] == '/' || (n && folder[n - 1] == '/'));
}

/* .../models--ORG--NAME/snapshots/COMMIT: the length of .../models--ORG--NAME/blobs' folder part, 0
 * when the path is none. */
static size_t repository(const char *real)
{
    static const char middle[] = "/snapshots/";
    for (const char *at = real; (at = strstr(at, middle)) != NULL; at++) {
        const char *start = at;
        while (start > real && start[-1] != '/')
            start--;
        if (strncmp(start, "models--", 8) == 0)
            return (size_t)(at - real);
    }
    return 0;
}

nb_status nb_link_check(const char *folder, const char *path, nb_error *err)
{
    struct stat sb;
    if (lstat(path, &sb) != 0 || !S_ISLNK(sb.st_mode))
        return NB_OK; /* opening it says what is wrong */
    char root[PATH_MAX], real[PATH_MAX], blobs[PATH_MAX + 8];
    if (!realpath(*folder ? folder : ".", root) || !realpath(path, real) ||
        inside(real, root, strlen(root)))
        return NB_OK; /* a link to nothing has no real path: opening it fails */
    const size_t n = repository(root);
    snprintf(blobs, sizeof blobs, "%.*s/blobs", (int)n, root);
    if (n && inside(real, blobs, strlen(blobs)))
        return NB_OK;
    const nb_status st =
        nb_fail_at(err, NB_BAD_INPUT, path, -1, "a link that leads out of its folder");
    nb_hint(err, "put the file itself there");
    return st;
}

void nb_list_add(nb_list *l, const char *name)
{
    char shown[160];
    nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name));
    const size_t n = strlen(shown);
    l->n++;
    if (l->at + n + 2 >= sizeof l->text - 32)
        return;
    l->at +=
        (size_t)snprintf(l->text + l->at, sizeof l->text - l->at, "%s%s", l->at ? ", " : "", shown);
    l->shown++;
}

const char *nb_list_end(nb_list *l)
{
    if (l->shown < l->n)
        snprintf(l->text + l->at, sizeof l->text - l->at, " and %lld more",
                 (long long)(l->n - l->shown));
    return l->text;
}

bool nb_ends_with(const char *s, const char *suffix)
{
    const size_t n = strlen(s), m = strlen(suffix);
    return n >= m && strcasecmp(s + n - m, suffix) == 0;
}

bool nb_is_pickle(const char *name)
{
    static const char *const ends[] = {".bin", ".pt", ".pth", ".ckpt", ".pkl"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        if (nb_ends_with(name, ends[i]))
            return true;
    return false;
}

nb_status nb_refuse_pickle(const char *path, nb_error *err)
{
    const nb_status st =
        nb_fail_at(err, NB_UNSUPPORTED, path, -1,
                   "a pickle, which is a program; only safetensors and GGUF are read");
    nb_hint(err, "ask the publisher for a safetensors file");
    return st;
}
