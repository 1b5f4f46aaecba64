/* template_run.h -- what the files of the template interpreter share: values, the tree, one render.
 *
 *   source -> template_lex.c -> template_parse.c, template_expr.c -> tree
 *   conversation -> template_json.c -> values;  template_exec.c walks the tree's statements,
 *   template_eval.c its expressions, with template_call.c (functions, methods), template_filter.c,
 *   template_test.c and below them template_value.c, template_string.c, template_format.c
 *
 * Everything lies in one arena and dies with the render. A failure is sticky: tpl_fail keeps the
 * first sentence, every loop asks tpl_step, and what was computed after it is thrown away. */
#ifndef NB_TEXT_TEMPLATE_RUN_H
#define NB_TEXT_TEMPLATE_RUN_H

#include "file/utf8.h"
#include "text/template.h"

typedef enum tpl_type {
    TPL_UNDEFINED, /* s, n: its name */
    TPL_NONE,
    TPL_BOOL,
    TPL_INT,
    TPL_REAL,
    TPL_STRING,
    TPL_LIST,
    TPL_TUPLE,
    TPL_GENERATOR, /* a list that Python would make lazily: always true, no JSON */
    TPL_DICT,
    TPL_NAMESPACE,
    TPL_FUNCTION,
    TPL_METHOD,
    TPL_MACRO,
    TPL_LOOP
} tpl_type;

typedef struct tpl_list tpl_list;
typedef struct tpl_dict tpl_dict;
typedef struct tpl_node tpl_node;
typedef struct tpl_run tpl_run;

typedef struct tpl_value { /* 16 bytes, passed by value; strings are never changed */
    tpl_type type;
    uint32_t n; /* bytes of a string */
    union {
        bool b;
        int64_t i;
        double r;
        const char *s; /* not NUL-terminated */
        tpl_list *list;
        tpl_dict *dict;
        const struct tpl_function *function;
        struct tpl_method *method;
        struct tpl_macro *macro;
        struct tpl_loop *loop;
    } u;
} tpl_value;

struct tpl_list {
    tpl_value *at;
    uint32_t n, cap;
};

typedef struct tpl_entry {
    tpl_value key, value;
    uint64_t hash;
} tpl_entry;

struct tpl_dict { /* in order of insertion; a hash of places above eight entries */
    tpl_entry *at;
    uint32_t n, cap;
    uint32_t *slot; /* place + 1, 0 empty; NULL: look through */
    uint32_t n_slot;
};

typedef struct tpl_name { /* interned: one for each spelling */
    struct tpl_name *next;
    const char *s;
    uint32_t n;
    tpl_value global; /* the variable of that name outside of loops and macros; undefined */
} tpl_name;

typedef struct tpl_scope { /* up NULL: the globals */
    struct tpl_scope *up;
    struct tpl_var *var;
} tpl_scope;

typedef struct tpl_args {
    tpl_value *at; /* [n] by place */
    uint32_t n, n_key;
    const tpl_name **key; /* [n_key] by name */
    tpl_value *by_key;
} tpl_args;

typedef tpl_value (*tpl_call_fn)(tpl_run *r, const tpl_args *a);
typedef tpl_value (*tpl_on_fn)(tpl_run *r, tpl_value on, const tpl_args *a);
typedef struct tpl_function {
    const char *name;
    tpl_call_fn call;
} tpl_function;
typedef struct tpl_row { /* a method, filter or test: it has a value before it */
    const char *name;
    tpl_on_fn call;
} tpl_row;

struct tpl_method {
    const tpl_row *row;
    tpl_value self;
};
struct tpl_macro {
    const tpl_node *node;
    tpl_scope *scope; /* where it was made */
};
struct tpl_loop {
    tpl_list *items;
    uint32_t at;
    tpl_value changed; /* what loop.changed() saw */
};

/* ---- the tree ---- */

