// SPDX-License-Identifier: MIT
#include "batches.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

// Responses longer than the 64 tokens that the step works on at a time, through the step itself.

using namespace infalign;
using Eigen::Index;

namespace {

/// All tokens, with the old policy and the sampler or on-policy.
token_batch<double> unmasked(const buffers<>& b, bool off_policy) {
  token_batch<double> batch = off_policy ? b.sampled() : b.on_policy();
  batch.mask = {};
  return batch;
}

}  // namespace

// With X_i = R_i − β·Σ δ and A_i = X_i − mean of the others' X, the coefficient of token t is A_i + β·Σ_{s<t} δ_s, and
// the loss is −1/tokens · Σ min(ρc, clip(ρ, 0.8, 1.2)·c) + β·Σ ρ·k3(δ_t) / tokens in its token form.
TEST_CASE("The loss and its gradient follow their formulas at every length around whole blocks") {
  for (Index T : {1, 2, 63, 64, 65, 127, 128, 129, 200}) {
    CAPTURE(T);
    const buffers<> b(static_cast<unsigned>(T), 2, 3, T);
    const double beta = 0.05, tokens = static_cast<double>(6 * T);
    const matrix<double> delta = b.now - b.reference;
    const array<double> R = b.rewards.reshaped<Eigen::RowMajor>(), X = R - beta * delta.rowwise().sum();
    const auto without_itself = [](const array<double>& x, Index i) {
      return x[i] - (x.segment(i / 3 * 3, 3).sum() - x[i]) / 2;
    };
    double to_go = 0, k3 = 0;
    matrix<double> to_go_slope(6, T), k3_slope(6, T);
    for (Index i = 0; i < 6; ++i) {
      double before = 0;
      for (Index t = 0; t < T; ++t) {
        const double rho = std::exp(b.now(i, t) - b.old(i, t)), clipped = std::clamp(rho, 0.8, 1.2);
        const double weight = std::min(std::exp(b.old(i, t) - b.sampler(i, t)), 1.05) / tokens;
        const auto clip = [&](double c, double& loss) {
          loss -= weight * std::min(rho * c, clipped * c);
          return rho * c <= clipped * c ? -weight * rho * c : 0;
        };
        to_go_slope(i, t) = clip(without_itself(X, i) + beta * before, to_go);
        before += delta(i, t);
        k3_slope(i, t) = clip(without_itself(R, i), k3) + weight * rho * beta * (1 - std::exp(-delta(i, t)));
        k3 += weight * rho * beta * (std::exp(-delta(i, t)) - 1 + delta(i, t));
      }
    }
    const matrix<double> ones = matrix<double>::Ones(6, T);
    const auto check = [&](const auto& step, double loss, const matrix<double>& slope) {
      auto batch = unmasked(b, true);
      const auto out = step(batch, b.rewards);
      CHECK(out.loss == near(loss, 1e-13));
      CHECK(distance(out.gradient, slope) < 1e-13);
      batch.mask = ones;
      const auto masked = step(batch, b.rewards);
      CHECK(masked.loss == out.loss);
      CHECK((masked.gradient == out.gradient).all());
    };
    check(policy_gradient{k1_reward_to_go{beta}, leave_one_out{}, ppo_clip{}, token_mean{}}, to_go, to_go_slope);
    check(policy_gradient{k3_token_loss{beta}, leave_one_out{}, ppo_clip{}, token_mean{}}, k3, k3_slope);
  }
}

