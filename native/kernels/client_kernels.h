// The client's inner loops as a table of functions, one table for each instruction set. Raw pointers only.
#pragma once
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {

struct ClientKernels {
  // Transforms of eight polynomials side by side, (N, 8) cells, as in ntt.inl; `backward` gives N times the coefficients.
  void (*forward)(const RingView& ring, Cell* lanes);
  void (*backward)(const RingView& ring, Cell* lanes);
  // (count) words below q <-> cells.
  void (*to_cells)(const RingView& ring, const std::uint64_t* words, std::int64_t count, Cell* cells);
  // Cells of up to 2^52 q / 2^q_bits in absolute value, brought to (-q/2, q/2) where cells have signs.
  void (*centre)(const RingView& ring, Cell* cells, std::int64_t count);
  void (*to_words)(const RingView& ring, const Cell* cells, std::int64_t count, std::uint64_t* words);
};

extern const ClientKernels kPortableClient;
#if defined(__x86_64__)
extern const ClientKernels kAvx2Client, kAvx512Client;
#endif

}  // namespace hecompile
