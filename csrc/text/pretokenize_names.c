/* pretokenize_names.c -- the patterns behind the names that GGUF gives pre-tokenizers
 * (tokenizer.ggml.pre), and back.
 *
 * The patterns are spelled as the hub's tokenizer.json of the models spells them, so that a
 * tokenizer read from there finds its name; where a name stands for several models, the first row
 * that fits is written. Cuts are applied one inside the other. */
#include "text/vocab.h"

#include <stdio.h>
#include <string.h>

enum { kRowCuts = 6 };

/* Endings, words, numbers, signs, and white space but for the space that belongs to the next word
 * (Radford et al. 2019, encoder.py of GPT-2). */
#define GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
/* cl100k's form: endings in any case, letters as given, digits at a time, newlines in pieces of
 * their own. */
#define ENDINGS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define SPACES "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define CL100K(letters, digits, other)                                                             \
    ENDINGS "|[^\\r\\n\\p{L}\\p{N}]?" letters "|\\p{N}" digits "| ?[^\\s" other                    \
            "\\p{N}]+[\\r\\n]*" SPACES
/* o200k's form: words from capitals to small letters, an ending with its word, slashes with
 * newlines. */
#define UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
/* The formatter counts bytes, and breaks such strings another way each time. */
/* clang-format off */
#define O200K(ending, digits) \
    "[^\\r\\n\\p{L}\\p{N}]?" UPPER "*" LOWER "+" ending "|[^\\r\\n\\p{L}\\p{N}]?" UPPER "+" LOWER "*" ending \
    "|\\p{N}" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*" SPACES
#define CJK "[一-龥ࠀ-一가-\xed\x9f\xbf]+"
/* The letters with case of an older Unicode, as DeepSeek LLM lists them. */
#define CASED \
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ" \
    "-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰" \
    "-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
/* clang-format on */

const char nb_pretokenize_gpt2[] = GPT2, nb_pretokenize_lines[] = "[^\\n]+|[\\n]+";

static const struct {
    const char *name;
    bool whole_first, adds_bos;
    const char *pattern[kRowCuts];
} rows[] = {
    {"gpt-2", false, false, {GPT2}},
    {"mpt", false, false, {GPT2}},
    {"olmo", false, false, {GPT2}},
    {"phi-2", false, false, {GPT2}},
    {"smollm", false, false, {"\\p{N}", GPT2}}, /* each digit alone */
    {"starcoder", false, false, {"\\p{N}", GPT2}},
    {"refact", false, false, {"\\p{N}", GPT2}},
    {"command-r", false, false, {"\\p{N}", GPT2}},
    {"exaone", false, false, {"\\p{N}", GPT2}},
    {"llama-bpe", true, true, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"llama3", true, true, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"llama-v3", true, true, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"falcon3", true, true, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"lfm2", true, true, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"dbrx", false, false, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"smaug-bpe", false, false, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"chatglm-bpe", false, false, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"glm4", true, false, {CL100K("\\p{L}+", "{1,3}", "\\p{L}")}},
    {"qwen2", false, false, {CL100K("\\p{L}+", "", "\\p{L}")}},
    {"deepseek-r1-qwen", false, false, {CL100K("\\p{L}+", "", "\\p{L}")}},
    {"stablelm2", false, false, {CL100K("\\p{L}+", "", "\\p{L}")}},
    {"qwen35", false, false, {CL100K("[\\p{L}\\p{M}]+", "", "\\p{L}\\p{M}")}},
    {"gpt-4o", false, false, {O200K(ENDINGS "?", "{1,3}")}},
    {"llama4", false, false, {O200K(ENDINGS "?", "{1,3}")}},
    {"tekken", true, true, {O200K("", "")}},
    {"deepseek-llm",
     false,
     false,
     {"[\\r\\n]", "\\s?[" CASED "]+", "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$", CJK, "\\p{N}+"}},
    {"deepseek-coder", false, false, {"[\\r\\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", CJK, "\\p{N}"}},
    {"deepseek-v3",
     false,
     false,
     {"\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+",
      "[!\"#$%&'()*+,\\-./"
      ":;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\\r\\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| "
      "?[\\p{P}\\p{S}]+[\\r\\n]*" SPACES}},
    {"falcon", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|`]+", GPT2, "[0-9][0-9][0-9]"}},
    {"default", false, false, {"[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]"}},
};

nb_status nb_pretokenize_named(nb_tokenizer *t, const char *path, nb_str name, nb_error *err)
{
    char list[512] = "", shown[160];
    size_t at = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const int n = snprintf(list + at, sizeof list - at, "%s%s", at ? ", " : "", rows[i].name);
        at += (size_t)n; /* the names are ours and fit */
        if (strlen(rows[i].name) != name.n || memcmp(rows[i].name, name.p, name.n) != 0)
            continue;
        nb_status st = NB_OK;
        for (int k = 0; k < kRowCuts && rows[i].pattern[k] && st == NB_OK; k++) {
            const nb_str pattern = {rows[i].pattern[k], strlen(rows[i].pattern[k])};
            st = nb_pretokenize_add(t, path, -1, pattern, false, err);
        }
        t->whole_first = rows[i].whole_first;
        t->adds_bos = rows[i].adds_bos;
        return st;
    }
    return nb_fail_at(err, NB_UNSUPPORTED, path, -1, "unknown pre-tokenizer \"%s\", known: %s",
                      nb_escape(shown, (int64_t)sizeof shown, name.p, (int64_t)name.n), list);
}

/* A line feed or carriage return at s, written as itself or escaped: its escaped letter and *n
 * bytes; else 0. */
static char line_end(const char *s, size_t left, size_t *n)
{
    *n = 1;
    if (s[0] == '\n' || s[0] == '\r')
        return s[0] == '\n' ? 'n' : 'r';
    *n = 2;
    return left > 1 && s[0] == '\\' && (s[1] == 'n' || s[1] == 'r') ? s[1] : '\0';
}

static bool same_pattern(nb_str a, const char *b)
{
    const size_t n = strlen(b);
    size_t i = 0, j = 0;
    while (i < a.n && j < n) {
        size_t in = 0, jn = 0;
        const char x = line_end(a.p + i, a.n - i, &in), y = line_end(b + j, n - j, &jn);
        if (x != y || (!x && a.p[i] != b[j]))
            return false;
        i += x ? in : 1;
        j += y ? jn : 1;
    }
    return i == a.n && j == n;
}

const char *nb_pretokenize_name(const nb_tokenizer *t, bool whole_first)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int k = 0;
        if (rows[i].whole_first != whole_first)
            continue;
        while (k < t->n_cut && k < kRowCuts && rows[i].pattern[k] && !t->cut[k].drops_rest &&
               same_pattern(t->cut[k].source, rows[i].pattern[k]))
            k++;
        if (k == t->n_cut && (k == kRowCuts || !rows[i].pattern[k]))
            return rows[i].name;
    }
    return NULL;
}
