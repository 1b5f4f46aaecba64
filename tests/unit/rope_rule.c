/* rope_rule.c -- the llama3 rule of rotary frequencies through GGUF's divisors and back: the
 * divisors give the same frequencies wherever a number of f32 does, and the numbers that are found
 * behind them are those that made them. */
#include "check.h"
#include "convert/config_out.h"
#include "convert/gguf_meta.h"
#include "model/hparams.h"

typedef struct rule {
    const char *what;
    double theta;
    int dim;
    nb_rope_llama3 r;
    bool unique; /* the frequencies leave no choice */
} rule;

static const rule rules[] = {
    {"Llama 3.1 8B", 500000.0, 128, {8.0, 1.0, 4.0, 8192.0}, true},
    {"Llama 3.2 1B", 500000.0, 64, {32.0, 1.0, 4.0, 8192.0}, true},
    {"another context", 500000.0, 128, {8.0, 1.0, 4.0, 4096.0}, true},
    {"another band", 10000.0, 128, {4.0, 1.0, 8.0, 2048.0}, true},
    {"a wide band", 1000000.0, 256, {16.0, 1.0, 32.0, 32768.0}, true},
    {"one frequency in the band", 10000.0, 16, {8.0, 1.0, 4.0, 64.0}, false},
    {"no frequency in the band", 10000.0, 8, {8.0, 1.0, 4.0, 30.0}, false},
};
enum { kRules = sizeof rules / sizeof *rules };

static void make(const rule *x, nb_hparams *hp)
{
    const nb_container nowhere = {.path = "test"};
    *hp = (nb_hparams){.rope_dim = x->dim,
                       .rope = {.theta = x->theta,
                                .local_theta = x->theta,
                                .factor = 1.0,
                                .rule = NB_ROPE_LLAMA3,
                                .llama3 = x->r}};
    if (nb_rope_plain(&nowhere, x->theta, x->dim / 2, hp->inv_freq, NULL) != NB_OK ||
        nb_rope_slow_long(&nowhere, &x->r, x->dim / 2, hp->inv_freq, NULL) != NB_OK)
        exit(1);
}

static void divisors(check *c)
{
    static nb_hparams hp;
    int n = 0, same = 0;
    for (int i = 0; i < kRules; i++) {
        float factor[NB_MAX_ROPE_DIM / 2];
        make(&rules[i], &hp);
        nb_gguf_rope_factors(&hp, factor);
        for (int k = 0; k < rules[i].dim / 2; k++) {
            const float plain = (float)pow(rules[i].theta, -(double)k / (rules[i].dim / 2));
            n++;
            same += plain / factor[k] == hp.inv_freq[k];
            CHECK_NEAR(c, plain / factor[k], hp.inv_freq[k], 0x1p-23 * (double)hp.inv_freq[k],
                       rules[i].what);
        }
    }
    printf("%d of %d frequencies to the bit\n", same, n);
    CHECK(c, same >= n - n / 50); /* quotients of f32 leave gaps: 3 of 364 have no divisor */
}

static void found(check *c)
{
    static nb_hparams hp, again;
    for (int i = 0; i < kRules; i++) {
        rule back = rules[i];
        make(&rules[i], &hp);
        hp.rope.rule = NB_ROPE_DIVIDED;
        CHECK(c, nb_config_find_llama3(&hp, &back.r));
        if (rules[i].unique) {
            CHECK_NEAR(c, back.r.factor, rules[i].r.factor, 0, rules[i].what);
            CHECK_NEAR(c, back.r.low, rules[i].r.low, 0, rules[i].what);
            CHECK_NEAR(c, back.r.high, rules[i].r.high, 0, rules[i].what);
            CHECK_NEAR(c, back.r.old, rules[i].r.old, 0, rules[i].what);
        }
        make(&back, &again);
        for (int k = 0; k < rules[i].dim / 2; k++)
            CHECK_NEAR(c, again.inv_freq[k], hp.inv_freq[k], 4e-7 * (double)hp.inv_freq[k],
                       rules[i].what);
    }
}

/* Divisors of another kind are not taken for it. */
static void none(check *c)
{
    static nb_hparams hp;
    nb_rope_llama3 r;
    make(&rules[0], &hp);
    hp.inv_freq[3] *= 0.5f;
    CHECK(c, !nb_config_find_llama3(&hp, &r));
}

static const check_case cases[] = {
    {"divisors give the same frequencies, nearly all to the bit", divisors},
    {"the rule is found behind its frequencies", found},
    {"frequencies without a rule are not given one", none},
};
CHECK_MAIN(cases)
