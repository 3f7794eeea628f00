// SPDX-License-Identifier: MIT
#include <infalign/theory/best_exponential.hpp>
#include <infalign/theory/optimal_transform.hpp>

#include "catch.hpp"

#include <cmath>
#include <limits>

using namespace infalign;

TEST_CASE("The best exponential is the identity for one sample, and beats its neighbours for more") {
  CHECK(best_exponential(plain_sampling{}, at_kl{0.5}).transform.t == 0);
  CHECK(best_exponential(worst_of{1}, at_kl{0.1}).transform.t == 0);
  const auto check = [](const auto& procedure, double kl) {
    const auto best = best_exponential(procedure, at_kl{kl});
    const double t = best.transform.t;
    CAPTURE(t, kl);
    CHECK(best.kl == near(kl, 1e-8));
    CHECK(best.win_rate <= optimal_transform(procedure, at_kl{kl}).win_rate + 1e-9);
    for (double other : {0.98 * t, 1.02 * t, t > 0 ? 5.0 : -5.0, t > 0 ? 10.0 : -10.0})
      CHECK(aligned_policy(normalized_exponential{other}, at_kl{kl}).win_rate(procedure) <= best.win_rate + 1e-9);
    return t;
  };
  CHECK(check(best_of{2}, 0.5) == near(4.57, 0.01));
  CHECK(check(best_of{4}, 0.5) == near(12.63, 0.01));
  CHECK(check(best_of{10}, 0.5) == near(48.05, 0.05));
  CHECK(check(worst_of{4}, 0.4) == near(-8.76, 0.01));
  const double t64 = check(best_of{64}, 0.5);
  CHECK((1000 < t64 && t64 < 5000));
  const auto worst = best_exponential(worst_of{64}, at_kl{0.4});
  CHECK(worst.transform.t < 0);
  CHECK(worst.win_rate > 1 - 1e-9);
}

TEST_CASE("The best exponential is near the optimum down to 1 - W = 1e-12, by the share that is lost") {
  const auto check = [](int n, double kl, double share) {
    CAPTURE(n, kl);
    const double least = 1 - optimal_transform(worst_of{n}, at_kl{kl}).win_rate;
    const auto best = best_exponential(worst_of{n}, at_kl{kl});
    // The policy itself: in its normalised form the reward is 1 to rounding where the policy is.
    const double t = best.transform.t;
    const aligned_policy policy([t](double u) { return -std::exp(t * u); }, at_beta{best.beta * -std::expm1(t)});
    CHECK(policy.kl() == near(kl, 1e-8));
    const double lost = policy.loss_rate(worst_of{n}, worst_of{n});
    CHECK(1 - best.win_rate == near(lost, 1e-14));
    CHECK(lost > least * (1 - 1e-6) - 1e-14);
    CHECK(lost < least * (1 + share) + 1e-14);
  };
  check(4, 0.5, 0.01);
  check(8, 2.0, 0.01);
  check(16, 1.0, 0.01);
  check(32, 0.5, 0.01);
  check(64, 0.25, 0.01);
  check(64, 0.4, 0.02);
}

TEST_CASE("A KL that is invalid or out of reach, and invalid procedures, are rejected") {
  for (double kl : {-1.0, 0.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    CHECK(error_of([&] { best_exponential(best_of{4}, at_kl{kl}); }).substr(0, 54) ==
          "best_exponential: expected a kl of at least 1e-12, got");
  CHECK(error_of([] {
          best_exponential(best_of{4}, at_kl{1e6});
        }).starts_with("best_exponential: expected a kl of at most 25."));
  CHECK(error_of([] { best_exponential(best_of{0}, at_kl{1}); }) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([] { best_exponential(best_of{1}, worst_of{0}, at_kl{1}); }) ==
        "worst_of: expected n of at least 1, got 0");
}
