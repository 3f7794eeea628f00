// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

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

}  // namespace infalign
