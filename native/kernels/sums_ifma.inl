// Sums of products of transformed polynomials with 52-bit integer multiply-add: the low and the high 52 bits of products are added
// separately, in 64-bit lanes, and put together at the end. Included into the namespace of an instruction set.
//
// Weights are words below 2 q and values below q, so with q below 2^50 a product's high part is below 2^49 and its low part below
// 2^52: sums of 4096 stay below 2^64.

namespace sums {

constexpr std::int64_t kCells = 2;    // cells of a sum: low, high
constexpr std::int64_t kMost = 2048;  // products between two folds

static inline Lanes weight_cells(Lanes x, const Modulus& m) {
  const Lanes two52 = _mm512_set1_pd(4503599627370496.0);
  const Lanes positive = _mm512_add_pd(_mm512_add_pd(reduced(x, m), m.q), two52);  // from q/2 to 3 q/2
  return _mm512_xor_pd(positive, two52);
}
static inline Lanes value_cells(Lanes x, const Modulus& m) { return _mm512_castsi512_pd(to_words(reduced(x, m), m)); }

template <int kCount>
static inline void accumulate_of(const Cell* const* weights, const Cell* const* values, std::int64_t count, Cell* sums) {
  const Cell *weight_at[kCount], *value_at[kCount];  // local copies, which stores to sums cannot change
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) weight_at[k] = weights[k], value_at[k] = values[k];
  for (std::int64_t i = 0; i < count; i++, sums += 16) {
    __m512i low = _mm512_load_si512(sums), high = _mm512_load_si512(sums + 8);
#pragma GCC unroll 4
    for (int k = 0; k < kCount; k++) {
      const __m512i weight = _mm512_load_si512(weight_at[k] + 8 * i);
      const __m512i value = _mm512_set1_epi64(static_cast<long long>(value_at[k][i]));
      low = _mm512_madd52lo_epu64(low, weight, value), high = _mm512_madd52hi_epu64(high, weight, value);
    }
    _mm512_store_si512(sums, low), _mm512_store_si512(sums + 8, high);
  }
}

static void accumulate(const RingView&, std::int64_t batch, const Cell* const* weights, const Cell* const* values,
                       std::int64_t count, Cell* sums) {
  if (batch == kBatch) accumulate_of<kBatch>(weights, values, count, sums);
  else
    for (std::int64_t k = 0; k < batch; k++) accumulate_of<1>(weights + k, values + k, count, sums);
}

// The i-th sum, high 2^52 + low, reduced modulo q. high is below 2^61 and is cut at bit 26, so that both parts are exact as
// doubles.
static inline Lanes total(const Cell* sums, std::int64_t i, const Modulus& m) {
  const __m512i low = _mm512_load_si512(sums + 16 * i), mask = _mm512_set1_epi64((1LL << 52) - 1);
  const __m512i high = _mm512_add_epi64(_mm512_load_si512(sums + 16 * i + 8), _mm512_srli_epi64(low, 52));
  const Lanes two26 = _mm512_set1_pd(67108864.0);
  const Lanes upper = _mm512_cvtepi64_pd(_mm512_srli_epi64(high, 26));
  const Lanes lower = _mm512_cvtepi64_pd(_mm512_and_si512(high, _mm512_set1_epi64((1LL << 26) - 1)));
  const Lanes rest = _mm512_cvtepi64_pd(_mm512_and_si512(low, mask));
  // (upper 2^26 + lower) 2^52 + rest: upper is below 2^36
  Lanes sum = reduced(_mm512_add_pd(reduced(_mm512_mul_pd(upper, two26), m), lower), m);
  sum = product(sum, two26, m), sum = product(sum, two26, m);
  return reduced(_mm512_add_pd(sum, reduced(rest, m)), m);
}

static void fold(const RingView& ring, std::int64_t count, Cell* sums) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i++) {
    const Lanes sum = total(sums, i, m);
    _mm512_store_si512(sums + 16 * i, to_words(sum, m)), _mm512_store_si512(sums + 16 * i + 8, _mm512_setzero_si512());
  }
}

static void join(const RingView&, const Cell* more, std::int64_t count, Cell* sums) {
  for (std::int64_t i = 0; i < 16 * count; i += 8)
    _mm512_store_si512(sums + i, _mm512_add_epi64(_mm512_load_si512(sums + i), _mm512_load_si512(more + i)));
}

}  // namespace sums
