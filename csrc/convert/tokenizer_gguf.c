/* tokenizer_gguf.c -- the keys tokenizer.ggml.* for a tokenizer of the hub (GGUF specification of
 * ggml; what llama.cpp does with them).
 *
 * Byte-level BPE is model "gpt2": the merges, and for the cuts a name in tokenizer.ggml.pre.
 * Whether a piece that is a token becomes it before any merge goes with the name; where there is
 * only the other name, it is checked that the merges alone make every token of itself, so that it
 * does not matter.
 *
 * SentencePiece-style BPE is model "llama": no merges but scores, and whatever two neighbours spell
 * a token may be joined, the best score first. Scores say the same as the merges of tokenizer.json
 * when (1) every way to make a token of two is a merge and (2) no two tokens' merges interleave;
 * then minus the number of tokens before it is a token's score. Both are checked.
 *
 * Where they do not hold, or lines are cut from rows of line feeds, it is model "gemma4": merges of
 * marked text, cut at lines, with no space put before the text. */
#include "convert/tokenizer_out.h"
#include "text/vocab.h"

#include <stdio.h>
#include <string.h>

#define KEY(name) "tokenizer.ggml." name

static nb_status refuse(const nb_container *c, const char *why, nb_error *err)
{
    return nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                      "its tokenizer cannot be written to GGUF: %s", why);
}

struct merges { /* in order of rank */
    nb_merge *m;
    size_t n;
};

/* ---- scores for merges ---- */

/* May text be joined to this token, as a reader by score sees it? */
static bool joins(const nb_tokenizer *t, int32_t id)
{
    return t->token[id].n && (t->type[id] == NB_TOKEN_NORMAL || t->type[id] == NB_TOKEN_USER);
}

/* (1): every cut of a token into two tokens is a merge. A user-defined token is cut out of the text
 * before anything is joined. */
static bool all_cuts_merge(const nb_tokenizer *t, int32_t id)
{
    const nb_str s = t->token[id];
    for (size_t i = 1; i < s.n; i++) {
        if (((unsigned char)s.p[i] & 0xc0) == 0x80)
            continue; /* inside a character */
        const int32_t left = nb_vocab_find(t, s.p, i), right = nb_vocab_find(t, s.p + i, s.n - i);
        if (left >= 0 && right >= 0 && joins(t, left) && joins(t, right) &&
            !nb_vocab_merge(t, left, right))
            return false;
    }
    return true;
}

/* NULL, or why there are none. */
static const char *scores_of_merges(const nb_tokenizer *t, const struct merges *ms, float *score)
{
    int32_t n_made = 0;
    for (int32_t id = 0; id < t->n; id++) {
        score[id] = 0;
        if (t->type[id] == NB_TOKEN_NORMAL && !all_cuts_merge(t, id))
            return "some tokens can be made in more ways than its merges say, which scores cannot "
                   "tell";
    }
    for (size_t i = 0; i < ms->n; i++) {
        const int32_t id = ms->m[i].id;
        const bool again = i && ms->m[i - 1].id == id;
        if (!again && score[id] < 0)
            return "its merges make one token at several ranks, which scores cannot tell";
        if (!again)
            score[id] = -(float)++n_made; /* exact: below 2^24 */
    }
    /* characters: nothing joins to them, they come last as in SentencePiece's own lists */
    for (int32_t id = 0; id < t->n; id++)
        if (t->type[id] == NB_TOKEN_NORMAL && score[id] >= 0)
            score[id] = -(float)(n_made + 1);
    return NULL;
}

/* ---- what GGUF has words for ---- */

static bool is_text(nb_str s, const char *text)
{
    return s.n == strlen(text) && memcmp(s.p, text, s.n) == 0;
}

