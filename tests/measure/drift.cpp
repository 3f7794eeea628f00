// SPDX-License-Identifier: MIT
#include "arrays.hpp"
#include "catch.hpp"

#include <infalign/calibration/calibrate.hpp>
#include <infalign/measure/drift.hpp>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

bool same(const drift_check& a, const drift_check& b) {
  return a.distance == b.distance && a.p_value == b.p_value && a.mean == b.mean && a.effective_size == b.effective_size;
}

/// One response's straight CDF at u.
template <class S>
double spread(const std::vector<S>& references, S reward, double u) {
  double below = 0, tied = 0;
  for (const S z : references) {
    below += z < reward;
    tied += z == reward;
  }
  return std::clamp((u * static_cast<double>(references.size() + 1) - below) / (tied + 1), 0., 1.);
}

}  // namespace

TEMPLATE_TEST_CASE("Distance, p-value, mean and effective size of small cases are those computed by hand", "", float,
                   double) {
  using S = TestType;
  // K = 1. Below: even over [0, ½]; tied: over [0, 1]; above: over [½, 1].
  const matrix<S> one{{5}};
  const auto below = drift(one, matrix<S>{{1}}), tied = drift(one, matrix<S>{{5}}), above = drift(one, matrix<S>{{9}});
  CHECK((below.distance == 0.5 && below.mean == 0 && below.effective_size == 1));
  CHECK((tied.distance == 0 && tied.mean == 0.5 && tied.p_value == 1));
  CHECK((above.distance == 0.5 && above.mean == 1 && above.p_value == below.p_value));
  CHECK(above.p_value == near(detail::kolmogorov_above(0.5 * 1.23), 1e-15));
  CHECK(same(drift(one, matrix<S>{{1, 9}}), {0, 1, 0.5, 4 / (2 + 2. / 3)}));

  // K = 3. 25 is over [½, ¾] and 99 over [¾, 1]: F = 0 up to ½ and ½ at ¾. n_e = 4/(2 + 2/5).
  const matrix<S> three{{30, 10, 20}};
  const auto high = drift(three, matrix<S>{{25, 99}});
  CHECK(high.distance == 0.5);
  CHECK(high.mean == near(2.5 / 3, 1e-15));
  CHECK(high.effective_size == near(5. / 3, 1e-15));
  const double root = std::sqrt(5. / 3);
  CHECK(high.p_value == near(detail::kolmogorov_above(0.5 * (root + 0.12 + 0.11 / root)), 1e-14));
  // 20 is over [¼, ¾], 5 over [0, ¼]: F = ½ at ¼, 1 at ¾.
  const auto low = drift(three, matrix<S>{{20, 5}});
  CHECK((low.distance == 0.25 && low.mean == 0.25));
  // Two prompts of one response each: [0, ¼] and [½, ¾] of K = 3, n_e = 2.
  const auto two = drift(matrix<S>{{30, 10, 20}, {3, 1, 2}}, matrix<S>{{5}, {2.5}});
  CHECK((two.distance == 0.25 && two.effective_size == 2));
  CHECK(two.mean == near(1. / 3, 1e-15));
  // K of 1 and 3: [½, 1] and [¼, ½]; n_e with the K and M of each prompt, also where a prompt has no response.
  const ragged lines(std::vector<std::vector<S>>{{5}, {1, 1, 1}, {3, 1, 2}});
  const auto uneven = drift(lines, std::vector<int>{0, 2, 2}, array<S>{{9, 1.5, 1.5}});
  CHECK(uneven.distance == 0.25);
  CHECK(uneven.effective_size == near(9 / (1 + 2 + 2. / 5), 1e-15));
  CHECK(uneven.mean == near((1 + 2. / 3) / 3, 1e-15));
  // One response to the last of many prompts.
  CHECK(same(drift(matrix<S>::Constant(1000, 1, 5), std::vector<int>{999}, array<S>{{9}}), above));
}

