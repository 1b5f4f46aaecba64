/* replay.cu -- CUDA graphs behind the waist: a stretch of launches, captured once by its key, then
 * enqueued by one call.
 *
 * The first time under a key the ops run as they are, so that whatever a kernel needs once (its
 * code loaded, its shared memory allowed) happens outside of a capture; the second time they are
 * captured, instantiated and enqueued; from then on only enqueued. kMost recordings are held: batch
 * sizes times the buckets of the context's length that are in use; the one that was not used for
 * longest goes. */
#include "device.h"

#include <cstring>
#include <new>

constexpr int kMost = 8;

struct Recording {
    uint8_t key[NB_REPLAY_KEY];
    size_t key_bytes; /* 0: free */
    cudaGraphExec_t exec;
    int64_t used;
};

struct nb_replay {
    Recording recording[kMost];
    Recording *open; /* being captured */
    int64_t now;
};

static void forget(Recording *it)
{
    if (it->exec)
        (void)cudaGraphExecDestroy(it->exec);
    *it = Recording();
}

static Recording *by_key(nb_replay *r, const void *key, size_t key_bytes)
{
    for (Recording &one : r->recording)
        if (one.key_bytes == key_bytes && memcmp(one.key, key, key_bytes) == 0)
            return &one;
    return NULL;
}

static nb_status enqueue(nb_backend *be, const Recording *it, nb_error *err)
{
    be->n_replay++;
    return nb_cuda_status(be, cudaGraphLaunch(it->exec, nb_cuda_of(be)->stream),
                          "launching a recorded step", err);
}

nb_status nb_cuda_replay_begin(nb_backend *be, nb_replay **r, const void *key, size_t key_bytes,
                               bool *again, nb_error *err)
{
    *again = false;
    nb_cuda_here(be);
    if (!key_bytes || key_bytes > NB_REPLAY_KEY)
        return nb_fail(err, NB_INTERNAL, "%s: a recording with a key of %zu bytes, at most %d",
                       be->name, key_bytes, NB_REPLAY_KEY);
    if (!*r)
        *r = new (std::nothrow) nb_replay();
    if (!*r)
        return nb_fail(err, NB_NO_ROOM, "%s: out of memory for recordings", be->name);
    Recording *it = by_key(*r, key, key_bytes), *oldest = (*r)->recording;
    for (Recording &one : (*r)->recording)
        oldest = one.used < oldest->used ? &one : oldest;
    (*r)->open = NULL;
    if (!it) {
        forget(oldest);
        memcpy(oldest->key, key, key_bytes);
        oldest->key_bytes = key_bytes;
        oldest->used = ++(*r)->now;
        return NB_OK;
    }
    it->used = ++(*r)->now;
    if (it->exec) {
        *again = true;
        return enqueue(be, it, err);
    }
    (*r)->open = it;
    return nb_cuda_status(
        be, cudaStreamBeginCapture(nb_cuda_of(be)->stream, cudaStreamCaptureModeThreadLocal),
        "recording a step", err);
}

nb_status nb_cuda_replay_end(nb_backend *be, nb_replay *r, bool good, nb_error *err)
{
    Recording *it = r->open;
    cudaGraph_t graph = NULL;
    if (!it)
        return NB_OK;
    r->open = NULL;
    cudaError_t e = cudaStreamEndCapture(nb_cuda_of(be)->stream, &graph);
    if (good && e == cudaSuccess)
        e = cudaGraphInstantiate(&it->exec, graph, 0);
    if (graph)
        (void)cudaGraphDestroy(graph);
    if (good && e == cudaSuccess)
        return enqueue(be, it, err);
    (void)cudaGetLastError(); /* it is told here, or by the op that failed */
    forget(it);
    return good ? nb_cuda_status(be, e, "recording a step", err) : NB_OK;
}

void nb_cuda_replay_close(nb_backend *be, nb_replay *r)
{
    if (!r)
        return;
    (void)cudaStreamSynchronize(nb_cuda_of(be)->stream);
    for (Recording &one : r->recording)
        forget(&one);
    delete r;
}

/* Events are points of the stream: the first is passed when all before it is done, so with work
 * before it the launch of the graph is not in the time. */
nb_status nb_cuda_replay_time(nb_backend *be, nb_replay *r, const void *key, size_t key_bytes,
                              double *ns, nb_error *err)
{
    const Recording *it = r ? by_key(r, key, key_bytes) : NULL;
    cudaEvent_t from = NULL, to = NULL;
    float ms = 0;
    if (!it || !it->exec)
        return nb_fail(err, NB_INTERNAL, "%s: a recording that is not there is timed", be->name);
    const cudaStream_t stream = nb_cuda_of(be)->stream;
    cudaError_t e = cudaEventCreate(&from);
    if (e == cudaSuccess)
        e = cudaEventCreate(&to);
    if (e == cudaSuccess)
        e = cudaEventRecord(from, stream);
    nb_status st = e == cudaSuccess ? enqueue(be, it, err) : NB_OK;
    if (e == cudaSuccess && st == NB_OK) {
        e = cudaEventRecord(to, stream);
        if (e == cudaSuccess)
            e = cudaEventSynchronize(to);
        if (e == cudaSuccess)
            e = cudaEventElapsedTime(&ms, from, to);
    }
    if (from)
        (void)cudaEventDestroy(from);
    if (to)
        (void)cudaEventDestroy(to);
    *ns = ms * 1e6;
    return st == NB_OK ? nb_cuda_status(be, e, "timing a recording", err) : st;
}
