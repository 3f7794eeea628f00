// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/distributions.hpp>
#include <infalign/procedure.hpp>
#include <infalign/step/advantage.hpp>

#include <algorithm>
#include <numeric>

#include <infalign/detail/begin.hpp>

/// \file
/// Advantage estimators for any choice among n responses by their order: the best, the median, a soft choice. The advantage
/// of a response is what it adds to the sets of n responses that it belongs to.
namespace INFALIGN_NAMESPACE {

/// What the value of a set of responses is compared with.
enum class set_baseline {
  none,       ///< nothing
  others,     ///< the value of the set without the response; unbiased
  group_mean  ///< the mean over the group, so that the advantages have mean 0
};

namespace detail {

/// Writes the order of rewards: order[j] is the index of the (j + 1)-th smallest.
template <class R>
void sort_order(const R& rewards, scratch<Eigen::Index>& order) {
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return rewards[a] < rewards[b]; });
}

/// Adds scale·P(k of m responses drawn from N are among the j lowest) to sums[j], for j = 0, …, N.
inline void add_hypergeometric(int k, int m, int N, double scale, double* sums) {
  const int least = k, most = N - (m - k);
  const int peak = m == 0 ? least : std::clamp(static_cast<int>(static_cast<double>(N) * k / m), least, most);
  const double at_peak = scale * hypergeometric_probability(k, m, peak, N);
  sums[peak] += at_peak;
  double p = at_peak;
  for (int j = peak; j < most; ++j)
    sums[j + 1] += p *= (j + 1.0) * (most - j) / (static_cast<double>(j + 1 - k) * (N - j));
  p = at_peak;
  for (int j = peak; j > least; --j)
    sums[j - 1] += p *= static_cast<double>(j - k) * (N - j + 1) / (static_cast<double>(j) * (most - j + 1));
}

/// Calls use(A) with the advantages A of a group of M ≥ n ≥ 2 rewards:
///
///     A_i = M/C(M, n)·Σ over sets S of n with i of (f(S) − baseline),   f(S) = Σ_k weight(k)·(k-th smallest of S)
///
/// The set without i has the weights w′_k = ((n − k)·w_k + k·w_{k+1})/(n − 1): those of S if i has any rank in it with equal
/// probability.
///
/// A is a sum of differences of neighbours in order, so that equal rewards have equal advantages. From the j-th to the next
/// reward, A grows with the sets that have either of them (each with the weight of its rank), and with the sets without one
/// that have the other.
template <class R, class Weight, class F>
void set_credit(const R& rewards, int n, const Weight& weight, set_baseline baseline, workspace* space, const F& use) {
  const auto M = static_cast<int>(rewards.size());
  const int pairs = M - 2;  // responses besides two neighbours
  scratch<Eigen::Index> order(space, M);
  sort_order(rewards, order);

  // growth[j]: from the j-th to the next reward. level[j]: the share of the same difference in the smallest reward's A.
  scratch<double> growth(space, M), level(space, M);
  std::fill(growth.begin(), growth.end(), 0.0);
  std::fill(level.begin(), level.end(), 0.0);
  const double either = n * static_cast<double>(M - n) / (M - 1), both = n * static_cast<double>(n - 1) / (M - 1);
  double sum_of_weights = 0;
  for (int k = 1; k <= n; ++k) {
    const double w = weight(k);
    sum_of_weights += w;
    if (w != 0 && n < M) add_hypergeometric(k - 1, n - 1, pairs, either * w, growth.data());
    if (k == n) break;
    const double next = weight(k + 1), without = ((n - k) * w + k * next) / (n - 1);
    const bool others = baseline == set_baseline::others;
    if (others && without != 0) add_hypergeometric(k - 1, n - 2, pairs, both * without, growth.data());
    const double lowest = others ? next - without : baseline == set_baseline::none ? next : 0;
    if (lowest != 0) add_hypergeometric(k - 1, n - 2, pairs, both * lowest, level.data());
  }
  for (int j = pairs; j > 0; --j) level[j - 1] += level[j];

  // share·(next reward − the j-th); 0 for a share of 0, however far apart they are.
  const auto part = [&](double share, int j) {
    const double from = static_cast<double>(rewards[order[j]]), to = static_cast<double>(rewards[order[j + 1]]);
    return share != 0 ? share * (to - from) : 0.0;
  };
  double smallest = baseline == set_baseline::none ? n * sum_of_weights * static_cast<double>(rewards[order[0]]) : 0;
  for (int j = 0; j <= pairs; ++j) smallest += part(level[j], j);
  scratch<double> result(space, M);
  result[order[0]] = smallest;
  for (int j = 0; j <= pairs; ++j) result[order[j + 1]] = result[order[j]] + part(growth[j], j);
  Eigen::Map<array<double>> credit(result.data(), M);
  if (baseline == set_baseline::group_mean) credit -= credit.mean();
  use(credit);
}

}  // namespace detail

