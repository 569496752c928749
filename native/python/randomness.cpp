#include "python/randomness.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <stdexcept>

namespace hecompile::python {
namespace {

namespace nb = nanobind;

constexpr std::size_t kZeros = std::size_t{1} << 20;  // bytes that are encrypted at a time

// Classes of Python's libraries and a block of zeros. Never freed, since threads may need them until the process ends.
struct Library {
  nb::object cipher, aes, counter, shake, zeros;
};
Library* library = nullptr;

// Fills `out` with bytes from the operating system's generator. Throws std::runtime_error if it gives none.
void draw(std::uint8_t* out, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const ssize_t got = getrandom(out + done, size - done, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) throw std::runtime_error("the operating system gives no random bytes");
    done += static_cast<std::size_t>(got);
  }
}

// A memoryview of bytes of ours.
nb::object view(const std::uint8_t* data, std::size_t size, int access) {
  auto* bytes = const_cast<char*>(reinterpret_cast<const char*>(data));  // the flag says whether it may be written
  return nb::steal(PyMemoryView_FromMemory(bytes, static_cast<Py_ssize_t>(size), access));
}

}  // namespace

Seed draw_seed() {
  Seed seed;
  draw(seed.data(), seed.size());
  return seed;
}

Seed public_key(const nb::bytes& context, std::uint32_t group, const std::uint8_t* seed) {
  nb::object hash = library->shake(context);
  std::array<std::uint8_t, 4> number;
  for (int i = 0; i < 4; i++) number[static_cast<std::size_t>(i)] = static_cast<std::uint8_t>(group >> (8 * i));
  hash.attr("update")(nb::bytes(number.data(), number.size()));
  hash.attr("update")(nb::bytes(seed, kSeedBytes));
  const nb::bytes digest = nb::cast<nb::bytes>(hash.attr("digest")(kSeedBytes));
  Seed key;
  std::copy_n(static_cast<const std::uint8_t*>(digest.data()), kSeedBytes, key.begin());
  return key;
}

CipherFill::CipherFill(std::vector<Seed> public_keys, bool secret)
    : public_keys_(std::move(public_keys)), keys_(secret ? 2 * kSeedBytes : 0) {
  if (secret) draw(keys_.data(), keys_.size());
}

void CipherFill::fill(Stream stream, int group, std::uint64_t position, std::uint8_t* out, std::size_t size) {
  if (stream != Stream::kPublic && keys_.size() == 0) throw std::logic_error("a server has no secret streams");
  const std::uint8_t* key = stream == Stream::kPublic ? public_keys_.at(static_cast<std::size_t>(group)).data()
                                                      : keys_.data() + (stream == Stream::kSecrets ? 0 : kSeedBytes);
  std::array<std::uint8_t, 16> counter{};
  const std::uint64_t blocks = position / 16;
  for (std::size_t i = 0; i < 8; i++) counter[15 - i] = static_cast<std::uint8_t>(blocks >> (8 * i));
  const nb::gil_scoped_acquire held;
  nb::object cipher =
      library->cipher(library->aes(view(key, kSeedBytes, PyBUF_READ)), library->counter(nb::bytes(counter.data(), counter.size())));
  nb::object encryptor = cipher.attr("encryptor")();
  for (std::size_t done = 0; done < size;) {
    const std::size_t count = std::min(size - done, kZeros);
    encryptor.attr("update_into")(library->zeros[nb::slice(static_cast<Py_ssize_t>(count))], view(out + done, count, PyBUF_WRITE));
    done += count;
  }
}

void prepare_randomness() {
  if (library != nullptr) return;
  const nb::object ciphers = nb::module_::import_("cryptography.hazmat.primitives.ciphers");
  const nb::object zeros = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(kZeros)));
  std::memset(PyBytes_AsString(zeros.ptr()), 0, kZeros);
  library =
      new Library{ciphers.attr("Cipher"), nb::module_::import_("cryptography.hazmat.primitives.ciphers.algorithms").attr("AES"),
                  nb::module_::import_("cryptography.hazmat.primitives.ciphers.modes").attr("CTR"),
                  nb::module_::import_("hashlib").attr("shake_256"), nb::steal(PyMemoryView_FromObject(zeros.ptr()))};
}

}  // namespace hecompile::python
