// SPDX-License-Identifier: MIT
// A program that takes the headers as its own, under its own flags: with many warnings as errors, and without exceptions
// and run-time type information. With an argument it makes a mistake.
#include <infalign/infalign.hpp>
#if __has_include(<sys/mman.h>)
#include <infalign/adapters/npy.hpp>
#endif

#include <cstdio>
#include <vector>

using namespace infalign;

namespace {

template <class S>
double use_all() {
  const matrix<S> reference{{1, 2, 3, 4}, {20, 10, 30, 40}, {5, 5, 6, 7}, {0, -1, -2, 3}};
  const matrix<S> rewards{{1, 2}, {30, 20}, {5, 8}, {1, -1}};
  const std::vector<int> prompt{0, 1, 2, 3};
  const array<S> flat{{1, 30, 5, -1}};
  workspace space;
  const auto shape = calibration{reference} | power{2} | normalized_exponential{.t = 1};
  auto u = shape(rewards);
  double sum = static_cast<double>(u.sum() + shape(prompt, flat).sum());
  sum += static_cast<double>(calibration{reference, calibration_prior<S>{reference}}(rewards).sum());
  sum += static_cast<double>(calibrate(reference, rewards, unbiased_power{2}).sum());
  calibrate_leave_one_out_into(u, space, rewards);
  sum += static_cast<double>(advantage(rewards, batch_standardized{}).sum());

  const matrix<S> now = matrix<S>::Constant(8, 70, -1), before = matrix<S>::Constant(8, 70, static_cast<S>(-1.1));
  const token_batch<S> batch{
      .log_probabilities = now, .reference_log_probabilities = before, .old_log_probabilities = before};
  step_result<S> out;
  const auto run = [&](const auto& step) {
    step.into(out, space, batch, u);
    sum += out.loss + out.metrics.kl;
  };
  run(policy_gradient{k3_token_loss{.beta = 0.1}, leave_one_out{}, ppo_clip{}, token_mean{}});
  run(policy_gradient{k1_reward_to_go{.beta = 0.1}, group_standardized{}, cispo{}, token_mean{}});
  run(policy_gradient{k1_in_reward{.beta = 0.1}, max_at_n{2}, sequence_clip{}});
  run(policy_gradient{no_kl{}, no_baseline{}, regression{.beta = 0.1}});
  run(policy_gradient{no_kl{}, order_weighted{order_weights(soft_best_of{2, 3})}, sequence_clip{}});
  run(policy_gradient{no_kl{}, max_rl{.constant = 1}, sequence_clip{}});
  sum += static_cast<double>((joint_calibration{rank_sum{}, reference, reference} | power{2})(rewards, rewards).sum());
  sum += policy_loss{k2_token_loss{.beta = 0.1}, ppo_clip{}}(batch, array<S>(array<S>::Ones(8))).loss;

  matrix<S> d_logits(8, 70);
  logits_gradient_into(d_logits, matrix_view<S>(now), std::vector<int>(8, 3), array<S>(array<S>::Ones(8)));
  sum += static_cast<double>(d_logits.sum());
  sum += win_rate(rewards, reference, best_of{2}).mean + drift(reference, rewards).mean;
  sum += shown_value(rewards, rewards, best_of{2}).mean;
  sum += optimal_transform(mixed_use{user_share{0.5, best_of{4}}, user_share{0.5, plain_sampling{}}}, at_beta{0.1})
             .win_rate;
  sum += log_partition(soft_logarithm{4, 10}, at_beta{0.3}) + finite_policies(reference, at_beta{0.3}).kl().mean();
  sum += plan_rewards(reference, best_of{2}, at_kl{0.5}).beta;
  return sum;
}

}  // namespace

int main(int arguments, char**) {
  const double sum = use_all<float>() + use_all<double>();
  if (arguments > 1) calibrate(matrix<double>(2, 3), matrix<double>(1, 3));
  std::puts(detail::is_finite(sum) ? "finite" : "not finite");
  return detail::is_finite(sum) ? 0 : 1;
}
