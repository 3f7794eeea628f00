// SPDX-License-Identifier: MIT
#include <infalign/step/policy_loss.hpp>

#include "batches.hpp"

#include <cmath>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The step in two calls. Its metrics lack those of the rewards.
template <kl_term KL, class Estimator, class Surrogate, class Aggregation, class... Batch>
step_result<double> in_two_calls(const KL& kl, const Estimator& estimator, const Surrogate& f, const Aggregation& a,
                                 const token_batch<double>& batch, const batch_size& size, const Batch&... rewards) {
  const auto run = [&](const auto& in_reward, const auto& in_loss) {
    const auto advantages = policy_advantages{in_reward, estimator, unscored::propagate}(batch, rewards...);
    return policy_loss{in_loss, f, a, unscored::propagate}(batch, advantages, size);
  };
  if constexpr (KL::place == kl_place::sequence_loss || KL::place == kl_place::token_loss)
    return run(no_kl{}, kl);
  else
    return run(kl, no_kl{});
}

/// Metrics without those of prompts.
array<double> fields_without_prompts(step_metrics m) {
  m.kl_of_prompt_above_0 = {.sum = 1}, m.kl_of_prompt_max = {1}, m.kl_max_prompt = {0};
  return fields(m);
}

/// Metrics without those of prompts, of rewards and of advantages.
array<double> loss_fields(step_metrics m) {
  m.reward = {}, m.reward_std = {}, m.frac_reward_zero_std = {}, m.advantage_mean = {}, m.advantage_std = {};
  return fields_without_prompts(m);
}

}  // namespace

TEST_CASE("A step equals policy_advantages and then policy_loss") {
  buffers<> b(1);
  b.rewards(1, 2) = NaN;
  b.mask.row(8).setZero();  // no tokens
  const std::vector<int> prompt{4, 4, 4, 0, 0, 0, 4, 4, 1, 1, 1, 0};
  const auto check = [&](const auto& kl, const auto& estimator, const auto& f, const auto& a, bool on_policy = false) {
    const policy_gradient step{kl, estimator, f, a, unscored::propagate};
    const auto batch = b.sampled(!on_policy);
    batch_size size{11, 0};
    for (Index i = 0; i < b.B; ++i)
      if (i != 5) size.tokens += b.mask.row(i).sum();
    const auto compare = [&](const step_result<double>& whole, const step_result<double>& two) {
      CHECK(two.loss == whole.loss);
      CHECK(same(two.gradient, whole.gradient));
      CHECK(whole.gradient.matrix().norm() > 0.01);
      CHECK((two.gradient.row(5) == 0).all());
      CHECK(same(loss_fields(two.metrics), loss_fields(whole.metrics)));
      const bool of_tokens = kl.place == kl_place::reward_to_go;  // no metrics of advantages
      CHECK(two.metrics.advantage_mean == (of_tokens ? 0 : double{whole.metrics.advantage_mean}));
      CHECK(two.metrics.advantage_std == near(of_tokens ? 0 : double{whole.metrics.advantage_std}, 1e-13));
    };
    compare(step(batch, b.rewards), in_two_calls(kl, estimator, f, a, batch, size, b.rewards));
    compare(step(batch, prompt, b.flat()), in_two_calls(kl, estimator, f, a, batch, size, prompt, b.flat()));
  };
  const auto with_every_kl = [&](const auto& estimator) {
    const sequence_mean_of_token_sums sums{.length = 3};
    check(no_kl{}, estimator, reinforce{}, sums, true);
    check(k1_in_reward{0.3}, estimator, ppo_clip{}, token_mean{});
    check(k1_in_reward{0.3}, estimator, sequence_clip{}, sums);
    check(k1_reward_to_go{0.3}, estimator, ppo_clip{}, sequence_mean_of_token_means{});
    check(k1_reward_to_go{0.3}, estimator, reinforce{}, sums, true);
    check(k2_loss{0.3}, estimator, gspo_clip{.low = 0.05, .high = 0.05}, sums);
    check(k3_token_loss{0.3}, estimator, cispo{.low = 0.2, .high = 0.2}, token_mean{});
  };
  for_each_of(with_every_kl, leave_one_out{}, group_standardized{}, no_baseline{});
}

