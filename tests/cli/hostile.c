#define _GNU_SOURCE /* memmem */
/* hostile.c -- prompts, arguments and terminals that are meant to hurt (hardening.md CL), and
 * secrets that must stay where they are. */
#include "cli/transcript.h"
#include "hostile/bytes.h"
#include "tiny_gguf.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <time.h>

static folder here;

#define TINY "%T/tiny.gguf"
#define SECRET "hf_thisIsASecretThatNobodyMaySee"

static const transcript rows[] = {
    /* 126: a text of more than 2^31 bytes */
    {"cl-huge: a prompt of 2 GiB is refused unread", "run " TINY " -f %T/huge.txt", 4, NULL,
     "huge.txt: a text of more than 67108864 bytes", 0},
    {"cl-huge: a text to tokenize", "tokenize " TINY " -f %T/huge.txt --json", 4, NULL,
     "huge.txt: a text of more than 67108864 bytes", 0},
    {"cl-huge: a text to measure on", "eval " TINY " -f %T/huge.txt", 4, NULL,
     "huge.txt: a text of more than 67108864 bytes", 0},
    {"cl-huge: a conversation", "template %M/tiny-llama -f %T/huge.txt", 4, NULL,
     "huge.txt: a text of more than 67108864 bytes", 0},
    /* 127, 128 */
    {"cl-nul: NUL in a text is data", "tokenize %M/tiny-llama -f %T/nul.txt", 0, "97 0 98\n", NULL,
     0},
    {"cl-utf8: broken UTF-8 is replaced, with a warning", "tokenize %M/tiny-llama -f %T/broken.txt",
     0, "97 239 191 189 98\n",
     "warning: the text is no UTF-8 at 1 bytes, the first at offset 1; U+FFFD stands for them\n",
     0},
    {"cl-utf8: a quiet run does not warn", "tokenize %M/tiny-llama -f %T/broken.txt -q", 0,
     "97 239 191 189 98\n", NULL, 0},
    {"cl-utf8: a prompt", "run %M/tiny-llama --raw -f %T/broken.txt -n 1 -t 1 --json", 0,
     "\"prompt_tokens\":5", "warning: the prompt is no UTF-8 at 1 bytes", 0},
    {"cl-utf8: half a surrogate", "tokenize %M/tiny-llama -f %T/surrogate.txt", 0, "239 191 189",
     "no UTF-8 at 3 bytes", 0},
    /* 130 */
    {"cl-argv: a command of 100000 letters", "%A", 2, NULL, "unknown command AAAAAAAA", 0},
    {"cl-argv: a model of 100000 letters", "run %A -p a", 7, NULL,
     "cannot open: File name too long", 0},
    {"cl-argv: a number of 100000 letters", "run " TINY " --ids 1 -n %A --json", 2, NULL,
     "--max-tokens AAAA", 0},
    {"cl-argv: a prompt of 100000 letters has its place or a sentence",
     "run " TINY " --raw -p %A -n 1 -t 1", 6, NULL, "context", 0},
    {"cl-argv: ids of 100000 letters", "run " TINY " --ids %A", 2, NULL, "is no list of token ids",
     0},
    {"cl-argv: an output of 100000 letters", "quantize " TINY " --method rtn -o %A", 7, NULL,
     "a path of more than", 0},
    {"cl-argv: a number with a space before it", "run " TINY " --ids 1 -n \v5", 2, NULL,
     "--max-tokens \\x0b5: it must be a whole number", 0},
    {"cl-argv: a number in hexadecimal", "run " TINY " --ids 1 -n 0x5", 2, NULL,
     "--max-tokens 0x5: it must be", 0},
    {"cl-argv: a number with a sign", "run " TINY " --ids 1 -n +5", 2, NULL,
     "--max-tokens +5: it must be", 0},
    {"cl-argv: -2 tokens", "run " TINY " --ids 1 -n -2", 2, NULL, "--max-tokens -2: it must be", 0},
    {"cl-argv: 2^31 tokens", "run " TINY " --ids 1 -n 2147483648", 2, NULL,
     "it must be a whole number from -1 to 2147483647", 0},
    {"cl-argv: infinite temperature", "run " TINY " --ids 1 --temp 1e999", 2, NULL,
     "--temp 1e999: it must be", 0},
    /* 48, 91, 103, 117 */
    {"gg-beyond-file: a file that is cut is not quantized",
     "quantize %T/cut.gguf -o %T/o.gguf --method rtn", 4, NULL, "cut.gguf: ", 0},
    {"gg-beyond-file: nor converted", "convert %T/cut.gguf -o %T/o", 4, NULL, "cut.gguf: ", 0},
    {"jt-request: a conversation cannot bring its own template",
     "template %T/talks -f %T/owns.json --json", 4, NULL,
     "a conversation brings no template of its own", 0},
    {"jt-special: a control token in a message is text",
     "template %T/talks -f %T/special.json --ids", 0, "60 117 62 60 47 115 62 60 47 117 62\n", NULL,
     0},
    {"fs-plan: a model that needs more memory than is allowed",
     "quantize " TINY " -o %T/o.gguf --calib %T/long.txt --samples 2 -c 64 -t 1 --memory 100K", 6,
     NULL, "MiB of memory are needed", 0},
    {"cf-auto-map: code of a tokenizer is not run either", "tokenize %T/coded -p a --json", 5, NULL,
     "tokenizer_config.json: auto_map asks for the publisher's own code, tok--x.T, which is never "
     "run",
     0},
    {"cf-auto-map: such a folder can still be looked into", "inspect %T/coded", 0,
     "architecture     LlamaForCausalLM\n", NULL, 0},
    /* 131, 132: in arguments and errors */
    {"cl-escape: a value", "quantize " TINY " -o %T/o.gguf --clip \x1b[31m", 2, NULL,
     "--clip \\x1b[31m: none, mse", 0},
    {"cl-escape: a grid", "quantize " TINY " -o %T/o.gguf --grid \x1b]52;c;YQ==\a", 2, NULL,
     "\\x1b]52;c;YQ==\\x07", 0},
    {"cl-escape: a method with a turn of direction",
     "quantize " TINY " -o %T/o.gguf --method \xe2\x80\xae"
     "x --json",
     2, NULL, "\\u202e", 0},
    {"cl-escape: a flag with a C1 character",
     "run " TINY " --\xc2\x9b"
     "31m",
     2, NULL, "\\u009b31m", 0},
    {"cl-escape: a format that is no UTF-8", "convert " TINY " -o %T/o.gguf --format \xff\xfe", 2,
     NULL, "\\xff\\xfe", 0},
    {"cl-escape: an output in a folder with a bell in its name",
     "quantize " TINY " -o %T/\a/o.gguf --method rtn", 3, NULL, "\\x07/o.gguf", 0},
    {"cl-escape: an input with an escape sequence in its name",
     "convert %T/\x1b[2J.gguf -o %T/o.gguf", 3, NULL, "\\x1b[2J.gguf", 0},
};

