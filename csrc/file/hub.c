/* hub.c -- hub names; where the cache is, which snapshot a revision means (hub.h). */
#include "file/hub.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- names ---- */

static bool word(const char *s, size_t n)
{
    if (n == 0 || n >= 97 || s[0] == '.' || s[0] == '-')
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)s[i]) && !strchr("-_.", s[i]))
            return false;
        if (i && (s[i] == '.' || s[i] == '-') && s[i - 1] == s[i])
            return false;
    }
    return true;
}

/* A branch, a tag, refs/pr/1 or a commit: words between slashes, so that it cannot lead out of
 * refs/. */
static bool is_revision(const char *s)
{
    if (strlen(s) >= NB_HUB_NAME)
        return false;
    for (;; s++) {
        const size_t n = strcspn(s, "/");
        for (size_t i = 0; i < n; i++)
            if (!isalnum((unsigned char)s[i]) && !strchr("-_.+", s[i]))
                return false;
        if (n == 0 || s[0] == '.' || s[0] == '-')
            return false;
        s += n;
        if (!*s)
            return true;
    }
}

bool nb_hub_name_parse(const char *text, nb_hub_name *out)
{
    const char *slash = strchr(text, '/');
    if (!slash)
        return false;
    const size_t org = (size_t)(slash - text), repo = strcspn(slash + 1, "@");
    const char *rest = slash + 1 + repo;
    if (!word(text, org) || !word(slash + 1, repo) || (*rest && !is_revision(rest + 1)))
        return false;
    *out = (nb_hub_name){.explicit_revision = *rest != 0};
    memcpy(out->org, text, org);
    memcpy(out->repo, slash + 1, repo);
    snprintf(out->revision, sizeof out->revision, "%s", *rest ? rest + 1 : "main");
    return true;
}

bool nb_hub_is_commit(const char *s)
{
    return strlen(s) == 40 && strspn(s, "0123456789abcdef") == 40;
}

void nb_hub_hint(const nb_hub_name *name, nb_error *err)
{
    const size_t n = strlen(name->repo);
    /* a file that is not there, not a repository */
    if (n > 5 && strcasecmp(name->repo + n - 5, ".gguf") == 0)
        return;
    nb_hint(err, "nibble pull %s/%s%s%.*s", name->org, name->repo,
            name->explicit_revision ? "@" : "", name->explicit_revision ? 100 : 0, name->revision);
}

/* ---- places ---- */

static nb_status put(char *path, nb_error *err, const char *format, ...) NB_PRINTF(3, 4);
static nb_status put(char *path, nb_error *err, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    const int n = vsnprintf(path, NB_HUB_PATH, format, ap);
    va_end(ap);
    return n >= 0 && n < NB_HUB_PATH
               ? NB_OK
               : nb_fail(err, NB_USAGE, "the cache's path is longer than %d bytes", NB_HUB_PATH);
}

static const char *variable(const char *name)
{
    const char *v = getenv(name);
    return v && *v ? v : NULL;
}

static nb_status home(const char **out, nb_error *err)
{
    const struct passwd *who = NULL;
    *out = variable("HOME");
    /* NOLINT(concurrency-mt-unsafe): the string is used at once */
    if (!*out && (who = getpwuid(getuid())))
        *out = who->pw_dir;
    if (*out && **out)
        return NB_OK;
    const nb_status st =
        nb_fail(err, NB_NOT_FOUND, "HOME is not set, so nothing says where the hub's cache is");
    nb_hint(err, "export HF_HOME=FOLDER");
    return st;
}

/* A variable's folder, in which a leading ~/ is home. */
static nb_status expanded(const char *value, const char *behind, char *path, nb_error *err)
{
    const char *at = NULL;
    if (value[0] != '~' || (value[1] && value[1] != '/'))
        return put(path, err, "%s%s", value, behind);
    const nb_status st = home(&at, err);
    return st == NB_OK ? put(path, err, "%s%s%s", at, value + 1, behind) : st;
}

nb_status nb_hub_home(char path[NB_HUB_PATH], nb_error *err)
{
    const char *v = variable("HF_HOME"), *at = NULL;
    if (v)
        return expanded(v, "", path, err);
    if ((v = variable("XDG_CACHE_HOME")))
        return expanded(v, "/huggingface", path, err);
    const nb_status st = home(&at, err);
    return st == NB_OK ? put(path, err, "%s/.cache/huggingface", at) : st;
}

nb_status nb_hub_cache(char path[NB_HUB_PATH], nb_error *err)
{
    char at[NB_HUB_PATH];
    const char *v = variable("HF_HUB_CACHE");
    v = v ? v : variable("HUGGINGFACE_HUB_CACHE");
    if (v)
        return expanded(v, "", path, err);
    const nb_status st = nb_hub_home(at, err);
    return st == NB_OK ? put(path, err, "%s/hub", at) : st;
}

nb_status nb_hub_repository(const nb_hub_name *name, char path[NB_HUB_PATH], nb_error *err)
{
    char at[NB_HUB_PATH];
    const nb_status st = nb_hub_cache(at, err);
    return st == NB_OK ? put(path, err, "%s/models--%s--%s", at, name->org, name->repo) : st;
}

/* ---- finding ---- */

/* The commit that refs/REVISION holds; NB_NOT_FOUND when there is no such file. */
static nb_status read_ref(const char *repository, const char *revision, char commit[48],
                          nb_error *err)
{
    char path[NB_HUB_PATH], text[64];
    nb_status st = put(path, err, "%s/refs/%s", repository, revision);
    if (st != NB_OK)
        return st;
    const int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return nb_fail_errno_at(err, path, "cannot open");
    const ssize_t n = read(fd, text, sizeof text - 1);
    if (n < 0)
        st = nb_fail_errno_at(err, path, "cannot read");
    close(fd);
    if (st != NB_OK)
        return st;
    text[n] = 0;
    text[strcspn(text, " \t\r\n")] = 0;
    if (!nb_hub_is_commit(text))
        return nb_fail_at(err, NB_BAD_INPUT, path, 0, "it holds no commit of 40 hex digits");
    snprintf(commit, 48, "%.40s", text);
    return NB_OK;
}

nb_status nb_hub_find(const nb_hub_name *name, char path[NB_HUB_PATH], nb_error *err)
{
    char repository[NB_HUB_PATH], cache[NB_HUB_PATH], commit[48], shown[NB_HUB_NAME * 3];
    struct stat sb;
    nb_status st = nb_hub_repository(name, repository, err);
    if (st == NB_OK)
        st = nb_hub_cache(cache, err);
    if (st != NB_OK)
        return st;
    if (nb_hub_is_commit(name->revision))
        snprintf(commit, sizeof commit, "%.40s", name->revision);
    else
        st = read_ref(repository, name->revision, commit, err);
    if (st == NB_OK)
        st = put(path, err, "%s/snapshots/%s", repository, commit);
    if (st == NB_OK && (stat(path, &sb) != 0 || !S_ISDIR(sb.st_mode)))
        st = NB_NOT_FOUND;
    if (st == NB_NOT_FOUND) {
        snprintf(shown, sizeof shown, "%s/%s%s%s", name->org, name->repo,
                 name->explicit_revision ? "@" : "", name->explicit_revision ? name->revision : "");
        st = nb_fail_at(err, NB_NOT_FOUND, shown, -1,
                        "no such file or folder, and no such model in the cache %.128s", cache);
        nb_hub_hint(name, err);
    }
    return st;
}
