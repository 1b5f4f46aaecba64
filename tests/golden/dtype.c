/* dtype.c -- number formats against blocks of an independent program.
 *
 * tests/data/dtype/NAME_blocks.safetensors, a file a program: per format T `T.rnd`, blocks of it,
 * `T.rnd_f32`, their decoding by that program, and `T.enc`, what its encoder made of `src`.
 * gguf_blocks: llama.cpp's C reference (gcc 12, x86-64 without FMA), random blocks with sane
 * scales, src [4,512] without importance weights. iq_grids.safetensors: the codebooks as the Python
 * package gguf 0.19 holds them. Both decoding and encoding are held to the byte; no tolerance is
 * used. */
#include "check.h"
#include "base/mapfile.h"
#include "base/scalar.h"
#include "dtype/dtype.h"
#include "dtype/iq_grids.h"
#include "file/container.h"

#include <ctype.h>
#include <dirent.h>

typedef struct golden {
    nb_mapfile *map;
    nb_safetensors *st;
} golden;

static bool open_golden(check *c, const char *name, golden *g)
{
    char path[1024];
    nb_error err = {.message = ""};
    snprintf(path, sizeof path, "%s/tests/data/dtype/%s", NB_SOURCE_DIR, name);
    *g = (golden){.map = NULL};
    if (nb_mapfile_open(path, &g->map, &err) == NB_OK &&
        nb_safetensors_parse(g->map->path, g->map->p, g->map->n, &g->st, &err) == NB_OK)
        return true;
    CHECK_STR(c, err.message, "no error");
    return false;
}

static void close_golden(golden *g)
{
    if (g->st)
        nb_safetensors_close(g->st);
    if (g->map)
        nb_mapfile_close(g->map);
}

enum { kMostFiles = 16 };

/* Every file of blocks. */
typedef struct goldens {
    golden of[kMostFiles];
    int n;
} goldens;

static goldens open_goldens(check *c)
{
    goldens all = {.n = 0};
    DIR *d = opendir(NB_SOURCE_DIR "/tests/data/dtype");
    CHECK(c, d != NULL);
    for (struct dirent *e = NULL; d && (e = readdir(d)) != NULL && all.n < kMostFiles;)
        if (strstr(e->d_name, "_blocks.safetensors") && open_golden(c, e->d_name, &all.of[all.n]))
            all.n++;
    if (d)
        closedir(d);
    CHECK(c, all.n > 0);
    return all;
}

static void close_goldens(goldens *all)
{
    for (int i = 0; i < all->n; i++)
        close_golden(&all->of[i]);
}

/* Tensor "T.suffix", T the name of t in capitals; NULL if there is none. */
static const nb_tensor *find(const golden *g, const nb_dtype *t, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", t ? t->name : "", suffix);
    for (char *p = name; t && *p && *p != '.'; p++)
        *p = (char)toupper((unsigned char)*p);
    for (int64_t i = 0; i < g->st->n_tensor; i++)
        if (strcmp(g->st->tensor[i].name, name) == 0)
            return &g->st->tensor[i];
    return NULL;
}

/* The same in whichever file; *of: that one. */
static const nb_tensor *find_any(const goldens *all, const nb_dtype *t, const char *suffix,
                                 const golden **of)
{
    const nb_tensor *at = NULL;
    for (int i = 0; i < all->n && !at; i++) {
        *of = &all->of[i];
        at = find(*of, t, suffix);
    }
    return at;
}

static void *room(size_t n)
{
    void *p = malloc(n ? n : 1);
    if (!p)
        exit(70);
    return p;
}

static void decodes(check *c)
{
    goldens all = open_goldens(c);
    const golden *of = NULL;
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        const nb_tensor *in = find_any(&all, t, ".rnd", &of),
                        *want = in ? find(of, t, ".rnd_f32") : NULL;
        if (t->block == 1 || strcmp(t->name, "q2_0") == 0) /* q2_0: by hand, below */
            continue;
        CHECK(c, in && want);
        if (!in || !want)
            continue;
        const int64_t n_block = in->shape[0], n = n_block * t->block;
        CHECK_EQ(c, in->shape[1], t->bytes);
        CHECK_EQ(c, want->bytes, n * 4);
        float *got = room(want->bytes);
        t->decode(in->data, got, n_block);
        int64_t bad = -1;
        for (int64_t i = n - 1; i >= 0; i--)
            bad = nb_f32_bits(got[i]) != nb_load_u32(want->data + 4 * i) ? i : bad;
        c->n_check++;
        if (bad >= 0)
            check_report(c, __FILE__, __LINE__, "%s: value %" PRId64 " is %.9g, expected %.9g",
                         t->name, bad, (double)got[bad],
                         (double)nb_f32_from_bits(nb_load_u32(want->data + 4 * bad)));
        free(got);
    }
    close_goldens(&all);
}

