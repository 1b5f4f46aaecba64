/* fake_hub.c -- see fake_hub.h. One request a connection, one thread a port and one a
 * connection. */
#include "hub/fake_hub.h"
#include "hub/hub_pull.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { kRequests = 512 };

struct fake_hub {
    const fake_file *file;
    size_t n, page;
    int listener[2], port[2];
    pthread_t thread[2];
    pthread_mutex_t lock;
    pthread_cond_t idle;
    int n_open;    /* connections being served */
    int n_stalled; /* of these */
    int *asked;    /* GETs and HEADs of each file */
    fake_request request[kRequests];
    size_t n_request;
};

typedef struct connection {
    fake_hub *h;
    int fd, which;
    fake_request q;
} connection;

/* ---- replies ---- */

static void send_all(int fd, const void *p, size_t n)
{
    const char *at = p;
    while (n) {
        const ssize_t done = send(fd, at, n, MSG_NOSIGNAL);
        if (done <= 0)
            return;
        at += done;
        n -= (size_t)done;
    }
}

static void say(connection *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(connection *c, const char *format, ...)
{
    char text[4096];
    va_list ap;
    va_start(ap, format);
    const int n = vsnprintf(text, sizeof text, format, ap);
    va_end(ap);
    send_all(c->fd, text, (size_t)n);
}

/* The status line and what every reply has; the caller adds headers and the empty line. */
static void status(connection *c, int code)
{
    c->q.status = code;
    say(c, "HTTP/1.1 %d %s\r\nConnection: close\r\n", code,
        code < 300   ? "OK"
        : code < 400 ? "Found"
                     : "No");
}

static void empty(connection *c, int code, const char *headers)
{
    status(c, code);
    say(c, "%sContent-Length: 0\r\n\r\n", headers);
}

/* ---- the listing ---- */

static void name_of(const fake_file *f, char blob[NB_BLOB_NAME])
{
    static const char sha1[41] = "0000000000000000000000000000000000000000",
                      sha256[65] =
                          "0000000000000000000000000000000000000000000000000000000000000000";
    nb_blob_hash s;
    nb_blob_hash_init(&s, f->lfs ? sha256 : sha1, (int64_t)f->n);
    if (f->n)
        nb_blob_hash_add(&s, f->p, f->n);
    nb_blob_hash_end(&s, blob);
}

static void listing(connection *c, const char *repo, size_t from)
{
    fake_hub *h = c->h;
    char *text = calloc(1, 1 << 20), blob[NB_BLOB_NAME];
    size_t at = 0, seen = 0, shown = 0;
    bool more = false, any = false;
    if (!text)
        exit(1);
    at += (size_t)sprintf(
        text, "[{\"type\":\"directory\",\"path\":\"sub\",\"size\":0,\"oid\":\"%s\"}", FAKE_COMMIT);
    for (size_t i = 0; i < h->n; i++) {
        const fake_file *f = &h->file[i];
        if (strcmp(f->repo, repo) != 0)
            continue;
        any = true;
        if (seen++ < from)
            continue;
        if (h->page && shown == h->page) {
            more = true;
            break;
        }
        shown++;
        name_of(f, blob);
        const unsigned long long size = f->fault == FAKE_HUGE ? 1ull << 60 : f->n;
        if (f->lfs)
            at += (size_t)sprintf(text + at,
                                  ",{\"type\":\"file\",\"oid\":\"%s\",\"size\":%llu,\"lfs\":{"
                                  "\"oid\":\"%s\",\"size\":%llu,\"pointerSize\":134},"
                                  "\"path\":\"%s\"}",
                                  FAKE_COMMIT, size, blob, size, f->path);
        else
            at += (size_t)sprintf(
                text + at, ",{\"type\":\"file\",\"oid\":\"%s\",\"size\":%llu,\"path\":\"%s\"}",
                blob, size, f->path);
    }
    text[at++] = ']';
    if (!any)
        empty(c, 404, "X-Error-Code: RepoNotFound\r\n");
    else {
        status(c, 200);
        if (more)
            say(c,
                "Link: <http://127.0.0.1:%d/api/models/%s/tree/main?recursive=true&cursor=%zu>; "
                "rel=\"next\"\r\n",
                h->port[0], repo, from + shown);
        say(c, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", at);
        send_all(c->fd, text, at);
    }
    free(text);
}

/* What huggingface_hub asks first (nibble does not): it can pull from this hub too, which says that
 * the hub is like the real one. */
static void information(connection *c, const char *repo, const char *revision)
{
    char *text = calloc(1, 1 << 20);
    size_t at = 0;
    if (!text)
        exit(1);
    at += (size_t)sprintf(text, "{\"id\":\"%s\",\"sha\":\"%s\",\"siblings\":[", repo,
                          strlen(revision) == 40 ? revision : FAKE_COMMIT);
    bool any = false;
    for (size_t i = 0; i < c->h->n; i++)
        if (strcmp(c->h->file[i].repo, repo) == 0) {
            at += (size_t)sprintf(text + at, "%s{\"rfilename\":\"%s\"}", any ? "," : "",
                                  c->h->file[i].path);
            any = true;
        }
    at += (size_t)sprintf(text + at, "]}");
    status(c, 200);
    say(c, "Content-Type: application/json\r\nContent-Length: %zu\r\n\r\n", at);
    send_all(c->fd, text, at);
    free(text);
}

/* ---- files ---- */

static void body(connection *c, const fake_file *f)
{
    const char *p = f->p;
    size_t from = c->q.range > 0 && (size_t)c->q.range <= f->n ? (size_t)c->q.range : 0;
    const bool cut = f->fault == FAKE_CUT || f->fault == FAKE_CUT_NO_RANGE;
    if (f->fault == FAKE_NO_RANGE || f->fault == FAKE_CUT_NO_RANGE)
        from = 0;
    if (from && f->fault == FAKE_RANGE_REFUSED) {
        empty(c, 416, "");
        return;
    }
    const size_t n = f->n - from,
                 extra = f->fault == FAKE_LONGER || f->fault == FAKE_LONGER_CHUNKED ? 7 : 0;
    status(c, from ? 206 : 200);
    if (from)
        say(c, "Content-Range: bytes %zu-%zu/%zu\r\n",
            f->fault == FAKE_RANGE_ELSEWHERE ? from - 1 : from, f->n - 1, f->n);
    if (f->fault == FAKE_GZIP)
        say(c, "Content-Encoding: gzip\r\n");
    if (f->fault == FAKE_LONGER_CHUNKED) {
        say(c, "Transfer-Encoding: chunked\r\n\r\n%zx\r\n", n + extra);
        send_all(c->fd, p + from, n);
        say(c, "surplus\r\n0\r\n\r\n");
        return;
    }
    say(c, "Content-Length: %zu\r\n\r\n", n + extra);
    if (f->fault == FAKE_WRONG_BYTES) {
        for (size_t i = 0; i < n; i++)
            send_all(c->fd, "#", 1);
        return;
    }
    send_all(c->fd, p + from, cut ? (n + 1) / 2 : n);
    send_all(c->fd, "surplus", extra);
}

static void stalled(fake_hub *h, int more)
{
    pthread_mutex_lock(&h->lock);
    h->n_stalled += more;
    pthread_mutex_unlock(&h->lock);
}

int fake_hub_waiting(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    const int n = h->n_stalled;
    pthread_mutex_unlock(&h->lock);
    return n;
}

/* A fault that answers instead of the file; false: there is none. */
static bool instead(connection *c, const fake_file *f, int asked)
{
    char location[700];
    static const struct {
        fake_fault fault;
        int status;
        const char *headers;
    } rows[] = {{FAKE_DOWN, 503, "Retry-After: 0\r\n"},
                {FAKE_WAIT_LONG, 429, "Retry-After: 86400\r\n"},
                {FAKE_FORBIDDEN, 403, "X-Error-Code: GatedRepo\r\n"},
                {FAKE_GONE, 404, "X-Error-Code: EntryNotFound\r\n"},
                {FAKE_FILE_URL, 302, "Location: file:///etc/passwd\r\n"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (f->fault == rows[i].fault &&
            (f->fault != FAKE_FILE_URL || strcmp(c->q.method, "GET") == 0)) {
            empty(c, rows[i].status, rows[i].headers);
            return true;
        }
    if (f->fault == FAKE_BUSY && asked <= 2)
        empty(c, 429, "Retry-After: 0\r\n");
    else if (f->fault == FAKE_STALL) {
        char nothing[16];
        stalled(c->h, 1);
        while (recv(c->fd, nothing, sizeof nothing, 0) > 0) /* until the other side gives up */
            continue;
        stalled(c->h, -1);
    } else if (f->fault == FAKE_UNAUTHORISED && !c->q.authorised)
        empty(c, 401, "");
    else if (f->fault == FAKE_LOOP && strcmp(c->q.method, "GET") == 0) {
        snprintf(location, sizeof location, "Location: %s\r\n", c->q.path);
        empty(c, 302, location);
    } else
        return false;
    return true;
}

static void head(connection *c, const fake_file *f, const char *revision)
{
    char blob[NB_BLOB_NAME + 8];
    name_of(f, blob);
    if (f->fault == FAKE_ETAG_SLASH)
        blob[20] = '/';
    if (f->fault == FAKE_ETAG_DOTS)
        snprintf(blob, sizeof blob, "../../../../tmp/owned");
    if (f->fault == FAKE_OTHER_ETAG)
        blob[0] = blob[0] == 'a' ? 'b' : 'a';
    const char *commit = f->fault == FAKE_OTHER_COMMIT ? "ffffffffffffffffffffffffffffffffffffffff"
                         : strlen(revision) == 40      ? revision
                                                       : FAKE_COMMIT;
    if (f->lfs) {
        status(c, 302);
        say(c,
            "Location: http://127.0.0.1:%d/cdn/%s/%s?sig=secret-of-the-cdn\r\nX-Linked-Etag: "
            "\"%s\"\r\n"
            "X-Linked-Size: %zu\r\nETag: W/\"other\"\r\n",
            c->h->port[1], f->repo, f->path, blob, f->n);
        say(c, "X-Repo-Commit: %s\r\nContent-Length: 0\r\n\r\n", commit);
        return;
    }
    status(c, 200);
    say(c, "ETag: \"%s\"\r\nX-Repo-Commit: %s\r\nContent-Length: %zu\r\n\r\n", blob, commit, f->n);
}

/* The file named by REPO/REST after `prefix`; *rest is what follows the repository. */
static const fake_file *find(connection *c, const char *repo, const char *path, size_t *i)
{
    for (*i = 0; *i < c->h->n; ++*i)
        if (strcmp(c->h->file[*i].repo, repo) == 0 && strcmp(c->h->file[*i].path, path) == 0)
            return &c->h->file[*i];
    return NULL;
}

static void answer_file(connection *c, const char *repo, const char *revision, const char *path)
{
    size_t i = 0;
    char blob[NB_BLOB_NAME];
    const fake_file *f = find(c, repo, path, &i);
    if (!f) {
        empty(c, 404, "X-Error-Code: EntryNotFound\r\n");
        return;
    }
    pthread_mutex_lock(&c->h->lock);
    const int asked = ++c->h->asked[i];
    pthread_mutex_unlock(&c->h->lock);
    if (instead(c, f, asked))
        return;
    if (f->fault == FAKE_RELATIVE && !strstr(c->q.path, "?kept")) {
        name_of(f, blob);
        status(c, 307);
        say(c,
            "Location: /%s/resolve/%s/%s?kept\r\nX-Repo-Commit: %s\r\nX-Linked-Etag: \"%s\"\r\n"
            "X-Linked-Size: %zu\r\nContent-Length: 0\r\n\r\n",
            repo, revision, path, FAKE_COMMIT, blob, f->n);
        return;
    }
    if (f->fault == FAKE_RELATIVE && strcmp(c->q.method, "HEAD") == 0) {
        empty(c, 200, "ETag: \"another\"\r\n");
        return;
    }
    if (strcmp(c->q.method, "HEAD") == 0)
        head(c, f, revision);
    else if (f->fault == FAKE_REDIRECT && c->which == 0) {
        status(c, 302);
        say(c,
            "Location: http://127.0.0.1:%d/cdn/%s/%s?sig=secret-of-the-cdn\r\nContent-Length: "
            "0\r\n\r\n",
            c->h->port[1], repo, path);
    } else
        body(c, f);
}

/* /api/models/ORG/REPO/tree/REV?... /ORG/REPO/resolve/REV/PATH /cdn/ORG/REPO/PATH */
static void answer(connection *c)
{
    char path[512], repo[256], *at = path;
    snprintf(path, sizeof path, "%s", c->q.path);
    char *query = strchr(path, '?');
    const char *cursor = query ? strstr(query, "cursor=") : NULL;
    const size_t from = cursor ? (size_t)strtoul(cursor + 7, NULL, 10) : 0;
    if (query)
        *query = 0;
    const bool api = strncmp(at, "/api/models/", 12) == 0, cdn = strncmp(at, "/cdn/", 5) == 0;
    at += api ? 12 : cdn ? 5 : 1;
    char *slash = strchr(at, '/');
    slash = slash ? strchr(slash + 1, '/') : NULL;
    if (!slash) {
        empty(c, 404, "");
        return;
    }
    *slash++ = 0;
    snprintf(repo, sizeof repo, "%s", at);
    if (cdn) {
        answer_file(c, repo, FAKE_COMMIT, slash);
        return;
    }
    char *revision = strchr(slash, '/');
    if (revision && api && strncmp(slash, "revision/", 9) == 0) {
        information(c, repo, revision + 1);
        return;
    }
    if (!revision || strncmp(slash, api ? "tree/" : "resolve/", api ? 5 : 8) != 0) {
        empty(c, 404, "");
        return;
    }
    char *rest = strchr(++revision, '/');
    if (rest)
        *rest++ = 0;
    if (strcmp(revision, "main") != 0 && strcmp(revision, "refs%2Fpr%2F1") != 0 &&
        strlen(revision) != 40)
        empty(c, 404, "X-Error-Code: RevisionNotFound\r\n");
    else if (api)
        listing(c, repo, from);
    else
        answer_file(c, repo, revision, rest ? rest : "");
}

/* ---- connections ---- */

static bool read_request(connection *c)
{
    char text[8192];
    size_t n = 0;
    while (n + 1 < sizeof text) {
        const ssize_t got = recv(c->fd, text + n, sizeof text - 1 - n, 0);
        if (got <= 0)
            return false;
        n += (size_t)got;
        text[n] = 0;
        if (strstr(text, "\r\n\r\n"))
            break;
    }
    c->q.range = -1;
    if (sscanf(text, "%7s %511s", c->q.method, c->q.path) != 2)
        return false;
    for (char *line = strstr(text, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (strncasecmp(line + 2, "authorization:", 14) == 0)
            c->q.authorised = true;
        if (strncasecmp(line + 2, "range: bytes=", 13) == 0)
            c->q.range = strtoll(line + 15, NULL, 10);
    }
    return true;
}

static void *serve(void *arg)
{
    connection *c = arg;
    fake_hub *h = c->h;
    if (read_request(c)) {
        answer(c);
        pthread_mutex_lock(&h->lock);
        if (h->n_request < kRequests)
            h->request[h->n_request++] = c->q;
        pthread_mutex_unlock(&h->lock);
    }
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    free(c);
    pthread_mutex_lock(&h->lock);
    if (--h->n_open == 0)
        pthread_cond_broadcast(&h->idle);
    pthread_mutex_unlock(&h->lock);
    return NULL;
}

typedef struct listener {
    fake_hub *h;
    int which;
} listener;

static void *listen_on(void *arg)
{
    const listener l = *(listener *)arg;
    free(arg);
    for (;;) {
        const int fd = accept(l.h->listener[l.which], NULL, NULL);
        pthread_t thread;
        if (fd < 0 && errno == EINTR)
            continue;
        if (fd < 0)
            return NULL; /* shut down */
        connection *c = calloc(1, sizeof *c);
        if (!c)
            exit(1);
        *c = (connection){.h = l.h, .fd = fd, .which = l.which, .q = {.port = l.which}};
        pthread_mutex_lock(&l.h->lock);
        l.h->n_open++;
        pthread_mutex_unlock(&l.h->lock);
        if (pthread_create(&thread, NULL, serve, c) != 0)
            exit(1);
        pthread_detach(thread);
    }
}

fake_hub *fake_hub_open(const fake_file *files, size_t n, size_t page)
{
    fake_hub *h = calloc(1, sizeof *h);
    if (!h || !(h->asked = calloc(n + 1, sizeof *h->asked)))
        exit(1);
    h->file = files;
    h->n = n;
    h->page = page;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->idle, NULL);
    for (int i = 0; i < 2; i++) {
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t size = sizeof a;
        listener *l = calloc(1, sizeof *l);
        h->listener[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (!l || h->listener[i] < 0 ||
            bind(h->listener[i], (struct sockaddr *)&a, sizeof a) != 0 ||
            listen(h->listener[i], 64) != 0 ||
            getsockname(h->listener[i], (struct sockaddr *)&a, &size) != 0) {
            perror("fake_hub");
            exit(1);
        }
        h->port[i] = ntohs(a.sin_port);
        *l = (listener){h, i};
        if (pthread_create(&h->thread[i], NULL, listen_on, l) != 0)
            exit(1);
    }
    return h;
}

int fake_hub_port(const fake_hub *h, int which)
{
    return h->port[which];
}

static void wait_idle(fake_hub *h)
{
    while (h->n_open)
        pthread_cond_wait(&h->idle, &h->lock);
}

void fake_hub_clear(fake_hub *h)
{
    pthread_mutex_lock(&h->lock);
    wait_idle(h);
    h->n_request = 0;
    memset(h->asked, 0, h->n * sizeof *h->asked);
    pthread_mutex_unlock(&h->lock);
}

size_t fake_hub_requests(fake_hub *h, fake_request *out, size_t most)
{
    pthread_mutex_lock(&h->lock);
    wait_idle(h);
    const size_t n = h->n_request < most ? h->n_request : most;
    memcpy(out, h->request, n * sizeof *out);
    pthread_mutex_unlock(&h->lock);
    return n;
}

void fake_hub_close(fake_hub *h)
{
    for (int i = 0; i < 2; i++) {
        shutdown(h->listener[i], SHUT_RDWR);
        pthread_join(h->thread[i], NULL);
        close(h->listener[i]);
    }
    pthread_mutex_lock(&h->lock);
    wait_idle(h);
    pthread_mutex_unlock(&h->lock);
    free(h->asked);
    free(h);
}
