/* hub.c -- names of the hub, where its cache is, hashes of blobs, addresses, libcurl's numbers. */
#include "check.h"
#include "hub/hub_pull.h"

#if defined(__has_include)
#if __has_include(<curl/curl.h>)
#include <curl/curl.h>
#define HAVE_CURL_H 1
#endif
#endif

static void names(check *c)
{
    static const struct {
        const char *text, *org, *repo, *revision; /* org NULL: no name */
    } rows[] = {
        {"org/name", "org", "name", "main"},
        {"HuggingFaceTB/SmolLM2-135M-Instruct", "HuggingFaceTB", "SmolLM2-135M-Instruct", "main"},
        {"o/n_1.5@v1.0", "o", "n_1.5", "v1.0"},
        {"o/n@refs/pr/12", "o", "n", "refs/pr/12"},
        {"o/n@0123456789abcdef0123456789abcdef01234567", "o", "n",
         "0123456789abcdef0123456789abcdef01234567"},
        {"o", NULL, NULL, NULL},
        {"o/", NULL, NULL, NULL},
        {"/n", NULL, NULL, NULL},
        {"o/n/m", NULL, NULL, NULL},
        {"./n", NULL, NULL, NULL},
        {"../n", NULL, NULL, NULL},
        {"o/..", NULL, NULL, NULL},
        {"o/-n", NULL, NULL, NULL},
        {"o/n--m", NULL, NULL, NULL}, /* models--o--n--m would be ambiguous */
        {"o/n@", NULL, NULL, NULL},
        {"o/n@../../x", NULL, NULL, NULL},
        {"o/n@/x", NULL, NULL, NULL},
        {"o/n@x/", NULL, NULL, NULL},
        {"o/n@a b", NULL, NULL, NULL},
        {"o n/m", NULL, NULL, NULL},
        {"o/n@.git", NULL, NULL, NULL},
        {"", NULL, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        nb_hub_name n;
        const bool is = nb_hub_name_parse(rows[i].text, &n);
        CHECK_EQ(c, is, rows[i].org != NULL);
        if (!is || !rows[i].org)
            continue;
        CHECK_STR(c, n.org, rows[i].org);
        CHECK_STR(c, n.repo, rows[i].repo);
        CHECK_STR(c, n.revision, rows[i].revision);
        CHECK_EQ(c, n.explicit_revision, strchr(rows[i].text, '@') != NULL);
    }
    char long_name[400];
    nb_hub_name n;
    memset(long_name, 'a', sizeof long_name);
    memcpy(long_name + 390, "/b", 3);
    CHECK(c, !nb_hub_name_parse(long_name, &n));
}

static void places(check *c)
{
    static const struct {
        const char *hub_cache, *older, *hf_home, *xdg, *home, *cache;
    } rows[] = {
        {"/a", "/b", "/c", "/d", "/e", "/a"},
        {"", "/b", "/c", "/d", "/e", "/b"},
        {NULL, NULL, "/c", "/d", "/e", "/c/hub"},
        {NULL, NULL, NULL, "/d", "/e", "/d/huggingface/hub"},
        {NULL, NULL, NULL, NULL, "/e", "/e/.cache/huggingface/hub"},
        {NULL, NULL, "~/x", NULL, "/e", "/e/x/hub"},
        {"~", NULL, NULL, NULL, "/e", "/e"},
    };
    static const char *const variables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                            "XDG_CACHE_HOME", "HOME"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *const value[] = {rows[i].hub_cache, rows[i].older, rows[i].hf_home, rows[i].xdg,
                                     rows[i].home};
        char path[NB_HUB_PATH], want[NB_HUB_PATH];
        nb_hub_name n;
        for (int k = 0; k < 5; k++)
            if (value[k])
                setenv(variables[k], value[k], 1);
            else
                unsetenv(variables[k]);
        CHECK_EQ(c, nb_hub_cache(path, NULL), NB_OK);
        CHECK_STR(c, path, rows[i].cache);
        CHECK(c, nb_hub_name_parse("o/n", &n) && nb_hub_repository(&n, path, NULL) == NB_OK);
        snprintf(want, sizeof want, "%.4000s/models--o--n", rows[i].cache);
        CHECK_STR(c, path, want);
    }
    char path[NB_HUB_PATH];
    nb_error err = {0};
    char *long_path = calloc(1, 2 * NB_HUB_PATH);
    if (!long_path)
        exit(1);
    memset(long_path, 'x', NB_HUB_PATH);
    setenv("HF_HUB_CACHE", long_path, 1);
    CHECK_EQ(c, nb_hub_cache(path, &err), NB_USAGE);
    unsetenv("HF_HUB_CACHE");
    free(long_path);
}

