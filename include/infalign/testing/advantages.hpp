// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/pipeline.hpp>
#include <infalign/testing/small_policy.hpp>

#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The exact check of an advantage estimator. Other checks of advantages are those of testing/rewards.hpp: `zero_mean`,
/// `zero_for_equal_responses`, `baseline_excludes_itself`, `scales_with`, `ignores_unscored`.
namespace INFALIGN_NAMESPACE::checks {

/// Policy gradient with these advantages follows the gradient of the expected reward:
///
///     E[1/M Σᵢ Aᵢ·∇log π(yᵢ)] = ∇E[R]
///
/// over all groups of `responses` responses to one prompt, enumerated for three small policies. The finding tells the
/// size and the direction of the difference. The first input of the pipeline is the reward; others are 0.
///
/// Cost: some 1,000 calls of the pipeline for groups of 3.
template <std::same_as<options> Options = options>
report unbiased_advantages(const pipeline& f, Eigen::Index group_size = 3, const Options& o = {}) {
  return detail::check_policies(detail::sentence({"unbiased_advantages(", group_size, ")"}), o, [&](const auto& p) {
    array<double> weight = array<double>::Zero(p.size());
    response_batch batch{.inputs = f.inputs};
    batch.prompt.assign(static_cast<std::size_t>(group_size), 0);
    batch.columns.assign(f.inputs.size(), array<double>::Zero(group_size));
    for_each_group(p.probability(p.policy), group_size, [&](const auto& group, double probability) {
      for (Eigen::Index i = 0; i < group_size; ++i) batch.columns[0][i] = p.reward[group[static_cast<std::size_t>(i)]];
      const auto advantages = f(batch);
      for (Eigen::Index i = 0; i < group_size; ++i)
        weight[group[static_cast<std::size_t>(i)]] += probability * advantages[i] / static_cast<double>(group_size);
    });
    return compare_gradients("the expected reward", p.scores(weight), p.reward_gradient(), o.tolerance);
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
