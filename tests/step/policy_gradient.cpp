// SPDX-License-Identifier: MIT
#include "batches.hpp"
#include "shards.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

// The step on given batches. That its gradient is the derivative of its loss is in whole/loss_derivative.cpp, that it
// equals a plain version in whole/plain_step.cpp, and that its expectation is the gradient of J in
// whole/unbiasedness.cpp.

using namespace infalign;
using Eigen::Index;

// ---- Metrics

TEST_CASE("Loss, gradient and every metric of a small batch") {
  const double log2 = std::log(2.0);
  const matrix<double> now{{-1, -1}, {-2, -1}, {-1, -1}, {-1, NaN}};
  const matrix<double> reference{{-1.5, -1}, {-2, -2}, {-1, -1}, {-0.5, NaN}};  // δ = ½, 1, 0, −½
  const matrix<double> log_ratio{{log2, 0}, {-log2, 0}, {0, std::log(1.5)}, {-2 * log2, 0}};
  const matrix<double> old = now - log_ratio, mask{{1, 1}, {1, 1}, {1, 1}, {1, 0}}, rewards{{3, 1}, {2, 2}};
  const token_batch<double> batch{
      .log_probabilities = now, .reference_log_probabilities = reference, .mask = mask, .old_log_probabilities = old};
  // R − 2δ = 2, −1, 2, 3; less the other one: A = 3, −3, −1, 1.
  const auto [loss, gradient, m] = policy_gradient{k1_in_reward{2}, leave_one_out{}, ppo_clip{}}(batch, rewards);
  CHECK(loss == near((-1.2 * 3 - 3 + 0.8 * 3 + 3 + 1 + 1.5 - 0.25) / 4, 1e-15));
  CHECK(distance(gradient * 4, matrix<double>{{0, -3}, {0, 3}, {1, 1.5}, {-0.25, 0}}) < 1e-14);
  CHECK(m.sequences == 4);
  CHECK(m.tokens == 7);
  CHECK(m.reward == 2);
  CHECK(m.reward_std == near(std::sqrt(2. / 3), 1e-15));
  CHECK(m.advantage_mean == near(0, 1e-15));
  CHECK(m.advantage_std == near(std::sqrt(20. / 3), 1e-15));
  CHECK(m.frac_reward_zero_std == 0.5);  // the second prompt's rewards are equal
  CHECK(m.kl == 0.25);
  CHECK(m.kl_per_token == near(1. / 7, 1e-16));
  CHECK(m.approx_kl == near(std::log(8. / 3) / 7, 1e-15));  // −mean of log 2, −log 2, log 3/2, −log 4 and zeros
  CHECK(m.ratio == near(7.25 / 7, 1e-15));
  CHECK(m.clip_ratio_high == near(1. / 7, 1e-16));  // ρ = 2 with A > 0, and not 3/2 with A < 0
  CHECK(m.clip_ratio_low == near(1. / 7, 1e-16));   // ρ = ½ with A < 0, and not ¼ with A > 0
  CHECK(m.clip_ratio == near(2. / 7, 1e-16));
  CHECK(m.kl_max == 1);  // of ½, 1, 0, −½
  CHECK(m.tokens_max == 2);
  CHECK(m.tokens_min == 1);

  const auto by_sequence = policy_gradient{no_kl{}, leave_one_out{}, sequence_clip{}}(batch, rewards).metrics;
  CHECK(by_sequence.ratio == near((2 + 0.5 + 1.5 + 0.25) / 4, 1e-15));
  CHECK(by_sequence.advantage_std == near(std::sqrt(8. / 3), 1e-15));  // A = 2, −2, 0, 0
  CHECK(by_sequence.clip_ratio_high == 0.25);
  CHECK(by_sequence.clip_ratio_low == 0.25);
}

TEST_CASE("Without a reference the KL is NaN, on-policy the ratio is 1, and one response has standard deviation 0") {
  const matrix<double> now{{-1, -2}}, rewards{{5}};
  const auto m = policy_gradient{no_kl{}, no_baseline{}}(token_batch<double>{now}, rewards).metrics;
  CHECK(std::isnan(m.kl));
  CHECK(std::isnan(m.kl_per_token));
  CHECK(std::isnan(double{m.kl_of_prompt_above_0}));
  CHECK(std::isnan(double{m.kl_of_prompt_max}));
  CHECK(std::isnan(double{m.kl_max_prompt}));
  CHECK(std::isnan(m.kl_max_prompt_share()));
  CHECK(m.approx_kl == 0);
  CHECK(m.ratio == 1);
  CHECK(m.clip_ratio == 0);
  CHECK(m.reward_std == 0);
  CHECK(m.advantage_std == 0);
  CHECK(m.advantage_mean == 5);
}

TEST_CASE("A batch without responses has loss and averages 0, and extremes NaN") {
  const matrix<double> none(0, 5), rewards(0, 3);
  const auto out = policy_gradient{k1_in_reward{1}, leave_one_out{}}(token_batch<double>{none, none}, rewards);
  CHECK(out.loss == 0);
  CHECK(out.gradient.rows() == 0);
  CHECK(out.gradient.cols() == 5);
  CHECK(same(fields(out.metrics), fields(step_metrics{})));
}

