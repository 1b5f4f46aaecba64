// check.cpp -- every load and store of an instrumented .cu file arrives here, through the hooks
// that -fsanitize=thread inserts (libtsan is not linked), through the vector accesses of
// simt_device.h or on behalf of the copy and matrix units. Kinds of errors:
//
//   WILD      not device memory: null, a host pointer, a constant written; ends the launch
//   OOB       a byte outside every variable or allocation       UNINIT    a byte never written
//   INFLIGHT  a byte of an asynchronous copy not waited for     MISALIGN  not a multiple of its
//   size HOSTPTR   host code dereferences device memory
#include "simt_runtime.h"

namespace simt
{
bool state_allows(u64 offset, u32 n, bool write, void *pc)
{
    const u8 *s = space.state + offset;
    const char *what = write ? "store" : "load";
    const bool shared = offset < kHeap;
    if (n == 4) {
        u32 four;
        memcpy(&four, s, 4);
        if (four == kValid * 0x01010101u)
            return true;
    }
    for (u32 i = 0; i < n; i++) {
        if (s[i] == kNone) {
            report("OOB", pc, "%s of %u bytes, byte %u outside every %s", what, n, i,
                   shared ? "shared variable" : "allocation");
            return false;
        }
        if (s[i] == kInFlight) {
            report("INFLIGHT", pc, "%s touches an asynchronous copy that was not waited for", what);
            return false;
        }
        if (s[i] == kUnwritten && !write) {
            report("UNINIT", pc, "load of %s memory never written", shared ? "shared" : "global");
            return false;
        }
    }
    return true;
}

// What is neither device memory nor the thread's stack: kernel arguments and constants may be
// read, so also what else is static in the module.
static void access_elsewhere(uptr a, bool write, void *pc)
{
    const Kernel &k = *now.kernel;
    if (!write && (a - (uptr)k.args < k.args_bytes || in_self(a)))
        return;
    report("WILD", pc, "%s %p: not device memory", write ? "store to" : "load from", (void *)a);
    kill_launch();
}

void access(uptr a, u32 n, bool write, void *pc, bool counted)
{
    Thread *t = cur;
    const u64 offset = offset_of((void *)a);
    if (!t) {
        if (offset >= kHeap && offset < kPinned && space.base && !space.n_open)
            report("HOSTPTR", pc, "host code dereferences device memory");
        return;
    }
    last.hooks++;
    if (a - (uptr)t->stack < kStackBytes) {
        last.local++;
        return;
    }
    if (offset >= kSpaceBytes) {
        access_elsewhere(a, write, pc);
        return;
    }
    if (n > 1 && n <= 16 && (a & (n - 1)))
        report("MISALIGN", pc, "%u-byte access at %p", n, (void *)a);
    if (offset < kHeap && offset / kArenaBytes != t->block->slot)
        report("OOB", pc, "shared memory of another block");
    if (state_allows(offset, n, write, pc) && write)
        set_state(offset, n, kValid);
    if (cfg.race)
        race_check(offset, n, write, t, pc);
    if (cfg.count && counted)
        count_access(t, offset, n, write, pc);
    if (write && offset >= kHeap)
        t->block->fenced = false;
    if (cfg.preempt)
        preempt();
}

static void access_range(const void *p, size_t n, bool write, void *pc)
{
    for (size_t i = 0; i < n; i += 4)
        access((uptr)p + i, n - i < 4 ? (u32)(n - i) : 4, write, pc);
}
} // namespace simt

using namespace simt;

void simt_access(const void *p, int n, int wr)
{
    access((uptr)p, (u32)n, wr, PC);
}

uint4 simt_ld16(const void *p)
{
    uint4 v;
    access((uptr)p, 16, false, PC);
    memcpy(&v, p, 16);
    return v;
}

uint2 simt_ld8(const void *p)
{
    uint2 v;
    access((uptr)p, 8, false, PC);
    memcpy(&v, p, 8);
    return v;
}

void simt_st16(void *p, uint4 v)
{
    access((uptr)p, 16, true, PC);
    memcpy(p, &v, 16);
}

// The hooks. Volatile loads yield: they are spin loops.
#define HOOKS(n)                                                                                   \
    void __tsan_read##n(void *a)                                                                   \
    {                                                                                              \
        access((uptr)a, n, false, PC);                                                             \
    }                                                                                              \
    void __tsan_write##n(void *a)                                                                  \
    {                                                                                              \
        access((uptr)a, n, true, PC);                                                              \
    }                                                                                              \
    void __tsan_volatile_read##n(void *a)                                                          \
    {                                                                                              \
        access((uptr)a, n, false, PC);                                                             \
        if (cur)                                                                                   \
            simt_yield();                                                                          \
    }                                                                                              \
    void __tsan_volatile_write##n(void *a)                                                         \
    {                                                                                              \
        access((uptr)a, n, true, PC);                                                              \
    }                                                                                              \
    void __tsan_unaligned_read##n(void *a)                                                         \
    {                                                                                              \
        access((uptr)a, n, false, PC);                                                             \
    }                                                                                              \
    void __tsan_unaligned_write##n(void *a)                                                        \
    {                                                                                              \
        access((uptr)a, n, true, PC);                                                              \
    }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)

void __tsan_read_range(void *a, size_t n)
{
    access_range(a, n, false, PC);
}

void __tsan_write_range(void *a, size_t n)
{
    access_range(a, n, true, PC);
}

void __tsan_init()
{
}

void __tsan_func_entry(void *)
{
}

void __tsan_func_exit()
{
}

void __tsan_vptr_update(void *, void *)
{
}

void __tsan_vptr_read(void *)
{
}

// memcpy, memset and memmove of the .cu files: the build renames them in the object files.
void *__tsan_memcpy(void *d, const void *s, size_t n)
{
    access_range(s, n, false, PC);
    access_range(d, n, true, PC);
    return memcpy(d, s, n);
}

void *__tsan_memset(void *d, int v, size_t n)
{
    access_range(d, n, true, PC);
    return memset(d, v, n);
}

void *__tsan_memmove(void *d, const void *s, size_t n)
{
    access_range(s, n, false, PC);
    access_range(d, n, true, PC);
    return memmove(d, s, n);
}
}
