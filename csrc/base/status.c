/* status.c -- sentences into nb_error. */
#include "base/status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

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
    }
    return code;
}

nb_status nb_fail_at(nb_error *err, nb_status code, const char *path, int64_t offset, const char *fmt, ...)
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
        snprintf(err->message + n, sizeof err->message - (size_t)n, ", offset %lld", (long long)offset);
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
}

/* Length of the UTF-8 sequence at s (n bytes left) and its code point, or 0 when it is broken (RFC 3629). */
static int utf8_at(const unsigned char *s, int64_t n, uint32_t *cp)
{
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

char *nb_escape(char *dst, int64_t dst_bytes, const char *text, int64_t n)
{
    enum { kShown = 128 }; /* hardening R7: text from files is cut to 128 bytes */
    int64_t o = 0;
    const int64_t end = n < kShown ? n : kShown;
    for (int64_t i = 0; i < end;) {
        uint32_t c = 0;
        const int len = utf8_at((const unsigned char *)text + i, n - i, &c);
        char piece[12];
        int m;
        if (len == 0)
            m = snprintf(piece, sizeof piece, "\\x%02x", (unsigned)(unsigned char)text[i]);
        else if (c < 0x20 || c == 0x7f)
            m = snprintf(piece, sizeof piece, "\\x%02x", (unsigned)c);
        else if ((c >= 0x80 && c < 0xa0) || (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
                 c == 0x200e || c == 0x200f || c == 0x2028 || c == 0x2029)
            m = snprintf(piece, sizeof piece, "\\u%04x", (unsigned)c);
        else {
            memcpy(piece, text + i, (size_t)len);
            m = len;
        }
        if (o + m + 4 > dst_bytes)
            break;
        memcpy(dst + o, piece, (size_t)m);
        o += m;
        i += len ? len : 1;
        if (i >= end && end < n && o + 4 <= dst_bytes) {
            memcpy(dst + o, "...", 3);
            o += 3;
        }
    }
    dst[o] = 0;
    return dst;
}
