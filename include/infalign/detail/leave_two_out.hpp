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

/// \file
/// The leave-two-out risk of an estimate of the calibrated reward: see `calibration_prior`.
namespace infalign::detail {

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
    const double l = a < std::numeric_limits<double>::max() ? a / (static_cast<double>(others) + a) : 1, k = 1 - l;
    return {k * k * ff + 2 * k * l * fg + l * l * gg, k * fw + l * gw};
  }
};

/// The moments of a prompt, over at most 64 pairs (j, k) of its K ≥ 3 rewards. guess(j, k, win) returns the prior's CDF
/// at z_j and at z_k, made without these two rewards; win is the comparison of z_j with z_k. `first` chooses the pairs, if
/// there are more: another one for each prompt, so that together they are even whatever the order of the rewards.
template <real_scalar S, class Guess>
risk_moments leave_two_out(Eigen::Map<const array<S>> z, Eigen::Index first, const Guess& guess) {
  const Eigen::Index K = z.size(), pairs = K * (K - 1) / 2, used = std::min<Eigen::Index>(pairs, 64);
  std::vector<double> won(static_cast<std::size_t>(K));
  count_each(z.data(), K, K, z.data(), K, [&](Eigen::Index i, int n, const auto& c) {
    for (int j = 0; j < n; ++j)
      won[static_cast<std::size_t>(i + j)] = static_cast<double>(c[j].below) + 0.5 * static_cast<double>(c[j].tied - 1);
  });
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
    const auto n = static_cast<double>(K - 2);
    sums.add((won[static_cast<std::size_t>(j)] - win) / n, at_j, win);
    sums.add((won[static_cast<std::size_t>(k)] - (1 - win)) / n, at_k, 1 - win);
  }
  sums.scale(0.5 / static_cast<double>(used));
  return sums;
}

/// Sums of the moments by the number of references, which is all that the risk of a weight depends on.
inline std::map<Eigen::Index, risk_moments> by_count(const std::vector<risk_moments>& prompts) {
  std::map<Eigen::Index, risk_moments> sums;
  for (const auto& m : prompts) {
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
  const double infinite = std::numeric_limits<double>::infinity();
  return explained(infinite) <= explained(best) ? infinite : best;
}

/// The loss of each prompt at the best γ.
inline std::vector<double> losses(const std::vector<risk_moments>& prompts, double weight) {
  const auto [hh, hw] = mixed(by_count(prompts), weight);
  const double slope = hh > 0 ? std::max(0.0, hw / hh) : 0;
  std::vector<double> result;
  for (const auto& m : prompts) {
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

}  // namespace infalign::detail
