// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/rank.hpp>

#include <cmath>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Rank functors without bias at a finite number K of reference rewards.
///
/// The empirical calibrated reward Ĉ has mean C, but a nonlinear function of Ĉ does not have that function of C as its
/// mean. Without ties,
///
///     E[e^{tĈ}] = (1 + C·(e^{t/K} − 1))^K,
///
/// which is 14 % above e^{tC} at t = 10, K = 32, C = 0.9. Over draws of the reference rewards, the mean of any rank
/// functor is a polynomial in C of degree K at most. So those polynomials have unbiased estimates, and no other
/// function has one.
///
/// Each estimate is derived for counts without ties, where #{z < r} ~ Binomial(K, C). The rule for ties follows from
/// the value of a tie. In C^m, a product of comparisons, each tie is an independent fair coin. In a win against the
/// output of a procedure, all ties are one coin (the output ties or it does not), so the estimate is the mean of both
/// ends.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// E[untied(below + j)] with j ~ Binomial(tied, ½): a fair coin for each tie.
template <class Untied>
double coin_for_each_tie(Eigen::Index below, Eigen::Index tied, const Untied& untied) {
  if (tied == 0) return untied(below);
  double sum = 0;
  for (Eigen::Index j = 0; j <= tied; ++j)
    sum += binomial_probability(static_cast<int>(j), static_cast<int>(tied), 0.5) * untied(below + j);
  return sum;
}

}  // namespace detail

/// The unbiased estimate of C^m.
///
///     C(below, m)/C(count, m)   without ties: the share of the sets of m reference responses that are all beaten
///     e_m(w)/C(count, m)        with ties: the mean over those sets of the product of the wins w ∈ {1, ½, 0}
///
/// Range: [0, 1]; 1 ≤ m ≤ count.
/// Cost: m steps, times tied + 1. `tabulated_rank` makes it one look-up.
/// Accuracy: 1e-12, relative.
/// Errors: unless 1 ≤ m ≤ count.
struct unbiased_power {
  /// The power, at least 1.
  int m;

  /// Checks m.
  void check() const {
    if (m < 1) detail::fail("unbiased_power", "m of at least 1", detail::concat(m));
  }

  /// The estimate if no reward ties.
  double untied(Eigen::Index below, Eigen::Index count) const {
    if (count < m)
      detail::fail("unbiased_power", detail::concat("at least ", m, " reference rewards for m = ", m),
                   detail::concat(count));
    return detail::all_below(m, below, count);
  }
  /// The estimate.
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return detail::coin_for_each_tie(below, tied, [&](Eigen::Index b) { return untied(b, count); });
  }
};

/// The unbiased form of `win_probability`: the share of the sets of reference responses that the procedure could draw
/// whose output the reward beats, where a tie counts one half.
///
///     ½·(Ĝ(below) + Ĝ(below + tied)),   Ĝ = `sample_cdf` of the procedure; for best-of-n Ĝ(b) = C(b, n)/C(count, n)
///
/// Range: [0, 1].
/// Accuracy: 1e-12, relative.
/// Errors: the constructor checks the procedure's parameters; a call throws if count is below the procedure's sample
/// size.
template <sample_procedure T>
struct unbiased_win_probability {
  /// The procedure of the reference.
  T against;

  /// Against the output of procedure t.
  explicit unbiased_win_probability(T t) : against(detail::checked(std::move(t))) {}

  /// The estimate.
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    const double won = against.sample_cdf(below, count);
    return tied == 0 ? won : 0.5 * (won + against.sample_cdf(below + tied, count));
  }
};