TEST_CASE("Losses, gradients and metrics of micro-batches add up to those of the batch") {
  buffers<> b(2);
  b.rewards(2, 0) = NaN;
  const auto check = [&](const auto& kl, const auto& loss) {
    const auto batch = b.off_policy();
    const auto advantages = policy_advantages{kl, leave_one_out{}, unscored::propagate}(batch, b.rewards);
    const batch_size size = batch_size_of(batch, advantages);  // without the unscored response
    const auto whole = loss(batch, advantages, size);
    for (const auto& split : {std::vector<Index>{12}, {5, 7}, {1, 0, 4, 3, 4}}) {
      double sum = 0;
      step_metrics metrics;
      Index first = 0;
      for (const Index rows : split) {
        const auto part = loss(b.off_policy(first, rows), advantages.middleRows(first, rows), size);
        sum += part.loss;
        metrics += part.metrics;
        CHECK(same(part.gradient, whole.gradient.middleRows(first, rows)));
        first += rows;
      }
      CHECK(sum == near(whole.loss, 1e-15));
      CHECK(distance(fields_without_prompts(metrics), fields_without_prompts(whole.metrics)) < 1e-12);
    }
    CHECK(whole.metrics.sequences == 11);
    CHECK(!fields_without_prompts(whole.metrics).isNaN().any());
    CHECK(std::isnan(double{whole.metrics.kl_max_prompt}));  // it does not know prompts
  };
  const auto propagate = unscored::propagate;
  check(k1_in_reward{0.3}, policy_loss{no_kl{}, ppo_clip{}, token_mean{}, propagate});
  check(k1_reward_to_go{0.3}, policy_loss{no_kl{}, ppo_clip{}, sequence_mean_of_token_means{}, propagate});
  check(no_kl{}, policy_loss{k3_token_loss{0.3}, cispo{}, token_mean{}, propagate});
  check(no_kl{}, policy_loss{k3_loss{0.3}, sequence_clip{}, sequence_mean_of_token_sums{}, propagate});
}

TEST_CASE("The size of a batch counts all responses and unmasked tokens, or those of scored responses") {
  buffers<> b(2);
  b.rewards(2, 0) = NaN;  // response 6
  const auto batch = b.off_policy();
  const batch_size all = batch_size_of(batch), scored = batch_size_of(batch, b.flat());
  CHECK(all.sequences == 12);
  CHECK(all.tokens == b.mask.sum());
  CHECK(scored.sequences == 11);
  CHECK(scored.tokens == b.mask.sum() - b.mask.row(6).sum());
  matrix<double> of_tokens = b.flat().replicate(1, b.T);
  of_tokens(0, 1) = NaN;  // of a scored response
  CHECK(batch_size_of(batch, of_tokens).sequences == 11);
  CHECK(batch_size_of(batch, of_tokens).tokens == scored.tokens);
  CHECK(batch_size_of(batch, b.flat().transpose()).sequences == 11);
  CHECK(batch_size_of(token_batch<double>{.log_probabilities = b.now}).tokens == 60);
  CHECK(error_of([&] { batch_size_of(batch, b.flat().head(11)); }) ==
        "batch_size_of: expected 12 scores, one for each response, got 11");
}

TEST_CASE("Without a size the batch is whole, and advantages may be a row, a column, or one for each token") {
  const buffers<> b(3);
  const array<double> a = b.flat();
  const policy_loss loss{k3_token_loss{0.3}, ppo_clip{}, token_mean{}};
  const auto whole = loss(b.off_policy(), a);
  CHECK(same_result(whole, loss(b.off_policy(), a, batch_size{12, b.mask.sum()})));
  CHECK(same_result(whole, loss(b.off_policy(), a.transpose())));
  CHECK(same_result(whole, loss(b.off_policy(), a.matrix() * 1.0)));
  matrix<double> of_tokens = a.replicate(1, b.T);
  of_tokens = (b.mask == 1).select(of_tokens, NaN);  // not read at masked tokens
  const auto by_token = loss(b.off_policy(), of_tokens);
  CHECK(by_token.loss == whole.loss);
  CHECK(same(by_token.gradient, whole.gradient));
  matrix<double> wide = matrix<double>::Constant(12, 9, NaN);
  wide.middleCols(2, 5) = of_tokens;
  CHECK(same_result(loss(b.off_policy(), wide.middleCols(2, 5)), by_token));
}

