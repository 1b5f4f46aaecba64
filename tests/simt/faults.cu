// faults.cu -- one small kernel or host sequence per detector of the emulator, and clean patterns
// that must stay clean: the kind named must be the first one reported. Clean patterns run under
// every schedule. An argument picks the cases whose name contains it. The cases: faults_*.cu.
#include "faults.h"

float *g, *h;
unsigned *u;
cudaStream_t s, t;

// The first error of a case under one schedule.
static int check_case(const char *what, const char *want, void (*run)(), int sched)
{
    simt::cfg.sched = sched;
    simt::cfg.resident = 1;
    simt::cfg.max_yields = simt::Config().max_yields;
    cudaMemset(g, 0, 4096);
    cudaMemset(u, 0, 256);
    run();
    cudaDeviceSynchronize();
    const char *got = simt::first_error();
    const int ok = strcmp(got, want) == 0;
    printf("%s  %-42s %-8s %s", ok ? "ok  " : "FAIL", what, simt::sched_names[sched],
           *got ? got : "clean");
    printf(ok ? "\n" : ", expected %s\n", *want ? want : "clean");
    simt::reset_errors();
    return !ok;
}

int main(int argc, char **argv)
{
    int failed = 0, n = 0;
    simt::cfg.quiet = 1;
    simt::cfg.protect = 0; // the host's own fault is to be reported, not to end the test
    cudaMalloc(&g, 4096);
    cudaMalloc(&u, 256);
    h = new float[2048]();
    cudaStreamCreate(&s);
    cudaStreamCreate(&t);
    const Case *const lists[] = {memory_cases, copy_cases, block_cases};
    for (const Case *list : lists)
        for (const Case *c = list; c->what; c++) {
            if (argc > 1 && !strstr(c->what, argv[1]))
                continue;
            const int n_sched =
                *c->want ? 1 : simt::N_SCHED; // what a fault shows first depends on the order
            for (int sched = 0; sched < n_sched; sched++, n++)
                failed += check_case(c->what, c->want, c->run, sched);
        }
    printf("%d passed, %d failed\n", n - failed, failed);
    delete[] h;
    return failed ? 1 : n ? 0 : 77;
}
