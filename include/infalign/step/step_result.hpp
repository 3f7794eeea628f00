// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>
#include <infalign/step/aggregation.hpp>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// The output of a policy-gradient step, and how the metrics of parts of a batch are combined.
namespace INFALIGN_NAMESPACE {

/// A mean: 0 if nothing was added.
struct metric_mean {
  /// The sum of the values.
  double sum = 0;
  /// The number of the values.
  double weight = 0;

  /// Adds `n` values with the sum `total`.
  void add(double total, double n = 1) { sum += total, weight += n; }
  /// The mean.
  operator double() const { return weight > 0 ? sum / weight : 0; }
};

/// A sample standard deviation (n − 1): 0 for fewer than two values.
struct metric_std {
  /// The sum of the values.
  double sum = 0;
  /// The sum of their squares.
  double squares = 0;
  /// Their number.
  double weight = 0;

  /// Adds one value. Subtract the same number near the mean from all values first, so that the squares do not cancel.
  void add(double x) { sum += x, squares += x * x, weight += 1; }
  /// The standard deviation.
  operator double() const {
    return weight > 1 ? std::sqrt(std::max(0.0, (squares - sum * (sum / weight)) / (weight - 1))) : 0;
  }
};

/// The largest value: NaN if nothing was added.
struct metric_max {
  /// The value so far.
  double value = -std::numeric_limits<double>::max();

  /// Adds one value.
  void add(double x) { value = std::max(value, x); }
  /// The largest value.
  operator double() const { return value > -std::numeric_limits<double>::max() ? value : detail::nan<double>; }
};

/// The smallest value: NaN if nothing was added. Stores the largest negated value.
struct metric_min {
  /// The negated values.
  metric_max negated;

  /// Adds one value.
  void add(double x) { negated.add(-x); }
  /// The smallest value.
  operator double() const { return -negated; }
};

/// Metrics that are sums over responses. A new one is a member here, and a line where it is added to.
struct step_averages {
  /// Number of scored responses.
  double sequences = 0;
  /// Number of their unmasked tokens.
  double tokens = 0;
  /// Rewards, before any KL term.
  metric_mean reward;
  /// Standard deviation of the rewards.
  metric_std reward_std;
  /// Advantages of responses. Excludes what reward-to-go adds to tokens; 0 if each token has its own advantage.
  metric_mean advantage_mean;
  /// Standard deviation of the advantages.
  metric_std advantage_std;
  /// Share of the groups whose rewards are all equal, groups of one included. Estimators that compare learn nothing
  /// from them.
  metric_mean frac_reward_zero_std;
  /// k1 estimate of KL(π_θ ‖ π_ref) per response, in nats. NaN without a reference, 0 without responses.
  metric_mean kl;
  /// k1 estimate of KL(π_θ ‖ π_ref) per token, in nats. NaN without a reference, 0 without tokens.
  metric_mean kl_per_token;
  /// max(KL, 0) of a prompt, with KL the mean k1 estimate of its responses: the mean over prompts. NaN without a
  /// reference, 0 without responses.
  metric_mean kl_of_prompt_above_0;
  /// k1 estimate of KL(π_old ‖ π_θ) per token, in nats. 0 on-policy.
  metric_mean approx_kl;
  /// ρ over the tokens or responses that the surrogate takes it of.
  metric_mean ratio;
  /// Share of them that is clipped at the low end.
  metric_mean clip_ratio_low;
  /// Share of them that is clipped at the high end, the dual clip included.
  metric_mean clip_ratio_high;
  /// Share of them that is clipped.
  metric_mean clip_ratio;
};

/// Metrics that are the largest or smallest value of a response or a prompt.
struct step_extremes {
  /// Largest k1 estimate of a response. NaN without a reference.
  metric_max kl_max;
  /// Largest KL of a prompt, which is the mean k1 estimate of its responses. NaN without a reference.
  metric_max kl_of_prompt_max;
  /// Unmasked tokens of the longest response.
  metric_max tokens_max;
  /// Unmasked tokens of the shortest response.
  metric_min tokens_min;
};

/// What a step reports about the scored responses and their unmasked tokens. Each metric converts to double.
///
/// Metrics of micro-batches are added with `+=`; those of shards are combined by `reduce_metrics`. Both are exact, not
/// means of means.
struct step_metrics : step_averages, step_extremes {
  /// The prompt with `kl_of_prompt_max`: its index in a flat batch, or its row of P × M rewards. In a shard or a part of a
  /// batch, a row counts from the first row of that shard or part; indices of a flat batch are the user's own everywhere.
  /// Of prompts with equal KLs, the one with the largest index. Indices above 2⁵³ are rounded. NaN without a reference.
  metric_max kl_max_prompt;

