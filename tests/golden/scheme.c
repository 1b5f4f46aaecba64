/* scheme.c -- GPTQ, AWQ, compressed-tensors and bitsandbytes against tensors that their own
 * programs packed (tests/data/scheme/README.md): what they wrote unpacks to the codes they were
 * given, and those codes pack to the same bytes. */
#include "base/mapfile.h"
#include "base/random.h"
#include "base/scalar.h"
#include "scheme_parts.h"

struct golden {
    nb_mapfile *map[3];
    nb_safetensors *st[3];
};

static struct golden golden_open(check *c)
{
    static const char *const files[] = {"scheme/packed", "gptq/gptq_ref", "scheme/bnb"};
    struct golden g = {0};
    nb_error err = {.message = ""};
    for (int i = 0; i < 3; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/tests/data/%s.safetensors", NB_SOURCE_DIR, files[i]);
        CHECK_EQ(c, nb_mapfile_open(path, &g.map[i], &err), NB_OK);
        if (g.map[i])
            CHECK_EQ(c, nb_safetensors_parse(path, g.map[i]->p, g.map[i]->n, &g.st[i], &err),
                     NB_OK);
    }
    CHECK_STR(c, err.message, "");
    return g;
}

static void golden_close(struct golden *g)
{
    for (int i = 0; i < 3; i++) {
        nb_safetensors_close(g->st[i]);
        nb_mapfile_close(g->map[i]);
    }
}

static const nb_tensor *find(const struct golden *g, const char *prefix, const char *name)
{
    char full[128];
    snprintf(full, sizeof full, "%s.%s", prefix, name);
    for (int f = 0; f < 3; f++)
        for (int64_t i = 0; g->st[f] && i < g->st[f]->n_tensor; i++)
            if (strcmp(g->st[f]->tensor[i].name, full) == 0)
                return &g->st[f]->tensor[i];
    return NULL;
}

static void check_bytes(check *c, const nb_tensor *t, const void *got, size_t n, const char *what)
{
    CHECK(c, t != NULL);
    if (!t)
        return;
    CHECK_EQ(c, t->bytes, n);
    size_t bad = 0;
    for (size_t i = 0; i < n && i < t->bytes; i++)
        bad += ((const uint8_t *)got)[i] != t->data[i];
    if (bad)
        fprintf(stderr, "%s: %zu of %zu bytes differ\n", what, bad, n);
    CHECK_EQ(c, bad, 0);
}

static nb_scheme_spec spec_of(const char *scheme, int bits, int group, bool sym)
{
    const nb_scheme *s = nb_scheme_find(scheme);
    return (nb_scheme_spec){
        .scheme = s, .bits = bits, .group = group, .sym = sym, .variant = s->variant};
}

static float value_of(const parts *p, int64_t n, int64_t k)
{
    return nb_group_value(&p->groups[n * p->G + p->g_idx[k]], NULL, p->codes[n * p->K + k]);
}

/* ---- GPTQ ---- */

static const struct gptq_case {
    const char *packed, *codes; /* codes: NULL: not in the files */
    int bits, group;
    int64_t N, K;
    bool sym, act_order;
    int zeros; /* groups whose zero is 0 */
} gptq_cases[] = {
    {"gptq_w4g128asym", "w4g128asym", 4, 128, 64, 256, false, false, 1},
    {"gptq_w2g32asym", "w2g32asym", 2, 32, 64, 256, false, false, 5},
    {"gptq_w3g64sym_desc", "w3g64sym_desc", 3, 64, 64, 256, true, true, 0},
    {"gptq_w8g64asym", NULL, 8, 64, 32, 128, false, false, 0},
    {"gptq_w3g64rand", NULL, 3, 64, 32, 128, false, false, 5},
};
enum { kGptqCases = sizeof gptq_cases / sizeof *gptq_cases };

