// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/numerics.hpp>
#include <infalign/theory/mixed_use.hpp>
#include <infalign/transform/transforms.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The policy that training on a transform converges to: its density, KL and win rates, before any training.
///
/// The calibrated reward u is uniform under the reference. Under the aligned policy it has the density p(u) ∝
/// exp(Φ(u)/β). KL and inference-time win rate depend on Φ, β and the procedures alone, not on the language model or the
/// reward (InfAlign, section 4).
namespace INFALIGN_NAMESPACE {

/// A weight β of the KL term.
struct at_beta {
  double beta;  ///< β, finite and above 0.
};

/// A KL to the reference, for which β is found.
struct at_kl {
  double kl;  ///< In nats per response, at least 1e-12.
};

/// The number of reference rewards of each prompt. It need not be whole: a prior makes K of them as good as
/// `equivalent_count(K)`.
struct at_count {
  double count;  ///< At least 1; infinity for the true distribution.
};

namespace detail {
/// The β at which a transform's policy has a given KL; if there is none, the largest KL that was reached.
struct beta_search {
  std::optional<double> beta;
  double most_kl;
};
template <reward_transform F>
beta_search find_beta(const F& phi, double kl);
template <reward_transform F>
double beta_for(const F& phi, double kl);
}  // namespace detail

/// The policy with the density p(u) ∝ exp(Φ(u)/β) on [0, 1], for a β or for a KL.
///
///     aligned_policy policy{exponential{.t = 10}, at_kl{0.5}};
///     policy.beta();  policy.kl();  policy.win_rate(best_of{4});
///
/// Range: Φ is finite on (0, 1], and smooth on (0, 1). Φ(0) may be −∞: the density there is 0.
/// Accuracy: 1e-10 for KL, CDF and win rate, if β is at least 1e-4 of the range of Φ (for `logarithm`: at least 0.01).
/// A KL is met to a relative 1e-9. Densities may underflow, because their logarithms are used.
/// Errors: throws unless β is finite and above 0, if rounding drowns the policy because β is too small, if Φ is not
/// finite in (0, 1], and if a KL is below 1e-12 or above what the transform reaches, which the error names.
template <reward_transform F>
class aligned_policy {
 public:
  /// The policy for a β.
  aligned_policy(F phi, at_beta at) : aligned_policy(std::move(phi), at.beta) {
    if (!(relative_ < 1)) detail::fail("aligned_policy", "a beta that rounding does not drown", detail::concat(beta_));
  }

  /// The policy for a KL.
  aligned_policy(const F& phi, at_kl at) : aligned_policy(phi, at_beta{detail::beta_for(phi, at.kl)}) {}

  double beta() const { return beta_; }        ///< β.
  const F& transform() const { return phi_; }  ///< Φ.

  /// The relative accuracy of the density: 1e-11, or the rounding error if β is a tiny share of Φ.
  double relative_error() const { return relative_; }

  /// log p(u), for u in [0, 1].
  double log_density(double u) const { return (value(u) - top_) / beta_ - log_total_; }

  /// log Z, with Z = ∫ e^{Φ(u)/β} du, so that log p(u) = Φ(u)/β − log Z.
  double log_partition() const { return top_ / beta_ + log_total_; }

  /// p(u), for u in [0, 1].
  double density(double u) const { return std::exp(log_density(u)); }

  /// F(u) = ∫₀ᵘ p, which increases from 0 to 1; relatively accurate if it is small.
  double cdf(double u) const {
    if (!(u > 0)) return 0;
    if (u >= 1) return 1;
    const auto cell =
        std::upper_bound(cells_.begin(), cells_.end() - 1, u, [](double x, const knot& k) { return x < k.u; }) - 1;
    const double part = detail::gauss_kronrod([this](double x) { return weight(x); }, cell->u, u).value;
    return std::min(1.0, (cell->mass + part) / total_);
  }

