/* quantize_work.c -- OUT.nibble/: what an unfinished run has done, on disk.
 *
 *   lock            one process at a time (workdir.h)
 *   journal         begin | calib | layer ... | commit, a record each, written behind what it speaks of (journal.h)
 *   calib           the token ids, so that self-calibration is not repeated
 *   log             a JSON line a layer, for people
 *   partial.gguf    the sink's; of a folder: folder/
 *
 * A run that is given again holds its settings and its input against `begin`, reads the sealed
 * layers back through the sink (their digests must be the journal's) and goes on behind them. */
#include "api/manifest.h"
#include "api/quantize.h"
#include "base/clock.h"
#include "base/mapfile.h"
#include "base/scalar.h"
#include "convert/folder_files.h"
#include "file/outfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { kPath = 4096, kHex = 2 * NB_SHA256_BYTES };

static const char *const own_files[] = {"journal", "calib",       "calib.partial",
                                        "log",     "activations", NULL};

/* ---- records ---- */

static bool is_type(const nb_json_node *r, const char *type)
{
    const char *s = NULL;
    size_t n = 0;
    return nb_json_string(nb_json_get(r, "type"), &s, &n) && strcmp(s, type) == 0;
}

static const nb_json_node *find(const nb_quantize_job *j, const char *type)
{
    for (size_t i = 0; i < j->n_record; i++)
        if (is_type(nb_json_root(j->record[i]), type))
            return nb_json_root(j->record[i]);
    return NULL;
}

static nb_status journal_path(const nb_quantize_job *j, char path[kPath], nb_error *err)
{
    return nb_workdir_file(j->work, "journal", path, kPath, err);
}

static void forget_records(nb_quantize_job *j)
{
    for (size_t i = 0; i < j->n_record; i++)
        nb_json_close(j->record[i]);
    free(j->record);
    j->record = NULL;
    j->n_record = 0;
}

static nb_status parse_records(nb_quantize_job *j, const char *path, nb_error *err)
{
    const size_t n = nb_journal_count(j->journal);
    nb_status st = NB_OK;
    j->record = nb_alloc_zero(n, sizeof *j->record, "a journal", err);
    if (!j->record)
        return NB_NO_ROOM;
    for (size_t i = 0; i < n && st == NB_OK; i++) {
        const nb_journal_record r = nb_journal_at(j->journal, i);
        st = nb_json_parse(path, r.p, r.n, &j->record[i], err);
        j->n_record += st == NB_OK;
    }
    return st;
}

static nb_status append(nb_quantize_job *j, nb_text *t, nb_error *err)
{
    nb_status st = nb_text_check(t, "a record of the journal", err);
    if (st == NB_OK)
        st = nb_journal_append(j->journal, t->p, t->n, err);
    if (st == NB_IO) /* it may or may not be on disk */
        j->keep = false;
    nb_text_free(t);
    return st;
}

/* ---- opening ---- */

static void remove_files(nb_quantize_job *j)
{
    nb_workdir_remove(j->work, own_files);
    /* whatever an earlier run was making */
    for (const nb_quantize_form *f = nb_quantize_forms; f->name; f++)
        f->discard(nb_workdir_path(j->work));
}

/* The journal last: as long as it is there, the same command finds that all is done. */
static void remove_done(nb_quantize_job *j)
{
    static const char *const journal[] = {"journal", NULL};
    nb_workdir_remove(j->work, own_files + 1);
    for (const nb_quantize_form *f = nb_quantize_forms; f->name; f++)
        f->discard(nb_workdir_path(j->work));
    nb_workdir_remove(j->work, journal);
}