typedef enum tpl_kind {
    /* expressions */
    TPL_CONST,     /* v */
    TPL_VAR,       /* name */
    TPL_MAKE_LIST, /* a: list */
    TPL_MAKE_TUPLE,
    TPL_MAKE_DICT, /* a: list of TPL_PAIR */
    TPL_PAIR,      /* a: b */
    TPL_ATTR,      /* a.name */
    TPL_ITEM,      /* a[b] */
    TPL_SLICE,     /* a[b:c:d], each may be NULL */
    TPL_CALL,      /* a(b: list) */
    TPL_KEYWORD,   /* name=a in an argument list */
    TPL_FILTER,    /* a | name(b); row NULL: unknown; a NULL: the captured text */
    TPL_TEST,      /* a is name(b) */
    TPL_NOT,
    TPL_NEGATE,
    TPL_PLUS,
    TPL_BINARY, /* a op b */
    TPL_CONCAT, /* a: list */
    TPL_AND,
    TPL_OR,
    TPL_COMPARE, /* a, then b: list of TPL_AGAINST (op, a) */
    TPL_AGAINST,
    TPL_IF_ELSE, /* a if b else c; c may be NULL */
    /* statements; lists are linked by next */
    TPL_TEXT,         /* v */
    TPL_PRINT,        /* a */
    TPL_IF,           /* a: b, else c (an elif is one TPL_IF) */
    TPL_FOR,          /* a in b if d: c, else e */
    TPL_SET,          /* a = b */
    TPL_SET_BLOCK,    /* a = text of b, through the filters c */
    TPL_DEF_MACRO,    /* name, a: list of TPL_PARAM, b */
    TPL_PARAM,        /* name, default a */
    TPL_CALL_BLOCK,   /* a: the call, b: a TPL_DEF_MACRO */
    TPL_FILTER_BLOCK, /* text of b through the filters a */
    TPL_WITH,         /* a: list of TPL_SET, b */
    TPL_GENERATION,   /* b */
    TPL_BREAK,
    TPL_CONTINUE
} tpl_kind;

enum { TPL_OP_IN = 256, TPL_OP_NOT_IN }; /* other operators: tpl_op of their characters */
#define TPL_OP2(a, b) ((a) << 8 | (b))

struct tpl_node {
    tpl_kind kind;
    int op;
    uint32_t at; /* offset in the source */
    tpl_node *next, *a, *b, *c, *d, *e;
    tpl_name *name;
    const tpl_row *row;
    tpl_value v;
};

typedef struct tpl_sink { /* where text goes: the output, or a growing string */
    nb_buf *out;
    char *p;
    size_t n, cap;
} tpl_sink;

struct tpl_run {
    const nb_template_env *env;
    nb_error *err;
    nb_status st;
    nb_arena *arena;
    char *free, *end, *tail; /* the open chunk; tail: end of the string made last */
    int64_t steps;
    int depth, macro_depth;
    const char *src; /* newlines already '\n' */
    size_t src_n;
    uint32_t at; /* offset of what runs, for the sentence */
    tpl_name **name;
    tpl_sink *sink;
    tpl_scope *scope;
    struct tpl_var *spare; /* variables of turns that are over */
    uint32_t n_macro;      /* macros made so far */
    tpl_value captured;
    bool guards, *begins; /* begins[256]: a control token begins with this byte */
};

/* ---- template.c: memory, budgets, failure ---- */

tpl_value tpl_fail(tpl_run *r, nb_status st, const char *fmt, ...) NB_PRINTF(3, 4);
#define TPL_BAD(r, ...) tpl_fail((r), NB_BAD_INPUT, __VA_ARGS__)
void *tpl_alloc(tpl_run *r, size_t n, size_t size); /* 16-byte aligned; NULL after a failure */
bool tpl_step(tpl_run *r, size_t cost);             /* false: stop, the render has failed */
bool tpl_enter(tpl_run *r);                         /* a level of recursion; then tpl_leave */
void tpl_leave(tpl_run *r);
tpl_name *tpl_intern(tpl_run *r, const char *s, size_t n);
tpl_name *tpl_known(const tpl_run *r, const char *s, size_t n); /* NULL: no such name so far */
bool tpl_put(tpl_run *r, tpl_sink *k, const char *p, size_t n);
bool tpl_puts(tpl_run *r, tpl_sink *k, const char *s);
tpl_value tpl_sunk(const tpl_sink *k);

/* ---- template_lex.c, template_parse.c, template_expr.c ---- */

typedef enum tpl_token_kind {
    TPL_T_END,
    TPL_T_DATA,
    TPL_T_BLOCK,     /* {% */
    TPL_T_BLOCK_END, /* %} */
    TPL_T_PRINT,     /* {{ */
    TPL_T_PRINT_END, /* }} */
    TPL_T_NAME,
    TPL_T_CONST, /* v: string or number */
    TPL_T_OP
} tpl_token_kind;

typedef struct tpl_token {
    tpl_token_kind kind;
    int op;
    uint32_t at, n;
    tpl_value v;
} tpl_token;

typedef struct tpl_parser {
    tpl_run *r;
    tpl_token now, ahead;
    bool has_ahead;
    size_t at; /* lexer: place in the source */
    int mode, open;
    bool line_start;
    int depth, loops;
} tpl_parser;

