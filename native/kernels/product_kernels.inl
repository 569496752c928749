// The table of the server's inner loops. Included once into the namespace of each instruction set, behind its ops, ntt.inl and
// product_kernels.h, and behind the limbs_*.inl of the set.

static void to_coefficients(const RingView& ring, std::uint64_t* words, Cell* cells) {
  const Modulus m = modulus(ring);
  backward_from(ring, cells, [&](std::int64_t group, Lanes v[8]) {
    for (int u = 0; u < 8; u++) v[u] = reduced(from_words(load_words(words + u * ring.n + 8 * group)), m);
    transpose(v);
  });
  const Factor last = n_inverse(ring);
  for (std::int64_t c = 0; c < ring.n; c += 8) {
    Lanes v[8];
    for (int i = 0; i < 8; i++) v[i] = times(load(cells + 8 * (c + i)), last, m);
    transpose(v);
    for (int u = 0; u < 8; u++) store_words(words + u * ring.n + c, to_words(v[u], m));
  }
}

static constexpr ProductKernels kProduct = {
    limbs::kGroup, limbs::kLimbBytes, limbs::kSafeSteps, limbs::kLimit, limbs::count_limbs, limbs::split, limbs::multiply,
    to_coefficients};
