/* quantize_settings.c -- the settings of a run as words: written into journal and manifest, read
 * back, held against each other; and what the input's files were like. A new option that changes
 * the output is one row of the table. */
#include "api/quantize.h"
#include "base/sha256.h"
#include "file/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef enum kind { TEXT, FLAG, INT, BIG, WHOLE, REAL } kind; /* BIG: int64_t, WHOLE: uint64_t */

typedef struct row {
    const char *key; /* as the flag is called */
    kind kind;
    size_t at;
    bool changes; /* the output depends on it */
    size_t set;   /* the bool that says it was given; 0: a value that is not zero was */
} row;

#define AT(field) offsetof(nb_quantize_options, field)
static const row rows[] = {
    {"model", TEXT, AT(model), false, 0}, /* what it holds is compared, not where it lies */
    {"method", TEXT, AT(method), true, 0},
    {"grid", TEXT, AT(grid), true, 0},
    {"bits", INT, AT(bits), true, 0},
    {"group", INT, AT(group), true, 0},
    {"sym", FLAG, AT(sym), true, AT(sym_set)},
    {"format", TEXT, AT(format), true, 0},
    {"embedding", TEXT, AT(embedding), true, 0},
    {"correction", REAL, AT(correction), true, AT(correction_set)},
    {"damp", REAL, AT(damp), true, 0},
    {"token-limit", REAL, AT(token_limit), true, AT(token_limit_set)},
    {"no-static-groups", FLAG, AT(no_static_groups), true, 0},
    {"range", TEXT, AT(range), true, 0},
    {"act-order", FLAG, AT(act_order), true, 0},
    {"clip", TEXT, AT(clip), true, 0},
    {"calib", TEXT, AT(calib), false, 0}, /* its text is hashed */
    {"samples", INT, AT(samples), true, 0},
    {"ctx", INT, AT(ctx), true, 0},
    {"seed", WHOLE, AT(seed), true, 0},
    {"layer-from", INT, AT(layer_from), true, AT(layers_set)},
    {"layer-to", INT, AT(layer_to), true, AT(layers_set)},
    {"max-shard-size", BIG, AT(max_shard_bytes), true, 0},
    {"device", TEXT, AT(device), true, 0},
    {"memory", BIG, AT(memory), false, 0},
    {"eval", TEXT, AT(eval_path), false, 0},
};
enum { kRows = sizeof rows / sizeof *rows };

static void put(const row *r, const nb_quantize_options *o, nb_text *out)
{
    const char *p = (const char *)o + r->at;
    const char *text = NULL;
    int32_t i = 0;
    int64_t big = 0;
    uint64_t u = 0;
    double d = 0;
    switch (r->kind) {
    case TEXT:
        memcpy(&text, p, sizeof text);
        if (text)
            nb_text_json(out, text, strlen(text));
        else
            nb_text_puts(out, "null");
        break;
    case FLAG:
        nb_text_puts(out, *(const bool *)p ? "true" : "false");
        break;
    case INT:
        memcpy(&i, p, sizeof i);
        nb_text_printf(out, "%d", i);
        break;
    case BIG:
        memcpy(&big, p, sizeof big);
        nb_text_printf(out, "%lld", (long long)big);
        break;
    case WHOLE:
        memcpy(&u, p, sizeof u);
        nb_text_printf(out, "%llu", (unsigned long long)u);
        break;
    case REAL:
        memcpy(&d, p, sizeof d);
        nb_text_number(out, d);
        break;
    }
}

void nb_quantize_settings_write(const nb_quantize_options *o, bool all, nb_text *out)
{
    const char *comma = "{";
    for (int i = 0; i < kRows; i++)
        if (all || rows[i].changes) {
            nb_text_printf(out, "%s\"%s\":", comma, rows[i].key);
            put(&rows[i], o, out);
            comma = ",";
        }
    nb_text_puts(out, "}");
}

/* Whether the caller gave the setting. */
static bool given(const row *r, const nb_quantize_options *o)
{
    static const size_t size[] = {
        [TEXT] = sizeof(char *), [FLAG] = sizeof(bool),      [INT] = sizeof(int32_t),
        [BIG] = sizeof(int64_t), [WHOLE] = sizeof(uint64_t), [REAL] = sizeof(double)};
    static const char zero[sizeof(uint64_t)] = "";
    const char *p = (const char *)o;
    return r->set ? *(const bool *)(p + r->set) : memcmp(p + r->at, zero, size[r->kind]) != 0;
}

