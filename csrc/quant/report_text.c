/* report_text.c -- text and numbers of the report's page. */
#include "file/utf8.h"
#include "quant/report_page.h"

#include <math.h>
#include <string.h>

/* Seen by a reader as they are; everything else is spelled out. */
static bool harmless(uint32_t c)
{
    const bool control = c < 0x20 || (c >= 0x7f && c < 0xa0);
    const bool turns = c == 0x061c || c == 0x200e || c == 0x200f || (c >= 0x2028 && c <= 0x202e) ||
                       (c >= 0x2066 && c <= 0x2069);
    const bool hidden =
        c == 0xfeff || (c >= 0x200b && c <= 0x200d) || (c >= 0xe0000 && c <= 0xe007f);
    return !control && !turns && !hidden && (c & 0xfffe) != 0xfffe && !(c >= 0xfdd0 && c <= 0xfdef);
}

void nb_page_text(nb_text *t, const char *s)
{
    const size_t n = strlen(s);
    size_t plain = 0; /* beginning of a run that needs nothing */
    for (size_t i = 0; i < n;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at((const unsigned char *)s + i, n - i, &c);
        const char *entity = len != 1    ? NULL
                             : c == '&'  ? "&amp;"
                             : c == '<'  ? "&lt;"
                             : c == '>'  ? "&gt;"
                             : c == '"'  ? "&quot;"
                             : c == '\'' ? "&#39;"
                                         : NULL;
        if (len && !entity && harmless(c)) {
            i += len;
            continue;
        }
        nb_text_add(t, s + plain, i - plain);
        if (entity)
            nb_text_puts(t, entity);
        else if (len == 0 || c < 0x100)
            nb_text_printf(t, "\\x%02x", len ? (unsigned)c : (unsigned)(unsigned char)s[i]);
        else
            nb_text_printf(t, "\\u%04x", (unsigned)c);
        i += len ? len : 1;
        plain = i;
    }
    nb_text_add(t, s + plain, n - plain);
}

void nb_page_number(nb_text *t, double x)
{
    if (isnan(x))
        nb_text_puts(t, "not measured");
    else if (isinf(x))
        nb_text_puts(t, x > 0 ? "infinite" : "-infinite");
    else
        nb_text_printf(t, "%.3g", x);
}

void nb_page_bits(nb_text *t, double bits)
{
    if (isfinite(bits))
        nb_text_printf(t, "%.4g", bits);
    else
        nb_text_puts(t, "-");
}

void nb_page_seconds(nb_text *t, double s)
{
    if (!isfinite(s) || s < 0 || s > 1e9)
        nb_text_puts(t, "not measured");
    else if (s < 10)
        nb_text_printf(t, "%.2g s", s);
    else if (s < 120)
        nb_text_printf(t, "%.0f s", s);
    else if (s < 7200)
        nb_text_printf(t, "%d min %02d s", (int)(s / 60), (int)fmod(s, 60));
    else
        nb_text_printf(t, "%d h %02d min", (int)(s / 3600), (int)(fmod(s, 3600) / 60));
}
