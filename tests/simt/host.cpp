// host.cpp -- the CUDA runtime API: streams are lazy queues of closures, run only when something
// waits (a synchronization, a copy into pageable memory, the default stream). So a missing event
// shows as an unwritten input. An event drains the stream that recorded it up to the record.
//
// Pageable sources are copied at the call, pinned ones are read when the copy runs. Capture
// appends to a graph, which a launch queues again; a stream that waits for a captured event joins.
// What a graph holds are arguments as they were, and pointers: a captured copy reads its source,
// pageable or not, when the graph runs. What CUDA refuses while a stream captures (to allocate, to
// free, to wait, the default stream) is refused here, and the capture is lost.
// A failed check is a sticky error of the device: every call that waits returns it.
#include "simt_runtime.h"

#include <chrono>
#include <deque>
#include <memory>
#include <mutex>

using namespace simt;

typedef std::function<void()> Work;

// Two devices that share all they have: enough to see a launch from a thread that did not choose the
// stream's.
static const int kDevices = 2;
static thread_local int current;

struct SimtGraph : Kept {
    std::vector<Work> work;
    bool lost = false;
};
struct SimtStream : Kept {
    std::deque<Work> queue;
    int device = current;
    SimtGraph *capture = nullptr;
};
// Closures keep what they need of an event alive.
struct Record {
    SimtStream *stream = nullptr; // that recorded it last
    u64 want = 0, done = 0;       // records queued, records passed
    SimtGraph *capture = nullptr;
    std::chrono::steady_clock::time_point at; // when the last was passed
};
struct SimtEvent : Kept {
    std::shared_ptr<Record> record = std::make_shared<Record>();
};

static std::recursive_mutex one_at_a_time;
struct Entry { // every API call: the emulator has one OS thread's worth of state
    std::lock_guard<std::recursive_mutex> lock{one_at_a_time};
};

static std::vector<SimtStream *> streams;
static std::vector<SimtEvent *> events;
static cudaError_t last_error;

static cudaError_t fail(cudaError_t e)
{
    return e ? last_error = e : e;
}

// The error of a call that a capture does not allow; every capture under way is lost by it. only:
// the stream that the call is about, NULL for all.
static cudaError_t refused(const SimtStream *only,
                           cudaError_t e = cudaErrorStreamCaptureUnsupported)
{
    cudaError_t told = cudaSuccess;
    for (SimtStream *s : streams)
        if (s->capture && (!only || s == only)) {
            s->capture->lost = true;
            told = e;
        }
    return fail(told);
}

// The same for work that is put into a stream: the default one waits for all others.
static cudaError_t refused_work(const SimtStream *s)
{
    if (!s)
        return refused(nullptr, cudaErrorStreamCaptureImplicit);
    return s->capture && s->capture->lost ? fail(cudaErrorStreamCaptureInvalidated) : cudaSuccess;
}

static cudaError_t checks_passed()
{
    return errors() ? fail(cudaErrorIllegalAddress) : cudaSuccess;
}

static void step(SimtStream *s)
{
    const Work work = std::move(s->queue.front());
    s->queue.pop_front();
    work();
}

static void drain(SimtStream *s)
{
    while (!s->queue.empty())
        step(s);
}

static void drain_all() // round robin
{
    for (bool any = true; any;) {
        any = false;
        for (SimtStream *s : streams)
            if (!s->queue.empty()) {
                step(s);
                any = true;
            }
    }
}

static void push(SimtStream *s, Work work)
{
    if (!s) { // the default stream comes after everything and runs at once
        drain_all();
        work();
    } else if (s->capture) {
        s->capture->work.push_back(std::move(work));
    } else {
        s->queue.push_back(std::move(work));
    }
}