nb_status nb_quantize_work_open(nb_quantize_job *j, nb_error *err)
{
    char path[kPath];
    struct stat sb;
    if (!j->o.out || !*j->o.out)
        return nb_fail(err, NB_USAGE, "-o OUT is missing");
    const int len = snprintf(path, sizeof path, "%s.nibble/journal", j->o.out);
    if (j->o.resume && (len < 0 || (size_t)len >= sizeof path || stat(path, &sb) != 0)) {
        nb_fail_at(err, NB_NOT_FOUND, j->o.out, -1,
                   "there is no unfinished run of it to go on with");
        nb_hint(err, "nibble quantize MODEL -o OUT begins one");
        return NB_NOT_FOUND;
    }
    nb_status st = nb_workdir_open(j->o.out, &j->work, err);
    if (st != NB_OK)
        return st;
    if (j->o.restart)
        remove_files(j);
    st = journal_path(j, path, err);
    /* more than its first line: not ours to throw away */
    j->keep = j->earlier = st == NB_OK && stat(path, &sb) == 0 && sb.st_size > 32;
    if (st == NB_OK)
        st = nb_journal_open(path, &j->journal, err);
    if (st == NB_BAD_INPUT)
        nb_hint(err, "--restart begins anew");
    if (st == NB_OK)
        st = parse_records(j, path, err);
    const nb_json_node *begin = find(j, "begin");
    if (st == NB_OK && j->n_record && !begin)
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "its first record is not the run's settings; --restart begins anew");
    if (st == NB_OK && !j->o.model && begin)
        st = nb_quantize_settings_read(path, nb_json_get(begin, "settings"), &j->o, err);
    if (st == NB_OK && !j->o.model) {
        st = nb_fail_at(err, NB_NOT_FOUND, path, -1, "it holds no run to go on with");
        nb_hint(err, "give the whole command: nibble quantize MODEL -o OUT ...");
    }
    return st;
}

/* ---- beginning, or going on ---- */

static nb_status hash_calib_text(nb_quantize_job *j, nb_error *err)
{
    uint8_t sum[NB_SHA256_BYTES];
    nb_mapfile *f = NULL;
    if (!j->o.calib || strcmp(j->o.calib, "self") == 0 || strcmp(j->o.calib, "none") == 0)
        return NB_OK;
    const nb_status st = nb_mapfile_open(j->o.calib, &f, err);
    if (st != NB_OK)
        return st;
    nb_sha256(f->p, f->n, sum);
    nb_hex(sum, sizeof sum, j->calib_sha);
    nb_mapfile_close(f);
    return NB_OK;
}

static nb_status write_begin(nb_quantize_job *j, nb_error *err)
{
    nb_text t = {0};
    nb_text_printf(&t, "{\"type\":\"begin\",\"nibble\":\"%s\",\"settings\":", nb_version());
    nb_quantize_settings_write(&j->o, true, &t);
    nb_text_printf(&t, ",\"calib_sha256\":\"%s\",\"input\":", j->calib_sha);
    nb_text_add(&t, j->input.p, j->input.n);
    nb_text_puts(&t, "}");
    return append(j, &t, err);
}

/* The first way in which a file of the input is not as it was. */
static nb_status compare_file(const char *path, const nb_json_node *now, const nb_json_node *then,
                              nb_error *err)
{
    static const struct {
        const char *key, *what;
    } rows[] = {{"file", "name"},
                {"bytes", "size"},
                {"header_sha256", "header"},
                {"mtime_ns", "time of change"},
                {"inode", "inode"}};
    const char *name = "?", *a = NULL, *b = NULL;
    size_t n = 0;
    (void)nb_json_string(nb_json_get(now, "file"), &name, &n);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const nb_json_node *x = nb_json_get(now, rows[i].key), *y = nb_json_get(then, rows[i].key);
        uint64_t u = 0, v = 1;
        const bool same = nb_json_string(x, &a, NULL)
                              ? nb_json_string(y, &b, NULL) && strcmp(a, b) == 0
                              : nb_json_u64(x, &u) && nb_json_u64(y, &v) && u == v;
        char shown[132];
        if (!same)
            return nb_fail_at(
                err, NB_BAD_INPUT, path, -1,
                "the input's %s has another %s than when the run began; --restart begins anew",
                nb_escape(shown, sizeof shown, name, (int64_t)n), rows[i].what);
    }
    return NB_OK;
}

