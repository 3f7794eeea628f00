// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/rank.hpp>
#include <infalign/detail/groups.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// Calibration without a reference table: each response is ranked among the other responses to its prompt.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Replaces each scored reward by its rank among the others of its group.
template <real_scalar S, class Prompts, rank_functor Rank = mid_rank>
void leave_one_out_ranks(const rows_view<S>& rewards, const Prompts& prompts, workspace* space, const Rank& rank = {},
                         unscored on_unscored = unscored::error) {
  const caller call{"calibrate_leave_one_out", on_unscored};
  check_part(rank);
  if (!has_finite_sum(rewards.data, rewards.size())) check_scored(call, prompts, rewards);
  groups(prompts, space)
      .apply(rewards.data, rewards.data, nan<S>,
             [&](Eigen::Map<const array<S>> group, Eigen::Map<array<S>> ranks, Eigen::Index first) {
               if (group.size() < 2) {
                 if (on_unscored == unscored::error)
                   fail(call.function, "at least 2 responses to each prompt", concat("1", prompts.position(first)));
                 ranks[0] = nan<S>;
                 return;
               }
               const S* const r = group.data();
               count_each(r, group.size(), group.size(), r, group.size(), [&](Eigen::Index i, int n, const auto& c) {
                 write_ranks(rank, c, n, 1, group.size() - 1, r + i, ranks.data() + i);
               });
             });
}

}  // namespace detail

/// Calibrates with no reference table: ranks each response among the other responses to its prompt.
///
///     calibrate_leave_one_out(rewards, rank = mid_rank{}, on_unscored = unscored::error)            // P × M
///     calibrate_leave_one_out(prompt, rewards, rank = mid_rank{}, on_unscored = unscored::error)    // a flat batch
///
/// If the responses are drawn from the reference policy, this is an unbiased estimate of C. Later it is the rank in the
/// current policy's distribution.
///
/// Shapes: rewards is P × M with M ≥ 2, or B with B prompt indices; then each prompt has at least 2 responses, and
/// groups may differ in size. Returns P × M or B.
/// Cost: M comparisons a response.
/// NaN: an error; with `unscored::propagate` a NaN reward has a NaN rank and is left out of the others' ranks. A
/// response with no other scored response has a NaN rank.
template <class... Batch>
requires detail::batch_arguments<Batch...>
auto calibrate_leave_one_out(const Batch&... batch) {
  return detail::replaced(
      "calibrate_leave_one_out",
      [](const auto& batch_rewards, const auto& batch_prompts, const auto&... options) {
        detail::leave_one_out_ranks(batch_rewards, batch_prompts, nullptr, options...);
      },
      batch...);
}

/// Writes leave-one-out ranks to the caller's buffer. See `calibrate_leave_one_out`.
///
///     calibrate_leave_one_out_into(result, [space,] [prompt,] rewards, rank = mid_rank{}, on_unscored = unscored::error)
///
/// Shapes: result has the shape of the rewards; its rows are contiguous. It may be the rewards' own buffer.
/// Cost: with a workspace, no allocation from the second call on.
/// Errors: as `calibrate_leave_one_out`; if it throws, the buffer's contents are unspecified.
template <class Result, class... Args>
requires detail::result_buffer<Result> && detail::into_arguments<Args...>
void calibrate_leave_one_out_into(Result&& result, Args&&... args) {
  detail::replace_into(
      "calibrate_leave_one_out", result, [](const auto&... call) { detail::leave_one_out_ranks(call...); }, args...);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
