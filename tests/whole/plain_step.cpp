// SPDX-License-Identifier: MIT
#include "plain_step.hpp"
#include "catch.hpp"

#include <limits>
#include <random>
#include <vector>

// The fast step against the plain one of support/plain_step.hpp: every KL term with every advantage estimator, on
// batches with holes, unscored responses, groups of different sizes, and more tokens than one block.
// (loss_derivative.cpp has every surrogate and aggregation.)

using namespace infalign;
using Eigen::Index;

namespace {

struct flat_batch {
  static constexpr Index B = 14, T = 70;
  std::vector<int> prompt{3, 1, 3, 3, 1, 7, 1, 7, 3, 1, 7, 7, 9, 3};  // prompt 9 has one response
  array<double> rewards{B};
  matrix<double> now{B, T}, reference{B, T}, old{B, T}, sampler{B, T}, mask{B, T};

  explicit flat_batch(unsigned seed) {
    std::mt19937 random(seed);
    const auto uniform = [&](double low, double high) {
      return low + (high - low) * static_cast<double>(random()) / 0x1p32;
    };
    now = now.NullaryExpr(B, T, [&] { return uniform(-3, 0); });
    reference = now.unaryExpr([&](double x) { return x + uniform(-0.2, 0.2); });
    old = now.unaryExpr([&](double x) { return x + uniform(-0.5, 0.5); });
    sampler = old.unaryExpr([&](double x) { return x + uniform(-0.2, 0.2); });
    mask = mask.NullaryExpr(B, T, [&] { return static_cast<double>(random() % 4 > 0); });
    mask.row(5).setZero();  // no tokens
    rewards = rewards.NullaryExpr(B, [&] { return uniform(-1, 1); });
    rewards[2] = rewards[6] = std::numeric_limits<double>::quiet_NaN();
    rewards[8] = rewards[0];
  }
};

template <kl_term KL, advantage_estimator E, surrogate F, aggregation A>
void check(const KL& kl, const E& estimator, const F& f, const A& a) {
  const policy_gradient step{kl, estimator, f, a, unscored::propagate};
  const auto parts = plain::parts_of(kl, estimator, f, a);
  for (const unsigned seed : {1U, 2U})
    for (const bool masked : {false, true})
      for (const bool sampled : {false, true}) {
        CAPTURE(seed, masked, sampled);
        const flat_batch b(seed);
        token_batch<double> batch{.log_probabilities = b.now, .reference_log_probabilities = b.reference};
        if (F::ratio != ratio_of::nothing) batch.old_log_probabilities = b.old;
        if (masked) batch.mask = b.mask;
        if (sampled) batch.sampler_log_probabilities = b.sampler, batch.sampler_weight_cap = 1.05;
        const auto expected = plain::step(parts, batch, b.prompt, b.rewards);
        const auto out = step(batch, b.prompt, b.rewards);
        CHECK(out.loss == near(expected.loss, 1e-12 * (1 + std::abs(expected.loss))));
        CHECK((out.gradient - expected.gradient).matrix().norm() < 1e-12 * expected.gradient.matrix().norm());
      }
}

}  // namespace

TEMPLATE_TEST_CASE("The fast step equals the plain one for every KL term and advantage estimator", "", no_kl,
                   k1_in_reward, k1_reward_to_go, k2_loss, k3_loss, k2_token_loss, k3_token_loss) {
  TestType kl;
  if constexpr (!std::same_as<TestType, no_kl>) kl.beta = 0.3;
  const auto with = [&](const auto& estimator) {
    check(kl, estimator, ppo_clip{.low = 0.1, .high = 0.3, .dual = 1.4}, sequence_mean_of_token_sums{.length = 7});
  };
  with(no_baseline{});
  with(batch_mean{});
  with(group_mean{});
  with(leave_one_out{});
  with(group_standardized{});
  with(max_at_n{2});
  with(batch_standardized{});
}

TEST_CASE("The fast step equals the plain one for a regression") {
  check(no_kl{}, no_baseline{}, regression{.beta = 0.3}, sequence_mean_of_token_sums{});
  check(no_kl{}, no_baseline{}, regression{.beta = 20}, sequence_mean_of_token_sums{.length = 7});
}

TEST_CASE("The fast step equals the plain one for every way to weight by the sampler") {
  const auto with = [](const auto& kl, const auto& f, const auto& mean) {
    const auto parts = plain::parts_of(kl, leave_one_out{}, f, mean);
    for (const auto mode : {sampler_mode::token_truncate, sampler_mode::token_mask, sampler_mode::sequence_truncate,
                            sampler_mode::sequence_mask})
      for (const double width : {1.1, 3.0}) {  // of tokens, of responses
        CAPTURE(static_cast<int>(mode), width);
        const flat_batch b(3);
        const token_batch<double> batch{.log_probabilities = b.now,
                                        .reference_log_probabilities = b.reference,
                                        .mask = b.mask,
                                        .old_log_probabilities = b.old,
                                        .sampler_log_probabilities = b.sampler,
                                        .sampler_weight_cap = width,
                                        .sampler_weight_floor = width > 2 ? 1 / width : 0,
                                        .sampler_weights = mode};
        const policy_gradient step{kl, leave_one_out{}, f, mean, unscored::propagate};
        const auto expected = plain::step(parts, batch, b.prompt, b.rewards);
        const auto out = step(batch, b.prompt, b.rewards);
        CHECK(expected.gradient.matrix().norm() > 1e-4);
        CHECK(out.loss == near(expected.loss, 1e-12 * (1 + std::abs(expected.loss))));
        CHECK((out.gradient - expected.gradient).matrix().norm() < 1e-12 * expected.gradient.matrix().norm());
      }
  };
  with(no_kl{}, ppo_clip{}, token_mean{});
  with(k3_token_loss{.beta = 0.3}, cispo{}, sequence_mean_of_token_means{});
  with(k2_loss{.beta = 0.3}, ppo_clip{}, sequence_mean_of_token_sums{});
  with(k3_token_loss{.beta = 0.3}, sequence_clip{}, sequence_mean_of_token_sums{});
}
