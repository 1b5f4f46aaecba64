/* http.h -- requests to the hub: where the token may go, which redirects are followed, what is
 * tried again.
 *
 * The token goes to the endpoint's scheme, host and port and nowhere else, whatever a redirect
 * says. Redirects are followed by hand, at most ten, to http and https only and never from https to
 * http. Replies are taken as they come (Accept-Encoding: identity). */
#ifndef NB_HUB_HTTP_H
#define NB_HUB_HTTP_H

#include "hub/curl.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* From the environment: HF_ENDPOINT, HF_TOKEN or HF_TOKEN_PATH's file, HF_HUB_ETAG_TIMEOUT,
 * HF_HUB_DOWNLOAD_TIMEOUT, HF_HUB_OFFLINE, NIBBLE_PULL_WAIT_MS. */
typedef struct nb_hub_net {
    nb_curl curl;
    char endpoint[1024]; /* without a slash at its end */
    char token[1024];    /* "": none */
    long api_s, stall_s; /* a connection, or a transfer that stands still, is given up after so
                          * many seconds */
    long wait_ms; /* before the second try, NIBBLE_PULL_WAIT_MS; doubled for each that follows */
    atomic_bool stop;           /* set by anybody: requests end with NB_INTERRUPTED */
    bool (*stopped)(void *arg); /* asked about once a second; true sets it. May be NULL */
    void *arg;
} nb_hub_net;
/* NB_USAGE: a variable is wrong (its value is not shown); NB_NETWORK: offline; NB_UNSUPPORTED: no
 * libcurl. */
nb_status nb_hub_net_open(nb_hub_net *net, nb_error *err) NB_CHECKED;

/* the latter where nobody answers at all */
enum { NB_URL = 8192, NB_TRIES = 6, NB_TRIES_TO_REACH = 3 };

typedef struct nb_http_reply {
    long status;
    char etag[512], linked_etag[512]; /* without W/ and quotes */
    char commit[64], error_code[64];
    char next[NB_URL];               /* Link: <...>; rel="next" */
    int64_t length, linked_size;     /* Content-Length, X-Linked-Size; -1: not said */
    int64_t range_from, range_total; /* Content-Range; -1: not said */
    int64_t retry_after_s;           /* -1: not said */
    bool encoded;                    /* Content-Encoding other than identity */
} nb_http_reply;

typedef struct nb_http_request {
    const char *what; /* in sentences: "org/repo: model.safetensors" */
    const char *url;
    bool head;    /* HEAD, which follows redirects within the endpoint only: of another the reply
                * itself is returned */
    int64_t from; /* Range: bytes=from- when > 0 */
    /* Once for the first reply that is no redirect, before its body; false ends the request with
     * NB_NETWORK, whose sentence is the callback's to write. `body` may end it so as well. */
    bool (*begin)(void *arg, const nb_http_reply *r);
    bool (*body)(void *arg, const void *p, size_t n); /* of 200 and 206 only */
    void *arg;
} nb_http_request;

typedef struct nb_http nb_http; /* a connection; one thread */
nb_http *nb_http_open(nb_hub_net *net, nb_error *err);
void nb_http_close(nb_http *h);
nb_hub_net *nb_http_net(const nb_http *h);

/* One try. NB_OK: there is a reply, whatever its status. NB_NETWORK: none. *tries: how many in all
 * may help, 1: no other. */
nb_status nb_http_once(nb_http *h, const nb_http_request *q, nb_http_reply *r, int *tries,
                       nb_error *err) NB_CHECKED;

bool nb_hub_stopped(nb_hub_net *net);

/* Before try `attempt` (from 1): waits, as the server asks (Retry-After, at most five minutes) or
 * 1/2, 1, 2, 4 ... s. false: it is not worth it, or stopped. */
bool nb_http_wait(nb_hub_net *net, int attempt, const nb_http_reply *r);
int nb_http_tries(long status); /* 408, 429, 5xx: NB_TRIES; else 1 */

/* Up to NB_TRIES tries. NB_OK for 200, 206 and, with head, 302 and its like; otherwise the sentence
 * of the status: NB_NOT_FOUND for 404, NB_NETWORK. */
nb_status nb_http_fetch(nb_http *h, const nb_http_request *q, nb_http_reply *r,
                        nb_error *err) NB_CHECKED;
nb_status nb_http_refused(const nb_hub_net *net, const nb_http_request *q, const nb_http_reply *r,
                          nb_error *err) NB_CHECKED;

/* The scheme, host and port of a URL, with the port always there, in lower case. false: no http(s)
 * URL, or one with a user in it. */
bool nb_url_origin(const char *url, char *out, size_t n);
/* Appends s, percent-encoded; keep: characters left alone besides letters, digits and -_.~ */
bool nb_url_add(char *url, size_t room, const char *s, const char *keep);

#endif
