/* make_corpus.c -- writes the seeds of the fuzz targets: small files, each with a feature of its
 * format.
 *
 *   make_corpus FOLDER      FOLDER/json FOLDER/safetensors FOLDER/st_index FOLDER/gguf
 *                           (tests/fuzz/corpus is its
 * output, plus what fuzzing found) */
#include "hostile/bytes.h"

#include <stdio.h>
#include <sys/stat.h>

static void save(const char *folder, const char *target, const char *name, const bytes *b)
{
    char path[1200];
    snprintf(path, sizeof path, "%s/%s", folder, target);
    mkdir(path, 0777);
    snprintf(path, sizeof path, "%s/%s/%s", folder, target, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(b->p, 1, b->n, f) != b->n || fclose(f) != 0) {
        perror(path);
        exit(1);
    }
}

static void json(const char *folder)
{
    static const char *const rows[][2] = {
        {"object", "{\"a\":1,\"b\":[true,false,null],\"c\":{\"d\":\"e\"}}"},
        {"numbers", "[0,-0,1.5,-2.5e-3,1E+2,9223372036854775807,-9223372036854775808,1e-400]"},
        {"big", "[9223372036854775808,18446744073709551615,1000000000000000019884624838656]"},
        {"escapes", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0000\\u00e9\\u20ac\\ud83d\\ude00\""},
        {"utf8", "{\"\xc3\xa9\":\"\xe2\x82\xac\xf0\x9f\x98\x80\"}"},
        {"space", " \t\r\n[ 1 , { \"a\" : 2 } ] "},
        {"wide",
         "{\"a\":1,\"b\":2,\"c\":3,\"d\":4,\"e\":5,\"f\":6,\"g\":7,\"h\":8,\"i\":9,\"j\":{}}"},
        {"deep", "[[[[[[[[{\"a\":[[[[{\"b\":{\"c\":[]}}]]]]}]]]]]]]]"},
        {"duplicate", "{\"a\":1,\"\\u0061\":2}"},
        {"header", "{\"__metadata__\":{\"format\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],"
                   "\"data_offsets\":[0,24]}}"},
        {"empty", "\"\""},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = {0};
        put_text(&b, rows[i][1]);
        save(folder, "json", rows[i][0], &b);
        free(b.p);
    }
}

static void safetensors(const char *folder)
{
    static const struct {
        const char *name, *header;
        size_t data_n;
    } rows[] = {
        {"none", "{}", 0},
        {"metadata", "{\"__metadata__\":{\"format\":\"pt\"}}", 0},
        {"one", "{\"w\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]}}   ", 24},
        {"three",
         "{\"b\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[8,14]},\"a\":{\"dtype\":"
         "\"F32\","
         "\"shape\":[2],\"data_offsets\":[0,8]},\"c\":{\"dtype\":\"U8\",\"shape\":[1,1],"
         "\"data_offsets\":[14,15]}}",
         15},
        {"scalar", "{\"s\":{\"dtype\":\"F16\",\"shape\":[],\"data_offsets\":[0,2]}}", 2},
        {"empty", "{\"e\":{\"dtype\":\"F32\",\"shape\":[0,5],\"data_offsets\":[0,0]}}", 0},
        {"overlap",
         "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},\"b\":{\"dtype\":\"I8\","
         "\"shape\":[2],\"data_offsets\":[1,3]}}",
         3},
        {"overflow",
         "{\"a\":{\"dtype\":\"I64\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = {0};
        put_safetensors(&b, rows[i].header, strlen(rows[i].header), rows[i].data_n);
        save(folder, "safetensors", rows[i].name, &b);
        free(b.p);
    }
}

static void st_index(const char *folder)
{
    static const char *const rows[][2] = {
        {"two", "{\"metadata\":{\"total_size\":24},\"weight_map\":{\"a\":\"m-00001-of-00002."
                "safetensors\",\"b\":\"m-00002-of-00002.safetensors\","
                "\"c\":\"m-00001-of-00002.safetensors\"}}"},
        {"one", "{\"weight_map\":{\"a\":\"model.safetensors\"}}"},
        {"real_total",
         "{\"metadata\":{\"total_size\":1.5e9},\"weight_map\":{\"a\":\"x.safetensors\"}}"},
        {"buffer",
         "{\"weight_map\":{\"l.rotary_emb.inv_freq\":\"x.safetensors\",\"w\":\"y.safetensors\"}}"},
        {"up", "{\"weight_map\":{\"a\":\"../x.safetensors\"}}"},
        {"pickle", "{\"weight_map\":{\"a\":\"x.bin\"}}"},
        {"nul", "{\"weight_map\":{\"a\\u0000b\":\"x.safetensors\"}}"},
        {"nothing", "{\"weight_map\":{}}"},
        {"number", "{\"weight_map\":{\"a\":1}}"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        bytes b = {0};
        put_text(&b, rows[i][1]);
        save(folder, "st_index", rows[i][0], &b);
        free(b.p);
    }
}

static void gguf(const char *folder)
{
    bytes b = {0};
    put_sample_gguf(&b);
    save(folder, "gguf", "sample", &b);
    b.n = 0;
    put_head(&b, 2, 0, 0);
    save(folder, "gguf", "nothing", &b);
    b.n = 0;
    put_head(&b, 3, 2, 1);
    put_key_u32(&b, "general.alignment", 64);
    put_info(&b, "a", 4, (const uint64_t[]){1, 1, 1, 2}, 0, 0);
    put_info(&b, "b", 1, (const uint64_t[]){1}, 1, 64);
    put_pad(&b, 64);
    put_zeros(&b, 66);
    save(folder, "gguf", "aligned", &b);
    b.n = 0;
    put_head(&b, 3, 0, 1);
    put_key(&b, "a", NB_GGUF_ARRAY);
    for (int i = 0; i < 3; i++) {
        put_u32(&b, NB_GGUF_ARRAY);
        put_u64(&b, 1);
    }
    put_u32(&b, NB_GGUF_STRING);
    put_u64(&b, 1);
    put_str(&b, "x");
    save(folder, "gguf", "nested", &b);
    b.n = 0;
    put_head(&b, 3, 0, 2);
    put_key_u32(&b, "split.no", 1);
    put_key_u32(&b, "split.count", 2);
    save(folder, "gguf", "split", &b);
    b.n = 0;
    put_head(&b, 3, 1, 0);
    put_info(&b, "w", 2, (const uint64_t[]){(uint64_t)1 << 32, (uint64_t)1 << 32}, 0, 0);
    put_pad(&b, 32);
    save(folder, "gguf", "overflow", &b);
    free(b.p);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make_corpus FOLDER\n");
        return 2;
    }
    mkdir(argv[1], 0777);
    json(argv[1]);
    safetensors(argv[1]);
    st_index(argv[1]);
    gguf(argv[1]);
    return 0;
}
