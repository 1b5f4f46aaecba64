/* commands.c -- run, tokenize, inspect, eval and what is no command: exit codes and sentences
 * (CONTRACT's table of both). */
#include "cli/transcript.h"
#include "tiny_gguf.h"

#include <sys/stat.h>
#include <unistd.h>

static folder here; /* made once: the models of all rows */

#define TINY "%T/tiny.gguf"
#define RUN "run " TINY " --ids 1,70,80 -n 4 -t 1 "

static const transcript rows[] = {
    /* the program itself */
    {"no command is a usage error", "", 2, NULL, "a command is missing\nhint: nibble --help", 0},
    {"--help lists the commands", "--help", 0, "nibble quantize", NULL, 0},
    {"--version names the version", "--version", 0, "nibble 0.", NULL, 0},
    {"an unknown command like no other points to the help", "frobnicate", 2, NULL,
     "unknown command frobnicate\nhint: nibble --help", 0},
    {"a mistyped command comes with the nearest one", "quantise x", 2, NULL,
     "unknown command quantise\nhint: did you mean nibble quantize?\n", 0},
    {"with two letters swapped", "help chta", 2, NULL,
     "unknown command chta\nhint: did you mean nibble chat?\n", 0},
    {"an unknown command with --json is an object too", "frobnicate --json", 2, NULL,
     "unknown command", 0},
    {"an escape sequence in a command is shown, not sent", "fro\x1b[31m", 2, NULL, "fro\\x1b[31m",
     0},
    {"train is reserved", "train x", 5, NULL, "nibble train is not there yet", 0},
    {"merge is reserved", "merge x --json", 5, NULL, "nibble merge is not there yet", 0},
    {"global flags may stand before the command",
     "--device cpu -t 1 --json run " TINY " --ids 1,70,80 -n 4", 0, "\"prompt_tokens\":3", NULL, 0},
    {"so may one with its value behind =", "--device=cpu doctor --features", 0, "q4_0", NULL, 0},
    {"a flag of a command may not", "--raw run " TINY " --ids 1", 2, NULL, "unknown command --raw",
     0},
    {"nothing but global flags is no command", "--device cpu --json", 2, NULL,
     "a command is missing", 0},
    {"nor is one without its value", "--device", 2, NULL, "a command is missing", 0},
    {"--help behind a global flag", "-q --help", 0, "nibble quantize", NULL, 0},
    {"--version behind a command", "run --version", 0, "nibble 0.", NULL, 0},
    /* flags */
    {"a command's --help lists its flags", "run --help", 0, "--max-tokens N", NULL, 0},
    {"-h does too", "tokenize -h", 0, "--special", NULL, 0},
    {"an unknown flag comes with the nearest one", "run " TINY " --max-token 3", 2, NULL,
     "run: unknown flag --max-token\nhint: did you mean --max-tokens?", 0},
    {"a flag like no other points to the help", "run " TINY " --zzzzzzzz", 2, NULL,
     "hint: nibble run --help", 0},
    {"a flag that is not there yet is no unknown one", "run " TINY " --ids 1 --tp 2 --json", 5,
     NULL, "run: --tp is not there yet", 0},
    {"which is named as it was typed, without its value", "run " TINY " --ids 1 --lora=4", 5, NULL,
     "run: --lora is not there yet", 0},
    {"layers kept on the CPU, and where which are",
     "run " TINY " --ids 1,70,80 -n 2 -t 1 --ctx 8 --device ref --offload 1", 0, "",
     "layers 0:1 of 2 on cpu, the rest on ref: ", 0},
    {"all of them, said as none on the device",
     "run " TINY " --ids 1,70,80 -n 2 -t 1 --ctx 8 --device ref -ngl 0", 0, "",
     "all 2 layers on cpu, the output layer on ref: ", 0},
    {"more on the device than there are",
     "run " TINY " --ids 1,70,80 -n 2 -t 1 --ctx 8 --device ref --ngl 99", 0, "",
     "all 2 layers on ref: ", 0},
    {"quietly; on the CPU itself there is nothing to keep apart",
     "run " TINY " --ids 1,70,80 -n 2 -t 1 --ctx 8 --device cpu --offload 2", 0, "", NULL, 0},
    {"more layers on the CPU than there are", "run " TINY " --ids 1 --device ref --offload=4", 2,
     NULL, "the model has 2\nhint: --offload 2\n", 0},
    {"a number of layers that is none", "run " TINY " --ids 1 --offload some", 2, NULL,
     "--offload some: it must be a whole number", 0},
    {"layers counted from both ends", "run " TINY " --ids 1 --offload 1 --ngl 1", 2, NULL,
     "--offload and --ngl exclude each other", 0},
    {"a value glued to its letter", "run " TINY " -n5", 2, NULL,
     "run: unknown flag -n5\nhint: did you mean -n 5?\n", 0},
    {"a long flag with one dash", "run " TINY " -temp 1", 2, NULL,
     "run: unknown flag -temp\nhint: did you mean --temp?\n", 0},
    {"another spelling of a flag, mistyped", "quantize " TINY " -o %T/o.gguf --group_size 32", 2,
     NULL, "hint: did you mean --group-size?", 0},
    {"a mistyped device", "run " TINY " --ids 1 --device cup", 2, NULL,
     "hint: did you mean --device cpu?", 0},
    {"a cache of another type", "run " TINY " --ids 1,70,80 -n 2 -t 1 --kv-type q8", 0, "", NULL,
     0},
    {"a type of the cache that there is not", "run " TINY " --ids 1 --kv-type q4", 2, NULL,
     "is none of f32, f16, bf16, q8, fp8\nhint: ", 0},
    {"a mistyped type of the cache", "run " TINY " --ids 1 --kv-type F1", 2, NULL,
     "hint: did you mean --kv-type f16?", 0},
    {"a mistyped shell", "completions bsah", 2, NULL, "hint: did you mean nibble completions bash?",
     0},
    {"a mistyped form of a table", "bench kernels -o jsn", 2, NULL, "hint: did you mean -o json?",
     0},
    {"nor is one of a single command", "quantize " TINY " -o %T/o.gguf --bpw=4", 5, NULL,
     "quantize: --bpw is not there yet", 0},
    {"which another command does not know", "run " TINY " --bpw 4", 2, NULL,
     "run: unknown flag --bpw", 0},
    {"another spelling of a flag", "run " TINY " --ids 1,70,80 -n 4 -t 1 --ctx-size 2", 6, NULL, "",
     0},
    {"a flag without its value", "run " TINY " -p", 2, NULL, "--prompt needs TEXT", 0},
    {"a switch with a value", "run " TINY " --raw=1", 2, NULL, "--raw takes no value", 0},
    {"a value given twice", "quantize " TINY " -o %T/a.gguf -o %T/b.gguf", 2, NULL,
     "quantize: --output is given twice; give one\nhint: nibble quantize --help", 0},
    {"in two spellings", "run " TINY " --ids 1 -n 3 --max-tokens=3 --json", 2, NULL,
     "run: --max-tokens is given twice", 0},
    {"by its other name", "run " TINY " --ids 1 --ctx 8 --max-model-len 9", 2, NULL,
     "run: --ctx is given twice", 0},
    {"before the command and behind it", "-t 1 run " TINY " --ids 1 -t 2", 2, NULL,
     "run: --threads is given twice", 0},
    {"a switch given twice says the same",
     "run " TINY " --ids 1,70,80 -n 1 -t 1 -q -q --json --json", 0, "\"prompt_tokens\":3", NULL, 0},
    {"too many arguments", "run 1 2 3 4 5", 2, NULL, "run: too many arguments, the first is 3", 0},
    {"a second model where one is read", "eval a b -f c", 2, NULL,
     "eval: too many arguments, the first is b", 0},
    {"doctor takes none", "doctor x --json", 2, NULL, "doctor: too many arguments, the first is x",
     0},
    {"a number with a tail", "run " TINY " --ids 1 -n 5x", 2, NULL,
     "--max-tokens 5x: it must be a whole number", 0},
    {"a number that is empty", "run " TINY " --ids 1 -n ''", 2, NULL,
     "--max-tokens : it must be a whole number", 0},
    {"a number beyond 64 bits", "run " TINY " --ids 1 --seed 99999999999999999999", 2, NULL,
     "--seed 9", 0},
    {"a number beyond its range", "run " TINY " --ids 1 --top-p 2", 2, NULL,
     "--top-p 2: it must be a number from 0 to 1", 0},
    {"no number at all", "run " TINY " --ids 1 --temp nan --json", 2, NULL,
     "--temp nan: it must be a number", 0},
    {"an unknown device", "run " TINY " --ids 1 --device abacus", 2, NULL, "abacus", 0},
    /* models that are not */
    {"a missing model file", "run %T/none.gguf --ids 1", 3, NULL,
     "none.gguf: cannot open: No such file or directory\nhint: did you mean ", 0},
    {"a missing model file like no other", "run %T/quite-another.gguf --ids 1", 3, NULL,
     "No such file or directory\nhint: ls ", 0},
    {"a missing model file in a folder that is not there", "run %T/no/such/x.gguf --ids 1", 3, NULL,
     "hint: ls ", 0},
    {"a missing model file, as an object that names it", "inspect %T/none.gguf --json", 3,
     "none.gguf\",\"offset\":-1", "cannot open", 0},
    {"a missing name of the hub says how to fetch it", "run org/name -p a", 3, NULL,
     "hint: nibble pull org/name", 0},
    {"a missing file with an escape sequence in its name", "inspect %T/\x1b[31m.gguf", 3, NULL,
     "\\x1b[31m.gguf: cannot open", 0},
    {"a text that calls itself GGUF", "run %T/text.gguf --ids 1", 4, NULL, "text.gguf: ", 0},
    {"a text that does not", "run %T/text.txt --ids 1", 4, NULL,
     "text.txt: neither GGUF nor safetensors", 0},
    {"an empty file", "inspect %T/empty.gguf --json", 4, NULL, "empty.gguf: ", 0},
    {"a model cut in half", "run %T/cut.gguf --ids 1 --json", 4, NULL, "cut.gguf: ", 0},
    {"a pipe that calls itself a model", "inspect %T/pipe.gguf", 4, NULL, "not a regular file", 0},
    {"a pickle", "inspect %T/model.bin", 5, NULL, "a pickle, which is a program", 0},
    {"a folder whose weights are a pickle", "run %T/pickled --ids 1 --json", 5, NULL,
     "pytorch_model.bin: a pickle, which is a program", 0},
    {"an architecture nobody knows", "run %T/arch.gguf --ids 1", 5, NULL,
     "unknown architecture \"xlama\", known: llama", 0},
    {"a folder without a model", "inspect %M", 3, NULL, "a folder without config.json", 0},
    {"run without a model", "run -p a", 2, NULL, "MODEL is missing", 0},
    /* run */
    {"run without a prompt", "run " TINY, 2, NULL, "a prompt is missing", 0},
    {"which is seen before the model", "run %T/none.gguf", 2, NULL, "a prompt is missing", 0},
    {"so is a prompt's file that is not there", "run %T/none.gguf -f %T/none.txt", 3, NULL,
     "none.txt: cannot open", 0},
    {"run with a prompt and a file of one", "run " TINY " -p a -f %T/text.txt --json", 2, NULL,
     "--prompt and --file exclude each other; give one", 0},
    {"run with a prompt and ids", "run " TINY " --ids 1 -p a", 2, NULL,
     "--prompt and --ids exclude each other", 0},
    {"run with a prompt twice over", "run " TINY " a -f %T/text.txt", 2, NULL,
     "a prompt as an argument and --file exclude each other", 0},
    {"tokenize with a text and a file of one", "tokenize " TINY " -p a -f %T/text.txt", 2, NULL,
     "--prompt and --file exclude each other", 0},
    {"bench of a kind to come", "bench kernels --kind fp8 --json", 5, NULL,
     "--kind fp8 is not there yet", 0},
    {"a picture of no measurement", "bench kernels --rows --kind q4_0 --device cpu -o svg", 5, NULL,
     "-o svg: nothing was timed", 0},
    {"a picture of a model's speed", "bench " TINY " -o svg", 5, NULL,
     "-o svg: bench kernels draws one", 0},
    {"kernels under their roof",
     "bench kernels --kind q4_0 --shape 64x64 -m 1,4 --device cpu -t 1 -o svg", 0, "linear q4_0 ",
     NULL, 0},
    {"bench of a kind that is none", "bench kernels --kind q9_9", 2, NULL,
     "--kind q9_9 is no number format", 0},
    {"run with a prompt file that is not there", "run " TINY " -f %T/none.txt", 3, NULL,
     "none.txt: cannot open", 0},
    {"run with ids that are none", "run " TINY " --ids 1,,2", 2, NULL, "is no list of token ids",
     0},
    {"run with an id beyond the vocabulary", "run " TINY " --ids 1,999999", 4, NULL, "999999", 0},
    {"run with more tokens than the context", RUN "-c 2", 6, NULL, "", 0},
    {"run on GGUF", RUN "--json", 0, "\"prompt_tokens\":3,\"tokens\":[", NULL, 0},
    {"run on a safetensors folder", "run %M/tiny-llama -p ab -n 4 -t 1 --json", 0, "\"stop\":\"",
     NULL, 0},
    {"a context that is too small names the one that is needed", RUN "-c 2 --json", 6, NULL,
     "\nhint: --ctx 3\n", 0},
    {"a context beyond the model's names the model's", RUN "-c 300", 4, NULL, "\nhint: --ctx 256\n",
     0},
    {"run writes logits", "run " TINY " --ids 1,70 -t 1 --logits %T/logits.npy", 0, NULL, NULL, 0},
    {"run writes logits and an object",
     "run " TINY " --ids 1,70 -t 1 --logits %T/logits.npy --json", 0,
     "{\"text\":\"\",\"prompt_tokens\":2,\"tokens\":[],\"stop\":\"length\"", NULL, 0},
    {"and goes on where -n says how far",
     "run " TINY " --ids 1,70,80 -n 4 -t 1 --logits %T/logits.npy --json", 0,
     "\"prompt_tokens\":3,\"tokens\":[", NULL, 0},
    {"but not for no tokens", "run " TINY " --ids 1,70,80 -n 0 -t 1 --logits %T/logits.npy --json",
     0, "\"prompt_tokens\":3,\"tokens\":[],", NULL, 0},
    {"logits do not replace the model", "run " TINY " --ids 1,70 -t 1 --logits " TINY, 2, NULL,
     "tiny.gguf: it would replace the model", 0},
    {"nor anything that is no array", "run " TINY " --ids 1,70 -t 1 --logits %T/text.txt", 2, NULL,
     "text.txt: exists and was not written by this flag", 0},
    {"nor a folder", "run " TINY " --ids 1,70 -t 1 --logits %T", 7, NULL,
     "exists and is not a regular file", 0},
    {"a model without a name", "run '' -p a", 2, NULL, "MODEL is empty", 0},
    {"run cannot write logits into a missing folder",
     "run " TINY " --ids 1,70 -t 1 --logits %T/no/logits.npy", 3, NULL, "cannot create it", 0},
    {"run into a full disk", RUN, 7, NULL, "stdout: cannot write: No space left on device",
     OUT_FULL},
    {"run --json into a full disk", RUN "--json", 7, NULL,
     "stdout: cannot write: No space left on device", OUT_FULL},
    {"run into a pipe that nobody reads ends quietly", RUN, 141, NULL, NULL, OUT_BROKEN},
    {"run without any open stream is an I/O error", RUN, 7, NULL, NULL, OUT_CLOSED},
    /* tokenize */
    {"tokenize prints ids", "tokenize %M/tiny-llama -p ab", 0, "97 98\n", NULL, 0},
    {"tokenize adds BOS where the model asks", "tokenize " TINY " -p th", 0, "1 259 286\n", NULL,
     0},
    {"tokenize --no-bos", "tokenize " TINY " -p th --no-bos --json", 0,
     "{\"ids\":[259,286],\"pieces\":[\"\xe2\x96\x81\",\"th\"]}\n", NULL, 0},
    {"tokenize a file that is a folder", "tokenize " TINY " -f %T", 4, NULL,
     "not a regular file\nhint: ls -ld ", 0},
    {"run with one", "run " TINY " -f %T -n 1", 4, NULL, ": not a regular file", 0},
    {"eval with one", "eval " TINY " -f %T --json", 4, NULL, ": not a regular file", 0},
    {"template with one", "template " TINY " -f %T", 4, NULL, ": not a regular file", 0},
    {"quantize by one", "quantize " TINY " -o %T/o.gguf --calib %T -q", 4, NULL,
     ": not a regular file\nhint: ls -ld ", 0},
    {"quantize measured on one", "quantize " TINY " -o %T/o.gguf --method rtn --eval %T -q", 4,
     NULL, ": not a regular file", 0},
    {"tokenize nothing", "tokenize " TINY, 2, NULL, "a text is missing", 0},
    /* inspect */
    {"inspect names format and architecture", "inspect " TINY, 0, "architecture     llama\n", NULL,
     0},
    {"inspect --tensors", "inspect " TINY " --tensors", 0,
     "blk.1.attn_k.weight                          f16    [32,64] 4096\n", NULL, 0},
    {"inspect --json of GGUF", "inspect " TINY " --json", 0,
     "\"name\":\"output.weight\",\"type\":\"f16\",\"shape\":[288,64]", NULL, 0},
    {"inspect --json of safetensors", "inspect %M/tiny-llama --json", 0,
     "{\"format\":\"safetensors\",\"scheme\":\"plain\"", NULL, 0},
    {"inspect --verify of a sound file", "inspect " TINY " --verify", 0, "llama", NULL, 0},
    {"inspect --verify of a file with a NaN", "inspect %T/nan.gguf --verify --json", 1, NULL,
     "tensor output_norm.weight holds NaN or Inf", 0},
    {"inspect into a full disk", "inspect " TINY " --json", 7, NULL,
     "stdout: cannot write: No space left on device", OUT_FULL},
    {"inspect into a pipe that nobody reads ends quietly", "inspect " TINY " --json", 141, NULL,
     NULL, OUT_BROKEN},
    {"--help into a full disk", "--help", 7, NULL, "stdout: cannot write", OUT_FULL},
    /* eval */
    {"eval of more chunks than the text has says that they overlap",
     "eval " TINY " -f %T/text.txt -c 64 -t 1 --spread --chunks 300", 0, "perplexity ",
     "nibble: warning: ", 0},
    {"eval of chunks from both ends",
     "eval " TINY " -f %T/text.txt -c 64 --spread --chunks 2 --first-chunk 1", 2, NULL,
     "--spread goes over the whole text", 0},
    {"run of an empty prompt", "run %M/tiny-llama --raw -p '' -n 4", 4, NULL,
     "the prompt is empty, there is nothing to go on from\nhint: ", 0},
    {"eval measures perplexity", "eval " TINY " -f %T/text.txt -c 64 -t 1 --json", 0,
     "{\"ppl\":", NULL, 0},
    {"a prompt's file loses its last newline", "run %M/tiny-llama -f %T/line.txt -n 1 -t 1 --json",
     0, "\"prompt_tokens\":3,", NULL, 0},
    {"unless it is taken as it is", "run %M/tiny-llama --raw -f %T/line.txt -n 1 -t 1 --json", 0,
     "\"prompt_tokens\":4,", NULL, 0},
    {"a context that is full is told", "run %M/tiny-llama --ids 5,9 -c 4 -n 9 -t 1", 0, "\n",
     "the context of 4 tokens is full; --ctx gives more", 0},
    {"by llama.cpp's name too", "ppl " TINY " -f %T/text.txt -c 64 -t 1 --json", 0,
     "{\"ppl\":", NULL, 0},
    {"a model against itself has no divergence",
     "eval " TINY " -f %T/text.txt -c 64 -t 1 --exact --against " TINY " --json", 0,
     "\"kl_mean\":0.000000", NULL, 0},
    {"eval with a layer on the CPU, of the reference too",
     "eval " TINY " -f %T/text.txt -c 64 -t 1 --exact --device ref --offload 1 --against " TINY
     " --json",
     0, "\"kl_mean\":0.000000,", "layers 0:1 of 2 on cpu", 0},
    {"eval without a text", "eval " TINY, 2, NULL, "-f TEXT is missing", 0},
    {"eval with a text that is not there", "eval " TINY " -f %T/none.txt", 3, NULL,
     "none.txt: cannot open", 0},
    {"eval of chunks that the text does not have",
     "eval " TINY " -f %T/text.txt -c 64 --first-chunk 99999", 4, NULL,
     "1 chunks from chunk 99999 on are asked for, the text has ", 0},
    {"eval of more chunks than the text has places",
     "eval " TINY " -f %T/text.txt -c 64 --spread --chunks 2000000000", 4, NULL,
     "\nhint: --first-chunk 0 --chunks ", 0},
    {"eval with a text shorter than a chunk", "eval " TINY " -f %T/short.txt -c 64 --json", 4, NULL,
     "short.txt: ", 0},
    {"eval against another vocabulary",
     "eval " TINY " -f %T/text.txt -c 64 -t 1 --against %M/tiny-llama", 4, NULL, "vocabular", 0},
};

