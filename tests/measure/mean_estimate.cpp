// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/measure/mean_estimate.hpp>

#include <cmath>
#include <limits>
#include <random>

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

TEST_CASE("KL is the mean log-ratio of the responses") {
  const matrix<double> now{{-1, -2}, {-3, -5}}, reference{{-1.5, -2.5}, {-4, -4}};
  const mean_estimate kl = kl_divergence(now, reference);
  CHECK(kl.mean == near(0.25, 1e-15));  // ½ and 0
  CHECK(kl.standard_error == near(0.25, 1e-15));
  CHECK(kl_divergence(now.cast<float>(), reference.cast<float>()).mean == near(0.25, 1e-7));
}

// A policy over 3 responses: the mean over every sample of M = 2 is the KL itself.
TEST_CASE("The estimate of KL is unbiased") {
  const double p[] = {0.2, 0.3, 0.5}, q[] = {0.6, 0.3, 0.1};
  double kl = 0, mean = 0;
  for (int i = 0; i < 3; ++i) kl += p[i] * std::log(p[i] / q[i]);
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j)
      mean += p[i] * p[j] *
              kl_divergence(matrix<double>{{std::log(p[i]), std::log(p[j])}},
                            matrix<double>{{std::log(q[i]), std::log(q[j])}})
                  .mean;
  CHECK(mean == near(kl, 1e-15));
}

TEST_CASE("Values that are not finite, empty samples and shapes that differ are rejected") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const matrix<double> two{{-1, -2}}, wide{{-1, -2, -3}}, tall{{-1, -2}, {-1, -2}}, bad{{-1, -INFINITY}};
  CHECK(error_of([] { mean_over_prompts(array<double>(0)); }) ==
        "mean_over_prompts: expected at least one prompt, got none");
  CHECK(error_of([&] {
          mean_over_prompts(array<double>{{1, nan}});
        }) == "mean_over_prompts: expected finite values, got NaN at index 1");
  CHECK(error_of([&] { kl_divergence(two, wide); }) ==
        "kl_divergence: expected 2 columns of reference_log_probabilities, got 3");
  CHECK(error_of([&] { kl_divergence(two, tall); }) ==
        "kl_divergence: expected 1 rows of reference_log_probabilities, got 2");
  CHECK(error_of([&] { kl_divergence(two, bad); }) ==
        "kl_divergence: expected finite log-probabilities, got -inf at row 0, column 1");
  CHECK(error_of([] { kl_divergence(matrix<double>(3, 0), matrix<double>(3, 0)); }) ==
        "kl_divergence: expected at least one response to each prompt, got none");
}