cudaError_t simt::enqueue(cudaStream_t s, const Kernel &k)
{
    const Entry entry;
    const std::shared_ptr<Kernel> kernel(new Kernel(k), [](Kernel *gone) {
        gone->release(gone->args);
        delete gone;
    });
    if (!space_ready())
        return fail(cudaErrorMemoryAllocation);
    if (!valid_config(k))
        return fail(cudaErrorInvalidConfiguration);
    if (s && s->device != current)
        return fail(cudaErrorInvalidResourceHandle);
    if (const cudaError_t e = refused_work(s))
        return e;
    push(s, [kernel] { run(*kernel); });
    return cudaSuccess;
}

// ---- device

cudaError_t cudaGetDeviceCount(int *n)
{
    const Entry entry;
    *n = space_ready() ? kDevices : 0;
    return *n ? cudaSuccess : fail(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= kDevices)
        return fail(cudaErrorInvalidDevice);
    current = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current;
    return cudaSuccess;
}

static size_t total_bytes()
{
    const u64 all = kPinned - kHeap;
    return cfg.memory_limit && cfg.memory_limit < all ? cfg.memory_limit : all;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= kDevices)
        return fail(cudaErrorInvalidDevice);
    *p = {};
    snprintf(p->name, sizeof p->name, "simt");
    p->totalGlobalMem = total_bytes();
    p->sharedMemPerBlock = 48 << 10;
    p->sharedMemPerBlockOptin = (size_t)most_shared();
    p->sharedMemPerMultiprocessor = (size_t)most_shared() + 1024;
    p->major = cfg.sm / 10;
    p->minor = cfg.sm % 10;
    p->multiProcessorCount = 4;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->l2CacheSize = 4 << 20;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all_bytes)
{
    const Entry entry;
    const u64 never_used = kPinned - space.heap_top, live = space.live_bytes;
    *all_bytes = total_bytes();
    *free_bytes = live < *all_bytes ? *all_bytes - live : 0;
    if (*free_bytes > never_used)
        *free_bytes = never_used;
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize()
{
    const Entry entry;
    if (const cudaError_t e = refused(nullptr))
        return e;
    drain_all();
    return checks_passed();
}

cudaError_t cudaPeekAtLastError()
{
    return last_error;
}

cudaError_t cudaGetLastError()
{
    const cudaError_t e = last_error;
    last_error = cudaSuccess;
    return e;
}

const char *cudaGetErrorString(cudaError_t e)
{
    switch (e) {
    case cudaSuccess:
        return "no error";
    case cudaErrorInvalidValue:
        return "invalid argument";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorNoDevice:
        return "the system refuses the address space of the emulated device";
    case cudaErrorInvalidDevice:
        return "invalid device ordinal";
    case cudaErrorInvalidResourceHandle:
        return "invalid resource handle";
    case cudaErrorStreamCaptureUnsupported:
        return "operation not permitted when stream is capturing";
    case cudaErrorStreamCaptureInvalidated:
        return "operation failed due to a previous error during capture";
    case cudaErrorStreamCaptureImplicit:
        return "operation would make the legacy stream depend on a capturing blocking stream";
    default: // a check failed: its sentence says more than CUDA's
        return errors() ? first_message() : "unknown error";
    }
}

// ---- memory

cudaError_t cudaMalloc(void **p, size_t n)
{
    const Entry entry;
    if (const cudaError_t e = refused(nullptr))
        return e;
    return fail(space_alloc(p, n, false));
}

cudaError_t cudaMallocHost(void **p, size_t n)
{
    const Entry entry;
    if (const cudaError_t e = refused(nullptr))
        return e;
    return fail(space_alloc(p, n, true));
}

cudaError_t cudaFree(void *p)
{
    const Entry entry;
    if (!p)
        return cudaSuccess;
    if (const cudaError_t e = refused(nullptr))
        return e;
    drain_all();
    return fail(space_free(p));
}

cudaError_t cudaFreeHost(void *p)
{
    return cudaFree(p);
}

static bool on_device(const void *p)
{
    return offset_of(p) < kSpaceBytes;
}

// Whether all n bytes lie in one allocation, or outside the device.
static bool allocated(const void *p, size_t n, const char *what)
{
    const u64 offset = offset_of(p);
    for (size_t i = 0; on_device(p) && i < n; i++)
        if (offset + i >= kSpaceBytes || space.state[offset + i] == kNone) {
            report("OOB", nullptr, "%s byte %zu of %zu", what, i, n);
            return false;
        }
    return true;
}

static void copy(void *d, const void *s, size_t n)
{
    const Open open;
    if (!allocated(d, n, "cudaMemcpy destination") || !allocated(s, n, "cudaMemcpy source"))
        return;
    memmove(d, s, n);
    if (on_device(d) && on_device(s)) // what was never written stays so
        memmove(space.state + offset_of(d), space.state + offset_of(s), n);
    else if (on_device(d))
        set_state(offset_of(d), n, kValid);
}

cudaError_t cudaMemcpyAsync(void *d, const void *s, size_t n, cudaMemcpyKind, cudaStream_t st)
{
    const Entry entry;
    if (!space_ready())
        return fail(cudaErrorMemoryAllocation);
    if (const cudaError_t e = refused_work(st))
        return e;
    if (on_device(s) || (st && st->capture)) {
        push(st, [=] { copy(d, s, n); });
    } else {
        const auto *bytes = (const char *)s;
        const auto kept = std::make_shared<std::vector<char>>(bytes, bytes + n);
        push(st, [=] { copy(d, kept->data(), n); });
    }
    if (on_device(d) || (st && st->capture))
        return cudaSuccess;
    if (st)
        drain(st);
    return checks_passed();
}

cudaError_t cudaMemcpy(void *d, const void *s, size_t n, cudaMemcpyKind k)
{
    return cudaMemcpyAsync(d, s, n, k, nullptr);
}

cudaError_t cudaMemsetAsync(void *d, int v, size_t n, cudaStream_t st)
{
    const Entry entry;
    if (!space_ready() || !on_device(d))
        return fail(cudaErrorInvalidValue);
    if (const cudaError_t e = refused_work(st))
        return e;
    push(st, [=] {
        const Open open;
        if (!allocated(d, n, "cudaMemset"))
            return;
        memset(d, v, n);
        set_state(offset_of(d), n, kValid);
    });
    return cudaSuccess;
}

cudaError_t cudaMemset(void *d, int v, size_t n)
{
    return cudaMemsetAsync(d, v, n, nullptr);
}

cudaError_t simt_to_symbol(void *d, const void *s, size_t n)
{
    const Entry entry;
    if (const cudaError_t e = refused(nullptr))
        return e;
    drain_all();
    memcpy(d, s, n);
    return cudaSuccess;
}

// ---- streams and events

cudaError_t cudaStreamCreate(cudaStream_t *s)
{
    const Entry entry;
    *s = new SimtStream;
    streams.push_back(*s);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned)
{
    return cudaStreamCreate(s);
}

cudaError_t cudaStreamDestroy(cudaStream_t s)
{
    const Entry entry;
    drain(s);
    for (SimtEvent *e : events)
        if (e->record->stream == s)
            e->record->stream = nullptr;
    for (size_t i = 0; i < streams.size(); i++)
        if (streams[i] == s)
            streams.erase(streams.begin() + (long)i);
    delete s;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t s)
{
    const Entry entry;
    if (const cudaError_t e = refused(s))
        return e;
    if (s)
        drain(s);
    else
        drain_all();
    return checks_passed();
}

cudaError_t cudaEventCreate(cudaEvent_t *e)
{
    const Entry entry;
    *e = new SimtEvent;
    events.push_back(*e);
    return cudaSuccess;
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *e, unsigned)
{
    return cudaEventCreate(e);
}

cudaError_t cudaEventDestroy(cudaEvent_t e)
{
    const Entry entry;
    for (size_t i = 0; i < events.size(); i++)
        if (events[i] == e)
            events.erase(events.begin() + (long)i);
    delete e;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t e, cudaStream_t s)
{
    const Entry entry;
    const std::shared_ptr<Record> r = e->record;
    const u64 number = ++r->want;
    r->stream = s;
    r->capture = s ? s->capture : nullptr;
    push(s, [r, number] {
        r->done = number;
        r->at = std::chrono::steady_clock::now();
    });
    return cudaSuccess;
}

static void wait_for(const Record &r, u64 number)
{
    while (r.done < number && r.stream && !r.stream->queue.empty())
        step(r.stream);
}

cudaError_t cudaEventSynchronize(cudaEvent_t e)
{
    const Entry entry;
    if (e->record->capture)
        return refused(nullptr);
    wait_for(*e->record, e->record->want);
    return checks_passed();
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t from, cudaEvent_t to)
{
    const Entry entry;
    *ms = std::chrono::duration<float, std::milli>(to->record->at - from->record->at).count();
    return cudaSuccess;
}

cudaError_t cudaStreamWaitEvent(cudaStream_t s, cudaEvent_t e, unsigned)
{
    const Entry entry;
    const std::shared_ptr<Record> r = e->record;
    const u64 number = r->want;
    if (r->capture && s)
        s->capture = r->capture;
    else
        push(s, [r, number] { wait_for(*r, number); });
    return cudaSuccess;
}

// ---- graphs

cudaError_t cudaStreamBeginCapture(cudaStream_t s, int)
{
    const Entry entry;
    if (!s || s->capture)
        return fail(cudaErrorInvalidValue);
    s->capture = new SimtGraph;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g)
{
    const Entry entry;
    *g = s ? s->capture : nullptr;
    if (!*g)
        return fail(cudaErrorInvalidValue);
    for (SimtStream *x : streams) // those that joined, too
        if (x->capture == *g)
            x->capture = nullptr;
    for (SimtEvent *e : events)
        if (e->record->capture == *g)
            e->record->capture = nullptr;
    if (!(*g)->lost)
        return cudaSuccess;
    delete *g;
    *g = nullptr;
    return fail(cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *e, cudaGraph_t g, unsigned long long)
{
    const Entry entry;
    *e = new SimtGraph(*g);
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t e, cudaStream_t s)
{
    const Entry entry;
    for (const Work &work : e->work)
        push(s, work);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t g)
{
    const Entry entry;
    delete g;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t e)
{
    return cudaGraphDestroy(e);
}

// ---- library calls

static bool declared_range_ok(const SimtRange &r, bool output, const char *name)
{
    for (size_t i = 0; i < r.n; i++) {
        const u8 s = on_device(r.p) ? space.state[offset_of(r.p) + i] : (u8)kNone;
        if (s == kValid || (output && s != kNone))
            continue;
        report(s == kNone ? "OOB" : "UNINIT", nullptr, "%s: byte %zu of a declared %s range", name,
               i, output ? "output" : "input");
        return false;
    }
    return true;
}

void simt::host_op(cudaStream_t s, const char *name, std::function<void()> fn,
                   std::vector<SimtRange> in, std::vector<SimtRange> out)
{
    const Entry entry;
    push(s, [=] {
        const Open open;
        for (const SimtRange &r : in)
            if (!declared_range_ok(r, false, name))
                return;
        for (const SimtRange &r : out)
            if (!declared_range_ok(r, true, name))
                return;
        fn();
        for (const SimtRange &r : out)
            set_state(offset_of(r.p), r.n, kValid);
    });
}

void simt_host_op(cudaStream_t s, const char *name, void (*fn)(void *), void *arg,
                  const SimtRange *reads, int n_read, const SimtRange *writes, int n_write)
{
    simt::host_op(s, name, [=] { fn(arg); }, {reads, reads + n_read}, {writes, writes + n_write});
}
