// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <cstdint>

#include <infalign/detail/begin.hpp>

/// \file
/// Results that share memory with what they are computed from. A function that works number by number may write each
/// result over its own number; any other sharing would give wrong results silently.
namespace INFALIGN_NAMESPACE::detail {

/// Where the numbers of an object are in memory. No numbers: an object whose place is not known, or an empty one.
struct memory {
  std::uintptr_t first = 0, end = 0;  ///< in bytes; before `end`
  Eigen::Index rows = 0, columns = 0, row_stride = 0, column_stride = 0;

  memory() = default;
  template <class S>
  memory(const S* data, Eigen::Index r, Eigen::Index c, Eigen::Index between_rows, Eigen::Index between_columns)
      : rows(r), columns(c), row_stride(r > 1 ? between_rows : 0), column_stride(c > 1 ? between_columns : 0) {
    if (r <= 0 || c <= 0) return;
    first = reinterpret_cast<std::uintptr_t>(data);
    end = reinterpret_cast<std::uintptr_t>(data + (r - 1) * row_stride + (c - 1) * column_stride + 1);
  }

  bool operator==(const memory&) const = default;
  bool overlaps(const memory& other) const { return first < other.end && other.first < end; }
};

/// The memory of an Eigen object that has some.
template <class E>
memory memory_of(const E& e) {
  if constexpr (!array_expression<E>)
    return {};
  else if constexpr ((int(E::Flags) & Eigen::DirectAccessBit) == 0)
    return {};
  else if constexpr (E::IsRowMajor)
    return {e.data(), e.rows(), e.cols(), e.outerStride(), e.innerStride()};
  else
    return {e.data(), e.rows(), e.cols(), e.innerStride(), e.outerStride()};
}

/// Throws if a result shares memory with something else.
inline void check_apart(const char* function, const memory& result, const memory& other, const char* what) {
  if (result.overlaps(other)) fail(function, concat("a result with other memory than ", what), "shared memory");
}

/// Throws if a result shares memory with numbers, unless each is written over its own.
inline void check_same_place(const char* function, const memory& result, const memory& other, const char* what) {
  if (result.overlaps(other) && result != other)
    fail(function, concat("a result in the places of ", what, " or with other memory"),
         "memory that is shared in part");
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
