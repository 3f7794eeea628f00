// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/prior_state.hpp>
#include <infalign/detail/counting.hpp>
#include <infalign/detail/groups.hpp>
#include <infalign/detail/leave_two_out.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

/// \file
/// What the prompts share: a prior for the reward distribution of each prompt, learnt from the rewards of all.
///
/// Calibration from K reference rewards alone has an error of about 0.4/√K, which training then follows. The rewards of
/// the other prompts tell something too, if they come from one reward model. With a prior G_p, a guess of prompt p's
/// CDF, the calibrated reward is
///
///     Ĉ(r) = (K·F̂_p(r) + a·G_p(r))/(K + a)
///
/// where F̂_p is the mid-rank CDF of the prompt's own K reference rewards. The weight a says how many reference rewards
/// the prior is worth. This is the posterior mean if prompt p's distribution comes from a Dirichlet process with base
/// G_p and weight a (T. S. Ferguson, "A Bayesian analysis of some nonparametric problems", 1973).
namespace infalign {

/// A prior for the reward distribution of a prompt.
///
/// `fit(row)` reads what the prior needs to know of a prompt from its reference rewards, which may include NaN.
/// `cdf(fit, r)` is G_p(r): in [0, 1], non-decreasing in r; `cdf(fit, rewards, n, result)` may do the same for n rewards
/// at once. `weight()` is a: from 0 (no prior) to infinity (only the
/// prior). `calibration_prior` is one; a model that predicts reward distributions from the prompt can be another.
template <class P>
concept reward_prior = real_scalar<typename P::Scalar> &&
    requires(const P& prior, Eigen::Map<const array<typename P::Scalar>> row, typename P::Scalar r) {
  { prior.weight() } -> std::convertible_to<double>;
  { prior.cdf(prior.fit(row), r) } -> std::convertible_to<double>;
};

/// A prior that is learnt from reference rewards. It chooses what to assume, and the weight.
///
///     calibration_prior prior{reference};                     // P × K, or any reference_table
///     u = calibrate(reference, prior, rewards);
///     auto shape = calibration{reference, prior} | normalized_exponential{.t = 5};
///     prior.model(); prior.weight(); prior.rms_error(8); prior.equivalent_count(8);
///
/// The pooled prior has its weight in closed form. With V = F̄(z) for each reference reward z,
///
///     c = W/B,  a = c/(1 − c)  (infinite if c ≥ 1),
///
/// where W is the mean of |V − V'| over pairs of one prompt, and B that over pairs of different prompts. For rewards of
/// 0 and 1 it is the moment estimate of the beta-binomial. The other models have the weight of least leave-two-out risk.
///
/// Leave-two-out risk: two references z_j, z_k of a prompt are left out, and Ĉ(z_j), made from the rest, predicts the
/// comparison w = 1{z_k < z_j} + ½·1{z_k = z_j}. The mean of (Ĉ − w)² is that of (Ĉ − C)² plus a constant, without bias.
/// The risk that is compared here is the least of that mean over α + γ·Ĉ: a policy does not change if all calibrated
/// rewards shrink towards ½ together and t grows, so a prior earns nothing for that. A model with more parameters is
/// chosen only if its risk is lower by more than one standard error over prompts.
///
/// Rewards can be added later. Of the rewards that were added, it holds the pooled CDF (to 1e-4) and the rewards of at
/// most 4,096 prompts, evenly spaced, from which it learns all else. For a million prompts it takes about 4 MiB.
///
/// Cost: one pass and one sort of the rewards; then at most 0.1 s for the choice. A look-up takes about 5 ns.
/// NaN: an error; with `unscored::propagate` it is left out. ±inf are ordinary rewards.
/// Source: the pooled prior is Ferguson's; the other models and the choice are this library's.
template <real_scalar S>
class calibration_prior {
 public:
  /// float or double.
  using Scalar = S;

  /// What `cdf` needs to know of a prompt.
  struct fit_type {
    double center = 0;     ///< m or r̄_p.
    double per_scale = 0;  ///< 1/s; below 0 for the pooled prior.
  };