static void row_case(check *c)
{
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].sentence == c->sentence)
            check_transcript(c, &here, &rows[i]);
    clock_gettime(CLOCK_MONOTONIC, &end);
    /* a guard against reading on, not a measurement: a busy machine is slower than any budget */
    if (end.tv_sec - start.tv_sec > 20)
        check_report(c, __FILE__, __LINE__, "took %ld s", (long)(end.tv_sec - start.tv_sec));
}

/* ---- what a terminal must not get ---- */

static bool harmless(const char *s)
{
    for (; *s; s++)
        if (((unsigned char)*s < ' ' && !strchr("\r\n\t", *s)) || *s == 0x7f ||
            (*s == '\xc2' && (unsigned char)s[1] < 0xa0) ||
            /* U+202A to U+202E */
            (*s == '\xe2' && s[1] == '\x80' && (unsigned char)s[2] >= 0xaa &&
             (unsigned char)s[2] <= 0xae) ||
            /* U+2066 to U+2069 */
            (*s == '\xe2' && s[1] == '\x81' && (unsigned char)s[2] >= 0xa6 &&
             (unsigned char)s[2] <= 0xa9))
            return false;
    return true;
}

static void on_terminal(check *c, const char *line, int code, const char *shown)
{
    if (!program_has_terminals()) {
        printf("      no terminal to be had here\n");
        return;
    }
    outcome o = program_run(&here, line, OUT_TTY);
    CHECK_EQ(c, o.code, code);
    CHECK_HAS(c, o.out, shown);
    if (!harmless(o.out))
        check_report(c, __FILE__, __LINE__, "nibble %s sends control characters to the terminal",
                     line);
    program_free(&o);
}

