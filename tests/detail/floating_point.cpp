// SPDX-License-Identifier: MIT
#include <infalign/detail/floating_point.hpp>

#include "catch.hpp"

#include <bit>
#include <cmath>
#include <limits>

using namespace infalign;

// IEEE 754: sign, exponent, fraction. NaN has all exponent bits set and a fraction that is not 0, infinity one that is.
TEMPLATE_TEST_CASE("NaN, infinities and finite numbers are distinguished for every exponent and sign", "", float,
                   double) {
  using bits = detail::bits_of<TestType>;
  constexpr int fraction_bits = std::numeric_limits<TestType>::digits - 1;
  constexpr bits top = bits{1} << (fraction_bits - 1), all = (bits{1} << fraction_bits) - 1;
  constexpr bits exponents = bits{1} << (std::numeric_limits<bits>::digits - fraction_bits - 1);
  int nans = 0, infinities = 0, wrong = 0;
  for (bits sign : {bits{0}, bits{1}})
    for (bits exponent = 0; exponent < exponents; ++exponent)
      for (bits fraction : {bits{0}, bits{1}, bits{2}, bits{12345}, top - 1, top, top + 1, all - 1, all}) {
        const auto pattern = sign << (std::numeric_limits<bits>::digits - 1) | exponent << fraction_bits | fraction;
        const auto x = std::bit_cast<TestType>(static_cast<bits>(pattern));
        wrong += detail::is_nan(x) != std::isnan(x);
        wrong += detail::is_finite(x) != std::isfinite(x);
        nans += std::isnan(x);
        infinities += std::isinf(x);
      }
  CHECK(wrong == 0);
  CHECK(nans == 2 * 8);
  CHECK(infinities == 2);
  STATIC_REQUIRE(detail::is_nan(detail::nan<TestType>));
  CHECK(std::isnan(detail::nan<TestType>));
  STATIC_REQUIRE(!detail::is_nan(std::numeric_limits<TestType>::infinity()));
  STATIC_REQUIRE(!detail::is_finite(-std::numeric_limits<TestType>::infinity()));
}
