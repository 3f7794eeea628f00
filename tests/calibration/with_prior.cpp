// SPDX-License-Identifier: MIT
#include <infalign/calibration/with_prior.hpp>
#include <infalign/transform.hpp>

#include "arrays.hpp"

#include <cmath>
#include <random>
#include <span>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// A user's prior: G is the logistic CDF about the mean of the prompt's references.
template <class S>
struct logistic_prior {
  using Scalar = S;
  double a;
  double weight() const { return a; }
  double fit(Eigen::Map<const array<S>> row) const {
    double sum = 0, count = 0;
    for (const S r : row)
      if (!std::isnan(r)) sum += static_cast<double>(r), count += 1;
    return count > 0 ? sum / count : 0;
  }
  double cdf(double mean, S r) const { return 1 / (1 + std::exp(mean - static_cast<double>(r))); }
};
static_assert(reward_prior<logistic_prior<float>> && reward_prior<logistic_prior<double>>);
static_assert(reward_prior<calibration_prior<float>> && reward_prior<calibration_prior<double>>);

/// Ĉ by its definition.
template <class S, class Prior>
double by_definition(const std::vector<S>& references, const Prior& prior, S r) {
  double own = 0;
  for (const S z : references) own += z < r ? 1 : z == r ? 0.5 : 0;
  const auto row = Eigen::Map<const array<S>>(references.data(), static_cast<Index>(references.size()));
  const auto g = static_cast<double>(prior.cdf(prior.fit(row), r));
  return prior.weight() == infinity<double>
             ? g
             : (own + prior.weight() * g) / (static_cast<double>(references.size()) + prior.weight());
}

}  // namespace

// By hand: a = 13.714285714286, mid-ranks ½ ⅞ / ¼ 1 / ½ ¼, F̄ = 7/12 8.5/12 / 5.5/12 11/12 / 2.5/12 1/12.
TEMPLATE_TEST_CASE("Calibrated rewards are the mean of own rank and prior, by their weights", "", float, double) {
  using S = TestType;
  const matrix<S> reference{{1, 2, 3, 4}, {2, 2, 5, 6}, {0, 1, 1, 9}}, rewards{{S(2.5), 4}, {2, 7}, {1, S(0.5)}};
  const calibration_prior prior(reference, prior_model::pooled);
  const matrix<double> expected{{.564516129, .745967742}, {.411290323, .935483871}, {.274193548, .120967742}};
  CHECK(distance(calibrate(reference, prior, rewards), expected) < (sizeof(S) == 4 ? 1e-6 : 1e-9));
}

TEMPLATE_TEST_CASE("Any prior gives the definition: P x M, flat, ragged, functor, buffer, many responses or one", "",
                   float, double) {
  using S = TestType;
  std::mt19937 random(1);
  std::vector<std::vector<S>> rows;
  for (int p = 0; p < 30; ++p) {
    rows.emplace_back();
    for (unsigned k = 0; k < 1 + random() % 20; ++k) rows.back().push_back(static_cast<S>(random() % 12) / 2);
  }
  const ragged table(rows);
  for (const double a : {0.0, 2.5, infinity<double>})
    for (const Index M : {1, 5, 8, 19}) {
      const logistic_prior<S> prior{a};
      const matrix<S> rewards = table_of<S>(30, M, [&] { return static_cast<S>(random() % 24) / 4; });
      const matrix<S> result = calibrate(table, prior, rewards);
      double worst = 0;
      for (Index p = 0; p < 30; ++p)
        for (Index m = 0; m < M; ++m)
          worst = std::max(worst, std::abs(static_cast<double>(result(p, m)) -
                                           by_definition(rows[static_cast<std::size_t>(p)], prior, rewards(p, m))));
      CHECK(worst < 4 * epsilon<S>);
      if (a == 0) CHECK(distance(result, calibrate(table, rewards)) < 1e-5);

      const calibration shape{table, prior};
      CHECK(same(shape(rewards), result));
      std::vector<int> prompt;
      array<S> flat(30 * M);
      for (Index i = 0; i < 30 * M; ++i) prompt.push_back(static_cast<int>(i % 30)), flat[i] = rewards(i % 30, i / 30);
      const array<S> in_order = shape(prompt, flat);
      CHECK(same(calibrate(table, prior, prompt, flat), in_order));
      for (Index i = 0; i < 30 * M; ++i) CHECK(in_order[i] == result(i % 30, i / 30));
      matrix<S> buffer(30, M);
      calibrate_into(buffer, table, prior, rewards);
      CHECK(same(buffer, result));
      buffer = rewards;
      shape.into(buffer, buffer);
      CHECK(same(buffer, result));
    }
}

