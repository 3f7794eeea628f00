// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/numerics.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// Probabilities of the binomial, hypergeometric, Poisson, normal, Student's and Kolmogorov's distributions.
namespace INFALIGN_NAMESPACE::detail {

/// The error of Stirling's formula for n ≥ 1:
///
///     log n! − ((n + ½)·log n − n + ½·log 2π)
inline double stirling_error(int n) {
  const double x = n, y = 1 / (x * x);
  if (n >= 16) return (1.0 / 12 - y * (1.0 / 360 - y * (1.0 / 1260 - y / 1680))) / x;
  double factorial = 1;
  for (int i = 2; i <= n; ++i) factorial *= i;
  constexpr double half_log_two_pi = 0.91893853320467274178;
  return std::log(factorial) - (x + 0.5) * std::log(x) + x - half_log_two_pi;
}

/// C(n, j)·u^j·(1 − u)^{n−j} for u in (0, 1), from the distance of j to its mean, because large logarithms would cancel.
///
/// Source: C. Loader, "Fast and accurate computation of binomial probabilities", 2000.
inline double binomial_probability(int j, int n, double u) {
  if (j == 0) return std::exp(n * std::log1p(-u));
  if (j == n) return std::pow(u, n);
  const auto distance = [](double x, double mean) { return x * std::log(x / mean) + mean - x; };
  const double error = stirling_error(n) - stirling_error(j) - stirling_error(n - j);
  const double exponent = error - distance(j, n * u) - distance(n - j, n * (1 - u));
  constexpr double two_pi = 6.28318530717958647693;
  return std::exp(exponent) * std::sqrt(n / (two_pi * j * (n - j)));
}

/// The probability that of n responses drawn without replacement from `count`, exactly j are among the `below` lowest.
inline double hypergeometric_probability(int j, int n, int below, int count) {
  const int others = count - below;
  if (j < 0 || j > below || n - j < 0 || n - j > others) return 0;
  if (n == 0 || n == count) return 1;
  const double u = static_cast<double>(n) / count;  // any u gives the same result; this one is at all three peaks
  return binomial_probability(j, below, u) * binomial_probability(n - j, others, u) / binomial_probability(n, count, u);
}

/// The probability that n responses drawn without replacement from `count` are all among the `below` lowest:
///
///     C(below, n) / C(count, n)
inline double all_below(Eigen::Index n, Eigen::Index below, Eigen::Index count) {
  double product = 1;
  for (Eigen::Index i = 0; i < n && product > 0; ++i)
    product *= static_cast<double>(std::max<Eigen::Index>(below - i, 0)) / static_cast<double>(count - i);
  return product;
}

/// P(J ≥ k) for an integer J in [lowest, highest] whose distribution has one peak, near `mean`. `probability(j)` is
/// P(J = j), `growth(j)` is P(J = j + 1)/P(J = j). The sum starts at k, or at k − 1, and goes away from the mean.
template <class Probability, class Growth>
double at_least(int k, int lowest, int highest, double mean, const Probability& probability, const Growth& growth) {
  double sum = 0;
  if (k > mean) {
    double term = probability(k);
    for (int j = k; j <= highest && term > sum * 1e-17; ++j) {
      sum += term;
      if (j < highest) term *= growth(j);
    }
    return std::min(sum, 1.0);
  }
  double term = probability(k - 1);
  for (int j = k - 1; j >= lowest && term > sum * 1e-17; --j) {
    sum += term;
    if (j > lowest) term /= growth(j - 1);
  }
  return std::max(1 - sum, 0.0);
}

/// P(J > K) for a Poisson J, summed upwards from its first term.
inline double poisson_above(double mean, Eigen::Index K) {
  double term = std::exp(-mean), sum = 0;
  for (Eigen::Index m = 1; m <= K + 1; ++m) term *= mean / static_cast<double>(m);
  for (Eigen::Index m = K + 1; static_cast<double>(m) < mean || term > sum * 1e-17; ++m) {
    sum += term;
    term *= mean / static_cast<double>(m + 1);
  }
  return sum;
}

/// P(|T| ≤ t) for Student's T with ν degrees of freedom: finite sums in θ = atan(t/√ν).
///
/// Source: Abramowitz and Stegun, 26.7.3 and 26.7.4.
inline double student_within(double t, int nu) {
  const double theta = std::atan(t / std::sqrt(nu)), c = std::cos(theta), s = std::sin(theta);
  double term = nu % 2 ? c : 1, sum = 0;
  for (int k = nu % 2 ? 3 : 2; k <= nu; k += 2) {
    sum += term;
    term *= c * c * (k - 1) / k;
  }
  constexpr double pi = 3.14159265358979323846;
  return nu % 2 ? 2 / pi * (theta + s * sum) : s * sum;
}

/// The 97.5 % quantile of Student's distribution with ν ≥ 1 degrees of freedom. Above ν = 1,000 it is expanded about the
/// normal quantile.
///
/// Accuracy: 1e-11.
/// Source: Abramowitz and Stegun, 26.7.5.
inline double student_quantile(Eigen::Index nu) {
  constexpr double z = 1.959963984540054;
  if (nu > 1000) {
    const double v = static_cast<double>(nu), z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
  }
  const auto excess = [nu](double t) { return student_within(t, static_cast<int>(nu)) - 0.95; };
  return *find_root(excess, z, 13, 1e-12);
}

/// The normal distribution's CDF.
///
/// Accuracy: relative 2(x² + 4)·ε, from the rounding of x/√2.
inline double normal_cdf(double x) {
  return 0.5 * std::erfc(-0.70710678118654752440 * x);
}

/// The normal distribution's quantile, for p in (0, 1): a rational approximation, then three of Halley's steps.
///
/// Accuracy: relative 2(x² + 4)·ε in the tail probability, from the rounding of the result x.
/// Source: Abramowitz and Stegun, 26.2.23.
inline double normal_quantile(double p) {
  const double tail = std::min(p, 1 - p), t = std::sqrt(-2 * std::log(tail));
  double x = (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))) - t;
  constexpr double root_of_two_pi = 2.50662827463100050242;
  for (int i = 0; i < 3; ++i) {
    const double step = (normal_cdf(x) - tail) * root_of_two_pi * std::exp(0.5 * x * x);
    x -= step / (1 + 0.5 * x * step);
  }
  return p < 0.5 ? x : -x;
}

/// P(sup |B| ≥ x) for a Brownian bridge B: Kolmogorov's series for x ≥ 1; below 1 its transformation by theta functions.
///
/// Accuracy: relative 1e-15, by four terms of either series.
inline double kolmogorov_above(double x) {
  if (x < 0.04) return 1;  // to within 1e-300
  double sum = 0;
  if (x >= 1) {
    for (int j = 4; j >= 1; --j) sum += (j % 2 ? 1 : -1) * std::exp(-2.0 * j * j * x * x);
    return 2 * sum;
  }
  constexpr double pi = 3.14159265358979323846;
  for (int j = 7; j >= 1; j -= 2) sum += std::exp(-j * j * pi * pi / (8 * x * x));
  return 1 - std::sqrt(2 * pi) / x * sum;
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
