/* base.c -- sentences, escaping, checked sizes, arenas, buffers, mapped files, the name index. */
#include "base/mapfile.h"
#include "base/memory.h"
#include "base/status.h"
#include "check.h"
#include "file/names.h"

#include <errno.h>
#include <unistd.h>

static void sentences(check *c)
{
    nb_error err = {0};
    CHECK_EQ(c, nb_fail_at(&err, NB_BAD_INPUT, "a\x1b.gguf", 7, "key %d", 3), NB_BAD_INPUT);
    CHECK_STR(c, err.message, "a\\x1b.gguf: key 3, offset 7");
    CHECK_STR(c, err.file, "a\\x1b.gguf");
    CHECK_EQ(c, err.offset, 7);
    CHECK_EQ(c, nb_fail_at(&err, NB_IO, "x", -1, "gone"), NB_IO);
    CHECK_STR(c, err.message, "x: gone");
    nb_hint(&err, "nibble pull %s", "a/b");
    CHECK_STR(c, err.hint, "nibble pull a/b");
    CHECK_EQ(c, nb_fail(&err, NB_USAGE, "no"), NB_USAGE);
    CHECK_STR(c, err.hint, ""); /* a new failure has no old hint */
    CHECK_EQ(c, nb_fail(NULL, NB_USAGE, "no"), NB_USAGE);
    nb_hint(NULL, "x");
    static const struct {
        int e;
        nb_status st;
    } rows[] = {{ENOENT, NB_NOT_FOUND}, {ENOTDIR, NB_NOT_FOUND}, {ENOSPC, NB_NO_ROOM},
                {ENOMEM, NB_NO_ROOM},   {EDQUOT, NB_NO_ROOM},    {EIO, NB_IO},
                {EFBIG, NB_IO},         {EACCES, NB_IO}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        errno = rows[i].e;
        CHECK_EQ(c, nb_fail_errno(&err, "f: cannot"), rows[i].st);
        CHECK_HAS(c, err.message, "f: cannot: ");
    }
}

static void long_sentences(check *c)
{
    char path[4096];
    nb_error err = {0};
    memset(path, 'p', sizeof path);
    path[sizeof path - 1] = 0;
    nb_fail_at(&err, NB_BAD_INPUT, path, 1, "%s", path);
    CHECK(c, strlen(err.message) < sizeof err.message);
    CHECK(c, strlen(err.file) < sizeof err.file);
    CHECK_HAS(c, err.file, "...");
}

/* What no call escaped: a flag's value, the name of a method. */
static void nothing_gets_through(check *c)
{
    nb_error err = {.offset = -1};
    char text[600];
    nb_fail(&err, NB_USAGE, "--clip %s: unknown", "\x1b[31m\xc2\x9b\xe2\x80\xae\xff\xc3\xa4");
    CHECK_STR(c, err.message, "--clip \\x1b[31m\\u009b\\u202e\\xff\xc3\xa4: unknown");
    nb_hint(&err, "name the file: %s", "a\nb\a");
    CHECK_STR(c, err.hint, "name the file: a\\x0ab\\x07");
    nb_fail_at(&err, NB_BAD_INPUT, "f", 3, "tensor %s", "\x1b");
    CHECK_STR(c, err.message, "f: tensor \\x1b, offset 3");
    errno = ENOENT;
    nb_fail_errno(&err, "%s", "\x7f");
    CHECK_STR(c, err.message, "\\x7f: No such file or directory");
    memset(text, 0x1b, sizeof text - 1); /* four bytes each: more than there is room for */
    text[sizeof text - 1] = 0;
    nb_fail(&err, NB_USAGE, "%s", text);
    CHECK_EQ(c, strlen(err.message), 4 * ((sizeof err.message - 1) / 4));
    CHECK(c, !strchr(err.message, 0x1b));
}

