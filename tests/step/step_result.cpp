// SPDX-License-Identifier: MIT
#include <infalign/step/step_result.hpp>

#include "batches.hpp"

#include <algorithm>
#include <cmath>
#include <utility>
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

namespace {

/// Metrics of prompts with these indices and mean KLs.
step_metrics metrics_of_prompts(const std::vector<std::pair<double, double>>& prompts) {
  step_metrics m;
  for (const auto& [prompt, kl] : prompts) {
    step_metrics of_prompt;
    of_prompt.kl_max_prompt.add(prompt);
    of_prompt.kl_of_prompt_max.add(kl);
    of_prompt.kl_of_prompt_above_0.add(std::max(kl, 0.0));
    m += of_prompt;
  }
  return m;
}

}  // namespace

TEST_CASE("Of two parts the prompt with the larger KL is kept, and of equal KLs the larger index") {
  auto m = metrics_of_prompts({{7, 1}, {-3, 4}, {1e6, 2}});
  CHECK(m.kl_max_prompt == -3);
  CHECK(m.kl_of_prompt_max == 4);
  CHECK(m.kl_max_prompt_share() == near(4. / 7, 1e-15));
  m += metrics_of_prompts({{5, -8}, {2, 4}, {1, 4}});
  CHECK(m.kl_max_prompt == 2);
  CHECK(m.kl_of_prompt_above_0 == 2.5);  // 1, 4, 2, 0, 4, 4
  CHECK(m.kl_max_prompt_share() == near(4. / 15, 1e-15));
  m += step_metrics{};
  CHECK(m.kl_max_prompt == 2);
}

TEST_CASE("No prompt has a share of a KL that no prompt has") {
  const auto m = metrics_of_prompts({{0, -1}, {1, 0}});
  CHECK(m.kl_max_prompt == 1);
  CHECK(m.kl_of_prompt_max == 0);
  CHECK(std::isnan(m.kl_max_prompt_share()));
  CHECK(std::isnan(metrics_of_prompts({{0, -1}, {1, -2}}).kl_max_prompt_share()));
  CHECK(std::isnan(step_metrics{}.kl_max_prompt_share()));
}

TEST_CASE("Metrics of shards are reduced by a sum, a maximum, and a maximum of the prompts that have it") {
  std::vector<step_metrics> shards{metrics_of({1, 5}, {4, 2}), metrics_of({3, -2}, {8, 6}), metrics_of({}, {}),
                                   metrics_of({}, {})};
  step_metrics all = metrics_of({1, 5, 3, -2}, {4, 2, 8, 6});
  shards[0] += metrics_of_prompts({{9, 1}, {8, 3}});
  shards[1] += metrics_of_prompts({{6, 5}, {4, -1}});   // the largest
  shards[3] += metrics_of_prompts({{2, 5}, {7, 4.5}});  // as large, with a smaller index
  all += metrics_of_prompts({{9, 1}, {8, 3}, {6, 5}, {4, -1}, {2, 5}, {7, 4.5}});
  CHECK(all.kl_max_prompt == 6);
  std::vector<array<double>> known;  // the results of the calls so far
  for (std::size_t calls = 0; calls <= 3; ++calls) {
    array<double> next;
    for (const auto& shard : shards) {
      step_metrics m = shard;
      std::size_t call = 0;
      reduce_metrics(m, [&](Eigen::Ref<array<double>> values, reduce_op op) {
        REQUIRE(op == (call == 0 ? reduce_op::sum : reduce_op::maximum));
        if (call < calls)
          values = known[call];
        else if (call == calls)
          next = next.size() == 0       ? array<double>(values)
                 : op == reduce_op::sum ? array<double>(next + values)
                                        : array<double>(next.max(values));
        ++call;
      });
      CHECK(call == 3);
      if (calls == 3) CHECK(same(fields(m), fields(all)));
    }
    known.push_back(next);
  }
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
