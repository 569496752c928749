// The client's inner loops, compiled once for each instruction set. No branch and no address depends on secrets, errors, messages
// or decrypted values (docs/cryptography.md, section 8). client_kernels.h says what the functions compute.

static void forward_entry(const RingView& ring, Cell* lanes) { forward(ring, lanes); }
static void backward_entry(const RingView& ring, Cell* lanes) { backward(ring, lanes); }

static void to_cells(const RingView&, const std::uint64_t* words, std::int64_t count, Cell* cells) {
  for (std::int64_t i = 0; i < count; i += 8) store(cells + i, from_words(load_words(words + i)));
}
static void cells_to_words(const RingView& ring, const Cell* cells, std::int64_t count, std::uint64_t* words) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i += 8) store_words(words + i, to_words(reduced(load(cells + i), m), m));
}
static void centre(const RingView& ring, Cell* cells, std::int64_t count) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i += 8) store(cells + i, reduced(load(cells + i), m));
}

// ---------------------------------------------------------------- words on the wire

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bytes of words are copied as they lie in memory");

// Writes the `count` lowest bytes of a value, at most 8.
static inline void put_bytes(std::uint8_t* to, std::uint64_t value, std::int64_t count) {
  for (std::int64_t i = 0; i < count; i++) to[i] = static_cast<std::uint8_t>(value >> (8 * i));
}
// The same where all `room` bytes from `to` on will be written in order. Bytes beyond the `count` first may be written here, since
// later writes replace them.
static inline void put_on(std::uint8_t* to, std::uint64_t value, std::int64_t count, std::int64_t room) {
  if (room >= 8) __builtin_memcpy(to, &value, 8);
  else put_bytes(to, value, count);
}
// Reads `count` bytes, at most 8, as a little-endian number.
static inline std::uint64_t get_bytes(const std::uint8_t* from, std::int64_t count) {
  std::uint64_t value = 0;
  for (std::int64_t i = 0; i < count; i++) value |= static_cast<std::uint64_t>(from[i]) << (8 * i);
  return value;
}

static inline std::uint64_t eight_bytes(const std::uint8_t* from) {
  std::uint64_t value;
  __builtin_memcpy(&value, from, 8);
  return value;
}

static void pack(const std::uint64_t* words, std::uint8_t* data, std::int64_t total, int bits, std::int64_t first,
                 std::int64_t count) {
  const int whole = bits / 8, rest = bits % 8;
  const Bytes bytes = bytes_of(whole);
  const Squeeze s = squeeze_of(rest);
  std::uint8_t *low = data + first * whole, *high = data + total * whole + first / 8 * rest;
  std::int64_t i = 0;
  for (; i + 8 <= count; i += 8, low += 8 * whole, high += rest) {
    const Words x = load_words(words + i);
    if (whole != 0) store_packed(low, x, bytes, whole, (count - i - 8) * whole >= 16);
    if (rest != 0) put_on(high, squeeze(octets(x, whole), s), rest, (count - i) / 8 * rest);
  }
  if (i == count) return;
  std::uint64_t octet = 0;
  for (std::int64_t k = 0; k < count - i; k++) {
    put_bytes(low + k * whole, words[i + k], whole);
    octet |= (words[i + k] >> (8 * whole) & 0xff) << (8 * k);
  }
  if (rest != 0) put_bytes(high, squeeze(octet, s), ((count - i) * rest + 7) / 8);
}

// Word `i` of `total` packed ones.
static inline std::uint64_t unpack_one(const std::uint8_t* data, std::int64_t total, int whole, int rest, std::int64_t i) {
  std::uint64_t word = get_bytes(data + i * whole, whole);
  if (rest != 0) {
    const std::int64_t bit = i * rest, last = (bit + rest - 1) / 8;
    const std::uint8_t* high = data + total * whole;
    const std::uint64_t pair = high[bit / 8] | static_cast<std::uint64_t>(high[last]) << (last == bit / 8 ? 0 : 8);
    word |= (pair >> (bit % 8) & ((std::uint64_t{1} << rest) - 1)) << (8 * whole);
  }
  return word;
}

// How many bytes ahead of the words that are unpacked the processor is asked to fetch.
constexpr std::int64_t kBytesAhead = 2048;

