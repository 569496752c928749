// Sums of products of transformed polynomials in lanes modulo q. Included into the namespace of an instruction set.
//
// Bounds in units of q, for narrow and for wide rings (see ntt.inl): transformed weights are below 9.7 and 3.2. The other factor is
// reduced and at most 1/2. So a product is below 1/2 + 4.9/16 and 1/2 + 1.6/4. A reduced sum plus kBatch products is below 4.2, and
// sums must stay below 32 and 8.

namespace sums {

constexpr std::int64_t kCells = 1;  // cells of a sum
constexpr std::int64_t kMost = std::int64_t{1} << 40;

static inline Lanes weight_cells(Lanes x, const Modulus&) { return x; }
static inline Lanes value_cells(Lanes x, const Modulus& m) { return reduced(x, m); }

template <int kCount>
static inline void accumulate_of(const Cell* const* weights, const Cell* const* values, std::int64_t count, Cell* sums,
                                 const Modulus& m) {
  const Cell *weight_at[kCount], *value_at[kCount];  // local copies, which stores to sums cannot change
#pragma GCC unroll 4
  for (int k = 0; k < kCount; k++) weight_at[k] = weights[k], value_at[k] = values[k];
  for (std::int64_t i = 0; i < count; i++) {
    Lanes sum = load(sums + 8 * i);
#pragma GCC unroll 4
    for (int k = 0; k < kCount; k++) sum = add(sum, product(load(weight_at[k] + 8 * i), every(value_at[k] + i), m), m);
    store(sums + 8 * i, reduced(sum, m));
  }
}

static void accumulate(const RingView& ring, std::int64_t batch, const Cell* const* weights, const Cell* const* values,
                       std::int64_t count, Cell* sums) {
  const Modulus m = modulus(ring);
  if (batch == kBatch) accumulate_of<kBatch>(weights, values, count, sums, m);
  else
    for (std::int64_t k = 0; k < batch; k++) accumulate_of<1>(weights + k, values + k, count, sums, m);
}

static void fold(const RingView&, std::int64_t, Cell*) {}

static void join(const RingView& ring, const Cell* more, std::int64_t count, Cell* sums) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i++) store(sums + 8 * i, reduced(add(load(sums + 8 * i), load(more + 8 * i), m), m));
}

// The i-th sum, reduced.
static inline Lanes total(const Cell* sums, std::int64_t i, const Modulus&) { return load(sums + 8 * i); }

}  // namespace sums
