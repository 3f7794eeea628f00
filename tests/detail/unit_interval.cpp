// SPDX-License-Identifier: MIT
#include <infalign/detail/unit_interval.hpp>

#include "catch.hpp"

#include <cmath>
#include <limits>

using namespace infalign;
using namespace infalign::detail;

TEMPLATE_TEST_CASE("The bits of a number say whether it is in [0, 1]", "", float, double) {
  using S = TestType;
  const auto out = [](S u) { return highest_bit<S>(out_of_unit_interval(u)); };
  const S largest = std::numeric_limits<S>::max(), inf = std::numeric_limits<S>::infinity();
  for (S u : {S{0}, std::numeric_limits<S>::denorm_min(), S{0.5}, std::nextafter(S{1}, S{0}), S{1}}) CHECK(!out(u));
  for (S u : {std::nextafter(S{1}, S{2}), S{2}, largest, inf, -std::numeric_limits<S>::denorm_min(), S{-1}, -largest,
              -inf, detail::nan<S>, -detail::nan<S>})
    CHECK(out(u));
}

TEMPLATE_TEST_CASE("The bits of a number say whether it is finite", "", float, double) {
  using S = TestType;
  const auto infinite = [](S y) { return highest_bit<S>(not_finite(y)); };
  const S largest = std::numeric_limits<S>::max(), inf = std::numeric_limits<S>::infinity();
  for (S y : {S{0}, S{-0.0}, std::numeric_limits<S>::denorm_min(), S{-1}, largest, -largest}) CHECK(!infinite(y));
  for (S y : {inf, -inf, detail::nan<S>, -detail::nan<S>}) CHECK(infinite(y));
}

namespace {

/// 1/u, which is infinite at 0.
struct reciprocal {
  template <real_scalar S>
  S operator()(S u) const {
    return 1 / u;
  }
};
struct always_finite : reciprocal {
  static constexpr bool finite = true;
};
struct unfit : reciprocal {
  bool fits = false;
};

}  // namespace

TEMPLATE_TEST_CASE("A function is applied to many numbers unless one is outside [0, 1] or a value is infinite", "",
                   float, double) {
  using S = TestType;
  for (int i = 0; i < 16; ++i) {
    S u[16], result[16];
    for (S& x : u) x = S(0.5);
    CHECK(apply_on_unit_interval<16>(reciprocal{}, u, result));
    CHECK(result[i] == 2);
    for (S wrong : {S(1.5), S(-0.5), detail::nan<S>, std::numeric_limits<S>::infinity()}) {
      u[i] = wrong;
      CHECK(!apply_on_unit_interval<16>(reciprocal{}, u, result));
      CHECK(!apply_on_unit_interval<16>(always_finite{}, u, result));
    }
    u[i] = 0;
    CHECK(!apply_on_unit_interval<16>(reciprocal{}, u, result));
    CHECK(apply_on_unit_interval<16>(always_finite{}, u, result));  // values are not checked
  }
}

TEMPLATE_TEST_CASE("A prepared function covers numbers in [0, 1] if it fits", "", float, double) {
  using S = TestType;
  CHECK(covers(reciprocal{}, S(0.5)));
  CHECK(!covers(reciprocal{}, S(1.5)));
  CHECK(!covers(unfit{}, S(0.5)));
}