void tpl_lex(tpl_parser *p, tpl_token *out);
void tpl_advance(tpl_parser *p);
const tpl_token *tpl_peek(tpl_parser *p);
bool tpl_is_op(const tpl_parser *p, int op);
bool tpl_is_name(const tpl_parser *p, const char *name);
bool tpl_take_op(tpl_parser *p, int op);
bool tpl_take_name(tpl_parser *p, const char *name);
bool tpl_expect_op(tpl_parser *p, int op);
void tpl_unexpected(tpl_parser *p, const char *wanted);
tpl_name *tpl_take_identifier(tpl_parser *p);
tpl_node *tpl_node_new(tpl_parser *p, tpl_kind kind);
tpl_node *tpl_parse(tpl_run *r);
tpl_node *tpl_parse_expr(tpl_parser *p);                       /* with if-else */
tpl_node *tpl_parse_tuple(tpl_parser *p, bool with_condition); /* a, b without parentheses too */
tpl_node *tpl_parse_or(tpl_parser *p);
tpl_node *tpl_parse_filter(tpl_parser *p, tpl_node *on);  /* its name is the token */
tpl_node *tpl_parse_filters(tpl_parser *p, tpl_node *on); /* any number of "| name" */
tpl_node *tpl_parse_postfix(tpl_parser *p);
bool tpl_parse_deeper(tpl_parser *p);

/* ---- template_value.c ---- */

static inline tpl_value tpl_undefined(const tpl_name *name)
{
    return (tpl_value){.type = TPL_UNDEFINED, .n = name ? name->n : 0, .u.s = name ? name->s : ""};
}
static inline tpl_value tpl_none(void)
{
    return (tpl_value){.type = TPL_NONE};
}
static inline tpl_value tpl_bool(bool b)
{
    return (tpl_value){.type = TPL_BOOL, .u.b = b};
}
static inline tpl_value tpl_int(int64_t i)
{
    return (tpl_value){.type = TPL_INT, .u.i = i};
}
static inline tpl_value tpl_real(double x)
{
    return (tpl_value){.type = TPL_REAL, .u.r = x};
}
static inline tpl_value tpl_string(const char *s, size_t n)
{
    return (tpl_value){.type = TPL_STRING, .n = (uint32_t)n, .u.s = s};
}
static inline bool tpl_is_row(tpl_value v) /* a list, tuple or generator */
{
    return v.type == TPL_LIST || v.type == TPL_TUPLE || v.type == TPL_GENERATOR;
}
static inline bool tpl_is_dict(tpl_value v)
{
    return v.type == TPL_DICT || v.type == TPL_NAMESPACE;
}
static inline bool tpl_is_number(tpl_value v)
{
    return v.type == TPL_BOOL || v.type == TPL_INT || v.type == TPL_REAL;
}

tpl_value tpl_literal(const char *s); /* a C string that outlives the render */
tpl_value tpl_list_new(tpl_run *r, tpl_type type, uint32_t cap);
bool tpl_list_add(tpl_run *r, tpl_list *v, tpl_value x);
tpl_value tpl_pair(tpl_run *r, tpl_value a, tpl_value b);
tpl_value tpl_dict_new(tpl_run *r, tpl_type type);
tpl_entry *tpl_dict_find(tpl_run *r, const tpl_dict *d, tpl_value key);
bool tpl_dict_set(tpl_run *r, tpl_dict *d, tpl_value key, tpl_value value);
void tpl_dict_remove(tpl_run *r, tpl_dict *d, tpl_entry *e);
bool tpl_truth(tpl_value v);
bool tpl_equal(tpl_run *r, tpl_value a, tpl_value b);
int tpl_order(tpl_run *r, tpl_value a, tpl_value b);  /* -1 0 1; 2: NaN; fails on other types */
const tpl_list *tpl_iterate(tpl_run *r, tpl_value v); /* never NULL */
const char *tpl_type_name(tpl_value v);               /* Python's */
bool tpl_as_int(tpl_value v, int64_t *out);           /* bool and int */
double tpl_as_real(tpl_value v);                      /* of a number */

/* ---- template_string.c: text in characters, the guard byte a part of the one before it ---- */

