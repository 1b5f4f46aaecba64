/* bench_time.c -- how long a call takes that is made again and again.
 *
 * A device that records (backend.h, replay_begin) is given a series of calls as one recording, and
 * its own clock tells how long a replay of it took: kernels of 2 to 14 us enqueued one by one would
 * measure the enqueuing. The series goes through every copy of the weight as often as the next, and
 * holds kSeriesNs of work; with calls so long that one round of the copies takes more than
 * kMostSeriesNs (the emulator, a small weight under many tokens), only as many copies as fit there.
 * Elsewhere, and where a call cannot be recorded, a sample is as many calls as take kSampleNs by
 * the host's clock, the wait for their end included. */
#include "api/bench_kernels.h"
#include "api/samples.h"
#include "base/clock.h"

#include <stdio.h>

enum { kLeastCalls = 20, kMostCalls = 1 << 14, kWarm = 3 };
static const int kMostTimes = 16;
static const double kSampleNs = 5e6, kSeriesNs = 2e6, kMostSeriesNs = 50e6, kProbeNs = 1e6;

static nb_status enqueue(nb_bench_call *call, void *arg, int64_t n, nb_error *err)
{
    nb_status st = NB_OK;
    for (int64_t i = 0; i < n && st == NB_OK; i++)
        st = call(arg, err);
    return st;
}

/* ns of n calls. */
static nb_status calls(nb_backend *be, nb_bench_call *call, void *arg, int64_t n, double *ns,
                       nb_error *err)
{
    const int64_t start = nb_clock_ns();
    nb_status st = enqueue(call, arg, n, err);
    if (st == NB_OK)
        st = be->op->sync(be, err);
    *ns = (double)(nb_clock_ns() - start);
    return st;
}

/* So many calls that they take least ns, and the shorter of two such times. */
static nb_status enough(nb_backend *be, nb_bench_call *call, void *arg, double least, int64_t *n,
                        double *ns, nb_error *err)
{
    double again = 0;
    nb_status st = NB_OK;
    for (*n = 1; st == NB_OK; *n *= 2) {
        st = calls(be, call, arg, *n, ns, err);
        if (st == NB_OK)
            /* twice: one may have waited for another process */
            st = calls(be, call, arg, *n, &again, err);
        *ns = *ns < again ? *ns : again;
        if (*ns >= least || *n >= 1 << 20)
            break;
    }
    return st;
}

/* ---- by recordings ---- */

static int64_t round_up(int64_t n, int64_t to)
{
    return (n + to - 1) / to * to;
}

/* So many calls as one recording, which goes by their number. */
static nb_status record(nb_backend *be, nb_replay **r, nb_bench_call *call, void *arg, int64_t n,
                        nb_error *err)
{
    nb_status st = NB_OK;
    for (int i = 0; i < 2 && st == NB_OK; i++) { /* the first time they run as they are */
        bool again = false;
        st = be->op->replay_begin(be, r, &n, sizeof n, &again, err);
        if (st != NB_OK || again)
            break;
        st = enqueue(call, arg, n, err);
        const nb_status end = be->op->replay_end(be, *r, st == NB_OK, st == NB_OK ? err : NULL);
        st = st == NB_OK ? end : st;
    }
    return st;
}

/* A replay enqueued before keeps the device at work while the one that is timed is launched; one
 * that takes long does not need it. */
static nb_status replay(nb_backend *be, nb_replay **r, int64_t n, bool ahead, double *ns,
                        nb_error *err)
{
    bool again = false;
    nb_status st = ahead ? be->op->replay_begin(be, r, &n, sizeof n, &again, err) : NB_OK;
    return st == NB_OK ? be->op->replay_time(be, *r, &n, sizeof n, ns, err) : st;
}

