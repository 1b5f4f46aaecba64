/* text.h -- text that grows: the files nibble writes in words (config.json, manifest.json, the
 * report, the journal).
 *
 * Appending never fails in the caller's face: a text that found no memory stays `failed`, and
 * nb_text_check says so once at the end. */
#ifndef NB_BASE_TEXT_H
#define NB_BASE_TEXT_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct nb_text {
    char *p; /* NUL-terminated; NULL while empty */
    size_t n, room;
    bool failed;
} nb_text; /* begins as {0} */

void nb_text_add(nb_text *t, const char *s, size_t n);
void nb_text_puts(nb_text *t, const char *s);
void nb_text_printf(nb_text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The string in quotes, escaped as RFC 8259 asks; bytes that are no UTF-8 become U+FFFD. */
void nb_text_json(nb_text *t, const char *s, size_t n);
/* The shortest digits that read back to the same double, or to the same float where x is one (f32);
 * NaN and infinities become null. */
enum { NB_NUMBER = 40 };
void nb_number(char s[NB_NUMBER], double x, bool f32);
/* A double by nb_number. */
void nb_text_number(nb_text *t, double x);
/* NB_NO_ROOM when memory ran out on the way; what names the text. */
nb_status nb_text_check(const nb_text *t, const char *what, nb_error *err) NB_CHECKED;
void nb_text_free(nb_text *t);

/* Bytes of the well-formed UTF-8 character at s, n >= 1 bytes left, and its code point; 0 when it
 * is broken (RFC 3629). */
int nb_character(const char *s, int64_t n, uint32_t *cp);
/* Would a terminal act on it instead of showing it? Control characters, C1, what turns the
 * direction of writing. */
bool nb_is_control(uint32_t cp);

#endif