TEST_CASE("A loss is written to the caller's result, with a workspace or without") {
  const buffers<> b(4);
  const array<double> a = b.flat();
  const policy_loss loss{k2_token_loss{0.3}, ppo_clip{}};
  const batch_size size = batch_size_of(b.off_policy());
  workspace space;
  step_result<double> out;
  for (int repeat = 0; repeat < 2; ++repeat) {
    loss.into(out, space, b.off_policy(), a, size);
    CHECK(same_result(out, loss(b.off_policy(), a)));
    loss.into(out, b.off_policy(0, 6), a.head(6), size);
    CHECK(same_result(out, loss(b.off_policy(0, 6), a.head(6), size)));
  }
}

TEST_CASE("Buffers that do not fit and advantages that are not finite are rejected") {
  const buffers<> b(5);
  const std::string e = "policy_loss: expected ";
  const array<double> a = b.flat();
  const matrix<double> of_tokens = a.replicate(1, b.T);
  const policy_loss strict{no_kl{}, ppo_clip{}};
  const policy_loss lax{no_kl{}, ppo_clip{}, sequence_mean_of_token_sums{}, unscored::propagate};
  const auto error = [](const auto& loss, const auto& batch, const auto& advantages) {
    return error_of([&] { loss(batch, advantages, batch_size{12, 40}); });
  };
  CHECK(error(strict, b.off_policy(), a) == "no error");
  CHECK(error(strict, b.off_policy(), a.head(11)) ==
        e + "12 advantages, one for each row of log_probabilities, got 11");
  CHECK(error(strict, b.off_policy(), of_tokens.topRows(3)) ==
        e + "12 rows of advantages, one for each row of log_probabilities, got 3");
  CHECK(error(strict, b.off_policy(), of_tokens.leftCols(4)) == e + "advantages of 12 x 5, got 12 x 4");
  array<double> broken = a;
  broken[7] = NaN;
  CHECK(error(strict, b.off_policy(), broken) == e + "finite advantages, got NaN at index 7");
  CHECK(error(lax, b.off_policy(), broken) == "no error");
  broken[2] = infinity<double>;
  CHECK(error(lax, b.off_policy(), broken) == e + "finite advantages, got inf at index 2");
  matrix<double> broken_tokens = of_tokens;
  broken_tokens(3, 1) = infinity<double>;  // its token is unmasked
  CHECK(error(lax, b.off_policy(), broken_tokens) == e + "finite advantages, got inf at row 3, column 1");
  CHECK(error(policy_loss{}, b.off_policy(), a) == e + "no old_log_probabilities with reinforce, which is on-policy, "
                                                       "got some: use sequence_clip, ppo_clip or cispo");
  const token_batch<double> alone{.log_probabilities = b.now};
  CHECK(error(policy_loss{k3_token_loss{1}}, alone, a) == e + "reference_log_probabilities for the KL term, got none");
  buffers<> bad(5);
  bad.old(3, 1) = NaN;
  CHECK(error(strict, bad.off_policy(), a) == e + "finite old_log_probabilities, got NaN at row 3, column 1");
  bad.mask(2, 1) = 0.5;
  CHECK(error(strict, bad.off_policy(), a) == e + "a mask of 0 and 1, got 0.5 at row 2, column 1");
}

TEST_CASE("Wrong parameters are rejected when the loss is made") {
  for (const double beta : {0.0, -1.0, NaN, infinity<double>})
    CHECK(error_of([&] { policy_loss{k2_loss{beta}}; }) ==
          "policy_loss: expected a beta finite and above 0, got " + detail::concat(beta));
  CHECK(error_of([] { policy_loss{no_kl{}, ppo_clip{.low = 2}}; }) == "ppo_clip: expected low in [0, 1], got 2");
  CHECK(error_of([] {
          policy_loss{no_kl{}, ppo_clip{}, sequence_mean_of_token_sums{.length = 0}};
        }) == "sequence_mean_of_token_sums: expected a length finite and above 0, got 0");
}

