// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>
#include <infalign/detail/row_counts.hpp>
#include <infalign/detail/unit_interval.hpp>
#include <infalign/procedure.hpp>

#include <concepts>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Rank functors: the calibrated reward of a response, from two counts.
///
/// `below` is the number of reference rewards below the reward, `tied` the number of equal ones, `count` the number of
/// all.
namespace INFALIGN_NAMESPACE {

/// A rank functor: a function of (below, tied, count) with below + tied ≤ count and count ≥ 1, non-decreasing in
/// `below` and in `tied`. It returns a float or a double: a quotient of integers would be 0. Its range is its own, but
/// `transform` takes [0, 1] only.
///
/// The arguments are integers, of the type `Eigen::Index` or narrower: a generic functor converts before it multiplies.
/// It may have a member `check()`, which throws if its parameters are wrong. The library calls it once for each use. A rank
/// that is not finite is an error; with `static constexpr bool finite = true`, ranks are not checked for that.
template <class R>
concept rank_functor = requires(const R& rank, Eigen::Index n) {
  { rank(n, n, n) } -> std::floating_point;
};

/// The chance to beat one reference response, where a tie counts one half. The default.
///
///     (below + ½·tied) / count
///
/// Range: [0, 1].
struct mid_rank {
  /// Its ranks are finite.
  static constexpr bool finite = true;

  /// The rank.
  INFALIGN_HOST_DEVICE double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return (static_cast<double>(below) + 0.5 * static_cast<double>(tied)) / static_cast<double>(count);
  }
};

/// The share of the reference rewards that is strictly lower. A tie counts as a loss.
///
///     below / count
///
/// Range: [0, 1].
struct strict_rank {
  /// Its ranks are finite.
  static constexpr bool finite = true;

  /// The rank.
  INFALIGN_HOST_DEVICE double operator()(Eigen::Index below, Eigen::Index, Eigen::Index count) const {
    return static_cast<double>(below) / static_cast<double>(count);
  }
};

/// The empirical CDF. A tie counts as a win.
///
///     (below + tied) / count
///
/// Range: [0, 1].
struct weak_rank {
  /// Its ranks are finite.
  static constexpr bool finite = true;

  /// The rank.
  INFALIGN_HOST_DEVICE double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    return static_cast<double>(below + tied) / static_cast<double>(count);
  }
};

/// A rank that is never 0, so that its logarithm is finite.
///
///     (below + 1) / (count + 1)
///
/// Range: (0, 1].
/// Source: Amini, Vieira, Ash and Cotterell, "Variational Best-of-N Alignment", arXiv:2407.06057.
struct add_one_rank {
  /// Its ranks are finite.
  static constexpr bool finite = true;

  /// The rank.
  INFALIGN_HOST_DEVICE double operator()(Eigen::Index below, Eigen::Index, Eigen::Index count) const {
    return static_cast<double>(below + 1) / static_cast<double>(count + 1);
  }
};

/// The chance to beat the output of a procedure that is applied to the reference responses.
///
///     ½·(G(below/count) + G((below + tied)/count)),   G the procedure's CDF
///
/// This is exact with ties. For plain sampling it equals `mid_rank`. With `max_at_n` against best-of-n, or `min_at_n`
/// against worst-of-n, training on it follows the gradient of the inference-time win rate itself.
///
/// Range: [0, 1].
/// Errors: the constructor checks the procedure's parameters.
template <procedure T>
struct win_probability {
  /// The procedure of the reference.
  T against;

  /// Against the output of procedure t.
  explicit win_probability(T t) : against(detail::checked(std::move(t))) {}

  /// The rank.
  INFALIGN_HOST_DEVICE double operator()(Eigen::Index below, Eigen::Index tied, Eigen::Index count) const {
    const double n = static_cast<double>(count);
    return 0.5 * (against.cdf(static_cast<double>(below) / n) + against.cdf(static_cast<double>(below + tied) / n));
  }
};

static_assert(rank_functor<win_probability<best_of>>);
static_assert(rank_functor<mid_rank> && rank_functor<strict_rank> && rank_functor<weak_rank> &&
              rank_functor<add_one_rank>);

namespace detail {

/// The ranks of n rewards among `count`. `itself`: how many of a reward's ties are the reward itself, 0 or 1.
template <real_scalar S, class Rank, int N>
void rank_each(const Rank& rank, const lane_counts<S, N>& c, int n, int itself, Eigen::Index count, S* ranks) {
  for (int j = 0; j < n; ++j) ranks[j] = static_cast<S>(rank(c[j].below, c[j].tied - itself, count));
}

/// The ranks of n of `lanes` rewards. A function of its own that counts in the lanes' integers, so that compilers
/// vectorise the loop over all of them.
template <real_scalar S, class Rank>
[[gnu::noinline]] void rank_lanes(const Rank& rank, const lane_counts<S>& c, int n, int itself, Eigen::Index count,
                                  S* __restrict ranks) {
  if (n < lanes<S>) return rank_each(rank, c, n, itself, count, ranks);
  using integer = std::conditional_t<(sizeof(counter_of<S>) > sizeof(Eigen::Index)), Eigen::Index, counter_of<S>>;
  for (int j = 0; j < lanes<S>; ++j)
    ranks[j] = static_cast<S>(
        rank(static_cast<integer>(c.below[j]), static_cast<integer>(c.at_most[j] - c.below[j] - itself), count));
}

/// Throws at the first of n ranks that is not finite.
template <real_scalar S, int N>
[[gnu::noinline]] void check_ranks(const lane_counts<S, N>& c, int n, int itself, Eigen::Index count, const S* rewards,
                                   const S* ranks) {
  for (int j = 0; j < n; ++j)
    if (!is_finite(ranks[j]) && !is_nan(rewards[j]))
      fail("calibrate", "a finite number from the rank functor",
           concat(ranks[j], " for below ", c[j].below, ", tied ", c[j].tied - itself, ", count ", count));
}

/// Writes the ranks of n rewards that were counted together. NaN stays NaN.
///
/// Errors: if the functor returns NaN or infinity.
template <real_scalar S, class Rank, int N>
void write_ranks(const Rank& rank, const lane_counts<S, N>& c, int n, int itself, Eigen::Index count, const S* rewards,
                 S* result) {
  S ranks[std::size_t{N}];
  if constexpr (N == lanes<S>)
    rank_lanes(rank, c, n, itself, count, ranks);
  else
    rank_each(rank, c, n, itself, count, ranks);
  if constexpr (!requires { requires Rank::finite; }) {
    bits_of<S> wrong = 0;
    for (int j = 0; j < n; ++j) wrong |= not_finite(ranks[j]);
    if (highest_bit<S>(wrong)) check_ranks(c, n, itself, count, rewards, ranks);
  }
  for (int j = 0; j < n; ++j) result[j] = is_nan(rewards[j]) ? rewards[j] : ranks[j];
}

}  // namespace detail
}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
