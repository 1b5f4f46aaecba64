/* journal.h -- an append-only file of records: what an interrupted run had done.
 *
 *   nibble-journal 1 LF
 *   LENGTH SP HASH SP PAYLOAD LF        for each record
 *
 * LENGTH: bytes of PAYLOAD in decimal, no leading zero. HASH: 64 hex digits, SHA-256 over the HASH
 * text of the record before (none for the first) and the PAYLOAD, so that records can be neither
 * changed nor moved nor left out. A record is on disk before append returns. What a crash cut off
 * in the middle (the last record is short, or its hash wrong, or zeros) is dropped; anything else
 * that does not fit is NB_BAD_INPUT. */
#ifndef NB_FILE_JOURNAL_H
#define NB_FILE_JOURNAL_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { NB_JOURNAL_PAYLOAD_MAX = 1 << 24 };

typedef struct nb_journal_record {
    const char *p; /* borrowed from the bytes that were parsed */
    size_t n;
} nb_journal_record;

/* Splits the bytes of a journal. *record [*n_record] is allocated, free() it. *good: bytes up to
 * the end of the last whole record. */
nb_status nb_journal_parse(const char *path, const char *p, size_t n, nb_journal_record **record,
                           size_t *n_record, size_t *good, nb_error *err) NB_CHECKED;

typedef struct nb_journal nb_journal;
/* Opens for appending behind what is there (created empty where it is not); a record that was cut
 * off is removed. */
nb_status nb_journal_open(const char *path, nb_journal **out, nb_error *err) NB_CHECKED;
/* Written and synced when it returns NB_OK. After NB_IO the journal is not to be trusted. */
nb_status nb_journal_append(nb_journal *j, const char *payload, size_t n, nb_error *err) NB_CHECKED;
void nb_journal_close(nb_journal *j); /* NULL is fine */
/* The records that were there when it was opened; borrowed until close. */
size_t nb_journal_count(const nb_journal *j);
nb_journal_record nb_journal_at(const nb_journal *j, size_t i);

#endif
