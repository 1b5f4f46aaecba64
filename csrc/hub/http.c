/* http.c -- requests (http.h). */
#include "hub/http.h"
#include "base/memory.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

enum { kHops = 10, kMostWait_s = 300 };

struct nb_http {
    nb_hub_net *net;
    void *easy;
    /* of the request that runs */
    const nb_http_request *q;
    nb_http_reply *r;
    char linked_etag[512], commit[64]; /* of redirects within the endpoint */
    int64_t linked_size;
    bool begun, redirect; /* the reply at hand is no redirect to follow and `begin` has seen it;
                           * is one */
};

/* ---- URLs ---- */

bool nb_url_origin(const char *url, char *out, size_t n)
{
    static const struct {
        const char *scheme, *port;
    } schemes[] = {{"http://", ":80"}, {"https://", ":443"}};
    for (size_t i = 0; i < 2; i++) {
        const size_t m = strlen(schemes[i].scheme);
        if (strncasecmp(url, schemes[i].scheme, m) != 0)
            continue;
        const size_t host = strcspn(url + m, "/?#\\");
        if (host == 0 || m + host + 8 >= n || memchr(url + m, '@', host))
            return false;
        const char *end = url + m + host, *colon = end;
        while (colon > url + m && isdigit((unsigned char)colon[-1]))
            colon--;
        const bool port = colon > url + m && colon[-1] == ':' && colon < end;
        snprintf(out, n, "%.*s%s", (int)(m + host), url, port ? "" : schemes[i].port);
        for (char *s = out; *s; s++)
            *s = (char)tolower((unsigned char)*s);
        return true;
    }
    return false;
}

bool nb_url_add(char *url, size_t room, const char *s, const char *keep)
{
    size_t at = strlen(url);
    for (; *s; s++) {
        const unsigned char ch = (unsigned char)*s;
        const bool plain = (ch < 0x80 && isalnum(ch)) || strchr("-_.~", ch) || strchr(keep, ch);
        if (at + 4 >= room)
            return false;
        at += (size_t)snprintf(url + at, room - at, plain ? "%c" : "%%%02X", ch);
    }
    return true;
}

static bool same_origin(const char *a, const char *b)
{
    char x[1100], y[1100];
    return nb_url_origin(a, x, sizeof x) && nb_url_origin(b, y, sizeof y) && strcmp(x, y) == 0;
}

/* Its host, for sentences: what follows it may be signed. */
static const char *host_of(const char *url, char *out, size_t n)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    return nb_escape(out, (int64_t)n, host, (int64_t)strcspn(host, "/?#"));
}

/* ---- headers ---- */

/* Digits only, below 2^62; -1 otherwise. */
static int64_t whole(const char *s, size_t n)
{
    int64_t v = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9' || v > INT64_MAX / 20)
            return -1;
        v = 10 * v + (s[i] - '0');
    }
    return n ? v : -1;
}

static void copy(char *dst, size_t room, const char *s, size_t n)
{
    snprintf(dst, room, "%.*s", (int)(n < room ? n : room - 1), s);
}

static void tag(char *dst, size_t room, const char *s, size_t n)
{
    if (n >= 2 && s[0] == 'W' && s[1] == '/')
        s += 2, n -= 2;
    if (n >= 2 && s[0] == '"' && s[n - 1] == '"')
        s++, n -= 2;
    copy(dst, room, s, n);
}

/* bytes 5-9/10 */
static void range(nb_http_reply *r, const char *s, size_t n)
{
    char text[128];
    copy(text, sizeof text, s, n);
    const char *from = strncasecmp(text, "bytes ", 6) == 0 ? text + 6 : text,
               *slash = strchr(text, '/');
    r->range_from = whole(from, strcspn(from, "-"));
    r->range_total = slash ? whole(slash + 1, strlen(slash + 1)) : -1;
}

static void next_page(nb_http_reply *r, const char *s, size_t n)
{
    char text[NB_URL];
    copy(text, sizeof text, s, n);
    const char *rel = strstr(text, "rel=\"next\""), *open = NULL;
    for (const char *p = text; rel && p < rel; p++)
        open = *p == '<' ? p : open;
    const char *close = open ? strchr(open, '>') : NULL;
    if (close && close < rel)
        copy(r->next, sizeof r->next, open + 1, (size_t)(close - open - 1));
}

