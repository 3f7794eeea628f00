// SPDX-License-Identifier: MIT
#include <infalign/plan.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Rewards of prompts that differ in level; with scale, also in scale. `first` responses can be dropped, to have fresh
/// ones of the same prompts.
matrix<double> rewards_of(Index prompts, Index responses, double levels, bool scale) {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  matrix<double> result(prompts, responses);
  for (Index p = 0; p < prompts; ++p) {
    const double level = levels * normal(random), s = scale ? std::exp(2 * normal(random)) : 1;
    for (double& r : result.row(p)) r = level + s * normal(random);
  }
  return result;
}

/// The mean KL and win rate of the policies that training on shape(rewards) at β converges to.
template <class Shape, class Procedure>
std::pair<double, double> trained(const Shape& shape, double beta, const matrix<double>& fresh,
                                  const Procedure& procedure) {
  const matrix<double> scores = shape(fresh);
  double kl = 0, win_rate = 0;
  const auto P = static_cast<double>(fresh.rows());
  const array<double> even = array<double>::Constant(fresh.cols(), 1 / static_cast<double>(fresh.cols()));
  for (Index p = 0; p < fresh.rows(); ++p) {
    const finite_policy policy(scores.row(p).transpose(), beta);
    kl += policy.kl / P;
    win_rate += exact_win_rate(fresh.row(p), policy.probability, even, procedure) / P;
  }
  return {kl, win_rate};
}

}  // namespace

TEST_CASE("Training by the plan reaches about its KL, and more than raw rewards and plain calibration do") {
  const matrix<double> all = rewards_of(300, 208, 1, false), log = all.leftCols(8), fresh = all.rightCols(200);
  const auto plan = plan_rewards(log, best_of{4}, at_kl{0.5});
  CHECK(plan.prior.model() == prior_model::location);
  CHECK(plan.t > 3);
  CHECK(plan.t < 12);
  const auto reached = trained(plan.shape, plan.beta, fresh, best_of{4});
  const double kl = reached.first, win_rate = reached.second;
  CHECK(kl == Approx(0.5).epsilon(0.4));

  // At the same KL: raw rewards, and plain calibration with the transform of the theory for K = 8.
  const auto few = best_exponential(best_of{4}, at_kl{0.5}, at_count{8});
  const auto at_this_kl = [&](const auto& shape) {
    std::vector<array<double>> scores;
    const matrix<double> s = shape(fresh);
    for (Index p = 0; p < 300; ++p) scores.push_back(s.row(p).transpose());
    return trained(shape, beta_at_mean_kl(scores, kl).value(), fresh, best_of{4}).second;
  };
  CHECK(win_rate > at_this_kl([](const matrix<double>& r) { return r; }) + 0.005);
  CHECK(win_rate > at_this_kl(calibration{log} | few.transform) + 0.025);

  // What it measured on the log alone points the same way.
  REQUIRE(plan.measured.size() == 2);  // K = 2 and 4; the other 4 responses are the reference policy
  CHECK(plan.measured[0].count == 2);
  CHECK(plan.measured[1].count == 4);
  CHECK(plan.measured[1].prior.mean > plan.measured[1].plain.mean);
  CHECK(plan.measured[1].equivalent_count > 8);
  CHECK(plan.measured[1].gain.mean == Approx(plan.measured[1].prior.mean - plan.measured[1].raw.mean));
  REQUIRE(plan.forecast.size() == 3);
  CHECK(plan.forecast[0].count == Approx(8));
  CHECK(plan.forecast[0].win_rate < plan.forecast[2].win_rate);
}

