/* safetensors.c -- hostile .safetensors files: refused with the code and the word of their row, or
 * read when they are only odd. */
#include "file/container.h"
#include "base/clock.h"
#include "hostile/rows.h"

/* Entries with one letter as dtype, so that a row is one line. */
#define U8(name, shape, begin, end)                                                                \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"
#define F32(name, shape, begin, end)                                                               \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void seven_bytes(bytes *b)
{
    put_zeros(b, 7);
}

static void nothing(bytes *b)
{
    b->n = 0;
}

static void length_only(bytes *b, uint64_t n)
{
    put_u64(b, n);
    put_text(b, "{}");
}

static void length_past_end(bytes *b)
{
    length_only(b, 3);
}

static void length_size_less_7(bytes *b)
{
    length_only(b, 10 - 7);
}

static void length_2_64(bytes *b)
{
    length_only(b, UINT64_MAX);
}

static void length_2_63(bytes *b)
{
    length_only(b, (uint64_t)1 << 63);
}

static void length_huge(bytes *b)
{
    length_only(b, 100000001);
}

static void length_zero(bytes *b)
{
    length_only(b, 0);
}

static void padded_by_spaces(bytes *b)
{
    put_safetensors(b, "{" U8("a", "[1]", "0", "1") "}   ",
                    strlen("{" U8("a", "[1]", "0", "1") "}   "), 1);
}

