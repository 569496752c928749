// The inner loops for one instruction set. The file uses raw pointers and functions of its own only, so that the linker takes no
// code for other files from here.
#include "kernels/ops_avx2.h"

#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

namespace hecompile::avx2 {

#include "kernels/ntt.inl"
#include "kernels/client_kernels.inl"
#include "kernels/limbs_avx2.inl"
#include "kernels/sums_lanes.inl"
#include "kernels/product_kernels.inl"

}  // namespace hecompile::avx2

namespace hecompile {

const ClientKernels kAvx2Client = avx2::kClient;
const ProductKernels kAvx2Product = avx2::kProduct;

}  // namespace hecompile