static void check_encoder(check *c, const nb_dtype *t, const nb_tensor *src, const nb_tensor *want)
{
    const int64_t n = src->shape[0] * src->shape[1];
    float *x = room(src->bytes);
    uint8_t *got = room(want->bytes);
    memcpy(x, src->data, src->bytes);
    CHECK_EQ(c, want->bytes, nb_dtype_row_bytes(t, n));
    t->encode(x, got, n / t->block);
    size_t same = 0;
    while (same < want->bytes && got[same] == want->data[same])
        same++;
    if (same < want->bytes)
        check_report(c, __FILE__, __LINE__, "%s: byte %zu is %d, expected %d", t->name, same,
                     got[same], want->data[same]);
    free(x);
    free(got);
}

static void encodes(check *c)
{
    goldens all = open_goldens(c);
    const golden *of = NULL;
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        const nb_tensor *want = find_any(&all, t, ".enc", &of),
                        *src = want ? find(of, NULL, "src") : NULL;
        if (!t->encode || t->block == 1) /* floats: tests/unit/scalar */
            continue;
        if (want && src)
            check_encoder(c, t, src, want);
        else
            check_report(c, __FILE__, __LINE__, "%s: encodes, and no golden says what", t->name);
    }
    close_goldens(&all);
}

static void check_canonical(check *c, const nb_dtype *t, const uint8_t *src, int64_t n_block)
{
    const int64_t n = n_block * t->block, n_group = n / t->group;
    float *want = room((size_t)n * 4), *scale = room((size_t)n_group * 4);
    float *min = room((size_t)n_group * 4);
    uint8_t *code = room((size_t)n), *back = room((size_t)(n_block * t->bytes));
    t->decode(src, want, n_block);
    t->split(src, n_block, code, scale, min);
    for (int64_t i = 0; i < n; i++) {
        const float s = scale[i / t->group], m = min[i / t->group];
        const float got =
            t->canon == NB_CANON_TABLE ? s * t->table[code[i]] : s * (float)code[i] + m;
        CHECK(c, code[i] < 1 << t->bits);
        if (!t->has_min && t->canon == NB_CANON_AFFINE)
            CHECK(c, m == (float)-t->zero * s);
        CHECK_NEAR(c, got, want[i], 0.0, t->name);
    }
    if (t->join) {
        memset(back, 0x5a, (size_t)(n_block * t->bytes));
        t->join(code, scale, min, n_block, back);
        CHECK(c, memcmp(back, src, (size_t)(n_block * t->bytes)) == 0);
    }
    free(want);
    free(scale);
    free(min);
    free(code);
    free(back);
}

static void canonical_forms(check *c)
{
    goldens all = open_goldens(c);
    const golden *of = NULL;
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        const nb_tensor *in = find_any(&all, t, ".rnd", &of);
        CHECK_EQ(c, t->canon != NB_CANON_NONE, t->split != NULL);
        CHECK_EQ(c, t->canon == NB_CANON_TABLE, t->table != NULL);
        if (t->split && in) {
            CHECK_EQ(c, t->block % t->group, 0);
            check_canonical(c, t, in->data, in->shape[0]);
        }
    }
    close_goldens(&all);
}

