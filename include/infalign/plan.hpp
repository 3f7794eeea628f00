// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/with_prior.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/theory/few_references.hpp>
#include <infalign/theory/finite_policy.hpp>
#include <infalign/transform/shaping.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// From a log of reference rewards to all that a training run needs: calibration, prior, transform and β.
namespace INFALIGN_NAMESPACE {

/// Win rates that were measured with `count` references of each prompt. Every prompt's rewards are split in two: from
/// the first half come the references, and the second half is the reference policy that the win rates are against. The
/// policies are those that training converges to.
struct plan_point {
  double count;             ///< References of a prompt (the harmonic mean, if prompts have unlike numbers).
  double kl;                ///< Of the policies: that which was asked for, or 2/3 of what so few responses can reach.
  prior_model model;        ///< What the prior assumes that prompts share.
  double weight;            ///< How many references the prior is worth.
  double equivalent_count;  ///< How many references plain calibration would need to be as good.
  double t;                 ///< The rate of the transform, chosen for that quality.
  mean_estimate raw;        ///< The win rate if the raw reward is maximised.
  mean_estimate plain;      ///< If it is calibrated from the references alone, and transformed as is best then.
  mean_estimate prior;      ///< If it is calibrated with the prior.
  mean_estimate gain;       ///< prior − raw, for each prompt.
};

/// What theory expects of more references, without ties.
struct plan_forecast {
  double count;     ///< References of a prompt.
  double win_rate;  ///< The win rate that the best exponential then reaches.
};

/// What to train with.
template <reference_rewards T>
struct reward_plan {
  /// Calibration with the prior, then the transform.
  using shaping = reward_shaping<calibration<T, calibration_prior<typename T::Scalar>>, normalized_exponential>;

