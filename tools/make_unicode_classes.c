/* make_unicode_classes.c -- writes csrc/text/unicode_classes.c: the code points whose general
 * category differs between two versions of UnicodeData.txt (Unicode Standard Annex 44, section
 * 5.7.1; fields 0 and 2 of a line, ranges as "First>" and "Last>" pairs).
 *
 *   cc -o make tools/make_unicode_classes.c
 *   ./make 14.0/UnicodeData.txt 16.0/UnicodeData.txt >csrc/text/unicode_classes.c
 *
 * 14.0 is what PCRE2 10.42 knows, 16.0 what the hub's `tokenizers` 0.23 knows. A newer PCRE2 needs
 * no other table: what it knows already is only said once more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { kCodes = 0x110000, kNames = 30 };

static const char names[kNames][3] = {"Cn", "Cc", "Cf", "Co", "Cs", "Ll", "Lm", "Lo", "Lt", "Lu",
                                      "Mc", "Me", "Mn", "Nd", "Nl", "No", "Pc", "Pd", "Pe", "Pf",
                                      "Pi", "Po", "Ps", "Sc", "Sk", "Sm", "So", "Zl", "Zp", "Zs"};

static unsigned char before[kCodes], after[kCodes];

static int number_of(const char *name)
{
    for (int i = 0; i < kNames; i++)
        if (memcmp(names[i], name, 2) == 0)
            return i;
    fprintf(stderr, "unknown category %.2s\n", name);
    exit(1);
}

static void read_categories(const char *path, unsigned char *of)
{
    char line[1024];
    unsigned long first = 0;
    FILE *f = fopen(path, "r");
    if (!f) {
        perror(path);
        exit(1);
    }
    while (fgets(line, sizeof line, f)) {
        const char *name = strchr(line, ';'), *category = name ? strchr(name + 1, ';') : NULL;
        const unsigned long code = strtoul(line, NULL, 16);
        if (!category || code >= kCodes) {
            fprintf(stderr, "%s: not a line of UnicodeData: %s", path, line);
            exit(1);
        }
        const int is_last = category - name >= 6 && memcmp(category - 5, "Last>", 5) == 0;
        for (unsigned long c = is_last ? first : code; c <= code; c++)
            of[c] = (unsigned char)number_of(category + 1);
        first = code;
    }
    fclose(f);
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: make_unicode_classes OLD/UnicodeData.txt NEW/UnicodeData.txt\n");
        return 2;
    }
    read_categories(argv[1], before);
    read_categories(argv[2], after);
    printf("/* unicode_classes.c -- written by tools/make_unicode_classes.c from UnicodeData.txt "
           "14.0 and 16.0: what changed. */\n"
           "#include \"text/unicode_classes.h\"\n\n"
           "const char nb_unicode_category[NB_UNICODE_CATEGORIES][3] = {");
    for (int i = 0; i < kNames; i++)
        printf("%s\"%s\"", i == 0 ? "\n    " : i % 15 ? ", " : ",\n    ", names[i]);
    printf("};\n\nconst nb_unicode_change nb_unicode_changes[] = {\n");
    int n = 0;
    for (long c = 0; c < kCodes;) {
        long end = c;
        while (end < kCodes && before[end] == before[c] && after[end] == after[c])
            end++;
        if (before[c] != after[c]) {
            printf("%s{0x%05lx, 0x%05lx, %d, %d},%s", n % 4 ? " " : "    ", c, end - 1, before[c],
                   after[c], n % 4 == 3 ? "\n" : "");
            n++;
        }
        c = end;
    }
    printf("%s};\nconst int nb_unicode_n_change = %d;\n", n % 4 ? "\n" : "", n);
    return 0;
}
