/* spm.c -- a tokenizer.model that lies: numbers that do not end, lengths past the end, pieces that
 * cannot be, a table of replacements that leads in circles. */
#include "hostile/bytes.h"
#include "tokenizers.h"

static void put_varint(bytes *b, uint64_t v)
{
    for (; v > 0x7f; v >>= 7)
        put_u8(b, (uint32_t)(v & 0x7f) | 0x80);
    put_u8(b, (uint32_t)v);
}

static void put_field(bytes *b, uint32_t number, const void *p, size_t n)
{
    put_varint(b, number << 3 | 2);
    put_varint(b, n);
    for (size_t i = 0; i < n; i++)
        put_u8(b, ((const uint8_t *)p)[i]);
}

static void put_piece(bytes *b, const char *text, float score, uint32_t type)
{
    bytes m = {0};
    uint32_t bits = 0;
    memcpy(&bits, &score, sizeof bits);
    put_field(&m, 1, text, strlen(text));
    put_u8(&m, 2 << 3 | 5);
    put_u32(&m, bits);
    put_varint(&m, 3 << 3);
    put_varint(&m, type);
    put_field(b, 1, m.p, m.n);
    free(m.p);
}

/* <unk> <s> </s> U+2581 a aa, model type 1 unigram or 2 BPE; no normalizer_spec. */
static void put_model(bytes *b, uint32_t model_type)
{
    bytes m = {0};
    put_piece(b, "<unk>", 0, 2);
    put_piece(b, "<s>", 0, 3);
    put_piece(b, "</s>", 0, 3);
    put_piece(b, "\xe2\x96\x81", -3, 1);
    put_piece(b, "a", -2, 1);
    put_piece(b, "aa", -1, 1);
    put_varint(&m, 3 << 3);
    put_varint(&m, model_type);
    put_field(b, 2, m.p, m.n);
    free(m.p);
}

/* normalizer_spec with a table of replacements. */
static void put_charsmap(bytes *b, const void *p, size_t n)
{
    bytes m = {0};
    put_field(&m, 2, p, n);
    put_field(b, 3, m.p, m.n);
    free(m.p);
}

static void gives(check *c, bytes *b, nb_status want, const char *says)
{
    tokenizer_of k;
    tokenizer_from_spm(&k, b->p ? b->p : (const uint8_t *)"", b->n);
    CHECK_EQ(c, k.st, want);
    CHECK_HAS(c, k.err.message, says);
    CHECK_EQ(c, k.t != NULL, want == NB_OK);
    tokenizer_gone(&k);
    free(b->p);
    *b = (bytes){0};
}

static void varints(check *c)
{
    bytes b = {0};
    gives(c, &b, NB_BAD_INPUT, "no pieces");
    for (int i = 0; i < 11; i++) /* sp-varint */
        put_u8(&b, 0x80);
    put_u8(&b, 1);
    gives(c, &b, NB_BAD_INPUT, "more than 64 bits");
    put_model(&b, 2);
    put_u8(&b, 0x08);
    for (int i = 0; i < 9; i++)
        put_u8(&b, 0xff);
    put_u8(&b, 0x02); /* bit 64 */
    gives(c, &b, NB_BAD_INPUT, "more than 64 bits");
    put_model(&b, 2);
    put_u8(&b, 0x80);
    gives(c, &b, NB_BAD_INPUT, "ends inside a number");
    put_u8(&b, 0x0a);
    put_varint(&b, 100);
    gives(c, &b, NB_BAD_INPUT, "longer than what is left");
    put_u8(&b, 0x0a);
    put_varint(&b, UINT64_MAX);
    gives(c, &b, NB_BAD_INPUT, "longer than what is left");
    put_u8(&b, 0x0b); /* a group */
    gives(c, &b, NB_BAD_INPUT, "groups");
    put_u8(&b, 0x02); /* field 0 */
    put_u8(&b, 0x00);
    gives(c, &b, NB_BAD_INPUT, "number 0");
    put_model(&b, 2);
    put_varint(&b, 99 << 3 | 1); /* an unknown field of eight bytes is passed over */
    put_u32(&b, 1);
    put_u32(&b, 2);
    gives(c, &b, NB_OK, "");
}

static void every_cut(check *c)
{
    bytes whole = {0};
    put_model(&whole, 2);
    for (size_t n = 0; n < whole.n; n++) {
        tokenizer_of k;
        tokenizer_from_spm(&k, whole.p, n);
        CHECK(c, k.st == NB_OK || k.st == NB_BAD_INPUT);
        CHECK_EQ(c, k.t != NULL, k.st == NB_OK);
        tokenizer_gone(&k);
    }
    free(whole.p);
}

