/* pull.c -- `nibble pull` and names of the hub, against a hub on the loopback: what is fetched,
 * what a bad network or a bad server cannot do, and where the token goes. */
#include "cli/transcript.h"
#include "hostile/bytes.h"
#include "hub/fake_hub.h"
#include "hub/hub_pull.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>

#define TOKEN "hf_TOPSECRETtokenThatNobodyMaySee"
#define REPO "models--org--"

static folder here; /* made anew for each case */
static fake_hub *hub;
static char big[5000]; /* not one byte like the next block */

static void variable(const char *name, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void variable(const char *name, const char *format, ...)
{
    char v[1200];
    va_list ap;
    va_start(ap, format);
    vsnprintf(v, sizeof v, format, ap);
    va_end(ap);
    setenv(name, v, 1);
}

static void begin(const fake_file *files, size_t n, size_t page)
{
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (char)(i * 31 + i / 256 * 7);
    here = folder_new();
    hub = fake_hub_open(files, n, page);
    static const char *const unset[] = {"HF_HUB_CACHE",   "HUGGINGFACE_HUB_CACHE",
                                        "XDG_CACHE_HOME", "HF_TOKEN_PATH",
                                        "HF_HUB_OFFLINE", "http_proxy",
                                        "HTTP_PROXY",     "all_proxy",
                                        "ALL_PROXY",      "NIBBLE_LIBCURL"};
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
        unsetenv(unset[i]);
    variable("HF_ENDPOINT", "http://127.0.0.1:%d/", fake_hub_port(hub, 0));
    variable("HF_HOME", "%s/hf", here.path);
    variable("HF_TOKEN", TOKEN);
    variable("NIBBLE_PULL_WAIT_MS", "1");
}

static void end(void)
{
    fake_hub_close(hub);
    folder_gone(&here);
}

/* Runs `nibble LINE`; whatever came of it, no secret is in it. */
static outcome nibble(check *c, const char *line, int code)
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, code);
    if (o.code != code)
        CHECK_STR(c, o.err, "");
    CHECK(c, !strstr(o.out, "TOPSECRET") && !strstr(o.err, "TOPSECRET"));
    CHECK(c, !strstr(o.out, "secret-of-the-cdn") && !strstr(o.err, "secret-of-the-cdn"));
    if (code)
        check_failure(c, line, &o);
    return o;
}

static void says(check *c, const char *line, int code, const char *out, const char *err)
{
    outcome o = nibble(c, line, code);
    if (out)
        CHECK_HAS(c, o.out, out);
    if (err)
        CHECK_HAS(c, o.err, err);
    program_free(&o);
}

/* A file of the cache, read through its links; NULL when it is not there. */
static char *cached(const char *name, size_t *n)
{
    char path[1024], in[400];
    snprintf(in, sizeof in, "hf/hub/%.380s", name);
    FILE *f = fopen(folder_in(&here, in, path), "rb");
    char *p = calloc(1, 1 << 20);
    if (!p)
        exit(1);
    *n = f ? fread(p, 1, 1 << 20, f) : 0;
    if (f)
        fclose(f);
    else {
        free(p);
        return NULL;
    }
    return p;
}

static void holds(check *c, const char *name, const void *want, size_t n)
{
    size_t got = 0;
    char *p = cached(name, &got);
    CHECK(c, p != NULL);
    CHECK_EQ(c, got, n);
    CHECK(c, p && got == n && memcmp(p, want, n) == 0);
    free(p);
}

static bool there(const char *name)
{
    size_t n = 0;
    char *p = cached(name, &n);
    free(p);
    return p != NULL;
}

static void name_of(const fake_file *f, char blob[NB_BLOB_NAME])
{
    char kind[65];
    nb_blob_hash s;
    memset(kind, '0', sizeof kind);
    kind[f->lfs ? 64 : 40] = 0;
    nb_blob_hash_init(&s, kind, (int64_t)f->n);
    nb_blob_hash_add(&s, f->p, f->n);
    nb_blob_hash_end(&s, blob);
}

/* ---- what is fetched ---- */

static char *whole_file(const char *name, size_t *n)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, name);
    FILE *f = fopen(path, "rb");
    char *p = malloc(1 << 20);
    if (!f || !p)
        exit(1);
    *n = fread(p, 1, 1 << 20, f);
    fclose(f);
    return p;
}