namespace {

/// Twelve responses to four prompts, one token each and a masked one. The mean δ of a prompt is given by hand.
struct runaway {
  const matrix<double> reference = matrix<double>::Constant(12, 2, -1), mask = matrix<double>{{1, 0}}.replicate(12, 1);
  const matrix<double> delta{{0.5, 0.25, -0.375}, {3, 1, 2}, {-1, -0.5, 0}, {5, -4, 0.5}};  // means ⅛, 2, −½, ½
  const matrix<double> rewards{{1e6, -1e6, 0}, {1, 2, 3}, {0, 0, 0}, {1e-3, 2e-3, 0}};
  matrix<double> now = reference;

  runaway() {
    now.col(0) += delta.reshaped<Eigen::RowMajor>();
    now.col(1).setConstant(NaN);
  }
  token_batch<double> batch(Index first = 0, Index rows = 12) const {
    return {.log_probabilities = now.middleRows(first, rows),
            .reference_log_probabilities = reference.middleRows(first, rows),
            .mask = mask.middleRows(first, rows)};
  }
};

}  // namespace

TEST_CASE("A prompt whose KL runs away is named, with its share, whatever the scales of the rewards") {
  const runaway b;
  const std::vector<int> prompt{4, 4, 4, -7, -7, -7, 90, 90, 90, 2, 2, 2};
  const array<double> flat = b.rewards.reshaped<Eigen::RowMajor>();
  const auto check = [&](const auto& step) {
    const auto rows = step(b.batch(), b.rewards).metrics, indices = step(b.batch(), prompt, flat).metrics;
    CHECK(rows.kl_max_prompt == 1);  // and not 3, which has the largest response
    CHECK(indices.kl_max_prompt == -7);
    for (const auto& m : {rows, indices}) {
      CHECK(m.kl_max == 5);
      CHECK(m.kl_of_prompt_max == near(2, 1e-15));
      CHECK(m.kl_of_prompt_above_0 == near((0.125 + 2 + 0 + 0.5) / 4, 1e-15));
      CHECK(m.kl_max_prompt_share() == near(2 / 2.625, 1e-15));
    }
  };
  check(policy_gradient{no_kl{}, leave_one_out{}});
  check(policy_gradient{no_kl{}, group_standardized{}, ppo_clip{}, token_mean{}});
  check(policy_gradient{k1_in_reward{0.3}, leave_one_out{}});
  check(policy_gradient{k1_in_reward{0.3}, leave_one_out{}, sequence_clip{}});
  check(policy_gradient{k1_reward_to_go{0.3}, leave_one_out{}});
  check(policy_gradient{k2_loss{0.3}, leave_one_out{}, gspo_clip{}});
  check(policy_gradient{k3_token_loss{0.3}, no_baseline{}, cispo{}});
}

TEST_CASE("An unscored response does not count in the KL of its prompt, and a prompt without scored ones has none") {
  const runaway b;
  const policy_gradient step{no_kl{}, no_baseline{}, reinforce{}, {}, unscored::propagate};
  matrix<double> rewards = b.rewards;
  rewards(3, 1) = NaN;  // of δ = −4: the mean of 5 and ½ is 2.75
  rewards.row(0).setConstant(NaN);
  const auto m = step(b.batch(), rewards).metrics;
  CHECK(m.kl_max_prompt == 3);
  CHECK(m.kl_of_prompt_max == near(2.75, 1e-15));
  CHECK(m.kl_of_prompt_above_0 == near((2 + 0 + 2.75) / 3, 1e-15));
  CHECK(m.kl_max_prompt_share() == near(2.75 / 4.75, 1e-15));
}

TEST_CASE("At the first step all prompts have a KL of 0, and no prompt has a share") {
  const runaway b;
  const policy_gradient step{k1_in_reward{1}, leave_one_out{}};
  const auto m = step(token_batch<double>{b.reference, b.reference}, b.rewards).metrics;
  CHECK(m.kl_of_prompt_max == 0);
  CHECK(m.kl_max_prompt == 3);  // the last of equal ones
  CHECK(std::isnan(m.kl_max_prompt_share()));
}

TEST_CASE("Micro-batches of whole prompts add up to the KL of the prompts of the batch") {
  const runaway b;
  const std::vector<int> prompt{4, 4, 4, -7, -7, -7, 90, 90, 90, 2, 2, 2};
  const policy_gradient step{no_kl{}, leave_one_out{}};
  const array<double> flat = b.rewards.reshaped<Eigen::RowMajor>();
  const auto part = [&](Index first, Index rows) {
    return step(b.batch(first, rows), std::vector<int>(prompt.begin() + first, prompt.begin() + first + rows),
                flat.segment(first, rows))
        .metrics;
  };
  for (const Index cut : {3, 6, 9}) {
    auto sum = part(0, cut);
    sum += part(cut, 12 - cut);
    CHECK(sum.kl_max_prompt == -7);
    CHECK(sum.kl_of_prompt_max == near(2, 1e-15));
    CHECK(sum.kl_max_prompt_share() == near(2 / 2.625, 1e-15));
  }
}

