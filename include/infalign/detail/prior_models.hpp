// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/prior_state.hpp>
#include <infalign/detail/leave_two_out.hpp>
#include <infalign/detail/pooled_cdf.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The models of `prior_model`, as they are learnt from the rewards of many prompts.
namespace INFALIGN_NAMESPACE::detail {

/// What a model knows of a prompt.
struct prompt_fit {
  double center = 0;     ///< m or r̄_p.
  double per_scale = 0;  ///< 1/s; below 0 for the pooled prior.
};

/// All models, learnt from the same rewards.
template <real_scalar S>
class prior_models {
 public:
  /// rows: a `reference_table` of the kept rewards.
  template <class Rows>
  void learn(const prior_state<S>& state, const Rows& rows) {
    cdf_.value = state.value, cdf_.below = state.below, cdf_.at_most = state.at_most, cdf_.total = state.total;
    pooled_ = cdf_table<S>(cdf_, [](double u) { return u; });
    if (rows.rows() == 0) return;
    if (!state.model || state.model == prior_model::location) learn_location(rows);
    if (!state.model || state.model == prior_model::location_scale) learn_residuals(rows);
  }

  prompt_fit fit(prior_model model, Eigen::Map<const array<S>> row) const {
    if (model == prior_model::pooled) return {};
    running_moments moments;
    for (const S r : row)
      if (!is_nan(r)) moments.add(feature(model, r));
    return fit_of(model, moments);
  }

  /// G of n rewards.
  void cdf(prior_model model, const prompt_fit& fit, const S* rewards, int n, S* result) const {
    if (model == prior_model::location) {
      const auto center = static_cast<S>(fit.center), per_scale = static_cast<S>(fit.per_scale);
      for (int j = 0; j < n; ++j) result[j] = score_(rewards[j]);
      for (int j = 0; j < n; ++j) result[j] = normal_((result[j] - center) * per_scale);
    } else if (model == prior_model::pooled || fit.per_scale < 0) {
      for (int j = 0; j < n; ++j) result[j] = pooled_(rewards[j]);
    } else {
      for (int j = 0; j < n; ++j)
        result[j] = static_cast<S>(residual_((static_cast<double>(rewards[j]) - fit.center) * fit.per_scale));
    }
  }

  /// The weight of the pooled prior, from the pairs of the kept rewards. `all_within`: the number of pairs of rewards of
  /// one prompt, kept or not.
  template <class Rows>
  double closed_weight(const Rows& rows, double all_within) const {
    double sum = 0, pairs = 0;
    std::vector<double> v;
    for (Eigen::Index p = 0; p < rows.rows(); ++p) {
      v.clear();
      for (const S r : rows.row(p)) v.push_back(static_cast<double>(pooled_(r)));
      std::sort(v.begin(), v.end());
      const auto n = static_cast<double>(v.size());
      for (std::size_t i = 0; i < v.size(); ++i) sum += (2 * static_cast<double>(i) - n + 1) * v[i];
      pairs += 0.5 * n * (n - 1);
    }
    const double all_pairs = 0.5 * cdf_.total * (cdf_.total - 1), share = all_within / all_pairs;
    if (!(pairs > 0) || !(share < 1)) return 0;
    const double within = sum / pairs, between = (cdf_.mean_difference() - share * within) / (1 - share);
    if (!(between > 0)) return 0;
    return within < between ? within / (between - within) : infinite<double>;
  }

  /// The moments of every kept prompt with at least 2 rewards.
  template <class Rows>
  void leave_two_out(prior_model model, const Rows& rows, std::vector<risk_moments>& result) const {
    result.clear();
    std::vector<double> x;
    for (Eigen::Index p = 0; p < rows.rows(); ++p) {
      const auto z = rows.row(p);
      if (z.size() < 2) continue;
      x.clear();
      running_moments all;
      for (const S r : z) {
        x.push_back(model == prior_model::pooled ? static_cast<double>(pooled_(r)) : feature(model, r));
        all.add(x.back());
      }
      const auto guess = [&](Eigen::Index j, Eigen::Index k, double win) {
        const double xj = x[static_cast<std::size_t>(j)], xk = x[static_cast<std::size_t>(k)];
        if (model == prior_model::pooled)  // the pooled CDF without the two rewards is known exactly
          return std::pair{(cdf_.total * xj - 0.5 - win) / (cdf_.total - 2),
                           (cdf_.total * xk - 0.5 - (1 - win)) / (cdf_.total - 2)};
        auto rest = all;
        rest.remove(xj);
        rest.remove(xk);
        const S both[2] = {z[j], z[k]};
        S g[2];
        cdf(model, fit_of(model, rest), both, 2, g);
        return std::pair{static_cast<double>(g[0]), static_cast<double>(g[1])};
      };
      result.push_back(infalign::detail::leave_two_out(z, p, guess));
    }
  }

