// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/numerics.hpp>
#include <infalign/procedure.hpp>
#include <infalign/transform.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

/// What training on a transform gives, before any training.
///
/// In terms of its calibrated reward u, uniform under the reference, the aligned policy has the density p(u) ∝
/// exp(Φ(u)/β). Its KL to the reference and its inference-time win rate depend on Φ, β and the procedures alone, not on
/// the language model or the reward (InfAlign, section 4).
namespace infalign {

/// A weight β of the KL term.
struct at_beta {
  double beta;
};

/// A KL to the reference, in nats per response: β is found for it.
struct at_kl {
  double kl;
};

template <reward_transform F>
class tilted_policy;

namespace detail {
/// The β at which the KL of a transform's policy is as given; where there is none, the most KL that was reached.
struct beta_search {
  std::optional<double> beta;
  double most_kl;
};
template <reward_transform F>
beta_search find_beta(const F& phi, double kl);
template <reward_transform F>
double beta_for(const F& phi, double kl);
}  // namespace detail

/// p(u) ∝ exp(Φ(u)/β) on [0, 1], for a β or for a KL.
///
///     tilted_policy policy{exponential{.t = 10}, at_kl{0.5}};
///     policy.beta();  policy.kl();  policy.win_rate(best_of{4});
///
/// Accuracy: 1e-10 for KL, CDF and win rate, for Φ that are smooth on (0, 1) and β from 1e-4 of their range on [0, 1]
/// upwards (for `logarithm`, from 0.01); it is computed in log space, so that densities may underflow. Throws unless β
/// is finite and above 0, where it is so small that rounding drowns the policy, and for Φ that is not finite in (0, 1].
/// Φ(0) = −∞ is allowed: density 0. For a KL: at least 1e-12, met to 1e-9, and an error that names the most where the
/// transform does not reach it (at a β where rounding is below 1e-3 of the density).
template <reward_transform F>
class tilted_policy {
 public:
  tilted_policy(F phi, at_beta at) : tilted_policy(std::move(phi), at.beta) {
    if (!(relative_ < 1)) detail::fail("tilted_policy", "a beta that rounding does not drown", detail::text(beta_));
  }

  tilted_policy(const F& phi, at_kl at) : tilted_policy(phi, at_beta{detail::beta_for(phi, at.kl)}) {}

  double beta() const { return beta_; }
  const F& transform() const { return phi_; }

  /// To how much the density is accurate, relatively: 1e-11, or what rounding makes of it where β is a tiny share of Φ.
  double relative_error() const { return relative_; }

  /// log p(u), for u in [0, 1].
  double log_density(double u) const { return (value(u) - top_) / beta_ - log_total_; }

  /// p(u).
  double density(double u) const { return std::exp(log_density(u)); }

  /// F(u) = ∫₀ᵘ p, increasing from 0 to 1; relatively accurate where it is small.
  double cdf(double u) const {
    if (!(u > 0)) return 0;
    if (u >= 1) return 1;
    const auto cell =
        std::upper_bound(cells_.begin(), cells_.end() - 1, u, [](double x, const knot& k) { return x < k.u; }) - 1;
    const double part =
        detail::gauss_kronrod([this](double x) { return std::exp((value(x) - top_) / beta_); }, cell->u, u).value;
    return std::min(1.0, (cell->mass + part) / total_);
  }

  /// The u with F(u) = q, for q in [0, 1].
  double quantile(double q) const {
    if (!(q >= 0 && q <= 1)) detail::fail("tilted_policy", "a probability in [0, 1]", detail::text(q));
    if (q == 0 || q == 1) return q;
    const auto cell = std::upper_bound(cells_.begin() + 1, cells_.end() - 1, q * total_,
                                       [](double m, const knot& k) { return m < k.mass; });
    const auto root = detail::find_root([&](double u) { return cdf(u) - q; }, (cell - 1)->u, cell->u, 1e-15);
    return root ? *root : cdf(cell->u) <= q ? cell->u : (cell - 1)->u;
  }

  /// KL(policy ‖ reference) = ∫ p log p, in nats.
  double kl() const {
    return over_cells({1e-14, relative_}, [this](double u) {
      const double q = log_density(u);
      return q > -700 ? std::exp(q) * q - std::expm1(q) : 1.0;  // ∫ (p log p − p + 1): no term is negative
    });
  }

  /// The win rate of this policy, used through one procedure, against the reference, used through another: 1 − ∫ G₁(F)
  /// g₂ du.
  template <procedure T1, procedure T2>
  double win_rate(const T1& policy_procedure, const T2& reference_procedure) const {
    return 1 - loss_rate(policy_procedure, reference_procedure);
  }

  /// The same where both are used through one procedure.
  template <procedure T>
  double win_rate(const T& both) const {
    return win_rate(both, both);
  }

  /// 1 − W, relatively accurate where it is small.
  template <procedure T1, procedure T2>
  double loss_rate(const T1& policy_procedure, const T2& reference_procedure) const {
    const auto loss = [&](double u) { return policy_procedure.cdf(cdf(u)) * reference_procedure.density(u); };
    const double relative = 100 * relative_;  // G₁ may magnify the relative error of F
    const double rough = over_cells({1e-14, relative}, loss);
    return rough > 1e-4 ? rough : over_cells({std::max(0.1 * relative, 1e-10) * rough, relative}, loss);
  }

 private:
  friend detail::beta_search detail::find_beta<F>(const F& phi, double kl);

  struct knot {
    double u, mass;
  };

