/* help.c -- `nibble help [COMMAND]`, `nibble man`: the command and flag tables as text and as a
 * manual page (man(7) macros). */
#include "base/status.h"
#include "flags.h"

#include <stdio.h>
#include <string.h>

static const nb_flag no_flags[] = {{NULL, 0, NULL, NULL}};

void nb_print_overview(void)
{
    printf("nibble %s: quantizes and runs language models\n\n", nb_version());
    for (const nb_command *const *c = nb_commands; *c; c++)
        printf("  nibble %-12s %-18s %s\n", (*c)->name, (*c)->operands, (*c)->summary);
    printf("\nnibble COMMAND --help lists a command's flags.\n");
}

static nb_status run_help(const nb_args *a, nb_error *err)
{
    const nb_command *c = NULL;
    if (a->n_operand == 0) {
        nb_print_overview();
        return NB_OK;
    }
    const nb_status st = nb_command_find(a->operand[0], &c, err);
    if (st == NB_OK)
        nb_print_help(c);
    return st;
}

/* ---- the manual page ---- */

/* Text for roff: a dash is a minus, a backslash is written out, and no line begins a request. */
static void roff(const char *s)
{
    if (*s == '.' || *s == '\'')
        fputs("\\&", stdout);
    for (; *s; s++)
        if (*s == '-')
            fputs("\\-", stdout);
        else if (*s == '\\')
            fputs("\\e", stdout);
        else
            putchar(*s);
}

static void roff_flags(const nb_flag *f)
{
    for (; f->name; f++) {
        printf(".TP\n");
        if (f->letter)
            printf("\\fB\\-%c\\fR, ", f->letter);
        printf("\\fB\\-\\-");
        roff(f->name);
        printf("\\fR");
        if (f->operand) {
            printf(" \\fI");
            roff(f->operand);
            printf("\\fR");
        }
        putchar('\n');
        roff(f->help);
        putchar('\n');
    }
}

static void roff_word(const char *word, const char *means)
{
    printf(".TP\n.B ");
    roff(word);
    putchar('\n');
    roff(means);
    putchar('\n');
}

static nb_status run_man(const nb_args *a, nb_error *err)
{
    static const struct {
        nb_status code;
        const char *means;
    } exits[] = {
        {NB_OK, "done"},
        {NB_NEGATIVE, "done, and the answer is no"},
        {NB_USAGE, "the command line is wrong"},
        {NB_NOT_FOUND, "a file or model is not there"},
        {NB_BAD_INPUT, "the input breaks its own format"},
        {NB_UNSUPPORTED, "valid, but nibble does not do it"},
        {NB_NO_ROOM, "memory, disk or context does not suffice"},
        {NB_IO, "reading or writing failed"},
        {NB_DEVICE, "the device failed or is not there"},
        {NB_LOCKED, "another process holds it"},
        {NB_NETWORK, "network or authorisation"},
        {NB_INTERNAL, "a fault of nibble"},
        {NB_INTERRUPTED, "interrupted"},
    };
    (void)a, (void)err;
    printf(".TH NIBBLE 1 \"\" \"nibble ");
    roff(nb_version());
    printf("\"\n.SH NAME\nnibble \\- quantizes and runs language models\n.SH SYNOPSIS\n.B "
           "nibble\n.I COMMAND\n[flags] "
           "[arguments]\n.SH COMMANDS\n");
    for (const nb_command *const *c = nb_commands; *c; c++) {
        printf(".SS nibble %s ", (*c)->name);
        roff((*c)->operands);
        putchar('\n');
        roff((*c)->summary);
        putchar('\n');
        roff_flags((*c)->flags);
        if ((*c)->words)
            (*c)->words(roff_word);
    }
    printf(".SH FLAGS OF EVERY COMMAND\n");
    roff_flags(nb_global_flags);
    printf(".SH EXIT STATUS\n");
    for (size_t i = 0; i < sizeof exits / sizeof *exits; i++) {
        char code[12];
        snprintf(code, sizeof code, "%d", (int)exits[i].code);
        roff_word(code, exits[i].means);
    }
    printf(".SH ENVIRONMENT\n.TP\n.B NIBBLE_ISA\nscalar, avx2, avx512 or amx: the CPU's "
           "instructions that may be used at most\n"
           ".TP\n.B NIBBLE_MODULE_DIR\nwhere the modules of other devices are looked for first\n"
           ".TP\n.B HF_HUB_CACHE HF_HOME XDG_CACHE_HOME\nwhere the cache of the hub is: "
           "HF_HUB_CACHE, else HF_HOME/hub, else\n"
           "XDG_CACHE_HOME/huggingface/hub, else ~/.cache/huggingface/hub\n"
           ".TP\n.B HF_ENDPOINT HF_TOKEN HF_TOKEN_PATH\nthe hub's address; the token for it, or "
           "the file that holds it, which goes nowhere else\n"
           ".TP\n.B HF_HUB_OFFLINE\n1: pull fetches nothing\n"
           ".TP\n.B HF_HUB_ETAG_TIMEOUT HF_HUB_DOWNLOAD_TIMEOUT NIBBLE_PULL_WAIT_MS\nseconds (10) "
           "after which a question or a\n"
           "transfer that stands still is given up; milliseconds (500) before the second try, "
           "doubled for each that follows\n"
           ".TP\n.B NIBBLE_LIBCURL\nthe file of libcurl, where it is not called libcurl.so.4\n");
    return NB_OK;
}

const nb_command nb_command_help = {.name = "help",
                                    .operands = "[COMMAND]",
                                    .summary = "Lists the commands, or the flags of one.",
                                    .flags = no_flags,
                                    .run = run_help,
                                    .n_operand = 1};
const nb_command nb_command_man = {.name = "man",
                                   .operands = "",
                                   .summary = "Prints the manual page: nibble man > nibble.1",
                                   .flags = no_flags,
                                   .run = run_man};
