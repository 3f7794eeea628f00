// SPDX-License-Identifier: MIT
#include <infalign/detail/blocks.hpp>

#include "arrays.hpp"

#include <array>
#include <cmath>
#include <limits>

using namespace infalign;

TEMPLATE_TEST_CASE("A sum has each number once", "", float, double) {
  using S = TestType;
  Eigen::Array<S, 64, 1> x;
  for (int j = 0; j < 64; ++j) {
    x.setZero();
    x[j] = S{3};
    CHECK(detail::sum_of<64>(x.data()) == 3);
  }
  for (int j = 0; j < 64; ++j) x[j] = static_cast<S>(j * j);
  CHECK(detail::sum_of<64>(x.data()) == 63 * 64 * 127 / 6);
  CHECK(detail::sum_of<1>(x.data() + 5) == 25);
  x[17] = std::numeric_limits<S>::infinity();
  CHECK(detail::sum_of<64>(x.data()) == std::numeric_limits<S>::infinity());
}

TEMPLATE_TEST_CASE("Differences, products and masks of blocks are those of their numbers", "", float, double) {
  using S = TestType;
  using values = Eigen::Array<S, 64, 1>;
  const values x = values::Random(), y = values::Random();
  values difference, product = x, kept, mask = values::Ones(), with_nan = x;
  detail::subtract<64>(x.data(), y.data(), difference.data());
  detail::multiply<64>(product.data(), y.data());
  mask[3] = mask[60] = 0;
  with_nan[3] = std::numeric_limits<S>::quiet_NaN();
  detail::keep_unmasked<64>(with_nan.data(), mask.data(), kept.data());
  for (int j = 0; j < 64; ++j) {
    CHECK(difference[j] == x[j] - y[j]);
    CHECK(product[j] == x[j] * y[j]);
    CHECK(kept[j] == (j == 3 || j == 60 ? S{0} : x[j]));
  }
}

TEMPLATE_TEST_CASE("Fills and conversions of blocks have the number of each place", "", float, double) {
  using S = TestType;
  using values = Eigen::Array<S, 64, 1>;
  std::array<bool, 64> mask{};
  mask[3] = mask[63] = true;
  values filled, scaled, converted;
  detail::fill<64>(S{-2}, filled.data());
  detail::scale_to<64>(mask.data(), S{-2}, scaled.data());
  detail::convert<64>(mask.data(), converted.data());
  for (int j = 0; j < 64; ++j) {
    const bool on = j == 3 || j == 63;
    CHECK(filled[j] == -2);
    CHECK(scaled[j] == (on ? S{-2} : S{0}));
    CHECK(!(scaled[j] == 0 && std::signbit(scaled[j])));
    CHECK(converted[j] == (on ? S{1} : S{0}));
  }
}