// ---- Shards of a batch

namespace {

/// Prompt indices of the batch, in no order.
const std::vector<int> labels{40, 40, 40, -3, -3, -3, 1000000, 1000000, 1000000, 7, 7, 7};

/// Calls step(batch, prompt, rewards, reduce) for one of the shards, which have these numbers of prompts.
template <class Step>
step_result<double> step_of_shard(const Step& step, const buffers<>& b, const std::vector<Index>& split, std::size_t s,
                                  const auto& reduce) {
  const Index start = b.M * std::accumulate(split.begin(), split.begin() + std::ptrdiff_t(s), Index{0});
  const Index size = b.M * split[s];
  return step(b.off_policy(start, size), std::vector<int>(labels.begin() + start, labels.begin() + start + size),
              b.flat().segment(start, size), reduce);
}

/// The results of the shards of a batch by prompt index, combined over the shards at each `reduce`. In place of threads
/// that wait for each other, the shards run again for each result of `reduce` that has become known. `sums`: how many sums
/// they take.
template <class Step>
std::vector<step_result<double>> sharded(const Step& step, const buffers<>& b, const std::vector<Index>& split,
                                         std::size_t sums = 2) {
  std::vector<step_result<double>> results(split.size());
  const auto ops = run_shards(
      split.size(), [&](std::size_t s, const auto& reduce) { results[s] = step_of_shard(step, b, split, s, reduce); });
  std::vector<reduce_op> expected(sums, reduce_op::sum);
  expected.insert(expected.end(), 2, reduce_op::maximum);
  CHECK(ops == expected);
  return results;
}

const std::string in_another = "policy_gradient: expected all shards to succeed, got an error in another shard";

}  // namespace

TEST_CASE("Shards have the loss, the gradient and the metrics of the whole batch") {
  const buffers<> b(3);
  const auto check = [&](const auto& step, std::size_t sums = 2) {
    const auto whole = step(b.off_policy(), labels, b.flat());
    CHECK(distance(whole.gradient, step(b.off_policy(), b.rewards).gradient) <= 1e-14);
    for (const auto& split : {std::vector<Index>{1, 3}, {2, 0, 2}, {1, 1, 1, 1}}) {
      double loss = 0;
      Index first = 0;
      for (const auto& part : sharded(step, b, split, sums)) {
        loss += part.loss;
        const Index rows = part.gradient.rows();
        CHECK(distance(part.gradient, whole.gradient.middleRows(first, rows)) <=
              1e-12 * whole.gradient.matrix().norm());
        first += rows;
        const auto expected = fields(whole.metrics), got = fields(part.metrics);
        for (Index k = 0; k < got.size(); ++k) CHECK(got[k] == near(expected[k], 1e-12));
      }
      CHECK(first == b.B);
      CHECK(loss == near(whole.loss, 1e-12 * std::abs(whole.loss)));
    }
  };
  for_each_of(
      [&](const auto& estimator) {
        for_each_of(
            [&](const auto& a) {
              check(policy_gradient{k1_in_reward{0.3}, estimator, ppo_clip{}, a});
            },
            sequence_mean_of_token_sums{}, sequence_mean_of_token_means{}, token_mean{});
        check(policy_gradient{k3_loss{0.3}, estimator, sequence_clip{}});
      },
      batch_mean{}, leave_one_out{});
  check(policy_gradient{k1_in_reward{0.3}, batch_standardized{}, ppo_clip{}}, 3);
}

TEST_CASE("A shard that fails throws its own error, and the others throw too, after as many calls of the reduction") {
  const buffers<> good(3);
  const std::vector<Index> split{1, 2, 1};
  const std::string e = "policy_gradient: expected ";
  // fail(b, first response of the shard) breaks the batch of a shard.
  const auto check = [&](const auto& step, const auto& fail, const std::string& error, std::size_t sums) {
    for (const std::vector<bool>& fails : {std::vector<bool>{true, false, false},
                                           {false, true, false},
                                           {false, false, true},
                                           {true, false, true},
                                           {true, true, true}}) {
      buffers<> b = good;
      for (std::size_t s = 0; s < 3; ++s)
        if (fails[s]) fail(b, Index(s) * 3 + (s == 2 ? 3 : 0));
      std::vector<std::string> errors(3);
      const auto ops = run_shards(3, [&](std::size_t s, const auto& reduce) {
        errors[s] = error_of([&] { step_of_shard(step, b, split, s, reduce); });
      });
      CHECK(ops == std::vector<reduce_op>(sums, reduce_op::sum));
      for (std::size_t s = 0; s < 3; ++s) CHECK(errors[s] == (fails[s] ? e + error : in_another));
    }
  };
  const auto unscored_reward = [](buffers<>& b, Index first) { b.rewards(first / 3, 0) = NaN; };
  const auto large_reward = [](buffers<>& b, Index first) { b.rewards(first / 3, 0) = 9; };
  const auto broken_reference = [](buffers<>& b, Index first) { b.reference(first, 1) = NaN; };
  const auto broken_mask = [](buffers<>& b, Index first) { b.mask(first, 1) = 0.5; };
  const auto refuses_nine = [](const auto& r) {
    if ((r == 9).any()) throw std::invalid_argument("policy_gradient: expected no nine");
    return r.eval();
  };

  // Before the first sum, between the first and the sum of the metrics, and with one more sum between them.
  const std::string no_number = "finite reference_log_probabilities, got NaN at row 0, column 1";
  const ppo_clip clip;
  check(policy_gradient{no_kl{}, leave_one_out{}, clip}, unscored_reward,
        "rewards that are numbers, got NaN at index 0", 1);
  check(policy_gradient{no_kl{}, leave_one_out{}, clip}, broken_mask, "a mask of 0 and 1, got 0.5 at row 0, column 1",
        2);
  check(policy_gradient{k1_in_reward{0.3}, leave_one_out{}, clip}, broken_reference, no_number, 1);
  check(policy_gradient{no_kl{}, refuses_nine, clip}, large_reward, "no nine", 2);
  check(policy_gradient{k3_token_loss{0.3}, leave_one_out{}, clip}, broken_reference, no_number, 2);
  check(policy_gradient{k3_token_loss{0.3}, batch_standardized{}, clip}, broken_reference, no_number, 3);
}

