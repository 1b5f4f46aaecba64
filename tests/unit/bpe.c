/* bpe.c -- the joining of long words against the textbook: look for the pair of lowest rank, the
 * leftmost of equals, join it, again. By merges, where the two tokens are the pair, and by scores,
 * where whatever spells a token is one. */
#include "hostile/bytes.h"
#include "text/vocab.h"
#include "tokenizers.h"

enum { kLetters = 3, kMerges = 60, kTokens = kLetters + kMerges, kWord = 700 };

struct made { /* token kLetters + rank is left right */
    char text[kTokens][256];
    int left[kMerges], right[kMerges];
    int n; /* merges */
};

static uint64_t state = 1;

static int draw(int n)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (int)((state >> 33) % (uint64_t)n);
}

static int known(const struct made *m, const char *text)
{
    int i = 0;
    while (i < kLetters + m->n && strcmp(m->text[i], text) != 0)
        i++;
    return i < kLetters + m->n;
}

/* Random merges of what is there, mostly of short tokens; each makes a token of its own. */
static void make(struct made *m)
{
    m->n = 0;
    for (int i = 0; i < kLetters; i++)
        snprintf(m->text[i], sizeof m->text[i], "%c", 'a' + i);
    while (m->n < kMerges) {
        char text[256];
        const int l = draw(kLetters + m->n), r = draw(kLetters + m->n);
        if (strlen(m->text[l]) + strlen(m->text[r]) > 12)
            continue;
        strcpy(text, m->text[l]);
        strcat(text, m->text[r]);
        if (known(m, text))
            continue;
        m->left[m->n] = l;
        m->right[m->n] = r;
        strcpy(m->text[kLetters + m->n++], text);
    }
}

static bool spells(const struct made *m, int a, int b, int rank)
{
    const char *text = m->text[kLetters + rank];
    const size_t n = strlen(m->text[a]);
    return strncmp(text, m->text[a], n) == 0 && strcmp(text + n, m->text[b]) == 0;
}

static int textbook(const struct made *m, const char *word, bool by_score, int *id)
{
    int n = 0;
    for (; word[n]; n++)
        id[n] = word[n] - 'a';
    for (;;) {
        int best = kMerges, at = -1;
        for (int i = 0; i + 1 < n; i++)
            for (int k = 0; k < best; k++)
                if (by_score ? spells(m, id[i], id[i + 1], k)
                             : m->left[k] == id[i] && m->right[k] == id[i + 1]) {
                    best = k;
                    at = i;
                }
        if (at < 0)
            return n;
        id[at] = kLetters + best;
        memmove(id + at + 1, id + at + 2, (size_t)(n - at - 2) * sizeof *id);
        n--;
    }
}

static void open_made(tokenizer_of *k, const struct made *m)
{
    static char json[1 << 16];
    size_t at = (size_t)snprintf(json, sizeof json, "{\"model\":{\"type\":\"BPE\",\"vocab\":{");
    for (int i = 0; i < kTokens; i++)
        at += (size_t)snprintf(json + at, sizeof json - at, "%s\"%s\":%d", i ? "," : "", m->text[i],
                               i);
    at += (size_t)snprintf(json + at, sizeof json - at, "},\"merges\":[");
    for (int i = 0; i < kMerges; i++)
        at += (size_t)snprintf(json + at, sizeof json - at, "%s\"%s %s\"", i ? "," : "",
                               m->text[m->left[i]], m->text[m->right[i]]);
    at += (size_t)snprintf(json + at, sizeof json - at, "]}}");
    tokenizer_from_text(k, json, at, NULL);
}

/* One piece of a tokenizer.model (docs/FORMATS.md); its lengths are below 128. */
static void put_piece(bytes *b, const char *text, float score, uint32_t type)
{
    uint32_t bits = 0;
    memcpy(&bits, &score, sizeof bits);
    put_u8(b, 1 << 3 | 2);
    put_u8(b, (uint32_t)strlen(text) + 9);
    put_u8(b, 1 << 3 | 2);
    put_u8(b, (uint32_t)strlen(text));
    put_text(b, text);
    put_u8(b, 2 << 3 | 5);
    put_u32(b, bits);
    put_u8(b, 3 << 3);
    put_u8(b, type);
}

/* The same tokens by score; the unknown piece comes last, so that ids agree. */
static void open_scored(tokenizer_of *k, const struct made *m, bytes *b)
{
    /* BPE, no spaces added */
    static const char trainer[] = {2 << 3 | 2, 2, 3 << 3, 2},
                      normalizer[] = {3 << 3 | 2, 4, 3 << 3, 0, 4 << 3, 0};
    b->n = 0;
    for (int i = 0; i < kTokens; i++)
        put_piece(b, m->text[i], i < kLetters ? -1000.0f : (float)(kLetters - i), 1);
    put_piece(b, "<unk>", 0, 2);
    put(b, trainer, sizeof trainer);
    put(b, normalizer, sizeof normalizer);
    tokenizer_from_spm(k, b->p, b->n);
}

static void long_words(check *c, bool by_score)
{
    bytes b = {0};
    static struct made m;
    static int want[kWord];
    for (int round = 0; round < 20; round++) {
        tokenizer_of k;
        make(&m);
        if (by_score)
            open_scored(&k, &m, &b);
        else
            open_made(&k, &m);
        CHECK_EQ(c, k.st, NB_OK);
        CHECK_STR(c, k.err.message, "");
        for (int i = 0; i < 10 && k.t; i++) {
            char word[kWord + 1] = "";
            nb_ids v = {0};
            const int letters = 1 + draw(kLetters), length = 1 + draw(kWord);
            for (int j = 0; j < length; j++)
                word[j] = (char)('a' + draw(letters));
            const int n = textbook(&m, word, by_score, want);
            CHECK_EQ(c, nb_tokenizer_encode(k.t, word, (size_t)length, 0, &v, NULL), NB_OK);
            bool same = v.n == (size_t)n;
            for (int j = 0; j < n && same; j++)
                same = v.p[j] == want[j];
            CHECK(c, same);
            if (!same)
                fprintf(stderr, "  round %d: %s\n", round, word);
            nb_ids_free(&v);
        }
        tokenizer_gone(&k);
    }
    free(b.p);
}

static void by_merges(check *c)
{
    long_words(c, false);
}

static void by_scores(check *c)
{
    long_words(c, true);
}

static const check_case cases[] = {
    {"words of up to 700 letters are joined by merges as the textbook does", by_merges},
    {"words of up to 700 letters are joined by scores as the textbook does", by_scores},
};
CHECK_MAIN(cases)
