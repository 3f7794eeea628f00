// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/prior_state.hpp>
#include <infalign/detail/counting.hpp>
#include <infalign/detail/groups.hpp>
#include <infalign/detail/leave_two_out.hpp>
#include <infalign/detail/prior_models.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

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
namespace INFALIGN_NAMESPACE {

/// A prior for the reward distribution of a prompt.
///
/// `fit(row)` reads what the prior needs to know of a prompt from its reference rewards, which may include NaN.
/// `cdf(fit, r)` is G_p(r): in [0, 1], non-decreasing in r. `cdf(fit, rewards, n, result)`, if it exists, does this for n
/// rewards at once. `weight()` is a: from 0 (no prior) to infinity (only the prior). `calibration_prior` is one. A model
/// that predicts reward distributions from the prompt can be another.
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
/// What is compared is the least mean of (α + γ·Ĉ − w)² over α and γ. If all calibrated rewards shrink towards ½
/// together, a larger t gives the same policy; so a prior earns nothing for that. A model with more parameters is chosen
/// only if its risk is lower by more than one standard error over prompts, and if some prompts have 3 references.
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

  /// What `cdf` needs to know of a prompt: a centre and a scale.
  using fit_type = detail::prompt_fit;

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

  /// Adds reference rewards, then learns again. If it throws, the prior is as before.
  ///
  /// Cost: that of the new rewards; then up to 0.1 s to learn.
  template <reference_rewards T>
  void add(const T& reference, unscored on_unscored = unscored::error) {
    static_assert(std::same_as<typename T::Scalar, S>, "infalign: reference and prior must have the same scalar type");
    decltype(auto) table = detail::rows_of(reference);
    for (Eigen::Index p = 0; p < table.rows(); ++p)
      if (table.row(p).size() > 0)
        detail::count_scored({"calibration_prior", on_unscored}, "reference", table.row(p), p);
    prior_state<S> next = state_;
    detail::prior_collector add_to(next);
    for (Eigen::Index p = 0; p < table.rows(); ++p) add_to.add(table.row(p));
    add_to.finish();
    learn_from(std::move(next));
  }

  /// Adds the rewards of a flat batch, then learns again.
  template <prompt_index Prompts, number_list R>
  void add(const Prompts& prompt, const R& rewards, unscored on_unscored = unscored::error) {
    detail::with_batch(
        "calibration_prior",
        [&]<class Rewards>(const auto& batch_prompts, const Rewards& batch_rewards) {
          static_assert(std::same_as<typename Rewards::Scalar, S>,
                        "infalign: rewards and prior must have the same scalar type");
          const array<S> values = detail::as_column(batch_rewards);
          detail::check_scored({"calibration_prior", on_unscored}, batch_prompts,
                               detail::packed_rows(values.data(), batch_prompts));
          prior_state<S> next = state_;
          detail::prior_collector add_to(next);
          detail::groups(batch_prompts, nullptr)
              .for_each(values.data(), [&](Eigen::Map<const array<S>> group, Eigen::Index) { add_to.add(group); });
          add_to.finish();
          learn_from(std::move(next));
        },
        prompt, rewards);
  }

  /// Forgets older rewards: their weight is multiplied by `kept`, in (0, 1]. For a prior that follows the policy, call
  /// it before each `add`.
  void forget(double kept) {
    if (!detail::is_finite(kept) || !(kept > 0) || !(kept <= 1))
      detail::fail("calibration_prior::forget", "a share above 0 and at most 1", detail::concat(kept));
    for (auto* weights : {&state_.below, &state_.at_most})
      for (double& w : *weights) w *= kept;
    state_.total *= kept;
    state_.pairs *= kept * kept;
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
  /// NaN if no prompt had 2 references.
  double rms_error(double count) const { return std::sqrt(mean_squared_error(count)); }

  /// How many references plain calibration would need to be as good.
  double equivalent_count(double count) const {
    const double error = mean_squared_error(count);
    return error > 0 ? errors_.variance / error : detail::is_nan(error) ? error : detail::infinite<double>;
  }

  /// Fits a prompt.
  ///
  /// Cost: K look-ups for the location model; none for the pooled.
  fit_type fit(Eigen::Map<const array<S>> row) const { return models_.fit(model_, row); }

  /// G_p(r).
  S cdf(const fit_type& fit, S r) const {
    S result;
    models_.cdf(model_, fit, &r, 1, &result);
    return result;
  }

  /// G_p of n rewards at once, which takes less time.
  void cdf(const fit_type& fit, const S* rewards, int n, S* result) const {
    models_.cdf(model_, fit, rewards, n, result);
  }

 private:
  /// Takes over a state, if learning from it succeeds.
  void learn_from(prior_state<S> state) {
    calibration_prior next;
    next.state_ = std::move(state);
    next.learn();
    *this = std::move(next);
  }

  void learn() {
    const ragged rows(Eigen::Map<const array<S>>(state_.kept.data(), static_cast<Eigen::Index>(state_.kept.size())),
                      state_.offsets);
    models_.learn(state_, rows);
    model_ = prior_model::pooled;
    const double pooled_weight = models_.closed_weight(rows, state_.pairs);
    weight_ = state_.weight.value_or(pooled_weight);
    errors_ = {};
    const bool all = !state_.model;
    std::vector<detail::risk_moments> best, other;
    std::vector<double> best_loss;
    for (const auto model : {prior_model::pooled, prior_model::location, prior_model::location_scale}) {
      if (!all && state_.model != model) continue;
      models_.leave_two_out(model, rows, other);
      // If no reference is left when two are left out, there is nothing to compare models by.
      const bool learns = std::any_of(other.begin(), other.end(), [](const auto& m) { return m.others > 0; });
      if (all && model != prior_model::pooled && !learns) continue;
      const double weight = state_.weight.value_or(
          model == prior_model::pooled || !learns ? pooled_weight : detail::least_risk_weight(other));
      const auto loss = detail::losses(other, weight);
      if (!all || model == prior_model::pooled || detail::lower(loss, best_loss)) {
        model_ = model, weight_ = weight;
        best.swap(other);
        best_loss = loss;
      }
    }
    errors_ = detail::measured_errors(rows, best);
  }

  double mean_squared_error(double count) const {
    if (!(count > 0)) detail::fail("calibration_prior", "a count above 0", detail::concat(count));
    return errors_.mean_square(count, weight_, [this](double n) { return models_.unknown(model_, n); });
  }

  prior_state<S> state_;
  prior_model model_ = prior_model::pooled;
  double weight_ = 0;
  detail::prior_models<S> models_;
  detail::error_parts errors_;
};

/// The scalar of the prior is that of the reference.
template <reference_rewards T, class... Options>
calibration_prior(const T&, Options...) -> calibration_prior<typename T::Scalar>;
/// The scalar of the prior is that of the state.
template <real_scalar S>
calibration_prior(prior_state<S>) -> calibration_prior<S>;

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
