// What the two forms of the product share; not for other files.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "core/buffer.h"
#include "core/memory.h"
#include "core/product.h"
#include "kernels/product_kernels.h"

namespace hecompile {

// The columns of a SparsePlan for weights at these coefficients of polynomials of dimension n.
class SparseColumns {
 public:
  SparseColumns() = default;
  SparseColumns(std::int64_t n, const std::vector<std::int32_t>& places);
  SparsePlan plan() const;  // valid as long as this

 private:
  std::int64_t levels_ = 0;
  std::vector<std::int32_t> columns_, term_ends_, ends_, pairs_, empty_;
  std::vector<SparsePlan::Term> terms_;
};

struct Weights::State {
  Form form;
  const ProductKernels* kernels;  // that the order is made for
  std::shared_ptr<const Ring> ring;
  std::int64_t p_in, p_out, uploads, answers, terms;
  std::vector<std::int32_t> offsets;  // (terms)
  // Limbs: (answers / rows, upload groups / depth, terms, rows, depth, group), as LimbProduct has them.
  // Transform: (answers / kLanes, uploads, terms, kLanes).
  Buffer<std::int8_t> ordered;
  std::int64_t most_steps = 0;  // of limbs: see LimbProduct
  SparseColumns sparse;         // of transformed weights
  Buffer<Cell> transformed;     // (answers / kLanes, uploads, N, kLanes), or empty: made on the fly
};

// Calls task(0) .. task(count - 1), several at a time on a thread where one takes less time than waking a thread.
void run(std::int64_t count, double ns_each, const std::function<void(std::int64_t)>& task);

// Memory that a task borrows and the next one uses again.
class Scratches {
 public:
  explicit Scratches(std::int64_t words) : words_(static_cast<std::size_t>(words)) {}
  class Loan {
   public:
    explicit Loan(Scratches& owner);
    ~Loan();
    Loan(const Loan&) = delete;
    Loan& operator=(const Loan&) = delete;
    std::uint64_t* data() { return memory_->data(); }

   private:
    Scratches& owner_;
    std::unique_ptr<Memory<std::uint64_t>> memory_;
  };

 private:
  std::size_t words_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Memory<std::uint64_t>>> free_;
};

// Runs of reads that lie beside each other, within a part of an answer.
struct ReadRun {
  std::int64_t coefficient, read, count;
};
std::vector<ReadRun> read_runs(const Layout& layout);

// Words of `b` of some blocks after each other, and their way onto the wire: ranges of eight words, what is left over of a range
// waits for the next blocks.
class ReadWords {
 public:
  ReadWords(const Evaluation& layer, std::int64_t blocks_at_once);
  // Where the reads of an answer lie; block counts from the first one of these.
  std::uint64_t* at(std::int64_t block, std::int64_t answer);
  // Adds what is to be added, rounds and packs `blocks` blocks, then makes room for the next ones.
  void send(std::int64_t blocks);

 private:
  const Evaluation& layer_;
  std::int64_t reads_, first_block_ = 0, kept_ = 0;  // words that wait, at the front
  Memory<std::uint64_t> words_;
};

// Words of uploads [first, first + count) of all blocks' uploads, (count, N), and zeros up to `room` uploads. False if one is not
// below q.
bool take_uploads(const Evaluation& layer, std::int64_t first, std::int64_t count, std::int64_t room, std::uint64_t* words);

// Words of `a` of the same uploads for a seed, in evaluation order. False if the seed is too poor. `bytes`: count public_bytes().
bool take_public(const Evaluation& layer, std::int64_t seed, std::int64_t first, std::int64_t count, std::int64_t room,
                 std::uint8_t* bytes, std::uint64_t* words);

// Packs `count` words of `a` of one answer from coefficient `first` on, both multiples of 8; rounds them first, in place.
void send_public(const Evaluation& layer, std::int64_t seed, std::int64_t answer, std::int64_t first, std::int64_t count,
                 std::uint64_t* words);

Verdict evaluate_limbs(const Evaluation& layer);
Verdict evaluate_transform(const Evaluation& layer);
std::size_t limb_bytes(const Layout& layout);
std::size_t transform_bytes(const Layout& layout);

}  // namespace hecompile
