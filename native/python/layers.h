// What Python keeps of a layer: its layout, and at the client where its values lie.
#pragma once
#include <nanobind/nanobind.h>

#include <memory>

#include "core/encrypt.h"
#include "core/layout.h"

namespace hecompile::python {

// A layer at one batch size, as a client runs it.
struct ClientLayer {
  std::shared_ptr<const Layout> layout;
  Source source;          // without data
  std::int64_t runs = 0;  // elements of the value that have a scale each, of `run_size` floats one after another
  std::int64_t run_size = 0;
  std::vector<SinkRow> rows;            // empty where results are read as integers
  std::vector<std::size_t> part_sizes;  // floats of each part's tensor
  double limit = 0;
  std::int64_t requests = 1;  // that one public seed may serve
};

void bind_layers(nanobind::module_& module);
void bind_client(nanobind::module_& module);
void bind_server(nanobind::module_& module);
void bind_denormals(nanobind::module_& module);

}  // namespace hecompile::python
