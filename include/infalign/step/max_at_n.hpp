// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/order_weighted.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// Advantage estimators for the best or the worst of n responses, whatever the reward: the ends of `order_weighted`.
namespace INFALIGN_NAMESPACE {

namespace detail {

inline void check_sets(const char* function, int n) {
  if (n < 1) fail(function, "n of at least 1", concat(n));
}

/// Writes the credit for the best of n.
template <class R, class Result>
void best_credit(const R& r, int n, set_baseline baseline, Result&& result, workspace* space) {
  set_credit(
      r, n, [n](int k) { return k == n ? 1.0 : 0.0; }, baseline, space,
      [&](const auto& c) { result = c.template cast<typename R::Scalar>(); });
}

}  // namespace detail

/// The unbiased gradient of E[max of n rewards].
///
///     A_i = M/C(M, n) · Σ over sets S of n responses with i of (max R over S − max R over S∖i),   max ∅ = 0
///
/// It is not a difference to a mean: A_i ≥ 0 for n ≥ 2, and A_i = R_i for n = 1. If R is the win probability against
/// best-of-n, it is the exact on-policy gradient of the best-of-n win rate.
///
/// Cost: M log M.
/// Errors: if n < 1.
/// Source: Walder and Karkhanis, "Pass@K policy optimization", arXiv:2505.15201 (maxima of subsets, and the subset
/// without i as baseline).
struct max_at_n {
  /// The size of the sets, at least 1.
  int n;
  /// n.
  int smallest_group() const { return n; }
  /// Checks n.
  void check() const { detail::check_sets("max_at_n", n); }

  /// Writes the advantages of one group.
  template <vector_expression R, class Result>
  void operator()(const R& r, Result&& result, workspace* space) const {
    if (n == 1)
      result = r;
    else
      detail::best_credit(r, n, set_baseline::others, result, space);
  }
};

/// The maximum over sets of n, less its mean over the group.
///
///     A_i = C_i − mean of C,   C_i = M/C(M, n) · Σ over sets S with i of max R over S
///
/// Its mean is zero, as optimizers expect. Its gradient is 1 − n/M of that of E[max of n rewards]. For n = 1 it equals
/// `group_mean`.
///
/// Errors: if n < 1.
struct centered_max_at_n {
  /// The size of the sets, at least 1.
  int n;
  /// n, and at least 2.
  int smallest_group() const { return std::max(n, 2); }
  /// Checks n.
  void check() const { detail::check_sets("centered_max_at_n", n); }

  /// Writes the advantages of one group.
  template <vector_expression R, class Result>
  void operator()(const R& r, Result&& result, workspace* space) const {
    detail::best_credit(r, n, set_baseline::group_mean, result, space);
  }
};

/// The unbiased gradient of E[min of n rewards]: −`max_at_n` of −R.
///
/// A_i ≤ 0 for n ≥ 2, and A_i = R_i for n = 1.
///
/// Errors: if n < 1.
struct min_at_n {
  /// The size of the sets, at least 1.
  int n;
  /// n.
  int smallest_group() const { return n; }
  /// Checks n.
  void check() const { detail::check_sets("min_at_n", n); }

  /// Writes the advantages of one group.
  template <vector_expression R, class Result>
  void operator()(const R& r, Result&& result, workspace* space) const {
    max_at_n{n}(-r, result, space);
    result = -result;
  }
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
