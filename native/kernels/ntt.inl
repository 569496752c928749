// Negacyclic transforms of eight polynomials side by side: (N, 8) cells. Included once for each instruction set, after its ops.
//
// `forward` (Cooley-Tukey) computes values from coefficients; value k is the polynomial's at psi^(2 bitreverse(k) + 1).
// `backward` (Gentleman-Sande) computes N times the coefficients from values. The caller multiplies them by 1 / N, together with
// a factor of its own.
//
// The rest of this comment proves that all doubles stay integers that are held exactly. Bounds are absolute values in units of q.
// (The portable kernel's values are always below one.) Rings are narrow (q < 2^b with b = 48) or wide (b = 50). M is a bound on the
// values before a step. A pass is two levels at once: it reads four values that lie a quarter of a block apart and writes four,
// which are called A, B, C, D in this order, before and after.
//
// `times` needs |x w / q| < 2^51 with |w| < q/2, so |x| < 2^(52 - b): 16 in narrow rings and 4 in wide ones. It gives at most
// 1/2 + |x| 2^(b - 54): 1/2 + x/64 and 1/2 + x/16. Sums must stay below 2^(53 - b): 32 and 8.
//
// forward, where coefficients are at most 1. A level makes a + w c and a - w c from values a and c and a power w of psi. They are
// at most M + 1/2 + M/64, or M + 1/2 + M/16 in wide rings.
//   narrow: 15 levels (N = 32768) end at 9.7, so nothing needs to be reduced.
//   wide: the levels of the first pass end at 1.57 and 2.17. A pass that reduces A and B first has |A|, |B| <= 1/2 and
//   |C|, |D| < 4. Its levels end at 1/2 + 3/4 = 1.25 and 1.25 + 1/2 + 1.25/16 < 1.83. Those of the pass after it end at 2.45 and
//   3.11, which is below 4. So every second pass reduces. A single level reduces its first operand and ends at 1.25. The first of
//   the last three levels does so too: they end at 1.25, 1.83 and 2.45.
//
// backward, where values are at most 3/4. A level makes a + c and w (a - c).
//   The first three levels have sums of at most 2 M, 4 M and 8 M.
//     narrow: 8 M = 6. Value 0 is reduced at the end. Value 1 is a sum of four products, 4 (1/2 + 1.5/64) < 2.1.
//     wide: values of 4 M = 3 are reduced before the third level, whose inputs are then below 2.4. Values 0 to 3 are reduced at
//     the end. Values 4 to 7 are products, 1/2 + 2.4/16 < 3/4.
//   In every other pass, A and the inputs of products are at most 4 M, B is at most 2 (1/2 + 2 M / 2^(54 - b)), and C and D are
//   products.
//     narrow, with M <= 2.2: 4 M = 8.8. A is reduced, B <= 1.14, and C, D <= 1/2 + 8.8/64 = 0.64. So M <= 2.2 still holds.
//     wide, with M <= 3/4: 4 M = 3. A and B are reduced, and C, D <= 1/2 + 3/16 < 3/4. So M <= 3/4 still holds.
//   A single level reduces its sums. The last pass reduces nothing and ends below 9 (narrow) and 3 (wide).

// All levels of blocks of at most so many coefficients are computed before the next block: their 32 KiB of cells fit a first cache
// of 48 KiB.
constexpr std::int64_t kNear = 512;

// Whether bounds are those of wide rings.
static inline bool wide(const RingView& ring) { return ring.q_bits > 48; }

template <bool kReduce>
static inline void forward4(Lanes& a, Lanes& b, Lanes& c, Lanes& d, Factor w1, Factor w2, Factor w3, const Modulus& m) {
  if constexpr (kReduce) a = reduced(a, m), b = reduced(b, m);
  c = times(c, w1, m), d = times(d, w1, m);
  const Lanes a1 = add(a, c, m), c1 = sub(a, c, m);
  const Lanes b1 = times(add(b, d, m), w2, m), d1 = times(sub(b, d, m), w3, m);
  a = add(a1, b1, m), b = sub(a1, b1, m), c = add(c1, d1, m), d = sub(c1, d1, m);
}

// Computes two levels of blocks [first, first + count), of `size` coefficients each, of which the level has `all`. x: block
// `first`.
template <bool kReduce>
static inline void forward_pass(const TwiddleView& roots, Cell* x, std::int64_t all, std::int64_t first, std::int64_t count,
                                std::int64_t size, const Modulus& m) {
  const std::int64_t quarter = 8 * (size / 4);
  for (std::int64_t i = first; i < first + count; i++, x += 8 * size) {
    const Factor w1 = factor(roots, all + i), w2 = factor(roots, 2 * (all + i)), w3 = factor(roots, 2 * (all + i) + 1);
    for (Cell* p = x; p < x + quarter; p += 8) {
      Lanes a = load(p), b = load(p + quarter), c = load(p + 2 * quarter), d = load(p + 3 * quarter);
      forward4<kReduce>(a, b, c, d, w1, w2, w3, m);
      store(p, a), store(p + quarter, b), store(p + 2 * quarter, c), store(p + 3 * quarter, d);
    }
  }
}