static void unpack(const std::uint8_t* data, std::int64_t total, int bits, std::int64_t first, std::int64_t count,
                   std::uint64_t* words) {
  const int whole = bits / 8, rest = bits % 8;
  const Bytes bytes = bytes_of(whole);
  const Squeeze s = squeeze_of(rest);
  const std::int64_t end = first + count;
  const std::int64_t size = total * whole + (total * rest + 7) / 8;
  std::int64_t i = first;
  for (; i < end && rest != 0 && i % 8 != 0; i++) words[i - first] = unpack_one(data, total, whole, rest, i);
  for (; i + 8 <= end && (i + 8) * whole + kReadsOver <= size; i += 8) {
    // The address may lie beyond the bytes. It is a hint only, and nothing is read from it.
    // NOLINTNEXTLINE(performance-no-int-to-ptr)
    __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<std::uintptr_t>(data + i * whole) + kBytesAhead));
    Words x = whole != 0 ? load_packed(data + i * whole, bytes) : every_word(0);
    if (rest != 0) {
      const std::int64_t high = total * whole + i / 8 * rest;
      const std::uint64_t squeezed = high + 8 <= size ? eight_bytes(data + high) : get_bytes(data + high, rest);
      x = either(x, spread_octets(unsqueeze(squeezed, s), whole));
    }
    store_words(words + (i - first), x);
  }
  for (; i < end; i++) words[i - first] = unpack_one(data, total, whole, rest, i);
}

static bool expand(const RingView& ring, const std::uint8_t* from, std::uint64_t* words) {
  const int whole = (ring.q_bits + 7) / 8;
  const Bytes bytes = bytes_of(whole);
  const Words mask = every_word((std::uint64_t{1} << ring.q_bits) - 1), most = every_word(ring.q - 1);
  Words beyond = every_word(0);
  for (std::int64_t i = 0; i < ring.n; i += 8) {
    const Words x = both(load_packed(from + i * whole, bytes), mask);
    beyond = either(beyond, less(most, x));
    store_words(words + i, x);
  }
  return !any_negative(beyond);
}

// ---------------------------------------------------------------- secrets and encryption

static void draw_secrets(const RingView& ring, const std::uint8_t* const random[8], std::uint64_t* const secrets[8], Cell* lanes) {
  const Modulus m = modulus(ring);
  Lanes v[8];
  for (std::int64_t i = 0; i < ring.n; i += 8) {
    for (int j = 0; j < 8; j++) v[j] = ternary(random[j] + 8 * i, m);
    transpose(v);
    for (int j = 0; j < 8; j++) store(lanes + 8 * (i + j), v[j]);
  }
  forward_to(ring, lanes, [&](std::int64_t group, Lanes values[8]) {
    transpose(values);
    for (int j = 0; j < 8; j++) store_words(secrets[j] + 8 * group, to_words(reduced(values[j], m), m));
  });
}

static void spectrum(const RingView& ring, const std::uint64_t* secret, Cell* cells) {
  const Modulus m = modulus(ring);
  const Factor inverse = n_inverse(ring);
  for (std::int64_t i = 0; i < ring.n; i += 8) store(cells + i, reduced(times(from_words(load_words(secret + i)), inverse, m), m));
}

// Writes the coefficients of a s of eight rows to lanes, (N, 8). With |a| < q and |s| <= q/2 products are at most
// q (1/2 + 2^(q_bits - 53)) < 3/4 q, as `backward_from` needs.
template <typename Row>
static inline void multiply_rows(const RingView& ring, const Row rows[8], Cell* lanes) {
  const Modulus m = modulus(ring);
  backward_from(ring, lanes, [&](std::int64_t group, Lanes v[8]) {
    for (int j = 0; j < 8; j++) v[j] = product(from_words(load_words(rows[j].a + 8 * group)), load(rows[j].secret + 8 * group), m);
    transpose(v);
  });
}

// How many coefficients are brought from lanes (N, 8) into rows (8, N) at a time. They stay in the first cache.
constexpr std::int64_t kStrip = 64;

static inline void strip_rows(const Cell* lanes, Cell strip[8][kStrip]) {
  for (std::int64_t k = 0; k < kStrip; k += 8) {
    Lanes v[8];
    for (int j = 0; j < 8; j++) v[j] = load(lanes + 8 * (k + j));
    transpose(v);
    for (int j = 0; j < 8; j++) store(&strip[j][k], v[j]);
  }
}

