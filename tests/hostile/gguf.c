/* gguf.c -- hostile GGUF files: refused with the code and the word of their row, or read when they
 * are only odd. */
#include "file/gguf.h"
#include "base/scalar.h"
#include "hostile/rows.h"

static const uint64_t kOne[] = {1, 1, 1, 1, 1, 1, 1, 1};

static void no_magic(bytes *b)
{
    put_head(b, 3, 0, 0);
    b->p[3] = 'X';
}
static void version_0(bytes *b)
{
    put_head(b, 0, 0, 0);
}
static void version_1(bytes *b)
{
    put_head(b, 1, 0, 0);
}
static void version_2(bytes *b)
{
    put_head(b, 2, 0, 1);
    put_key_u32(b, "a", 7);
}
static void version_4(bytes *b)
{
    put_head(b, 4, 0, 0);
}
static void big_endian(bytes *b)
{
    put_head(b, 0x03000000, 0, 0);
}
static void tensors_2_63(bytes *b)
{
    put_head(b, 3, (uint64_t)1 << 63, 0);
}
static void tensors_2_61(bytes *b)
{
    put_head(b, 3, (uint64_t)1 << 61, 0);
}
static void tensors_2(bytes *b) /* room for one */
{
    put_head(b, 3, 2, 0);
    put_info(b, "a", 1, kOne, 0, 0);
}
static void keys_2_63(bytes *b)
{
    put_head(b, 3, 0, (uint64_t)1 << 63);
}
static void keys_2(bytes *b)
{
    put_head(b, 3, 0, 2);
    put_key_u32(b, "a", 1);
}
static void key_length(bytes *b, uint64_t n)
{
    put_head(b, 3, 0, 1);
    put_u64(b, n);
    put_zeros(b, 16);
}
static void key_empty(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key_u32(b, "", 1);
    put_zeros(b, 4);
}
static void key_2_64(bytes *b)
{
    key_length(b, UINT64_MAX);
}
static void key_65536(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_u64(b, 65536);
    for (int i = 0; i < 65536; i++)
        put_u8(b, 'a');
    put_u32(b, NB_GGUF_U32);
    put_u32(b, 1);
}
static void key_past_end(bytes *b)
{
    key_length(b, 17);
}
static void key_escape(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key_u32(b, "a\x1b[2J", 1);
}
static void key_not_utf8(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key_u32(b, "a\xff", 1);
}
static void string_length(bytes *b, uint64_t n)
{
    put_head(b, 3, 0, 1);
    put_key(b, "a", NB_GGUF_STRING);
    put_u64(b, n);
    put_text(b, "12345");
}
static void string_past_end(bytes *b)
{
    string_length(b, 6);
}
static void string_2_64(bytes *b)
{
    string_length(b, UINT64_MAX);
}
static void string_to_end(bytes *b)
{
    string_length(b, 5);
}
static void array_count(bytes *b, uint32_t elem, uint64_t n, size_t there)
{
    put_head(b, 3, 0, 1);
    put_key_array(b, "a", elem, n);
    put_zeros(b, there);
}
static void array_one_too_many(bytes *b)
{
    array_count(b, NB_GGUF_U32, 3, 11);
}
static void array_2_62(bytes *b) /* times 4 wraps to 0 */
{
    array_count(b, NB_GGUF_U32, (uint64_t)1 << 62, 8);
}
static void array_strings_2_61(bytes *b)
{
    array_count(b, NB_GGUF_STRING, (uint64_t)1 << 61, 8);
}
static void array_string_past_end(bytes *b)
{
    array_count(b, NB_GGUF_STRING, 2, 8);
    put_u64(b, 1);
}
static void array_empty(bytes *b)
{
    array_count(b, NB_GGUF_STRING, 0, 0);
}
static void array_type_99(bytes *b)
{
    array_count(b, 99, 0, 8);
}
static void array_bool_2(bytes *b)
{
    array_count(b, NB_GGUF_BOOL, 2, 1);
    put_u8(b, 2);
}
static void nested(bytes *b, int depth)
{
    put_head(b, 3, 0, 1);
    put_key(b, "a", NB_GGUF_ARRAY);
    for (int i = 1; i < depth; i++) {
        put_u32(b, NB_GGUF_ARRAY);
        put_u64(b, 1);
    }
    put_u32(b, NB_GGUF_U8);
    put_u64(b, 1);
    put_u8(b, 1);
}
static void nested_10000(bytes *b)
{
    nested(b, 10000);
}
static void nested_5(bytes *b)
{
    nested(b, 5);
}
static void nested_4(bytes *b)
{
    nested(b, 4);
}
static void key_type_99(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key(b, "a", 99);
    put_u32(b, 0);
}
static void bool_2(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key(b, "a", NB_GGUF_BOOL);
    put_u8(b, 2);
}
static void scalar_cut(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key(b, "abcd", NB_GGUF_U64);
    put_u32(b, 0);
}
static void duplicate_key(bytes *b)
{
    put_head(b, 3, 0, 2);
    put_key_u32(b, "a", 1);
    put_key_u32(b, "a", 1);
}
static void alignment(bytes *b, uint32_t type, uint32_t v)
{
    put_head(b, 3, 0, 1);
    put_key(b, "general.alignment", type);
    put_u32(b, v);
    if (type == NB_GGUF_STRING)
        put_u32(b, 0);
}
static void alignment_0(bytes *b)
{
    alignment(b, NB_GGUF_U32, 0);
}
static void alignment_3(bytes *b)
{
    alignment(b, NB_GGUF_U32, 3);
}
static void alignment_2_31(bytes *b)
{
    alignment(b, NB_GGUF_U32, (uint32_t)1 << 31);
}
static void alignment_i32(bytes *b)
{
    alignment(b, NB_GGUF_I32, 32);
}
static void alignment_string(bytes *b)
{
    alignment(b, NB_GGUF_STRING, 0);
}
static void alignment_64(bytes *b)
{
    put_head(b, 3, 2, 1);
    put_key_u32(b, "general.alignment", 64);
    put_info(b, "a", 1, kOne, 0, 0);
    put_info(b, "b", 1, kOne, 0, 64);
    put_pad(b, 64);
    put_zeros(b, 68);
}

