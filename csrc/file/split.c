/* split.c -- a GGUF model in several files, as llama.cpp's gguf-split writes them.
 *
 *   PREFIX-00001-of-00003.gguf      split.no 0, split.count 3, split.tensors.count of all parts;
 *                                   the model's keys
 *   PREFIX-00002-of-00003.gguf      split.no 1, split.count 3, split.tensors.count; its own tensors
 *
 * Names count from 1, keys from 0. Each file is a whole GGUF of its own, with its own tensor
 * directory and data. Any of them opens all. */
#include "file/parts.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { kTail = sizeof "-00001-of-00003.gguf" - 1 };

/* The five digits at s, -1 when they are none. */
static int number(const char *s)
{
    int v = 0;
    for (int i = 0; i < 5; i++) {
        if (!isdigit((unsigned char)s[i]))
            return -1;
        v = 10 * v + s[i] - '0';
    }
    return v;
}

/* Part no (from 1) of count in the name; false when it is none. */
static bool name_says(const char *path, int *no, int *count)
{
    const size_t n = strlen(path);
    if (n < kTail)
        return false;
    const char *tail = path + n - kTail;
    if (tail[0] != '-' || strncmp(tail + 6, "-of-", 4) != 0 || !nb_ends_with(path, ".gguf"))
        return false;
    *no = number(tail + 1);
    *count = number(tail + 10);
    return *no >= 0 && *count >= 0;
}

/* The path of part i (from 0). */
static const char *path_of(nb_parts *p, const char *any, int64_t i, int64_t count, nb_error *err)
{
    const size_t n = strlen(any), room = n + 16;
    char *path = nb_arena_alloc(p->arena, room, 1, err);
    if (path)
        snprintf(path, room, "%.*s-%05lld-of-%05lld%s", (int)(n - kTail), any, (long long)i + 1,
                 (long long)count, any + n - 5);
    return path;
}

static nb_status all_there(const char *const *path, int64_t n, nb_error *err)
{
    nb_list missing = {.n = 0};
    struct stat sb;
    for (int64_t i = 0; i < n; i++) {
        const char *slash = strrchr(path[i], '/');
        if (stat(path[i], &sb) != 0)
            nb_list_add(&missing, slash ? slash + 1 : path[i]);
    }
    if (!missing.n)
        return NB_OK;
    return nb_fail_at(err, NB_NOT_FOUND, path[0], -1,
                      "%lld of the model's %lld parts %s not there: %s", (long long)missing.n,
                      (long long)n, missing.n == 1 ? "is" : "are", nb_list_end(&missing));
}

/* A part must say of itself what its name says, and may say nothing else about the model than the
 * first does. */
static nb_status agrees(const nb_gguf *first, const nb_gguf *g, int64_t i, int64_t count,
                        nb_error *err)
{
    static const char key[] = "general.architecture";
    nb_str a = {0}, b = {0};
    if (g->split_no != (uint64_t)i || g->split_count != (uint64_t)count)
        return nb_fail_at(err, NB_BAD_INPUT, g->path, -1,
                          "its name says part %lld of %lld, its keys say part %u of %u",
                          (long long)i + 1, (long long)count, g->split_no + 1, g->split_count);
    if (g->split_n_tensor >= 0 && first->split_n_tensor >= 0 &&
        g->split_n_tensor != first->split_n_tensor)
        return nb_fail_at(
            err, NB_BAD_INPUT, g->path, -1,
            "split.tensors.count is %lld, the first part's is %lld: a part of another model",
            (long long)g->split_n_tensor, (long long)first->split_n_tensor);
    if (g == first || !nb_gguf_find(g, key))
        return NB_OK;
    nb_status st = nb_gguf_string(g, key, &b, err);
    if (st == NB_OK)
        st = nb_gguf_string(first, key, &a, err);
    if (st != NB_OK || (a.n == b.n && memcmp(a.p, b.p, a.n) == 0))
        return st;
    char one[64], other[64];
    return nb_fail_at(err, NB_BAD_INPUT, g->path, nb_gguf_find(g, key)->offset,
                      "architecture %s, the first part's is %s: a part of another model",
                      nb_escape(other, (int64_t)sizeof other, b.p, (int64_t)b.n),
                      nb_escape(one, (int64_t)sizeof one, a.p, (int64_t)a.n));
}

static nb_status open_others(nb_parts *p, const char *const *path, int64_t given, nb_error *err)
{
    nb_status st = NB_OK;
    int64_t n_tensor = 0;
    for (int64_t i = 0; i < p->n && st == NB_OK; i++)
        if (i != given)
            st = nb_part_open_gguf(p, i, path[i], err);
    for (int64_t i = 0; i < p->n && st == NB_OK; i++) {
        st = agrees(p->part[0].gguf, p->part[i].gguf, i, p->n, err);
        n_tensor += p->part[i].gguf->n_tensor;
    }
    const int64_t promised = st == NB_OK ? p->part[0].gguf->split_n_tensor : -1;
    if (promised >= 0 && promised != n_tensor)
        st = nb_fail_at(err, NB_BAD_INPUT, p->part[0].path,
                        nb_gguf_find(p->part[0].gguf, "split.tensors.count")->offset,
                        "%lld tensors in all, the parts hold %lld", (long long)promised,
                        (long long)n_tensor);
    return st;
}

nb_status nb_split_open(nb_parts *p, nb_error *err)
{
    const nb_part given = p->part[0];
    const int64_t count = given.gguf->split_count, at = given.gguf->split_no;
    int no = 0, of = 0;
    if (!name_says(given.path, &no, &of) || no != at + 1 || of != count) {
        const nb_status st =
            nb_fail_at(err, NB_BAD_INPUT, given.path, -1,
                       "part %lld of a model in %lld files, and its name does not say so",
                       (long long)at + 1, (long long)count);
        nb_hint(err, "its name must end in -%05lld-of-%05lld.gguf, like those of the other parts",
                (long long)at + 1, (long long)count);
        return st;
    }
    nb_status st = nb_parts_begin(p, count, err);
    if (st != NB_OK)
        return st;
    p->part[0] = (nb_part){0};
    p->part[at] = given;
    const char **path =
        nb_alloc_zero((size_t)count, sizeof *path, "the names of a split model's files", err);
    if (!path)
        return NB_NO_ROOM;
    for (int64_t i = 0; i < count && st == NB_OK; i++)
        if (!(path[i] = path_of(p, given.path, i, count, err)))
            st = NB_NO_ROOM;
    if (st == NB_OK)
        st = all_there(path, count, err);
    if (st == NB_OK)
        st = open_others(p, path, at, err);
    free(path);
    return st;
}
