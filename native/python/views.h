// Python buffers as pointers.
#pragma once
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <stdexcept>

namespace hecompile::python {

namespace nb = nanobind;

// The bytes of a Python object, which stay in place while the View lives. Throws nb::python_error for an object without a
// contiguous buffer, or one that may not be written where `writable`.
class View {
 public:
  View(nb::handle object, bool writable) {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, writable ? PyBUF_CONTIG : PyBUF_CONTIG_RO) != 0) throw nb::python_error();
  }
  View(const View&) = delete;
  View& operator=(const View&) = delete;
  ~View() {
    const nb::gil_scoped_acquire held;
    PyBuffer_Release(&buffer_);
  }

  std::size_t size() const { return static_cast<std::size_t>(buffer_.len); }
  // `count` bytes from `start`. Throws std::invalid_argument where there are fewer.
  std::uint8_t* part(std::size_t start, std::size_t count) const {
    if (start > size() || count > size() - start) throw std::invalid_argument("a buffer is shorter than what it must hold");
    return static_cast<std::uint8_t*>(buffer_.buf) + start;
  }

 private:
  Py_buffer buffer_{};
};

}  // namespace hecompile::python
