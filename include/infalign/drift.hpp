// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/counting.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

/// Is a table of reference rewards stale? How far the rewards of the policy of now, or of a new reference, are from it.
///
/// A response from the distribution of its prompt's K reference rewards is exchangeable with them: its rank among them
/// is uniform on 0 .. K, and with ties it may stand at any of the ranks below .. below + tied. So its mass is spread
/// evenly over [below/(K + 1), (below + tied + 1)/(K + 1)] (the non-randomised probability integral transform: Czado,
/// Gneiting and Held, Biometrics 65, 2009), and the mean over responses of these straight CDFs,
///
///     F(u) = 1/n Σᵢ min(1, max(0, ((K + 1)·u − belowᵢ) / (tiedᵢ + 1)))    with the K of the response's prompt,
///
/// has the expectation u at every u, exactly, whatever K, the ties and the distributions of the prompts. The responses
/// to one prompt share its reference rewards: at u = j/(K + 1) two of them have the covariance u(1 − u)/(K + 2), the
/// variance of the j-th order statistic of K uniform numbers. So, with M responses to a prompt,
///
///     Var F(u) ≤ u(1 − u)/nₑ,   nₑ = n² / Σ over prompts of (M + M(M − 1)/(K + 2)),
///
/// with equality where u is a j/(K + 1) of every prompt and nothing ties, and Cov(F(u), F(v)) = u(1 − v)/nₑ for u < v
/// likewise: a Brownian bridge, and Kolmogorov's limit law for its greatest distance from 0. For one prompt nₑ is that
/// of the two-sample test, M·K/(M + K), but for the finite sample: M(K + 2)/(M + K + 1).
namespace infalign {

/// What `drift` finds of n responses.
struct drift_check {
  /// Kolmogorov's statistic, the largest |F(u) − u|, in [0, 1].
  double distance;
  /// The chance of at least this distance where nothing drifts, in [0, 1].
  double p_value;
  /// The mean calibrated reward, 1/n Σ (below + ½·tied)/K, in [0, 1]: ½ on average where nothing drifts, more where the
  /// responses are better than the table says.
  double mean;
  /// nₑ: as many responses, each to another prompt of many reference rewards, would tell as much.
  double effective_size;
};

namespace detail {

/// P(sup |B| ≥ x) of a Brownian bridge B. Kolmogorov's series, and below 1 the one that theta functions turn it into:
/// each to a relative 1e-15 by four terms.
inline double kolmogorov_above(double x) {
  if (x < 0.04) return 1;  // to within 1e-300
  double sum = 0;
  if (x >= 1) {
    for (int j = 4; j >= 1; --j) sum += (j % 2 ? 1 : -1) * std::exp(-2.0 * j * j * x * x);
    return 2 * sum;
  }
  constexpr double pi = 3.14159265358979323846;
  for (int j = 7; j >= 1; j -= 2) sum += std::exp(-j * j * pi * pi / (8 * x * x));
  return 1 - std::sqrt(2 * pi) / x * sum;
}

/// Told each scored response by its prompt and counts, in any order, which leaves no trace: counts are summed as
/// integers, and the ends of intervals are sorted.
class drift_sum {
 public:
  explicit drift_sum(Eigen::Index prompts) : prompts_(static_cast<std::size_t>(prompts)) {}

  /// n rewards that were counted together in row p.
  template <real_scalar S>
  void add(const S* rewards, int n, Eigen::Index p, const lane_counts<S>& places, Eigen::Index count) {
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
    double distance = 0, sum = 0, slope = 0, last = 0;  // sum: n·F(u), straight between two ends
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
  std::vector<std::pair<double, double>> ends_;  // of each response's interval: u, and what the slope of n·F grows by
};

}  // namespace detail

/// Compares M responses to each of P prompts with the reference rewards of their prompts. The responses must be drawn
/// anew: those that the table was made of, or that were picked by their rewards, tell nothing.
///
///     const drift_check drifted = drift(reference, rewards);
///     if (drifted.p_value < 0.001) …                         // the table is stale, or the policy has moved from it
///
/// The p-value is Kolmogorov's asymptotic one at (√nₑ + 0.12 + 0.11/√nₑ)·distance (Stephens, J. R. Statist. Soc. B 32,
/// 1970). It errs on the safe side: where K is small, as F is straight between multiples of 1/(K + 1) (it is below 0.05
/// by chance with probability 0.04 at K = 128, 0.03 at K = 32, 0.01 at K = 4), and the more so the more rewards tie, as
/// their mass is spread wider. All prompts are pooled: drifts that go opposite ways on different prompts can cancel. To
/// test one prompt, hand over its row alone.
///
/// reference: P × K, or any `reference_table` with P rows. rewards: P × M, any Eigen expression of the same scalar
/// type. Strictly increasing maps of a prompt's rewards, and the order of the responses, leave the result unchanged,
/// bit for bit. Cost: K comparisons a response, and a sort of all responses. NaN: an error, or with `unscored::carry`
/// left out of both. Throws where the row counts differ, where a prompt has no scored reference reward, and where no
/// response is scored.
template <reference_rewards T, array_expression R>
drift_check drift(const T& reference, const R& rewards, unscored policy = unscored::error) {
  detail::check_scalars<T, R>();
  const matrix<typename R::Scalar> r = detail::as_array(rewards);
  detail::drift_sum sum(r.rows());
  detail::count_rows("drift", reference, r, policy, detail::calls::in_order,
                     [&](const auto&... counted) { sum.add(counted...); });
  return sum.result();
}

/// The same for a flat batch: rewards[i] is compared with row prompt[i] of the reference.
///
/// prompt: B indices in [0, P), in any order, each as often as it occurs. rewards: B. Otherwise as above; throws too
/// where an index is out of range.
template <reference_rewards T, prompt_index I, vector_expression R>
drift_check drift(const T& reference, const I& prompt, const R& rewards, unscored policy = unscored::error) {
  detail::check_scalars<T, R>();
  const array<typename R::Scalar> r = detail::as_column(rewards);
  detail::drift_sum sum(reference.rows());
  detail::count_flat("drift", reference, prompt, r, policy, detail::calls::in_order,
                     [&](const auto&... counted) { sum.add(counted...); });
  return sum.result();
}

}  // namespace infalign