static nb_status compare_input(const nb_quantize_job *j, const char *path, const nb_json_node *had,
                               nb_error *err)
{
    nb_json *now = NULL;
    nb_status st = nb_json_parse(path, j->input.p, j->input.n, &now, err);
    if (st != NB_OK)
        return st;
    const nb_json_node *a = nb_json_first(nb_json_root(now)), *b = nb_json_first(had);
    if (nb_json_count(nb_json_root(now)) != nb_json_count(had))
        st = nb_fail_at(
            err, NB_BAD_INPUT, path, -1,
            "the input has %zu files, it had %zu when the run began; --restart begins anew",
            nb_json_count(nb_json_root(now)), nb_json_count(had));
    for (; a && b && st == NB_OK; a = nb_json_next(a), b = nb_json_next(b))
        st = compare_file(path, a, b, err);
    nb_json_close(now);
    return st;
}

static nb_status compare_begin(nb_quantize_job *j, const char *path, const nb_json_node *begin,
                               nb_error *err)
{
    const char *version = NULL, *sha = NULL;
    if (!nb_json_string(nb_json_get(begin, "nibble"), &version, NULL) ||
        strcmp(version, nb_version()) != 0)
        return nb_fail_at(err, NB_BAD_INPUT, path, -1,
                          "it is of another version of nibble than %s; --restart begins anew",
                          nb_version());
    nb_status st = nb_quantize_settings_compare(path, nb_json_get(begin, "settings"), &j->o, err);
    if (st == NB_OK)
        st = compare_input(j, path, nb_json_get(begin, "input"), err);
    if (st == NB_OK && (!nb_json_string(nb_json_get(begin, "calib_sha256"), &sha, NULL) ||
                        strcmp(sha, j->calib_sha) != 0))
        st = nb_fail_at(
            err, NB_BAD_INPUT, path, -1,
            "the calibration text is not the one the run began with; --restart begins anew");
    return st;
}

static nb_status restore_linear(nb_quantize_job *j, const char *path, const nb_json_node *l,
                                nb_error *err)
{
    const char *name = NULL, *note = NULL;
    size_t n = 0, note_n = 0;
    if (j->n_report >= nb_pipeline_most_reports(j->m))
        return nb_fail_at(err, NB_BAD_INPUT, path, -1,
                          "it speaks of more linears than the model has");
    nb_linear_report *r = &j->report[j->n_report];
    *r = (nb_linear_report){.error = (double)__builtin_nan(""),
                            .error_rtn = (double)__builtin_nan("")};
    if (!nb_json_string(nb_json_get(l, "name"), &name, &n) || n >= sizeof r->name ||
        strlen(name) != n || !nb_json_string(nb_json_get(l, "note"), &note, &note_n) ||
        note_n >= sizeof r->note ||
        !nb_json_real(nb_json_get(l, "bits_per_weight"), &r->bits_per_weight))
        return nb_fail_at(err, NB_BAD_INPUT, path, -1, "its record of a linear cannot be read");
    memcpy(r->name, name, n);
    memcpy(r->note, note, note_n);
    r->expert = nb_json_int(nb_json_get(l, "tokens"), &r->n_token) &&
                nb_json_bool(nb_json_get(l, "rounded"), &r->rounded);
    (void)nb_json_real(nb_json_get(l, "error"), &r->error); /* null: not measured */
    (void)nb_json_real(nb_json_get(l, "error_rtn"), &r->error_rtn);
    j->n_report++;
    return NB_OK;
}

/* Layers come in order: 0, 1, 2 ..., last -1. */
static nb_status restore_layers(nb_quantize_job *j, const char *path, nb_error *err)
{
    nb_status st = NB_OK;
    for (size_t i = 0; i < j->n_record && st == NB_OK; i++) {
        const nb_json_node *r = nb_json_root(j->record[i]);
        int64_t layer = 0;
        if (!is_type(r, "layer"))
            continue;
        const bool last = j->p.n_done == j->m->hp.n_layer;
        if (!nb_json_int(nb_json_get(r, "layer"), &layer) || j->p.ends_done ||
            layer != (last ? -1 : j->p.n_done))
            return nb_fail_at(err, NB_BAD_INPUT, path, -1, "its layers are not in order");
        for (const nb_json_node *l = nb_json_first(nb_json_get(r, "linears")); l && st == NB_OK;
             l = nb_json_next(l))
            st = restore_linear(j, path, l, err);
        j->p.ends_done = last;
        j->p.n_done += !last;
    }
    j->resumed = j->p.n_done;
    return st;
}

