// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/tilted_policy.hpp>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>
#include <vector>

/// The transform that is best for a pair of procedures: the optimum of J = W − β·KL over all policies.
///
/// Write the policy as a density p = F′ of its calibrated reward u, uniform under the reference. With the policy used
/// through (G₁, g₁) and the reference through (G₂, g₂), W = 1 − ∫ G₁(F) g₂ du, and the derivative of J vanishes where
///
///     log p(u) = Φ*(u)/β + const,   Φ*(u) = ∫₀ᵘ g₁(F(v)) g₂(v) dv:
///
/// a boundary-value problem (log F′)′ = g₁(F) g₂(u)/β with F(0) = 0 and F(1) = 1. It is solved by shooting from u = 1,
/// where p is never small, for log p(1). Where G₁ is convex, as for best-of-n, J is strictly concave, and the solution
/// the global optimum. Else it is the best of the solutions found; for worst-of-n against itself there is one.
namespace infalign {

/// An optimum, tabulated with slopes, with its β, KL and win rate; log p at the ends; and by how much it misses its
/// equation, as |F(0)|.
struct optimized_transform : tuned_transform<tabulated> {
  double log_density_at_0, log_density_at_1, residual;
};

namespace detail {

/// The boundary-value problem as a family of initial-value problems, by s = 1 − u. With E = (1 − F) − s and q = log p:
/// E′ = e^q − 1, q′ = −g₁(F) g₂/β, and along with them KL = ∫ (p log p − p + 1) and 1 − W = ∫ G₁(F) g₂.
template <procedure T1, procedure T2>
class shooting {
 public:
  using state = std::array<double, 4>;  // E, q, KL, 1 − W

  struct point {
    double s;
    state y;
    double slope;  // dΦ/du
  };
  using trajectory = std::vector<point>;

  /// tolerance: the relative error that a step of the solver is allowed; the residual of a solution is of its size.
  shooting(const T1& policy, const T2& reference, double beta, double tolerance)
      : policy_(policy), reference_(reference), beta_(beta), tolerance_(tolerance) {}

  /// The trajectory with E(1) = 0, and log p(1) within a share of `width` of `guess`, or as near as there is one; empty
  /// where there is none. log p(1) is at least 0, as p rises to it and has mean 1.
  trajectory solve(double guess, double width) const {
    double low = guess * (1 - width), high = guess * (1 + width), at_low = excess(low), at_high = excess(high);
    double step = width;
    for (int i = 0; i < 60 && at_low > 0; ++i) {
      step = std::min(0.5, 4 * step);
      high = std::exchange(low, low * (1 - step)), at_high = std::exchange(at_low, excess(low));
    }
    step = width;
    for (int i = 0; i < 60 && at_high < 0 && high < 690; ++i) {
      step = std::min(0.5, 4 * step);
      low = std::exchange(high, high * (1 + step)), at_low = std::exchange(at_high, excess(high));
    }
    return between(low, high, at_low, at_high);
  }

  /// Every trajectory with E(1) = 0 and log p(1) from 1/50 to 50 times a known one, but for those that lie close
  /// together.
  std::vector<trajectory> all(double known) const {
    std::vector<trajectory> result;
    double low = known / 50, at_low = excess(low);
    while (low < std::min(50 * known, 690.0)) {
      const double high = 1.25 * low, at_high = excess(high);
      if ((at_low < 0) != (at_high < 0)) result.push_back(between(low, high, at_low, at_high));
      low = high, at_low = at_high;
    }
    return result;
  }

  /// |F(0)|: infinite for an empty trajectory.
  static double residual(const trajectory& path) {
    return path.empty() || path.back().s < 1 ? std::numeric_limits<double>::max() : std::abs(path.back().y[0]);
  }