static void a_model(check *c)
{
    static const char *const names[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    fake_file files[7];
    for (int i = 0; i < 4; i++) {
        files[i] = (fake_file){.repo = "org/tiny",
                               .path = names[i],
                               .lfs = i == 1,
                               .fault = i == 1 ? FAKE_REDIRECT : FAKE_SOUND};
        files[i].p = whole_file(names[i], &files[i].n);
    }
    files[4] = (fake_file){"org/tiny", "pytorch_model.bin", "a program", 9, true, FAKE_DOWN};
    files[5] = (fake_file){"org/tiny", "sub/deep/notes.txt", "notes", 5, false, FAKE_SOUND};
    files[6] = (fake_file){"org/tiny", "empty.txt", "", 0, false, FAKE_SOUND};
    begin(files, 7, 2); /* the listing comes in pages */
    says(c, "run org/tiny -p ab -n 4 -t 1", 3, NULL, "hint: nibble pull org/tiny\n");
    outcome o = nibble(c, "pull org/tiny -q", 0);
    CHECK_HAS(c, o.out, "/hf/hub/" REPO "tiny/snapshots/" FAKE_COMMIT "\n");
    CHECK_STR(c, o.err, "");
    program_free(&o);
    for (int i = 0; i < 4; i++) {
        char name[300];
        snprintf(name, sizeof name, REPO "tiny/snapshots/" FAKE_COMMIT "/%s", names[i]);
        holds(c, name, files[i].p, files[i].n);
    }
    holds(c, REPO "tiny/snapshots/" FAKE_COMMIT "/sub/deep/notes.txt", "notes", 5);
    holds(c, REPO "tiny/snapshots/" FAKE_COMMIT "/empty.txt", "", 0);
    /* git's name of nothing */
    holds(c, REPO "tiny/blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391", "", 0);
    holds(c, REPO "tiny/refs/main", FAKE_COMMIT, 40);
    CHECK(c, !there(REPO "tiny/snapshots/" FAKE_COMMIT "/pytorch_model.bin"));
    char path[1024], target[300];
    folder_in(&here, "hf/hub/" REPO "tiny/snapshots/" FAKE_COMMIT "/sub/deep/notes.txt", path);
    const ssize_t n = readlink(path, target, sizeof target - 1);
    target[n > 0 ? n : 0] = 0;
    CHECK_HAS(c, target, "../../../../blobs/");
    /* the token went to the hub and nowhere else */
    fake_request q[64];
    size_t asked[2] = {0};
    const size_t n_request = fake_hub_requests(hub, q, 64);
    for (size_t i = 0; i < n_request; i++) {
        asked[q[i].port]++;
        CHECK_EQ(c, q[i].authorised, q[i].port == 0);
        CHECK(c, !strstr(q[i].path, "pytorch_model"));
    }
    CHECK(c, asked[0] >= 8 && asked[1] == 1);
    /* again: nothing is fetched twice */
    fake_hub_clear(hub);
    says(c, "pull org/tiny", 0, "/snapshots/" FAKE_COMMIT, NULL);
    const size_t again = fake_hub_requests(hub, q, 64);
    for (size_t i = 0; i < again; i++)
        CHECK(c, strncmp(q[i].path, "/api/", 5) == 0 || strcmp(q[i].method, "HEAD") == 0);
    /* the name works wherever a model does, and from a cache that cannot be written to */
    fake_hub_close(hub);
    chmod(folder_in(&here, "hf/hub/" REPO "tiny", path), 0500);
    says(c, "run org/tiny -p ab -n 4 -t 1 --json", 0, "\"prompt_tokens\":2", NULL);
    says(c, "inspect org/tiny@main", 0, "safetensors", NULL);
    says(c, "inspect org/tiny@" FAKE_COMMIT " --json", 0, "\"format\":\"safetensors\"", NULL);
    says(c, "inspect org/tiny@v2", 3, NULL, "hint: nibble pull org/tiny@v2\n");
    says(c, "inspect org/other", 3, NULL, "hint: nibble pull org/other\n");
    chmod(path, 0700);
    /* a cache with a hole: the weights' blob is gone, the link is not */
    char blob[NB_BLOB_NAME], name[300];
    name_of(&files[1], blob);
    snprintf(name, sizeof name, "hf/hub/" REPO "tiny/blobs/%s", blob);
    unlink(folder_in(&here, name, path));
    says(c, "run org/tiny -p ab", 3, NULL, "hint: nibble pull org/tiny\n");
    hub = fake_hub_open(files, 7, 0);
    variable("HF_ENDPOINT", "http://127.0.0.1:%d", fake_hub_port(hub, 0));
    says(c, "pull org/tiny", 0, NULL, "model.safetensors");
    says(c, "run org/tiny -p ab -n 4 -t 1 --json", 0, "\"prompt_tokens\":2", NULL);
    end();
    for (int i = 0; i < 4; i++)
        free((void *)(uintptr_t)files[i].p);
}

static const fake_file small[] = {
    {"org/m", "config.json", "{}", 2, false, FAKE_SOUND},
    {"org/m", "model-Q4.gguf", big, sizeof big, true, FAKE_SOUND},
    {"org/m", "model-Q8.gguf", big, 4000, true, FAKE_SOUND},
};

static void patterns(check *c)
{
    begin(small, 3, 0);
    says(c, "pull org/m --include *Q4* --include config.*", 0, NULL, NULL);
    CHECK(c, there(REPO "m/snapshots/" FAKE_COMMIT "/model-Q4.gguf") &&
                 there(REPO "m/snapshots/" FAKE_COMMIT "/config.json"));
    CHECK(c, !there(REPO "m/snapshots/" FAKE_COMMIT "/model-Q8.gguf"));
    says(c, "pull org/m --include *Q5*", 3, NULL, "none of its 3 files is wanted");
    end();
}

static void dry_run(check *c)
{
    begin(small, 3, 0);
    says(c, "pull org/m --dry-run", 0, "3 files, 0.0 MB, of which", NULL);
    char path[1024];
    CHECK(c, access(folder_in(&here, "hf", path), F_OK) != 0);
    outcome o = nibble(c, "pull org/m --dry-run --json --include *.gguf", 0);
    nb_json *doc = one_object(c, o.out);
    int64_t total = 0;
    CHECK(c, doc && nb_json_int(nb_json_get(nb_json_root(doc), "bytes"), &total));
    CHECK_EQ(c, total, (int64_t)sizeof big + 4000);
    CHECK_EQ(c, doc ? nb_json_count(nb_json_get(nb_json_root(doc), "files")) : 0, 2);
    nb_json_close(doc);
    program_free(&o);
    end();
}

static void revisions(check *c)
{
    begin(small, 1, 0);
    says(c, "pull org/m@refs/pr/1", 0, NULL, NULL);
    holds(c, REPO "m/refs/refs/pr/1", FAKE_COMMIT, 40);
    says(c, "pull org/m@aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0,
         "/snapshots/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL);
    CHECK(c, !there(REPO "m/refs/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
    says(c, "pull org/m@none", 3, NULL, "org/m: 127.0.0.1");
    says(c, "pull org/none --json", 3, NULL, "does not have it (404)");
    says(c, "pull nothing", 2, NULL, "\"nothing\" is no name of the hub");
    says(c, "pull ../m", 2, NULL, "is no name of the hub");
    says(c, "pull org/m@../x", 2, NULL, "is no name of the hub");
    says(c, "pull", 2, NULL, "ORG/REPO is missing");
    end();
}

/* ---- a download that was cut ---- */

static void incomplete(const fake_file *f, size_t n, char fill)
{
    char blob[NB_BLOB_NAME], name[300], path[1024];
    static const char *const folders[] = {"hf", "hf/hub", "hf/hub/" REPO "m",
                                          "hf/hub/" REPO "m/blobs"};
    for (size_t i = 0; i < 4; i++)
        mkdir(folder_in(&here, folders[i], path), 0700);
    name_of(f, blob);
    snprintf(name, sizeof name, "hf/hub/" REPO "m/blobs/%s.nibble.incomplete", blob);
    char *p = malloc(n);
    if (!p)
        exit(1);
    memset(p, fill, n);
    folder_write(&here, name, fill ? p : f->p, n);
    free(p);
}

static void resumes(check *c)
{
    static const struct {
        fake_fault fault;
        size_t n;  /* bytes that are there already */
        char fill; /* 0: the right ones */
        int code;
        const char *err;
        long long range; /* of the first GET */
    } rows[] = {
        {FAKE_SOUND, 2500, 0, 0, NULL, 2500},
        {FAKE_SOUND, sizeof big, 0, 0, NULL, -2},       /* all of it: no request */
        {FAKE_SOUND, sizeof big + 1, 'x', 0, NULL, -1}, /* too much: from the beginning */
        {FAKE_NO_RANGE, 2500, 0, 0, NULL, 2500},
        {FAKE_NO_RANGE, 2500, 'x', 0, NULL, 2500},
        {FAKE_RANGE_REFUSED, 2500, 0, 0, NULL, 2500},
        {FAKE_RANGE_ELSEWHERE, 2500, 0, 10, "sends another part than was asked for", 2500},
        /* somebody else's bytes: the hash sees it */
        {FAKE_SOUND, 2500, 'x', 10, "is expected", 2500},
        {FAKE_CUT, 0, 0, 0, NULL, -1},
        {FAKE_CUT_NO_RANGE, 0, 0, 10, "", -1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const fake_file f = {"org/m", "model.gguf", big, sizeof big, true, rows[i].fault};
        fake_request q[64];
        begin(&f, 1, 0);
        if (rows[i].n)
            incomplete(&f, rows[i].n, rows[i].fill);
        says(c, "pull org/m", rows[i].code, NULL, rows[i].err);
        const size_t n = fake_hub_requests(hub, q, 64);
        long long range = -2;
        for (size_t k = 0; k < n && range == -2; k++)
            if (strcmp(q[k].method, "GET") == 0 && !strstr(q[k].path, "/api/"))
                range = q[k].range;
        CHECK_EQ(c, range, rows[i].range);
        if (rows[i].code == 0)
            holds(c, REPO "m/snapshots/" FAKE_COMMIT "/model.gguf", big, sizeof big);
        else
            CHECK(c, !there(REPO "m/snapshots/" FAKE_COMMIT "/model.gguf") &&
                         !there(REPO "m/refs/main"));
        end();
    }
}

/* ---- servers that fail, and worse ones ---- */

static void faults(check *c)
{
    static const struct {
        fake_fault fault;
        bool lfs;
        int code;
        const char *err;
    } rows[] = {
        {FAKE_BUSY, false, 0, NULL},
        {FAKE_RELATIVE, false, 0, NULL},
        {FAKE_DOWN, false, 10, "answers with status 503"},
        {FAKE_WAIT_LONG, false, 10, "answers with status 429"},
        {FAKE_FORBIDDEN, false, 10,
         "does not give it to this token (403, GatedRepo)\nhint: accept the terms"},
        {FAKE_GONE, false, 3, "does not have it (404)"},
        {FAKE_LONGER, true, 10, "the server sends 5007 bytes, 5000 are expected"},
        {FAKE_LONGER_CHUNKED, true, 10, "the server sends more than the 5000 bytes it announced"},
        {FAKE_LONGER, false, 10, "5007"},
        {FAKE_WRONG_BYTES, true, 10, "what came has the hash "},
        {FAKE_WRONG_BYTES, false, 10, "what came has the hash "},
        {FAKE_GZIP, true, 10, "it comes compressed, which was not asked for"},
        {FAKE_FILE_URL, true, 10, "redirects to what is no http or https address"},
        {FAKE_LOOP, false, 10, "more than 10 redirects"},
        {FAKE_ETAG_SLASH, true, 10, "is no hash"},
        {FAKE_ETAG_DOTS, false, 10, "its tag \"../../../../tmp/owned\" is no hash"},
        {FAKE_OTHER_ETAG, true, 10, "hash, size or commit differ from the listing's"},
        {FAKE_OTHER_COMMIT, false, 10, "hash, size or commit differ from the listing's"},
        {FAKE_HUGE, true, 6, "bytes are to come, the disk has room for"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const fake_file files[] = {
            {"org/m", "config.json", "{}", 2, false, FAKE_SOUND},
            {"org/m", "file.gguf", big, sizeof big, rows[i].lfs, rows[i].fault}};
        char blob[NB_BLOB_NAME], name[300];
        begin(files, 2, 0);
        says(c, "pull org/m", rows[i].code, NULL, rows[i].err);
        if (rows[i].code) {
            CHECK(c, !there(REPO "m/refs/main")); /* the ref is last */
            CHECK(c, !there(REPO "m/snapshots/" FAKE_COMMIT "/file.gguf"));
            name_of(&files[1], blob);
            snprintf(name, sizeof name, REPO "m/blobs/%s", blob);
            CHECK(c, !there(name));
            strcat(name, ".nibble.incomplete");
            if (rows[i].fault == FAKE_WRONG_BYTES || rows[i].fault == FAKE_LONGER ||
                rows[i].fault == FAKE_LONGER_CHUNKED)
                CHECK(c, !there(name)); /* nothing of it is worth keeping */
        }
        end();
    }
}

static void tokens(check *c)
{
    const fake_file f = {"org/m", "config.json", "{}", 2, false, FAKE_UNAUTHORISED};
    fake_request q[64];
    char path[1024];
    begin(&f, 1, 0);
    unsetenv("HF_TOKEN");
    says(c, "pull org/m", 10, NULL,
         "does not give it to everybody (401)\nhint: accept the terms on the model's page, then: "
         "export HF_TOKEN=...");
    size_t n = fake_hub_requests(hub, q, 64);
    for (size_t i = 0; i < n; i++)
        CHECK(c, !q[i].authorised);
    folder_write(&here, "token", TOKEN "\n", sizeof TOKEN);
    variable("HF_TOKEN_PATH", "%s", folder_in(&here, "token", path));
    says(c, "pull org/m -v", 0, NULL, NULL);
    unsetenv("HF_TOKEN_PATH");
    folder_remove(folder_in(&here, "hf", path)); /* HF_HOME/token is the last place */
    mkdir(path, 0700);
    folder_write(&here, "hf/token", TOKEN, sizeof TOKEN - 1);
    says(c, "pull org/m --json", 0, "\"commit\":\"" FAKE_COMMIT "\"", NULL);
    /* a token that could end its header is refused, and not shown */
    variable("HF_TOKEN", TOKEN "\r\nX-Evil: 1");
    says(c, "pull org/m", 2, NULL, "HF_TOKEN holds no token");
    variable("HF_TOKEN", "%0*d", 1100, 7);
    says(c, "pull org/m", 2, NULL, "HF_TOKEN holds no token");
    unsetenv("HF_TOKEN");
    variable("HF_TOKEN_PATH", "%s/none", here.path);
    says(c, "pull org/m", 2, NULL, "HF_TOKEN_PATH: ");
    end();
}

static void environment(check *c)
{
    begin(small, 1, 0);
    variable("HF_HUB_OFFLINE", "1");
    says(c, "pull org/m --json", 10, NULL, "HF_HUB_OFFLINE is set");
    unsetenv("HF_HUB_OFFLINE");
    variable("NIBBLE_LIBCURL", "%s/no-such-library.so", here.path);
    says(c, "pull org/m", 5, NULL,
         "libcurl is not installed, and only it fetches files\nhint: apt-get install libcurl4");
    says(c, "inspect %M/tiny-llama", 0, "safetensors", NULL); /* nothing else asks for it */
    unsetenv("NIBBLE_LIBCURL");
    static const char *const bad[] = {"file:///etc", "ftp://127.0.0.1",
                                      "127.0.0.1",   "http://user:" TOKEN "@127.0.0.1",
                                      "http://",     "http://127.0.0.1/?x"};
    char was[200];
    snprintf(was, sizeof was, "%s", getenv("HF_ENDPOINT"));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        variable("HF_ENDPOINT", "%s", bad[i]);
        says(c, "pull org/m", 2, NULL, "HF_ENDPOINT must be http://HOST or https://HOST");
    }
    variable("HF_ENDPOINT", "%s", was);
    variable("HF_HUB_ETAG_TIMEOUT", "soon");
    says(c, "pull org/m", 2, NULL, "HF_HUB_ETAG_TIMEOUT must be a whole number of seconds");
    unsetenv("HF_HUB_ETAG_TIMEOUT");
    variable("HF_HUB_CACHE", "%s/elsewhere", here.path);
    says(c, "pull org/m", 0, "/elsewhere/models--org--m/snapshots/", NULL);
    unsetenv("HF_HUB_CACHE");
    fake_hub_close(hub); /* nobody listens there any more */
    says(c, "pull org/m", 10, NULL, "org/m: 127.0.0.1:");
    hub = fake_hub_open(small, 1, 0);
    end();
}

static void listings(check *c)
{
    static const struct {
        const char *path, *err;
    } rows[] = {
        {"../escape.json", "could lead elsewhere"},
        {"/etc/passwd", "could lead elsewhere"},
        {"a/../../b", "could lead elsewhere"},
        {"a\\\\b", "could lead elsewhere"},
        {"", "could lead elsewhere"},
        {"a//b", "could lead elsewhere"},
        {"a/", "could lead elsewhere"},
        {".", "could lead elsewhere"},
        {"a\\u0000b", "could lead elsewhere"},
        {"\\u001b[31mred", "could lead elsewhere"},
        {"a\\u202eb", "could lead elsewhere"},
        {"config.json", "config.json is listed twice"},
        {"x\",\"oid\":\"../../x", "org/m: the listing: bad JSON"},
    };
    char long_name[300];
    for (size_t i = 0; i <= sizeof rows / sizeof *rows; i++) {
        const bool last = i == sizeof rows / sizeof *rows;
        memset(long_name, 'n', sizeof long_name);
        long_name[256] = 0;
        const fake_file files[] = {
            {"org/m", "config.json", "{}", 2, false, FAKE_SOUND},
            {"org/m", last ? long_name : rows[i].path, "x", 1, false, FAKE_SOUND}};
        begin(files, 2, 0);
        says(c, "pull org/m", 10, NULL, last ? "could lead elsewhere" : rows[i].err);
        char path[1024];
        /* nothing is written before all of it is judged */
        CHECK(c, access(folder_in(&here, "hf", path), F_OK) != 0);
        end();
    }
}

static void locks(check *c)
{
    begin(small, 2, 0);
    char blob[NB_BLOB_NAME], name[300], path[1024];
    static const char *const folders[] = {"hf", "hf/hub", "hf/hub/.locks",
                                          "hf/hub/.locks/" REPO "m"};
    for (size_t i = 0; i < 4; i++)
        mkdir(folder_in(&here, folders[i], path), 0700);
    name_of(&small[1], blob);
    snprintf(name, sizeof name, "hf/hub/.locks/" REPO "m/%s.lock", blob);
    const int fd = open(folder_in(&here, name, path), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    CHECK_EQ(c, flock(fd, LOCK_EX), 0);
    says(c, "pull org/m", 9, NULL, "model-Q4.gguf: another process fetches it");
    close(fd);
    says(c, "pull org/m", 0, NULL, NULL);
    end();
}

static void interrupts(check *c)
{
    const fake_file f = {"org/m", "config.json", "{}", 2, false, FAKE_STALL};
    fake_request q[4];
    char text[1024] = "";
    int err = -1;
    begin(&f, 1, 0);
    const pid_t pid = program_start(&here, "pull org/m", &err);
    while (fake_hub_waiting(hub) == 0) /* until it waits for the reply that never comes */
        usleep(1000);
    kill(pid, SIGINT);
    CHECK_EQ(c, program_wait(pid), 130);
    CHECK(c, read(err, text, sizeof text - 1) > 0);
    CHECK_HAS(c, text, "interrupted\nhint: the same command goes on with it: nibble pull org/m");
    close(err);
    CHECK(c, fake_hub_requests(hub, q, 4) == 2);
    end();
}

static void gguf_repository(check *c)
{
    bytes b = {0};
    put_sample_gguf(&b);
    const fake_file files[] = {{"org/g", "g-Q4_0.gguf", b.p, b.n, true, FAKE_REDIRECT},
                               {"org/g", "README.md", "#", 1, false, FAKE_SOUND},
                               {"org/h", "a.gguf", b.p, b.n, true, FAKE_SOUND},
                               {"org/h", "b.gguf", b.p, b.n, true, FAKE_SOUND}};
    begin(files, 4, 0);
    says(c, "pull org/g", 0, NULL, NULL);
    says(c, "inspect org/g", 0, "gguf", NULL);
    says(c, "pull org/h", 0, NULL, NULL);
    says(c, "inspect org/h", 5, NULL,
         "org/h: the repository holds 2 GGUF models\nhint: name the file itself, such as ");
    end();
    free(b.p);
}

static const check_case cases[] = {
    {"a model is fetched once, verified, and found by its name", a_model},
    {"--include picks files", patterns},
    {"--dry-run says what would be fetched and writes nothing", dry_run},
    {"revisions are branches, requests and commits; what is not there is not found", revisions},
    {"a download that was cut is gone on with", resumes},
    {"pl-*: a server that fails, errs or lies is believed nothing", faults},
    {"cl-secret: the token goes to the endpoint only and is never shown", tokens},
    {"variables that are wrong are named, a missing libcurl is one sentence", environment},
    {"pl-names: a listing cannot name what lies elsewhere", listings},
    {"a file that another process fetches is left to it", locks},
    {"an interrupted pull ends at once, also while nothing comes, and says how to go on",
     interrupts},
    {"a repository with one GGUF model opens by its name", gguf_repository},
};

static void no_libcurl(check *c)
{
    check_skip(c, "libcurl is not installed (libcurl4)");
}

int main(int argc, char **argv)
{
    static const check_case none[] = {{"pull", no_libcurl}};
    nb_curl curl;
    if (nb_curl_open(&curl, NULL) != NB_OK)
        return check_main(none, 1, argc, argv);
    return check_main(cases, sizeof cases / sizeof *cases, argc, argv);
}
