/* hub.h -- names on the Hugging Face hub, and its cache on disk as huggingface_hub keeps it, so
 * that both find each other's downloads.
 *
 *   ROOT/models--ORG--NAME/refs/REVISION            the commit, 40 hex digits (a file a branch or
 *                                                   tag)
 *   ROOT/models--ORG--NAME/snapshots/COMMIT/FILE    a link to ../../blobs/ETAG (a real file where
 *                                                   links fail)
 *   ROOT/models--ORG--NAME/blobs/ETAG               SHA-256 of a large file, git's SHA-1 of a small
 *                                                   one
 *
 * ROOT: HF_HUB_CACHE, else HUGGINGFACE_HUB_CACHE, else HF_HOME/hub; HF_HOME: else
 * XDG_CACHE_HOME/huggingface, else ~/.cache/huggingface. Reading needs no right to write. csrc/hub
 * fills the cache. */
#ifndef NB_FILE_HUB_H
#define NB_FILE_HUB_H

#include "base/status.h"
#include <stdbool.h>
#include <stddef.h>

enum { NB_HUB_NAME = 256, NB_HUB_PATH = 4096 };

typedef struct nb_hub_name {
    char org[NB_HUB_NAME], repo[NB_HUB_NAME];
    char revision[NB_HUB_NAME]; /* "main" when the name has none */
    bool explicit_revision;
} nb_hub_name;

/* Is the text ORG/REPO or ORG/REPO@REVISION? Letters, digits, '-', '_', '.'; neither part begins
 * with '.' or '-' or holds ".." or "--". */
bool nb_hub_name_parse(const char *text, nb_hub_name *out);
bool nb_hub_is_commit(const char *revision); /* 40 lower-case hex digits */

/* $HF_HOME or what stands for it. NB_NOT_FOUND when nothing says where home is. */
nb_status nb_hub_home(char path[NB_HUB_PATH], nb_error *err) NB_CHECKED;
/* ROOT */
nb_status nb_hub_cache(char path[NB_HUB_PATH], nb_error *err) NB_CHECKED;
/* ROOT/models--ORG--NAME */
nb_status nb_hub_repository(const nb_hub_name *name, char path[NB_HUB_PATH],
                            nb_error *err) NB_CHECKED;
/* The snapshot's folder. NB_NOT_FOUND, with the `nibble pull` to type as hint, when the cache does
 * not have it. */
nb_status nb_hub_find(const nb_hub_name *name, char path[NB_HUB_PATH], nb_error *err) NB_CHECKED;
/* that hint; none for what is called like a GGUF file */
void nb_hub_hint(const nb_hub_name *name, nb_error *err);

#endif
