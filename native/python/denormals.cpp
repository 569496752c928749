#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <cstdint>

#include "python/layers.h"

namespace hecompile::python {
namespace {

#if defined(__x86_64__)
constexpr unsigned kFlush = 0x8040;  // bits of MXCSR: results (15) and operands (6) below 2^-126 count as zero

void flush_denormals(bool on) { _mm_setcsr(on ? _mm_getcsr() | kFlush : _mm_getcsr() & ~kFlush); }
#else
constexpr std::uint64_t kFlush = std::uint64_t{1} << 24;  // bit FZ of FPCR: results and operands below 2^-126 count as zero

void flush_denormals(bool on) {
  std::uint64_t control = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(control));
  control = on ? control | kFlush : control & ~kFlush;
  __asm__ volatile("msr fpcr, %0" : : "r"(control));
}
#endif

}  // namespace

void bind_denormals(nanobind::module_& module) { module.def("flush_denormals", &flush_denormals, nanobind::arg("on")); }

}  // namespace hecompile::python