/* What `git hash-object` and `sha256sum` say of the same bytes. */
static void blob_names(check *c)
{
    static const char *const kinds[] = {
        "0000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000000"};
    static const struct {
        size_t n; /* bytes, each 'a', and a newline */
        const char *name[2];
    } rows[] = {
        {0,
         {"8b137891791fe96927ad78e64b0aad7bded08bdc",
          "01ba4719c80b6fe911b091a7c05124b64eeece964e09c058ef8f9805daca546b"}},
        {54,
         {"82c3fcbfc306c1f01046c71ffd36105b3bf8b22b",
          "6c15ca090686c041bc81baae678e91bfaaae97ef7b6bf365cde736dd05e93d66"}},
        {1000,
         {"2b813e9dc38a4c1b0c96cb5b6d29d816e24227a2",
          "2d0dff699d8e0a69179922c9ff80205f9cbcfae959079b27e4c9c3ef37c70974"}},
    };
    char text[1001], name[NB_BLOB_NAME];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int k = 0; k < 2; k++) {
            nb_blob_hash s;
            memset(text, 'a', rows[i].n);
            text[rows[i].n] = '\n';
            nb_blob_hash_init(&s, kinds[k], (int64_t)rows[i].n + 1);
            nb_blob_hash_add(&s, text, rows[i].n / 3);
            nb_blob_hash_add(&s, text + rows[i].n / 3, rows[i].n + 1 - rows[i].n / 3);
            nb_blob_hash_end(&s, name);
            CHECK_STR(c, name, rows[i].name[k]);
        }
    CHECK(c, nb_blob_name_ok(kinds[0]) && nb_blob_name_ok(kinds[1]) && !nb_blob_name_ok("") &&
                 !nb_blob_name_ok("abc"));
    CHECK(c, !nb_blob_name_ok("000000000000000000000000000000000000000/") &&
                 !nb_blob_name_ok("000000000000000000000000000000000000000A"));
}

static void addresses(check *c)
{
    static const struct {
        const char *url, *origin; /* NULL: refused */
    } rows[] = {
        {"https://huggingface.co", "https://huggingface.co:443"},
        {"https://HuggingFace.co/x?y#z", "https://huggingface.co:443"},
        {"HTTP://host/", "http://host:80"},
        {"http://127.0.0.1:8080/a", "http://127.0.0.1:8080"},
        {"http://[::1]:80/a", "http://[::1]:80"},
        {"http://[::1]/a", "http://[::1]:80"},
        {"http://host:443", "http://host:443"},
        {"http://huggingface.co@evil.org/", NULL},
        {"http://evil.org\\@huggingface.co/", "http://evil.org:80"},
        {"file:///etc/passwd", NULL},
        {"ftp://host", NULL},
        {"http://", NULL},
        {"http:///x", NULL},
        {"//host/x", NULL},
        {"", NULL},
    };
    char out[256];
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const bool is = nb_url_origin(rows[i].url, out, sizeof out);
        CHECK_EQ(c, is, rows[i].origin != NULL);
        if (is && rows[i].origin)
            CHECK_STR(c, out, rows[i].origin);
    }
    char url[64] = "http://h/";
    CHECK(c, nb_url_add(url, sizeof url, "a b/\xc3\xa4%?", "/"));
    CHECK_STR(c, url, "http://h/a%20b/%C3%A4%25%3F");
    CHECK(c, nb_url_add(url, sizeof url, "/x", ""));
    CHECK_HAS(c, url, "%2Fx");
    CHECK(c, !nb_url_add(url, sizeof url, "0123456789012345678901234567890123456789", ""));
}

static void paths(check *c)
{
    static const char *const right[] = {"a",   "a/b.json", ".gitattributes",
                                        "...", "a b",      "\xc3\xa4"};
    static const char *const wrong[] = {"",     "/a",   "a/",    "a//b", "..",   ".",
                                        "a/..", "../a", "a/./b", "a\\b", "a\nb", "a\xff"};
    for (size_t i = 0; i < sizeof right / sizeof *right; i++)
        CHECK(c, nb_tree_path_ok(right[i], strlen(right[i])));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        CHECK(c, !nb_tree_path_ok(wrong[i], strlen(wrong[i])));
    CHECK(c, !nb_tree_path_ok("a\0b", 3));
}