  shaping shape;  ///< `shape(rewards)` or `shape(prompt, rewards)`: the rewards to train on.
  double beta;    ///< The weight of the KL to train with: `k1_in_reward{plan.beta}`.
  double t;       ///< The rate of the transform.
  calibration_prior<typename T::Scalar> prior;  ///< The prior of the calibration.
  std::vector<plan_point> measured;             ///< From 2 references on, doubling, to half of those in the log.
  std::vector<plan_forecast> forecast;          ///< For all references of the log, twice and four times as many.
};

namespace detail {

/// Rows of rewards, each in a random order that is the same in every run.
template <reference_rewards T>
std::vector<std::vector<typename T::Scalar>> shuffled_rows(const T& reference) {
  std::vector<std::vector<typename T::Scalar>> result;
  decltype(auto) table = rows_of(reference);
  even_draws draw;
  for (Eigen::Index p = 0; p < table.rows(); ++p) {
    auto& row = result.emplace_back();
    for (const auto r : table.row(p))
      if (!is_nan(r)) row.push_back(r);
    for (std::size_t i = row.size(); i > 1; --i)
      std::swap(row[i - 1], row[static_cast<std::size_t>(draw() * static_cast<double>(i))]);
  }
  return result;
}

/// `beta_at_mean_kl`, or the smallest β if the KL is out of reach.
template <class Scores>
double beta_near_mean_kl(const Scores& scores, double kl) {
  return beta_at_mean_kl(scores, kl).value_or(std::numeric_limits<double>::min());
}

/// The win rate of each prompt's policy at a mean KL, or at the largest that the scores reach.
///
/// rewards[p] are those of the responses of prompt p, scores[p] what is maximised.
template <procedure T>
array<double> win_rates_at(const std::vector<array<double>>& rewards, const std::vector<array<double>>& scores,
                           double kl, const T& procedure) {
  return finite_policies(scores, at_beta{beta_near_mean_kl(scores, kl)}).win_rates(rewards, procedure);
}

inline double harmonic_mean(const std::vector<double>& x) {
  double sum = 0;
  for (const double y : x) sum += 1 / y;
  return static_cast<double>(x.size()) / sum;
}

}  // namespace detail

/// Plans the rewards of a training run from a log of reference rewards: which prior, transform and β to train with for
/// an inference-time procedure and a KL, and the win rates to expect.
///
///     const auto plan = plan_rewards(reference, best_of{4}, at_kl{0.5});
///     policy_gradient step{k1_in_reward{plan.beta}, leave_one_out{}};
///     step(batch, plan.shape(rewards));
///
/// The calibration has the prior that `calibration_prior` chooses, or none if that was measured to be worse. The
/// transform is the best exponential for references of that quality. All rewards of the log are its references. β is
/// that of theory, times a correction for ties that is measured on the log.
///
/// Shapes: reference is P × K, or any `reference_table`. Win rates are measured on the prompts with at least 4 rewards;
/// there must be at least 2.
/// Accuracy: training at β reaches the KL to about a third; `adaptive_kl_per_sequence` holds it. A measured win rate is
/// against a reference policy of only K/2 responses. Compare the columns: against the true reference policy all of them
/// are rather larger.
/// Cost: 2 to 10 seconds.
/// Errors: if there are too few prompts, if no exponential reaches the KL, and as `calibrate`.
template <reference_rewards T, procedure Procedure>
reward_plan<typename detail::stored_as<T>::type> plan_rewards(const T& reference, const Procedure& procedure, at_kl at,
                                                              unscored on_unscored = unscored::error) {
  using S = typename T::Scalar;
  calibration_prior<S> prior(reference, on_unscored);  // checks the rewards
  const auto rows = detail::shuffled_rows(reference);

  std::vector<std::vector<S>> sources, responses;
  std::vector<array<double>> rewards;
  std::vector<double> all_counts, response_counts;
  std::size_t most = 0;
  for (const auto& row : rows) {
    if (!row.empty()) all_counts.push_back(static_cast<double>(row.size()));
    if (row.size() < 4) continue;
    const auto half = row.begin() + static_cast<std::ptrdiff_t>(row.size() / 2);
    sources.emplace_back(row.begin(), half);
    responses.emplace_back(half, row.end());
    response_counts.push_back(static_cast<double>(responses.back().size()));
    most = std::max(most, sources.back().size());
    rewards.push_back(
        Eigen::Map<const array<S>>(responses.back().data(), static_cast<Eigen::Index>(responses.back().size()))
            .template cast<double>());
  }
  if (rewards.size() < 2)
    detail::fail("plan_rewards", "at least 2 prompts with 4 rewards", detail::concat(rewards.size()));

  const auto transformed = [](std::vector<array<double>> u, double t) {
    for (auto& row : u) row = row.unaryExpr([t](double x) { return normalized_exponential{t}(x); }).eval();
    return u;
  };
  const auto shaped = [&](const auto& calibrated, double t) {
    std::vector<array<double>> u;
    for (std::size_t p = 0; p < responses.size(); ++p) {
      const std::vector<std::size_t> prompt(responses[p].size(), p);
      const auto n = static_cast<Eigen::Index>(responses[p].size());
      u.push_back(calibrated(prompt, Eigen::Map<const array<S>>(responses[p].data(), n)).template cast<double>());
    }
    return transformed(std::move(u), t);
  };
  const auto quality = [](const calibration_prior<S>& with, double count) {
    const double equivalent = with.equivalent_count(count);
    return detail::is_nan(equivalent) ? count : std::max(equivalent, 1.0);
  };
  const auto rate = [&](double count) {
    // A policy that only chooses responses above all K references has a mean KL of 1 + 1/2 + … + 1/K.
    const double most_kl = std::log(count + 0.5) + 0.57721566490153286;
    return best_exponential(procedure, at_kl{std::min(at.kl, 0.8 * most_kl)}, at_count{count}).transform.t;
  };

  // n responses to a prompt reach a KL of log n at most, and less with ties.
  const double kl = std::min(at.kl, 2.0 / 3 * mean_kl(rewards, std::numeric_limits<double>::min()));
  const array<double> raw = detail::win_rates_at(rewards, rewards, kl, procedure);
  std::vector<plan_point> measured;
  bool worse = false;
  double correction = 1;
  for (std::size_t K = 2; K <= most; K = K < most ? std::min(2 * K, most) : most + 1) {
    auto references = sources;
    std::vector<double> counts;
    for (auto& row : references) {
      row.resize(std::min(K, row.size()));
      counts.push_back(static_cast<double>(row.size()));
    }
    const ragged table(references);
    const calibration_prior<S> some(table);
    const double count = detail::harmonic_mean(counts), equivalent = quality(some, count);
    const double t_plain = rate(count), t = rate(equivalent);
    const auto plain = shaped(calibration{table}, t_plain), with = shaped(calibration{table, some}, t);
    const array<double> plain_rates = detail::win_rates_at(rewards, plain, kl, procedure),
                        rates = detail::win_rates_at(rewards, with, kl, procedure);
    measured.push_back({count, kl, some.model(), some.weight(), equivalent, t, mean_over_prompts(raw),
                        mean_over_prompts(plain_rates), mean_over_prompts(rates), mean_over_prompts(rates - raw)});
    const auto loss = mean_over_prompts(plain_rates - rates);
    worse = loss.mean > loss.standard_error;
    // The β of the log, in units of that of as many rewards without ties and of the same quality.
    const auto n = static_cast<Eigen::Index>(std::lround(detail::harmonic_mean(response_counts)));
    const auto ideal =
        transformed(detail::few_reference_policy(worse ? count : equivalent).calibrated(n, 1000), worse ? t_plain : t);
    const auto& scores = worse ? plain : with;
    const double gentle = std::min(at.kl, 0.3 * mean_kl(scores, std::numeric_limits<double>::min()));
    const auto log_beta = beta_at_mean_kl(scores, gentle), ideal_beta = beta_at_mean_kl(ideal, gentle);
    if (log_beta && ideal_beta) correction = *log_beta / *ideal_beta;
  }

  if (worse) prior = calibration_prior<S>(reference, prior_model::pooled, 0.0, on_unscored);
  const double count = detail::harmonic_mean(all_counts);
  std::vector<plan_forecast> forecast;
  const auto best = best_exponential(procedure, at, at_count{quality(prior, count)});
  forecast.push_back({count, best.win_rate});
  for (const double more : {2.0, 4.0})
    forecast.push_back(
        {more * count, best_exponential(procedure, at, at_count{quality(prior, more * count)}).win_rate});
  return {calibration{reference, prior, on_unscored} | best.transform,
          correction * best.beta,
          best.transform.t,
          prior,
          std::move(measured),
          std::move(forecast)};
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
