// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <concepts>

#include <infalign/detail/begin.hpp>

/// \file
/// How the ranks by several rewards become one score, for `joint_calibration`.
namespace INFALIGN_NAMESPACE {

/// The sum of the ranks.
struct rank_sum {
  /// It does not matter in what unit ranks are.
  static constexpr bool scale_free = true;
  /// The score.
  template <vector_expression U>
  double operator()(const U& u) const {
    return u.sum();
  }
};

/// The weighted sum of the ranks.
struct weighted_rank_sum {
  /// A weight for each reward: finite, at least 0, and not all 0.
  array<double> weight;
  /// It does not matter in what unit ranks are.
  static constexpr bool scale_free = true;

  /// Checks the weights for a number of rewards.
  void check(Eigen::Index rewards) const {
    constexpr auto name = "weighted_rank_sum";
    detail::check_size(name, "weights, one for each reward", rewards, weight.size());
    for (Eigen::Index k = 0; k < rewards; ++k)
      if (!detail::is_finite(weight[k]) || weight[k] < 0)
        detail::fail(name, "weights of at least 0", detail::concat(weight[k], detail::position(k)));
    if (!(weight > 0).any()) detail::fail(name, "a weight above 0", "none");
  }
  /// The score.
  template <vector_expression U>
  double operator()(const U& u) const {
    return (weight * u).sum();
  }
};

/// The product of the ranks. Its order is that of the sum of their logarithms.
struct rank_product {
  /// It does not matter in what unit ranks are.
  static constexpr bool scale_free = true;
  /// The score.
  template <vector_expression U>
  double operator()(const U& u) const {
    return u.prod();
  }
};

/// The smallest rank.
struct rank_minimum {
  /// It does not matter in what unit ranks are.
  static constexpr bool scale_free = true;
  /// The score.
  template <vector_expression U>
  double operator()(const U& u) const {
    return u.minCoeff();
  }
};

/// A combination of m ranks into a score: a function of an Eigen array of m numbers in [0, 1] that does not decrease if one
/// of them grows. Any lambda is one: [](const auto& u) { return std::min(u[0], 0.5) + u[1]; }.
///
/// It may have `static constexpr bool scale_free = true` if its order is the same for ranks times any constant. It then
/// gets ranks as whole numbers, so that sums which are equal have equal bits.
template <class H>
concept rank_combination = requires(const H& h, const array<double>& u) {
  { h(u) } -> std::convertible_to<double>;
};

static_assert(rank_combination<rank_sum> && rank_combination<weighted_rank_sum>);
static_assert(rank_combination<rank_product> && rank_combination<rank_minimum>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
