// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/advantage.hpp>

#include <algorithm>
#include <numeric>

/// Baselines that train for the best or the worst of n responses, whatever the reward: credit for what a response adds
/// to the sets of n that it is in.
namespace infalign {

namespace detail {

inline void check_credit(const char* function, int n) {
  if (n < 1) fail(function, "n of at least 1", text(n));
}

/// Credit that is 0 for the smallest reward and grows, from the p-th to the (p + 1)-th smallest of M, by M·C(p − lag, n
/// − 1)/C(M, n) times the step in reward: a sum of differences, so that equal rewards have equal credit. Calls
/// use(credit), which stands in memory of `space` where there is one.
template <class R, class F>
void credit(const R& rewards, int n, Eigen::Index lag, workspace* space, const F& use) {
  const auto M = rewards.size();
  scratch<Eigen::Index> order(space, M);
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return rewards[a] < rewards[b]; });

  scratch<double> growth(space, M);  // growth[p] = M·C(p, n − 1)/C(M, n), from n at p = M − 1 downwards
  growth[M - 1] = n;
  for (auto p = M - 1; p > 0; --p)
    growth[p - 1] = growth[p] * static_cast<double>(std::max<Eigen::Index>(p - n + 1, 0)) / static_cast<double>(p);
  scratch<double> result(space, M);
  for (Eigen::Index p = 1; p < M; ++p) {
    const auto above = order[p], below = order[p - 1];
    result[above] =
        result[below] + growth[p - lag] * (static_cast<double>(rewards[above]) - static_cast<double>(rewards[below]));
  }
  use(Eigen::Map<const array<double>>(result.data(), M));
}

/// What a baseline's `into` writes, in a buffer of its own.
template <class B, class R>
array<typename R::Scalar> advantages_of(const B& baseline, const R& rewards) {
  array<typename R::Scalar> result(rewards.size());
  baseline.into(result, rewards, nullptr);
  return result;
}

}  // namespace detail

/// Credit for the best of n of the M ≥ n responses: the unbiased gradient of E[max of n rewards],
///
///     A_i = M/C(M, n) · Σ over sets S of n responses with i of (max R over S − max R over S∖i),   max ∅ = 0.
///
/// Not a difference to a mean: A_i ≥ 0 for n ≥ 2, and A_i = R_i for n = 1. With R the win probability against best-of-n
/// it is the exact on-policy gradient of the best-of-n win rate. Cost: M log M. Throws for n < 1. (The subsets' maxima,
/// and the subset without i as its baseline: Walder and Karkhanis, "Pass@K policy optimization", arXiv:2505.15201.)
struct max_at_n {
  int n;
  int smallest_group() const { return n; }
  void check() const { detail::check_credit("max_at_n", n); }

  template <vector_expression R>
  array<typename R::Scalar> operator()(const R& r) const {
    return detail::advantages_of(*this, r);
  }
  template <vector_expression R, class Result>
  void into(Result& result, const R& r, workspace* space) const {
    check();
    if (n == 1)
      result = r;
    else
      detail::credit(r, n, 0, space, [&](const auto& c) { result = c.template cast<typename R::Scalar>(); });
  }
};

/// Credit for the best of n without a baseline of its own, M/C(M, n) · Σ over S with i of max R over S, less its mean
/// over the group. Of zero mean, as the optimizers of today expect; its gradient is 1 − n/M of that of E[max of n
/// rewards]. `group_mean` for n = 1. Throws for n < 1.
struct centered_max_at_n {
  int n;
  int smallest_group() const { return std::max(n, 2); }
  void check() const { detail::check_credit("centered_max_at_n", n); }

  template <vector_expression R>
  array<typename R::Scalar> operator()(const R& r) const {
    return detail::advantages_of(*this, r);
  }
  template <vector_expression R, class Result>
  void into(Result& result, const R& r, workspace* space) const {
    check();
    detail::credit(r, n, 1, space, [&](const auto& c) { result = (c - c.mean()).template cast<typename R::Scalar>(); });
  }
};

/// Credit for the worst of n: the unbiased gradient of E[min of n rewards], −(max@n of −R). A_i ≤ 0 for n ≥ 2. As
/// `max_at_n` otherwise.
struct min_at_n {
  int n;
  int smallest_group() const { return n; }
  void check() const { detail::check_credit("min_at_n", n); }

  template <vector_expression R>
  array<typename R::Scalar> operator()(const R& r) const {
    return detail::advantages_of(*this, r);
  }
  template <vector_expression R, class Result>
  void into(Result& result, const R& r, workspace* space) const {
    check();
    max_at_n{n}.into(result, -r, space);
    result = -result;
  }
};

static_assert(group_baseline<max_at_n> && group_baseline<centered_max_at_n> && group_baseline<min_at_n>);

}  // namespace infalign
