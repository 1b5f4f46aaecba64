/* spelling.c -- what a token's spelling stands for.
 *
 * Byte-level (GPT-2, Radford et al. 2019): byte b is spelled by the character U+00b where that is
 * printable, the 68 others by U+0100, U+0101 ... in order of b. SentencePiece: U+2581 is a space,
 * <0xAB> the byte AB. */
#include "file/utf8.h"
#include "text/broken.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

enum { kUnprintable = 68, kCodes = 256 + kUnprintable };

static bool printable(int b)
{
    return (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
}

/* The code point that spells byte b. */
static uint32_t code_of(int b)
{
    if (printable(b))
        return (uint32_t)b;
    /* unprintable: 0-32, 127-160, 173; so many of them come before b */
    const int before = b <= 32 ? b : b <= 160 ? b - 127 + 33 : kUnprintable - 1;
    return 256u + (uint32_t)before;
}

static void byte_table(int16_t byte_of[kCodes])
{
    for (int i = 0; i < kCodes; i++)
        byte_of[i] = -1;
    for (int b = 0; b < 256; b++)
        byte_of[code_of(b)] = (int16_t)b;
}

size_t nb_spelling_of_bytes(const char *p, size_t n, char *out)
{
    char *d = out;
    for (size_t i = 0; i < n; i++)
        d = nb_utf8_put(d, code_of((unsigned char)p[i]));
    return (size_t)(d - out);
}

int nb_spelling_byte(nb_str s)
{
    int v = 0;
    if (s.n != 6 || memcmp(s.p, "<0x", 3) != 0 || s.p[5] != '>')
        return -1;
    for (int i = 3; i < 5; i++) {
        const char c = s.p[i];
        const int d = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                             : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

/* The bytes behind a byte-level spelling to d; 0 when a character is not of its alphabet. */
static size_t unspell(nb_str s, const int16_t byte_of[kCodes], char *d)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n;) {
        uint32_t c = 0;
        const size_t len = nb_utf8_at((const unsigned char *)s.p + i, s.n - i, &c);
        if (len == 0 || c >= kCodes || byte_of[c] < 0)
            return 0;
        d[n++] = (char)byte_of[c];
        i += len;
    }
    return n;
}

size_t nb_spelling_unmark(nb_str s, char *d)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n;)
        if (s.n - i >= 3 && memcmp(s.p + i, NB_SPACE_MARK, 3) == 0) {
            d[n++] = ' ';
            i += 3;
        } else {
            d[n++] = s.p[i++];
        }
    return n;
}

static bool names_end(nb_str s)
{
    static const char *const names[] = {
        "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>",
        "<|end|>",    "<end_of_turn>", "</s>",       "<|end_of_text|>",
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == s.n && memcmp(names[i], s.p, s.n) == 0)
            return true;
    return false;
}

/* Has U+2581 behind another character. */
static bool mark_inside(nb_str s)
{
    bool other = false;
    for (size_t i = 0; i < s.n;) {
        const bool mark = s.n - i >= 3 && memcmp(s.p + i, NB_SPACE_MARK, 3) == 0;
        if (mark && other)
            return true;
        other = !mark;
        i += mark ? 3 : 1;
    }
    return false;
}

static void read_byte_ids(nb_tokenizer *t)
{
    for (int b = 0; b < 256; b++) {
        char s[4];
        const char c = (char)b;
        t->byte_id[b] = t->byte_level ? nb_vocab_find(t, s, nb_spelling_of_bytes(&c, 1, s)) : -1;
    }
}

/* The piece of token id, written to d; returns its length. */
static size_t piece_of(const nb_tokenizer *t, int32_t id, const int16_t byte_of[kCodes], char *d)
{
    const nb_str s = t->token[id];
    if (t->type[id] == NB_TOKEN_BYTE) {
        *d = (char)nb_spelling_byte(s);
        return 1;
    }
    if (t->type[id] != NB_TOKEN_NORMAL && t->type[id] != NB_TOKEN_USER)
        return 0;
    if (!t->byte_level)
        return nb_spelling_unmark(s, d);
    const size_t n = t->type[id] == NB_TOKEN_NORMAL ? unspell(s, byte_of, d) : 0;
    if (n == 0)
        memcpy(d, s.p, s.n);
    return n ? n : s.n;
}

nb_status nb_spelling_index(nb_tokenizer *t, const char *path, nb_error *err)
{
    int16_t byte_of[kCodes];
    size_t bytes = 0, used = 0;
    for (int32_t id = 0; id < t->n; id++)
        bytes += t->token[id].n; /* all lie in one mapped file: no wrap */
    char *pool = nb_arena_alloc(t->arena, bytes + 1, 1, err);
    if (!pool)
        return NB_NO_ROOM;
    byte_table(byte_of);
    read_byte_ids(t);
    t->cuts_at_mark = !t->byte_level && nb_vocab_find(t, NB_SPACE_MARK, 3) >= 0;
    for (int32_t id = 0; id < t->n; id++) {
        const nb_str s = t->token[id];
        if (t->type[id] == NB_TOKEN_BYTE) {
            const int b = nb_spelling_byte(s);
            if (b < 0)
                return nb_fail_at(err, NB_BAD_INPUT, path, -1,
                                  "token %d is marked as a byte but is not spelled <0xXX>", id);
            t->byte_id[b] = id;
        } else if (t->type[id] == NB_TOKEN_NORMAL || t->type[id] == NB_TOKEN_USER) {
            t->longest = s.n > t->longest ? s.n : t->longest;
            t->cuts_at_mark = t->cuts_at_mark && !mark_inside(s);
        }
        const size_t n = piece_of(t, id, byte_of, pool + used);
        t->piece[id] = (nb_str){pool + used, n};
        used += n;
        t->is_end[id] =
            t->is_end[id] || id == t->eos || (t->type[id] == NB_TOKEN_CONTROL && names_end(s));
    }
    return NB_OK;
}
