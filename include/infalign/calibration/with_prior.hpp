// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/calibrate.hpp>
#include <infalign/calibration/leave_one_out.hpp>
#include <infalign/calibration/prior.hpp>

#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Calibration from few reference rewards, with a prior that is learnt from all prompts.
///
///     Ĉ(r) = (K·F̂_p(r) + a·G_p(r))/(K + a)
///
/// See `calibration_prior` for a and G. Ĉ is non-decreasing in r. With a = 0 it is plain calibration.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// (below + ½·tied + a·G)/(count + a) for n rewards that were counted together. NaN stays NaN. `itself`: how many of a
/// reward's ties are the reward itself, 0 or 1.
template <reward_prior Prior, real_scalar S, int N, class Fit>
void write_ranks_with_prior(const Prior& prior, const Fit& fit, const lane_counts<S, N>& c, int n, int itself,
                            Eigen::Index count, const S* rewards, S* result) {
  const auto a = static_cast<double>(prior.weight());
  const bool only_prior = !is_finite(a);
  const double per_weight = 1 / (static_cast<double>(count) + a);
  const S own = only_prior ? S{0} : static_cast<S>(0.5 * per_weight);
  const S share = only_prior ? S{1} : static_cast<S>(a * per_weight);
  S numbers[std::size_t{N}] = {}, ranks[std::size_t{N}] = {};
  for (int j = 0; j < n; ++j) numbers[j] = is_nan(rewards[j]) ? S{0} : rewards[j];
  if constexpr (requires { prior.cdf(fit, numbers, N, ranks); })
    prior.cdf(fit, numbers, N, ranks);
  else
    for (int j = 0; j < n; ++j) ranks[j] = static_cast<S>(prior.cdf(fit, numbers[j]));
  for (int j = 0; j < N; ++j)
    ranks[j] = own * static_cast<S>(c.below[j] + c.at_most[j] - static_cast<counter_of<S>>(itself)) + share * ranks[j];
  for (int j = 0; j < n; ++j) result[j] = is_nan(rewards[j]) ? rewards[j] : ranks[j];
}

/// Replaces the rewards of a batch by their ranks. fit_of(p) is the prior's fit of prompt p.
template <reference_rewards T, class Prompts, real_scalar S, reward_prior Prior, class FitOf>
void calibrate_rows_with_prior(const T& reference, const Prior& prior, const FitOf& fit_of, const rows_view<S>& rewards,
                               const Prompts& prompts, unscored on_unscored = unscored::error) {
  static_assert(std::same_as<S, typename Prior::Scalar>, "infalign: rewards and prior must have the same scalar type");
  count_batch({"calibrate", on_unscored}, reference, prompts, rewards, calls::any,
              [&](S* r, int n, Eigen::Index p, const auto& counts, Eigen::Index scored) {
                write_ranks_with_prior(prior, fit_of(p), counts, n, 0, scored, r, r);
              });
}

/// Replaces each scored reward by its rank among the others of its group.
template <real_scalar S, class Prompts, reward_prior Prior>
void leave_one_out_ranks_with_prior(const Prior& prior, const rows_view<S>& rewards, const Prompts& prompts,
                                    workspace* space, unscored on_unscored = unscored::error) {
  const caller call{"calibrate_leave_one_out", on_unscored};
  if (!has_finite_sum(rewards.data, rewards.size())) check_scored(call, prompts, rewards);
  groups(prompts, space)
      .apply(rewards.data, rewards.data, nan<S>,
             [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> ranks, Eigen::Index first) {
               const Eigen::Index others = group.size() - 1;
               if (others == 0 && !(prior.weight() > 0)) {
                 if (on_unscored == unscored::error)
                   fail(call.function, "at least 2 responses to each prompt, because the prior has no weight",
                        concat("1", prompts.position(first)));
                 ranks[0] = nan<S>;
                 return;
               }
               scratch<S> rest(space, others);
               std::copy_n(group.data() + 1, others, rest.data());
               const S* const r = group.data();
               count_each(r, group.size(), group.size(), r, group.size(), [&](Eigen::Index i, int n, const auto& c) {
                 for (int j = 0; j < n; ++j) {
                   const lane_counts<S, 1> one{{c.below[j]}, {c.at_most[j]}};
                   const auto fit = prior.fit(Eigen::Map<const array<S>>(rest.data(), others));
                   write_ranks_with_prior(prior, fit, one, 1, 1, others, r + i + j, ranks.data() + i + j);
                   if (i + j < others) rest[i + j] = r[i + j];  // the rest without the next one
                 }
               });
             });
}

}  // namespace detail

/// Calibrates a batch with a prior.
///
///     calibrate(reference, prior, rewards, on_unscored = unscored::error)            // P × M
///     calibrate(reference, prior, prompt, rewards, on_unscored = unscored::error)    // a flat batch
///
/// Shapes: reference is P × K, or any `reference_table` with P rows; it need not be the one that the prior was learnt
/// from. rewards is P × M, or B with B prompt indices. Returns P × M or B.
/// Range: [0, 1].
/// Cost: that of plain calibration, a look-up a response, and a fit of the prompt for each 8 responses to it (K
/// look-ups for the location model). `calibration{reference, prior}` fits each prompt once.
/// Errors and NaN: as `calibrate` without a prior.
template <reference_rewards T, reward_prior Prior, class... Batch>
requires detail::batch_arguments<Batch...>
auto calibrate(const T& reference, const Prior& prior, const Batch&... batch) {
  decltype(auto) table = detail::rows_of(reference);
  return detail::replaced(
      "calibrate",
      [&](const auto&... call) {
        detail::calibrate_rows_with_prior(
            table, prior, [&](Eigen::Index p) { return prior.fit(table.row(p)); }, call...);
      },
      batch...);
}

