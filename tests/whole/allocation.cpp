// SPDX-License-Identifier: MIT
// The functions of a training loop allocate nothing after the first iteration.
#include <infalign/infalign.hpp>

#include "arrays.hpp"
#include "counted_memory.hpp"

#include <utility>
#include <vector>

using namespace infalign;

namespace {

/// The numbers of allocations of the first call of f, and of the next three together.
template <class F>
std::pair<long, long> allocations_of(const F& f) {
  const auto before = memory::allocations;
  f();
  const auto first = memory::allocations;
  for (int i = 0; i < 3; ++i) f();
  return {first - before, memory::allocations - first};
}
template <class F>
long later_allocations_of(const F& f) {
  return allocations_of(f).second;
}

const matrix<float> reference = matrix<float>::Random(6, 40), rewards = matrix<float>::Random(6, 8);
const array<float> flat = array<float>::Random(48);
const std::vector<int> prompt = [] {
  std::vector<int> p(48);
  for (int i = 0; i < 48; ++i) p[static_cast<std::size_t>(i)] = i * 5 % 6;
  return p;
}();

}  // namespace

TEST_CASE("The counter counts allocations of Eigen and of the standard library") {
  CHECK(later_allocations_of([] { transform(rewards.abs().min(1.0f), exponential{.t = 1}); }) >= 3);
  [[maybe_unused]] static const void* volatile seen;  // without it a compiler may remove the allocation
  CHECK(later_allocations_of([] {
          const std::vector<double> v(100, 1.0);
          seen = v.data();
        }) == 3);
  CHECK(later_allocations_of([] { calibrate_leave_one_out(rewards); }) >= 3);
}

TEST_CASE("Calibrating, transforming and shaping into a buffer allocate nothing, not even in the first call") {
  matrix<float> u(6, 8);
  array<float> v(48);
  const auto shape = calibration{Eigen::Map<const matrix<float>>(reference.data(), 6, 40)} | exponential{.t = 10} |
                     power{.exponent = 2};
  const auto nothing = std::pair<long, long>(0, 0);
  CHECK(allocations_of([&] { calibrate_into(u, reference, rewards); }) == nothing);
  CHECK(allocations_of([&] { calibrate_into(v, reference, prompt, flat); }) == nothing);
  CHECK(allocations_of([&] { transform_into(u, u.cwiseMin(1.0f).cwiseMax(0.0f), normalized_exponential{.t = 4}); }) ==
        nothing);
  CHECK(allocations_of([&] { shape.into(u, rewards); }) == nothing);
  CHECK(allocations_of([&] { shape.into(v, prompt, flat); }) == nothing);
  CHECK((u == shape(rewards)).all());
  CHECK((v == shape(prompt, flat)).all());

  const calibration_prior prior(reference);
  const auto shape_with_prior = calibration{reference, prior} | exponential{.t = 10};
  CHECK(allocations_of([&] { calibrate_into(u, reference, prior, rewards); }) == nothing);
  CHECK(allocations_of([&] { calibrate_into(v, reference, prior, prompt, flat); }) == nothing);
  CHECK(allocations_of([&] { shape_with_prior.into(u, rewards); }) == nothing);
  shape.into(u, rewards);

  surrounded<float> buffer(6, 8);
  auto block = buffer.block();
  CHECK(allocations_of([&] { calibrate_into(block, reference, rewards); }) == nothing);
  CHECK(allocations_of([&] { transform_into(block, block, normalized_exponential{.t = 4}); }) == nothing);
  CHECK(allocations_of([&] { shape.into(block, rewards); }) == nothing);
  CHECK(same(block, u));
}

TEST_CASE("With a workspace ranks and advantages allocate nothing from the second call on") {
  workspace space;
  matrix<float> u(6, 8);
  array<float> v(48);
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(u, space, rewards); }) == 0);
  CHECK((u == calibrate_leave_one_out(rewards)).all());
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(v, space, prompt, flat); }) == 0);
  CHECK((v == calibrate_leave_one_out(prompt, flat)).all());

  const calibration_prior prior(rewards);
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(u, prior, space, rewards); }) == 0);
  CHECK((u == calibrate_leave_one_out(prior, rewards)).all());

  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, leave_one_out{}); }) == 0);
  CHECK((u == advantage(rewards, leave_one_out{})).all());
  CHECK(later_allocations_of([&] { advantage_into(v, space, prompt, flat, group_standardized{}); }) == 0);
  CHECK((v == advantage(prompt, flat, group_standardized{})).all());

  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, max_at_n{.n = 3}); }) == 0);
  CHECK((u == advantage(rewards, max_at_n{.n = 3})).all());
  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, min_at_n{.n = 3}); }) == 0);
  CHECK((u == advantage(rewards, min_at_n{.n = 3})).all());
  const joint_calibration several{rank_minimum{}, reference, reference};
  const auto shaped = several | exponential{.t = 3};
  CHECK(later_allocations_of([&] { several.into(u, space, rewards, rewards); }) == 0);
  CHECK((u == several(rewards, rewards)).all());
  CHECK(later_allocations_of([&] { shaped.into(v, space, prompt, flat, flat); }) == 0);
  CHECK((v == shaped(prompt, flat, flat)).all());
  const order_weighted soft{order_weights(soft_best_of{3, 5})};
  CHECK(later_allocations_of([&] { advantage_into(u, space, rewards, soft); }) == 0);
  CHECK((u == advantage(rewards, soft)).all());
  const matrix<float> positive = rewards.abs();
  CHECK(later_allocations_of([&] { advantage_into(u, space, positive, max_rl{}); }) == 0);
  CHECK((u == advantage(positive, max_rl{})).all());
  CHECK(later_allocations_of([&] { advantage_into(v, space, prompt, flat, centered_max_at_n{.n = 3}); }) == 0);
  CHECK((v == advantage(prompt, flat, centered_max_at_n{.n = 3})).all());

  surrounded<float> buffer(6, 8);
  auto block = buffer.block();
  CHECK(later_allocations_of([&] { calibrate_leave_one_out_into(block, space, rewards); }) == 0);
  CHECK(same(block, calibrate_leave_one_out(rewards)));
  CHECK(later_allocations_of([&] { advantage_into(block, space, rewards, max_at_n{.n = 3}); }) == 0);
  CHECK(same(block, advantage(rewards, max_at_n{.n = 3})));
}

