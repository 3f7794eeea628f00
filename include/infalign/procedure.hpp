// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

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

static_assert(procedure<plain_sampling> && procedure<best_of> && procedure<worst_of>);

}  // namespace infalign
