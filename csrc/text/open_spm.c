/* open_spm.c -- a tokenizer from SentencePiece's tokenizer.model (sentencepiece_model.proto: a
 * ModelProto of pieces, trainer_spec, normalizer_spec), for folders without tokenizer.json.
 *
 * Protocol buffers: a field is a varint (number * 8 + wire type), then a varint (0), 8 bytes (1), a
 * length and bytes (2) or 4 bytes (5). Fields that are not read are passed over. A varint has at
 * most 10 bytes, a length ends inside the message, groups and number 0 are refused. Cost: one pass,
 * 50 bytes a piece. */
#include "base/scalar.h"
#include "text/vocab.h"

#include <math.h>
#include <string.h>

enum { kVarint = 0, kEight = 1, kBytes = 2, kFour = 5, kVarintBytes = 10 };
enum { kUnigram = 1, kBpe = 2 }; /* TrainerSpec.ModelType */

struct message {
    const char *path;
    const uint8_t *file; /* whole: offsets count from here */
    const uint8_t *p, *end;
};

struct field {
    uint32_t number;
    int type;
    uint64_t value;   /* kVarint */
    const uint8_t *p; /* kBytes, kFour, kEight */
    size_t n;
};

static nb_status bad(const struct message *m, const char *what, nb_error *err)
{
    return nb_fail_at(err, NB_BAD_INPUT, m->path, m->p - m->file, "tokenizer.model: %s", what);
}

static nb_status varint(struct message *m, uint64_t *out, nb_error *err)
{
    *out = 0;
    for (int i = 0; i < kVarintBytes; i++) {
        if (m->p == m->end)
            return bad(m, "it ends inside a number", err);
        const uint8_t b = *m->p;
        if (i == kVarintBytes - 1 && b > 1)
            break; /* beyond 64 bits */
        m->p++;
        *out |= (uint64_t)(b & 0x7f) << 7 * i;
        if (!(b & 0x80))
            return NB_OK;
    }
    return bad(m, "a number of more than 64 bits", err);
}

static nb_status next_field(struct message *m, struct field *f, nb_error *err)
{
    uint64_t key = 0, n = 0;
    nb_status st = varint(m, &key, err);
    if (st != NB_OK)
        return st;
    if (key >> 3 == 0 || key >> 3 > UINT32_MAX >> 3)
        return bad(m, "a field with number 0 or beyond 2^29", err);
    *f = (struct field){.number = (uint32_t)(key >> 3), .type = (int)(key & 7)};
    if (f->type == kVarint)
        return varint(m, &f->value, err);
    if (f->type == kBytes)
        st = varint(m, &n, err);
    else if (f->type == kEight || f->type == kFour)
        n = f->type == kEight ? 8 : 4;
    else
        st = bad(m, "a field of an unknown wire type (groups are not supported)", err);
    if (st == NB_OK && n > (size_t)(m->end - m->p))
        st = bad(m, "a field that is longer than what is left", err);
    if (st != NB_OK)
        return st;
    f->p = m->p;
    f->n = (size_t)n;
    m->p += n;
    return NB_OK;
}

static struct message inside(const struct message *m, const struct field *f)
{
    return (struct message){m->path, m->file, f->p, f->p + f->n};
}

/* ---- the messages ---- */

/* what of trainer_spec and normalizer_spec matters, with the defaults of the .proto */
struct spec {
    uint64_t model_type;
    int32_t unk, bos, eos, pad;
    bool byte_fallback, suffix_spaces;
    bool dummy_prefix, squeezes, escapes;
    nb_str charsmap;
};

static nb_status read_piece(nb_tokenizer *t, struct message m, int32_t id, nb_error *err)
{
    struct field f;
    nb_status st = NB_OK;
    t->type[id] = NB_TOKEN_NORMAL;
    while (m.p < m.end && st == NB_OK) {
        st = next_field(&m, &f, err);
        if (st != NB_OK)
            break;
        if (f.number == 1 && f.type == kBytes)
            t->token[id] = (nb_str){(const char *)f.p, f.n};
        else if (f.number == 2 && f.type == kFour)
            memcpy(&t->score[id], f.p, sizeof t->score[id]);
        else if (f.number == 3 && f.type == kVarint &&
                 (f.value < NB_TOKEN_NORMAL || f.value > NB_TOKEN_BYTE))
            st = bad(&m, "a piece of an unknown type", err);
        else if (f.number == 3 && f.type == kVarint)
            t->type[id] = (uint8_t)f.value;
    }
    if (st == NB_OK && !isfinite(t->score[id]))
        st = bad(&m, "the score of a piece is not finite", err);
    if (st == NB_OK && !t->token[id].n)
        st = bad(&m, "a piece without text", err);
    return st;
}

