// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/tilted_policy.hpp>

#include <cmath>
#include <utility>

/// The best of the exponential transforms, chosen before training.
namespace infalign {

namespace detail {

/// normalized_exponential less its value at the end where it is flat, so that small differences there are not lost in
/// rounding.
struct anchored_exponential {
  double t;
  double operator()(double u) const {
    if (t >= 0) return normalized_exponential{t}(u);
    return std::exp(t * u) * std::expm1(t * (1 - u)) / -std::expm1(t);
  }
};

}  // namespace detail

/// The exponential with the highest win rate at a KL budget, in its normalised form: t and β. Stands beside
/// `optimal_transform`, which is the most that any transform reaches; t > 0 for best-of-n, t < 0 for worst-of-n, t = 0
/// (the identity) where no other is better by 1e-10.
///
/// For t far below 0 its β can be below the rounding of a reward near 1: train on exponential{t} at β·(1 − e^t) then,
/// which is the same policy. The highest win rate to 1e-9, t to about 1e-4 of itself, as it is flat there; |t| at most
/// 1e6. Takes about a second. Throws for a KL out of reach.
template <procedure T1, procedure T2>
tuned_transform<normalized_exponential> best_exponential(const T1& policy_procedure, const T2& reference_procedure,
                                                         at_kl at) {
  if (!detail::is_finite(at.kl) || !(at.kl >= 1e-12))
    detail::fail("best_exponential", "a kl of at least 1e-12", detail::text(at.kl));
  const auto loss = [&](double x) {  // log(1 − W) at t = sinh x; 0, the worst, where the KL is out of reach
    const detail::anchored_exponential phi{std::sinh(x)};
    const auto beta = detail::find_beta(phi, at.kl).beta;
    return beta ? std::log(tilted_policy(phi, at_beta{*beta}).loss_rate(policy_procedure, reference_procedure)) : 0.0;
  };
  // The best of a coarse grid and its neighbours, then golden sections: no derivative, and one minimum between them.
  double best = 0, at_best = loss(0), step = 1;
  if (at_best == 0) {
    const double most = detail::find_beta(detail::anchored_exponential{0}, at.kl).most_kl;
    detail::fail("best_exponential", detail::text("a kl of at most ", most), detail::text(at.kl));
  }
  const double identity = at_best;
  for (const double sign : {1.0, -1.0})
    for (double x = sign; std::abs(x) < 14.5; x += sign) {
      const double y = loss(x);
      if (y < at_best) best = x, at_best = y;
      if (y > at_best + 0.5) break;
    }
  double low = best - step, high = best + step;
  const double ratio = 0.5 * (std::sqrt(5.0) - 1);
  double x1 = high - ratio * (high - low), x2 = low + ratio * (high - low), y1 = loss(x1), y2 = loss(x2);
  while (high - low > 1e-5) {
    if (y1 < y2) {
      high = std::exchange(x2, x1), y2 = y1;
      x1 = high - ratio * (high - low), y1 = loss(x1);
    } else {
      low = std::exchange(x1, x2), y1 = y2;
      x2 = low + ratio * (high - low), y2 = loss(x2);
    }
  }
  best = 0.5 * (low + high);
  const bool none_better = std::exp(identity) - std::exp(loss(best)) <= 1e-10;
  const tilted_policy policy(detail::anchored_exponential{none_better ? 0 : std::sinh(best)}, at);
  return {{policy.transform().t}, policy.beta(), policy.kl(), policy.win_rate(policy_procedure, reference_procedure)};
}

/// The same where policy and reference are used through one procedure.
template <procedure T>
tuned_transform<normalized_exponential> best_exponential(const T& both, at_kl at) {
  return best_exponential(both, both, at);
}

}  // namespace infalign