/* version 1 or 2 as the data are; says: the version that the spec names. */
static void check_gptq(check *c, const struct golden *g, const struct gptq_case *k, int version,
                       int says)
{
    nb_error err = {.message = ""};
    char zeros[32];
    bool act_order = !k->act_order;
    snprintf(zeros, sizeof zeros, "qzeros_v%d", version);
    const nb_tensor *part[] = {find(g, k->packed, "qweight"), find(g, k->packed, zeros),
                               find(g, k->packed, "scales"), find(g, k->packed, "g_idx")};
    parts p =
        parts_new(spec_of(says == 1 ? "gptq" : "gptq_v2", k->bits, k->group, k->sym), k->N, k->K);
    CHECK_EQ(c,
             p.spec.scheme->unpack(&p.spec, "a.file", "a.linear", k->N, k->K, part, p.codes,
                                   p.groups, p.g_idx, &act_order, 2, &err),
             NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, act_order, k->act_order);
    int n_zero = 0;
    for (int64_t i = 0; i < k->N * p.G; i++)
        n_zero += p.groups[i].zero == 0.0f;
    CHECK_EQ(c, n_zero, k->zeros);
    const nb_tensor *dequant = find(g, k->packed, "dequant");
    for (int64_t n = 0; n < 16; n++)
        for (int64_t i = 0; i < k->K; i++)
            if (nb_f32_bits(value_of(&p, n, i)) !=
                    nb_load_u32(dequant->data + 4 * (n * k->K + i)) &&
                value_of(&p, n, i) != 0.0f)
                CHECK_NEAR(c, value_of(&p, n, i),
                           nb_f32_from_bits(nb_load_u32(dequant->data + 4 * (n * k->K + i))), 0.0,
                           k->packed);
    if (k->codes)
        check_bytes(c, find(g, k->codes, "codes"), p.codes, (size_t)(k->N * k->K), k->codes);
    /* and back; zeros of 0 have no place in version 1 */
    p.spec = spec_of(version == 1 ? "gptq" : "gptq_v2", k->bits, k->group, k->sym);
    const nb_status st = parts_pack(&p, k->act_order, &err);
    CHECK_EQ(c, st, version == 1 && k->zeros ? NB_UNSUPPORTED : NB_OK);
    for (int i = 0; i < 4 && st == NB_OK; i++)
        check_bytes(c, part[i], p.bytes[i], parts_bytes(&p.want[i]), p.want[i].suffix);
    parts_free(&p);
}

static void gptq_bytes(check *c)
{
    struct golden g = golden_open(c);
    for (int i = 0; i < kGptqCases; i++)
        for (int version = 1; version <= 2; version++)
            check_gptq(c, &g, &gptq_cases[i], version, version);
    golden_close(&g);
}

static void gptq_lies(check *c)
{
    struct golden g = golden_open(c);
    for (int i = 0; i < kGptqCases; i++)
        if (gptq_cases[i].sym)
            for (int version = 1; version <= 2; version++)
                check_gptq(c, &g, &gptq_cases[i], version, 3 - version);
    golden_close(&g);
}

/* GPTQModel's version 1: the word of ones is subtracted from whole words, a zero of 0 borrows from
 * its neighbour. */
static void gptq_borrow(check *c)
{
    static const char config[] = "{\"quant_method\":\"gptq\",\"bits\":4,\"group_size\":-1,\"sym\":"
                                 "false,\"checkpoint_format\":\"gptq\","
                                 "\"meta\":{\"quantizer\":[\"gptqmodel:4.0.0\"]}}";
    nb_error err = {.message = ""};
    nb_json *doc = NULL;
    nb_scheme_spec spec = {0};
    bool act_order = true;
    CHECK_EQ(c, nb_json_parse("config.json", config, sizeof config - 1, &doc, &err), NB_OK);
    CHECK_EQ(c, nb_scheme_detect("config.json", nb_json_root(doc), &spec, &err), NB_OK);
    CHECK_STR(c, spec.scheme->name, "gptq");
    CHECK_EQ(c, spec.group, 0);
    parts p = parts_new(spec, 8, 8);
    const uint32_t zeros = 0x50f30a08u, stored = zeros - 0x11111111u;
    for (int n = 0; n < 8; n++) {
        const uint16_t one = 0x3c00;
        memcpy(p.bytes[2] + 2 * n, &one, 2);
    }
    memcpy(p.bytes[1], &stored, 4);
    CHECK_EQ(c, parts_unpack(&p, &act_order, &err), NB_OK);
    for (int n = 0; n < 8; n++)
        CHECK_EQ(c, p.groups[n].zero, zeros >> (4 * n) & 15u);
    CHECK(c, !act_order);
    parts_free(&p);
    nb_json_close(doc);
}

