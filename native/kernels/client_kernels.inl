// The client's inner loops, once for each instruction set. No branch or index depends on what is secret.

static void forward_entry(const RingView& ring, Cell* lanes) { forward(ring, lanes); }
static void backward_entry(const RingView& ring, Cell* lanes) { backward(ring, lanes); }

static void to_cells(const RingView&, const std::uint64_t* words, std::int64_t count, Cell* cells) {
  for (std::int64_t i = 0; i < count; i += 8) store(cells + i, from_words(load_words(words + i)));
}
static void centre(const RingView& ring, Cell* cells, std::int64_t count) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i += 8) store(cells + i, reduced(load(cells + i), m));
}
static void cells_to_words(const RingView& ring, const Cell* cells, std::int64_t count, std::uint64_t* words) {
  const Modulus m = modulus(ring);
  for (std::int64_t i = 0; i < count; i += 8) store_words(words + i, to_words(reduced(load(cells + i), m), m));
}

static constexpr ClientKernels kClient = {forward_entry, backward_entry, to_cells, centre, cells_to_words};