static void escapes(check *c)
{
    static const struct {
        const char *text, *shown;
        int64_t n;
    } rows[] = {
        {"plain", "plain", 5},
        {"\xc3\xa4", "\xc3\xa4", 2},
        {"\x1b[2J\a\x7f", "\\x1b[2J\\x07\\x7f", 6},
        {"a\0b", "a\\x00b", 3},
        {"\xc2\x9b", "\\u009b", 2},
        {"\xe2\x80\xae", "\\u202e", 3},
        {"\xe2\x81\xa6", "\\u2066", 3},
        {"\xff\xc0\xaf", "\\xff\\xc0\\xaf", 3},
        {"\xed\xa0\x80", "\\xed\\xa0\\x80", 3},
        {"\xe2\x82", "\\xe2\\x82", 2},
    };
    char out[1024], text[300];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_STR(c, nb_escape(out, sizeof out, rows[i].text, rows[i].n), rows[i].shown);
    memset(text, 'x', sizeof text);
    nb_escape(out, sizeof out, text, sizeof text);
    CHECK_EQ(c, strlen(out), 128 + 3);
    for (int64_t size = 4; size < 40; size++) { /* never behind its end, whatever the size */
        memset(out, '#', sizeof out);
        nb_escape(out, size, "\x1b\x1b\xe2\x80\xae\xc3\xa4xyz\x1b", 11);
        CHECK(c, memchr(out, 0, (size_t)size) != NULL && out[size] == '#');
    }
}

static void sizes(check *c)
{
    uint64_t v = 0;
    nb_error err = {0};
    CHECK(c, nb_mul_ok(UINT32_MAX, UINT32_MAX, &v) && v == 0xfffffffe00000001u);
    CHECK(c, !nb_mul_ok((uint64_t)1 << 32, (uint64_t)1 << 32, &v));
    CHECK(c, nb_add_ok(UINT64_MAX, 0, &v) && !nb_add_ok(UINT64_MAX, 1, &v));
    CHECK(c, nb_alloc(SIZE_MAX / 2, 3, "a thing", &err) == NULL);
    CHECK_EQ(c, err.code, NB_NO_ROOM);
    CHECK_HAS(c, err.message, "a thing");
    CHECK(c, nb_alloc(SIZE_MAX, 1, "a thing", NULL) == NULL);
    CHECK(c, nb_alloc_aligned(SIZE_MAX, 1, "a thing", &err) == NULL);
    CHECK(c, nb_alloc_aligned(SIZE_MAX / 2, 2, "a thing", &err) == NULL);
    void *none = nb_alloc(0, 8, "nothing", &err);
    CHECK(c, none != NULL);
    free(none);
}

static void arenas(check *c)
{
    nb_error err = {0};
    nb_arena *a = nb_arena_open("test", &err);
    if (!a)
        return;
    int wrong = 0;
    char *p[200];
    for (int i = 0; i < 200; i++) { /* past one block, with some larger than a block */
        const size_t n = i == 100 ? (size_t)3 << 20 : (size_t)i * 97 + 1;
        p[i] = nb_arena_alloc(a, n, 1, &err);
        wrong += !p[i] || (uintptr_t)p[i] % 64 != 0;
        if (p[i])
            memset(p[i], i, n);
    }
    for (int i = 0; i < 200; i++)
        wrong += !p[i] || p[i][0] != (char)i;
    CHECK_EQ(c, wrong, 0);
    CHECK_STR(c, nb_arena_strdup(a, "text more", 4, &err), "text");
    CHECK(c, nb_arena_bytes(a) > (size_t)3 << 20);
    CHECK(c, nb_arena_alloc(a, SIZE_MAX / 2, 4, &err) == NULL);
    CHECK(c, nb_arena_alloc(a, SIZE_MAX / 2, 1, &err) == NULL);
    nb_arena_close(a);
    nb_arena_close(NULL);
}

static void buffers(check *c)
{
    nb_buf b;
    nb_error err = {0};
    nb_buf_init(&b, 10);
    CHECK_EQ(c, nb_buf_str(&b, "12345", &err), NB_OK);
    CHECK_EQ(c, nb_buf_printf(&b, &err, "%d", 678), NB_OK);
    CHECK_STR(c, b.p, "12345678");
    CHECK_EQ(c, nb_buf_add(&b, "abc", 3, &err), NB_NO_ROOM);
    CHECK_STR(c, b.p, "12345678"); /* a refused piece changes nothing */
    CHECK_EQ(c, nb_buf_add(&b, "ab", 2, &err), NB_OK);
    CHECK_EQ(c, nb_buf_add(&b, NULL, 0, &err), NB_OK);
    CHECK_EQ(c, nb_buf_add(&b, "x", SIZE_MAX, &err), NB_NO_ROOM);
    nb_buf_free(&b);
    CHECK(c, b.p == NULL && b.n == 0 && b.max == 10);
}

