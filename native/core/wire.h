// Words of any width on the wire, without a spare bit per word: the same format as hecompile/backends/words.py.
//
// The whole bytes of every word come first (little-endian, w / 8 of them), then the remaining w % 8 high bits of all words, packed,
// the first word's lowest. Unused bits of the last byte are zero.
#pragma once
#include <cstddef>
#include <cstdint>

namespace hecompile {

// Bytes that `count` words of `bits` bits (1 to 56) take.
std::size_t packed_bytes(std::size_t count, int bits);

// Words [first, first + count) of `total` packed ones. Any range may be read.
void unpack_words(const std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count,
                  std::uint64_t* words);

// The inverse. `first` is a multiple of 8, and so is `count` unless the range ends with `total`: ranges of different threads then
// share no byte. Words are below 2^bits.
void pack_words(const std::uint64_t* words, std::uint8_t* data, std::size_t total, int bits, std::size_t first, std::size_t count);

// Whether the unused bits of the last byte are zero.
bool padding_is_zero(const std::uint8_t* data, std::size_t total, int bits);

}  // namespace hecompile
