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
    Recording *it = NULL, *oldest = (*r)->recording;
    for (Recording &one : (*r)->recording) {
        if (one.key_bytes == key_bytes && memcmp(one.key, key, key_bytes) == 0)
            it = &one;
        oldest = one.used < oldest->used ? &one : oldest;
    }
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
