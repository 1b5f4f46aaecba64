/* template_run.h -- what the files of the template interpreter share: values, the tree, one render.
 *
 *   source -> template_lex.c -> template_parse.c, template_expr.c -> tree
 *   conversation -> template_json.c -> values;  template_exec.c walks the tree's statements,
 *   template_eval.c its expressions, with template_call.c (functions, methods), template_filter.c,
 *   template_test.c and below them template_value.c, template_string.c, template_format.c
 *
 * Everything lies in one arena and dies with the render. A failure is sticky: nb_tpl_fail keeps the
 * first sentence, every loop asks nb_tpl_step, and what was computed after it is thrown away. */
#ifndef NB_TEXT_TEMPLATE_RUN_H
#define NB_TEXT_TEMPLATE_RUN_H

#include "file/utf8.h"
#include "text/template.h"

typedef enum nb_tpl_type {
    NB_TPL_UNDEFINED, /* s, n: its name */
    NB_TPL_NONE,
    NB_TPL_BOOL,
    NB_TPL_INT,
    NB_TPL_REAL,
    NB_TPL_STRING,
    NB_TPL_LIST,
    NB_TPL_TUPLE,
    NB_TPL_GENERATOR, /* a list that Python would make lazily: always true, no JSON */
    NB_TPL_DICT,
    NB_TPL_NAMESPACE,
    NB_TPL_FUNCTION,
    NB_TPL_METHOD,
    NB_TPL_MACRO,
    NB_TPL_LOOP
} nb_tpl_type;

typedef struct nb_tpl_list nb_tpl_list;
typedef struct nb_tpl_dict nb_tpl_dict;
typedef struct nb_tpl_node nb_tpl_node;
typedef struct nb_tpl_run nb_tpl_run;

typedef struct nb_tpl_value { /* 16 bytes, passed by value; strings are never changed */
    nb_tpl_type type;
    uint32_t n; /* bytes of a string */
    union {
        bool b;
        int64_t i;
        double r;
        const char *s; /* not NUL-terminated */
        nb_tpl_list *list;
        nb_tpl_dict *dict;
        const struct nb_tpl_function *function;
        struct nb_tpl_method *method;
        struct nb_tpl_macro *macro;
        struct nb_tpl_loop *loop;
    } u;
} nb_tpl_value;

struct nb_tpl_list {
    nb_tpl_value *at;
    uint32_t n, cap;
};

typedef struct nb_tpl_entry {
    nb_tpl_value key, value;
    uint64_t hash;
} nb_tpl_entry;

struct nb_tpl_dict { /* in order of insertion; a hash of places above eight entries */
    nb_tpl_entry *at;
    uint32_t n, cap;
    uint32_t *slot; /* place + 1, 0 empty; NULL: look through */
    uint32_t n_slot;
};

typedef struct nb_tpl_name { /* interned: one for each spelling */
    struct nb_tpl_name *next;
    const char *s;
    uint32_t n;
    nb_tpl_value global; /* the variable of that name outside of loops and macros; undefined */
} nb_tpl_name;

typedef struct nb_tpl_scope { /* up NULL: the globals */
    struct nb_tpl_scope *up;
    struct nb_tpl_var *var;
} nb_tpl_scope;

typedef struct nb_tpl_args {
    nb_tpl_value *at; /* [n] by place */
    uint32_t n, n_key;
    const nb_tpl_name **key; /* [n_key] by name */
    nb_tpl_value *by_key;
} nb_tpl_args;

typedef nb_tpl_value (*nb_tpl_call_fn)(nb_tpl_run *r, const nb_tpl_args *a);
typedef nb_tpl_value (*nb_tpl_on_fn)(nb_tpl_run *r, nb_tpl_value on, const nb_tpl_args *a);
typedef struct nb_tpl_function {
    const char *name;
    nb_tpl_call_fn call;
} nb_tpl_function;
typedef struct nb_tpl_row { /* a method, filter or test: it has a value before it */
    const char *name;
    nb_tpl_on_fn call;
} nb_tpl_row;

struct nb_tpl_method {
    const nb_tpl_row *row;
    nb_tpl_value self;
};
struct nb_tpl_macro {
    const nb_tpl_node *node;
    nb_tpl_scope *scope; /* where it was made */
};
struct nb_tpl_loop {
    nb_tpl_list *items;
    uint32_t at;
    nb_tpl_value changed; /* what loop.changed() saw */
};