static void metadata(check *c)
{
    on_terminal(c, "inspect %T/meta.gguf", 0, "\\u001b]0;owned\\u0007");
    on_terminal(c, "inspect %T/meta.gguf", 0, "\\u009b31m\\u202e");
    on_terminal(c, "inspect %T/meta.gguf --json", 0, "\\u009b31m\\u202e");
    outcome o = program_run(&here, "inspect %T/meta.gguf --json", OUT_CAPTURED);
    nb_json *doc = one_object(c, o.out);
    const char *s = NULL;
    size_t n = 0;
    CHECK(c, nb_json_string(nb_json_get(nb_json_get(nb_json_root(doc), "metadata"), "general.name"),
                            &s, &n));
    /* the same value */
    CHECK(c, s && n == 24 &&
                 memcmp(s,
                        "\x1b]0;owned\a\xc2\x9b"
                        "31m\xe2\x80\xaexyz\x7f\t!",
                        n) == 0);
    nb_json_close(doc);
    program_free(&o);
    on_terminal(c, "inspect %T/tensor.gguf --tensors", 4,
                "is unprintable: \"a\\x1b[31m\\u009b31m\\u202eb\"");
    on_terminal(c, "inspect %T/key.gguf", 4, "is unprintable: \"k\\u0085\\u2066\"");
    on_terminal(c, "inspect %T/bidi\xe2\x80\xae.gguf --json", 4, "bidi\\u202e.gguf: ");
    on_terminal(c, "quantize " TINY " -o %T/\xc2\x9b/o.gguf --method rtn", 3, "\\u009b/o.gguf");
    on_terminal(c, "run " TINY " --ids 1 --lora \xe2\x81\xa6", 5, "--lora is not there yet");
    on_terminal(c, "run " TINY " --ids 1 -\xc2\x9b", 2, "unknown flag -\\u009b");
    /* a scheme that nobody knows, a value that is no UTF-8 */
    on_terminal(c, "inspect %T/talks/config.json", 4, "neither GGUF nor safetensors");
    on_terminal(c, "inspect %T/scheme", 0, "scheme           x\"\\x1b]0;y\\x07");
    on_terminal(c, "inspect %T/scheme --json", 0, "\"scheme\":\"x\\\"\\u001b]0;y\\u0007\"");
    o = program_run(&here, "inspect %T/raw.gguf --json", OUT_CAPTURED);
    doc = one_object(c, o.out);
    CHECK(c, nb_json_string(nb_json_get(nb_json_get(nb_json_root(doc), "metadata"), "general.name"),
                            &s, &n));
    CHECK(c, s && n == 5 &&
                 memcmp(s,
                        "a\xef\xbf\xbd"
                        "b",
                        n) == 0);
    nb_json_close(doc);
    program_free(&o);
}

/* The first generated token of the model is spelled with an escape sequence. */
static void model_text(check *c)
{
    static const char run[] = "run %T/speaks.gguf --ids 1,70,80 -n 4 -t 1";
    on_terminal(c, run, 0, "\\x1b");
    outcome o = program_run(&here, run, OUT_CAPTURED);
    CHECK_HAS(c, o.out, "\x1b"); /* into a pipe byte for byte */
    program_free(&o);
}

