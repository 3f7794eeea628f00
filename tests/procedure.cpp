// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/procedure.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Relative difference.
double relative(double x, long double truth) {
  return static_cast<double>(std::abs(static_cast<long double>(x) / truth - 1));
}

/// P(j of n uniform numbers are at most u) for j = 0 .. n, one number after another: every term is positive, so that
/// the relative error stays below 2n roundings.
std::vector<long double> number_below(int n, double u) {
  std::vector<long double> p{1};
  const long double below = u, above = 1 - below;
  for (int i = 1; i <= n; ++i) {
    p.push_back(p.back() * below);
    for (std::size_t j = p.size() - 2; j > 0; --j) p[j] = p[j] * above + p[j - 1] * below;
    p[0] *= above;
  }
  return p;
}

/// A CDF on [0, 1] with its density: ends, growth, and the slope.
template <procedure T>
void check_procedure(const T& t) {
  CHECK(t.cdf(0) == 0);
  CHECK(t.cdf(1) == near(1, 1e-15));
  const double h = 1e-5;
  int wrong = 0;
  double before = 0, slope_error = 0;
  for (int i = 1; i <= 1000; ++i) {
    const double u = (i - 0.5) / 1000, G = t.cdf(u), g = t.density(u);
    wrong += !(G >= before && G <= 1 && g >= 0);
    before = G;
    slope_error = std::max(slope_error, std::abs((t.cdf(u + h) - t.cdf(u - h)) / (2 * h) - g));
  }
  CHECK(wrong == 0);
  CHECK(slope_error < 1e-6);  // h² times a sixth of the largest third derivative, which n³ bounds
  for (double end : {0., 1.}) {
    const double inside = end == 0 ? h : 1 - h;
    CHECK(t.density(end) == near(std::abs(t.cdf(inside) - t.cdf(end)) / h, 4e-3));
  }
}

}  // namespace

TEST_CASE("Each procedure has the values computed by hand from its formula") {
  CHECK(plain_sampling{}.cdf(0.3) == 0.3);
  CHECK(plain_sampling{}.density(0.3) == 1);
  CHECK(best_of{4}.cdf(0.5) == 1. / 16);
  CHECK(best_of{4}.density(0.5) == 4. / 8);
  CHECK(worst_of{4}.cdf(0.5) == near(15. / 16, 1e-15));
  CHECK(worst_of{4}.density(0.75) == 4. / 64);
  CHECK(order_statistic{2, 3}.cdf(0.25) == near(3. / 16 - 2. / 64, 1e-15));  // 3u² − 2u³
  CHECK(order_statistic{2, 3}.density(0.25) == near(18. / 16, 1e-14));       // 6u(1 − u)
  CHECK(order_statistic{3, 5}.cdf(0.5) == near(0.5, 1e-14));
  const random_best_of mixed{.weight = array<double>{{0.5, 0.25, 0.25}}};
  CHECK(mixed.cdf(0.5) == 11. / 32);                                           // ½·½ + ¼·¼ + ¼·⅛
  CHECK(mixed.density(0.5) == 15. / 16);                                       // ½ + ¼·2·½ + ¼·3·¼
  CHECK(best_of_poisson{2}.cdf(0.5) == near(0.18393972058572117, 1e-16));      // ½·e⁻¹
  CHECK(best_of_poisson{2}.density(0.5) == near(0.73575888234288464, 1e-15));  // 2·e⁻¹
}

TEST_CASE("Every CDF grows from 0 to 1, and its slope is the density") {
  check_procedure(plain_sampling{});
  for (int n : {1, 2, 3, 8, 16}) {
    check_procedure(best_of{n});
    check_procedure(worst_of{n});
    for (int k : {1, n / 2, n})
      if (k > 0) check_procedure(order_statistic{k, n});
  }
  check_procedure(random_best_of{array<double>{{0.5, 0, 0.25, 0.125, 0.125}}});
  check_procedure(random_best_of{array<double>{{1.}}});
  for (const double lambda : {-20., -3., 0., 1., 12.}) check_procedure(soft_best_of{6, lambda});
  for (double lambda : {0., 0.3, 5.}) check_procedure(best_of_poisson{lambda});
}