/* ---- the tree ---- */

typedef enum nb_tpl_kind {
    /* expressions */
    NB_TPL_CONST,     /* v */
    NB_TPL_VAR,       /* name */
    NB_TPL_MAKE_LIST, /* a: list */
    NB_TPL_MAKE_TUPLE,
    NB_TPL_MAKE_DICT, /* a: list of NB_TPL_PAIR */
    NB_TPL_PAIR,      /* a: b */
    NB_TPL_ATTR,      /* a.name */
    NB_TPL_ITEM,      /* a[b] */
    NB_TPL_SLICE,     /* a[b:c:d], each may be NULL */
    NB_TPL_CALL,      /* a(b: list) */
    NB_TPL_KEYWORD,   /* name=a in an argument list */
    NB_TPL_FILTER,    /* a | name(b); row NULL: unknown; a NULL: the captured text */
    NB_TPL_TEST,      /* a is name(b) */
    NB_TPL_NOT,
    NB_TPL_NEGATE,
    NB_TPL_PLUS,
    NB_TPL_BINARY, /* a op b */
    NB_TPL_CONCAT, /* a: list */
    NB_TPL_AND,
    NB_TPL_OR,
    NB_TPL_COMPARE, /* a, then b: list of NB_TPL_AGAINST (op, a) */
    NB_TPL_AGAINST,
    NB_TPL_IF_ELSE, /* a if b else c; c may be NULL */
    /* statements; lists are linked by next */
    NB_TPL_TEXT,         /* v */
    NB_TPL_PRINT,        /* a */
    NB_TPL_IF,           /* a: b, else c (an elif is one NB_TPL_IF) */
    NB_TPL_FOR,          /* a in b if d: c, else e */
    NB_TPL_SET,          /* a = b */
    NB_TPL_SET_BLOCK,    /* a = text of b, through the filters c */
    NB_TPL_DEF_MACRO,    /* name, a: list of NB_TPL_PARAM, b */
    NB_TPL_PARAM,        /* name, default a */
    NB_TPL_CALL_BLOCK,   /* a: the call, b: a NB_TPL_DEF_MACRO */
    NB_TPL_FILTER_BLOCK, /* text of b through the filters a */
    NB_TPL_WITH,         /* a: list of NB_TPL_SET, b */
    NB_TPL_GENERATION,   /* b */
    NB_TPL_BREAK,
    NB_TPL_CONTINUE
} nb_tpl_kind;

enum { NB_TPL_OP_IN = 256, NB_TPL_OP_NOT_IN }; /* other operators: nb_tpl_op of their characters */
#define NB_TPL_OP2(a, b) ((a) << 8 | (b))

struct nb_tpl_node {
    nb_tpl_kind kind;
    int op;
    uint32_t at; /* offset in the source */
    nb_tpl_node *next, *a, *b, *c, *d, *e;
    nb_tpl_name *name;
    const nb_tpl_row *row;
    nb_tpl_value v;
};

typedef struct nb_tpl_sink { /* where text goes: the output, or a growing string */
    nb_buf *out;
    char *p;
    size_t n, cap;
} nb_tpl_sink;

struct nb_tpl_run {
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
    nb_tpl_name **name;
    nb_tpl_sink *sink;
    nb_tpl_scope *scope;
    struct nb_tpl_var *spare; /* variables of turns that are over */
    uint32_t n_macro;         /* macros made so far */
    nb_tpl_value captured;
    bool guards, *begins; /* begins[256]: a control token begins with this byte */
};

/* ---- template.c: memory, budgets, failure ---- */

nb_tpl_value nb_tpl_fail(nb_tpl_run *r, nb_status st, const char *fmt, ...) NB_PRINTF(3, 4);
#define NB_TPL_BAD(r, ...) nb_tpl_fail((r), NB_BAD_INPUT, __VA_ARGS__)
/* 16-byte aligned; NULL after a failure */
void *nb_tpl_alloc(nb_tpl_run *r, size_t n, size_t size);
bool nb_tpl_step(nb_tpl_run *r, size_t cost); /* false: stop, the render has failed */
/* a level of recursion; then nb_tpl_leave */
bool nb_tpl_enter(nb_tpl_run *r);
void nb_tpl_leave(nb_tpl_run *r);
nb_tpl_name *nb_tpl_intern(nb_tpl_run *r, const char *s, size_t n);
/* NULL: no such name so far */
nb_tpl_name *nb_tpl_known(const nb_tpl_run *r, const char *s, size_t n);
bool nb_tpl_put(nb_tpl_run *r, nb_tpl_sink *k, const char *p, size_t n);
bool nb_tpl_puts(nb_tpl_run *r, nb_tpl_sink *k, const char *s);
nb_tpl_value nb_tpl_sunk(const nb_tpl_sink *k);

