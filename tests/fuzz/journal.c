/* journal.c -- fuzz target: what is accepted is a chain of records that lie one behind the other;
 * parsing what was found good again gives the same. */
#include "file/journal.h"
#include "fuzz/fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    nb_journal_record *r = NULL, *again = NULL;
    size_t n = 0, m = 0, good = 0, still = 0;
    nb_error err = {.offset = -1};
    const nb_status st = nb_journal_parse("fuzz", (const char *)data, size, &r, &n, &good, &err);
    if (st != NB_OK) {
        FUZZ_PROMISE(st == NB_BAD_INPUT && err.message[0] && !r && !n && !good,
                     "a refusal is the file's fault and leaves nothing");
        return 0;
    }
    FUZZ_PROMISE(good <= size && (n == 0) == (r == NULL), "records or none");
    const char *at = (const char *)data;
    for (size_t i = 0; i < n; i++) {
        FUZZ_PROMISE(r[i].p > at && r[i].n <= (size_t)((const char *)data + good - r[i].p) &&
                         r[i].p[r[i].n] == '\n',
                     "a record lies behind the one before");
        at = r[i].p + r[i].n;
    }
    FUZZ_PROMISE(nb_journal_parse("fuzz", (const char *)data, good, &again, &m, &still, NULL) ==
                         NB_OK &&
                     m == n && still == good,
                 "the good part is good");
    free(r);
    free(again);
    return 0;
}