TEST_CASE("Densities are exact at 0 and 1") {
  for (int n : {1, 2, 5, 1000}) {
    const double one = n == 1, all = n;
    CHECK(best_of{n}.density(0) == one);
    CHECK(best_of{n}.density(1) == all);
    CHECK(worst_of{n}.density(0) == all);
    CHECK(worst_of{n}.density(1) == one);
    CHECK(order_statistic{n, n}.density(0) == one);
    CHECK(order_statistic{n, n}.density(1) == all);
    CHECK(order_statistic{1, n}.density(0) == all);
    CHECK(order_statistic{1, n}.density(1) == one);
  }
  CHECK(order_statistic{2, 3}.density(0) == 0);
  CHECK(order_statistic{2, 3}.density(1) == 0);
  CHECK(order_statistic{2, 3}.cdf(0) == 0);
  CHECK(order_statistic{2, 3}.cdf(1) == 1);
  CHECK(worst_of{3}.cdf(1) == 1);
}

TEST_CASE("Best and worst of n are accurate near 0 and 1, for n up to 1,000") {
  const double epsilon = std::numeric_limits<double>::epsilon();
  for (int n : {1, 2, 4, 37, 1000})
    for (double u : {1e-300, 1e-12, 1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6, 1 - 1e-12}) {
      CAPTURE(n, u);
      const long double v = 1 - static_cast<long double>(u), m = n;
      CHECK(relative(worst_of{n}.cdf(u), -std::expm1(m * std::log1p(-static_cast<long double>(u)))) < 4 * epsilon);
      if (std::pow(v, m - 1) > 1e-290L)
        CHECK(relative(worst_of{n}.density(u), m * std::pow(v, m - 1)) < (n + 4) * epsilon);
      const long double w = u;
      if (std::pow(w, m) > 1e-290L) CHECK(relative(best_of{n}.cdf(u), std::pow(w, m)) < 4 * epsilon);
      if (std::pow(w, m - 1) > 1e-290L) CHECK(relative(best_of{n}.density(u), m * std::pow(w, m - 1)) < 4 * epsilon);
    }
}

TEST_CASE("Order statistics are accurate to 1e-12, relatively if G is at most one half, else absolutely") {
  double worst_below = 0, worst_above = 0, worst_density = 0;
  for (int n : {1, 2, 5, 15, 16, 17, 100, 978, 1000})
    for (double u : {1e-12, 1e-3, 0.07, 0.2, 0.45, 0.5, 0.72, 0.9, 0.999, 1 - 1e-9}) {
      const auto p = number_below(n, u), one_less = number_below(n - 1, u);
      long double G = 0;  // P(at least k of n are at most u)
      for (int k = n; k >= 1; --k) {
        const auto j = static_cast<std::size_t>(k);
        G += p[j];
        const order_statistic t{k, n};
        if (n > 50 && k % 11 != 1) continue;
        if (G > 0.5L)
          worst_above = std::max(worst_above, static_cast<double>(std::abs(t.cdf(u) - G)));
        else if (G > 1e-290L)
          worst_below = std::max(worst_below, relative(t.cdf(u), G));
        const long double g = n * one_less[j - 1];  // one of n is at u, and k − 1 of the others below it
        if (g > 1e-290L) worst_density = std::max(worst_density, relative(t.density(u), g));
      }
    }
  CHECK(worst_below < 1e-12);
  CHECK(worst_above < 1e-12);
  CHECK(worst_density < 1e-12);
}

