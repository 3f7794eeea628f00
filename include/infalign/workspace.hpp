// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <cstddef>
#include <new>

/// Memory that a training loop keeps from call to call.
namespace infalign {

namespace detail {
template <class T>
class scratch;
}

/// What a function needs besides its result. One call makes it as large as that call needed; calls of that size or
/// smaller then allocate nothing. A workspace serves one call at a time, of any function.
///
///     workspace space;
///     step_result<float> out;
///     for (…) step.into(out, space, batch, rewards);   // from the second time on nothing is allocated
class workspace {
 public:
  workspace() = default;
  workspace(const workspace&) = delete;
  workspace& operator=(const workspace&) = delete;
  ~workspace() { ::operator delete(memory_, alignment); }

 private:
  template <class T>
  friend class detail::scratch;

  static constexpr std::align_val_t alignment{64};

  /// The next bytes, or null where they do not fit yet.
  void* take(std::size_t bytes) {
    const std::size_t first = used_;
    used_ += bytes;
    if (used_ > wanted_) wanted_ = used_;
    return used_ <= size_ ? static_cast<std::byte*>(memory_) + first : nullptr;
  }

  /// Gives the last bytes back; with the very last, makes room for all that was wanted.
  void give_back(std::size_t bytes) {
    used_ -= bytes;
    if (used_ > 0 || wanted_ <= size_) return;
    ::operator delete(memory_, alignment);
    memory_ = ::operator new(wanted_, alignment, std::nothrow);
    size_ = memory_ ? wanted_ : 0;
  }

  void* memory_ = nullptr;
  std::size_t size_ = 0, used_ = 0, wanted_ = 0;
};

namespace detail {

/// n numbers, or other plain values, all T{}: of a workspace where there is one, else allocated. To be destroyed in
/// reverse order.
template <class T>
class scratch {
 public:
  scratch(workspace* space, Eigen::Index n)
      : space_(space), bytes_((static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64), size_(n) {
    void* memory = space_ ? space_->take(bytes_) : nullptr;
    if (!memory) {
      try {
        memory = own_ = ::operator new(bytes_, workspace::alignment);
      } catch (...) {
        if (space_) space_->give_back(bytes_);
        throw;
      }
    }
    data_ = static_cast<T*>(memory);
    for (Eigen::Index i = 0; i < n; ++i) ::new (static_cast<void*>(data_ + i)) T();
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() {
    ::operator delete(own_, workspace::alignment);
    if (space_) space_->give_back(bytes_);
  }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Eigen::Index size() const { return size_; }
  T& operator[](Eigen::Index i) { return data_[i]; }
  const T& operator[](Eigen::Index i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }

 private:
  static_assert(std::is_trivially_destructible_v<T>);
  workspace* space_;
  std::size_t bytes_;
  Eigen::Index size_;
  void* own_ = nullptr;
  T* data_;
};

}  // namespace detail
}  // namespace infalign
