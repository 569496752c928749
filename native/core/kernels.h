// The inner loops, compiled for several sets of instructions. At the first use the fastest set that this processor runs is
// selected, or the one that HECOMPILE_KERNEL names. All sets give the same bits.
#pragma once
#include <string>
#include <vector>

namespace hecompile {

struct ClientKernels;   // kernels/client_kernels.h
struct ProductKernels;  // kernels/product_kernels.h

// The inner loops for one set of instructions.
struct Kernels {
  const char* name;  // "amx", "avx512", "avx2", "portable"
  const ClientKernels* client;
  const ProductKernels* product;
};

// The kernels in use: the fastest that this processor runs, or those that HECOMPILE_KERNEL names. Throws std::runtime_error if the
// processor cannot run those.
const Kernels& kernels();

// Every kernel that was compiled in and that this processor runs, the fastest first.
std::vector<const Kernels*> runnable_kernels();

// Uses the kernels of this name from now on, for tests and `doctor`. Throws std::invalid_argument for an unknown name.
void use_kernel(const std::string& name);

// Computes one extreme and one random block with these kernels and with the portable ones. Returns whether all words are equal.
bool self_test(const Kernels& kernel);

}  // namespace hecompile
