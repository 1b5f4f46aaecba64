/* clones.h -- plain loops that the compiler vectorises once per instruction set; the loader picks the best (ifunc).
 *
 * Used where a loop is simple enough for that: the ops of quantization. Sums have a fixed order, so bits depend on the machine's level only. */
#ifndef NB_BACKEND_CPU_CLONES_H
#define NB_BACKEND_CPU_CLONES_H

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define NB_CLONES __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define NB_CLONES
#endif

#endif
