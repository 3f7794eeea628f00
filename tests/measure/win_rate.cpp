// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "outputs.hpp"

#include <infalign/measure/exact_win_rate.hpp>
#include <infalign/measure/win_rate.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// What a procedure shows of each n-subset of a sample: choose(rewards of the subset, sorted).
list output_of_subsets(const output& s, const list& sample) {
  list result;
  std::vector<int> chosen(sample.size(), 0);
  std::fill(chosen.end() - s.n, chosen.end(), 1);
  do {
    list subset;
    for (std::size_t i = 0; i < sample.size(); ++i)
      if (chosen[i] == 1) subset.push_back(sample[i]);
    std::sort(subset.begin(), subset.end());
    result.push_back(s.choose(subset));
  } while (std::next_permutation(chosen.begin(), chosen.end()));
  return result;
}

/// The share of pairs of subsets that the policy wins, ties ½.
double by_subsets(const list& policy, const list& reference, const output& t1, const output& t2) {
  double sum = 0;
  const list of_policy = output_of_subsets(t1, policy), of_reference = output_of_subsets(t2, reference);
  for (const double y : of_policy)
    for (const double z : of_reference) sum += y > z ? 1 : y == z ? 0.5 : 0;
  return sum / static_cast<double>(of_policy.size() * of_reference.size());
}

matrix<double> row(const list& x) {
  return as_array(x).transpose();
}

}  // namespace

TEST_CASE("Estimated win rates are sums over every pair of subsets") {
  std::mt19937 random(3);
  for (int M = 1; M <= 7; ++M)
    for (int K = 1; K <= 7; ++K)
      for (int repeat = 0; repeat < 3; ++repeat) {
        list y(static_cast<std::size_t>(M)), z(static_cast<std::size_t>(K));
        for (double& r : y) r = static_cast<double>(random() % 5);
        for (double& r : z) r = static_cast<double>(random() % 5);
        if (repeat == 1) y[0] = INFINITY, z[0] = -INFINITY;
        CAPTURE(M, K, repeat);
        const auto estimated = [&](const auto& t1, const auto& t2) { return win_rates(row(y), row(z), t1, t2)[0]; };
        const auto best = win_rate_curve<best_of>(row(y), row(z)), worst = win_rate_curve<worst_of>(row(y), row(z));
        REQUIRE(std::ssize(best) == std::min(M, K));
        for (int n = 1; n <= std::min(M, K); ++n) {
          CAPTURE(n);
          const double truth = by_subsets(y, z, {n, last}, {n, last});
          CHECK(estimated(best_of{n}, best_of{n}) == near(truth, 1e-13));
          CHECK(best[static_cast<std::size_t>(n - 1)].mean == near(truth, 1e-13));
          const double least = by_subsets(y, z, {n, front}, {n, front});
          CHECK(estimated(worst_of{n}, worst_of{n}) == near(least, 1e-13));
          CHECK(worst[static_cast<std::size_t>(n - 1)].mean == near(least, 1e-13));
          CHECK(estimated(best_of{n}, plain_sampling{}) == near(by_subsets(y, z, {n, last}, first), 1e-13));
          const int k = (n + 1) / 2;
          const output middle{n, [k](const list& r) { return r[static_cast<std::size_t>(k - 1)]; }};
          CHECK(estimated(order_statistic{k, n}, worst_of{n}) == near(by_subsets(y, z, middle, {n, front}), 1e-13));
          const random_best_of mixed{array<double>::Constant(n, 1.0 / n)};
          double sum = 0;
          for (int i = 1; i <= n; ++i) sum += by_subsets(y, z, {i, last}, {n, last}) / n;
          CHECK(estimated(mixed, best_of{n}) == near(sum, 1e-13));
        }
      }
}

// Every draw of M = 4 and K = 3 responses of three levels: the mean of the estimate is the exact win rate.
TEST_CASE("Estimated win rates are unbiased") {
  const array<double> rewards{{0, 1, 2}}, p{{0.2, 0.3, 0.5}}, q{{0.5, 0.3, 0.2}};
  const auto check = [&](const auto& t1, const auto& t2) {
    double mean = 0;
    for (int code = 0; code < 2187; ++code) {  // 3^7
      list y, z;
      double probability = 1;
      int rest = code;
      for (int i = 0; i < 7; ++i, rest /= 3) {
        (i < 4 ? y : z).push_back(rewards[rest % 3]);
        probability *= (i < 4 ? p : q)[rest % 3];
      }
      mean += probability * win_rates(row(y), row(z), t1, t2)[0];
    }
    CHECK(mean == near(exact_win_rate(rewards, p, q, t1, t2), 1e-12));
  };
  check(plain_sampling{}, plain_sampling{});
  check(best_of{3}, best_of{3});
  check(worst_of{2}, worst_of{3});
  check(best_of{4}, plain_sampling{});
  check(order_statistic{2, 3}, best_of{2});
}

