// The extension module hecompile._core.
#include <nanobind/nanobind.h>

#include "core/pool.h"

NB_MODULE(_core, module) {
  module.doc() = "Encryption, decryption and products of hecompile, in C++.";
  module.def("threads", &hecompile::threads, "Threads that the core works with.");
}