static void rendered_template(check *c)
{
    static const char line[] = "template %T/talks -f %T/talk.json";
    on_terminal(c, line, 0, "<u>\\x1b[31m\\u202e</u>");
    outcome o = program_run(&here, line, OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_STR(c, o.out, "<u>\x1b[31m\xe2\x80\xae</u>");
    program_free(&o);
}

/* ---- a folder that cannot be written to ---- */

static void read_only(check *c)
{
    char path[1024];
    mkdir(folder_in(&here, "ro", path), 0500);
    const bool root = geteuid() == 0; /* who may write anywhere but on such a file system */
    if (root && mount("tmpfs", path, "tmpfs", MS_RDONLY, "size=1m") != 0) {
        check_skip(c, "a read-only file system cannot be mounted here; tests/fault/disk refuses to "
                      "open for everyone");
        return;
    }
    static const char *const lines[] = {
        "quantize " TINY " -o %T/ro/o.gguf --method rtn -q",
        "quantize " TINY " -o %T/ro/o --format gptq --method rtn -q",
        "convert " TINY " -o %T/ro/o -q", "convert " TINY " -o %T/ro/o.gguf -q"};
    /* at once: nothing was computed or written, which the first sentence shows */
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        outcome o = program_run(&here, lines[i], OUT_CAPTURED);
        CHECK_EQ(c, o.code, 7);
        CHECK_HAS(c, o.err, "cannot create it");
        CHECK_STR(c, o.out, "");
        program_free(&o);
    }
    if (root)
        CHECK_EQ(c, umount(path), 0);
}

/* ---- secrets ---- */

static void no_secret_in(check *c, const char *path)
{
    char in[1024];
    DIR *dir = opendir(path);
    if (dir) {
        for (const struct dirent *e; (e = readdir(dir));)
            if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 &&
                snprintf(in, sizeof in, "%.700s/%s", path, e->d_name) > 0)
                no_secret_in(c, in);
        closedir(dir);
        return;
    }
    FILE *f = fopen(path, "rb");
    char text[8192];
    size_t n, keep = 0;
    while (f && (n = fread(text + keep, 1, sizeof text - keep, f)) > 0) {
        n += keep;
        if (memmem(text, n, SECRET, sizeof SECRET - 1))
            check_report(c, __FILE__, __LINE__, "%s holds the token", path);
        keep = n < sizeof SECRET ? n : sizeof SECRET;
        memmove(text, text + n - keep, keep);
    }
    if (f)
        fclose(f);
}

static void secrets(check *c)
{
    static const char *const lines[] = {
        "doctor --json",
        "inspect " TINY " --json",
        "run " TINY " --ids 1,70 -n 2 -t 1 -v --json",
        "run org/name -p a --json",
        "quantize " TINY
        " -o %T/secret/q.gguf --method rtn --report %T/secret/r.html -t 1 -v --json",
        "quantize " TINY " -o %T/secret/g --format gptq --method rtn -t 1 -v --json",
        "convert " TINY " -o %T/secret/folder -t 1 --json",
        "quantize " TINY " -o %T/secret/d.gguf --dry-run --json",
        "man"};
    char path[1024];
    mkdir(folder_in(&here, "secret", path), 0700);
    setenv("HF_TOKEN", SECRET, 1);
    setenv("NIBBLE_CRASH_AT", "after-append:1", 1); /* its journal stays */
    outcome o = program_run(&here, "quantize " TINY " -o %T/secret/k.gguf --method rtn -t 1 -q",
                            OUT_CAPTURED);
    CHECK_EQ(c, o.code, 128 + 9);
    program_free(&o);
    unsetenv("NIBBLE_CRASH_AT");
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        o = program_run(&here, lines[i], OUT_CAPTURED);
        CHECK(c, o.code == 0 || o.code == 3);
        c->n_check++;
        if (strstr(o.out, SECRET) || strstr(o.err, SECRET))
            check_report(c, __FILE__, __LINE__, "nibble %s shows the token", lines[i]);
        program_free(&o);
    }
    unsetenv("HF_TOKEN");
    no_secret_in(c, folder_in(&here, "secret", path));
    CHECK(c, access(folder_in(&here, "secret/k.gguf.nibble/journal", path), F_OK) == 0);
}

