/* chat.c -- `nibble chat` at a terminal: turns, and lines that begin with /. The model is
 * tiny-llama with a template that shows all it is given. */
#include "cli/transcript.h"

static folder here;

#define CHAT "chat %T/talks -n 4 -t 1 "

static outcome talk(check *c, const char *line, const char *const *lines)
{
    outcome o = program_talk(&here, line, lines);
    CHECK_EQ(c, o.code, 0);
    return o;
}

/* What stands behind the n-th prompt (from 0), up to the next one. */
static const char *behind(const outcome *o, int n, char text[2048])
{
    const char *p = o->out;
    for (int i = 0; i <= n && p; i++)
        p = (p = strstr(p, "\n> ")) ? p + 3 : NULL;
    const char *end = p ? strstr(p, "\n> ") : NULL;
    snprintf(text, 2048, "%.*s", end ? (int)(end - p) : p ? (int)strlen(p) : 0, p ? p : "");
    return text;
}

/* The same without the echo of what was typed. */
static const char *answer(const outcome *o, int n, char text[2048])
{
    const char *line = strchr(behind(o, n, text), '\n');
    return line ? line + 1 : "";
}

/* Tokens that /stats shows behind the n-th prompt; -1: none. */
static int context(const outcome *o, int n)
{
    char text[2048];
    int held = -1;
    const char *p = strstr(behind(o, n, text), "context: ");
    return p && sscanf(p, "context: %d of", &held) == 1 ? held : -1;
}

static void unknown(check *c)
{
    static const char *const lines[] = {"/frobnicate now", "/stast", "/ hi",  "/stats",
                                        "/reset now",      "/save",  "/quit", NULL};
    char text[2048];
    outcome o = talk(c, CHAT, lines);
    CHECK_HAS(c, behind(&o, 0, text),
              "nibble: error: unknown command /frobnicate, nothing was sent to the model");
    CHECK_HAS(c, text, "hint: /help");
    CHECK_HAS(c, behind(&o, 1, text), "hint: did you mean /stats?");
    CHECK_HAS(c, behind(&o, 2, text), "unknown command /,");
    CHECK_EQ(c, context(&o, 3), 0); /* the model has seen nothing */
    CHECK_HAS(c, behind(&o, 4, text), "/reset stands alone");
    CHECK_HAS(c, behind(&o, 5, text), "/save needs FILE");
    program_free(&o);
}

/* A second turn reads the caches of both devices. */
static void on_two_devices(check *c)
{
    static const char *const lines[] = {"one", "two", "/stats", "/quit", NULL},
                             *const given[] = {CHAT "--exact --device ref",
                                               CHAT "--exact --device ref --offload 1",
                                               CHAT "--exact --device ref -ngl 0"};
    char want[2][2048], text[2048];
    for (int i = 0; i < 3; i++) {
        outcome o = talk(c, given[i], lines);
        for (int turn = 0; turn < 2; turn++) {
            const char *got = answer(&o, turn, text);
            CHECK(c, got[0]);
            if (i == 0)
                snprintf(want[turn], sizeof want[turn], "%s", got);
            CHECK_STR(c, got, want[turn]);
        }
        CHECK(c, context(&o, 2) > 0);
        program_free(&o);
    }
}

/* The answer would fill a context of 100,000 tokens, minutes; what came of it stays, and the
 * conversation goes on. */
static void stopped(check *c)
{
    static const char *const lines[] = {"abc", TALK_INTERRUPT, "/stats", "/quit", NULL};
    outcome o = talk(c, "chat %T/long --ctx 100000 -t 1", lines);
    CHECK(c, context(&o, 1) >= 2 + 3 + 1 + 2); /* a first token is not fed yet */
    CHECK(c, context(&o, 1) < 100000);
    program_free(&o);
}