static void million(bytes *b)
{
    put_u64(b, 0);
    for (int i = 0; i < 1000000; i++) {
        char entry[112];
        snprintf(entry, sizeof entry,
                 "%c\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                 i ? ',' : '{', i, i, i + 1);
        put_text(b, entry);
    }
    put_text(b, "}");
    const uint64_t n = b->n - 8;
    memcpy(b->p, &n, sizeof n);
    put_zeros(b, 1000000);
}

#define BAD NB_BAD_INPUT
#define OPEN "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":"
static const hostile_row rows[] = {
    {"st-empty: an empty file", nothing, NULL, 0, 0, BAD, "shorter than its 8-byte"},
    {"st-7bytes: shorter than the length", seven_bytes, NULL, 0, 0, BAD, "shorter than its 8-byte"},
    {"st-len-past-eof: one byte more than there is", length_past_end, NULL, 0, 0, BAD,
     "header of 3 bytes; is the download complete?"},
    {"st-len-max: 2^64-1", length_2_64, NULL, 0, 0, BAD, "at most 100000000"},
    {"st-len-max: 2^63", length_2_63, NULL, 0, 0, BAD, "at most 100000000"},
    {"st-len-max: size less 7", length_size_less_7, NULL, 0, 0, BAD, "download complete"},
    {"st-len-huge: 100000001", length_huge, NULL, 0, 0, BAD, "at most 100000000"},
    {"st-len-zero: no header", length_zero, NULL, 0, 0, BAD, "start with {"},
    {"st-not-brace: a space first", NULL, " {}", 0, 0, BAD, "start with {"},
    {"st-not-brace: a BOM first", NULL, "\xef\xbb\xbf{}", 0, 0, BAD, "start with {"},
    {"st-not-brace: an array", NULL, "[]", 0, 0, BAD, "start with {"},
    {"st-not-utf8: in a name", NULL, "{" U8("\xff", "[1]", "0", "1") "}", 0, 1, BAD, "UTF-8"},
    {"st-nul-in-name: escaped", NULL, "{" U8("a\\u0000b", "[1]", "0", "1") "}", 0, 1, BAD, "name"},
    {"st-nul-in-name: raw", NULL, "{\"a\0b\":{}}", 10, 1, BAD, "control character"},
    {"st-name: empty", NULL, "{" U8("", "[1]", "0", "1") "}", 0, 1, BAD, "name"},
    {"st-name: ESC", NULL, "{" U8("a\\u001b[2J", "[1]", "0", "1") "}", 0, 1, BAD, "\\x1b"},
    {"st-name: right-to-left override", NULL, "{" U8("a\\u202eb", "[1]", "0", "1") "}", 0, 1, BAD,
     "\\u202e"},
    {"st-dup-key: two tensors of one name", NULL,
     "{" U8("a", "[1]", "0", "1") "," U8("a", "[1]", "0", "1") "}", 0, 1, BAD, "duplicate"},
    {"st-dup-key: a second dtype", NULL,
     "{\"a\":{\"dtype\":\"U8\",\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, BAD,
     "duplicate"},
    {"st-overlap: by one byte", NULL, "{" U8("a", "[2]", "0", "2") "," U8("b", "[2]", "1", "3") "}",
     0, 3, BAD, "overlap"},
    {"st-overlap: the same bytes twice", NULL,
     "{" U8("a", "[2]", "0", "2") "," U8("b", "[2]", "0", "2") "}", 0, 2, BAD, "overlap"},
    {"st-gap: between two tensors", NULL,
     "{" U8("a", "[1]", "0", "1") "," U8("b", "[1]", "2", "3") "}", 0, 3, BAD, "gap of 1 bytes"},
    {"st-gap: before the first tensor", NULL, "{" U8("a", "[1]", "1", "2") "}", 0, 2, BAD, "gap"},
    {"st-tail: a byte behind the last tensor", NULL, "{" U8("a", "[1]", "0", "1") "}", 0, 2, BAD,
     "behind the last tensor"},
    {"st-tail: data without tensors", NULL, "{}", 0, 1, BAD, "behind the last tensor"},
    {"st-truncated: the last byte is missing", NULL, "{" U8("a", "[4]", "0", "4") "}", 0, 3, BAD,
     "download complete"},
    {"st-begin-gt-end: 2 to 1", NULL, OPEN "[2,1]}}", 0, 2, BAD, "begin behind their end"},
    {"st-offset: -1", NULL, OPEN "[-1,1]}}", 0, 1, BAD, "whole numbers"},
    {"st-offset: 1.0", NULL, OPEN "[0,1.0]}}", 0, 1, BAD, "whole numbers"},
    {"st-offset: 1e3", NULL, OPEN "[0,1e3]}}", 0, 1, BAD, "whole numbers"},
    {"st-offset: 2^64", NULL, OPEN "[0,18446744073709551616]}}", 0, 1, BAD, "whole numbers"},
    {"st-offset: 2^64-1", NULL, OPEN "[0,18446744073709551615]}}", 0, 1, BAD, "download complete"},
    {"st-offset: text", NULL, OPEN "[\"0\",\"1\"]}}", 0, 1, BAD, "whole numbers"},
    {"st-offset: three of them", NULL, OPEN "[0,1,1]}}", 0, 1, BAD, "array of two"},
    {"st-offset: missing", NULL, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 0, 1, BAD,
     "data_offsets is no array"},
    {"st-shape-overflow: 2^32 x 2^32", NULL, "{" U8("a", "[4294967296,4294967296]", "0", "0") "}",
     0, 0, BAD, "overflows"},
    {"st-shape-overflow: 2^63 x 2", NULL, "{" U8("a", "[9223372036854775808,2]", "0", "0") "}", 0,
     0, BAD, "dimension"},
    {"st-shape-overflow: 2^62 floats", NULL, "{" F32("a", "[4611686018427387904]", "0", "0") "}", 0,
     0, BAD, "overflows"},
    {"st-size-mismatch: one byte too many", NULL, "{" F32("a", "[1]", "0", "5") "}", 0, 5, BAD,
     "need 4"},
    {"st-size-mismatch: no bytes", NULL, "{" F32("a", "[1]", "0", "0") "}", 0, 0, BAD, "need 4"},
    {"st-shape: negative", NULL, "{" U8("a", "[-1]", "0", "1") "}", 0, 1, BAD, "dimension"},
    {"st-shape: text", NULL, "{" U8("a", "[\"1\"]", "0", "1") "}", 0, 1, BAD, "dimension"},
    {"st-shape: no array", NULL, "{" U8("a", "1", "0", "1") "}", 0, 1, BAD, "shape is no array"},
    {"st-shape: 9 dimensions", NULL, "{" U8("a", "[1,1,1,1,1,1,1,1,1]", "0", "1") "}", 0, 1,
     NB_UNSUPPORTED, "8 dimensions"},
    {"st-shape: 8 dimensions are read", NULL, "{" U8("a", "[1,1,1,1,1,1,1,2]", "0", "2") "}", 0, 2,
     NB_OK, NULL},
    {"st-zero-dim: [0,5] is read", NULL, "{" F32("a", "[0,5]", "0", "0") "}", 0, 0, NB_OK, NULL},
    {"st-zero-dim: an empty tensor between two is read", NULL,
     "{" U8("a", "[2]", "0", "2") "," U8("e", "[0]", "2", "2") "," U8("b", "[1]", "2", "3") "}", 0,
     3, NB_OK, NULL},
    {"st-zero-dim: an empty tensor inside another", NULL,
     "{" U8("a", "[2]", "0", "2") "," U8("e", "[0]", "1", "1") "}", 0, 2, BAD, "overlap"},
    {"st-scalar: shape [] is read", NULL, "{" F32("a", "[]", "0", "4") "}", 0, 4, NB_OK, NULL},
    {"st-no-tensor: {} is read", NULL, "{}", 0, 0, NB_OK, NULL},
    {"st-dtype-unknown: a name nobody knows", NULL,
     "{\"a\":{\"dtype\":\"X7\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, NB_UNSUPPORTED,
     "unknown dtype \"X7\""},
    {"st-dtype-unknown: half a byte of a type of 4 bits, of which none is read", NULL,
     "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 0, 2, NB_UNSUPPORTED,
     "unknown dtype \"F4\""},
    {"st-dtype-unknown: NUL behind a known one", NULL,
     "{\"a\":{\"dtype\":\"U8\\u0000\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, NB_UNSUPPORTED,
     "unknown dtype"},
    {"st-dtype: no string", NULL, "{\"a\":{\"dtype\":8,\"shape\":[1],\"data_offsets\":[0,1]}}", 0,
     1, BAD, "dtype is no string"},
    {"st-entry: no object", NULL, "{\"a\":[]}", 0, 0, BAD, "no object"},
    {"st-metadata: a value that is no string", NULL, "{\"__metadata__\":{\"a\":1}}", 0, 0, BAD,
     "__metadata__"},
    {"st-metadata: an array", NULL, "{\"__metadata__\":[]}", 0, 0, BAD, "__metadata__"},
    {"st-metadata: null is read", NULL, "{\"__metadata__\":null}", 0, 0, NB_OK, NULL},
    {"st-metadata: strings are read", NULL, "{\"__metadata__\":{\"format\":\"pt\"}}", 0, 0, NB_OK,
     NULL},
    {"st-pad: trailing spaces are read", padded_by_spaces, NULL, 0, 0, NB_OK, NULL},
    {"st-pad: a trailing NUL", NULL, "{}\0", 3, 0, BAD, "behind the value"},
    {"st-misaligned: floats at an odd place are read", NULL,
     "{" U8("a", "[1]", "0", "1") "," F32("b", "[1]", "1", "5") "}", 0, 5, NB_OK, NULL},
    {"st-extra-field: ignored", NULL,
     "{\"a\":{\"x\":[{}],\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1, NB_OK,
     NULL},
    {"st-unsorted: tensors in any order are read", NULL,
     "{" U8("b", "[1]", "2", "3") "," U8("a", "[2]", "0", "2") "}", 0, 3, NB_OK, NULL},
};
enum { kRows = sizeof rows / sizeof *rows };

/* What was accepted covers the data exactly. */
static void check_ranges(check *c, const nb_safetensors *s, const uint8_t *p, size_t n)
{
    uint64_t header = 0;
    memcpy(&header, p, sizeof header);
    size_t at = 8 + (size_t)header;
    for (int64_t i = 0; i < s->n_tensor; i++) {
        CHECK(c, s->tensor[i].offset == at && s->tensor[i].data == p + at);
        at += s->tensor[i].bytes;
    }
    CHECK_EQ(c, at, n);
}

static void run_row(check *c)
{
    const hostile_row *row = row_of(rows, kRows, c);
    nb_safetensors *s = NULL;
    nb_error err = {0};
    bytes b = {0};
    if (row->build)
        row->build(&b);
    else
        put_safetensors(&b, row->text, row->text_n ? row->text_n : strlen(row->text), row->data_n);
    uint8_t *p = exactly(&b);
    const nb_status st = nb_safetensors_parse("hostile.file", p, b.n, &s, &err);
    check_refusal(c, row, st, &err);
    CHECK(c, (st == NB_OK) == (s != NULL));
    if (s)
        check_ranges(c, s, p, b.n);
    nb_safetensors_close(s);
    free(p);
    free(b.p);
}

static void every_prefix(check *c)
{
    static const char header[] = "{" U8("a", "[3]", "0", "3") "," F32("b", "[2]", "3", "11") "}";
    bytes b = {0};
    put_safetensors(&b, header, strlen(header), 11);
    for (size_t n = 0; n <= b.n; n++) {
        nb_safetensors *s = NULL;
        nb_error err = {0};
        const bytes cut = {.p = b.p, .n = n};
        uint8_t *p = exactly(&cut);
        CHECK_EQ(c, nb_safetensors_parse("hostile.file", p, n, &s, &err),
                 n == b.n ? NB_OK : NB_BAD_INPUT);
        nb_safetensors_close(s);
        free(p);
    }
    free(b.p);
}

static void a_million_tensors(check *c)
{
    nb_safetensors *s = NULL;
    nb_error err = {0};
    bytes b = {0};
    million(&b);
    const int64_t before = nb_peak_rss_bytes();
    CHECK_EQ(c, nb_safetensors_parse("hostile.file", b.p, b.n, &s, &err), NB_OK);
    CHECK_EQ(c, s ? s->n_tensor : 0, 1000000);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    CHECK(c, nb_peak_rss_bytes() - before < (int64_t)(600 - 80)
                                                << 20); /* the file itself takes 80 */
#else
    (void)before;
#endif
    nb_safetensors_close(s);
    free(b.p);
}

static const check_case more[] = {
    {"st-cut: every prefix of a valid file is refused", every_prefix},
    {"st-million: a million tensors of one byte are read in bounded memory", a_million_tensors},
};

int main(int argc, char **argv)
{
    return hostile_main(rows, kRows, run_row, more, sizeof more / sizeof *more, argc, argv);
}
