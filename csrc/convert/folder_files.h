/* folder_files.h -- a model folder besides its tensors: the texts that are made, the files that are
 * carried over, the folder itself. */
#ifndef NB_CONVERT_FOLDER_FILES_H
#define NB_CONVERT_FOLDER_FILES_H

#include "convert/folder_plan.h"

enum { NB_FOLDER_PATH = 4096 };

/* FOLDER/NAME; NB_IO when it is too long. */
nb_status nb_in_folder(const char *folder, const char *name, char path[NB_FOLDER_PATH],
                       nb_error *err) NB_CHECKED;

/* The texts of a folder that are made. */
typedef enum nb_folder_text {
    NB_TEXT_CONFIG,
    NB_TEXT_GENERATION,
    NB_TEXT_TOKENIZER,
    NB_TEXT_TOKENIZER_CONFIG,
    NB_TEXT_QUANTIZE, /* what the config says of quantization, once more, for old loaders */
    NB_TEXT_MANIFEST, /* last: a folder that has it is whole */
    NB_FOLDER_TEXTS
} nb_folder_text;

/* All but the manifest. plan: with its scheme. The texts are the caller's to free, also on
 * failure. */
nb_status nb_folder_make_texts(const nb_model *m, nb_folder_plan *plan, const char *torch_dtype,
                               nb_text text[NB_FOLDER_TEXTS], nb_error *err) NB_CHECKED;
/* Writes those that are not empty, in order. */
nb_status nb_folder_write_texts(const char *folder, const nb_text text[NB_FOLDER_TEXTS],
                                nb_error *err) NB_CHECKED;
/* The files of a source folder that belong to the model: `file` for each of them, with its bytes
 * (borrowed until it returns). */
nb_status nb_folder_carried(const nb_container *src,
                            nb_status (*file)(void *arg, const char *name, const void *p, size_t n,
                                              nb_error *err),
                            void *arg, nb_error *err) NB_CHECKED;
/* What nb_folder_write_texts would write, but the manifest. */
nb_status nb_folder_texts(const nb_text text[NB_FOLDER_TEXTS],
                          nb_status (*file)(void *arg, const char *name, const void *p, size_t n,
                                            nb_error *err),
                          void *arg, nb_error *err) NB_CHECKED;
nb_status nb_folder_carry_files(const nb_container *src, const char *folder,
                                nb_error *err) NB_CHECKED;

/* OUT is not there, or is an empty folder, or NB_IO. */
nb_status nb_folder_check_new(const char *out, nb_error *err) NB_CHECKED;
/* A new folder OUT.partial-XXXXXX; *path is the caller's to free. */
nb_status nb_folder_make_partial(const char *out, char **path, nb_error *err) NB_CHECKED;
/* With its files; a folder inside it stays, and it too then. */
void nb_folder_remove(const char *folder);

#endif
