/* status.c -- sentences into nb_error. */
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

int nb_character(const char *text, int64_t n, uint32_t *cp)
{
    const unsigned char *s = (const unsigned char *)text;
    static const struct {
        unsigned char mask, lead;
        uint32_t least;
    } form[] = {{0x80, 0x00, 0}, {0xe0, 0xc0, 0x80}, {0xf0, 0xe0, 0x800}, {0xf8, 0xf0, 0x10000}};
    for (int len = 1; len <= 4; len++) {
        if ((s[0] & form[len - 1].mask) != form[len - 1].lead)
            continue;
        if (len > n)
            return 0;
        uint32_t c = s[0] & (uint32_t)(unsigned char)~form[len - 1].mask;
        for (int i = 1; i < len; i++) {
            if ((s[i] & 0xc0) != 0x80)
                return 0;
            c = (c << 6) | (s[i] & 0x3fu);
        }
        if (c < form[len - 1].least || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
            return 0;
        *cp = c;
        return len;
    }
    return 0;
}

bool nb_is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x202a && c <= 0x202e) ||
           (c >= 0x2066 && c <= 0x2069) || c == 0x200e || c == 0x200f || c == 0x2028 || c == 0x2029;
}

/* The character at s, n bytes left, as it is shown; *len: bytes of the piece. Returns how many
 * bytes of s it stands for. */
static int show(const char *s, int64_t n, char piece[12], int *len)
{
    uint32_t c = 0;
    const int used = nb_character(s, n, &c);
    if (used && !nb_is_control(c)) {
        memcpy(piece, s, (size_t)used);
        *len = used;
    } else
        *len = snprintf(piece, 12, !used || c < 0x80 ? "\\x%02x" : "\\u%04x",
                        used ? (unsigned)c : (unsigned)(unsigned char)s[0]);
    return used ? used : 1;
}

/* A finished sentence of at most room - 1 bytes: what no call escaped. */
static void make_harmless(char *s, size_t room)
{
    char copy[sizeof((nb_error *)0)->message];
    size_t i = 0, o = 0;
    const size_t n = strlen(s);
    uint32_t c = 0;
    for (int len;
         i < n && (len = nb_character(s + i, (int64_t)(n - i), &c)) > 0 && !nb_is_control(c);)
        i += (size_t)len;
    if (i == n)
        return;
    memcpy(copy, s, n + 1);
    for (o = i; i < n;) {
        char piece[12];
        int len = 0;
        const int used = show(copy + i, (int64_t)(n - i), piece, &len);
        if (o + (size_t)len >= room)
            break;
        memcpy(s + o, piece, (size_t)len);
        o += (size_t)len;
        i += (size_t)used;
    }
    s[o] = 0;
}

static void set(nb_error *err, nb_status code)
{
    err->code = code;
    err->hint[0] = err->file[0] = 0;
    err->offset = -1;
}

nb_status nb_fail(nb_error *err, nb_status code, const char *fmt, ...)
{
    if (err) {
        set(err, code);
        va_list ap;
        va_start(ap, fmt);
        vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        make_harmless(err->message, sizeof err->message);
    }
    return code;
}

nb_status nb_fail_at(nb_error *err, nb_status code, const char *path, int64_t offset,
                     const char *fmt, ...)
{
    if (!err)
        return code;
    set(err, code);
    char name[sizeof err->file];
    nb_escape(name, (int64_t)sizeof name, path, (int64_t)strlen(path));
    int n = snprintf(err->message, sizeof err->message, "%s: ", name);
    va_list ap;
    va_start(ap, fmt);
    n += vsnprintf(err->message + n, sizeof err->message - (size_t)n, fmt, ap);
    va_end(ap);
    if (offset >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ", offset %lld",
                 (long long)offset);
    make_harmless(err->message, sizeof err->message);
    snprintf(err->file, sizeof err->file, "%s", name);
    err->offset = offset;
    return code;
}

static nb_status code_of(int e)
{
    return e == ENOENT || e == ENOTDIR                 ? NB_NOT_FOUND
           : e == ENOSPC || e == ENOMEM || e == EDQUOT ? NB_NO_ROOM
                                                       : NB_IO;
}

/* ": " and strerror(e) behind a sentence of n characters. */
static void add_reason(nb_error *err, int n, int e)
{
    if (n >= 0 && (size_t)n < sizeof err->message)
        snprintf(err->message + n, sizeof err->message - (size_t)n, ": %s", strerror(e));
    make_harmless(err->message, sizeof err->message);
}

nb_status nb_fail_errno(nb_error *err, const char *fmt, ...)
{
    const int e = errno;
    if (err) {
        set(err, code_of(e));
        va_list ap;
        va_start(ap, fmt);
        const int n = vsnprintf(err->message, sizeof err->message, fmt, ap);
        va_end(ap);
        add_reason(err, n, e);
    }
    return code_of(e);
}

nb_status nb_fail_errno_at(nb_error *err, const char *path, const char *fmt, ...)
{
    const int e = errno;
    if (err) {
        set(err, code_of(e));
        nb_escape(err->file, (int64_t)sizeof err->file, path, (int64_t)strlen(path));
        int n = snprintf(err->message, sizeof err->message, "%s: ", err->file);
        va_list ap;
        va_start(ap, fmt);
        n += vsnprintf(err->message + n, sizeof err->message - (size_t)n, fmt, ap);
        va_end(ap);
        add_reason(err, n, e);
    }
    return code_of(e);
}

void nb_hint(nb_error *err, const char *fmt, ...)
{
    if (!err)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->hint, sizeof err->hint, fmt, ap);
    va_end(ap);
    make_harmless(err->hint, sizeof err->hint);
}

char *nb_escape(char *dst, int64_t dst_bytes, const char *text, int64_t n)
{
    enum { kShown = 128 }; /* hardening R7: text from files is cut to 128 bytes */
    int64_t o = 0;
    const int64_t end = n < kShown ? n : kShown;
    for (int64_t i = 0; i < end;) {
        char piece[12];
        int m = 0;
        const int used = show(text + i, n - i, piece, &m);
        if (o + m + 4 > dst_bytes)
            break;
        memcpy(dst + o, piece, (size_t)m);
        o += m;
        i += used;
        if (i >= end && end < n && o + 4 <= dst_bytes) {
            memcpy(dst + o, "...", 3);
            o += 3;
        }
    }
    dst[o] = 0;
    return dst;
}
