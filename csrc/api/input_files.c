/* input_files.c -- the files of a model's source, each with its size, its time and the hash of what
 * says what it holds. */
#include "api/manifest.h"
#include "base/sha256.h"
#include "file/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

bool nb_is_model_file(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot && name[0] != '.' && strcmp(name, "manifest.json") != 0 &&
           (strcmp(dot, ".safetensors") == 0 || strcmp(dot, ".json") == 0 ||
            strcmp(dot, ".model") == 0 || strcmp(dot, ".jinja") == 0);
}

static int is_part(const struct dirent *e)
{
    return nb_is_model_file(e->d_name);
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

nb_status nb_input_files(const nb_container *c, nb_text *out, nb_error *err)
{
    nb_text_puts(out, "[");
    const nb_status st =
        c->kind == NB_CONTAINER_GGUF ? hash_parts(c, out, err) : hash_folder(c, out, err);
    nb_text_puts(out, "]");
    return st == NB_OK ? nb_text_check(out, "the list of input files", err) : st;
}