TEST_CASE("Arguments that do not fit in one shard, with a workspace or without, end all shards") {
  const buffers<> b(3);
  const policy_gradient step{no_kl{}, leave_one_out{}, ppo_clip{}};
  for (const bool with_space : {false, true}) {
    std::vector<std::string> errors(2);
    const auto ops = run_shards(2, [&](std::size_t s, const auto& reduce) {
      const std::vector<int> prompt(s == 0 ? 6 : 5, 1);
      const array<double> rewards = b.flat().head(6);
      workspace space;
      step_result<double> result;
      errors[s] = error_of([&] {
        if (with_space)
          step.into(result, space, b.off_policy(0, 6), prompt, rewards, reduce);
        else
          step(b.off_policy(0, 6), prompt, rewards, reduce);
      });
    });
    CHECK(ops.size() == 1);
    CHECK(errors[0] == in_another);
    CHECK(errors[1] == "policy_gradient: expected 6 prompt indices, one for each reward, got 5");
  }
}

// ---- Unscored responses, masks, responses without tokens

TEST_CASE("An unscored response is an error by default, with its position") {
  buffers<> b(3);
  b.rewards(2, 1) = NaN;
  const std::vector<int> prompt{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3};
  const policy_gradient step{no_kl{}, leave_one_out{}};
  CHECK(error_of([&] { step(b.on_policy(), b.rewards); }) ==
        "policy_gradient: expected rewards that are numbers, got NaN at row 2, column 1");
  CHECK(error_of([&] { step(b.on_policy(), prompt, b.flat()); }) ==
        "policy_gradient: expected rewards that are numbers, got NaN at index 7");
}

// All denominators count the scored: sequences and tokens of the batch, and responses of the group.
TEST_CASE("With propagate an unscored response has gradient 0 and does not affect others") {
  buffers<> b(4);
  b.rewards(1, 2) = NaN;
  const buffers<> rest = b.rows({0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11});
  const std::vector<int> prompt{0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 3};
  b.now.row(5).setConstant(NaN);  // not read
  b.mask(5, 0) = 0.5;
  const auto check = [&](const auto& kl, const auto& estimator, const auto& f, const auto& a) {
    const policy_gradient step{kl, estimator, f, a, unscored::propagate};
    const auto out = step(b.off_policy(), b.rewards), without = step(rest.off_policy(0, 11), prompt, rest.flat());
    CHECK((out.gradient.row(5) == 0).all());
    CHECK((out.gradient.topRows(5) == without.gradient.topRows(5)).all());
    CHECK((out.gradient.bottomRows(6) == without.gradient.bottomRows(6)).all());
    CHECK(without.gradient.matrix().norm() > 0.01);
    CHECK(out.loss == without.loss);
    CHECK(same(fields(out.metrics), fields(without.metrics)));
    CHECK(out.metrics.sequences == 11);
  };
  for_each_of(
      [&](const auto& estimator) {
        check(k1_in_reward{0.3}, estimator, ppo_clip{}, sequence_mean_of_token_sums{});
        check(k3_token_loss{0.3}, estimator, ppo_clip{}, sequence_mean_of_token_means{});
        check(k1_in_reward{0.3}, estimator, ppo_clip{}, token_mean{});
        check(k2_loss{0.3}, estimator, sequence_clip{}, sequence_mean_of_token_sums{});
      },
      leave_one_out{}, batch_mean{}, group_standardized{}, max_at_n{2});
}

