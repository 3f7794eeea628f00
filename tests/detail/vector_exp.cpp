// SPDX-License-Identifier: MIT
#include <infalign/detail/vector_exp.hpp>

#include "catch.hpp"

#include <cmath>
#include <limits>

using namespace infalign;
using namespace infalign::detail;

namespace {
const long double ln2 = std::log(2.0L);
}

// 2^z, 2^z − 1 and 2^z − 1 − z·log 2, against the C library's long double.
TEMPLATE_TEST_CASE("Powers of two are accurate, also with 1 subtracted if the exponent is small", "", float, double) {
  using S = TestType;
  const long double eps = std::numeric_limits<S>::epsilon();
  long double of_value = 0, of_minus_one = 0, of_minus_line = 0;
  for (int sign : {-1, 1})
    for (double x = 1e-9; x < 30; x *= 1.003) {
      const S z = static_cast<S>(sign * x);
      const power_of_two<S> p(z);
      const long double y = ln2 * static_cast<long double>(z), value = std::exp(y), minus_one = std::expm1(y);
      // y²/2 + y³/6 + …, by its series if e^y − 1 − y cancels
      long double line = minus_one - y;
      if (std::abs(y) < 1) {
        line = 0;
        long double term = y * y / 2;
        for (int k = 3; k < 40; ++k) line += term, term *= y / k;
      }
      of_value = std::max(of_value, std::abs(static_cast<long double>(p.value()) / value - 1));
      of_minus_one = std::max(of_minus_one, std::abs(static_cast<long double>(p.minus_one()) / minus_one - 1));
      of_minus_line = std::max(of_minus_line, std::abs(static_cast<long double>(p.minus_line(z)) / line - 1));
    }
  CHECK(of_value < 2 * eps);
  CHECK(of_minus_one < 3 * eps);
  CHECK(of_minus_line < 20 * eps);
}

// At powers of two u, t·u is exact, so that what is left is the error of t/log 2 and of the power.
TEMPLATE_TEST_CASE("An exponential of t times u is as accurate for large t as for small", "", float, double) {
  using S = TestType;
  const double most = sizeof(S) == 4 ? 80 : 700, of_rate = sizeof(S) == 4 ? 0.5 : 0;  // float keeps no rest of the rate
  for (const double t : {1e-9, 0.1, 1., 3.7, 19.3, 80., 117., 333.3, 699.9})
    for (const double sign : {-1., 1.})
      for (const double u : {1., 0.5, 0.25, 0.0625}) {
        if (t > most) continue;
        const exp_rate<S> rate(sign * t);
        CAPTURE(t, sign, u);
        CHECK(rate.fits);
        const long double truth = std::exp(static_cast<long double>(sign * t * u));
        const long double bound = (2 + of_rate * t) * static_cast<long double>(std::numeric_limits<S>::epsilon());
        CHECK(std::abs(static_cast<long double>(rate.power(static_cast<S>(u)).value()) / truth - 1) <= bound);
      }
  CHECK(exp_rate<S>(most).fits);
  CHECK(exp_rate<S>(-most).fits);
  CHECK_FALSE(exp_rate<S>(1.01 * most).fits);
  CHECK_FALSE(exp_rate<S>(-1.01 * most).fits);
}

TEMPLATE_TEST_CASE("Integer powers of two are exact, and 0 below the normal numbers", "", float, double) {
  using S = TestType;
  constexpr int bias = exponent_bias<S>;
  for (int n = -bias + 1; n <= bias; ++n) CHECK(power_of_two<S>(static_cast<S>(n)).value() == std::ldexp(S{1}, n));
  CHECK(power_of_two<S>(static_cast<S>(-bias)).value() == 0);
  CHECK(power_of_two<S>(S{0}).minus_one() == 0);
  CHECK(power_of_two<S>(S{0}).minus_line(S{0}) == 0);
}