/* One tensor and as many bytes of data. */
static void one(bytes *b, uint32_t n_dim, const uint64_t *ne, uint32_t type, uint64_t offset,
                size_t data_n)
{
    put_head(b, 3, 1, 0);
    put_info(b, "a", n_dim, ne, type, offset);
    put_pad(b, 32);
    put_zeros(b, data_n);
}
static void two(bytes *b, uint64_t first, uint64_t second, const char *name, size_t data_n)
{
    put_head(b, 3, 2, 0);
    put_info(b, "a", 1, (const uint64_t[]){8}, 0, first);
    put_info(b, name, 1, (const uint64_t[]){8}, 0, second);
    put_pad(b, 32);
    put_zeros(b, data_n);
}
static void dims_0(bytes *b)
{
    one(b, 0, kOne, 0, 0, 32);
}
static void dims_5(bytes *b)
{
    one(b, 5, kOne, 0, 0, 32);
}
static void dims_2_32(bytes *b)
{
    one(b, UINT32_MAX, kOne, 0, 0, 32);
}
static void dim_zero(bytes *b)
{
    one(b, 2, (const uint64_t[]){32, 0}, 0, 0, 32);
}
static void dim_negative(bytes *b)
{
    one(b, 1, (const uint64_t[]){UINT64_MAX}, 0, 0, 32);
}
static void dims_product_negative(bytes *b)
{
    one(b, 2, (const uint64_t[]){INT64_MAX, 2}, 0, 0, 32);
}
static void dims_product_zero(bytes *b)
{
    one(b, 2, (const uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32}, 0, 0, 32);
}
static void dims_bytes(bytes *b) /* 2^62 floats: 2^64 bytes */
{
    one(b, 1, (const uint64_t[]){(uint64_t)1 << 62}, 0, 0, 32);
}
static void pad_wrap(bytes *b) /* 2^63 - 4 bytes: rounding up must not wrap */
{
    put_head(b, 3, 3, 0);
    put_info(b, "a", 1, (const uint64_t[]){((uint64_t)1 << 61) - 1}, 0, 0);
    put_info(b, "b", 1, (const uint64_t[]){((uint64_t)1 << 61) - 1}, 0, (uint64_t)1 << 63);
    put_info(b, "c", 1, kOne, 0, 0);
    put_zeros(b, 64);
}
static void row_of_31(bytes *b)
{
    one(b, 2, (const uint64_t[]){31, 32}, 2, 0, 992);
}
static void type_minus_1(bytes *b)
{
    one(b, 1, kOne, UINT32_MAX, 0, 32);
}
static void type_255(bytes *b)
{
    one(b, 1, kOne, 255, 0, 32);
}
static void type_4(bytes *b) /* Q4_2, removed */
{
    one(b, 1, (const uint64_t[]){32}, 4, 0, 32);
}
static void offset_unaligned(bytes *b)
{
    one(b, 1, kOne, 0, 8, 64);
}
static void offset_past_end(bytes *b)
{
    one(b, 1, kOne, 0, 1024, 64);
}
static void offset_wraps(bytes *b)
{
    one(b, 1, kOne, 0, UINT64_MAX - 31, 64);
}
static void overlap(bytes *b)
{
    two(b, 0, 0, "b", 64);
}
static void gap(bytes *b)
{
    two(b, 0, 64, "b", 96);
}
static void swapped(bytes *b)
{
    two(b, 32, 0, "b", 64);
}
static void duplicate_tensor(bytes *b)
{
    two(b, 0, 32, "a", 64);
}
static void data_short(bytes *b)
{
    two(b, 0, 32, "b", 63);
}
static void data_absent(bytes *b)
{
    one(b, 1, (const uint64_t[]){1000}, 0, 0, 0);
}
static void name_of_64(bytes *b)
{
    char name[65];
    memset(name, 'n', 64);
    name[64] = 0;
    put_head(b, 3, 1, 0);
    put_info(b, name, 1, kOne, 0, 0);
    put_pad(b, 32);
    put_zeros(b, 32);
}
static void name_with_nul(bytes *b)
{
    put_head(b, 3, 1, 0);
    put_u64(b, 3);
    put(b, "a\0b", 3);
    put_u32(b, 1);
    put_u64(b, 1);
    put_u32(b, 0);
    put_u64(b, 0);
    put_pad(b, 32);
    put_zeros(b, 32);
}
static void trailing(bytes *b)
{
    two(b, 0, 32, "b", 64 + 100);
}
static void unpadded_end(bytes *b) /* the last tensor's padding is not there */
{
    one(b, 1, kOne, 0, 0, 4);
}
static void split(bytes *b, uint32_t no, uint32_t count)
{
    put_head(b, 3, 0, 2);
    put_key_u32(b, "split.no", no);
    put_key_u32(b, "split.count", count);
}
static void split_1_of_1(bytes *b)
{
    split(b, 0, 1);
}
static void split_2_of_3(bytes *b)
{
    split(b, 1, 3);
}
static void split_no_count(bytes *b)
{
    split(b, 3, 3);
}
static void split_0(bytes *b)
{
    split(b, 0, 0);
}
static void split_65536(bytes *b)
{
    split(b, 0, 65536);
}
static void split_string(bytes *b)
{
    put_head(b, 3, 0, 1);
    put_key(b, "split.count", NB_GGUF_STRING);
    put_str(b, "2");
}

