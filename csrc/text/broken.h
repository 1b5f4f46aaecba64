/* broken.h -- UTF-8 that is not: how much of it one U+FFFD stands for.
 *
 * Unicode 15, section 3.9, "U+FFFD substitution of maximal subparts": the longest beginning of a
 * character that could have been well-formed is replaced by one U+FFFD. Python and Rust do the
 * same. */
#ifndef NB_TEXT_BROKEN_H
#define NB_TEXT_BROKEN_H

#include "file/utf8.h"
#include <stdbool.h>

#define NB_REPLACEMENT "\xef\xbf\xbd"

/* Bytes of the well-formed character at p, 0 when it is broken; n >= 1. */
static inline size_t nb_utf8_whole(const char *p, size_t n)
{
    uint32_t c = 0;
    return nb_utf8_at((const unsigned char *)p, n, &c);
}

/* For broken text at p: bytes of the maximal subpart (1 to 3). *cut: the text ended inside it, so
 * more bytes could still make it whole. */
static inline size_t nb_utf8_broken(const char *p, size_t n, bool *cut)
{
    const unsigned char *s = (const unsigned char *)p;
    const unsigned char b = s[0];
    const size_t len = b >= 0xf0 && b < 0xf5   ? 4
                       : b >= 0xe0 && b < 0xf0 ? 3
                       : b >= 0xc2 && b < 0xe0 ? 2
                                               : 1;
    size_t i = 1;
    for (; i < len && i < n; i++) {
        unsigned char low = 0x80, high = 0xbf;
        if (i == 1) { /* no overlong form, no surrogate, nothing above U+10FFFF */
            low = b == 0xe0 ? 0xa0 : b == 0xf0 ? 0x90 : 0x80;
            high = b == 0xed ? 0x9f : b == 0xf4 ? 0x8f : 0xbf;
        }
        if (s[i] < low || s[i] > high)
            break;
    }
    *cut = i < len && i == n;
    return i;
}

#endif