/* The blocks that docs/FORMATS.md works by hand, both ways. */
static void documented(check *c)
{
    static const struct {
        const char *name;
        float x[4], y[4]; /* elements 0, 1, 16, 17; the others are 0 and decode to 0 */
        uint8_t head[10], rest;
        int n_head;
    } rows[] = {
        {"q4_0", {-4, 0.3f, 3, -0.2f}, {-4, 0.5f, 3, 0}, {0x00, 0x38, 0xe0, 0x89}, 0x88, 4},
        {"q4_1",
         {-1, 6.5f, 0.2f, 0},
         {-1, 6.5f, 0, 0},
         {0x00, 0x38, 0x00, 0xbc, 0x20, 0x2f},
         0x22,
         6},
        {"q5_0",
         {-4, 0.3f, 3, -0.2f},
         {-4, 0.25f, 3, -0.25f},
         {0x00, 0x34, 0xfe, 0xff, 0xfd, 0xff, 0xc0, 0xf1},
         0x00,
         8},
        {"q5_1",
         {-1, 6.75f, 0.2f, 0},
         {-1, 6.75f, 0.25f, 0},
         {0x00, 0x34, 0x00, 0xbc, 0x02, 0x00, 0x00, 0x00, 0x50, 0x4f},
         0x44,
         10},
        {"q8_0", {31.75f, -1.1f, 0, 0}, {31.75f, -1, 0, 0}, {0x00, 0x34, 0x7f, 0xfc}, 0, 4},
    };
    static const int at[] = {0, 1, 16, 17};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_dtype *t = nb_dtype_by_name(rows[i].name);
        float x[32] = {0}, y[32], want[32] = {0};
        uint8_t block[34];
        for (int k = 0; k < 4; k++) {
            x[at[k]] = rows[i].x[k];
            want[at[k]] = rows[i].y[k];
        }
        t->encode(x, block, 1);
        for (int k = 0; k < t->bytes; k++)
            CHECK_EQ(c, block[k], k < rows[i].n_head ? rows[i].head[k] : rows[i].rest);
        t->decode(block, y, 1);
        for (int k = 0; k < 32; k++)
            CHECK_NEAR(c, y[k], want[k], 0.0, t->name);
    }
}

/* Of equal magnitudes the first sets q4_0's scale; q8_0 rounds halves away from zero. */
static void ties(check *c)
{
    float x[32] = {2.0f, -2.0f}, y[32];
    uint8_t block[34];
    const nb_dtype *q4 = nb_dtype_by_name("q4_0"), *q8 = nb_dtype_by_name("q8_0");
    q4->encode(x, block, 1);
    CHECK_EQ(c, nb_load_u16(block), nb_f16_from_f32(-0.25f));
    q4->decode(block, y, 1);
    CHECK(c, y[0] == 2.0f && y[1] == -1.75f);
    static const float half[6] = {127.0f, 0.5f, -0.5f, 2.5f, -3.5f, 0.49999997f};
    static const int code[6] = {127, 1, -1, 3, -4, 0};
    memcpy(x, half, sizeof half);
    q8->encode(x, block, 1);
    for (int i = 0; i < 6; i++)
        CHECK_EQ(c, (int8_t)block[2 + i], code[i]);
}

/* Formats without a block of another program: values worked from the layout. */
static void by_hand(check *c)
{
    uint8_t q2[18] = {0x00, 0x40}; /* d = 2 */
    float v[64];
    q2[2] = 0xe4;  /* elements 0..3: codes 0, 1, 2, 3 */
    q2[17] = 0x40; /* element 63: code 1 */
    const nb_dtype *t = nb_dtype_by_name("q2_0");
    t->decode(q2, v, 1);
    static const float first[] = {-2, 0, 2, 4, -2};
    for (int i = 0; i < 5; i++)
        CHECK_NEAR(c, v[i], first[i], 0.0, "q2_0");
    CHECK_NEAR(c, v[62], -2.0f, 0.0, "q2_0");
    CHECK_NEAR(c, v[63], 0.0f, 0.0, "q2_0");
    check_canonical(c, t, q2, 1);

    static const struct {
        uint8_t byte;
        float e4m3, e5m2;
    } f8[] = {
        {0x00, 0.0f, 0.0f},         {0x01, 0x1p-9f, 0x1p-16f}, {0x07, 7 * 0x1p-9f, 0x1.cp-14f},
        {0x08, 0x1p-6f, 0x1p-13f},  {0x38, 1.0f, 0.5f},        {0x3c, 1.5f, 1.0f},
        {0x7b, 352.0f, 57344.0f},   {0x7e, 448.0f, NAN},       {0x7c, 384.0f, INFINITY},
        {0x7f, NAN, NAN},           {0xbc, -1.5f, -1.0f},      {0xff, NAN, NAN},
        {0xfc, -384.0f, -INFINITY},
    };
    for (size_t i = 0; i < sizeof f8 / sizeof *f8; i++) {
        nb_dtype_by_name("f8_e4m3")->decode(&f8[i].byte, v, 1);
        CHECK_NEAR(c, v[0], f8[i].e4m3, 0.0, "f8_e4m3");
        nb_dtype_by_name("f8_e5m2")->decode(&f8[i].byte, v, 1);
        CHECK_NEAR(c, v[0], f8[i].e5m2, 0.0, "f8_e5m2");
    }
    const double third[2] = {1.0 / 3.0, 1e300};
    uint8_t bytes[16];
    memcpy(bytes, third, sizeof third);
    nb_dtype_by_name("f64")->decode(bytes, v, 2);
    CHECK(c, v[0] == 1.0f / 3.0f && v[1] == INFINITY);
}

