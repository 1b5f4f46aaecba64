/* net.c -- what the environment says about the hub: its address, the token, time limits. */
#include "base/mapfile.h"
#include "file/hub.h"
#include "hub/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

/* Printable ASCII without spaces: nothing that could end a header line and begin another. */
static bool is_token(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] <= ' ' || s[i] > '~')
            return false;
    return n > 0;
}

static nb_status set_token(nb_hub_net *net, const char *from, const char *s, size_t n,
                           nb_error *err)
{
    while (n && strchr(" \t\r\n", s[n - 1]))
        n--;
    while (n && strchr(" \t\r\n", *s))
        s++, n--;
    if (n == 0)
        return NB_OK;
    if (n >= sizeof net->token || !is_token(s, n))
        return nb_fail(
            err, NB_USAGE,
            "%s holds no token: it is longer than %zu characters, or some are not printable", from,
            sizeof net->token - 1);
    memcpy(net->token, s, n);
    net->token[n] = 0;
    return NB_OK;
}

static nb_status read_token(nb_hub_net *net, nb_error *err)
{
    const char *v = variable("HF_TOKEN"), *named = variable("HF_TOKEN_PATH");
    char path[NB_HUB_PATH + 8], home[NB_HUB_PATH];
    nb_mapfile *m = NULL;
    nb_error why = {.offset = -1};
    if (v)
        return set_token(net, "HF_TOKEN", v, strlen(v), err);
    if (!named && nb_hub_home(home, &why) != NB_OK)
        return NB_OK;
    if (named)
        snprintf(path, sizeof path, "%s", named);
    else
        snprintf(path, sizeof path, "%s/token", home);
    nb_status st = nb_mapfile_open(path, &m, &why);
    if (st == NB_OK && m->p)
        st = set_token(net, named ? "the file of HF_TOKEN_PATH" : "HF_HOME/token",
                       (const char *)m->p, m->n, err);
    else if (st != NB_OK) /* no file is no token, unless one was named */
        st = named ? nb_fail(err, NB_USAGE, "HF_TOKEN_PATH: %s", why.message) : NB_OK;
    nb_mapfile_close(m);
    return st;
}

static nb_status whole(const char *name, const char *unit, long *out, nb_error *err)
{
    const char *v = variable(name);
    if (!v)
        return NB_OK;
    long n = 0;
    for (const char *s = v; *s; s++) {
        if (*s < '0' || *s > '9' || n > 86400)
            return nb_fail(err, NB_USAGE, "%s must be a whole number of %s", name, unit);
        n = 10 * n + (*s - '0');
    }
    *out = n < 1 ? 1 : n;
    return NB_OK;
}

static bool is_true(const char *v)
{
    static const char *const yes[] = {"1", "ON", "YES", "TRUE", "on", "yes", "true"};
    for (size_t i = 0; v && i < sizeof yes / sizeof *yes; i++)
        if (strcmp(v, yes[i]) == 0)
            return true;
    return false;
}

nb_status nb_hub_net_open(nb_hub_net *net, nb_error *err)
{
    char origin[512];
    const char *v = variable("HF_ENDPOINT");
    memset(net, 0, sizeof *net);
    atomic_init(&net->stop, false);
    net->api_s = net->stall_s = 10;
    net->wait_ms = 500;
    if (is_true(variable("HF_HUB_OFFLINE")))
        return nb_fail(err, NB_NETWORK, "HF_HUB_OFFLINE is set: nothing is fetched");
    v = v ? v : "https://huggingface.co";
    size_t n = strlen(v);
    while (n && v[n - 1] == '/')
        n--;
    snprintf(net->endpoint, sizeof net->endpoint, "%.*s", (int)n, v);
    if (n >= sizeof net->endpoint || !nb_url_origin(net->endpoint, origin, sizeof origin) ||
        strpbrk(net->endpoint, "?#"))
        return nb_fail(err, NB_USAGE,
                       "HF_ENDPOINT must be http://HOST or https://HOST, without a user in it");
    nb_status st = whole("HF_HUB_ETAG_TIMEOUT", "seconds", &net->api_s, err);
    if (st == NB_OK)
        st = whole("HF_HUB_DOWNLOAD_TIMEOUT", "seconds", &net->stall_s, err);
    if (st == NB_OK)
        st = whole("NIBBLE_PULL_WAIT_MS", "milliseconds", &net->wait_ms, err);
    if (st == NB_OK)
        st = read_token(net, err);
    return st == NB_OK ? nb_curl_open(&net->curl, err) : st;
}
