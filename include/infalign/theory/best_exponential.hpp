// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/theory/aligned_policy.hpp>

#include <cmath>

/// \file
/// The best of the exponential transforms at a KL, chosen before training.
namespace infalign {

namespace detail {

/// normalized_exponential less its value at the flat end, so that rounding does not hide small differences there.
struct anchored_exponential {
  double t;
  double operator()(double u) const {
    if (t >= 0) return normalized_exponential{t}(u);
    return std::exp(t * u) * std::expm1(t * (1 - u)) / -std::expm1(t);
  }
};

}  // namespace detail

/// The `normalized_exponential` with the highest win rate at a KL: its t and β.
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
template <procedure T1, procedure T2>
transform_with_beta<normalized_exponential> best_exponential(const T1& policy_procedure, const T2& reference_procedure,
                                                             at_kl at) {
  using namespace detail;
  constexpr auto name = "best_exponential";
  if (!is_finite(at.kl) || !(at.kl >= 1e-12)) fail(name, "a kl of at least 1e-12", concat(at.kl));
  check_part(policy_procedure);
  check_part(reference_procedure);
  const auto loss = [&](double x) {  // log(1 − W) at t = sinh x; 0, the worst value, if the KL is out of reach
    const anchored_exponential phi{std::sinh(x)};
    const auto beta = find_beta(phi, at.kl).beta;
    return beta ? std::log(aligned_policy(phi, at_beta{*beta}).loss_rate(policy_procedure, reference_procedure)) : 0.0;
  };
  const double identity = loss(0);
  if (identity == 0)
    fail(name, concat("a kl of at most ", find_beta(anchored_exponential{0}, at.kl).most_kl), concat(at.kl));
  // The best point of a coarse grid, then the minimum between its neighbours.
  double best = 0, at_best = identity;
  for (const double sign : {1.0, -1.0})
    for (double x = sign; std::abs(x) < 14.5; x += sign) {
      const double y = loss(x);
      if (y < at_best) best = x, at_best = y;
      if (y > at_best + 0.5) break;
    }
  best = minimum(loss, best - 1, best + 1, 1e-5);
  const bool none_better = std::exp(identity) - std::exp(loss(best)) <= 1e-10;
  const aligned_policy policy(anchored_exponential{none_better ? 0 : std::sinh(best)}, at);
  return {{policy.transform().t}, policy.beta(), policy.kl(), policy.win_rate(policy_procedure, reference_procedure)};
}

/// As above, with one procedure for both.
template <procedure T>
transform_with_beta<normalized_exponential> best_exponential(const T& both, at_kl at) {
  return best_exponential(both, both, at);
}

}  // namespace infalign
