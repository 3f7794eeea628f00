// SPDX-License-Identifier: MIT
#include "catch.hpp"

#include <infalign/win_rate.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

using list = std::vector<double>;

/// n responses at random, of which one is shown: choose(rewards of the n, sorted).
struct shown {
  int n;
  std::function<double(const list&)> choose;
};

/// Calls f(reward shown, probability) for every n-tuple of responses.
template <class F>
void for_each_tuple(const shown& s, const list& rewards, const list& p, F f) {
  const std::size_t K = rewards.size();
  std::size_t tuples = 1;
  for (int i = 0; i < s.n; ++i) tuples *= K;
  for (std::size_t code = 0; code < tuples; ++code) {
    list drawn;
    double probability = 1;
    std::size_t rest = code;
    for (int i = 0; i < s.n; ++i, rest /= K) {
      drawn.push_back(rewards[rest % K]);
      probability *= p[rest % K];
    }
    std::sort(drawn.begin(), drawn.end());
    f(s.choose(drawn), probability);
  }
}

/// P(shown by the policy > shown by the reference) + ½·P(equal), tuple by tuple.
double by_enumeration(const list& rewards, const list& p, const list& q, const shown& policy, const shown& reference) {
  double sum = 0;
  for_each_tuple(policy, rewards, p, [&](double y, double of_y) {
    for_each_tuple(reference, rewards, q, [&](double z, double of_z) {
      sum += of_y * of_z * (y > z ? 1 : y == z ? 0.5 : 0);
    });
  });
  return sum;
}

array<double> as_array(const list& x) {
  return Eigen::Map<const array<double>>(x.data(), std::ssize(x));
}

list probabilities(std::mt19937& random, std::size_t K) {
  list p(K);
  double sum = 0;
  for (double& x : p) sum += x = static_cast<double>(random() % 5);  // some are 0
  if (sum == 0) sum = p[0] = 1;
  for (double& x : p) x /= sum;
  return p;
}

const shown first{1, [](const list& r) { return r[0]; }};
const auto last = [](const list& r) { return r.back(); };
const auto front = [](const list& r) { return r.front(); };

}  // namespace

// Rewards 1 2 2 5; policy ¼ ¼ 0 ½, reference ½ ¼ ¼ 0. Levels 1, 2, 5: policy ¼ ¼ ½, reference ½ ½ 0.
TEST_CASE("Win rates by hand") {
  const array<double> rewards{{5, 2, 1, 2}}, policy{{0.5, 0.25, 0.25, 0}}, reference{{0, 0.25, 0.5, 0.25}};
  // One sample each: ½·1 + ¼·(½ + ¼) + ¼·¼.
  CHECK(exact_win_rate(rewards, policy, reference, plain_sampling{}) == near(0.75, 1e-15));
  // Best of 2 each: policy 1/16, 3/16, 12/16, reference 1/4, 3/4: 12/16 + 3/16·(1/4 + 3/8) + 1/16·1/8.
  CHECK(exact_win_rate(rewards, policy, reference, best_of{2}) == near(0.875, 1e-15));
  // Best of 2 against one sample: 12/16 + 3/16·3/4 + 1/16·1/4.
  CHECK(exact_win_rate(rewards, policy, reference, best_of{2}, plain_sampling{}) == near(29. / 32, 1e-15));
  // Worst of 2 against best of 2: policy 7/16, 5/16, 4/16: 4/16 + 5/16·(1/4 + 3/8) + 7/16·1/8.
  CHECK(exact_win_rate(rewards, policy, reference, worst_of{2}, best_of{2}) == near(0.5, 1e-15));
  CHECK(exact_win_rate(array<double>{{3}}, array<double>{{1}}, array<double>{{1}}, best_of{4}) == 0.5);
}