size_t tpl_char(const char *p, size_t n, uint32_t *c); /* bytes; n >= 1 */
bool tpl_white(uint32_t c);                            /* str.isspace */
int64_t tpl_length(tpl_value s);
size_t tpl_find(tpl_run *r, tpl_value in, tpl_value what, size_t from, size_t *found_n);
bool tpl_same_text(tpl_value a, tpl_value b);
size_t tpl_begins(tpl_value s, tpl_value with, bool *yes); /* bytes of the beginning */
size_t tpl_ends(tpl_value s, tpl_value with, bool *yes);   /* where the ending begins */
tpl_value tpl_strip(tpl_run *r, tpl_value s, const tpl_value *chars, bool left, bool right);
tpl_value tpl_concat(tpl_run *r, tpl_value a, tpl_value b);
tpl_value tpl_repeat(tpl_run *r, tpl_value s, int64_t times);
tpl_value tpl_upper(tpl_run *r, tpl_value s);
tpl_value tpl_lower(tpl_run *r, tpl_value s);
tpl_value tpl_capital(tpl_run *r, tpl_value s);
tpl_value tpl_title(tpl_run *r, tpl_value s, bool python);
tpl_value tpl_replace(tpl_run *r, tpl_value s, tpl_value from, tpl_value to, int64_t most);
tpl_value tpl_split(tpl_run *r, tpl_value s, const tpl_value *by, int64_t most, bool from_end);
tpl_value tpl_lines(tpl_run *r, tpl_value s, bool keep_ends);
tpl_value tpl_slice_text(tpl_run *r, tpl_value s, int64_t from, int64_t to, int64_t step);
void tpl_slice_range(int64_t n, const int64_t *from, const int64_t *to, int64_t step,
                     int64_t *first, int64_t *last);

/* ---- template_format.c ---- */

void tpl_put_value(tpl_run *r, tpl_sink *k, tpl_value v); /* str(v) */
void tpl_put_repr(tpl_run *r, tpl_sink *k, tpl_value v);
tpl_value tpl_str(tpl_run *r, tpl_value v); /* str(v) as a value */
typedef struct tpl_json {
    bool ascii, sort;
    int indent; /* -1: one line */
    tpl_value comma, colon;
} tpl_json;
void tpl_put_json(tpl_run *r, tpl_sink *k, tpl_value v, const tpl_json *how);
tpl_value tpl_percent(tpl_run *r, tpl_value format, tpl_value args);
tpl_value tpl_brace(tpl_run *r, tpl_value format, const tpl_args *a); /* str.format */
tpl_value tpl_strftime(tpl_run *r, tpl_value format);

/* ---- template_json.c ---- */

tpl_value tpl_from_json(tpl_run *r, const nb_json_node *v, int depth);
bool tpl_guard_open(tpl_run *r);

/* ---- template_eval.c, template_exec.c, template_call.c, template_filter.c, template_test.c ----
 */

tpl_value tpl_eval(tpl_run *r, const tpl_node *e);
tpl_value tpl_attr(tpl_run *r, tpl_value of, const char *name, size_t n);
tpl_value tpl_item(tpl_run *r, tpl_value of, tpl_value key);
tpl_value tpl_add(tpl_run *r, tpl_value a, tpl_value b);
bool tpl_contains(tpl_run *r, tpl_value in, tpl_value what);
tpl_value tpl_operate(tpl_run *r, int op, tpl_value a, tpl_value b);
bool tpl_compare(tpl_run *r, int op, tpl_value a, tpl_value b);
void tpl_exec(tpl_run *r, const tpl_node *list);
void tpl_declare(tpl_run *r, tpl_scope *s, tpl_name *name, tpl_value v);
tpl_value tpl_lookup(tpl_run *r, tpl_name *name);
tpl_value tpl_call_macro(tpl_run *r, const struct tpl_macro *m, const tpl_args *a);
tpl_value tpl_call_value(tpl_run *r, tpl_value f, const tpl_args *a);
/* A TPL_CALL with one more argument, key=v; key may be NULL. */
tpl_value tpl_call_with(tpl_run *r, const tpl_node *e, const tpl_name *key, tpl_value v);
const tpl_value *tpl_arg(const tpl_args *a, uint32_t place, const char *name); /* NULL: not given */
int64_t tpl_int_arg(tpl_run *r, const tpl_args *a, uint32_t place, const char *name,
                    int64_t otherwise);
bool tpl_bool_arg(const tpl_args *a, uint32_t place, const char *name, bool otherwise);
void tpl_define_functions(tpl_run *r);
const tpl_row *tpl_find_method(tpl_value self, const char *name, size_t n);
const tpl_row *tpl_find_row(const tpl_row *rows, const char *name, size_t n);
tpl_value tpl_sorted(tpl_run *r, const tpl_list *v, const tpl_list *keys, bool fold, bool reverse);
tpl_value tpl_items_of(tpl_run *r, const tpl_dict *d);
extern const tpl_row tpl_filters[], tpl_tests[], tpl_string_methods[];

#endif
