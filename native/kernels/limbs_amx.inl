// Sums of unsigned 8-bit limbs times int8 weights in tiles of 16 rows of 64 bytes (AMX-INT8): a step multiplies the weights of 16
// answers and 64 uploads by limbs of these uploads at 16 coefficients, 16,384 products. Sums are 32-bit integers that wrap, never
// saturate. Included into the namespace of an instruction set, behind product_kernels.h and immintrin.h and before limbs_bytes.inl.
//
// Limbs already lie as a tile wants them, four uploads side by side: a row of the tile is a group, and the next one is `pitch` bytes
// further.

namespace limbs {

constexpr std::int64_t kGroup = 4, kRows = 16, kDepth = 16;
constexpr std::int64_t kTile = 16;                         // coefficients of a tile
constexpr std::int64_t kMostSums = kMostAnswers * kStrip;  // of a limb
constexpr long kSumPitch = 4 * kStrip;                     // bytes from one answer's sums to the next

// Tiles 0 to 3 hold sums, 4 and 5 weights, 6 and 7 limbs. While a thread has this configuration the system keeps 8 KiB of tiles for
// it, so it is given back at the end of a product.
struct TileShapes {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);

// The compiler's intrinsics do not say that tiles read memory.
static inline void memory_is_written() { __asm__ volatile("" ::: "memory"); }

static inline void shape_tiles(std::int64_t depth) {
  alignas(64) TileShapes shapes = {1, 0, {}, {}, {}};
  for (int tile = 0; tile < 8; tile++) {
    shapes.row_bytes[tile] = static_cast<std::uint16_t>(tile == 4 || tile == 5 ? kGroup * depth : 4 * kTile);
    shapes.rows[tile] = static_cast<std::uint8_t>(tile < 6 ? kRows : depth);
  }
  __asm__ volatile("ldtilecfg %0" ::"m"(shapes));
}

// Where a sum begins: limbs at the first group and coefficient, weights of the first block.
struct TileSums {
  const std::uint8_t* x;
  std::size_t pitch;
  const std::int64_t* offsets;
  std::int64_t steps, terms;  // steps of `depth` groups
  const std::int8_t* w;
  std::size_t w_pitch;  // bytes from the weights of one step to those of the next
  std::size_t next;     // bytes from those of one block to those of the next
  std::int64_t depth;
  bool add;            // to `sums`, instead of writing over them
  std::int32_t* sums;  // (answers, kStrip)
};

// One limb: two blocks of answers x 32 coefficients.
__attribute__((noinline)) static void sum_pair(const TileSums& s) {
  const long pitch = static_cast<long>(s.pitch), row = static_cast<long>(kGroup * s.depth);
  const std::size_t down = static_cast<std::size_t>(s.depth) * s.pitch;
  const std::int64_t terms = s.terms;
  const std::int64_t* const offsets = s.offsets;
  const std::size_t next = s.next;
  std::int32_t *const upper = s.sums, *const lower = s.sums + kRows * kStrip;
  memory_is_written();
  if (s.add) {
    _tile_loadd(0, upper, kSumPitch);
    _tile_loadd(1, upper + kTile, kSumPitch);
    _tile_loadd(2, lower, kSumPitch);
    _tile_loadd(3, lower + kTile, kSumPitch);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const std::uint8_t* x = s.x;
  const std::int8_t* w = s.w;
  for (std::int64_t step = 0; step < s.steps; step++, x += down, w += s.w_pitch) {
    const std::int8_t* each = w;
    for (std::int64_t t = 0; t < terms; t++, each += kRows * row) {
      const std::uint8_t* from = x + offsets[t];
      _tile_loadd(6, from, pitch);
      _tile_loadd(4, each, row);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(7, from + kGroup * kTile, pitch);
      _tile_dpbsud(1, 4, 7);
      _tile_loadd(5, each + next, row);
      _tile_dpbsud(2, 5, 6);
      _tile_dpbsud(3, 5, 7);
    }
  }
  _tile_stored(0, upper, kSumPitch);
  _tile_stored(1, upper + kTile, kSumPitch);
  _tile_stored(2, lower, kSumPitch);
  _tile_stored(3, lower + kTile, kSumPitch);
}

// The same for one block x 64 coefficients.
__attribute__((noinline)) static void sum_one(const TileSums& s) {
  const long pitch = static_cast<long>(s.pitch), row = static_cast<long>(kGroup * s.depth);
  const std::size_t down = static_cast<std::size_t>(s.depth) * s.pitch;
  const std::int64_t terms = s.terms;
  const std::int64_t* const offsets = s.offsets;
  std::int32_t* const sums = s.sums;
  memory_is_written();
  if (s.add) {
    _tile_loadd(0, sums, kSumPitch);
    _tile_loadd(1, sums + kTile, kSumPitch);
    _tile_loadd(2, sums + 2 * kTile, kSumPitch);
    _tile_loadd(3, sums + 3 * kTile, kSumPitch);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const std::uint8_t* x = s.x;
  const std::int8_t* w = s.w;
  for (std::int64_t step = 0; step < s.steps; step++, x += down, w += s.w_pitch) {
    const std::int8_t* each = w;
    for (std::int64_t t = 0; t < terms; t++, each += kRows * row) {
      const std::uint8_t* from = x + offsets[t];
      _tile_loadd(4, each, row);
      _tile_loadd(6, from, pitch);
      _tile_dpbsud(0, 4, 6);
      _tile_loadd(7, from + kGroup * kTile, pitch);
      _tile_dpbsud(1, 4, 7);
      _tile_loadd(6, from + 2 * kGroup * kTile, pitch);
      _tile_dpbsud(2, 4, 6);
      _tile_loadd(7, from + 3 * kGroup * kTile, pitch);
      _tile_dpbsud(3, 4, 7);
    }
  }
  _tile_stored(0, sums, kSumPitch);
  _tile_stored(1, sums + kTile, kSumPitch);
  _tile_stored(2, sums + 2 * kTile, kSumPitch);
  _tile_stored(3, sums + 3 * kTile, kSumPitch);
}

constexpr std::int64_t kTilesAtOnce = 12;  // of two blocks' weights, which stay in the first cache while all limbs are multiplied

// Sums of all limbs of all blocks of a product over groups [first, first + groups), `first` a multiple of the depth, and terms
// [term, term + terms): of two blocks at a time, and of the last one of an odd number alone.
static inline void sum_blocks(const LimbProduct& p, std::int64_t first, std::int64_t groups, std::int64_t term, std::int64_t terms,
                              std::int32_t (*sums)[kMostSums]) {
  const std::int64_t steps = (groups + p.depth - 1) / p.depth, most = kTilesAtOnce / terms, at_once = most < 1 ? 1 : most;
  const std::size_t tile = static_cast<std::size_t>(kRows * kGroup * p.depth), w_pitch = static_cast<std::size_t>(p.terms) * tile;
  const std::int8_t* const w = p.weights + static_cast<std::size_t>(first / p.depth) * w_pitch + static_cast<std::size_t>(term) * tile;
  const std::uint8_t* const x = p.planes + static_cast<std::size_t>(first) * p.pitch;
  shape_tiles(p.depth);
  for (std::int64_t block = 0; block < p.blocks; block += 2) {
    const bool pair = block + 1 < p.blocks;
    for (std::int64_t step = 0; step < steps; step += at_once) {
      TileSums s = {};
      s.pitch = p.pitch, s.offsets = p.offsets + term, s.terms = terms, s.depth = p.depth, s.add = step > 0;
      s.steps = steps - step < at_once ? steps - step : at_once;
      s.w = w + static_cast<std::size_t>(block) * p.next + static_cast<std::size_t>(step) * w_pitch, s.w_pitch = w_pitch, s.next = p.next;
      for (std::int64_t limb = 0; limb < p.limbs; limb++)
        for (std::int64_t half = 0; half < kStrip; half += pair ? 2 * kTile : kStrip) {
          s.x = x + static_cast<std::size_t>(limb) * p.plane_bytes + static_cast<std::size_t>(step * p.depth) * p.pitch + kGroup * half;
          s.sums = sums[limb] + block * kRows * kStrip + half;
          if (pair) sum_pair(s);
          else sum_one(s);
        }
    }
  }
  _tile_release();
}

}  // namespace limbs