/* ---- template_lex.c, template_parse.c, template_expr.c ---- */

typedef enum nb_tpl_token_kind {
    NB_TPL_T_END,
    NB_TPL_T_DATA,
    NB_TPL_T_BLOCK,     /* {% */
    NB_TPL_T_BLOCK_END, /* %} */
    NB_TPL_T_PRINT,     /* {{ */
    NB_TPL_T_PRINT_END, /* }} */
    NB_TPL_T_NAME,
    NB_TPL_T_CONST, /* v: string or number */
    NB_TPL_T_OP
} nb_tpl_token_kind;

typedef struct nb_tpl_token {
    nb_tpl_token_kind kind;
    int op;
    uint32_t at, n;
    nb_tpl_value v;
} nb_tpl_token;

typedef struct nb_tpl_parser {
    nb_tpl_run *r;
    nb_tpl_token now, ahead;
    bool has_ahead;
    size_t at; /* lexer: place in the source */
    int mode, open;
    bool line_start;
    int depth, loops;
} nb_tpl_parser;

void nb_tpl_lex(nb_tpl_parser *p, nb_tpl_token *out);
void nb_tpl_advance(nb_tpl_parser *p);
const nb_tpl_token *nb_tpl_peek(nb_tpl_parser *p);
bool nb_tpl_is_op(const nb_tpl_parser *p, int op);
bool nb_tpl_is_name(const nb_tpl_parser *p, const char *name);
bool nb_tpl_take_op(nb_tpl_parser *p, int op);
bool nb_tpl_take_name(nb_tpl_parser *p, const char *name);
bool nb_tpl_expect_op(nb_tpl_parser *p, int op);
void nb_tpl_unexpected(nb_tpl_parser *p, const char *wanted);
nb_tpl_name *nb_tpl_take_identifier(nb_tpl_parser *p);
nb_tpl_node *nb_tpl_node_new(nb_tpl_parser *p, nb_tpl_kind kind);
nb_tpl_node *nb_tpl_parse(nb_tpl_run *r);
nb_tpl_node *nb_tpl_parse_expr(nb_tpl_parser *p); /* with if-else */
/* a, b without parentheses too */
nb_tpl_node *nb_tpl_parse_tuple(nb_tpl_parser *p, bool with_condition);
nb_tpl_node *nb_tpl_parse_or(nb_tpl_parser *p);
nb_tpl_node *nb_tpl_parse_filter(nb_tpl_parser *p, nb_tpl_node *on);  /* its name is the token */
nb_tpl_node *nb_tpl_parse_filters(nb_tpl_parser *p, nb_tpl_node *on); /* any number of "| name" */
nb_tpl_node *nb_tpl_parse_postfix(nb_tpl_parser *p);
bool nb_tpl_parse_deeper(nb_tpl_parser *p);

/* ---- template_value.c ---- */

static inline nb_tpl_value nb_tpl_undefined(const nb_tpl_name *name)
{
    return (nb_tpl_value){
        .type = NB_TPL_UNDEFINED, .n = name ? name->n : 0, .u.s = name ? name->s : ""};
}
static inline nb_tpl_value nb_tpl_none(void)
{
    return (nb_tpl_value){.type = NB_TPL_NONE};
}
static inline nb_tpl_value nb_tpl_bool(bool b)
{
    return (nb_tpl_value){.type = NB_TPL_BOOL, .u.b = b};
}
static inline nb_tpl_value nb_tpl_int(int64_t i)
{
    return (nb_tpl_value){.type = NB_TPL_INT, .u.i = i};
}
static inline nb_tpl_value nb_tpl_real(double x)
{
    return (nb_tpl_value){.type = NB_TPL_REAL, .u.r = x};
}
static inline nb_tpl_value nb_tpl_string(const char *s, size_t n)
{
    return (nb_tpl_value){.type = NB_TPL_STRING, .n = (uint32_t)n, .u.s = s};
}
static inline bool nb_tpl_is_row(nb_tpl_value v) /* a list, tuple or generator */
{
    return v.type == NB_TPL_LIST || v.type == NB_TPL_TUPLE || v.type == NB_TPL_GENERATOR;
}
static inline bool nb_tpl_is_dict(nb_tpl_value v)
{
    return v.type == NB_TPL_DICT || v.type == NB_TPL_NAMESPACE;
}
static inline bool nb_tpl_is_number(nb_tpl_value v)
{
    return v.type == NB_TPL_BOOL || v.type == NB_TPL_INT || v.type == NB_TPL_REAL;
}

