// SPDX-License-Identifier: MIT
#include <infalign/theory/finite_policy.hpp>

#include "arrays.hpp"

#include <cmath>
#include <vector>

using namespace infalign;

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
  const auto w = finite_win_rates(rewards, scores, 1, plain_sampling{});
  REQUIRE(w.size() == 2);
  CHECK(w[0] == Approx(0.25 + 0.731058578630 / 2).epsilon(1e-11));
  CHECK(w[1] == Approx(0.5));
}