nb_status nb_quantize_work_begin(nb_quantize_job *j, nb_error *err)
{
    char path[kPath], log[kPath], line[128];
    const nb_json_node *begin = find(j, "begin");
    nb_status st = journal_path(j, path, err);
    if (st == NB_OK)
        st = nb_input_files(j->m->container, &j->input, err);
    if (st == NB_OK)
        st = hash_calib_text(j, err);
    /* a journal that is begun asks to be gone on with: not where that cannot be */
    if (st == NB_OK && !begin && j->form->folder)
        st = nb_folder_check_new(j->o.out, err);
    if (st == NB_OK)
        st = begin ? compare_begin(j, path, begin, err) : write_begin(j, err);
    if (st == NB_OK && begin)
        st = restore_layers(j, path, err);
    if (st == NB_OK)
        st = nb_workdir_file(j->work, "log", log, sizeof log, err);
    if (st == NB_OK)
        j->log = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (st == NB_OK && j->resumed && j->o.progress) {
        snprintf(line, sizeof line, "resuming at layer %d of %d", j->resumed, j->m->hp.n_layer);
        j->o.progress(j->o.arg, line, j->resumed, j->m->hp.n_layer, -1.0);
    }
    return st;
}

nb_status nb_quantize_work_verify(nb_quantize_job *j, nb_error *err)
{
    char path[kPath], hex[kHex + 1];
    nb_status st = journal_path(j, path, err);
    for (size_t i = 0; i < j->n_record && st == NB_OK; i++) {
        const nb_json_node *r = nb_json_root(j->record[i]);
        uint8_t digest[NB_SHA256_BYTES];
        const char *had = NULL;
        int64_t layer = 0;
        if (!is_type(r, "layer") || !nb_json_int(nb_json_get(r, "layer"), &layer))
            continue;
        st = j->sink->op->seal(j->sink, (int)layer, digest, err);
        nb_hex(digest, sizeof digest, hex);
        if (st == NB_OK &&
            (!nb_json_string(nb_json_get(r, "digest"), &had, NULL) || strcmp(had, hex) != 0))
            st = nb_fail_at(
                err, NB_BAD_INPUT, path, -1,
                "layer %d in the partial file is not what the run wrote; --restart begins anew",
                (int)layer);
    }
    return st;
}

/* ---- while it works ---- */

static void put_linears(nb_text *t, const nb_linear_report *r, int n)
{
    for (int i = 0; i < n; i++) {
        nb_text_puts(t, i ? ",{\"name\":" : "{\"name\":");
        nb_text_json(t, r[i].name, strlen(r[i].name));
        nb_text_puts(t, ",\"error\":");
        nb_text_number(t, r[i].error);
        nb_text_puts(t, ",\"error_rtn\":");
        nb_text_number(t, r[i].error_rtn);
        nb_text_puts(t, ",\"bits_per_weight\":");
        nb_text_number(t, r[i].bits_per_weight);
        if (r[i].expert)
            nb_text_printf(t, ",\"tokens\":%lld,\"rounded\":%s", (long long)r[i].n_token,
                           r[i].rounded ? "true" : "false");
        nb_text_puts(t, ",\"note\":");
        nb_text_json(t, r[i].note, strlen(r[i].note));
        nb_text_puts(t, "}");
    }
}

