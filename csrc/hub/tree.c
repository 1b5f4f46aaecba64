/* tree.c -- the hub's listing of a revision, and what it says of a single file.
 *
 *   GET  ENDPOINT/api/models/ORG/REPO/tree/REVISION?recursive=true
 *       [{"type":"file","path","size","oid","lfs":{"oid","size"}}, ...] more pages behind Link:
 *       <...>; rel="next"
 *   HEAD ENDPOINT/ORG/REPO/resolve/REVISION/PATH                       X-Repo-Commit, X-Linked-Etag
 *       or ETag, X-Linked-Size or Content-Length
 *
 * All of it is a stranger's word: names are held to rules before they become paths, and both
 * answers must agree. */
#include "file/json.h"
#include "file/names.h"
#include "hub/hub_pull.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    kMostPage = 64 << 20,
    kMostPages = 1000,
    kMostFiles = 100000,
    kMostPath = 1024,
    kMostName = 255
};

bool nb_tree_path_ok(const char *path, size_t n)
{
    if (n == 0 || n > kMostPath || !nb_name_ok(path, n) || memchr(path, '\\', n))
        return false;
    for (size_t at = 0; at <= n;) {
        const char *slash = memchr(path + at, '/', n - at);
        const size_t m = slash ? (size_t)(slash - path) - at : n - at;
        if (m == 0 || m > kMostName ||
            (path[at] == '.' && (m == 1 || (m == 2 && path[at + 1] == '.'))))
            return false;
        at += m + 1;
    }
    return true;
}

nb_status nb_tree_url(const nb_hub_net *net, const nb_hub_name *name, const char *revision,
                      const char *path, char url[NB_URL], nb_error *err)
{
    snprintf(url, NB_URL, "%s/%s/%s/resolve/", net->endpoint, name->org, name->repo);
    const bool ok = nb_url_add(url, NB_URL - 1, revision, "") && strcat(url, "/") &&
                    nb_url_add(url, NB_URL, path, "/");
    return ok ? NB_OK
              : nb_fail(err, NB_NETWORK, "%s/%s: a file name of %zu bytes is too long", name->org,
                        name->repo, strlen(path));
}

/* ---- pages ---- */

typedef struct page {
    nb_buf text;
    nb_error *err;
    nb_status st;
    const char *what;
} page;

static bool on_begin(void *arg, const nb_http_reply *r)
{
    page *p = arg;
    p->text.n = 0;
    if (r->encoded)
        p->st = nb_fail(p->err, NB_NETWORK,
                        "%s: the listing comes compressed, which was not asked for", p->what);
    return p->st == NB_OK;
}

static bool on_body(void *arg, const void *bytes, size_t n)
{
    page *p = arg;
    if (p->text.n + n > kMostPage)
        p->st = nb_fail(p->err, NB_NETWORK, "%s: a listing of more than %d MiB", p->what,
                        kMostPage >> 20);
    else
        p->st = nb_buf_add(&p->text, bytes, n, p->err);
    return p->st == NB_OK;
}

static nb_status bad_listing(const page *p, nb_error *err, const char *why)
{
    return nb_fail(err, NB_NETWORK, "%s: %s", p->what, why);
}

