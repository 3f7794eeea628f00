// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/numerics.hpp>
#include <infalign/theory/mixed_use.hpp>
#include <infalign/transform/transforms.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The boundary-value problem of the optimal transform, solved by shooting.
namespace INFALIGN_NAMESPACE::detail {

/// The boundary-value problem (log F′)′ = g₁(F) g₂(u)/β (summed over uses), F(0) = 0, F(1) = 1, as a family of initial-value problems from
/// u = 1 downwards, one for each log p(1). In s = 1 − u:
///
///     gap = (1 − F) − s           gap′ = p − 1
///     log_density = log p         log_density′ = −g₁(F) g₂/β
///     kl = ∫ (p log p − p + 1)
///     loss = 1 − W = ∫ G₁(F) g₂
template <inference_use Use>
class shooting {
 public:
  struct state {
    double gap, log_density, kl, loss;
  };
  struct point {
    double s;
    state y;
    double slope;  // dΦ/du
  };
  using trajectory = std::vector<point>;

  /// tolerance: the relative error that is allowed in a step of the solver. The residual of a solution is of this size.
  shooting(const Use& use, double beta, double tolerance) : use_(use), beta_(beta), tolerance_(tolerance) {}

  /// The trajectory with gap(1) = 0 whose log p(1) is nearest to `guess`; empty if none is found. `width`: the expected
  /// relative distance. log p(1) is at least 0, because p rises to p(1) and has mean 1.
  trajectory solve(double guess, double width) const {
    double step = width / 4;
    return between(bracket([this](double q) { return excess(q); }, guess,
                           [&step](double q, double above) {
                             step = std::min(0.5, 4 * step);
                             return above > 0 ? q * (1 - step) : q < 690 ? q * (1 + step) : q;
                           }));
  }

  /// The trajectories with gap(1) = 0 and log p(1) from 1/50 to 50 times a known one. Of close pairs both may be missed.
  std::vector<trajectory> all(double known) const {
    std::vector<trajectory> result;
    double low = known / 50, at_low = excess(low);
    while (low < std::min(50 * known, 690.0)) {
      const double high = 1.25 * low, at_high = excess(high);
      if ((at_low < 0) != (at_high < 0)) result.push_back(between({low, high, at_low, at_high}));
      low = high, at_low = at_high;
    }
    return result;
  }

  /// |F(0)|; the largest double for an empty trajectory.
  static double residual(const trajectory& path) {
    return path.empty() || path.back().s < 1 ? std::numeric_limits<double>::max() : std::abs(path.back().y.gap);
  }

  /// Φ* at the steps of a trajectory, with its slopes.
  tabulated transform(const trajectory& path) const {
    std::vector<const point*> knots;  // in increasing order of u, which are distinct
    for (auto p = path.rbegin(); p != path.rend(); ++p)
      if (knots.empty() || 1 - p->s > 1 - knots.back()->s) knots.push_back(&*p);
    const auto size = static_cast<Eigen::Index>(knots.size());
    tabulated result{array<double>(size), array<double>(size), array<double>(size)};
    for (Eigen::Index i = 0; i < size; ++i) {
      const auto& p = *knots[static_cast<std::size_t>(i)];
      result.u[i] = 1 - p.s;
      result.value[i] = beta_ * (p.y.log_density - path.back().y.log_density);
      result.slope[i] = p.slope;
    }
    return result;
  }

 private:
  static point start(double log_density) { return {0, {0, log_density, 0, 0}, 0}; }

  double excess(double log_density) const { return log_mass(start(log_density)); }

  trajectory between(const bracketed& ends) const {
    trajectory path;
    const auto root = find_root([this](double q) { return excess(q); }, ends, 1e-4 * tolerance_);
    if (!root) return path;
    const auto append = [&path](const point& p) { path.push_back(p); };
    shoot(start(*root), append);
    // If p(1) is large, gap(1) depends on more digits of log p(1) than a double has. So keep the part of the trajectory
    // down to half of log p, and go on from there with log p changed by what is missing; repeat. The change is less than
    // the error that is allowed in a step.
    for (double level = *root / 2; level > 0.5 && residual(path) > tolerance_; level /= 2) {
      std::size_t k = 0;
      while (k + 1 < path.size() && path[k].y.log_density > level) ++k;
      const auto changed = [from = path[k]](double change) {
        point p = from;
        p.y.log_density += change;
        return p;
      };
      const auto remaining = [&](double change) { return log_mass(changed(change)); };
      const auto correction =
          find_root(remaining,
                    bracket(remaining, 0,
                            [this](double change, double mass) {
                              const double least = std::copysign(1e-2 * tolerance_, -mass);
                              return change == 0 ? least : std::abs(change) < 1e3 * tolerance_ ? 10 * change : change;
                            }),
                    1e-6);
      if (!correction) break;
      path.resize(k);
      shoot(changed(*correction), append);
    }
    return path;
  }

  static double cdf(double s, const state& y) { return std::clamp(1 - s - y.gap, 0.0, 1.0); }

  double slope(double s, const state& y) const { return use_.slope(cdf(s, y), 1 - s); }

  /// Calls seen(point) at `from` and after each step up to s = 1. Returns false if that takes too many steps.
  template <class Seen>
  bool shoot(const point& from, const Seen& seen) const {
    const double q1 = std::abs(from.y.log_density), scale = std::min(1.0, q1);
    return solve_ode(
        [&](double s, const state& y) {
          const double q = std::min(y.log_density, 700.0), rise = std::expm1(q);
          return state{rise, -slope(s, y) / beta_, (1 + rise) * q - rise, use_.loss(cdf(s, y), 1 - s)};
        },
        from.s, 1, from.y, 1e-3 * std::exp(-q1) / (1 + slope(from.s, from.y) / beta_),
        [&](const state& y) {
          return state{tolerance_ * (0.1 * scale + std::abs(y.gap)), tolerance_ * (scale + std::abs(y.log_density)),
                       tolerance_ * (scale * scale + y.kl), tolerance_ * (1 + y.loss)};
        },
        [&](double s, const state& y, const state& dy) {
          seen(point{s, y, -beta_ * dy.log_density});
        });
  }

  /// log(1 − F(0)), which is 0 for a solution; −∞ or NaN if the solver fails.
  double log_mass(const point& from) const {
    double mass = nan<double>;
    const bool solved = shoot(from, [&](const point& p) { mass = p.y.gap; });
    return solved ? std::log1p(mass) : nan<double>;
  }

  const Use& use_;
  double beta_, tolerance_;
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
