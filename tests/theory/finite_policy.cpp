// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/theory/finite_policy.hpp>

#include "arrays.hpp"

#include <cmath>
#include <vector>

using namespace infalign;
using Eigen::Index;

// Two responses with scores 0 and 1 at β = 1: e/(1 + e) = 0.731058578630.
TEST_CASE("The policy is proportional to exp(score/β), and its KL is that to the uniform policy") {
  const finite_policy policy(array<double>{{0, 1}}, 1);
  CHECK(policy.probability[1] == Approx(0.731058578630).epsilon(1e-11));
  CHECK(policy.kl ==
        Approx(std::log(2) + 0.731058578630 * std::log(0.731058578630) + 0.268941421370 * std::log(0.268941421370))
            .epsilon(1e-10));
  CHECK(finite_policy(array<double>{{3, 3, 3}}, 1e-300).kl == Approx(0).margin(1e-15));
  CHECK(finite_policy(array<double>{{1e308, -1e308, 0}}, 1e300).probability[0] == Approx(1));
}

TEST_CASE("β is found for a mean KL, and there is none beyond that of always choosing the best") {
  const std::vector<array<double>> scores{array<double>{{0, 1, 5, 2}}, array<double>{{7, 7}},
                                          array<double>{{-1, 3, 3}}};
  for (const double kl : {1e-3, 0.1, 0.5}) {
    const auto beta = beta_at_mean_kl(scores, kl);
    REQUIRE(beta);
    CHECK(mean_kl(scores, *beta) == Approx(kl).epsilon(1e-9));
  }
  const double most = (std::log(4) + std::log(1.5)) / 3;  // one of four, one of two equal ones, two of three
  CHECK(beta_at_mean_kl(scores, 0.999 * most));
  CHECK(!beta_at_mean_kl(scores, 1.001 * most));
  CHECK(!beta_at_mean_kl({}, 0.1));
}

// The policy chooses the better of two responses with probability p = e/(1 + e): W = 1/4 + p/2 for one sample.
TEST_CASE("The win rates of finite policies are exact, one for each prompt") {
  const std::vector<array<double>> rewards{array<double>{{0, 9}}, array<double>{{4, 4, 4}}},
      scores{array<double>{{0, 1}}, array<double>{{5, 1, 2}}};
  const auto w = finite_policies(scores, at_beta{1}).win_rates(rewards, plain_sampling{});
  REQUIRE(w.size() == 2);
  CHECK(w[0] == Approx(0.25 + 0.731058578630 / 2).epsilon(1e-11));
  CHECK(w[1] == Approx(0.5));
}

TEST_CASE("KL and means of each prompt's policy are the sums over its responses") {
  const matrix<double> scores{{1, 4, 2}, {0, 0, 9}, {-5, -5, -5}}, length{{10, 20, 30}, {1, 2, 3}, {7, 8, 9}};
  const finite_policies policies{scores, at_beta{2}};
  CHECK(policies.beta() == 2);
  CHECK(policies.prompts() == 3);
  const auto kl = policies.kl(), means = policies.means(length),
             versus = policies.win_rates(length, best_of{3}, plain_sampling{});
  for (Index p = 0; p < 3; ++p) {
    double total = 0, expected_kl = 0, mean = 0;
    for (Index m = 0; m < 3; ++m) total += std::exp(scores(p, m) / 2);
    for (Index m = 0; m < 3; ++m) {
      const double probability = std::exp(scores(p, m) / 2) / total;
      CHECK(policies.probability(p)[m] == near(probability, 1e-15));
      expected_kl += probability * std::log(3 * probability);
      mean += probability * length(p, m);
    }
    CHECK(kl[p] == near(expected_kl, 1e-14));
    CHECK(means[p] == near(mean, 1e-13));
    // The best of 3 by length is the last response unless all three are others.
    const double others = 1 - policies.probability(p)[2], first = policies.probability(p)[0];
    CHECK(versus[p] == near((1 - others * others * others) * 5 / 6 +
                                (others * others * others - first * first * first) / 2 + first * first * first / 6,
                            1e-13));
  }
}

