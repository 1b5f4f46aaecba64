/* fake_hub.h -- a hub on the loopback, for tests of pull: two ports (the hub and "another host"),
 * files that tests give it, and the faults that a network, a careless server or a hostile one has.
 * It writes down what it was asked. */
#ifndef NB_TESTS_HUB_FAKE_HUB_H
#define NB_TESTS_HUB_FAKE_HUB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* what main means; a revision of 40 digits means itself */
#define FAKE_COMMIT "0123456789abcdef0123456789abcdef01234567"

typedef enum fake_fault {
    FAKE_SOUND,
    FAKE_REDIRECT, /* 302 to the other port, as large files are */
    FAKE_RELATIVE, /* 307 to another path of the hub, whose reply lacks what this one says of the
                    * file, as the real one's cache */
    FAKE_CUT,      /* every body ends in its middle; Range is honoured */
    FAKE_CUT_NO_RANGE,    /* the same, and Range is ignored */
    FAKE_NO_RANGE,        /* Range is ignored */
    FAKE_RANGE_REFUSED,   /* 416 to every Range */
    FAKE_RANGE_ELSEWHERE, /* 206 of another part */
    FAKE_LONGER,          /* more bytes than announced, Content-Length says so */
    FAKE_LONGER_CHUNKED,  /* the same, in chunks */
    FAKE_WRONG_BYTES,
    FAKE_GZIP,         /* Content-Encoding nobody asked for */
    FAKE_BUSY,         /* the first two requests get 429, Retry-After: 0 */
    FAKE_DOWN,         /* 503 always, Retry-After: 0 */
    FAKE_WAIT_LONG,    /* 429, Retry-After: a day */
    FAKE_UNAUTHORISED, /* 401 without a token */
    FAKE_FORBIDDEN,    /* 403 */
    FAKE_GONE,         /* 404 */
    FAKE_STALL,        /* a reply that never comes */
    FAKE_FILE_URL,     /* 302 to file:///etc/passwd */
    FAKE_LOOP,         /* 302 to itself */
    FAKE_ETAG_SLASH,
    FAKE_ETAG_DOTS,
    FAKE_OTHER_ETAG, /* another hash than the listing's */
    FAKE_OTHER_COMMIT,
    FAKE_HUGE /* the listing says 2^60 bytes */
} fake_fault;

typedef struct fake_file {
    const char *repo, *path; /* "org/name", "sub/config.json"; written into JSON as it is */
    const void *p;
    size_t n;
    bool lfs; /* named by SHA-256; else by git's SHA-1 */
    fake_fault fault;
} fake_file;

typedef struct fake_request {
    int port; /* 0: the hub, 1: the other host */
    char method[8], path[512];
    bool authorised; /* an Authorization header came */
    long long range; /* Range: bytes=N-; -1: none */
    int status;
} fake_request;

typedef struct fake_hub fake_hub;
/* files are borrowed. page: entries a page of the listing, 0: all. Ends the process when there are
 * no sockets. */
fake_hub *fake_hub_open(const fake_file *files, size_t n, size_t page);
int fake_hub_port(const fake_hub *h, int which);
void fake_hub_clear(fake_hub *h); /* forgets requests and counts */
size_t fake_hub_requests(fake_hub *h, fake_request *out, size_t most);
int fake_hub_waiting(fake_hub *h); /* connections that FAKE_STALL holds */
void fake_hub_close(fake_hub *h);

#endif
