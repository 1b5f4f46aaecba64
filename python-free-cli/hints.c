/* hints.c -- what to do after an error, a row each (hints.h).
 *
 * A row is a command line with places: %c the command, %m the model, %f the file the sentence
 * speaks of, %d its folder, %o the offset in it, %l the whole line that was given. A row whose
 * place cannot be filled in, or not so that a shell takes it as it stands, does not fit. */
#include "hints.h"
#include "base/nearest.h"
#include "base/status.h"
#include "base/text.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

enum { kPath = 256 };

/* ---- what the sentence speaks of ---- */

static const char *model_of(const nb_line *l)
{
    const bool takes = l->command && (strncmp(l->command->operands, "MODEL", 5) == 0 ||
                                      strncmp(l->command->operands, "PATH", 4) == 0);
    return takes && l->args->n_operand ? l->args->operand[0] : NULL;
}

static bool starts_with(const char *s, const char *start)
{
    return s && start && *start && strncmp(s, start, strlen(start)) == 0;
}

static bool is_there(const char *path)
{
    struct stat sb;
    return stat(path, &sb) == 0;
}

static bool any(const nb_line *l, const nb_error *err)
{
    (void)l, (void)err;
    return true;
}

static bool no_command(const nb_line *l, const nb_error *err)
{
    (void)err;
    return !l->command;
}

/* A flag or a value, no file. */
static bool no_file(const nb_line *l, const nb_error *err)
{
    (void)l;
    return !err->file[0];
}

static bool any_file(const nb_line *l, const nb_error *err)
{
    return !no_file(l, err);
}

/* A folder, a device, a pipe. */
static bool no_text(const nb_line *l, const nb_error *err)
{
    struct stat sb;
    (void)l;
    return stat(err->file, &sb) == 0 && !S_ISREG(sb.st_mode);
}

static bool in_model(const nb_line *l, const nb_error *err)
{
    return starts_with(err->file, model_of(l));
}

static bool holds_nan(const nb_line *l, const nb_error *err)
{
    (void)l;
    return err->file[0] && strstr(err->message, "NaN");
}

static bool model_holds_nan(const nb_line *l, const nb_error *err)
{
    return in_model(l, err) && holds_nan(l, err);
}

static bool in_whole_file(const nb_line *l, const nb_error *err)
{
    struct stat sb;
    return in_model(l, err) && stat(err->file, &sb) == 0 && S_ISREG(sb.st_mode);
}

static bool from_hub(const nb_line *l, const nb_error *err)
{
    const char *m = model_of(l);
    return m && !starts_with(m, "/") && !starts_with(m, ".") && strchr(m, '/') && !is_there(m) &&
           err->file[0];
}

/* Something that was to be written: OUT, a page, logits. */
static bool in_output(const nb_line *l, const nb_error *err)
{
    static const char *const names[] = {"output", "report", "logits"};
    for (int i = 0; l->command && i < 3; i++)
        if (starts_with(err->file, nb_flag_text(l->args, names[i])))
            return true;
    return false;
}

static bool in_work_folder(const nb_line *l, const nb_error *err)
{
    return in_output(l, err) && strstr(err->file, ".nibble/");
}

/* --restart has no place on that line, which need not say what would begin anew. */
static bool in_resumed_work(const nb_line *l, const nb_error *err)
{
    return in_work_folder(l, err) && nb_flag_on(l->args, "resume");
}

static bool has_folder_missing(const nb_line *l, const nb_error *err)
{
    char folder[kPath];
    snprintf(folder, sizeof folder, "%s", err->file);
    char *slash = strrchr(folder, '/');
    if (!slash || slash == folder)
        return false;
    *slash = 0;
    return in_output(l, err) && !is_there(folder);
}

static bool file_is_there(const nb_line *l, const nb_error *err)
{
    (void)l;
    return is_there(err->file);
}

static bool ended_by_signal(const nb_line *l, const nb_error *err)
{
    (void)l;
    return (int)err->code > 128;
}

/* ---- the rows: the first that fits ---- */

typedef struct row {
    nb_status code;
    const char *command; /* NULL: every one */
    bool (*fits)(const nb_line *l, const nb_error *err);
    const char *text;
} row;

static const row rows[] = {
    {NB_USAGE, NULL, no_command, "nibble --help"},
    {NB_USAGE, "help", any, "nibble help"},
    {NB_USAGE, NULL, any, "nibble %c --help"},
    {NB_NOT_FOUND, NULL, has_folder_missing, "mkdir -p %d"},
    {NB_NOT_FOUND, NULL, any, "did you mean %n?"},
    {NB_NOT_FOUND, NULL, any, "ls %d"},
    {NB_BAD_INPUT, "quantize", in_resumed_work,
     "give the whole command with --restart in place of --resume"},
    {NB_BAD_INPUT, "quantize", in_work_folder, "%l --restart"},
    {NB_BAD_INPUT, "quantize", in_work_folder, "give the same command again with --restart"},
    {NB_BAD_INPUT, NULL, from_hub, "nibble pull %m"},
    {NB_BAD_INPUT, NULL, model_holds_nan, "nibble inspect %m --verify"},
    {NB_BAD_INPUT, NULL, holds_nan, "nibble inspect %f --verify"},
    {NB_BAD_INPUT, NULL, in_whole_file, "sha256sum %f # is it the publisher's?"},
    {NB_BAD_INPUT, "run", no_file, "nibble tokenize %m -p TEXT"},
    {NB_BAD_INPUT, NULL, in_model, "ls -l %d"},
    {NB_BAD_INPUT, NULL, no_text, "ls -ld %f"},
    {NB_BAD_INPUT, NULL, any, "od -A d -c -j %o -N 64 %f"},
    {NB_BAD_INPUT, NULL, any, "head -c 300 %f"},
    {NB_UNSUPPORTED, NULL, no_command, "nibble --help"},
    {NB_UNSUPPORTED, "convert", any_file, "nibble quantize %m -o OUT"},
    {NB_UNSUPPORTED, NULL, in_model, "nibble doctor --features"},
    {NB_NO_ROOM, NULL, in_output, "df -h %d"},
    {NB_NO_ROOM, NULL, any, "nibble plan %m"},
    {NB_IO, NULL, file_is_there, "ls -ld %f"},
    {NB_IO, NULL, any, "ls -ld %d"},
    {NB_DEVICE, NULL, any, "nibble doctor"},
    {NB_LOCKED, NULL, any, "ps -fp $(cat %f)"},
    {NB_NETWORK, NULL, any, "%l"},
    {NB_INTERNAL, NULL, any, "nibble doctor --json # goes with a report of the fault"},
    {NB_NEGATIVE, "inspect", any, "nibble inspect %m --tensors"},
    {NB_OK, NULL, ended_by_signal, "%l"},
    {NB_OK, NULL, ended_by_signal, "give the same command again"},
    {NB_OK, NULL, any, "nibble %c --help"},
    {NB_OK, NULL, any, "nibble --help"},
};

