// SPDX-License-Identifier: MIT
#include <infalign/detail/numerics.hpp>

#include "catch.hpp"

#include <algorithm>
#include <array>
#include <cmath>

using namespace infalign::detail;

TEST_CASE("Roots of flat, steep and shifted functions are found") {
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

TEST_CASE("A bracket is the last two points of a walk that ends at a change of sign") {
  const auto cube = [](double x) { return x * x * x - 20; };
  const auto up = bracket(cube, 0, [](double x, double) { return x + 1; });
  CHECK((up.a == 2 && up.b == 3 && up.fa == -12 && up.fb == 7));
  const auto down = bracket(cube, 8, [](double x, double y) { return y > 0 ? x / 2 : x; });
  CHECK((down.a == 4 && down.b == 2));
  CHECK(*find_root(cube, down, 1e-15) == near(std::cbrt(20.0), 1e-14));
  const auto at_root = bracket([](double x) { return x - 3; }, 1, [](double x, double) { return x + 1; });
  CHECK((at_root.b == 3 && at_root.fb == 0));
  // No change of sign: next returns its argument, or 200 steps.
  CHECK_FALSE(find_root(cube, bracket(cube, 0, [](double x, double) { return x < 2 ? x + 1 : x; }), 1e-15));
  CHECK(bracket(cube, 3, [](double x, double) { return x + 1; }).b == 203);
  int calls = 0;
  const auto counted = [&calls](double) { return ++calls, 1.0; };
  CHECK(bracket(counted, 0, [](double x, double) { return x < 2 ? x + 1 : x; }).b == 2);
  CHECK(calls == 3);
  CHECK_FALSE(
      find_root(cube, bracket([](double) { return std::nan(""); }, 0, [](double x, double) { return x + 1; }), 1e-15));
}

TEST_CASE("A bracket's steps are halved where the function is NaN") {
  const auto root_at_5 = [](double x) { return x > 6 ? std::nan("") : x - 5; };
  const auto ends = bracket(root_at_5, 0, [](double x, double) { return x + 4; });
  CHECK((ends.a == 4 && ends.b == 6));
  int calls = 0;
  const auto none = bracket(
      [&](double x) {
        ++calls;
        return x > 3.9 ? std::nan("") : x - 5;
      },
      0, [](double x, double) { return x + 2; });
  CHECK(none.b == near(3.9, 0.01));
  CHECK(calls < 30);
}

TEST_CASE("A minimum is found to its tolerance, also at an end") {
  CHECK(minimum([](double x) { return std::cosh(x - 0.3); }, -1, 2, 1e-6) == near(0.3, 1e-6));
  CHECK(minimum([](double x) { return std::abs(x - 0.7); }, 0, 1, 1e-12) == near(0.7, 1e-12));
  CHECK(minimum([](double x) { return x; }, 2, 3, 1e-9) == near(2, 1e-9));
  int calls = 0;
  minimum([&](double x) { return ++calls, x * x; }, -1, 1, 1e-5);
  CHECK(calls < 30);
}

TEST_CASE("Derivatives are accurate everywhere in [0, 1], and evaluate nothing outside") {
  int calls = 0, points = 0;
  const auto check = [&](const auto& f, const auto& slope, double tolerance) {
    const auto inside = [&](double x) {
      CHECK_FALSE((x < 0 || x > 1));
      ++calls;
      return f(x);
    };
    double worst = 0;
    for (double x = 0; x <= 1; x += 1. / 1024, ++points)
      worst = std::max(worst, std::abs(derivative(inside, x) - slope(x)));
    CHECK(worst < tolerance);
  };
  check([](double x) { return std::sin(x); }, [](double x) { return std::cos(x); }, 1e-11);
  check([](double x) { return 1 - std::exp(-5 * x); }, [](double x) { return 5 * std::exp(-5 * x); }, 1e-11);
  check([](double) { return 1; }, [](double) { return 0; }, 1e-15);
  CHECK(calls < 20 * points);
}

TEST_CASE("The Kronrod rule is exact for polynomials up to degree 22, and the error estimate is zero up to 13") {
  for (int degree = 0; degree <= 22; ++degree) {
    const auto [value, error] = gauss_kronrod([&](double x) { return std::pow(x, degree); }, 0, 1);
    CHECK(value == near(1.0 / (degree + 1), 1e-15));
    if (degree <= 13) CHECK(error < 1e-15);
  }
}

TEST_CASE("An adaptive integral is accurate, and its cells are in order and without gaps") {
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
  // A kink is not mistaken for rounding.
  CHECK(integrate([](double x) { return std::abs(x - 0.3); }, 0, 1, {0, 1e-13}) == near(0.29, 1e-13));
}

TEST_CASE("The error of an initial-value problem follows the tolerance, and a failure is reported") {
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

TEST_CASE("The state of an initial-value problem may be a struct of doubles") {
  struct motion {
    double place, speed;
  };
  motion end{};
  CHECK(solve_ode(
      [](double, const motion& y) {
        return motion{y.speed, -y.place};
      },
      0, 1, motion{1, 0}, 1e-3,
      [](const motion&) {
        return motion{1e-12, 1e-12};
      },
      [&](double, const motion& y, const motion&) { end = y; }));
  CHECK(end.place == near(std::cos(1.0), 1e-10));
  CHECK(end.speed == near(-std::sin(1.0), 1e-10));
}

// One step of the method: exact for y' = x^4, and for y' = y the polynomial 1 + h + ... + h^5/5! + h^6/600 of its published
// coefficients. The estimate of its error is 0 for y' = x^3.
TEST_CASE("One step of an initial-value problem has the method's order") {
  using one = std::array<double, 1>;
  const auto step = [](const auto& f, double y, double h, double allowed) {
    double last = 0;
    int steps = -1;
    CHECK(solve_ode(
        f, 0, h, one{y}, h, [allowed](const one&) { return one{allowed}; },
        [&](double, const one& at, const one&) { last = at[0], ++steps; }));
    CHECK(steps == 1);
    return last;
  };
  CHECK(step([](double x, const one&) { return one{5 * x * x * x * x}; }, 0, 1, 1e9) == near(1, 1e-14));
  CHECK(step([](double x, const one&) { return one{4 * x * x * x}; }, 0, 1, 1e-13) == near(1, 1e-14));
  const double h = 0.5;
  double power = 0, term = 1;
  for (int k = 1; k < 7; term *= h / k++) power += term;
  CHECK(step([](double, const one& y) { return y; }, 1, h, 1e9) == near(power + std::pow(h, 6) / 600, 1e-14));
}
