/* slices.c -- rounding without statistics takes a few rows of a linear at a time (quant/slices.c):
 * what it writes must be what converting each tensor as a whole gives, and a fault must name the
 * row of the linear. */
#include "check.h"
#include "file/container.h"
#include "hostile/folder.h"
#include "nibble.h"
#include "tiny_gguf.h"

static folder here;
static char model[1024], rounded[1024], converted[1024];

/* 2^18 weights a slice: gate and up have 4096 rows and 64 more, down 63 and one. */
static const tiny_shape shape = {
    .n_layer = 1, .hidden = 64, .ffn = 4160, .n_head = 2, .n_kv_head = 1, .ctx = 32};

static nb_status round_model(nb_error *err)
{
    const nb_quantize_options o = {.model = model,
                                   .out = rounded,
                                   .method = "rtn",
                                   .grid = "q4_0",
                                   .embedding = "q4_0",
                                   .device = "cpu",
                                   .n_thread = 2};
    nb_quantize_result r;
    const nb_status st = nb_quantize(&o, &r, err);
    if (st == NB_OK)
        nb_quantize_result_free(&r);
    return st;
}

static void as_one(check *c)
{
    const nb_convert_options o = {.model = model, .out = converted, .grid = "q4_0", .n_thread = 2};
    nb_convert_result r;
    nb_container *a = NULL, *b = NULL;
    nb_error err = {.offset = -1};
    int n = 0;
    CHECK_EQ(c, round_model(&err), NB_OK);
    CHECK_EQ(c, nb_convert(&o, &r, &err), NB_OK);
    CHECK_EQ(c, nb_container_open(rounded, &a, &err), NB_OK);
    CHECK_EQ(c, nb_container_open(converted, &b, &err), NB_OK);
    CHECK_STR(c, err.message, "");
    for (int64_t i = 0; a && b && i < a->n_tensor; i++) {
        const nb_tensor *x = &a->tensor[i], *y = nb_container_find(b, x->name);
        CHECK(c, y && y->dtype == x->dtype && y->bytes == x->bytes);
        if (!y || y->bytes != x->bytes)
            continue;
        n += strcmp(x->dtype->name, "q4_0") == 0;
        c->n_check++;
        if (memcmp(x->data, y->data, (size_t)x->bytes) != 0)
            check_report(c, __FILE__, __LINE__, "%s is not as it is when it is converted", x->name);
    }
    CHECK_EQ(c, n, 8 + (b ? nb_container_find(b, "output.weight") != NULL : 0));
    nb_container_close(a);
    nb_container_close(b);
}

static void row_named(check *c)
{
    static const struct {
        const char *tensor, *row;
        int64_t at; /* the value */
    } rows[] = {{"blk.0.ffn_up.weight", "in row 4100", (int64_t)4100 * 64 + 3},
                {"blk.0.ffn_down.weight", "in row 63", (int64_t)63 * 4160 + 7}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_container *a = NULL;
        nb_error err = {.offset = -1};
        tiny_gguf_in(&here, "tiny.gguf", &shape);
        CHECK_EQ(c, nb_container_open(model, &a, &err), NB_OK);
        const nb_tensor *t = a ? nb_container_find(a, rows[i].tensor) : NULL;
        const uint64_t at = t ? t->offset + 2 * (uint64_t)rows[i].at : 0;
        nb_container_close(a);
        FILE *f = fopen(model, "r+b");
        CHECK(c, t && f && fseek(f, (long)at, SEEK_SET) == 0 && fwrite("\0\x7e", 1, 2, f) == 2);
        CHECK(c, f && fclose(f) == 0);
        (void)remove(rounded);
        CHECK_EQ(c, round_model(&err), NB_BAD_INPUT);
        CHECK_HAS(c, err.message, rows[i].tensor);
        CHECK_HAS(c, err.message, rows[i].row);
    }
}

static const check_case cases[] = {
    {"a linear of several slices is rounded as one", as_one},
    {"a value that is not finite names its row of the linear", row_named},
};

int main(int argc, char **argv)
{
    here = folder_new();
    (void)folder_in(&here, "tiny.gguf", model);
    (void)folder_in(&here, "rounded.gguf", rounded);
    (void)folder_in(&here, "converted.gguf", converted);
    tiny_gguf_in(&here, "tiny.gguf", &shape);
    const int rc = check_main(cases, sizeof cases / sizeof *cases, argc, argv);
    folder_gone(&here);
    return rc;
}