TEST_CASE("Log-probabilities from logits, and their gradient, allocate nothing") {
  const matrix<float> logits = matrix<float>::Random(48, 130);
  const std::vector<int> tokens(48, 7);
  matrix<float> now(6, 8), d(48, 130);
  const auto nothing = std::pair<long, long>(0, 0);
  CHECK(allocations_of([&] { token_log_probabilities_into(now, matrix_view<float>(logits), tokens); }) == nothing);
  CHECK(allocations_of([&] { logits_gradient_into(d, matrix_view<float>(logits), tokens, now); }) == nothing);
}

TEMPLATE_TEST_CASE("A step or a loss into a result and a workspace allocates nothing from the second call on", "",
                   float, double) {
  using S = TestType;
  const matrix<S> now = matrix<S>::Random(48, 100) - 2, before = matrix<S>::Random(48, 100) - 2,
                  old = now + S(0.1) * matrix<S>::Random(48, 100),
                  mask = (matrix<S>::Random(48, 100) > 0).template cast<S>();
  const token_batch<S> batch{
      .log_probabilities = now, .reference_log_probabilities = before, .mask = mask, .old_log_probabilities = old};
  const matrix<S> r = rewards.cast<S>();
  const array<S> f = flat.cast<S>();
  workspace space;
  step_result<S> out;
  const auto check = [&](const auto& step) {
    CHECK(later_allocations_of([&] { step.into(out, space, batch, r); }) == 0);
    const auto rows = step(batch, r);
    CHECK(out.loss == rows.loss);
    CHECK((out.gradient == rows.gradient).all());
    CHECK(later_allocations_of([&] { step.into(out, space, batch, prompt, f); }) == 0);
    const auto grouped = step(batch, prompt, f);
    CHECK(out.loss == grouped.loss);
    CHECK((out.gradient == grouped.gradient).all());
    CHECK(out.metrics.kl == grouped.metrics.kl);
    CHECK(out.metrics.kl_max_prompt == grouped.metrics.kl_max_prompt);
  };
  check(policy_gradient{k3_token_loss{.beta = 0.04}, group_standardized{}, ppo_clip{}, token_mean{}});
  check(policy_gradient{k1_in_reward{.beta = 0.04}, leave_one_out{}, sequence_clip{}});
  check(policy_gradient{k1_reward_to_go{.beta = 0.04}, group_mean{}, cispo{}});
  check(policy_gradient{k2_loss{.beta = 0.04}, batch_mean{}, gspo_clip{}});

  const matrix<S> wide = matrix<S>::Random(48, 110);
  const auto of_tokens = wide.middleCols(5, 100);
  const auto check_loss = [&](const auto& loss, const auto& advantages) {
    const batch_size size = batch_size_of(batch);
    CHECK(later_allocations_of([&] { loss.into(out, space, batch, advantages, size); }) == 0);
    const auto expected = loss(batch, advantages);
    CHECK(out.loss == expected.loss);
    CHECK((out.gradient == expected.gradient).all());
  };
  check_loss(policy_loss{k3_token_loss{.beta = 0.04}, ppo_clip{}, token_mean{}}, f);
  check_loss(policy_loss{k2_loss{.beta = 0.04}, gspo_clip{}}, f.transpose());
  check_loss(policy_loss{no_kl{}, cispo{}, token_mean{}}, of_tokens);
}

TEST_CASE("A workspace serves any function and any size") {
  workspace space;
  const matrix<float> large = matrix<float>::Random(50, 30);
  matrix<float> u(50, 30), v(6, 8);
  calibrate_leave_one_out_into(u, space, large);
  CHECK((u == calibrate_leave_one_out(large)).all());
  CHECK(allocations_of([&] { calibrate_leave_one_out_into(v, space, rewards); }).first == 0);
  CHECK((v == calibrate_leave_one_out(rewards)).all());
  // After an exception it is usable.
  matrix<float> bad = large;
  bad(49, 29) = missing<float>;
  CHECK_THROWS(advantage_into(u, space, bad, leave_one_out{}));
  calibrate_leave_one_out_into(u, space, large);
  CHECK((u == calibrate_leave_one_out(large)).all());
}