static void encrypt(const RingView& ring, const EncryptRow rows[8], int count, Cell* lanes, std::uint8_t* out, std::int64_t total) {
  multiply_rows(ring, rows, lanes);
  const Modulus m = modulus(ring);
  const Encoder e = encoder(ring);
  const Bytes six = bytes_of(6), bytes = bytes_of(ring.q_bits / 8);
  const int whole = ring.q_bits / 8, rest = ring.q_bits % 8;
  const Squeeze s = squeeze_of(rest);
  alignas(64) Cell strip[8][kStrip];
  for (std::int64_t at = 0; at < ring.n; at += kStrip) {
    strip_rows(lanes + 8 * at, strip);
    for (int j = 0; j < count; j++) {
      const EncryptRow& row = rows[j];
      std::uint8_t *low = out + (row.first + at) * whole, *high = out + total * whole + (row.first + at) / 8 * rest;
      for (std::int64_t k = 0; k < kStrip; k += 8, low += 8 * whole) {
        const Words x = encrypted(load(&strip[j][k]), row.messages + at + k, load_packed(row.noise + 6 * (at + k), six), e, m);
        store_packed(low, x, bytes, whole, k + 16 <= kStrip);
        if (rest != 0) put_on(high + k / 8 * rest, squeeze(octets(x, whole), s), rest, (kStrip - k) / 8 * rest);
      }
    }
  }
}

// ---------------------------------------------------------------- decryption

static inline void words_to_lanes(const RingView& ring, const std::uint64_t* const words[8], int drop, Cell* lanes) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < ring.n; i += 8) {
    Lanes v[8];
    for (int j = 0; j < 8; j++) v[j] = reduced(widened(load_words(words[j] + i), drop, m), m);
    transpose(v);
    for (int j = 0; j < 8; j++) store(lanes + 8 * (i + j), v[j]);
  }
}
static void transform(const RingView& ring, const std::uint64_t* const words[8], int drop, std::uint64_t* const out[8],
                      Cell* lanes) {
  const Modulus m = modulus(ring);
  words_to_lanes(ring, words, drop, lanes);
  forward_to(ring, lanes, [&](std::int64_t group, Lanes values[8]) {
    transpose(values);
    for (int j = 0; j < 8; j++) store_words(out[j] + 8 * group, to_words(reduced(values[j], m), m));
  });
}
static void transform_lanes(const RingView& ring, const std::uint64_t* const words[8], int drop, Cell* lanes) {
  const Modulus m = modulus(ring);
  words_to_lanes(ring, words, drop, lanes);
  forward_to(ring, lanes, [&](std::int64_t group, Lanes values[8]) {
    for (int i = 0; i < 8; i++) store(lanes + 64 * group + 8 * i, reduced(values[i], m));
  });
}

static void multiply(const RingView& ring, const DecryptRow rows[8], int count, Cell* lanes) {
  multiply_rows(ring, rows, lanes);
  for (std::int64_t i = 0; i < ring.n; i += 8) {
    Lanes v[8];
    for (int j = 0; j < 8; j++) v[j] = load(lanes + 8 * (i + j));
    transpose(v);
    for (int j = 0; j < count; j++) store(rows[j].product + i, v[j]);
  }
}
static void multiply_lanes(const RingView& ring, const Cell* a, const Cell* secret, int count, Cell* products, Cell* lanes) {
  const Modulus m = modulus(ring);
  backward_from(ring, lanes, [&](std::int64_t group, Lanes v[8]) {
    for (int i = 0; i < 8; i++) v[i] = product(load(a + 64 * group + 8 * i), every(secret + 8 * group + i), m);
  });
  for (std::int64_t i = 0; i < ring.n; i += 8) {
    Lanes v[8];
    for (int j = 0; j < 8; j++) v[j] = load(lanes + 8 * (i + j));
    transpose(v);
    for (int j = 0; j < count; j++) store(products + j * ring.n + i, v[j]);
  }
}

// |product| is at most 9 q, or 3 q where q has more than 48 bits, and b is below 2 q. So their sum is below 2^53 and exact.
static void decode(const RingView& ring, const Cell* product, std::int64_t rows, std::int64_t width, std::int64_t stride,
                   const std::uint64_t* b, int drop, double* values) {
  const Modulus m = modulus(ring);
  const Decoder d = decoder(ring);
  for (std::int64_t row = 0; row < rows; row++, product += stride, b += width, values += width)
    for (std::int64_t i = 0; i < width; i += 8)
      store_doubles(values + i, decoded(add(load_cells(product + i), widened(load_words(b + i), drop, m), m), d, m));
}

// ---------------------------------------------------------------- floats

static double peak(const float* values, std::int64_t count) {
  const Peak p = peak_of(values, count);
  const double finite = static_cast<double>(__builtin_bit_cast(float, p.finite));
  const std::uint64_t seen = 0 - static_cast<std::uint64_t>(p.infinite != 0);
  const double infinite = __builtin_bit_cast(double, seen& __builtin_bit_cast(std::uint64_t, 3.0e38));
  return finite > infinite ? finite : infinite;
}

