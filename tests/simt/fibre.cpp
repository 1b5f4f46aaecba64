// fibre.cpp -- one fibre per CUDA thread, on one OS thread: a run is deterministic.
//
// Ready threads are a bit set over the resident ones; a fibre that blocks switches straight to
// the next by the schedule. The switch saves six registers (3 to 6 ns); swapcontext, with its two
// system calls (165 ns), serves only other CPUs. Nothing ready but threads alive: a deadlock.
#include "simt_runtime.h"

#include <sys/mman.h>

namespace simt
{
Launch now;
Thread *cur;

static Thread host; // the fibre that called run_fibres
static std::vector<u64> ready;
static u32 n_yield; // since a thread last blocked
static u64 random_state;
static int preempt_left;

const char *const sched_names[N_SCHED] = {"forward", "reverse", "warp", "warp-rev", "random"};

static bool read_number(const char **text, unsigned *out) // ":N", or nothing
{
    constexpr unsigned long kMost = 1000000000;
    if (**text != ':')
        return !**text;
    char *end;
    const unsigned long n = strtoul(*text + 1, &end, 10);
    const bool digit = (*text)[1] >= '0' && (*text)[1] <= '9'; // no sign, no space
    *text = end;
    *out = (unsigned)n;
    return digit && n <= kMost;
}

bool set_schedule(const char *text)
{
    unsigned seed = Config().seed, every = 0;
    int sched = FORWARD;
    if (text) {
        const std::string name(text, strcspn(text, ":"));
        for (sched = 0; sched < N_SCHED && name != sched_names[sched];)
            sched++;
        text += name.size();
        if (sched == N_SCHED || !read_number(&text, &seed) || !read_number(&text, &every) || *text)
            return false;
    }
    cfg.sched = sched;
    cfg.seed = seed;
    cfg.preempt = (int)every;
    return true;
}

// Each launch has an order of its own: the same op twice in a row is not the same order twice.
void seed_random()
{
    random_state = 88172645463325252ull + cfg.seed * 7919ull + now.number * 1000003ull;
    preempt_left = cfg.preempt;
}

u32 random_u32() // xorshift
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return (u32)(random_state >> 20);
}

#ifndef SIMT_UCONTEXT
// Saves the callee-saved registers on the old stack, takes them from the new one. %rdi: where to
// keep the old stack pointer, %rsi: the new one.
extern "C" void simt_swap(void **save, void *to);
asm(".text\n"
    ".globl simt_swap\n"
    ".hidden simt_swap\n"
    ".type simt_swap, @function\n"
    "simt_swap:\n"
    " push %rbp\n push %rbx\n push %r12\n push %r13\n push %r14\n push %r15\n"
    " mov %rsp, (%rdi)\n"
    " mov %rsi, %rsp\n"
    " pop %r15\n pop %r14\n pop %r13\n pop %r12\n pop %rbx\n pop %rbp\n"
    " ret\n"
    ".size simt_swap, . - simt_swap\n");
#endif

static void swap_to(Thread *to)
{
    Thread *from = cur ? cur : &host;
    last.switches++;
    cur = to == &host ? nullptr : to;
#ifdef SIMT_UCONTEXT
    swapcontext(&from->context, &to->context);
#else
    simt_swap(&from->sp, to->sp);
#endif
}

static void fibre_main()
{
    now.kernel->call(now.kernel->fn, now.kernel->args);
    thread_exit(cur);
    reschedule(false);
    __builtin_unreachable();
}

void fibre_start(Thread *t)
{
    if (!t->stack) { // the page below it is the guard
        char *guard = space.stacks + (u64)t->index * (kStackBytes + kPage);
        mprotect(guard, kPage, PROT_NONE);
        t->stack = guard + kPage;
    }
#ifdef SIMT_UCONTEXT
    getcontext(&t->context);
    t->context.uc_stack.ss_sp = t->stack;
    t->context.uc_stack.ss_size = kStackBytes;
    t->context.uc_link = nullptr;
    makecontext(&t->context, fibre_main, 0);
#else
    void **sp = (void **)(t->stack + kStackBytes);
    *--sp = nullptr; // keeps the stack aligned as behind a call
    *--sp = (void *)fibre_main;
    for (int i = 0; i < 6; i++)
        *--sp = nullptr;
    t->sp = sp;
#endif
}