  /// The variance of what n references leave unknown of a prompt's level, but for a factor.
  double unknown(prior_model model, double n) const {
    if (model == prior_model::pooled) return 1;
    return model == prior_model::location ? 1 / (n * between_ + within_) : 1 / n;
  }

 private:
  /// What a model's moments are of.
  double feature(prior_model model, S r) const {
    return static_cast<double>(model == prior_model::location ? score_(r) : r);
  }

  prompt_fit fit_of(prior_model model, const running_moments& row) const {
    constexpr double least = 1e-30;
    const auto n = static_cast<double>(row.count);
    if (model == prior_model::location) {
      const double shrink = n > 0 && between_ > 0 ? between_ / (between_ + within_ / n) : 0;
      const double variance = within_ + between_ * (1 - shrink);
      return {level_ + shrink * (row.mean() - level_), 1 / std::sqrt(std::max(variance, least))};
    }
    if (row.count < 2 || !is_finite(row.squares)) return {0, -1};
    return {row.mean(), 1 / std::sqrt(std::max(row.spread() / (n - 1) * (1 + 1 / n), 1e-300))};
  }

  /// μ, τ² and σ² of the normal scores, by analysis of variance.
  template <class Rows>
  void learn_location(const Rows& rows) {
    const double end = 0.5 / std::max(1.0, cdf_.total);
    score_ = cdf_table<S>(cdf_, [end](double u) { return normal_quantile(std::clamp(u, end, 1 - end)); });
    double total = 0, squares = 0, sum = 0, spread = 0, groups = 0;
    std::vector<std::pair<double, double>> means;
    for (Eigen::Index p = 0; p < rows.rows(); ++p) {
      running_moments moments;
      for (const S r : rows.row(p)) moments.add(static_cast<double>(score_(r)));
      const auto n = static_cast<double>(moments.count);
      means.emplace_back(n, moments.mean());
      total += n, squares += n * n, sum += n * moments.mean(), spread += moments.spread(), groups += 1;
    }
    level_ = sum / total;
    within_ = total > groups ? spread / (total - groups) : 0;
    double between = 0;
    for (const auto& [n, mean] : means) between += n * (mean - level_) * (mean - level_);
    const double size = total - squares / total;
    between_ = groups > 1 && size > 0 ? std::max(0.0, (between - (groups - 1) * within_) / size) : 0;
  }

  /// The CDF of the residuals, each from the mean and standard deviation of the prompt's other rewards.
  template <class Rows>
  void learn_residuals(const Rows& rows) {
    std::vector<double> residuals;
    for (Eigen::Index p = 0; p < rows.rows(); ++p) {
      running_moments moments;
      for (const S r : rows.row(p)) moments.add(static_cast<double>(r));
      for (const S r : rows.row(p)) {
        auto rest = moments;
        rest.remove(static_cast<double>(r));
        const auto fit = fit_of(prior_model::location_scale, rest);
        const double residual = (static_cast<double>(r) - fit.center) * fit.per_scale;
        if (fit.per_scale > 0 && is_finite(residual)) residuals.push_back(residual);
      }
    }
    pooled_cdf<double> cdf;
    sort_numbers(residuals);
    cdf.add_sorted(residuals);
    residual_ = cdf_table<double>(cdf, [](double u) { return u; });
  }

  pooled_cdf<S> cdf_;
  cdf_table<S> pooled_, score_;
  cdf_table<double> residual_;
  normal_table<S> normal_;
  double level_ = 0, within_ = 1, between_ = 0;  // μ, σ², τ²
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
