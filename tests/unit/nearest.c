/* nearest.c -- which name is offered for what was typed, and when none is. */
#include "base/nearest.h"
#include "check.h"

static void offers(check *c)
{
    static const char *const names[] = {"quantize", "run",  "chat", "convert",    "plan",
                                        "pull",     "gptq", "rtn",  "max-tokens", "q4_0",
                                        "q4_1",     "-n",   NULL};
    static const struct {
        const char *given, *name;
    } rows[] = {
        {"quantise", "quantize"},
        {"quantzie", "quantize"},
        {"uqantize", "quantize"},
        {"quantiz", "quantize"},
        {"quantizes", "quantize"},
        {"rnu", "run"},
        {"RUN", "run"},
        {"chta", "chat"},
        {"pul", "pull"},
        {"plun", "plan"},
        {"Q4_0", "q4_0"},
        {"q4_", "q4_0"},
        {"max_tokens", "max-tokens"},
        {"covnert", "convert"},
        {"gtpq", "gptq"},
        {"pool", NULL}, /* two letters of four */
        {"frobnicate", NULL},
        {"x", NULL},
        {"", NULL},
        {"zz", NULL},
        {"ru", "run"},
        {"converting", "convert"},
        {"conversions", NULL},
        {"a-word-of-more-than-forty-letters-is-no-typing-mistake", NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_nearest near = {.given = rows[i].given};
        for (const char *const *n = names; *n; n++)
            nb_nearest_offer(&near, *n);
        CHECK_STR(c, near.name ? near.name : "(none)", rows[i].name ? rows[i].name : "(none)");
    }
}

static void is_the_distance(check *c)
{
    static const struct {
        const char *a, *b;
        int d;
    } rows[] = {{"abcdefghi", "abcdefghi", 0}, {"abcdefghi", "bacdefghi", 1},
                {"abcdefghi", "abdefghi", 1},  {"abcdefghi", "abcdxfghij", 2},
                {"abcdefghi", "badcefghx", 3}, {"ABCDEFGHI", "abcdefghi", 0}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_nearest near = {.given = rows[i].a};
        nb_nearest_offer(&near, rows[i].b);
        CHECK(c, near.name);
        CHECK_EQ(c, near.distance, rows[i].d);
    }
}

static void a_hint(check *c)
{
    nb_error err = {.hint = "as it was"};
    nb_nearest near = {.given = "gtpq"};
    nb_nearest_hint(&near, "--method ", &err);
    CHECK_STR(c, err.hint, "as it was");
    nb_nearest_offer(&near, "gptq");
    nb_nearest_hint(&near, "--method ", &err);
    CHECK_STR(c, err.hint, "did you mean --method gptq?");
    nb_nearest_hint(&near, "--method ", NULL);
}

int main(int argc, char **argv)
{
    static const check_case cases[] = {
        {"the nearest name is offered, the first of several, and none that is far", offers},
        {"the distance counts letters put in, left out, changed and swapped", is_the_distance},
        {"a hint is written where a name is near, and nowhere else", a_hint},
    };
    return check_main(cases, 3, argc, argv);
}
