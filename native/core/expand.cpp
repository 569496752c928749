#include "core/expand.h"

#include "core/kernels.h"
#include "kernels/client_kernels.h"

namespace hecompile {

bool expand(const Ring& ring, const std::uint8_t* bytes, std::uint64_t* words) {
  static_assert(kSpareWords >= kReadable, "a kernel may read kReadable bytes beyond the first N words");
  if (kernels().client->expand(ring.view(), bytes, words)) return true;
  // Some word is not below q, so all are looked at one by one. Branches may depend on them, as everything here is public.
  const Positions positions{ring.n, 1, ring.q_bits};
  const std::size_t width = static_cast<std::size_t>(positions.word_bytes());
  const std::uint64_t mask = (std::uint64_t{1} << ring.q_bits) - 1;
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < ring.n + spare_words(ring.n) && kept < ring.n; i++, bytes += width) {
    std::uint64_t word = 0;
    for (std::size_t k = 0; k < width; k++) word |= static_cast<std::uint64_t>(bytes[k]) << (8 * k);
    word &= mask;
    if (word < ring.q) words[kept++] = word;
  }
  return kept == ring.n;
}

}  // namespace hecompile
