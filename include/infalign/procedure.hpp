// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>
#include <infalign/detail/distributions.hpp>
#include <infalign/detail/numerics.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Inference-time procedures: how the model is used after training.
///
/// A policy is described by the CDF F of its calibrated reward on [0, 1]. A procedure turns it into the CDF G(F(u)) of
/// the response that the user sees (InfAlign, section 3).
namespace INFALIGN_NAMESPACE {

/// A procedure: `cdf` is G, which increases from G(0) = 0 to G(1) = 1; `density` is its derivative g. Both are functions
/// on [0, 1].
///
/// If it has a member `check()`, this throws unless the parameters are right. Every function that uses a procedure calls
/// it once. The other members assume that the parameters are right.
template <class T>
concept procedure = requires(const T& t, double u) {
  { t.cdf(u) } -> std::convertible_to<double>;
  { t.density(u) } -> std::convertible_to<double>;
};

/// A procedure that draws at most `sample_size()` responses, so that it can be applied to a sample of responses too.
///
/// `sample_cdf(below, count)` is the probability that it outputs one of the `below` lowest of `count` responses, if it
/// draws from these without replacement. If `below` of them are lower than some reward, this is an unbiased estimate of
/// G(F), with F the probability that a response is lower.
///
/// Accuracy: relative 1e-12.
/// Errors: throws unless count ≥ sample_size() and 0 ≤ below ≤ count.
template <class T>
concept sample_procedure = procedure<T> && requires(const T& t, Eigen::Index n) {
  { t.sample_size() } -> std::convertible_to<Eigen::Index>;
  { t.sample_cdf(n, n) } -> std::convertible_to<double>;
};

namespace detail {
inline void check_n(const char* function, int n) {
  if (n < 1) fail(function, "n of at least 1", concat(n));
}

inline void check_sample(const char* function, Eigen::Index n, Eigen::Index below, Eigen::Index count) {
  if (count < n) fail(function, concat("at least ", n, " responses to draw from"), concat(count));
  if (below < 0 || below > count) fail(function, concat("from 0 to ", count, " responses below"), concat(below));
}
}  // namespace detail

/// One response: G(u) = u.
struct plain_sampling {
  INFALIGN_HOST_DEVICE double cdf(double u) const { return u; }    ///< G(u) = u.
  INFALIGN_HOST_DEVICE double density(double) const { return 1; }  ///< g(u) = 1.
  Eigen::Index sample_size() const { return 1; }                   ///< 1.
  /// below/count.
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_sample("plain_sampling", 1, below, count);
    return static_cast<double>(below) / static_cast<double>(count);
  }
};

/// The best of n responses by reward: G(u) = uⁿ.
struct best_of {
  int n;  ///< The number of responses, at least 1.

  void check() const { detail::check_n("best_of", n); }                                   ///< Throws for n < 1.
  INFALIGN_HOST_DEVICE double cdf(double u) const { return std::pow(u, n); }              ///< G(u) = uⁿ.
  INFALIGN_HOST_DEVICE double density(double u) const { return n * std::pow(u, n - 1); }  ///< g(u) = n·uⁿ⁻¹.
  Eigen::Index sample_size() const { return n; }                                          ///< n.
  /// C(below, n)/C(count, n).
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_sample("best_of", n, below, count);
    return detail::all_below(n, below, count);
  }
};

/// The worst of n responses, as an attacker picks it (best-of-n jailbreaking): G(u) = 1 − (1 − u)ⁿ.
struct worst_of {
  int n;  ///< The number of responses, at least 1.

  void check() const { detail::check_n("worst_of", n); }  ///< Throws for n < 1.
  INFALIGN_HOST_DEVICE double cdf(double u) const {
    return u < 1 ? -std::expm1(n * std::log1p(-u)) : 1;
  }  ///< G(u) = 1 − (1 − u)ⁿ.
  INFALIGN_HOST_DEVICE double density(double u) const { return n * std::pow(1 - u, n - 1); }  ///< g(u) = n·(1 − u)ⁿ⁻¹.
  Eigen::Index sample_size() const { return n; }                                              ///< n.
  /// 1 − C(count − below, n)/C(count, n).
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_sample("worst_of", n, below, count);
    return 1 - detail::all_below(n, count - below, count);
  }
};

/// The k-th smallest of n responses. `best_of{n}` is k = n, `worst_of{n}` is k = 1, the median of 5 is {3, 5}.
///
///     G(u) = P(at least k of n uniform numbers are ≤ u) = I_u(k, n − k + 1)
///
/// Accuracy: 1e-12 for n up to 1,000; relative if G ≤ ½, else absolute.
/// Cost: up to n steps.
struct order_statistic {
  int k;  ///< The rank of the output from below, from 1 to n.
  int n;  ///< The number of responses, at least 1.