#define BAD NB_BAD_INPUT
#define NOT NB_UNSUPPORTED
#define ROW(sentence, build, want, word)                                                           \
    {                                                                                              \
        sentence, build, NULL, 0, 0, want, word                                                    \
    }
static const hostile_row rows[] = {
    ROW("gg-magic: another magic", no_magic, BAD, "magic"),
    ROW("gg-version: 0", version_0, NOT, "version 0"),
    ROW("gg-version: 1", version_1, NOT, "version 1"),
    ROW("gg-version: 2 is read", version_2, NB_OK, NULL),
    ROW("gg-version: 4", version_4, NOT, "version 4"),
    ROW("gg-version: byte-swapped", big_endian, NOT, "big-endian"),
    ROW("gg-ntensors: 2^63", tensors_2_63, BAD, "tensors do not fit"),
    ROW("gg-ntensors: 2^61", tensors_2_61, BAD, "tensors do not fit"),
    ROW("gg-ntensors: one more than there is room for", tensors_2, BAD, "tensors do not fit"),
    ROW("gg-nkv: 2^63", keys_2_63, BAD, "keys do not fit"),
    ROW("gg-nkv: one more than there is room for", keys_2, BAD, "keys do not fit"),
    ROW("gg-keylen: 0", key_empty, BAD, "a key of 0 bytes"),
    ROW("gg-keylen: 65536", key_65536, BAD, "1 to 65535 are allowed"),
    ROW("gg-keylen: 2^64-1", key_2_64, BAD, "1 to 65535 are allowed"),
    ROW("gg-keylen: past the end", key_past_end, BAD, "ends inside a key"),
    ROW("gg-key: ESC", key_escape, BAD, "\\x1b"),
    ROW("gg-key: not UTF-8", key_not_utf8, BAD, "\\xff"),
    ROW("gg-strlen: past the end", string_past_end, BAD, "a string longer than the file"),
    ROW("gg-strlen: 2^64-1", string_2_64, BAD, "a string longer than the file"),
    ROW("gg-strlen: just to the end is read", string_to_end, NB_OK, NULL),
    ROW("gg-arr-count: one more than there is room for", array_one_too_many, BAD, "more elements"),
    ROW("gg-arr-count: 2^62 times 4 bytes", array_2_62, BAD, "more elements"),
    ROW("gg-arr-count: 2^61 strings", array_strings_2_61, BAD, "more elements"),
    ROW("gg-arr-string: past the end", array_string_past_end, BAD, "longer than the file"),
    ROW("gg-arr-empty: is read", array_empty, NB_OK, NULL),
    ROW("gg-arr-nested: 10000 deep", nested_10000, BAD, "nested deeper than 4"),
    ROW("gg-arr-nested: 5 deep", nested_5, BAD, "nested deeper than 4"),
    ROW("gg-arr-nested: 4 deep is read", nested_4, NB_OK, NULL),
    ROW("gg-type: a key of type 99", key_type_99, BAD, "unknown value type"),
    ROW("gg-type: an array of type 99", array_type_99, BAD, "unknown element type"),
    ROW("gg-type: a tensor of type -1", type_minus_1, NOT, "unknown type 4294967295"),
    ROW("gg-type: a tensor of type 255", type_255, NOT, "unknown type 255"),
    ROW("gg-type: a tensor of a removed type", type_4, NOT, "unknown type 4"),
    ROW("gg-bool: 2", bool_2, BAD, "neither 0 nor 1"),
    ROW("gg-bool: 2 in an array", array_bool_2, BAD, "neither 0 nor 1"),
    ROW("gg-scalar: cut", scalar_cut, BAD, "ends inside its value"),
    ROW("gg-dup-key: twice the same", duplicate_key, BAD, "key a: a duplicate"),
    ROW("gg-dup-tensor: twice the same", duplicate_tensor, BAD, "tensor a: a duplicate"),
    ROW("gg-align: 0", alignment_0, BAD, "power of two"),
    ROW("gg-align: 3", alignment_3, BAD, "power of two"),
    ROW("gg-align: 2^31", alignment_2_31, BAD, "power of two"),
    ROW("gg-align: of type i32", alignment_i32, BAD, "not of type u32"),
    ROW("gg-align: of type string", alignment_string, BAD, "not of type u32"),
    ROW("gg-align: 64 is read", alignment_64, NB_OK, NULL),
    ROW("gg-ndims: 0", dims_0, BAD, "1 to 4 dimensions"),
    ROW("gg-ndims: 5", dims_5, BAD, "1 to 4 dimensions"),
    ROW("gg-ndims: 2^32-1", dims_2_32, BAD, "1 to 4 dimensions"),
    ROW("gg-dims: 0", dim_zero, BAD, "dimension below 1"),
    ROW("gg-dims: -1", dim_negative, BAD, "dimension below 1"),
    ROW("gg-dims: 2^63-1 x 2", dims_product_negative, BAD, "overflows"),
    ROW("gg-dims: 2^32 x 2^32", dims_product_zero, BAD, "overflows"),
    ROW("gg-dims: 2^64 bytes", dims_bytes, BAD, "overflows"),
    ROW("gg-row: 31 values in blocks of 32", row_of_31, BAD, "whole number of blocks"),
    ROW("gg-offset: not aligned", offset_unaligned, BAD, "not aligned"),
    ROW("gg-offset: past the end", offset_past_end, BAD, "gap"),
    ROW("gg-offset: wraps", offset_wraps, BAD, "gap"),
    ROW("gg-offset: overlap", overlap, BAD, "overlap"),
    ROW("gg-offset: a gap", gap, BAD, "gap"),
    ROW("gg-offset: swapped", swapped, BAD, "gap"),
    ROW("gg-beyond-file: the last byte is missing", data_short, BAD, "download complete"),
    ROW("gg-beyond-file: no data at all", data_absent, BAD, "download complete"),
    ROW("gg-pad-wrap: sizes that wrap when they are rounded up", pad_wrap, BAD, "overflows"),
    ROW("gg-name: 64 bytes", name_of_64, BAD, "1 to 63 are allowed"),
    ROW("gg-name: NUL inside", name_with_nul, BAD, "unprintable"),
    ROW("gg-trailing: bytes behind the last tensor are read over", trailing, NB_OK, NULL),
    ROW("gg-trailing: the last padding may be missing", unpadded_end, NB_OK, NULL),
    ROW("gg-split: one part of one is read", split_1_of_1, NB_OK, NULL),
    ROW("gg-split: part 2 of 3 is read; the others are not this parser's", split_2_of_3, NB_OK,
        NULL),
    ROW("gg-split: no >= count", split_no_count, BAD, "split.no 3 of split.count 3"),
    ROW("gg-split: count 0", split_0, BAD, "split.count 0"),
    ROW("gg-split: count 65536", split_65536, BAD, "split.count 65536"),
    ROW("gg-split: count is a string", split_string, BAD, "split.count is of type string"),
};
enum { kRows = sizeof rows / sizeof *rows };