static bool take(const row *r, const nb_json_node *v, nb_quantize_options *o)
{
    char *p = (char *)o + r->at;
    const char *text = NULL;
    int64_t i = 0;
    uint64_t u = 0;
    double d = 0;
    bool b = false;
    size_t n = 0;
    bool good = true;
    switch (r->kind) {
    case TEXT:
        good = nb_json_typeof(v) == NB_JSON_NULL ||
               (nb_json_string(v, &text, &n) && strlen(text) == n);
        memcpy(p, &text, sizeof text);
        break;
    case FLAG:
        good = nb_json_bool(v, &b);
        memcpy(p, &b, sizeof b);
        break;
    case INT:
        good = nb_json_int(v, &i) && i >= INT32_MIN && i <= INT32_MAX;
        memcpy(p, &(int32_t){(int32_t)i}, sizeof(int32_t));
        break;
    case BIG:
        good = nb_json_int(v, &i) && i >= 0;
        memcpy(p, &i, sizeof i);
        break;
    case WHOLE:
        good = nb_json_u64(v, &u);
        memcpy(p, &u, sizeof u);
        break;
    case REAL:
        good = nb_json_real(v, &d);
        memcpy(p, &d, sizeof d);
        break;
    }
    return good;
}

nb_status nb_quantize_settings_read(const char *path, const nb_json_node *settings,
                                    nb_quantize_options *o, nb_error *err)
{
    const nb_quantize_options asked = *o;
    for (int i = 0; i < kRows; i++) {
        const nb_json_node *v = nb_json_get(settings, rows[i].key);
        nb_quantize_options had = *o;
        if (v && take(&rows[i], v, &had)) {
            if (!given(&rows[i], &asked))
                *o = had;
        } else
            return nb_fail_at(err, NB_BAD_INPUT, path, -1, "its setting %s cannot be read",
                              rows[i].key);
    }
    o->sym_set = o->correction_set = o->layers_set = true;
    return NB_OK;
}

nb_status nb_quantize_settings_compare(const char *path, const nb_json_node *settings,
                                       const nb_quantize_options *o, nb_error *err)
{
    nb_quantize_options had = {0};
    nb_status st = nb_quantize_settings_read(path, settings, &had, err);
    for (int i = 0; i < kRows && st == NB_OK; i++) {
        nb_text a = {0}, b = {0};
        put(&rows[i], o, &a);
        put(&rows[i], &had, &b);
        st = nb_text_check(&a, "a setting", err);
        if (st == NB_OK)
            st = nb_text_check(&b, "a setting", err);
        if (st == NB_OK && rows[i].changes && strcmp(a.p, b.p) != 0) {
            char now[100], then[100];
            st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                            "%s is %s now, the unfinished run had %s; --restart begins anew",
                            rows[i].key,
                            nb_escape(now, sizeof now, a.p, (int64_t)(a.n < 90 ? a.n : 90)),
                            nb_escape(then, sizeof then, b.p, (int64_t)(b.n < 90 ? b.n : 90)));
        }
        nb_text_free(&a);
        nb_text_free(&b);
    }
    return st;
}

/* ---- the input ---- */

/* Bytes at the beginning of a file that say what it holds: GGUF up to its first tensor (begins:
 * where; 0: no GGUF), safetensors its header, JSON all. */
static uint64_t header_bytes(uint64_t begins, const char *path, uint64_t size,
                             const uint8_t first[8])
{
    uint64_t len = 0;
    if (begins)
        return begins < size ? begins : size;
    if (nb_ends_with(path, ".safetensors")) {
        memcpy(&len, first, 8);
        return len <= 100000000 && len + 8 <= size ? len + 8 : size;
    }
    return size;
}

