// SPDX-License-Identifier: MIT
#include <infalign/theory/best_exponential.hpp>
#include <infalign/theory/optimal_transform.hpp>

#include "catch.hpp"
#include "gridded_policy.hpp"

#include <algorithm>
#include <ctime>
#include <random>
#include <vector>

using namespace infalign;

namespace {

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

TEST_CASE("The optimum at a beta agrees with an independent Runge-Kutta solver") {
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

// Values of a separate solver (Python, Runge-Kutta with 1e-12).
TEST_CASE("For a soft choice among n, KL, win rates and optima agree with an independent solver") {
  struct row {
    soft_best_of soft;
    double kl, plain, identity, exponential, optimum, beta, W, kl_at_beta, log_p0;
  };
  for (const auto& r : {row{{4, 10},
                            .5510297932707956,
                            .7821512236260373,
                            .79594163,
                            .86041968,
                            .86091800,
                            .21961790,
                            .8700516584,
                            .5435807215,
                            -.6843028799},
                        row{{4, 2},
                            .08373215354605958,
                            .6169152976923729,
                            .76857152,
                            .78032871,
                            .78050830,
                            .22641987,
                            .7986741869,
                            .5854074460,
                            -1.5871085445},
                        row{{4, -6},
                            .3974758340191968,
                            .255455454032298,
                            .85830951,
                            .90140453,
                            .90179735,
                            .25118326,
                            .9196838128,
                            .5796604532,
                            -13.6934843508},
                        row{{16, 8},
                            .9051889255869788,
                            .8508161835692154,
                            .79099024,
                            .89131520,
                            .89266948,
                            .19434827,
                            .8904825856,
                            .4889077032,
                            -.4773565909}}) {
    CAPTURE(r.soft.n, r.soft.lambda);
    // The reference itself, used through the soft choice: its density is g.
    const aligned_policy chosen([&](double u) { return std::log(r.soft.density(u)); }, at_beta{1});
    CHECK(chosen.kl() == near(r.kl, 1e-9));
    CHECK(chosen.win_rate(plain_sampling{}) == near(r.plain, 1e-9));
    CHECK(aligned_policy(identity{}, at_kl{0.5}).win_rate(r.soft) == near(r.identity, 1e-8));
    CHECK(best_exponential(r.soft, at_kl{0.5}).win_rate == near(r.exponential, 1e-8));
    const auto at_half = optimal_transform(r.soft, at_kl{0.5});
    CHECK(at_half.win_rate == near(r.optimum, 1e-8));
    CHECK(at_half.beta == near(r.beta, 1e-8));
    const auto best = optimal_transform(r.soft, at_beta{0.2});
    CHECK(best.win_rate == near(r.W, 1e-8));
    CHECK(best.kl == near(r.kl_at_beta, 1e-8));
    CHECK(best.log_density_at_0 == near(r.log_p0, 1e-7));
  }
  const auto against_one = optimal_transform(soft_best_of{4, 10}, plain_sampling{}, at_beta{0.2});
  CHECK(against_one.win_rate == near(.9151477265, 1e-9));
  CHECK(against_one.kl == near(.2235142136, 1e-8));
  const aligned_policy soft(soft_logarithm{4, 10}, at_beta{1. / 3});
  CHECK(soft.kl() == near(.551029793271, 1e-10));
  for (const double u : {0.1, 0.5, 0.9}) CHECK(soft.cdf(u) == near(soft_best_of{4, 10}.cdf(u), 1e-11));
}

TEST_CASE("Win rates at one KL: four transforms stay below the optimum, whose beta is found") {
  const auto check = [](const auto& procedure, double sign, double kl, std::vector<double> W, double beta) {
    CAPTURE(kl, beta);
    const auto of = [&](const auto& phi) { return aligned_policy(phi, at_kl{kl}).win_rate(procedure); };
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

// Worst-of-2 against best-of-16 at β = 0.216: one solution hardly wins, another gives up almost all of the KL for a win rate
// of 0.66.
TEST_CASE("Of several solutions the best is returned: no other policy has a higher W - beta KL") {
  const double beta = 0.216;
  const auto best = optimal_transform(worst_of{2}, best_of{16}, at_beta{beta});
  const double gain = best.win_rate - beta * best.kl;
  CHECK(best.win_rate == near(0.66, 0.005));
  CHECK(gain > 0.03);
  for (const double t : {-20., -5., 0., 2., 5., 10., 20., 50.})
    for (const double kl : {0.1, 0.5, 1., 2., 3.}) {
      const aligned_policy other(normalized_exponential{t}, at_kl{kl});
      CHECK(other.win_rate(worst_of{2}, best_of{16}) - beta * kl < gain);
    }
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

TEST_CASE("The optimum satisfies its equation, and the policy of its transform has its KL and win rate") {
  const auto check = [](const auto& t1, const auto& t2, double beta) {
    CAPTURE(beta);
    const auto best = optimal_transform(t1, t2, at_beta{beta});
    const aligned_policy policy(best, at_beta{beta});
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

TEST_CASE("A procedure from its CDF alone has the optimum of the procedure with a density") {
  const auto check = [](const auto& t, auto at) {
    const auto best = optimal_transform(t, at),
               numeric = optimal_transform(from_cdf([&](double u) { return t.cdf(u); }), at);
    CHECK(numeric.residual < 1e-8);
    CHECK(numeric.win_rate == near(best.win_rate, 1e-8));
    CHECK(numeric.kl == near(best.kl, 1e-7));
    CHECK(numeric.beta == near(best.beta, 1e-7));
  };
  check(best_of{4}, at_beta{0.2});
  check(best_of{4}, at_kl{0.5});
  check(worst_of{2}, at_beta{0.3});
  check(order_statistic{3, 5}, at_beta{0.3});
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

// Mirror ascent on a grid of 8,000 from two starts ends in both solutions: at beta = 0.35 in W = 0.027993 and 0.477473,
// at KL 0.025454 and 1.36837; at 0.33 in W = 0.030627 and 0.550512, at KL 0.033219 and 1.58268.
TEST_CASE("If there are several solutions the best is returned, and a KL that the optimum jumps past is rejected") {
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

TEST_CASE("A beta or KL that is invalid or has no solution, and invalid procedures, are rejected") {
  CHECK(error_of([] { optimal_transform(best_of{4}, at_beta{0}); }) ==
        "optimal_transform: expected a beta finite and above 0, got 0");
  for (double kl : {-1.0, 0.0, std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()})
    CHECK(error_of([&] { optimal_transform(best_of{4}, at_kl{kl}); }).substr(0, 55) ==
          "optimal_transform: expected a kl of at least 1e-12, got");
  CHECK(error_of([] {
          optimal_transform(best_of{4}, at_kl{1e6});
        }).starts_with("optimal_transform: expected a kl for which the solution is found (up to "));
  // At this beta the policy is narrower than the rounding of u.
  CHECK(error_of([] { optimal_transform(best_of{4}, at_beta{1e-30}); })
            .starts_with("optimal_transform: expected a beta at which the solution is found to 1e-8, got 1e-30, where "
                         "it is found to "));
  CHECK(error_of([] { optimal_transform(best_of{0}, at_beta{1}); }) == "best_of: expected n of at least 1, got 0");
  CHECK(error_of([] { optimal_transform(best_of{1}, worst_of{0}, at_kl{1}); }) ==
        "worst_of: expected n of at least 1, got 0");
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