static void halves(check *c)
{
    enum { kAll = 65536 };
    uint16_t *h = room(kAll * sizeof *h), *back = room(kAll * sizeof *back);
    float *v = room(kAll * sizeof *v);
    static const char *const names[] = {"f16", "bf16"};
    for (int i = 0; i < kAll; i++)
        h[i] = (uint16_t)i;
    for (int k = 0; k < 2; k++) {
        const nb_dtype *t = nb_dtype_by_name(names[k]);
        t->decode((const uint8_t *)h, v, kAll);
        t->encode(v, (uint8_t *)back, kAll);
        for (int i = 0; i < kAll; i++) {
            const float want = k ? nb_f32_from_bf16(h[i]) : nb_f32_from_f16(h[i]);
            const uint16_t code = k ? nb_bf16_from_f32(want) : nb_f16_from_f32(want);
            CHECK(c, nb_f32_bits(v[i]) == nb_f32_bits(want));
            CHECK_EQ(c, back[i], code);
        }
    }
    free(h);
    free(back);
    free(v);
}

/* Every format that has both: encode(decode(encode(x))) = encode(x) needs a stable choice of the
 * scale; decode alone must not depend on where a block lies. */
static void places(check *c)
{
    goldens all = open_goldens(c);
    const golden *of = NULL;
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        const nb_tensor *in = find_any(&all, t, ".rnd", &of);
        if (!in)
            continue;
        const size_t block_bytes = (size_t)t->block * sizeof(float);
        uint8_t *moved = room(in->bytes + 1);
        float *whole = room(block_bytes * (size_t)in->shape[0]), *one = room(block_bytes);
        memcpy(moved + 1, in->data, in->bytes); /* off any alignment */
        nb_dtype_decode_row(t, moved + 1, whole, in->shape[0] * t->block);
        for (int64_t i = 0; i < in->shape[0]; i++) {
            t->decode(in->data + i * t->bytes, one, 1);
            CHECK(c, memcmp(one, whole + i * t->block, block_bytes) == 0);
        }
        one[0] = 7.0f;
        t->decode(in->data, one, 0);
        CHECK(c, one[0] == 7.0f);
        free(moved);
        free(whole);
        free(one);
    }
    close_goldens(&all);
}

static void edges(check *c)
{
    static const float fill[] = {0.0f,  -0.0f,  1e-45f,   -3e-39f,   1e-8f,
                                 3e38f, -3e38f, INFINITY, -INFINITY, NAN};
    for (const nb_dtype *const *p = nb_dtypes; *p; p++) {
        const nb_dtype *t = *p;
        if (!t->encode || t->block == 1)
            continue;
        for (size_t k = 0; k < sizeof fill / sizeof *fill; k++)
            for (int mixed = 0; mixed < 2; mixed++) {
                float x[256], v[256];
                uint8_t block[256], zero[256] = {0};
                for (int i = 0; i < t->block; i++)
                    x[i] = mixed && i % 3 ? (float)(i - 8) * 0.25f : fill[k];
                t->encode(x, block, 1);
                t->decode(block, v, 1);
                if (mixed)
                    continue;
                for (int i = 0; i < t->block && fabsf(fill[k]) < 1e-7f; i++)
                    CHECK(c, fabsf(v[i]) <= 0x1p-20f);
                if (fill[k] == 0.0f) {
                    CHECK(c, t->scale != NB_SCALE_F16 || memcmp(block, zero, 2) == 0 ||
                                 memcmp(block, "\0\x80", 2) == 0);
                    CHECK(c, v[0] == 0.0f && v[t->block - 1] == 0.0f);
                }
            }
    }
}