TEST_CASE("Special cases of one procedure are other procedures") {
  const array<double> third{{0, 0, 1}};
  for (double u : {0., 1e-9, 0.2, 0.5, 0.77, 1.}) {
    CHECK(best_of{1}.cdf(u) == u);
    CHECK(worst_of{1}.cdf(u) == near(u, 1e-16));
    CHECK(best_of_poisson{0}.cdf(u) == u);
    CHECK(order_statistic{5, 5}.cdf(u) == near(best_of{5}.cdf(u), 1e-14));
    CHECK(order_statistic{1, 5}.cdf(u) == near(worst_of{5}.cdf(u), 1e-14));
    CHECK(worst_of{5}.cdf(u) == near(1 - best_of{5}.cdf(1 - u), 1e-15));  // the mirror image
    CHECK(random_best_of{third}.cdf(u) == near(best_of{3}.cdf(u), 1e-15));
    CHECK(random_best_of{third}.density(u) == near(best_of{3}.density(u), 1e-14));
    double sum = 0, slopes = 0, weight = std::exp(-1.5);  // of N = 1 + Poisson(1.5)
    for (int n = 1; n < 60; weight *= 1.5 / n, ++n) {
      sum += weight * std::pow(u, n);
      slopes += weight * n * std::pow(u, n - 1);
    }
    CHECK(best_of_poisson{1.5}.cdf(u) == near(sum, 1e-15));
    CHECK(best_of_poisson{1.5}.density(u) == near(slopes, 1e-14));
  }
}

// G, g and Ĝ of the formulas in decimal arithmetic of 40 digits (Python).
TEST_CASE("The soft choice among n has the values of its formula") {
  struct row {
    int n;
    double lambda, at_1, at_5, at_9, slope_at_1, slope_at_9;
  };
  for (const auto& r :
       {row{4, 10, .0008686760235218333, .08564757683298892, .6803509334214386, .0193021121990134, 2.750672354425407},
        row{4, 2, .04474034994155399, .3249735555557833, .8284422692332445, .4904263617696177, 1.613700264977914},
        row{4, -6, .277062121852899, .8622524483124317, .9942759508845874, 2.444112038989596, .08479960886350596},
        row{16, 8, .0005818046810624447, .02971758005948784, .5259371765978254, .008941901324295507,
            3.448857029393089}}) {
    const soft_best_of soft{r.n, r.lambda};
    CHECK(soft.cdf(0.1) == near(r.at_1, 1e-15));
    CHECK(soft.cdf(0.5) == near(r.at_5, 1e-15));
    CHECK(soft.cdf(0.9) == near(r.at_9, 2e-15));
    CHECK(soft.density(0.1) == near(r.slope_at_1, 4e-15));
    CHECK(soft.density(0.9) == near(r.slope_at_9, 4e-15));
  }
  const soft_best_of soft{4, 10};
  CHECK(soft.sample_cdf(2, 8) == near(.00172430090678661, 1e-15));
  CHECK(soft.sample_cdf(4, 8) == near(.03659655897718156, 1e-15));
  CHECK(soft.sample_cdf(6, 8) == near(.2626017957439231, 1e-14));
  CHECK(soft.sample_cdf(7, 8) == near(.5410216617276293, 1e-14));
}