static void run_row(check *c)
{
    const hostile_row *row = row_of(rows, kRows, c);
    nb_gguf *g = NULL;
    nb_error err = {0};
    bytes b = {0};
    row->build(&b);
    uint8_t *p = exactly(&b);
    const nb_status st = nb_gguf_parse("hostile.file", p, b.n, &g, &err);
    check_refusal(c, row, st, &err);
    CHECK(c, (st == NB_OK) == (g != NULL));
    for (int64_t i = 0; g && i < g->n_tensor; i++) {
        const nb_tensor *t = &g->tensor[i];
        CHECK(c, t->offset <= b.n && t->bytes <= b.n - t->offset && t->data == p + t->offset);
        CHECK_EQ(c, t->offset % g->alignment, 0);
    }
    nb_gguf_close(g);
    free(p);
    free(b.p);
}

static void every_prefix(check *c)
{
    bytes b = {0};
    put_sample_gguf(&b);
    for (size_t n = 0; n <= b.n; n++) {
        nb_gguf *g = NULL;
        nb_error err = {0};
        const bytes cut = {.p = b.p, .n = n};
        uint8_t *p = exactly(&cut);
        CHECK_EQ(c, nb_gguf_parse("hostile.file", p, n, &g, &err), n == b.n ? NB_OK : NB_BAD_INPUT);
        nb_gguf_close(g);
        free(p);
    }
    free(b.p);
}

