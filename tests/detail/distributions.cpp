// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/detail/distributions.hpp>

#include <cmath>
#include <utility>

using namespace infalign::detail;

TEST_CASE("Small binomial and hypergeometric probabilities are those computed by hand") {
  CHECK(binomial_probability(2, 4, 0.25) == near(54. / 256, 1e-15));  // 6·(1/16)·(9/16)
  CHECK(binomial_probability(0, 4, 0.25) == near(81. / 256, 1e-15));
  CHECK(binomial_probability(4, 4, 0.25) == near(1. / 256, 1e-16));
  CHECK(hypergeometric_probability(1, 2, 2, 5) == near(6. / 10, 1e-14));  // 2·3 of 10 pairs
  CHECK(hypergeometric_probability(2, 2, 1, 5) == 0);
  CHECK(hypergeometric_probability(-1, 2, 2, 5) == 0);
  CHECK(hypergeometric_probability(3, 2, 4, 5) == 0);  // more than are drawn
  CHECK(hypergeometric_probability(0, 4, 2, 5) == 0);  // the other 3 are too few
  CHECK(hypergeometric_probability(2, 5, 2, 5) == 1);  // all are drawn
  CHECK(hypergeometric_probability(1, 5, 2, 5) == 0);
  CHECK(hypergeometric_probability(0, 0, 2, 5) == 1);
  CHECK(all_below(2, 3, 5) == near(3. / 10, 1e-15));
  CHECK(all_below(4, 3, 5) == 0);
}

TEST_CASE("Stirling's error is the one computed from the factorial, on both sides of n = 16") {
  for (const int n : {1, 2, 15, 16, 17, 100}) {
    const long double x = n, log_two_pi = 1.837877066409345483560659472811L;
    const auto truth = static_cast<double>(std::lgamma(x + 1) - ((x + 0.5L) * std::log(x) - x + 0.5L * log_two_pi));
    CHECK(stirling_error(n) == near(truth, 1e-13));
  }
}

TEST_CASE("A sum of at least k terms is the plain sum, on both sides of the mean and beyond the range") {
  for (const int n : {1, 5, 40})
    for (const double q : {0.05, 0.5, 0.9})
      for (int k = 0; k <= n + 1; ++k) {
        double all = 0;
        for (int j = n; j >= k; --j) all += binomial_probability(j, n, q);
        const double got = at_least(
            k, 0, n, n * q, [&](int j) { return j < 0 || j > n ? 0 : binomial_probability(j, n, q); },
            [&](int j) { return (n - j) * q / ((j + 1) * (1 - q)); });
        CAPTURE(n, q, k);
        CHECK(got == near(all, 1e-13));
        CHECK((got >= 0 && got <= 1));
      }
}

TEST_CASE("The Poisson tail is 1 less the probabilities up to K") {
  for (const double mean : {0.1, 3., 40.}) {
    double up_to = 0, term = std::exp(-mean);
    for (int K = 0; K < 60; term *= mean / ++K) {
      up_to += term;
      CHECK(poisson_above(mean, K) == near(1 - up_to, 1e-14));
    }
  }
  CHECK(poisson_above(1, 20) == near(7.5427e-21, 1e-24));  // e⁻¹/21!·(1 + 1/22 + …)
}

// Published quantiles (Smirnov, Ann. Math. Statist. 19, 1948, and many since).
TEST_CASE("Kolmogorov's distribution agrees with published tables and its series") {
  const auto above = [](double x) { return kolmogorov_above(x); };
  CHECK(above(1.2238478702) == near(0.10, 1e-10));
  CHECK(above(1.3580986393) == near(0.05, 1e-10));
  CHECK(above(1.6276236115) == near(0.01, 1e-10));
  CHECK(above(1.9494746) == near(0.001, 1e-9));
  CHECK(above(0.8275735551) == near(0.5, 1e-9));
  CHECK(above(0.5711732651) == near(0.9, 1e-9));
  CHECK(above(std::nextafter(1., 0.)) == near(above(1), 1e-14));
  CHECK(above(1) == near(0.26999967167735456, 1e-15));
  CHECK(above(5) == near(2 * std::exp(-50), 1e-35));
  for (const double x : {0., 1e-300, 1e-3, 0.04, 0.1}) CHECK(above(x) == near(1, 1e-15));
  CHECK(above(40) == 0);
  double last = 1;
  for (double x = 0; x < 4; x += 0.001) {
    double series = 0;  // of Kolmogorov, with enough terms for x above 0.2
    for (int j = 40; j > 0; --j) series += (j % 2 ? 2 : -2) * std::exp(-2. * j * j * x * x);
    if (x > 0.2) CHECK(above(x) == near(series, 1e-14));
    CHECK((above(x) >= 0 && above(x) <= last));
    last = above(x);
  }
}

// Published tables of Student's t, two-sided 5 %.
TEST_CASE("Student's quantiles agree with published tables") {
  const std::pair<int, double> table[] = {{1, 12.7062047364},  {2, 4.3026527297},   {3, 3.1824463053},
                                          {5, 2.5705818356},   {10, 2.2281388520},  {30, 2.0422724563},
                                          {100, 1.9839715185}, {1000, 1.9623390808}};
  for (const auto& [nu, t] : table) CHECK(student_quantile(nu) == near(t, 1e-9));
  // The finite sum and the expansion agree where one replaces the other.
  CHECK(student_quantile(1001) == near(student_quantile(1000), 3e-6));
  CHECK(student_within(student_quantile(1001), 1001) == near(0.95, 3e-12));
  CHECK(student_quantile(100'000'000) == near(1.959963985, 1e-7));
}
