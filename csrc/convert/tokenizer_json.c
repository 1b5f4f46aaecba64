/* tokenizer_json.c -- tokenizer.json and tokenizer_config.json for a GGUF file's tokenizer, as the
 * hub's `tokenizers` reads them.
 *
 * Every token is in model.vocab under its id, so that ids need no order; control and user-defined
 * tokens are listed once more under added_tokens, which are looked for in the raw text before
 * anything else. Trailing unused tokens, with which GGUF fills the embedding's rows, are left out.
 *
 * A vocabulary joined by scores (SentencePiece) becomes merges: every way to make a token of two
 * tokens, in order of the token's score. Its reader joins the best score first, and the leftmost of
 * equals, so it does the same where no two scores are equal. */
#include "convert/tokenizer_out.h"
#include "text/vocab.h"

#include <stdlib.h>
#include <string.h>

static void put_token(nb_text *j, const nb_tokenizer *t, int32_t id)
{
    nb_text_json(j, t->token[id].p, t->token[id].n);
}

static bool is_added(const nb_tokenizer *t, int32_t id)
{
    const uint8_t type = t->type[id];
    return t->token[id].n &&
           (type == NB_TOKEN_CONTROL || type == NB_TOKEN_UNKNOWN || type == NB_TOKEN_USER);
}

/* The number of tokens without the unused ones at the end. */
static int32_t used_tokens(const nb_tokenizer *t)
{
    int32_t n = t->n;
    while (n > 0 && t->type[n - 1] == NB_TOKEN_UNUSED)
        n--;
    return n;
}

static void put_added(nb_text *j, const nb_tokenizer *t)
{
    const char *comma = "";
    nb_text_puts(j, "  \"added_tokens\": [");
    for (int32_t id = 0; id < t->n; id++) {
        if (!is_added(t, id))
            continue;
        nb_text_printf(j, "%s\n    {\"id\": %d, \"content\": ", comma, id);
        put_token(j, t, id);
        nb_text_printf(j,
                       ", \"single_word\": false, \"lstrip\": %s, \"rstrip\": %s, \"normalized\": "
                       "false, \"special\": %s}",
                       t->strip[id] & NB_STRIP_LEFT ? "true" : "false",
                       t->strip[id] & NB_STRIP_RIGHT ? "true" : "false",
                       t->type[id] == NB_TOKEN_USER ? "false" : "true");
        comma = ",";
    }
    nb_text_puts(j, "\n  ],\n");
}

/* ---- the stages ---- */

/* The steps of a GGUF tokenizer are none, or those of SentencePiece: a mark before the text, spaces
 * as marks. */
static void put_normalizer(nb_text *j, const nb_tokenizer *t)
{
    const char *comma = "";
    if (!t->n_step) {
        nb_text_puts(j, "  \"normalizer\": null,\n");
        return;
    }
    nb_text_puts(j, "  \"normalizer\": {\"type\": \"Sequence\", \"normalizers\": [");
    for (int i = 0; i < t->n_step; i++) {
        const nb_step *s = &t->step[i];
        nb_text_puts(j, comma);
        if (s->kind == NB_STEP_PREPEND) {
            nb_text_puts(j, "{\"type\": \"Prepend\", \"prepend\": ");
        } else {
            nb_text_puts(j, "{\"type\": \"Replace\", \"pattern\": {\"String\": ");
            nb_text_json(j, s->from.p, s->from.n);
            nb_text_puts(j, "}, \"content\": ");
        }
        nb_text_json(j, s->to.p, s->to.n);
        nb_text_puts(j, "}");
        comma = ", ";
    }
    nb_text_puts(j, "]},\n");
}

static void put_cuts(nb_text *j, const nb_tokenizer *t)
{
    if (!t->byte_level && !t->n_cut) {
        nb_text_puts(j, "  \"pre_tokenizer\": null,\n");
        return;
    }
    const char *comma = "";
    nb_text_puts(j, "  \"pre_tokenizer\": {\"type\": \"Sequence\", \"pretokenizers\": [");
    for (int k = 0; k < t->n_cut; k++) {
        nb_text_printf(j, "%s\n    {\"type\": \"Split\", \"pattern\": {\"Regex\": ", comma);
        nb_text_json(j, t->cut[k].source.p, t->cut[k].source.n);
        nb_text_printf(j, "}, \"behavior\": \"%s\", \"invert\": %s}",
                       t->cut[k].drops_rest ? "Removed" : "Isolated",
                       t->cut[k].drops_rest ? "true" : "false");
        comma = ",";
    }
    if (t->byte_level)
        nb_text_printf(j,
                       "%s\n    {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                       "\"trim_offsets\": true, \"use_regex\": false}",
                       comma);
    nb_text_puts(j, "\n  ]},\n");
}

/* A token of the frame, of the first or the second text. */
static void put_framed(nb_text *j, const nb_tokenizer *t, int32_t id, int type_id)
{
    nb_text_puts(j, "{\"SpecialToken\": {\"id\": ");
    put_token(j, t, id);
    nb_text_printf(j, ", \"type_id\": %d}}", type_id);
}