/* ---- the folder ---- */

static char *whole(const char *name, size_t *n)
{
    char path[1024];
    FILE *f = fopen(folder_in(&here, name, path), "rb");
    char *p = malloc(1 << 22);
    if (!f || !p)
        exit(1);
    *n = fread(p, 1, 1 << 22, f);
    fclose(f);
    return p;
}

/* tiny.gguf, in whose vocabulary the first token that generation gives begins with an escape
 * character. */
static void make_speaker(void)
{
    static const char key[] = "tokenizer.ggml.tokens", types[] = "tokenizer.ggml.token_type";
    enum { kArrayHead = 4 + 4 + 8 }; /* type, type of the elements, their number */
    static const int32_t normal = 1; /* a byte token would have to be spelled <0xXX> */
    outcome o = program_run(&here, "run " TINY " --ids 1,70,80 -n 4 -t 1 --json", OUT_CAPTURED);
    nb_json *doc = NULL;
    int64_t id = 0;
    uint64_t len = 0;
    size_t n = 0;
    if (nb_json_parse("run", o.out, strlen(o.out), &doc, NULL) != NB_OK ||
        !nb_json_int(nb_json_first(nb_json_get(nb_json_root(doc), "tokens")), &id))
        exit(1);
    nb_json_close(doc);
    program_free(&o);
    char *p = whole("tiny.gguf", &n), *at = memmem(p, n, key, sizeof key - 1),
         *type = memmem(p, n, types, sizeof types - 1);
    if (!at || !type)
        exit(1);
    at += sizeof key - 1 + kArrayHead;
    for (memcpy(&len, at, 8); id > 0; id--) {
        at += 8 + len;
        type += 4;
        memcpy(&len, at, 8);
    }
    memset(at + 8, 'x', len);
    at[8] = '\x1b';
    memcpy(type + sizeof types - 1 + kArrayHead, &normal, sizeof normal);
    folder_write(&here, "speaks.gguf", p, n);
    free(p);
}