// Five tokens far apart have the terms of five tokens side by side.
TEST_CASE("Masked tokens between the others change nothing, in any block") {
  const buffers<> b(1, 2, 3, 5);
  const Index T = 150;
  for (const std::vector<Index>& columns :
       {std::vector<Index>{0, 1, 2, 3, 4}, {0, 62, 63, 64, 149}, {70, 71, 72, 127, 128}, {145, 146, 147, 148, 149}}) {
    CAPTURE(columns);
    buffers<> wide(2, 2, 3, T);
    matrix<double> mask = matrix<double>::Zero(6, T);
    for (auto* m : {&wide.now, &wide.reference, &wide.old, &wide.sampler}) m->setConstant(NaN);
    wide.rewards = b.rewards;
    for (Index t = 0; t < 5; ++t) {
      const Index column = columns[static_cast<std::size_t>(t)];
      wide.now.col(column) = b.now.col(t);
      wide.reference.col(column) = b.reference.col(t);
      wide.old.col(column) = b.old.col(t);
      wide.sampler.col(column) = b.sampler.col(t);
      mask.col(column).setOnes();
    }
    const auto check = [&](const auto& step, bool off_policy) {
      auto batch = unmasked(wide, off_policy);
      batch.mask = mask;
      const auto out = step(batch, b.rewards), expected = step(unmasked(b, off_policy), b.rewards);
      matrix<double> gradient = matrix<double>::Zero(6, T);
      for (Index t = 0; t < 5; ++t) gradient.col(columns[static_cast<std::size_t>(t)]) = expected.gradient.col(t);
      CHECK(distance(out.gradient, gradient) < 1e-14);
      CHECK(out.gradient.matrix().norm() > 0.01);
      CHECK(out.loss == near(expected.loss, 1e-14));
      CHECK(out.metrics.tokens == 30);
      CHECK(out.metrics.kl == near(expected.metrics.kl, 1e-14));
      CHECK(out.metrics.approx_kl == near(expected.metrics.approx_kl, 1e-14));
      CHECK(out.metrics.ratio == near(expected.metrics.ratio, 1e-14));
      CHECK(out.metrics.clip_ratio == near(expected.metrics.clip_ratio, 1e-14));
    };
    for_each_of(
        [&](const auto& kl) {
          check(policy_gradient{kl, leave_one_out{}}, false);
          check(policy_gradient{kl, group_standardized{}, ppo_clip{}}, true);
          check(policy_gradient{kl, leave_one_out{}, cispo{.low = 0.2, .high = 0.2}}, true);
        },
        no_kl{}, k1_in_reward{0.3}, k1_reward_to_go{0.3}, k2_loss{0.3}, k3_loss{0.3}, k2_token_loss{0.3},
        k3_token_loss{0.3});
    check(policy_gradient{k3_loss{0.3}, leave_one_out{}, sequence_clip{}}, true);
    check(policy_gradient{k2_token_loss{0.3}, leave_one_out{}, gspo_clip{.low = 0.05, .high = 0.05}}, true);
    check(policy_gradient{k1_in_reward{0.3}, leave_one_out{}, ppo_clip{}, sequence_mean_of_token_means{}}, true);
  }
}

TEST_CASE("An error in a later block has the token's position in the response") {
  const std::string e = "policy_gradient: expected ";
  for (Index t : {0, 63, 64, 100, 127, 128, 130}) {
    const std::string at = " at row 1, column " + std::to_string(t);
    const auto error = [&](auto change) {
      buffers<> b(3, 1, 2, 131);
      matrix<double> mask = matrix<double>::Ones(2, 131);
      change(b, mask);
      auto batch = unmasked(b, true);
      batch.mask = mask;
      return error_of([&] { policy_gradient{no_kl{}, leave_one_out{}, ppo_clip{}}(batch, b.rewards); });
    };
    CHECK(error([](auto&, auto&) {}) == "no error");
    CHECK(error([&](auto&, auto& mask) { mask(1, t) = 0.5; }) == e + "a mask of 0 and 1, got 0.5" + at);
    CHECK(error([&](auto&, auto& mask) { mask(1, t) = NaN; }) == e + "a mask of 0 and 1, got NaN" + at);
    CHECK(error([&](auto& b, auto&) { b.now(1, t) = NaN; }) == e + "finite log_probabilities, got NaN" + at);
    CHECK(error([&](auto& b, auto&) { b.old(1, t) = INFINITY; }) == e + "finite old_log_probabilities, got inf" + at);
  }
}

TEMPLATE_TEST_CASE("A mask of any type must be 0 or 1 in its own type", "", float, double) {
  using S = TestType;
  const matrix<S> now = matrix<S>::Constant(2, 70, -1), rewards{{1, 3}};
  const auto run = [&]<class Mask>(Mask odd, Index t) {
    Eigen::Array<Mask, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> mask(2, 70);
    mask.setConstant(Mask(1));
    mask(1, t) = odd;
    const token_batch<S, Mask> batch{.log_probabilities = now, .mask = mask};
    return error_of([&] { policy_gradient{no_kl{}, leave_one_out{}}(batch, rewards); });
  };
  for (Index t : {5, 66}) {
    const std::string expected = "policy_gradient: expected a mask of 0 and 1, got ",
                      at = " at row 1, column " + std::to_string(t);
    CHECK(run(true, t) == "no error");
    CHECK(run(false, t) == "no error");
    CHECK(run(-0.0, t) == "no error");
    CHECK(run(0.0f, t) == "no error");
    CHECK(run(2, t) == expected + "2" + at);
    CHECK(run(-1, t) == expected + "-1" + at);
    CHECK(run(static_cast<unsigned char>(255), t) == expected + "255" + at);
    CHECK(run(std::int64_t{1} << 62, t) == expected + "4.61168602e+18" + at);
    CHECK(run(1e-50, t) == expected + "1e-50" + at);  // 0 as a float
    CHECK(run(1 + 1e-12, t) == expected + "1" + at);  // 1 as a float, and in the message
    CHECK(run(1e300, t) == expected + "1e+300" + at);
  }
}

