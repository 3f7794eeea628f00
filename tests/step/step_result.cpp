// SPDX-License-Identifier: MIT
#include <infalign/step/step_result.hpp>

#include "batches.hpp"

#include <cmath>
#include <vector>

using namespace infalign;
using Eigen::Index;

TEST_CASE("A mean, a standard deviation and extremes of the values that were added") {
  metric_mean mean;
  metric_std deviation;
  metric_max most;
  metric_min least;
  for (double x : {3.0, -1.0, 4.0}) mean.add(x), deviation.add(x), most.add(x), least.add(x);
  CHECK(mean == 2);
  CHECK(deviation == near(std::sqrt(7.0), 1e-15));  // squares of 1, −3, 2 over 2
  CHECK(most == 4);
  CHECK(least == -1);
  mean.add(10, 2);  // two values with the sum 10
  CHECK(mean == near(16. / 5, 1e-15));
}

TEST_CASE("Without values a mean and a standard deviation are 0, and extremes NaN") {
  CHECK(metric_mean{} == 0);
  CHECK(metric_std{} == 0);
  CHECK(std::isnan(double{metric_max{}}));
  CHECK(std::isnan(double{metric_min{}}));
  metric_std one;
  one.add(5);
  CHECK(one == 0);
}

TEST_CASE("A metric with a NaN is NaN") {
  metric_mean mean;
  mean.add(NaN);
  mean.add(1);
  CHECK(std::isnan(double{mean}));
}

namespace {

/// Metrics of responses with these rewards and numbers of tokens.
step_metrics metrics_of(const std::vector<double>& rewards, const std::vector<double>& tokens) {
  step_metrics m;
  for (const double r : rewards) {
    m.sequences += 1;
    m.reward.add(r);
    m.reward_std.add(r);
    m.kl_max.add(-r);
  }
  for (const double n : tokens) {
    m.tokens += n;
    m.kl_per_token.add(n / 2, n);
    m.tokens_max.add(n);
    m.tokens_min.add(n);
  }
  return m;
}

}  // namespace

TEST_CASE("Metrics of parts add up to those of all responses") {
  const step_metrics all = metrics_of({1, 5, 3, -2}, {4, 2, 8, 6});
  step_metrics sum = metrics_of({1}, {4});
  sum += metrics_of({5, 3}, {2, 8});
  sum += metrics_of({}, {});
  sum += metrics_of({-2}, {6});
  CHECK(same(fields(sum), fields(all)));
  CHECK(all.sequences == 4);
  CHECK(all.reward == 1.75);
  CHECK(all.kl_max == 2);
  CHECK(all.tokens_max == 8);
  CHECK(all.tokens_min == 2);
  CHECK(all.kl_per_token == 0.5);
}

TEST_CASE("Metrics of shards are reduced by one sum and one maximum") {
  const std::vector<step_metrics> shards{metrics_of({1, 5}, {4, 2}), metrics_of({3, -2}, {8, 6}), metrics_of({}, {})};
  const step_metrics all = metrics_of({1, 5, 3, -2}, {4, 2, 8, 6});
  std::vector<array<double>> sent;
  for (const auto& shard : shards) {
    step_metrics m = shard;
    std::size_t call = 0;
    reduce_metrics(m, [&](Eigen::Ref<array<double>> values, reduce_op op) {
      REQUIRE(op == (call == 0 ? reduce_op::sum : reduce_op::maximum));
      if (sent.size() == call)
        sent.push_back(values);
      else
        sent[call] = op == reduce_op::sum ? array<double>(sent[call] + values) : array<double>(sent[call].max(values));
      ++call;
    });
    CHECK(call == 2);
  }
  step_metrics m = shards[0];
  reduce_metrics(m,
                 [&](Eigen::Ref<array<double>> values, reduce_op op) { values = sent[op == reduce_op::sum ? 0 : 1]; });
  CHECK(same(fields(m), fields(all)));
  STATIC_REQUIRE(reduction<whole_batch>);
}

TEST_CASE("Metrics of steps add up to those of all rewards, standard deviations included") {
  const matrix<double> now = matrix<double>::Constant(2, 3, -1);
  const token_batch<double> batch{.log_probabilities = now};
  const policy_gradient step{no_kl{}, no_baseline{}};
  auto sum = step(batch, matrix<double>{{0, 1}}).metrics;
  sum += step(batch, matrix<double>{{10, 11}}).metrics;
  const double expected = std::sqrt((5.5 * 5.5 + 4.5 * 4.5) * 2 / 3);  // of 0, 1, 10, 11 about 5.5
  CHECK(sum.reward == near(5.5, 1e-14));
  CHECK(sum.reward_std == near(expected, 1e-14));
  CHECK(sum.advantage_std == near(expected, 1e-14));
  step_metrics none;
  none += sum;
  CHECK(none.reward_std == near(expected, 1e-14));
}

TEST_CASE("A reduction changes its values in place: a copy or a returned sum is refused") {
  const auto in_place = [](Eigen::Ref<array<double>>, reduce_op) {};
  const auto by_reference = [](Eigen::Ref<array<double>>&&, reduce_op) {};
  const auto generic = [](auto, reduce_op) {};
  const auto no_except = [](Eigen::Ref<array<double>>, reduce_op) noexcept {};
  STATIC_REQUIRE(reduction<decltype(in_place)>);
  STATIC_REQUIRE(reduction<decltype(by_reference)>);
  STATIC_REQUIRE(reduction<decltype(generic)>);
  STATIC_REQUIRE(reduction<decltype(no_except)>);
  const auto by_value = [](array<double>, reduce_op) {};
  const auto const_array = [](const array<double>&, reduce_op) {};
  const auto vector_by_value = [](Eigen::VectorXd, reduce_op) {};
  const auto const_ref = [](const Eigen::Ref<const array<double>>&, reduce_op) {};
  const auto returns = [](Eigen::Ref<array<double>> values, reduce_op) -> array<double> { return values; };
  const auto returns_auto = [](auto values, reduce_op) { return values.eval(); };
  STATIC_REQUIRE_FALSE(reduction<decltype(by_value)>);
  STATIC_REQUIRE_FALSE(reduction<decltype(const_array)>);
  STATIC_REQUIRE_FALSE(reduction<decltype(vector_by_value)>);
  STATIC_REQUIRE_FALSE(reduction<decltype(const_ref)>);
  STATIC_REQUIRE_FALSE(reduction<decltype(returns)>);
  STATIC_REQUIRE_FALSE(reduction<decltype(returns_auto)>);
}

TEST_CASE("A whole batch has nothing to reduce") {
  array<double> values{{1, 2}};
  for (const auto op : {reduce_op::sum, reduce_op::maximum}) whole_batch{}(values, op);
  CHECK(same(values, array<double>{{1, 2}}));
}