TEMPLATE_TEST_CASE("Ĉ grows with the reward, is in [0, 1], and with no weight is plain calibration", "", float,
                   double) {
  using S = TestType;
  std::mt19937 random(2);
  std::normal_distribution<double> normal;
  matrix<S> reference(50, 6);
  for (Index p = 0; p < 50; ++p) {
    const double level = normal(random);
    for (S& r : reference.row(p)) r = static_cast<S>(level + normal(random));
  }
  matrix<S> rewards(50, 40);
  for (Index m = 0; m < 40; ++m) rewards.col(m) = static_cast<S>(-4 + 0.2 * static_cast<double>(m));
  for (const auto model : {prior_model::pooled, prior_model::location, prior_model::location_scale})
    for (const double a : {0.0, 3.0, infinity<double>}) {
      const auto u = calibrate(reference, calibration_prior(reference, model, a), rewards);
      CHECK((u.rightCols(39) >= u.leftCols(39)).all());
      CHECK((u >= 0).all());
      CHECK((u <= 1).all());
      if (a == 0) CHECK(distance(u, calibrate(reference, rewards)) < 1e-5);
      if (a == 3) CHECK(static_cast<double>(u(7, 20)) > 0);
    }
}

TEMPLATE_TEST_CASE("Unscored rewards stay unscored, and unscored references are left out", "", float, double) {
  using S = TestType;
  const S none = missing<S>;
  const logistic_prior<S> prior{2};
  const matrix<S> reference{{1, none, 3}, {2, 5, 4}}, rewards{{none, 2}, {3, 9}};
  const auto result = calibrate(reference, prior, rewards, unscored::propagate);
  CHECK(std::isnan(result(0, 0)));
  CHECK(static_cast<double>(result(0, 1)) == Approx(by_definition<S>({1, 3}, prior, 2)));
  CHECK(same(calibration(reference, prior, unscored::propagate)(rewards), result));
  CHECK(error_of([&] {
          calibrate(reference, prior, matrix<S>{{1, 2}, {3, 9}});
        }) == "calibrate: expected reference rewards that are numbers, got NaN at row 0, column 1");
  CHECK(error_of([&] { calibration c(reference, prior); }) ==
        "calibration: expected reference rewards that are numbers, got NaN at row 0, column 1");
  CHECK(error_of([&] {
          calibrate(matrix<S>{{1, 2}}, prior, matrix<S>{{3, none}});
        }) == "calibrate: expected rewards that are numbers, got NaN at row 0, column 1");
}

