/* sparse.c -- a model most of whose layers are holes of its files (bench/shape): it is read like
 * any other, and what is copied from it takes no room either. That is how a 70B shape is planned
 * and its first layers are quantized where the model itself would not fit. */
#include "cli/transcript.h"
#include "file/container.h"

#include <signal.h>
#include <sys/wait.h>

static folder here;

enum { kLayers = 8, kFilled = 2 };
static bool holes; /* the file system has them */

static bool expect(check *c, const char *line, int code, const char *word)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const bool as_wanted = o.code == code && (!word || strstr(code ? o.err : o.out, word));
    c->n_check++;
    if (!as_wanted)
        check_report(c, __FILE__, __LINE__, "%s: exit %d: %s%s; expected %d: %s", line, o.code,
                     o.out, o.err, code, word ? word : "");
    program_free(&o);
    return as_wanted;
}

static void gone(const char *name)
{
    char path[1024];
    folder_remove(folder_in(&here, name, path));
    strcat(path, ".manifest.json");
    folder_remove(path);
}

/* Bytes on disk of a file, or of a folder's files; *size: as they say. */
static int64_t room_of(const char *name, int64_t *size)
{
    char path[1024], in[1024];
    struct stat sb;
    int64_t room = 0;
    *size = 0;
    if (stat(folder_in(&here, name, path), &sb) != 0)
        return 0;
    if (!S_ISDIR(sb.st_mode)) {
        *size = sb.st_size;
        return sb.st_blocks * 512;
    }
    DIR *dir = opendir(path);
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        snprintf(in, sizeof in, "%.700s/%.255s", path, e->d_name);
        if (e->d_name[0] == '.' || stat(in, &sb) != 0)
            continue;
        *size += sb.st_size;
        room += sb.st_blocks * 512;
    }
    if (dir)
        closedir(dir);
    return room;
}

/* Six of eight layers take none. */
static void check_room(check *c, const char *name)
{
    int64_t size = 0;
    const int64_t room = room_of(name, &size);
    c->n_check++;
    if (!size || (holes && room > size / 2))
        check_report(c, __FILE__, __LINE__, "%s: %lld bytes, %lld of them on disk", name,
                     (long long)size, (long long)room);
}

#define SOME " --layers 0:2 --calib %T/text.txt --samples 2 -c 32 -t 1 -q "

static void read_back(check *c)
{
    check_room(c, "model");
    expect(c, "inspect %T/model --tensors", 0, "model.layers.7.mlp.down_proj.weight");
    expect(c, "plan %T/model --json", 0, "\"fits\":true");
    expect(c, "tokenize %T/model -p a\xc3\xa9 --no-bos", 0, "97 195 169\n");
    expect(c, "run %T/model --ids 5,9,30 -n 2 -t 1 --json", 0, "\"tokens\":[");
    expect(c, "quantize %T/model -o %T/out --dry-run --memory 20G --json" SOME, 0,
           "\"plan_bytes\":");
    CHECK(c, access(folder_in(&here, "out", (char[1024]){0}), F_OK) != 0);
}

static void written(check *c)
{
    static const char *const rows[][2] = {
        {"out", "quantize %T/model -o %T/out --format gptq" SOME},
        {"out", "quantize %T/model -o %T/out --format compressed-tensors --method awq-gptq "
                "--max-shard-size 2M" SOME},
        {"out", "quantize %T/model -o %T/out --format plain --method rtn" SOME},
        {"out.gguf", "quantize %T/model -o %T/out.gguf --embedding keep" SOME},
        {"out.gguf", "quantize %T/model.gguf -o %T/out.gguf --embedding keep --method rtn" SOME},
        {"out", "quantize %T/model.gguf -o %T/out --format gptq --method rtn" SOME},
    };
    char line[200];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (!expect(c, rows[i][1], 0, NULL))
            continue;
        check_room(c, rows[i][0]);
        snprintf(line, sizeof line, "inspect %%T/%s --verify", rows[i][0]);
        expect(c, line, 0, NULL);
        snprintf(line, sizeof line, "run %%T/%s --ids 5,9,30 -n 2 -t 1 --json", rows[i][0]);
        expect(c, line, 0, "\"tokens\":[");
        gone(rows[i][0]);
    }
}

