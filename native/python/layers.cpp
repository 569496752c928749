#include "python/layers.h"

#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <bit>
#include <stdexcept>

#include "core/memory.h"
#include "core/ring_table.h"
#include "core/wire.h"

namespace hecompile::python {
namespace {

namespace nb = nanobind;
using namespace nb::literals;

constexpr float kNoTensor = 0;

template <typename T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <typename T>
std::vector<T> copied(const Vector<T>& values) {
  return std::vector<T>(values.data(), values.data() + values.size());
}

std::shared_ptr<const Layout> make_layout(
    std::int64_t dimension, std::uint64_t q, int t_bits, std::int64_t elements,
    std::tuple<std::int64_t, std::int64_t, std::int64_t> picture, std::tuple<std::int64_t, std::int64_t, std::int64_t> result,
    const nb::ndarray<const std::int32_t, nb::shape<-1, 2>, nb::c_contig, nb::device::cpu>& taps,
    std::tuple<std::int64_t, std::int64_t, std::int64_t, std::int64_t> packing, std::tuple<int, int> drops) {
  Shape shape;
  shape.elements = elements;
  std::tie(shape.channels, shape.height, shape.width) = picture;
  std::tie(shape.rows, shape.grid_height, shape.grid_width) = result;
  std::tie(shape.images_per_poly, shape.band_rows, shape.p_in, shape.p_out) = packing;
  std::tie(shape.drop_b, shape.drop_a) = drops;
  for (std::size_t i = 0; i < taps.shape(0); i++) shape.taps.push_back({taps.data()[2 * i], taps.data()[2 * i + 1]});
  auto ring = ring_of(dimension, q, t_bits);
  if (table_prime(ring->q_bits, t_bits) != q) throw std::invalid_argument("a modulus that the table of rings does not have");
  return std::make_shared<const Layout>(std::move(ring), std::move(shape));
}

std::shared_ptr<ClientLayer> make_client(std::shared_ptr<const Layout> layout, double limit, std::int64_t requests,
                                         std::tuple<std::int64_t, std::int64_t> runs, const Vector<std::int64_t>& elements,
                                         const Vector<std::int32_t>& scale_of, const Vector<std::int64_t>& channels,
                                         const Vector<std::int32_t>& heights, const Vector<std::int32_t>& widths,
                                         std::tuple<std::int64_t, std::int64_t> steps) {
  auto layer = std::make_shared<ClientLayer>();
  layer->layout = std::move(layout);
  const std::uint64_t half = std::uint64_t{1} << (layer->layout->ring->t_bits - 1);
  if (!(limit >= 1 && limit < static_cast<double>(half) && limit < 2147483648.0))
    throw std::invalid_argument("a limit out of range");
  if (requests < 1 || requests > (1 << 20)) throw std::invalid_argument("requests of a seed out of range");
  layer->limit = limit, layer->requests = requests;
  std::tie(layer->runs, layer->run_size) = runs;
  if (layer->runs < 1 || layer->run_size < 1 || layer->runs > INT64_MAX / layer->run_size)
    throw std::invalid_argument("sizes out of range");
  Source& source = layer->source;
  source.count = static_cast<std::size_t>(layer->runs * layer->run_size);
  source.elements = copied(elements), source.scale_of = copied(scale_of), source.channels = copied(channels);
  source.heights = copied(heights), source.widths = copied(widths);
  std::tie(source.row_step, source.column_step) = steps;
  source.data = &kNoTensor;  // there is no tensor yet: only its size is checked
  source.check(*layer->layout, static_cast<std::size_t>(layer->runs));
  source.data = nullptr;
  return layer;
}

// Says where the results of a layer go. rows: (rows, 7) integers, which are the fields of SinkRow in its order without the last
// two.
void set_results(ClientLayer& layer, const nb::ndarray<const std::int64_t, nb::shape<-1, 7>, nb::c_contig, nb::device::cpu>& rows,
                 const Vector<double>& scales, const Vector<float>& bias, const std::vector<std::size_t>& part_sizes) {
  if (rows.shape(0) != scales.size() || rows.shape(0) != bias.size())
    throw std::invalid_argument("rows, scales and biases of different lengths");
  std::vector<SinkRow> sink_rows;
  for (std::size_t i = 0; i < rows.shape(0); i++) {
    const std::int64_t* row = rows.data() + 7 * i;
    if (row[0] < 0 || row[0] > INT32_MAX || row[5] < 0 || row[5] > INT32_MAX || row[6] < 0 || row[6] > INT32_MAX)
      throw std::invalid_argument("a row out of range");
    sink_rows.push_back({static_cast<std::int32_t>(row[0]), row[1], row[2], row[3], row[4], static_cast<std::int32_t>(row[5]),
                         static_cast<std::int32_t>(row[6]), scales.data()[i], bias.data()[i]});
  }
  float none = 0;  // there are no tensors yet: only their sizes are checked
  Sink sink;
  sink.rows = sink_rows;
  for (const std::size_t size : part_sizes) sink.parts.push_back({&none, size});
  sink.value_scales.resize(static_cast<std::size_t>(layer.layout->shape.elements));
  sink.check(*layer.layout);
  layer.rows = std::move(sink_rows), layer.part_sizes = part_sizes;
}

}  // namespace

// A NumPy array of bytes for a request or reply. It is not initialised, and its memory is kept from call to call.
nb::object traveling_bytes(std::size_t size) {
  auto* block = new MemoryBlock(std::max<std::size_t>(size, 1));
  const nb::capsule owner(block, [](void* held) noexcept { delete static_cast<MemoryBlock*>(held); });
  const std::size_t shape[] = {size};
  return nb::cast(nb::ndarray<nb::numpy, std::uint8_t>(block->data(), 1, shape, owner));
}

void bind_layers(nb::module_& module) {
  nb::class_<Layout>(module, "Layout")
      .def_prop_ro("blocks", [](const Layout& self) { return self.blocks; })
      .def_prop_ro("uploads", [](const Layout& self) { return self.uploads; })
      .def_prop_ro("answers", [](const Layout& self) { return self.answers; })
      .def_prop_ro("seeds", [](const Layout& self) { return self.seeds; })
      .def_prop_ro("gather_indices", [](const Layout& self) { return self.gather_indices; })
      .def_prop_ro("offsets", [](const Layout& self) { return self.offsets; })
      .def_prop_ro("up_bytes",
                   [](const Layout& self) { return packed_bytes(static_cast<std::size_t>(self.up_words()), self.ring->q_bits); })
      .def_prop_ro("down_b_bytes",
                   [](const Layout& self) {
                     return packed_bytes(static_cast<std::size_t>(self.down_b_words()), self.ring->q_bits - self.shape.drop_b);
                   })
      .def_prop_ro("down_a_bytes", [](const Layout& self) {
        return packed_bytes(static_cast<std::size_t>(self.down_a_words()), self.ring->q_bits - self.shape.drop_a);
      });
  module.def("make_layout", &make_layout, "dimension"_a, "q"_a, "t_bits"_a, "elements"_a, "picture"_a, "result"_a, "taps"_a,
             "packing"_a, "drops"_a);
  module.def("traveling_bytes", &traveling_bytes, "size"_a);
  nb::class_<ClientLayer>(module, "ClientLayer").def("set_results", &set_results, "rows"_a, "scales"_a, "bias"_a, "part_sizes"_a);
  module.def("make_client_layer", &make_client, "layout"_a, "limit"_a, "requests"_a, "runs"_a, "elements"_a, "scale_of"_a,
             "channels"_a, "heights"_a, "widths"_a, "steps"_a);
}

}  // namespace hecompile::python
