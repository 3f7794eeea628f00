// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/groups.hpp>
#include <infalign/detail/scored_rewards.hpp>
#include <infalign/step/step_result.hpp>

#include <algorithm>
#include <cmath>
#include <concepts>
#include <type_traits>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Advantages: rewards compared with the other responses to the same prompt.
///
/// A response's advantage is exactly 0 if it is unscored (NaN), if its group has fewer scored responses than the
/// estimator needs, or if the estimator compares responses and all rewards of the group are equal. Unscored responses
/// never affect others. An error: a P × M matrix with fewer columns than the estimator needs, or an advantage that is
/// not finite.
namespace INFALIGN_NAMESPACE {

/// The mean and the sample standard deviation (n − 1) of all scored rewards of a batch. Converts to the mean.
struct reward_moments {
  double mean;                ///< 0 without scored rewards
  double standard_deviation;  ///< 0 for fewer than two

  /// The mean.
  operator double() const { return mean; }
};

namespace detail {

using float_group = Eigen::Map<const array<float>>;
using double_group = Eigen::Map<const array<double>>;

/// The forms of an advantage estimator.
template <class E, class Group>
concept estimates_group = requires(const E& e, Group group) {
  requires vector_expression<std::remove_cvref_t<decltype(e(group))>>;
};
template <class E, class Group>
concept estimates_with_mean = requires(const E& e, Group group) {
  requires vector_expression<std::remove_cvref_t<decltype(e(group, 0.0))>>;
};
template <class E, class Group>
concept estimates_with_moments = requires(const E& e, Group group, const reward_moments& of_batch) {
  requires vector_expression<std::remove_cvref_t<decltype(e(group, of_batch))>>;
};
template <class E, class Group>
concept estimates_in_place = requires(const E& e, Group group, Eigen::Map<array<typename Group::Scalar>> result,
                                      workspace* space) {
  e(group, result, space);
};
template <class E, class Group>
concept estimates = estimates_group<E, Group> || estimates_with_mean<E, Group> || estimates_with_moments<E, Group> ||
    estimates_in_place<E, Group>;

/// True if an estimator needs the standard deviation of the batch.
template <class E>
inline constexpr bool needs_moments =
    !estimates_group<E, float_group> && !estimates_with_mean<E, float_group> && !estimates_in_place<E, float_group>;

}  // namespace detail

/// An advantage estimator: a function from the M scored rewards of one group to their M advantages. It has one of these
/// forms:
///
/// - `e(rewards)`: returns the advantages as an Eigen vector. Any such lambda is one.
/// - `e(rewards, mean)`: gets the mean of all scored rewards of the batch too, a double.
/// - `e(rewards, moments)`: gets the `reward_moments` of the batch.
/// - `e(rewards, result, space)`: writes to `result`; memory comes from the workspace `*space` if that is not null.
///
/// Optional members:
/// - `smallest_group()`: the M that it needs (1 if absent).
/// - `static constexpr bool linear = true`: the advantages of a sum of rewards are the sum of the advantages. A KL term
///   in the reward then goes through the estimator; else it is subtracted from the advantages.
/// - `check()`: throws if its parameters are wrong. The library calls it once for each use.
template <class E>
concept advantage_estimator = detail::estimates<E, detail::float_group> && detail::estimates<E, detail::double_group>;

namespace detail {

template <class E>
inline constexpr bool is_linear = requires {
  requires bool(E::linear);
};

template <class E>
Eigen::Index smallest_group(const E& estimator) {
  if constexpr (requires { estimator.smallest_group(); })
    return estimator.smallest_group();
  else
    return 1;
}

// Return types are spelled out, so that a call's type is known without compiling the function's body.
template <class R>
using differences_of = std::remove_cvref_t<decltype(std::declval<const R&>().template cast<double>() - double{})>;
template <class R>
using affine_of = std::remove_cvref_t<
    decltype((double{} * std::declval<differences_of<R>>() + double{}).template cast<typename R::Scalar>())>;

/// The rule for what is added to a standard deviation.
inline void check_epsilon(const char* function, double epsilon) {
  if (!is_finite(epsilon) || epsilon < 0) fail(function, "epsilon finite and at least 0", concat(epsilon));
}

/// r_i − r_0 in double. Equal rewards give exact zeros.
template <class R>
differences_of<R> differences(const R& r) {
  return r.template cast<double>() - static_cast<double>(r[0]);
}

/// scale·(r_i − r_0) + shift.
template <class R>
affine_of<R> affine(const R& r, double scale, double shift) {
  return (scale * differences(r) + shift).template cast<typename R::Scalar>();
}

}  // namespace detail

/// The reward itself. Unbiased, with high variance.
///
///     A_i = R_i
struct no_baseline {
  /// A sum of rewards has the sum of the advantages.
  static constexpr bool linear = true;

