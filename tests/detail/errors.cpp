// SPDX-License-Identifier: MIT
#include <infalign/detail/errors.hpp>

#include "arrays.hpp"

#include <cmath>
#include <limits>
#include <string>

using namespace infalign;
using Eigen::Index;

namespace {

/// A part with a limit that depends on the scalar type.
struct for_type {
  double limit;
  void check(float) const { detail::check_positive("for_type", "a float limit", limit); }
  void check(double) const { detail::check_positive("for_type", "a double limit", limit); }
};
struct for_any {
  double limit;
  void check() const { detail::check_positive("for_any", "a limit", limit); }
};
struct unchecked {};

}  // namespace

TEST_CASE("Messages concatenate strings and numbers") {
  CHECK(detail::concat("a", std::string("b"), 3, Index{-4}, std::size_t{5}) == "ab3-45");
  CHECK(detail::concat(0.5, " ", 0.25f, " ", -0.0) == "0.5 0.25 -0");
  CHECK(detail::concat(infinity<double>, " ", -infinity<double>, " ", std::nan("")) == "inf -inf NaN");
  CHECK(detail::concat(-std::numeric_limits<float>::quiet_NaN()) == "NaN");
  CHECK(detail::concat(1e-300, " ", -1.5e300) == "1e-300 -1.5e+300");
  CHECK(detail::concat(std::numeric_limits<Index>::min()) == "-9223372036854775808");
}

TEST_CASE("A position in an error is an index, or a row and a column") {
  CHECK(detail::position(5) == " at index 5");
  CHECK(detail::position(1, 2) == " at row 1, column 2");
}

TEST_CASE("An error names the function, what it expected and what it got") {
  CHECK(error_of([] { detail::fail("f", "X", "Y"); }) == "f: expected X, got Y");
  CHECK(error_of([] { detail::check_size("f", "rewards", 3, 4); }) == "f: expected 3 rewards, got 4");
  CHECK(error_of([] { detail::check_size("f", "rewards", 3, 3); }) == "no error");
  for (const auto& [x, shown] :
       {std::pair{0.0, "0"}, {-0.0, "-0"}, {-2.0, "-2"}, {std::nan(""), "NaN"}, {INFINITY, "inf"}})
    CHECK(error_of([x = x] { detail::check_positive("f", "beta", x); }) ==
          "f: expected beta finite and above 0, got " + std::string(shown));
  CHECK(error_of([] { detail::check_positive("f", "beta", std::numeric_limits<double>::denorm_min()); }) == "no error");
}

TEST_CASE("A part is checked by its own check, for the scalar type if it asks for one") {
  CHECK(error_of([] { detail::check_part(for_type{0}); }) ==
        "for_type: expected a double limit finite and above 0, got 0");
  CHECK(error_of([] { detail::check_part<float>(for_type{0}); }) ==
        "for_type: expected a float limit finite and above 0, got 0");
  CHECK(error_of([] { detail::check_part<float>(for_any{-1}); }) ==
        "for_any: expected a limit finite and above 0, got -1");
  CHECK(error_of([] { detail::check_part(for_type{1}), detail::check_part(for_any{1}); }) == "no error");
  CHECK(error_of([] { detail::check_part(unchecked{}); }) == "no error");
  CHECK(detail::checked(for_any{3}).limit == 3);
  CHECK(error_of([] { detail::checked(for_any{0}); }) == "for_any: expected a limit finite and above 0, got 0");
}