TEST_CASE("batch_size_of counts scored responses only if it gets their scores") {
  const buffers<double> b(3);
  array<double> scores = b.flat();
  scores[4] = scores[7] = NaN;
  const auto batch = b.on_policy();
  const auto all = batch_size_of(batch), scored = batch_size_of(batch, scores);
  CHECK(all.sequences == 12);
  CHECK(all.tokens == b.mask.sum());
  CHECK(scored.sequences == 10);
  CHECK(scored.tokens == b.mask.sum() - b.mask.row(4).sum() - b.mask.row(7).sum());
  const auto of_tokens = batch_size_of(batch, scores.replicate(1, b.T));
  CHECK(of_tokens.sequences == scored.sequences);
  CHECK(of_tokens.tokens == scored.tokens);
  CHECK(error_of([&] { batch_size_of(batch, scores.head(11)); }) ==
        "batch_size_of: expected 12 scores, one for each response, got 11");
}

namespace {

/// Its loss is infinite at log π = 0, which is what a masked token has.
struct unlikelihood {
  static constexpr ratio_of ratio = ratio_of::nothing;
  template <real_scalar S>
  static auto prepare(S advantage) {
    return [advantage](S log_probability, const probability_ratio<S>&) -> surrogate_term<S> {
      const S p = std::exp(log_probability);
      return {.loss = -advantage * std::log1p(-p), .slope = advantage * p / (1 - p)};
    };
  }
};

}  // namespace

TEMPLATE_TEST_CASE("A user's surrogate may be infinite at masked tokens and beyond the end of a response", "", float,
                   double) {
  using S = TestType;
  const matrix<S> now = matrix<S>::Constant(2, 3, -1);
  const array<S> advantages = array<S>::Ones(2);
  const double p = std::exp(-1.0);
  const auto whole = policy_loss{no_kl{}, unlikelihood{}}(token_batch<S>{.log_probabilities = now}, advantages);
  CHECK(whole.loss == near(-3 * std::log1p(-p), 1e-6));
  const matrix<S> mask{{1, 0, 1}, {0, 0, 1}};
  const auto out =
      policy_loss{no_kl{}, unlikelihood{}}(token_batch<S>{.log_probabilities = now, .mask = mask}, advantages);
  CHECK(out.loss == near(-1.5 * std::log1p(-p), 1e-6));
  CHECK(((mask == 1) == (out.gradient > 0)).all());
  CHECK(((mask == 1) || (out.gradient == 0)).all());
}

TEST_CASE("A batch_size without tokens is rejected, and so is a mask of another shape") {
  const matrix<float> now = matrix<float>::Constant(8, 70, -1), small = matrix<float>::Ones(1, 3);
  const array<float> advantages = array<float>::Ones(8);
  const policy_loss loss{no_kl{}, reinforce{}, token_mean{}};
  const token_batch<float> batch{.log_probabilities = now}, wrong{.log_probabilities = now, .mask = small};
  CHECK(error_of([&] { loss(batch, advantages, batch_size{.sequences = 8}); }) ==
        "policy_loss: expected a batch_size with responses and tokens, got a weight that is not finite");
  const std::string shape = "batch_size_of: expected mask of 8 x 70, got 1 x 3";
  CHECK(error_of([&] { batch_size_of(wrong); }) == shape);
  CHECK(error_of([&] { batch_size_of(wrong, advantages); }) == shape);
}

TEST_CASE("A masked response whose token advantages are NaN counts unless NaN is propagated") {
  const matrix<float> now = matrix<float>::Constant(2, 3, -1), mask{{0, 0, 0}, {1, 1, 1}};
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const matrix<float> advantages{{nan, nan, nan}, {1, 1, 1}};
  const token_batch<float> batch{.log_probabilities = now, .mask = mask};
  CHECK(policy_loss{}(batch, advantages).loss == near(1.5, 1e-6));
  const policy_loss propagates{no_kl{}, reinforce{}, sequence_mean_of_token_sums{}, unscored::propagate};
  CHECK(propagates(batch, advantages).loss == near(3, 1e-6));
}

