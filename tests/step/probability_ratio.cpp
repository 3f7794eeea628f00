// SPDX-License-Identifier: MIT
#include <infalign/step/probability_ratio.hpp>

#include "arrays.hpp"

#include <cmath>

using namespace infalign;

TEST_CASE("The ratio is the exponential up to 20, and extrapolated linearly beyond") {
  const double eps = epsilon<double>;
  CHECK(probability_ratio<double>(0.0).value == 1);
  CHECK(probability_ratio<double>(0.0).slope == 1);
  CHECK(probability_ratio<double>(-1000.0).value == 0);
  CHECK(probability_ratio<double>(20.0).value == near(std::exp(20.0), (20 + 2) * eps * std::exp(20.0)));
  CHECK(probability_ratio<double>(21.0).value == near(2 * std::exp(20.0), 1e-6));
  CHECK(probability_ratio<double>(21.0).slope == near(std::exp(20.0), (20 + 2) * eps * std::exp(20.0)));
  CHECK(probability_ratio<double>(std::nextafter(20.0, 21.0)).value == near(std::exp(20.0), 1e-5));
  CHECK(std::isfinite(probability_ratio<float>(1e38f * 1e-10f).value));
}

// e^x − 1 and e^x − 1 − x = x²/2 + x³/6 + …, by its series for |x| < 1, against the C library's long double.
TEMPLATE_TEST_CASE("Each member is accurate to a few (|x| + 2)·ε of itself, for small x too", "", float, double) {
  using S = TestType;
  const long double eps = epsilon<S>;
  long double of_value = 0, of_slope = 0, of_minus_one = 0, of_minus_line = 0;
  for (int sign : {-1, 1})
    for (double size = 1e-9; size < 20; size *= 1.01) {
      const S x = static_cast<S>(sign * size);
      const probability_ratio<S> ratio(x);
      // The exponent x/log 2 and its constant are rounded: errors of |x|·ε/2 each.
      const long double y = static_cast<long double>(x), allowed = std::abs(y) + 2;
      long double line = std::expm1(y) - y;
      if (std::abs(y) < 1) {
        line = 0;
        long double term = y * y / 2;
        for (int k = 3; k < 40; ++k) line += term, term *= y / k;
      }
      const auto error = [&](S got, long double exact) {
        return std::abs(static_cast<long double>(got) / exact - 1) / allowed;
      };
      of_value = std::max(of_value, error(ratio.value, std::exp(y)));
      of_slope = std::max(of_slope, error(ratio.slope, std::exp(y)));
      of_minus_one = std::max(of_minus_one, error(ratio.slope_minus_one, std::expm1(y)));
      of_minus_line = std::max(of_minus_line, error(ratio.value_minus_line, line));
    }
  CAPTURE(of_value / eps, of_minus_one / eps, of_minus_line / eps);
  CHECK(of_value < eps);
  CHECK(of_slope < eps);
  CHECK(of_minus_one < 2 * eps);
  CHECK(of_minus_line < 10 * eps);
}

TEMPLATE_TEST_CASE("Many ratios at a time have the bits of one", "", float, double) {
  using S = TestType;
  using values = Eigen::Array<S, 64, 1>;
  const values x = 30 * values::Random();
  values z, clamped;
  for (int j = 0; j < 64; ++j) z[j] = detail::exponent_of(x[j]);
  for (int j = 0; j < 64; ++j) clamped[j] = detail::clamped_exponent(z[j]);
  for (int j = 0; j < 64; ++j) {
    const probability_ratio<S> one(x[j]), of_many(x[j], z[j], clamped[j]);
    CHECK(one.value == of_many.value);
    CHECK(one.slope == of_many.slope);
    CHECK(one.slope_minus_one == of_many.slope_minus_one);
    CHECK(one.value_minus_line == of_many.value_minus_line);
  }
}
