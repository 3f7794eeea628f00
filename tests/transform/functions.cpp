// SPDX-License-Identifier: MIT
// Against the long double functions of <cmath>.
#include <infalign/transform/functions.hpp>

#include "arrays.hpp"

#include <cmath>
#include <limits>
#include <random>

using namespace infalign;

namespace {

/// The largest error of f in ulps, over numbers evenly from `low` to `high`, and over such numbers times 2^-60 to 1.
template <real_scalar S, class F, class G>
double worst_ulps(const F& f, const G& exact, double low, double high) {
  std::mt19937_64 random(1);
  double worst = 0;
  for (int i = 0; i < 40'000; ++i) {
    const double part = static_cast<double>(random() >> 11) * 0x1p-53;
    S x = static_cast<S>(low + (high - low) * part);
    if (i % 2 == 1) x *= static_cast<S>(std::exp2(-60 * part));
    const long double y = exact(static_cast<long double>(x));
    const S size = static_cast<S>(std::abs(y));
    if (!(size >= std::numeric_limits<S>::min())) continue;
    const S ulp = std::nextafter(size, infinity<S>) - size;
    const auto error =
        static_cast<double>(std::abs(static_cast<long double>(f(x)) - y) / static_cast<long double>(ulp));
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

}  // namespace

TEMPLATE_TEST_CASE("Functions are as exact as they say", "", float, double) {
  using S = TestType;
  volatile long double one = 1;
  if (sizeof(S) == 8 && one + 0x1p-60L == one) {
    WARN("not compared: long double has no more digits than double here (MSVC, valgrind)");
    return;
  }
  const double most = sizeof(S) == 4 ? 88.7 : 709.7, least = sizeof(S) == 4 ? -87.3 : -708.3;
  using real = long double;
  CHECK(worst_ulps<S>([](S x) { return vectorized::exp(x); }, [](real x) { return std::exp(x); }, least, most) < 2);
  CHECK(worst_ulps<S>([](S x) { return vectorized::expm1(x); }, [](real x) { return std::expm1(x); }, least, most) < 4);
  CHECK(worst_ulps<S>([](S x) { return vectorized::expm1(x); }, [](real x) { return std::expm1(x); }, -2, 2) < 4);
  CHECK(worst_ulps<S>([](S x) { return vectorized::log(x); }, [](real x) { return std::log(x); }, 0, 3) < 1);
  CHECK(worst_ulps<S>([](S x) { return vectorized::log(x); }, [](real x) { return std::log(x); }, 0, 1e30) < 1);
  CHECK(worst_ulps<S>([](S x) { return vectorized::log1p(x); }, [](real x) { return std::log1p(x); }, -1, 3) < 1);
  CHECK(worst_ulps<S>([](S x) { return vectorized::log1p(x); }, [](real x) { return std::log1p(x); }, 0, 1e30) < 1);
  CHECK(worst_ulps<S>([](S x) { return vectorized::tanh(x); }, [](real x) { return std::tanh(x); }, -12, 12) < 4);
  CHECK(worst_ulps<S>([](S x) { return vectorized::sigmoid(x); }, [](real x) { return 1 / (1 + std::exp(-x)); }, -80,
                      80) < 4);
  for (const double a : {0.25, 1.0, 7.0, -1.5}) {
    const auto exact = [a](real x) { return std::pow(x, static_cast<real>(a)); };
    const double bound = sizeof(S) == 4 ? 1 : 3 + 2 * std::abs(a) * 60;  // |log x| is at most 60 here
    CHECK(worst_ulps<S>([a](S x) { return vectorized::pow(x, static_cast<S>(a)); }, exact, 0, 2) < bound);
  }
}

TEMPLATE_TEST_CASE("Functions have the special values of <cmath>", "", float, double) {
  using S = TestType;
  const S inf = infinity<S>, most = std::numeric_limits<S>::max(), least = std::numeric_limits<S>::denorm_min();
  for (const S x : {S{0}, S{1}, S{-1}, inf, -inf, missing<S>, most, -most, least, -least}) {
    CAPTURE(x);
    const auto agrees = [](S got, S wanted) {
      return std::isnan(wanted) ? std::isnan(got)
                                : got == wanted || std::abs(got - wanted) <= 4 * epsilon<S> * std::abs(wanted);
    };
    CHECK(agrees(vectorized::exp(x), std::exp(x)));
    CHECK(agrees(vectorized::expm1(x), std::expm1(x)));
    CHECK(agrees(vectorized::log(x), std::log(x)));
    CHECK(agrees(vectorized::log1p(x), std::log1p(x)));
    CHECK(agrees(vectorized::tanh(x), std::tanh(x)));
    CHECK(agrees(vectorized::sigmoid(x), 1 / (1 + std::exp(-x))));
    if (!(x < 0)) CHECK(agrees(vectorized::pow(x, S{3}), std::pow(x, S{3})));
  }
  CHECK(vectorized::exp(static_cast<S>(-1e4)) == 0);
  CHECK(vectorized::log(least) < -100);
  CHECK(std::isnan(vectorized::pow(S{-1}, S{2})));
  CHECK(!std::signbit(vectorized::tanh(S{0})));
  CHECK(std::signbit(vectorized::tanh(-S{0})));
}

TEMPLATE_TEST_CASE("exp reaches both ends of the range", "", float, double) {
  using S = TestType;
  // The neighbours of log of the largest number and of the least normal one.
  const S high = std::log(std::numeric_limits<S>::max()), low = std::log(std::numeric_limits<S>::min());
  CHECK(vectorized::exp(std::nextafter(high, S{0})) == near(std::exp(std::nextafter(high, S{0})), 1e-4));
  CHECK(vectorized::exp(std::nextafter(high, infinity<S>) + epsilon<S> * 100 * high) == infinity<S>);
  CHECK(vectorized::exp(low + S{0.0625}) / std::exp(low + S{0.0625}) == near(1, 1e-4));
  CHECK(vectorized::exp(low - S{0.0625}) == 0);
}
