// SPDX-License-Identifier: MIT
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Numbers from 0 to 1: both ends, an even grid, and ever closer to 0 and to 1.
template <class S>
std::vector<S> grid() {
  std::vector<S> result{0, 1, S(1e-30), S(0.1), S(0.3), S(0.9)};
  for (int i = 1; i < 64; ++i) result.push_back(static_cast<S>(i) / 64);
  for (int i = 7; i < std::numeric_limits<S>::digits; ++i) {
    result.push_back(std::ldexp(S{1}, -i));
    result.push_back(1 - std::ldexp(S{1}, -i));
  }
  std::sort(result.begin(), result.end());
  return result;
}

/// The largest relative error of phi on the grid, in ε, if the true value is neither subnormal nor 0.
template <class S, class F, class Oracle>
double error_in_epsilons(const F& phi, Oracle oracle) {
  long double worst = 0;
  for (const S u : grid<S>()) {
    const long double truth = oracle(static_cast<long double>(u));
    if (std::abs(truth) >= std::numeric_limits<S>::min())
      worst = std::max(worst, std::abs(static_cast<long double>(phi(u)) / truth - 1));
  }
  return static_cast<double>(worst / epsilon<S>);
}

/// The error of Φ as a transform of an array of one number.
template <class S, class F>
std::string transform_error(const F& phi, S u = S(0.5)) {
  return error_of([&] { transform(array<S>{{u}}, phi); });
}

}  // namespace

TEMPLATE_TEST_CASE("Each transform has the values of its formula", "", float, double) {
  using S = TestType;
  const double rounding = 4 * epsilon<S>;
  CHECK(identity{}(S(0.3)) == S(0.3));
  CHECK(logarithm{}(S(1)) == 0);
  CHECK(logarithm{}(S(0.5)) == near(-0.69314718055994531, rounding));
  CHECK(exponential{.t = 2}(S(0.5)) == near(2.7182818284590452, rounding));
  CHECK(exponential{.t = -2}(S(0.5)) == near(-0.36787944117144232, rounding));
  CHECK(exponential{.t = 10}(S(0)) == 1);
  CHECK(exponential{.t = -10}(S(0)) == -1);
  CHECK(exponential{.t = 10}(S(1)) / 22026.465794806717 == near(1, 12 * rounding));
  CHECK(normalized_exponential{.t = 2}(S(0.5)) == near(0.26894142136999512, rounding));   // 1/(1 + e)
  CHECK(normalized_exponential{.t = -2}(S(0.5)) == near(0.73105857863000488, rounding));  // 1/(1 + 1/e)
  CHECK(normalized_exponential{.t = 0}(S(0.3)) == S(0.3));
  CHECK(power{.exponent = 3}(S(0.5)) == 0.125);
  CHECK(power{.exponent = 0.5}(S(0.25)) == 0.5);
  CHECK(power{.exponent = 7}(S(0)) == 0);
  CHECK(power{.exponent = 7}(S(1)) == 1);
}

TEMPLATE_TEST_CASE("The exponential is accurate to (|t| + 2)·ε", "", float, double) {
  using S = TestType;
  for (double size : {1e-300, 1e-8, 1e-4, 0.1, 1., 5., 10., 50., 80., 88.6, 700., 709.6})
    for (double t : {size, -size}) {
      if (std::same_as<S, float> && t > 88.7) continue;
      CAPTURE(t);
      CHECK(error_in_epsilons<S>(exponential{t}, [t](long double u) { return (t > 0 ? 1 : -1) * std::exp(t * u); }) <=
            std::abs(t) + 2);
    }
}

TEMPLATE_TEST_CASE("The normalised exponential is accurate to (2|t| + 8)·ε, and stays in [0, 1]", "", float, double) {
  using S = TestType;
  for (double size : {1e-300, 1e-12, 1e-8, 1.4e-8, 1.6e-8, 1e-7, 1e-6, 1e-5, 1e-4, 3.4e-4,
                      3.6e-4, 1e-3,  1e-2, 0.1,    1.,     5.,   10.,  50.,  80.,  700.})
    for (double t : {size, -size}) {
      CAPTURE(t);
      const normalized_exponential phi{t};
      CHECK(error_in_epsilons<S>(phi, [t](long double u) {
              return std::abs(t) < 1e-200 ? u : std::expm1(t * u) / std::expm1(static_cast<long double>(t));
            }) <= 2 * size + 8);
      CHECK(phi(S{0}) == 0);
      CHECK(phi(S{1}) == 1);
      int wrong = 0;
      S before = 0;
      for (const S u : grid<S>()) {
        const S y = phi(u);
        wrong += !(y >= before && y <= 1);
        before = y;
      }
      CHECK(wrong == 0);
    }
}

