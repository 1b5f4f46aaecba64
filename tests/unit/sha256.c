/* sha256.c -- SHA-256 against the examples of FIPS 180-4 (NIST's SHA256.pdf and the "Secure Hash
 * Algorithm Validation System" vectors), and against itself in pieces. */
#include "base/sha256.h"
#include "check.h"

static void the_examples_of_the_standard(check *c)
{
    static const struct {
        const char *text, *hash;
    } rows[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrl"
         "mnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
    };
    uint8_t h[NB_SHA256_BYTES];
    char hex[2 * NB_SHA256_BYTES + 1];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_sha256(rows[i].text, strlen(rows[i].text), h);
        nb_hex(h, sizeof h, hex);
        CHECK_STR(c, hex, rows[i].hash);
    }
    char *million = malloc(1000000);
    if (!million)
        exit(1);
    memset(million, 'a', 1000000);
    nb_sha256(million, 1000000, h);
    nb_hex(h, sizeof h, hex);
    CHECK_STR(c, hex, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    free(million);
}

static void plain(check *c)
{
    uint8_t text[1000], want[NB_SHA256_BYTES], got[NB_SHA256_BYTES];
    char hex[2 * NB_SHA256_BYTES + 1];
    nb_sha256_state s;
    nb_sha256_init_plain(&s);
    nb_sha256_add(&s, "abc", 3);
    nb_sha256_end(&s, got);
    nb_hex(got, sizeof got, hex);
    CHECK_STR(c, hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * i + 1);
    int wrong = 0;
    for (size_t n = 0; n <= sizeof text; n++) {
        nb_sha256(text, n, want);
        nb_sha256_init_plain(&s);
        nb_sha256_add(&s, text, n);
        nb_sha256_end(&s, got);
        wrong += memcmp(want, got, sizeof got) != 0;
    }
    CHECK_EQ(c, wrong, 0);
}

static void pieces(check *c)
{
    uint8_t text[300], whole[NB_SHA256_BYTES], parts[NB_SHA256_BYTES];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 7 + 3);
    int wrong = 0;
    for (size_t n = 0; n <= sizeof text; n++) {
        nb_sha256(text, n, whole);
        for (size_t first = 0; first <= n; first += 1 + n / 40)
            for (size_t second = 0; second <= n - first; second += 13) {
                nb_sha256_state s;
                nb_sha256_init(&s);
                nb_sha256_add(&s, text, first);
                nb_sha256_add(&s, text + first, second);
                nb_sha256_add(&s, NULL, 0);
                nb_sha256_add(&s, text + first + second, n - first - second);
                nb_sha256_end(&s, parts);
                wrong += memcmp(whole, parts, sizeof whole) != 0;
            }
    }
    CHECK_EQ(c, wrong, 0);
    nb_sha256(text, 64, whole);
    nb_sha256(text, 63, parts);
    CHECK(c, memcmp(whole, parts, sizeof whole) != 0);
}

static const check_case cases[] = {
    {"the examples of FIPS 180-4 have their hashes", the_examples_of_the_standard},
    {"the processor's instructions give what the plain rounds give", plain},
    {"the pieces in which bytes arrive do not matter", pieces},
};
CHECK_MAIN(cases)
