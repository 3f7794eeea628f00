// SPDX-License-Identifier: MIT
#include <infalign/calibration/prior.hpp>
#include <infalign/detail/prior_models.hpp>

#include "arrays.hpp"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// The mid-rank of z among all numbers of a table but two of row p.
double pooled_without(const matrix<double>& table, Index p, Index j, Index k, double z) {
  double below = 0, count = 0;
  for (Index q = 0; q < table.rows(); ++q)
    for (Index i = 0; i < table.cols(); ++i) {
      if (q == p && (i == j || i == k)) continue;
      below += table(q, i) < z ? 1 : table(q, i) == z ? 0.5 : 0;
      count += 1;
    }
  return below / count;
}

}  // namespace

// The pooled CDF of few rewards is exact, so that two of them can be left out of it exactly.
TEST_CASE("The pooled model leaves two rewards out of all, ties included") {
  std::mt19937 random(1);
  const auto table = table_of<double>(4, 5, [&] { return static_cast<double>(random() % 7); });
  const calibration_prior<double> prior{table, prior_model::pooled};
  const ragged rows(Eigen::Map<const array<double>>(table.data(), table.size()), std::vector<Index>{0, 5, 10, 15, 20});
  detail::prior_models<double> models;
  models.learn(prior.state(), rows);
  std::vector<detail::risk_moments> result;
  models.leave_two_out(prior_model::pooled, rows, result);
  REQUIRE(result.size() == 4);
  for (Index p = 0; p < 4; ++p) {
    const auto expected = detail::leave_two_out(rows.row(p), p, [&](Index j, Index k, double) {
      return std::pair{pooled_without(table, p, j, k, table(p, j)), pooled_without(table, p, j, k, table(p, k))};
    });
    const auto& got = result[static_cast<std::size_t>(p)];
    CHECK(got.ff == near(expected.ff, 1e-12));
    CHECK(got.fg == near(expected.fg, 1e-12));
    CHECK(got.gg == near(expected.gg, 1e-12));
    CHECK(got.fw == near(expected.fw, 1e-12));
    CHECK(got.gw == near(expected.gw, 1e-12));
    CHECK(got.ww == near(expected.ww, 1e-12));
    CHECK(got.others == 3);
  }
}

// a = W/(B − W) from the mean distances of two pooled ranks: W of one prompt, B of two prompts.
TEST_CASE("The weight of the pooled prior is the one from all pairs of rewards") {
  const auto weight_of = [](const matrix<double>& table) {
    decltype(auto) rows = detail::rows_of(table);
    const calibration_prior<double> prior{table, prior_model::pooled};
    detail::prior_models<double> models;
    models.learn(prior.state(), rows);
    return models.closed_weight(rows, prior.state().pairs);
  };
  std::mt19937 random(2);
  for (const int levels : {0, 1, 2, 30}) {
    matrix<double> table(5, 4);
    for (Index p = 0; p < 5; ++p)
      for (double& r : table.row(p)) r = static_cast<double>(random() % 9) + levels * static_cast<double>(p);
    double distance[2] = {}, pairs[2] = {};
    for (Index i = 0; i < 20; ++i)
      for (Index j = 0; j < i; ++j) {
        const double difference =
            pooled_without(table, -1, 0, 0, table.data()[i]) - pooled_without(table, -1, 0, 0, table.data()[j]);
        distance[i / 4 == j / 4] += std::abs(difference);
        pairs[i / 4 == j / 4] += 1;
      }
    const double within = distance[1] / pairs[1], between = distance[0] / pairs[0];
    CAPTURE(levels, within, between);
    if (within < between)
      CHECK(weight_of(table) == near(within / (between - within), 1e-9));
    else
      CHECK(weight_of(table) == infinity<double>);
  }
  CHECK(weight_of(matrix<double>{{1, 2, 3}}) == 0);                      // no pair of two prompts
  CHECK(weight_of(matrix<double>{{1}, {2}, {3}}) == 0);                  // no pair of one prompt
  CHECK(weight_of(matrix<double>{{5, 5}, {5, 5}}) == 0);                 // all equal
  CHECK(weight_of(matrix<double>{{1, 1}, {2, 2}}) == 0);                 // a prompt knows its rewards
  CHECK(weight_of(matrix<double>{{1, 2}, {1, 2}}) == infinity<double>);  // one of two prompts knows those of the other
}

