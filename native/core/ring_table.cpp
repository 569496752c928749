#include "core/ring_table.h"

#include <algorithm>
#include <iterator>

namespace hecompile {
namespace {

struct Row {
  int q_bits, t_bits;
  std::uint64_t k;  // q = 2^q_bits - k 2^t_bits + 1
};

constexpr Row kTable[] = {
#include "core/ring_table.inc"
};

}  // namespace

std::uint64_t table_prime(int q_bits, int t_bits) {
  if (t_bits < 1) return 0;
  t_bits = std::max(t_bits, 16);
  const Row* row = std::find_if(std::begin(kTable), std::end(kTable),
                                [&](const Row& entry) { return entry.q_bits == q_bits && entry.t_bits == t_bits; });
  return row == std::end(kTable) ? 0 : (std::uint64_t{1} << q_bits) - (row->k << t_bits) + 1;
}

}  // namespace hecompile