TEST_CASE("Denominators count scored responses only") {
  const matrix<double> now{{-1}, {-1}, {-1}, {-1}}, rewards{{4, NaN, 1, 1}}, lonely{{4, NaN}, {NaN, NaN}};
  const auto run = [&](const auto& estimator, const matrix<double>& r) {
    return policy_gradient{no_kl{}, estimator, reinforce{}, {}, unscored::propagate}(token_batch<double>{now}, r)
        .gradient;
  };
  CHECK(distance(run(no_baseline{}, rewards) * 3, matrix<double>{{-4}, {0}, {-1}, {-1}}) < 1e-15);
  CHECK(distance(run(leave_one_out{}, rewards) * 3, matrix<double>{{-3}, {0}, {1.5}, {1.5}}) < 1e-15);
  CHECK((run(leave_one_out{}, lonely) == 0).all());  // alone in their groups
  CHECK((run(no_baseline{}, lonely).row(0) == -4).all());
  CHECK((run(no_baseline{}, matrix<double>::Constant(2, 2, NaN)) == 0).all());
}

TEST_CASE("An infinite reward is an error, also with propagate") {
  buffers<> b(5);
  b.rewards(0, 1) = infinity<double>;
  for (auto on_unscored : {unscored::error, unscored::propagate}) {
    const policy_gradient step{no_kl{}, leave_one_out{}, reinforce{}, {}, on_unscored};
    CHECK(error_of([&] { step(b.on_policy(), b.rewards); }) ==
          "policy_gradient: expected finite rewards, got inf at row 0, column 1");
    const matrix<double> negated = -b.rewards;
    CHECK(error_of([&] { step(b.on_policy(), negated); }) ==
          "policy_gradient: expected finite rewards, got -inf at row 0, column 1");
  }
}

TEST_CASE("Values at masked tokens change nothing, for any type of mask") {
  const buffers<> b(6);
  buffers<> hidden = b;
  for (auto* m : {&hidden.now, &hidden.reference, &hidden.old, &hidden.sampler})
    *m = (b.mask == 1).select(*m, matrix<double>::NullaryExpr(b.B, b.T, [](Index i, Index) {
      return i % 2 ? NaN : infinity<double>;
    }));
  const Eigen::Array<bool, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> bits = b.mask == 1;
  for_each_of(
      [&](const auto& step) {
        auto batch = b.off_policy();
        batch.sampler_log_probabilities = b.sampler;
        const token_batch<double, bool> masked{.log_probabilities = hidden.now,
                                               .reference_log_probabilities = hidden.reference,
                                               .mask = bits,
                                               .old_log_probabilities = hidden.old,
                                               .sampler_log_probabilities = hidden.sampler};
        const auto out = step(batch, b.rewards), other = step(masked, b.rewards);
        CHECK((out.gradient == other.gradient).all());
        CHECK(((b.mask == 1) || (other.gradient == 0)).all());
        CHECK(out.loss == other.loss);
        CHECK(same(fields(out.metrics), fields(other.metrics)));
      },
      policy_gradient{k1_in_reward{0.3}, leave_one_out{}, ppo_clip{}},
      policy_gradient{k3_loss{0.3}, group_mean{}, gspo_clip{}},
      policy_gradient{k1_reward_to_go{0.3}, leave_one_out{}, cispo{}, token_mean{}});
}

TEST_CASE(
    "A response without unmasked tokens has gradient 0, and counts in its group and in every mean over responses") {
  const matrix<double> now{{-1, -2}, {-1, -2}}, mask{{1, 1}, {0, 0}}, rewards{{3, 1}};
  const token_batch<double> batch{.log_probabilities = now, .mask = mask};
  const auto check = [&](const auto& a, double divisor) {
    const auto out = policy_gradient{no_kl{}, leave_one_out{}, reinforce{}, a}(batch, rewards);
    CHECK(distance(out.gradient * divisor, matrix<double>{{-2, -2}, {0, 0}}) < 1e-15);
    CHECK(out.loss == near(6 / divisor, 1e-15));
    CHECK(out.metrics.sequences == 2);
    CHECK(out.metrics.tokens == 2);
  };
  check(sequence_mean_of_token_sums{}, 2);
  check(sequence_mean_of_token_means{}, 4);
  check(token_mean{}, 2);
}

TEST_CASE("A batch without tokens has gradient 0, with a KL term too") {
  const matrix<double> now(4, 0), rewards{{3, 1}, {2, 2}};
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = now};
  const policy_gradient step{k1_in_reward{1}, leave_one_out{}};
  REQUIRE(error_of([&] { step(batch, rewards); }) == "no error");
  CHECK(step(batch, rewards).gradient.rows() == 4);
  CHECK(step(batch, rewards).loss == 0);
  CHECK(step(batch, rewards).metrics.sequences == 4);
}

// ---- Groups