static nb_status by_recordings(nb_backend *be, nb_bench_call *call, void *arg, int64_t n_copy,
                               nb_bench_times *out, nb_error *err)
{
    nb_replay *r = NULL;
    double ns = 0;
    const int64_t fit = (int64_t)(kMostSeriesNs * 1e-3 / out->launched_us);
    int64_t n = round_up(kLeastCalls, n_copy);
    if (n > fit)
        n = n_copy <= fit ? n_copy : fit > 2 ? fit : 2;
    nb_status st = NB_OK;
    for (bool holds = false; st == NB_OK && !holds;) {
        st = record(be, &r, call, arg, n, err);
        if (st == NB_OK)
            st = replay(be, &r, n, true, &ns, err);
        holds = ns >= kSeriesNs || n >= kMostCalls;
        if (!holds) { /* somewhat more than it seems to want */
            const double times = 1.25 * kSeriesNs / (ns > 1 ? ns : 1) + 1;
            n *= times < kMostTimes ? (int64_t)times : kMostTimes;
        }
    }
    const bool slow = ns > kMostSeriesNs / 2;
    out->n_call = n;
    out->n_sample = slow ? NB_BENCH_FEW : NB_BENCH_SAMPLES;
    for (int i = slow ? 0 : 1 - kWarm; i < out->n_sample && st == NB_OK; i++) {
        st = replay(be, &r, n, !slow, &ns, err);
        out->us[i < 0 ? 0 : i] = ns * 1e-3 / (double)n;
    }
    be->op->replay_close(be, r);
    return st;
}

nb_status nb_bench_time(nb_backend *be, nb_bench_call *call, void *arg, int64_t n_copy,
                        nb_bench_times *out, nb_error *err)
{
    const bool records = be->op->replay_begin && be->op->replay_time;
    double ns = 0;
    int64_t n = 1;
    *out = (nb_bench_times){.n_call = 0};
    nb_status st = calls(be, call, arg, 1, &ns, err); /* touches everything once */
    if (st == NB_OK)
        st = enough(be, call, arg, records ? kProbeNs : kSampleNs, &n, &ns, err);
    if (st != NB_OK)
        return st;
    if (records) {
        nb_error unrecorded = {.offset = -1};
        out->launched_us = ns * 1e-3 / (double)n;
        st = by_recordings(be, call, arg, n_copy, out, &unrecorded);
        if (st == NB_OK) {
            out->recorded = true;
            return NB_OK;
        }
        /* what cannot be recorded has run, and can be timed as it runs */
        st = enough(be, call, arg, kSampleNs, &n, &ns, err);
    }
    out->n_call = n;
    out->n_sample = NB_BENCH_FEW;
    for (int i = 0; i < out->n_sample && st == NB_OK; i++) {
        st = calls(be, call, arg, n, &ns, err);
        out->us[i] = ns * 1e-3 / (double)n;
    }
    return st;
}

void nb_bench_speed(nb_kernel_row *r, double bytes, double flop, const nb_limits *l, double peak,
                    nb_bench_times *t)
{
    const double bandwidth = l->read_bytes_per_s;
    r->us = nb_samples_median(t->us, t->n_sample);
    r->us_spread = nb_samples_quantile(t->us, t->n_sample, 0.75) -
                   nb_samples_quantile(t->us, t->n_sample, 0.25);
    r->gb_per_s = bytes / r->us * 1e-3;
    r->tflop_per_s = flop / r->us * 1e-6;
    r->limit_gb_per_s = bandwidth * 1e-9;
    r->limit_tflop_per_s = peak * 1e-12;
    r->n_call = t->n_call;
    snprintf(r->timed, sizeof r->timed, "%s", t->recorded ? "graph by events" : "calls by clock");
    r->us_launched = t->launched_us;
    if (bandwidth > 0 && peak > 0) {
        const double by_memory = bytes / bandwidth, by_products = flop / peak;
        r->share_of_limit = (by_memory > by_products ? by_memory : by_products) / (r->us * 1e-6);
    }
}
