// What a client keeps between a request and its reply, and between the requests of a run. Python sees neither's inside.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/encrypt.h"
#include "python/layers.h"
#include "python/randomness.h"

namespace hecompile::python {

// Public seeds of a layer that serve several requests of a run, with the `a` that they were answered with.
struct SharedSeeds {
  std::shared_ptr<const ClientLayer> client;  // at which batch
  std::vector<Seed> keys;                     // K_a, group by group
  std::vector<std::uint8_t> a;                // of the first reply, as it came; empty until then
  std::int64_t left = 0;                      // requests that the seeds may still serve
};

// What the requests of one sampling run share. Never crosses a fork.
struct Run {
  pid_t owner = getpid();
  std::vector<std::shared_ptr<SharedSeeds>> layers;  // none where every request has seeds of its own
};

// Secrets of one request, for one reply. Wiped when used, and when dropped.
struct Request {
  struct Layer {
    std::shared_ptr<const Layout> layout;
    std::shared_ptr<const ClientLayer> client;  // none for integers
    std::shared_ptr<SharedSeeds> shared;        // none for seeds of its own
    Secrets secrets;
    std::vector<double> scales;
    bool brings_seeds = true;
  };
  Request() = default;
  Request(const Request&) = delete;
  pid_t owner = getpid();
  std::vector<Layer> layers;
  bool used = false;
};

}  // namespace hecompile::python