/* ---- AWQ ---- */

static void awq_bytes(check *c)
{
    struct golden g = golden_open(c);
    nb_error err = {.message = ""};
    bool act_order = true;
    const nb_tensor *part[] = {find(&g, "awq", "qweight"), find(&g, "awq", "qzeros"),
                               find(&g, "awq", "scales")};
    const nb_tensor *zeros = find(&g, "awq", "zeros");
    parts p = parts_new(spec_of("awq", 4, 128, false), 64, 256);
    CHECK_EQ(c,
             p.spec.scheme->unpack(&p.spec, "a.file", "a.linear", 64, 256, part, p.codes, p.groups,
                                   p.g_idx, &act_order, 2, &err),
             NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK(c, !act_order);
    check_bytes(c, find(&g, "awq", "codes"), p.codes, 64 * 256, "codes");
    for (int64_t i = 0; zeros && i < 64 * 2; i++)
        CHECK_EQ(c, p.groups[i].zero, zeros->data[i]);
    CHECK_EQ(c, parts_pack(&p, false, &err), NB_OK);
    for (int i = 0; i < 3; i++)
        check_bytes(c, part[i], p.bytes[i], parts_bytes(&p.want[i]), p.want[i].suffix);
    parts_free(&p);
    golden_close(&g);
}

/* ---- compressed-tensors ---- */

static void ct_bytes(check *c)
{
    static const struct {
        const char *name;
        int bits;
    } rows[] = {{"ct3", 3}, {"ct4", 4}, {"ct8", 8}};
    struct golden g = golden_open(c);
    for (size_t r = 0; r < 3; r++) {
        nb_error err = {.message = ""};
        bool act_order = true;
        const int half = 1 << (rows[r].bits - 1);
        const nb_tensor *q = find(&g, rows[r].name, "q"), *zp = find(&g, rows[r].name, "zp");
        parts p = parts_new(spec_of("compressed-tensors", rows[r].bits, 32, false), 32, 160);
        for (int64_t i = 0; q && i < 32 * 160; i++)
            p.codes[i] = (uint8_t)((int8_t)q->data[i] + half);
        for (int64_t i = 0; zp && i < 32 * 5; i++)
            p.groups[i] = (nb_group){.scale = 0.5f, .zero = (float)((int8_t)zp->data[i] + half)};
        CHECK_EQ(c, parts_pack(&p, false, &err), NB_OK);
        CHECK_STR(c, err.message, "");
        check_bytes(c, find(&g, rows[r].name, "weight_packed"), p.bytes[0], parts_bytes(&p.want[0]),
                    rows[r].name);
        check_bytes(c, find(&g, rows[r].name, "zp_packed"), p.bytes[3], parts_bytes(&p.want[3]),
                    rows[r].name);
        memset(p.codes, 0xff, 32 * 160);
        memset(p.groups, 0xff, 32 * 5 * sizeof *p.groups);
        CHECK_EQ(c, parts_unpack(&p, &act_order, &err), NB_OK);
        for (int64_t i = 0; q && i < 32 * 160; i++)
            if (p.codes[i] - half != (int8_t)q->data[i])
                CHECK_EQ(c, p.codes[i] - half, (int8_t)q->data[i]);
        for (int64_t i = 0; zp && i < 32 * 5; i++)
            CHECK_EQ(c, p.groups[i].zero, (int8_t)zp->data[i] + half);
        parts_free(&p);
    }
    golden_close(&g);
}

/* ---- bitsandbytes ---- */

static void check_bnb(check *c, const struct golden *g, const char *name, const char *grid,
                      bool nested)
{
    enum { N = 96, K = 192, kFrom = 84 };
    nb_error err = {.message = ""};
    nb_scheme_tensor want[NB_SCHEME_TENSORS];
    const nb_tensor *part[NB_SCHEME_TENSORS] = {NULL};
    float level[NB_TABLE_MOST];
    bool act_order = true;
    nb_scheme_spec spec = spec_of("bnb", 4, 64, true);
    spec.grid = nb_dtype_by_name(grid);
    parts p = parts_new(spec, N, K); /* as it is written: one level of scales */
    spec.variant = nested;
    const int n = spec.scheme->tensors(&spec, N, K, want);
    for (int i = 0; i < n; i++)
        part[i] = find(g, name, want[i].suffix);
    CHECK_EQ(c,
             spec.scheme->unpack(&spec, "a.file", "a.linear", N, K, part, p.codes, p.groups,
                                 p.g_idx, &act_order, 2, &err),
             NB_OK);
    CHECK_EQ(c, spec.scheme->levels(&spec, "a.file", "a.linear", part, level, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK(c, !act_order);
    const nb_tensor *dequant = find(g, name, "dequant");
    CHECK(c, dequant && dequant->bytes == (size_t)(N - kFrom) * K * 4);
    int64_t bad = 0;
    for (int64_t i = 0; dequant && i < (N - kFrom) * K; i++) {
        const float got =
            nb_group_value(&p.groups[(kFrom * K + i) / 64], level, p.codes[kFrom * K + i]);
        /* fp4's -0 is 0 there */
        bad += got != nb_f32_from_bits(nb_load_u32(dequant->data + 4 * i));
    }
    CHECK_EQ(c, bad, 0);
    if (!nested) {
        nb_matrix m = parts_matrix(&p, false);
        m.table = spec.grid->table;
        CHECK_EQ(c, spec.scheme->pack(&spec, "a.linear", &m, p.bytes, 2, &err), NB_OK);
        for (int i = 0; i < n && p.want[i].written; i++)
            check_bytes(c, part[i], p.bytes[i], parts_bytes(&p.want[i]), p.want[i].suffix);
        m.table = NULL; /* whole numbers have no place */
        CHECK_EQ(c, spec.scheme->pack(&spec, "a.linear", &m, p.bytes, 2, &err), NB_UNSUPPORTED);
    }
    parts_free(&p);
    CHECK_EQ(c, spec.scheme->check(&spec, "a.linear", 96, 96, &err), NB_UNSUPPORTED);
    CHECK_HAS(c, err.message, "a block of 64 would span two rows");
}

static void bnb_bytes(check *c)
{
    struct golden g = golden_open(c);
    check_bnb(c, &g, "nf4", "nf4", false);
    check_bnb(c, &g, "fp4", "fp4", false);
    check_bnb(c, &g, "nf4_dq", "nf4", true);
    check_bnb(c, &g, "fp4_dq", "fp4", true);
    golden_close(&g);
}

/* What quant_state says is held against the config and the shape. */
static void bnb_states(check *c)
{
    static const struct {
        const char *from, *to, *sentence;
    } rows[] = {
        {"\"nf4\"", "\"fp4\"", "says another type than the config"},
        {"64", "32", "says other blocks than 64"},
        {"[96", "[95", "says another shape than the model's numbers"},
        {"192]", "1 2]", "expected"},
    };
    struct golden g = golden_open(c);
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        nb_error err = {.message = ""};
        const nb_tensor *part[NB_SCHEME_TENSORS] = {NULL};
        bool act_order = true;
        char text[256] = "";
        nb_scheme_spec spec = spec_of("bnb", 4, 64, true);
        spec.grid = nb_dtype_by_name("nf4");
        parts p = parts_new(spec, 96, 192);
        for (int i = 0; i < p.n; i++)
            part[i] = find(&g, "nf4", p.want[i].suffix);
        nb_tensor state = *part[3];
        memcpy(text, state.data, state.bytes < sizeof text - 1 ? state.bytes : 0);
        char *at = strstr(text, rows[r].from);
        CHECK(c, at != NULL);
        if (at)
            memcpy(at, rows[r].to, strlen(rows[r].to));
        state.data = (const uint8_t *)text;
        part[3] = &state;
        CHECK_EQ(c,
                 spec.scheme->unpack(&spec, "a.file", "a.linear", 96, 192, part, p.codes, p.groups,
                                     p.g_idx, &act_order, 2, &err),
                 NB_BAD_INPUT);
        if (r < 3)
            CHECK_HAS(c, err.message, rows[r].sentence);
        parts_free(&p);
    }
    golden_close(&g);
}

/* The vector that tutorials round: scale 6.2 / 127, one group, int8 between the extremes. */
static void worked_example(check *c)
{
    static const float w[] = {1.6f, -0.7f, -3.4f, 1.7f, -2.9f, 0.5f, 2.3f, 6.2f};
    static const int want[] = {33, -14, -70, 35, -59, 10, 47, 127};
    nb_error err = {.message = ""};
    nb_grid grid;
    CHECK_EQ(c, nb_grid_find("int8", 0, true, &grid, &err), NB_OK);
    CHECK_EQ(c, nb_grid_set_range(&grid, "absmax", &err), NB_OK);
    nb_scheme_spec spec = spec_of("compressed-tensors", 8, 0, true);
    for (int variant = 0; variant < 2; variant++) { /* packed, and a byte each */
        spec.variant = variant;
        parts p = parts_new(spec, 1, 8);
        grid.params(&grid, w, 8, p.groups);
        for (int i = 0; i < 8; i++) {
            p.codes[i] = (uint8_t)nb_grid_round(&grid, p.groups, w[i]);
            CHECK_EQ(c, p.codes[i] - 128, want[i]);
        }
        CHECK_EQ(c, parts_pack(&p, false, &err), NB_OK);
        for (int i = 0; i < 8; i++)
            CHECK_EQ(c, variant ? (int8_t)p.bytes[0][i] : p.bytes[0][i] - 128, want[i]);
        parts_free(&p);
    }
}

/* docs/FORMATS.md, by hand: 8 9 7 10 8 8 0 15 along inputs, and along outputs for AWQ. */
static void pages(check *c)
{
    static const uint8_t codes[] = {8, 9, 7, 10, 8, 8, 0, 15};
    static const struct {
        const char *scheme;
        uint32_t word, zeros;
    } rows[] = {{"gptq", 0xf088a798u, 0x77777777u},
                {"gptq_v2", 0xf088a798u, 0x88888888u},
                {"awq", 0xf8a90878u, 0x88888888u},
                {"compressed-tensors", 0xf088a798u, 0}};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        nb_error err = {.message = ""};
        const bool along_outputs = strcmp(rows[r].scheme, "awq") == 0;
        parts p = parts_new(spec_of(rows[r].scheme, 4, 0, true), 8, 8);
        for (int n = 0; n < 8; n++) {
            p.groups[n] = (nb_group){.scale = 0.5f, .zero = 8.0f};
            for (int k = 0; k < 8; k++)
                p.codes[8 * n + k] = codes[along_outputs ? n : k];
        }
        CHECK_EQ(c, parts_pack(&p, false, &err), NB_OK);
        CHECK_STR(c, err.message, "");
        CHECK_EQ(c, nb_load_u32(p.bytes[0]), rows[r].word);
        if (rows[r].zeros)
            CHECK_EQ(c, nb_load_u32(p.bytes[1]), rows[r].zeros);
        parts_free(&p);
    }
}

/* ---- round trips ---- */

static void round_trip(check *c, nb_scheme_spec spec, int64_t N, int64_t K, bool ordered,
                       nb_rng *rng)
{
    nb_error err = {.message = ""};
    bool act_order = !ordered;
    parts p = parts_new(spec, N, K), q = parts_new(spec, N, K);
    const unsigned mask = (1u << spec.bits) - 1;
    for (int64_t i = 0; i < N * K; i++)
        p.codes[i] = (uint8_t)(nb_rng_u64(rng) & mask);
    for (int64_t i = 0; i < N * p.G; i++) {
        const unsigned z = (unsigned)(nb_rng_u64(rng) & mask),
                       least = strcmp(spec.scheme->name, "gptq") == 0;
        p.groups[i] = (nb_group){.scale = nb_f32_from_f16((uint16_t)(nb_rng_u64(rng) % 0x7bff)),
                                 .zero = (float)(spec.sym    ? 1u << (spec.bits - 1)
                                                 : z > least ? z
                                                             : least)};
    }
    for (int64_t k = 0; k < K; k++)
        p.g_idx[k] = ordered      ? (int32_t)((K - 1 - k) / (spec.group ? spec.group : K))
                     : spec.group ? (int32_t)(k / spec.group)
                                  : 0;
    CHECK_EQ(c, parts_pack(&p, ordered, &err), NB_OK);
    for (int i = 0; i < p.n; i++)
        memcpy(q.bytes[i], p.bytes[i], parts_bytes(&p.want[i]));
    CHECK_EQ(c, parts_unpack(&q, &act_order, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    CHECK_EQ(c, act_order, ordered);
    CHECK_EQ(c, memcmp(p.codes, q.codes, (size_t)(N * K)), 0);
    CHECK_EQ(c, memcmp(p.g_idx, q.g_idx, (size_t)K * sizeof *p.g_idx), 0);
    for (int64_t i = 0; i < N * p.G; i++)
        CHECK(c, p.groups[i].scale == q.groups[i].scale && p.groups[i].zero == q.groups[i].zero &&
                     q.groups[i].min == 0.0f);
    size_t bytes = 0;
    for (int i = 0; i < p.n; i++)
        bytes += p.want[i].written ? parts_bytes(&p.want[i]) : 0;
    CHECK_EQ(c, nb_scheme_bytes(&spec, N, K), bytes);
    parts_free(&p);
    parts_free(&q);
}

static void round_trips(check *c)
{
    static const int bits[] = {2, 3, 4, 8}, groups[] = {0, 16, 32, 64, 128, 1000};
    static const int64_t Ns[] = {32, 96, 160}, Ks[] = {32, 96, 576, 1024};
    nb_rng rng;
    nb_error err = {.message = ""};
    nb_rng_seed(&rng, 5);
    int n = 0;
    for (const nb_scheme *const *s = nb_schemes; *s; s++)
        for (size_t i = 0; i < 4 * 6 * 3 * 4 * 4; i++) {
            nb_scheme_spec spec = {.scheme = *s,
                                   .bits = bits[i % 4],
                                   .group = groups[i / 4 % 6],
                                   .variant = (*s)->variant,
                                   .sym = i / 288 & 1,
                                   .act_order = i / 576 & 1};
            const int64_t N = Ns[i / 24 % 3], K = Ks[i / 72 % 4];
            if ((*s)->check(&spec, "a.linear", N, K, &err) != NB_OK ||
                (spec.act_order && nb_scheme_groups(&spec, K) < 2))
                continue;
            round_trip(c, spec, N, K, spec.act_order, &rng);
            n++;
        }
    CHECK(c, n > 500); /* K = 576 and groups of 128: GPTQ's short last group is among them */
}

static const check_case cases[] = {
    {"what GPTQModel packed unpacks to its codes and packs to its bytes, both versions",
     gptq_bytes},
    {"symmetric zeros say by themselves which version they are of", gptq_lies},
    {"zeros that GPTQModel borrowed from their neighbours come back", gptq_borrow},
    {"what AutoAWQ packed unpacks to its codes and packs to its bytes", awq_bytes},
    {"what compressed-tensors packed unpacks to its codes and packs to its bytes", ct_bytes},
    {"what bitsandbytes packed, with one level of scales and two, unpacks to its values and packs "
     "to its bytes",
     bnb_bytes},
    {"a quant_state that says something else than config and shape is refused", bnb_states},
    {"the words of the format page, worked by hand", pages},
    {"the worked example: 1.6 -0.7 -3.4 1.7 -2.9 0.5 2.3 6.2 in int8", worked_example},
    {"every scheme gives back what it was given, in every width, group and order, short last "
     "groups included",
     round_trips},
};
CHECK_MAIN(cases)
