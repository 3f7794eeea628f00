// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/numerics.hpp>
#include <infalign/detail/row_counts.hpp>

#include <Eigen/Core>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The leave-two-out risk of an estimate of the calibrated reward: see `calibration_prior`.
namespace INFALIGN_NAMESPACE::detail {

/// Sums of x − x₀ and of its square, with x₀ the first number, so that equal numbers have a variance of exactly 0.
struct running_moments {
  double first = 0, sum = 0, squares = 0;
  Eigen::Index count = 0;

  void add(double x) {
    if (count++ == 0) first = x;
    sum += x - first;
    squares += (x - first) * (x - first);
  }
  void remove(double x) {
    --count;
    sum -= x - first;
    squares -= (x - first) * (x - first);
  }
  double mean() const { return count > 0 ? first + sum / static_cast<double>(count) : 0; }
  /// Σ (x − mean)².
  double spread() const { return count > 1 ? std::max(0.0, squares - sum * sum / static_cast<double>(count)) : 0; }
};

/// The second moments of one prompt's leave-two-out estimates, about ½: of f, the rank among the others; of g, the
/// prior; and of w, the comparison that both predict.
struct risk_moments {
  double ff = 0, fg = 0, gg = 0, fw = 0, gw = 0, ww = 0;
  Eigen::Index others = 0;  // K − 2

  void add(double f, double g, double w) {
    f -= 0.5, g -= 0.5, w -= 0.5;
    ff += f * f, fg += f * g, gg += g * g, fw += f * w, gw += g * w, ww += w * w;
  }
  risk_moments& operator+=(const risk_moments& o) {
    ff += o.ff, fg += o.fg, gg += o.gg, fw += o.fw, gw += o.gw, ww += o.ww;
    return *this;
  }
  void scale(double s) { ff *= s, fg *= s, gg *= s, fw *= s, gw *= s, ww *= s; }
  /// E[h²] and E[h·w] of h = (1 − λ)·f + λ·g, λ = a/(K − 2 + a).
  std::pair<double, double> mixed(double a) const {
    const double l = !is_finite(a) ? 1 : a / (static_cast<double>(others) + a), k = 1 - l;
    return {k * k * ff + 2 * k * l * fg + l * l * gg, k * fw + l * gw};
  }
};

/// How many of the other rewards of a row are below one of its rewards, and how many are equal.
struct other_counts {
  double below, tied;
  double wins() const { return below + 0.5 * tied; }
};

/// Those of each reward. Not inlined: GCC warns of a loop over more rewards than memory can hold.
template <real_scalar S>
[[gnu::noinline]] std::vector<other_counts> counts_among_others(Eigen::Map<const array<S>> z) {
  std::vector<other_counts> result;
  count_each(z.data(), z.size(), z.size(), z.data(), z.size(), [&](Eigen::Index, int n, const auto& c) {
    for (int j = 0; j < n; ++j) result.push_back({static_cast<double>(c[j].below), static_cast<double>(c[j].tied - 1)});
  });
  return result;
}

/// The moments of a prompt, over at most 64 pairs (j, k) of its K ≥ 2 rewards. guess(j, k, win) returns the prior's CDF
/// at z_j and at z_k, made without these two rewards; win is the comparison of z_j with z_k. `first` chooses the pairs, if
/// there are more: another one for each prompt, so that together they are even whatever the order of the rewards.
template <real_scalar S, class Guess>
risk_moments leave_two_out(Eigen::Map<const array<S>> z, Eigen::Index first, const Guess& guess) {
  const Eigen::Index K = z.size(), pairs = K * (K - 1) / 2, used = std::min<Eigen::Index>(pairs, 64);
  const auto won = counts_among_others(z);
  risk_moments sums;
  sums.others = K - 2;
  for (Eigen::Index i = 0; i < used; ++i) {
    // Pairs in the order (1,0), (2,0), (2,1), (3,0) …; if not all, evenly spread by the golden ratio.
    const double turn =
        static_cast<double>(i) * 0.61803398874989484820 + static_cast<double>(first) * 0.41421356237309504880;
    const Eigen::Index at =
        used == pairs ? i : static_cast<Eigen::Index>((turn - std::floor(turn)) * static_cast<double>(pairs));
    auto j = static_cast<Eigen::Index>((1 + std::sqrt(1 + 8 * static_cast<double>(at))) / 2);
    while (j * (j - 1) / 2 > at) --j;
    while (j * (j + 1) / 2 <= at) ++j;
    const Eigen::Index k = at - j * (j - 1) / 2;
    const double win = z[k] < z[j] ? 1 : z[k] == z[j] ? 0.5 : 0;
    const auto [at_j, at_k] = guess(j, k, win);
    const auto rank = [K](double wins) { return K > 2 ? wins / static_cast<double>(K - 2) : 0.5; };
    sums.add(rank(won[static_cast<std::size_t>(j)].wins() - win), at_j, win);
    sums.add(rank(won[static_cast<std::size_t>(k)].wins() - (1 - win)), at_k, 1 - win);
  }
  sums.scale(0.5 / static_cast<double>(used));
  return sums;
}

/// Sums of the moments by the number of references, which is all that the risk of a weight depends on.
inline std::map<Eigen::Index, risk_moments> by_count(const std::vector<risk_moments>& prompts) {
  std::map<Eigen::Index, risk_moments> sums;
  for (const auto& m : prompts) {
    if (m.others == 0) continue;
    auto& sum = sums[m.others];
    sum += m;
    sum.others = m.others;
  }
  return sums;
}

/// E[h²] and E[h·w] over all prompts.
template <class Sums>
std::pair<double, double> mixed(const Sums& sums, double weight) {
  double hh = 0, hw = 0;
  for (const auto& [count, m] : sums) {
    const auto [a, b] = m.mixed(weight);
    hh += a, hw += b;
  }
  return {hh, hw};
}

/// The weight of least risk, from 0 to infinity.
inline double least_risk_weight(const std::vector<risk_moments>& prompts) {
  const auto sums = by_count(prompts);
  const auto explained = [&](double weight) {  // what α + γ·Ĉ explains of w, negative to be minimised
    const auto [hh, hw] = mixed(sums, weight);
    return hh > 0 && hw > 0 ? -hw * hw / hh : 0.0;
  };
  const auto at = [&](double log_weight) { return explained(std::exp(log_weight)); };
  double best = 0, least = explained(0), best_log = -7;
  for (double x = -7; x <= 9; x += 0.5)
    if (const double y = at(x); y < least) best_log = x, least = y, best = std::exp(x);
  if (best > 0) best = std::exp(minimum(at, best_log - 0.5, best_log + 0.5, 1e-6));
  return explained(infinite<double>) <= explained(best) ? infinite<double> : best;
}

/// The loss of each prompt with at least 3 references, at the best γ.
inline std::vector<double> losses(const std::vector<risk_moments>& prompts, double weight) {
  const auto [hh, hw] = mixed(by_count(prompts), weight);
  const double slope = hh > 0 ? std::max(0.0, hw / hh) : 0;
  std::vector<double> result;
  for (const auto& m : prompts) {
    if (m.others == 0) continue;
    const auto [a, b] = m.mixed(weight);
    result.push_back(m.ww - 2 * slope * b + slope * slope * a);
  }
  return result;
}

/// True if the first losses are lower by more than one standard error.
inline bool lower(const std::vector<double>& a, const std::vector<double>& b) {
  running_moments gain;
  for (std::size_t p = 0; p < a.size(); ++p) gain.add(b[p] - a[p]);
  const auto n = static_cast<double>(gain.count);
  return gain.count > 1 && gain.mean() > std::sqrt(gain.spread() / (n - 1) / n);
}

/// The parts of the mean squared error of Ĉ.
///
///     E(Ĉ − C)² = (K·v + a²·E(G − C)² + 2·a·s)/(K + a)²,   v = E Var(w | z_j),   s = K·E(F̂ − C)(G − C)
struct error_parts {
  double variance = nan<double>;  ///< v.
  double prior = nan<double>;     ///< E(G − C)², measured with `others` references.
  double shared = nan<double>;    ///< s.
  double others = 1;

