/* flags.h -- one table of flags per command makes parsing, --help and shell completions. */
#ifndef NB_CLI_FLAGS_H
#define NB_CLI_FLAGS_H

#include "nibble.h"

typedef struct nb_flag {
    const char *name;    /* long name without dashes */
    char letter;         /* short name, 0 if none */
    const char *operand; /* "N", "FILE"; NULL: a switch */
    const char *help;
} nb_flag;

enum { NB_MAX_FLAGS = 48 };

typedef struct nb_args {
    const nb_flag *flag[NB_MAX_FLAGS]; /* what was given, in order */
    const char *value[NB_MAX_FLAGS];
    int n;
    const char *operand[2]; /* arguments that are no flags */
    int n_operand;
} nb_args;

typedef struct nb_command {
    const char *name, *operands, *summary;
    const nb_flag *flags; /* ended by name NULL */
    nb_status (*run)(const nb_args *a, nb_error *err);
    int n_operand; /* arguments that are no flags, at most */
    /* Calls back for every word that help explains below the flags, NULL: none. */
    void (*words)(void (*word)(const char *word, const char *means));
} nb_command;

extern const nb_flag nb_global_flags[];       /* accepted by every command */
extern const nb_command *const nb_commands[]; /* ended by NULL (main.c) */
/* NB_UNSUPPORTED for a name that is reserved, NB_USAGE for an unknown one. */
nb_status nb_command_find(const char *name, const nb_command **out, nb_error *err) NB_CHECKED;

/* The global flag that an argument (--name, --name=VALUE, -l) names; NULL: none. */
const nb_flag *nb_global_flag(const char *arg);

/* Parses argv[0..n) for the command. NB_USAGE names the flag and, for a typing mistake, the nearest
 * one. */
nb_status nb_args_parse(const nb_command *c, int n, char **argv, nb_args *out,
                        nb_error *err) NB_CHECKED;

bool nb_flag_on(const nb_args *a, const char *name);
/* NULL if not given; of one that may repeat the last */
const char *nb_flag_text(const nb_args *a, const char *name);
/* Strict numbers: the whole text, within [least, most]; otherwise NB_USAGE. *out keeps its value
 * when the flag is not given. */
nb_status nb_flag_int(const nb_args *a, const char *name, int64_t least, int64_t most, int32_t *out,
                      nb_error *err) NB_CHECKED;
/* 24G, 512M, 100K or bytes, powers of 1024; 5GB, 500MB, 100KB: of 1000. */
nb_status nb_flag_size(const nb_args *a, const char *name, int64_t *out, nb_error *err) NB_CHECKED;
nb_status nb_flag_real(const nb_args *a, const char *name, double least, double most, double *out,
                       nb_error *err) NB_CHECKED;
/* "1,8" into out[0 .. most_n), each within [least, most], with a 0 behind the last: out has most_n
 * + 1 places. */
nb_status nb_flag_list(const nb_args *a, const char *name, int64_t least, int64_t most,
                       int32_t *out, int most_n, nb_error *err) NB_CHECKED;
/* NB_USAGE when more than one of the flags is given; names end with NULL. */
nb_status nb_flag_one_of(const nb_args *a, const char *const *names, nb_error *err) NB_CHECKED;
/* "1,2,3" into an allocated list. */
nb_status nb_parse_ids(const char *text, int32_t **out, size_t *n, nb_error *err) NB_CHECKED;

void nb_print_help(const nb_command *c);
void nb_print_overview(void); /* all commands (help.c) */

#endif
