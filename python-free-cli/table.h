/* table.h -- rows of a report as markdown, CSV or JSON (an object a line); the keys are the
 * columns. */
#ifndef NB_CLI_TABLE_H
#define NB_CLI_TABLE_H

#include "flags.h"

typedef enum nb_table_form { NB_TABLE_MD, NB_TABLE_CSV, NB_TABLE_JSON } nb_table_form;

typedef struct nb_column {
    const char *key;
    bool text; /* quoted in JSON; numbers are not */
} nb_column;

typedef struct nb_table {
    nb_table_form form;
    const nb_column *columns;
    int n_column;
    bool started; /* the head is printed with the first row, so a failure before it prints
                   * nothing */
} nb_table;

/* -o md|csv|json, or --json. NB_USAGE for another word; NB_UNSUPPORTED for svg. */
nb_status nb_table_open(const nb_args *a, const nb_column *columns, int n_column, nb_table *out,
                        nb_error *err) NB_CHECKED;
/* A value that is "" was not measured: null in JSON, "-" in markdown, nothing in CSV. */
void nb_table_row(nb_table *t, const char *const *value);

typedef struct nb_number {
    char text[32];
} nb_number;
nb_number nb_table_number(double v); /* "" for 0 and for what is not finite */
nb_number nb_table_count(int64_t v);

#endif