nb_tpl_value nb_tpl_literal(const char *s); /* a C string that outlives the render */
nb_tpl_value nb_tpl_list_new(nb_tpl_run *r, nb_tpl_type type, uint32_t cap);
bool nb_tpl_list_add(nb_tpl_run *r, nb_tpl_list *v, nb_tpl_value x);
nb_tpl_value nb_tpl_pair(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b);
nb_tpl_value nb_tpl_dict_new(nb_tpl_run *r, nb_tpl_type type);
nb_tpl_entry *nb_tpl_dict_find(nb_tpl_run *r, const nb_tpl_dict *d, nb_tpl_value key);
bool nb_tpl_dict_set(nb_tpl_run *r, nb_tpl_dict *d, nb_tpl_value key, nb_tpl_value value);
void nb_tpl_dict_remove(nb_tpl_run *r, nb_tpl_dict *d, nb_tpl_entry *e);
bool nb_tpl_truth(nb_tpl_value v);
bool nb_tpl_equal(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b);
/* -1 0 1; 2: NaN; fails on other types */
int nb_tpl_order(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b);
const nb_tpl_list *nb_tpl_iterate(nb_tpl_run *r, nb_tpl_value v); /* never NULL */
const char *nb_tpl_type_name(nb_tpl_value v);                     /* Python's */
bool nb_tpl_as_int(nb_tpl_value v, int64_t *out);                 /* bool and int */
double nb_tpl_as_real(nb_tpl_value v);                            /* of a number */

/* ---- template_string.c: text in characters, the guard byte a part of the one before it ---- */

size_t nb_tpl_char(const char *p, size_t n, uint32_t *c); /* bytes; n >= 1 */
bool nb_tpl_white(uint32_t c);                            /* str.isspace */
int64_t nb_tpl_length(nb_tpl_value s);
size_t nb_tpl_find(nb_tpl_run *r, nb_tpl_value in, nb_tpl_value what, size_t from, size_t *found_n);
bool nb_tpl_same_text(nb_tpl_value a, nb_tpl_value b);
size_t nb_tpl_begins(nb_tpl_value s, nb_tpl_value with, bool *yes); /* bytes of the beginning */
size_t nb_tpl_ends(nb_tpl_value s, nb_tpl_value with, bool *yes);   /* where the ending begins */
nb_tpl_value nb_tpl_strip(nb_tpl_run *r, nb_tpl_value s, const nb_tpl_value *chars, bool left,
                          bool right);
nb_tpl_value nb_tpl_concat(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b);
nb_tpl_value nb_tpl_repeat(nb_tpl_run *r, nb_tpl_value s, int64_t times);
nb_tpl_value nb_tpl_upper(nb_tpl_run *r, nb_tpl_value s);
nb_tpl_value nb_tpl_lower(nb_tpl_run *r, nb_tpl_value s);
nb_tpl_value nb_tpl_capital(nb_tpl_run *r, nb_tpl_value s);
nb_tpl_value nb_tpl_title(nb_tpl_run *r, nb_tpl_value s, bool python);
nb_tpl_value nb_tpl_replace(nb_tpl_run *r, nb_tpl_value s, nb_tpl_value from, nb_tpl_value to,
                            int64_t most);
nb_tpl_value nb_tpl_split(nb_tpl_run *r, nb_tpl_value s, const nb_tpl_value *by, int64_t most,
                          bool from_end);
nb_tpl_value nb_tpl_lines(nb_tpl_run *r, nb_tpl_value s, bool keep_ends);
nb_tpl_value nb_tpl_slice_text(nb_tpl_run *r, nb_tpl_value s, int64_t from, int64_t to,
                               int64_t step);
