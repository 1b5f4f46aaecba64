/* verify.c -- nb_checkpoint_verify of a GGUF file against its manifest: no byte of it is anybody's
 * guess. */
#include "check.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "tiny_gguf.h"

static folder here;
static char path[1024]; /* of out.gguf */

/* NB_OK, or how the file is refused; what the sentence says. */
static nb_status look(nb_error *err)
{
    nb_checkpoint *k = NULL;
    bool manifest = false;
    *err = (nb_error){.offset = -1};
    nb_status st = nb_checkpoint_open(path, &k, err);
    if (st == NB_OK)
        st = nb_checkpoint_verify(k, &manifest, err);
    nb_checkpoint_close(k);
    return st;
}

/* 8 rows of k and v in blocks of 32: 144 bytes each, so that there is padding between tensors. */
static void make(void)
{
    static const tiny_shape shape = {
        .n_layer = 1, .hidden = 32, .ffn = 32, .n_head = 4, .n_kv_head = 1, .ctx = 32};
    char model[1024];
    nb_quantize_result r;
    nb_error err = {.offset = -1};
    here = folder_new();
    tiny_gguf_in(&here, "tiny.gguf", &shape);
    const nb_quantize_options o = {.model = folder_in(&here, "tiny.gguf", model),
                                   .out = folder_in(&here, "out.gguf", path),
                                   .method = "rtn",
                                   .device = "cpu",
                                   .n_thread = 1};
    if (nb_quantize(&o, &r, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    nb_quantize_result_free(&r);
}

static void change(size_t at, char to)
{
    FILE *f = fopen(path, "r+b");
    if (!f || fseek(f, (long)at, SEEK_SET) != 0 || fputc(to, f) == EOF || fclose(f) != 0)
        exit(1);
}

static void every_byte(check *c)
{
    size_t n = 0;
    int in_head = 0, in_padding = 0;
    nb_error err;
    CHECK_EQ(c, look(&err), NB_OK);
    CHECK_STR(c, err.message, "");
    char *p = folder_bytes(&here, "out.gguf", &n);
    CHECK(c, n > 4096);
    /* the first kilobyte: keys with numbers and texts; 5 and the alignment of 32 have no factor in
     * common */
    for (size_t at = 0; at < n; at += at < 1024 ? 1 : 5) {
        change(at, (char)(p[at] ^ 1));
        const nb_status st = look(&err);
        /* what cannot be read at all is refused before */
        if (st != NB_NEGATIVE && st != NB_BAD_INPUT && st != NB_UNSUPPORTED)
            check_report(c, __FILE__, __LINE__, "byte %zu changed: status %d, \"%s\"", at, (int)st,
                         err.message);
        CHECK_HAS(c, err.message, "out.gguf");
        change(at, p[at]);
        in_head += st == NB_NEGATIVE && strstr(err.message, "its head, the ") != NULL;
        in_padding +=
            st == NB_NEGATIVE && strstr(err.message, "the padding behind tensor ") != NULL;
    }
    CHECK(c, in_head > 500); /* a text, a float, an id: it reads as well as before */
    CHECK(c, in_padding > 2);
    CHECK_EQ(c, look(&err), NB_OK);
    free(p);
}

static void other_lengths(check *c)
{
    size_t n = 0;
    char want[64];
    nb_error err;
    char *p = folder_bytes(&here, "out.gguf", &n);
    p[n] = 0; /* folder_bytes has room for 4 MiB */
    folder_write(&here, "out.gguf", p, n + 1);
    CHECK_EQ(c, look(&err), NB_NEGATIVE);
    snprintf(want, sizeof want, "has %zu bytes, the manifest says %zu", n + 1, n);
    CHECK_HAS(c, err.message, want);
    folder_write(&here, "out.gguf", p, n - 1);
    CHECK_EQ(c, look(&err), NB_BAD_INPUT);
    CHECK_HAS(c, err.message, "out.gguf");
    folder_write(&here, "out.gguf", p, n);
    CHECK_EQ(c, look(&err), NB_OK);
    free(p);
}

/* `word` of the manifest becomes `instead`. */
static void with_manifest(check *c, const char *word, const char *instead, nb_status want,
                          const char *sentence)
{
    size_t n = 0;
    nb_error err;
    char *p = folder_bytes(&here, "out.gguf.manifest.json", &n), *at = strstr(p, word);
    CHECK(c, at != NULL);
    if (at) {
        char *q = calloc(1, n + 64);
        const int m =
            q ? snprintf(q, n + 64, "%.*s%s%s", (int)(at - p), p, instead, at + strlen(word)) : 0;
        folder_write(&here, "out.gguf.manifest.json", q, (size_t)m);
        free(q);
        CHECK_EQ(c, look(&err), want);
        CHECK_HAS(c, err.message, sentence);
        folder_write(&here, "out.gguf.manifest.json", p, n);
    }
    free(p);
}

static void other_manifests(check *c)
{
    with_manifest(c, "\"head\":{\"bytes\":", "\"head\":{\"bytes\":1", NB_NEGATIVE,
                  "its tensors begin at byte ");
    with_manifest(c, "\"head\":{\"bytes\":", "\"head\":{\"bytes\":-", NB_NEGATIVE,
                  "its tensors begin at byte ");
    with_manifest(c, "\"head\":{\"bytes\":", "\"head\":{\"byte\":", NB_BAD_INPUT,
                  "manifest.json: no manifest: a head without bytes and sha256");
    with_manifest(c, "\"head\":", "\"heat\":", NB_BAD_INPUT, "no manifest: it has no head");
}

static const check_case cases[] = {
    {"one byte changed anywhere in a GGUF file is found", every_byte},
    {"so is one byte too many or too few", other_lengths},
    {"a manifest that does not say what it must is refused", other_manifests},
};

int main(int argc, char **argv)
{
    make();
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