static nb_status add_file(const page *p, nb_tree *t, const nb_json_node *v, nb_error *err)
{
    nb_tree_file *f = &t->file[t->n];
    const nb_json_node *lfs = nb_json_get(v, "lfs");
    const char *path = NULL, *blob = NULL;
    size_t n = 0, blob_n = 0;
    char shown[160];
    if (!nb_json_string(nb_json_get(v, "path"), &path, &n))
        return bad_listing(p, err, "a file without a name is listed");
    if (!nb_tree_path_ok(path, n))
        return nb_fail(err, NB_NETWORK, "%s: a file is called \"%s\", which could lead elsewhere",
                       p->what, nb_escape(shown, (int64_t)sizeof shown, path, (int64_t)n));
    *f = (nb_tree_file){.path = nb_arena_strdup(t->arena, path, n, err), .size = -1};
    if (!f->path)
        return NB_NO_ROOM;
    if (!(lfs && nb_json_int(nb_json_get(lfs, "size"), &f->size)) &&
        !nb_json_int(nb_json_get(v, "size"), &f->size))
        f->size = -1;
    if (nb_json_string(nb_json_get(lfs ? lfs : v, "oid"), &blob, &blob_n)) {
        if (strlen(blob) != blob_n || !nb_blob_name_ok(blob))
            return nb_fail(err, NB_NETWORK, "%s: %.128s has the hash \"%s\", which is none",
                           p->what, f->path,
                           nb_escape(shown, (int64_t)sizeof shown, blob, (int64_t)blob_n));
        snprintf(f->blob, sizeof f->blob, "%s", blob);
    }
    if (f->size < -1)
        return nb_fail(err, NB_NETWORK, "%s: %.128s has a size below 0", p->what, f->path);
    t->n++;
    return NB_OK;
}

static nb_status add_page(const page *p, nb_tree *t, nb_error *err)
{
    nb_json *doc = NULL;
    nb_error why = {.offset = -1};
    if (nb_json_parse("the listing", p->text.p ? p->text.p : "", p->text.n, &doc, &why) != NB_OK)
        return nb_fail(err, NB_NETWORK, "%s: %s", p->what, why.message);
    const nb_json_node *root = nb_json_root(doc);
    nb_status st = NB_OK;
    if (nb_json_typeof(root) != NB_JSON_ARRAY)
        st = bad_listing(p, err, "the listing is no list");
    else if (t->n + nb_json_count(root) > kMostFiles)
        st = bad_listing(p, err, "more than 100000 files");
    else {
        nb_tree_file *more = realloc(t->file, (t->n + nb_json_count(root) + 1) * sizeof *more);
        if (!more)
            st = nb_fail(err, NB_NO_ROOM, "no memory left for the files of %s", p->what);
        else
            t->file = more;
    }
    for (const nb_json_node *v = nb_json_first(root); v && st == NB_OK; v = nb_json_next(v)) {
        const char *type = NULL;
        if (nb_json_string(nb_json_get(v, "type"), &type, NULL) && strcmp(type, "file") == 0)
            st = add_file(p, t, v, err);
    }
    nb_json_close(doc);
    return st;
}

static const char *path_at(const void *items, size_t i, size_t *n)
{
    const char *s = ((const nb_tree_file *)items)[i].path;
    *n = strlen(s);
    return s;
}

static nb_status unique(const page *p, const nb_tree *t, nb_error *err)
{
    nb_hash_key key;
    nb_hash_key_draw(&key);
    nb_names *names = nb_names_open(t->n, &key, path_at, err);
    nb_status st = names ? NB_OK : NB_NO_ROOM;
    for (size_t i = 0; i < t->n && st == NB_OK; i++)
        if (!nb_names_add(names, t->file, i))
            st = nb_fail(err, NB_NETWORK, "%s: %.128s is listed twice", p->what, t->file[i].path);
    nb_names_close(names);
    return st;
}

static bool page_of_endpoint(const nb_hub_net *net, const char *url)
{
    char a[1100], b[1100];
    return nb_url_origin(net->endpoint, a, sizeof a) && nb_url_origin(url, b, sizeof b) &&
           strcmp(a, b) == 0;
}

