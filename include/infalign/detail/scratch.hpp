// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/workspace.hpp>

#include <Eigen/Core>

#include <type_traits>

/// \file
/// Temporary arrays in a workspace.
namespace infalign::detail {

/// An array of n values T{}, in the workspace if there is one with room, else allocated. Arrays must be destroyed in
/// reverse order, as local variables are.
template <class T>
class scratch {
 public:
  scratch(workspace* space, Eigen::Index n)
      : space_(space), bytes_((static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64), size_(n) {
    void* memory = space_ ? space_->allocate(bytes_) : nullptr;
    if (!memory) {
      try {
        memory = own_ = ::operator new(bytes_, workspace::alignment);
      } catch (...) {
        if (space_) space_->release(bytes_);
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
    if (space_) space_->release(bytes_);
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

}  // namespace infalign::detail