static nb_status hash_file(const char *path, const char *name, uint64_t begins, nb_text *out,
                           nb_error *err)
{
    enum { kSlice = 1 << 16 };
    struct stat sb;
    uint8_t sum[NB_SHA256_BYTES], first[8] = {0},
                                  *slice = nb_alloc(kSlice, 1, "a slice to hash", err);
    char hex[2 * NB_SHA256_BYTES + 1];
    const int fd = slice ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    nb_status st = !slice                          ? NB_NO_ROOM
                   : fd < 0 || fstat(fd, &sb) != 0 ? nb_fail_errno_at(err, path, "cannot open")
                                                   : NB_OK;
    nb_sha256_state s;
    nb_sha256_init(&s);
    uint64_t end = st == NB_OK ? (uint64_t)sb.st_size : 0;
    for (uint64_t at = 0; at < end && st == NB_OK;) {
        const size_t want = at == 0 && end > sizeof first ? sizeof first
                            : end - at < kSlice           ? (size_t)(end - at)
                                                          : kSlice;
        const ssize_t got = pread(fd, slice, want, (off_t)at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0) {
            st = got < 0
                     ? nb_fail_errno_at(err, path, "cannot read")
                     : nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)at, "ends inside its header");
            break;
        }
        nb_sha256_add(&s, slice, (size_t)got);
        if (at == 0 && (size_t)got == sizeof first) { /* now the header's length is known */
            memcpy(first, slice, sizeof first);
            end = header_bytes(begins, path, end, first);
        }
        at += (uint64_t)got;
    }
    nb_sha256_end(&s, sum);
    nb_hex(sum, sizeof sum, hex);
    if (st == NB_OK) {
        nb_text_puts(out, out->n > 1 ? ",{\"file\":" : "{\"file\":");
        nb_text_json(out, name, strlen(name));
        nb_text_printf(
            out, ",\"bytes\":%lld,\"mtime_ns\":%lld,\"inode\":%llu,\"header_sha256\":\"%s\"}",
            (long long)sb.st_size, (long long)sb.st_mtim.tv_sec * 1000000000 + sb.st_mtim.tv_nsec,
            (unsigned long long)sb.st_ino, hex);
    }
    if (fd >= 0)
        close(fd);
    free(slice);
    return st;
}

static int is_part(const struct dirent *e)
{
    const char *dot = strrchr(e->d_name, '.');
    return dot && e->d_name[0] != '.' && strcmp(e->d_name, "manifest.json") != 0 &&
           (strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".json") == 0 ||
            strcmp(dot, ".model") == 0 || strcmp(dot, ".jinja") == 0);
}

static const char *name_in(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Each file of a GGUF model; its tensors come part by part, in the order of their data. */
static nb_status hash_parts(const nb_container *c, nb_text *out, nb_error *err)
{
    nb_status st = c->n_tensor ? NB_OK : hash_file(c->where, name_in(c->where), 0, out, err);
    for (int64_t i = 0; i < c->n_tensor && st == NB_OK; i++) {
        const char *path = nb_container_file(c, &c->tensor[i]);
        if (i == 0 || c->tensor[i].part != c->tensor[i - 1].part)
            st = hash_file(path, name_in(path), c->tensor[i].offset, out, err);
    }
    return st;
}

/* What is in the folder of a model in safetensors, whichever of its files was named. */
static nb_status hash_folder(const nb_container *c, nb_text *out, nb_error *err)
{
    char folder[4096], path[4096];
    struct stat sb;
    struct dirent **part = NULL;
    const bool itself = stat(c->where, &sb) == 0 && S_ISDIR(sb.st_mode);
    const size_t above = (size_t)(name_in(c->where) - c->where);
    int len = itself ? snprintf(folder, sizeof folder, "%s", c->where)
                     : snprintf(folder, sizeof folder, "%.*s", above ? (int)above : 1,
                                above ? c->where : ".");
    if (len < 0 || (size_t)len >= sizeof folder)
        return nb_fail_at(err, NB_IO, c->where, -1, "a path of more than 4095 bytes");
    const int n = scandir(folder, &part, is_part, alphasort);
    nb_status st = n < 0 ? nb_fail_errno_at(err, folder, "cannot list the folder") : NB_OK;
    for (int i = 0; i < n; i++) {
        if (st == NB_OK) {
            len = snprintf(path, sizeof path, "%s/%s", folder, part[i]->d_name);
            st = len > 0 && (size_t)len < sizeof path
                     ? hash_file(path, part[i]->d_name, 0, out, err)
                     : nb_fail_at(err, NB_IO, folder, -1, "a path of more than 4095 bytes");
        }
        free(part[i]);
    }
    free(part);
    return st;
}

nb_status nb_quantize_input_write(const nb_container *c, nb_text *out, nb_error *err)
{
    nb_text_puts(out, "[");
    const nb_status st =
        c->kind == NB_CONTAINER_GGUF ? hash_parts(c, out, err) : hash_folder(c, out, err);
    nb_text_puts(out, "]");
    return st == NB_OK ? nb_text_check(out, "the list of input files", err) : st;
}
