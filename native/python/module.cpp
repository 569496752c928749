// The Python module `hecompile._core`.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "core/kernels.h"
#include "core/pool.h"
#include "python/layers.h"
#include "python/randomness.h"

namespace nb = nanobind;
using namespace nb::literals;

NB_MODULE(_core, module) {
  module.doc() = "Symmetric BFV: whole layers, float32 to packed ciphertexts and back (docs/cryptography.md).";
  hecompile::python::prepare_randomness();
  hecompile::python::bind_layers(module);
  hecompile::python::bind_client(module);
  hecompile::python::bind_server(module);
  hecompile::python::bind_denormals(module);
  module.attr("compiler") = std::string(HECOMPILE_COMPILER);
  module.attr("SEED_BYTES") = hecompile::python::kSeedBytes;
  module.attr("BLOCKS_PER_SEED") = hecompile::kBlocksPerSeed;
  module.def("kernel", [] { return std::string(hecompile::kernels().name); });
  module.def("kernels", [] {
    std::vector<std::string> names;
    for (const auto* kernel : hecompile::runnable_kernels()) names.emplace_back(kernel->name);
    return names;
  });
  module.def("use_kernel", &hecompile::use_kernel, "name"_a);
  module.def(
      "self_test",
      [](const std::string& name) {
        for (const auto* kernel : hecompile::runnable_kernels())
          if (name == kernel->name) return hecompile::self_test(*kernel);
        throw nb::value_error("this processor runs no kernel of that name");
      },
      "name"_a);
  module.def("set_threads", &hecompile::set_threads, "count"_a);
  module.def("threads", &hecompile::threads);
}