static void transcript_case(check *c)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rows[i].sentence == c->sentence)
            check_transcript(c, &here, &rows[i]);
}

/* The member `tokens` of the object that it prints. */
static void tokens_of(check *c, const char *line, char text[256])
{
    outcome o = program_run(&here, line, OUT_CAPTURED);
    const char *at = strstr(o.out, "\"tokens\":["), *end = at ? strchr(at, ']') : NULL;
    CHECK_EQ(c, o.code, 0);
    CHECK(c, end != NULL);
    snprintf(text, 256, "%.*s", end ? (int)(end - at) : 0, at ? at : "");
    program_free(&o);
}

/* What is generated behind logits is what is generated without them. */
static void logits_and_more(check *c)
{
    char one[256], two[256], path[1024];
    tokens_of(c, RUN "--json", one);
    tokens_of(c, RUN "--json --logits %T/logits.npy", two);
    CHECK(c, strlen(one) > 12);
    CHECK_STR(c, two, one);
    struct stat sb;
    /* a row a token of the prompt */
    CHECK(c,
          stat(folder_in(&here, "logits.npy", path), &sb) == 0 && sb.st_size > 3 * TINY_VOCAB * 4);
    CHECK(c, sb.st_size < 4 * TINY_VOCAB * 4);
}

static void same_text(check *c, const char *a, const char *b)
{
    outcome one = program_run(&here, a, OUT_CAPTURED), two = program_run(&here, b, OUT_CAPTURED);
    CHECK_EQ(c, one.code, 0);
    CHECK(c, strlen(one.out) > 1);
    CHECK_STR(c, two.out, one.out);
    program_free(&one);
    program_free(&two);
}

