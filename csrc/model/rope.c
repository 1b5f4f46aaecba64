/* rope.c -- rotary frequencies and the rules that stretch them to longer contexts. */
#include "model/hparams.h"

#include <math.h>

nb_status nb_rope_plain(const nb_container *c, double theta, int n, float *freq, nb_error *err)
{
    if (!(theta > 0.0 && theta < 1e12))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1, "rope theta is %g, it must be positive",
                          theta);
    for (int i = 0; i < n; i++)
        freq[i] = (float)pow(theta, -(double)i / n);
    return NB_OK;
}

nb_status nb_rope_linear(const nb_container *c, double factor, int n, float *freq, nb_error *err)
{
    if (!(factor > 0.0 && factor < 1e6))
        return nb_fail_at(err, NB_BAD_INPUT, c->path, -1,
                          "rope scaling factor is %g, it must be positive", factor);
    for (int i = 0; i < n; i++)
        freq[i] = (float)((double)freq[i] / factor);
    return NB_OK;
}

nb_status nb_rope_slow_long(const nb_container *c, const nb_rope_llama3 *r, int n, float *freq,
                            nb_error *err)
{
    if (!(r->factor >= 1.0 && r->low > 0.0 && r->high > r->low && r->old >= 1.0))
        return nb_fail_at(
            err, NB_BAD_INPUT, c->path, -1,
            "rope_scaling of type llama3 needs factor, low_freq_factor < high_freq_factor and "
            "original_max_position_embeddings");
    for (int i = 0; i < n; i++) {
        const double f = (double)freq[i], wave = 2.0 * 3.14159265358979323846 / f;
        const double smooth = (r->old / wave - r->low) / (r->high - r->low);
        if (wave > r->old / r->low)
            freq[i] = (float)(f / r->factor);
        else if (wave > r->old / r->high)
            freq[i] = (float)((1.0 - smooth) * f / r->factor + smooth * f);
    }
    return NB_OK;
}