TEST_CASE("Each model's CDF is its formula, from the fit of a prompt") {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  matrix<double> table(30, 6);
  for (Index p = 0; p < 30; ++p) {
    const double level = 3 * normal(random), scale = std::exp(normal(random));
    for (double& r : table.row(p)) r = level + scale * normal(random);
  }
  decltype(auto) rows = detail::rows_of(table);
  const calibration_prior<double> prior{table};
  detail::prior_models<double> models;
  models.learn(prior.state(), rows);
  array<double> r = array<double>::LinSpaced(41, -10, 10), u(41);
  const auto ask = [&](prior_model model) {
    const auto fit = models.fit(model, rows.row(3));
    models.cdf(model, fit, r.data(), 41, u.data());
    CHECK((u.tail(40) >= u.head(40)).all());
    CHECK(u[0] >= 0);
    CHECK(u[40] <= 1);
    CHECK(u[40] - u[0] > 0.8);
    return fit;
  };
  const double middle = rows.row(3).mean();

  ask(prior_model::pooled);
  for (Index i = 0; i < 41; ++i) CHECK(u[i] == near(pooled_without(table, -1, 0, 0, r[i]), 1e-12));
  for (const double n : {1., 4., 8.}) CHECK(models.unknown(prior_model::pooled, n) == 1);

  // Analysis of variance of the normal scores, for groups of 6.
  const auto location = ask(prior_model::location);
  const auto score = [&](double x) {
    return detail::normal_quantile(std::clamp(pooled_without(table, -1, 0, 0, x), 0.5 / 180, 1 - 0.5 / 180));
  };
  const matrix<double> z = table.unaryExpr(score);
  const array<double> means = z.rowwise().mean();
  const double level = z.mean(), within = (z.colwise() - means).square().sum() / 150,
               between = ((means - level).square().sum() * 6 - 29 * within) / 174,
               shrink = between / (between + within / 6);
  CHECK(between > 0.1);
  CHECK(location.center == near(level + shrink * (means[3] - level), 1e-9));
  CHECK(1 / (location.per_scale * location.per_scale) == near(within + between * (1 - shrink), 1e-9));
  for (Index i = 0; i < 41; ++i)
    CHECK(u[i] == near(detail::normal_cdf((score(r[i]) - location.center) * location.per_scale), 1e-5));
  CHECK(models.unknown(prior_model::location, 4) / models.unknown(prior_model::location, 8) ==
        near((8 * between + within) / (4 * between + within), 1e-9));

  // The mid-rank among all residuals, each from the prompt's other 5 rewards.
  const auto scale = ask(prior_model::location_scale);
  CHECK(scale.center == near(middle, 1e-12));
  const double deviation = std::sqrt((rows.row(3) - middle).square().sum() / 5);
  CHECK(1 / scale.per_scale == near(deviation * std::sqrt(1 + 1. / 6), 1e-12));  // of a new reward
  array<double> residuals(180);
  for (Index p = 0; p < 30; ++p)
    for (Index k = 0; k < 6; ++k) {
      const double x = table(p, k), mean = (table.row(p).sum() - x) / 5;
      const double squares = (table.row(p) - mean).square().sum() - (x - mean) * (x - mean);
      residuals[6 * p + k] = (x - mean) / std::sqrt(squares / 4 * (1 + 1. / 5));
    }
  for (Index i = 0; i < 41; ++i)
    CHECK(u[i] == near(static_cast<double>((residuals < (r[i] - scale.center) * scale.per_scale).count()) / 180, 1e-9));
  CHECK(models.unknown(prior_model::location_scale, 4) / models.unknown(prior_model::location_scale, 8) == 2);
}
