// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <cstddef>
#include <new>

#include <infalign/detail/begin.hpp>

/// \file
/// Memory that a training loop reuses from call to call.
namespace INFALIGN_NAMESPACE {

namespace detail {
template <class T>
class scratch;
}

/// Memory for intermediate results. After one call it is as large as that call needed; later calls of at most that size
/// then allocate nothing. Any function can use it, but only one call at a time.
///
///     workspace space;
///     step_result<float> out;
///     for (…) step.into(out, space, batch, rewards);   // from the second call on, nothing is allocated
class workspace {
 public:
  /// Allocates nothing yet.
  workspace() = default;
  workspace(const workspace&) = delete;
  workspace& operator=(const workspace&) = delete;
  ~workspace() { ::operator delete(memory_, alignment); }

 private:
  template <class T>
  friend class detail::scratch;

  static constexpr std::align_val_t alignment{64};

  /// The next bytes, or null if they do not fit yet.
  void* allocate(std::size_t bytes) {
    const std::size_t first = used_;
    used_ += bytes;
    if (used_ > peak_) peak_ = used_;
    return used_ <= size_ ? static_cast<std::byte*>(memory_) + first : nullptr;
  }

  /// Frees the last bytes. If none are in use any more, grows to the peak of use.
  void release(std::size_t bytes) {
    used_ -= bytes;
    if (used_ > 0 || peak_ <= size_) return;
    ::operator delete(memory_, alignment);
    memory_ = ::operator new(peak_, alignment, std::nothrow);
    size_ = peak_ = memory_ ? peak_ : 0;
  }

  void* memory_ = nullptr;
  std::size_t size_ = 0, used_ = 0, peak_ = 0;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
