// The inner loops for one instruction set. Only raw pointers and functions of this file: no symbol of another file comes from here.
#include "kernels/ops_portable.h"

#include "kernels/client_kernels.h"

namespace hecompile::portable {

#include "kernels/ntt.inl"
#include "kernels/client_kernels.inl"

}  // namespace hecompile::portable

namespace hecompile {

const ClientKernels kPortableClient = portable::kClient;

}  // namespace hecompile