  /// Throws unless 1 ≤ k ≤ n.
  void check() const {
    detail::check_n("order_statistic", n);
    if (k < 1 || k > n) detail::fail("order_statistic", detail::concat("k from 1 to n = ", n), detail::concat(k));
  }

  /// G(u), the regularised incomplete beta function I_u(k, n − k + 1).
  double cdf(double u) const {
    if (!(u > 0)) return 0;
    if (u >= 1) return 1;
    const double odds = u / (1 - u);
    return detail::at_least(
        k, 0, n, u * n, [&](int j) { return detail::binomial_probability(j, n, u); },
        [&](int j) { return odds * (n - j) / (j + 1); });
  }

  /// g(u) = n·C(n − 1, k − 1)·uᵏ⁻¹·(1 − u)ⁿ⁻ᵏ.
  double density(double u) const {
    if (u <= 0) return k == 1 ? n : 0;
    if (u >= 1) return k == n ? n : 0;
    return k * detail::binomial_probability(k, n, u) / u;
  }

  Eigen::Index sample_size() const { return n; }  ///< n.
  /// P(at least k of n drawn responses are among the `below` lowest): a sum of hypergeometric probabilities.
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
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
};

/// The best of N responses for a random N, P(N = n) = weight[n − 1].
///
///     G(u) = Σₙ weight[n − 1]·uⁿ
struct random_best_of {
  array<double> weight;  ///< The probability of each N from 1 on. They are at least 0 and sum to 1 (to 1e-9).

  /// Throws unless the weights are at least 0 and sum to 1 (to 1e-9).
  void check() const {
    double sum = 0;
    for (Eigen::Index n = 0; n < weight.size(); ++n) {
      if (!detail::is_finite(weight[n]) || weight[n] < 0)
        detail::fail("random_best_of", "weights of at least 0", detail::concat(weight[n], detail::position(n)));
      sum += weight[n];
    }
    if (!(std::abs(sum - 1) <= 1e-9)) detail::fail("random_best_of", "weights that sum to 1", detail::concat(sum));
  }

  /// G(u).
  double cdf(double u) const {
    double sum = 0;
    for (Eigen::Index n = weight.size(); n > 0; --n) sum = (sum + weight[n - 1]) * u;
    return sum;
  }
  /// g(u) = Σₙ n·weight[n − 1]·uⁿ⁻¹.
  double density(double u) const {
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
  /// Σₙ weight[n − 1]·C(below, n)/C(count, n).
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    const auto most = sample_size();
    detail::check_sample("random_best_of", most, below, count);
    double sum = 0;
    for (Eigen::Index n = 1; n <= most; ++n) sum += weight[n - 1] * detail::all_below(n, below, count);
    return sum;
  }
};

/// The best of 1 + Poisson(λ) responses: G(u) = u·e^{λ(u−1)}. It can draw any number of responses, so it is no
/// `sample_procedure`.
struct best_of_poisson {
  double lambda;  ///< The mean number of further responses, finite and at least 0.

  /// Throws unless lambda is finite and at least 0.
  void check() const {
    if (!detail::is_finite(lambda) || lambda < 0)
      detail::fail("best_of_poisson", "lambda finite and at least 0", detail::concat(lambda));
  }
  INFALIGN_HOST_DEVICE double cdf(double u) const { return u * std::exp(lambda * (u - 1)); }  ///< G(u) = u·e^{λ(u−1)}.
  /// g(u) = (1 + λu)·e^{λ(u−1)}.
  INFALIGN_HOST_DEVICE double density(double u) const { return (1 + lambda * u) * std::exp(lambda * (u - 1)); }
};

/// A soft choice among n responses: it outputs the k-th smallest with a probability in proportion to e^{λk/n}.
///
///     G(u) = ((1 + (q − 1)·u)ⁿ − 1)/(qⁿ − 1),   q = e^{λ/n}
///
/// λ = 0 is `plain_sampling`; λ → ∞ is `best_of{n}`, λ → −∞ is `worst_of{n}`. For large n it is the policy that is aligned
/// by `identity` with β = 1/λ.
///
/// The choice is by rank among the n responses. A choice in proportion to e^{λ·reward} is no procedure: it depends on
/// more than F, so that nothing is known of it before training.
///
/// Accuracy: G and g relative 1e-12 for n up to 1,000.
/// Source: with rewards in place of ranks, Verdun et al., "Soft best-of-n sampling for model alignment",
/// arXiv:2505.03156.
struct soft_best_of {
  int n;          ///< The number of responses, at least 1.
  double lambda;  ///< λ, finite. Positive prefers high rewards.