// Policies with F(u) = u^a on prompts of their own scale: best-of-n wins a/(a + 1) of the time for every n.
TEST_CASE("The 95 % interval contains the true value 95 % of the time, also for a difference") {
  std::mt19937 random(4);
  const auto uniform = [&] { return (static_cast<double>(random()) + 0.5) / 0x1p32; };
  const auto policy_rewards = [&](double a, double scale) { return scale * std::pow(uniform(), 1 / a); };
  const double truth = (1. / 2 + 2. / 3 + 3. / 4) / 3, difference = (1. / 4 + 1. / 3 + 3. / 8) / 3 - truth;
  for (const Index P : {30, 200}) {
    int covered = 0, covered_difference = 0;
    const int repeats = 3000;
    for (int repeat = 0; repeat < repeats; ++repeat) {
      matrix<double> one(P, 6), other(P, 6), reference(P, 8);
      for (Index p = 0; p < P; ++p) {
        const double a = static_cast<double>(1 + random() % 3), scale = std::pow(10, static_cast<double>(random() % 5));
        for (Index m = 0; m < 6; ++m)
          one(p, m) = policy_rewards(a, scale), other(p, m) = policy_rewards(a / (a + 2), scale);
        for (Index k = 0; k < 8; ++k) reference(p, k) = policy_rewards(1, scale);
      }
      const auto rates = win_rates(one, reference, best_of{4}), others = win_rates(other, reference, best_of{4});
      const mean_estimate w = mean_over_prompts(rates), d = mean_over_prompts(others - rates);
      covered += w.low <= truth && truth <= w.high;
      covered_difference += d.low <= difference && difference <= d.high;
    }
    CAPTURE(P);
    CHECK(covered > 0.93 * repeats);
    CHECK(covered < 0.97 * repeats);
    CHECK(covered_difference > 0.93 * repeats);
    CHECK(covered_difference < 0.97 * repeats);
  }
}

TEST_CASE("Ragged samples, floats, other storage orders and unscored responses give the win rates computed by hand") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> policy{{3, 1}, {5, 4, 2, nan}}, reference{{2, 2, 0}, {4, 1}};
  const auto rates = win_rates(ragged(policy), ragged(reference), best_of{2}, unscored::propagate);
  // {3, 1} shows 3 against 2: won. Pairs of {5, 4, 2} show 5, 5, 4 against 4: 1, 1, ½.
  CHECK(rates[0] == 1);
  CHECK(rates[1] == near(2.5 / 3, 1e-15));
  const auto curve = win_rate_curve<best_of>(ragged(policy), ragged(reference), unscored::propagate);
  REQUIRE(curve.size() == 2);
  CHECK(curve[1].mean == near((1 + 2.5 / 3) / 2, 1e-15));
  CHECK(curve[1].prompts == 2);
  const Eigen::ArrayXXf by_columns{{3, 1}, {0, 2}};
  const matrix<float> zeros = matrix<float>::Zero(2, 2);
  const auto w = win_rate(by_columns, zeros, plain_sampling{});
  CHECK(w.mean == near((1 + 0.75) / 2, 1e-15));
  CHECK(w.standard_error == near(0.125, 1e-15));
  CHECK(w.high == near(w.mean + 12.7062047362 * 0.125, 1e-8));
}

TEST_CASE("The curve against n is the win rate of each n, for sizes of samples that differ by 8") {
  std::mt19937 random(5);
  const auto draw = [&] { return static_cast<double>(random() % 7); };
  const matrix<double> policy = matrix<double>::NullaryExpr(3, 4, draw),
                       reference = matrix<double>::NullaryExpr(3, 12, draw);
  const auto curve = win_rate_curve<best_of>(policy, reference);
  REQUIRE(curve.size() == 4);
  for (int n = 1; n <= 4; ++n)
    CHECK(curve[static_cast<std::size_t>(n - 1)].mean == near(win_rate(policy, reference, best_of{n}).mean, 1e-15));
}

