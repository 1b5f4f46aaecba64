/* bytes.h -- a growing row of bytes and the pieces of GGUF and safetensors files, right or wrong,
 * for tests. */
#ifndef NB_TESTS_HOSTILE_BYTES_H
#define NB_TESTS_HOSTILE_BYTES_H

#include "file/gguf.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static inline void put(bytes *b, const void *p, size_t n)
{
    if (b->n + n > b->cap) {
        b->cap = 2 * (b->n + n) + 64;
        b->p = realloc(b->p, b->cap);
        if (!b->p)
            exit(1);
    }
    if (n)
        memcpy(b->p + b->n, p, n);
    b->n += n;
}

static inline void put_u8(bytes *b, unsigned v)
{
    const uint8_t byte = (uint8_t)v;
    put(b, &byte, 1);
}

static inline void put_u32(bytes *b, uint32_t v)
{
    put(b, &v, sizeof v);
}

static inline void put_u64(bytes *b, uint64_t v)
{
    put(b, &v, sizeof v);
}

static inline void put_zeros(bytes *b, size_t n)
{
    while (n--)
        put_u8(b, 0);
}

static inline void put_text(bytes *b, const char *s)
{
    put(b, s, strlen(s));
}

/* GGUF: a string with its length. */
static inline void put_str(bytes *b, const char *s)
{
    put_u64(b, strlen(s));
    put_text(b, s);
}

static inline void put_head(bytes *b, uint32_t version, uint64_t n_tensor, uint64_t n_kv)
{
    put_text(b, "GGUF");
    put_u32(b, version);
    put_u64(b, n_tensor);
    put_u64(b, n_kv);
}

/* A key up to its value. */
static inline void put_key(bytes *b, const char *key, uint32_t type)
{
    put_str(b, key);
    put_u32(b, type);
}

static inline void put_key_u32(bytes *b, const char *key, uint32_t v)
{
    put_key(b, key, NB_GGUF_U32);
    put_u32(b, v);
}

/* A key that is an array, up to its elements. */
static inline void put_key_array(bytes *b, const char *key, uint32_t elem, uint64_t count)
{
    put_key(b, key, NB_GGUF_ARRAY);
    put_u32(b, elem);
    put_u64(b, count);
}

static inline void put_info(bytes *b, const char *name, uint32_t n_dim, const uint64_t *ne,
                            uint32_t type, uint64_t offset)
{
    put_str(b, name);
    put_u32(b, n_dim);
    for (uint32_t i = 0; i < n_dim && i < 8; i++)
        put_u64(b, ne[i]);
    put_u32(b, type);
    put_u64(b, offset);
}

static inline void put_pad(bytes *b, size_t alignment)
{
    while (b->n % alignment)
        put_u8(b, 0);
}

/* A whole safetensors file: the header's length, the header, n bytes of data. */
static inline void put_safetensors(bytes *b, const char *header, size_t header_n, size_t data_n)
{
    put_u64(b, header_n);
    put(b, header, header_n);
    for (size_t i = 0; i < data_n; i++)
        put_u8(b, (unsigned)i);
}

/* A GGUF file with a bit of everything: scalars of every type, arrays, a Q4_0 matrix and an F32
 * vector. */
static inline void put_sample_gguf(bytes *b)
{
    static const uint8_t scalar[8] = {1, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t size[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    put_head(b, 3, 2, 15);
    for (uint32_t type = 0; type < sizeof size; type++)
        if (size[type]) {
            char key[] = "type.A";
            key[5] = (char)('A' + type);
            put_key(b, key, type);
            put(b, scalar, size[type]);
        }
    put_key(b, "general.architecture", NB_GGUF_STRING);
    put_str(b, "llama");
    put_key_array(b, "tokens", NB_GGUF_STRING, 3);
    put_str(b, "a");
    put_str(b, "");
    put_str(b, "\xe2\x96\x81the");
    put_key_array(b, "scores", NB_GGUF_F32, 2);
    put_u32(b, 0x3f800000);
    put_u32(b, 0xc0000000);
    put_key_array(b, "types", NB_GGUF_I32, 3);
    put_u32(b, 1);
    put_u32(b, 0xffffffff);
    put_u32(b, 3);
    put_info(b, "blk.0.weight", 2, (const uint64_t[]){64, 3}, 2, 0);
    put_info(b, "norm", 1, (const uint64_t[]){5}, 0, 128);
    put_pad(b, 32);
    for (unsigned i = 0; i < 128 + 20; i++) /* 3 rows of 36 bytes, padding, 5 floats */
        put_u8(b, i);
}

#endif
