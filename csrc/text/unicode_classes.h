/* unicode_classes.h -- general categories of Unicode 16, as what changed since Unicode 14
 * (unicode_classes.c is generated). */
#ifndef NB_TEXT_UNICODE_CLASSES_H
#define NB_TEXT_UNICODE_CLASSES_H

#include <stdint.h>

enum { NB_UNICODE_CATEGORIES = 30 };
extern const char nb_unicode_category[NB_UNICODE_CATEGORIES][3]; /* "Cn", "Cc" ... "Zs" */

typedef struct nb_unicode_change { /* code points first .. last */
    int32_t first, last;
    uint8_t from, to; /* indices of nb_unicode_category: in Unicode 14, in Unicode 16 */
} nb_unicode_change;
extern const nb_unicode_change nb_unicode_changes[];
extern const int nb_unicode_n_change;

#endif