TEST_CASE("The distance is the largest one on a fine grid, also with ties") {
  std::mt19937 random(1);
  for (int repeat = 0; repeat < 60; ++repeat) {
    const auto prompts = 1 + random() % 4, levels = 1 + random() % 12;
    std::vector<std::vector<double>> lines(prompts);
    for (auto& line : lines) {
      line.resize(1 + random() % 7);
      for (double& z : line) z = static_cast<double>(random() % levels);
    }
    std::vector<std::size_t> prompt(1 + random() % 9);
    array<double> rewards(std::ssize(prompt));
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      prompt[i] = random() % prompts;
      rewards[static_cast<Index>(i)] = static_cast<double>(random() % levels);
    }
    const double mean = calibrate(ragged(lines), prompt, rewards).mean();
    double distance = 0;
    constexpr int steps = 840;  // a multiple of every K + 1
    for (int j = 0; j <= steps; ++j) {
      const double u = static_cast<double>(j) / steps;
      double F = 0;
      for (std::size_t i = 0; i < prompt.size(); ++i) F += spread(lines[prompt[i]], rewards[static_cast<Index>(i)], u);
      distance = std::max(distance, std::abs(F / static_cast<double>(prompt.size()) - u));
    }
    const auto found = drift(ragged(lines), prompt, rewards);
    CHECK(found.distance == near(distance, 1e-14));
    CHECK(found.mean == near(mean, 1e-14));
    CHECK((found.p_value >= 0 && found.p_value <= 1));
  }
}

// Every choice of which M of the M + K numbers are the responses is equally likely without drift.
TEST_CASE("Without drift F(u) has exactly the expectation u and at most the variance u(1 - u)/n_e") {
  const auto row = [](const std::vector<double>& x) {
    return Eigen::Map<const matrix<double>>(x.data(), 1, std::ssize(x));
  };
  const auto check = [&](const std::vector<double>& numbers, int M, bool distinct) {
    const int total = static_cast<int>(numbers.size()), K = total - M;
    const int steps = 2 * (K + 1);  // the knots, and between them
    std::vector<double> sum(static_cast<std::size_t>(steps) + 1), square(sum);
    double count = 0, mean = 0, effective_size = 0;
    for (unsigned choice = 0; choice < 1u << total; ++choice) {
      std::vector<double> y, z;
      for (int i = 0; i < total; ++i) (choice >> i & 1 ? y : z).push_back(numbers[static_cast<std::size_t>(i)]);
      if (std::ssize(y) != M) continue;
      count += 1;
      const auto found = drift(row(z), row(y));
      mean += found.mean;
      effective_size = found.effective_size;
      for (std::size_t j = 0; j < sum.size(); ++j) {
        double F = 0;
        for (const double r : y) F += spread(z, r, static_cast<double>(j) / steps) / M;
        sum[j] += F;
        square[j] += F * F;
      }
    }
    CHECK(mean / count == near(0.5, 1e-14));
    for (std::size_t j = 0; j < sum.size(); ++j) {
      const double u = static_cast<double>(j) / steps, bound = u * (1 - u) / effective_size;
      const double variance = square[j] / count - u * u;
      CHECK(sum[j] / count == near(u, 1e-14));
      CHECK(variance <= bound + 1e-14);
      if (distinct && j % 2 == 0) CHECK(variance == near(bound, 1e-14));
    }
  };
  for (int M = 1; M <= 4; ++M) {
    check({1, 2, 3, 4, 5, 6, 7, 8}, M, true);
    check({1, 2, 2, 2, 3, 3, 4, 9}, M, false);
    check({1, 1, 1, 1, 1, 1}, M, false);
  }
  check({1, 2}, 1, true);
  check({1, 2, 3, 4, 5, 6, 7, 8, 9}, 8, true);
}