  /// Φ* at the steps of a trajectory, with its slopes.
  tabulated transform(const trajectory& path) const {
    std::vector<const point*> knots;  // of distinct u, upwards
    for (auto p = path.rbegin(); p != path.rend(); ++p)
      if (knots.empty() || 1 - p->s > 1 - knots.back()->s) knots.push_back(&*p);
    const auto size = static_cast<Eigen::Index>(knots.size());
    tabulated result{array<double>(size), array<double>(size), array<double>(size)};
    for (Eigen::Index i = 0; i < size; ++i) {
      const auto& p = *knots[static_cast<std::size_t>(i)];
      result.u[i] = 1 - p.s;
      result.value[i] = beta_ * (p.y[1] - path.back().y[1]);
      result.slope[i] = p.slope;
    }
    return result;
  }

 private:
  static point start(double log_density) { return {0, {0, log_density, 0, 0}, 0}; }

  double excess(double log_density) const { return log_mass(start(log_density)); }

  trajectory between(double low, double high, double at_low, double at_high) const {
    trajectory path;
    const auto root = find_root([this](double q) { return excess(q); }, low, high, at_low, at_high, 1e-4 * tolerance_);
    if (!root) return path;
    shoot(start(*root), [&](const point& p) { path.push_back(p); });
    // Where p(1) is large, E(1) depends on the last digits of log p(1), and on more. So keep the trajectory down to
    // where log p has halved, and go on from there with log p changed by what is missing: less than the error that a
    // step is allowed.
    for (double level = *root / 2; level > 0.5 && residual(path) > tolerance_; level /= 2) {
      std::size_t k = 0;
      while (k + 1 < path.size() && path[k].y[1] > level) ++k;
      const auto changed = [from = path[k]](double change) {
        point p = from;
        p.y[1] += change;
        return p;
      };
      const auto remaining = [&](double change) { return log_mass(changed(change)); };
      const double sign = remaining(0) < 0 ? 1 : -1;
      double change = 1e-2 * tolerance_;
      while (change < 1e3 * tolerance_ && sign * remaining(sign * change) < 0) change *= 10;
      const auto correction = find_root(remaining, 0, sign * change, 1e-6);
      if (!correction) break;
      path.resize(k);
      shoot(changed(*correction), [&](const point& p) { path.push_back(p); });
    }
    return path;
  }

  static double cdf(double s, const state& y) { return std::clamp(1 - s - y[0], 0.0, 1.0); }

  double slope(double s, const state& y) const { return policy_.density(cdf(s, y)) * reference_.density(1 - s); }

  /// Calls seen(point) from `from` to s = 1. False where that takes too many steps.
  template <class Seen>
  bool shoot(const point& from, const Seen& seen) const {
    const double q1 = std::abs(from.y[1]), scale = std::min(1.0, q1);
    return solve_ode(
        [&](double s, const state& y) {
          const double q = std::min(y[1], 700.0), rise = std::expm1(q);
          return state{rise, -slope(s, y) / beta_, (1 + rise) * q - rise,
                       policy_.cdf(cdf(s, y)) * reference_.density(1 - s)};
        },
        from.s, 1, from.y, 1e-3 * std::exp(-q1) / (1 + slope(from.s, from.y) / beta_),
        [&](const state& y) {
          return state{tolerance_ * (0.1 * scale + std::abs(y[0])), tolerance_ * (scale + std::abs(y[1])),
                       tolerance_ * (scale * scale + y[2]), tolerance_ * (1 + y[3])};
        },
        [&](double s, const state& y, const state& dy) {
          seen(point{s, y, -beta_ * dy[1]});
        });
  }

  /// log(1 − F(0)), which is 0 for the solution; −∞ or NaN where there is none.
  double log_mass(const point& from) const {
    double mass = nan<double>;
    const bool solved = shoot(from, [&](const point& p) { mass = p.y[0]; });
    return solved ? std::log1p(mass) : nan<double>;
  }