// L = −ρ·A with ρ = e^20·(1 + (22 − 20)) for a log-ratio of 22, and its slope by log ρ stays e^20.
TEST_CASE("A ratio above e^20 is extrapolated linearly in the step too") {
  const matrix<double> now{{-1, -1}, {-1, -1}}, old{{-23, -1}, {-1, -1}}, rewards{{-1, 1}};
  const token_batch<double> batch{.log_probabilities = now, .old_log_probabilities = old};
  const auto out = policy_gradient{no_kl{}, no_baseline{}, ppo_clip{.low = 1, .high = 1e12}}(batch, rewards);
  const double e20 = std::exp(20.0);
  CHECK(out.loss == near((3 * e20 + 1 - 2) / 2, 1e-5));
  CHECK(out.gradient(0, 0) == near(e20 / 2, 1e-6));
  CHECK(out.gradient(0, 1) == near(0.5, 1e-15));
}

TEMPLATE_TEST_CASE("A very low log-probability has ratio 0, and everything else is finite", "", float, double) {
  using S = TestType;
  matrix<S> now = matrix<S>::Constant(2, 70, -1), old = now, lowest = now;
  lowest(0, 66) = -1e20f;
  const matrix<S> rewards{{1, 0}};
  const auto check = [&](const auto& step, const token_batch<S>& batch) {
    const auto out = step(batch, rewards);
    CHECK(std::isfinite(out.loss));
    CHECK(out.gradient.isFinite().all());
    CHECK(out.gradient(0, 66) == 0);
    CHECK(out.gradient(0, 65) != 0);
  };
  const token_batch<S> off_policy{.log_probabilities = lowest, .old_log_probabilities = old};
  check(policy_gradient{no_kl{}, no_baseline{}, ppo_clip{}}, off_policy);
  check(policy_gradient{no_kl{}, no_baseline{}, cispo{}}, off_policy);
  check(policy_gradient{no_kl{}, no_baseline{}, ppo_clip{}},
        {.log_probabilities = now, .old_log_probabilities = lowest, .sampler_log_probabilities = old});
}

namespace {
/// A user's KL loss, for doubles only.
struct own_k2 {
  double beta;
  static constexpr kl_place place = kl_place::token_loss;
  static value_and_slope<double> loss(double delta) { return {delta * delta / 2, delta}; }
};
}  // namespace

TEST_CASE("A user's KL loss in double serves a batch of floats") {
  const matrix<float> now = matrix<float>::Random(2, 70) - 2, reference = now + 0.1f * matrix<float>::Random(2, 70);
  const matrix<float> rewards{{1, 0}};
  const token_batch<float> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const auto own = policy_gradient{own_k2{0.5}, leave_one_out{}}(batch, rewards);
  const auto ours = policy_gradient{k2_token_loss{0.5}, leave_one_out{}}(batch, rewards);
  CHECK(own.loss == near(ours.loss, 1e-5));
  CHECK((own.gradient - ours.gradient).abs().maxCoeff() < 1e-6f);
}

// torch.finfo.min, which trainers write for padding and for forbidden tokens: as wrong as -inf at an unmasked token, and
// as harmless at a masked one.
TEMPLATE_TEST_CASE("The lowest number is an error at an unmasked token, by its name and place", "", float, double) {
  using S = TestType;
  const matrix<S> now = matrix<S>::Constant(2, 70, -1), rewards{{1, 0}};
  matrix<S> lowest = now, mask = matrix<S>::Ones(2, 70);
  lowest(1, 66) = std::numeric_limits<S>::lowest();
  const auto check = [&](const char* name, const auto& step, token_batch<S> batch) {
    const auto error = error_of([&] { step(batch, rewards); });
    CHECK(error.starts_with(std::string("policy_gradient: expected no finfo.min or other huge number in ") + name +
                            ", got -"));
    CHECK(error.ends_with(" at row 1, column 66"));
    mask(1, 66) = 0;
    batch.mask = mask;
    const auto out = step(batch, rewards);
    CHECK(std::isfinite(out.loss));
    CHECK(out.gradient.isFinite().all());
    CHECK(out.gradient(1, 66) == 0);
    CHECK((out.gradient.col(65) != 0).all());
    mask(1, 66) = 1;
  };
  const policy_gradient clip{k3_token_loss{.beta = 0.1}, leave_one_out{}, ppo_clip{}, token_mean{}};
  const policy_gradient in_reward{k1_in_reward{.beta = 0.1}, group_standardized{}, ppo_clip{}};
  check("log_probabilities", clip, {.log_probabilities = lowest, .reference_log_probabilities = now});
  check("reference_log_probabilities", clip, {.log_probabilities = now, .reference_log_probabilities = lowest});
  check("reference_log_probabilities", in_reward, {.log_probabilities = now, .reference_log_probabilities = lowest});
  check("old_log_probabilities", clip,
        {.log_probabilities = now, .reference_log_probabilities = now, .old_log_probabilities = lowest});
  check("sampler_log_probabilities", clip,
        {.log_probabilities = now, .reference_log_probabilities = now, .sampler_log_probabilities = lowest});
}