TEST_CASE("The soft choice is relatively accurate for every lambda, and has its limits") {
  double worst = 0, worst_density = 0;
  for (const int n : {1, 2, 4, 64, 1000})
    for (const double lambda : {1e-18, 1e-6, 0.3, 8., 200., 3000., 8000.})
      for (const double u : {1e-15, 1e-6, 0.01, 0.3, 0.5, 0.9, 1 - 1e-6}) {
        const long double q = std::exp(static_cast<long double>(lambda) / n), v = u;
        const auto check = [&](double sign, long double ratio) {  // ratio = q^{±1}
          const long double all = std::expm1(sign * static_cast<long double>(lambda));
          const long double w = n * std::log1p((ratio - 1) * v), G = std::expm1(w) / all;
          const long double g = n * (ratio - 1) * std::pow(1 + (ratio - 1) * v, n - 1.0L) / all;
          const soft_best_of soft{n, sign * lambda};
          const double rounding = lambda < 1e-3 ? 1e-3 : 1;  // q − 1 itself has few digits here
          if (rounding == 1 && G > 1e-290L && G < 0.999999L) worst = std::max(worst, relative(soft.cdf(u), G));
          if (rounding == 1 && g > 1e-290L) worst_density = std::max(worst_density, relative(soft.density(u), g));
          if (lambda < 1e-3) CHECK(soft.cdf(u) == near(u, 1e-6 * u));
        };
        check(1, q);
        check(-1, 1 / q);
      }
  CHECK(worst < 1e-12);
  CHECK(worst_density < 1e-12);
  for (const double u : {0., 1e-3, 0.3, 0.8, 1.}) {
    CHECK(soft_best_of{5, 0}.cdf(u) == u);
    CHECK(soft_best_of{1, 7}.cdf(u) == near(u, 1e-15));
    CHECK(soft_best_of{5, 1e6}.cdf(u) == near(best_of{5}.cdf(u), 1e-15));
    CHECK(soft_best_of{5, -1e6}.cdf(u) == near(worst_of{5}.cdf(u), 1e-15));
    CHECK(soft_best_of{5, 1e6}.density(u) == near(best_of{5}.density(u), 1e-14));
    CHECK(soft_best_of{5, -1e6}.density(u) == near(worst_of{5}.density(u), 1e-14));
    CHECK(soft_best_of{1000000, 10}.cdf(u) == near(std::expm1(10 * u) / std::expm1(10), 1e-5));
  }
  CHECK(soft_best_of{5, 1e308}.cdf(0.5) == near(1. / 32, 1e-16));
  CHECK(soft_best_of{5, -1e308}.cdf(0.5) == near(31. / 32, 1e-15));
}

TEST_CASE("The soft choice of a sample is the mean over all sets that it could draw") {
  for (const double lambda : {-9., -0.5, 0., 3., 2000.})
    for (const int n : {1, 2, 3, 5})
      for (int count = n; count <= 7; ++count)
        for (int below = 0; below <= count; ++below) {
          const double q = std::exp(std::min(lambda, 600.) / n);
          double all = 0, weight = 0;
          for (int k = 1; k <= n; ++k) weight += std::pow(q, k - n);
          int sets = 0;
          for (unsigned set = 0; set < 1u << count; ++set) {
            if (std::popcount(set) != n) continue;
            ++sets;
            const int drawn = std::popcount(set & ((1u << below) - 1));
            for (int k = 1; k <= drawn; ++k) all += std::pow(q, k - n) / weight;
          }
          CHECK(soft_best_of{n, lambda}.sample_cdf(below, count) == near(all / sets, 1e-13));
        }
}

TEST_CASE("The median of 5 is the median of 5 draws") {
  std::mt19937 random(9);
  std::uniform_real_distribution<double> uniform;
  const double u = 0.4;
  int below = 0;
  for (int repeat = 0; repeat < 20000; ++repeat) {
    double draws[5];
    for (double& x : draws) x = uniform(random);
    std::sort(draws, draws + 5);
    below += draws[2] <= u;
  }
  CHECK(order_statistic{3, 5}.cdf(u) == near(below / 20000., 0.01));  // 3 standard errors
}

