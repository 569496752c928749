#include "core/ring.h"

#include <bit>
#include <map>
#include <mutex>
#include <stdexcept>
#include <tuple>

namespace hecompile {
namespace {

using u64 = std::uint64_t;
__extension__ using u128 = unsigned __int128;

u64 times(u64 a, u64 b, u64 q) { return static_cast<u64>(static_cast<u128>(a) * b % q); }

u64 power(u64 base, u64 exponent, u64 q) {
  u64 result = 1;
  for (base %= q; exponent != 0; exponent >>= 1, base = times(base, base, q))
    if (exponent & 1) result = times(result, base, q);
  return result;
}

// Whether q, an odd number above 37, is prime: Miller-Rabin with the first twelve primes as bases, which is certain below 2^64.
bool prime(u64 q) {
  const int twos = std::countr_zero(q - 1);
  for (u64 base : {2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37}) {
    u64 x = power(base, (q - 1) >> twos, q);
    bool passes = x == 1 || x == q - 1;
    for (int i = 1; i < twos && !passes; i++) passes = (x = times(x, x, q)) == q - 1;
    if (!passes) return false;
  }
  return true;
}

// The number of (-q/2, q/2) that is `value` modulo q.
double centred(u64 value, u64 q) {
  return value > q / 2 ? static_cast<double>(value) - static_cast<double>(q) : static_cast<double>(value);
}

// floor(value 2^64 / q).
u64 fraction(u64 value, u64 q) { return static_cast<u64>((static_cast<u128>(value) << 64) / q); }

// The smallest element of order 2N modulo q. All such elements are odd powers of one of them, so these are compared.
u64 smallest_root(u64 n, u64 q) {
  u64 root = 0;
  for (u64 base = 2; root == 0; base++) {
    const u64 candidate = power(base, (q - 1) / (2 * n), q);
    if (power(candidate, n, q) == q - 1) root = candidate;
  }
  const u64 square = times(root, root, q);
  u64 smallest = root;
  for (u64 i = 1, odd_power = root; i < n; i++) {
    odd_power = times(odd_power, square, q);
    if (odd_power < smallest) smallest = odd_power;
  }
  return smallest;
}

std::shared_ptr<const Ring> make(std::int64_t n, u64 q, int t_bits) {
  if (n < 1024 || n > 32768 || !std::has_single_bit(static_cast<u64>(n)))
    throw std::invalid_argument("the dimension must be a power of two from 1024 to 32768");
  if (t_bits < 1 || t_bits > 38) throw std::invalid_argument("the plaintext modulus must have 1 to 38 bits");
  if (q >= u64{1} << 50 || q < u64{1} << 27 || static_cast<int>(std::bit_width(q)) <= t_bits)
    throw std::invalid_argument("the modulus must have 28 to 50 bits and be above the plaintext modulus");
  if ((q - 1) % (2 * static_cast<u64>(n)) != 0 || (q - 1) % (u64{1} << t_bits) != 0 || !prime(q))
    throw std::invalid_argument("the modulus must be a prime that is 1 modulo 2N and modulo t");
  auto ring = std::make_shared<Ring>();
  const u64 size = static_cast<u64>(n);
  ring->n = n, ring->q = q, ring->q_bits = static_cast<int>(std::bit_width(q)), ring->t_bits = t_bits,
  ring->delta = (q - 1) >> t_bits;
  ring->psi = smallest_root(size, q);
  const u64 inverse = power(ring->psi, q - 2, q);
  const int bits = std::countr_zero(size);
  for (auto* table : {&ring->roots, &ring->inverse_roots}) table->resize(size);
  for (auto* table : {&ring->centred_roots, &ring->centred_inverse_roots}) table->resize(size);
  u64 root = 1, back = 1;
  for (u64 i = 0; i < size; i++) {
    u64 reversed = 0;
    for (int k = 0; k < bits; k++) reversed |= (i >> k & 1) << (bits - 1 - k);
    ring->roots[reversed] = root, ring->inverse_roots[reversed] = back;
    ring->centred_roots[reversed] = centred(root, q), ring->centred_inverse_roots[reversed] = centred(back, q);
    root = times(root, ring->psi, q), back = times(back, inverse, q);
  }
  for (u64 i = 0; i < size; i++) {
    ring->root_quotients.push_back(ring->centred_roots[i] / static_cast<double>(q));
    ring->inverse_root_quotients.push_back(ring->centred_inverse_roots[i] / static_cast<double>(q));
    ring->root_fractions.push_back(fraction(ring->roots[i], q));
    ring->inverse_root_fractions.push_back(fraction(ring->inverse_roots[i], q));
  }
  ring->n_inverse = power(size, q - 2, q);
  ring->centred_n_inverse = centred(ring->n_inverse, q);
  return ring;
}

}  // namespace

RingView Ring::view() const {
  RingView view{};
  view.n = n, view.levels = std::countr_zero(static_cast<u64>(n)), view.q = q, view.q_bits = q_bits, view.t_bits = t_bits;
  view.q_inverse = 1.0 / static_cast<double>(q), view.delta = delta;
  view.forward = {centred_roots.data(), root_quotients.data(), roots.data(), root_fractions.data()};
  view.backward = {centred_inverse_roots.data(), inverse_root_quotients.data(), inverse_roots.data(),
                   inverse_root_fractions.data()};
  view.n_inverse = n_inverse, view.n_inverse_fraction = fraction(n_inverse, q);
  view.centred_n_inverse = centred_n_inverse, view.n_inverse_quotient = centred_n_inverse / static_cast<double>(q);
  view.one_fraction = fraction(1, q), view.t_fraction = fraction(u64{1} << t_bits, q);
  view.barrett = static_cast<u64>((static_cast<u128>(1) << (2 * q_bits)) / q);
  return view;
}

std::shared_ptr<const Ring> ring_of(std::int64_t n, u64 q, int t_bits) {
  static std::mutex mutex;
  static std::map<std::tuple<std::int64_t, u64, int>, std::shared_ptr<const Ring>> rings;
  const std::lock_guard lock(mutex);
  auto& ring = rings[{n, q, t_bits}];
  if (!ring) ring = make(n, q, t_bits);
  return ring;
}

}  // namespace hecompile
