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

/// A procedure that draws at most `sample_size()` responses. Then it can be applied to a sample of them too:
/// `sample_cdf(below, count)` is the chance that, drawing without replacement from `count` ≥ sample_size() responses,
/// it shows one of the `below` lowest. Where `below` of them are lower than some reward, this is the unbiased estimate
/// of G(F): over samples its mean is G of the chance F that one response is lower. Relative accuracy 1e-12.
template <class T>
concept sample_procedure = procedure<T> && requires(const T& t, Eigen::Index n) {
  { t.sample_size() } -> std::convertible_to<Eigen::Index>;
  { t.sample_cdf(n, n) } -> std::convertible_to<double>;
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

/// C(n, j)·u^j·(1 − u)^{n−j} for u in (0, 1): by its distance from the peak, as large logarithms would cancel. (C.
/// Loader, "Fast and accurate computation of binomial probabilities", 2000.)
inline double binomial_probability(int j, int n, double u) {
  if (j == 0) return std::exp(n * std::log1p(-u));
  if (j == n) return std::pow(u, n);
  const auto distance = [](double x, double mean) { return x * std::log(x / mean) + mean - x; };
  const double error = stirling_error(n) - stirling_error(j) - stirling_error(n - j);
  const double exponent = error - distance(j, n * u) - distance(n - j, n * (1 - u));
  constexpr double two_pi = 6.28318530717958647693;
  return std::exp(exponent) * std::sqrt(n / (two_pi * j * (n - j)));
}

/// The chance that of n responses drawn without replacement from `count` exactly j are among the `below` lowest.
inline double hypergeometric_probability(int j, int n, int below, int count) {
  const int others = count - below;
  if (j < 0 || j > below || n - j < 0 || n - j > others) return 0;
  if (n == 0 || n == count) return 1;
  const double u = static_cast<double>(n) / count;  // any u gives the same; this one is at all three peaks
  return binomial_probability(j, below, u) * binomial_probability(n - j, others, u) / binomial_probability(n, count, u);
}

/// C(below, n)/C(count, n): the chance that n responses drawn without replacement from `count` are all among the
/// `below` lowest.
inline double all_below(Eigen::Index n, Eigen::Index below, Eigen::Index count) {
  double product = 1;
  for (Eigen::Index i = 0; i < n && product > 0; ++i)
    product *= static_cast<double>(std::max<Eigen::Index>(below - i, 0)) / static_cast<double>(count - i);
  return product;
}

/// P(J ≥ k) for an integer J in [lowest, highest] of the given mean and one peak, from P(J = j) = probability(j) and
/// P(J = j + 1)/P(J = j) = growth(j): summed away from the middle, upwards from k or downwards from k − 1.
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

inline void check_sample(const char* function, Eigen::Index n, Eigen::Index below, Eigen::Index count) {
  if (count < n) fail(function, text("at least ", n, " responses to draw from"), text(count));
  if (below < 0 || below > count) fail(function, text("from 0 to ", count, " responses below"), text(below));
}
}  // namespace detail

/// One response, shown as it is: G(u) = u.
struct plain_sampling {
  double cdf(double u) const { return u; }
  double density(double) const { return 1; }

  Eigen::Index sample_size() const { return 1; }
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_sample("plain_sampling", 1, below, count);
    return static_cast<double>(below) / static_cast<double>(count);
  }
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

  Eigen::Index sample_size() const { return n; }
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_n("best_of", n);
    detail::check_sample("best_of", n, below, count);
    return detail::all_below(n, below, count);
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

  Eigen::Index sample_size() const { return n; }
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_n("worst_of", n);
    detail::check_sample("worst_of", n, below, count);
    return 1 - detail::all_below(n, count - below, count);
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
    const double odds = u / (1 - u);
    return detail::at_least(
        k, 0, n, u * n, [&](int j) { return detail::binomial_probability(j, n, u); },
        [&](int j) { return odds * (n - j) / (j + 1); });
  }

  double density(double u) const {
    check();
    if (u <= 0) return k == 1 ? n : 0;
    if (u >= 1) return k == n ? n : 0;
    return k * detail::binomial_probability(k, n, u) / u;  // n·C(n − 1, k − 1)·u^{k−1}(1 − u)^{n−k}
  }

  Eigen::Index sample_size() const { return n; }
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    check();
    detail::check_sample("order_statistic", n, below, count);
    const int b = static_cast<int>(below), K = static_cast<int>(count), lowest = std::max(0, n - (K - b)),
              highest = std::min(n, b);
    if (k > highest) return 0;
    if (k <= lowest) return 1;
    return detail::at_least(
        k, lowest, highest, static_cast<double>(n) * b / K,
        [&](int j) { return detail::hypergeometric_probability(j, n, b, K); },
        [&](int j) { return static_cast<double>(b - j) * (n - j) / ((j + 1.0) * (K - b - n + j + 1)); });
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

  /// The largest N that has a weight.
  Eigen::Index sample_size() const {
    Eigen::Index n = weight.size();
    while (n > 1 && weight[n - 1] == 0) --n;
    return n;
  }
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    check();
    detail::check_sample("random_best_of", sample_size(), below, count);
    double sum = 0;
    for (Eigen::Index n = 1; n <= sample_size(); ++n) sum += weight[n - 1] * detail::all_below(n, below, count);
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
static_assert(sample_procedure<plain_sampling> && sample_procedure<best_of> && sample_procedure<worst_of> &&
              sample_procedure<order_statistic> && sample_procedure<random_best_of>);
static_assert(!sample_procedure<best_of_poisson>, "it may draw any number of responses, so no sample is enough");

}  // namespace infalign