/* The same bytes as of a model whose zeros lie on disk. */
static void filled(check *c)
{
    char path[1024], from[300], to[300];
    const char *const files[] = {"model",
                                 "dense/model"}; /* the name of the folder becomes general.name */
    char *out[2];
    size_t n[2];
    CHECK_EQ(c, mkdir(folder_in(&here, "dense", path), 0777), 0);
    CHECK_EQ(c, mkdir(folder_in(&here, "dense/model", path), 0777), 0);
    DIR *dir = opendir(folder_in(&here, "model", path));
    for (const struct dirent *e; dir && (e = readdir(dir));) {
        if (e->d_name[0] == '.')
            continue;
        snprintf(from, sizeof from, "model/%.255s", e->d_name);
        snprintf(to, sizeof to, "dense/model/%.255s", e->d_name);
        size_t bytes = 0;
        char *p = folder_bytes(&here, from, &bytes);
        folder_write(&here, to, p, bytes);
        free(p);
    }
    if (dir)
        closedir(dir);
    for (int i = 0; i < 2; i++) {
        char line[300];
        snprintf(line, sizeof line, "quantize %%T/%s%s", files[i],
                 " -o %T/out.gguf --embedding keep" SOME);
        expect(c, line, 0, NULL);
        out[i] = folder_bytes(&here, "out.gguf", &n[i]);
        gone("out.gguf");
    }
    CHECK(c, n[0] > 100000 && n[0] == n[1] && memcmp(out[0], out[1], n[0]) == 0);
    free(out[0]);
    free(out[1]);
    gone("dense");
}

/* A run that was killed between its layers and its ends. */
static void unfinished(check *c)
{
    static const char *const rows[][2] = {
        {"out", "quantize %T/model -o %T/out --format gptq" SOME},
        {"out.gguf", "quantize %T/model -o %T/out.gguf --embedding keep" SOME}};
    static const char *const when[] = {"after-append:4",
                                       "after-append:10"}; /* begin, calib, a layer each */
    char line[300];
    for (int i = 0; i < 2; i++) {
        expect(c, rows[i][1], 0, NULL);
        gone("sound");
        CHECK_EQ(c,
                 rename(folder_in(&here, rows[i][0], (char[1024]){0}),
                        folder_in(&here, "sound", (char[1024]){0})),
                 0);
        for (int w = 0; w < 2; w++) {
            gone(rows[i][0]);
            setenv("NIBBLE_CRASH_AT", when[w], 1);
            expect(c, rows[i][1], 128 + SIGKILL, NULL);
            unsetenv("NIBBLE_CRASH_AT");
            snprintf(line, sizeof line, "quantize -o %%T/%s --resume -q", rows[i][0]);
            expect(c, line, 0, NULL);
            check_same(c, &here, rows[i][0], "sound", true);
            check_room(c, rows[i][0]);
        }
        gone(rows[i][0]);
        gone("sound");
    }
}

static const check_case cases[] = {
    {"a folder with holes is read, planned and rehearsed", read_back},
    {"what is copied from holes takes no room, in folders and files", written},
    {"the bytes are those of a model without holes", filled},
    {"an unfinished one is gone on with to the same bytes", unfinished},
};

static int make_shape(const char *out)
{
    char path[1024];
    folder_in(&here, out, path);
    const pid_t pid = fork();
    int status = -1;
    if (pid == 0) {
        execl(NB_BINARY_DIR "/bench/bench_shape", "bench_shape", path, "bf16", "8", "128", "4", "2",
              "256", "512", "2", (char *)NULL);
        _exit(127);
    }
    return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status)
                                                                           : 127;
}

int main(int argc, char **argv)
{
    static char text[4000];
    char path[1024];
    struct stat sb;
    here = folder_new();
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + (i * i + i / 7) % 26);
    folder_write(&here, "text.txt", text, sizeof text);
    folder_write(&here, "hole", "", 0);
    holes = truncate(folder_in(&here, "hole", path), 1 << 20) == 0 && stat(path, &sb) == 0 &&
            sb.st_blocks * 512 < 1 << 19;
    if (!holes)
        fprintf(stderr,
                "this file system has no holes: how much room files take is not looked at\n");
    if (make_shape("model") != 0 || make_shape("model.gguf") != 0)
        return 1;
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
