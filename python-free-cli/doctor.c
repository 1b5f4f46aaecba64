/* doctor.c -- `nibble doctor`: what this machine has and what nibble can use of it. */
#include "base/status.h"
#include "out.h"
#include "table.h"

#include <string.h>

static const nb_flag flags[] = {
    {"features", 0, NULL, "a row per format, family and backend: native, generic or refused"},
    {"output", 'o', "md|csv|json", "form of the features (default md)"},
    {NULL, 0, NULL, NULL},
};

static void put_pair(const char *key, const char *value)
{
    nb_put_json(stdout, key, strlen(key));
    putchar(':');
    nb_put_json(stdout, value, strlen(value));
}

static void print_json(const nb_doctor_report *r, nb_status st, nb_error *err)
{
    putchar('{');
    put_pair("cpu", r->cpu);
    putchar(',');
    put_pair("isa", r->isa);
    printf(",\"threads\":%d,\"memory_bytes\":%lld,\"bandwidth_gb_per_s\":%.5g,\"gpus\":[",
           r->threads, (long long)r->memory_bytes, r->bandwidth_gb_per_s);
    for (int i = 0; i < r->n_gpu; i++) {
        printf(i ? ",{" : "{");
        put_pair("name", r->gpu[i].name);
        printf(",\"sm\":%d,\"memory_bytes\":%lld,", r->gpu[i].sm,
               (long long)r->gpu[i].memory_bytes);
        put_pair("driver", r->gpu[i].driver);
        putchar('}');
    }
    printf("],\"libraries\":{");
    for (int i = 0; i < r->n_library; i++) {
        if (i)
            putchar(',');
        put_pair(r->library[i].name, r->library[i].version);
    }
    printf("},\"notes\":[");
    for (int i = 0; i < r->n_note; i++) {
        if (i)
            putchar(',');
        nb_put_json(stdout, r->note[i], strlen(r->note[i]));
    }
    putchar(']');
    if (st != NB_OK) {
        putchar(',');
        nb_put_error(stdout, st, err);
    }
    printf("}\n");
}

static void print_text(const nb_doctor_report *r)
{
    const double gib = 1024.0 * 1024.0 * 1024.0;
    printf("cpu        %s\nisa        %s\nthreads    %d\nmemory     %.1f GiB\nbandwidth  %.1f GB/s "
           "read, measured\n",
           r->cpu, r->isa, r->threads, (double)r->memory_bytes / gib, r->bandwidth_gb_per_s);
    for (int i = 0; i < r->n_gpu; i++)
        printf("gpu %-6d %s, sm_%d, %.1f GiB, driver %s\n", i, r->gpu[i].name, r->gpu[i].sm,
               (double)r->gpu[i].memory_bytes / gib, r->gpu[i].driver);
    for (int i = 0; i < r->n_library; i++)
        printf("library    %s %s\n", r->library[i].name, r->library[i].version);
    for (int i = 0; i < r->n_note; i++)
        printf("note       %s\n", r->note[i]);
}

static const nb_column columns[] = {
    {"format", true}, {"family", true}, {"backend", true}, {"how", true}};
enum { kColumns = sizeof columns / sizeof *columns };

static void feature(void *arg, const char *format, const char *family, const char *backend,
                    const char *how)
{
    const char *const text[kColumns] = {format, family, backend, how};
    nb_table_row(arg, text);
}

static nb_status run(const nb_args *a, nb_error *err)
{
    nb_table table;
    nb_doctor_report r;
    nb_status st = nb_table_open(a, columns, kColumns, &table, err);
    if (st != NB_OK)
        return st;
    if (nb_flag_on(a, "features")) {
        nb_doctor_features(feature, &table);
        return NB_OK;
    }
    st = nb_doctor(&r, err);
    if (st != NB_OK && st != NB_NEGATIVE)
        return st;
    if (nb_flag_on(a, "json"))
        print_json(&r, st, err);
    else
        print_text(&r);
    return st;
}

const nb_command nb_command_doctor = {.name = "doctor",
                                      .operands = "",
                                      .summary =
                                          "Says what this machine has and what nibble can use.",
                                      .flags = flags,
                                      .run = run};