// Computes the last three levels of group `group`, which are the coefficients from 8 `group` on: v[j] holds the j-th of them.
template <bool kWide>
__attribute__((always_inline)) static inline void forward8(const RingView& ring, std::int64_t group, Lanes v[8], const Modulus& m) {
  const TwiddleView& roots = ring.forward;
  const Factor w = factor(roots, ring.n / 8 + group);
#pragma GCC unroll 8
  for (int j = 0; j < 4; j++) {
    if constexpr (kWide) v[j] = reduced(v[j], m);
    const Lanes t = times(v[j + 4], w, m);
    v[j + 4] = sub(v[j], t, m), v[j] = add(v[j], t, m);
  }
#pragma GCC unroll 8
  for (int i = 0; i < 2; i++) {
    const Factor root = factor(roots, ring.n / 4 + 2 * group + i);
#pragma GCC unroll 8
    for (int j = 4 * i; j < 4 * i + 2; j++) {
      const Lanes t = times(v[j + 2], root, m);
      v[j + 2] = sub(v[j], t, m), v[j] = add(v[j], t, m);
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < 4; i++) {
    const Lanes t = times(v[2 * i + 1], factor(roots, ring.n / 2 + 4 * group + i), m);
    v[2 * i + 1] = sub(v[2 * i], t, m), v[2 * i] = add(v[2 * i], t, m);
    within(v[2 * i], kWide ? 3.2 : 9.7, m), within(v[2 * i + 1], kWide ? 3.2 : 9.7, m);
  }
}

// Computes the levels that are left when those above blocks of `size` coefficients (at least 8) are done, from cells of at most 1.1
// q. Gives the eight values of each group to `last8(group, v)`, in lanes, and does not store them.
template <bool kWide, typename Last>
static inline void forward_rest(const RingView& ring, Cell* x, std::int64_t size, const Last& last8) {
  const Modulus m = modulus(ring);
  const TwiddleView& roots = ring.forward;
  std::int64_t all = ring.n / size;
  bool reduce = false;
  for (; size > kNear; all *= 4, size /= 4, reduce = !reduce) {
    if (kWide && reduce) forward_pass<true>(roots, x, all, 0, all, size, m);
    else forward_pass<false>(roots, x, all, 0, all, size, m);
  }
  for (std::int64_t block = 0; block < all; block++) {
    Cell* from = x + 8 * block * size;
    bool here = reduce;
    std::int64_t parts = 1, part = size;
    for (; part > 16; parts *= 4, part /= 4, here = !here) {
      if (kWide && here) forward_pass<true>(roots, from, all * parts, block * parts, parts, part, m);
      else forward_pass<false>(roots, from, all * parts, block * parts, parts, part, m);
    }
    for (std::int64_t i = 0; part == 16 && i < parts; i++) {
      const Factor w = factor(roots, (all + block) * parts + i);
      for (Cell* p = from + 128 * i; p < from + 128 * i + 64; p += 8) {
        Lanes u = load(p);
        if constexpr (kWide) u = reduced(u, m);
        const Lanes t = times(load(p + 64), w, m);
        store(p, add(u, t, m)), store(p + 64, sub(u, t, m));
      }
    }
    for (std::int64_t group = 0; group < size / 8; group++) {
      Lanes v[8];
#pragma GCC unroll 8
      for (int i = 0; i < 8; i++) v[i] = load(from + 64 * group + 8 * i);
      forward8<kWide>(ring, block * (size / 8) + group, v, m);
      last8(block * (size / 8) + group, v);
    }
  }
}

template <typename Last>
static inline void forward_to(const RingView& ring, Cell* x, const Last& last8) {
  if (wide(ring)) forward_rest<true>(ring, x, ring.n, last8);
  else forward_rest<false>(ring, x, ring.n, last8);
}

// Coefficients of at most q in absolute value -> values of at most 9.7 q, or 3.2 q where q has more than 48 bits.
static inline void forward(const RingView& ring, Cell* x) {
  forward_to(ring, x, [&](std::int64_t group, Lanes v[8]) {
    for (int i = 0; i < 8; i++) store(x + 64 * group + 8 * i, v[i]);
  });
}

// Computes the first three levels of group `group`, which are the values from 8 `group` on: v[j] holds the j-th of them.
template <bool kWide>
static inline void backward8(const RingView& ring, std::int64_t group, Lanes v[8], const Modulus& m) {
  const TwiddleView& roots = ring.backward;
  for (int i = 0; i < 8; i++) within(v[i], 0.75, m);
  for (int i = 0; i < 4; i++) {
    const Lanes sum = add(v[2 * i], v[2 * i + 1], m), gap = sub(v[2 * i], v[2 * i + 1], m);
    v[2 * i] = sum, v[2 * i + 1] = times(gap, factor(roots, ring.n / 2 + 4 * group + i), m);
  }
  for (int i = 0; i < 2; i++) {
    const Factor w = factor(roots, ring.n / 4 + 2 * group + i);
    for (int j = 4 * i; j < 4 * i + 2; j++) {
      const Lanes sum = add(v[j], v[j + 2], m), gap = sub(v[j], v[j + 2], m);
      v[j] = sum, v[j + 2] = times(gap, w, m);
    }
  }
  if constexpr (kWide) v[0] = reduced(v[0], m), v[4] = reduced(v[4], m);
  const Factor w = factor(roots, ring.n / 8 + group);
  for (int j = 0; j < 4; j++) {
    const Lanes sum = add(v[j], v[j + 4], m), gap = sub(v[j], v[j + 4], m);
    v[j] = sum, v[j + 4] = times(gap, w, m);
  }
  v[0] = reduced(v[0], m);
  if constexpr (kWide) v[1] = reduced(v[1], m), v[2] = reduced(v[2], m), v[3] = reduced(v[3], m);
}

// Computes two levels, which make blocks [first, first + count) of `size` coefficients, out of `all`, from four smaller ones each.
// x: block `first`.
template <bool kReduceA, bool kReduceB>
static inline void backward_pass(const TwiddleView& roots, Cell* x, std::int64_t all, std::int64_t first, std::int64_t count,
                                 std::int64_t size, const Modulus& m) {
  const std::int64_t quarter = 8 * (size / 4);
  for (std::int64_t i = first; i < first + count; i++, x += 8 * size) {
    const Factor w1 = factor(roots, all + i), w2 = factor(roots, 2 * (all + i)), w3 = factor(roots, 2 * (all + i) + 1);
    for (Cell* p = x; p < x + quarter; p += 8) {
      const Lanes a = load(p), b = load(p + quarter), c = load(p + 2 * quarter), d = load(p + 3 * quarter);
      const Lanes a1 = add(a, b, m), b1 = times(sub(a, b, m), w2, m), c1 = add(c, d, m), d1 = times(sub(c, d, m), w3, m);
      const Lanes a2 = add(a1, c1, m), b2 = add(b1, d1, m);
      store(p, kReduceA ? reduced(a2, m) : a2), store(p + quarter, kReduceB ? reduced(b2, m) : b2);
      store(p + 2 * quarter, times(sub(a1, c1, m), w1, m)), store(p + 3 * quarter, times(sub(b1, d1, m), w1, m));
    }
  }
}

// Computes all levels from values that `first8(group, v)` gives, eight of a group at a time, in lanes, at most 3/4 q in absolute
// value.
template <bool kWide, typename First>
static inline void backward_all(const RingView& ring, Cell* x, const First& first8) {
  const Modulus m = modulus(ring);
  const TwiddleView& roots = ring.backward;
  std::int64_t near = ring.n, blocks = 1;
  for (; near > kNear; near /= 4) blocks *= 4;
  for (std::int64_t block = 0; block < blocks; block++) {
    Cell* from = x + 8 * block * near;
    const std::int64_t groups = near / 8;
    for (std::int64_t group = 0; group < groups; group++) {
      Lanes v[8];
      first8(block * groups + group, v);
      backward8<kWide>(ring, block * groups + group, v, m);
      for (int i = 0; i < 8; i++) store(from + 64 * group + 8 * i, v[i]);
    }
    std::int64_t parts = groups;
    if ((ring.levels & 1) == 0) {
      parts /= 2;
      for (std::int64_t i = 0; i < parts; i++) {
        const Factor w = factor(roots, (blocks + block) * parts + i);
        for (Cell* p = from + 128 * i; p < from + 128 * i + 64; p += 8) {
          const Lanes u = load(p), v = load(p + 64);
          store(p, reduced(add(u, v, m), m)), store(p + 64, times(sub(u, v, m), w, m));
        }
      }
    }
    std::int64_t size = (ring.levels & 1) == 0 ? 64 : 32;
    for (parts /= 4; parts >= 1; parts /= 4, size *= 4)
      backward_pass<true, kWide>(roots, from, blocks * parts, block * parts, parts, size, m);
  }
  for (std::int64_t size = near * 4, all = blocks / 4; size < ring.n; size *= 4, all /= 4)
    backward_pass<true, kWide>(roots, x, all, 0, all, size, m);
  backward_pass<false, false>(roots, x, 1, 0, 1, ring.n, m);
  for (std::int64_t i = 0; i < ring.n; i++) within(load(x + 8 * i), kWide ? 3.0 : 9.0, m);
}

template <typename First>
static inline void backward_from(const RingView& ring, Cell* x, const First& first8) {
  if (wide(ring)) backward_all<true>(ring, x, first8);
  else backward_all<false>(ring, x, first8);
}

// Values of at most 3/4 q in absolute value -> N times the coefficients, at most 9 q, or 3 q where q has more than 48 bits.
static inline void backward(const RingView& ring, Cell* x) {
  backward_from(ring, x, [&](std::int64_t group, Lanes v[8]) {
    for (int i = 0; i < 8; i++) v[i] = load(x + 64 * group + 8 * i);
  });
}