static void put_framed_text(nb_text *j, const nb_tokenizer *t, char name, int type_id)
{
    if (t->adds_bos) {
        put_framed(j, t, t->bos, type_id);
        nb_text_puts(j, ", ");
    }
    nb_text_printf(j, "{\"Sequence\": {\"id\": \"%c\", \"type_id\": %d}}", name, type_id);
    if (t->adds_eos) {
        nb_text_puts(j, ", ");
        put_framed(j, t, t->eos, type_id);
    }
}

static void put_frame_token(nb_text *j, const nb_tokenizer *t, int32_t id)
{
    put_token(j, t, id);
    nb_text_puts(j, ": {\"id\": ");
    put_token(j, t, id);
    nb_text_printf(j, ", \"ids\": [%d], \"tokens\": [", id);
    put_token(j, t, id);
    nb_text_puts(j, "]}");
}

static void put_frame(nb_text *j, const nb_tokenizer *t)
{
    if (!t->adds_bos && !t->adds_eos) {
        nb_text_puts(
            j, t->byte_level
                   ? "  \"post_processor\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                     "\"trim_offsets\": false, \"use_regex\": true},\n"
                   : "  \"post_processor\": null,\n");
        return;
    }
    nb_text_puts(j, "  \"post_processor\": {\"type\": \"TemplateProcessing\", \"single\": [");
    put_framed_text(j, t, 'A', 0);
    nb_text_puts(j, "], \"pair\": [");
    put_framed_text(j, t, 'A', 0);
    nb_text_puts(j, ", ");
    put_framed_text(j, t, 'B', 1);
    nb_text_puts(j, "], \"special_tokens\": {");
    if (t->adds_bos)
        put_frame_token(j, t, t->bos);
    if (t->adds_eos && !(t->adds_bos && t->bos == t->eos)) {
        nb_text_puts(j, t->adds_bos ? ", " : "");
        put_frame_token(j, t, t->eos);
    }
    nb_text_puts(j, "}},\n");
}

static void put_decoder(nb_text *j, const nb_tokenizer *t)
{
    if (t->byte_level) {
        nb_text_puts(j, "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
                        "\"trim_offsets\": true, \"use_regex\": true},\n");
        return;
    }
    nb_text_puts(j, "  \"decoder\": {\"type\": \"Sequence\", \"decoders\": [{\"type\": "
                    "\"Replace\", \"pattern\": {\"String\": \"" NB_SPACE_MARK
                    "\"}, \"content\": \" \"}, {\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}");
    if (t->drops_space)
        nb_text_puts(j, ", {\"type\": \"Strip\", \"content\": \" \", \"start\": 1, \"stop\": 0}");
    nb_text_puts(j, "]},\n");
}

/* ---- the model ---- */

static nb_status put_vocab(nb_text *j, const nb_container *c, const nb_tokenizer *t, nb_error *err)
{
    const int32_t n = used_tokens(t);
    const char *comma = "";
    nb_text_puts(j, "    \"vocab\": {");
    for (int32_t id = 0; id < n; id++) {
        const nb_str s = t->token[id];
        const int32_t first = s.n ? nb_vocab_find(t, s.p, s.n) : id;
        if (!s.n)
            continue; /* a gap */
        if (first >= 0 && first != id)
            return nb_fail_at(
                err, NB_UNSUPPORTED, c->path, -1,
                "its tokens %d and %d are spelled alike, which tokenizer.json has no words for",
                first, id);
        nb_text_printf(j, "%s\n      ", comma);
        nb_text_json(j, s.p, s.n);
        nb_text_printf(j, ": %d", id);
        comma = ",";
    }
    nb_text_puts(j, "\n    },\n");
    return NB_OK;
}

struct made { /* a way to make a token of two */
    float score;
    int32_t left, right, id;
    uint32_t cut;
};

static int best_first(const void *pa, const void *pb)
{
    const struct made *a = pa, *b = pb;
    if (a->score > b->score || a->score < b->score)
        return a->score > b->score ? -1 : 1;
    if (a->id != b->id)
        return a->id < b->id ? -1 : 1;
    return (a->cut < b->cut) - (a->cut > b->cut); /* the longest left part first */
}

static nb_status merges_of_scores(const nb_tokenizer *t, struct made **out, size_t *n,
                                  nb_error *err)
{
    size_t cap = 0;
    for (int32_t id = 0; id < t->n; id++)
        cap += t->type[id] == NB_TOKEN_NORMAL ? t->token[id].n : 0;
    struct made *m = *out = nb_alloc(cap, sizeof *m, "merges", err);
    *n = 0;
    if (!m)
        return NB_NO_ROOM;
    for (int32_t id = 0; id < t->n; id++) {
        const nb_str s = t->token[id];
        for (size_t i = 1; i < s.n && t->type[id] == NB_TOKEN_NORMAL; i++) {
            if (((unsigned char)s.p[i] & 0xc0) == 0x80)
                continue; /* inside a character */
            const int32_t left = nb_vocab_find(t, s.p, i),
                          right = nb_vocab_find(t, s.p + i, s.n - i);
            if (left >= 0 && right >= 0)
                m[(*n)++] = (struct made){t->score[id], left, right, id, (uint32_t)i};
        }
    }
    qsort(m, *n, sizeof *m, best_first);
    return NB_OK;
}

