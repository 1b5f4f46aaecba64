/* curl.c -- opening libcurl (curl.h). */
#include "hub/curl.h"

#include <dlfcn.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool symbol(const nb_curl *c, const char *name, void *function, size_t n)
{
    void *p = dlsym(c->library, name);
    memcpy(function, &p, n); /* ISO C has no cast from object to function pointers */
    return p != NULL;
}

nb_status nb_curl_open(nb_curl *c, nb_error *err)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl-nss.so.4"};
    /* another file, for systems that keep it elsewhere */
    const char *named = getenv("NIBBLE_LIBCURL");
    *c = (nb_curl){0};
    if (named && *named)
        c->library = dlopen(named, RTLD_LAZY | RTLD_LOCAL);
    for (size_t i = 0; !c->library && !(named && *named) && i < sizeof names / sizeof *names; i++)
        c->library = dlopen(names[i], RTLD_LAZY | RTLD_LOCAL);
    const bool ok =
        c->library && symbol(c, "curl_global_init", &c->global_init, sizeof c->global_init) &&
        symbol(c, "curl_easy_init", &c->easy_init, sizeof c->easy_init) &&
        symbol(c, "curl_easy_cleanup", &c->easy_cleanup, sizeof c->easy_cleanup) &&
        symbol(c, "curl_easy_setopt", &c->easy_setopt, sizeof c->easy_setopt) &&
        symbol(c, "curl_easy_getinfo", &c->easy_getinfo, sizeof c->easy_getinfo) &&
        symbol(c, "curl_easy_perform", &c->easy_perform, sizeof c->easy_perform) &&
        symbol(c, "curl_easy_strerror", &c->easy_strerror, sizeof c->easy_strerror) &&
        symbol(c, "curl_slist_append", &c->slist_append, sizeof c->slist_append) &&
        symbol(c, "curl_slist_free_all", &c->slist_free_all, sizeof c->slist_free_all) &&
        c->global_init(NB_CURL_GLOBAL_DEFAULT) == NB_CURLE_OK;
    if (ok)
        return NB_OK;
    const nb_status st =
        nb_fail(err, NB_UNSUPPORTED, "libcurl is not installed, and only it fetches files");
    nb_hint(err, "apt-get install libcurl4");
    return st;
}