/// Writes calibrated rewards to the caller's buffer. See `calibrate` with a prior.
///
///     calibrate_into(result, reference, prior, [prompt,] rewards, on_unscored = unscored::error)
///
/// Cost: no allocation.
template <class Result, reference_rewards T, reward_prior Prior, class... Batch>
requires detail::result_buffer<Result> && detail::batch_arguments<Batch...>
void calibrate_into(Result&& result, const T& reference, const Prior& prior, const Batch&... batch) {
  decltype(auto) table = detail::rows_of(reference);
  detail::check_apart_from_reference("calibrate_into", result, table);
  detail::replaced_into(
      "calibrate", "calibrate_into", result,
      [&](const auto&... call) {
        detail::calibrate_rows_with_prior(
            table, prior, [&](Eigen::Index p) { return prior.fit(table.row(p)); }, call...);
      },
      batch...);
}

/// Calibrates with no reference table: ranks each response among the other responses to its prompt, with a prior.
///
///     calibrate_leave_one_out(prior, [prompt,] rewards, on_unscored = unscored::error)
///
/// The prior can be made of the batch itself, `calibration_prior{rewards}`, or kept over steps:
///
///     prior.forget(0.9);    // the last ten batches or so count
///     prior.add(rewards);
///     u = calibrate_leave_one_out(prior, rewards);
///
/// A response that is alone has G as its rank. If the prior has no weight, that is an error.
///
/// Shapes, NaN: as `calibrate_leave_one_out` without a prior.
/// Cost: M comparisons a response and a fit of the others (M look-ups for the location model).
template <reward_prior Prior, class... Batch>
requires detail::batch_arguments<Batch...>
auto calibrate_leave_one_out(const Prior& prior, const Batch&... batch) {
  return detail::replaced(
      "calibrate_leave_one_out",
      [&](const auto& batch_rewards, const auto& batch_prompts, const auto&... options) {
        detail::leave_one_out_ranks_with_prior(prior, batch_rewards, batch_prompts, nullptr, options...);
      },
      batch...);
}

/// Writes leave-one-out ranks to the caller's buffer. See `calibrate_leave_one_out` with a prior.
///
///     calibrate_leave_one_out_into(result, prior, [space,] [prompt,] rewards, on_unscored = unscored::error)
///
/// Cost: with a workspace, no allocation from the second call on.
template <class Result, reward_prior Prior, class... Args>
requires detail::result_buffer<Result> && detail::into_arguments<Args...>
void calibrate_leave_one_out_into(Result&& result, const Prior& prior, Args&&... args) {
  detail::replace_into(
      "calibrate_leave_one_out", result,
      [&](const auto& batch_rewards, const auto& batch_prompts, workspace* space, const auto&... options) {
        detail::leave_one_out_ranks_with_prior(prior, batch_rewards, batch_prompts, space, options...);
      },
      args...);
}

/// `calibrate` with its reference and prior: a functor that fits each prompt once.
///
///     calibration shape{reference, prior};    u = shape(rewards);    u = shape(prompt, rewards);
///     auto reward = calibration{reference, prior} | normalized_exponential{.t = 5};
///
/// It stores the reference as `calibration` does, a copy of the prior, and the fits (16 bytes a prompt).
template <reference_rewards T, reward_prior Prior>
requires std::same_as<T, typename detail::stored_as<T>::type>
class calibration<T, Prior> {
 public:
  /// float or double.
  using Scalar = typename T::Scalar;

  /// reference: P × K, or any `reference_table`.
  calibration(T reference, Prior prior, unscored on_unscored = unscored::error)
      : reference_(std::move(reference)), prior_(std::move(prior)), on_unscored_(on_unscored) {
    decltype(auto) table = detail::rows_of(reference_);
    fits_.reserve(static_cast<std::size_t>(table.rows()));
    for (Eigen::Index p = 0; p < table.rows(); ++p) {
      detail::count_scored({"calibration", on_unscored_}, "reference", table.row(p), p);
      fits_.push_back(prior_.fit(table.row(p)));
    }
  }

  /// The prior.
  const Prior& prior() const { return prior_; }

  /// Calibrates `rewards` or `prompt, rewards`.
  template <class... Batch>
  requires detail::batch_arguments<Batch...>
  auto operator()(const Batch&... batch) const {
    return detail::replaced(
        "calibrate", [&](const auto&... call) { rank(call...); }, batch...);
  }

  /// Writes to the caller's buffer. See `calibrate_into`.
  template <class Result, class... Batch>
  requires detail::batch_arguments<Batch...>
  void into(Result&& result, const Batch&... batch) const {
    detail::check_apart_from_reference("calibrate_into", result, detail::rows_of(reference_));
    detail::replaced_into(
        "calibrate", "calibrate_into", result, [&](const auto&... call) { rank(call...); }, batch...);
  }

 private:
  template <class Prompts>
  void rank(const detail::rows_view<Scalar>& rewards, const Prompts& prompts) const {
    detail::calibrate_rows_with_prior(
        reference_, prior_, [this](Eigen::Index p) { return fits_[static_cast<std::size_t>(p)]; }, rewards, prompts,
        on_unscored_);
  }

  T reference_;
  Prior prior_;
  std::vector<decltype(std::declval<const Prior&>().fit(std::declval<Eigen::Map<const array<Scalar>>>()))> fits_;
  unscored on_unscored_;
};

/// The type that a functor of this reference and prior has.
template <reference_rewards T, reward_prior Prior>
calibration(T, Prior, unscored = unscored::error) -> calibration<typename detail::stored_as<T>::type, Prior>;

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
