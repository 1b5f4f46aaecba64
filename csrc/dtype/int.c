/* int.c -- whole numbers: what index tensors, masks and packed codes of checkpoints lie in. They
 * are no weights, so nothing decodes them to floats; readers load them with base/scalar.h.
 * Little-endian, two's complement. */
#include "dtype/rows.h"

const nb_dtype nb_dtype_bool = {
    .name = "bool", .ggml_id = -1, .st_name = "BOOL", .block = 1, .bytes = 1};
const nb_dtype nb_dtype_i8 = {.name = "i8", .ggml_id = 24, .st_name = "I8", .block = 1, .bytes = 1};
const nb_dtype nb_dtype_u8 = {.name = "u8", .ggml_id = -1, .st_name = "U8", .block = 1, .bytes = 1};
const nb_dtype nb_dtype_i16 = {
    .name = "i16", .ggml_id = 25, .st_name = "I16", .block = 1, .bytes = 2};
const nb_dtype nb_dtype_u16 = {
    .name = "u16", .ggml_id = -1, .st_name = "U16", .block = 1, .bytes = 2};
const nb_dtype nb_dtype_i32 = {
    .name = "i32", .ggml_id = 26, .st_name = "I32", .block = 1, .bytes = 4};
const nb_dtype nb_dtype_u32 = {
    .name = "u32", .ggml_id = -1, .st_name = "U32", .block = 1, .bytes = 4};
const nb_dtype nb_dtype_i64 = {
    .name = "i64", .ggml_id = 27, .st_name = "I64", .block = 1, .bytes = 8};
const nb_dtype nb_dtype_u64 = {
    .name = "u64", .ggml_id = -1, .st_name = "U64", .block = 1, .bytes = 8};
