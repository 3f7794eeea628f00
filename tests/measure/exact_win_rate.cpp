// SPDX-License-Identifier: MIT
#include "catch.hpp"
#include "outputs.hpp"

#include <infalign/measure/exact_win_rate.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

using namespace infalign;
using Eigen::Index;

namespace {

/// Calls f(reward output, probability) for every n-tuple of responses.
template <class F>
void for_each_tuple(const output& s, const list& rewards, const list& p, F f) {
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

/// P(output by the policy > output by the reference) + ½·P(equal), tuple by tuple.
double by_enumeration(const list& rewards, const list& p, const list& q, const output& policy,
                      const output& reference) {
  double sum = 0;
  for_each_tuple(policy, rewards, p, [&](double y, double of_y) {
    for_each_tuple(reference, rewards, q, [&](double z, double of_z) {
      sum += of_y * of_z * (y > z ? 1 : y == z ? 0.5 : 0);
    });
  });
  return sum;
}

list probabilities(std::mt19937& random, std::size_t K) {
  list p(K);
  double sum = 0;
  for (double& x : p) sum += x = static_cast<double>(random() % 5);  // some are 0
  if (sum == 0) sum = p[0] = 1;
  for (double& x : p) x /= sum;
  return p;
}

}  // namespace

// Rewards 1 2 2 5; policy ¼ ¼ 0 ½, reference ½ ¼ ¼ 0. Levels 1, 2, 5: policy ¼ ¼ ½, reference ½ ½ 0.
TEST_CASE("Exact win rates of four responses are those computed by hand") {
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

TEST_CASE("Exact win rates are sums over every tuple of responses") {
  std::mt19937 random(1);
  const auto check = [&](const auto& t, const output& of_policy, const auto& against, const output& of_reference) {
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
  const auto against_all = [&](const auto& t, const output& of_policy) {
    check(t, of_policy, plain_sampling{}, first);
    for (int n = 1; n <= 3; ++n) {
      check(t, of_policy, best_of{n}, output{n, last});
      check(t, of_policy, worst_of{n}, output{n, front});
    }
    check(t, of_policy, order_statistic{2, 3}, output{3, [](const list& r) { return r[1]; }});
  };
  against_all(plain_sampling{}, first);
  for (int n = 1; n <= 3; ++n) {
    against_all(best_of{n}, output{n, last});
    against_all(worst_of{n}, output{n, front});
  }
  against_all(order_statistic{2, 3}, output{3, [](const list& r) { return r[1]; }});
}

TEST_CASE("A policy wins half of the time against itself, and the win rates of two policies sum to 1") {
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

// Always the best response, N = 4 against the uniform reference over K untied responses: 1 − ½·(1 − (1 − 1/K)⁴).
TEST_CASE("A policy that always gives the best response has the largest possible win rate") {
  const Index K = 10;
  const array<double> rewards = array<double>::LinSpaced(K, 3, 7), uniform = array<double>::Constant(K, 0.1);
  const array<double> top = (rewards == 7).cast<double>();
  CHECK(exact_win_rate(rewards, top, uniform, best_of{4}) == near(1 - 0.5 * (1 - std::pow(0.9, 4)), 1e-14));
  CHECK(exact_win_rate(rewards, top, uniform, worst_of{4}) == near(1 - 0.5 * std::pow(0.1, 4), 1e-14));
}

TEST_CASE("Floats, rows, expressions and probabilities that nearly sum to 1 are accepted") {
  const Eigen::ArrayXf rewards{{3, 1, 2}}, p{{0.2f, 0.5f, 0.3f}}, q{{0.1f, 0.2f, 0.7f}};
  // Levels 1 2 3: p ½ .3 .2, q .2 .7 .1: ½·.1 + .3·(.2 + .35) + .2·(.9 + .05).
  const double truth = 0.405;
  CHECK(exact_win_rate(rewards, p, q, plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.transpose(), p.matrix(), q.cast<double>(), plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.matrix(), p * 1.000005f, q * 0.999995f, plain_sampling{}) == near(truth, 1e-7));
  CHECK(exact_win_rate(rewards.head(3), p, q, plain_sampling{}) == near(truth, 1e-7));
}

// P(r(Y) > r(Z)) + ½·P(=) with r = 1, 2: ¾·½ + ½·(¼·½ + ¾·½) = 0.625.
TEST_CASE("Rewards and probabilities may be std::vectors and spans") {
  const std::vector<float> rewards{1, 2};
  const std::vector<double> policy{0.25, 0.75}, reference{0.5, 0.5};
  CHECK(exact_win_rate(rewards, policy, std::span<const double>(reference), plain_sampling{}) == near(0.625, 1e-15));
  CHECK(exact_win_rate(array<double>{{1, 2}}, policy, reference, plain_sampling{}, plain_sampling{}) ==
        near(0.625, 1e-15));
}

TEST_CASE("NaN rewards, invalid probabilities and invalid procedures are rejected") {
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
