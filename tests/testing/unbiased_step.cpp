// SPDX-License-Identifier: MIT
#include <infalign/step/policy_gradient.hpp>
#include <infalign/testing/advantages.hpp>
#include <infalign/testing/unbiased_step.hpp>

#include "arrays.hpp"

#include <vector>

using namespace infalign;
using checks::divergence;
using checks::pipeline;
using checks::response_batch;
using checks::token_case;
using Eigen::Index;

namespace {

template <class Step>
checks::training_step of(const Step& step) {
  return {[step](const token_case& c) { return step(c.batch(), c.prompt, c.rewards).gradient; }, 2};
}

template <class E>
pipeline estimator(const E& e) {
  return {[e](const response_batch& b) { return advantage(b.prompt, b["reward"], e); }};
}

}  // namespace

TEST_CASE("A step without bias passes, with each KL that it is for") {
  CHECK(checks::unbiased_step(of(policy_gradient{no_kl{}, leave_one_out{}}), 2));
  CHECK(checks::unbiased_step(of(policy_gradient{k1_in_reward{.beta = 0.3}, leave_one_out{}}), 3, 0.3));
  CHECK(checks::unbiased_step(of(policy_gradient{k2_loss{.beta = 0.3}, leave_one_out{}}), 2, 0.3));
  CHECK(checks::unbiased_step(of(policy_gradient{k3_loss{.beta = 0.3}, leave_one_out{}}), 2, 0.3, divergence::forward));
}

TEST_CASE("A bias is found, with its size or its direction") {
  const auto shrunk = checks::unbiased_step(of(policy_gradient{no_kl{}, group_mean{}}), 3);
  CHECK(shrunk.finding == "The expected gradient is 0.666667 times that of the objective, with the right direction.");
  CHECK(!checks::unbiased_step(of(policy_gradient{k3_loss{.beta = 0.3}, leave_one_out{}}), 2, 0.3));
  CHECK(!checks::unbiased_step(of(policy_gradient{k1_in_reward{.beta = 0.2}, leave_one_out{}}), 2, 0.3));
  const auto other = checks::unbiased_step(of(policy_gradient{no_kl{}, group_standardized{}}), 2);
  CHECK(other.finding.find("another direction") != std::string::npos);
  // Without rewards there is nothing to learn, and J has the gradient 0.
  CHECK(checks::compare_gradients("J", matrix<double>::Ones(1, 2), matrix<double>::Zero(1, 2), 1e-6) ==
        "The expected gradient is not 0, as that of J is.");
  CHECK(checks::compare_gradients("J", matrix<double>::Zero(1, 2), matrix<double>::Zero(1, 2), 1e-6).empty());
  const checks::training_step nothing{[](const token_case& c) { return matrix<double>(0 * c.mask); }};
  CHECK(checks::unbiased_step(nothing, 1).finding == "The expected gradient is 0, and not that of the objective.");
}

TEST_CASE("Advantages are unbiased, or the report says how they are not") {
  CHECK(checks::unbiased_advantages(estimator(no_baseline{}), 1));
  CHECK(checks::unbiased_advantages(estimator(leave_one_out{})));
  CHECK(checks::unbiased_advantages(estimator(group_mean{}), 2).finding ==
        "The expected gradient is 0.5 times that of the expected reward, with the right direction.");
  CHECK(!checks::unbiased_advantages(estimator(group_standardized{})));
  const auto negative =
      checks::unbiased_advantages(pipeline{[](const response_batch& b) -> array<double> { return -b["reward"]; }}, 1);
  CHECK(negative.finding == "The expected gradient is -1 times that of the expected reward, with the right direction.");
}

// With the ratio, without a clip, responses of the old policy or of the sampler give the gradient of the present one.
TEST_CASE("expected_ascent draws responses from the policy, from the old one, or from the sampler") {
  const checks::small_policy p(3, 2, 4);
  const policy_gradient step{no_kl{}, leave_one_out{}, ppo_clip{.low = 1, .high = 1e9}};
  const auto gradient = [&](const token_case& c) {
    auto batch = c.batch();
    batch.sampler_weight_cap = 1e9;
    return step(batch, c.prompt, c.rewards).gradient;
  };
  CHECK(distance(checks::expected_ascent(p, gradient, 1, 2), p.reward_gradient()) < 1e-12);
  CHECK(distance(checks::expected_ascent(p, gradient, 2, 2), p.reward_gradient()) < 1e-12);
  // The ratio of a token leaves out the ratios of earlier ones, so only responses of one token are exact.
  const checks::small_policy one(4, 1, 5);
  for (const auto source : {checks::drawn_from::old, checks::drawn_from::sampler}) {
    CHECK(distance(checks::expected_ascent(one, gradient, 1, 2, source), one.reward_gradient()) < 1e-12);
    CHECK(distance(checks::expected_ascent(p, gradient, 1, 2, source), p.reward_gradient()) > 1e-3);
  }
}
