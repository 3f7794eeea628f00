// SPDX-License-Identifier: MIT
#include <infalign/kl.hpp>

#include "catch.hpp"

using namespace infalign;

namespace {

/// e^{−δ} − 1 + δ = Σ over n ≥ 2 of (−δ)ⁿ/n!, for |δ| ≤ 1.
long double k3_series(long double delta) {
  long double term = -delta, sum = 0;
  for (int n = 2; n < 40; ++n) sum += term *= -delta / static_cast<long double>(n);
  return sum;
}

double relative_error(double x, long double exact) {
  return static_cast<double>(std::abs((static_cast<long double>(x) - exact) / exact));
}

}  // namespace

TEST_CASE("k2 is half the square of delta, with delta as its slope") {
  CHECK(k2_loss::estimate(3.0).value == 4.5);
  CHECK(k2_loss::estimate(3.0).slope == 3);
  CHECK(k2_loss::estimate(-0.5f).value == 0.125f);
  CHECK(k2_loss::estimate(-0.5f).slope == -0.5f);
  CHECK(k2_token_loss::estimate(-2.0).value == 2);
  CHECK(k2_token_loss::estimate(-2.0).slope == -2);
}

TEST_CASE("k3 is exp(-delta) - 1 + delta, with slope 1 - exp(-delta)") {
  const double log2 = 0.69314718055994530942;
  for (auto estimate : {k3_loss::estimate<double>, k3_token_loss::estimate<double>}) {
    CHECK(estimate(0).value == 0);
    CHECK(estimate(0).slope == 0);
    CHECK(estimate(log2).value == near(0.19314718055994530942, 1e-15));  // ½ − 1 + log 2
    CHECK(estimate(log2).slope == near(0.5, 1e-15));
    CHECK(estimate(-log2).value == near(0.30685281944005469058, 1e-15));  // 2 − 1 − log 2
    CHECK(estimate(-log2).slope == near(-1, 1e-15));
    CHECK(estimate(-10).value == near(22015.465794806716517, 1e-11));  // e^10 − 11
    CHECK(estimate(-10).slope == near(-22025.465794806716517, 1e-11));
    CHECK(estimate(1000).value == 999);
    CHECK(estimate(1000).slope == 1);
  }
  CHECK(k3_loss::estimate(0.69314718f).value == near(0.19314718, 1e-7));
  CHECK(k3_loss::estimate(0.69314718f).slope == near(0.5, 1e-7));
}

TEST_CASE("k3 and its slope are as exact for a small delta as for a large one") {
  double worst = 0, worst_slope = 0, worst_single = 0;
  for (double size = 1e-12; size <= 1; size *= 1.3)
    for (double delta : {size, -size}) {
      const auto [value, slope] = k3_loss::estimate(delta);
      const float single = static_cast<float>(delta);
      worst = std::max(worst, relative_error(value, k3_series(delta)));
      worst_slope = std::max(worst_slope, relative_error(slope, -std::expm1(-static_cast<long double>(delta))));
      worst_single = std::max(worst_single, relative_error(k3_token_loss::estimate(single).value, k3_series(single)));
    }
  CHECK(worst < 1e-14);
  CHECK(worst_slope < 1e-15);
  CHECK(worst_single < 5e-6);
}

TEST_CASE("Beyond -delta = 20 k3 goes on as a straight line, with the same value and slope there") {
  const double e20 = std::exp(20.0);
  const auto at = k3_loss::estimate(-20.0), beyond = k3_loss::estimate(std::nextafter(-20.0, -21.0));
  CHECK(at.value == near(e20 - 21, 1e-15 * e20));
  CHECK(at.slope == near(1 - e20, 1e-15 * e20));
  CHECK(beyond.value == near(at.value, 1e-14 * e20));
  CHECK(beyond.slope == near(at.slope, 1e-15 * e20));

  const auto far = k3_loss::estimate(-1000.0);  // e^20·(1 + 980) − 1 − 1000
  CHECK(far.value == near(e20 * 981 - 1001, 1e-15 * e20 * 981));
  CHECK(far.slope == near(1 - e20, 1e-15 * e20));
  CHECK(k3_token_loss::estimate(-1000.0f).value == near(e20 * 981 - 1001, 1e-6 * e20 * 981));
  CHECK(k3_token_loss::estimate(-1000.0f).slope == near(1 - e20, 1e-6 * e20));
  CHECK(std::isfinite(k3_loss::estimate(-1e299).value));
  CHECK(std::isfinite(k3_token_loss::estimate(-1e28f).value));
}

TEST_CASE("The slopes are the derivatives of the values") {
  for (double delta : {-25.0, -19.0, -3.0, -0.3, 0.2, 4.0, 30.0}) {
    const double h = 1e-5;
    const auto difference = [&](auto estimate) {
      return (estimate(delta + h).value - estimate(delta - h).value) / (2 * h);
    };
    const auto k2 = k2_loss::estimate(delta), k3 = k3_loss::estimate(delta);
    CHECK(k2.slope == near(difference(k2_loss::estimate<double>), 1e-9 * std::abs(k2.slope)));
    CHECK(k3.slope == near(difference(k3_loss::estimate<double>), 1e-9 * std::abs(k3.slope)));
  }
}

TEST_CASE("The exponential of a ratio is exact up to 20 and a straight line beyond") {
  CHECK(detail::capped_exp(0.0).value == 1);
  CHECK(detail::capped_exp(0.0).slope == 1);
  CHECK(detail::capped_exp(-1000.0).value == 0);
  CHECK(detail::capped_exp(20.0).value == std::exp(20.0));
  CHECK(detail::capped_exp(21.0).value == near(2 * std::exp(20.0), 1e-6));
  CHECK(detail::capped_exp(21.0).slope == std::exp(20.0));
  CHECK(detail::capped_exp(std::nextafter(20.0, 21.0)).value == near(std::exp(20.0), 1e-5));
  CHECK(std::isfinite(detail::capped_exp(1e38f * 1e-10f).value));
}

TEST_CASE("Each KL term enters where its name says") {
  CHECK(no_kl::place == kl_place::none);
  CHECK(no_kl::beta == 0);
  CHECK(k1_in_reward::place == kl_place::reward);
  CHECK(k1_reward_to_go::place == kl_place::reward_to_go);
  CHECK(k2_loss::place == kl_place::sequence_loss);
  CHECK(k3_loss::place == kl_place::sequence_loss);
  CHECK(k2_token_loss::place == kl_place::token_loss);
  CHECK(k3_token_loss::place == kl_place::token_loss);
}