static void put_merge(nb_text *j, const nb_tokenizer *t, int32_t left, int32_t right,
                      const char *comma)
{
    nb_text_printf(j, "%s\n      [", comma);
    put_token(j, t, left);
    nb_text_puts(j, ", ");
    put_token(j, t, right);
    nb_text_puts(j, "]");
}

static nb_status put_merges(nb_text *j, const nb_tokenizer *t, nb_arena *a, nb_error *err)
{
    nb_merge *m = NULL;
    struct made *made = NULL;
    size_t n = 0;
    const nb_status st =
        t->by_score ? merges_of_scores(t, &made, &n, err) : nb_vocab_merges(t, a, &m, &n, err);
    nb_text_puts(j, "    \"merges\": [");
    for (size_t i = 0; i < n && st == NB_OK; i++)
        put_merge(j, t, made ? made[i].left : m[i].left, made ? made[i].right : m[i].right,
                  i ? "," : "");
    nb_text_puts(j, "\n    ]\n");
    free(made);
    return st;
}

static nb_status put_model(nb_text *j, const nb_container *c, const nb_tokenizer *t, nb_arena *a,
                           nb_error *err)
{
    bool bytes = false;
    for (int32_t id = 0; id < t->n; id++)
        bytes = bytes || t->type[id] == NB_TOKEN_BYTE;
    nb_text_puts(j, "  \"model\": {\n    \"type\": \"BPE\", \"dropout\": null, \"unk_token\": ");
    if (t->unknown >= 0 && !t->byte_level)
        put_token(j, t, t->unknown);
    else
        nb_text_puts(j, "null");
    nb_text_printf(j,
                   ", \"continuing_subword_prefix\": null, \"end_of_word_suffix\": null,\n    "
                   "\"fuse_unk\": %s, \"byte_fallback\": %s, "
                   "\"ignore_merges\": %s,\n",
                   t->fuse_unknown ? "true" : "false", bytes ? "true" : "false",
                   t->whole_first ? "true" : "false");
    nb_status st = put_vocab(j, c, t, err);
    if (st == NB_OK)
        st = put_merges(j, t, a, err);
    nb_text_puts(j, "  }\n");
    return st;
}

/* ---- tokenizer_config.json ---- */

static void put_named(nb_text *j, const nb_tokenizer *t, const char *key, int32_t id)
{
    if (id < 0 || !t->token[id].n)
        return;
    nb_text_printf(j, "  \"%s\": ", key);
    put_token(j, t, id);
    nb_text_puts(j, ",\n");
}

static void put_config(nb_text *j, const nb_tokenizer *t)
{
    nb_text_puts(j, "{\n");
    nb_text_printf(j, "  \"add_bos_token\": %s,\n  \"add_eos_token\": %s,\n",
                   t->adds_bos ? "true" : "false", t->adds_eos ? "true" : "false");
    put_named(j, t, "bos_token", t->bos);
    put_named(j, t, "eos_token", t->eos);
    put_named(j, t, "unk_token", t->byte_level ? -1 : t->unknown);
    put_named(j, t, "pad_token", t->padding);
    if (t->chat_template) {
        nb_text_puts(j, "  \"chat_template\": ");
        nb_text_json(j, t->chat_template, t->chat_template_n);
        nb_text_puts(j, ",\n");
    }
    nb_text_puts(j, "  \"clean_up_tokenization_spaces\": false,\n  \"tokenizer_class\": "
                    "\"PreTrainedTokenizerFast\"\n}\n");
}

nb_status nb_tokenizer_to_json(const nb_container *src, nb_text *json, nb_text *config,
                               nb_error *err)
{
    nb_tokenizer *t = NULL;
    nb_status st = nb_tokenizer_open(src, &t, err);
    if (st != NB_OK)
        return st;
    nb_arena *a = nb_arena_open("a tokenizer", err);
    st = a ? NB_OK : NB_NO_ROOM;
    nb_text_puts(json,
                 "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n");
    put_added(json, t);
    put_normalizer(json, t);
    put_cuts(json, t);
    put_frame(json, t);
    put_decoder(json, t);
    if (st == NB_OK)
        st = put_model(json, src, t, a, err);
    nb_text_puts(json, "}\n");
    put_config(config, t);
    if (st == NB_OK)
        st = nb_text_check(json, "tokenizer.json", err);
    if (st == NB_OK)
        st = nb_text_check(config, "tokenizer_config.json", err);
    nb_arena_close(a);
    nb_tokenizer_close(t);
    return st;
}