/* A line for people; that it cannot be written is no reason to stop. */
static void write_log(const nb_quantize_job *j, int layer, const nb_linear_report *r, int n,
                      double seconds)
{
    nb_text t = {0};
    nb_text_printf(
        &t,
        "{\"layer\":%d,\"seconds\":%.3f,\"anon_bytes\":%lld,\"peak_rss_bytes\":%lld,\"linears\":[",
        layer, seconds, (long long)nb_anon_rss_bytes(), (long long)nb_peak_rss_bytes());
    put_linears(&t, r, n);
    nb_text_puts(&t, "]}\n");
    if (j->log >= 0 && !t.failed && write(j->log, t.p, t.n) < 0)
        errno = 0;
    nb_text_free(&t);
}

nb_status nb_quantize_work_sealed(void *job, int layer, const uint8_t digest[32],
                                  const nb_linear_report *r, int n_report, double seconds,
                                  double token_seconds, nb_error *err)
{
    nb_quantize_job *j = job;
    nb_text t = {0};
    char hex[kHex + 1];
    nb_hex(digest, NB_SHA256_BYTES, hex);
    nb_text_printf(&t, "{\"type\":\"layer\",\"layer\":%d,\"digest\":\"%s\",\"linears\":[", layer,
                   hex);
    put_linears(&t, r, n_report);
    nb_text_puts(&t, "]}");
    const nb_status st = append(j, &t, err);
    if (st != NB_OK)
        return st;
    j->keep = true;
    if (layer >= j->o.layer_from && layer < j->o.layer_to) {
        j->layer_s += seconds;
        j->token_s += token_seconds;
        j->n_timed++;
    }
    write_log(j, layer, r, n_report, seconds);
    return NB_OK;
}

/* ---- calibration tokens: "nbcalib1" | n_seq i32 | ctx i32 | ids i32 [n_seq ctx] ---- */

static const char calib_magic[] = "nbcalib1";
enum { kCalibHead = 16 };

static nb_status check_ids(const nb_quantize_job *j, const char *path, const uint8_t *p, size_t n,
                           const char *want, nb_error *err)
{
    uint8_t sum[NB_SHA256_BYTES];
    char hex[kHex + 1];
    nb_sha256(p, n, sum);
    nb_hex(sum, sizeof sum, hex);
    const size_t count = (size_t)j->o.samples * (size_t)j->o.ctx;
    if (strcmp(hex, want) != 0 || n != kCalibHead + 4 * count || memcmp(p, calib_magic, 8) != 0 ||
        nb_load_u32(p + 8) != (uint32_t)j->o.samples || nb_load_u32(p + 12) != (uint32_t)j->o.ctx)
        return nb_fail_at(
            err, NB_BAD_INPUT, path, -1,
            "not the calibration tokens that the journal speaks of; --restart begins anew");
    for (size_t i = 0; i < count; i++)
        if (nb_load_u32(p + kCalibHead + 4 * i) >= (uint32_t)j->m->hp.vocab_size)
            return nb_fail_at(err, NB_BAD_INPUT, path, (int64_t)(kCalibHead + 4 * i),
                              "a token beyond the vocabulary");
    return NB_OK;
}

nb_status nb_quantize_work_read_calib(nb_quantize_job *j, bool *found, nb_error *err)
{
    char path[kPath];
    nb_mapfile *f = NULL;
    const char *want = NULL;
    const nb_json_node *r = find(j, "calib");
    *found = false;
    if (!r)
        return NB_OK;
    nb_status st = nb_workdir_file(j->work, "calib", path, sizeof path, err);
    if (st == NB_OK && !nb_json_string(nb_json_get(r, "sha256"), &want, NULL))
        st = nb_fail_at(err, NB_BAD_INPUT, path, -1,
                        "the journal does not say its hash; --restart begins anew");
    if (st == NB_OK)
        st = nb_mapfile_open(path, &f, err);
    if (st == NB_OK)
        st = check_ids(j, path, f->p, f->n, want, err);
    const size_t count = (size_t)j->o.samples * (size_t)j->o.ctx;
    if (st == NB_OK) {
        j->calib =
            (nb_calib){.n_seq = j->o.samples,
                       .ctx = j->o.ctx,
                       .ids = nb_alloc(count, sizeof *j->calib.ids, "calibration tokens", err)};
        st = j->calib.ids ? NB_OK : NB_NO_ROOM;
    }
    if (st == NB_OK)
        memcpy(j->calib.ids, f->p + kCalibHead, count * sizeof *j->calib.ids);
    nb_mapfile_close(f);
    *found = st == NB_OK;
    return st;
}

