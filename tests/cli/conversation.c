/* conversation.c -- `nibble template` with values that no template takes: the sentence names the
 * file, the message and the key. */
#include "cli/transcript.h"

static folder here;

static const struct {
    const char *what, *json, *sentence;
} rows[] = {
    {"a role that is a number",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":7,\"content\":\"b\"}]}",
     "c.json: messages[1].role is a number, it must be a text (chat template: "},
    {"a role that is missing", "{\"messages\":[{\"content\":\"a\"}]}",
     "c.json: messages[0] has no \"role\", which must be a text (chat template: "},
    {"a content that is missing",
     "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"user\"}]}",
     "c.json: messages[1] has no \"content\""},
    {"a content that is a number", "{\"messages\":[{\"role\":\"user\",\"content\":5}]}",
     "messages[0].content is a number, it must be a text or a list of parts"},
    {"a content that is null", "{\"messages\":[{\"role\":\"user\",\"content\":null}]}",
     "messages[0].content is null, it must be"},
    {"a content of texts", "{\"messages\":[{\"role\":\"user\",\"content\":[\"a\"]}]}",
     "messages[0].content[0] is a text, it must be an object"},
    {"a part without a type", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"a\"}]}]}",
     "messages[0].content[0] has no \"type\""},
    {"a message that is a text", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},\"b\"]}",
     "c.json: messages[1] is a text, it must be an object"},
    {"tools that are no list", "{\"messages\":[{\"role\":7}],\"tools\":{}}",
     "c.json: tools is an object, it must be a list"},
    {"a call that is a number",
     "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"tool_calls\":[1]},{\"role\":1}]}",
     "messages[0].tool_calls[0] is a number, it must be an object"},
    {"a fault of the template's own",
     "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]}",
     "strict: chat template: "},
    {"a content that may be missing: the template is to blame",
     "{\"messages\":[{\"role\":\"assistant\",\"tool_calls\":[{}]}]}", "strict: chat template: "},
};

static void refused(check *c)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const transcript row = {rows[i].what,     "template %T/strict -f %T/c.json --json",
                                NB_BAD_INPUT,     NULL,
                                rows[i].sentence, OUT_CAPTURED};
        const int before = c->n_fail;
        folder_write(&here, "c.json", rows[i].json, strlen(rows[i].json));
        check_transcript(c, &here, &row);
        if (c->n_fail != before)
            check_report(c, __FILE__, __LINE__, "%s", rows[i].what);
    }
}

/* The offset in the error is the value's. */
static void offset(check *c)
{
    static const char json[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":7,\"content\":\"b\"}]}";
    char want[32];
    folder_write(&here, "c.json", json, sizeof json - 1);
    outcome o = program_run(&here, "template %T/strict -f %T/c.json --json", OUT_CAPTURED);
    snprintf(want, sizeof want, "\"offset\":%d,", (int)(strchr(json, '7') - json));
    CHECK_HAS(c, o.out, want);
    program_free(&o);
}

static void nested(check *c)
{
    char json[512] = "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}],\"x\":";
    for (int i = 0; i < 70; i++)
        strcat(json, "[");
    strcat(json, "1");
    for (int i = 0; i < 70; i++)
        strcat(json, "]");
    strcat(json, "}");
    folder_write(&here, "c.json", json, strlen(json));
    outcome o = program_run(&here, "template %T/strict -f %T/c.json", OUT_CAPTURED);
    CHECK_EQ(c, o.code, NB_BAD_INPUT);
    CHECK_HAS(c, o.err, "c.json: the conversation is nested deeper than 64 levels");
    program_free(&o);
}

static const check_case cases[] = {
    {"a value that no template takes is named, with its message and key", refused},
    {"and with its place in the file", offset},
    {"a conversation nested too deep is named, not the template", nested},
};

int main(int argc, char **argv)
{
    static const char jinja[] =
        "{{ x }}{% for m in messages %}{{ '<' + m.role + '>' + m.content }}{% endfor %}";
    static const char *const parts[] = {"config.json", "model.safetensors", "tokenizer.json",
                                        "tokenizer_config.json"};
    char from[1024], to[1024];
    here = folder_new();
    mkdir(folder_in(&here, "strict", to), 0700);
    folder_write(&here, "strict/chat_template.jinja", jinja, sizeof jinja - 1);
    for (int i = 0; i < 4; i++) {
        snprintf(from, sizeof from, "%s/tests/data/models/tiny-llama/%s", NB_SOURCE_DIR, parts[i]);
        snprintf(to, sizeof to, "%.700s/strict/%s", here.path, parts[i]);
        if (access(from, F_OK) == 0 && link(from, to) != 0 && symlink(from, to) != 0)
            exit(1);
    }
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
