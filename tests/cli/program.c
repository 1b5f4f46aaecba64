/* program.c -- see program.h. */
#define _GNU_SOURCE /* F_SETPIPE_SZ, posix_openpt */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <termios.h>
#include <time.h>

extern char **environ;

bool program_unbounded;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define NB_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define NB_SANITIZED 1
#endif
#endif

typedef struct words {
    char text[8192];
    char *argv[PROGRAM_MOST_ARGS + 1];
} words;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* LINE as an argument vector, %T and %M replaced. */
static void split(words *w, const folder *d, const char *line)
{
    size_t at = 0, n = 0;
    static char program[] = NB_BINARY_DIR "/nibble", longest[100001];
    w->argv[n++] = program;
    while (*line) {
        line += strspn(line, " ");
        if (!*line)
            break;
        if (n == PROGRAM_MOST_ARGS)
            die("too many words");
        if (strncmp(line, "%A", 2) == 0 && (line[2] == ' ' || !line[2])) {
            memset(longest, 'A', sizeof longest - 1);
            w->argv[n++] = longest;
            line += 2;
            continue;
        }
        w->argv[n++] = w->text + at;
        for (; *line && *line != ' '; line++) {
            const char *put = line[0] == '%' && line[1] == 'T'   ? d->path
                              : line[0] == '%' && line[1] == 'M' ? NB_SOURCE_DIR
                                  "/tests/data/models"
                                                                 : NULL;
            if (at + 1024 > sizeof w->text)
                die("words too long");
            if (put) {
                at += (size_t)snprintf(w->text + at, sizeof w->text - at, "%s", put);
                line++;
            } else if (line[0] == '\'' && line[1] == '\'')
                line++;
            else
                w->text[at++] = *line;
        }
        w->text[at++] = 0;
    }
    w->argv[n] = NULL;
}

/* The child inherits the soft limit; ours comes back. */
static pid_t spawn(const words *w, posix_spawn_file_actions_t *files)
{
    pid_t pid = -1;
    posix_spawnattr_t attr;
    sigset_t none, pipe_signal;
    sigemptyset(&none);
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    posix_spawnattr_init(&attr);
    posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
    posix_spawnattr_setsigdefault(&attr, &pipe_signal);
    posix_spawnattr_setsigmask(&attr, &none);
#ifndef NB_SANITIZED
    struct rlimit old, bound;
    if (getrlimit(RLIMIT_AS, &old) != 0)
        die("getrlimit");
    bound = old;
    /* stacks of OpenMP threads and arenas of malloc count, mapped or not */
    if (!program_unbounded)
        bound.rlim_cur = (rlim_t)4 << 30;
    if (setrlimit(RLIMIT_AS, &bound) != 0)
        die("setrlimit");
#endif
    const int e = posix_spawn(&pid, w->argv[0], files, &attr, w->argv, environ);
#ifndef NB_SANITIZED
    if (setrlimit(RLIMIT_AS, &old) != 0)
        die("setrlimit");
#endif
    posix_spawnattr_destroy(&attr);
    if (e) {
        errno = e;
        die(w->argv[0]);
    }
    return pid;
}

int program_wait(pid_t pid)
{
    int status = 0;
    const struct timespec nap = {.tv_nsec = 2000000};
    struct timespec start, now;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (;;) {
        const pid_t got = waitpid(pid, &status, WNOHANG);
        if (got == pid)
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        if (got < 0 && errno != EINTR)
            die("waitpid");
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (now.tv_sec - start.tv_sec > PROGRAM_GUARD_S) {
            kill(pid, SIGKILL);
            waitpid(pid, &status, 0);
            return -1;
        }
        nanosleep(&nap, NULL);
    }
}

static char *whole_file(const char *path)
{
    enum { kMost = 1 << 22 };
    char *text = calloc(1, kMost + 1);
    FILE *f = fopen(path, "rb");
    if (!text)
        die("calloc");
    if (f) {
        const size_t n = fread(text, 1, kMost, f);
        text[n] = 0;
        fclose(f);
    }
    unlink(path);
    return text;
}

bool program_has_terminals(void)
{
    const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    char name[64];
    const bool good = fd >= 0 && grantpt(fd) == 0 && unlockpt(fd) == 0 &&
                      ptsname_r(fd, name, sizeof name) == 0 && access(name, W_OK) == 0;
    if (fd >= 0)
        close(fd);
    return good;
}

/* A terminal: *name is what the program opens, the other end is returned. */
static int open_terminal(char name[64])
{
    const int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || grantpt(fd) != 0 || unlockpt(fd) != 0 || ptsname_r(fd, name, 64) != 0)
        die("a terminal");
    return fd;
}

/* The line editor shows its prompt before it takes the terminal out of the mode that echoes; what
 * came between would be seen twice. */
