// Prints the kernels that this processor runs, one a line, the fastest first.
#include <cstdio>

#include "core/kernels.h"

int main() {
  for (const auto* kernel : hecompile::runnable_kernels()) std::puts(kernel->name);
  return 0;
}