TEST_CASE("With rewards of unlike scales one prompt takes most of the KL; calibrated rewards share it evenly") {
  matrix<double> rewards(16, 64);
  for (Index p = 0; p < 16; ++p)
    for (Index m = 0; m < 64; ++m)
      rewards(p, m) = std::pow(10.0, static_cast<double>(p) / 5) * static_cast<double>(m * 37 % 64);
  const finite_policies raw{rewards, at_kl{0.5}}, calibrated{calibrate(rewards, rewards), at_kl{0.5}};
  CHECK(raw.kl().mean() == near(0.5, 1e-8));
  CHECK(calibrated.kl().mean() == near(0.5, 1e-8));
  Index prompt = 0;
  CHECK(raw.kl().maxCoeff(&prompt) > 4 * 0.5);
  CHECK(prompt == 15);
  CHECK(calibrated.kl().maxCoeff() == near(calibrated.kl().minCoeff(), 1e-12));
  CHECK(mean_over_prompts(calibrated.win_rates(rewards, best_of{4})).mean >
        mean_over_prompts(raw.win_rates(rewards, best_of{4})).mean + 0.1);
}

// Two independent rewards. v is the rank of a combination of their calibrated rewards, uniform under the reference. At a KL of
// 0.5 with the identity on v, the combination wins 0.77373031 whichever it is; each reward wins as follows. The mean itself,
// not ranked again, is the optimum for the sum of both win rates.
TEST_CASE("What aligning on a combination of two independent rewards does for each of them") {
  const Index n = 300;
  matrix<double> u(1, n * n), sum(1, n * n), product(1, n * n), minimum(1, n * n), mean(1, n * n), logarithms(1, n * n);
  for (Index i = 0; i < n; ++i)
    for (Index j = 0; j < n; ++j) {
      const Index k = i * n + j;
      const double x = (static_cast<double>(i) + 0.5) / n, y = (static_cast<double>(j) + 0.5) / n, s = (x + y) / 2;
      u(0, k) = x;
      sum(0, k) = s <= 0.5 ? 2 * s * s : 1 - 2 * (1 - s) * (1 - s);
      product(0, k) = x * y * (1 - std::log(x * y));
      minimum(0, k) = 1 - (1 - std::min(x, y)) * (1 - std::min(x, y));
      mean(0, k) = s;
      logarithms(0, k) = std::log(x * y);
    }
  const auto wins = [&](const matrix<double>& scores) { return finite_policies{scores, at_kl{0.5}}.means(u)[0]; };
  CHECK(finite_policies{sum, at_kl{0.5}}.means(sum)[0] == near(0.77373031, 2e-5));
  CHECK(wins(sum) == near(0.69577661, 2e-5));
  CHECK(wins(product) == near(0.69239510, 2e-5));
  CHECK(wins(minimum) == near(0.68083378, 2e-5));
  CHECK(wins(mean) == near(0.69893155, 2e-5));
  CHECK(wins(logarithms) == near(0.69023496, 2e-5));
}

TEST_CASE("A table, a ragged table and lists of floats are scores, and wrong ones are rejected") {
  const matrix<float> scores{{1, 4}, {2, 9}};
  const finite_policies table{scores, at_beta{3}},
      lists{ragged(std::vector<std::vector<float>>{{1, 4}, {2, 9}}), at_beta{3}};
  CHECK(same(table.kl(), lists.kl()));
  const std::vector<array<double>> arrays{array<double>{{1, 4}}, array<double>{{2, 9}}};
  CHECK(same(table.kl(), finite_policies(arrays, at_beta{3}).kl()));
  CHECK(finite_policies(arrays, at_kl{0.4}).kl().mean() == near(0.4, 1e-8));
  const auto error = [](auto f) { return error_of(f); };
  CHECK(error([] {
          finite_policy(array<double>{{1, NaN}}, 1);
        }) == "finite_policy: expected finite scores, got NaN at index 1");
  CHECK(error([] { finite_policy(array<double>{{1}}, 0); }) ==
        "finite_policy: expected a beta finite and above 0, got 0");
  CHECK(error([] { finite_policy(array<double>(), 1); }) == "finite_policy: expected at least one score, got none");
  CHECK(error([] { finite_policies(matrix<double>(0, 3), at_beta{1}); }) ==
        "finite_policies: expected at least one prompt, got none");
  CHECK(error([] { finite_policies(matrix<double>(0, 3), at_kl{1}); }) ==
        "finite_policies: expected at least one prompt, got none");
  CHECK(error([&] { finite_policies(scores, at_kl{0.7}); }) ==
        "finite_policies: expected a kl below 0.693147181, which the best responses alone have, got 0.7");
  CHECK(error([&] { finite_policies(scores, at_kl{-1}); }) == "finite_policies: expected a kl above 0, got -1");
  CHECK(error([&] {
          table.means(matrix<double>{{1, 2}});
        }) == "finite_policies: expected 2 rows of values, one for each prompt, got 1");
  CHECK(error([&] {
          table.win_rates(matrix<double>{{1}, {2}}, best_of{2});
        }) == "finite_policies: expected 2 rewards, one for each response, got 1 at row 0");
}