static void numbers(check *c)
{
#ifdef HAVE_CURL_H
    static const int rows[][2] = {
        {NB_CURL_LOW_SPEED_LIMIT, CURLOPT_LOW_SPEED_LIMIT},
        {NB_CURL_LOW_SPEED_TIME, CURLOPT_LOW_SPEED_TIME},
        {NB_CURL_NOPROGRESS, CURLOPT_NOPROGRESS},
        {NB_CURL_NOBODY, CURLOPT_NOBODY},
        {NB_CURL_FOLLOWLOCATION, CURLOPT_FOLLOWLOCATION},
        {NB_CURL_HTTPGET, CURLOPT_HTTPGET},
        {NB_CURL_CONNECTTIMEOUT, CURLOPT_CONNECTTIMEOUT},
        {NB_CURL_NOSIGNAL, CURLOPT_NOSIGNAL},
        {NB_CURL_PROTOCOLS, (int)181 /* deprecated by name */},
        {NB_CURL_WRITEDATA, CURLOPT_WRITEDATA},
        {NB_CURL_URL, CURLOPT_URL},
        {NB_CURL_USERAGENT, CURLOPT_USERAGENT},
        {NB_CURL_HTTPHEADER, CURLOPT_HTTPHEADER},
        {NB_CURL_HEADERDATA, CURLOPT_HEADERDATA},
        {NB_CURL_XFERINFODATA, CURLOPT_XFERINFODATA},
        {NB_CURL_CAINFO, CURLOPT_CAINFO},
        {NB_CURL_WRITEFUNCTION, CURLOPT_WRITEFUNCTION},
        {NB_CURL_HEADERFUNCTION, CURLOPT_HEADERFUNCTION},
        {NB_CURL_XFERINFOFUNCTION, CURLOPT_XFERINFOFUNCTION},
        {NB_CURLINFO_RESPONSE_CODE, CURLINFO_RESPONSE_CODE},
        {NB_CURLINFO_REDIRECT_URL, CURLINFO_REDIRECT_URL},
        {NB_CURLPROTO_HTTP, CURLPROTO_HTTP},
        {NB_CURLPROTO_HTTPS, CURLPROTO_HTTPS},
        {NB_CURL_GLOBAL_DEFAULT, CURL_GLOBAL_DEFAULT},
        {NB_CURLE_OK, CURLE_OK},
        {NB_CURLE_WRITE_ERROR, CURLE_WRITE_ERROR},
        {NB_CURLE_ABORTED_BY_CALLBACK, CURLE_ABORTED_BY_CALLBACK},
        {NB_CURLE_UNSUPPORTED_PROTOCOL, CURLE_UNSUPPORTED_PROTOCOL},
        {NB_CURLE_URL_MALFORMAT, CURLE_URL_MALFORMAT},
        {NB_CURLE_COULDNT_RESOLVE_PROXY, CURLE_COULDNT_RESOLVE_PROXY},
        {NB_CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_HOST},
        {NB_CURLE_COULDNT_CONNECT, CURLE_COULDNT_CONNECT},
        {NB_CURLE_PEER_FAILED_VERIFICATION, CURLE_PEER_FAILED_VERIFICATION},
        {NB_CURLE_SSL_CACERT_BADFILE, CURLE_SSL_CACERT_BADFILE},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        CHECK_EQ(c, rows[i][0], rows[i][1]);
    CHECK_EQ(c, sizeof(curl_off_t), sizeof(int64_t));
#else
    check_skip(c, "curl/curl.h is not installed (libcurl4-openssl-dev)");
#endif
}

static const check_case cases[] = {
    {"a name of the hub is ORG/REPO[@REVISION] and nothing that could be a path", names},
    {"the cache is where huggingface_hub has it", places},
    {"blobs are named as git and sha256sum name them", blob_names},
    {"an address has one origin", addresses},
    {"a path of a listing stays where it is put", paths},
    {"the numbers are libcurl's own", numbers},
};
CHECK_MAIN(cases)
