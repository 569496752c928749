// Words of any width are packed without spare bits for the wire, in the format of docs/cryptography.md, section 7, which
// hecompile/backends/words.py writes too.
//
// The whole bytes of every word come first (little-endian, w / 8 of them), then the remaining w % 8 high bits of all words, packed,
// the first word's lowest. Unused bits of the last byte are zero.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hecompile {

// Bytes that `count` words of `bits` bits (1 to 56) take.
std::size_t packed_bytes(std::size_t count, int bits);

// Reads words [first, first + count) of `total` packed ones to `words`. Any range may be read.
void unpack_words(const std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count,
                  std::uint64_t* words);

// Writes `words`, which are below 2^bits, as words [first, first + count) of `total` packed ones. `first` must be a multiple of 8,
// and `count` too unless the range ends at `total`, so that two threads never write the same byte.
void pack_words(const std::uint64_t* words, std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count);

// Whether the unused bits of the last byte are zero.
bool padding_is_zero(const std::uint8_t* data, std::size_t total, int bits);

}  // namespace hecompile
