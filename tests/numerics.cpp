// SPDX-License-Identifier: MIT
#include <infalign/numerics.hpp>

#include "catch.hpp"

#include <array>
#include <cmath>

using namespace infalign::detail;

TEST_CASE("Roots of flat, steep and shifted functions") {
  CHECK(*find_root([](double x) { return std::pow(x - 0.3, 9); }, -1, 2, 1e-15) == near(0.3, 1e-3));
  CHECK(*find_root([](double x) { return std::exp(50 * x) - 7; }, -3, 3, 1e-15) == near(std::log(7.0) / 50, 1e-15));
  CHECK(*find_root([](double x) { return std::cos(x); }, 3, 0, 1e-15) == near(std::acos(0.0), 1e-15));
  CHECK(*find_root([](double x) { return x; }, 0, 5, 1e-15) == 0);
  CHECK(*find_root([](double x) { return x - 5; }, 0, 5, 1e-15) == 5);
  CHECK_FALSE(find_root([](double x) { return x * x + 1; }, -1, 1, 1e-15));
  int calls = 0;
  find_root(
      [&](double x) {
        ++calls;
        return std::exp(x) - 2;
      },
      0, 10, 1e-15);
  CHECK(calls < 20);
}

TEST_CASE("The Kronrod rule is exact for polynomials up to degree 22, and the error estimate is zero up to 13") {
  for (int degree = 0; degree <= 22; ++degree) {
    const auto [value, error] = gauss_kronrod([&](double x) { return std::pow(x, degree); }, 0, 1);
    CHECK(value == near(1.0 / (degree + 1), 1e-15));
    if (degree <= 13) CHECK(error < 1e-15);
  }
}

TEST_CASE("An adaptive integral, its cells in order and without gaps") {
  CHECK(integrate([](double x) { return std::sqrt(x); }, 0, 1, {1e-14, 0}) == near(2.0 / 3, 1e-13));
  CHECK(integrate([](double x) { return 1 / (1e-6 + x * x); }, 0, 1, {0, 1e-12}) == near(1e3 * std::atan(1e3), 1e-8));
  double end = 0, sum = 0;
  integrate_cells([](double x) { return std::exp(-100 * x); }, 0, 1, {1e-15, 1e-13},
                  [&](double a, double b, double value) {
                    CHECK(a == end);
                    end = b;
                    sum += value;
                  });
  CHECK(end == 1);
  CHECK(sum == near(-std::expm1(-100.0) / 100, 1e-15));
}

TEST_CASE("An adaptive integral stops where only rounding is left, and at NaN") {
  int calls = 0;
  const auto rounded = [&](double x) {  // 1 + x, but for 1e-9 of it that no halving takes away
    ++calls;
    return (1 + x) * (1 + 1e-9 * std::sin(1e15 * x));
  };
  CHECK(integrate(rounded, 0, 1, {0, 1e-14}) == near(1.5, 1e-8));
  CHECK(calls < 10000);
  CHECK(std::isnan(integrate([](double x) { return x < 0.5 ? 1 : std::nan(""); }, 0, 1, {0, 1e-14})));
  // A kink is no rounding.
  CHECK(integrate([](double x) { return std::abs(x - 0.3); }, 0, 1, {0, 1e-13}) == near(0.29, 1e-13));
}

TEST_CASE("Initial-value problems: accuracy follows the tolerance, and failure is said") {
  for (double tolerance : {1e-6, 1e-9, 1e-12}) {
    std::array<double, 2> end{};
    const bool solved = solve_ode(
        [](double, const std::array<double, 2>& y) {
          return std::array{y[1], -y[0]};
        },
        0, 10, std::array{1.0, 0.0}, 1e-3,
        [&](const std::array<double, 2>&) {
          return std::array{tolerance, tolerance};
        },
        [&](double, const std::array<double, 2>& y, const std::array<double, 2>&) { end = y; });
    CHECK(solved);
    CHECK(end[0] == near(std::cos(10.0), 100 * tolerance));
    CHECK(end[1] == near(-std::sin(10.0), 100 * tolerance));
  }
  const bool solved = solve_ode([](double x, const std::array<double, 1>&) { return std::array{1 / (x - 0.5)}; }, 0, 1,
                                std::array{0.0}, 1e-3, [](const std::array<double, 1>&) { return std::array{1e-10}; },
                                [](double, const std::array<double, 1>&, const std::array<double, 1>&) {}, 500);
  CHECK_FALSE(solved);
}
