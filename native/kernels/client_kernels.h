// The client's inner loops as a table of functions, one table for each instruction set. Raw pointers only.
#pragma once
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {

// Floats to integers: clip(rint(x / scale), -limit, limit), with NaN as 0 and infinities as +-3.0e38. reciprocal = 1 / scale.
struct Quantizer {
  double scale, reciprocal, limit;
};

// One polynomial of an upload: `a` in (N) words, the secret in (N) cells (see `spectrum`), (N) messages, 6 N random bytes with 16
// more to read, and the number of its first word among all that are sent.
struct EncryptRow {
  const std::uint64_t* a;
  const Cell* secret;
  const std::int32_t* messages;
  const std::uint8_t* noise;
  std::int64_t first;
};

// One polynomial of an answer: `a` in evaluation form, the secret, and (N) cells for the coefficients of a s.
struct DecryptRow {
  const std::uint64_t* a;
  const Cell* secret;
  Cell* product;
};

// Wire words, with room for `kReadable` more bytes after the data where it says "readable".
inline constexpr std::int64_t kReadable = 16;

struct ClientKernels {
  // Transforms of eight polynomials side by side, (N, 8) cells, as in ntt.inl; `backward` gives N times the coefficients.
  void (*forward)(const RingView& ring, Cell* lanes);
  void (*backward)(const RingView& ring, Cell* lanes);
  // (count) words below q <-> cells; count is a multiple of 8.
  void (*to_cells)(const RingView& ring, const std::uint64_t* words, std::int64_t count, Cell* cells);
  void (*to_words)(const RingView& ring, const Cell* cells, std::int64_t count, std::uint64_t* words);
  // Cells of up to 2^52 q / 2^q_bits in absolute value, brought to (-q/2, q/2) where cells have signs.
  void (*centre)(const RingView& ring, Cell* cells, std::int64_t count);

  // Ranges of packed words, as core/wire.h.
  void (*pack)(const std::uint64_t* words, std::uint8_t* data, std::int64_t total, int bits, std::int64_t first, std::int64_t count);
  void (*unpack)(const std::uint8_t* data, std::int64_t total, int bits, std::int64_t first, std::int64_t count,
                 std::uint64_t* words);
  // The first N words of a public stream (readable). Returns whether all are below q.
  bool (*expand)(const RingView& ring, const std::uint8_t* bytes, std::uint64_t* words);

  // Eight secrets, 8 N random bytes each -> (N) words in evaluation form each. lanes: (N, 8).
  void (*draw_secrets)(const RingView& ring, const std::uint8_t* const random[8], std::uint64_t* const secrets[8], Cell* lanes);
  // (N) words of a secret -> (N) cells: the same by N.
  void (*spectrum)(const RingView& ring, const std::uint64_t* secret, Cell* cells);
  // Encrypts `count` of eight rows and packs their words; the rest of the rows are read, too. lanes: (N, 8).
  void (*encrypt)(const RingView& ring, const EncryptRow rows[8], int count, Cell* lanes, std::uint8_t* out, std::int64_t total);

  // Eight rows of (N) words without `drop` low bits -> their evaluation form, (N) words below q. lanes: (N, 8).
  void (*transform)(const RingView& ring, const std::uint64_t* const words[8], int drop, std::uint64_t* const out[8], Cell* lanes);
  // The same, but left in lanes: (N, 8) cells of at most q/2 in absolute value.
  void (*transform_lanes)(const RingView& ring, const std::uint64_t* const words[8], int drop, Cell* lanes);
  // Coefficients of a s: of `count` of eight rows, or of `a` in lanes and one secret, as (count, N) cells.
  void (*multiply)(const RingView& ring, const DecryptRow rows[8], int count, Cell* lanes);
  void (*multiply_lanes)(const RingView& ring, const Cell* a, const Cell* secret, int count, Cell* products, Cell* lanes);
  // round(t (product + b) / q) in [-t/2, t/2), at `rows` runs of `width` places of `product`, `stride` apart; b without `drop` low
  // bits and values: (rows, width). All three have room for seven more.
  void (*decode)(const RingView& ring, const Cell* product, std::int64_t rows, std::int64_t width, std::int64_t stride,
                 const std::uint64_t* b, int drop, double* values);

  double (*peak)(const float* values, std::int64_t count);
  // Floats at from + row row_step + column column_step -> integers at to + row stride + column.
  void (*quantize)(const float* from, std::int64_t rows, std::int64_t width, std::int64_t row_step, std::int64_t column_step,
                   const Quantizer& how, std::int32_t* to, std::int64_t stride);
  // Eight channels side by side, (count) times, `step` apart -> eight runs of (count) integers.
  void (*quantize_tokens)(const float* from, std::int64_t count, std::int64_t step, const Quantizer& how, std::int32_t* const to[8]);
  // Values times a scale, clipped to +-3.0e38, plus a bias: values at `rows` runs of `width`, `stride` apart, with room for seven
  // more, become floats at to + row row_step + column column_step.
  void (*finish)(const double* values, std::int64_t rows, std::int64_t width, std::int64_t stride, double scale, float bias, float* to,
                 std::int64_t row_step, std::int64_t column_step);
  // Eight runs of (count) values -> eight floats side by side, (count) times, `step` apart.
  void (*finish_tokens)(const double* const values[8], std::int64_t count, const double scales[8], const float biases[8], float* to,
                        std::int64_t step);
};

extern const ClientKernels kPortableClient;
#if defined(__x86_64__)
extern const ClientKernels kAvx2Client, kAvx512Client;
#endif

}  // namespace hecompile