  /// Throws unless n ≥ 1 and λ is finite.
  void check() const {
    detail::check_n("soft_best_of", n);
    if (!detail::is_finite(lambda)) detail::fail("soft_best_of", "lambda finite", detail::concat(lambda));
  }

  /// G(u).
  INFALIGN_HOST_DEVICE double cdf(double u) const {
    if (is_plain()) return u;
    if (u <= 0) return 0;
    const double x = lambda / n;
    if (x < 0) return std::min(1.0, std::expm1(n * std::log1p(std::expm1(x) * u)) / std::expm1(lambda));
    // (1 + (q − 1)·u)ⁿ = e^w, and e^{w − λ} = (u + (1 − u)/q)ⁿ
    const double w = x < 700 ? n * std::log1p(std::expm1(x) * u) : detail::infinite<double>;
    return std::pow(base(u), n) * (std::expm1(-w) / std::expm1(-lambda));
  }

  /// g(u) = n·(q − 1)·(1 + (q − 1)·u)ⁿ⁻¹/(qⁿ − 1).
  INFALIGN_HOST_DEVICE double density(double u) const {
    if (is_plain()) return 1;
    const double size = std::abs(lambda);
    return n * std::expm1(-size / n) / std::expm1(-size) * std::pow(base(u), n - 1);
  }

  Eigen::Index sample_size() const { return n; }  ///< n.
  /// E[(q^J − 1)/(qⁿ − 1)], with J the number of n drawn responses that are among the `below` lowest. Cost: n steps.
  double sample_cdf(Eigen::Index below, Eigen::Index count) const {
    detail::check_sample("soft_best_of", n, below, count);
    const int b = static_cast<int>(below), K = static_cast<int>(count);
    double sum = 0;
    for (int j = std::max(1, n - (K - b)); j <= std::min(n, b); ++j)
      sum += detail::hypergeometric_probability(j, n, b, K) * one_of_lowest(j);
    return std::min(sum, 1.0);
  }

 private:
  INFALIGN_HOST_DEVICE bool is_plain() const { return std::abs(lambda) < 1e-20; }
  /// 1 + (q − 1)·u, divided by q for λ > 0, so that it is at most 1.
  INFALIGN_HOST_DEVICE double base(double u) const {
    const double low = std::exp(-std::abs(lambda) / n);
    return lambda > 0 ? u + (1 - u) * low : (1 - u) + u * low;
  }
  /// The probability that one of the j lowest of n responses is chosen.
  double one_of_lowest(int j) const {
    if (is_plain()) return static_cast<double>(j) / n;
    const double x = lambda / n;
    if (x < 0) return std::expm1(x * j) / std::expm1(lambda);
    return std::exp(x * (j - n)) * (std::expm1(-x * j) / std::expm1(-lambda));
  }
};

/// A procedure from its CDF alone: G is any function of a double, and g its numerical derivative.
///
///     const from_cdf middle([](double u) { return u * u * (3 - 2 * u); });   // the median of 3
///
/// Accuracy: 1e-9 in g if G is smooth on [0, 1].
/// Cost: g evaluates G about 12 times, never outside [0, 1].
template <class G>
class from_cdf {
 public:
  /// Makes a procedure from G.
  explicit from_cdf(G cdf) : cdf_(std::move(cdf)) {}

  /// Throws unless G(0) = 0 and G(1) = 1 (to 1e-9) and G is finite and does not decrease, on a grid of 256 cells.
  void check() const {
    double before = 0;
    for (int i = 0; i <= 256; ++i) {
      const double u = i / 256.0, y = cdf(u);
      const double least = i == 256 ? 1 : before, most = i == 0 ? 0 : 1;
      if (!detail::is_finite(y) || y < least - 1e-9 || y > most + 1e-9)
        detail::fail("from_cdf", "a CDF that grows from 0 at 0 to 1 at 1", detail::concat(y, " at ", u));
      before = y;
    }
  }
  double cdf(double u) const { return static_cast<double>(cdf_(u)); }  ///< G(u).
  /// g(u), by Richardson extrapolation.
  double density(double u) const {
    return std::max(0.0, detail::derivative([this](double x) { return cdf(x); }, u));
  }

 private:
  G cdf_;
};

static_assert(sample_procedure<plain_sampling> && sample_procedure<best_of> && sample_procedure<worst_of> &&
              sample_procedure<order_statistic> && sample_procedure<random_best_of> && sample_procedure<soft_best_of>);
static_assert(procedure<best_of_poisson> && !sample_procedure<best_of_poisson> &&
              procedure<from_cdf<double (*)(double)>>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
