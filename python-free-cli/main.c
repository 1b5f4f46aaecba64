/* main.c -- `nibble COMMAND`: the table of commands, errors to stderr, the exit code. */
#include "base/nearest.h"
#include "base/status.h"
#include "hints.h"
#include "out.h"

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

extern const nb_command nb_command_run, nb_command_tokenize, nb_command_eval, nb_command_inspect,
    nb_command_quantize;
extern const nb_command nb_command_convert, nb_command_chat, nb_command_template, nb_command_pull,
    nb_command_plan;
extern const nb_command nb_command_bench, nb_command_doctor, nb_command_help,
    nb_command_completions, nb_command_man;

const nb_command *const nb_commands[] = {
    &nb_command_run,     &nb_command_chat,        &nb_command_quantize, &nb_command_convert,
    &nb_command_plan,    &nb_command_eval,        &nb_command_tokenize, &nb_command_template,
    &nb_command_inspect, &nb_command_pull,        &nb_command_bench,    &nb_command_doctor,
    &nb_command_help,    &nb_command_completions, &nb_command_man,      NULL,
};

/* Other spellings of commands. */
static const struct {
    const char *name, *is;
} aliases[] = {{"ppl", "eval"}};

/* Commands that CONTRACT reserves and that are not there yet: exit 5, not "unknown". */
static const char *const reserved[] = {"train", "merge", "serve", NULL};

static int report(nb_status st, const nb_line *line, nb_error *err, bool json)
{
    if (st == NB_OK)
        return 0;
    nb_hint_from_rows(st, line, err);
    nb_tell_error(err);
    if (json && !(err->message[0] && err->code == NB_OK)) { /* nb_put_error has told it already */
        putchar('{');
        nb_put_error(stdout, st, err);
        printf("}\n");
    }
    return (int)st;
}

nb_status nb_command_find(const char *name, const nb_command **out, nb_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < sizeof aliases / sizeof *aliases; i++)
        name = strcmp(aliases[i].name, name) == 0 ? aliases[i].is : name;
    for (const nb_command *const *c = nb_commands; *c && !*out; c++)
        if (strcmp((*c)->name, name) == 0)
            *out = *c;
    if (*out)
        return NB_OK;
    for (const char *const *r = reserved; *r; r++)
        if (strcmp(*r, name) == 0)
            return nb_fail(err, NB_UNSUPPORTED, "nibble %s is not there yet", name);
    char shown[160];
    const nb_status st =
        nb_fail(err, NB_USAGE, "unknown command %s",
                nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name)));
    nb_nearest near = {.given = name};
    for (const nb_command *const *c = nb_commands; *c; c++)
        nb_nearest_offer(&near, (*c)->name);
    nb_nearest_hint(&near, "nibble ", err);
    return st;
}

/* A model must not be opened as file 0, 1 or 2 and then be printed into: the standard streams that
 * are not open become ones that fail. */
static void open_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) != fd)
            _exit(NB_IO); /* nowhere to say it */
}

/* Before the flags are parsed, and when that fails: is an error to be an object on stdout? */
static bool wants_json(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--json") == 0)
            return true;
    return false;
}

/* Did everything reach stdout? A reader that has gone is no error of ours: quiet, 141 as a shell
 * shows SIGPIPE. */
static int finish_stdout(int code)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    const int e = errno;
    struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};
    if (poll(&p, 1, 0) == 1 && (p.revents & POLLERR))
        return 128 + SIGPIPE;
    if (code)
        return code;
    fprintf(stderr, "nibble: error: stdout: cannot write%s%s\n", e ? ": " : "",
            e ? strerror(e) : "");
    return NB_IO;
}

/* Global flags may stand before the command: `nibble --device cpu run MODEL` is `nibble run
 * --device cpu MODEL`. false: there is no command. */
static bool command_first(int argc, char **argv)
{
    int at = 1;
    while (at < argc) {
        const nb_flag *f = nb_global_flag(argv[at]);
        if (!f || strcmp(f->name, "help") == 0 || strcmp(f->name, "version") == 0)
            break;
        at += f->operand && !strchr(argv[at], '=') ? 2 : 1;
    }
    if (at >= argc)
        return false;
    char *command = argv[at];
    for (; at > 1; at--)
        argv[at] = argv[at - 1];
    argv[1] = command;
    return true;
}

static nb_status dispatch(int argc, char **argv, const nb_command **command, nb_args *args,
                          nb_error *err)
{
    nb_status st = nb_command_find(argv[1], command, err);
    const nb_command *c = *command;
    if (st == NB_OK)
        st = nb_args_parse(c, argc - 2, argv + 2, args, err);
    if (st == NB_OK && nb_flag_on(args, "version")) {
        printf("nibble %s\n", nb_version());
        return NB_OK;
    }
    if (st != NB_OK || !nb_flag_on(args, "help"))
        return st == NB_OK ? c->run(args, err) : st;
    nb_print_help(c);
    return NB_OK;
}

int main(int argc, char **argv)
{
    nb_error err = {.offset = -1};
    nb_args args = {.n = 0};
    nb_line line = {.argc = argc, .argv = argv, .args = &args};
    open_standard_streams();
/* else glibc raises it with what is freed, to 32 MiB, keeps such blocks, and a plan is held to by a
 * tenth less */
#ifdef M_MMAP_THRESHOLD
    (void)mallopt(M_MMAP_THRESHOLD, 1 << 20);
#endif
    signal(SIGPIPE, SIG_IGN); /* a closed stdout is seen when it is flushed */
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit is an error of write, not a death */
    nb_watch_mapped_files();
    if (!command_first(argc, argv)) {
        const nb_status st = nb_fail(&err, NB_USAGE, "a command is missing");
        return finish_stdout(report(st, &line, &err, wants_json(argc, argv)));
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        nb_print_overview();
        return finish_stdout(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nibble %s\n", nb_version());
        return finish_stdout(0);
    }
    const nb_status st = dispatch(argc, argv, &line.command, &args, &err);
    return finish_stdout(report(st, &line, &err, wants_json(argc, argv)));
}
