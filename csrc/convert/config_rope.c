/* config_rope.c -- from frequencies back to a rule. GGUF divides frequencies one by one
 * (rope_freqs.weight); config.json wants the numbers behind them.
 *
 * With wave = 2 pi / f the rule keeps waves below old / high, slows those above old / low by
 * `factor`, and between them
 *   1 / divisor = (1 - s) / factor + s,    s = (old / wave - low) / (high - low)
 * is linear in f. So `factor` is the greatest divisor, and two blended frequencies give old / (high
 * - low) and low / (high - low); low is 1 in every published model. Whatever was guessed must give
 * the same frequencies, or it is none. */
#include "convert/config_out.h"
#include "model/hparams.h"

#include <math.h>

static const double kTurn = 2.0 * 3.14159265358979323846;

static void plain_of(const nb_hparams *hp, float *freq)
{
    const int n = hp->rope_dim / 2;
    for (int i = 0; i < n; i++)
        freq[i] = (float)pow(hp->rope.theta, -(double)i / n);
}

/* Within the rounding of a division in f32. */
static bool gives(const nb_hparams *hp, const nb_rope_llama3 *r)
{
    float freq[NB_MAX_ROPE_DIM / 2];
    const nb_container nowhere = {.path = ""};
    plain_of(hp, freq);
    if (nb_rope_slow_long(&nowhere, r, hp->rope_dim / 2, freq, NULL) != NB_OK)
        return false;
    for (int i = 0; i < hp->rope_dim / 2; i++)
        if (!(fabs((double)freq[i] - (double)hp->inv_freq[i]) <= 4e-7 * (double)hp->inv_freq[i]))
            return false;
    return true;
}

bool nb_config_find_llama3(const nb_hparams *hp, nb_rope_llama3 *out)
{
    static const double known[][3] = {{1, 4, 8192}}; /* low, high, old: Llama 3.1 to 3.3 */
    float plain[NB_MAX_ROPE_DIM / 2];
    const int n = hp->rope_dim / 2;
    double factor = 1.0, f[2] = {0}, s[2] = {0}, kept = 0.0, slowed = (double)INFINITY;
    int n_blended = 0;
    plain_of(hp, plain);
    for (int i = 0; i < n; i++)
        factor = fmax(factor, (double)plain[i] / (double)hp->inv_freq[i]);
    factor = fabs(factor - rint(factor)) < 1e-5 * factor ? rint(factor) : factor;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        *out = (nb_rope_llama3){factor, known[i][0], known[i][1], known[i][2]};
        if (gives(hp, out))
            return true;
    }
    for (int i = 0; i < n; i++) {
        const double share = ((double)hp->inv_freq[i] / (double)plain[i] - 1.0 / factor) /
                             (1.0 - 1.0 / factor),
                     wave = kTurn / (double)plain[i];
        if (share > 1.0 - 1e-5)
            kept = fmax(kept, wave);
        else if (share < 1e-5)
            slowed = fmin(slowed, wave);
        else { /* the first and the last blended one */
            f[n_blended > 0] = (double)plain[i];
            s[n_blended > 0] = share;
            n_blended++;
        }
    }
    /* nothing is blended: between the last kept and the first slowed */
    double high = 4.0, old = 4.0 * kept;
    if (n_blended == 1)
        old = (s[0] * (high - 1.0) + 1.0) * kTurn / f[0];
    else if (n_blended > 1) {
        /* old / turn / (high - 1); 1 / (high - 1) */
        const double slope = (s[1] - s[0]) / (f[1] - f[0]), low = slope * f[0] - s[0];
        high = 1.0 + 1.0 / low;
        old = slope * kTurn / low;
    } else if (isfinite(slowed))
        old = 0.5 * (fmax(4.0 * kept, 0.0) + slowed);
    high = fabs(high - rint(high)) < 1e-3 ? rint(high) : high;
    *out = (nb_rope_llama3){factor, 1.0, high, rint(old)};
    return gives(hp, out);
}
