/* main.c -- `nibble COMMAND`: the table of commands, errors to stderr, the exit code. */
#include "base/status.h"
#include "out.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

extern const nb_command nb_command_run, nb_command_tokenize, nb_command_eval, nb_command_inspect, nb_command_quantize, nb_command_template,
    nb_command_chat;

static const nb_command *const commands[] = {&nb_command_run,      &nb_command_chat,     &nb_command_quantize, &nb_command_eval,
                                             &nb_command_tokenize, &nb_command_template, &nb_command_inspect,  NULL};

/* Commands that CONTRACT reserves and that are not there yet: exit 5, not "unknown". */
static const char *const reserved[] = {"convert", "plan", "bench", "train", "merge", "serve", "pull", "doctor", NULL};

static void help(void)
{
    printf("nibble %s: quantizes and runs language models\n\n", nb_version());
    for (const nb_command *const *c = commands; *c; c++)
        printf("  nibble %-10s %-18s %s\n", (*c)->name, (*c)->operands, (*c)->summary);
    printf("\nnibble COMMAND --help lists a command's flags.\n");
}

static int report(nb_status st, const nb_error *err, bool json)
{
    if (st == NB_OK)
        return 0;
    fprintf(stderr, "nibble: error: %s\n", err->message);
    if (err->hint[0])
        fprintf(stderr, "hint: %s\n", err->hint);
    if (json) {
        printf("{\"error\":{\"code\":%d,\"file\":", (int)st);
        nb_put_json(stdout, err->file, strlen(err->file));
        printf(",\"offset\":%lld,\"message\":", (long long)err->offset);
        nb_put_json(stdout, err->message, strlen(err->message));
        printf("}}\n");
    }
    return (int)st;
}

static nb_status dispatch(int argc, char **argv, nb_args *args, nb_error *err)
{
    const char *name = argv[1];
    for (const nb_command *const *c = commands; *c; c++) {
        if (strcmp((*c)->name, name) != 0)
            continue;
        const nb_status st = nb_args_parse(*c, argc - 2, argv + 2, args, err);
        if (st != NB_OK)
            return st;
        if (nb_flag_on(args, "help")) {
            nb_print_help(*c);
            return NB_OK;
        }
        return (*c)->run(args, err);
    }
    for (const char *const *r = reserved; *r; r++)
        if (strcmp(*r, name) == 0)
            return nb_fail(err, NB_UNSUPPORTED, "nibble %s is not there yet", name);
    char shown[160];
    const nb_status st = nb_fail(err, NB_USAGE, "unknown command %s", nb_escape(shown, (int64_t)sizeof shown, name, (int64_t)strlen(name)));
    nb_hint(err, "nibble --help");
    return st;
}

int main(int argc, char **argv)
{
    nb_error err = {.offset = -1};
    nb_args args = {.n = 0};
    signal(SIGPIPE, SIG_IGN); /* a closed stdout is seen when it is flushed */
    signal(SIGXFSZ, SIG_IGN); /* a file over the limit is an error of write, not a death */
    if (argc < 2 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help();
        return argc < 2 ? NB_USAGE : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nibble %s\n", nb_version());
        return 0;
    }
    const nb_status st = dispatch(argc, argv, &args, &err);
    int code = report(st, &err, nb_flag_on(&args, "json"));
    if (fflush(stdout) != 0 || ferror(stdout)) {
        if (errno == EPIPE)
            return 141;
        if (!code) {
            fprintf(stderr, "nibble: error: stdout: cannot write: %s\n", strerror(errno));
            code = errno == ENOSPC ? NB_NO_ROOM : NB_IO;
        }
    }
    return code;
}
