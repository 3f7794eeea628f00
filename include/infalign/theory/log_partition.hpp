// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/rank.hpp>
#include <infalign/calibration/reference.hpp>
#include <infalign/detail/distributions.hpp>
#include <infalign/theory/aligned_policy.hpp>

#include <algorithm>
#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// The logarithm of the partition function: what turns alignment into a regression.
///
/// The policy that maximises E[Φ] − β·KL is π* = π_ref·e^{Φ/β}/Z. So for every response
///
///     β·log(π*/π_ref) = Φ(u) − β·log Z,
///
/// and a policy can be trained by least squares on any responses, with the target T = Φ(u) − β·log Z (`regression`). For
/// calibrated rewards Z = ∫ e^{Φ(u)/β} du is one number for all prompts, and known before training.
///
/// A log Z that is too large collapses the policy onto one response. One that is too small only holds the best responses
/// back. With two or more responses to each prompt Z is not needed at all: `k1_in_reward` with `group_mean` regresses on
/// differences within the group.
///
/// Source: Matrenok et al., "Quantile reward policy optimization" (QRPO), arXiv:2507.08068.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// log of the mean of e^x.
inline double log_mean_exp(const array<double>& x) {
  const double most = x.maxCoeff();
  return is_finite(most) ? most + std::log((x - most).exp().mean()) : most;
}

/// The mean of values[B] for B ~ Binomial(n, u): a Bernstein polynomial in u.
struct binomial_mean {
  array<double> values;  ///< n + 1 of them

  double operator()(double u) const {
    const auto n = static_cast<int>(values.size()) - 1;
    if (!(u > 0)) return values[0];
    if (u >= 1) return values[n];
    const int peak = std::min(n, static_cast<int>(u * (n + 1)));
    const double at_peak = binomial_probability(peak, n, u), odds = u / (1 - u);
    double sum = at_peak * values[peak], up = at_peak, down = at_peak;
    for (int j = peak; j < n; ++j) sum += (up *= odds * (n - j) / (j + 1)) * values[j + 1];
    for (int j = peak; j > 0; --j) sum += (down *= j / (odds * (n - j + 1))) * values[j - 1];
    return sum;
  }
};

/// Φ of each rank among K reference rewards without ties.
template <class F, class Rank>
array<double> shaped_ranks(const char* function, const F& phi, at_beta at, at_count references, const Rank& rank) {
  check_positive(function, "a beta", at.beta);
  check_part<double>(phi);
  check_part(rank);
  const double K = references.count;
  if (!(K >= 1 && K <= 4096 && K == std::floor(K))) fail(function, "a whole count from 1 to 4096", concat(K));
  array<double> result(static_cast<Eigen::Index>(K) + 1);
  for (Eigen::Index b = 0; b < result.size(); ++b) {
    result[b] = static_cast<double>(phi(static_cast<double>(rank(b, Eigen::Index{0}, result.size() - 1))));
    if (!is_finite(result[b]))
      fail(function, "a transform that is finite at every rank", concat(result[b], " at below = ", b));
  }
  return result;
}

}  // namespace detail

/// log Z of a transform and a β, if the calibrated rewards are exact.
///
///     log Z = log ∫₀¹ e^{Φ(u)/β} du
///
/// Accuracy: 1e-10, and relative 1e-10 if β is a small share of the range of Φ.
/// Cost: that of an `aligned_policy`.
/// Errors: those of `aligned_policy`.
template <reward_transform F>
double log_partition(const F& phi, at_beta at) {
  return aligned_policy(phi, at).log_partition();
}

/// That of the identity, for any β.
///
///     log Z = log(β·(e^{1/β} − 1))
///
/// Accuracy: relative 1e-14.
/// Errors: unless β is finite and above 0.
inline double log_partition(const identity&, at_beta at) {
  detail::check_positive("log_partition", "a beta", at.beta);
  const double x = 1 / at.beta;
  if (x < 0.01) return x / 2 + x * x / 24 - x * x * x * x / 2880;
  return x + std::log(-std::expm1(-x) * at.beta);
}

/// That of the logarithm, for any β.
///
///     log Z = −log(1 + 1/β)
///
/// Errors: unless β is finite and above 0.
inline double log_partition(const logarithm&, at_beta at) {
  detail::check_positive("log_partition", "a beta", at.beta);
  return -std::log1p(1 / at.beta);
}

