// SPDX-License-Identifier: MIT
// The largest relative error of every numeric function, in ulps of its type, against 113-bit numbers of Boost.Multiprecision
// and distributions of Boost.Math. The program prints the table; the bounds are those of the documentation or
// below: round numbers above what was measured.
#include <infalign/infalign.hpp>

#include "catch.hpp"

#include <boost/math/distributions/beta.hpp>
#include <boost/math/distributions/hypergeometric.hpp>
#include <boost/math/distributions/normal.hpp>
#include <boost/math/distributions/students_t.hpp>
#include <boost/multiprecision/cpp_bin_float.hpp>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <random>

using namespace infalign;
using quad = boost::multiprecision::cpp_bin_float_quad;

namespace {

/// The largest error so far, in ulps, and where it was.
struct worst {
  double ulps = 0, at = 0;
  long cases = 0;

  /// `exact` is the true value of what was computed as `got` at x.
  template <class S>
  void add(S got, const quad& exact, double x) {
    ++cases;
    const quad smallest = 1e5 * quad(std::numeric_limits<S>::min());
    if (abs(exact) < smallest) {  // it, or a factor of it, is subnormal, and has fewer digits
      REQUIRE(abs(quad(got) - exact) <= smallest / 1e5);
      return;
    }
    const quad error = abs((quad(got) - exact) / exact) / quad(std::numeric_limits<S>::epsilon());
    if (const auto e = static_cast<double>(error); !(e <= ulps)) ulps = e, at = x;
  }
  /// As `add`, for an error that may grow as `scale`.
  template <class S>
  void add_over(double scale, S got, const quad& exact, double x) {
    worst one;
    one.add(got, exact, x);
    ++cases;
    if (one.ulps / scale > ulps) ulps = one.ulps / scale, at = x;
  }
  void within(const char* name, double bound) const {
    std::printf("%-52s %9.3g ulp at %-10.6g (bound %g, %ld cases)\n", name, ulps, at, bound, cases);
    INFO(name << " at " << at);
    CHECK(cases > 0);
    CHECK(ulps <= bound);
  }
};

/// Numbers in [0, 1]: random ones, ranks k/n, and those near both ends.
template <class S, class F>
void for_each_unit(const F& f) {
  std::mt19937_64 random(1);
  for (int i = 0; i < 3000; ++i) f(static_cast<S>(static_cast<double>(random() >> 11) * 0x1p-53));
  for (int n : {7, 64, 100})
    for (int k = 0; k <= n; ++k) f(static_cast<S>(k) / static_cast<S>(n));
  for (int e = 1; e < 30; ++e) f(static_cast<S>(std::exp2(-e))), f(static_cast<S>(1 - std::exp2(-e)));
}

/// A transform's values one by one and in an array, which are computed by different code.
template <class S, class Phi, class Exact>
worst error_of_transform(const Phi& phi, const Exact& exact) {
  worst result;
  std::vector<S> u;
  for_each_unit<S>([&](S x) { u.push_back(x); });
  const array<S> values = transform(Eigen::Map<const array<S>>(u.data(), std::ssize(u)), phi);
  for (std::size_t i = 0; i < u.size(); ++i) {
    const quad truth = exact(quad(u[i]));
    result.add(values[static_cast<Eigen::Index>(i)], truth, static_cast<double>(u[i]));
    result.add(static_cast<S>(phi(u[i])), truth, static_cast<double>(u[i]));
  }
  return result;
}

template <class S>
const char* type = std::is_same_v<S, float> ? "float" : "double";

}  // namespace

TEMPLATE_TEST_CASE("Transforms are exact to a few ulps", "", float, double) {
  using S = TestType;
  for (double t : {0.5, 1.0, 5.0, 10.0, 40.0, 80.0, -1.0, -10.0, -80.0}) {
    const std::string at = std::string(", ") + type<S> + ", t = " + std::to_string(t).substr(0, 5);
    error_of_transform<S>(exponential{t}, [&](const quad& u) {
      return (t > 0 ? 1 : -1) * exp(quad(t) * u);
    }).within(("exponential" + at).c_str(), 0.35 * std::abs(t) + 2);
    error_of_transform<S>(normalized_exponential{t}, [&](const quad& u) {
      return expm1(quad(t) * u) / expm1(quad(t));
    }).within(("normalized_exponential" + at).c_str(), 0.35 * std::abs(t) + 4);
  }
  for (double exponent : {0.5, 3.0, 7.0, 31.0})
    error_of_transform<S>(power{exponent}, [&](const quad& u) {
      return pow(u, quad(exponent));
    }).within((std::string("power, ") + type<S>).c_str(), exponent < 1 ? 1 : 0.4 * exponent + 1);
}

TEMPLATE_TEST_CASE("A probability ratio is exact to (|x| + 2) ulps of each member", "", float, double) {
  using S = TestType;
  worst value, slope_minus_one, value_minus_line;
  std::mt19937_64 random(2);
  for (int i = 0; i < 20'000; ++i) {
    const double size = std::exp2(-static_cast<double>(i % 24)) * 20;
    const S x = static_cast<S>((static_cast<double>(random() >> 11) * 0x1p-52 - 1) * size);
    const probability_ratio<S> r(x);
    const quad exact(x), minus_one = expm1(exact);
    const double at = static_cast<double>(x), scale = std::abs(at) + 2;
    value.add_over(scale, r.value, exp(exact), at);
    slope_minus_one.add_over(scale, r.slope_minus_one, minus_one, at);
    if (abs(exact) > 1e-3) value_minus_line.add_over(scale, r.value_minus_line, minus_one - exact, at);
  }
  const std::string name = std::string("probability_ratio, ") + type<S> + ", over |x| + 2: ";
  value.within((name + "value").c_str(), 1);
  slope_minus_one.within((name + "slope - 1").c_str(), 2);
  value_minus_line.within((name + "k3").c_str(), 8);
}

