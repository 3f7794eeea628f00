// SPDX-License-Identifier: MIT
#include <infalign/theory/ascent_transform.hpp>
#include <infalign/theory/optimal_transform.hpp>

#include "catch.hpp"
#include "gridded_policy.hpp"

#include <cmath>
#include <random>

using namespace infalign;

TEST_CASE("The ascent transform of four responses with a tie is the one computed by hand") {
  // u = 1/4, 1/2, 1/2, 1: F is 0, 1/4, 3/4 on the three intervals. Best-of-2: g1(F) = 2F, G2(u) = u².
  const auto phi = ascent_transform(array<double>{{0.5, 0.25, 1, 0.5}}, best_of{2});
  CHECK(phi(0.25) == near(0, 1e-15));
  CHECK(phi(0.5) == near(0.5 * (0.25 - 0.0625), 1e-15));
  CHECK(phi(1.0) == near(0.5 * (0.25 - 0.0625) + 1.5 * (1 - 0.25), 1e-15));
  // Without a response at 1, the last interval is from 1/2 to 1, where F is 1.
  const auto half = ascent_transform(array<double>{{0.5, 0.25}}, best_of{2});
  CHECK(half(0.25) == near(0, 1e-15));
  CHECK(half(0.5) == near(1 * (0.25 - 0.0625), 1e-15));
  CHECK(half(1.0) == near(1 * (0.25 - 0.0625) + 2 * (1 - 0.25), 1e-15));
  CHECK(error_of([] { ascent_transform(array<double>(0), best_of{2}); }) ==
        "ascent_transform: expected at least one calibrated reward, got none");
  CHECK(error_of([] {
          ascent_transform(array<double>{{0.5, 2}}, best_of{2});
        }) == "ascent_transform: expected calibrated rewards in [0, 1], got 2");
}

TEST_CASE(
    "Recomputed every small step, it climbs to the optimum from random starts; recomputed every whole step, it does "
    "not") {
  std::mt19937 random(5);
  std::normal_distribution<double> normal;
  const Eigen::Index cells = 1600;  // its error is of the order of (n/cells)²: 1e-4 for best-of-10
  const array<double> u =
      (array<double>::LinSpaced(cells, 0, static_cast<double>(cells - 1)) + 0.5) / static_cast<double>(cells);
  // The exact ascent transform of a policy on the grid: F at each cell's middle.
  const auto ascent = [&](const gridded& policy, const auto& t) {
    array<double> phi(cells);
    double F = 0, sum = 0;
    for (Eigen::Index i = 0; i < cells; ++i) {
      F += policy.p[i] / 2;
      const double rise = t.density(F) * t.density(u[i]) / static_cast<double>(cells);
      phi[i] = sum + rise / 2;
      sum += rise;
      F += policy.p[i] / 2;
    }
    return phi;
  };
  const auto J_after = [&](const auto& t, double beta, double step, int steps, array<double> log_p) {
    for (int i = 0; i < steps; ++i) {
      const gridded policy((log_p - log_p.maxCoeff()).exp());
      log_p = (1 - step) * log_p + step * ascent(policy, t) / beta;
    }
    const gridded policy((log_p - log_p.maxCoeff()).exp());
    return policy.win_rate(t, t) - beta * policy.kl();
  };
  const auto check = [&](const auto& t, double beta) {
    CAPTURE(beta);
    const auto best = optimal_transform(t, at_beta{beta});
    for (int start = 0; start < 3; ++start) {
      const array<double> log_p = array<double>::NullaryExpr(cells, [&] { return normal(random); });
      CHECK(J_after(t, beta, 0.05, 600, log_p) == near(best.win_rate - beta * best.kl, 3e-4));
    }
  };
  check(best_of{4}, 0.2);
  check(best_of{10}, 0.15);
  check(worst_of{2}, 0.3);
  check(worst_of{4}, 0.3);
  const auto best = optimal_transform(best_of{4}, at_kl{1});
  CHECK(J_after(best_of{4}, best.beta, 1, 301, array<double>::Zero(cells)) <
        best.win_rate - best.beta * best.kl - 0.02);
}

TEST_CASE("The ascent transform rejects invalid procedures") {
  CHECK(error_of([] { ascent_transform(array<double>{{0.5}}, best_of{0}); }) ==
        "best_of: expected n of at least 1, got 0");
  CHECK(error_of([] { ascent_transform(array<double>{{0.5}}, best_of{1}, worst_of{0}); }) ==
        "worst_of: expected n of at least 1, got 0");
}
