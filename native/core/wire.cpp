#include "core/wire.h"

#include <stdexcept>

#include "core/kernels.h"
#include "kernels/client_kernels.h"

namespace hecompile {
namespace {

void check(std::size_t total, int bits, std::size_t first, std::size_t count) {
  if (bits < 1 || bits > 56) throw std::invalid_argument("wire: words have 1 to 56 bits");
  if (total > SIZE_MAX / 64 || first > total || count > total - first) throw std::invalid_argument("wire: words beyond the last");
}

}  // namespace

std::size_t packed_bytes(std::size_t count, int bits) {
  check(count, bits, 0, count);
  const std::size_t whole = static_cast<std::size_t>(bits / 8), rest = static_cast<std::size_t>(bits % 8);
  return count * whole + (count * rest + 7) / 8;
}

void unpack_words(const std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count,
                  std::uint64_t* words) {
  check(total, bits, first, count);
  kernels().client->unpack(data, static_cast<std::int64_t>(total), bits, static_cast<std::int64_t>(first),
                           static_cast<std::int64_t>(count), words);
}

void pack_words(const std::uint64_t* words, std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count) {
  check(total, bits, first, count);
  if (first % 8 != 0 || (count % 8 != 0 && first + count != total))
    throw std::invalid_argument("wire: a range of packed words that does not begin and end with a byte");
  kernels().client->pack(words, data, static_cast<std::int64_t>(total), bits, static_cast<std::int64_t>(first),
                         static_cast<std::int64_t>(count));
}

bool padding_is_zero(const std::uint8_t* data, std::size_t total, int bits) {
  const std::size_t size = packed_bytes(total, bits), used = total % 8 * static_cast<std::size_t>(bits % 8) % 8;
  return used == 0 || data[size - 1] >> used == 0;
}

}  // namespace hecompile