/// An estimate of the exponential transform of C itself, not of its estimate Ĉ.
///
/// No function of the counts has e^{tC} as its mean. This one has the Taylor polynomial of degree K = count as its mean
/// (for t < 0, that of e^{−t(1 − C)}, times e^t):
///
///     t > 0:  Σ_m t^m/m!·C(below, m)/C(K, m) = ₁F₁(−below; −K; t)
///     t < 0:  −e^t·₁F₁(−(K − below); −K; −t)
///
/// Both are sums of positive terms that increase with `below`. Each tie is a fair coin.
///
/// Range: [1, e^t] or [−1, −e^t]; β must be of that size, as for `exponential`.
/// Accuracy: 1e-12, relative. The mean is below e^{tC} by a relative P(Poisson(|t|) > K) at most.
/// Errors: if that bound is above `tolerance` (the message names the K that is enough: 21 at t = 10 and 1e-3); if t is
/// 0 or above 88.7 in size, where it overflows a float; if the tolerance is not in (0, 1).
struct unbiased_exponential {
  /// The rate.
  double t;
  /// The largest relative bias.
  double tolerance = 1e-3;

  /// Checks t and the tolerance.
  void check() const {
    constexpr auto name = "unbiased_exponential";
    if (!detail::is_finite(t) || t == 0 || std::abs(t) > 88.7)
      detail::fail(name, "t other than 0, from -88.7 to 88.7", detail::concat(t));
    if (!detail::is_finite(tolerance) || !(tolerance > 0) || !(tolerance < 1))
      detail::fail(name, "a tolerance between 0 and 1", detail::concat(tolerance));
  }

  /// The least K with P(Poisson(|t|) > K) ≤ tolerance.
  Eigen::Index smallest_count() const {
    Eigen::Index K = 0;
    while (detail::poisson_above(std::abs(t), K) > tolerance) ++K;
    return K;
  }

  /// The estimate if no reward ties.
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
  /// The estimate.
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    if (detail::poisson_above(std::abs(t), count) > tolerance)
      detail::fail("unbiased_exponential",
                   detail::concat("at least ", smallest_count(), " reference rewards for t = ", t, " within ",
                                  tolerance, " of the exponential"),
                   detail::concat(count));
    return detail::coin_for_each_tie(below, tied, [&](Eigen::Index b) { return untied(b, count); });
  }
};

/// A rank functor computed in advance for every pair of counts at one K: a response then costs one look-up. For another
/// count (a ragged reference, or unscored rewards) it calls the functor itself.
///
///     calibration shape{reference, tabulated_rank{unbiased_power{7}, reference.cols()}};
///
/// Cost: memory for (K + 1)(K + 2)/2 doubles: 65 KiB at K = 128, 64 MiB at 4,096.
/// Errors: if K < 1, if K > 32,768 (4 GiB), and the functor's own.
template <rank_functor Rank>
class tabulated_rank {
 public:
  /// count: the K of the table.
  tabulated_rank(Rank rank, Eigen::Index count) : rank_(detail::checked(std::move(rank))), count_(count) {
    if (count < 1 || count > 32'768) detail::fail("tabulated_rank", "a count from 1 to 32768", detail::concat(count));
    static_cast<void>(rank_(0, 0, count));  // throws if the functor needs more reference rewards
    value_.resize((count + 1) * (count + 2) / 2);
    for (Eigen::Index tied = 0; tied <= count; ++tied)
      for (Eigen::Index below = 0; below + tied <= count; ++below) value_[index(below, tied)] = computed(below, tied);
  }

  /// The estimate.
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return count == count_ ? value_[index(below, tied)] : static_cast<double>(rank_(below, tied, count));
  }

 private:
  /// Row `tied` holds below = 0 .. count − tied.
  Eigen::Index index(Eigen::Index below, Eigen::Index tied) const {
    return tied * (count_ + 1) - tied * (tied - 1) / 2 + below;
  }

  double computed(Eigen::Index below, Eigen::Index tied) const {
    if constexpr (requires { rank_.untied(below, tied); }) {
      if (tied == 0) return rank_.untied(below, count_);
      return 0.5 *
             (value_[index(below, tied - 1)] + value_[index(below + 1, tied - 1)]);  // the last tie is a fair coin
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

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
