/* detokenize.c -- ids to text, one at a time: bytes are held back until they are whole characters.
 * At most three bytes wait; what cannot become a character is replaced as broken.h says, so the
 * text does not depend on where it was cut. */
#include "text/broken.h"
#include "text/vocab.h"

#include <string.h>

void nb_detok_init(nb_detok *d, const nb_tokenizer *t)
{
    *d = (nb_detok){.t = t};
}

static nb_status drain(nb_detok *d, bool all, nb_buf *out, nb_error *err)
{
    nb_status st = NB_OK;
    size_t at = 0;
    const size_t n = (size_t)d->n_pending;
    while (at < n && st == NB_OK) {
        bool cut = false;
        const size_t len = nb_utf8_whole(d->pending + at, n - at);
        const size_t broken = len ? 0 : nb_utf8_broken(d->pending + at, n - at, &cut);
        if (cut && !all)
            break; /* the rest may still come */
        st =
            len ? nb_buf_add(out, d->pending + at, len, err) : nb_buf_str(out, NB_REPLACEMENT, err);
        at += len + broken;
    }
    memmove(d->pending, d->pending + at, n - at);
    d->n_pending = (int)(n - at);
    return st;
}

nb_status nb_detok_push(nb_detok *d, int32_t id, nb_buf *out, nb_error *err)
{
    size_t n = 0, i = 0;
    const char *p = nb_tokenizer_piece(d->t, id, &n);
    nb_status st = NB_OK;
    if (d->special && nb_tokenizer_is_control(d->t, id))
        p = nb_tokenizer_token(d->t, id, &n);
    if (id < 0)
        return nb_fail(err, NB_BAD_INPUT, "token id %d is negative", id);
    if (!p || n == 0)
        return NB_OK; /* a padding row of the model, a control token, a gap in the vocabulary */
    if (!d->started && d->t->drops_space && p[0] == ' ')
        i = 1;
    d->started = true;
    while (i < n && st == NB_OK) {
        const size_t len = d->n_pending ? 0 : nb_utf8_whole(p + i, n - i);
        size_t run = len; /* whole characters go at once while nothing waits */
        for (size_t more = len; more && i + run < n; run += more)
            more = nb_utf8_whole(p + i + run, n - i - run);
        if (run) {
            st = nb_buf_add(out, p + i, run, err);
            i += run;
        } else {
            d->pending[d->n_pending++] = p[i++];
            st = drain(d, false, out, err);
        }
    }
    return st;
}

nb_status nb_detok_flush(nb_detok *d, nb_buf *out, nb_error *err)
{
    return drain(d, true, out, err);
}