static nb_status read_trainer(struct message m, struct spec *s, nb_error *err)
{
    struct field f;
    nb_status st = NB_OK;
    while (m.p < m.end && st == NB_OK) {
        st = next_field(&m, &f, err);
        if (st != NB_OK || f.type != kVarint)
            continue;
        s->model_type = f.number == 3 ? f.value : s->model_type;
        s->suffix_spaces = f.number == 24 ? f.value != 0 : s->suffix_spaces;
        s->byte_fallback = f.number == 35 ? f.value != 0 : s->byte_fallback;
        int32_t *const id = f.number == 40   ? &s->unk
                            : f.number == 41 ? &s->bos
                            : f.number == 42 ? &s->eos
                            : f.number == 43 ? &s->pad
                                             : NULL;
        if (id)
            /* -1 is a varint of 64 bits: none */
            *id = f.value <= NB_MAX_TOKENS ? (int32_t)f.value : -1;
    }
    return st;
}

static nb_status read_normalizer(struct message m, struct spec *s, nb_error *err)
{
    struct field f;
    nb_status st = NB_OK;
    while (m.p < m.end && st == NB_OK) {
        st = next_field(&m, &f, err);
        if (st != NB_OK)
            break;
        if (f.number == 2 && f.type == kBytes)
            s->charsmap = (nb_str){(const char *)f.p, f.n};
        if (f.type != kVarint)
            continue;
        s->dummy_prefix = f.number == 3 ? f.value != 0 : s->dummy_prefix;
        s->squeezes = f.number == 4 ? f.value != 0 : s->squeezes;
        s->escapes = f.number == 5 ? f.value != 0 : s->escapes;
    }
    return st;
}

/* The pieces are counted, then read. */
static nb_status read_model(nb_tokenizer *t, const nb_container *c, struct spec *s, nb_error *err)
{
    const uint8_t *p = c->tokenizer_model;
    const struct message whole = {c->path, p, p, p + c->tokenizer_model_bytes};
    struct message m = whole;
    struct field f;
    nb_status st = NB_OK;
    int32_t n = 0, id = 0;
    while (m.p < m.end && st == NB_OK) {
        st = next_field(&m, &f, err);
        if (st != NB_OK)
            break;
        n += f.number == 1 && f.type == kBytes;
        if (n > NB_MAX_TOKENS)
            st = bad(&m, "more pieces than the limit of 4 Mi", err);
        else if (f.number == 2 && f.type == kBytes)
            st = read_trainer(inside(&m, &f), s, err);
        else if (f.number == 3 && f.type == kBytes)
            st = read_normalizer(inside(&m, &f), s, err);
    }
    if (st == NB_OK && !n)
        st = bad(&m, "no pieces in it", err);
    if (st == NB_OK)
        st = nb_vocab_reserve(t, n, err);
    if (st == NB_OK && !(t->score = nb_arena_alloc(t->arena, (size_t)n, sizeof *t->score, err)))
        st = NB_NO_ROOM;
    if (st == NB_OK)
        memset(t->score, 0, (size_t)n * sizeof *t->score);
    for (m = whole; m.p < m.end && st == NB_OK;) {
        st = next_field(&m, &f, err);
        if (st == NB_OK && f.number == 1 && f.type == kBytes)
            st = read_piece(t, inside(&m, &f), id++, err);
    }
    return st;
}

/* ---- from pieces to a tokenizer ---- */

static nb_status check_unknown(nb_tokenizer *t, const struct message *m, nb_error *err)
{
    for (int32_t id = 0; id < t->n; id++) {
        if (t->type[id] != NB_TOKEN_UNKNOWN)
            continue;
        if (t->unknown >= 0)
            return bad(m, "two unknown pieces", err);
        t->unknown = id;
    }
    return t->unknown >= 0 ? NB_OK : bad(m, "no unknown piece", err);
}

