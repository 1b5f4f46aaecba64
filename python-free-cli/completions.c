/* completions.c -- `nibble completions bash|zsh|fish`: scripts made from the command and flag
 * tables.
 *
 * A flag's operand says what may follow: lower-case words joined by | are offered, FILE, MODEL2 and
 * names like OUT.npy are paths, all else (numbers) is left to the user. */
#include "base/nearest.h"
#include "base/status.h"
#include "out.h"

#include <string.h>

static const nb_flag no_flags[] = {{NULL, 0, NULL, NULL}};

static bool is_choice(const nb_flag *f)
{
    return f->operand && strchr(f->operand, '|') && !strpbrk(f->operand, ".,");
}

static bool is_path(const nb_flag *f)
{
    static const char *const words[] = {"FILE", "FILE|self", "MODEL", "MODEL2", "DIR", NULL};
    bool path = strcmp(f->name, "file") == 0;
    path = path ||
           (f->operand && strchr(f->operand, '.') && f->operand[0] >= 'A' && f->operand[0] <= 'Z');
    for (const char *const *w = words; f->operand && *w; w++)
        path = path || strcmp(f->operand, *w) == 0;
    return path;
}

/* The words of "a|b|FILE|c" that are meant literally, each through `put`, blanks between them. */
static void put_choices(const char *s, void (*put)(const char *s, size_t n))
{
    bool first = true;
    for (size_t n; *s; s += n + (s[n] == '|')) {
        n = strcspn(s, "|");
        if (strcspn(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") < n) /* FILE, cuda:N */
            continue;
        if (!first)
            putchar(' ');
        put(s, n);
        first = false;
    }
}

static void put_plain(const char *s, size_t n)
{
    fwrite(s, 1, n, stdout);
}

/* The words an operand of the command may be, beside paths: "MODEL|kernels" has kernels. */
static bool has_words(const nb_command *c)
{
    return strchr(c->operands, '|') && !strchr(c->operands, ' ');
}

/* ---- bash ---- */

static void bash_names(const nb_flag *f)
{
    for (; f->name; f++) {
        printf(" --%s", f->name);
        if (f->letter)
            printf(" -%c", f->letter);
    }
}

/* Cases "COMMAND:--flag|COMMAND:-f) ..." of the flags that take a value. */
static void bash_values(const char *command, const nb_flag *f)
{
    for (; f->name; f++) {
        if (!f->operand)
            continue;
        printf("    %s:--%s", command, f->name);
        if (f->letter)
            printf("|%s:-%c", command, f->letter);
        if (is_choice(f)) {
            printf(") COMPREPLY=($(compgen -W '");
            put_choices(f->operand, put_plain);
            printf("' -- \"$cur\"))");
            printf(is_path(f) ? " COMPREPLY+=($(compgen -f -- \"$cur\")); return ;;\n"
                              : "; return ;;\n");
        } else
            printf(is_path(f) ? ") COMPREPLY=($(compgen -f -- \"$cur\")); return ;;\n"
                              : ") return ;;\n");
    }
}

static void bash(void)
{
    printf("# nibble completions bash\n"
           "_nibble() {\n"
           "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} "
           "command=${COMP_WORDS[1]} flags words\n"
           "    COMPREPLY=()\n"
           "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W '--help --version");
    for (const nb_command *const *c = nb_commands; *c; c++)
        printf(" %s", (*c)->name);
    printf("' -- \"$cur\"))\n        return\n    fi\n    case $command:$prev in\n");
    for (const nb_command *const *c = nb_commands; *c; c++)
        bash_values((*c)->name, (*c)->flags);
    bash_values("*", nb_global_flags);
    printf("    esac\n    case $command in\n");
    for (const nb_command *const *c = nb_commands; *c; c++) {
        printf("    %s) flags='", (*c)->name);
        bash_names((*c)->flags);
        putchar('\'');
        if (has_words(*c)) {
            printf(" words='");
            put_choices((*c)->operands, put_plain);
            putchar('\'');
        }
        printf(" ;;\n");
    }
    printf("    esac\n    case $cur in\n    -*) COMPREPLY=($(compgen -W \"$flags");
    bash_names(nb_global_flags);
    printf("\" -- \"$cur\")) ;;\n    *) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\") $(compgen "
           "-f -- \"$cur\")) ;;\n    esac\n}\n"
           "complete -o filenames -F _nibble nibble\n");
}

/* ---- zsh ---- */

/* Text inside a quoted spec of _arguments, where brackets, colons and quotes mean something. */
static void zsh_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (s[i] == '\'')
            fputs("'\\''", stdout);
        else {
            if (strchr("[]:\\()", s[i]))
                putchar('\\');
            putchar(s[i]);
        }
}

static void zsh_flags(const nb_flag *f)
{
    for (; f->name; f++) {
        printf("        ");
        if (f->letter)
            printf("'(-%c --%s)'{-%c,--%s}", f->letter, f->name, f->letter, f->name);
        else
            printf("--%s", f->name);
        printf("'[");
        zsh_text(f->help, strlen(f->help));
        putchar(']');
        if (f->operand) {
            putchar(':');
            if (is_choice(f)) {
                printf("%s:(", f->name);
                put_choices(f->operand, zsh_text);
                putchar(')');
            } else {
                zsh_text(f->operand, strlen(f->operand));
                printf(is_path(f) ? ":_files" : ": ");
            }
        }
        printf("' \\\n");
    }
}

static void zsh(void)
{
    printf("#compdef nibble\n_nibble() {\n    local -a commands\n    commands=(\n");
    for (const nb_command *const *c = nb_commands; *c; c++) {
        printf("        '%s:", (*c)->name);
        zsh_text((*c)->summary, strlen((*c)->summary));
        printf("'\n");
    }
    printf("    )\n    if (( CURRENT == 2 )); then\n        _describe command commands\n        "
           "return\n    fi\n"
           "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n    case $command "
           "in\n");
    for (const nb_command *const *c = nb_commands; *c; c++) {
        printf("    %s) _arguments \\\n", (*c)->name);
        zsh_flags((*c)->flags);
        zsh_flags(nb_global_flags);
        printf("        '*:operand:");
        if (has_words(*c)) {
            printf("{compadd ");
            put_choices((*c)->operands, zsh_text);
            printf("; _files}' ;;\n");
        } else
            printf("_files' ;;\n");
    }
    printf("    esac\n}\n_nibble \"$@\"\n");
}

/* ---- fish ---- */

static void fish_text(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '\'' || s[i] == '\\')
            putchar('\\');
        putchar(s[i]);
    }
}