/* Quadratic work on as many tokens would not end within the test's time limit. */
static void slow_vocabulary(check *c)
{
    enum { kTokens = 300000, kKeys = 100000 };
    nb_gguf *g = NULL;
    nb_error err = {0};
    nb_str *tokens = NULL;
    size_t n = 0;
    bytes b = {0};
    char text[32];
    put_head(&b, 3, 0, 1 + kKeys);
    put_key_array(&b, "tokenizer.ggml.tokens", NB_GGUF_STRING, kTokens);
    for (int i = 0; i < kTokens; i++) {
        snprintf(text, sizeof text, "token%d", i);
        put_str(&b, text);
    }
    for (int i = 0; i < kKeys; i++) {
        snprintf(text, sizeof text, "key.%d", i);
        put_key_u32(&b, text, (uint32_t)i);
    }
    nb_arena *a = nb_arena_open("tokens", &err);
    CHECK_EQ(c, nb_gguf_parse("slow", b.p, b.n, &g, &err), NB_OK);
    if (g && a) {
        uint32_t v = 0;
        CHECK_EQ(c, nb_gguf_strings(g, "tokenizer.ggml.tokens", a, &tokens, &n, &err), NB_OK);
        CHECK_EQ(c, n, kTokens);
        CHECK(c, n == kTokens && tokens[n - 1].n == 11 &&
                     memcmp(tokens[n - 1].p, "token299999", 11) == 0);
        CHECK_EQ(c, nb_gguf_u32(g, "key.99999", &v, &err), NB_OK);
        CHECK_EQ(c, v, 99999);
    }
    nb_arena_close(a);
    nb_gguf_close(g);
    free(b.p);
}

