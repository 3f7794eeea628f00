// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/aggregation.hpp>

#include <algorithm>
#include <cmath>

/// What a policy-gradient step returns, and how the shards of a data-parallel batch come to the same.
namespace infalign {

/// What a step reports, over the scored responses and the tokens that count; of all shards, where `reduce` adds them
/// up.
struct step_metrics {
  /// How many there were.
  double sequences = 0, tokens = 0;
  /// Mean and sample standard deviation of the rewards, before any KL term.
  double reward = 0, reward_std = 0;
  /// The same of the advantages, without what reward-to-go adds.
  double advantage_mean = 0, advantage_std = 0;
  /// Share of the groups whose rewards are all equal, groups of one among them: nothing to learn there by comparing.
  double frac_reward_zero_std = 0;
  /// The k1 estimate of KL(π_θ ‖ π_ref): mean per sequence, and per token. NaN with no reference.
  double kl = 0, kl_per_token = 0;
  /// The k1 estimate of KL(π_old ‖ π_θ), mean per token; 0 on-policy.
  double approx_kl = 0;
  /// Mean of ρ over what the surrogate takes it of: tokens or sequences.
  double ratio = 1;
  /// Share of those that clipping holds; and at which end, `dual` counting as high.
  double clip_ratio = 0, clip_ratio_low = 0, clip_ratio_high = 0;
};

/// The result of a step.
template <real_scalar S>
struct step_result {
  double loss = 0;     ///< to be minimised; of a shard, its part of the sum over shards
  matrix<S> gradient;  ///< B × T: d loss / d log π_θ(y_t | y_<t); exactly 0 where the mask is 0 and in unscored rows
  step_metrics metrics;
};

/// Adds up totals over the shards of a data-parallel batch, in place: an all-reduce. Every shard's step calls it twice,
/// with vectors of one length; a shard that throws does not, so let its failure end the others too. All responses to a
/// prompt belong in one shard.
template <class R>
concept reduction = std::invocable<const R&, Eigen::Ref<array<double>>>;

/// The `reduction` of a batch that is whole.
struct whole_batch {
  void operator()(Eigen::Ref<array<double>>) const {}
};

namespace detail {

/// What the responses of a batch add to the loss and to the totals behind the metrics.
struct step_totals {
  double reward_squares = 0, advantage = 0, advantage_squares = 0, delta = 0, log_ratio = 0, ratio = 0, ratios = 0,
         clipped_low = 0, clipped_high = 0, groups = 0, equal_groups = 0, loss = 0;

  void operator+=(const step_totals& t) {
    reward_squares += t.reward_squares, advantage += t.advantage, advantage_squares += t.advantage_squares;
    delta += t.delta, log_ratio += t.log_ratio, ratio += t.ratio, ratios += t.ratios;
    clipped_low += t.clipped_low, clipped_high += t.clipped_high, loss += t.loss;
  }

  /// The metrics of all shards. The squares are those of differences to `mean_reward`, and to `centre` for the
  /// advantages.
  template <reduction Reduce>
  step_metrics metrics(const batch_size& size, double mean_reward, double centre, bool has_reference,
                       const Reduce& reduce) const {
    Eigen::Array<double, 11, 1> sum;
    sum << reward_squares, advantage, advantage_squares, delta, log_ratio, ratio, ratios, clipped_low, clipped_high,
        groups, equal_groups;
    reduce(sum);
    const auto per = [](double total, double count) { return count > 0 ? total / count : 0; };
    const double off_centre = per(sum[1], size.sequences) - centre;
    const double spread = sum[2] - size.sequences * off_centre * off_centre;
    step_metrics result;
    result.sequences = size.sequences;
    result.tokens = size.tokens;
    result.reward = mean_reward;
    result.reward_std = std::sqrt(per(sum[0], size.sequences - 1));
    result.advantage_mean = per(sum[1], size.sequences);
    result.advantage_std = std::sqrt(std::max(0.0, per(spread, size.sequences - 1)));
    result.frac_reward_zero_std = per(sum[10], sum[9]);
    result.kl = has_reference ? per(sum[3], size.sequences) : nan<double>;
    result.kl_per_token = has_reference ? per(sum[3], size.tokens) : nan<double>;
    result.approx_kl = -per(sum[4], size.tokens);
    if (sum[6] > 0) result.ratio = sum[5] / sum[6];
    result.clip_ratio_low = per(sum[7], sum[6]);
    result.clip_ratio_high = per(sum[8], sum[6]);
    result.clip_ratio = result.clip_ratio_low + result.clip_ratio_high;
    return result;
  }
};

}  // namespace detail
}  // namespace infalign