void nb_tpl_slice_range(int64_t n, const int64_t *from, const int64_t *to, int64_t step,
                        int64_t *first, int64_t *last);

/* ---- template_format.c ---- */

void nb_tpl_put_value(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v); /* str(v) */
void nb_tpl_put_repr(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v);
nb_tpl_value nb_tpl_str(nb_tpl_run *r, nb_tpl_value v); /* str(v) as a value */
typedef struct nb_tpl_json {
    bool ascii, sort;
    int indent; /* -1: one line */
    nb_tpl_value comma, colon;
} nb_tpl_json;
void nb_tpl_put_json(nb_tpl_run *r, nb_tpl_sink *k, nb_tpl_value v, const nb_tpl_json *how);
nb_tpl_value nb_tpl_percent(nb_tpl_run *r, nb_tpl_value format, nb_tpl_value args);
/* str.format */
nb_tpl_value nb_tpl_brace(nb_tpl_run *r, nb_tpl_value format, const nb_tpl_args *a);
nb_tpl_value nb_tpl_strftime(nb_tpl_run *r, nb_tpl_value format);

/* ---- template_json.c ---- */

nb_tpl_value nb_tpl_from_json(nb_tpl_run *r, const nb_json_node *v, int depth);
bool nb_tpl_guard_open(nb_tpl_run *r);

/* ---- template_eval.c, template_exec.c, template_call.c, template_filter.c, template_test.c ----
 */

nb_tpl_value nb_tpl_eval(nb_tpl_run *r, const nb_tpl_node *e);
nb_tpl_value nb_tpl_attr(nb_tpl_run *r, nb_tpl_value of, const char *name, size_t n);
nb_tpl_value nb_tpl_item(nb_tpl_run *r, nb_tpl_value of, nb_tpl_value key);
nb_tpl_value nb_tpl_add(nb_tpl_run *r, nb_tpl_value a, nb_tpl_value b);
bool nb_tpl_contains(nb_tpl_run *r, nb_tpl_value in, nb_tpl_value what);
nb_tpl_value nb_tpl_operate(nb_tpl_run *r, int op, nb_tpl_value a, nb_tpl_value b);
bool nb_tpl_compare(nb_tpl_run *r, int op, nb_tpl_value a, nb_tpl_value b);
void nb_tpl_exec(nb_tpl_run *r, const nb_tpl_node *list);
void nb_tpl_declare(nb_tpl_run *r, nb_tpl_scope *s, nb_tpl_name *name, nb_tpl_value v);
nb_tpl_value nb_tpl_lookup(nb_tpl_run *r, nb_tpl_name *name);
nb_tpl_value nb_tpl_call_macro(nb_tpl_run *r, const struct nb_tpl_macro *m, const nb_tpl_args *a);
nb_tpl_value nb_tpl_call_value(nb_tpl_run *r, nb_tpl_value f, const nb_tpl_args *a);
/* A NB_TPL_CALL with one more argument, key=v; key may be NULL. */
nb_tpl_value nb_tpl_call_with(nb_tpl_run *r, const nb_tpl_node *e, const nb_tpl_name *key,
                              nb_tpl_value v);
/* NULL: not given */
const nb_tpl_value *nb_tpl_arg(const nb_tpl_args *a, uint32_t place, const char *name);
int64_t nb_tpl_int_arg(nb_tpl_run *r, const nb_tpl_args *a, uint32_t place, const char *name,
                       int64_t otherwise);
bool nb_tpl_bool_arg(const nb_tpl_args *a, uint32_t place, const char *name, bool otherwise);
void nb_tpl_define_functions(nb_tpl_run *r);
const nb_tpl_row *nb_tpl_find_method(nb_tpl_value self, const char *name, size_t n);
const nb_tpl_row *nb_tpl_find_row(const nb_tpl_row *rows, const char *name, size_t n);
nb_tpl_value nb_tpl_sorted(nb_tpl_run *r, const nb_tpl_list *v, const nb_tpl_list *keys, bool fold,
                           bool reverse);
nb_tpl_value nb_tpl_items_of(nb_tpl_run *r, const nb_tpl_dict *d);
extern const nb_tpl_row nb_tpl_filters[], nb_tpl_tests[], nb_tpl_string_methods[];

#endif