  /// Has learnt nothing: the weight is 0 until rewards are added.
  calibration_prior() = default;

  /// Learns from reference rewards, and chooses the model.
  template <reference_rewards T>
  explicit calibration_prior(const T& reference, unscored on_unscored = unscored::error) {
    add(reference, on_unscored);
  }

  /// Learns the weight of a given model.
  template <reference_rewards T>
  calibration_prior(const T& reference, prior_model model, unscored on_unscored = unscored::error) {
    state_.model = model;
    add(reference, on_unscored);
  }

  /// Learns a given model, with a given weight, from 0 to infinity.
  template <reference_rewards T>
  calibration_prior(const T& reference, prior_model model, double weight, unscored on_unscored = unscored::error) {
    if (detail::is_nan(weight) || weight < 0)
      detail::fail("calibration_prior", "a weight of at least 0", detail::concat(weight));
    state_.model = model;
    state_.weight = weight;
    add(reference, on_unscored);
  }

  /// Continues from a saved state.
  explicit calibration_prior(prior_state<S> state) : state_(std::move(state)) {
    detail::check_state(state_);
    learn();
  }

  /// Adds reference rewards, or `prompt, rewards`: a flat batch. Then learns again.
  ///
  /// Cost: that of the new rewards; then up to 0.1 s to learn.
  template <class... Batch>
  requires(detail::batch_arguments<Batch...> || sizeof...(Batch) > 0) void add(const Batch&... batch) {
    add_rewards(batch...);
    learn();
  }

  /// Forgets older rewards: their weight is multiplied by `kept`, in (0, 1]. For a prior that follows the policy, call
  /// it before each `add`.
  void forget(double kept) {
    if (!detail::is_finite(kept) || !(kept > 0) || !(kept <= 1))
      detail::fail("calibration_prior::forget", "a share above 0 and at most 1", detail::concat(kept));
    for (auto* weights : {&state_.below, &state_.at_most})
      for (double& w : *weights) w *= kept;
    state_.total *= kept;
    state_.pairs *= kept;
    const auto rows = static_cast<Eigen::Index>(state_.offsets.size()) - 1;
    detail::keep_last(state_, static_cast<Eigen::Index>(std::ceil(kept * static_cast<double>(rows))));
  }

  /// All that it has learnt from.
  const prior_state<S>& state() const { return state_; }

  /// The model in use.
  prior_model model() const { return model_; }

  /// a: how many reference rewards the prior is worth. From 0 to infinity.
  double weight() const { return weight_; }

  /// The estimated root mean square of Ĉ − C for a prompt with `count` reference rewards, under the reference policy.
  /// NaN if no prompt had 3 references.
  double rms_error(double count) const { return std::sqrt(mean_squared_error(count)); }

  /// How many references plain calibration would need to be as good.
  double equivalent_count(double count) const {
    const double error = mean_squared_error(count);
    return error > 0 ? variance_ / error : detail::is_nan(error) ? error : std::numeric_limits<double>::infinity();
  }

  /// Fits a prompt.
  ///
  /// Cost: K look-ups for the location model; none for the pooled.
  fit_type fit(Eigen::Map<const array<S>> row) const {
    if (model_ == prior_model::pooled) return {};
    detail::running_moments moments;
    for (const S r : row)
      if (!detail::is_nan(r)) moments.add(feature(model_, r));
    return fit_of(model_, moments);
  }

  /// G_p(r).
  S cdf(const fit_type& fit, S r) const {
    S result;
    cdf(model_, fit, &r, 1, &result);
    return result;
  }

  /// G_p of n rewards at once, which takes less time.
  void cdf(const fit_type& fit, const S* rewards, int n, S* result) const { cdf(model_, fit, rewards, n, result); }

 private:
  /// What a model's moments are of.
  double feature(prior_model model, S r) const {
    return model == prior_model::location ? score_(r) : static_cast<double>(r);
  }