  /// Whatever becomes of its accuracy.
  tilted_policy(F phi, double beta) : phi_(std::move(phi)), beta_(beta) {
    detail::check_positive("tilted_policy", "a beta", beta_);
    detail::check_transform<double>(phi_);
    // The largest Φ, where the density is scaled to 1: a smooth Φ is near it on a fine grid.
    array<double> grid(257);
    for (Eigen::Index i = 0; i < 256; ++i) grid[i] = value((static_cast<double>(i) + 0.5) / 256);
    grid[256] = value(1.0);
    Eigen::Index highest = 256;
    for (Eigen::Index i = 0; i < 256; ++i)
      if (grid[i] > grid[highest]) highest = i;
    top_ = grid[highest];
    const double peak = highest == 256 ? 1 : (static_cast<double>(highest) + 0.5) / 256;
    // Rounding in Φ is a relative error of Φ/β times as much in the density: there is nothing to gain below it. It
    // counts where there is density.
    double size = 0;
    for (const double y : grid)
      if (y - top_ > -50 * beta_) size = std::max(size, std::abs(y));
    relative_ = std::max(1e-11, 16 * std::numeric_limits<double>::epsilon() * size / beta_);

    // Cells that halve towards both ends and the peak, so that no peak is missed however narrow it is; then as the
    // density asks.
    std::vector<double> ends{0, 0.5, 1};
    for (double h = 0.25; h > 1e-13; h /= 2)
      for (const double u : {h, 1 - h, peak - h, peak + h})
        if (u > 0 && u < 1) ends.push_back(u);
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    const auto weight = [this](double u) { return std::exp((value(u) - top_) / beta_); };
    cells_.push_back({0, 0});
    for (std::size_t k = 0; k + 1 < ends.size(); ++k)
      detail::integrate_cells(weight, ends[k], ends[k + 1], {1e-300, relative_}, [&](double, double u, double mass) {
        cells_.push_back({u, cells_.back().mass + mass});
      });
    total_ = cells_.back().mass;
    log_total_ = std::log(total_);
    // The width of the policy is total_ where the density is scaled to 1 at its peak, and u is rounded too.
    relative_ = std::max(relative_, std::numeric_limits<double>::epsilon() * peak / total_);
  }

  double value(double u) const {
    const double y = static_cast<double>(phi_(u));
    if (!detail::is_finite(y) && u > 0)
      detail::fail("tilted_policy", "a transform that is finite on (0, 1]", detail::text(y, " at ", u));
    return y;
  }

  /// ∫ f over [0, 1], from cells of the density downwards.
  template <class G>
  double over_cells(const detail::tolerance& allowed, const G& f) const {
    double sum = 0;
    for (std::size_t k = 0; k + 1 < cells_.size(); ++k)
      sum += detail::integrate(f, cells_[k].u, cells_[k + 1].u, allowed);
    return sum;
  }

  F phi_;
  double beta_, relative_ = 0, top_ = 0, total_ = 0, log_total_ = 0;
  std::vector<knot> cells_;
};

template <reward_transform F, class At>
tilted_policy(F, At) -> tilted_policy<F>;

namespace detail {

template <reward_transform F>
beta_search find_beta(const F& phi, double kl) {
  double spread = 0, most_kl = 0;
  for (int i = 1; i <= 16; ++i)
    spread = std::max(spread, std::abs(static_cast<double>(phi(i / 16.0)) - static_cast<double>(phi(0.5 / 16))));
  if (!(spread > 0)) return {std::nullopt, 0};
  // The KL falls while β grows. Go down until it is enough, in growing steps, but not to where rounding in Φ drowns
  // the policy.
  double high = std::log(spread), low = high, step = 1;
  for (double growth = 1.5; most_kl < kl; step *= growth) {
    const double next = std::max(low - step, -690.0);
    const tilted_policy<F> policy(phi, std::exp(next));
    if (next < low && policy.relative_error() < 1e-3) {
      high = low;
      low = next;
      most_kl = policy.kl();
    } else {
      if (step < 0.1) return {std::nullopt, most_kl};
      growth = 0.5;
    }
  }
  const auto excess = [&](double log_beta) {
    return std::log(tilted_policy(phi, at_beta{std::exp(log_beta)}).kl() / kl);
  };
  while (excess(high) > 0) high += 2;
  return {std::exp(*find_root(excess, low, high, 1e-12)), most_kl};
}

template <reward_transform F>
double beta_for(const F& phi, double kl) {
  constexpr auto name = "tilted_policy";
  if (!is_finite(kl) || !(kl >= 1e-12)) fail(name, "a kl of at least 1e-12", text(kl));
  const auto found = find_beta(phi, kl);
  if (!found.beta) fail(name, text("a kl of at most ", found.most_kl, ", which this transform reaches"), text(kl));
  return *found.beta;
}

}  // namespace detail

/// A point of a trade-off curve: what training with β gives.
struct tradeoff_point {
  double beta, kl, win_rate;
};

/// The trade-off between KL and win rate over the given β, for a transform and a pair of procedures.
template <reward_transform F, procedure T1, procedure T2>
std::vector<tradeoff_point> tradeoff(const F& phi, const T1& policy_procedure, const T2& reference_procedure,
                                     const std::vector<double>& betas) {
  std::vector<tradeoff_point> curve;
  for (const double beta : betas) {
    const tilted_policy policy(phi, at_beta{beta});
    curve.push_back({beta, policy.kl(), policy.win_rate(policy_procedure, reference_procedure)});
  }
  return curve;
}

/// A transform with the β that it is for, and what training on it to convergence gives.
template <reward_transform F>
struct tuned_transform {
  F transform;
  double beta, kl, win_rate;

  template <real_scalar S>
  void check(S) const {
    detail::check_transform<S>(transform);
  }
  template <real_scalar S>
  S operator()(S u) const {
    return transform(u);
  }
};

}  // namespace infalign