TEMPLATE_TEST_CASE("The normalised exponential has its limits at small and huge t", "", float, double) {
  using S = TestType;
  const double most = std::numeric_limits<double>::max(), tiny = std::numeric_limits<double>::denorm_min();
  for (double t : {0., tiny, -tiny, 1e-300, -1e-300})
    for (const S u : grid<S>()) CHECK(normalized_exponential{t}(u) == u);
  for (double t : {1e6, 1e30, 1e38, 1e39, 1e300, most}) {  // a step at 1, and at 0
    CAPTURE(t);
    CHECK(normalized_exponential{t}(S{0}) == 0);
    CHECK(normalized_exponential{t}(S(0.999)) == 0);
    CHECK(normalized_exponential{t}(S{1}) == 1);
    CHECK(normalized_exponential{-t}(S{0}) == 0);
    CHECK(normalized_exponential{-t}(S(0.001)) == 1);
    CHECK(normalized_exponential{-t}(S{1}) == 1);
  }
}

TEMPLATE_TEST_CASE("The exponential has its limit at a huge negative t", "", float, double) {
  using S = TestType;
  const array<S> u{{0, S(0.001), 1}}, expected{{-1, 0, 0}};
  for (double t : {-1e6, -1e38, -1e39, -1e300, -std::numeric_limits<double>::max()})
    CHECK(same(transform(u, exponential{t}), expected));
}

// normalised = (e^{tu} − 1)/(e^t − 1); exponential = ±e^{tu} with the sign of t.
TEMPLATE_TEST_CASE("The normalised exponential is the exponential, shifted and scaled", "", float, double) {
  using S = TestType;
  for (double t : {-10., -1., 1., 5., 10.})
    for (const S u : grid<S>()) {
      const double sign = t > 0 ? 1 : -1, scale = std::abs(std::exp(t) - 1);
      CHECK(exponential{t}(u) == near(sign + scale * static_cast<double>(normalized_exponential{t}(u)),
                                      40 * epsilon<S> * std::max(1., std::exp(t))));
    }
}

// Φ(u) = log(1 + (e^{λ/n} − 1)·u)
TEMPLATE_TEST_CASE("The soft logarithm is accurate to 3ε", "", float, double) {
  using S = TestType;
  for (const double x : {1e-6, 0.01, 0.5, 2.5, 20., 79.}) {
    CAPTURE(x);
    const soft_logarithm phi{4, 4 * x};
    CHECK(error_in_epsilons<S>(
              phi, [x](long double u) { return std::log1p(std::expm1(static_cast<long double>(x)) * u); }) <= 3);
    CHECK(phi(S{0}) == 0);
    CHECK(static_cast<double>(phi(S{1})) == near(x, 3 * x * epsilon<S>));
  }
}

TEMPLATE_TEST_CASE("A table is exact at its knots and straight between them", "", float, double) {
  using S = TestType;
  const tabulated phi{.u = array<double>{{0, 0.25, 1}}, .value = array<double>{{-1, 3, 5}}};
  const array<S> u{{0, 0.125, 0.25, 0.625, 0.75, 1}};
  CHECK(same(transform(u, phi), array<S>{{-1, 1, 3, 4, S(13. / 3), 5}}));

  std::mt19937 random(1);
  std::uniform_real_distribution<double> uniform(-3, 3);
  for (int repeat = 0; repeat < 100; ++repeat) {
    const tabulated measured{.u = array<double>{{0, 0.1, 0.3, 0.7, 1}},
                             .value = array<double>::NullaryExpr(5, [&] { return uniform(random); }),
                             .slope = repeat % 2 ? array<double>(array<double>::Random(5)) : array<double>()};
    for (Index i = 0; i < 5; ++i) CHECK(measured(measured.u[i]) == measured.value[i]);
  }
}

TEMPLATE_TEST_CASE("A transform is constant between equal values of its table, and never falls between rising ones", "",
                   float, double) {
  using S = TestType;
  std::mt19937 random(2);
  std::uniform_real_distribution<double> uniform;
  int uneven = 0, falls = 0;
  for (int repeat = 0; repeat < 100; ++repeat) {
    const double low = uniform(random), high = low + 1e-15 * static_cast<double>(random() % 9);
    const tabulated flat{.u = array<double>{{0, 1}}, .value = array<double>{{low, low}}};
    const tabulated rising{.u = array<double>{{0, 0.3, 1}}, .value = array<double>{{low, high, high + 1e-3}}};
    S before = static_cast<S>(low);
    for (const S u : grid<S>()) {
      uneven += flat(u) != static_cast<S>(low);
      falls += rising(u) < before;
      before = rising(u);
    }
  }
  CHECK(uneven == 0);
  CHECK(falls == 0);
}

// f(u) = 2u³ − 3u² + u/2 + 1 is the one cubic with its values and slopes f'(u) = 6u² − 6u + ½ at the ends of each cell.
TEMPLATE_TEST_CASE("A table with slopes is the cubic that has them", "", float, double) {
  using S = TestType;
  const auto f = [](double u) { return ((2 * u - 3) * u + 0.5) * u + 1; };
  tabulated phi{.u = array<double>{{0, 0.2, 0.55, 1}}, .value = {}};
  phi.value = phi.u.unaryExpr(f);
  phi.slope = 6 * phi.u.square() - 6 * phi.u + 0.5;
  for (const S u : grid<S>()) CHECK(phi(u) == near(f(static_cast<double>(u)), 4 * epsilon<S>));
  phi.slope.setZero();  // the smooth step w²(3 − 2w) in each cell
  CHECK(phi(S(0.5)) == near(f(0.2) + (f(0.55) - f(0.2)) * (36. / 49) * (3 - 12. / 7), 4 * epsilon<S>));
}