  /// The share of `kl_max_prompt` in the sum over prompts of max(KL, 0). It is 1/P if the prompts have the same KL, and 1
  /// if one prompt has all of it. NaN without a reference, or if no prompt has a KL above 0.
  double kl_max_prompt_share() const {
    return kl_of_prompt_max.value > 0 ? kl_of_prompt_max / kl_of_prompt_above_0.sum : detail::nan<double>;
  }

  /// Adds the metrics of more responses.
  step_metrics& operator+=(const step_metrics& more);
};

/// How values of shards are combined.
enum class reduce_op {
  sum,     ///< added
  maximum  ///< the largest is taken
};

namespace detail {

/// The type of the first parameter of a function object with one, not generic, call operator.
template <class Call>
struct first_parameter;
template <class F, class Result, class First, class... Rest>
struct first_parameter<Result (F::*)(First, Rest...) const> {
  using type = First;
};
template <class F, class Result, class First, class... Rest>
struct first_parameter<Result (F::*)(First, Rest...) const noexcept> {
  using type = First;
};

/// False if a function object takes an Eigen array by value or const reference: it would change a copy.
template <class R>
inline constexpr bool takes_reference = true;
template <class R>
requires requires {
  typename first_parameter<decltype(&R::operator())>::type;
}
inline constexpr bool takes_reference<R> = [] {
  using First = typename first_parameter<decltype(&R::operator())>::type;
  using Object = std::remove_cvref_t<First>;
  return !std::is_base_of_v<Eigen::PlainObjectBase<Object>, Object> &&
         !std::is_const_v<std::remove_reference_t<First>> && !std::is_same_v<Object, Eigen::Ref<const array<double>>>;
}();

template <class R>
concept reduces_in_place =
    takes_reference<R> && std::is_void_v<std::invoke_result_t<const R&, Eigen::Ref<array<double>>, reduce_op>>;

}  // namespace detail

/// An all-reduce over the shards of a data-parallel batch: reduce(values, op) replaces `values` by their sum or maximum
/// over all shards.
///
/// It changes `values` in place and returns nothing: a function that takes an array by value, or returns the sum, is
/// refused. Every shard calls it the same number of times, with vectors of the same length. All responses to a prompt
/// belong in one shard.
///
/// Errors: if the step of a shard fails, that shard throws its own error, and the others throw "expected all shards to
/// succeed, got an error in another shard". Only an error of the caller, outside the step, must be told to the others by
/// the caller.
///
///     [](Eigen::Ref<array<double>> values, reduce_op op) {
///       MPI_Allreduce(MPI_IN_PLACE, values.data(), int(values.size()), MPI_DOUBLE, op == reduce_op::sum ? MPI_SUM : MPI_MAX, comm);
///     }
template <class R>
concept reduction = std::invocable<const R&, Eigen::Ref<array<double>>, reduce_op> && detail::reduces_in_place<R>;

/// The `reduction` of a batch that is not split.
struct whole_batch {
  /// Leaves the values as they are.
  void operator()(Eigen::Ref<array<double>>, reduce_op) const {}
};

namespace detail {

/// Calls f with the members of a struct of doubles as one array, which it may change.
template <class T, class F>
void as_doubles(T& metrics, const F& f) {
  auto values = std::bit_cast<std::array<double, sizeof(T) / sizeof(double)>>(metrics);
  f(Eigen::Map<array<double>>(values.data(), detail::size_of(values)));
  metrics = std::bit_cast<T>(values);
}

}  // namespace detail

namespace detail {

/// The deviation of two sets of values with these means. Each is about a centre of its own; the result is about a's.
inline metric_std joined(const metric_mean& mean_a, const metric_std& a, const metric_mean& mean_b,
                         const metric_std& b) {
  if (a.weight == 0 || b.weight == 0) return a.weight == 0 ? b : a;
  const double shift = (double{mean_b} - b.sum / b.weight) - (double{mean_a} - a.sum / a.weight);
  return {a.sum + b.sum + b.weight * shift, a.squares + b.squares + shift * (2 * b.sum + b.weight * shift),
          a.weight + b.weight};
}

/// Replaces a KL and its prompt by another one if that is larger; of equal ones the prompt has the larger index.
inline void take_larger(metric_max& kl, metric_max& prompt, const metric_max& other_kl, const metric_max& other) {
  if (other_kl.value > kl.value) prompt = {};
  if (other_kl.value >= kl.value) prompt.add(other.value);
  kl.add(other_kl.value);
}

}  // namespace detail

[[gnu::noinline]] inline step_metrics& step_metrics::operator+=(const step_metrics& more) {
  detail::take_larger(kl_of_prompt_max, kl_max_prompt, more.kl_of_prompt_max, more.kl_max_prompt);
  const auto rewards = detail::joined(reward, reward_std, more.reward, more.reward_std);
  const auto advantages = detail::joined(advantage_mean, advantage_std, more.advantage_mean, more.advantage_std);
  const auto combine = []<class T>(T& mine, const T& others, const auto& op) {
    using doubles = std::array<double, sizeof(T) / sizeof(double)>;
    auto x = std::bit_cast<doubles>(mine);
    const auto y = std::bit_cast<doubles>(others);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = op(x[i], y[i]);
    mine = std::bit_cast<T>(x);
  };
  combine.operator()<step_averages>(*this, more, [](double a, double b) { return a + b; });
  combine.operator()<step_extremes>(*this, more, [](double a, double b) { return a < b ? b : a; });
  reward_std = rewards;
  advantage_std = advantages;
  return *this;
}

namespace detail {

/// Replaces the metrics that are no sums.
template <reduction Reduce>
void reduce_extremes(step_metrics& metrics, const Reduce& reduce) {
  const metric_max own = metrics.kl_of_prompt_max;
  as_doubles<step_extremes>(metrics, [&](auto extremes) { reduce(extremes, reduce_op::maximum); });
  if (own.value < metrics.kl_of_prompt_max.value) metrics.kl_max_prompt = {};
  as_doubles(metrics.kl_max_prompt, [&](auto index) { reduce(index, reduce_op::maximum); });
}

}  // namespace detail

/// Replaces the metrics of a shard by those of all shards. Calls `reduce` three times: for sums, for maxima, and for the
/// index of one maximum, because a shard knows only then whether the prompt is its own.
template <reduction Reduce>
void reduce_metrics(step_metrics& metrics, const Reduce& reduce) {
  if constexpr (!std::same_as<Reduce, whole_batch>) {  // not even compiled for a whole batch
    detail::as_doubles<step_averages>(metrics, [&](auto sums) { reduce(sums, reduce_op::sum); });
    detail::reduce_extremes(metrics, reduce);
  }
}

/// The result of a step.
template <real_scalar S>
struct step_result {
  /// The loss, to be minimised. Of a shard or micro-batch: its part of the sum.
  double loss = 0;
  /// B × T: d loss / d log π_θ(y_t | y_<t). Exactly 0 at masked tokens and for unscored responses.
  matrix<S> gradient;
  /// What the step reports.
  step_metrics metrics;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