static void help(check *c)
{
    static const char *const lines[] = {"/help", "/exit", NULL}, *const names[] = {
                                                                     "/help",  "/system", "/save",
                                                                     "/load",  "/regen",  "/stats",
                                                                     "/reset", "/clear",  "/quit"};
    char text[2048];
    outcome o = talk(c, CHAT, lines);
    behind(&o, 0, text);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_HAS(c, text, names[i]);
    program_free(&o);
}

/* Tokens are bytes here: r:...; is a message, r the first letter of its role. The session holds the
 * answer but for its last token. */
static void counts(check *c)
{
    static const char *const lines[] = {"abc",        "/stats", "/reset", "abc",    "/stats",
                                        "/system xy", "abc",    "/stats", "/clear", "//c",
                                        "/stats",     "/quit",  NULL};
    char one[2048], two[2048];
    outcome o = talk(c, CHAT, lines);
    const int held = context(&o, 1);
    CHECK_EQ(c, held, 2 + 3 + 1 + 2 + 3);
    CHECK_STR(c, answer(&o, 0, one), answer(&o, 3, two)); /* nothing of the first turn is left */
    CHECK_EQ(c, context(&o, 4), held);
    CHECK_EQ(c, context(&o, 7), held + 2 + 2 + 1);
    CHECK_EQ(c, context(&o, 10),
             held + 2 + 2 + 1 - 1); /* the system message stays, and // is one / */
    program_free(&o);
}

static void anew(check *c)
{
    static const char *const lines[] = {"/regen", "abc", "/regen", "/quit", NULL};
    char one[2048], two[2048];
    outcome o = talk(c, CHAT, lines);
    CHECK_HAS(c, behind(&o, 0, one), "there is no answer yet");
    CHECK_HAS(c, behind(&o, 2, two), "the temperature is 0");
    const char *first = answer(&o, 1, one), *again = strstr(two, "others\r\n");
    CHECK(c, *first && again && strcmp(first, again + 8) == 0);
    program_free(&o);
    o = talk(c, CHAT "--temp 1 --seed 1 ", lines + 1);
    CHECK(c, *answer(&o, 0, one) && *answer(&o, 1, two));
    CHECK(c, strcmp(answer(&o, 0, one), answer(&o, 1, two)) != 0);
    program_free(&o);
}

static void saved(check *c)
{
    char save[600], load[600], text[2048], path[1024];
    snprintf(save, sizeof save, "/save %s/saved.json", here.path);
    snprintf(load, sizeof load, "/load %s/saved.json", here.path);
    const char *const lines[] = {"a\"b},{c", save, "go on", "/clear", load,
                                 "go on",    save, "/quit", NULL},
                      *const again[] = {load, "/clear", "x", "/stats", "/quit", NULL};
    char one[2048], two[2048];
    outcome o = talk(c, CHAT "--system S ", lines);
    CHECK_HAS(c, behind(&o, 1, text), "saved");
    CHECK_STR(c, answer(&o, 5, one),
              answer(&o, 2, two)); /* the same answer to the same conversation */
    program_free(&o);
    o = program_run(&here, "template %T/talks -f %T/saved.json", OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_HAS(c, o.out, "s:S;u:a\"b},{c;a:");
    CHECK_HAS(c, o.out, "u:go on;a:");
    program_free(&o);
    o = talk(c, CHAT, again);
    CHECK_EQ(c, context(&o, 3),
             4 + 4 + 2 + 3); /* of a loaded conversation the system message stays as well */
    program_free(&o);
    size_t n = 0;
    char *p = folder_bytes(&here, "saved.json", &n);
    CHECK(c, n > 20 && memcmp(p, "{\"messages\":[\n{\"role\":\"system\"", 30) == 0 &&
                 p[n - 1] == '\n');
    free(p);
    CHECK(c, access(folder_in(&here, "saved.json", path), R_OK) == 0);
}

static void files(check *c)
{
    static const struct {
        const char *name, *text, *sentence;
    } rows[] = {
        {"empty.json", "", "no conversation that /save wrote"},
        {"other.json", "{\"messages\":[]}", "no conversation that /save wrote"},
        {"cut.json", "{\"messages\":[\n{\"role\":\"user\",\"content\":\"a",
         "no conversation that /save wrote"},
        {"broken.json", "{\"messages\":[\n{\"role\":\"user\",\n]}\n", "the conversation: "},
        {"owns.json", "{\"messages\":[\n],\"chat_template\":\"{{ 1 }}\",\"x\":[\n]}\n",
         "brings no template of its own"},
        {"none", NULL, "cannot open: No such file or directory"},
    };
    char line[8][600], text[2048], path[1024];
    const char *lines[12] = {"abc", "/stats"};
    int n = 2;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (rows[i].text)
            folder_write(&here, rows[i].name, rows[i].text, strlen(rows[i].text));
        snprintf(line[i], sizeof line[i], "/load %.400s/%s", here.path, rows[i].name);
        lines[n++] = line[i];
    }
    snprintf(line[6], sizeof line[6], "/save %.400s/empty.json", here.path);
    snprintf(line[7], sizeof line[7], "/save %.400s/no/c.json", here.path);
    lines[n++] = line[6];
    lines[n++] = line[7];
    lines[n++] = "/quit";
    outcome o = talk(c, CHAT, lines);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_HAS(c, behind(&o, (int)i + 2, text), "nibble: error: ");
        CHECK_HAS(c, text, rows[i].sentence);
    }
    CHECK_HAS(c, behind(&o, 8, text), "exists and is no saved conversation");
    CHECK_HAS(c, behind(&o, 9, text), "cannot create it");
    struct stat sb;
    CHECK(c, stat(folder_in(&here, "empty.json", path), &sb) == 0 && sb.st_size == 0);
    program_free(&o);
}

