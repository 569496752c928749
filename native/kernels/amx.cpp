// The server's inner loops for processors with tiles (AMX). Only the products of limbs by weights differ from those of AVX-512. The
// file uses raw pointers and functions of its own only, so that the linker takes no code for other files from here.
#include "kernels/ops_avx512.h"

#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

namespace hecompile::avx512::amx {

#include "kernels/ntt.inl"
#include "kernels/limbs_amx.inl"
#include "kernels/limbs_bytes.inl"
#include "kernels/sums_ifma.inl"
#include "kernels/product_kernels.inl"

}  // namespace hecompile::avx512::amx

namespace hecompile {

static constexpr ProductKernels with_narrow(ProductKernels kernels) {
  kernels.narrow = &kAvx512Product;
  return kernels;
}
constexpr ProductKernels kAmxProduct = with_narrow(avx512::amx::kProduct);

}  // namespace hecompile
