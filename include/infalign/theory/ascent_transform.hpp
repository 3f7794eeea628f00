// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/eigen.hpp>
#include <infalign/theory/mixed_use.hpp>
#include <infalign/transform/transforms.hpp>

#include <algorithm>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The transform along which the win rate of the current policy rises fastest.
namespace INFALIGN_NAMESPACE {

/// The transform along which the win rate of the current policy rises fastest. F is the CDF of the policy's calibrated
/// rewards, (G₁, g₁) the procedure of the policy, (G₂, g₂) that of the reference.
///
///     Φ(u) = ∫₀ᵘ g₁(F(v)) g₂(v) dv,   for a `mixed_use` the sum of share·Φ over its uses
///
/// Compute it anew every few small steps: training then climbs to the optimum of W − β·KL without a parameter to tune.
/// Training on one Φ to convergence before the next is computed does not converge.
///
/// Shapes: u: at least one calibrated reward of the policy's own responses, to one prompt or, because the optimum does
/// not depend on the prompt, to many.
/// Accuracy: Φ(0) = 0; exact at the distinct u for the empirical F; linear between them.
/// Errors: throws if there is no u, if one is NaN or outside [0, 1], and if a procedure is invalid.
template <array_expression U, inference_use Use>
tabulated ascent_transform(const U& u, const Use& use) {
  constexpr auto name = "ascent_transform";
  detail::check_part(use);
  const auto values = detail::evaluated(u);
  if (values.size() == 0) detail::fail(name, "at least one calibrated reward", "none");
  detail::check_scored(name, values.data(), values.size(), 0, unscored::error);
  std::vector<double> sorted(values.data(), values.data() + values.size());
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() < 0 || sorted.back() > 1)
    detail::fail(name, "calibrated rewards in [0, 1]",
                 detail::concat(sorted.front() < 0 ? sorted.front() : sorted.back()));

  std::vector<double> knots{0}, phi{0};
  const auto rise_to = [&](double v, std::size_t below) {  // F = below/size from the last knot to v
    if (v <= knots.back()) return;
    const double F = static_cast<double>(below) / static_cast<double>(sorted.size());
    phi.push_back(phi.back() + use.rise(F, knots.back(), v));
    knots.push_back(v);
  };
  for (std::size_t i = 0; i < sorted.size(); ++i) rise_to(sorted[i], i);
  rise_to(1, sorted.size());
  const auto size = static_cast<Eigen::Index>(knots.size());
  return {Eigen::Map<const array<double>>(knots.data(), size), Eigen::Map<const array<double>>(phi.data(), size)};
}

/// As above, for one pair of procedures.
template <array_expression U, procedure T1, procedure T2>
tabulated ascent_transform(const U& u, const T1& policy_procedure, const T2& reference_procedure) {
  return ascent_transform(u, detail::only_use(policy_procedure, reference_procedure));
}

/// As above, with one procedure for both.
template <array_expression U, procedure T>
tabulated ascent_transform(const U& u, const T& both) {
  return ascent_transform(u, both, both);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