TEST_CASE("Shuffled groups by prompt index equal the rows of the matrix") {
  const buffers<> b(7);
  const std::vector<Index> order{7, 2, 11, 0, 4, 9, 1, 5, 3, 10, 8, 6};
  const buffers<> shuffled = b.rows(order);
  Eigen::ArrayXi prompt(b.B);  // equal for equal prompts, and no more
  std::transform(order.begin(), order.end(), prompt.begin(), [](Index i) {
    constexpr int label[] = {40, -3, 7, 1000000};
    return label[i / 3];
  });
  for_each_of(
      [&](const auto& estimator) {
        const policy_gradient step{k1_in_reward{0.3}, estimator, ppo_clip{}};
        const auto by_rows = step(b.off_policy(), b.rewards),
                   by_prompt = step(shuffled.off_policy(), prompt, shuffled.flat());
        const Eigen::ArrayXXd by_columns = b.rewards;  // rewards may have any storage order
        CHECK(distance(rows_of(by_rows.gradient, order), by_prompt.gradient) < 1e-14);
        CHECK((step(b.off_policy(), by_columns).gradient == by_rows.gradient).all());
        CHECK(by_prompt.loss == near(by_rows.loss, 1e-14));
        CHECK(by_prompt.metrics.advantage_std == near(by_rows.metrics.advantage_std, 1e-14));
      },
      no_baseline{}, batch_mean{}, group_mean{}, leave_one_out{}, group_standardized{}, max_at_n{2},
      centered_max_at_n{2}, min_at_n{3});
}

TEST_CASE("In a ragged batch each group has the gradient that it has alone, but for the mean over all responses") {
  const buffers<> b(8);
  const std::vector<Index> order{9, 0, 1, 10, 4, 2, 11, 5};  // prompt 3: 3 responses, 0: 3, 1: 2
  const std::vector<int> prompt{3, 0, 0, 3, 1, 0, 3, 1};
  const buffers<> ragged = b.rows(order);
  const policy_gradient step{k1_reward_to_go{0.3}, leave_one_out{}, ppo_clip{}};
  const auto out = step(ragged.off_policy(0, 8), prompt, ragged.flat());
  const auto check = [&](const std::vector<Index>& places) {
    const buffers<> group = ragged.rows(places);
    const auto size = std::ssize(places);
    const matrix<double> rewards = group.rewards.transpose();
    const matrix<double> alone = step(group.off_policy(0, size), rewards).gradient;
    CHECK(distance(rows_of(out.gradient, places), alone * static_cast<double>(size) / 8) < 1e-14);
  };
  check({0, 3, 6});
  check({1, 2, 5});
  check({4, 7});
}

TEST_CASE("Estimators without groups accept rewards in a column") {
  const buffers<> b(9);
  const policy_gradient none{no_kl{}, no_baseline{}};
  const policy_gradient mean{no_kl{}, batch_mean{}};
  CHECK((none(b.on_policy(), b.flat()).gradient == none(b.on_policy(), b.rewards).gradient).all());
  CHECK((mean(b.on_policy(), b.flat()).gradient == mean(b.on_policy(), b.rewards).gradient).all());
}

TEST_CASE("Rewards in a row are the responses to one prompt") {
  const buffers<> b(9);
  const policy_gradient step{k1_in_reward{0.3}, leave_one_out{}};
  const matrix<double> first = b.rewards.row(0);
  CHECK(same_result(step(b.on_policy(0, b.M), b.rewards.row(0)), step(b.on_policy(0, b.M), first)));
}

TEMPLATE_TEST_CASE("A step takes the rewards of a flat batch as a std::vector or a std::span", "", float, double) {
  using S = TestType;
  const buffers<S> b(14);
  const std::vector<int> prompt{0, 0, 1, 1, 1, 0, 2, 2, 2, 2, 2, 2};
  const array<S> flat = b.flat();
  const std::vector<S> rewards(flat.begin(), flat.end());
  const policy_gradient step{k1_in_reward{0.3}, leave_one_out{}};
  const auto expected = step(b.on_policy(), prompt, flat);
  CHECK(same_result(step(b.on_policy(), prompt, rewards), expected));
  CHECK(same_result(step(b.on_policy(), prompt, std::span<const S>(rewards), whole_batch{}), expected));
  step_result<S> result;
  workspace space;
  step.into(result, space, b.on_policy(), prompt, rewards);
  CHECK(same_result(result, expected));
  const policy_advantages advantages{k1_in_reward{0.3}, leave_one_out{}};
  CHECK(same(advantages(b.on_policy(), prompt, rewards), advantages(b.on_policy(), prompt, flat)));
}

// ---- Errors