TEST_CASE("Huge numbers that cancel in a sum do not pass as a finite loss") {
  matrix<float> now = matrix<float>::Constant(1, 64, -1), reference = now;
  now(0, 3) = -std::numeric_limits<float>::max(), reference(0, 5) = -std::numeric_limits<float>::max();
  const matrix<float> rewards{{1}};
  const policy_gradient step{k3_token_loss{.beta = 0.1}, no_baseline{}};
  CHECK(error_of([&] {
          step(token_batch<float>{.log_probabilities = now, .reference_log_probabilities = reference}, rewards);
        }).starts_with("policy_gradient: expected a finite "));
}

TEST_CASE("Probabilities in place of their logarithms are an error") {
  const matrix<double> probabilities{{0.4, 0.9, 1}, {0.02, 0.7, 0.5}}, rewards{{1, 0}};
  const policy_gradient step{no_kl{}, leave_one_out{}};
  CHECK(error_of([&] { step(token_batch<double>{.log_probabilities = probabilities}, rewards); }) ==
        "policy_gradient: expected log-probabilities, which are at most 0, got positive numbers only, as probabilities "
        "are");
  const matrix<double> rounded{{1e-7, -0.1, 0}, {2e-7, -0.3, -0.2}};  // log 1 with a rounding error
  CHECK(error_of([&] { step(token_batch<double>{.log_probabilities = rounded}, rewards); }) == "no error");
  const matrix<double> mask{{0, 1, 1}, {1, 1, 1}}, first_masked{{5, -0.1, -0.2}, {0.5, -0.3, -0.1}};
  CHECK(error_of([&] { step(token_batch<double>{.log_probabilities = first_masked, .mask = mask}, rewards); }) ==
        "no error");
}

TEST_CASE("The sums of a response are over its blocks, and its log-ratios are scaled as a whole") {
  const array<double> values = array<double>::LinSpaced(64, -3, -1);
  detail::token_block<double> block;
  block.log_probability = values.data();
  block.active = 64;
  block.sum_to_reference = 5, block.sum_to_old = 7, block.sum_to_sampler = 11;
  detail::response_sums sums;
  for (int i = 0; i < 2; ++i) sums.add(block), sums.add_log_probability(block);
  CHECK(sums.tokens == 128);
  CHECK(sums.log_probability == near(-256, 1e-12));
  const detail::whole_response whole(sums, 0.25);
  CHECK(*whole.log_probability == near(-64, 1e-12));
  CHECK(whole.to_reference[0] == 10);
  CHECK(whole.to_old[0] == 3.5);
  CHECK(whole.to_sampler[0] == 22);
}

TEST_CASE("A view of another shape is an error with its name and both shapes") {
  const matrix<double> now = matrix<double>::Constant(2, 3, -1), wide = matrix<double>::Constant(2, 4, -1),
                       high = matrix<double>::Constant(3, 3, -1);
  const auto message = [&](const token_batch<double>& batch) {
    return error_of([&] { detail::check_batch("f", batch, "rewards", 2); });
  };
  CHECK(message({.log_probabilities = now, .reference_log_probabilities = now, .mask = now}) == "no error");
  CHECK(message({.log_probabilities = now, .reference_log_probabilities = wide}) ==
        "f: expected reference_log_probabilities of 2 x 3, got 2 x 4");
  CHECK(message({.log_probabilities = now, .mask = high}) == "f: expected mask of 2 x 3, got 3 x 3");
  CHECK(message({.log_probabilities = now, .old_log_probabilities = wide}) ==
        "f: expected old_log_probabilities of 2 x 3, got 2 x 4");
  CHECK(message({.log_probabilities = now, .sampler_log_probabilities = high}) ==
        "f: expected sampler_log_probabilities of 2 x 3, got 3 x 3");
  CHECK(message({.log_probabilities = high}) == "f: expected 3 rewards, one for each row of log_probabilities, got 2");
}
