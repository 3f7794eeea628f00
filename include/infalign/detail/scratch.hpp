// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/workspace.hpp>

#include <Eigen/Core>

#include <type_traits>

#include <infalign/detail/begin.hpp>

/// \file
/// Temporary arrays in a workspace.
namespace INFALIGN_NAMESPACE::detail {

/// An array of n values T{}, in the workspace if there is one with room, else allocated. Arrays must be destroyed in
/// reverse order, as local variables are.
template <class T>
class scratch {
 public:
  scratch(workspace* space, Eigen::Index n)
      : part_(space, (static_cast<std::size_t>(n) * sizeof(T) + 63) / 64 * 64), size_(n) {
    void* memory = part_.memory;
    if (!memory) memory = own_ = ::operator new(part_.bytes, workspace::alignment);
    data_ = static_cast<T*>(memory);
    for (Eigen::Index i = 0; i < n; ++i) ::new (static_cast<void*>(data_ + i)) T();
  }
  scratch(const scratch&) = delete;
  scratch& operator=(const scratch&) = delete;
  ~scratch() { ::operator delete(own_, workspace::alignment); }

  T* data() { return data_; }
  const T* data() const { return data_; }
  Eigen::Index size() const { return size_; }
  T& operator[](Eigen::Index i) { return data_[i]; }
  const T& operator[](Eigen::Index i) const { return data_[i]; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }

 private:
  static_assert(std::is_trivially_destructible_v<T>);

  /// Bytes that are taken from the workspace, and given back even if the constructor throws later. `memory` is null if
  /// they do not fit.
  struct part {
    workspace* space;
    std::size_t bytes;
    void* memory;

    part(workspace* from, std::size_t size) : space(from), bytes(size), memory(from ? from->allocate(size) : nullptr) {}
    part(const part&) = delete;
    ~part() {
      if (space) space->release(bytes);
    }
  };

  part part_;
  Eigen::Index size_;
  void* own_ = nullptr;
  T* data_;
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