static void header(nb_http_reply *r, const char *name, const char *s, size_t n)
{
    if (strcasecmp(name, "etag") == 0)
        tag(r->etag, sizeof r->etag, s, n);
    else if (strcasecmp(name, "x-linked-etag") == 0)
        tag(r->linked_etag, sizeof r->linked_etag, s, n);
    else if (strcasecmp(name, "x-linked-size") == 0)
        r->linked_size = whole(s, n);
    else if (strcasecmp(name, "x-repo-commit") == 0)
        copy(r->commit, sizeof r->commit, s, n);
    else if (strcasecmp(name, "x-error-code") == 0)
        copy(r->error_code, sizeof r->error_code, s, n);
    else if (strcasecmp(name, "content-length") == 0)
        r->length = whole(s, n);
    else if (strcasecmp(name, "content-range") == 0)
        range(r, s, n);
    else if (strcasecmp(name, "content-encoding") == 0)
        r->encoded = !(n == 8 && strncasecmp(s, "identity", 8) == 0);
    else if (strcasecmp(name, "retry-after") == 0)
        r->retry_after_s = whole(s, n);
    else if (strcasecmp(name, "link") == 0)
        next_page(r, s, n);
}

static void clear(nb_http_reply *r)
{
    *r = (nb_http_reply){
        .length = -1, .linked_size = -1, .range_from = -1, .range_total = -1, .retry_after_s = -1};
}

