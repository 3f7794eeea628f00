// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/advantage.hpp>

#include <algorithm>
#include <numeric>

#include <infalign/detail/begin.hpp>

/// \file
/// Advantage estimators for the best or the worst of n responses, whatever the reward. The advantage of a response is
/// what it adds to the sets of n responses that it belongs to.
namespace INFALIGN_NAMESPACE {

namespace detail {

inline void check_sets(const char* function, int n) {
  if (n < 1) fail(function, "n of at least 1", concat(n));
}

/// Calls use(credit) with credit_i = M/C(M, n) · Σ over sets S of n responses with i of (max R over S − a value of the
/// others), less a constant.
///
/// Computed as a sum of differences, so that equal rewards have equal credit: it is 0 for the smallest reward, and from
/// the p-th to the (p + 1)-th smallest it grows by M·C(p − lag, n − 1)/C(M, n) times the step in reward.
template <class R, class F>
void set_credit(const R& rewards, int n, Eigen::Index lag, workspace* space, const F& use) {
  const auto M = rewards.size();
  scratch<Eigen::Index> order(space, M);
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return rewards[a] < rewards[b]; });

  scratch<double> growth(space, M);  // growth[p] = M·C(p, n − 1)/C(M, n), from n at p = M − 1 downwards
  growth[M - 1] = n;
  for (auto p = M - 1; p > 0; --p)
    growth[p - 1] = growth[p] * static_cast<double>(std::max<Eigen::Index>(p - n + 1, 0)) / static_cast<double>(p);
  scratch<double> credit(space, M);
  for (Eigen::Index p = 1; p < M; ++p) {
    const auto above = order[p], below = order[p - 1];
    credit[above] =
        credit[below] + growth[p - lag] * (static_cast<double>(rewards[above]) - static_cast<double>(rewards[below]));
  }
  use(Eigen::Map<const array<double>>(credit.data(), M));
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
      detail::set_credit(r, n, 0, space, [&](const auto& c) { result = c.template cast<typename R::Scalar>(); });
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
    detail::set_credit(r, n, 1, space,
                       [&](const auto& c) { result = (c - c.mean()).template cast<typename R::Scalar>(); });
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