void set_ready(Thread *t, bool is)
{
    const u64 bit = 1ull << (t->index & 63);
    if (is)
        ready[t->index >> 6] |= bit;
    else
        ready[t->index >> 6] &= ~bit;
}

static int next_up(int from) // the first ready index >= from, cyclic; -1: none
{
    const int n_word = (int)ready.size();
    int w = from >> 6;
    u64 m = w < n_word ? ready[w] & (~0ull << (from & 63)) : 0;
    for (int k = 0; k <= n_word; k++) {
        if (m)
            return (w << 6) + __builtin_ctzll(m);
        w = w + 1 >= n_word ? 0 : w + 1;
        m = ready[w];
    }
    return -1;
}

static int next_down(int from) // the first ready index <= from, cyclic; -1: none
{
    const int n_word = (int)ready.size();
    if (from < 0)
        from = n_word * 64 - 1;
    int w = from >> 6;
    u64 m = ready[w] & (~0ull >> (63 - (from & 63)));
    for (int k = 0; k <= n_word; k++) {
        if (m)
            return (w << 6) + 63 - __builtin_clzll(m);
        w = w ? w - 1 : n_word - 1;
        m = ready[w];
    }
    return -1;
}

static int pick(int at, bool yielding)
{
    const int n = (int)now.threads.size();
    switch (cfg.sched) {
    case REVERSE:
        return next_down(at - 1);
    case WARP: // a thread that yields must let the others run
        return yielding ? next_up((at + 1) % n) : next_up(0);
    case WARP_REV:
        return next_down(yielding ? at - 1 : n - 1);
    case RANDOM:
        return next_up((int)(random_u32() % (u32)n));
    default:
        return next_up((at + 1) % n);
    }
}

static void report_deadlock()
{
    std::string who;
    char text[160];
    void *pc = nullptr;
    int shown = 0;
    for (const Thread *t : now.threads)
        if (!t->done && shown++ < 6) {
            snprintf(text, sizeof text, " %u at a %s", t->tid, t->why ? t->why : "?");
            who += (shown > 1 ? "," : "") + std::string(text);
            pc = pc ? pc : t->pc;
        }
    report("DEADLOCK", pc, "%u threads wait for ever: thread%s", now.n_live, who.c_str());
}

void reschedule(bool yielding)
{
    Thread *me = cur;
    const int i = pick((int)me->index, yielding);
    if (i < 0) {
        if (now.n_live) {
            report_deadlock();
            now.killed = true;
        }
        swap_to(&host);
        return;
    }
    if (now.threads[i] != me)
        swap_to(now.threads[i]);
}

void kill_launch()
{
    now.killed = true;
    swap_to(&host); // the other fibres are left as they are
    __builtin_unreachable();
}

void block_on(const char *why, void *pc)
{
    cur->why = why;
    cur->pc = pc;
    set_ready(cur, false);
    n_yield = 0;
    reschedule(false);
}

void preempt()
{
    if (--preempt_left > 0)
        return;
    preempt_left = 1 + (int)(random_u32() % (2u * (u32)cfg.preempt));
    reschedule(true);
}

void run_fibres()
{
    const int n = (int)now.threads.size();
    const bool backwards = cfg.sched == REVERSE || cfg.sched == WARP_REV;
    ready.assign(((size_t)n + 63) / 64, 0);
    n_yield = 0;
    for (Thread *t : now.threads)
        set_ready(t, true);
    swap_to(now.threads[pick(backwards ? 0 : n - 1, false)]);
}
} // namespace simt

void simt_yield()
{
    if (++simt::n_yield > simt::cfg.max_yields) {
        simt::report("LIVELOCK", PC, "spinning for ever");
        simt::kill_launch();
    }
    simt::reschedule(true);
}
