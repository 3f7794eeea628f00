// SPDX-License-Identifier: MIT
#include <infalign/best_exponential.hpp>
#include <infalign/optimal_transform.hpp>
#include <infalign/win_rate.hpp>

#include "catch.hpp"

#include <algorithm>
#include <ctime>
#include <random>
#include <vector>

using namespace infalign;

namespace {

/// W and KL of a density on a grid of equal cells, by sums: an oracle with errors of the order of 1/cells².
struct gridded {
  array<double> p;  // mass of each cell

  explicit gridded(array<double> mass) : p(mass / mass.sum()) {}

  double kl() const { return (p > 0).select(p * (p * static_cast<double>(p.size())).max(1e-300).log(), 0.0).sum(); }

  template <procedure T1, procedure T2>
  double win_rate(const T1& t1, const T2& t2) const {
    double F = 0, shown = 0, reference = 0, result = 0;
    for (Eigen::Index i = 0; i < p.size(); ++i) {
      F += p[i];
      const double next = t1.cdf(std::min(F, 1.0)),
                   next_reference = t2.cdf(static_cast<double>(i + 1) / static_cast<double>(p.size()));
      result += (next - shown) * 0.5 * (reference + next_reference);
      shown = next, reference = next_reference;
    }
    return result;
  }
};

template <class T>
void check_table(const T& procedure, double beta, double W, double kl, double log_p0) {
  CAPTURE(beta, W);
  const auto best = optimal_transform(procedure, at_beta{beta});
  CHECK(best.win_rate == near(W, 1e-7));
  CHECK(best.kl == near(kl, 1e-6));
  CHECK(best.log_density_at_0 == near(log_p0, 1e-7 * std::max(1.0, std::abs(log_p0))));
  CHECK(best.residual < 1e-8);
}

}  // namespace

TEST_CASE("The optimum at a given beta, computed beforehand by an independent Runge-Kutta solver") {
  check_table(best_of{2}, 0.2, 0.83565204, 0.59259390, -1.14997038);
  check_table(best_of{4}, 0.2, 0.88056945, 0.53516269, -0.62735907);
  check_table(best_of{4}, 0.05, 0.96208833, 1.32335265, -1.06004190);
  check_table(worst_of{2}, 0.3, 0.85082359, 0.46743466, -5.20472258);
  check_table(worst_of{4}, 0.2, 0.95000000, 0.51031426, -18.48968574);
  const auto mixed = optimal_transform(best_of{4}, plain_sampling{}, at_beta{0.2});
  CHECK(mixed.win_rate == near(0.92395416, 1e-7));
  CHECK(mixed.kl == near(0.20537417, 1e-6));
  CHECK(mixed.log_density_at_0 == near(-0.47840551, 1e-7));
}

TEST_CASE("Win rates at a matched KL: four transforms, and the optimum with its beta") {
  const auto check = [](const auto& procedure, double sign, double kl, std::vector<double> W, double beta) {
    CAPTURE(kl, beta);
    const auto of = [&](const auto& phi) { return tilted_policy(phi, at_kl{kl}).win_rate(procedure); };
    CHECK(of(identity{}) == near(W[0], 5.1e-5));
    CHECK(of(logarithm{}) == near(W[1], 5.1e-5));
    CHECK(of(exponential{5 * sign}) == near(W[2], 5.1e-5));
    CHECK(of(normalized_exponential{10 * sign}) == near(W[3], 5.1e-5));
    const auto best = optimal_transform(procedure, at_kl{kl});
    CHECK(best.win_rate == near(W[4], 5.1e-7));
    CHECK(best.beta == near(beta, 5.1e-7));
    CHECK(best.kl == near(kl, 1e-8));
  };
  check(best_of{2}, 1, 0.5, {0.7917, 0.7682, 0.8154, 0.8031, 0.815626}, 0.234006);
  check(best_of{4}, 1, 0.5, {0.7998, 0.7682, 0.8566, 0.8715, 0.873250}, 0.216613);
  check(best_of{4}, 1, 1.0, {0.8770, 0.8631, 0.9192, 0.9351, 0.941123}, 0.083050);
  check(best_of{10}, 1, 0.5, {0.8043, 0.7682, 0.8778, 0.9088, 0.945517}, 0.148475);
  check(worst_of{2}, -1, 0.5, {0.8403, 0.8559, 0.8587, 0.8509, 0.860271}, 0.280460);
  check(worst_of{4}, -1, 0.5, {0.8860, 0.9270, 0.9439, 0.9476, 0.947894}, 0.208424);
  check(worst_of{10}, -1, 0.5, {0.9168, 0.9795, 0.9931, 0.9967, 0.997385}, 0.026148);
}

