// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/theory/aligned_policy.hpp>

#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// The best of the exponential transforms at a KL, chosen before training.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// normalized_exponential less its value at the flat end, so that rounding does not hide small differences there.
struct anchored_exponential {
  double t;
  double operator()(double u) const {
    if (t >= 0) return normalized_exponential{t}(u);
    return std::exp(t * u) * std::expm1(t * (1 - u)) / -std::expm1(t);
  }
};

/// The t at which a loss is least: the best point of a coarse grid, then the minimum between its neighbours, to a
/// relative tolerance. 0 if no other t is better by 1e-10. loss(t) is log(1 − W), or 0 if the KL is out of reach.
template <class Loss>
double best_rate(const Loss& loss, double tolerance) {
  const auto at = [&loss](double x) { return loss(std::sinh(x)); };
  const double identity = at(0);
  double best = 0, at_best = identity;
  for (const double sign : {1.0, -1.0})
    for (double x = sign; std::abs(x) < 14.5; x += sign) {
      const double y = at(x);
      if (y < at_best) best = x, at_best = y;
      if (y > at_best + 0.5) break;
    }
  best = minimum(at, best - 1, best + 1, tolerance);
  return std::exp(identity) - std::exp(at(best)) <= 1e-10 ? 0 : std::sinh(best);
}

inline void check_kl(const char* function, double kl) {
  if (!is_finite(kl) || !(kl >= 1e-12)) fail(function, "a kl of at least 1e-12", concat(kl));
}

}  // namespace detail

/// The `normalized_exponential` with the highest win rate at a KL, for a pair of procedures or a `mixed_use`: its t and β.
///
/// t is above 0 for best-of-n and below 0 for worst-of-n. t is 0 (the identity) if no other t is better by 1e-10. The
/// most that any transform reaches is found by `optimal_transform`.
///
/// If t is far below 0, β can be below the rounding of a reward near 1. Then train on exponential{t} with β·(1 − e^t),
/// which gives the same policy.
///
/// Range: |t| ≤ 1e6.
/// Accuracy: 1e-9 in the win rate; 1e-4 relative in t, because the win rate is flat at its maximum.
/// Cost: 0.05 to 0.3 seconds.
/// Errors: throws if the KL is below 1e-12 or above what an exponential reaches, and if a procedure is invalid.
template <inference_use Use>
transform_with_beta<normalized_exponential> best_exponential(const Use& use, at_kl at) {
  using namespace detail;
  constexpr auto name = "best_exponential";
  check_kl(name, at.kl);
  check_part(use);
  const auto loss = [&](double t) {
    const anchored_exponential phi{t};
    const auto beta = find_beta(phi, at.kl).beta;
    return beta ? std::log(aligned_policy(phi, at_beta{*beta}).loss_rate(use)) : 0.0;
  };
  if (loss(0) == 0)
    fail(name, concat("a kl of at most ", find_beta(anchored_exponential{0}, at.kl).most_kl), concat(at.kl));
  const aligned_policy policy(anchored_exponential{best_rate(loss, 1e-5)}, at);
  return {{policy.transform().t}, policy.beta(), policy.kl(), policy.win_rate(use)};
}

/// As above, for one pair of procedures.
template <procedure T1, procedure T2>
transform_with_beta<normalized_exponential> best_exponential(const T1& policy_procedure, const T2& reference_procedure,
                                                             at_kl at) {
  return best_exponential(detail::only_use(policy_procedure, reference_procedure), at);
}

/// As above, with one procedure for both.
template <procedure T>
transform_with_beta<normalized_exponential> best_exponential(const T& both, at_kl at) {
  return best_exponential(both, both, at);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