  /// The advantages of one group.
  template <vector_expression R>
  R operator()(const R& r) const {
    return r;
  }
};

/// The mean of the whole batch as baseline. It depends on the response itself, so the gradient is 1 − 1/B of the full
/// one.
///
///     A_i = R_i − mean of the batch
///
/// For a shard, the step computes the mean over all shards.
struct batch_mean {
  /// A sum of rewards has the sum of the advantages.
  static constexpr bool linear = true;

  /// The advantages of one group.
  template <vector_expression R>
  auto operator()(const R& r, double mean) const {
    return (r.template cast<double>() - mean).template cast<typename R::Scalar>();
  }
};

/// The mean of the group as baseline. It depends on the response itself, so the gradient is 1 − 1/M of the full one.
///
///     A_i = R_i − mean of the group
struct group_mean {
  /// A sum of rewards has the sum of the advantages.
  static constexpr bool linear = true;
  /// 2.
  static int smallest_group() { return 2; }

  /// The advantages of one group.
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    return detail::affine(r, 1, -detail::differences(r).sum() / static_cast<double>(r.size()));
  }
};

/// The mean of the other responses as baseline (RLOO). Unbiased, because the baseline does not depend on response i.
///
///     A_i = R_i − mean of the other M − 1
///
/// Source: Kool, van Hoof and Welling, 2019; Ahmadian et al., arXiv:2402.14740.
struct leave_one_out {
  /// A sum of rewards has the sum of the advantages.
  static constexpr bool linear = true;
  /// 2.
  static int smallest_group() { return 2; }

  /// The advantages of one group.
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    const double others = std::max(1.0, static_cast<double>(r.size()) - 1);
    return detail::affine(r, (others + 1) / others, -detail::differences(r).sum() / others);
  }
};

/// The z-score of the group, as in GRPO. It changes the objective: groups with a small spread count as much as those
/// with a large one.
///
///     A_i = (R_i − mean) / (s + epsilon),   s the sample standard deviation (n − 1)
///
/// Errors: if epsilon is below 0 or not finite.
/// Source: arXiv:2402.03300.
struct group_standardized {
  /// Added to the standard deviation, at least 0.
  double epsilon = 1e-4;
  /// 2.
  static int smallest_group() { return 2; }

  /// Checks epsilon.
  void check() const { detail::check_epsilon("group_standardized", epsilon); }

  /// The advantages of one group.
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r) const {
    const double n = static_cast<double>(r.size()), size = detail::differences(r).abs().maxCoeff();
    if (!(size > 0)) return detail::affine(r, 0, 0);
    const double mean =
        detail::differences(r).sum() / size / n;  // of differences of size 1, whose squares are in range
    const double squares = (detail::differences(r) / size - mean).square().sum();
    const double scale = 1 / (std::sqrt(squares / (n - 1)) + epsilon / size);
    return detail::affine(r, scale / size, -scale * mean);
  }
};

/// The distance from the mean of the group in standard deviations of the whole batch. Unlike `group_standardized`, it
/// keeps the weight of each group: the objective is the mean reward over one constant.
///
///     A_i = (R_i − mean of the group) / (s + epsilon),   s the sample standard deviation (n − 1) of the batch
///
/// For a shard, the step computes s over all shards.
///
/// Errors: if epsilon is below 0 or not finite.
/// Source: REINFORCE++ with a group baseline, arXiv:2501.03262; TRL's `scale_rewards="batch"`.
struct batch_standardized {
  /// Added to the standard deviation, at least 0.
  double epsilon = 1e-4;
  /// 2.
  static int smallest_group() { return 2; }

  /// Checks epsilon.
  void check() const { detail::check_epsilon("batch_standardized", epsilon); }