static void repeats(check *c)
{
    same_text(c, "run " TINY " -p the --raw -n 16 -t 1", "run " TINY " -p the --raw -n 16 -t 1");
    same_text(c, "run " TINY " -p the --raw -n 16 -t 1", "run " TINY " -p the --raw -n 16 -t 2");
    same_text(c, "run " TINY " -p the --raw -n 16 -t 1 --temp 1 --seed 7",
              "run " TINY " -p the --raw -n 16 -t 1 --temp 1 --seed 7");
    same_text(c, "run " TINY " -p the --raw -n 16 -t 1",
              "run " TINY " --prompt=the --raw --max-tokens=16 -t 1");
}

/* ---- the folder ---- */

static char *find(char *p, size_t n, const char *what)
{
    const size_t m = strlen(what);
    for (size_t i = 0; i + m <= n; i++)
        if (memcmp(p + i, what, m) == 0)
            return p + i;
    exit(1);
}

static void make_folder(void)
{
    static const tiny_shape shape = {
        .n_layer = 2, .hidden = 64, .ffn = 128, .n_head = 4, .n_kv_head = 2, .ctx = 256};
    char path[1024], text[1024] = "";
    size_t n = 0;
    nb_error err = {.offset = -1};
    here = folder_new();
    if (tiny_gguf_write(folder_in(&here, "tiny.gguf", path), &shape, &err) != NB_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    while (strlen(text) < 600)
        strcat(text, "the heath thaws then the other ");
    folder_write(&here, "text.txt", text, strlen(text));
    folder_write(&here, "line.txt", "abc\n", 4);
    folder_write(&here, "text.gguf", text, strlen(text));
    folder_write(&here, "short.txt", text, 20);
    folder_write(&here, "empty.gguf", "", 0);
    folder_write(&here, "model.bin", "\x80\x02}", 3);
    if (mkdir(folder_in(&here, "pickled", path), 0777) != 0)
        exit(1);
    folder_write(&here, "pickled/config.json", "{}", 2);
    folder_write(&here, "pickled/pytorch_model.bin", "\x80\x02}", 3);
    char *p = folder_bytes(&here, "tiny.gguf", &n);
    folder_write(&here, "cut.gguf", p, n / 2);
    char *arch = find(p, n, "llama");
    *arch = 'x';
    folder_write(&here, "arch.gguf", p, n);
    *arch = 'l';
    /* the last two tensors are the norm, 64 floats, and the head, 288 x 64 halves */
    memset(p + n - (288 * 64 * 2) - 8, 0xff, 4);
    folder_write(&here, "nan.gguf", p, n);
    free(p);
    if (mkfifo(folder_in(&here, "pipe.gguf", path), 0600) != 0)
        exit(1);
}

/* A machine with a driver, and a module that is none: the program goes on without it and says why. */
static void auto_says_why(check *c)
{
    char gpu[1024], path[1024];
    CHECK(c, mkdir(folder_in(&here, "gpu", gpu), 0777) == 0);
    if (symlink(NB_BINARY_DIR "/libnibble_simt.so", folder_in(&here, "gpu/libcuda.so.1", path)) ||
        access(path, R_OK) != 0) {
        check_skip(c, "there is no library that could stand for the driver's");
        return;
    }
    folder_write(&here, "gpu/libnibble_cuda.so", "no module\n", 10);
    const char *before = getenv("NIBBLE_MODULE_DIR");
    char *keep = before ? strdup(before) : NULL;
    setenv("NIBBLE_MODULE_DIR", gpu, 1);
    setenv("LD_LIBRARY_PATH", gpu, 1);
    outcome o = program_run(&here, RUN "--device auto", OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK_HAS(c, o.err,
              "nibble: warning: the CPU is used, cuda:0: the module libnibble_cuda.so cannot "
              "be loaded: ");
    program_free(&o);
    o = program_run(&here, RUN "--device auto -q", OUT_CAPTURED);
    CHECK_EQ(c, o.code, 0);
    CHECK(c, !strstr(o.err, "the CPU is used"));
    program_free(&o);
    unsetenv("LD_LIBRARY_PATH");
    if (keep)
        setenv("NIBBLE_MODULE_DIR", keep, 1);
    else
        unsetenv("NIBBLE_MODULE_DIR");
    free(keep);
    o = program_run(&here, RUN "--device auto", OUT_CAPTURED); /* no driver, or one that serves */
    CHECK_EQ(c, o.code, 0);
    program_free(&o);
}

int main(int argc, char **argv)
{
    enum { kRows = sizeof rows / sizeof *rows };
    check_case cases[kRows + 3];
    for (int i = 0; i < kRows; i++)
        cases[i] = (check_case){rows[i].sentence, transcript_case};
    cases[kRows] =
        (check_case){"the same command gives the same text, on any number of threads", repeats};
    cases[kRows + 1] =
        (check_case){"--logits with -n writes the prompt's and generates what is generated without",
                     logits_and_more};
    cases[kRows + 2] = (check_case){"auto says why it is not the GPU", auto_says_why};
    make_folder();
    const int rc = check_main(cases, kRows + 3, argc, argv);
    folder_gone(&here);
    return rc;
}
