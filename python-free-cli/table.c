/* table.c -- the three forms of a table; rows go out as they come. */
#include "table.h"
#include "base/nearest.h"
#include "base/status.h"
#include "out.h"

#include <math.h>
#include <string.h>

nb_status nb_table_open(const nb_args *a, const nb_column *columns, int n_column, nb_table *out,
                        nb_error *err)
{
    static const char *const word[] = {"md", "csv", "json", NULL};
    const char *asked = nb_flag_text(a, "output");
    *out = (nb_table){.form = nb_flag_on(a, "json") ? NB_TABLE_JSON : NB_TABLE_MD,
                      .columns = columns,
                      .n_column = n_column};
    if (!asked)
        return NB_OK;
    for (int i = 0; i < 3; i++)
        if (strcmp(asked, word[i]) == 0) {
            out->form = (nb_table_form)i;
            return NB_OK;
        }
    if (strcmp(asked, "svg") == 0)
        return nb_fail(err, NB_UNSUPPORTED,
                       "-o svg: bench kernels draws one; here md, csv and json");
    char shown[160];
    nb_fail(err, NB_USAGE, "-o %s is none of md, csv, json",
            nb_escape(shown, (int64_t)sizeof shown, asked, (int64_t)strlen(asked)));
    nb_nearest_of(asked, word, "-o ", err);
    return NB_USAGE;
}

static void head(const nb_table *t)
{
    for (int i = 0; i < t->n_column; i++)
        if (t->form == NB_TABLE_CSV)
            printf("%s%s", i ? "," : "", t->columns[i].key);
        else
            printf("%s %s |", i ? "" : "|", t->columns[i].key);
    putchar('\n');
    for (int i = 0; i < t->n_column && t->form == NB_TABLE_MD; i++)
        printf("%s%s", i ? "" : "|", t->columns[i].text ? "---|" : "---:|");
    if (t->form == NB_TABLE_MD)
        putchar('\n');
}

/* Quoted when it holds what CSV cuts at (RFC 4180). */
static void put_csv(const char *s)
{
    if (!strpbrk(s, ",\"\n")) {
        fputs(s, stdout);
        return;
    }
    putchar('"');
    for (; *s; s++)
        printf(*s == '"' ? "\"\"" : "%c", *s);
    putchar('"');
}

void nb_table_row(nb_table *t, const char *const *value)
{
    if (!t->started && t->form != NB_TABLE_JSON)
        head(t);
    t->started = true;
    for (int i = 0; i < t->n_column; i++) {
        if (t->form == NB_TABLE_MD)
            printf("%s %s |", i ? "" : "|", value[i][0] ? value[i] : "-");
        else if (t->form == NB_TABLE_CSV) {
            fputs(i ? "," : "", stdout);
            put_csv(value[i]);
        } else {
            printf("%s\"%s\":", i ? "," : "{", t->columns[i].key);
            if (t->columns[i].text)
                nb_put_json(stdout, value[i], strlen(value[i]));
            else
                fputs(value[i][0] ? value[i] : "null", stdout);
        }
    }
    puts(t->form == NB_TABLE_JSON ? "}" : "");
    fflush(stdout); /* a row is minutes of work */
}

nb_number nb_table_number(double v)
{
    nb_number r = {""};
    if (v != 0.0 && isfinite(v))
        snprintf(r.text, sizeof r.text, "%.5g", v);
    return r;
}

nb_number nb_table_count(int64_t v)
{
    nb_number r;
    snprintf(r.text, sizeof r.text, "%lld", (long long)v);
    return r;
}