nb_status nb_quantize_work_write_calib(nb_quantize_job *j, nb_error *err)
{
    char path[kPath], partial[kPath], hex[kHex + 1];
    uint8_t head[kCalibHead], sum[NB_SHA256_BYTES];
    const int32_t shape[2] = {j->calib.n_seq, j->calib.ctx};
    const size_t bytes = (size_t)j->calib.n_seq * (size_t)j->calib.ctx * sizeof *j->calib.ids;
    nb_outfile *f = NULL;
    nb_sha256_state s;
    nb_text t = {0};
    memcpy(head, calib_magic, 8);
    memcpy(head + 8, shape, sizeof shape);
    nb_sha256_init(&s);
    nb_sha256_add(&s, head, sizeof head);
    nb_sha256_add(&s, j->calib.ids, bytes);
    nb_sha256_end(&s, sum);
    nb_hex(sum, sizeof sum, hex);
    nb_status st = nb_workdir_file(j->work, "calib", path, sizeof path, err);
    if (st == NB_OK)
        st = nb_workdir_file(j->work, "calib.partial", partial, sizeof partial, err);
    if (st == NB_OK)
        st = nb_outfile_open_at(path, partial, false, &f, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, 0, head, sizeof head, err);
    if (st == NB_OK)
        st = nb_outfile_write_at(f, sizeof head, j->calib.ids, bytes, err);
    if (st == NB_OK)
        st = nb_outfile_commit(f, err);
    nb_outfile_close(f);
    if (st != NB_OK)
        return st;
    nb_text_printf(&t, "{\"type\":\"calib\",\"sha256\":\"%s\"}", hex);
    st = append(j, &t, err);
    j->keep = j->keep || (st == NB_OK && strcmp(j->o.calib, "self") == 0); /* it took long enough */
    return st;
}

/* ---- the end ---- */

/* A journal without its partial file: the file has its final name already. */
nb_status nb_quantize_work_finish(nb_quantize_job *j, bool *done, nb_error *err)
{
    char path[kPath];
    *done = false;
    if (!j->p.ends_done)
        return NB_OK;
    nb_status st = j->form->finish(j->o.out, nb_workdir_path(j->work), done, err);
    if (st == NB_OK)
        st = nb_workdir_file(j->work, j->form->partial, path, sizeof path, err);
    if (st == NB_OK && !*done)
        *done = access(path, F_OK) != 0 && access(j->o.out, F_OK) == 0;
    return st;
}

/* `nibble quantize -o OUT --resume`, where a shell takes OUT as it is. */
static void hint_resume(const nb_quantize_job *j, nb_error *err)
{
    static const char plain[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./:=,@%+";
    if (err && !err->hint[0] && strspn(j->o.out, plain) == strlen(j->o.out))
        nb_hint(err, "nibble quantize -o %s --resume", j->o.out);
}

void nb_quantize_work_close(nb_quantize_job *j, nb_status outcome, nb_error *err)
{
    const bool pointless =
        outcome == NB_USAGE || outcome == NB_UNSUPPORTED || outcome == NB_BAD_INPUT;
    const bool keep = outcome != NB_OK && j->keep && (!pointless || j->earlier);
    if (j->log >= 0)
        close(j->log);
    if (!j->work)
        return;
    nb_journal_close(j->journal);
    j->journal = NULL;
    if (keep) {
        if (outcome == NB_INTERRUPTED || outcome == NB_NO_ROOM || outcome == NB_IO)
            hint_resume(j, err);
        nb_workdir_close(j->work);
    } else {
        if (outcome == NB_OK)
            remove_done(j);
        else
            remove_files(j);
        nb_workdir_discard(j->work);
    }
    j->work = NULL;
}

void nb_quantize_work_forget(nb_quantize_job *j)
{
    forget_records(j);
}
