// Layers as Python holds them. A server has a layout only; a client also knows where the layer's values lie in tensors.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>

#include "core/encrypt.h"
#include "core/layout.h"

namespace hecompile::python {

// A layer of the client, at one batch size.
struct ClientLayer {
  std::shared_ptr<const Layout> layout;
  Source source;          // without its data, which comes with every request
  std::int64_t runs = 0;  // pictures of the value; each has `run_size` consecutive floats and a scale of its own
  std::int64_t run_size = 0;
  std::vector<SinkRow> rows;            // empty where results stay integers
  std::vector<std::size_t> part_sizes;  // floats of each part's tensor
  double limit = 0;                     // of the quantiser: messages are in [-limit, limit]
  std::int64_t requests = 1;            // how many requests of a run one public seed may serve
};

void bind_layers(nanobind::module_& module);
void bind_client(nanobind::module_& module);
void bind_server(nanobind::module_& module);
void bind_denormals(nanobind::module_& module);

}  // namespace hecompile::python