TEMPLATE_TEST_CASE("A flat batch in any order gives the result of its matrix, bit for bit", "", float, double) {
  using S = TestType;
  std::mt19937 random(2);
  const matrix<S> reference = table_of<S>(7, 6, [&] { return random() % 15; });
  const matrix<S> rewards = table_of<S>(7, 5, [&] { return random() % 15; });
  const auto expected = drift(reference, rewards);
  std::vector<int> prompt;
  array<S> flat(35);
  for (int i = 0; i < 35; ++i) prompt.push_back(i / 5), flat[i] = rewards(i / 5, i % 5);
  CHECK(same(drift(reference, prompt, flat), expected));
  for (int i = 34; i > 0; --i) {
    const int j = static_cast<int>(random() % static_cast<unsigned>(i + 1));
    std::swap(prompt[static_cast<std::size_t>(i)], prompt[static_cast<std::size_t>(j)]);
    std::swap(flat[i], flat[j]);
  }
  CHECK(same(drift(reference, prompt, flat), expected));
  CHECK(same(drift(reference, std::vector<std::uint8_t>(prompt.begin(), prompt.end()), flat.transpose()), expected));
  CHECK(same(drift(reference.rowwise().reverse(), rewards.rowwise().reverse()), expected));
  CHECK(same(drift(Eigen::Map<const matrix<S>>(reference.data(), 7, 6), rewards + S{0}), expected));
  CHECK(expected.mean == near(calibrate(reference, rewards).mean(), 4 * std::numeric_limits<S>::epsilon()));

  // Strictly increasing maps, another for each prompt.
  const array<S> scale = array<S>::LinSpaced(7, 1, 7);
  CHECK(same(drift(((reference / 4).exp().colwise() * scale).eval(), ((rewards / 4).exp().colwise() * scale).eval()),
             expected));
}

TEMPLATE_TEST_CASE("NaN is an error that names its position, or is left out", "", float, double) {
  using S = TestType;
  const S none = missing<S>, inf = std::numeric_limits<S>::infinity();
  const matrix<S> reference{{1, 2, none, 4}, {4, none, 4, none}}, rewards{{2, none, 9}, {4, 5, none}};
  const matrix<S> whole{{1, 2, 3, 4}, {4, 4, 4, 4}}, scored{{2, 2, 9}, {4, 5, 1}};
  const ragged left(std::vector<std::vector<S>>{{1, 2, 4}, {4, 4}});
  const auto expected = drift(left, matrix<S>{{2, 9}, {4, 5}});
  CHECK(same(drift(reference, rewards, unscored::propagate), expected));
  const std::vector<int> prompt{1, 1, 0, 0, 1};
  CHECK(same(drift(reference, prompt, array<S>{{5, none, 2, 9, 4}}, unscored::propagate), expected));
  CHECK(same(drift(matrix<S>{{-inf, 0, inf}}, matrix<S>{{-inf, inf}}), drift(matrix<S>{{1, 2, 3}}, matrix<S>{{1, 3}})));

  CHECK(error_of([&] { drift(whole, rewards); }) ==
        "drift: expected rewards that are numbers, got NaN at row 0, column 1");
  CHECK(error_of([&] { drift(reference, scored); }) ==
        "drift: expected reference rewards that are numbers, got NaN at row 0, column 2");
  CHECK(error_of([&] {
          drift(whole, std::vector<int>{0, 1}, array<S>{{1, none}});
        }) == "drift: expected rewards that are numbers, got NaN at index 1");
  CHECK(error_of([&] { drift(reference, std::vector<int>{1}, array<S>{{1}}); }) ==
        "drift: expected reference rewards that are numbers, got NaN at row 1, column 1");
  CHECK(error_of([&] {
          drift(matrix<S>{{none, none}}, matrix<S>{{1}}, unscored::propagate);
        }) == "drift: expected at least one scored response, got none");
  // A prompt without a scored reference is left out.
  const auto left_out = drift(matrix<S>{{none, none}, {1, 2}}, matrix<S>{{1, 7}, {0, 3}}, unscored::propagate),
             alone = drift(matrix<S>{{1, 2}}, matrix<S>{{0, 3}});
  CHECK(left_out.distance == alone.distance);
  CHECK(left_out.p_value == alone.p_value);
}

