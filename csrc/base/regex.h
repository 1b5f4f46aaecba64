/* regex.h -- regular expressions that come with a checkpoint: PCRE2 under limits, so that a pattern
 * cannot hang or crash the reader. */
#ifndef NB_BASE_REGEX_H
#define NB_BASE_REGEX_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

typedef struct nb_regex nb_regex;

/* At most 64 KiB, no \C. why [n_why]: what is wrong with the pattern, when the answer is
 * NB_BAD_INPUT; the caller makes the sentence. NB_NO_ROOM sets err. */
nb_status nb_regex_open(const char *pattern, size_t n, nb_regex **out, char *why, size_t n_why,
                        nb_error *err) NB_CHECKED;
void nb_regex_close(nb_regex *r); /* NULL is fine */
/* Whether it matches from the first byte of the text on, as Python's re.match does. false as well:
 * more than a million steps (*gave_up). */
bool nb_regex_match_begin(const nb_regex *r, const char *text, size_t n, bool *gave_up);

#endif
