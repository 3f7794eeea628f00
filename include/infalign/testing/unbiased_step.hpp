// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/kl.hpp>
#include <infalign/testing/steps.hpp>

#include <functional>
#include <string>

#include <infalign/detail/begin.hpp>

/// \file
/// The exact check of a step: the expectation of its gradient, without sampling.
namespace INFALIGN_NAMESPACE::checks {

/// Which policy the responses of `expected_ascent` come from.
enum class drawn_from {
  policy,  ///< the policy in training
  old,     ///< π_old, as in the later steps on one batch
  sampler  ///< π_sampler: the case has old and sampler log-probabilities
};

/// E[−d loss/d logits] of a step over all batches of `prompts` × `group_size` responses of a small policy, without sampling.
///
/// Cost: (number of responses)^(prompts·group_size) calls of the step.
template <std::derived_from<small_policy> Policy>
matrix<double> expected_ascent(const Policy& p, const std::function<matrix<double>(const token_case&)>& gradient,
                               Eigen::Index prompts, Eigen::Index group_size, drawn_from source = drawn_from::policy) {
  const Eigen::Index B = prompts * group_size, T = p.longest;
  token_case c{.rewards = array<double>(B), .off_policy = source != drawn_from::policy};
  for (Eigen::Index i = 0; i < B; ++i) c.prompt.push_back(static_cast<int>(i / group_size));
  const auto& from = source == drawn_from::policy ? p.policy : source == drawn_from::old ? p.old : p.sampler;
  matrix<double> total = matrix<double>::Zero(p.prefixes, p.vocabulary);
  for_each_group(p.probability(from), B, [&](const auto& group, double probability) {
    for (auto* m : {&c.log_probabilities, &c.reference_log_probabilities, &c.old_log_probabilities})
      m->setConstant(B, T, -1);
    c.mask.setZero(B, T);
    if (source == drawn_from::sampler) c.sampler_log_probabilities.setConstant(B, T, -1);
    for (Eigen::Index i = 0; i < B; ++i) {
      const auto y = group[static_cast<std::size_t>(i)];
      c.rewards[i] = p.reward[y];
      Eigen::Index t = 0;
      for (const auto& [prefix, token] : p.response(y)) {
        c.log_probabilities(i, t) = p.policy(prefix, token);
        c.reference_log_probabilities(i, t) = p.reference(prefix, token);
        c.old_log_probabilities(i, t) = source == drawn_from::policy ? p.policy(prefix, token) : p.old(prefix, token);
        if (source == drawn_from::sampler) c.sampler_log_probabilities(i, t) = p.sampler(prefix, token);
        c.mask(i, t++) = 1;
      }
    }
    const auto of_batch = gradient(c);
    for (Eigen::Index i = 0; i < B; ++i) {
      Eigen::Index t = 0;
      for (const auto& [prefix, token] : p.response(group[static_cast<std::size_t>(i)]))
        total(prefix, token) -= probability * of_batch(i, t++);
    }
  });
  return p.through_softmax(total);
}

/// The expected step on responses of the policy ascends E[R] − β·KL: minus the expected gradient is that of the objective,
/// by the logits of small policies whose batches are enumerated. The finding tells the size and direction of the difference.
///
/// beta: 0 for a step without KL. Cost: some 2,000 calls of the step for groups of 3.
template <std::same_as<options> Options = options>
report unbiased_step(const training_step& f, Eigen::Index group_size, double beta = 0,
                     divergence d = divergence::reverse, const Options& o = {}) {
  return detail::check_policies(
      detail::sentence(
          {"unbiased_step(", group_size, ", ", beta, d == divergence::reverse ? ", reverse)" : ", forward)"}),
      o, [&](const auto& p) -> std::string {
        const matrix<double> objective =
            p.reward_gradient() - beta * (d == divergence::reverse ? p.kl_gradient() : p.forward_kl_gradient());
        return compare_gradients("the objective", expected_ascent(p, f.gradient, 1, group_size), objective,
                                 o.tolerance);
      });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