TEST_CASE("Parameters out of range are rejected by check") {
  const auto check = [](const auto& t, const std::string& expected) {
    CHECK(error_of([&] { t.check(); }) == expected);
    CHECK(error_of([&] { detail::checked(t); }) == expected);
  };
  const auto weights = [](auto... w) { return random_best_of{array<double>{{w...}}}; };
  check(best_of{0}, "best_of: expected n of at least 1, got 0");
  check(worst_of{-3}, "worst_of: expected n of at least 1, got -3");
  check(order_statistic{1, 0}, "order_statistic: expected n of at least 1, got 0");
  check(order_statistic{0, 3}, "order_statistic: expected k from 1 to n = 3, got 0");
  check(order_statistic{4, 3}, "order_statistic: expected k from 1 to n = 3, got 4");
  check(weights(1.5, -0.5), "random_best_of: expected weights of at least 0, got -0.5 at index 1");
  check(weights(std::nan(""), 1.), "random_best_of: expected weights of at least 0, got NaN at index 0");
  check(weights(0., INFINITY), "random_best_of: expected weights of at least 0, got inf at index 1");
  check(weights(0.5, 0.25), "random_best_of: expected weights that sum to 1, got 0.75");
  check(random_best_of{array<double>()}, "random_best_of: expected weights that sum to 1, got 0");
  CHECK(error_of([&] { weights(0.5, 0.5 + 2e-9).check(); }) != "no error");
  check(weights(0.5, 0.5 + 5e-10), "no error");
  check(soft_best_of{0, 1}, "soft_best_of: expected n of at least 1, got 0");
  check(soft_best_of{4, std::nan("")}, "soft_best_of: expected lambda finite, got NaN");
  check(soft_best_of{4, INFINITY}, "soft_best_of: expected lambda finite, got inf");
  check(best_of_poisson{-1}, "best_of_poisson: expected lambda finite and at least 0, got -1");
  check(best_of_poisson{std::nan("")}, "best_of_poisson: expected lambda finite and at least 0, got NaN");
  check(best_of_poisson{INFINITY}, "best_of_poisson: expected lambda finite and at least 0, got inf");
}

TEST_CASE("Any type with a CDF and a density is a procedure") {
  struct squared {
    double cdf(double u) const { return u * u; }
    double density(double u) const { return 2 * u; }
  };
  struct no_density {
    double cdf(double u) const { return u; }
  };
  STATIC_REQUIRE(procedure<squared>);
  STATIC_REQUIRE(!procedure<no_density>);
  STATIC_REQUIRE(!procedure<int>);
}

TEST_CASE("A procedure from a CDF alone has the density of the CDF") {
  const auto check = [](const auto& t) {
    const from_cdf numeric([&](double u) {
      CHECK_FALSE((u < 0 || u > 1));
      return t.cdf(u);
    });
    numeric.check();
    double worst = 0;
    for (double u = 0; u <= 1; u += 1. / 512) worst = std::max(worst, std::abs(numeric.density(u) - t.density(u)));
    for (const double u : {1e-300, 1e-12, 1e-5, 1e-3, 1 - 1e-3, 1 - 1e-5, 1 - 1e-12, 1.})
      worst = std::max(worst, std::abs(numeric.density(u) - t.density(u)));
    CHECK(worst < 1e-9);
    CHECK(numeric.cdf(0.3) == t.cdf(0.3));
    CHECK(numeric.density(0.5) >= 0);
  };
  check(plain_sampling{});
  for (const int n : {2, 4, 10, 64}) {
    check(best_of{n});
    check(worst_of{n});
  }
  check(order_statistic{3, 5});
  check(order_statistic{2, 12});
  check(best_of_poisson{3});
}

TEST_CASE("A function that is no CDF on [0, 1] is rejected") {
  const auto error = [](auto f) { return error_of([&] { from_cdf(f).check(); }); };
  const std::string expected = "from_cdf: expected a CDF that grows from 0 at 0 to 1 at 1, got ";
  CHECK(error([](double u) { return u * u; }) == "no error");
  CHECK(error([](double u) { return 0.5 + u / 2; }) == expected + "0.5 at 0");
  CHECK(error([](double u) { return u / 2; }) == expected + "0.5 at 1");
  CHECK(error([](double u) { return 2 * u; }) == expected + "1.0078125 at 0.50390625");
  CHECK(error([](double u) { return u < 0.5 ? 2 * u : u; }) == expected + "0.5 at 0.5");
  CHECK(error([](double u) { return u < 0.25 ? u : std::nan(""); }) == expected + "NaN at 0.25");
  STATIC_REQUIRE(procedure<from_cdf<double (*)(double)>>);
}
