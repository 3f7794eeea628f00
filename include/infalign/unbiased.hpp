// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration.hpp>

#include <cmath>
#include <utility>

/// Rank functors without bias at a finite number K of reference rewards.
///
/// The empirical calibrated reward Ĉ has the mean C, but a nonlinear function of it has not that function's value as
/// its mean: with no ties E[e^{tĈ}] = (1 + C·(e^{t/K} − 1))^K, 14 % above e^{tC} at t = 10, K = 32, C = 0.9. Over draws
/// of the reference rewards the mean of any rank functor is a polynomial in C of degree K at most; so those polynomials
/// can be estimated without bias, and nothing else can.
///
/// Each estimate is made from counts without ties, where #{z < r} ~ Binomial(K, C), and the rule for ties follows from
/// what a tie is worth: in C^m, a product of comparisons, a fair coin for each; in a win against what a procedure
/// shows, one coin for all (what is shown ties or does not), which is the mean of both ends.
namespace infalign {

namespace detail {

/// The mean of untied(below + j) with j ~ Binomial(tied, ½): a fair coin for each tie.
template <class Untied>
double coin_for_each_tie(Eigen::Index below, Eigen::Index tied, const Untied& untied) {
  if (tied == 0) return untied(below);
  double sum = 0;
  for (Eigen::Index j = 0; j <= tied; ++j)
    sum += binomial_probability(static_cast<int>(j), static_cast<int>(tied), 0.5) * untied(below + j);
  return sum;
}

}  // namespace detail

/// The unbiased estimate of C^m, 1 ≤ m ≤ count, in [0, 1]: with no ties C(below, m)/C(count, m), the share of the sets
/// of m reference responses of which each is beaten; with ties e_m(w)/C(count, m), the mean over those sets of the
/// product of the wins w ∈ {1, ½, 0}. Relative accuracy 1e-12. Cost: m steps, and times tied + 1 (`tabulated_rank`: one
/// look-up). Throws unless 1 ≤ m ≤ count.
struct unbiased_power {
  int m;

  double untied(Eigen::Index below, Eigen::Index count) const {
    if (m < 1) detail::fail("unbiased_power", "m of at least 1", detail::text(m));
    if (count < m)
      detail::fail("unbiased_power", detail::text("at least ", m, " reference rewards for m = ", m),
                   detail::text(count));
    return detail::all_below(m, below, count);
  }
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return detail::coin_for_each_tie(below, tied, [&](Eigen::Index b) { return untied(b, count); });
  }
};

/// The unbiased form of `win_probability`: ½·(Ĝ(below) + Ĝ(below + tied)), in [0, 1], with Ĝ = `sample_cdf` of the
/// procedure, is the share of the sets of reference responses it could draw in which the reward beats what it shows, a
/// tie counting ½. For best-of-n Ĝ(b) = C(b, n)/C(count, n). Relative accuracy 1e-12. Throws where count is below the
/// procedure's sample size.
template <sample_procedure T>
struct unbiased_win_probability {
  T against;
  explicit unbiased_win_probability(T t) : against(std::move(t)) {}

  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    const double won = against.sample_cdf(below, count);
    return tied == 0 ? won : 0.5 * (won + against.sample_cdf(below + tied, count));
  }
};

/// e^{tC} for t > 0 and −e^{tC} for t < 0, as `exponential`, but of C itself rather than of its estimate, as far as
/// that goes: no function of the counts has e^{tC} as its mean; this one has its Taylor polynomial of degree K = count
/// (for t < 0 that of e^{−t(1 − C)}, times e^t),
///
///     t > 0:  Σ_m t^m/m!·C(below, m)/C(K, m) = ₁F₁(−below; −K; t)
///     t < 0:  −e^t·₁F₁(−(K − below); −K; −t),
///
/// positive sums both, that grow with `below`. The mean is short of e^{tC} by a relative P(Poisson(|t|) > K) at most:
/// where that is above `tolerance` the functor throws, and names the K that is enough (21 at t = 10 and 1e-3). Ties: a
/// fair coin for each. Relative accuracy 1e-12. Range [1, e^t] or [−1, −e^t], and β of that size, as for `exponential`.
/// Throws too for t = 0 or above 88.7 in size, which overflows a float, and for a tolerance that is not in (0, 1).
struct unbiased_exponential {
  double t;
  double tolerance = 1e-3;

