/* pull.c -- nb_pull: a repository of the hub into the cache.
 *
 *   listing -> what of it is wanted -> the commit -> is there room? -> up to four files at once:
 *       HEAD, blob, link -> the ref, last
 *
 * Until the ref is written the revision means what it meant before; a pull that ended half-way is
 * gone on with by the next. */
#include "base/memory.h"
#include "file/names.h"
#include "hub/hub_pull.h"
#include "nibble.h"

#include <fnmatch.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { kThreads = 4 };

/* Formats that nibble does not read, most of which are programs. */
static const char *const skipped[] = {"*.bin",     "*.pt",     "*.pth",  "*.ckpt",
                                      "*.pkl",     "*.h5",     "*.onnx", "*.onnx_data",
                                      "*.msgpack", "*.tflite", "*.ot"};

typedef struct job {
    const nb_pull_options *o;
    nb_hub_net net;
    nb_hub_name name;
    nb_tree tree;
    bool *cached; /* of each file of the tree; the tree holds only what is wanted */
    bool *asked;  /* its HEAD was read */
    bool *twin;   /* another file has the same bytes, and with them the same blob: that one fetches
                 * it */
    char commit[64];
    char repository[NB_HUB_PATH], locks[NB_HUB_PATH + 16];
    /* of the threads */
    pthread_mutex_t lock;
    size_t next;
    int64_t done, total; /* bytes of what is fetched */
    nb_status st;        /* the first that failed */
    nb_error err;
} job;

/* ---- what is wanted ---- */

static bool matches(const char *const *pattern, size_t n, const char *path)
{
    for (size_t i = 0; i < n; i++)
        if (fnmatch(pattern[i], path, 0) == 0)
            return true;
    return false;
}

static int by_path(const void *a, const void *b)
{
    return strcmp(((const nb_tree_file *)a)->path, ((const nb_tree_file *)b)->path);
}

static nb_status choose(job *j, nb_error *err)
{
    const size_t all = j->tree.n;
    size_t n = 0;
    for (size_t i = 0; i < all; i++) {
        const char *path = j->tree.file[i].path;
        if (!matches(skipped, sizeof skipped / sizeof *skipped, path) &&
            (!j->o->n_include || matches(j->o->include, j->o->n_include, path)))
            j->tree.file[n++] = j->tree.file[i];
    }
    j->tree.n = n;
    if (n == 0)
        return nb_fail(err, NB_NOT_FOUND, "%s: none of its %zu files %s", j->o->name, all,
                       j->o->n_include ? "is wanted" : "is of a kind that nibble reads");
    qsort(j->tree.file, n, sizeof *j->tree.file, by_path);
    j->cached = nb_alloc_zero(n, sizeof *j->cached, "a list of files", err);
    j->asked = nb_alloc_zero(n, sizeof *j->asked, "a list of files", err);
    j->twin = nb_alloc_zero(n, sizeof *j->twin, "a list of files", err);
    return j->cached && j->asked && j->twin ? NB_OK : NB_NO_ROOM;
}

/* The commit, and size and hash of what the listing did not say. */
static nb_status ask(job *j, nb_http *h, nb_error *err)
{
    nb_status st = NB_OK;
    for (size_t i = 0; i < j->tree.n && st == NB_OK; i++) {
        nb_tree_file *f = &j->tree.file[i];
        if (j->commit[0] && f->size >= 0 && f->blob[0])
            continue;
        st = nb_tree_head(h, &j->name, f, j->commit, err);
        j->asked[i] = true;
    }
    return st;
}

/* Is it in the cache, as a blob or, where links fail, in its place? */
static bool is_cached(const job *j, const nb_tree_file *f)
{
    char path[NB_HUB_PATH + 1200];
    struct stat sb;
    if (nb_blob_there(j->repository, f->blob, f->size) < 0)
        return true;
    snprintf(path, sizeof path, "%s/snapshots/%s/%s", j->repository, j->commit, f->path);
    return lstat(path, &sb) == 0 && S_ISREG(sb.st_mode) && sb.st_size == f->size;
}

static const char *blob_at(const void *items, size_t i, size_t *n)
{
    const char *s = ((const nb_tree_file *)items)[i].blob;
    *n = strlen(s);
    return s;
}

