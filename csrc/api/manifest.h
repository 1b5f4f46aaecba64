/* manifest.h -- manifest.json: what a checkpoint was made of and with, and the hash of every tensor
 * and of what is outside of them (verify.h reads it). The same command gives the same bytes, so
 * nothing in it depends on the clock, the folder or an interruption. */
#ifndef NB_API_MANIFEST_H
#define NB_API_MANIFEST_H

#include "base/text.h"
#include "convert/sink.h"

/* Whether a file of a folder, by its name, is one that loaders read; the manifest is none. */
bool nb_is_model_file(const char *name);

/* [{"file","bytes","mtime_ns","inode","header_sha256"},...]: of the source as it lies on disk. */
nb_status nb_input_files(const nb_container *c, nb_text *out, nb_error *err) NB_CHECKED;

/* {"manifest":1,"nibble","settings","input","calib_sha256","tensors":[...]} and "files" of a folder
 * or "bytes" and "head" of a single file. settings: an object; input: of nb_input_files, of which
 * name, size and hash are kept; calib_sha NULL: no text was read. Every layer of the sink was
 * sealed. */
nb_status nb_manifest_write(const nb_text *settings, const nb_text *input, const char *calib_sha,
                            nb_sink *sink, nb_text *out, nb_error *err) NB_CHECKED;

#endif