TEST_CASE("A gradient or a loss that overflows is an error with its place") {
  const matrix<float> now = matrix<float>::Constant(2, 70, -1), far = matrix<float>::Constant(2, 70, -19);
  const array<float> advantages{{0, 3e38f}};
  const token_batch<float> on_policy{.log_probabilities = now};
  const policy_loss steep{no_kl{}, reinforce{}, sequence_mean_of_token_sums{.length = 1e-3}};
  CHECK(error_of([&] { steep(on_policy, advantages); }) ==
        "policy_loss: expected a finite gradient, got -inf at row 1, column 0");
  // The clipped loss is finite where its slope is not, and the sum of finite losses may be infinite.
  const token_batch<float> moved{.log_probabilities = now, .old_log_probabilities = far};
  const token_batch<float> unmoved{.log_probabilities = now, .old_log_probabilities = now};
  CHECK(error_of([&] {
          policy_loss{no_kl{}, ppo_clip{}}(moved, array<float>(-advantages));
        }).starts_with("policy_loss: expected a finite gradient, got inf at row 1, column 0"));
  CHECK(error_of([&] {
          policy_loss{no_kl{}, ppo_clip{}, token_mean{}}(unmoved, advantages);
        }) == "policy_loss: expected a finite loss, got -inf for response 1");
  // A loss that needs the response's log-probability only is a sum in double.
  CHECK(policy_loss{no_kl{}, reinforce{}, token_mean{}}(on_policy, advantages).loss == near(1.5e38, 1e32));
  // Finite numbers whose sum overflows are a gradient like any other.
  const array<float> large{{0, 1.5e36f}};
  const auto out = policy_loss{no_kl{}, reinforce{}, sequence_mean_of_token_sums{.length = 0.01}}(on_policy, large);
  CHECK(out.gradient.isFinite().all());
  CHECK(out.gradient(1, 69) == near(-7.5e37, 1e31));
}

TEST_CASE("The weights of a sampler need a floor from 0 to the cap") {
  buffers<> b(1);
  auto batch = b.sampled();
  const policy_loss loss{no_kl{}, ppo_clip{}};
  for (const double floor : {-0.1, 1.06, NaN, infinity<double>}) {
    batch.sampler_weight_floor = floor;
    CHECK(error_of([&] {
            loss(batch, b.flat());
          }).starts_with("policy_loss: expected a sampler_weight_floor from 0 to the cap, got "));
  }
  batch.sampler_weight_floor = 1.05;
  CHECK(error_of([&] { loss(batch, b.flat()); }) == "no error");
}

// Δ = Σ log(π/π_ref) over unmasked tokens. The sequence's k3 loss is e^−Δ − 1 + Δ, and each of its tokens has the slope 1 − e^−Δ.
TEST_CASE("An unmasked token has its own slope and that of its response, a masked one has none") {
  for (const Index T : {3, 64, 70}) {
    matrix<double> now = matrix<double>::Constant(1, T, -1), reference = now, mask = matrix<double>::Ones(1, T);
    reference(0, 0) = -1.3, reference(0, T - 1) = -0.9, reference(0, 1) = -7;
    mask(0, 1) = 0;
    for (const bool masked : {true, false}) {
      token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference};
      if (masked) batch.mask = mask;
      const double delta = masked ? 0.2 : 6.2, of_response = 0.5 * (1 - std::exp(-delta));
      const auto out = policy_loss{k3_loss{.beta = 0.5}, reinforce{}}(batch, array<double>{{2.0}});
      const double tokens = static_cast<double>(masked ? T - 1 : T);
      CHECK(out.loss == near(2 * tokens + 0.5 * (std::exp(-delta) - 1 + delta), 1e-12));
      for (Index t = 0; t < T; ++t) CHECK(out.gradient(0, t) == near(masked && t == 1 ? 0 : -2 + of_response, 1e-14));
    }
  }
}

TEST_CASE("Clipped tokens are counted at their end, and together") {
  // A > 0: ratios 2 and 3/2 are above 1.2, 1/2 is not clipped. A < 0: 1/2 is below 0.8, the others are not clipped.
  const matrix<double> now = matrix<double>::Constant(2, 4, -1);
  matrix<double> old = now;
  for (Index i = 0; i < 2; ++i) old(i, 0) -= std::log(2), old(i, 1) -= std::log(1.5), old(i, 2) += std::log(2);
  const token_batch<double> batch{.log_probabilities = now, .old_log_probabilities = old};
  const auto m = policy_loss{no_kl{}, ppo_clip{}}(batch, array<double>{{1, -1}}).metrics;
  CHECK(m.clip_ratio_high == 2. / 8);
  CHECK(m.clip_ratio_low == 1. / 8);
  CHECK(m.clip_ratio == 3. / 8);
  CHECK(m.ratio == near((2 + 1.5 + 0.5 + 1) / 4, 1e-15));
}