/* SentencePiece-style: spaces as U+2581, perhaps one before the text. */
static nb_status check_spaces(const nb_container *c, const nb_tokenizer *t, bool *prefix,
                              nb_error *err)
{
    bool marks = false;
    *prefix = t->space_first;
    for (int32_t id = 0; id < t->n && t->space_first; id++)
        if (t->type[id] == NB_TOKEN_USER && t->token[id].p[0] == ' ')
            return refuse(c, "user-defined tokens that take in the space before the text", err);
    for (int i = 0; i < t->n_step; i++) {
        const nb_step *s = &t->step[i];
        if (s->kind == NB_STEP_PREPEND && is_text(s->to, NB_SPACE_MARK) && !*prefix)
            *prefix = true;
        else if (s->kind == NB_STEP_REPLACE && is_text(s->from, " ") &&
                 is_text(s->to, NB_SPACE_MARK) && !marks)
            marks = true;
        else
            return refuse(c, "its normalizer does more than writing spaces as U+2581", err);
    }
    return marks ? NB_OK : refuse(c, "its spaces are not written as U+2581", err);
}

/* Has a token line feeds beside other characters? */
static bool crosses_lines(const nb_tokenizer *t)
{
    for (int32_t id = 0; id < t->n; id++) {
        size_t n = 0;
        if (t->type[id] != NB_TOKEN_NORMAL)
            continue;
        for (size_t i = 0; i < t->token[id].n; i++)
            n += t->token[id].p[i] == '\n';
        if (n && n < t->token[id].n)
            return true;
    }
    return false;
}

/* Chooses between scores and merges of marked text; fills score for the first. */
static nb_status choose_marked(const nb_container *c, const nb_tokenizer *t,
                               const struct merges *ms, bool prefix, float *score, bool *by_merges,
                               nb_error *err)
{
    const bool lines = t->n_cut == 1 && is_text(t->cut[0].source, nb_pretokenize_lines);
    const bool cuts = t->n_cut && !t->cuts_at_mark && !lines;
    const char *why = cuts ? "text is cut where its tokens would go on" : NULL;
    *by_merges = lines;
    if (!why && !lines && t->by_score)
        memcpy(score, t->score, (size_t)t->n * sizeof *score);
    else if (!why && !lines)
        why = scores_of_merges(t, ms, score);
    if (why && !cuts && !prefix && !crosses_lines(t)) {
        *by_merges = true;
        why = NULL;
    }
    if (*by_merges && prefix)
        why = "it cuts text at lines and puts a space before it";
    return why ? refuse(c, why, err) : NB_OK;
}

/* Do the merges alone make every token of itself? */
static nb_status merges_make_all(const nb_tokenizer *t, bool *yes, nb_error *err)
{
    nb_tokenizer without = *t; /* borrows everything */
    nb_bpe scratch = {0};
    nb_ids v = {0};
    nb_status st = NB_OK;
    *yes = true;
    without.whole_first = false;
    for (int32_t id = 0; id < t->n && *yes && st == NB_OK; id++) {
        if (t->type[id] != NB_TOKEN_NORMAL)
            continue;
        v.n = 0;
        st = nb_bpe_encode(&without, &scratch, t->piece[id].p, t->piece[id].n, &v, err);
        *yes = v.n == 1 && v.p[0] == id;
    }
    nb_bpe_close(&scratch);
    nb_ids_free(&v);
    return st;
}

static nb_status find_name(const nb_container *c, const nb_tokenizer *t, size_t n_merge,
                           const char **name, nb_error *err)
{
    nb_status st = NB_OK;
    bool same = false;
    for (int i = 0; i < t->n_step; i++)
        if (t->step[i].kind != NB_STEP_FORM || t->step[i].form != nb_form_c)
            return refuse(c, "its normalizer changes the text", err);
    if (!n_merge && !t->whole_first) { /* bytes alone: nothing is joined, so cuts change nothing */
        *name = "gpt-2";
        return NB_OK;
    }
    *name = nb_pretokenize_name(t, t->whole_first);
    if (!*name && (*name = nb_pretokenize_name(t, !t->whole_first))) {
        st = merges_make_all(t, &same, err);
        if (st == NB_OK && !same)
            return refuse(c,
                          "tokens that the merges do not make, and no pre-tokenizer's name that "
                          "lets them be found whole",
                          err);
    }
    if (st == NB_OK && !*name)
        return refuse(c, "no name of tokenizer.ggml.pre stands for its pre-tokenizer", err);
    return st;
}

