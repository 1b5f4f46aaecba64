/* conversation.c -- see conversation.h. Templates are free in what they accept: some print a role
 * that is a number, some want a content that others do without. So nothing is refused beforehand;
 * only when a template gave up is it asked whether it had been given what transformers' chat
 * templates are documented to get:
 *
 *     messages     a list of objects
 *     role         a text
 *     content      a text, or a list of parts: objects with a "type" that is a text; with
 *                  "tool_calls" it may be null or left out
 *     tools, tool_calls   lists of objects */
#include "text/conversation.h"
#include "text/template.h"

#include <stdio.h>

typedef struct place { /* messages[3].content[0].type */
    char text[96];
} place;

static const char *kind_of(const nb_json_node *v)
{
    switch (nb_json_typeof(v)) {
    case NB_JSON_NULL:
        return "null";
    case NB_JSON_BOOL:
        return "true or false";
    case NB_JSON_INT:
    case NB_JSON_REAL:
        return "a number";
    case NB_JSON_STRING:
        return "a text";
    case NB_JSON_ARRAY:
        return "a list";
    default:
        return "an object";
    }
}

typedef struct look {
    const char *path, *why;
    nb_error *err;
} look;

/* Always true: a fault was found. v: the value, or the object that lacks it. */
static bool say(const look *l, const nb_json_node *v, const char *at, const char *key, bool missing,
                const char *want)
{
    if (missing)
        (void)nb_fail_at(l->err, NB_BAD_INPUT, l->path, (int64_t)nb_json_offset(v),
                         "%s has no \"%s\", which must be %s (%s)", at, key, want, l->why);
    else
        (void)nb_fail_at(l->err, NB_BAD_INPUT, l->path, (int64_t)nb_json_offset(v),
                         "%s%s%s is %s, it must be %s (%s)", at, *at && *key ? "." : "", key,
                         kind_of(v), want, l->why);
    return true;
}

static bool text_fault(const look *l, const nb_json_node *object, const char *at, const char *key)
{
    const nb_json_node *v = nb_json_get(object, key);
    if (!v)
        return say(l, object, at, key, true, "a text");
    return nb_json_typeof(v) != NB_JSON_STRING && say(l, v, at, key, false, "a text");
}

/* A list of objects, where it is there. */
static bool objects_fault(const look *l, const nb_json_node *object, const char *at,
                          const char *key)
{
    const nb_json_node *v = nb_json_get(object, key);
    place p;
    int64_t i = 0;
    if (!v || nb_json_typeof(v) == NB_JSON_NULL)
        return false;
    if (nb_json_typeof(v) != NB_JSON_ARRAY)
        return say(l, v, at, key, false, "a list");
    for (const nb_json_node *e = nb_json_first(v); e; e = nb_json_next(e), i++)
        if (nb_json_typeof(e) != NB_JSON_OBJECT) {
            snprintf(p.text, sizeof p.text, "%.40s%s%.20s[%lld]", at, *at ? "." : "", key,
                     (long long)i);
            return say(l, e, p.text, "", false, "an object");
        }
    return false;
}

static bool content_fault(const look *l, const nb_json_node *message, const char *at)
{
    const nb_json_node *v = nb_json_get(message, "content");
    const bool calls = nb_json_get(message, "tool_calls") != NULL;
    place p;
    int64_t i = 0;
    if (!v)
        return !calls && say(l, message, at, "content", true, "a text");
    if (nb_json_typeof(v) == NB_JSON_STRING || (nb_json_typeof(v) == NB_JSON_NULL && calls))
        return false;
    if (nb_json_typeof(v) != NB_JSON_ARRAY)
        return say(l, v, at, "content", false, "a text or a list of parts");
    if (objects_fault(l, message, at, "content"))
        return true;
    for (const nb_json_node *e = nb_json_first(v); e; e = nb_json_next(e), i++) {
        snprintf(p.text, sizeof p.text, "%.40s.content[%lld]", at, (long long)i);
        if (text_fault(l, e, p.text, "type"))
            return true;
    }
    return false;
}

/* How far below v its deepest value lies. */
static int levels(const nb_json_node *v)
{
    int most = 0;
    const bool nests = nb_json_typeof(v) == NB_JSON_ARRAY || nb_json_typeof(v) == NB_JSON_OBJECT;
    /* the reader allows 128 */
    for (const nb_json_node *e = nests ? nb_json_first(v) : NULL; e; e = nb_json_next(e)) {
        const int n = 1 + levels(e);
        most = n > most ? n : most;
    }
    return most;
}

bool nb_conversation_fault(const char *path, const nb_json_node *conversation, const char *why,
                           nb_error *err)
{
    const look l = {path, why, err};
    place at;
    int64_t i = 0;
    if (objects_fault(&l, conversation, "", "messages") ||
        objects_fault(&l, conversation, "", "tools"))
        return true;
    for (const nb_json_node *m = nb_json_first(nb_json_get(conversation, "messages")); m;
         m = nb_json_next(m), i++) {
        snprintf(at.text, sizeof at.text, "messages[%lld]", (long long)i);
        if (text_fault(&l, m, at.text, "role") || content_fault(&l, m, at.text) ||
            objects_fault(&l, m, at.text, "tool_calls"))
            return true;
    }
    if (levels(conversation) <= NB_TEMPLATE_DEPTH + 1) /* a member's own value is at depth 0 */
        return false;
    (void)nb_fail_at(err, NB_BAD_INPUT, path, -1,
                     "the conversation is nested deeper than %d levels", NB_TEMPLATE_DEPTH);
    return true;
}
