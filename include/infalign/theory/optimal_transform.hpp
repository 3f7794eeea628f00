// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/numerics.hpp>
#include <infalign/detail/shooting.hpp>
#include <infalign/theory/aligned_policy.hpp>

#include <algorithm>
#include <cmath>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// The transform that maximises W − β·KL for a pair of procedures, or for several.
namespace INFALIGN_NAMESPACE {

/// The transform that maximises W − β·KL, tabulated with slopes, and what its policy reaches.
struct optimum : transform_with_beta<tabulated> {
  double log_density_at_0;  ///< log p(0) of the policy.
  double log_density_at_1;  ///< log p(1) of the policy.
  double residual;          ///< The error |F(0)| of the solution, below 1e-8.

  /// log Z of the policy: −log p(0), because Φ*(0) = 0.
  double log_partition() const { return -log_density_at_0; }
};

namespace detail {

inline constexpr double fine_tolerance = 1e-11, coarse_tolerance = 1e-7, largest_residual = 1e-8;

/// The transform, KL and win rate of a trajectory.
template <inference_use Use>
optimum optimum_of(const shooting<Use>& problem, double beta, const typename shooting<Use>::trajectory& path) {
  if (path.empty()) return {{{}, beta, 0, 0}, 0, 0, problem.residual(path)};
  const auto& end = path.back().y;
  return {{problem.transform(path), beta, end.kl, 1 - end.loss},
          end.log_density,
          path.front().y.log_density,
          problem.residual(path)};
}

/// The best of all solutions at known.beta. If G₁ is convex, as for best-of-n, there is one.
template <inference_use Use>
optimum best_at_beta(const Use& use, const optimum& known) {
  auto best = known;
  if (use.convex()) return best;
  const shooting rough(use, known.beta, coarse_tolerance), problem(use, known.beta, fine_tolerance);
  const auto gain = [](const optimum& x) { return x.win_rate - x.beta * x.kl; };
  for (const auto& path : rough.all(known.log_density_at_1)) {
    if (path.empty() || std::abs(path.front().y.log_density / known.log_density_at_1 - 1) < 1e-3) continue;
    const auto other = optimum_of(problem, known.beta, problem.solve(path.front().y.log_density, 1e-4));
    if (other.residual < largest_residual && gain(other) > gain(best) + 1e-9) best = other;
  }
  return best;
}

}  // namespace detail

/// The transform Φ* that maximises W − β·KL over all policies, with the policy used through one procedure (G₁, g₁) and
/// the reference through another (G₂, g₂); or the mean W of several such uses (`mixed_use`).
///
///     log p(u) = Φ*(u)/β + const,   Φ*(u) = ∫₀ᵘ Σ share·g₁(F(v)) g₂(v) dv
///
/// p = F′ is the density of the policy's calibrated reward. If G₁ is convex, as for best-of-n, W − β·KL is strictly
/// concave and the solution is the global optimum. If there are several solutions, the best of those found is returned:
/// worst-of-n against best-of-n has up to three, worst-of-n against itself has one.
///
/// Range: Φ* is from 0 to Φ*(1), in units of W, so that it is trained on with this β.
/// Accuracy: 1e-8 in W and KL.
/// Cost: 1 ms for best-of-4, 2 ms for best-of-64.
/// Errors: throws unless β is finite and above 0, if no solution is found to 1e-8, and if a procedure is invalid.
template <inference_use Use>
optimum optimal_transform(const Use& use, at_beta at) {
  using namespace detail;
  constexpr auto name = "optimal_transform";
  check_positive(name, "a beta", at.beta);
  check_part(use);
  const double guess = std::min(0.5 / at.beta, 1 + std::log1p(1 / at.beta));
  const shooting problem(use, at.beta, fine_tolerance);
  const auto found = optimum_of(problem, at.beta, problem.solve(guess, 0.1));
  if (!(found.residual < largest_residual))
    fail(name, "a beta at which the solution is found to 1e-8",
         found.residual < 1 ? concat(at.beta, ", where it is found to ", found.residual) : concat(at.beta));
  return best_at_beta(use, found);
}

/// The transform Φ* and the β at which the optimum has a given KL.
///
/// Accuracy: relative 1e-9 in the KL.
/// Cost: 3 ms for best-of-4, 30 ms for best-of-64.
/// Errors: throws if the KL is below 1e-12 or so large that no solution is found, if no optimum has this KL (if there
/// are several solutions, the KL of the best one jumps at some β), and if a procedure is invalid.
template <inference_use Use>
optimum optimal_transform(const Use& use, at_kl at) {
  using namespace detail;
  constexpr auto name = "optimal_transform";
  if (!is_finite(at.kl) || !(at.kl >= 1e-12)) fail(name, "a kl of at least 1e-12", concat(at.kl));
  check_part(use);
  optimum last{{{}, 0, 0, 0}, 0, 0.5, 0};
  double most = 0;
  const auto excess_to = [&](double tolerance, double width) {
    return [&, tolerance, width](double log_beta) {
      const double beta = std::exp(log_beta);
      const shooting problem(use, beta, tolerance);
      last = optimum_of(problem, beta, problem.solve(last.log_density_at_1, width));
      if (!(last.residual < 1e3 * tolerance))
        fail(name,
             concat("a kl for which the solution is found (up to ", most, " it is, but not at beta = ", beta, ")"),
             concat(at.kl));
      most = std::max(most, last.kl);
      return std::log(last.kl / at.kl);
    };
  };
  // The KL falls as β grows; as 1/β² if β is large.
  const auto roughly = excess_to(coarse_tolerance, 0.1);
  const auto ends = bracket(roughly, -0.5 * std::log(at.kl) - 2, [](double log_beta, double y) {
    if (std::abs(log_beta) > 300) return log_beta;
    return log_beta + (y < 0 ? -1.5 : std::clamp(y, 0.05, 1.5));
  });
  const auto root = find_root(roughly, ends, 1e-7);
  if (!root) fail(name, "a kl that some beta reaches", concat(at.kl));
  // The last digits, by secants.
  const auto finely = excess_to(fine_tolerance, 1e-4);
  double log_beta = *root, excess = finely(log_beta),
         slope = ends.a != ends.b ? (ends.fb - ends.fa) / (ends.b - ends.a) : -1;
  for (int i = 0; i < 8 && std::abs(excess) > 1e-10 && std::abs(excess) < 1e-2; ++i) {
    const double change = -excess / slope, before = std::exchange(excess, finely(log_beta + change));
    log_beta += change;
    if (excess != before) slope = (excess - before) / change;
  }
  const auto best = best_at_beta(use, last);
  if (!(std::abs(excess) < 1e-9) || best.kl != last.kl)
    fail(name, "a kl that the optimum has at some beta", concat(at.kl, "; at beta = ", last.beta, " it has ", best.kl));
  return last;
}

/// As above, for one pair of procedures.
template <procedure T1, procedure T2, class At>
requires std::same_as<At, at_beta> || std::same_as<At, at_kl> optimum optimal_transform(const T1& policy,
                                                                                        const T2& reference, At at) {
  return optimal_transform(detail::only_use(policy, reference), at);
}

/// As above, with one procedure for both.
template <procedure T, class At>
requires std::same_as<At, at_beta> || std::same_as<At, at_kl> optimum optimal_transform(const T& both, At at) {
  return optimal_transform(both, both, at);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
