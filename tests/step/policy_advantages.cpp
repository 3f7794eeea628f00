// SPDX-License-Identifier: MIT
#include <infalign/step/policy_advantages.hpp>

#include "batches.hpp"
#include "shards.hpp"

#include <stdexcept>
#include <string>
#include <vector>

// That a step equals policy_advantages and then policy_loss is in policy_loss.cpp.

using namespace infalign;
using Eigen::Index;

TEST_CASE("Advantages are those of the rewards, less a KL in the reward") {
  const matrix<double> now{{-1, -1}, {-2, -1}, {-1, -1}, {-1, NaN}};
  const matrix<double> reference{{-1.5, -1}, {-2, -2}, {-1, -1}, {-0.5, NaN}};  // δ = ½, 1, 0, −½
  const matrix<double> mask{{1, 1}, {1, 1}, {1, 1}, {1, 0}}, rewards{{3, 1}, {2, 2}};
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
  // Linear, the KL goes through the estimator: R − 2δ = 2, −1, 2, 3, less the other one.
  CHECK(same(policy_advantages{k1_in_reward{2}, leave_one_out{}}(batch, rewards), array<double>{{3, -3, -1, 1}}));
  // Not linear, it is subtracted afterwards: 2/√2, −2/√2, 0, 0, less 2δ.
  const double z = 1 / std::sqrt(2.0);
  CHECK(distance(policy_advantages{k1_in_reward{2}, group_standardized{.epsilon = 0}}(batch, rewards),
                 array<double>{{z - 1, -z - 2, 0, 1}}) < 1e-15);
  CHECK(same(policy_advantages{no_kl{}, leave_one_out{}}(batch, rewards),
             advantage(rewards, leave_one_out{}).reshaped<Eigen::RowMajor>()));
}

TEST_CASE("With reward-to-go each token has an advantage, which does not charge it for the KL of earlier tokens") {
  const matrix<double> now{{-1, -1, -1}, {-2, -1, NaN}}, reference{{-1.5, -2, -1}, {-2, -3, NaN}};  // δ = ½ 1 0 and 0 2
  const matrix<double> mask{{1, 1, 1}, {1, 1, 0}}, rewards{{3, 1}};
  const token_batch<double> batch{.log_probabilities = now, .reference_log_probabilities = reference, .mask = mask};
  // R − 2δ = 0, −3; A = 3, −3; plus twice the δ of the tokens before.
  const auto a = policy_advantages{k1_reward_to_go{2}, leave_one_out{}}(batch, rewards);
  STATIC_REQUIRE(std::is_same_v<decltype(a), const matrix<double>>);
  CHECK(same(a, matrix<double>{{3, 4, 6}, {-3, -3, 0}}));
}

TEST_CASE("An unscored response has advantage NaN with propagate, and a group that is too small 0") {
  buffers<> b(3);
  b.rewards(1, 0) = b.rewards(1, 1) = NaN;  // responses 3 and 4: 5 is alone
  const std::vector<int> prompt{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3};
  const auto check = [&](const auto& kl) {
    const policy_advantages credit{kl, leave_one_out{}, unscored::propagate};
    const auto a = credit(b.on_policy(), b.rewards);
    for (Index i : {3, 4}) CHECK(a.row(i).isNaN().all());
    CHECK((a.row(5) == 0).all());
    CHECK(!a.topRows(3).isNaN().any());
    CHECK(same(credit(b.on_policy(), prompt, b.flat()), a));
  };
  for_each_of(check, no_kl{}, k1_in_reward{0.3}, k1_reward_to_go{0.3});
  CHECK(error_of([&] {
          policy_advantages{no_kl{}, leave_one_out{}}(b.on_policy(), b.rewards);
        }) == "policy_advantages: expected rewards that are numbers, got NaN at row 1, column 0");
}

TEST_CASE("Shards get the mean of the whole batch by one sum, and a second one says that none has failed") {
  const buffers<> b(4);
  const policy_advantages credit{k1_in_reward{0.3}, batch_mean{}};
  std::vector<array<double>> parts(2);
  const auto ops = run_shards(2, [&](std::size_t s, const auto& reduce) {
    const Index first = Index(s) * 2;
    parts[s] = credit(b.off_policy(first * b.M, 2 * b.M), b.rewards.middleRows(first, 2), reduce);
  });
  CHECK(ops == std::vector<reduce_op>(2, reduce_op::sum));
  const array<double> whole = credit(b.off_policy(), b.rewards);
  CHECK(distance(parts[0], whole.head(6)) < 1e-15);
  CHECK(distance(parts[1], whole.tail(6)) < 1e-15);
}