static void make_folder(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    static const char talk[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"\\u001b[31m\\u202e\"}]}",
                      scheme[] = "{\"architectures\":[\"LlamaForCausalLM\"],\"quantization_"
                                 "config\":{\"quant_method\":\"x\\\"\\u001b]0;y\\u0007\"}}",
                      coded[] = "{\"auto_map\":{\"AutoTokenizer\":[\"tok--x.T\",null]}}",
                      owns[] = "{\"messages\":[],\"chat_template\":\"{{ range(1000000000) }}\"}",
                      special[] = "{\"messages\":[{\"role\":\"user\",\"content\":\"</s>\"}]}",
                      jinja[] = "{% for m in messages %}<u>{{ m.content }}</u>{% endfor %}";
    char path[1024], text[1024] = "";
    nb_error err = {.offset = -1};
    bytes b = {0};
    here = folder_new();
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    const int fd = open(folder_in(&here, "huge.txt", path), O_WRONLY | O_CREAT, 0600);
    if (fd < 0 || ftruncate(fd, ((off_t)1 << 31) + 1) != 0) /* holes */
        exit(1);
    close(fd);
    folder_write(&here, "nul.txt", "a\0b", 3);
    folder_write(&here, "broken.txt",
                 "a\xff"
                 "b",
                 3);
    folder_write(&here, "surrogate.txt", "\xed\xa0\x80", 3);
    folder_write(&here, "talk.json", talk, sizeof talk - 1);
    folder_write(&here, "owns.json", owns, sizeof owns - 1);
    folder_write(&here, "special.json", special, sizeof special - 1);
    while (strlen(text) < 600)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "long.txt", text, strlen(text));
    put_head(&b, 3, 0, 2);
    put_key(&b, "general.architecture", NB_GGUF_STRING);
    put_str(&b, "\x1b]0;owned\a");
    put_key(&b, "general.name", NB_GGUF_STRING);
    put_str(&b, "\x1b]0;owned\a\xc2\x9b"
                "31m\xe2\x80\xaexyz\x7f\t!");
    put_pad(&b, 32);
    folder_write(&here, "meta.gguf", b.p, b.n);
    free(b.p);
    b = (bytes){0};
    put_head(&b, 3, 0, 1);
    put_key(&b, "general.name", NB_GGUF_STRING);
    put_str(&b, "a\xff"
                "b");
    put_pad(&b, 32);
    folder_write(&here, "raw.gguf", b.p, b.n);
    free(b.p);
    static const uint64_t one[] = {1};
    b = (bytes){0};
    put_head(&b, 3, 1, 0);
    put_info(&b,
             "a\x1b[31m\xc2\x9b"
             "31m\xe2\x80\xae"
             "b",
             1, one, 0, 0);
    put_pad(&b, 32);
    put_zeros(&b, 32);
    folder_write(&here, "tensor.gguf", b.p, b.n);
    free(b.p);
    b = (bytes){0};
    put_head(&b, 3, 0, 1);
    put_key_u32(&b, "k\xc2\x85\xe2\x81\xa6", 1);
    put_pad(&b, 32);
    folder_write(&here, "key.gguf", b.p, b.n);
    folder_write(&here, "bidi\xe2\x80\xae.gguf", "GGUF", 4);
    free(b.p);
    mkdir(folder_in(&here, "scheme", path), 0700);
    folder_write(&here, "scheme/config.json", scheme, sizeof scheme - 1);
    b = (bytes){0};
    put_safetensors(&b, "{}", 2, 0);
    folder_write(&here, "scheme/model.safetensors", b.p, b.n);
    free(b.p);
    mkdir(folder_in(&here, "talks", path), 0700);
    folder_write(&here, "talks/chat_template.jinja", jinja, sizeof jinja - 1);
    static const char *const parts[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    for (int i = 0; i < 4; i++) {
        char from[1024], to[1024];
        snprintf(from, sizeof from, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(to, sizeof to, "%.700s/talks/%s", here.path, parts[i]);
        if (access(from, F_OK) == 0 && link(from, to) != 0 && symlink(from, to) != 0)
            exit(1);
    }
    mkdir(folder_in(&here, "coded", path), 0700);
    for (int i = 0; i < 3; i++) {
        char from[1024], to[1024];
        snprintf(from, sizeof from, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(to, sizeof to, "%.700s/coded/%s", here.path, parts[i]);
        if (link(from, to) != 0 && symlink(from, to) != 0)
            exit(1);
    }
    folder_write(&here, "coded/tokenizer_config.json", coded, sizeof coded - 1);
    make_speaker();
    size_t n = 0;
    char *p = whole("tiny.gguf", &n);
    folder_write(&here, "cut.gguf", p, n - 100);
    free(p);
}

int main(int argc, char **argv)
{
    enum { kRows = sizeof rows / sizeof *rows };
    static const check_case more[] = {
        {"cl-escape-meta: what a file says of itself is shown escaped, and as JSON it is the same "
         "value",
         metadata},
        {"cl-escape-model: what a model says is shown escaped on a terminal and unchanged in a "
         "pipe",
         model_text},
        {"cl-escape-template: so is a rendered template", rendered_template},
        {"fs-readonly: a folder that cannot be written to is seen before the work", read_only},
        {"cl-secret: the hub's token is in no output and in no file", secrets},
    };
    enum { kMore = sizeof more / sizeof *more };
    check_case cases[kRows + kMore];
    for (int i = 0; i < kRows; i++)
        cases[i] = (check_case){rows[i].sentence, row_case};
    memcpy(cases + kRows, more, sizeof more);
    make_folder();
    const int rc = check_main(cases, kRows + kMore, argc, argv);
    folder_gone(&here);
    return rc;
}