static void type(int fd, const char *line)
{
    const struct timespec nap = {.tv_nsec = 1000000};
    struct termios t;
    for (int i = 0; i < PROGRAM_GUARD_S * 1000 && tcgetattr(fd, &t) == 0 && (t.c_lflag & ECHO); i++)
        nanosleep(&nap, NULL);
    if (write(fd, line, strlen(line)) < 0 || write(fd, "\n", 1) < 0)
        die("a terminal");
}

/* What is to come after the prompt: the next line, or behind the echo of the last one the first
 * byte of an answer. */
static bool is_time(const char *text, const char *line)
{
    if (strcmp(line, TALK_INTERRUPT) != 0)
        /* behind the echo of the line before, whose end is a new line */
        return strstr(text, "\n> ") != NULL;
    const char *echo = strchr(text, '\n');
    return echo && echo[1];
}

/* All that the program prints, until it has closed the terminal. lines: what is typed, one at each
 * prompt; may be NULL. */
static char *read_terminal(int fd, pid_t pid, const char *const *lines)
{
    enum { kMost = 1 << 20 };
    char *text = calloc(1, kMost + 1);
    size_t n = 0, typed = 0; /* typed: up to here the prompts had their lines */
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (!text)
        die("calloc");
    while (n < kMost && poll(&p, 1, PROGRAM_GUARD_S * 1000) == 1) {
        const ssize_t got = read(fd, text + n, kMost - n);
        if (got <= 0)
            break; /* EIO: the last one who had it open has gone */
        n += (size_t)got;
        if (lines && *lines && is_time(text + typed, *lines)) {
            typed = n;
            if (strcmp(*lines, TALK_INTERRUPT) == 0)
                kill(pid, SIGINT);
            else
                type(fd, *lines);
            lines++;
        }
    }
    close(fd);
    return text;
}

/* What the two that run a program to its end share; lines: typed at a terminal, or NULL. */
static outcome run(const folder *d, const char *line, program_stdout how, const char *const *lines)
{
    words w;
    char out[1024], err[1024];
    int broken[2] = {-1, -1}, terminal = -1;
    char name[64];
    posix_spawn_file_actions_t files;
    folder_in(d, ".stdout", out);
    folder_in(d, ".stderr", err);
    split(&w, d, line);
    posix_spawn_file_actions_init(&files);
    if (how == OUT_CLOSED)
        for (int fd = 0; fd < 3; fd++)
            posix_spawn_file_actions_addclose(&files, fd);
    else if (how == OUT_TTY) {
        terminal = open_terminal(name);
        posix_spawn_file_actions_addopen(&files, 0, lines ? name : "/dev/null", O_RDONLY | O_NOCTTY,
                                         0);
        posix_spawn_file_actions_addopen(&files, 1, name, O_WRONLY | O_NOCTTY, 0);
        posix_spawn_file_actions_adddup2(&files, 1, 2);
    } else {
        posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
        if (how == OUT_NO_STDERR)
            posix_spawn_file_actions_addclose(&files, 2);
        else
            posix_spawn_file_actions_addopen(&files, 2, err, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        if (how == OUT_CAPTURED || how == OUT_NO_STDERR)
            posix_spawn_file_actions_addopen(&files, 1, out, O_WRONLY | O_CREAT | O_TRUNC, 0600);
        else if (how == OUT_FULL)
            posix_spawn_file_actions_addopen(&files, 1, "/dev/full", O_WRONLY, 0);
        else { /* the reader goes before the program can write */
            if (pipe(broken) != 0)
                die("pipe");
            close(broken[0]);
            posix_spawn_file_actions_adddup2(&files, broken[1], 1);
            posix_spawn_file_actions_addclose(&files, broken[1]);
        }
    }
    const pid_t pid = spawn(&w, &files);
    if (broken[1] >= 0)
        close(broken[1]);
    posix_spawn_file_actions_destroy(&files);
    char *shown = terminal >= 0 ? read_terminal(terminal, pid, lines) : NULL;
    outcome o = {.code = program_wait(pid)};
    o.out = shown ? shown : whole_file(out);
    o.err = whole_file(err);
    return o;
}

outcome program_run(const folder *d, const char *line, program_stdout how)
{
    return run(d, line, how, NULL);
}

outcome program_talk(const folder *d, const char *line, const char *const *lines)
{
    return run(d, line, OUT_TTY, lines);
}

void program_free(outcome *o)
{
    free(o->out);
    free(o->err);
    *o = (outcome){0};
}

pid_t program_start(const folder *d, const char *line, int *err)
{
    words w;
    int ends[2];
    posix_spawn_file_actions_t files;
    split(&w, d, line);
    if (pipe(ends) != 0)
        die("pipe");
    (void)fcntl(ends[1], F_SETPIPE_SZ, 4096);
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, ends[1], 2);
    posix_spawn_file_actions_addclose(&files, ends[1]);
    const pid_t pid = spawn(&w, &files);
    posix_spawn_file_actions_destroy(&files);
    close(ends[1]);
    *err = ends[0];
    return pid;
}
