// What a client keeps from a request to its reply (Request), and from one request of a run to the next (Run, docs/cryptography.md,
// section 3.3). Python cannot look into either.
#pragma once
#include <unistd.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/encrypt.h"
#include "python/layers.h"
#include "python/randomness.h"

namespace hecompile::python {

// Public seeds of a layer that serve several requests of a run, with the `a` of the reply to the first one.
struct SharedSeeds {
  std::shared_ptr<const ClientLayer> client;  // the layer, at the batch size of the run
  std::vector<Seed> keys;                     // K_a, group by group
  std::vector<std::uint8_t> a;                // the a part of the first reply, packed as it came; empty until then
  std::int64_t left = 0;                      // requests that the seeds may still serve
};

// What the requests of one sampling run have in common. A forked child may not use it.
struct Run {
  pid_t owner = getpid();
  std::vector<std::shared_ptr<SharedSeeds>> layers;  // null for layers whose requests have seeds of their own
};

// The secrets of one request. They decrypt one reply, and are wiped after that or with the request.
struct Request {
  struct Layer {
    std::shared_ptr<const Layout> layout;
    std::shared_ptr<const ClientLayer> client;  // null where integers are encrypted
    std::shared_ptr<SharedSeeds> shared;        // null if the request has seeds of its own
    Secrets secrets;
    std::vector<double> scales;  // (runs), of the quantiser; empty where integers are encrypted
    bool brings_seeds = true;    // whether the request carries seeds, and the reply an a part
  };
  Request() = default;
  Request(const Request&) = delete;
  pid_t owner = getpid();
  std::vector<Layer> layers;
  bool used = false;  // whether a reply was decrypted
};

}  // namespace hecompile::python
