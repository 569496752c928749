// The inner loops for one instruction set. The file uses raw pointers and functions of its own only, so that the linker takes no
// code for other files from here.
#include "kernels/ops_avx512.h"

#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

namespace hecompile::avx512 {

#include "kernels/ntt.inl"
#include "kernels/client_kernels.inl"
#include "kernels/limbs_avx512.inl"
#include "kernels/limbs_bytes.inl"
#include "kernels/sums_ifma.inl"
#include "kernels/product_kernels.inl"

}  // namespace hecompile::avx512

namespace hecompile {

const ClientKernels kAvx512Client = avx512::kClient;
const ProductKernels kAvx512Product = avx512::kProduct;

}  // namespace hecompile
