// SPDX-License-Identifier: MIT
#pragma once

// Batches in memory. This header and those of the step are without Python, whose headers take longer to compile than a step.
#include <infalign/core.hpp>

#include <optional>
#include <span>

namespace infalign::python {

using Eigen::Index;

/// Rows of numbers that are contiguous, or numbers of one dimension.
template <real_scalar S>
struct number_rows {
  const S* data = nullptr;
  Index rows = 0, columns = 0, stride = 0;
  bool flat = false;  ///< of one dimension: one row

  Eigen::Map<const matrix<S>, 0, Eigen::OuterStride<>> as_matrix() const {
    return {data, rows, columns, Eigen::OuterStride<>(stride)};
  }
  /// Throws unless the numbers have one dimension.
  Eigen::Map<const array<S>> as_column() const {
    if (!flat) detail::fail("infalign", "numbers of one dimension", detail::concat(rows, " x ", columns));
    return {data, columns};
  }
  /// All numbers, row by row.
  array<S> one_by_one() const { return as_matrix().template reshaped<Eigen::RowMajor>(); }
  Index size() const { return rows * columns; }
};

/// The rewards of a batch: P × M, or of one dimension with the index of each response's prompt.
template <real_scalar S>
struct batch_view {
  number_rows<S> rewards;
  std::optional<std::span<const std::int64_t>> prompt;

  /// Calls f(rewards), or f(prompt, rewards).
  template <class F>
  decltype(auto) with(const F& f) const {
    if (prompt) return f(*prompt, rewards.as_column());
    return f(rewards.as_matrix());
  }
  /// Calls f(result, rewards), or f(result, prompt, rewards) with the result as a column.
  template <class F>
  void write(Eigen::Map<matrix<S>> result, const F& f) const {
    if (prompt)
      f(Eigen::Map<array<S>>(result.data(), result.size()), *prompt, rewards.as_column());
    else
      f(result, rewards.as_matrix());
  }
};

}  // namespace infalign::python