static nb_status measure(job *j, nb_error *err)
{
    nb_hash_key key;
    nb_hash_key_draw(&key);
    nb_names *blobs = nb_names_open(j->tree.n, &key, blob_at, err);
    nb_status st = blobs ? NB_OK : NB_NO_ROOM;
    for (size_t i = 0; i < j->tree.n && st == NB_OK; i++) {
        j->cached[i] = is_cached(j, &j->tree.file[i]);
        j->twin[i] = !nb_names_add(blobs, j->tree.file, i);
        if (!j->cached[i] && !j->twin[i] &&
            __builtin_add_overflow(j->total, j->tree.file[i].size, &j->total))
            st = nb_fail(err, NB_NETWORK,
                         "%s: the sizes of its files add up to more than 2^63 bytes", j->o->name);
    }
    nb_names_close(blobs);
    return st;
}

static nb_status check_room(const job *j, nb_error *err)
{
    uint64_t room = 0, need = 0;
    nb_status st = nb_make_folders(j->repository, err);
    if (st == NB_OK)
        st = nb_free_bytes(j->repository, &room, err);
    for (size_t i = 0; i < j->tree.n && st == NB_OK; i++) {
        const nb_tree_file *f = &j->tree.file[i];
        const int64_t there =
            j->cached[i] || j->twin[i] ? f->size : nb_blob_there(j->repository, f->blob, f->size);
        need += there < f->size ? (uint64_t)(f->size - there) : 0;
    }
    if (st == NB_OK && need > room)
        st = nb_fail_at(err, NB_NO_ROOM, j->repository, -1,
                        "%llu bytes are to come, the disk has room for %llu: %llu are missing",
                        (unsigned long long)need, (unsigned long long)room,
                        (unsigned long long)(need - room));
    return st;
}

/* ---- the threads ---- */

typedef struct one {
    job *j;
    const nb_tree_file *f;
    int64_t done;
} one;

static void on_progress(void *arg, int64_t more)
{
    one *w = arg;
    job *j = w->j;
    pthread_mutex_lock(&j->lock);
    w->done += more;
    j->done += more;
    if (j->o->progress)
        j->o->progress(j->o->arg, w->f->path, w->done, w->f->size, j->done, j->total);
    pthread_mutex_unlock(&j->lock);
}

static nb_status fetch_one(job *j, nb_http *h, size_t i, nb_error *err)
{
    nb_tree_file *f = &j->tree.file[i];
    char url[NB_URL], commit[64], what[2 * NB_HUB_NAME + 200];
    one w = {.j = j, .f = f};
    nb_status st = NB_OK;
    if (j->twin[i])
        return NB_OK;
    snprintf(commit, sizeof commit, "%s", j->commit);
    snprintf(what, sizeof what, "%s/%s: %.128s", j->name.org, j->name.repo, f->path);
    if (!j->cached[i]) {
        if (!j->asked[i])
            st = nb_tree_head(h, &j->name, f, commit, err);
        if (st == NB_OK)
            st = nb_tree_url(&j->net, &j->name, j->commit, f->path, url, err);
        const nb_blob b = {.what = what,
                           .url = url,
                           .repository = j->repository,
                           .locks = j->locks,
                           .name = f->blob,
                           .size = f->size,
                           .progress = on_progress,
                           .arg = &w};
        if (st == NB_OK)
            st = nb_blob_fetch(h, &b, err);
    }
    if (st == NB_OK && nb_blob_there(j->repository, f->blob, f->size) < 0)
        st = nb_place(j->repository, j->commit, f->path, f->blob, err);
    return st;
}

static bool take(job *j, size_t *i)
{
    pthread_mutex_lock(&j->lock);
    const bool more = j->st == NB_OK && j->next < j->tree.n && !atomic_load(&j->net.stop);
    *i = j->next;
    j->next += more;
    pthread_mutex_unlock(&j->lock);
    return more;
}

static void failed(job *j, nb_status st, const nb_error *err)
{
    pthread_mutex_lock(&j->lock);
    if (j->st == NB_OK) {
        j->st = st;
        j->err = *err;
        atomic_store(&j->net.stop, true);
    }
    pthread_mutex_unlock(&j->lock);
}

static void *work(void *arg)
{
    job *j = arg;
    size_t i = 0;
    nb_error err = {.offset = -1};
    nb_http *h = nb_http_open(&j->net, &err);
    if (!h)
        failed(j, NB_NO_ROOM, &err);
    while (h && take(j, &i)) {
        const nb_status st = fetch_one(j, h, i, &err);
        if (st != NB_OK)
            failed(j, st, &err);
    }
    nb_http_close(h);
    return NULL;
}