  fit_type fit_of(prior_model model, const detail::running_moments& row) const {
    constexpr double least = 1e-30;
    const auto n = static_cast<double>(row.count);
    if (model == prior_model::location) {
      const double shrink = between_ > 0 ? between_ / (between_ + within_ / n) : 0;
      const double variance = within_ + between_ * (1 - shrink);
      return {level_ + shrink * (row.mean() - level_), 1 / std::sqrt(std::max(variance, least))};
    }
    const double spread = row.spread();
    if (row.count < 2 || !detail::is_finite(spread)) return {0, -1};
    return {row.mean(), 1 / std::sqrt(std::max(spread / (n - 1) * (1 + 1 / n), 1e-300))};
  }

  void cdf(prior_model model, const fit_type& fit, const S* rewards, int n, S* result) const {
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

  // ---- The rewards -----------------------------------------------------------------------------------------------

  template <reference_rewards T>
  void add_rewards(const T& reference, unscored on_unscored = unscored::error) {
    static_assert(std::same_as<typename T::Scalar, S>, "infalign: reference and prior must have the same scalar type");
    decltype(auto) table = detail::rows_of(reference);
    for (Eigen::Index p = 0; on_unscored == unscored::error && p < table.rows(); ++p) {
      const auto row = table.row(p);
      if (row.size() == 0 || detail::has_finite_sum(row.data(), row.size())) continue;
      for (Eigen::Index k = 0; k < row.size(); ++k)
        if (detail::is_nan(row[k]))
          detail::fail("calibration_prior", "reference rewards that are numbers",
                       detail::concat("NaN", detail::position(p, k)));
    }
    detail::prior_collector add_to(state_);
    for (Eigen::Index p = 0; p < table.rows(); ++p) add_to.add(table.row(p));
    add_to.finish();
  }

  template <prompt_index I, vector_expression R>
  void add_rewards(const I& prompt, const R& rewards, unscored on_unscored = unscored::error) {
    static_assert(std::same_as<typename R::Scalar, S>, "infalign: rewards and prior must have the same scalar type");
    detail::with_batch(
        "calibration_prior",
        [&](const auto& batch_prompts, const auto& batch_rewards) {
          const array<S> values = detail::as_column(batch_rewards);
          detail::check_scored({"calibration_prior", on_unscored}, batch_prompts,
                               detail::packed_rows(values.data(), batch_prompts));
          detail::prior_collector add_to(state_);
          detail::groups(batch_prompts, nullptr)
              .for_each(values.data(), [&](Eigen::Map<const array<S>> group, Eigen::Index) { add_to.add(group); });
          add_to.finish();
        },
        prompt, rewards);
  }

  // ---- What is learnt from them ----------------------------------------------------------------------------------

  Eigen::Index rows() const { return static_cast<Eigen::Index>(state_.offsets.size()) - 1; }
  Eigen::Map<const array<S>> row(Eigen::Index p) const {
    const auto first = state_.offsets[static_cast<std::size_t>(p)];
    return {state_.kept.data() + first, state_.offsets[static_cast<std::size_t>(p) + 1] - first};
  }

  void learn() {
    detail::pooled_cdf<S> cdf;
    cdf.value = state_.value, cdf.below = state_.below, cdf.at_most = state_.at_most, cdf.total = state_.total;
    pooled_ = detail::cdf_table<S>(cdf, [](double u) { return u; });
    model_ = prior_model::pooled;
    const double pooled_weight = closed_weight(cdf);
    weight_ = state_.weight.value_or(pooled_weight);
    variance_ = prior_error_ = shared_error_ = detail::nan<double>;
    if (rows() == 0) return;
    const bool all = !state_.model;
    if (all || state_.model == prior_model::location) learn_location(cdf);
    if (all || state_.model == prior_model::location_scale) learn_residuals();

    std::vector<detail::risk_moments> best, other;
    std::vector<double> best_loss;
    for (const auto model : {prior_model::pooled, prior_model::location, prior_model::location_scale}) {
      if (!all && state_.model != model) continue;
      leave_two_out(model, other);
      const double weight = state_.weight.value_or(model == prior_model::pooled ? pooled_weight
                                                   : other.empty()              ? 0
                                                                                : detail::least_risk_weight(other));
      const auto loss = detail::losses(other, weight);
      if (!all || model == prior_model::pooled || detail::lower(loss, best_loss)) {
        model_ = model, weight_ = weight;
        best.swap(other);
        best_loss = loss;
      }
    }
    measure_errors(best);
  }

  /// The weight of the pooled prior.
  double closed_weight(const detail::pooled_cdf<S>& cdf) const {
    double sum = 0, pairs = 0;
    std::vector<double> v;
    for (Eigen::Index p = 0; p < rows(); ++p) {
      v.clear();
      for (const S r : row(p)) v.push_back(pooled_(r));
      std::sort(v.begin(), v.end());
      const auto n = static_cast<double>(v.size());
      for (std::size_t i = 0; i < v.size(); ++i) sum += (2 * static_cast<double>(i) - n + 1) * v[i];
      pairs += 0.5 * n * (n - 1);
    }
    const double all_pairs = 0.5 * cdf.total * (cdf.total - 1), share = state_.pairs / all_pairs;
    if (!(pairs > 0) || !(share < 1 - 1e-12)) return 0;
    const double within = sum / pairs, between = (cdf.mean_difference() - share * within) / (1 - share);
    if (!(between > 0)) return 0;
    return within < between ? within / (between - within) : std::numeric_limits<double>::infinity();
  }

  /// μ, τ² and σ² of the normal scores, by analysis of variance.
  void learn_location(const detail::pooled_cdf<S>& cdf) {
    const double end = 0.5 / std::max(1.0, cdf.total);
    score_ =
        detail::cdf_table<S>(cdf, [end](double u) { return detail::normal_quantile(std::clamp(u, end, 1 - end)); });
    double total = 0, squares = 0, sum = 0, spread = 0, groups = 0;
    std::vector<std::pair<double, double>> means;
    for (Eigen::Index p = 0; p < rows(); ++p) {
      detail::running_moments moments;
      for (const S r : row(p)) moments.add(score_(r));
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
  void learn_residuals() {
    std::vector<double> residuals;
    for (Eigen::Index p = 0; p < rows(); ++p) {
      detail::running_moments moments;
      for (const S r : row(p)) moments.add(static_cast<double>(r));
      for (const S r : row(p)) {
        auto rest = moments;
        rest.remove(static_cast<double>(r));
        const auto fit = fit_of(prior_model::location_scale, rest);
        const double residual = (static_cast<double>(r) - fit.center) * fit.per_scale;
        if (fit.per_scale > 0 && detail::is_finite(residual)) residuals.push_back(residual);
      }
    }
    detail::pooled_cdf<double> cdf;
    detail::sort_numbers(residuals);
    cdf.add_sorted(residuals);
    residual_ = detail::cdf_table<double>(cdf, [](double u) { return u; });
  }

  /// The moments of every kept prompt with at least 3 rewards.
  void leave_two_out(prior_model model, std::vector<detail::risk_moments>& result) const {
    result.clear();
    std::vector<double> x;
    for (Eigen::Index p = 0; p < rows(); ++p) {
      const auto z = row(p);
      if (z.size() < 3) continue;
      x.clear();
      detail::running_moments all;
      for (const S r : z) {
        x.push_back(model == prior_model::pooled ? static_cast<double>(pooled_(r)) : feature(model, r));
        all.add(x.back());
      }
      const auto guess = [&](Eigen::Index j, Eigen::Index k, double win) {
        const double xj = x[static_cast<std::size_t>(j)], xk = x[static_cast<std::size_t>(k)];
        if (model == prior_model::pooled)  // the pooled CDF without the two rewards is known exactly
          return std::pair{(state_.total * xj - 0.5 - win) / (state_.total - 2),
                           (state_.total * xk - 0.5 - (1 - win)) / (state_.total - 2)};
        auto rest = all;
        rest.remove(xj);
        rest.remove(xk);
        const S both[2] = {z[j], z[k]};
        S g[2];
        cdf(model, fit_of(model, rest), both, 2, g);
        return std::pair{static_cast<double>(g[0]), static_cast<double>(g[1])};
      };
      result.push_back(detail::leave_two_out(z, p, guess));
    }
  }

  /// The parts of the mean squared error, from the moments of the model that was chosen.
  ///
  ///     E(Ĉ − C)² = (K·v + a²·E(G − C)² + 2·a·s)/(K + a)²,   v = E Var(w | z_j),   s = K·E(F̂ − C)(G − C)
  void measure_errors(const std::vector<detail::risk_moments>& prompts) {
    double variance = 0, prior = 0, shared = 0, inverse = 0;
    std::size_t next = 0;
    for (Eigen::Index p = 0; p < rows(); ++p) {
      const auto z = row(p);
      const auto K = static_cast<double>(z.size());
      if (z.size() < 3) continue;
      // E[w²] over pairs and E[C²] over triples, neither with a bias.
      double v = 0;
      detail::count_each(z.data(), z.size(), z.size(), z.data(), z.size(), [&](Eigen::Index, int n, const auto& c) {
        for (int j = 0; j < n; ++j) {
          const auto below = static_cast<double>(c[j].below), tied = static_cast<double>(c[j].tied - 1);
          const double won = below + 0.5 * tied, squares = below + 0.25 * tied;
          v += (squares - (won * won - squares) / (K - 2)) / (K - 1) / K;
        }
      });
      const auto& m = prompts[next++];
      variance += v, inverse += 1 / (K - 2);
      prior += m.gg - 2 * m.gw + m.ww - v;
      shared += (K - 2) * (m.fg - m.fw - m.gw + m.ww - v);
    }
    if (next == 0) return;
    const auto n = static_cast<double>(next);
    variance_ = std::max(0.0, variance / n), prior_error_ = prior / n, shared_error_ = shared / n;
    others_ = n / inverse;
  }

  double mean_squared_error(double count) const {
    if (!(count > 0)) detail::fail("calibration_prior", "a count above 0", detail::concat(count));
    const double prior = prior_error(count);
    if (weight_ == std::numeric_limits<double>::infinity()) return std::max(0.0, prior);
    const double size = count + weight_, sum = count * variance_ + weight_ * (weight_ * prior + 2 * shared_error_);
    return detail::is_nan(sum) ? sum : std::max(0.0, sum / (size * size));
  }

  /// E(G − C)² with `count` references of the prompt. It was measured with `others_`. The part v/a, which no number of
  /// references changes, is that of a Dirichlet process; the rest is from what the prompt's references tell of its level
  /// and scale.
  double prior_error(double count) const {
    const double lasting = std::min(prior_error_, weight_ > 0 ? variance_ / weight_ : prior_error_);
    const auto left = [this](double n) {  // the variance of a level after n rewards, but for a factor
      return model_ == prior_model::location ? 1 / (n * between_ + within_) : 1 / n;
    };
    return model_ == prior_model::pooled ? prior_error_
                                         : lasting + (prior_error_ - lasting) * left(count) / left(others_);
  }

  prior_state<S> state_;
  prior_model model_ = prior_model::pooled;
  double weight_ = 0;
  detail::cdf_table<S> pooled_, score_;
  detail::cdf_table<double> residual_;
  detail::normal_table<S> normal_;
  double level_ = 0, within_ = 1, between_ = 0;  // μ, σ², τ²
  double others_ = 1;                            // the number of references that the errors below were measured with
  double variance_ = detail::nan<double>, prior_error_ = detail::nan<double>, shared_error_ = detail::nan<double>;
};

/// The scalar of the prior is that of the reference.
template <reference_rewards T, class... Options>
calibration_prior(const T&, Options...) -> calibration_prior<typename T::Scalar>;
/// The scalar of the prior is that of the state.
template <real_scalar S>
calibration_prior(prior_state<S>) -> calibration_prior<S>;

static_assert(reward_prior<calibration_prior<float>>);

}  // namespace infalign