// Best-of-n shows the i-th smallest of M with probability C(i − 1, n − 1)/C(M, n). Small samples are counted, large ones sorted.
TEST_CASE("Small and large samples win as often as the pairs of their rewards do, ties and unscored ones included") {
  std::mt19937 random(6);
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto shown = [](double M, int n, double i) {  // for n = 1, 2, 3
    const double below = i - 1;
    if (n == 1) return 1 / M;
    if (n == 2) return below / (M * (M - 1) / 2);
    return below * (below - 1) / 2 / (M * (M - 1) * (M - 2) / 6);
  };
  for (const auto& [M, K] : {std::pair{40, 30}, {300, 200}, {310, 12}, {5, 2000}})
    for (const unsigned levels : {1u, 7u, 1000u, 1u << 30}) {
      CAPTURE(M, K, levels);
      list y(static_cast<std::size_t>(M)), z(static_cast<std::size_t>(K));
      for (double& r : y) r = static_cast<double>(random() % levels);
      for (double& r : z) r = static_cast<double>(random() % levels);
      list with_unscored = y;
      with_unscored.insert(with_unscored.begin() + 3, nan);
      const auto curve = win_rate_curve<best_of>(row(y), row(z));
      list sorted_y = y, sorted_z = z;
      std::sort(sorted_y.begin(), sorted_y.end());
      std::sort(sorted_z.begin(), sorted_z.end());
      for (int n = 1; n <= 3; ++n) {
        double expected = 0;
        for (int i = 0; i < M; ++i)
          for (int j = 0; j < K; ++j) {
            const double own = sorted_y[static_cast<std::size_t>(i)], other = sorted_z[static_cast<std::size_t>(j)];
            expected += shown(M, n, i + 1) * shown(K, n, j + 1) * (own > other ? 1 : own == other ? 0.5 : 0);
          }
        CHECK(win_rates(row(y), row(z), best_of{n})[0] == near(expected, 1e-13));
        CHECK(win_rates(row(with_unscored), row(z), best_of{n}, unscored::propagate)[0] == near(expected, 1e-13));
        CHECK(curve[static_cast<std::size_t>(n - 1)].mean == near(expected, 1e-13));
      }
    }
}

TEST_CASE("Samples that do not fit and invalid procedures are rejected") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const matrix<double> two{{1, 2}, {3, 4}}, three{{1, 2}, {3, 4}, {5, 6}}, with_nan{{1, 2}, {nan, 4}};
  CHECK(error_of([&] { win_rates(three, two, best_of{1}); }) ==
        "win_rates: expected 3 rows of reference rewards, one for each of the policy's, got 2");
  CHECK(error_of([&] { win_rate(two, two, best_of{3}); }) ==
        "win_rates: expected at least 3 scored responses to each prompt for this procedure, got 2 at row 0");
  // One bad row does not sink a table.
  const matrix<double> bad_row{{std::nan(""), std::nan("")}, {1, 2}, {5, 3}}, others{{1, 2}, {0, 3}, {4, 2}};
  const auto with_bad = win_rates(bad_row, others, best_of{2}, unscored::propagate);
  CHECK(std::isnan(with_bad[0]));
  CHECK(with_bad[2] == win_rates(bad_row.row(2).eval(), others.row(2).eval(), best_of{2})[0]);
  const auto of_two = win_rate(bad_row, others, best_of{2}, unscored::propagate);
  CHECK(of_two.prompts == 2);
  CHECK(of_two.mean == Approx((with_bad[1] + with_bad[2]) / 2));
  CHECK(win_rate_curve<best_of>(bad_row, others, unscored::propagate).size() == 2);
  CHECK(error_of([&] { win_rate(two, with_nan, best_of{2}, unscored::propagate); }) ==
        "win_rates: expected at least 2 scored responses to each prompt for this procedure, got 1 at row 1");
  CHECK(error_of([&] { win_rate(two, with_nan, best_of{1}); }) ==
        "win_rates: expected reference rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error_of([&] { win_rate(with_nan, two, best_of{1}); }) ==
        "win_rates: expected policy rewards that are numbers, got NaN at row 1, column 0");
  CHECK(error_of([&] { win_rate(two, two, best_of{0}); }) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([&] { win_rate(matrix<double>(0, 3), matrix<double>(0, 3), best_of{1}); }) ==
        "mean_over_prompts: expected at least one prompt, got none");
  CHECK(error_of([&] { win_rate_curve<best_of>(matrix<double>(0, 3), matrix<double>(0, 3)); }) ==
        "win_rate_curve: expected at least one prompt, got none");
}
