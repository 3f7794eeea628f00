// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/detail/parallel.hpp>

#include <algorithm>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Tables of reference rewards whose rows are sorted: ranks are found by search instead of counting.
namespace INFALIGN_NAMESPACE {

/// A `reference_table` whose rows are sorted: rewards that never decrease, and then NaN if there are any.
///
///     sorted_rewards table(sort_rewards(reference));               // sorts a copy
///     sorted_rewards table(npy_table<float>("sorted.npy"));        // sorted before it was written
///     calibration shape{table};                                    // the ranks of `calibration{reference}`
///
/// Ranks are the same, bit for bit. A response costs log K comparisons instead of K: less for K above 100, and much less
/// for K above 1,000. Sorting a row costs as much as counting for some 100 to 250 batches of 8 responses to its prompt. So a
/// table is worth sorting if it is used more often, or if it is sorted once and written to a file.
///
/// Stores an Eigen object as `calibration` does, and a table by value.
/// Cost: the constructor reads the table once.
/// Errors: the constructor, if a row is not sorted.
template <reference_rewards T>
requires std::same_as<T, typename detail::stored_as<T>::type>
class sorted_rewards {
 public:
  /// float or double.
  using Scalar = typename T::Scalar;

  /// From a table whose rows are sorted.
  explicit sorted_rewards(T table) : table_(std::move(table)) {
    detail::for_each_row(rows(), static_cast<double>(rows()) * 1e3, [&](Eigen::Index p) { check_sorted(p); });
  }

  /// The number of rows, P.
  Eigen::Index rows() const { return table_.rows(); }

  /// The rewards of prompt p, 0 ≤ p < P.
  Eigen::Map<const array<Scalar>> row(Eigen::Index p) const INFALIGN_LIFETIMEBOUND {
    if constexpr (array_expression<T>)
      return {table_.data() + p * table_.outerStride(), table_.cols()};
    else
      return table_.row(p);
  }

 private:
  void check_sorted(Eigen::Index p) const {
    const auto rewards = row(p);
    for (Eigen::Index k = 1; k < rewards.size(); ++k)
      if (detail::is_nan(rewards[k - 1]) ? !detail::is_nan(rewards[k]) : rewards[k] < rewards[k - 1])
        detail::fail("sorted_rewards", "rows that never decrease, with NaN last",
                     detail::concat(rewards[k], " after ", rewards[k - 1], detail::position(p, k)));
  }

  T table_;
};

/// The type that a table of this reference has.
template <reference_rewards T>
sorted_rewards(T) -> sorted_rewards<typename detail::stored_as<T>::type>;

/// A copy of a table of P × K, with sorted rows. A matrix that is moved in is sorted in place.
///
/// Cost: some 20 to 60 ns a number.
template <array_expression E>
auto sort_rewards(E reference) {
  using S = typename E::Scalar;
  matrix<S> rows = std::move(reference);
  detail::for_each_row(rows.rows(), 20.0 * static_cast<double>(rows.size()), [&](Eigen::Index p) {
    S* const first = rows.data() + p * rows.cols();
    std::sort(first, std::partition(first, first + rows.cols(), [](S r) { return !detail::is_nan(r); }));
  });
  return sorted_rewards<matrix<S>>(std::move(rows));
}

namespace detail {

template <class T>
inline constexpr bool is_sorted_rewards = false;
template <class T>
inline constexpr bool is_sorted_rewards<sorted_rewards<T>> = true;

}  // namespace detail
}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
