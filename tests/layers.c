/* layers.c -- who may include whom: the rooms of docs/ARCHITECTURE.md in their order. A file
 * includes its own room and rooms before it in the list; text, scheme and backend are neighbours
 * that do not know each other; the command line knows nibble.h and base; cuda/ is one more
 * backend. */
#include "check.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

/* From the ground up. The public headers lie below all of them. */
static const char *const rooms[] = {"base",  "dtype",   "file",  "hub",   "scheme",
                                    "text",  "backend", "model", "eval",  "convert",
                                    "quant", "api",     "dist",  "serve", "train"};
enum { kRooms = sizeof rooms / sizeof *rooms };

static int room_at(const char *name, size_t n)
{
    for (int i = 0; i < kRooms; i++)
        if (strlen(rooms[i]) == n && memcmp(rooms[i], name, n) == 0)
            return i;
    return -1;
}

static bool is_neighbour(int room)
{
    const char *const three[] = {"scheme", "text", "backend"};
    for (int i = 0; i < 3; i++)
        if (room >= 0 && strcmp(rooms[room], three[i]) == 0)
            return true;
    return false;
}

/* The room of "backend/cpu/dot.h" by its first folder, -1 when it names none. */
static int room_of(const char *path)
{
    const char *slash = strchr(path, '/');
    return slash ? room_at(path, (size_t)(slash - path)) : -1;
}

static bool is_public(const char *include)
{
    return strcmp(include, "nibble.h") == 0 || strcmp(include, "nibble_status.h") == 0;
}

/* What is wrong with `include` in the file (a path from the source tree), or NULL. */
static const char *judge(const char *file, const char *include)
{
    const int to = room_of(include);
    if (strstr(include, ".."))
        return "leaves its folder by ..";
    if (strncmp(file, "include/", 8) == 0)
        return is_public(include) ? NULL : "a public header includes an inner one";
    if (is_public(include))
        return NULL;
    if (strncmp(file, "python-free-cli/", 16) == 0)
        return !strchr(include, '/') || (to >= 0 && strcmp(rooms[to], "base") == 0)
                   ? NULL
                   : "the command line includes only nibble.h and base";
    if (strncmp(file, "cuda/", 5) == 0)
        return to < 0 || strcmp(rooms[to], "base") == 0 || strcmp(rooms[to], "dtype") == 0 ||
                       strcmp(include, "backend/backend.h") == 0 ||
                       strcmp(include, "backend/kv.h") == 0 ||
                       strcmp(include, "backend/sample.h") == 0
                   ? NULL
                   : "the cuda backend includes only base, dtype, backend/backend.h, kv.h and "
                     "sample.h";
    const int from = room_of(file + 5); /* csrc/ROOM/... */
    if (from < 0)
        return "a file of csrc in no room of the list";
    if (!strchr(include, '/'))
        return NULL; /* beside the file */
    if (to < 0)
        return "a folder that is no room of the list";
    if (to == from)
        return NULL;
    if (is_neighbour(from) && is_neighbour(to))
        return "sideways: text, scheme and backend do not know each other";
    return to < from ? NULL : "upward";
}

/* ---- the walk ---- */

typedef struct walk {
    check *c;
    int n_file, n_include;
} walk;

static bool is_source(const char *name)
{
    const char *dot = strrchr(name, '.');
    const char *const ends[] = {".c", ".h", ".cu", ".cuh", ".cpp", ".hpp", ".inc"};
    for (size_t i = 0; dot && i < sizeof ends / sizeof *ends; i++)
        if (strcmp(dot, ends[i]) == 0)
            return true;
    return false;
}

static void read_file(walk *w, const char *file)
{
    char line[2048], include[512];
    FILE *f = fopen(file, "r");
    CHECK(w->c, f != NULL);
    w->n_file++;
    while (f && fgets(line, sizeof line, f)) {
        const char *p = line + strspn(line, " \t");
        if (*p++ != '#')
            continue;
        p += strspn(p, " \t");
        if (strncmp(p, "include", 7) != 0 || sscanf(p + 7, " \"%511[^\"]\"", include) != 1)
            continue;
        const char *wrong = judge(file, include);
        w->n_include++;
        w->c->n_check++;
        if (wrong)
            check_report(w->c, file, 0, "#include \"%s\": %s", include, wrong);
    }
    if (f)
        fclose(f);
}

static void read_folder(walk *w, const char *folder)
{
    char file[1024];
    struct stat sb;
    DIR *d = opendir(folder);
    CHECK(w->c, d != NULL);
    for (const struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(file, sizeof file, "%.700s/%.300s", folder, e->d_name);
        if (stat(file, &sb) == 0 && S_ISDIR(sb.st_mode))
            read_folder(w, file);
        else if (is_source(e->d_name))
            read_file(w, file);
    }
    if (d)
        closedir(d);
}

static void tree(check *c)
{
    walk w = {.c = c};
    CHECK_EQ(c, chdir(NB_SOURCE_DIR), 0);
    const char *const folders[] = {"include", "csrc", "cuda", "python-free-cli"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
        read_folder(&w, folders[i]);
    CHECK(c, w.n_file > 100); /* the walk did see the tree */
    CHECK(c, w.n_include > 200);
}

static void rules(check *c)
{
    static const struct {
        const char *file, *include;
        bool right;
    } rows[] = {
        {"csrc/model/forward.c", "backend/backend.h", true},
        {"csrc/backend/cpu/cpu.c", "model/model.h", false},
        {"csrc/backend/cpu/cpu.c", "backend/cpu/dot.h", true},
        {"csrc/text/bpe.c", "backend/backend.h", false},
        {"csrc/backend/load.c", "text/tokenizer.h", false},
        {"csrc/scheme/gptq.c", "text/vocab.h", false},
        {"csrc/text/bpe.c", "file/json.h", true},
        {"csrc/base/status.c", "nibble_status.h", true},
        {"csrc/base/status.c", "dtype/dtype.h", false},
        {"csrc/base/status.c", "../dtype/dtype.h", false},
        {"csrc/serve/http.c", "api/serve.h", true},
        {"csrc/hub/tree.c", "file/json.h", true},
        {"csrc/file/container.c", "hub/http.h", false},
        {"csrc/odds/x.c", "base/status.h", false},
        {"csrc/eval/eval.c", "odds/x.h", false},
        {"python-free-cli/run.c", "nibble.h", true},
        {"python-free-cli/run.c", "base/clock.h", true},
        {"python-free-cli/run.c", "out.h", true},
        {"python-free-cli/run.c", "model/model.h", false},
        {"cuda/linear/gemv.cu", "backend/backend.h", true},
        {"cuda/linear/gemv.cu", "backend/cpu/cpu.h", false},
        {"cuda/linear/gemv.cu", "gpu.h", true},
        {"cuda/linear/gemv.cu", "model/model.h", false},
        {"include/nibble.h", "nibble_status.h", true},
        {"include/nibble.h", "base/status.h", false},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *wrong = judge(rows[i].file, rows[i].include);
        c->n_check++;
        if ((wrong == NULL) != rows[i].right)
            check_report(c, __FILE__, __LINE__, "%s with \"%s\": %s", rows[i].file, rows[i].include,
                         wrong ? wrong : "let through");
    }
}

static const check_case cases[] = {
    {"an include that runs upward, sideways or past the public header is seen", rules},
    {"no file of the tree includes a room above its own", tree},
};
CHECK_MAIN(cases)
