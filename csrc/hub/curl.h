/* curl.h -- the little of libcurl that pull uses, opened at run time: the only file of nibble that
 * knows libcurl is curl.c, and a machine without it runs everything else.
 *
 * The numbers are libcurl's own, fixed since its ABI 4 (2006); tests/unit/hub.c holds them to
 * curl.h where that is installed. */
#ifndef NB_HUB_CURL_H
#define NB_HUB_CURL_H

#include "base/status.h"
#include <stddef.h>

enum { /* options: 0: long, 10000: pointer, 20000: function */
       NB_CURL_LOW_SPEED_LIMIT = 19,
       NB_CURL_LOW_SPEED_TIME = 20,
       NB_CURL_NOPROGRESS = 43,
       NB_CURL_NOBODY = 44,
       NB_CURL_FOLLOWLOCATION = 52,
       NB_CURL_HTTPGET = 80,
       NB_CURL_CONNECTTIMEOUT = 78,
       NB_CURL_NOSIGNAL = 99,
       NB_CURL_PROTOCOLS = 181,
       NB_CURL_WRITEDATA = 10001,
       NB_CURL_URL = 10002,
       NB_CURL_USERAGENT = 10018,
       NB_CURL_HTTPHEADER = 10023,
       NB_CURL_HEADERDATA = 10029,
       NB_CURL_XFERINFODATA = 10057,
       NB_CURL_CAINFO = 10065,
       NB_CURL_WRITEFUNCTION = 20011,
       NB_CURL_HEADERFUNCTION = 20079,
       NB_CURL_XFERINFOFUNCTION = 20219,
};
enum { NB_CURLINFO_RESPONSE_CODE = 0x200002, NB_CURLINFO_REDIRECT_URL = 0x10001f };
enum { NB_CURLPROTO_HTTP = 1, NB_CURLPROTO_HTTPS = 2, NB_CURL_GLOBAL_DEFAULT = 3 };
enum { /* what perform returns; only those that are told apart */
       NB_CURLE_OK = 0,
       NB_CURLE_WRITE_ERROR = 23,
       NB_CURLE_ABORTED_BY_CALLBACK = 42,
       NB_CURLE_UNSUPPORTED_PROTOCOL = 1,
       NB_CURLE_URL_MALFORMAT = 3,
       NB_CURLE_COULDNT_RESOLVE_PROXY = 5,
       NB_CURLE_COULDNT_RESOLVE_HOST = 6,
       NB_CURLE_COULDNT_CONNECT = 7,
       NB_CURLE_PEER_FAILED_VERIFICATION = 60,
       NB_CURLE_SSL_CACERT_BADFILE = 77,
};

typedef struct nb_curl {
    void *library;
    int (*global_init)(long flags);
    void *(*easy_init)(void);
    void (*easy_cleanup)(void *easy);
    int (*easy_setopt)(void *easy, int option, ...);
    int (*easy_getinfo)(void *easy, int info, ...);
    int (*easy_perform)(void *easy);
    const char *(*easy_strerror)(int code);
    void *(*slist_append)(void *list, const char *text);
    void (*slist_free_all)(void *list);
} nb_curl;

/* NB_UNSUPPORTED, with the package to install, when there is no libcurl. The library stays loaded:
 * TLS libraries do not like to be unloaded. */
nb_status nb_curl_open(nb_curl *c, nb_error *err) NB_CHECKED;

#endif