TEST_CASE("If there is nothing to share, the plan does no harm") {
  std::mt19937 random(5);
  matrix<double> all = rewards_of(200, 216, 0, false);
  for (Index p = 0; p < 200; ++p) {  // each prompt has a shape, a level and a scale of its own
    const double power = std::exp(static_cast<double>(random() % 1000) / 300 - 1.5);
    all.row(p) =
        (all.row(p) * power).exp() * std::exp(static_cast<double>(random() % 10)) + static_cast<double>(random() % 99);
  }
  const matrix<double> log = all.leftCols(16), fresh = all.rightCols(200);
  for (const double kl : {0.25, 0.5}) {
    const auto plan = plan_rewards(log, best_of{4}, at_kl{kl});
    const auto few = best_exponential(best_of{4}, at_kl{kl}, at_count{16});
    const auto [reached, win_rate] = trained(plan.shape, plan.beta, fresh, best_of{4});
    CHECK(win_rate > trained(calibration{log} | few.transform, few.beta, fresh, best_of{4}).second - 0.01);
    CHECK(reached == Approx(kl).epsilon(0.5));
  }
}

TEST_CASE("A plan takes ragged logs with unscored rewards, and a buffer in place") {
  std::vector<std::vector<float>> rows;
  const matrix<double> all = rewards_of(40, 12, 1, true);
  for (Index p = 0; p < 40; ++p) {
    rows.emplace_back();
    for (Index k = 0; k < 3 + p % 10; ++k) rows.back().push_back(static_cast<float>(all(p, k)));
  }
  rows[7][1] = missing<float>;
  CHECK(error_of([&] { plan_rewards(ragged(rows), worst_of{4}, at_kl{0.3}); }) ==
        "calibration_prior: expected reference rewards that are numbers, got NaN at row 7, column 1");
  const auto plan = plan_rewards(ragged(rows), worst_of{4}, at_kl{0.3}, unscored::propagate);
  CHECK(plan.t < 0);
  CHECK(plan.beta > 0);
  const std::vector<int> prompt{3, 39, 3};
  CHECK(plan.shape(prompt, array<float>{{0, 1, 2}}).size() == 3);

  const auto view = plan_rewards(Eigen::Map<const matrix<double>>(all.data(), 40, 12), best_of{2}, at_kl{0.5});
  CHECK(same(view.shape(all), transform(calibrate(all, view.prior, all), normalized_exponential{view.t})));
}

TEST_CASE("A KL that few references or few responses cannot reach is measured at a smaller one") {
  const auto plan = plan_rewards(rewards_of(60, 16, 1, false), best_of{4}, at_kl{1.8});
  REQUIRE(plan.measured.size() == 3);
  for (const auto& m : plan.measured) {
    CHECK(m.kl < std::log(8));
    CHECK(m.kl > 0.5);
    CHECK(m.prior.mean > m.plain.mean);
  }
  CHECK(error_of([] {
          plan_rewards(rewards_of(60, 4, 0, true), best_of{4}, at_kl{5});
        }).find("best_exponential: expected a kl of at most") == 0);
}

TEST_CASE("A prior that seems to be without errors counts as very many references") {
  const matrix<double> log{{0, 1, 1, 3, 4}, {5, 2, -1, 0, 0}, {1, 2, 3, 4, 9}, {0, 2, 4, 6, 1}};
  const auto plan = plan_rewards(log, best_of{2}, at_kl{0.2});
  REQUIRE(plan.measured.back().equivalent_count == infinity<double>);
  const auto exact = best_exponential(best_of{2}, at_kl{0.2});
  CHECK(plan.t == Approx(exact.transform.t));
  CHECK(plan.beta > exact.beta / 4);
  CHECK(plan.beta < exact.beta * 4);
}

TEST_CASE("Errors: too few prompts, a KL that is wrong") {
  CHECK(error_of([] {
          plan_rewards(matrix<double>{{1, 2, 3, 4}}, best_of{4}, at_kl{0.5});
        }) == "plan_rewards: expected at least 2 prompts with 4 rewards, got 1");
  CHECK(error_of([] { plan_rewards(rewards_of(9, 3, 1, false), best_of{4}, at_kl{0.5}); }) ==
        "plan_rewards: expected at least 2 prompts with 4 rewards, got 0");
  CHECK(error_of([] { plan_rewards(rewards_of(9, 8, 1, false), best_of{4}, at_kl{NaN}); }) ==
        "best_exponential: expected a kl of at least 1e-12, got NaN");
}
