/* utf8.c -- fuzz target: one code point of UTF-8 (nb_utf8_at) against the table of RFC 3629,
 * section 4, and against its own writer. */
#include "file/utf8.h"
#include "fuzz/fuzz.h"

#include <string.h>

static int in(uint8_t b, uint8_t low, uint8_t high)
{
    return b >= low && b <= high;
}

/* The well-formed sequences as the RFC's grammar lists them: their length, 0 for none. */
static size_t grammar(const uint8_t *s, size_t n)
{
    const int tail2 = n > 1 && in(s[1], 0x80, 0xbf), tail3 = n > 2 && in(s[2], 0x80, 0xbf),
              tail4 = n > 3 && in(s[3], 0x80, 0xbf);
    if (s[0] <= 0x7f)
        return 1;
    if (in(s[0], 0xc2, 0xdf))
        return tail2 ? 2 : 0;
    if (s[0] == 0xe0)
        return tail2 && tail3 && in(s[1], 0xa0, 0xbf) ? 3 : 0;
    if (s[0] == 0xed)
        return tail2 && tail3 && in(s[1], 0x80, 0x9f) ? 3 : 0;
    if (in(s[0], 0xe1, 0xef))
        return tail2 && tail3 ? 3 : 0;
    if (s[0] == 0xf0)
        return tail2 && tail3 && tail4 && in(s[1], 0x90, 0xbf) ? 4 : 0;
    if (in(s[0], 0xf1, 0xf3))
        return tail2 && tail3 && tail4 ? 4 : 0;
    if (s[0] == 0xf4)
        return tail2 && tail3 && tail4 && in(s[1], 0x80, 0x8f) ? 4 : 0;
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at(data + i, size - i, &c);
        FUZZ_PROMISE(len == grammar(data + i, size - i), "the length is the grammar's");
        if (len) {
            char again[4];
            FUZZ_PROMISE((size_t)(nb_utf8_put(again, c) - again) == len &&
                             memcmp(again, data + i, len) == 0,
                         "what is read is written the same");
        }
        i += len ? len : 1;
    }
    return 0;
}