  /// The advantages of one group.
  template <vector_expression R>
  detail::affine_of<R> operator()(const R& r, const reward_moments& of_batch) const {
    const double scale = of_batch.standard_deviation > 0 ? 1 / (of_batch.standard_deviation + epsilon) : 0;
    return detail::affine(r, scale, -scale * detail::differences(r).sum() / static_cast<double>(r.size()));
  }
};

namespace detail {

/// Replaces the rewards of a batch by their advantages, in place. `of_batch`: the moments of all scored rewards.
template <real_scalar S, advantage_estimator E>
void estimate_advantages(const char* function, S* values, const groups& g, const E& estimator,
                         const reward_moments& of_batch, workspace* space) {
  const auto needed = smallest_group(estimator);
  if (g.columns() > 0 && g.columns() < needed)
    fail(function, concat("at least ", needed, " responses to each prompt for this estimator"),
         concat(g.columns(), " (columns of the rewards)"));
  if (g.size() > 0 && g.largest() < needed)
    fail(function, concat("at least ", needed, " responses to some prompt for this estimator"),
         concat("at most ", g.largest()));
  g.apply(values, values, S{0}, [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> out, Eigen::Index) {
    if (group.size() < needed) {
      std::fill_n(out.data(), out.size(), S{0});
      return;
    }
    const auto assign = [&](const auto& given) {
      check_size(function, "advantages from the estimator, one for each reward of its group", group.size(),
                 given.size());
      out = as_column(given);
    };
    if constexpr (estimates_in_place<E, Eigen::Map<const array<S>>>)
      estimator(group, out, space);
    else if constexpr (needs_moments<E>)
      assign(estimator(group, of_batch));
    else if constexpr (estimates_with_mean<E, Eigen::Map<const array<S>>>)
      assign(estimator(group, of_batch.mean));
    else
      assign(estimator(group));
  });
  for (Eigen::Index i = 0; i < g.size(); ++i)
    if (!is_finite(values[i])) fail(function, "finite advantages", concat(values[i], g.position(i)));
}

/// Replaces the rewards of a batch by their advantages.
template <real_scalar S, class Prompts, advantage_estimator E>
void replace_by_advantages(const rows_view<S>& rewards, const Prompts& prompts, workspace* space, const E& estimator,
                           unscored on_unscored = unscored::error) {
  check_part(estimator);
  check_trainable<S>({"advantage", on_unscored}, prompts, rewards.data);
  const auto mean = scored_mean(rewards.data, prompts.size());
  double squares = 0;
  if constexpr (needs_moments<E>) squares = scored_squares(rewards.data, prompts.size(), mean);
  estimate_advantages("advantage", rewards.data, groups(prompts, space), estimator,
                      {mean, deviation(squares, mean.weight)}, space);
}

}  // namespace detail

/// The advantages of a batch.
///
///     advantage(rewards, estimator, on_unscored = unscored::error)            // P × M
///     advantage(prompt, rewards, estimator, on_unscored = unscored::error)    // a flat batch
///
/// Shapes: rewards is P × M, or B with B prompt indices; responses with equal indices are one group. Returns P × M or
/// B.
/// NaN: an error; with `unscored::propagate` the response has advantage 0 and does not affect others.
/// Errors: if a reward is infinite, an advantage is not finite, the estimator's parameters are wrong, or no prompt has as
/// many responses as the estimator compares.
template <class... Batch>
requires detail::batch_arguments<Batch...>
auto advantage(const Batch&... batch) {
  return detail::replaced(
      "advantage",
      [](const auto& batch_rewards, const auto& batch_prompts, const auto&... options) {
        detail::replace_by_advantages(batch_rewards, batch_prompts, nullptr, options...);
      },
      batch...);
}

/// Writes advantages to the caller's buffer. See `advantage`.
///
///     advantage_into(result, [space,] [prompt,] rewards, estimator, on_unscored = unscored::error)
///
/// Shapes: result has the shape of the rewards; its rows are contiguous. It may be the rewards' own buffer.
/// Cost: with a workspace, no allocation from the second call on, if the estimator does not allocate.
/// Errors: as `advantage`; if it throws, the buffer's contents are unspecified.
template <class Result, class... Args>
requires detail::result_buffer<Result> && detail::into_arguments<Args...>
void advantage_into(Result&& result, Args&&... args) {
  detail::replace_into(
      "advantage", result, [](const auto&... call) { detail::replace_by_advantages(call...); }, args...);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
