/* gated.h -- act(gate) * up of one element, for gated_activation and for linears that take it in. */
#ifndef NB_CUDA_POINTWISE_GATED_H
#define NB_CUDA_POINTWISE_GATED_H

#include "gpu.h"

DEVI float nb_silu(float g)
{
    return g / (1.0f + expf(-g));
}
DEVI float nb_gelu_tanh(float g) /* Hendrycks and Gimpel 2016, with sqrt(2 / pi) */
{
    return 0.5f * g * (1.0f + tanhf(0.79788456f * (g + 0.044715f * g * g * g)));
}
DEVI float nb_gated(int gelu, float gate, float up)
{
    return (gelu ? nb_gelu_tanh(gate) : nb_silu(gate)) * up;
}

#endif