TEST_CASE("Win rates are sums over every tuple of responses") {
  std::mt19937 random(1);
  const auto check = [&](const auto& t, const shown& of_policy, const auto& against, const shown& of_reference) {
    for (std::size_t K = 1; K <= 4; ++K)
      for (int repeat = 0; repeat < 6; ++repeat) {
        list rewards(K);
        for (double& r : rewards) r = static_cast<double>(random() % 4) - 1.5;  // with ties
        if (repeat == 0) rewards[0] = INFINITY;
        if (repeat == 1) rewards[K - 1] = -INFINITY;
        const list p = probabilities(random, K), q = probabilities(random, K);
        const double truth = by_enumeration(rewards, p, q, of_policy, of_reference);
        CHECK(exact_win_rate(as_array(rewards), as_array(p), as_array(q), t, against) ==
              near(truth, 1e-14 * static_cast<double>(K)));
      }
  };
  const auto against_all = [&](const auto& t, const shown& of_policy) {
    check(t, of_policy, plain_sampling{}, first);
    for (int n = 1; n <= 3; ++n) {
      check(t, of_policy, best_of{n}, shown{n, last});
      check(t, of_policy, worst_of{n}, shown{n, front});
    }
    check(t, of_policy, order_statistic{2, 3}, shown{3, [](const list& r) { return r[1]; }});
  };
  against_all(plain_sampling{}, first);
  for (int n = 1; n <= 3; ++n) {
    against_all(best_of{n}, shown{n, last});
    against_all(worst_of{n}, shown{n, front});
  }
  against_all(order_statistic{2, 3}, shown{3, [](const list& r) { return r[1]; }});
}

TEST_CASE("A policy wins half of the time against itself, and what it does not win the reference wins") {
  std::mt19937 random(2);
  for (std::size_t K : {1u, 2u, 7u, 50u}) {
    list r(K);
    for (double& x : r) x = static_cast<double>(random() % 9);
    const auto rewards = as_array(r), p = as_array(probabilities(random, K)), q = as_array(probabilities(random, K));
    const auto check = [&](const auto& t) {
      CHECK(exact_win_rate(rewards, p, p, t) == near(0.5, 1e-14));
      CHECK(exact_win_rate(rewards, p, q, t) == near(1 - exact_win_rate(rewards, q, p, t), 1e-13));
      CHECK(exact_win_rate(rewards, p, q, t) == exact_win_rate(rewards, p, q, t, t));
    };
    check(plain_sampling{});
    check(best_of{4});
    check(worst_of{4});
    check(order_statistic{3, 5});
    check(best_of_poisson{2});
    CHECK(exact_win_rate(-rewards, p, q, worst_of{3}) == near(1 - exact_win_rate(rewards, p, q, best_of{3}), 1e-13));
  }
}

// Kept to the best response alone, N = 4 against the uniform reference over K untied responses: 1 − ½·(1 − (1 − 1/K)⁴).
TEST_CASE("The largest win rate there is") {
  const Index K = 10;
  const array<double> rewards = array<double>::LinSpaced(K, 3, 7), uniform = array<double>::Constant(K, 0.1);
  const array<double> top = (rewards == 7).cast<double>();
  CHECK(exact_win_rate(rewards, top, uniform, best_of{4}) == near(1 - 0.5 * (1 - std::pow(0.9, 4)), 1e-14));
  CHECK(exact_win_rate(rewards, top, uniform, worst_of{4}) == near(1 - 0.5 * std::pow(0.1, 4), 1e-14));
}

TEST_CASE("Floats, rows, expressions, and probabilities that sum to 1 nearly") {
  const Eigen::ArrayXf rewards{{3, 1, 2}}, p{{0.2f, 0.5f, 0.3f}}, q{{0.1f, 0.2f, 0.7f}};
  // Levels 1 2 3: p ½ .3 .2, q .2 .7 .1: ½·.1 + .3·(.2 + .35) + .2·(.9 + .05).
  const double truth = 0.405;
  CHECK(exact_win_rate(rewards, p, q, plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.transpose(), p.matrix(), q.cast<double>(), plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.matrix(), p * 1.000005f, q * 0.999995f, plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.head(3), p, q, plain_sampling{}) == near(truth, 1e-7));
}