/* ---- filling a row in ---- */

/* As a shell takes it; false: not by one line of plain characters. */
static bool put_word(nb_text *t, const char *s)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+";
    for (const char *p = s; *p; p++)
        if (*p < ' ' || *p > '~')
            return false;
    const bool bare = *s && strspn(s, plain) == strlen(s);
    nb_text_puts(t, bare ? "" : "'");
    for (const char *p = s; *p; p++)
        nb_text_printf(t, *p == '\'' ? "'\\''" : "%c", *p);
    nb_text_puts(t, bare ? "" : "'");
    return true;
}

/* A path of a sentence stands there escaped and cut; only one that is neither can be given to a
 * shell. */
static bool put_path(nb_text *t, const char *path)
{
    return *path && strlen(path) < 128 && !strchr(path, '\\') && put_word(t, path);
}

/* The folder it is or lies in; must_be_there: the nearest one above that is there. */
static bool put_folder(nb_text *t, const char *path, bool must_be_there)
{
    char folder[kPath];
    if (!*path)
        return false;
    snprintf(folder, sizeof folder, "%s", path);
    struct stat sb;
    if (stat(path, &sb) == 0 && S_ISDIR(sb.st_mode))
        return put_path(t, folder);
    do {
        char *slash = strrchr(folder, '/');
        if (!slash)
            snprintf(folder, sizeof folder, ".");
        else
            slash[slash == folder] = 0;
    } while (must_be_there && !is_there(folder) && strcmp(folder, ".") != 0 &&
             strcmp(folder, "/") != 0);
    return put_path(t, folder);
}

/* A file beside the one that is not there, called almost like it. */
static bool put_near_file(nb_text *t, const char *path)
{
    char folder[kPath], best[kPath] = "";
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    const char *name = slash ? path + (slash - folder) + 1 : path;
    if (!*name || is_there(path))
        return false;
    if (slash)
        slash[1] = 0;
    DIR *d = opendir(slash ? folder : ".");
    nb_nearest near = {.given = name};
    for (const struct dirent *e; d && (e = readdir(d));) {
        const char *had = near.name;
        if (e->d_name[0] == '.')
            continue;
        nb_nearest_offer(&near, e->d_name);
        if (near.name != had) {
            snprintf(best, sizeof best, "%s", near.name);
            near.name = best;
        }
    }
    if (d)
        closedir(d);
    if (!near.name || near.distance > 2)
        return false;
    char whole[2 * kPath];
    snprintf(whole, sizeof whole, "%s%s", slash ? folder : "", best);
    return put_path(t, whole);
}

static bool put_line(nb_text *t, const nb_line *l)
{
    nb_text_puts(t, "nibble");
    bool good = true;
    for (int i = 1; i < l->argc && good; i++) {
        nb_text_puts(t, " ");
        good = put_word(t, l->argv[i]);
    }
    return good;
}

static bool put_place(nb_text *t, char place, const nb_line *l, const nb_error *err)
{
    const char *m = model_of(l);
    switch (place) {
    case 'c':
        return l->command && put_word(t, l->command->name);
    case 'm':
        return m && put_word(t, m);
    case 'f':
        return put_path(t, err->file);
    case 'd':
        return put_folder(t, err->file, err->code != NB_NOT_FOUND || !has_folder_missing(l, err));
    case 'n':
        return put_near_file(t, err->file);
    case 'o':
        nb_text_printf(t, "%lld", (long long)err->offset);
        return err->offset >= 0;
    default:
        return put_line(t, l);
    }
}

static bool fill_in(const char *text, const nb_line *l, nb_error *err)
{
    nb_text t = {0};
    bool good = true;
    for (; *text && good; text++)
        if (*text == '%')
            good = put_place(&t, *++text, l, err);
        else
            nb_text_add(&t, text, 1);
    good = good && !t.failed && t.n < sizeof err->hint;
    if (good)
        nb_hint(err, "%s", t.p);
    nb_text_free(&t);
    return good;
}

void nb_hint_from_rows(nb_status st, const nb_line *l, nb_error *err)
{
    if (st == NB_OK || err->hint[0])
        return;
    const nb_status code = err->code; /* NB_OK: it was told as JSON already */
    err->code = st;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const row *r = &rows[i];
        if ((r->code == NB_OK || r->code == st) &&
            (!r->command || (l->command && strcmp(r->command, l->command->name) == 0)) &&
            r->fits(l, err) && fill_in(r->text, l, err))
            break;
    }
    err->code = code;
}
