// Which instructions the inner loops use: chosen once for this processor, or forced by HECOMPILE_KERNEL. All give the same bits.
#pragma once
#include <string>
#include <vector>

namespace hecompile {

struct ClientKernels;   // kernels/client_kernels.h
struct ProductKernels;  // kernels/product_kernels.h

struct Kernels {
  const char* name;  // "amx", "avx512", "avx2", "portable"
  const ClientKernels* client;
  const ProductKernels* product;
};

// The fastest that this processor runs, or the one that HECOMPILE_KERNEL names. Throws std::runtime_error for one that it cannot
// run.
const Kernels& kernels();

// Every kernel that was compiled in and that this processor runs, the fastest first.
std::vector<const Kernels*> runnable_kernels();

// Uses another one from now on. For tests and `doctor`. Throws std::invalid_argument for a name that is none of them.
void use_kernel(const std::string& name);

// Runs one extreme and one random block through a kernel and the portable one. Returns whether all words are the same.
bool self_test(const Kernels& kernel);

}  // namespace hecompile