  /// The u with F(u) = q, for q in [0, 1].
  double quantile(double q) const {
    if (!(q >= 0 && q <= 1)) detail::fail("aligned_policy", "a probability in [0, 1]", detail::concat(q));
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

  /// The win rate W of this policy, used through one procedure, against the reference, used through another.
  ///
  ///     W = 1 − ∫ G₁(F) g₂ du
  template <procedure T1, procedure T2>
  double win_rate(const T1& policy_procedure, const T2& reference_procedure) const {
    return 1 - loss_rate(policy_procedure, reference_procedure);
  }

  /// As above, with one procedure for both.
  template <procedure T>
  double win_rate(const T& both) const {
    return win_rate(both, both);
  }

  /// The mean win rate of several uses.
  template <inference_use Use>
  double win_rate(const Use& use) const {
    return 1 - loss_rate(use);
  }

  /// 1 − W, relatively accurate if it is small.
  template <procedure T1, procedure T2>
  double loss_rate(const T1& policy_procedure, const T2& reference_procedure) const {
    return loss_rate(detail::only_use(policy_procedure, reference_procedure));
  }

  /// As above, for several uses.
  template <inference_use Use>
  double loss_rate(const Use& use) const {
    detail::check_part(use);
    const auto loss = [&](double u) { return use.loss(cdf(u), u); };
    const double relative = 100 * relative_;  // G₁ may magnify the relative error of F
    const double rough = over_cells({1e-14, relative}, loss);
    return rough > 1e-4 ? rough : over_cells({std::max(0.1 * relative, 1e-10) * rough, relative}, loss);
  }

 private:
  friend detail::beta_search detail::find_beta<F>(const F& phi, double kl);

  struct knot {
    double u, mass;
  };

  /// The policy for a β, however inaccurate it is.
  aligned_policy(F phi, double beta) : phi_(std::move(phi)), beta_(beta) {
    detail::check_positive("aligned_policy", "a beta", beta_);
    detail::check_part(phi_);
    // The density is scaled to 1 at the largest Φ: a smooth Φ has it between the neighbours of the best point of a fine
    // grid.
    array<double> grid(257);
    for (Eigen::Index i = 0; i < 256; ++i) grid[i] = value((static_cast<double>(i) + 0.5) / 256);
    grid[256] = value(1.0);
    Eigen::Index highest = 256;
    for (Eigen::Index i = 0; i < 256; ++i)
      if (grid[i] > grid[highest]) highest = i;
    top_ = grid[highest];
    double peak = highest == 256 ? 1 : (static_cast<double>(highest) + 0.5) / 256;
    const double between = detail::minimum([this](double u) { return -value(u); }, std::max(0.0, peak - 1.0 / 256),
                                           std::min(1.0, peak + 1.0 / 256), 1e-12);
    if (const double y = value(between); y > top_) top_ = y, peak = between;
    // A relative rounding error ε in Φ is a relative error εΦ/β in the density. Integrals need not be more accurate than
    // that. Only the Φ of points with some density matter.
    double size = 0;
    for (const double y : grid)
      if (y - top_ > -50 * beta_) size = std::max(size, std::abs(y));
    relative_ = std::max(1e-11, 16 * std::numeric_limits<double>::epsilon() * size / beta_);

    // Cells that halve towards both ends and towards the peak, so that no narrow peak is missed. The integral of the
    // density divides them further.
    std::vector<double> ends{0, 0.5, 1};
    for (double h = 0.25; h > 1e-13; h /= 2)
      for (const double u : {h, 1 - h, peak - h, peak + h})
        if (u > 0 && u < 1) ends.push_back(u);
    std::sort(ends.begin(), ends.end());
    ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
    cells_.push_back({0, 0});
    for (std::size_t k = 0; k + 1 < ends.size(); ++k)
      detail::integrate_cells([this](double u) { return weight(u); }, ends[k], ends[k + 1], {1e-300, relative_},
                              [&](double, double u, double mass) {
                                cells_.push_back({u, cells_.back().mass + mass});
                              });
    total_ = cells_.back().mass;
    log_total_ = std::log(total_);
    // The width of the policy is total_, because the density is scaled to 1 at its peak; and u is rounded too.
    relative_ = std::max(relative_, std::numeric_limits<double>::epsilon() * peak / total_);
  }

  double value(double u) const {
    const double y = static_cast<double>(phi_(u));
    if (!detail::is_finite(y) && u > 0)
      detail::fail("aligned_policy", "a transform that is finite on (0, 1]", detail::concat(y, " at ", u));
    return y;
  }

  /// The density, scaled to 1 at its peak.
  double weight(double u) const { return std::exp((value(u) - top_) / beta_); }

  /// ∫ f over [0, 1], as a sum over the cells of the density.
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

/// Deduces F from the transform.
template <reward_transform F, class At>
aligned_policy(F, At) -> aligned_policy<F>;

namespace detail {

template <reward_transform F>
beta_search find_beta(const F& phi, double kl) {
  double spread = 0, most_kl = 0;
  for (int i = 1; i <= 16; ++i)
    spread = std::max(spread, std::abs(static_cast<double>(phi(i / 16.0)) - static_cast<double>(phi(0.5 / 16))));
  if (!(spread > 0)) return {std::nullopt, 0};
  double step = 1, growth = 1.5;
  const auto excess = [&](double log_beta) {  // NaN if rounding in Φ drowns the policy
    const aligned_policy<F> policy(phi, std::exp(log_beta));
    if (!(policy.relative_error() < 1e-3)) return growth = 1, nan<double>;
    const double reached = policy.kl();
    most_kl = std::max(most_kl, reached);
    return std::log(reached / kl);
  };
  // The KL falls as β grows.
  const auto ends = bracket(excess, std::log(spread), [&](double log_beta, double y) {
    return y > 0 ? log_beta + 2 : std::max(log_beta - std::exchange(step, growth * step), -690.0);
  });
  const auto log_beta = find_root(excess, ends, 1e-12);
  return {log_beta ? std::optional(std::exp(*log_beta)) : std::nullopt, most_kl};
}

template <reward_transform F>
double beta_for(const F& phi, double kl) {
  constexpr auto name = "aligned_policy";
  if (!is_finite(kl) || !(kl >= 1e-12)) fail(name, "a kl of at least 1e-12", concat(kl));
  const auto found = find_beta(phi, kl);
  if (!found.beta) fail(name, concat("a kl of at most ", found.most_kl, ", which this transform reaches"), concat(kl));
  return *found.beta;
}

}  // namespace detail

/// A point of a trade-off curve.
struct tradeoff_point {
  double beta;      ///< β.
  double kl;        ///< The KL to the reference after training with it.
  double win_rate;  ///< The win rate after training with it.
};

/// The trade-off between KL and win rate over the given β, for a transform and a pair of procedures.
template <reward_transform F, procedure T1, procedure T2>
std::vector<tradeoff_point> tradeoff(const F& phi, const T1& policy_procedure, const T2& reference_procedure,
                                     const std::vector<double>& betas) {
  std::vector<tradeoff_point> curve;
  for (const double beta : betas) {
    const aligned_policy policy(phi, at_beta{beta});
    curve.push_back({beta, policy.kl(), policy.win_rate(policy_procedure, reference_procedure)});
  }
  return curve;
}

/// A transform with its β, and the KL and win rate of the policy that training on it converges to.
template <reward_transform F>
struct transform_with_beta {
  F transform;      ///< Φ.
  double beta;      ///< The weight of the KL term that Φ is made for.
  double kl;        ///< The KL to the reference after training.
  double win_rate;  ///< The win rate after training.

  /// log Z of the policy: see `log_partition`.
  double log_partition() const { return aligned_policy(transform, at_beta{beta}).log_partition(); }

  /// Throws if the transform's parameters are wrong.
  template <real_scalar S>
  void check(S) const {
    detail::check_part<S>(transform);
  }
  /// Φ(u).
  template <real_scalar S>
  S operator()(S u) const {
    return transform(u);
  }
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
