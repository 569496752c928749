// The inner loops for one instruction set. The file uses raw pointers and functions of its own only, so that the linker takes no
// code for other files from here.
#include "kernels/ops_portable.h"

#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

namespace hecompile::portable {

#include "kernels/ntt.inl"
#include "kernels/client_kernels.inl"
#include "kernels/limbs_portable.inl"
#include "kernels/sums_lanes.inl"
#include "kernels/product_kernels.inl"

}  // namespace hecompile::portable

namespace hecompile {

const ClientKernels kPortableClient = portable::kClient;
const ProductKernels kPortableProduct = portable::kProduct;

}  // namespace hecompile