static void lookups(check *c)
{
    int n = 0;
    for (const nb_dtype *const *p = nb_dtypes; *p; p++, n++) {
        const nb_dtype *t = *p;
        CHECK(c, nb_dtype_by_name(t->name) == t);
        CHECK(c, t->ggml_id < 0 || nb_dtype_by_ggml_id(t->ggml_id) == t);
        CHECK(c, !t->st_name || nb_dtype_by_st_name(t->st_name) == t);
        /* of a container, or of the tensors of a scheme */
        CHECK(c, t->ggml_id >= 0 || t->st_name || t->rule);
        CHECK_EQ(c, nb_dtype_row_bytes(t, 3 * t->block), 3 * t->bytes);
        CHECK_EQ(c, nb_dtype_row_bytes(t, 0), 0);
        CHECK_EQ(c, nb_dtype_row_bytes(t, -t->block), -1);
        if (t->block > 1)
            CHECK_EQ(c, nb_dtype_row_bytes(t, t->block + 1), -1);
        const int64_t most = INT64_MAX / t->block * t->block;
        CHECK_EQ(c, nb_dtype_row_bytes(t, most) < 0, t->bytes > t->block);
    }
    CHECK(c, n >= 40); /* none of the rows there were is gone */
    CHECK(c, nb_dtype_by_name("Q4_K") == nb_dtype_by_ggml_id(12));
    CHECK(c, nb_dtype_by_st_name("BF16") == nb_dtype_by_ggml_id(30));
    static const int absent[] = {-1, -2, 4, 5, 9, 15, 31, 32, 33, 36, 37, 38, 43, 1 << 30};
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        CHECK(c, nb_dtype_by_ggml_id(absent[i]) == NULL);
    CHECK(c, !nb_dtype_by_name("") && !nb_dtype_by_name("q4") && !nb_dtype_by_st_name("f32"));
}

/* Entry i of a codebook, element j: a byte, or two bits less 1. */
static void codebooks(check *c)
{
    static const struct {
        const char *name;
        const void *grid;
        size_t width; /* bytes an entry */
        int n, elements, bits, bias;
    } rows[] = {
        {"iq2_xxs_grid", nb_iq2_xxs_grid, 8, 256, 8, 8, 0},
        {"iq2_xs_grid", nb_iq2_xs_grid, 8, 512, 8, 8, 0},
        {"iq2_s_grid", nb_iq2_s_grid, 8, 1024, 8, 8, 0},
        {"iq3_xxs_grid", nb_iq3_xxs_grid, 4, 256, 4, 8, 0},
        {"iq3_s_grid", nb_iq3_s_grid, 4, 512, 4, 8, 0},
        {"iq1_s_grid", nb_iq1_s_grid, 2, 2048, 8, 2, 1},
    };
    golden g;
    if (open_golden(c, "iq_grids.safetensors", &g))
        for (size_t k = 0; k < sizeof rows / sizeof *rows; k++) {
            const nb_tensor *want = find(&g, NULL, rows[k].name);
            CHECK(c, want != NULL);
            if (!want)
                continue;
            CHECK_EQ(c, want->shape[0], rows[k].n);
            CHECK_EQ(c, want->shape[1], rows[k].elements);
            int64_t bad = 0;
            for (int64_t i = 0; i < rows[k].n && want->shape[0] == rows[k].n; i++) {
                uint64_t entry = 0;
                memcpy(&entry, (const uint8_t *)rows[k].grid + (size_t)i * rows[k].width,
                       rows[k].width);
                for (int j = 0; j < rows[k].elements; j++) {
                    const uint64_t mask = (1u << rows[k].bits) - 1;
                    const int got = (int)(entry >> rows[k].bits * j & mask) - rows[k].bias;
                    bad += got != (int8_t)want->data[i * rows[k].elements + j];
                }
            }
            CHECK_EQ(c, bad, 0);
        }
    close_golden(&g);
}

static const check_case cases[] = {
    {"every block format decodes to the reference's floats bit for bit", decodes},
    {"every encoder gives the reference's bytes", encodes},
    {"codes, scales and minima give the decoded value exactly, and join gives the block",
     canonical_forms},
    {"the blocks of docs/FORMATS.md are as it says", documented},
    {"ties are resolved as the reference encoders do", ties},
    {"q2_0, f8 and f64 decode to values worked by hand", by_hand},
    {"f16 and bf16 agree with the scalar definition on all 65536 codes", halves},
    {"a block decodes alone and unaligned as it does in a row", places},
    {"zeros, subnormals, huge and non-finite values are encoded without harm", edges},
    {"formats are found by name, GGUF id and safetensors name", lookups},
    {"the codebooks are those of the file they were made from", codebooks},
};
CHECK_MAIN(cases)