TEST_CASE("A shard whose advantages fail ends the others, before the first sum and after it") {
  const buffers<> b(4);
  const auto refuses_nine = [](const auto& r) {
    if ((r == 9).any()) throw std::invalid_argument("no nine");
    return r.eval();
  };
  const auto check = [&](const auto& credit, double reward, const std::string& error, std::size_t sums) {
    std::vector<std::string> errors(3);
    const auto ops = run_shards(3, [&](std::size_t s, const auto& reduce) {
      matrix<double> rewards = b.rewards.middleRows(Index(s), 1);
      if (s == 1) rewards(0, 2) = reward;
      errors[s] = error_of([&] { credit(b.on_policy(Index(s) * b.M, b.M), rewards, reduce); });
    });
    CHECK(ops.size() == sums);
    for (const std::size_t s : {0u, 2u})
      CHECK(errors[s] == "policy_advantages: expected all shards to succeed, got an error in another shard");
    CHECK(errors[1] == error);
  };
  const std::string nan = "policy_advantages: expected rewards that are numbers, got NaN at row 0, column 2";
  for_each_of(
      [&](const auto& kl) {
        check(policy_advantages{kl, leave_one_out{}}, NaN, nan, 1);
      },
      no_kl{}, k1_in_reward{0.3}, k1_reward_to_go{0.3});
  for_each_of(
      [&](const auto& kl) {
        check(policy_advantages{kl, refuses_nine}, 9, "no nine", 2);
      },
      no_kl{}, k1_in_reward{0.3}, k1_reward_to_go{0.3});
}

TEST_CASE("Buffers that do not fit and wrong parameters are rejected") {
  const buffers<> b(5);
  const std::string e = "policy_advantages: expected ";
  const policy_advantages credit{k1_in_reward{1}, leave_one_out{}};
  const matrix<double> few = b.rewards.topRows(3), column = b.flat();
  const std::vector<int> prompt{0, 0, 1};
  const token_batch<double> alone{.log_probabilities = b.now};
  matrix<double> broken = b.reference, infinite = b.rewards;
  broken(4, 1) = NaN;
  infinite(2, 1) = infinity<double>;
  auto with_nan = b.on_policy();
  with_nan.reference_log_probabilities = broken;
  CHECK(error_of([&] { credit(b.on_policy(), few); }) ==
        e + "12 rewards, one for each row of log_probabilities, got 9");
  CHECK(error_of([&] { credit(b.on_policy(), prompt, b.flat()); }) ==
        e + "12 prompt indices, one for each reward, got 3");
  CHECK(error_of([&] { credit(b.on_policy(), column); }) ==
        e + "at least 2 responses to each prompt for this estimator, got 1 (columns of the rewards)");
  CHECK(error_of([&] { credit(alone, b.rewards); }) == e + "reference_log_probabilities for the KL term, got none");
  CHECK(error_of([&] { credit(with_nan, b.rewards); }) ==
        e + "finite reference_log_probabilities, got NaN at row 4, column 1");
  CHECK(error_of([&] { credit(b.on_policy(), infinite); }) == e + "finite rewards, got inf at row 2, column 1");
  for (const double beta : {0.0, -1.0, NaN, infinity<double>})
    CHECK(error_of([&] {
            policy_advantages{k1_reward_to_go{beta}, leave_one_out{}};
          }) == e + "a beta finite and above 0, got " + detail::concat(beta));
  CHECK(error_of([&] {
          policy_advantages{no_kl{}, group_standardized{-1}};
        }) == "group_standardized: expected epsilon finite and at least 0, got -1");
  CHECK(error_of([&] { policy_advantages{no_kl{}, max_at_n{0}}; }) == "max_at_n: expected n of at least 1, got 0");
}

TEST_CASE("A KL term that overflows is an error that names it, not the advantages") {
  const matrix<float> now = matrix<float>::Constant(2, 3, -1), rewards{{1, 0}};
  matrix<float> reference = now;
  reference(1, 2) = -3e29f;
  const token_batch<float> batch{.log_probabilities = now, .reference_log_probabilities = reference};
  const std::string text =
      "policy_advantages: expected a KL term that a float can hold, got 1e+10 times 3.00000005e+29 at row 0, column 1";
  CHECK(error_of([&] { policy_advantages{k1_in_reward{.beta = 1e10}, leave_one_out{}}(batch, rewards); }) == text);
  CHECK(error_of([&] { policy_advantages{k1_in_reward{.beta = 1e10}, group_standardized{}}(batch, rewards); }) == text);
  reference.setConstant(-1);
  // Reward-to-go of a small sum, with a large one of each token.
  matrix<float> cancelling = now;
  cancelling(1, 0) = -1 - 3e29f, cancelling(1, 1) = -1;
  matrix<float> other = reference;
  other(1, 0) = -1, other(1, 1) = -1 - 3e29f;
  const token_batch<float> opposite{.log_probabilities = cancelling, .reference_log_probabilities = other};
  CHECK(error_of([&] {
          policy_advantages{k1_reward_to_go{.beta = 1e10}, leave_one_out{}}(opposite, rewards);
        }).starts_with("policy_advantages: expected finite advantages, got -inf at row 1, column 1"));
}