static nb_status fetch_all(job *j, nb_error *err)
{
    pthread_t thread[kThreads];
    int n = 0;
    while (n + 1 < kThreads && (size_t)n + 1 < j->tree.n &&
           pthread_create(&thread[n], NULL, work, j) == 0)
        n++;
    work(j); /* this thread is one of them: it works without others as well */
    for (int i = 0; i < n; i++)
        pthread_join(thread[i], NULL);
    if (j->st == NB_OK && atomic_load(&j->net.stop))
        return nb_fail(err, NB_INTERRUPTED, "%s: interrupted", j->o->name);
    if (j->st != NB_OK && err)
        *err = j->err;
    for (size_t i = 0; i < j->tree.n && j->st == NB_OK; i++)
        if (j->twin[i])
            j->st =
                nb_place(j->repository, j->commit, j->tree.file[i].path, j->tree.file[i].blob, err);
    return j->st;
}

/* ---- the whole ---- */

static nb_status fill(const job *j, nb_pull_result *r, nb_error *err)
{
    size_t text = strlen(j->repository) + 64;
    snprintf(r->commit, sizeof r->commit, "%.47s", j->commit);
    for (size_t i = 0; i < j->tree.n; i++)
        text += strlen(j->tree.file[i].path) + 1;
    r->files = nb_alloc_zero(j->tree.n, sizeof *r->files, "a list of files", err);
    r->path = nb_alloc(text, 1, "a list of files", err); /* the path, then the names */
    if (!r->files || !r->path)
        return NB_NO_ROOM;
    char *at = r->path + snprintf(r->path, text, "%s/snapshots/%s", j->repository, j->commit) + 1;
    for (size_t i = 0; i < j->tree.n; i++) {
        const nb_tree_file *f = &j->tree.file[i];
        const size_t n = strlen(f->path) + 1;
        memcpy(at, f->path, n);
        r->files[r->n_file++] =
            (nb_pull_file){.name = at, .bytes = f->size, .cached = j->cached[i]};
        r->bytes += f->size;
        at += n;
    }
    r->fetched_bytes = j->total;
    return NB_OK;
}

static nb_status pull(job *j, nb_pull_result *r, nb_error *err)
{
    nb_http *h = nb_http_open(&j->net, err);
    nb_status st = h ? nb_tree_read(h, &j->name, &j->tree, err) : NB_NO_ROOM;
    if (st == NB_OK)
        st = choose(j, err);
    if (st == NB_OK)
        st = ask(j, h, err);
    nb_http_close(h);
    if (st == NB_OK)
        st = measure(j, err);
    if (st == NB_OK && !j->o->dry_run) {
        st = check_room(j, err);
        if (st == NB_OK)
            st = fetch_all(j, err);
        if (st == NB_OK && !nb_hub_is_commit(j->name.revision))
            st = nb_write_ref(j->repository, j->name.revision, j->commit, err);
    }
    return st == NB_OK ? fill(j, r, err) : st;
}

nb_status nb_pull(const nb_pull_options *o, nb_pull_result *r, nb_error *err)
{
    char shown[160], cache[NB_HUB_PATH];
    *r = (nb_pull_result){.n_file = 0};
    job *j = nb_alloc_zero(1, sizeof *j, "a pull", err);
    if (!j)
        return NB_NO_ROOM;
    j->o = o;
    nb_status st = NB_OK;
    if (!nb_hub_name_parse(o->name, &j->name)) {
        st = nb_fail(err, NB_USAGE,
                     "\"%s\" is no name of the hub like ORG/REPO or ORG/REPO@REVISION",
                     nb_escape(shown, (int64_t)sizeof shown, o->name, (int64_t)strlen(o->name)));
    }
    if (st == NB_OK)
        st = nb_hub_repository(&j->name, j->repository, err);
    if (st == NB_OK)
        st = nb_hub_cache(cache, err);
    if (st == NB_OK) {
        snprintf(j->locks, sizeof j->locks, "%.4000s/.locks%s", cache, strrchr(j->repository, '/'));
        st = nb_hub_net_open(&j->net, err);
    }
    if (st == NB_OK) {
        j->net.stopped = o->stopped;
        j->net.arg = o->arg;
        pthread_mutex_init(&j->lock, NULL);
        st = pull(j, r, err);
        pthread_mutex_destroy(&j->lock);
    }
    if (st != NB_OK)
        nb_pull_result_free(r);
    nb_tree_close(&j->tree);
    free(j->cached);
    free(j->asked);
    free(j->twin);
    explicit_bzero(j->net.token, sizeof j->net.token);
    free(j);
    return st;
}

void nb_pull_result_free(nb_pull_result *r)
{
    free(r->path);
    free(r->files);
    *r = (nb_pull_result){.n_file = 0};
}