TEST_CASE("What is no reward and no distribution is refused") {
  const auto error = [](std::initializer_list<double> r, std::initializer_list<double> p,
                        std::initializer_list<double> q) {
    return error_of([&] { exact_win_rate(as_array(r), as_array(p), as_array(q), best_of{2}); });
  };
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string expected = "exact_win_rate: expected ";
  CHECK(error({1, 2}, {0.5, 0.5}, {0, 1}) == "no error");
  CHECK(error({}, {}, {}) == expected + "at least one response, got none");
  CHECK(error({1, 2}, {1}, {0, 1}) == expected + "2 policy probabilities, one for each reward, got 1");
  CHECK(error({1, 2}, {0, 1}, {0, 0, 1}) == expected + "2 reference probabilities, one for each reward, got 3");
  CHECK(error({1, nan}, {0, 1}, {0, 1}) == expected + "rewards that are numbers, got NaN at index 1");
  CHECK(error({1, 2}, {1.5, -0.5}, {0, 1}) == expected + "policy probabilities of at least 0, got -0.5 at index 1");
  CHECK(error({1, 2}, {0, 1}, {nan, 1}) == expected + "reference probabilities of at least 0, got NaN at index 0");
  CHECK(error({1, 2}, {0, INFINITY}, {0, 1}) == expected + "policy probabilities of at least 0, got inf at index 1");
  CHECK(error({1, 2}, {0.5, 0.25}, {0, 1}) == expected + "policy probabilities that sum to 1, got 0.75");
  CHECK(error({1, 2}, {0, 1}, {0.5, 0.75}) == expected + "reference probabilities that sum to 1, got 1.25");
  CHECK(error({1, 2}, {0, 1}, {0.5, 0.5001}) == expected + "reference probabilities that sum to 1, got 1.0001");
  CHECK(error_of([] {
          exact_win_rate(array<double>{{1}}, array<double>{{1}}, array<double>{{1}}, best_of{2}, worst_of{0});
        }) == "worst_of: expected n of at least 1, got 0");
}

// From samples.

namespace {

/// What a procedure shows of each n-subset of a sample: choose(rewards of the subset, sorted).
list shown_of_subsets(const shown& s, const list& sample) {
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
double by_subsets(const list& policy, const list& reference, const shown& t1, const shown& t2) {
  double sum = 0;
  const list of_policy = shown_of_subsets(t1, policy), of_reference = shown_of_subsets(t2, reference);
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
          const shown middle{n, [k](const list& r) { return r[static_cast<std::size_t>(k - 1)]; }};
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
TEST_CASE("The 95 % interval holds the truth 95 % of the time, and that of a difference too") {
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
      const estimate w = mean_over_prompts(rates), d = mean_over_prompts(others - rates);
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

TEST_CASE("Win rates of ragged samples, of one prompt, of floats, with unscored responses") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<std::vector<float>> policy{{3, 1}, {5, 4, 2, nan}}, reference{{2, 2, 0}, {4, 1}};
  const auto rates = win_rates(ragged(policy), ragged(reference), best_of{2}, unscored::carry);
  // {3, 1} shows 3 against 2: won. Pairs of {5, 4, 2} show 5, 5, 4 against 4: 1, 1, ½.
  CHECK(rates[0] == 1);
  CHECK(rates[1] == near(2.5 / 3, 1e-15));
  const auto curve = win_rate_curve<best_of>(ragged(policy), ragged(reference), unscored::carry);
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

TEST_CASE("Win rates refuse samples that do not fit") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const matrix<double> two{{1, 2}, {3, 4}}, three{{1, 2}, {3, 4}, {5, 6}}, with_nan{{1, 2}, {nan, 4}};
  CHECK(error_of([&] { win_rates(three, two, best_of{1}); }) ==
        "win_rates: expected 3 rows of reference rewards, one for each of the policy's, got 2");
  CHECK(error_of([&] { win_rate(two, two, best_of{3}); }) ==
        "win_rates: expected at least 3 scored responses to each prompt for this procedure, got 2 at row 0");
  CHECK(error_of([&] { win_rate(two, with_nan, best_of{2}, unscored::carry); }) ==
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
