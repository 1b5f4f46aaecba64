/* check.h -- the whole test harness: a case is {sentence, function}. Checks record and go on, they
 * never jump; a case without a check fails; an argument picks the cases whose sentence contains it;
 * all cases skipped: exit 77. */
#ifndef NB_TESTS_CHECK_H
#define NB_TESTS_CHECK_H

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check {
    const char *sentence;
    int n_check, n_fail;
    bool skipped;
} check;

typedef struct check_case {
    const char *sentence;
    void (*run)(check *c);
} check_case;

#if defined(__GNUC__)
#define CHECK_PRINTF(f, a) __attribute__((format(printf, f, a)))
#else
#define CHECK_PRINTF(f, a)
#endif

CHECK_PRINTF(4, 5)
static inline void check_report(check *c, const char *file, int line, const char *fmt, ...)
{
    if (++c->n_fail > 20) /* enough to see the pattern */
        return;
    fprintf(stderr, "%s:%d: %s\n  ", file, line, c->sentence);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    if (getenv("NIBBLE_CHECK_STOP")) /* tests/mutate: one is enough */
        exit(1);
}

#define CHECK(c, cond)                                                                             \
    ((c)->n_check++,                                                                               \
     (cond) ? (void)0 : check_report((c), __FILE__, __LINE__, "not true: %s", #cond))

#define CHECK_EQ(c, got, want)                                                                     \
    check_eq((c), __FILE__, __LINE__, #got, (int64_t)(got), (int64_t)(want))
static inline void check_eq(check *c, const char *file, int line, const char *what, int64_t got,
                            int64_t want)
{
    c->n_check++;
    if (got != want)
        check_report(c, file, line, "%s is %" PRId64 ", expected %" PRId64, what, got, want);
}

#define CHECK_STR(c, got, want) check_str((c), __FILE__, __LINE__, #got, (got), (want))
static inline void check_str(check *c, const char *file, int line, const char *what,
                             const char *got, const char *want)
{
    c->n_check++;
    if (!got || strcmp(got, want) != 0)
        check_report(c, file, line, "%s is \"%s\", expected \"%s\"", what, got ? got : "(null)",
                     want);
}

#define CHECK_HAS(c, got, part) check_has((c), __FILE__, __LINE__, #got, (got), (part))
static inline void check_has(check *c, const char *file, int line, const char *what,
                             const char *got, const char *part)
{
    c->n_check++;
    if (!got || !strstr(got, part))
        check_report(c, file, line, "%s is \"%s\", which does not contain \"%s\"", what,
                     got ? got : "(null)", part);
}

#define CHECK_NEAR(c, got, want, tol, what)                                                        \
    check_near((c), __FILE__, __LINE__, (double)(got), (double)(want), (double)(tol), (what))
static inline void check_near(check *c, const char *file, int line, double got, double want,
                              double tol, const char *what)
{
    c->n_check++;
    if (!(fabs(got - want) <= tol) && !(isnan(got) && isnan(want)) && got != want)
        check_report(c, file, line, "%s: got %.9g, expected %.9g, off by %.3g, allowed %.3g", what,
                     got, want, fabs(got - want), tol);
}

/* Says why a case cannot run here; it then needs no checks. */
CHECK_PRINTF(2, 3)
static inline void check_skip(check *c, const char *fmt, ...)
{
    fprintf(stderr, "skipped: %s: ", c->sentence);
    va_list ap;
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    c->skipped = true;
}

/* The path of test material that may be absent: $NIBBLE_SHARED/data/NAME, else ../shared/data/NAME
 * beside the source tree. NULL if not there. */
static inline const char *check_shared(const char *name, char *path, size_t n)
{
    const char *root = getenv("NIBBLE_SHARED");
    if (root)
        snprintf(path, n, "%s/data/%s", root, name);
    else
        snprintf(path, n, "%s/../shared/data/%s", NB_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f ? path : NULL;
}

/* A fetched model: $NIBBLE_MODELS/NAME, else ~/.cache/nibble-models/NAME. NULL if not there. */
static inline const char *check_model(const char *name, char *path, size_t n)
{
    const char *root = getenv("NIBBLE_MODELS"), *home = getenv("HOME");
    if (root)
        snprintf(path, n, "%s/%s", root, name);
    else
        snprintf(path, n, "%s/.cache/nibble-models/%s", home ? home : "/root", name);
    FILE *f = fopen(path, "rb");
    if (f)
        fclose(f);
    return f ? path : NULL;
}

static inline int check_main(const check_case *cases, size_t n, int argc, char **argv)
{
    int failed = 0, ran = 0, skipped = 0;
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && !strstr(cases[i].sentence, argv[1]))
            continue;
        check c = {.sentence = cases[i].sentence};
        cases[i].run(&c);
        if (c.skipped && !c.n_check) {
            skipped++;
            continue;
        }
        ran++;
        if (!c.n_check)
            check_report(&c, __FILE__, __LINE__, "the case checked nothing");
        printf("%s  %s (%d checks)\n", c.n_fail ? "FAIL" : "ok  ", c.sentence, c.n_check);
        failed += c.n_fail != 0;
    }
    printf("%d passed, %d failed, %d skipped\n", ran - failed, failed, skipped);
    return failed ? 1 : ran ? 0 : 77;
}

#define CHECK_MAIN(cases)                                                                          \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        return check_main((cases), sizeof(cases) / sizeof(*(cases)), argc, argv);                  \
    }

#endif