TEST_CASE("A batch whose buffers do not fit is rejected") {
  const auto rejected = [](auto change) {
    buffers<> b(10);
    change(b);
    const token_batch<double> batch{.log_probabilities = b.now,
                                    .reference_log_probabilities = b.reference,
                                    .mask = b.mask,
                                    .old_log_probabilities = b.old,
                                    .sampler_log_probabilities = b.sampler};
    return error_of([&] { policy_gradient{k1_in_reward{1}, leave_one_out{}, ppo_clip{}}(batch, b.rewards); });
  };
  const std::string e = "policy_gradient: expected ";
  CHECK(rejected([](auto&) {}) == "no error");
  CHECK(rejected([](auto& b) { b.rewards.resize(3, 3); }) ==
        e + "12 rewards, one for each row of log_probabilities, got 9");
  CHECK(rejected([](auto& b) { b.reference.resize(12, 4); }) ==
        e + "reference_log_probabilities of 12 x 5, got 12 x 4");
  CHECK(rejected([](auto& b) { b.mask.resize(11, 5); }) == e + "mask of 12 x 5, got 11 x 5");
  CHECK(rejected([](auto& b) { b.old.resize(5, 12); }) == e + "old_log_probabilities of 12 x 5, got 5 x 12");
  CHECK(rejected([](auto& b) { b.sampler.resize(12, 6); }) == e + "sampler_log_probabilities of 12 x 5, got 12 x 6");
  CHECK(rejected([](auto& b) { b.mask.resize(0, 0); }) == e + "mask of 12 x 5, got 0 x 0");
  CHECK(rejected([](auto& b) { b.mask(3, 2) = 0.5; }) == e + "a mask of 0 and 1, got 0.5 at row 3, column 2");
  CHECK(rejected([](auto& b) { b.mask(3, 2) = NaN; }) == e + "a mask of 0 and 1, got NaN at row 3, column 2");
  CHECK(rejected([](auto& b) { b.now(0, 1) = NaN; }) == e + "finite log_probabilities, got NaN at row 0, column 1");
  CHECK(rejected([](auto& b) { b.reference(4, 1) = -infinity<double>; }) ==
        e + "finite reference_log_probabilities, got -inf at row 4, column 1");
  CHECK(rejected([](auto& b) { b.old(11, 1) = NaN; }) ==
        e + "finite old_log_probabilities, got NaN at row 11, column 1");
  CHECK(rejected([](auto& b) { b.sampler(2, 1) = infinity<double>; }) ==
        e + "finite sampler_log_probabilities, got inf at row 2, column 1");
}

TEST_CASE("A batch that the parts of a step cannot work on is rejected") {
  const buffers<> b(11);
  const std::string e = "policy_gradient: expected ";
  CHECK(error_of([&] {
          policy_gradient{no_kl{}, leave_one_out{}}(b.off_policy(), b.rewards);
        }) == e + "no old_log_probabilities with reinforce, which is on-policy, got some: use sequence_clip, "
                  "ppo_clip or cispo");
  for (double cap : {0.0, -1.0, NaN, infinity<double>}) {
    auto batch = b.on_policy();
    batch.sampler_weight_cap = cap;
    CHECK(error_of([&] {
            policy_gradient{no_kl{}, leave_one_out{}}(batch, b.rewards);
          }) == e + "a sampler_weight_cap finite and above 0, got " + detail::concat(cap));
  }
  const token_batch<double> alone{.log_probabilities = b.now};
  CHECK(error_of([&] {
          policy_gradient{k2_token_loss{1}, leave_one_out{}}(alone, b.rewards);
        }) == e + "reference_log_probabilities for the KL term, got none");
  const matrix<double> column = b.flat();  // 12 x 1: twelve prompts of one response
  CHECK(error_of([&] {
          policy_gradient{no_kl{}, leave_one_out{}}(b.on_policy(), column);
        }) == e + "at least 2 responses to each prompt for this estimator, got 1 (columns of the rewards)");
  CHECK(error_of([&] {
          policy_gradient{no_kl{}, max_at_n{4}}(b.on_policy(), b.rewards);
        }) == e + "at least 4 responses to each prompt for this estimator, got 3 (columns of the rewards)");
  const std::vector<int> prompt{0, 0, 1};
  CHECK(error_of([&] {
          policy_gradient{no_kl{}, leave_one_out{}}(b.on_policy(), prompt, b.flat());
        }) == e + "12 prompt indices, one for each reward, got 3");
  CHECK(error_of([&] { policy_gradient{no_kl{}, no_baseline{}}(b.on_policy(), column); }) == "no error");
}

namespace {
/// A user's parts, which are all wrong.
template <class Part>
struct wrong : Part {
  void check() const { detail::fail("wrong", "a right part", "a wrong one"); }
};
}  // namespace

TEST_CASE("A user's part is checked when the step is made") {
  const std::string message = "wrong: expected a right part, got a wrong one";
  CHECK(error_of([] { policy_gradient{wrong<k1_in_reward>{{1}}, no_baseline{}}; }) == message);
  CHECK(error_of([] { policy_gradient{wrong<k3_token_loss>{{1}}, no_baseline{}}; }) == message);
  CHECK(error_of([] { policy_gradient{no_kl{}, wrong<no_baseline>{}}; }) == message);
  CHECK(error_of([] { policy_gradient{no_kl{}, no_baseline{}, wrong<reinforce>{}}; }) == message);
  CHECK(error_of([] { policy_gradient{no_kl{}, no_baseline{}, reinforce{}, wrong<token_mean>{}}; }) == message);
}

