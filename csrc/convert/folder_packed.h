/* folder_packed.h -- the linears of a folder under a scheme: codes are gathered until a module has
 * all its rows (fused roles give theirs one after the other), then packed and written; and read
 * back as a loader would. */
#ifndef NB_CONVERT_FOLDER_PACKED_H
#define NB_CONVERT_FOLDER_PACKED_H

#include "convert/folder_plan.h"
#include "convert/rows_out.h"
#include "file/shards_out.h"

/* The module in the making. */
typedef struct nb_packing {
    const nb_folder_plan *plan;
    nb_shards_out *out;
    int n_thread;
    int64_t module, rows; /* -1: none; how many rows of it are there */
    uint8_t *codes;       /* [N,K] */
    nb_group *groups;     /* [N,G] */
    int32_t *g_idx;       /* [K] */
    bool ordered;         /* g_idx counts */
} nb_packing;

/* Which rows of which module a matrix is, and in which order its rows come. */
typedef struct nb_packing_rows {
    int64_t module, row;
    nb_row_order order; /* from the source to the folder */
    int64_t head;
} nb_packing_rows;

void nb_packing_open(nb_packing *p, const nb_folder_plan *plan, nb_shards_out *out, int n_thread);
void nb_packing_close(nb_packing *p);
/* m: codes of the scheme's bits and groups, or rows of a number format that are such codes.
 * NB_UNSUPPORTED: they have no place in the scheme. */
nb_status nb_packing_put(nb_packing *p, nb_packing_rows at, const nb_matrix *m,
                         nb_error *err) NB_CHECKED;
/* N rows in the order of the source; *made is the caller's to free, also on failure. */
nb_status nb_packing_read(const nb_packing *p, nb_packing_rows at, int64_t N, nb_matrix *out,
                          void **made, nb_error *err) NB_CHECKED;

#endif
