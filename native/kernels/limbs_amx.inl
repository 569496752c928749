// Sums of unsigned 8-bit limbs times int8 weights in tiles of 16 rows of 64 bytes (AMX-INT8). A step multiplies the weights of 16
// answers and 64 uploads by the limbs of these uploads at 16 coefficients: 16,384 products. Sums are 32-bit integers that wrap and
// never saturate. Included into the namespace of an instruction set, behind product_kernels.h and immintrin.h and before
// limbs_bytes.inl.
//
// Limbs are first copied into tiles, those of some steps at a time. In the planes the rows of a tile are `pitch` bytes apart, which
// is slow to load, and every tile is used for all blocks of a product.

namespace limbs {

constexpr std::int64_t kGroup = 4, kRows = 16, kDepth = 16, kMostBlocks = 12;
constexpr std::int64_t kTile = 16;  // coefficients of a tile of limbs
constexpr std::int64_t kTileBytes = 1024;
constexpr std::int64_t kMostSums = kMostBlocks * kRows * kStrip;  // sums of one limb
constexpr std::int64_t kTileSums = kRows * kTile;
constexpr long kRow = 64;           // bytes from one row of a tile to the next
constexpr std::int64_t kSteps = 8;  // steps that are copied at a time: the weights of two blocks then stay in the first cache

// The configuration of the tile registers. Tiles 0 to 3 hold sums. While a thread has it the system keeps 8 KiB of tiles for the
// thread, so it is given back at the end of a product.
struct TileShapes {
  std::uint8_t palette, start_row, reserved[14];
  std::uint16_t row_bytes[16];
  std::uint8_t rows[16];
};
static_assert(sizeof(TileShapes) == 64);
alignas(64) constexpr TileShapes kShapes = {1, 0, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

// Makes the compiler finish all writes to memory here, since its intrinsics do not say that tiles read memory.
static inline void memory_is_written() { __asm__ volatile("" ::: "memory"); }

// Copies the limbs of one step at 64 coefficients into two tiles at `to` and two at `to + half`. A row is one of `groups` upload
// groups; rows beyond the last group are zero.
static inline void copy_step(const std::uint8_t* rows, std::size_t pitch, std::int64_t groups, std::uint8_t* to, std::size_t half) {
  const std::int64_t full = groups < kDepth ? groups : kDepth;
  const auto put = [&](std::int64_t row, __m512i first, __m512i second, __m512i third, __m512i fourth) {
    std::uint8_t* const at = to + kRow * row;
    _mm512_store_si512(at, first), _mm512_store_si512(at + kTileBytes, second);
    _mm512_store_si512(at + half, third), _mm512_store_si512(at + half + kTileBytes, fourth);
  };
  for (std::int64_t row = 0; row < full; row++, rows += pitch)
    put(row, _mm512_loadu_si512(rows), _mm512_loadu_si512(rows + 64), _mm512_loadu_si512(rows + 128),
        _mm512_loadu_si512(rows + 192));
  const __m512i zero = _mm512_setzero_si512();
  for (std::int64_t row = full; row < kDepth; row++) put(row, zero, zero, zero, zero);
}

// Sums one limb over `steps` steps, for two blocks of answers at 32 coefficients. Writes two tiles of sums for each block, or adds
// to them where `add`. The sums of the second block begin four tiles behind the first one's, and its weights `next` bytes behind.
__attribute__((noinline)) static void sum_pair(const std::uint8_t* x, const std::int8_t* w, std::size_t next, std::int64_t steps,
                                               bool add, std::int32_t* sums) {
  std::int32_t* const lower = sums + 4 * kTileSums;
  memory_is_written();
  if (add) {
    _tile_loadd(0, sums, kRow);
    _tile_loadd(1, sums + kTileSums, kRow);
    _tile_loadd(2, lower, kRow);
    _tile_loadd(3, lower + kTileSums, kRow);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t step = 0; step < steps; step++, x += 2 * kTileBytes, w += kTileBytes) {
    _tile_loadd(6, x, kRow);
    _tile_loadd(4, w, kRow);
    _tile_dpbsud(0, 4, 6);
    _tile_loadd(7, x + kTileBytes, kRow);
    _tile_dpbsud(1, 4, 7);
    _tile_loadd(5, w + next, kRow);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + kTileSums, kRow);
  _tile_stored(2, lower, kRow);
  _tile_stored(3, lower + kTileSums, kRow);
}

// The same for one block at 64 coefficients. The limbs of the second half of them lie `half` bytes behind those of the first.
__attribute__((noinline)) static void sum_one(const std::uint8_t* x, std::size_t half, const std::int8_t* w, std::int64_t steps,
                                              bool add, std::int32_t* sums) {
  memory_is_written();
  if (add) {
    _tile_loadd(0, sums, kRow);
    _tile_loadd(1, sums + kTileSums, kRow);
    _tile_loadd(2, sums + 2 * kTileSums, kRow);
    _tile_loadd(3, sums + 3 * kTileSums, kRow);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::int64_t step = 0; step < steps; step++, x += 2 * kTileBytes, w += kTileBytes) {
    _tile_loadd(4, w, kRow);
    _tile_loadd(5, x, kRow);
    _tile_dpbsud(0, 4, 5);
    _tile_loadd(6, x + kTileBytes, kRow);
    _tile_dpbsud(1, 4, 6);
    _tile_loadd(7, x + half, kRow);
    _tile_dpbsud(2, 4, 7);
    _tile_loadd(5, x + half + kTileBytes, kRow);
    _tile_dpbsud(3, 4, 5);
  }
  _tile_stored(0, sums, kRow);
  _tile_stored(1, sums + kTileSums, kRow);
  _tile_stored(2, sums + 2 * kTileSums, kRow);
  _tile_stored(3, sums + 3 * kTileSums, kRow);
}

// Sums all limbs over upload groups [first, first + groups), where `first` is a multiple of the depth, and terms [term, term +
// terms), for all blocks of a product: two blocks at a time, and the last one of an odd number by itself.
static inline void sum_blocks(const LimbProduct& p, std::int64_t first, std::int64_t groups, std::int64_t term, std::int64_t terms,
                              std::int32_t (*sums)[kMostSums]) {
  alignas(64) std::uint8_t tiles[kMostLimbs * 4 * kSteps * kTileBytes];  // (limbs, halves, steps, 2 tiles)
  const std::int64_t all = (groups + kDepth - 1) / kDepth * terms;
  __asm__ volatile("ldtilecfg %0" ::"m"(kShapes));
  for (std::int64_t at = 0, some; at < all; at += some) {
    // The weights of all steps follow each other only where no terms are left out.
    const std::int64_t together = terms == p.terms ? all - at : terms - at % terms;
    some = together < kSteps ? together : kSteps;
    const std::size_t half = static_cast<std::size_t>(2 * some * kTileBytes);
    for (std::int64_t limb = 0; limb < p.limbs; limb++)
      for (std::int64_t step = 0; step < some; step++) {
        const std::int64_t down = (at + step) / terms * kDepth, offset = p.offsets[term + (at + step) % terms];
        copy_step(
            p.planes + static_cast<std::size_t>(limb) * p.plane_bytes + static_cast<std::size_t>(first + down) * p.pitch + offset,
            p.pitch, groups - down, tiles + 2 * static_cast<std::size_t>(limb) * half + 2 * step * kTileBytes, half);
      }
    const std::int8_t* w = p.weights + kTileBytes * ((first / kDepth + at / terms) * p.terms + term + at % terms);
    std::int64_t block = 0;
    for (; block + 2 <= p.blocks; block += 2, w += 2 * p.next)
      for (std::int64_t piece = 0; piece < 2 * p.limbs; piece++)
        sum_pair(tiles + static_cast<std::size_t>(piece) * half, w, p.next, some, at > 0,
                 sums[piece / 2] + (4 * block + 2 * (piece % 2)) * kTileSums);
    for (std::int64_t limb = 0; limb < p.limbs && block < p.blocks; limb++)
      sum_one(tiles + 2 * static_cast<std::size_t>(limb) * half, half, w, some, at > 0, sums[limb] + 4 * block * kTileSums);
  }
  _tile_release();
}

// The index of a word's sum: words lie as (blocks, kRows, kStrip), and sums by tile, (blocks, 4, kRows, kTile).
static inline std::int64_t place_of_sum(std::int64_t word) {
  const std::int64_t block = word / (kRows * kStrip), row = word / kStrip % kRows, tile = word / kTile % 4;
  return ((block * 4 + tile) * kRows + row) * kTile + word % kTile;
}

}  // namespace limbs
