// memory.cpp -- the device address space: one reserved range [shared arenas | heap | pinned] with
// its shadows beside it at fixed offsets, all mapped lazily:
//
//   state   a byte per byte: unaddressable, never written, valid, in flight
//   race    32 bytes per word: two records of writers, two of readers
//   stamps  per 32-byte sector the launch that last loaded, stored: unique sectors
//
// Addresses are never given out twice, so use after free is found. Values are poisoned as well:
// 0xff, a NaN in every floating type.
#include "simt_runtime.h"

#include <sys/mman.h>

namespace simt
{
Space space;
int Kept::n;

// Of a module that a test has opened: how much of what it asked for it has not given back.
extern "C" __attribute__((visibility("default"))) int simt_kept()
{
    return Kept::n;
}

static void *reserve(u64 n)
{
    void *p = mmap(nullptr, n + kPage, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return p == MAP_FAILED ? nullptr : p;
}

bool space_ready()
{
    if (space.base)
        return true;
    space.state = (u8 *)reserve(kSpaceBytes);
    space.race = (Race *)reserve(kSpaceBytes / 4 * sizeof(Race));
    space.load_stamp = (u32 *)reserve(kSpaceBytes / 32 * sizeof(u32));
    space.store_stamp = (u32 *)reserve(kSpaceBytes / 32 * sizeof(u32));
    space.stacks = (char *)reserve((kStackBytes + kPage) * kMaxThreads);
    if (space.state && space.race && space.load_stamp && space.store_stamp && space.stacks)
        space.base = (char *)reserve(kSpaceBytes);
    return space.base;
}

void space_protect()
{
    if (cfg.protect && space.heap_top > kHeap)
        mprotect(space.base + kHeap, (space.heap_top - kHeap + kPage - 1) & ~(kPage - 1),
                 space.n_open ? PROT_READ | PROT_WRITE : PROT_NONE);
}

void set_state(u64 offset, u64 n, State s)
{
    memset(space.state + offset, s, n);
}

cudaError_t space_alloc(void **p, size_t n, bool pinned)
{
    constexpr u64 kAlign = 256, kGap = 256; // the gap behind each allocation stays unaddressable
    u64 &top = pinned ? space.pinned_top : space.heap_top;
    const u64 end = pinned ? kSpaceBytes : kPinned;
    *p = nullptr;
    if (!space_ready() || n > kSpaceBytes || top + n + 2 * kPage > end)
        return cudaErrorMemoryAllocation;
    if (!pinned && cfg.memory_limit && space.live_bytes + n > cfg.memory_limit)
        return cudaErrorMemoryAllocation;
    if (!n)
        return cudaSuccess;
    Open open;
    const u64 offset = (top + kAlign - 1) / kAlign * kAlign;
    top = offset + n + kGap;
    space_protect(); // the heap has grown
    set_state(offset, n, pinned ? kValid : kUnwritten);
    memset(space.base + offset, 255, n);
    space.live_bytes += pinned ? 0 : n;
    Kept::n++;
    *p = space.base + offset;
    return cudaSuccess;
}

// Gives the whole pages of [from, from + n) back to the system; they read as zero, which is kNone
// in the state's shadow and no record in the others.
static void give_back(void *from, u64 n)
{
    const uptr begin = ((uptr)from + kPage - 1) & ~(uptr)(kPage - 1),
               end = ((uptr)from + n) & ~(uptr)(kPage - 1);
    if (begin < end)
        madvise((void *)begin, end - begin, MADV_DONTNEED);
}

cudaError_t space_free(void *p)
{
    const u64 begin = offset_of(p);
    if (!space.base || begin < kHeap || begin >= kSpaceBytes || space.state[begin] == kNone)
        return cudaErrorInvalidValue;
    u64 end = begin;
    while (space.state[end] != kNone)
        end++;
    set_state(begin, end - begin, kNone);
    // what is protected and unprotected around each launch stays small
    give_back(space.base + begin, end - begin);
    give_back(space.state + begin, end - begin);
    give_back(space.race + begin / 4, (end - begin) / 4 * sizeof(Race));
    give_back(space.load_stamp + begin / 32, (end - begin) / 32 * sizeof(u32));
    give_back(space.store_stamp + begin / 32, (end - begin) / 32 * sizeof(u32));
    space.live_bytes -= begin < kPinned ? end - begin : 0;
    Kept::n--;
    return cudaSuccess;
}
} // namespace simt