TEMPLATE_TEST_CASE("An invalid table is rejected", "", float, double) {
  using S = TestType;
  const double nan = std::nan(""), inf = INFINITY;
  const auto error = [](std::vector<double> u, std::vector<double> value, std::vector<double> slope = {}) {
    const auto array_of = [](const std::vector<double>& x) -> array<double> {
      return Eigen::Map<const array<double>>(x.data(), std::ssize(x));
    };
    return transform_error<S>(tabulated{array_of(u), array_of(value), array_of(slope)});
  };
  CHECK(error({0, 1}, {3, 4}) == "no error");
  CHECK(error({}, {}) == "tabulated: expected at least 2 knots, got 0");
  CHECK(error({0}, {0}) == "tabulated: expected at least 2 knots, got 1");
  CHECK(error({0, 1}, {0, 1, 2}) == "tabulated: expected 2 values, one for each knot, got 3");
  CHECK(error({0, 1}, {0, 1}, {1}) == "tabulated: expected 2 slopes, one for each knot, got 1");
  CHECK(error({0, 0.5, 0.5, 1}, {0, 1, 2, 3}) == "tabulated: expected strictly increasing knots, got 0.5 at index 2");
  CHECK(error({0, 0.5, 0.25, 1}, {0, 1, 2, 3}) == "tabulated: expected strictly increasing knots, got 0.25 at index 2");
  CHECK(error({0, nan, 1}, {0, 1, 2}) == "tabulated: expected strictly increasing knots, got NaN at index 1");
  CHECK(error({0, 0.5}, {0, 1}) == "tabulated: expected knots from 0 to 1, got 0 to 0.5");
  CHECK(error({0.25, 1}, {0, 1}) == "tabulated: expected knots from 0 to 1, got 0.25 to 1");
  const std::string range = std::same_as<S, float> ? "float" : "double";
  CHECK(error({0, 1}, {0, inf}) == "tabulated: expected values within the range of " + range + ", got inf at index 1");
  CHECK(error({0, 1}, {nan, 1}) == "tabulated: expected values within the range of " + range + ", got NaN at index 0");
  CHECK(error({0, 1}, {-1e39, 1}) ==
        (std::same_as<S, float> ? "tabulated: expected values within the range of float, got -1e+39 at index 0"
                                : "no error"));
  CHECK(error({0, 1}, {0, 1}, {0, -inf}) == "tabulated: expected finite slopes, got -inf at index 1");
}

TEMPLATE_TEST_CASE("Parameters out of range are rejected", "", float, double) {
  using S = TestType;
  const double nan = std::nan(""), inf = INFINITY;
  const std::string finite = "exponential: expected t finite and not 0, got ";
  CHECK(transform_error<S>(exponential{0}) == finite + "0");
  CHECK(transform_error<S>(exponential{nan}) == finite + "NaN");
  CHECK(transform_error<S>(exponential{-inf}) == finite + "-inf");
  CHECK(transform_error<S>(exponential{0} | identity{}) == finite + "0");
  const std::string limit = std::same_as<S, float> ? "88.7, so that e^t is a float" : "709.7, so that e^t is a double";
  const auto overflow = [&](const char* t) {
    return "exponential: expected t at most " + limit + " (normalized_exponential has no limit), got " + t;
  };
  CHECK(transform_error<S>(exponential{100}) == (std::same_as<S, float> ? overflow("100") : "no error"));
  CHECK(transform_error<S>(exponential{710}) == overflow("710"));
  CHECK(transform_error<S>(exponential{std::same_as<S, float> ? 88.7 : 709.7}, 1) == "no error");
  CHECK(transform_error<S>(exponential{-800}) == "no error");
  CHECK(transform_error<S>(normalized_exponential{nan}) == "normalized_exponential: expected t finite, got NaN");
  CHECK(transform_error<S>(normalized_exponential{inf}) == "normalized_exponential: expected t finite, got inf");
  const std::string above = "power: expected an exponent finite and above 0, got ";
  CHECK(transform_error<S>(power{0}) == above + "0");
  CHECK(transform_error<S>(power{-2}) == above + "-2");
  CHECK(transform_error<S>(power{nan}) == above + "NaN");
  CHECK(transform_error<S>(power{inf}) == above + "inf");
  CHECK(transform_error<S>(soft_logarithm{0, 1}) == "soft_logarithm: expected n of at least 1, got 0");
  for (const double wrong : {0., -2., nan, inf})
    CHECK(transform_error<S>(soft_logarithm{4, wrong}) ==
          "soft_logarithm: expected a lambda finite and above 0, got " + detail::concat(wrong));
  CHECK(transform_error<S>(soft_logarithm{2, 170}) ==
        (std::same_as<S, float> ? "soft_logarithm: expected lambda/n of at most 80, got 85" : "no error"));
  CHECK(transform_error<S>(soft_logarithm{1, 701}) != "no error");
}