/// The weight of the k-th smallest of n responses in what a procedure outputs, with n its `sample_size()`: element k − 1 is
/// the probability that it outputs that response.
///
/// Errors: throws if the procedure's parameters are wrong.
template <sample_procedure T>
array<double> order_weights(const T& procedure) {
  detail::check_part(procedure);
  const Eigen::Index n = procedure.sample_size();
  array<double> weight(n);
  double below = 0;
  for (Eigen::Index k = 1; k <= n; ++k) {
    const double at_most = procedure.sample_cdf(k, n);
    weight[k - 1] = at_most - below;
    below = at_most;
  }
  return weight;
}

/// The unbiased gradient of the expected reward of what a procedure outputs, if it chooses among n responses by their order.
///
///     order_weighted{order_weights(soft_best_of{4, 10})}   // {order_statistic{3, 5}}, …
///
///     A_i = M/C(M, n)·Σ over sets S of n responses with i of (f(S) − f′(S∖i)),   f(S) = Σ_k weight_k·(k-th smallest R in S)
///
/// f′ weighs the n − 1 others as S does on average over the ranks that i could have. If R is the win probability against a
/// procedure of the reference, it is the exact on-policy gradient of the win rate. `max_at_n` and `min_at_n` are its ends.
///
/// Range: equal rewards have equal advantages.
/// Cost: M·(n + log M).
/// Errors: if there is no weight or one is not finite.
/// Source: the sums over subsets of Walder and Karkhanis, "Pass@K policy optimization", arXiv:2505.15201, for other orders.
struct order_weighted {
  /// The weight of the k-th smallest of n rewards at k − 1.
  array<double> weight;
  /// What f(S) is compared with.
  set_baseline baseline = set_baseline::others;

  /// n, and at least 2 if the mean of the group is subtracted.
  int smallest_group() const {
    return std::max(static_cast<int>(weight.size()), baseline == set_baseline::group_mean ? 2 : 1);
  }
  /// Checks the weights.
  void check() const {
    if (weight.size() == 0) detail::fail("order_weighted", "at least one weight", "none");
    for (Eigen::Index k = 0; k < weight.size(); ++k)
      if (!detail::is_finite(weight[k]))
        detail::fail("order_weighted", "finite weights", detail::concat(weight[k], detail::position(k)));
  }

  /// Writes the advantages of one group.
  template <vector_expression R, class Result>
  void operator()(const R& r, Result&& result, workspace* space) const {
    using S = typename R::Scalar;
    if (weight.size() == 1 && baseline != set_baseline::group_mean)
      result = static_cast<S>(weight[0]) * r;
    else
      detail::set_credit(
          r, static_cast<int>(weight.size()), [this](int k) { return weight[k - 1]; }, baseline, space,
          [&](const auto& c) { result = c.template cast<S>(); });
  }
};

/// The unbiased gradient of MaxRL for rewards of at least 0: of Σ over k = 1, …, M of E[max of k rewards]/k, which for
/// success or failure is log P(success) up to terms of order M.
///
///     A of the smallest reward = R − constant;   from the p-th smallest (p = 0, …) to the next, A grows by M/(M − p − 1)
///     times the difference in reward
///
/// For rewards of 0 and 1, A = R/mean(R) − constant. The mean of A is the largest reward of the group, less the constant.
///
/// Cost: M log M.
/// Errors: if a reward is below 0, or the constant is not finite.
/// Source: "Maximum likelihood reinforcement learning" (MaxRL), arXiv:2602.02710, for success or failure.
struct max_rl {
  /// Subtracted from all advantages. It changes the variance, not the mean of the gradient. 1 suits rewards in [0, 1].
  double constant = 0;

  /// Checks the constant.
  void check() const {
    if (!detail::is_finite(constant)) detail::fail("max_rl", "a finite constant", detail::concat(constant));
  }

  /// Writes the advantages of one group.
  template <vector_expression R, class Result>
  void operator()(const R& r, Result&& result, workspace* space) const {
    const auto M = r.size();
    detail::scratch<Eigen::Index> order(space, M);
    detail::sort_order(r, order);
    double before = 0, credit = -constant;
    detail::scratch<double> credits(space, M);
    for (Eigen::Index p = 0; p < M; ++p) {
      const double reward = static_cast<double>(r[order[p]]);
      if (reward < 0) detail::fail("max_rl", "rewards of at least 0", detail::concat(reward));
      credit += static_cast<double>(M) / static_cast<double>(M - p) * (reward - before);
      credits[order[p]] = credit;
      before = reward;
    }
    result = Eigen::Map<const array<double>>(credits.data(), M).template cast<typename R::Scalar>();
  }
};

static_assert(advantage_estimator<order_weighted> && advantage_estimator<max_rl>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