static void pieces(check *c)
{
    bytes b = {0};
    put_model(&b, 2);
    put_piece(&b, "b", NAN, 1);
    gives(c, &b, NB_BAD_INPUT, "not finite");
    put_model(&b, 2);
    put_piece(&b, "b", INFINITY, 1);
    gives(c, &b, NB_BAD_INPUT, "not finite");
    put_model(&b, 2);
    put_piece(&b, "<u>", 0, 2);
    gives(c, &b, NB_BAD_INPUT, "two unknown");
    put_piece(&b, "a", 0, 1);
    gives(c, &b, NB_BAD_INPUT, "no unknown");
    put_model(&b, 2);
    put_piece(&b, "b", 0, 7);
    gives(c, &b, NB_BAD_INPUT, "unknown type");
    put_model(&b, 2);
    put_piece(&b, "", 0, 1);
    gives(c, &b, NB_BAD_INPUT, "without text");
    put_model(&b, 2);
    put_piece(&b, "<0xZZ>", 0, 6);
    gives(c, &b, NB_BAD_INPUT, "<0xXX>");
    put_model(&b, 3);
    gives(c, &b, NB_UNSUPPORTED, "model type 3");
    char word[301];
    memset(word, 'a', 300);
    word[300] = 0;
    put_model(&b, 1);
    put_piece(&b, word, -1, 1);
    gives(c, &b, NB_UNSUPPORTED, "300 bytes");
}

/* The double array's children of every node are node 'A' again: a text of A walks until it ends. */
static void table_in_circles(check *c)
{
    enum { kUnits = 256, kText = 1 << 20 };
    uint32_t table[1 + kUnits + 1] = {4 * kUnits};
    bytes b = {0};
    tokenizer_of k;
    nb_ids v = {0};
    char *text = malloc(kText);
    for (uint32_t i = 0; i < kUnits; i++)
        table[1 + i] = 'A' | (uint32_t)1 << 10; /* label A, offset 1, no leaf */
    put_model(&b, 1);
    put_charsmap(&b, table, sizeof table);
    tokenizer_from_spm(&k, b.p, b.n);
    CHECK_EQ(c, k.st, NB_OK);
    if (k.t && text) {
        memset(text, 'A', kText);
        CHECK_EQ(c, nb_tokenizer_encode(k.t, text, kText, 0, &v, NULL), NB_OK);
        CHECK_EQ(c, v.n, 2); /* the space before the text, and a row of unknown characters */
    }
    tokenizer_gone(&k);
    nb_ids_free(&v);
    free(text);
    free(b.p);
}

static void tables(check *c)
{
    bytes b = {0};
    for (size_t n = 1; n < 9; n++) { /* gg-charsmap */
        put_model(&b, 1);
        put_charsmap(&b, "\4\0\0\0\0\0\0\0", n);
        gives(c, &b, NB_BAD_INPUT, "precompiled_charsmap");
    }
    put_model(&b, 1);
    put_charsmap(&b, "\xff\xff\xff\xff\0\0\0\0\0", 9);
    gives(c, &b, NB_BAD_INPUT, "precompiled_charsmap");
    uint32_t leaf[1 + 256 + 1] = {4 * 256};
    leaf[1] = 0;                                         /* root: offset 0 */
    leaf[1 + 'A'] = 'A' | 1u << 8 | (uint32_t)'B' << 10; /* a leaf at 'A' ^ 'B' */
    leaf[1 + ('A' ^ 'B')] = 0x80000000u | 5000;          /* behind the end */
    put_model(&b, 1);
    put_charsmap(&b, leaf, sizeof leaf);
    tokenizer_of k;
    nb_ids v = {0};
    nb_error err = {.offset = -1};
    tokenizer_from_spm(&k, b.p, b.n);
    CHECK_EQ(c, k.st, NB_OK);
    CHECK_EQ(c, k.t ? nb_tokenizer_encode(k.t, "xA", 2, 0, &v, &err) : NB_INTERNAL, NB_BAD_INPUT);
    CHECK_HAS(c, err.message, "behind its end");
    nb_ids_free(&v);
    tokenizer_gone(&k);
    free(b.p);
}

static const check_case cases[] = {
    {"sp-varint: numbers, lengths, groups and field 0 that lie are refused", varints},
    {"sp-cut: every beginning of a model opens or is refused", every_cut},
    {"sp-score, sp-unk: scores that are no numbers, no or two unknown pieces are refused", pieces},
    {"sp-trie-loop: a table of replacements that leads in circles ends", table_in_circles},
    {"sp-charsmap: a table that is none is refused", tables},
};
CHECK_MAIN(cases)
