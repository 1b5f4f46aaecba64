/* quantizers.c -- the table. */
#include "quant/quantizer.h"

#include <string.h>

extern const nb_quantizer nb_quantizer_rtn, nb_quantizer_gptq, nb_quantizer_awq,
    nb_quantizer_awq_gptq;

const nb_quantizer *const nb_quantizers[] = {&nb_quantizer_rtn, &nb_quantizer_gptq,
                                             &nb_quantizer_awq, &nb_quantizer_awq_gptq, NULL};

const nb_quantizer *nb_quantizer_find(const char *name)
{
    for (const nb_quantizer *const *q = nb_quantizers; *q; q++)
        if (strcmp((*q)->name, name) == 0)
            return *q;
    return NULL;
}