static bool is_redirect(long status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* libcurl gives a line a time, its end included; a status line begins a new reply (100 Continue, a
 * proxy's own). */
static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
    nb_http *h = arg;
    char name[64];
    size_t len = size * n;
    while (len && (p[len - 1] == '\r' || p[len - 1] == '\n'))
        len--;
    if (len >= 5 && strncasecmp(p, "HTTP/", 5) == 0) {
        clear(h->r);
        return size * n;
    }
    const char *colon = memchr(p, ':', len);
    if (!colon || (size_t)(colon - p) >= sizeof name)
        return size * n;
    copy(name, sizeof name, p, (size_t)(colon - p));
    const char *v = colon + 1, *end = p + len;
    while (v < end && (*v == ' ' || *v == '\t'))
        v++;
    while (end > v && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    header(h->r, name, v, (size_t)(end - v));
    return size * n;
}

static bool begin(nb_http *h)
{
    if (h->begun)
        return true;
    h->begun = true;
    h->net->curl.easy_getinfo(h->easy, NB_CURLINFO_RESPONSE_CODE, &h->r->status);
    h->redirect = is_redirect(h->r->status);
    return h->redirect || !h->q->begin || h->q->begin(h->q->arg, h->r);
}

static size_t on_body(char *p, size_t size, size_t n, void *arg)
{
    nb_http *h = arg;
    if (!begin(h))
        return 0;
    const bool wanted = h->r->status == 200 || h->r->status == 206;
    return wanted && h->q->body && !h->q->body(h->q->arg, p, size * n) ? 0 : size * n;
}

bool nb_hub_stopped(nb_hub_net *net)
{
    if (net->stopped && net->stopped(net->arg))
        atomic_store(&net->stop, true);
    return atomic_load(&net->stop);
}

/* libcurl calls it once a second at least, whether bytes come or not. Its curl_off_t is 64 bits. */
static int on_progress(void *arg, int64_t a, int64_t b, int64_t x, int64_t y)
{
    (void)a, (void)b, (void)x, (void)y;
    const nb_http *h = arg;
    return nb_hub_stopped(h->net) ? 1 : 0;
}

/* ---- requests ---- */

nb_http *nb_http_open(nb_hub_net *net, nb_error *err)
{
    nb_http *h = nb_alloc_zero(1, sizeof *h, "a connection", err);
    if (!h)
        return NULL;
    h->net = net;
    h->easy = net->curl.easy_init();
    if (!h->easy) {
        (void)nb_fail(err, NB_NO_ROOM, "libcurl has no memory for a connection");
        free(h);
        return NULL;
    }
    const nb_curl *c = &net->curl;
    const char *ca = getenv("SSL_CERT_FILE");
    c->easy_setopt(h->easy, NB_CURL_NOSIGNAL, 1L);
    c->easy_setopt(h->easy, NB_CURL_FOLLOWLOCATION, 0L);
    c->easy_setopt(h->easy, NB_CURL_PROTOCOLS, (long)(NB_CURLPROTO_HTTP | NB_CURLPROTO_HTTPS));
    c->easy_setopt(h->easy, NB_CURL_NOPROGRESS, 0L);
    c->easy_setopt(h->easy, NB_CURL_XFERINFOFUNCTION, on_progress);
    c->easy_setopt(h->easy, NB_CURL_XFERINFODATA, h);
    c->easy_setopt(h->easy, NB_CURL_HEADERFUNCTION, on_header);
    c->easy_setopt(h->easy, NB_CURL_HEADERDATA, h);
    c->easy_setopt(h->easy, NB_CURL_WRITEFUNCTION, on_body);
    c->easy_setopt(h->easy, NB_CURL_WRITEDATA, h);
    c->easy_setopt(h->easy, NB_CURL_USERAGENT, "nibble");
    c->easy_setopt(h->easy, NB_CURL_CONNECTTIMEOUT, net->api_s);
    if (ca && *ca)
        c->easy_setopt(h->easy, NB_CURL_CAINFO, ca);
    return h;
}

void nb_http_close(nb_http *h)
{
    if (!h)
        return;
    h->net->curl.easy_cleanup(h->easy);
    free(h);
}

nb_hub_net *nb_http_net(const nb_http *h)
{
    return h->net;
}

/* The token goes to the endpoint and nowhere else. */
static void *headers_for(const nb_http *h, const char *url)
{
    const nb_curl *c = &h->net->curl;
    char line[sizeof h->net->token + 32];
    void *list = c->slist_append(NULL, "Accept-Encoding: identity");
    if (list && h->net->token[0] && same_origin(url, h->net->endpoint)) {
        snprintf(line, sizeof line, "Authorization: Bearer %s", h->net->token);
        list = c->slist_append(list, line);
    }
    if (list && h->q->from > 0) {
        snprintf(line, sizeof line, "Range: bytes=%lld-", (long long)h->q->from);
        list = c->slist_append(list, line);
    }
    return list;
}

/* Runs one hop; *to becomes the redirect's target, "" when the reply is no redirect. */
static int hop(nb_http *h, const char *url, char *to)
{
    const nb_curl *c = &h->net->curl;
    char *next = NULL;
    to[0] = 0;
    clear(h->r);
    h->begun = h->redirect = false;
    void *list = headers_for(h, url);
    if (!list)
        return -1;
    c->easy_setopt(h->easy, NB_CURL_NOBODY, h->q->head ? 1L : 0L);
    if (!h->q->head)
        c->easy_setopt(h->easy, NB_CURL_HTTPGET, 1L);
    c->easy_setopt(h->easy, NB_CURL_URL, url);
    c->easy_setopt(h->easy, NB_CURL_HTTPHEADER, list);
    c->easy_setopt(h->easy, NB_CURL_LOW_SPEED_LIMIT, 1L);
    c->easy_setopt(h->easy, NB_CURL_LOW_SPEED_TIME, h->q->head ? h->net->api_s : h->net->stall_s);
    const int code = c->easy_perform(h->easy);
    c->easy_setopt(h->easy, NB_CURL_HTTPHEADER, NULL);
    c->slist_free_all(list);
    if (code != NB_CURLE_OK)
        return code;
    if (!begin(h)) /* a reply without a body */
        return NB_CURLE_WRITE_ERROR;
    if (h->redirect && c->easy_getinfo(h->easy, NB_CURLINFO_REDIRECT_URL, &next) == NB_CURLE_OK &&
        next)
        snprintf(to, NB_URL, "%s", strlen(next) < NB_URL ? next : "");
    return code;
}

/* How often a request that ended so is tried. */
static int tries_after(int code)
{
    static const struct {
        int code, tries;
    } rows[] = {{NB_CURLE_UNSUPPORTED_PROTOCOL, 1},
                {NB_CURLE_URL_MALFORMAT, 1},
                {NB_CURLE_PEER_FAILED_VERIFICATION, 1},
                {NB_CURLE_SSL_CACERT_BADFILE, 1},
                {NB_CURLE_COULDNT_RESOLVE_PROXY, NB_TRIES_TO_REACH},
                {NB_CURLE_COULDNT_RESOLVE_HOST, NB_TRIES_TO_REACH},
                {NB_CURLE_COULDNT_CONNECT, NB_TRIES_TO_REACH}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].code == code)
            return rows[i].tries;
    return NB_TRIES;
}

static nb_status transport(const nb_http *h, const char *url, int code, int *tries, nb_error *err)
{
    char host[300];
    if (code == NB_CURLE_ABORTED_BY_CALLBACK || atomic_load(&h->net->stop))
        return nb_fail(err, NB_INTERRUPTED, "%s: interrupted", h->q->what);
    if (code < 0)
        return nb_fail(err, NB_NO_ROOM, "out of memory for a request");
    if (code == NB_CURLE_WRITE_ERROR) /* the callback that ended it has said why */
        return NB_NETWORK;
    *tries = tries_after(code);
    return nb_fail(err, NB_NETWORK, "%s: %s: %s", h->q->what, host_of(url, host, sizeof host),
                   h->net->curl.easy_strerror(code));
}

/* May a reply from `from` send us to `to`? */
static nb_status check_redirect(const nb_http *h, const char *from, const char *to, nb_error *err)
{
    char origin[1100], host[300];
    if (!nb_url_origin(to, origin, sizeof origin))
        return nb_fail(err, NB_NETWORK, "%s: %s redirects to what is no http or https address",
                       h->q->what, host_of(from, host, sizeof host));
    if (strncasecmp(from, "https:", 6) == 0 && strncmp(origin, "https:", 6) != 0)
        return nb_fail(err, NB_NETWORK, "%s: %s redirects from https to http", h->q->what,
                       host_of(from, host, sizeof host));
    return NB_OK;
}

static void keep(nb_http *h, const nb_http_reply *r)
{
    memcpy(h->linked_etag, r->linked_etag, sizeof h->linked_etag);
    memcpy(h->commit, r->commit, sizeof h->commit);
    h->linked_size = r->linked_size;
}

/* What redirects said and the last reply did not. */
static void recall(const nb_http *h, nb_http_reply *r)
{
    if (!r->linked_etag[0] && h->linked_etag[0]) {
        memcpy(r->linked_etag, h->linked_etag, sizeof r->linked_etag);
        r->linked_size = r->linked_size < 0 ? h->linked_size : r->linked_size;
    }
    if (!r->commit[0])
        memcpy(r->commit, h->commit, sizeof r->commit);
}

nb_status nb_http_once(nb_http *h, const nb_http_request *q, nb_http_reply *r, int *tries,
                       nb_error *err)
{
    char url[NB_URL], to[NB_URL];
    h->q = q;
    h->r = r;
    *tries = 1;
    h->linked_etag[0] = h->commit[0] = 0;
    h->linked_size = -1;
    snprintf(url, sizeof url, "%s", q->url);
    for (int i = 0; i < kHops; i++) {
        const int code = hop(h, url, to);
        if (code != NB_CURLE_OK)
            return transport(h, url, code, tries, err);
        recall(h, r);
        if (!h->redirect)
            return NB_OK;
        const nb_status st = check_redirect(h, url, to, err);
        if (st != NB_OK)
            return st;
        if (q->head && !same_origin(url, to))
            return NB_OK;
        /* the endpoint's own redirects may say what the reply behind them leaves out */
        if (same_origin(url, to))
            keep(h, r);
        memcpy(url, to, sizeof url);
    }
    return nb_fail(err, NB_NETWORK, "%s: more than %d redirects", q->what, (int)kHops);
}

int nb_http_tries(long status)
{
    return status == 408 || status == 429 || status >= 500 ? NB_TRIES : 1;
}

bool nb_http_wait(nb_hub_net *net, int attempt, const nb_http_reply *r)
{
    int64_t ms = (int64_t)net->wait_ms << (attempt < 8 ? attempt - 1 : 7);
    if (r && r->retry_after_s >= 0) {
        if (r->retry_after_s > kMostWait_s)
            return false;
        ms = 1000 * r->retry_after_s;
    }
    for (; ms > 0 && !nb_hub_stopped(net); ms -= 50)
        nanosleep(&(struct timespec){.tv_nsec = 1000000 * (long)(ms < 50 ? ms : 50)}, NULL);
    return !nb_hub_stopped(net);
}

nb_status nb_http_refused(const nb_hub_net *net, const nb_http_request *q, const nb_http_reply *r,
                          nb_error *err)
{
    char host[300], code[160];
    host_of(q->url, host, sizeof host);
    if (r->status == 404)
        return nb_fail(err, NB_NOT_FOUND, "%s: %s does not have it (404)", q->what, host);
    if (r->status == 401 || r->status == 403) {
        const nb_status st = nb_fail(
            err, NB_NETWORK, "%s: %s does not give it to %s (%ld%s%s)", q->what, host,
            net->token[0] ? "this token" : "everybody", r->status, r->error_code[0] ? ", " : "",
            nb_escape(code, (int64_t)sizeof code, r->error_code, (int64_t)strlen(r->error_code)));
        nb_hint(err, "accept the terms on the model's page, then: export HF_TOKEN=...");
        return st;
    }
    return nb_fail(err, NB_NETWORK, "%s: %s answers with status %ld", q->what, host, r->status);
}

nb_status nb_http_fetch(nb_http *h, const nb_http_request *q, nb_http_reply *r, nb_error *err)
{
    for (int attempt = 1;; attempt++) {
        int tries = 1;
        nb_status st = nb_http_once(h, q, r, &tries, err);
        if (st == NB_OK &&
            (r->status == 200 || r->status == 206 || (q->head && is_redirect(r->status))))
            return NB_OK;
        if (st == NB_OK) {
            st = nb_http_refused(h->net, q, r, err);
            tries = nb_http_tries(r->status);
        }
        if (attempt >= tries || !nb_http_wait(h->net, attempt, r))
            return st;
    }
}
