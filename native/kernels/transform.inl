// The server's transforms of polynomials and weights (see product_kernels.h). Included into the namespace of an instruction set,
// behind its ops_*.h, ntt.inl, a sums_*.inl, and its limbs_*.inl for `from_bytes`.

// N times coefficients (N, 8), as `backward` leaves them -> words below q (8, N).
static inline void scale_to_words(const RingView& ring, const Cell* cells, std::uint64_t* words, const Modulus& m) {
  const Factor last = n_inverse(ring);
  for (std::int64_t c = 0; c < ring.n; c += 8) {
    Lanes v[8];
    for (int i = 0; i < 8; i++) v[i] = times(load(cells + 8 * (c + i)), last, m);
    transpose(v);
    for (int u = 0; u < 8; u++) store_words(words + u * ring.n + c, to_words(v[u], m));
  }
}

static void to_coefficients(const RingView& ring, std::uint64_t* words, Cell* cells) {
  const Modulus m = modulus(ring);
  backward_from(ring, cells, [&](std::int64_t group, Lanes v[8]) {
    for (int u = 0; u < 8; u++) v[u] = reduced(from_words(load_words(words + u * ring.n + 8 * group)), m);
    transpose(v);
  });
  scale_to_words(ring, cells, words, m);
}

// Works in the memory of the sums: the sums of a group are read before its values are written, and values take no more room.
static void sums_to_words(const RingView& ring, Cell* cells, std::uint64_t* words) {
  const Modulus m = modulus(ring);
  backward_from(ring, cells, [&](std::int64_t group, Lanes v[8]) {
    for (int i = 0; i < 8; i++) v[i] = sums::total(cells, 8 * group + i, m);
  });
  scale_to_words(ring, cells, words, m);
}

static void words_to_cells(const RingView& ring, const std::uint64_t* words, std::int64_t count, Cell* cells) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i += 8) store(cells + i, sums::value_cells(from_words(load_words(words + i)), m));
}

static void words_to_values(const RingView& ring, const std::uint64_t* words, Cell* cells, Cell* values) {
  const Modulus m = modulus(ring);
  for (std::int64_t c = 0; c < ring.n; c += 8) {
    Lanes v[8];
    for (int u = 0; u < 8; u++) v[u] = reduced(from_words(load_words(words + u * ring.n + c)), m);
    transpose(v);
    for (int i = 0; i < 8; i++) store(cells + 8 * (c + i), v[i]);
  }
  forward_to(ring, cells, [&](std::int64_t group, Lanes v[8]) {
    for (int i = 0; i < 8; i++) v[i] = sums::value_cells(v[i], m);
    transpose(v);
    for (int u = 0; u < 8; u++) store(values + u * ring.n + 8 * group, v[u]);
  });
}

// Transforms weights by a SparsePlan. Bounds in units of q, as in ntt.inl: in wide rings u is reduced, so that values stay below
// 1/2 + 1/2 + 1.1/16. In narrow ones a level makes M + 1/2 + M/64 of M, as the dense transform does.
template <bool kWide>
static void transform_sparse(const RingView& ring, const SparsePlan& plan, const std::int8_t* weights, Cell* x) {
  alignas(64) Cell column[8 << kMostSparse];
  const Modulus m = modulus(ring);
  const Lanes zero = sub(from_bytes(weights, ring.q), from_bytes(weights, ring.q), m);
  const std::int64_t height = std::int64_t{1} << plan.levels, width = ring.n >> plan.levels;
  const SparsePlan::Term* term = plan.terms;
  const std::int32_t *pair = plan.pairs, *ends = plan.ends;
  for (std::int64_t index = 0; index < plan.column_count; index++) {
    const SparsePlan::Term* last = plan.terms + plan.term_ends[index];
    for (const SparsePlan::Term* t = term; t < last; t++) store(column + 8 * t->place, zero);
    for (; term < last; term++) {
      Cell* at = column + 8 * term->place;
      store(at, add(load(at), from_bytes(weights + 8 * term->term, ring.q), m));
    }
    for (std::int64_t all = 1; all < height; all *= 2, ends += 3) {
      const std::int64_t size = height / all, half = 8 * (size / 2);
      const std::int32_t* first = pair;
      for (std::int64_t i = 0; i < all; i++) {
        Cell* block = column + 8 * i * size;
        const Factor w = factor(ring.forward, all + i);
        for (pair = first; pair < plan.pairs + ends[0]; pair++) {
          Cell* p = block + 8 * *pair;
          store(p + half, load(p));
        }
        for (; pair < plan.pairs + ends[1]; pair++) {
          Cell* p = block + 8 * *pair;
          const Lanes v = times(load(p + half), w, m);
          store(p, v), store(p + half, sub(zero, v, m));
        }
        for (; pair < plan.pairs + ends[2]; pair++) {
          Cell* p = block + 8 * *pair;
          const Lanes u = kWide ? reduced(load(p), m) : load(p), v = times(load(p + half), w, m);
          store(p, add(u, v, m)), store(p + half, sub(u, v, m));
        }
      }
    }
    Cell* to = x + 8 * plan.columns[index];
    for (std::int64_t i = 0; i < height; i++) store(to + 8 * i * width, load(column + 8 * i));
  }
  for (std::int64_t i = 0; i < height; i++)
    for (std::int64_t c = 0; c < plan.empty_count; c++) store(x + 8 * (i * width + plan.empty[c]), zero);
  forward_rest<kWide>(ring, x, width, [&](std::int64_t group, Lanes v[8]) {
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) store(x + 64 * group + 8 * i, sums::weight_cells(v[i], m));
  });
}

static void transform_weights(const RingView& ring, const SparsePlan& plan, const std::int8_t* weights, Cell* cells) {
  if (wide(ring)) transform_sparse<true>(ring, plan, weights, cells);
  else transform_sparse<false>(ring, plan, weights, cells);
}