// The vector kernels divide x by a scale s by multiplying, and get fl(x / s), the correctly rounded quotient. Let r = fl(1 / s).
// - y0 = fl(x r) is within 2 ulp of x / s.
// - y1 = fl(y0 + r (x - s y0)) has an error of at most half an ulp and 2^-50 ulp, so it is one of the two neighbours of x / s.
// - Then x - s y1 is exact, and by Markstein's theorem (1990; Muller et al., Handbook of Floating-Point Arithmetic, 4.7)
//   y2 = fl(y1 + r (x - s y1)) is fl(x / s).
// The theorem needs that r is correctly rounded and that nothing overflows or underflows. This holds, since x is a float32
// or 3.0e38 and s lies between 2^-200 and 2^200.
static void quantize(const float* from, std::int64_t rows, std::int64_t width, std::int64_t row_step, std::int64_t column_step,
                     const Quantizer& how, std::int32_t* to, std::int64_t stride) {
  const Quantizing q = quantizing(how.scale, how.reciprocal, how.limit);
  for (std::int64_t row = 0; row < rows; row++, from += row_step, to += stride) {
    if (column_step == 1) {
      for (std::int64_t i = 0; i < width; i += 8) store_ints(to + i, quantized(load_floats(from + i, width - i), q), width - i);
      continue;
    }
    for (std::int64_t i = 0; i < width; i += 8) {
      float eight[8] = {};
      for (std::int64_t k = 0; k < 8 && i + k < width; k++) eight[k] = from[(i + k) * column_step];
      store_ints(to + i, quantized(load_floats(eight, 8), q), width - i);
    }
  }
}

// How many tokens ahead the processor is asked to fetch. Tokens lie far apart, often on different pages, and the
// processor fetches nearby bytes only.
constexpr std::int64_t kAhead = 32;

static void quantize_tokens(const float* from, int octets, std::int64_t count, std::int64_t step, const Quantizer& how,
                            std::int32_t* const to[]) {
  const Quantizing q = quantizing(how.scale, how.reciprocal, how.limit);
  for (std::int64_t i = 0; i < count; i += 8) {
    for (std::int64_t k = i + kAhead; k < i + kAhead + 8 && k < count; k++) {
      __builtin_prefetch(from + k * step);
      __builtin_prefetch(from + k * step + 8 * octets - 1);
    }
    for (int octet = 0; octet < octets; octet++) {
      Doubles v[8];
      for (std::int64_t k = 0; k < 8; k++) {
        const std::int64_t at = i + k < count ? i + k : i;  // values beyond the last token are not stored
        v[k] = quantized(load_floats(from + at * step + 8 * octet, 8), q);
      }
      transpose_doubles(v);
      for (int j = 0; j < 8; j++) store_ints(to[8 * octet + j] + i, v[j], count - i);
    }
  }
}

static void finish(const double* values, std::int64_t rows, std::int64_t width, std::int64_t stride, double scale, float bias,
                   float* to, std::int64_t row_step, std::int64_t column_step) {
  const Doubles by = every_double(scale);
  for (std::int64_t row = 0; row < rows; row++, values += stride, to += row_step) {
    if (column_step == 1) {
      for (std::int64_t i = 0; i < width; i += 8) store_floats(to + i, scaled(load_doubles(values + i), by), bias, width - i);
      continue;
    }
    for (std::int64_t i = 0; i < width; i += 8) {
      float eight[8];
      store_floats(eight, scaled(load_doubles(values + i), by), bias, 8);
      for (std::int64_t k = 0; k < 8 && i + k < width; k++) to[(i + k) * column_step] = eight[k];
    }
  }
}

static void interleave(const float* const rows[], int octets, std::int64_t count, float* to, std::int64_t step) {
  for (std::int64_t i = 0; i < count; i += 8) {
    for (std::int64_t k = i + kAhead; k < i + kAhead + 8 && k < count; k++) {
      __builtin_prefetch(to + k * step, 1);
      __builtin_prefetch(to + k * step + 8 * octets - 1, 1);
    }
    for (int octet = 0; octet < octets; octet++) interleave8(rows + 8 * octet, i, to + i * step + 8 * octet, step, count - i);
  }
}

static constexpr ClientKernels kClient = {forward_entry,   backward_entry, to_cells,       cells_to_words, centre,  pack,
                                          unpack,          expand,         draw_secrets,   spectrum,       encrypt, transform,
                                          transform_lanes, multiply,       multiply_lanes, decode,         peak,    quantize,
                                          quantize_tokens, finish,         interleave};