/* ---- writing ---- */

struct out {
    const nb_container *c;
    const nb_tokenizer *t;
    nb_gguf_writer *w;
    nb_arena *a;
    int32_t n; /* tokens written: with the padding */
};

static int32_t padded_size(const struct out *o)
{
    int64_t n = 0;
    const nb_json_node *root = o->c->config ? nb_json_root(o->c->config) : NULL;
    if (!nb_json_int(nb_json_get(root, "vocab_size"), &n))
        (void)nb_json_int(nb_json_get(nb_json_get(root, "text_config"), "vocab_size"), &n);
    return n > o->t->n && n <= NB_MAX_TOKENS ? (int32_t)n : o->t->n;
}

/* A spelling for an id without a token that no token has. */
static nb_status padding_name(const struct out *o, int32_t id, nb_str *out, nb_error *err)
{
    char text[48] = "[PAD";
    int n = snprintf(text, sizeof text, "[PAD%d]", id);
    /* a bracket more: soon nobody's */
    while (nb_vocab_find(o->t, text, (size_t)n) >= 0 && n < 40) {
        text[n++] = ']';
        text[n] = 0;
    }
    out->n = (size_t)n;
    out->p = nb_arena_strdup(o->a, text, (size_t)n, err);
    return out->p ? NB_OK : NB_NO_ROOM;
}

static nb_status put_tokens(const struct out *o, nb_error *err)
{
    const nb_tokenizer *t = o->t;
    const size_t n = (size_t)o->n;
    nb_str *token = nb_arena_alloc(o->a, n, sizeof *token, err);
    int32_t *type = nb_arena_alloc(o->a, n, sizeof *type, err);
    nb_status st = token && type ? NB_OK : NB_NO_ROOM;
    for (int32_t id = 0; id < o->n && st == NB_OK; id++) {
        const bool there = id < t->n && t->token[id].n;
        type[id] = there ? t->type[id] : NB_TOKEN_UNUSED;
        if (there && id == t->unknown && !t->byte_level)
            type[id] = NB_TOKEN_UNKNOWN;
        if (there)
            token[id] = t->token[id];
        else
            st = padding_name(o, id, &token[id], err);
    }
    if (st == NB_OK)
        st = nb_gguf_writer_strings(o->w, KEY("tokens"), token, n, err);
    return st == NB_OK ? nb_gguf_writer_i32s(o->w, KEY("token_type"), type, n, err) : st;
}

static nb_status put_merges(const struct out *o, const struct merges *ms, nb_error *err)
{
    const nb_str *token = o->t->token;
    nb_str *line = nb_arena_alloc(o->a, ms->n, sizeof *line, err);
    size_t bytes = 0;
    for (size_t i = 0; i < ms->n; i++)
        /* tokens of one file, each in few merges: no wrap */
        bytes += token[ms->m[i].left].n + token[ms->m[i].right].n + 1;
    char *p = nb_arena_alloc(o->a, bytes + 1, 1, err);
    if (!line || !p)
        return NB_NO_ROOM;
    for (size_t i = 0; i < ms->n; i++) {
        const nb_str l = token[ms->m[i].left], r = token[ms->m[i].right];
        line[i] = (nb_str){p, l.n + 1 + r.n};
        memcpy(p, l.p, l.n);
        p[l.n] = ' ';
        memcpy(p + l.n + 1, r.p, r.n);
        p += line[i].n;
    }
    return nb_gguf_writer_strings(o->w, KEY("merges"), line, ms->n, err);
}

