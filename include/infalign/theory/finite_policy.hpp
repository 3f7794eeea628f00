// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/measure/exact_win_rate.hpp>

#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The aligned policy over a finite list of responses: what training converges to if the reference policy is uniform
/// over them, as it is over the responses in a log.
namespace INFALIGN_NAMESPACE {

/// The policy of one prompt that maximises E[score] − β·KL to the uniform policy: the probability of a response is
/// proportional to exp(score/β).
///
/// Shapes: scores is M.
struct finite_policy {
  array<double> probability;  ///< Of each response.
  double kl;                  ///< The KL to the uniform policy, in nats; at most log M.

  /// For scores of the responses and a β above 0.
  template <vector_expression Scores>
  finite_policy(const Scores& of_responses, double beta) {
    const array<double> scores = detail::as_column(of_responses).template cast<double>();
    // Halves are subtracted, so that no difference overflows. e^-700 is negligible, but its logarithm is finite.
    const array<double> x = ((scores / 2 - scores.maxCoeff() / 2) / (beta / 2)).max(-700.0);
    probability = x.exp();
    const double sum = probability.sum();
    probability /= sum;
    kl = std::log(static_cast<double>(scores.size()) / sum) + (probability * x).sum();
  }
};

/// The mean KL over prompts, with one β for all. scores[p] has the scores of prompt p's responses.
template <class Scores = std::vector<array<double>>>
double mean_kl(const Scores& scores, double beta) {
  double sum = 0;
  for (const auto& s : scores) sum += finite_policy(s, beta).kl;
  return sum / static_cast<double>(scores.size());
}

/// The β at which the mean KL over prompts is `kl`; nothing if no β reaches it. Bisects log β over the range of a double.
///
/// Cost: 50 times that of `mean_kl`.
template <class Scores = std::vector<array<double>>>
std::optional<double> beta_at_mean_kl(const Scores& scores, double kl) {
  double low = std::log(std::numeric_limits<double>::min()), high = std::log(std::numeric_limits<double>::max());
  if (scores.empty() || mean_kl(scores, std::exp(low)) <= kl + 1e-9) return std::nullopt;
  for (int i = 0; i < 50; ++i) {
    const double middle = (low + high) / 2;
    (mean_kl(scores, std::exp(middle)) > kl ? low : high) = middle;
  }
  return std::exp(high);
}

/// The exact win rate of each prompt's policy against the uniform policy over its responses, with one β for all.
///
/// Shapes: rewards[p] and scores[p] are those of prompt p's responses. Returns a number for each prompt.
template <procedure T, class Rewards = std::vector<array<double>>, class Scores = std::vector<array<double>>>
array<double> finite_win_rates(const Rewards& rewards, const Scores& scores, double beta, const T& both) {
  array<double> result(detail::size_of(rewards));
  for (std::size_t p = 0; p < rewards.size(); ++p) {
    const auto n = rewards[p].size();
    result[static_cast<Eigen::Index>(p)] = exact_win_rate(rewards[p], finite_policy(scores[p], beta).probability,
                                                          array<double>::Constant(n, 1 / static_cast<double>(n)), both);
  }
  return result;
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