TEMPLATE_TEST_CASE("Sizes and indices that do not fit are rejected", "", float, double) {
  using S = TestType;
  const matrix<S> reference = matrix<S>::Zero(3, 4);
  const array<S> flat = array<S>::Zero(2);
  CHECK(error_of([&] { drift(reference, matrix<S>::Zero(2, 4)); }) ==
        "drift: expected 3 rows of rewards, one for each row of the reference, got 2");
  CHECK(error_of([&] { drift(matrix<S>(3, 0), matrix<S>::Zero(3, 1)); }) ==
        "drift: expected at least one reference reward for each prompt, got none at row 0");
  const auto error = [&](const auto& prompt) { return error_of([&] { drift(reference, prompt, flat); }); };
  CHECK(error(std::vector<int>{0, 2}) == "no error");
  CHECK(error(std::vector<int>{0, 1, 2}) == "drift: expected 2 prompt indices, one for each reward, got 3");
  CHECK(error(std::vector<int>{0, 3}) == "drift: expected prompt indices from 0 to 2, got 3 at index 1");
  CHECK(error(std::vector<int>{-1, 0}) == "drift: expected prompt indices from 0 to 2, got -1 at index 0");
  const std::string nothing = "drift: expected at least one scored response, got none";
  CHECK(error_of([&] { drift(reference, matrix<S>(3, 0)); }) == nothing);
  CHECK(error_of([&] { drift(matrix<S>(0, 4), matrix<S>(0, 2)); }) == nothing);
  CHECK(error_of([&] { drift(reference, std::vector<int>{}, array<S>()); }) == nothing);
  CHECK(error_of([&] { drift(reference, matrix<S>::Constant(3, 2, missing<S>), unscored::propagate); }) == nothing);
}

// 20,000 draws give 0.045, 0.038, 0.034, 0.036 and 0.015; 2,000 are within 0.015 of that, three standard deviations.
TEST_CASE("Without drift at most 5 % of p-values are below 0.05, fewer if K is small or rewards tie") {
  std::mt19937 random(3);
  const auto share = [&](Index K, Index M, Index P, unsigned levels) {
    const auto draw = [&] { return levels ? random() % levels * (random() % 2) : random(); };
    int below = 0;
    double mean = 0;
    for (int repeat = 0; repeat < 2000; ++repeat) {
      const matrix<double> reference = table_of<double>(P, K, draw);
      const auto found = drift(reference, table_of<double>(P, M, draw));
      below += found.p_value < 0.05;
      mean += found.mean / 2000;
    }
    CHECK(mean == near(0.5, 0.01));
    return below / 2000.;
  };
  CHECK(share(128, 4, 10, 0) == near(0.045, 0.015));
  CHECK(share(64, 1, 40, 0) == near(0.038, 0.015));
  CHECK(share(32, 32, 6, 0) == near(0.034, 0.015));
  CHECK(share(40, 60, 1, 0) == near(0.036, 0.015));
  CHECK(share(4, 8, 20, 0) == near(0.015, 0.015));
  CHECK(share(32, 8, 5, 3) <= 0.015);
}

TEST_CASE("A drift and its direction are detected") {
  std::mt19937 random(4);
  std::normal_distribution<double> normal;
  const auto draw = [&] { return normal(random); };
  const matrix<double> reference = table_of<double>(50, 32, draw), rewards = table_of<double>(50, 8, draw);
  const auto up = drift(reference, rewards + 0.5), down = drift(reference, rewards - 0.5),
             wider = drift(reference, rewards * 3);
  CHECK(drift(reference, rewards).p_value > 0.01);
  CHECK((up.p_value < 1e-6 && up.mean > 0.6));
  CHECK((down.p_value < 1e-6 && down.mean < 0.4));
  CHECK(wider.p_value < 1e-6);
  CHECK(wider.mean == near(0.5, 0.03));

  // Opposite drifts cancel in the pool, and are detected one by one.
  matrix<double> opposite = rewards;
  opposite.topRows(25) += 5;
  opposite.bottomRows(25) -= 5;
  CHECK(drift(reference, opposite).mean == near(0.5, 0.01));
  CHECK(drift(reference.row(0), opposite.row(0)).p_value < 1e-4);
}

TEST_CASE("The rewards of a flat batch may be a std::vector or a std::span") {
  const matrix<double> reference{{1, 2, 3, 4}, {10, 20, 30, 40}};
  const std::vector<int> prompt{0, 1, 1};
  const std::vector<double> rewards{2.5, 50, 5};
  const auto column = drift(reference, prompt, array<double>{{2.5, 50, 5}});
  for (const auto& ranges : {drift(reference, prompt, rewards), drift(reference, prompt, std::span(rewards))}) {
    CHECK(ranges.p_value == column.p_value);
    CHECK(ranges.distance == column.distance);
    CHECK(ranges.mean == 0.5);  // of ½, 1, 0
  }
}