  const T1& policy_;
  const T2& reference_;
  double beta_, tolerance_;
};

inline constexpr double fine_tolerance = 1e-11, coarse_tolerance = 1e-7;
inline constexpr double largest_residual = 1e-8;

/// What a trajectory says; its residual, whether it is a solution.
template <procedure T1, procedure T2>
optimized_transform optimum(const shooting<T1, T2>& problem, double beta,
                            const typename shooting<T1, T2>::trajectory& path) {
  if (path.empty()) return {{{}, beta, 0, 0}, 0, 0, problem.residual(path)};
  const auto& end = path.back().y;
  return {{problem.transform(path), beta, end[2], 1 - end[3]}, end[1], path.front().y[1], problem.residual(path)};
}

/// Of all solutions at the β of this one the best. Where G₁ is convex, as for best-of-n, there is one.
template <procedure T1, procedure T2>
optimized_transform best_at_beta(const T1& policy, const T2& reference, const optimized_transform& known) {
  bool convex = true;
  for (int i = 0; i < 64 && convex; ++i) convex = policy.density(i / 64.0) <= policy.density((i + 1) / 64.0);
  auto best = known;
  if (convex) return best;
  const shooting<T1, T2> rough(policy, reference, known.beta, coarse_tolerance),
      problem(policy, reference, known.beta, fine_tolerance);
  const auto gain = [](const optimized_transform& x) { return x.win_rate - x.beta * x.kl; };
  for (const auto& path : rough.all(known.log_density_at_1)) {
    if (path.empty() || std::abs(path.front().y[1] / known.log_density_at_1 - 1) < 1e-3) continue;
    const auto other = optimum(problem, known.beta, problem.solve(path.front().y[1], 1e-4));
    if (other.residual < largest_residual && gain(other) > gain(best) + 1e-9) best = other;
  }
  return best;
}

}  // namespace detail

/// The transform Φ* that maximises W − β·KL where the policy is used through one procedure and the reference through
/// another.
///
/// Returns Φ* on [0, Φ*(1)] in the units of W (so it is trained on with the same β), tabulated with slopes, and W and
/// KL to 1e-8. Where there are several solutions (worst-of-n against best-of-n has up to three) the best of them.
/// About 1 ms for best-of-4, 10 ms for best-of-64. Throws unless β is finite and above 0, and where no solution is
/// found to 1e-8.
template <procedure T1, procedure T2>
optimized_transform optimal_transform(const T1& policy, const T2& reference, at_beta at) {
  constexpr auto name = "optimal_transform";
  detail::check_positive(name, "a beta", at.beta);
  const double guess = std::min(0.5 / at.beta, 1 + std::log1p(1 / at.beta));
  const detail::shooting<T1, T2> problem(policy, reference, at.beta, detail::fine_tolerance);
  const auto found = detail::optimum(problem, at.beta, problem.solve(guess, 0.1));
  if (!(found.residual < detail::largest_residual))
    detail::fail(
        name, "a beta at which the solution is found to 1e-8",
        found.residual < 1 ? detail::text(at.beta, ", where it is found to ", found.residual) : detail::text(at.beta));
  return detail::best_at_beta(policy, reference, found);
}

/// The same for a KL budget: the β whose optimum has this KL to 1e-9, relatively. About 5 ms for best-of-4. Throws for
/// a KL that is not above 1e-12, or so large that the solution is not found; and for one that no optimum has, which
/// jumps past it at some β: that happens where there are several solutions.
template <procedure T1, procedure T2>
optimized_transform optimal_transform(const T1& policy, const T2& reference, at_kl at) {
  using namespace detail;
  constexpr auto name = "optimal_transform";
  if (!is_finite(at.kl) || !(at.kl >= 1e-12)) fail(name, "a kl of at least 1e-12", text(at.kl));
  optimized_transform last{{{}, 0, 0, 0}, 0, 0.5, 0};
  double most = 0;
  const auto excess_to = [&](double tolerance, double width) {
    return [&, tolerance, width](double log_beta) {
      const double beta = std::exp(log_beta);
      const shooting<T1, T2> problem(policy, reference, beta, tolerance);
      last = optimum(problem, beta, problem.solve(last.log_density_at_1, width));
      if (!(last.residual < 1e3 * tolerance))
        fail(name, text("a kl for which the solution is found (up to ", most, " it is, but not at beta = ", beta, ")"),
             text(at.kl));
      most = std::max(most, last.kl);
      return std::log(last.kl / at.kl);
    };
  };
  // KL falls as β grows, as 1/β² where β is large.
  const auto roughly = excess_to(coarse_tolerance, 0.1);
  double low = -0.5 * std::log(at.kl) - 2, high = low;
  double at_low = roughly(low), at_high = at_low;
  while (at_low < 0 && low > -300) {
    high = low, at_high = at_low;
    at_low = roughly(low -= 1.5);
  }
  while (at_high > 0 && high < 300) {
    low = high, at_low = at_high;
    at_high = roughly(high += std::max(0.05, std::min(1.5, at_high)));
  }
  const auto root = find_root(roughly, low, high, at_low, at_high, 1e-7);
  if (!root) fail(name, "a kl that some beta reaches", text(at.kl));
  // Then the last digits, by secants.
  const auto finely = excess_to(fine_tolerance, 1e-4);
  double log_beta = *root, excess = finely(log_beta), slope = high > low ? (at_high - at_low) / (high - low) : -1;
  for (int i = 0; i < 8 && std::abs(excess) > 1e-10 && std::abs(excess) < 1e-2; ++i) {
    const double change = -excess / slope, before = std::exchange(excess, finely(log_beta + change));
    log_beta += change;
    if (excess != before) slope = (excess - before) / change;
  }
  const auto best = best_at_beta(policy, reference, last);
  if (!(std::abs(excess) < 1e-9) || best.kl != last.kl)
    fail(name, "a kl that the optimum has at some beta", text(at.kl, "; at beta = ", last.beta, " it has ", best.kl));
  return last;
}

/// The same where policy and reference are used through one procedure.
template <procedure T, class At>
requires std::same_as<At, at_beta> || std::same_as<At, at_kl> optimized_transform optimal_transform(const T& both,
                                                                                                    At at) {
  return optimal_transform(both, both, at);
}

/// The transform along which the win rate of the policy *as it stands* rises fastest: Φ(u) = ∫₀ᵘ g₁(F(v)) g₂(v) dv with
/// F the current policy's CDF, estimated from calibrated rewards u of its own responses. Re-made every few small steps,
/// training on it climbs to the optimum of W − β·KL with nothing to tune; trained on to convergence before it is
/// re-made, it does not converge.
///
/// u: at least one number in [0, 1], of one prompt or, as the optimum is the same for all, of many. Returns Φ with Φ(0)
/// = 0, exact for the empirical F at the distinct u, straight lines between. Throws for u that are NaN or outside [0,
/// 1], and for none.
template <array_expression U, procedure T1, procedure T2>
tabulated ascent_transform(const U& u, const T1& policy_procedure, const T2& reference_procedure) {
  constexpr auto name = "ascent_transform";
  const auto values = detail::evaluated(u);
  if (values.size() == 0) detail::fail(name, "at least one calibrated reward", "none");
  detail::check_scored(name, values.data(), values.size(), 0, unscored::error);
  std::vector<double> sorted(values.data(), values.data() + values.size());
  std::sort(sorted.begin(), sorted.end());
  if (sorted.front() < 0 || sorted.back() > 1)
    detail::fail(name, "calibrated rewards in [0, 1]",
                 detail::text(sorted.front() < 0 ? sorted.front() : sorted.back()));

  std::vector<double> knots{0}, phi{0};
  double shown = 0;
  const auto rise_to = [&](double v, std::size_t below) {  // F = below/size from the last knot to v
    if (v <= knots.back()) return;
    const double next = reference_procedure.cdf(v);
    const double rise =
        policy_procedure.density(static_cast<double>(below) / static_cast<double>(sorted.size())) * (next - shown);
    knots.push_back(v);
    phi.push_back(phi.back() + rise);
    shown = next;
  };
  for (std::size_t i = 0; i < sorted.size(); ++i) rise_to(sorted[i], i);
  rise_to(1, sorted.size());
  const auto size = static_cast<Eigen::Index>(knots.size());
  return {Eigen::Map<const array<double>>(knots.data(), size), Eigen::Map<const array<double>>(phi.data(), size)};
}

/// The same where policy and reference are used through one procedure.
template <array_expression U, procedure T>
tabulated ascent_transform(const U& u, const T& both) {
  return ascent_transform(u, both, both);
}

}  // namespace infalign
