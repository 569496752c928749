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

// What the requests of one sampling run share: public seeds whose `a` the client has an answer for. Never crosses a fork.
struct Run {
  struct Layer {
    std::shared_ptr<const ClientLayer> client;  // at which batch
    std::vector<Seed> keys;                     // K_a, group by group
    std::vector<std::uint8_t> a;                // the `a` part of the first reply, as it came; empty until then
    std::int64_t left = 0;                      // requests that the seeds may still serve
  };
  pid_t owner = getpid();
  std::vector<Layer> layers;
};

// Secrets of one request, for one reply. Wiped when used, and when dropped.
struct Request {
  struct Layer {
    std::shared_ptr<const Layout> layout;
    std::shared_ptr<const ClientLayer> client;  // none for integers
    Secrets secrets;
    std::vector<double> scales;
    bool brings_seeds = true;
  };
  Request() = default;
  Request(const Request&) = delete;
  pid_t owner = getpid();
  std::vector<Layer> layers;
  std::shared_ptr<Run> run;
  bool used = false;
};

}  // namespace hecompile::python