nb_status nb_tree_read(nb_http *h, const nb_hub_name *name, nb_tree *t, nb_error *err)
{
    const nb_hub_net *net = nb_http_net(h);
    char url[NB_URL], what[2 * NB_HUB_NAME + 8];
    page p = {.err = err, .what = what};
    nb_http_reply r;
    memset(t, 0, sizeof *t);
    snprintf(what, sizeof what, "%s/%s", name->org, name->repo);
    snprintf(url, sizeof url, "%s/api/models/%s/%s/tree/", net->endpoint, name->org, name->repo);
    if (!nb_url_add(url, sizeof url - 16, name->revision, ""))
        return nb_fail(err, NB_USAGE, "the name of the revision is too long");
    strcat(url, "?recursive=true");
    nb_buf_init(&p.text, (size_t)kMostPage + 1);
    t->arena = nb_arena_open("a repository's listing", err);
    nb_status st = t->arena ? NB_OK : NB_NO_ROOM;
    for (int i = 0; st == NB_OK; i++) {
        const nb_http_request q = {
            .what = what, .url = url, .begin = on_begin, .body = on_body, .arg = &p};
        st = nb_http_fetch(h, &q, &r, err);
        st = p.st != NB_OK ? p.st : st;
        if (st == NB_OK)
            st = add_page(&p, t, err);
        if (st != NB_OK || !r.next[0])
            break;
        if (i == kMostPages || !page_of_endpoint(net, r.next))
            st = bad_listing(&p, err, "the listing goes on for ever, or elsewhere");
        memcpy(url, r.next, sizeof url);
    }
    if (st == NB_OK)
        st = unique(&p, t, err);
    nb_buf_free(&p.text);
    if (st != NB_OK)
        nb_tree_close(t);
    return st;
}

void nb_tree_close(nb_tree *t)
{
    nb_arena_close(t->arena);
    free(t->file);
    *t = (nb_tree){.n = 0};
}

/* ---- one file ---- */

nb_status nb_tree_head(nb_http *h, const nb_hub_name *name, nb_tree_file *f, char commit[64],
                       nb_error *err)
{
    char url[NB_URL], what[2 * NB_HUB_NAME + kMostPath + 16], shown[160];
    nb_http_reply r;
    nb_status st =
        nb_tree_url(nb_http_net(h), name, commit[0] ? commit : name->revision, f->path, url, err);
    if (st != NB_OK)
        return st;
    snprintf(what, sizeof what, "%s/%s: %.128s", name->org, name->repo, f->path);
    const nb_http_request q = {.what = what, .url = url, .head = true};
    st = nb_http_fetch(h, &q, &r, err);
    if (st != NB_OK)
        return st;
    const char *etag = r.linked_etag[0] ? r.linked_etag : r.etag;
    const int64_t size = r.linked_size >= 0 ? r.linked_size : r.status == 200 ? r.length : -1;
    if (!nb_blob_name_ok(etag))
        return nb_fail(err, NB_NETWORK, "%s: its tag \"%s\" is no hash", what,
                       nb_escape(shown, (int64_t)sizeof shown, etag, (int64_t)strlen(etag)));
    if (!nb_hub_is_commit(r.commit))
        return nb_fail(err, NB_NETWORK, "%s: the hub does not say of which commit it is", what);
    if (nb_hub_is_commit(name->revision) && strcmp(name->revision, r.commit) != 0)
        return nb_fail(err, NB_NETWORK, "%s: it is of commit %s, another one was asked for", what,
                       r.commit);
    if ((commit[0] && strcmp(commit, r.commit) != 0) ||
        (f->blob[0] && strcmp(f->blob, etag) != 0) ||
        (f->size >= 0 && size >= 0 && f->size != size)) {
        st = nb_fail(err, NB_NETWORK,
                     "%s: hash, size or commit differ from the listing's; the repository may have "
                     "changed meanwhile",
                     what);
        nb_hint(err, "run the same command again");
        return st;
    }
    if (f->size < 0 && size < 0)
        return nb_fail(err, NB_NETWORK, "%s: the hub does not say how long it is", what);
    snprintf(commit, 64, "%s", r.commit);
    snprintf(f->blob, sizeof f->blob, "%.64s", etag);
    f->size = f->size >= 0 ? f->size : size;
    return NB_OK;
}