static void missing_and_wrong_keys(check *c)
{
    nb_gguf *g = NULL;
    nb_error err = {0};
    bytes b = {0};
    uint32_t u = 0;
    float f = 0;
    bool yes = false;
    nb_str s = {0};
    size_t n = 0;
    int32_t *i32s = NULL;
    float *f32s = NULL;
    nb_str *strings = NULL;
    nb_arena *a = nb_arena_open("arrays", &err);
    put_head(&b, 3, 0, 5);
    put_key(&b, "text", NB_GGUF_STRING);
    put_str(&b, "12");
    put_key_u32(&b, "big", 0x80000000);
    put_key(&b, "minus", NB_GGUF_I8);
    put_u8(&b, 0xff);
    put_key_array(&b, "types", NB_GGUF_U8, 2);
    put_zeros(&b, 2);
    put_key_array(&b, "ids", NB_GGUF_U32, 1);
    put_u32(&b, 0x80000000);
    CHECK_EQ(c, nb_gguf_parse("keys", b.p, b.n, &g, &err), NB_OK);
    if (g && a) {
        CHECK_EQ(c, nb_gguf_u32(g, "llama.block_count", &u, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "llama.block_count is missing");
        CHECK_EQ(c, nb_gguf_u32(g, "text", &u, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "key text is of type string, not u32");
        CHECK_EQ(c, nb_gguf_u32(g, "types", &u, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "array of u8");
        CHECK_EQ(c, nb_gguf_u32(g, "minus", &u, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "minus is outside");
        CHECK_EQ(c, nb_gguf_f32(g, "big", &f, &err), NB_BAD_INPUT);
        CHECK_EQ(c, nb_gguf_bool(g, "big", &yes, &err), NB_BAD_INPUT);
        CHECK_EQ(c, nb_gguf_string(g, "big", &s, &err), NB_BAD_INPUT);
        CHECK_EQ(c, nb_gguf_i32s(g, "types", a, &i32s, &n, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "key types is of type array of u8, not array of i32");
        CHECK_EQ(c, nb_gguf_i32s(g, "ids", a, &i32s, &n, &err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, "above 2147483647");
        CHECK_EQ(c, nb_gguf_f32s(g, "types", a, &f32s, &n, &err), NB_BAD_INPUT);
        CHECK_EQ(c, nb_gguf_strings(g, "text", a, &strings, &n, &err), NB_BAD_INPUT);
        CHECK_EQ(c, nb_gguf_u32(g, "nothing", &u, NULL), NB_BAD_INPUT);
    }
    nb_arena_close(a);
    nb_gguf_close(g);
    free(b.p);
}

static const check_case more[] = {
    {"gg-cut: every prefix of a valid file is refused", every_prefix},
    {"gg-slow: 300000 tokens and 100000 keys are read and found", slow_vocabulary},
    {"gg-missing-key, gg-wrong-type-key: the sentence names the key", missing_and_wrong_keys},
};

int main(int argc, char **argv)
{
    return hostile_main(rows, kRows, run_row, more, sizeof more / sizeof *more, argc, argv);
}