  /// The mean square with `count` references at a weight. unknown(n) is what n references leave unknown of a prompt, but
  /// for a factor. In E(G − C)², the part v/a does not depend on them: it is that of a Dirichlet process.
  template <class Unknown>
  double mean_square(double count, double weight, const Unknown& unknown) const {
    const double lasting = std::min(prior, weight > 0 ? variance / weight : prior);
    const double now = lasting + (prior - lasting) * unknown(count) / unknown(others);
    if (!is_finite(weight)) return now;
    const double size = count + weight, sum = count * variance + weight * (weight * now + 2 * shared);
    return is_nan(sum) ? sum : std::max(0.0, sum / (size * size));
  }
};

/// Measures them on the rows of a table, whose leave-two-out moments are given for each row with at least 2 rewards.
template <class Rows>
error_parts measured_errors(const Rows& rows, const std::vector<risk_moments>& prompts) {
  double pairs = 0, untied = 0, variance = 0, triples = 0, squares = 0, shared = 0, inverse = 0;
  std::size_t next = 0;
  for (Eigen::Index p = 0; p < rows.rows(); ++p) {
    const auto z = rows.row(p);
    const auto K = static_cast<double>(z.size());
    if (z.size() < 2) continue;
    // The mean of w² is from pairs, that of C² from triples. Neither has a bias.
    double v = 0, different = 0;
    for (const auto& c : counts_among_others(z)) {
      const double won = c.wins(), won_squares = c.below + 0.25 * c.tied;
      different += (K - 1 - c.tied) / (K - 1) / K;
      if (K > 2) v += (won_squares - (won * won - won_squares) / (K - 2)) / (K - 1) / K;
    }
    const auto& m = prompts[next++];
    pairs += 1, untied += different;
    squares += m.gg - 2 * m.gw + m.ww;
    if (K < 3) continue;
    triples += 1, variance += v, inverse += 1 / (K - 2);
    shared += (K - 2) * (m.fg - m.fw - m.gw + m.ww - v);
  }
  if (pairs == 0) return {};
  // Without a triple: the variance that different rewards have, 1/6, and independent errors.
  error_parts parts;
  parts.variance = triples > 0 ? std::max(0.0, variance / triples) : untied / pairs / 6;
  parts.prior = std::max(0.0, squares / pairs - parts.variance);
  parts.shared = triples > 0 ? shared / triples : 0;
  parts.others = triples > 0 ? triples / inverse : 1;
  return parts;
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