static void fish_flags(const char *command, const nb_flag *f)
{
    for (; f->name; f++) {
        printf("complete -c nibble");
        if (command)
            printf(" -n '__fish_seen_subcommand_from %s'", command);
        printf(" -l %s", f->name);
        if (f->letter)
            printf(" -s %c", f->letter);
        if (f->operand)
            printf(is_path(f) ? " -r -F" : " -x");
        if (is_choice(f)) {
            printf(" -a '");
            put_choices(f->operand, fish_text);
            putchar('\'');
        }
        printf(" -d '");
        fish_text(f->help, strlen(f->help));
        printf("'\n");
    }
}

static void fish(void)
{
    printf("# nibble completions fish\n");
    for (const nb_command *const *c = nb_commands; *c; c++) {
        printf("complete -c nibble -f -n __fish_use_subcommand -a %s -d '", (*c)->name);
        fish_text((*c)->summary, strlen((*c)->summary));
        printf("'\n");
    }
    for (const nb_command *const *c = nb_commands; *c; c++) {
        if (has_words(*c)) {
            printf("complete -c nibble -n '__fish_seen_subcommand_from %s' -a '", (*c)->name);
            put_choices((*c)->operands, fish_text);
            printf("'\n");
        }
        fish_flags((*c)->name, (*c)->flags);
    }
    fish_flags(NULL, nb_global_flags);
}

static nb_status run(const nb_args *a, nb_error *err)
{
    static const struct {
        const char *shell;
        void (*print)(void);
    } shells[] = {{"bash", bash}, {"zsh", zsh}, {"fish", fish}};
    const nb_status st = nb_need_operand(a, "the shell (bash, zsh or fish)", err);
    if (st != NB_OK)
        return st;
    nb_nearest near = {.given = a->operand[0]};
    for (size_t i = 0; i < sizeof shells / sizeof *shells; i++) {
        if (strcmp(a->operand[0], shells[i].shell) == 0) {
            shells[i].print();
            return NB_OK;
        }
        nb_nearest_offer(&near, shells[i].shell);
    }
    char shown[160];
    nb_fail(err, NB_USAGE, "completions: %s is none of bash, zsh, fish",
            nb_escape(shown, (int64_t)sizeof shown, a->operand[0], (int64_t)strlen(a->operand[0])));
    nb_nearest_hint(&near, "nibble completions ", err);
    return NB_USAGE;
}

const nb_command nb_command_completions = {.name = "completions",
                                           .operands = "bash|zsh|fish",
                                           .summary = "Prints a completion script for a shell.",
                                           .flags = no_flags,
                                           .run = run,
                                           .n_operand = 1};
