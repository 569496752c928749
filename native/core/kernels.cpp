#include "core/kernels.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "core/buffer.h"
#include "core/ring.h"
#include "kernels/client_kernels.h"

namespace hecompile {
namespace {

const Kernels kPortable = {"portable", &kPortableClient, nullptr};
#if defined(__x86_64__)
const Kernels kAvx2 = {"avx2", &kAvx2Client, nullptr};
const Kernels kAvx512 = {"avx512", &kAvx512Client, nullptr};

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
         __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni");
}
#endif

const Kernels* find(const std::string& name) {
  for (const Kernels* each : runnable_kernels())
    if (name == each->name) return each;
  return nullptr;
}

const Kernels* choose() {
  const char* forced = std::getenv("HECOMPILE_KERNEL");
  if (forced == nullptr || *forced == 0) return runnable_kernels().front();
  const Kernels* found = find(forced);
  if (found == nullptr)
    throw std::runtime_error("HECOMPILE_KERNEL names a kernel that this processor cannot run: " + std::string(forced));
  return found;
}

std::atomic<const Kernels*> current{nullptr};

// Primes that are 1 modulo 2^25 and 2^36.
constexpr std::uint64_t kTestPrime48 = 0xffffd8000001, kTestPrime50 = 0x3ffc000000001;

// Eight polynomials encrypted and decrypted: words that are sent, products and messages, of chance (kind 0) or as large as they may
// be.
struct Trial {
  std::vector<std::uint8_t> sent;
  std::vector<std::uint64_t> words;
  std::vector<double> values;

  bool operator==(const Trial&) const = default;
};

Trial try_client(const ClientKernels& kernel, const Ring& ring, int kind) {
  const RingView view = ring.view();
  const std::int64_t n = view.n;
  const std::size_t count = static_cast<std::size_t>(n);
  Buffer<std::uint64_t> a(8 * count), b(8 * count), secrets(8 * count);
  Buffer<Cell> spectra(8 * count), lanes(8 * count), products(9 * count);
  Buffer<std::int32_t> messages(8 * count);
  Buffer<std::uint8_t> random(8 * 8 * count + kReadable);
  std::uint64_t state = 1;  // a linear congruence is chance enough here
  const auto next = [&] { return (state = state * 6364136223846793005 + 1442695040888963407) >> 14; };
  for (std::size_t i = 0; i < 8 * count; i++) {
    a[i] = kind == 0 ? next() % view.q : view.q - 1 - (next() & 1), b[i] = kind == 0    ? next() % view.q
                                                                           : next() & 1 ? view.q - 1
                                                                                        : 0;
    const std::int32_t most = (1 << std::min(view.t_bits - 1, 30)) - 1;
    messages[i] = kind == 0 ? static_cast<std::int32_t>(next() % (2 * static_cast<std::uint64_t>(most))) - most : -most;
  }
  for (std::size_t i = 0; i < random.size(); i++) random[i] = static_cast<std::uint8_t>(kind == 0 ? next() : 0xff);
  Trial trial;
  trial.words.resize(16 * count), trial.values.resize(8 * count + 8), trial.sent.resize(7 * 8 * count);
  const std::uint8_t* from[8];
  std::uint64_t *to[8], *turned[8];
  const std::uint64_t* rows[8];
  EncryptRow up[8];
  DecryptRow down[8];
  for (std::size_t j = 0; j < 8; j++) {
    from[j] = random.data() + 8 * j * count, to[j] = secrets.data() + j * count, rows[j] = a.data() + j * count;
    turned[j] = trial.words.data() + j * count;
    up[j] = {rows[j], spectra.data() + j * count, messages.data() + j * count, random.data() + 6 * j * count,
             static_cast<std::int64_t>(j) * n};
    down[j] = {turned[j], spectra.data() + j * count, products.data() + j * count};
  }
  kernel.draw_secrets(view, from, to, lanes.data());
  for (std::size_t j = 0; j < 8; j++) kernel.spectrum(view, to[j], spectra.data() + j * count);
  kernel.encrypt(view, up, 8, lanes.data(), trial.sent.data(), 8 * n);
  kernel.transform(view, rows, 0, turned, lanes.data());
  kernel.multiply(view, down, 8, lanes.data());
  kernel.decode(view, products.data(), 8, n, n, b.data(), 0, trial.values.data());
  std::copy(secrets.data(), secrets.data() + 8 * count, trial.words.begin() + static_cast<std::ptrdiff_t>(8 * count));
  return trial;
}

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  if (has_avx512()) found.push_back(&kAvx512);
  if (has_avx2()) found.push_back(&kAvx2);
#endif
  found.push_back(&kPortable);
  return found;
}

const Kernels& kernels() {
  const Kernels* found = current.load();
  if (found == nullptr) current.store(found = choose());
  return *found;
}

bool self_test(const Kernels& kernel) {
  for (const auto& [q, t_bits] : {std::pair{kTestPrime48, 25}, std::pair{kTestPrime50, 36}}) {
    const auto ring = ring_of(1024, q, t_bits);
    for (int kind : {0, 1})
      if (!(try_client(*kernel.client, *ring, kind) == try_client(kPortableClient, *ring, kind))) return false;
  }
  return true;
}

void use_kernel(const std::string& name) {
  const Kernels* found = find(name);
  if (found == nullptr) throw std::invalid_argument("no kernel of this name runs here: " + name);
  current.store(found);
}

}  // namespace hecompile