TEST_CASE("Procedures are exact to a few ulps") {
  worst best, worst_cdf, worst_density, best_density, poisson;
  for (int n : {1, 2, 4, 16, 64, 1000})
    for_each_unit<double>([&](double u) {
      if (u > 0 && u < 1) {
        best.add(best_of{n}.cdf(u), pow(quad(u), n), u);
        best_density.add(best_of{n}.density(u), n * pow(quad(u), n - 1), u);
        worst_cdf.add(worst_of{n}.cdf(u), -expm1(n * log1p(-quad(u))), u);
      }
    });
  for_each_unit<double>([&](double u) {
    poisson.add(best_of_poisson{3}.cdf(u), quad(u) * exp(3 * (quad(u) - 1)), u);
    worst_density.add(worst_of{4}.density(u), 4 * pow(1 - quad(u), 3), u);
  });
  best.within("best_of::cdf, n up to 1000", 1);
  best_density.within("best_of::density, n up to 1000", 2);
  worst_cdf.within("worst_of::cdf, n up to 1000", 4);
  worst_density.within("worst_of::density, n = 4", 8);
  poisson.within("best_of_poisson::cdf", 8);
}

TEST_CASE("Order statistics are exact to 1e-12") {
  worst cdf;
  for (int n : {1, 2, 5, 16, 64, 1000})
    for (int k : {1, 2, n / 3, n / 2, n - 1, n}) {
      if (k < 1 || k > n) continue;
      const boost::math::beta_distribution<double> beta(k, n - k + 1);
      for (double u = 0.01; u < 1; u += 0.07) {
        const double exact = boost::math::cdf(beta, u);
        if (exact > 1e-280 && exact <= 0.5) cdf.add(order_statistic{k, n}.cdf(u), quad(exact), u);
        CHECK(order_statistic{k, n}.cdf(u) == near(exact, 1e-12));
      }
    }
  cdf.within("order_statistic::cdf, n up to 1000", 4500);  // 1e-12
}

// C(below, n)/C(count, n) by products in 113 bits.
TEST_CASE("Procedures of samples are exact to 1e-12") {
  worst best, unbiased;
  for (int count : {1, 2, 8, 64, 1000})
    for (int n : {1, 2, 4, 16, 64})
      for (int below = 0; below <= count && n <= count; below += std::max(1, count / 9)) {
        quad exact = 1;
        for (int i = 0; i < n; ++i) exact *= quad(std::max(below - i, 0)) / (count - i);
        best.add(best_of{n}.sample_cdf(below, count), exact, below);
        unbiased.add(unbiased_power{n}(below, 0, count), exact, below);
        const unsigned k = static_cast<unsigned>(n + 1) / 2;
        const boost::math::hypergeometric_distribution<double> drawn(
            static_cast<unsigned>(below), static_cast<unsigned>(n), static_cast<unsigned>(count));
        const unsigned least = boost::math::support(drawn).first;
        const double at_least = k <= least ? 1
                                : k > static_cast<unsigned>(std::min(n, below))
                                    ? 0
                                    : boost::math::cdf(boost::math::complement(drawn, k - 1));
        CHECK(order_statistic{static_cast<int>(k), n}.sample_cdf(below, count) == near(at_least, 1e-12));
      }
  best.within("best_of::sample_cdf, count up to 1000", 100);
  unbiased.within("unbiased_power, count up to 1000", 100);
}

// With K references below = K the estimate is the Taylor polynomial of e^t.
TEST_CASE("unbiased_exponential is exact to 1e-12") {
  worst up, down;
  for (double t : {0.5, 1.0, 5.0, 10.0})
    for (int K : {32, 100})
      for (int below = 0; below <= K; below += 4) {
        const auto sum = [&](int b) {
          quad term = 1, total = 1;
          for (int m = 0; m < b; ++m) total += term *= quad(t) / (m + 1) * (quad(b - m) / (K - m));
          return total;
        };
        up.add(unbiased_exponential{t}(below, 0, K), sum(below), below);
        down.add(unbiased_exponential{-t}(below, 0, K), -exp(-quad(t)) * sum(K - below), below);
      }
  up.within("unbiased_exponential, t > 0", 20);
  down.within("unbiased_exponential, t < 0", 20);
}

TEST_CASE("Quantiles and tails are exact to their documented digits") {
  worst quantile, cdf, student;
  const boost::math::normal_distribution<quad> normal;
  for (int e = 1; e <= 300; ++e)
    for (double p : {std::pow(10.0, -e), 0.5 - 0.4 / e}) {
      const double x = detail::normal_quantile(p);
      const quad exact = boost::math::cdf(normal, quad(x));
      quantile.add_over(x * x + 4, p, exact, x);  // the error of x, as an error of the tail probability
      cdf.add_over(x * x + 4, detail::normal_cdf(x), exact, x);
    }
  for (int nu : {1, 2, 3, 5, 10, 30, 100, 999, 1000, 1001, 5000, 100'000})
    student.add(detail::student_quantile(nu), quad(boost::math::quantile(boost::math::students_t(nu), 0.975)), nu);
  quantile.within("normal_quantile, of the tail, over x^2 + 4", 2);
  cdf.within("normal_cdf, over x^2 + 4", 2);
  student.within("student_quantile", 2e4);  // 1e-11 of numbers from 1.96
}
