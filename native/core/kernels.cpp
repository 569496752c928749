#include "core/kernels.h"

#include <atomic>
#include <cstdlib>
#include <stdexcept>

#include "kernels/client_kernels.h"
#include "kernels/product_kernels.h"

#if defined(HECOMPILE_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace hecompile {
namespace {

const Kernels kPortable = {"portable", &kPortableClient, &kPortableProduct};
#if defined(__x86_64__)
const Kernels kAvx2 = {"avx2", &kAvx2Client, &kAvx2Product};
const Kernels kAvx512 = {"avx512", &kAvx512Client, &kAvx512Product};

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("popcnt") &&
         __builtin_cpu_supports("bmi2");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") &&
         __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512ifma");
}
#endif
#if defined(HECOMPILE_AMX)
const Kernels kAmx = {"amx", &kAvx512Client, &kAmxProduct};

// Asks Linux for the tile registers, for this process with its threads and children, and returns whether they may be used. Linux
// refuses where a stack for signals is too small to save tiles. Then the kernel avx512 is used.
bool may_use_tiles() {
  constexpr long kRequest = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kRequest, kTileData) == 0;
}
bool has_amx() {
  constexpr unsigned kTiles = 1U << 24, kInt8 = 1U << 25, kSavesState = 1U << 27, kTileStates = 3U << 17;
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!has_avx512() || __get_cpuid(1, &a, &b, &c, &d) == 0 || (c & kSavesState) == 0) return false;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTiles) == 0 || (d & kInt8) == 0) return false;
  unsigned enabled = 0, upper = 0;
  __asm__("xgetbv" : "=a"(enabled), "=d"(upper) : "c"(0));
  return (enabled & kTileStates) == kTileStates && may_use_tiles();
}
#endif

// The kernels of this name, or null if there are none that this processor runs.
const Kernels* find(const std::string& name) {
  for (const Kernels* kernel : runnable_kernels())
    if (name == kernel->name) return kernel;
  return nullptr;
}

const Kernels* choose() {
  const char* forced = std::getenv("HECOMPILE_KERNEL");
  if (forced == nullptr || *forced == 0) return runnable_kernels().front();
  const Kernels* kernel = find(forced);
  if (kernel == nullptr)
    throw std::runtime_error("HECOMPILE_KERNEL names a kernel that this processor cannot run: " + std::string(forced));
  return kernel;
}

std::atomic<const Kernels*> current{nullptr};

}  // namespace

std::vector<const Kernels*> runnable_kernels() {
  std::vector<const Kernels*> runnable;
#if defined(HECOMPILE_AMX)
  static const bool amx = has_amx();
  if (amx) runnable.push_back(&kAmx);
#endif
#if defined(__x86_64__)
  if (has_avx512()) runnable.push_back(&kAvx512);
  if (has_avx2()) runnable.push_back(&kAvx2);
#endif
  runnable.push_back(&kPortable);
  return runnable;
}

const Kernels& kernels() {
  const Kernels* kernel = current.load();
  if (kernel == nullptr) current.store(kernel = choose());
  return *kernel;
}

void use_kernel(const std::string& name) {
  const Kernels* kernel = find(name);
  if (kernel == nullptr) throw std::invalid_argument("no kernel of this name runs here: " + name);
  current.store(kernel);
}

}  // namespace hecompile
