// SPDX-License-Identifier: MIT
#include <infalign/theory/ascent_transform.hpp>
#include <infalign/theory/best_exponential.hpp>
#include <infalign/theory/few_references.hpp>
#include <infalign/theory/mixed_use.hpp>
#include <infalign/theory/optimal_transform.hpp>

#include "arrays.hpp"
#include "gridded_policy.hpp"

#include <cmath>

using namespace infalign;
using Eigen::Index;

namespace {

const mixed_use half_and_half{user_share{0.5, plain_sampling{}}, user_share{0.5, best_of{8}}};

/// The mean win rate of `half_and_half`, by sums over a grid.
double win_rate_of(const gridded& policy) {
  return 0.5 * policy.win_rate(plain_sampling{}, plain_sampling{}) + 0.5 * policy.win_rate(best_of{8}, best_of{8});
}

/// The mass of a policy in cells of a grid.
gridded on_grid(const auto& policy) {
  constexpr Index n = 20000;
  array<double> mass(n);
  for (Index i = 0; i < n; ++i)
    mass[i] = policy.cdf(static_cast<double>(i + 1) / n) - policy.cdf(static_cast<double>(i) / n);
  return gridded(mass);
}

}  // namespace

TEST_CASE("One use with all users is the pair of procedures") {
  const mixed_use all{user_share{1, best_of{4}, plain_sampling{}}};
  const mixed_use twice{user_share{0.25, best_of{4}}, user_share{0.75, best_of{4}}};
  const auto a = optimal_transform(all, at_beta{0.2}),
             b = optimal_transform(best_of{4}, plain_sampling{}, at_beta{0.2});
  CHECK(a.win_rate == b.win_rate);
  CHECK(same(a.transform.value, b.transform.value));
  const auto c = optimal_transform(twice, at_kl{0.5}), d = optimal_transform(best_of{4}, at_kl{0.5});
  CHECK(c.win_rate == near(d.win_rate, 1e-8));
  CHECK(c.beta == near(d.beta, 1e-7));
}

TEST_CASE("The win rate of a mixed use is the weighted mean of the win rates of its uses") {
  const aligned_policy policy(normalized_exponential{6}, at_kl{0.7});
  const mixed_use three{user_share{0.2, plain_sampling{}}, user_share{0.3, best_of{4}, best_of{2}},
                        user_share{0.5, worst_of{3}}};
  CHECK(policy.win_rate(three) ==
        near(0.2 * policy.win_rate(plain_sampling{}) + 0.3 * policy.win_rate(best_of{4}, best_of{2}) +
                 0.5 * policy.win_rate(worst_of{3}),
             1e-10));
  CHECK(policy.loss_rate(three) == near(1 - policy.win_rate(three), 1e-12));
}

// At the optimum log p = Φ/β + const with Φ(u) = ∫₀ᵘ Σ share·g₁(F) g₂, here with the F of the policy that the table gives.
TEST_CASE("The optimum of a mixed use satisfies its equation, and no other policy gains more") {
  const double beta = 0.2;
  const auto best = optimal_transform(half_and_half, at_beta{beta});
  const aligned_policy policy(best.transform, at_beta{beta});
  CHECK(policy.kl() == near(best.kl, 1e-7));
  CHECK(policy.win_rate(half_and_half) == near(best.win_rate, 1e-7));
  double phi = 0, worst = 0;
  constexpr int n = 20000;
  for (int i = 0; i < n; ++i) {  // the rule of midpoints
    const double u = (i + 0.5) / n, F = policy.cdf(u);
    phi += (0.5 + 0.5 * best_of{8}.density(F) * best_of{8}.density(u)) / n;
    worst = std::max(worst, std::abs(best((i + 1.0) / n) - phi));
  }
  CHECK(worst < 1e-5);

  const double gain = best.win_rate - beta * best.kl;
  const auto optimum = on_grid(policy);
  CHECK(win_rate_of(optimum) - beta * optimum.kl() == near(gain, 1e-6));
  const auto gains_less = [&](const auto& phi_of_other, double other_beta) {
    const auto other = on_grid(aligned_policy(phi_of_other, at_beta{other_beta}));
    CHECK(win_rate_of(other) - beta * other.kl() < gain - 1e-4);
  };
  gains_less(identity{}, beta);
  gains_less(optimal_transform(best_of{8}, at_beta{beta}).transform, beta);
  gains_less(best.transform, beta * 1.2);
  gains_less(best.transform, beta / 1.2);
  for (const double t : {2., 5., 10., 15.}) gains_less(normalized_exponential{t}, beta);
}

TEST_CASE("At one KL a mixed use is served better by its own optimum than by that of one of its users") {
  const auto best = optimal_transform(half_and_half, at_kl{0.5});
  CHECK(best.kl == near(0.5, 1e-8));
  const auto wins = [](const auto& phi) { return aligned_policy(phi, at_kl{0.5}).win_rate(half_and_half); };
  CHECK(wins(best.transform) == near(best.win_rate, 1e-7));
  CHECK(wins(identity{}) < best.win_rate - 1e-3);
  CHECK(wins(optimal_transform(best_of{8}, at_kl{0.5}).transform) < best.win_rate - 1e-3);
  const auto exponential = best_exponential(half_and_half, at_kl{0.5});
  CHECK(exponential.win_rate == near(wins(exponential.transform), 1e-9));
  CHECK(exponential.win_rate <= best.win_rate);
  for (const double factor : {0.7, 1.4})
    CHECK(wins(normalized_exponential{exponential.transform.t * factor}) < exponential.win_rate);
  const auto few = best_exponential(half_and_half, at_kl{0.5}, at_count{8});
  CHECK(few.win_rate < exponential.win_rate);
  CHECK(few.transform.t > 0);
}

TEST_CASE("The ascent transform of a mixed use is the weighted sum of those of its uses") {
  const array<double> u{{0.9, 0.2, 0.6, 0.2, 0.75}};
  const auto mixed = ascent_transform(u, half_and_half), plain = ascent_transform(u, plain_sampling{}),
             best = ascent_transform(u, best_of{8});
  CHECK(same(mixed.u, plain.u));
  CHECK(distance(mixed.value, 0.5 * plain.value + 0.5 * best.value) < 1e-15);
}

TEST_CASE("Wrong shares and wrong procedures are rejected") {
  const auto error = [](const auto& use) { return error_of([&] { optimal_transform(use, at_beta{1}); }); };
  const std::string share = "user_share: expected a share finite and above 0, got ";
  CHECK(error(mixed_use{user_share{0, best_of{2}}}) == share + "0");
  CHECK(error(mixed_use{user_share{-0.5, best_of{2}}, user_share{1.5, best_of{2}}}) == share + "-0.5");
  CHECK(error(mixed_use{user_share{NaN, best_of{2}}}) == share + "NaN");
  CHECK(error(mixed_use{user_share{0.5, best_of{2}}, user_share{0.25, best_of{2}}}) ==
        "mixed_use: expected shares that sum to 1, got 0.75");
  CHECK(error(mixed_use{user_share{1, best_of{0}}}) == "best_of: expected n of at least 1, got 0");
  const mixed_use half{user_share{0.5, best_of{2}}};
  CHECK(error_of([&] { best_exponential(half, at_kl{0.5}); }) != "no error");
  CHECK(error_of([&] { best_exponential(half, at_kl{0.5}, at_count{8}); }) != "no error");
  CHECK(error_of([&] { ascent_transform(array<double>{{0.5}}, half); }) != "no error");
  CHECK(error_of([&] { aligned_policy(identity{}, at_beta{1}).win_rate(half); }) != "no error");
}
