// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <cmath>

/// Inference-time procedures: how the model is used after training.
///
/// Write a policy as the distribution of its calibrated reward, with CDF F on [0, 1]. A (calibrated) procedure turns it
/// into the distribution with CDF G(F(u)) of what the user sees (InfAlign, section 3).
namespace infalign {

/// A procedure: G = `cdf`, increasing from G(0) = 0 to G(1) = 1, and its derivative g = `density`, both on [0, 1].
template <class T>
concept procedure = requires(const T& t, double u) {
  { t.cdf(u) } -> std::convertible_to<double>;
  { t.density(u) } -> std::convertible_to<double>;
};

namespace detail {
inline void check_n(const char* function, int n) {
  if (n < 1) fail(function, "n of at least 1", text(n));
}

/// log n! − ((n + ½)·log n − n + ½·log 2π), what Stirling's formula misses, for n ≥ 1.
inline double stirling_error(int n) {
  const double x = n, y = 1 / (x * x);
  if (n >= 16) return (1.0 / 12 - y * (1.0 / 360 - y * (1.0 / 1260 - y / 1680))) / x;
  double factorial = 1;
  for (int i = 2; i <= n; ++i) factorial *= i;
  constexpr double half_log_two_pi = 0.91893853320467274178;
  return std::log(factorial) - (x + 0.5) * std::log(x) + x - half_log_two_pi;
}

/// C(n, j)·u^j·(1 − u)^{n−j} for u in (0, 1): by its distance from the peak, as large logarithms would cancel. (C. Loader, "Fast and
/// accurate computation of binomial probabilities", 2000.)
inline double binomial_probability(int j, int n, double u) {
  if (j == 0) return std::exp(n * std::log1p(-u));
  if (j == n) return std::pow(u, n);
  const auto distance = [](double x, double mean) { return x * std::log(x / mean) + mean - x; };
  const double error = stirling_error(n) - stirling_error(j) - stirling_error(n - j);
  const double exponent = error - distance(j, n * u) - distance(n - j, n * (1 - u));
  constexpr double two_pi = 6.28318530717958647693;
  return std::exp(exponent) * std::sqrt(n / (two_pi * j * (n - j)));
}
}  // namespace detail

/// One response, shown as it is: G(u) = u.
struct plain_sampling {
  double cdf(double u) const { return u; }
  double density(double) const { return 1; }
};

/// The best of n responses by reward: G(u) = uⁿ. Throws for n < 1.
struct best_of {
  int n;

  double cdf(double u) const {
    detail::check_n("best_of", n);
    return std::pow(u, n);
  }
  double density(double u) const {
    detail::check_n("best_of", n);
    return n * std::pow(u, n - 1);
  }
};

/// The worst of n responses, as an attacker picks it (best-of-n jailbreaking): G(u) = 1 − (1 − u)ⁿ. Throws for n < 1.
struct worst_of {
  int n;

  double cdf(double u) const {
    detail::check_n("worst_of", n);
    return u < 1 ? -std::expm1(n * std::log1p(-u)) : 1;
  }
  double density(double u) const {
    detail::check_n("worst_of", n);
    return n * std::pow(1 - u, n - 1);
  }
};

/// The k-th smallest of n responses, 1 ≤ k ≤ n: G(u) = I_u(k, n − k + 1), the regularised incomplete beta function,
/// which is P(at least k of n uniform numbers are ≤ u). best_of{n} is k = n, worst_of{n} is k = 1; the median of 5 is
/// {3, 5}. Relative accuracy 1e-12 for n up to 1,000 where G ≤ ½, absolute above. Cost: up to n steps. Throws unless 1
/// ≤ k ≤ n.
struct order_statistic {
  int k, n;

  double cdf(double u) const {
    check();
    if (!(u > 0)) return 0;
    if (u >= 1) return 1;
    // P(j of n are ≤ u), summed away from the middle of the distribution: upwards from k or downwards from k − 1.
    const double odds = u / (1 - u);
    double sum = 0;
    if (k > u * n) {
      double term = detail::binomial_probability(k, n, u);
      for (int j = k; j <= n && term > sum * 1e-17; ++j) {
        sum += term;
        term *= odds * (n - j) / (j + 1);
      }
      return std::min(sum, 1.0);
    }
    double term = detail::binomial_probability(k - 1, n, u);
    for (int j = k - 1; j >= 0 && term > sum * 1e-17; --j) {
      sum += term;
      term *= j / (odds * (n - j + 1));
    }
    return std::max(1 - sum, 0.0);
  }

  double density(double u) const {
    check();
    if (u <= 0) return k == 1 ? n : 0;
    if (u >= 1) return k == n ? n : 0;
    return k * detail::binomial_probability(k, n, u) / u;  // n·C(n − 1, k − 1)·u^{k−1}(1 − u)^{n−k}
  }

 private:
  void check() const {
    detail::check_n("order_statistic", n);
    if (k < 1 || k > n) detail::fail("order_statistic", detail::text("k from 1 to n = ", n), detail::text(k));
  }
};

/// The best of N responses where N varies, P(N = n) = weight[n − 1]: G(u) = Σ weight_n uⁿ. Throws unless the weights
/// are at least 0 and sum to 1 (to 1e-9).
struct random_best_of {
  array<double> weight;

  double cdf(double u) const {
    check();
    double sum = 0;
    for (Eigen::Index n = weight.size(); n > 0; --n) sum = (sum + weight[n - 1]) * u;
    return sum;
  }
  double density(double u) const {
    check();
    double sum = 0;
    for (Eigen::Index n = weight.size(); n > 0; --n) sum = sum * u + static_cast<double>(n) * weight[n - 1];
    return sum;
  }

 private:
  void check() const {
    double sum = 0;
    for (Eigen::Index n = 0; n < weight.size(); ++n) {
      if (!detail::is_finite(weight[n]) || weight[n] < 0)
        detail::fail("random_best_of", "weights of at least 0", detail::text(weight[n], detail::at(n)));
      sum += weight[n];
    }
    if (!(std::abs(sum - 1) <= 1e-9)) detail::fail("random_best_of", "weights that sum to 1", detail::text(sum));
  }
};

/// The best of 1 + Poisson(lambda) responses: G(u) = u·e^{λ(u−1)}. Throws unless lambda is finite and at least 0.
struct best_of_poisson {
  double lambda;

  double cdf(double u) const {
    check();
    return u * std::exp(lambda * (u - 1));
  }
  double density(double u) const {
    check();
    return (1 + lambda * u) * std::exp(lambda * (u - 1));
  }

 private:
  void check() const {
    if (!detail::is_finite(lambda) || lambda < 0)
      detail::fail("best_of_poisson", "lambda finite and at least 0", detail::text(lambda));
  }
};

static_assert(procedure<plain_sampling> && procedure<best_of> && procedure<worst_of> && procedure<order_statistic> &&
              procedure<random_best_of> && procedure<best_of_poisson>);

}  // namespace infalign
