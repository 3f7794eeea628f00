// SPDX-License-Identifier: MIT
#include <infalign/detail/scored_rewards.hpp>

#include "arrays.hpp"

#include <vector>

using namespace infalign;

TEST_CASE("Moments are those of the rewards that are scored") {
  const std::vector<double> rewards{1, NaN, 3, 8, NaN};
  const auto mean = detail::scored_mean(rewards.data(), 5);
  CHECK(mean == 4.0);
  CHECK(mean.weight == 3);
  CHECK(detail::scored_squares(rewards.data(), 5, mean) == 9 + 1 + 16);
  CHECK(detail::deviation(26, 3) == near(std::sqrt(13.0), 1e-15));
  CHECK(detail::deviation(0, 1) == 0);
  CHECK(detail::deviation(0, 0) == 0);
  CHECK(detail::scored_mean(rewards.data(), 0) == 0.0);
}

TEST_CASE("Training takes no infinite reward, and NaN only if it is propagated") {
  const detail::row_prompts prompts{2, 2};
  const std::vector<float> missing_one{1, 2, missing<float>, 4}, infinite_one{1, 2, 3, -infinity<float>};
  const auto check = [&](unscored on_unscored, const std::vector<float>& rewards) {
    return error_of([&] { detail::check_trainable({"f", on_unscored}, prompts, rewards.data()); });
  };
  CHECK(check(unscored::error, missing_one) == "f: expected rewards that are numbers, got NaN at row 1, column 0");
  CHECK(check(unscored::propagate, missing_one) == "no error");
  CHECK(check(unscored::propagate, infinite_one) == "f: expected finite rewards, got -inf at row 1, column 1");
  CHECK(check(unscored::error, infinite_one) == "f: expected finite rewards, got -inf at row 1, column 1");
}
