// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/counting.hpp>
#include <infalign/detail/distributions.hpp>
#include <infalign/detail/eigen.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// A test of whether a table of reference rewards is stale: how far are the rewards of the current policy, or of a new
/// reference, from it?
///
/// If a response has the distribution of the K reference rewards of its prompt, its rank among them is uniform on 0 ..
/// K. With ties it can be any rank from `below` to `below + tied`. So its mass is spread evenly over [below/(K + 1),
/// (below + tied + 1)/(K + 1)]. The mean of these linear CDFs over n responses is
///
///     F(u) = 1/n Σᵢ min(1, max(0, ((K + 1)·u − belowᵢ) / (tiedᵢ + 1)))    with the K of the response's prompt
///
/// and E F(u) = u at every u, for any K, ties and distributions of the prompts. Responses to one prompt share its
/// reference rewards: at u = j/(K + 1) two of them have the covariance u(1 − u)/(K + 2), which is the variance of the
/// j-th order statistic of K uniform numbers. So, with M responses to a prompt,
///
///     Var F(u) ≤ u(1 − u)/nₑ,   nₑ = n² / Σ over prompts of (M + M(M − 1)/(K + 2))
///
/// with equality if u is a j/(K + 1) of every prompt and there are no ties. Likewise Cov(F(u), F(v)) = u(1 − v)/nₑ for
/// u < v. This is a Brownian bridge, so the distance has Kolmogorov's limit distribution. For one prompt nₑ is M(K +
/// 2)/(M + K + 1); the two-sample test has M·K/(M + K), its limit for large samples.
///
/// Source: Czado, Gneiting and Held, Biometrics 65, 2009 (the non-randomised probability integral transform).
namespace INFALIGN_NAMESPACE {

/// The result of `drift` for n responses.
struct drift_check {
  /// Kolmogorov's statistic, the largest |F(u) − u|, in [0, 1].
  double distance;
  /// The probability of at least this distance if there is no drift, in [0, 1].
  double p_value;
  /// The mean calibrated reward, 1/n Σ (below + ½·tied)/K, in [0, 1]. Its expectation is ½ without drift, and more if
  /// the responses are better than the table.
  double mean;
  /// The effective sample size nₑ: the number of independent responses (one per prompt, each with a large reference
  /// table) that would give the same variance.
  double effective_size;
};

namespace detail {

/// Accumulates scored responses. The result does not depend on their order, because counts are summed as integers and
/// the ends of intervals are sorted.
class drift_sum {
 public:
  explicit drift_sum(Eigen::Index prompts) : prompts_(static_cast<std::size_t>(prompts)) {}

  /// Adds n rewards that were counted together in row p.
  template <real_scalar S, int N>
  void add(const S* rewards, int n, Eigen::Index p, const lane_counts<S, N>& places, Eigen::Index count) {
    for (int j = 0; j < n; ++j)
      if (!is_nan(rewards[j])) add(p, places[j], count);
  }
  void add(Eigen::Index p, counts place, Eigen::Index count) {
    const auto [below, tied] = place;
    auto& prompt = prompts_[static_cast<std::size_t>(p)];
    prompt.count = count;
    prompt.responses += 1;
    prompt.half_ranks += 2 * below + tied;
    const double ranks = static_cast<double>(count + 1), slope = ranks / static_cast<double>(tied + 1);
    ends_.push_back({static_cast<double>(below) / ranks, slope});
    ends_.push_back({static_cast<double>(below + tied + 1) / ranks, -slope});
  }

  drift_check result() {
    if (ends_.empty()) fail("drift", "at least one scored response", "none");
    const double n = static_cast<double>(ends_.size() / 2);
    double mean = 0, variance = 0;  // n·mean, and n²·Var F(u) / u(1 − u)
    for (const auto& prompt : prompts_) {
      if (prompt.responses == 0) continue;
      const double K = static_cast<double>(prompt.count), M = static_cast<double>(prompt.responses);
      mean += 0.5 * static_cast<double>(prompt.half_ranks) / K;
      variance += M + M * (M - 1) / (K + 2);
    }
    std::sort(ends_.begin(), ends_.end());
    double distance = 0, sum = 0, slope = 0, last = 0;  // sum: n·F(u), linear between two ends
    for (const auto& [u, change] : ends_) {
      sum += slope * (u - last);
      slope += change;
      last = u;
      distance = std::max(distance, std::abs(sum / n - u));
    }
    const double effective_size = n * n / variance, root = std::sqrt(effective_size);
    return {distance, kolmogorov_above((root + 0.12 + 0.11 / root) * distance), mean / n, effective_size};
  }

 private:
  struct prompt_counts {
    Eigen::Index count = 0, responses = 0, half_ranks = 0;
  };
  std::vector<prompt_counts> prompts_;
  std::vector<std::pair<double, double>> ends_;  // of each response's interval: u, and the change of n·F′ there
};

}  // namespace detail

/// Tests whether M responses to each of P prompts have the distribution of the reference rewards of their prompts.
///
///     const drift_check drifted = drift(reference, rewards);
///     if (drifted.p_value < 0.001) …                         // the table is stale, or the policy has moved from it
///
/// The responses must be new: not those of the table, and not selected by their rewards. All prompts are pooled, so
/// that opposite drifts on different prompts can cancel. To test one prompt, pass its row alone. Neither a strictly
/// increasing map of a prompt's rewards nor the order of the responses changes the result, bit for bit.
///
///     drift(reference, rewards, on_unscored = unscored::error)            // P × M
///     drift(reference, prompt, rewards, on_unscored = unscored::error)    // a flat batch
///
/// Shapes: reference is P × K, or any `reference_table` with P rows. rewards is P × M, or B with B prompt indices.
/// Cost: K comparisons per response, and one sort of all responses.
/// Accuracy: the p-value is Kolmogorov's asymptotic one at (√nₑ + 0.12 + 0.11/√nₑ)·distance. It is too large if K is
/// small (without drift it is below 0.05 with probability 0.04 at K = 128, 0.03 at K = 32, 0.01 at K = 4) or if rewards
/// tie.
/// Errors: if the numbers of rows differ, if an index is out of range, if a prompt has no reference reward, and if no
/// response is scored.
/// NaN: an error; with `unscored::propagate` it is left out of both, and so is a prompt without a scored reference reward.
/// Source: Stephens, J. R. Statist. Soc. B 32, 1970.
template <reference_rewards T, class... Batch>
requires detail::batch_arguments<Batch...> drift_check drift(const T& reference, const Batch&... batch) {
  return detail::with_batch(
      "drift",
      [&](const auto& batch_prompts, const auto& batch_rewards, unscored on_unscored = unscored::error) {
        auto values = detail::make_result(batch_prompts, batch_rewards);
        const auto batch_rows = detail::packed_rows(values.data(), batch_prompts);
        detail::copy_rewards(batch_rewards, batch_rows);
        detail::drift_sum sum(reference.rows());
        detail::count_batch({"drift", on_unscored}, reference, batch_prompts, batch_rows, detail::calls::in_order,
                            [&](const auto&... counted) { sum.add(counted...); });
        return sum.result();
      },
      batch...);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
