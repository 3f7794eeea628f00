// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/theory/aligned_policy.hpp>

#include <cmath>
#include <cstddef>
#include <iterator>
#include <limits>
#include <optional>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The aligned policy over a finite list of responses: what training converges to if the reference policy is uniform over
/// them, as it is over the responses in a log.
///
/// Unlike `aligned_policy` it is for any reward: raw, z-scored, shaped or combined. It shows before training which KL each
/// prompt will have, and what the policy will be by other measures.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The rows of any table as a vector of arrays.
template <class T>
std::vector<array<double>> row_lists(const T& table) {
  if constexpr (reference_rewards<T>) {
    std::vector<array<double>> result;
    decltype(auto) rows = rows_of(table);
    for (Eigen::Index p = 0; p < rows.rows(); ++p) result.push_back(rows.row(p).template cast<double>());
    return result;
  } else {
    return {std::begin(table), std::end(table)};
  }
}

}  // namespace detail

/// The policy of one prompt that maximises E[score] − β·KL to the uniform policy: the probability of a response is
/// proportional to exp(score/β).
///
/// Shapes: scores is M.
/// Errors: if there is no score or one is not finite, or unless β is finite and above 0.
struct finite_policy {
  array<double> probability;  ///< Of each response.
  double kl;                  ///< The KL to the uniform policy, in nats; at most log M.

  /// For scores of the responses and a β.
  template <vector_expression Scores>
  finite_policy(const Scores& of_responses, double beta) {
    detail::check_positive("finite_policy", "a beta", beta);
    const array<double> scores = detail::as_column(of_responses).template cast<double>();
    if (scores.size() == 0) detail::fail("finite_policy", "at least one score", "none");
    for (Eigen::Index m = 0; m < scores.size(); ++m)
      if (!detail::is_finite(scores[m]))
        detail::fail("finite_policy", "finite scores", detail::concat(scores[m], detail::position(m)));
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

/// The aligned policies of all prompts, with one β.
///
///     const finite_policies policies{shape(reference), at_kl{0.5}};   // or at_beta{0.2}
///     policies.beta();
///     policies.kl().maxCoeff(&prompt);                    // the KL of each prompt: does one run away?
///     mean_over_prompts(policies.win_rates(reference, best_of{4}));
///     mean_over_prompts(policies.means(lengths));         // of any number for each response
///
/// A KL is the mean over prompts. If rewards differ in scale between prompts, one β gives a few prompts most of it; calibrated
/// rewards spread it evenly.
///
/// Shapes: scores: P × M, any `reference_table`, or a vector of arrays, one for each prompt.
/// Cost: P·M for a β, 50 times that for a KL.
/// Errors: those of `finite_policy`; if there is no prompt; if no β reaches the KL. NaN is an error: leave such responses out.
class finite_policies {
 public:
  /// The policies at a β.
  template <class Scores>
  finite_policies(const Scores& scores, at_beta at) : finite_policies(at.beta, detail::row_lists(scores)) {}
  /// The policies at a mean KL.
  template <class Scores>
  finite_policies(const Scores& scores, at_kl at) : finite_policies(at, detail::row_lists(scores)) {}

  double beta() const { return beta_; }                                ///< β.
  Eigen::Index prompts() const { return detail::size_of(policies_); }  ///< P.
  /// The probabilities of prompt p's responses, 0 ≤ p < P.
  const array<double>& probability(Eigen::Index p) const { return of(p).probability; }
  /// The KL of each prompt to the uniform policy, in nats.
  array<double> kl() const {
    return array<double>::NullaryExpr(prompts(), [this](Eigen::Index p) { return of(p).kl; });
  }

  /// The exact win rate on each prompt against the uniform policy over the same responses, by these rewards.
  ///
  /// Errors: if the shape of the rewards is not that of the scores, and as `exact_win_rate`.
  template <class Rewards, procedure T1, procedure T2>
  array<double> win_rates(const Rewards& rewards, const T1& policy_procedure, const T2& reference_procedure) const {
    const auto rows = checked_rows("rewards", rewards);
    return array<double>::NullaryExpr(prompts(), [&](Eigen::Index p) {
      const auto n = probability(p).size();
      return exact_win_rate(rows[static_cast<std::size_t>(p)], probability(p),
                            array<double>::Constant(n, 1 / static_cast<double>(n)), policy_procedure,
                            reference_procedure);
    });
  }
  /// As above, with one procedure for both.
  template <class Rewards, procedure T>
  array<double> win_rates(const Rewards& rewards, const T& both) const {
    return win_rates(rewards, both, both);
  }

  /// The mean of a value under each prompt's policy, such as a gold reward or a length.
  ///
  /// Errors: if the shape of the values is not that of the scores.
  template <class Values>
  array<double> means(const Values& values) const {
    const auto rows = checked_rows("values", values);
    return array<double>::NullaryExpr(
        prompts(), [&](Eigen::Index p) { return (probability(p) * rows[static_cast<std::size_t>(p)]).sum(); });
  }

 private:
  using lists = std::vector<array<double>>;

  finite_policies(double beta, const lists& scores) : beta_(beta) {
    if (scores.empty()) detail::fail("finite_policies", "at least one prompt", "none");
    for (const auto& row : scores) policies_.emplace_back(row, beta);
  }
  finite_policies(at_kl at, const lists& scores) : finite_policies(beta_for(scores, at.kl), scores) {}

  static double beta_for(const lists& scores, double kl) {
    if (!detail::is_finite(kl) || !(kl > 0)) detail::fail("finite_policies", "a kl above 0", detail::concat(kl));
    if (scores.empty()) return 1;
    if (const auto beta = beta_at_mean_kl(scores, kl)) return *beta;
    detail::fail("finite_policies",
                 detail::concat("a kl below ", mean_kl(scores, std::numeric_limits<double>::min()),
                                ", which the best responses alone have"),
                 detail::concat(kl));
  }

  const finite_policy& of(Eigen::Index p) const { return policies_[static_cast<std::size_t>(p)]; }

  template <class Rows>
  lists checked_rows(const char* what, const Rows& rows) const {
    auto result = detail::row_lists(rows);
    detail::check_size("finite_policies", detail::concat("rows of ", what, ", one for each prompt").c_str(), prompts(),
                       detail::size_of(result));
    for (Eigen::Index p = 0; p < prompts(); ++p)
      if (const auto n = result[static_cast<std::size_t>(p)].size(); n != probability(p).size())
        detail::fail("finite_policies", detail::concat(probability(p).size(), " ", what, ", one for each response"),
                     detail::concat(n, " at row ", p));
    return result;
  }

  double beta_;
  std::vector<finite_policy> policies_;
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
