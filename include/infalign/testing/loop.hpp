// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/calibrate.hpp>
#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/procedure.hpp>
#include <infalign/testing/search.hpp>
#include <infalign/theory/finite_policy.hpp>
#include <infalign/transform/transform.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The check of a whole training loop: on a task with a known optimum, does it reach it?
namespace INFALIGN_NAMESPACE::checks {

/// A task without a language model: P prompts with Y possible responses each. The reference policy gives each response the
/// probability 1/Y, and the policy can have any probabilities.
struct bandit_task {
  matrix<double> rewards;  ///< P × Y: the reward of each response.
};

/// A random task. Rewards are multiples of 1/8; some are tied.
inline bandit_task random_bandit(Eigen::Index prompts, Eigen::Index responses, std::uint64_t seed) {
  random_source random(seed);
  bandit_task task{matrix<double>(prompts, responses)};
  for (Eigen::Index k = 0; k < task.rewards.size(); ++k)
    task.rewards.data()[k] = 0.125 * static_cast<double>(random.integer(-8, 8));
  return task;
}

/// Training on rewards that are calibrated and transformed by Φ, with the KL weight β, leads to the policy that maximises
/// E[Φ(u)] − β·KL: its inference-time win rate against the reference, and its KL, are those of theory.
///
///     checks::reaches_optimum(task, exponential{.t = 5}, 0.1, best_of{4}, [&](const checks::bandit_task& task) {
///       return …;                                            // P x Y probabilities after training
///     });
///
/// The finding has both numbers: "The win rate is 0.84 of 0.873 …". Training fails the check if its mean win rate is more than
/// `tolerance` from the optimum's, or its mean KL is more than ten times that from the optimum's.
///
/// Errors: if the policy is not P × Y, or its rows are not probabilities.
template <reward_transform Phi, procedure T, std::derived_from<bandit_task> Task>
report reaches_optimum(const Task& task, const Phi& transform_of_rewards, double beta, const T& used_with,
                       const std::function<matrix<double>(const bandit_task&)>& train, double tolerance = 0.01) {
  const auto P = task.rewards.rows(), Y = task.rewards.cols();
  const matrix<double> scores = transform(calibrate(task.rewards, task.rewards), transform_of_rewards);
  const matrix<double> policy = train(task);
  detail::check_size("reaches_optimum", "rows of the policy, one for each prompt", P, policy.rows());
  detail::check_size("reaches_optimum", "columns of the policy, one for each response", Y, policy.cols());
  const array<double> uniform = array<double>::Constant(Y, 1 / static_cast<double>(Y));
  double got = 0, wanted = 0, got_kl = 0, wanted_kl = 0;
  for (Eigen::Index p = 0; p < P; ++p) {
    const finite_policy optimum(scores.row(p), beta);
    const array<double> row = policy.row(p);
    got += exact_win_rate(task.rewards.row(p), row, uniform, used_with) / static_cast<double>(P);
    wanted += exact_win_rate(task.rewards.row(p), optimum.probability, uniform, used_with) / static_cast<double>(P);
    for (Eigen::Index y = 0; y < Y; ++y)
      if (row[y] > 0) got_kl += row[y] * std::log(row[y] * static_cast<double>(Y)) / static_cast<double>(P);
    wanted_kl += optimum.kl / static_cast<double>(P);
  }
  return {.check = "reaches_optimum",
          .passed = std::abs(got - wanted) <= tolerance && std::abs(got_kl - wanted_kl) <= 10 * tolerance,
          .cases = 1,
          .finding = detail::sentence(
              {"The win rate is ", got, " of ", wanted, ", and the KL ", got_kl, " of ", wanted_kl, "."})};
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
