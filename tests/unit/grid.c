/* grid.c -- scale, zero and min of a group, against values worked by hand, against a slow
 * definition in double, and against the static groups of an independent GPTQ implementation where
 * its files are there (golden-quant/gptq_ref, skipped otherwise). */
#include "check.h"
#include "base/mapfile.h"
#include "base/random.h"
#include "base/scalar.h"
#include "dtype/grid.h"
#include "file/container.h"

static nb_grid grid_of(check *c, const char *name, int group, bool sym)
{
    nb_grid g;
    nb_error err = {.message = ""};
    CHECK_EQ(c, nb_grid_find(name, group, sym, &g, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    return g;
}

static float f16(float v)
{
    return nb_f32_from_f16(nb_f16_from_f32(v));
}

/* v as the grid stores it. */
static float stored(const nb_grid *g, float v)
{
    return g->dtype && g->dtype->scale == NB_SCALE_F32 ? v : f16(v);
}

static const char *const ints[] = {"int2", "int3", "int4", "int8"};
enum { kInts = sizeof ints / sizeof *ints };

/* The name of grid i: the integer grids, then every number format that is a grid; NULL after it. */
static const char *every(int i)
{
    if (i < kInts)
        return ints[i];
    i -= kInts;
    for (const nb_dtype *const *t = nb_dtypes; *t; t++)
        if ((*t)->rule && i-- == 0)
            return (*t)->name;
    return NULL;
}

static int n_every(void)
{
    int n = 0;
    while (every(n))
        n++;
    return n;
}

static void names(check *c)
{
    nb_grid g;
    nb_error err;
    static const char *const bad[] = {"", "q4", "q4_k", "int5", "int44"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_EQ(c, nb_grid_find(bad[i], 32, true, &g, &err), NB_USAGE);
        CHECK_HAS(c, err.message, "the grids are q4_0 ");
        CHECK_HAS(c, err.message, " int2 int3 int4 int8");
        for (int k = 0; k < n_every(); k++)
            CHECK_HAS(c, err.message, every(k));
    }
    CHECK_EQ(c, nb_grid_find("int4\x1b[2J", 32, true, &g, &err), NB_USAGE);
    CHECK_HAS(c, err.message, "grid \"int4\\x1b[2J\" is unknown");
    CHECK_EQ(c, nb_grid_find("int4", -1, true, &g, &err), NB_USAGE);
    CHECK_HAS(c, err.message, "grid int4: a group of -1 inputs");
    CHECK_EQ(c, nb_grid_find("int4", -1, true, &g, NULL), NB_USAGE);

    g = grid_of(c, "Q4_0", 128, false); /* a stored format keeps its own group */
    CHECK_STR(c, g.name, "q4_0");
    CHECK_EQ(c, g.group, 32);
    CHECK_EQ(c, g.code_max, 15);
    CHECK(c, g.dtype == nb_dtype_by_name("q4_0") && g.sym);
    g = grid_of(c, "int3", 0, false);
    CHECK_EQ(c, g.group, 0);
    CHECK_EQ(c, g.code_max, 7);
    CHECK(c, !g.dtype && !g.sym);
    CHECK_EQ(c, grid_of(c, "int8", 64, true).code_max, 255);
}

static void by_hand(check *c)
{
    static const struct {
        const char *name;
        bool sym;
        float w[4];
        float scale, zero, min; /* scale before rounding to f16 */
        int code[4];
    } rows[] = {
        /* a = 1.5, s = 3 / 15 = 0.2; 1.5 / s = 7.5 is past the last code */
        {"int4", true, {1.5f, -0.3f, 0.0f, -1.5f}, 0.2f, 8, 0, {15, 6, 8, 0}},
        /* all positive: the range starts at 0 */
        {"int4", false, {3.0f, 1.0f, 2.0f, 0.6f}, 0.2f, 0, 0, {15, 5, 10, 3}},
        /* all negative: it ends there */
        {"int4", false, {-3.0f, -1.0f, -2.0f, -0.6f}, 0.2f, 15, 0, {0, 10, 5, 12}},
        {"int2", false, {-1.0f, 2.0f, 0.4f, 0.6f}, 1.0f, 1, 0, {0, 3, 1, 2}},
        {"int2", true, {-3.0f, 3.0f, 0.9f, -1.1f}, 2.0f, 2, 0, {0, 3, 2, 1}},
        {"int3", true, {-3.5f, 3.5f, 1.4f, -1.6f}, 1.0f, 4, 0, {0, 7, 5, 2}},
        {"int8", true, {127.5f, -127.5f, 1.0f, -1.0f}, 1.0f, 128, 0, {255, 0, 129, 127}},
        /* nothing but zeros: the range [-1, 1] */
        {"int4", true, {0, 0, 0, 0}, 2.0f / 15, 8, 0, {8, 8, 8, 8}},
        {"int4", false, {0, 0, 0, 0}, 2.0f / 15, 8, 0, {8, 8, 8, 8}},
        {"int2", false, {0, 0, 0, 0}, 2.0f / 3, 2, 0, {2, 2, 2, 2}},
        /* the extreme has code 0 and either sign */
        {"q4_0", false, {4.0f, -3.5f, 0.2f, -0.3f}, -0.5f, 8, 0, {0, 15, 8, 9}},
        {"q4_0", false, {-4.0f, 3.9f, 0.0f, 0.3f}, 0.5f, 8, 0, {0, 15, 8, 9}},
        {"q4_0", false, {-2.0f, 2.0f, 0.0f, 0.0f}, 0.25f, 8, 0, {0, 15, 8, 8}},
        {"q4_0", false, {0, 0, 0, 0}, 0.0f, 8, 0, {8, 8, 8, 8}},
        {"q4_1", true, {1.0f, 16.0f, 2.0f, 8.6f}, 1.0f, 0, 1.0f, {0, 15, 1, 8}},
        {"q4_1", true, {-5.0f, -5.0f, -5.0f, -5.0f}, 0.0f, 0, -5.0f, {0, 0, 0, 0}},
        {"q5_0", false, {4.0f, -3.9f, 0.2f, -0.3f}, -0.25f, 16, 0, {0, 31, 15, 17}},
        {"q5_0", false, {0, 0, 0, 0}, 0.0f, 16, 0, {16, 16, 16, 16}},
        {"q5_1", true, {1.0f, 32.0f, 2.0f, 8.6f}, 1.0f, 0, 1.0f, {0, 31, 1, 8}},
        {"q8_0", false, {127.0f, -127.0f, 3.4f, -0.6f}, 1.0f, 128, 0, {255, 1, 131, 127}},
        {"q8_0", false, {0, 0, 0, 0}, 0.0f, 128, 0, {128, 128, 128, 128}},
        /* the extreme has the level -127; -4.5 and 7 lie halfway between -10, 1 and 13 */
        {"iq4_nl", false, {127.0f, -127.0f, 1.0f, -12.0f}, -1.0f, 8, 0, {0, 15, 8, 9}},
        {"iq4_nl", false, {127.0f, 4.5f, -7.0f, 0.0f}, -1.0f, 8, 0, {0, 7, 8, 8}},
        {"iq4_nl", false, {0, 0, 0, 0}, 0.0f, 8, 0, {8, 8, 8, 8}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_grid g = grid_of(c, rows[i].name, 4, rows[i].sym);
        nb_group p;
        g.params(&g, rows[i].w, 4, &p);
        CHECK_NEAR(c, p.scale, f16(rows[i].scale), 0.0, rows[i].name);
        CHECK_NEAR(c, p.zero, rows[i].zero, 0.0, rows[i].name);
        CHECK_NEAR(c, p.min, rows[i].min, 0.0, rows[i].name);
        for (int k = 0; k < 4; k++)
            CHECK_EQ(c, nb_grid_round(&g, &p, rows[i].w[k]), rows[i].code[k]);
    }
}

/* No level is nearer, but for the roundings of w / scale and of the bounds between levels: 2^-23 of
 * what they are. */
static void check_nearest(check *c, const nb_grid *g, const nb_group *p, float w)
{
    const float is = fabsf(nb_grid_value(g, p, nb_grid_round(g, p, w)) - w);
    for (int code = 0; code <= g->code_max; code++)
        CHECK(c, is <= fabsf(nb_grid_value(g, p, code) - w) +
                           0x1p-21f * (fabsf(w) + fabsf(p->scale * g->far)));
    CHECK_EQ(c, nb_grid_round(g, p, 0.0f), (int)p->zero);
}

static void steps(check *c)
{
    nb_rng r;
    nb_rng_seed(&r, 3);
    for (int k = 0; k < n_every(); k++)
        for (int sym = 0; sym < 2; sym++)
            for (int t = 0; t < 200; t++) {
                const nb_grid g = grid_of(c, every(k), 32, sym);
                float w[32];
                const int n = 1 + t % 32; /* short groups as well */
                const float shift = (float)(t % 5 - 2), size = 0x1p-6f * (float)(1 + t % 7);
                for (int i = 0; i < n; i++)
                    w[i] = size * (nb_rng_normal(&r) + shift);
                nb_group p;
                g.params(&g, w, n, &p);
                CHECK(c, isfinite(p.scale) && isfinite(p.min) && p.zero == rintf(p.zero));
                CHECK(c, p.scale == stored(&g, p.scale) && p.min == stored(&g, p.min));
                CHECK(c, p.zero >= 0.0f && p.zero <= (float)g.code_max);
                CHECK(c, g.dtype || p.scale > 0.0f);
                for (int i = 0; i < n && g.table; i++)
                    check_nearest(c, &g, &p, w[i]);
                if (g.table)
                    continue;
                /* Half a step; at the ends half a step more where the zero is a whole code: rounded
                 * in asymmetric integer grids, one code nearer to one end in q4_0 and its like. The
                 * scale's rounding moves the last code by 2^-11 of its distance, the min's all by
                 * 2^-11 of itself. */
                const float step = fabsf(p.scale), room = (float)g.code_max * step * 0x1p-11f;
                for (int i = 0; i < n; i++) {
                    const int code = nb_grid_round(&g, &p, w[i]);
                    const bool end = code == 0 || code == g.code_max;
                    const bool whole = end && (g.dtype ? !g.dtype->has_min : !g.sym);
                    CHECK(c, code >= 0 && code <= g.code_max);
                    CHECK(c, fabsf(nb_grid_value(&g, &p, code) - w[i]) <=
                                 (whole ? 1.0f : 0.5f) * step + room + fabsf(p.min) * 0x1p-11f);
                }
            }
}

enum { kMostBlock = 256 };

static void blocks(check *c)
{
    nb_rng r;
    nb_rng_seed(&r, 4);
    for (int k = kInts; k < n_every(); k++) {
        const nb_grid g = grid_of(c, every(k), 0, false);
        const nb_dtype *t = g.dtype;
        /* one group a block, as all grids have it so far */
        CHECK(c, t->block == t->group && t->block <= kMostBlock);
        for (int n_test = 0; n_test < 200; n_test++) {
            float w[kMostBlock], got[kMostBlock];
            uint8_t code[kMostBlock], block[2 * kMostBlock];
            nb_group p;
            for (int i = 0; i < t->block; i++)
                w[i] = n_test ? nb_rng_normal(&r) : 0.0f;
            g.params(&g, w, t->block, &p);
            for (int i = 0; i < t->block; i++)
                code[i] = (uint8_t)nb_grid_round(&g, &p, w[i]);
            t->join(code, &p.scale, &p.min, 1, block);
            t->decode(block, got, 1);
            CHECK_EQ(c, g.group, t->group);
            for (int i = 0; i < t->block; i++)
                CHECK_NEAR(c, got[i], nb_grid_value(&g, &p, code[i]), 0.0, t->name);
        }
    }
}

/* A normal value rounded to BF16. */
static float bf16_normal(nb_rng *r)
{
    uint32_t bits;
    const float w = nb_rng_normal(r);
    memcpy(&bits, &w, sizeof bits);
    bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

/* Blocks of BF16 and F16 values, ties among them, by a grid that meets its extreme: the encoder's
 * bytes, which tests/golden/dtype holds to llama.cpp's. */
static void ties(check *c)
{
    nb_rng r;
    nb_rng_seed(&r, 5);
    for (int k = kInts; k < n_every(); k++) {
        const nb_grid g = grid_of(c, every(k), 0, false);
        const nb_dtype *t = g.dtype;
        int n_tie = 0, n_other = 0;
        for (int n_test = 0; n_test < 4000 && g.rule == NB_RULE_EXTREME; n_test++) {
            float w[32];
            uint8_t code[32], block[64] = {0}, encoded[64] = {0};
            nb_group p;
            for (int i = 0; i < 32; i++)
                w[i] = n_test % 2 ? bf16_normal(&r) : f16(nb_rng_normal(&r));
            g.params(&g, w, 32, &p);
            for (int i = 0; i < 32; i++) {
                const float v = w[i] / p.scale;
                code[i] = (uint8_t)nb_grid_round(&g, &p, w[i]);
                n_tie += fabsf(v - truncf(v)) == 0.5f;
            }
            t->join(code, &p.scale, &p.min, 1, block);
            t->encode(w, encoded, 1);
            n_other += memcmp(block, encoded, (size_t)t->bytes) != 0;
        }
        CHECK_EQ(c, n_other, 0);
        CHECK(c, g.rule != NB_RULE_EXTREME || n_tie > 50);
    }
}

static void edges(check *c)
{
    static const float tiny[4] = {1e-9f, -2e-9f, 1e-12f, 0.0f},
                       huge[4] = {3e38f, -3e38f, 1.0f, 0.0f};
    static const float odd[4] = {NAN, 2.0f, NAN, -2.0f}, none[4] = {NAN, NAN, NAN, NAN};
    static const float ends[4] = {INFINITY, -INFINITY, 1.0f, 0.0f};
    static const float *const rows[] = {tiny, huge, odd, none, ends};
    for (int k = 0; k < n_every(); k++)
        for (int sym = 0; sym < 2; sym++)
            for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
                const nb_grid g = grid_of(c, every(k), 4, sym);
                nb_group p;
                g.params(&g, rows[i], 4, &p);
                CHECK(c, isfinite(p.scale) && isfinite(p.zero) && isfinite(p.min));
                const bool wide = g.dtype && g.dtype->scale == NB_SCALE_F32;
                if (wide) { /* as it is; no number is 0 or infinite by itself */
                    CHECK(c, (p.scale != 0.0f) == (rows[i] != none));
                    for (int j = 0; j < 4 && rows[i] == huge; j++)
                        check_nearest(c, &g, &p, rows[i][j]);
                }
                /* a step of 6e-8 still tells 0 from the smallest f16 */
                if (rows[i] == tiny && !wide)
                    CHECK_NEAR(c, fabsf(p.scale), 0x1p-24f, 0.0, every(k));
                if ((rows[i] == huge || rows[i] == ends) && !wide)
                    CHECK_NEAR(c, fabsf(p.scale), 65504.0f, 0.0, every(k));
                for (int j = 0; j < 4; j++) {
                    const int code = nb_grid_round(&g, &p, rows[i][j]);
                    CHECK(c, code >= 0 && code <= g.code_max);
                }
            }
}

static const nb_tensor *find(const nb_safetensors *s, const char *stem, const char *suffix)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", stem, suffix);
    for (int64_t i = 0; i < s->n_tensor; i++)
        if (strcmp(s->tensor[i].name, name) == 0)
            return &s->tensor[i];
    return NULL;
}

/* Groups whose parameters come from the original weights: all with static groups, else the first of
 * a row. */
static void check_reference(check *c, const nb_safetensors *s)
{
    enum { kN = 64, kK = 256 };
    static const struct {
        const char *name, *grid;
        int group;
        bool sym, all;
    } rows[] = {
        {"w4g128sym", "int4", 128, true, false},
        {"w4g128asym", "int4", 128, false, false},
        {"w3g64asym_static", "int3", 64, false, true},
        {"w2g32asym", "int2", 32, false, false},
    };
    const nb_tensor *wt = find(s, "W", "");
    CHECK(c, wt && wt->bytes == 2 * kN * kK);
    if (!wt || wt->bytes != 2 * kN * kK)
        return;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_grid g = grid_of(c, rows[i].grid, rows[i].group, rows[i].sym);
        const nb_tensor *scales = find(s, rows[i].name, ".scales");
        const nb_tensor *zeros = find(s, rows[i].name, ".zeros");
        const int G = kK / g.group;
        CHECK(c, scales && zeros && zeros->bytes == (size_t)(kN * G));
        if (!scales || !zeros || zeros->bytes != (size_t)(kN * G))
            continue;
        for (int n = 0; n < kN; n++) {
            float w[kK];
            nb_dtype_decode_row(wt->dtype, wt->data + 2 * kK * n, w, kK);
            w[17] = w[100] = w[255] = 0.0f; /* columns that no input reaches */
            for (int j = 0; j < (rows[i].all ? G : 1); j++) {
                nb_group p;
                g.params(&g, w + j * g.group, g.group, &p);
                const int at = n * G + j;
                CHECK_NEAR(c, p.scale, nb_f32_from_f16(nb_load_u16(scales->data + 2 * at)), 0.0,
                           rows[i].name);
                CHECK_NEAR(c, p.zero, zeros->data[at], 0.0, rows[i].name);
            }
        }
    }
}

static void reference(check *c)
{
    char path[1024];
    nb_mapfile *map = NULL;
    nb_safetensors *s = NULL;
    nb_error err = {.message = ""};
    if (!check_shared("golden-quant/gptq_ref.safetensors", path, sizeof path)) {
        check_skip(c, "golden-quant/gptq_ref.safetensors is not there");
        return;
    }
    if (nb_mapfile_open(path, &map, &err) == NB_OK &&
        nb_safetensors_parse(path, map->p, map->n, &s, &err) == NB_OK)
        check_reference(c, s);
    CHECK_STR(c, err.message, "");
    if (s)
        nb_safetensors_close(s);
    if (map)
        nb_mapfile_close(map);
}

static const check_case cases[] = {
    {"grids are found by name, others refused with the list", names},
    {"groups worked by hand have their scale, zero and codes", by_hand},
    {"every value is met within a step, in short groups too", steps},
    {"a block joined from codes decodes to the grid's values", blocks},
    {"16-bit values, ties among them, get the encoder's bytes where the scale is exact", ties},
    {"tiny, huge and non-finite groups have finite scales", edges},
    {"scales and zeros are those of an independent implementation", reference},
};
CHECK_MAIN(cases)