/* The first token but EOS that ends a turn. */
static int32_t end_of_turn(const nb_tokenizer *t)
{
    for (int32_t id = 0; id < t->n; id++)
        if (t->is_end[id] && id != t->eos)
            return id;
    return -1;
}

static nb_status put_ids(const struct out *o, nb_error *err)
{
    const nb_tokenizer *t = o->t;
    const struct {
        const char *key;
        int32_t id;
    } rows[] = {{KEY("bos_token_id"), t->bos},
                {KEY("eos_token_id"), t->eos},
                {KEY("unknown_token_id"), t->unknown},
                {KEY("padding_token_id"), t->padding},
                {KEY("eot_token_id"), end_of_turn(t)}};
    nb_status st = NB_OK;
    for (size_t i = 0; i < sizeof rows / sizeof *rows && st == NB_OK; i++)
        if (rows[i].id >= 0)
            st = nb_gguf_writer_u32(o->w, rows[i].key, (uint32_t)rows[i].id, err);
    if (st == NB_OK)
        st = nb_gguf_writer_bool(o->w, KEY("add_bos_token"), t->adds_bos, err);
    if (st == NB_OK)
        st = nb_gguf_writer_bool(o->w, KEY("add_eos_token"), t->adds_eos, err);
    if (st == NB_OK && t->chat_template)
        st = nb_gguf_writer_string(o->w, "tokenizer.chat_template", t->chat_template,
                                   t->chat_template_n, err);
    return st;
}

static nb_status put_all(struct out *o, nb_error *err)
{
    const nb_tokenizer *t = o->t;
    struct merges ms = {0};
    const char *model = "gpt2", *pre = "default";
    bool prefix = false, by_merges = true;
    o->n = padded_size(o);
    float *score = nb_arena_alloc(o->a, (size_t)o->n, sizeof *score, err);
    nb_status st = score ? nb_vocab_merges(t, o->a, &ms.m, &ms.n, err) : NB_NO_ROOM;
    if (st == NB_OK && t->unigram)
        st = refuse(o->c, "a unigram model, which no decoder's GGUF file has", err);
    for (int32_t id = 0; id < o->n && st == NB_OK; id++)
        score[id] = 0;
    if (st == NB_OK)
        st = t->byte_level ? find_name(o->c, t, ms.n, &pre, err)
                           : check_spaces(o->c, t, &prefix, err);
    if (st == NB_OK && !t->byte_level) {
        st = choose_marked(o->c, t, &ms, prefix, score, &by_merges, err);
        model = by_merges ? "gemma4" : "llama";
        pre = by_merges ? "gemma4" : "default";
    }
    if (st == NB_OK)
        st = nb_gguf_writer_string(o->w, KEY("model"), model, strlen(model), err);
    if (st == NB_OK)
        st = nb_gguf_writer_string(o->w, KEY("pre"), pre, strlen(pre), err);
    if (st == NB_OK)
        st = put_tokens(o, err);
    if (st == NB_OK)
        st = by_merges ? put_merges(o, &ms, err)
                       : nb_gguf_writer_f32s(o->w, KEY("scores"), score, (size_t)o->n, err);
    if (st == NB_OK && !t->byte_level)
        st = nb_gguf_writer_bool(o->w, KEY("add_space_prefix"), prefix, err);
    return st == NB_OK ? put_ids(o, err) : st;
}

nb_status nb_tokenizer_to_gguf(const nb_container *src, nb_gguf_writer *w, nb_error *err)
{
    nb_tokenizer *t = NULL;
    nb_status st = nb_tokenizer_open(src, &t, err);
    if (st != NB_OK)
        return st;
    struct out o = {.c = src, .t = t, .w = w, .a = nb_arena_open("a tokenizer", err)};
    st = o.a ? put_all(&o, err) : NB_NO_ROOM;
    nb_arena_close(o.a);
    nb_tokenizer_close(t);
    return st;
}
