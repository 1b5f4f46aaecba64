/* text.c -- growing text: what nb_text_json and nb_text_number write, the strict reader reads
 * back. */
#include "check.h"
#include "base/text.h"
#include "file/json.h"

#include <math.h>
#include <string.h>

static void strings(check *c)
{
    static const char all[] =
        "quote \" back \\ tab \t line \n nul \0 bell \a \x7f \xC3\xA9 \xF0\x9F\x98\x80";
    nb_text t = {0};
    nb_json *doc = NULL;
    nb_error err = {0};
    nb_text_json(&t, all, sizeof all - 1);
    CHECK_EQ(c, nb_text_check(&t, "a string", &err), NB_OK);
    CHECK_EQ(c, nb_json_parse("t", t.p, t.n, &doc, &err), NB_OK);
    const char *s = NULL;
    size_t n = 0;
    CHECK(c, doc && nb_json_string(nb_json_root(doc), &s, &n));
    CHECK(c, n == sizeof all - 1 && memcmp(s, all, n) == 0);
    nb_json_close(doc);
    nb_text_free(&t);
    /* a cut sequence, a surrogate, a byte that never occurs */
    nb_text_json(&t, "a\xC3(\xED\xA0\x80\xFF", 7);
    CHECK(c,
          t.p && strcmp(t.p,
                        "\"a\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"") == 0);
    nb_text_free(&t);
}

static void numbers(check *c)
{
    static const double x[] = {
        0.0, -1.0, 0.1, 1.0 / 3.0, 6.02214076e23, 5e-324, 1.7976931348623157e308};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) {
        nb_text t = {0};
        nb_json *doc = NULL;
        nb_error err = {0};
        double y = (double)NAN;
        nb_text_number(&t, x[i]);
        CHECK_EQ(c, nb_json_parse("t", t.p, t.n, &doc, &err), NB_OK);
        CHECK(c, doc && nb_json_real(nb_json_root(doc), &y) && y == x[i]);
        nb_json_close(doc);
        nb_text_free(&t);
    }
    nb_text t = {0};
    nb_text_number(&t, (double)NAN);
    nb_text_puts(&t, " ");
    nb_text_printf(&t, "%d of %s", 3, "four");
    CHECK(c, t.p && strcmp(t.p, "null 3 of four") == 0);
    nb_text_free(&t);
}

static const check_case cases[] = {
    {"strings come back from the strict reader", strings},
    {"numbers come back to the last bit", numbers},
};
CHECK_MAIN(cases)
