// SPDX-License-Identifier: MIT
#include <infalign/step/kl.hpp>

#include "catch.hpp"

#include <limits>

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

/// The k3 term at δ, of a response and of a token.
template <class S>
value_and_slope<S> k3(S delta) {
  return k3_loss::loss(delta, probability_ratio<S>(-delta));
}
template <class S>
value_and_slope<S> k3_token(S delta) {
  return k3_token_loss::loss(delta, probability_ratio<S>(-delta));
}

}  // namespace

TEST_CASE("k2 is half the square of delta, with delta as its slope") {
  CHECK(k2_loss::loss(3.0).value == 4.5);
  CHECK(k2_loss::loss(3.0).slope == 3);
  CHECK(k2_loss::loss(-0.5f).value == 0.125f);
  CHECK(k2_loss::loss(-0.5f).slope == -0.5f);
  CHECK(k2_token_loss::loss(-2.0).value == 2);
  CHECK(k2_token_loss::loss(-2.0).slope == -2);
}

TEST_CASE("k3 is exp(-delta) - 1 + delta, with slope 1 - exp(-delta)") {
  const double log2 = 0.69314718055994530942, eps = std::numeric_limits<double>::epsilon();
  for (auto estimate : {k3<double>, k3_token<double>}) {
    CHECK(estimate(0).value == 0);
    CHECK(estimate(0).slope == 0);
    CHECK(estimate(log2).value == near(0.19314718055994530942, 1e-15));  // ½ − 1 + log 2
    CHECK(estimate(log2).slope == near(0.5, 1e-15));
    CHECK(estimate(-log2).value == near(0.30685281944005469058, 1e-15));  // 2 − 1 − log 2
    CHECK(estimate(-log2).slope == near(-1, 1e-15));
    CHECK(estimate(-10).value == near(22015.465794806716517, 4 * eps * 22026));  // e^10 − 11
    CHECK(estimate(-10).slope == near(-22025.465794806716517, 4 * eps * 22026));
    CHECK(estimate(1000).value == 999);
    CHECK(estimate(1000).slope == 1);
  }
  CHECK(k3(0.69314718f).value == near(0.19314718, 1e-7));
  CHECK(k3(0.69314718f).slope == near(0.5, 1e-7));
}

TEST_CASE("k3 and its slope are as accurate for a small delta as for a large one") {
  double worst = 0, worst_slope = 0, worst_single = 0;
  for (double size = 1e-12; size <= 1; size *= 1.3)
    for (double delta : {size, -size}) {
      const auto [value, slope] = k3(delta);
      const float single = static_cast<float>(delta);
      worst = std::max(worst, relative_error(value, k3_series(delta)));
      worst_slope = std::max(worst_slope, relative_error(slope, -std::expm1(-static_cast<long double>(delta))));
      worst_single = std::max(worst_single, relative_error(k3_token(single).value, k3_series(single)));
    }
  CHECK(worst < 1e-14);
  CHECK(worst_slope < 1e-15);
  CHECK(worst_single < 5e-6);
}

TEST_CASE("Beyond -delta = 20 k3 is extrapolated linearly, with equal value and slope there") {
  const double e20 = std::exp(20.0);
  const auto at = k3(-20.0), beyond = k3(std::nextafter(-20.0, -21.0));
  CHECK(at.value == near(e20 - 21, 1e-15 * e20));
  CHECK(at.slope == near(1 - e20, 1e-15 * e20));
  CHECK(beyond.value == near(at.value, 1e-14 * e20));
  CHECK(beyond.slope == near(at.slope, 1e-15 * e20));

  const auto far = k3(-1000.0);  // e^20·(1 + 980) − 1 − 1000
  CHECK(far.value == near(e20 * 981 - 1001, 1e-15 * e20 * 981));
  CHECK(far.slope == near(1 - e20, 1e-15 * e20));
  CHECK(k3_token(-1000.0f).value == near(e20 * 981 - 1001, 1e-6 * e20 * 981));
  CHECK(k3_token(-1000.0f).slope == near(1 - e20, 1e-6 * e20));
  CHECK(std::isfinite(k3(-1e299).value));
  CHECK(std::isfinite(k3_token(-1e28f).value));
}

TEST_CASE("The slopes are the derivatives of the values") {
  for (double delta : {-25.0, -19.0, -3.0, -0.3, 0.2, 4.0, 30.0}) {
    const double h = 1e-5;
    const auto difference = [&](auto estimate) {
      return (estimate(delta + h).value - estimate(delta - h).value) / (2 * h);
    };
    const auto half_square = k2_loss::loss(delta), forward = k3(delta);
    CHECK(half_square.slope == near(difference(k2_loss::loss<double>), 1e-9 * std::abs(half_square.slope)));
    CHECK(forward.slope == near(difference(k3<double>), 1e-9 * std::abs(forward.slope)));
  }
}

TEST_CASE("Each KL term enters the step at the place that its name says") {
  CHECK(no_kl::place == kl_place::none);
  CHECK(no_kl::beta == 0);
  CHECK(k1_in_reward::place == kl_place::reward);
  CHECK(k1_reward_to_go::place == kl_place::reward_to_go);
  CHECK(k2_loss::place == kl_place::sequence_loss);
  CHECK(k3_loss::place == kl_place::sequence_loss);
  CHECK(k2_token_loss::place == kl_place::token_loss);
  CHECK(k3_token_loss::place == kl_place::token_loss);
}

namespace {
struct own_k2 {
  double beta;
  static constexpr kl_place place = kl_place::token_loss;
  static value_and_slope<double> loss(double delta) { return {delta * delta / 2, delta}; }
};
struct own_k3 {
  double beta;
  static constexpr kl_place place = kl_place::sequence_loss;
  static value_and_slope<double> loss(double delta, const probability_ratio<double>& ratio) {
    return {ratio.value - 1 + delta, 1 - ratio.slope};
  }
};
struct own_without_loss {
  double beta;
  static constexpr kl_place place = kl_place::token_loss;
};
}  // namespace

TEST_CASE("A user's KL loss is a function of delta, or of delta and its ratio") {
  STATIC_REQUIRE(kl_term<own_k2> && kl_term<own_k3> && !kl_term<own_without_loss>);
  const probability_ratio<double> ratio(-0.5);
  CHECK(detail::kl_loss(own_k2{1}, 0.5, ratio).value == 0.125);
  CHECK(detail::kl_loss(own_k3{1}, 0.5, ratio).value == near(std::exp(-0.5) - 0.5, 1e-15));
  CHECK(detail::kl_loss(k3_loss{1}, 0.5, ratio).value == near(std::exp(-0.5) - 0.5, 1e-15));
}
