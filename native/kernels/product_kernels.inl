// The server's part of an instruction set. Included once into its namespace, behind product_kernels.h, its ops, ntt.inl and its
// limbs_*.inl.

#include "kernels/transform.inl"

static constexpr ProductKernels kProduct = {
    limbs::kGroup,   limbs::kLimbBytes, limbs::kSafeSteps, limbs::kLimit,     limbs::count_limbs, limbs::split, limbs::multiply,
    to_coefficients, words_to_values,   words_to_cells,    transform_weights, accumulate,         add_cells,    values_to_words};