TEST_CASE("For one sample the optimum is the identity") {
  for (double beta : {0.01, 0.5, 20.0}) {
    const auto best = optimal_transform(plain_sampling{}, at_beta{beta});
    for (double u : {0.0, 0.1, 0.37, 0.99, 1.0}) CHECK(best(u) == near(u, 1e-10));
  }
  const auto best = optimal_transform(best_of{1}, at_beta{0.5});
  CHECK(best.win_rate == near(0.6565176427, 1e-9));
  CHECK(best.kl == near(0.1515959239, 1e-9));
}

TEST_CASE("The solution is found for best-of-64 up to a KL of 2, and for worst-of-64 down to 1 - W = 1e-12") {
  for (int n : {1, 2, 3, 4, 8, 16, 32, 64}) {
    double W = 0.5;
    for (double kl : {0.01, 0.1, 0.5, 1.0, 2.0}) {
      CAPTURE(n, kl);
      const auto best = optimal_transform(best_of{n}, at_kl{kl});
      CHECK(best.residual < 1e-8);
      CHECK(best.win_rate > W);
      W = best.win_rate;
    }
    double kl = 0;
    for (double share : {0.1, 1e-2, 1e-4, 1e-8, 1e-12}) {  // 1 - W is beta/n where beta is small
      const auto best = optimal_transform(worst_of{n}, at_beta{share * n});
      CAPTURE(n, share);
      CHECK(best.residual < 1e-8);
      CHECK(best.kl > kl);
      if (share <= 1e-2) CHECK(1 - best.win_rate == near(share, 0.02 * share + 1e-13));
      kl = best.kl;
    }
  }
}

TEST_CASE("The optimum satisfies its equation, and is the policy of its own transform") {
  const auto check = [](const auto& t1, const auto& t2, double beta) {
    CAPTURE(beta);
    const auto best = optimal_transform(t1, t2, at_beta{beta});
    const tilted_policy policy(best, at_beta{beta});
    CHECK(policy.kl() == near(best.kl, 1e-7));
    CHECK(policy.win_rate(t1, t2) == near(best.win_rate, 1e-8));
    for (double u = 0.025; u < 1; u += 0.05) {  // dPhi/du = g1(F(u))·g2(u)
      const double h = 1e-4, slope = (best(u + h) - best(u - h)) / (2 * h);
      CHECK(slope == near(t1.density(policy.cdf(u)) * t2.density(u), 2e-5));
      CHECK(policy.log_density(u) - policy.log_density(0.5) == near((best(u) - best(0.5)) / beta, 1e-9 / beta));
    }
  };
  check(best_of{4}, best_of{4}, 0.2);
  check(worst_of{4}, worst_of{4}, 0.5);
  check(best_of{4}, plain_sampling{}, 0.1);
  check(order_statistic{3, 5}, order_statistic{3, 5}, 0.3);
  check(random_best_of{array<double>{{0.25, 0.25, 0.5}}}, best_of{2}, 0.3);
  check(best_of_poisson{3}, best_of_poisson{3}, 0.3);
}

TEST_CASE("No policy found by random search does better") {
  std::mt19937 random(3);
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  const Eigen::Index cells = 4000;
  const array<double> u =
      (array<double>::LinSpaced(cells, 0, static_cast<double>(cells - 1)) + 0.5) / static_cast<double>(cells);
  const auto check = [&](const auto& procedure, double beta) {
    CAPTURE(beta);
    const auto best = optimal_transform(procedure, at_beta{beta});
    const double most = best.win_rate - beta * best.kl;
    const array<double> log_p = u.unaryExpr([&](double x) { return best(x) / beta; }) - best(1.0) / beta;
    const gridded at_best(log_p.exp());
    const double grid_error = at_best.win_rate(procedure, procedure) - beta * at_best.kl() - most;
    CHECK(std::abs(grid_error) < 5e-5);
    double nearest = 1;
    for (int trial = 0; trial < 200; ++trial) {
      array<double> change = array<double>::Zero(cells);
      const double size = std::pow(10.0, -3 + 3 * uniform(random));
      for (int k = 1; k <= 6; ++k) change += size * normal(random) * (3.14159265 * k * (u + uniform(random))).cos();
      if (trial % 2) change += (u > uniform(random)).select(array<double>::Constant(cells, size), 0.0);
      const gridded other((log_p + change).exp());
      const double gap = most + grid_error - (other.win_rate(procedure, procedure) - beta * other.kl());
      CHECK(gap > -1e-9);
      nearest = std::min(nearest, gap);
    }
    CHECK(nearest < 1e-4);  // some came near: the search did search
  };
  check(best_of{4}, 0.2);
  check(best_of{10}, 0.15);
  check(worst_of{2}, 0.3);
  check(worst_of{4}, 0.2);
}