static void mapped_files(check *c)
{
    char path[512];
    nb_mapfile *m = NULL;
    nb_error err = {0};
    snprintf(path, sizeof path, "%s/unit-map-%ld", NB_BINARY_DIR, (long)getpid());
    FILE *f = fopen(path, "wb");
    if (!f)
        exit(1);
    for (int i = 0; i < 5000; i++)
        fputc(i % 251, f);
    fclose(f);
    CHECK_EQ(c, nb_mapfile_open(path, &m, &err), NB_OK);
    if (m) {
        CHECK_EQ(c, m->n, 5000);
        nb_mapfile_release(m, 0, 5000);
        nb_mapfile_release(m, 4999, SIZE_MAX);
        nb_mapfile_release(m, SIZE_MAX, 1);
        CHECK_EQ(c, m->p[4999], 4999 % 251);
    }
    nb_mapfile_close(m);
    CHECK_EQ(c, truncate(path, 0), 0);
    CHECK_EQ(c, nb_mapfile_open(path, &m, &err), NB_OK);
    CHECK(c, m && m->n == 0);
    nb_mapfile_close(m);
    unlink(path);
    CHECK_EQ(c, nb_mapfile_open(path, &m, &err), NB_NOT_FOUND);
    CHECK_EQ(c, nb_mapfile_open(NB_BINARY_DIR, &m, &err), NB_BAD_INPUT);
    CHECK_EQ(c, nb_mapfile_open("/dev/null", &m, &err), NB_BAD_INPUT);
    CHECK_HAS(c, err.message, "not a regular file");
    nb_mapfile_close(NULL);
}

static const char *name_at(const void *items, size_t i, size_t *n)
{
    const char *s = ((const char *const *)items)[i];
    *n = strlen(s);
    return s;
}

static void names(check *c)
{
    static const char *const items[] = {"a", "b", "", "abcdefgh", "abcdefghi", "b"};
    nb_hash_key key = {{1, 2}}, other = {{0, 0}};
    nb_error err = {0};
    size_t at = 9;
    nb_names *s = nb_names_open(5, &key, name_at, &err);
    if (!s)
        return;
    for (size_t i = 0; i < 5; i++)
        CHECK(c, nb_names_add(s, items, i));
    CHECK(c, !nb_names_add(s, items, 5));
    CHECK_EQ(c, nb_names_count(s), 5);
    for (size_t i = 0; i < 5; i++)
        CHECK(c, nb_names_find(s, items, items[i], strlen(items[i]), &at) && at == i);
    CHECK(c, !nb_names_find(s, items, "abcdefg", 7, &at));
    CHECK(c, !nb_names_find(s, items, "a\0", 2, &at));
    nb_names_close(s);
    nb_hash_key_draw(&key);
    nb_hash_key_draw(&other);
    CHECK(c, memcmp(&key, &other, sizeof key) != 0);
    CHECK(c, nb_name_ok("blk.0.\xc3\xa4", 8) && !nb_name_ok("", 0) && !nb_name_ok("a\0", 2));
    CHECK(c,
          !nb_name_ok("\xc2\x9b", 2) && !nb_name_ok("\xe2\x80\xae", 3) && !nb_name_ok("\xff", 1));
}

static const check_case cases[] = {
    {"a sentence has its file, offset, code and hint", sentences},
    {"a sentence longer than its place is cut", long_sentences},
    {"no sentence and no hint holds a control character, whatever was put in",
     nothing_gets_through},
    {"text from files is shown without control characters, at most 128 bytes of it", escapes},
    {"sizes that overflow are refused", sizes},
    {"an arena gives aligned memory that does not move", arenas},
    {"a buffer grows up to its maximum", buffers},
    {"regular files are mapped, others refused", mapped_files},
    {"names are found, duplicates and unprintable ones refused", names},
};
CHECK_MAIN(cases)
