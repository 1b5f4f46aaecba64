/* fuzz.h -- what a fuzz target is: one function over bytes, called by libFuzzer (NIBBLE_FUZZ=ON) or
 * by replay.c. It ends the process where a promise is broken; sanitizers do the rest. */
#ifndef NB_TESTS_FUZZ_FUZZ_H
#define NB_TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_PROMISE(cond, what)                                                                   \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, (what));                    \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

#endif
