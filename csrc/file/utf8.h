/* utf8.h -- one code point of UTF-8, read strictly (RFC 3629: no overlong form, no surrogate, at
 * most U+10FFFF). */
#ifndef NB_FILE_UTF8_H
#define NB_FILE_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the sequence at s, n of them left (n >= 1), and its code point in *c; 0 when it is
 * broken. */
static inline size_t nb_utf8_at(const unsigned char *s, size_t n, uint32_t *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000}; /* less has a shorter form */
    const unsigned char b = s[0];
    if (b < 0x80) {
        *c = b;
        return 1;
    }
    const size_t len = b < 0xc2 ? 0 : b < 0xe0 ? 2 : b < 0xf0 ? 3 : b < 0xf5 ? 4 : 0;
    if (len == 0 || len > n)
        return 0;
    uint32_t v = b & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        v = (v << 6) | (s[i] & 0x3fu);
    }
    if (v < least[len] || v > 0x10ffff || (v >= 0xd800 && v <= 0xdfff))
        return 0;
    *c = v;
    return len;
}

/* Writes c, a code point that is no surrogate, as 1 to 4 bytes; returns the place behind them. */
static inline char *nb_utf8_put(char *d, uint32_t c)
{
    if (c < 0x80) {
        *d++ = (char)c;
        return d;
    }
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    const uint32_t lead = 0xff00u >> (more + 1) & 0xffu; /* c0 e0 f0 */
    *d++ = (char)(unsigned char)(lead | c >> (6 * more));
    for (int k = more - 1; k >= 0; k--)
        *d++ = (char)(unsigned char)(0x80u | (c >> (6 * k) & 0x3fu));
    return d;
}

#endif