TEST_CASE("The transform of the policy as it stands: a hand-worked case, with a tie") {
  // u = 1/4, 1/2, 1/2, 1: F is 0, 1/4, 3/4 on the three intervals. Best-of-2: g1(F) = 2F, G2(u) = u².
  const auto phi = ascent_transform(array<double>{{0.5, 0.25, 1, 0.5}}, best_of{2});
  CHECK(phi(0.25) == near(0, 1e-15));
  CHECK(phi(0.5) == near(0.5 * (0.25 - 0.0625), 1e-15));
  CHECK(phi(1.0) == near(0.5 * (0.25 - 0.0625) + 1.5 * (1 - 0.25), 1e-15));
  CHECK(error_of([] { ascent_transform(array<double>(0), best_of{2}); }) ==
        "ascent_transform: expected at least one calibrated reward, got none");
  CHECK(error_of([] {
          ascent_transform(array<double>{{0.5, 2}}, best_of{2});
        }) == "ascent_transform: expected calibrated rewards in [0, 1], got 2");
}

TEST_CASE(
    "Re-made every small step it climbs to the optimum from random starts; re-made every whole step it does not") {
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

// Mirror ascent on a grid of 8,000 from two starts ends in both solutions: at beta = 0.35 in W = 0.027993 and 0.477473,
// at KL 0.025454 and 1.36837; at 0.33 in W = 0.030627 and 0.550512, at KL 0.033219 and 1.58268.
TEST_CASE("Where there are several solutions the best is returned, and a KL that the optimum jumps past is refused") {
  const auto before = optimal_transform(worst_of{4}, best_of{4}, at_beta{0.35});
  CHECK(before.win_rate == near(0.027993, 1e-6));
  CHECK(before.kl == near(0.025454, 1e-6));
  const auto after = optimal_transform(worst_of{4}, best_of{4}, at_beta{0.33});
  CHECK(after.win_rate == near(0.550512, 1e-6));
  CHECK(after.kl == near(1.58268, 1e-5));
  CHECK(optimal_transform(worst_of{4}, best_of{4}, at_kl{after.kl}).beta == near(0.33, 1e-8));
  CHECK(optimal_transform(worst_of{4}, best_of{4}, at_kl{before.kl}).beta == near(0.35, 1e-8));
  for (double kl : {0.1, 0.5, 1.0})
    CHECK(error_of([&] {
            optimal_transform(worst_of{4}, best_of{4}, at_kl{kl});
          }).starts_with("optimal_transform: expected a kl that the optimum has at some beta, got "));
}

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
      CHECK(tilted_policy(normalized_exponential{other}, at_kl{kl}).win_rate(procedure) <= best.win_rate + 1e-9);
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
    const tilted_policy policy([t](double u) { return -std::exp(t * u); }, at_beta{best.beta * -std::expm1(t)});
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

TEST_CASE("What cannot be solved is said") {
  CHECK(error_of([] { optimal_transform(best_of{4}, at_beta{0}); }) ==
        "optimal_transform: expected a beta finite and above 0, got 0");
  for (double kl : {-1.0, 0.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
    CHECK(error_of([&] { optimal_transform(best_of{4}, at_kl{kl}); }).substr(0, 55) ==
          "optimal_transform: expected a kl of at least 1e-12, got");
    CHECK(error_of([&] { best_exponential(best_of{4}, at_kl{kl}); }).substr(0, 54) ==
          "best_exponential: expected a kl of at least 1e-12, got");
  }
  CHECK(error_of([] {
          optimal_transform(best_of{4}, at_kl{1e6});
        }).starts_with("optimal_transform: expected a kl for which the solution is found (up to "));
  CHECK(error_of([] {
          best_exponential(best_of{4}, at_kl{1e6});
        }).starts_with("best_exponential: expected a kl of at most 25."));
  // To 1e-8 of nothing at this beta: below the rounding of u.
  CHECK(error_of([] { optimal_transform(best_of{4}, at_beta{1e-30}); })
            .starts_with("optimal_transform: expected a beta at which the solution is found to 1e-8, got 1e-30, where "
                         "it is found to "));
  CHECK(error_of([] { optimal_transform(best_of{0}, at_beta{1}); }) == "best_of: expected n of at least 1, got 0");
}

#ifdef NDEBUG  // a bar for optimised code
TEST_CASE("The optimum for N = 4 takes at most 10 ms, at a beta and at a KL") {
  const auto fastest = [](const auto& f) {  // ms of this process's own time: others may be running
    double least = 1e9;
    for (int i = 0; i < 10; ++i) {
      const auto start = std::clock();
      f();
      least = std::min(least, 1e3 * static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);
    }
    return least;
  };
  CHECK(fastest([] { optimal_transform(best_of{4}, at_beta{0.2}); }) < 10);
  CHECK(fastest([] { optimal_transform(worst_of{4}, at_beta{0.2}); }) < 10);
  for (double kl : {0.1, 0.5, 1.0}) {
    CHECK(fastest([&] { optimal_transform(best_of{4}, at_kl{kl}); }) < 10);
    CHECK(fastest([&] { optimal_transform(worst_of{4}, at_kl{kl}); }) < 10);
  }
}
#endif