/// log Z for rewards that are calibrated from K reference rewards, if each prompt is seen once, so that the policy learns
/// the mean of the shaped reward over reference samples.
///
///     log Z = log ∫₀¹ e^{E[Φ(rank(B, 0, K))]/β} du,   B ~ Binomial(K, u)
///
/// For `identity`, and for rank functors without bias, it is the log Z of exact calibrated rewards.
///
/// Accuracy: as above; for rewards without ties.
/// Cost: K times that of an `aligned_policy`.
/// Errors: those of `aligned_policy`; unless K is whole and from 1 to 4,096; if Φ is not finite at a rank.
template <reward_transform F, rank_functor Rank = mid_rank>
double log_partition(const F& phi, at_beta at, at_count references, const Rank& rank = {}) {
  return aligned_policy(detail::binomial_mean{detail::shaped_ranks("log_partition", phi, at, references, rank)}, at)
      .log_partition();
}

/// The logarithm of the mean of Z over reference samples of size K.
///
///     log of the mean of e^{Φ(rank(b, 0, K))/β} over b = 0, …, K
///
/// Z differs by prompt if a policy learns each prompt's own reference sample. This is its mean; about half of the prompts
/// have a smaller Z, for which a log Z this large is too large. It is exact for rewards without ties, and with ties for
/// `partition_rank`.
///
/// Errors: unless β is finite and above 0, and K is whole and from 1 to 4,096; if Φ is not finite at a rank.
template <reward_transform F, rank_functor Rank = mid_rank>
double log_mean_partition(const F& phi, at_beta at, at_count references, const Rank& rank = {}) {
  return detail::log_mean_exp(detail::shaped_ranks("log_mean_partition", phi, at, references, rank) / at.beta);
}

/// A rank functor with the transform in it, whose mean of e^{·/β} under the reference is the same whatever ties: that of
/// `log_mean_partition`.
///
///     β·log of the mean of e^{Φ((below + j)/count)/β} over j = 0, …, tied
///
/// The policy that it aligns is that of rewards without ties whose ties were broken at random.
///
///     calibration shape{reference, partition_rank{exponential{.t = 10}, 0.2}};   // shaped: no transform follows
///
/// Range: that of Φ.
/// Cost: tied + 1 values of Φ.
/// Errors: unless β is finite and above 0; if Φ's parameters are wrong.
template <reward_transform F>
struct partition_rank {
  /// Φ.
  F transform;
  /// β.
  double beta;

  /// Checks Φ and β.
  void check() const {
    detail::check_part<double>(transform);
    detail::check_positive("partition_rank", "a beta", beta);
  }

  /// The shaped reward.
  double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    const auto shaped = [&](Eigen::Index b) {
      return static_cast<double>(transform(static_cast<double>(b) / static_cast<double>(count)));
    };
    if (tied == 0) return shaped(below);
    array<double> x(tied + 1);
    for (Eigen::Index j = 0; j <= tied; ++j) x[j] = shaped(below + j) / beta;
    return beta * detail::log_mean_exp(x);
  }
};

/// Deduces F from the transform.
template <reward_transform F>
partition_rank(F, double) -> partition_rank<F>;

/// The value of the optimal policy of the rewards themselves, for each prompt, estimated from reference rewards.
///
///     V = β·log of the mean of e^{r/β} over the prompt's reference rewards
///
/// r − V is the target of a regression on raw rewards, as T is on shaped ones. The estimate is too low on average,
/// because the logarithm is concave. For calibrated rewards it is β·`log_partition`, without error.
///
/// Shapes: reference: P × K, or any `reference_table`. Result: P.
/// NaN: an error; with `unscored::propagate` such rewards are left out, and V is NaN if none is left.
/// Errors: unless β is finite and above 0; if a prompt has no reference reward, or an infinite one.
/// Source: A*-PO, Brantley et al., "Accelerating RL for LLM reasoning with optimal advantage regression",
/// arXiv:2505.20686.
template <reference_rewards T>
array<double> optimal_values(const T& reference, at_beta at, unscored on_unscored = unscored::error) {
  constexpr auto name = "optimal_values";
  detail::check_positive(name, "a beta", at.beta);
  decltype(auto) table = detail::rows_of(reference);
  array<double> result(table.rows());
  for (Eigen::Index p = 0; p < table.rows(); ++p) {
    const auto row = table.row(p);
    array<double> x(detail::count_scored({name, on_unscored}, "reference", row, p));
    Eigen::Index k = 0;
    for (const auto r : row) {
      if (detail::is_nan(r)) continue;
      if (!detail::is_finite(r)) detail::fail(name, "finite rewards", detail::concat(r, " at row ", p));
      x[k++] = static_cast<double>(r) / at.beta;
    }
    result[p] = k > 0 ? at.beta * detail::log_mean_exp(x) : detail::nan<double>;
  }
  return result;
}

static_assert(rank_functor<partition_rank<identity>>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