TEST_CASE("Wrong parameters are rejected when the step is made") {
  const auto rejected = [](const auto& kl, const auto& estimator, const auto& f, const auto& a) {
    return error_of([&] { policy_gradient{kl, estimator, f, a}; });
  };
  const sequence_mean_of_token_sums sums;
  const std::string bad_beta = "policy_gradient: expected a beta finite and above 0, got ";
  CHECK(rejected(k1_in_reward{0}, no_baseline{}, reinforce{}, sums) == bad_beta + "0");
  CHECK(rejected(k1_reward_to_go{-1}, no_baseline{}, reinforce{}, sums) == bad_beta + "-1");
  CHECK(rejected(k2_loss{NaN}, no_baseline{}, reinforce{}, sums) == bad_beta + "NaN");
  CHECK(rejected(k3_token_loss{infinity<double>}, no_baseline{}, reinforce{}, sums) == bad_beta + "inf");
  CHECK(rejected(no_kl{}, group_standardized{.epsilon = -1}, reinforce{}, sums) ==
        "group_standardized: expected epsilon finite and at least 0, got -1");
  CHECK(rejected(no_kl{}, group_standardized{.epsilon = NaN}, reinforce{}, sums) ==
        "group_standardized: expected epsilon finite and at least 0, got NaN");
  CHECK(rejected(no_kl{}, max_at_n{0}, reinforce{}, sums) == "max_at_n: expected n of at least 1, got 0");
  CHECK(rejected(no_kl{}, min_at_n{-2}, reinforce{}, sums) == "min_at_n: expected n of at least 1, got -2");
  CHECK(rejected(no_kl{}, centered_max_at_n{0}, reinforce{}, sums) ==
        "centered_max_at_n: expected n of at least 1, got 0");
  CHECK(rejected(no_kl{}, no_baseline{}, ppo_clip{.low = 2}, sums) == "ppo_clip: expected low in [0, 1], got 2");
  CHECK(rejected(no_kl{}, no_baseline{}, cispo{.high = -1}, sums) ==
        "cispo: expected high finite and at least 0, got -1");
  CHECK(rejected(no_kl{}, no_baseline{}, reinforce{}, sequence_mean_of_token_sums{.length = 0}) ==
        "sequence_mean_of_token_sums: expected a length finite and above 0, got 0");
}

// A KL in the reward has no gradient either; a KL loss has.
TEST_CASE(
    "A response that is alone in its group has gradient 0 with the KL in the reward, for every estimator that "
    "compares") {
  const matrix<double> now{{-1, -1, -1}, {-1, -2, -1}, {-2, -1, -1}},
      reference{{-2, -1.5, -1}, {-2, -1, -1}, {-1, -1, -3}};
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const std::vector<int> prompt{7, 8, 8};  // the first is alone
  const array<double> rewards{{3, 1, 5}};
  for_each_of(
      [&](const auto& estimator) {
        const auto whole = policy_gradient{k1_in_reward{.beta = 1}, estimator}(batch, prompt, rewards).gradient;
        const auto to_go = policy_gradient{k1_reward_to_go{.beta = 1}, estimator}(batch, prompt, rewards).gradient;
        const auto loss = policy_gradient{k2_loss{.beta = 1}, estimator}(batch, prompt, rewards).gradient;
        CHECK((whole.row(0) == 0).all());
        CHECK((to_go.row(0) == 0).all());
        CHECK((loss.row(0) == 0.5).all());  // δ = 1½, of three responses
        CHECK((whole.row(2) != 0).all());
        CHECK((to_go.row(2) != 0).all());
      },
      group_mean{}, leave_one_out{}, group_standardized{}, max_at_n{2}, min_at_n{2}, centered_max_at_n{2});
}

TEST_CASE("The standard deviation of advantages is accurate far from 0 too") {
  const matrix<double> now = matrix<double>::Constant(4, 1, -1), rewards{{1e9, 1e9 + 1}, {1e9 + 2, 1e9 + 3}};
  const auto m = policy_gradient{no_kl{}, no_baseline{}}(token_batch<double>{now}, rewards).metrics;
  CHECK(m.reward_std == near(std::sqrt(5. / 3), 1e-12));
  CHECK(m.advantage_std == near(std::sqrt(5. / 3), 1e-12));
  CHECK(m.advantage_mean == 1e9 + 1.5);
}

TEST_CASE("A group has standard deviation 0 if all its scored rewards are equal") {
  const matrix<double> now = matrix<double>::Constant(9, 1, -1), rewards{{1, 2, 1}, {3, 3, 3}, {NaN, 5, 5}};
  const policy_gradient step{no_kl{}, leave_one_out{}, reinforce{}, {}, unscored::propagate};
  CHECK(step(token_batch<double>{now}, rewards).metrics.frac_reward_zero_std == near(2. / 3, 1e-15));
}

namespace {
struct whole_response {
  static constexpr ratio_of ratio = ratio_of::sequence;
  template <real_scalar S>
  static auto prepare(S A) {
    return [A](S log_probability, const probability_ratio<S>&) -> surrogate_term<S> {
      return {.loss = -A * log_probability, .slope = -A};
    };
  }
};
}  // namespace

// L = −A·log π(y), of the whole response: a user's surrogate of sequences gets the sum over its tokens.
TEST_CASE("A surrogate of whole responses gets their log-probability") {
  const buffers<> b(12);
  const auto own = policy_gradient{no_kl{}, leave_one_out{}, whole_response{}}(b.on_policy(), b.rewards);
  const auto expected = policy_gradient{no_kl{}, leave_one_out{}}(b.on_policy(), b.rewards);
  CHECK(own.loss == near(expected.loss, 1e-14));
  CHECK(distance(own.gradient, expected.gradient) < 1e-15);
}
