/* charsmap.c -- SentencePiece's normalization by a compiled table (precompiled_charsmap: nmt_nfkc
 * and its like).
 *
 *   | n, u32 | trie: n bytes of u32 units | replacements, each ended by NUL |
 *
 * The trie is a double array (Darts-clone, S. Yata): a unit holds label (bits 0-7, bit 31 set in
 * leaves), has-leaf (bit 8) and the offset to its children (bits 10-30, shifted left by 8 when bit
 * 9 is set); the child of a node under byte b is at node ^ offset ^ b. A leaf's value is the place
 * of the replacement. At every place of the text the longest match is replaced, else a character is
 * kept. A walk ends at the end of the text or after kLongest bytes, whatever the table links to. */
#include "base/scalar.h"
#include "text/broken.h"
#include "text/vocab.h"

#include <string.h>

enum { kLongest = 64, kHead = 4 };

static uint32_t unit_at(const char *trie, size_t i)
{
    return nb_load_u32(trie + 4 * i);
}

static size_t offset_of(uint32_t unit)
{
    return (size_t)(unit >> 10) << ((unit & (1u << 9)) >> 6);
}

nb_status nb_charsmap_check(const char *path, nb_str table, nb_error *err)
{
    const size_t n = table.n >= kHead ? nb_load_u32(table.p) : 0;
    if (table.n < kHead + 4 || n < 4 || n % 4 || n > table.n - kHead - 1 || table.p[table.n - 1])
        return nb_fail_at(
            err, NB_BAD_INPUT, path, -1,
            "the tokenizer's precompiled_charsmap of %zu bytes is no table of replacements",
            table.n);
    return NB_OK;
}

/* The longest match at p: bytes of it, 0 if there is none; *value: of its leaf. */
static size_t longest(const char *trie, size_t n_unit, const char *p, size_t n, size_t *value)
{
    size_t node = offset_of(unit_at(trie, 0)), found = 0;
    const size_t end = n < kLongest ? n : kLongest;
    for (size_t i = 0; i < end; i++) {
        const unsigned char byte = (unsigned char)p[i];
        node ^= byte;
        if (byte == 0 || node >= n_unit)
            break;
        const uint32_t unit = unit_at(trie, node);
        if ((unit & 0x800000ffu) != byte)
            break;
        node ^= offset_of(unit);
        if (node >= n_unit)
            break;
        if (unit & (1u << 8)) {
            *value = unit_at(trie, node) & 0x7fffffffu;
            found = i + 1;
        }
    }
    return found;
}

nb_status nb_charsmap_apply(nb_str table, const nb_buf *in, nb_buf *out, nb_error *err)
{
    const char *trie = table.p + kHead;
    const size_t n = nb_load_u32(table.p);
    const char *texts = trie + n;
    const size_t texts_n = table.n - kHead - n;
    nb_status st = NB_OK;
    for (size_t i = 0; i < in->n && st == NB_OK;) {
        size_t value = 0;
        const size_t match = longest(trie, n / 4, in->p + i, in->n - i, &value);
        if (match && value >= texts_n)
            return nb_fail(err, NB_BAD_INPUT,
                           "the tokenizer's precompiled_charsmap points behind its end");
        if (match) {
            /* the table ends with NUL */
            st = nb_buf_add(out, texts + value, strlen(texts + value), err);
            i += match;
        } else {
            const size_t len = nb_utf8_whole(in->p + i, in->n - i);
            st = nb_buf_add(out, in->p + i, len ? len : 1, err);
            i += len ? len : 1;
        }
    }
    return st;
}