  void check(Eigen::Index count) const {
    constexpr auto name = "unbiased_exponential";
    if (!detail::is_finite(t) || t == 0 || std::abs(t) > 88.7)
      detail::fail(name, "t other than 0, from -88.7 to 88.7", detail::text(t));
    if (!detail::is_finite(tolerance) || !(tolerance > 0) || !(tolerance < 1))
      detail::fail(name, "a tolerance between 0 and 1", detail::text(tolerance));
    if (const auto needed = smallest_count(); count < needed)
      detail::fail(name,
                   detail::text("at least ", needed, " reference rewards for t = ", t, " within ", tolerance,
                                " of the exponential"),
                   detail::text(count));
  }

  /// The least K with P(Poisson(|t|) > K) ≤ tolerance.
  Eigen::Index smallest_count() const {
    const double size = std::abs(t);
    Eigen::Index K = 0;
    while (tail(size, K) > tolerance) ++K;
    return K;
  }

  double untied(Eigen::Index below, Eigen::Index count) const {
    const double size = std::abs(t);
    const Eigen::Index b = t > 0 ? below : count - below;
    double term = 1, sum = 1;
    for (Eigen::Index m = 0; m < b && term > sum * 1e-17; ++m) {
      term *= size / static_cast<double>(m + 1) * (static_cast<double>(b - m) / static_cast<double>(count - m));
      sum += term;
    }
    return t > 0 ? sum : -std::exp(t) * sum;
  }
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    check(count);
    return detail::coin_for_each_tie(below, tied, [&](Eigen::Index b) { return untied(b, count); });
  }

 private:
  /// P(Poisson(mean) > K), summed from its first term down the tail.
  static double tail(double mean, Eigen::Index K) {
    double term = std::exp(-mean), sum = 0;
    for (Eigen::Index m = 1; m <= K + 1; ++m) term *= mean / static_cast<double>(m);
    for (Eigen::Index m = K + 1; static_cast<double>(m) < mean || term > sum * 1e-17; ++m) {
      sum += term;
      term *= mean / static_cast<double>(m + 1);
    }
    return sum;
  }
};

/// A rank functor worked out beforehand for every pair of counts at one K: a response then costs one look-up. For any
/// other count (a ragged reference, unscored rewards left out) it asks the functor itself.
///
///     calibration shape{reference, tabulated_rank{unbiased_power{7}, reference.cols()}};
///
/// Holds (K + 1)(K + 2)/2 doubles: 65 KiB at K = 128, 64 MiB at 4,096. Throws for K < 1, and what the functor throws.
template <rank_functor Rank>
class tabulated_rank {
 public:
  tabulated_rank(Rank rank, Eigen::Index count) : rank_(std::move(rank)), count_(count) {
    if (count < 1) detail::fail("tabulated_rank", "a count of at least 1", detail::text(count));
    if constexpr (requires { rank_.check(count); }) rank_.check(count);
    value_.resize((count + 1) * (count + 2) / 2);
    for (Eigen::Index tied = 0; tied <= count; ++tied)
      for (Eigen::Index below = 0; below + tied <= count; ++below) value_[place(below, tied)] = worked_out(below, tied);
  }

  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return count == count_ ? value_[place(below, tied)] : static_cast<double>(rank_(below, tied, count));
  }

 private:
  /// The rows by `tied`, each for below = 0 .. count − tied.
  Eigen::Index place(Eigen::Index below, Eigen::Index tied) const {
    return tied * (count_ + 1) - tied * (tied - 1) / 2 + below;
  }

  double worked_out(Eigen::Index below, Eigen::Index tied) const {
    if constexpr (requires { rank_.untied(below, tied); }) {
      if (tied == 0) return rank_.untied(below, count_);
      return 0.5 * (value_[place(below, tied - 1)] + value_[place(below + 1, tied - 1)]);  // the coin of the last tie
    } else {
      return static_cast<double>(rank_(below, tied, count_));
    }
  }

  Rank rank_;
  Eigen::Index count_;
  array<double> value_;
};

static_assert(rank_functor<unbiased_power> && rank_functor<unbiased_exponential>);
static_assert(rank_functor<unbiased_win_probability<best_of>> && rank_functor<tabulated_rank<unbiased_power>>);

}  // namespace infalign
