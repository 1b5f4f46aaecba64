/* main.c -- `nibble COMMAND`: the table of commands, errors to stderr, the exit code. */
#include "base/status.h"
#include "out.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

extern const nb_command nb_command_run, nb_command_tokenize, nb_command_eval, nb_command_inspect, nb_command_quantize;
extern const nb_command nb_command_convert, nb_command_chat, nb_command_template, nb_command_pull, nb_command_plan;
extern const nb_command nb_command_bench, nb_command_doctor, nb_command_help, nb_command_completions, nb_command_man;

const nb_command *const nb_commands[] = {
    &nb_command_run,
    &nb_command_chat,
    &nb_command_quantize,
    &nb_command_convert,
    &nb_command_plan,
    &nb_command_eval,
    &nb_command_tokenize,
    &nb_command_template,
    &nb_command_inspect,
    &nb_command_pull,
    &nb_command_bench,
    &nb_command_doctor,
    &nb_command_help,
    &nb_command_completions,
    &nb_command_man,
    NULL,
};

/* Commands that CONTRACT reserves and that are not there yet: exit 5, not "unknown". */
static const char *const reserved[] = {"train", "merge", "serve", NULL};

static int report(nb_status st, nb_error *err, bool json)
{
    if (st == NB_OK)
        return 0;
    fprintf(stderr, "nibble: error: %s\n", err->message);
    if (err->hint[0])
        fprintf(stderr, "hint: %s\n", err->hint);
    if (json && !(err->message[0] && err->code == NB_OK)) { /* nb_put_error has told it already */
        putchar('{');
        nb_put_error(stdout, st, err);
        printf("}\n");
    }
    return (int)st;
}

/* The whole command line as a shell takes it, "" when it is longer than a hint. */
static void quote_command(int argc, char **argv, char *dst, size_t n)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+";
    size_t at = (size_t)snprintf(dst, n, "nibble");
    for (int i = 1; i < argc && at < n; i++) {
        const bool bare = *argv[i] && strspn(argv[i], plain) == strlen(argv[i]);
        at += (size_t)snprintf(dst + at, n - at, bare ? " " : " '");
        for (const char *p = argv[i]; *p && at < n; p++)
            at += (size_t)(*p == '\'' ? snprintf(dst + at, n - at, "'\\''") : snprintf(dst + at, n - at, "%c", *p));
        if (!bare && at < n)
            at += (size_t)snprintf(dst + at, n - at, "'");
    }
    if (at >= n)
        *dst = 0;
}

/* What a signal ended can be gone on with: the command that does it, unless the work named one itself. */
static void hint_again(nb_status st, int argc, char **argv, nb_error *err)
{
    char line[sizeof err->hint];
    if ((int)st <= 128 || err->hint[0])
        return;
    quote_command(argc, argv, line, sizeof line);
    bool plain = line[0] != 0; /* a hint is pasted as it stands, so it is shown only where it needs no escape */
    for (const char *p = line; *p; p++)
        plain = plain && *p >= ' ' && *p <= '~';
    if (plain)
        nb_hint(err, "%s", line);
    else
        nb_hint(err, "give the same command again");
}

nb_status nb_command_find(const char *name, const nb_command **out, nb_error *err)
{
    *out = NULL;
    for (const nb_command *const *c = nb_commands; *c && !*out; c++)
        if (strcmp((*c)->name, name) == 0)
            *out = *c;
    if (*out)
        return NB_OK;
    for (const char *const *r = reserved; *r; r++)
        if (strcmp(*r, name) == 0)
            return nb_fail(err, NB_UNSUPPORTED, "nibble %s is not there yet", name);
    char shown[160];
    const nb_status st = nb_fail(err, NB_USAGE, "unknown command %s", nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name)));
    nb_hint(err, "nibble --help");
    return st;
}

/* A model must not be opened as file 0, 1 or 2 and then be printed into: the standard streams that are not open become ones that fail. */
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

/* Did everything reach stdout? A reader that has gone is no error of ours: quiet, 141 as a shell shows SIGPIPE. */
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
    fprintf(stderr, "nibble: error: stdout: cannot write%s%s\n", e ? ": " : "", e ? strerror(e) : "");
    return NB_IO;
}

/* Global flags may stand before the command: `nibble --device cpu run MODEL` is `nibble run --device cpu MODEL`. false: there is no command. */
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

static nb_status dispatch(int argc, char **argv, nb_args *args, nb_error *err)
{
    const nb_command *c = NULL;
    nb_status st = nb_command_find(argv[1], &c, err);
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
    open_standard_streams();
    signal(SIGPIPE, SIG_IGN); /* a closed stdout is seen when it is flushed */
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit is an error of write, not a death */
    nb_watch_mapped_files();
    if (!command_first(argc, argv)) {
        const nb_status st = nb_fail(&err, NB_USAGE, "a command is missing");
        nb_hint(&err, "nibble --help");
        return finish_stdout(report(st, &err, wants_json(argc, argv)));
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        nb_print_overview();
        return finish_stdout(0);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nibble %s\n", nb_version());
        return finish_stdout(0);
    }
    const nb_status st = dispatch(argc, argv, &args, &err);
    hint_again(st, argc, argv, &err);
    return finish_stdout(report(st, &err, wants_json(argc, argv)));
}