TEMPLATE_TEST_CASE("Leave-one-out: each response has the others as its references", "", float, double) {
  using S = TestType;
  std::mt19937 random(3);
  const matrix<S> rewards = table_of<S>(20, 11, [&] { return static_cast<S>(random() % 14) / 2; });
  for (const double a : {0.0, 2.5, infinity<double>}) {
    const logistic_prior<S> prior{a};
    const matrix<S> result = calibrate_leave_one_out(prior, rewards);
    for (Index p = 0; p < 20; ++p)
      for (Index m = 0; m < 11; ++m) {
        std::vector<S> others(rewards.row(p).begin(), rewards.row(p).end());
        others.erase(others.begin() + m);
        CHECK(static_cast<double>(result(p, m)) ==
              Approx(by_definition(others, prior, rewards(p, m))).margin(4 * epsilon<S>));
      }
    workspace space;
    matrix<S> buffer(20, 11);
    calibrate_leave_one_out_into(buffer, prior, space, rewards);
    CHECK(same(buffer, result));
    calibrate_leave_one_out_into(buffer, prior, rewards);
    CHECK(same(buffer, result));
  }
  // Flat, with a response that is alone: it has the prior's rank.
  const std::vector<int> prompt{4, 9, 4};
  const array<S> flat{{1, 2, 3}};
  const auto alone = calibrate_leave_one_out(logistic_prior<S>{1}, prompt, flat);
  CHECK(static_cast<double>(alone[1]) == Approx(1 / (1 + std::exp(-2.0))));
  CHECK(static_cast<double>(alone[0]) == Approx(by_definition<S>({3}, logistic_prior<S>{1}, 1)));
  CHECK(error_of([&] { calibrate_leave_one_out(logistic_prior<S>{0}, prompt, flat); }) ==
        "calibrate_leave_one_out: expected at least 2 responses to each prompt, because the prior has no weight, got 1 "
        "at index 1");
  const auto gap = calibrate_leave_one_out(logistic_prior<S>{1}, matrix<S>{{1, missing<S>, 3}}, unscored::propagate);
  CHECK(std::isnan(gap(0, 1)));
  CHECK(gap(0, 0) == alone[0]);

  // The prior of the batch itself.
  const auto u = calibrate_leave_one_out(calibration_prior(rewards), rewards);
  CHECK((u >= 0).all());
  CHECK((u <= 1).all());
  CHECK(distance(u, calibrate_leave_one_out(rewards)) > 0.01);
}

TEST_CASE("A calibration with a prior is the first stage of a shaped reward") {
  const matrix<double> reference{{1, 2, 3, 4}, {2, 2, 5, 6}}, rewards{{2.5, 4}, {2, 7}};
  const calibration_prior prior(reference, prior_model::pooled, 5.0);
  const auto shape = calibration{reference, prior} | normalized_exponential{.t = 5};
  CHECK(same(shape(rewards), transform(calibrate(reference, prior, rewards), normalized_exponential{.t = 5})));
  CHECK(calibration(reference, prior).prior().weight() == 5);
  // A view of a buffer, and another table than the prior was learnt from.
  const matrix<double> other{{1, 9}};
  const calibration view{Eigen::Map<const matrix<double>>(other.data(), 1, 2), prior};
  CHECK(same(view(matrix<double>{{3}}), calibrate(other, prior, matrix<double>{{3}})));
}

TEST_CASE("A response that is alone has no rank if the prior has no weight") {
  const calibration_prior<double> none;
  const std::vector<int> prompt{0, 1, 1};
  const array<double> rewards{{5, 1, 2}};
  CHECK(error_of([&] { calibrate_leave_one_out(none, prompt, rewards); }) ==
        "calibrate_leave_one_out: expected at least 2 responses to each prompt, because the prior has no weight, got 1 "
        "at index 0");
  CHECK(same(calibrate_leave_one_out(none, prompt, rewards, unscored::propagate), array<double>{{NaN, 0, 1}}));
}

TEST_CASE(
    "With a prior the rewards of a flat batch may be a std::vector or a std::span, also those that it learns from") {
  const matrix<double> reference{{1, 2, 3, 4}, {11, 12, 13, 14}, {6, 8, 7, 5}};
  const std::vector<int> prompt{1, 0, 1, 2};
  const std::vector<double> rewards{12.5, 2.5, 20, 6.5};
  const array<double> column{{12.5, 2.5, 20, 6.5}};
  calibration_prior prior(reference), same_prior(reference);
  const std::span<const double> view(rewards);
  CHECK(same(calibrate(reference, prior, prompt, view), calibrate(reference, prior, prompt, column)));
  CHECK(same(calibration{reference, prior}(prompt, rewards), calibrate(reference, prior, prompt, column)));
  CHECK(same(calibrate_leave_one_out(prior, prompt, rewards), calibrate_leave_one_out(prior, prompt, column)));
  array<double> result(4);
  calibrate_into(result, reference, prior, prompt, rewards);
  CHECK(same(result, calibrate(reference, prior, prompt, column)));
  prior.add(prompt, view);
  same_prior.add(prompt, column);
  CHECK(prior.weight() == same_prior.weight());
  CHECK(same(calibrate(reference, prior, prompt, column), calibrate(reference, same_prior, prompt, column)));
}
