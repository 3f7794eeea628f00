// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/measure/mean_estimate.hpp>

#include <cmath>
#include <limits>
#include <span>
#include <vector>

using namespace infalign;

// 1, 2, 6: mean 3, s² = (4 + 1 + 9)/2 = 7, standard error √(7/3); the 97.5 % quantile with 2 degrees of freedom is
// 4.30265.
TEST_CASE("The mean over prompts, its error and its interval are those computed by hand") {
  const mean_estimate e = mean_over_prompts(array<double>{{1, 2, 6}});
  CHECK(e.mean == near(3, 1e-15));
  CHECK(e.standard_error == near(std::sqrt(7. / 3), 1e-15));
  CHECK(e.low == near(3 - 4.302652729911275 * std::sqrt(7. / 3), 1e-8));
  CHECK(e.high == near(3 + 4.302652729911275 * std::sqrt(7. / 3), 1e-8));
  CHECK(e.prompts == 3);
  const mean_estimate one = mean_over_prompts(Eigen::RowVectorXf::Constant(1, 5));
  CHECK(one.mean == 5);
  CHECK(std::isnan(one.standard_error));
  CHECK(std::isnan(one.low));
  CHECK(std::isnan(one.high));
  const mean_estimate equal = mean_over_prompts(array<float>::Constant(4, 0.5f));
  CHECK(equal.standard_error == 0);
  CHECK(equal.low == 0.5);
}

TEST_CASE("The mean over prompts of a std::vector or a std::span") {
  const std::vector<float> values{1, 2, 6};
  CHECK(mean_over_prompts(values).mean == near(3, 1e-15));
  CHECK(mean_over_prompts(values).standard_error == near(std::sqrt(7. / 3), 1e-15));
  CHECK(mean_over_prompts(std::span<const float>(values).first(2)).mean == near(1.5, 1e-15));
}

TEST_CASE("Values that are not finite and empty samples are rejected") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(error_of([] { mean_over_prompts(array<double>(0)); }) ==
        "mean_over_prompts: expected at least one prompt, got none");
  CHECK(error_of([&] {
          mean_over_prompts(array<double>{{1, nan}});
        }) == "mean_over_prompts: expected finite values, got NaN at index 1");
}
