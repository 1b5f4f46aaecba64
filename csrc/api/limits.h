/* limits.h -- what this machine can do at most, measured: the denominators of every speed nibble prints. */
#ifndef NB_API_LIMITS_H
#define NB_API_LIMITS_H

/* Read bandwidth over 256 MiB on n_thread threads, best of 5 passes, in 1e9 bytes a second. */
double nb_limit_read_gb_per_s(int n_thread);

/* f32 multiply-adds (2 FLOP each) that the compiler's vectors reach in registers, all threads. */
double nb_limit_fma_flop_per_s(int n_thread);

#endif