/* tiny-llama with the template; in `name` of the folder. */
static void make_model(const char *name)
{
    static const char jinja[] = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor "
                                "%}{% if add_generation_prompt %}a:{% endif %}";
    static const char *const parts[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char path[1024], from[1024], to[1024];
    mkdir(folder_in(&here, name, path), 0700);
    snprintf(to, sizeof to, "%s/chat_template.jinja", name);
    folder_write(&here, to, jinja, sizeof jinja - 1);
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(to, sizeof to, "%.700s/%.100s/%s", here.path, name, parts[i]);
        if (access(from, F_OK) == 0 && link(from, to) != 0 && symlink(from, to) != 0)
            exit(1);
    }
}

/* talks, and long: the same with a context that takes minutes to fill. */
static void make_folder(void)
{
    static const char was[] = "\"max_position_embeddings\": 512",
                      is[] = "\"max_position_embeddings\": 131072";
    char path[1024], config[4096];
    size_t n = 0;
    here = folder_new();
    make_model("talks");
    make_model("long");
    char *text = folder_bytes(&here, "long/config.json", &n), *at = strstr(text, was);
    if (!at || unlink(folder_in(&here, "long/config.json", path)) != 0) /* a link so far */
        exit(1);
    const int made = snprintf(config, sizeof config, "%.*s%s%s", (int)(at - text), text, is,
                              at + sizeof was - 1);
    folder_write(&here, "long/config.json", config, (size_t)made);
    free(text);
}

int main(int argc, char **argv)
{
    static const check_case cases[] = {
        {"turns with layers on the CPU answer the same", on_two_devices},
        {"Ctrl-C stops an answer, not the conversation", stopped},
        {"an unknown /command is answered with a sentence and not sent to the model", unknown},
        {"/help lists the commands", help},
        {"/reset, /clear and /system begin anew, // is a message", counts},
        {"/regen answers anew, with another seed", anew},
        {"a saved conversation comes back, and is what `nibble template` reads", saved},
        {"a file that is no conversation is refused, and nothing but a conversation is replaced",
         files},
    };
    if (!program_has_terminals()) {
        printf("skipped: no terminal to be had here\n");
        return 77;
    }
    setenv("TERM", "dumb", 1);
    make_folder();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
