// SPDX-License-Identifier: MIT
#include <infalign/testing/loop.hpp>
#include <infalign/transform/transforms.hpp>

#include "arrays.hpp"

using namespace infalign;
using checks::bandit_task;
using Eigen::Index;

namespace {

/// Gradient ascent of E[Φ(u)] − β·KL(π ‖ uniform) by the logits, with exact expectations.
matrix<double> train(const bandit_task& task, const exponential& phi, double beta, int steps) {
  const auto P = task.rewards.rows(), Y = task.rewards.cols();
  const matrix<double> score = transform(calibrate(task.rewards, task.rewards), phi);
  matrix<double> logits = matrix<double>::Zero(P, Y), policy;
  for (int i = 0; i <= steps; ++i) {
    policy = logits.exp();
    policy.colwise() /= policy.rowwise().sum().eval();
    const matrix<double> gain = score - beta * policy.log();
    const array<double> mean = (policy * gain).rowwise().sum();
    if (i < steps) logits += 0.5 / beta * policy * (gain.colwise() - mean);
  }
  return policy;
}

}  // namespace

TEST_CASE("A loop that converges reaches the optimum, and one that stops early does not") {
  const auto task = checks::random_bandit(6, 16, 1);
  const exponential phi{.t = 4};
  const auto reached = [&](int steps, double beta, double tolerance = 0.01) {
    return checks::reaches_optimum(
        task, phi, 5, best_of{4}, [&](const bandit_task& t) { return train(t, phi, beta, steps); }, tolerance);
  };
  CHECK(reached(5000, 5, 3e-4));
  const auto untrained = reached(0, 5);
  CHECK(!untrained);
  CHECK(untrained.finding.starts_with("The win rate is 0.5 of 0."));
  CHECK(untrained.finding.find("and the KL 0 of ") != std::string::npos);
  CHECK(!reached(2000, 2.5));  // another weight of the KL
  CHECK(!reached(2000, 10));
}

TEST_CASE("What is not a policy is an error") {
  const auto task = checks::random_bandit(2, 3, 1);
  const auto check = [&](const matrix<double>& policy) {
    return error_of(
        [&] { checks::reaches_optimum(task, identity{}, 1, best_of{2}, [&](const bandit_task&) { return policy; }); });
  };
  CHECK(check(matrix<double>::Constant(1, 3, 1. / 3)) ==
        "reaches_optimum: expected 2 rows of the policy, one for each prompt, got 1");
  CHECK(check(matrix<double>::Constant(2, 2, 0.5)) ==
        "reaches_optimum: expected 3 columns of the policy, one for each response, got 2");
  CHECK(check(matrix<double>::Constant(2, 3, 0.5)).find("sum to 1") != std::string::npos);
}