/* User-defined pieces are looked for in the text as it is given, so with spaces for U+2581. */
static nb_status unmark_user_pieces(nb_tokenizer *t, nb_error *err)
{
    for (int32_t id = 0; id < t->n; id++) {
        const nb_str s = t->token[id];
        if (t->type[id] != NB_TOKEN_USER)
            continue;
        char *p = nb_arena_alloc(t->arena, s.n, 1, err);
        if (!p)
            return NB_NO_ROOM;
        t->token[id] = (nb_str){p, nb_spelling_unmark(s, p)};
    }
    return NB_OK;
}

static nb_status read_stages(nb_tokenizer *t, const nb_container *c, const struct spec *s,
                             nb_error *err)
{
    nb_status st = s->charsmap.n ? nb_charsmap_check(c->path, s->charsmap, err) : NB_OK;
    if (st == NB_OK && (s->suffix_spaces || !s->escapes))
        st = nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                        "tokenizer.model: spaces behind words, or not escaped, are not supported");
    if (s->charsmap.n)
        t->step[t->n_step++] = (nb_step){.kind = NB_STEP_CHARSMAP, .from = s->charsmap};
    if (s->squeezes)
        t->step[t->n_step++] = (nb_step){.kind = NB_STEP_SQUEEZE};
    t->space_first = s->dummy_prefix && !s->squeezes; /* user-defined rows of spaces take it in */
    if (s->dummy_prefix && s->squeezes)
        t->step[t->n_step++] =
            (nb_step){NB_STEP_PREPEND, NB_PREPEND_START, 0, {"", 0}, {NB_SPACE_MARK, 3}};
    t->step[t->n_step++] =
        (nb_step){NB_STEP_REPLACE, NB_PREPEND_ALWAYS, 0, {" ", 1}, {NB_SPACE_MARK, 3}};
    t->drops_space = s->dummy_prefix;
    t->fuse_unknown = true;
    return st;
}

static int32_t in_range(const nb_tokenizer *t, int32_t id)
{
    return id >= 0 && id < t->n ? id : -1;
}

static void read_frame(nb_tokenizer *t, const nb_container *c, const struct spec *s)
{
    const nb_json_node *config = c->tokenizer_config ? nb_json_root(c->tokenizer_config) : NULL;
    bool bos = true, eos = false; /* as transformers' LlamaTokenizer and GemmaTokenizer have them */
    t->bos = in_range(t, s->bos);
    t->eos = in_range(t, s->eos);
    t->padding = in_range(t, s->pad);
    (void)nb_json_bool(nb_json_get(config, "add_bos_token"), &bos);
    (void)nb_json_bool(nb_json_get(config, "add_eos_token"), &eos);
    t->adds_bos = bos;
    t->adds_eos = eos;
    nb_hub_read_ends(t, c);
    nb_hub_read_chat_template(t, c);
}

nb_status nb_vocab_from_spm(nb_tokenizer *t, const nb_container *c, nb_error *err)
{
    struct spec s = {.model_type = kUnigram,
                     .unk = 0,
                     .bos = 1,
                     .eos = 2,
                     .pad = -1,
                     .dummy_prefix = true,
                     .squeezes = true,
                     .escapes = true};
    const struct message at = {c->path, c->tokenizer_model, c->tokenizer_model, c->tokenizer_model};
    nb_status st = read_model(t, c, &s, err);
    if (st == NB_OK && s.model_type != kUnigram && s.model_type != kBpe)
        st = nb_fail_at(err, NB_UNSUPPORTED, c->path, -1,
                        "tokenizer.model: model type %llu, known: 1 (unigram), 2 (BPE)",
                        (unsigned long long)s.model_type);
    t->by_score = true;
    t->unigram = s.model_type == kUnigram;
    if (st == NB_OK)
        st = check_unknown(t, &at, err);
    if (st == NB_OK)
        st = unmark_user_pieces(t, err);
    if (st == NB_OK)
        st = nb_vocab_index(t, err);
    if (st != NB_OK)
        return st;
    read_frame(t, c, &s);
    st = nb_spelling_index(t, c->path, err);
    if (!s.byte_fallback) /* the byte pieces are there for decoding only */
        memset(t->byte_id, -1, sizeof t->byte_id);
    if (st == NB_OK)
        st = read_stages(t, c, &s, err);
    return st == NB_OK && t->unigram ? nb_unigram_open(t, err) : st;
}
