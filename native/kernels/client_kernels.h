// The client's inner loops as a table of functions, one table for each instruction set. Raw pointers only.
#pragma once
#include <cstdint>

#include "kernels/ring_view.h"

namespace hecompile {

// Quantises floats: x becomes clip(rint(x / scale), -limit, limit). NaN counts as 0, an infinity as +-3.0e38. reciprocal = 1 /
// scale.
struct Quantizer {
  double scale, reciprocal, limit;
};

// One polynomial to encrypt.
struct EncryptRow {
  const std::uint64_t* a;        // (N) words below q, in evaluation form
  const Cell* secret;            // (N) cells that `spectrum` made
  const std::int32_t* messages;  // (N), below t/2 in absolute value
  const std::uint8_t* noise;     // 6 N random bytes, readable
  std::int64_t first;            // index of the polynomial's first word among all words of the request
};

// One polynomial to decrypt.
struct DecryptRow {
  const std::uint64_t* a;  // (N) words below q, in evaluation form
  const Cell* secret;      // (N) cells that `spectrum` made
  Cell* product;           // out: the coefficients of a s, (N)
};

// Data that is called readable is followed by `kReadable` more bytes that may be read.
inline constexpr std::int64_t kReadable = 16;

// The functions for one set of instructions.
struct ClientKernels {
  // Transforms of eight polynomials side by side, (N, 8) cells, as in ntt.inl; `backward` gives N times the coefficients.
  void (*forward)(const RingView& ring, Cell* lanes);
  void (*backward)(const RingView& ring, Cell* lanes);
  // (count) words below q <-> cells; count is a multiple of 8.
  void (*to_cells)(const RingView& ring, const std::uint64_t* words, std::int64_t count, Cell* cells);
  void (*to_words)(const RingView& ring, const Cell* cells, std::int64_t count, std::uint64_t* words);
  // Reduces cells of at most 2^52 q / 2^q_bits in absolute value to (-q/2, q/2). The portable kernel's cells are words below q and
  // stay.
  void (*centre)(const RingView& ring, Cell* cells, std::int64_t count);

  // Packs and unpacks ranges of words, as in core/wire.h.
  void (*pack)(const std::uint64_t* words, std::uint8_t* data, std::int64_t total, int bits, std::int64_t first,
               std::int64_t count);
  void (*unpack)(const std::uint8_t* data, std::int64_t total, int bits, std::int64_t first, std::int64_t count,
                 std::uint64_t* words);
  // Reads the first N words of a public stream (readable). Returns whether all are below q.
  bool (*expand)(const RingView& ring, const std::uint8_t* bytes, std::uint64_t* words);

  // Draws eight secrets from 8 N random bytes each, as (N) words in evaluation form. lanes: (N, 8) to work in.
  void (*draw_secrets)(const RingView& ring, const std::uint8_t* const random[8], std::uint64_t* const secrets[8], Cell* lanes);
  // (N) words of a secret -> (N) cells of the secret divided by N modulo q.
  void (*spectrum)(const RingView& ring, const std::uint64_t* secret, Cell* cells);
  // Encrypts the first `count` of eight rows and packs their words. All eight rows are read. lanes: (N, 8) to work in.
  void (*encrypt)(const RingView& ring, const EncryptRow rows[8], int count, Cell* lanes, std::uint8_t* out, std::int64_t total);

  // Transforms eight rows of (N) words, whose `drop` low bits are missing, to evaluation form: (N) words below q. lanes: (N, 8) to
  // work in.
  void (*transform)(const RingView& ring, const std::uint64_t* const words[8], int drop, std::uint64_t* const out[8], Cell* lanes);
  // The same, but the result stays in lanes: (N, 8) cells of at most q/2 in absolute value.
  void (*transform_lanes)(const RingView& ring, const std::uint64_t* const words[8], int drop, Cell* lanes);
  // Computes the coefficients of a s as (count, N) cells, for the first `count` of eight rows, or for `a` in lanes and one secret.
  void (*multiply)(const RingView& ring, const DecryptRow rows[8], int count, Cell* lanes);
  void (*multiply_lanes)(const RingView& ring, const Cell* a, const Cell* secret, int count, Cell* products, Cell* lanes);
  // Writes round(t (product + b) / q) in [-t/2, t/2) to values, (rows, width). b: (rows, width) words without their `drop` low
  // bits. `product` has runs of `width` cells that begin `stride` cells apart. All three have room for seven more values.
  void (*decode)(const RingView& ring, const Cell* product, std::int64_t rows, std::int64_t width, std::int64_t stride,
                 const std::uint64_t* b, int drop, double* values);

  // The largest absolute value, where NaN counts as 0 and an infinity as 3.0e38.
  double (*peak)(const float* values, std::int64_t count);
  // Floats at from + row row_step + column column_step -> integers at to + row stride + column.
  void (*quantize)(const float* from, std::int64_t rows, std::int64_t width, std::int64_t row_step, std::int64_t column_step,
                   const Quantizer& how, std::int32_t* to, std::int64_t stride);
  // Quantises 8 `octets` neighbouring channels of (count) tokens, which are `step` floats apart, into a run of (count) integers for
  // each channel.
  void (*quantize_tokens)(const float* from, int octets, std::int64_t count, std::int64_t step, const Quantizer& how,
                          std::int32_t* const to[]);
  // Writes values times a scale, clipped to +-3.0e38, plus a bias as floats to to + row row_step + column column_step. `values` has
  // runs of `width` doubles that begin `stride` apart, with room for seven more.
  void (*finish)(const double* values, std::int64_t rows, std::int64_t width, std::int64_t stride, double scale, float bias,
                 float* to, std::int64_t row_step, std::int64_t column_step);
  // The reverse of `quantize_tokens` without quantising: 8 `octets` runs of (count) floats, with room for seven more, become
  // neighbouring channels of (count) tokens, which are `step` floats apart.
  void (*interleave)(const float* const rows[], int octets, std::int64_t count, float* to, std::int64_t step);
};

extern const ClientKernels kPortableClient;
#if defined(__x86_64__)
extern const ClientKernels kAvx2Client, kAvx512Client;
#endif

}  // namespace hecompile
