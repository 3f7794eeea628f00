// SPDX-License-Identifier: MIT
#include <infalign/step/surrogate.hpp>

#include "arrays.hpp"

using namespace infalign;

static_assert(surrogate<reinforce> && surrogate<ppo_clip> && surrogate<sequence_clip> && surrogate<gspo_clip> &&
              surrogate<cispo> && surrogate<regression>);

namespace {

/// The term of one unit.
template <class F, class S>
surrogate_term<S> term_of(const F& f, S log_probability, S log_ratio, S advantage) {
  return f.prepare(advantage)(log_probability, probability_ratio<S>(log_ratio));
}
template <class F>
surrogate_term<double> at(const F& f, double ratio, double advantage, double log_probability = -2) {
  return term_of(f, log_probability, std::log(ratio), advantage);
}

void check(const surrogate_term<double>& term, double loss, double slope, double clipped) {
  CHECK(term.loss == near(loss, 1e-14));
  CHECK(term.slope == near(slope, 1e-14));
  CHECK(term.clipped == clipped);
}

}  // namespace

// L = −A·log π
TEST_CASE("REINFORCE has loss -A log p and slope -A") {
  check(at(reinforce{}, 1, 3), 6, -3, 0);
  check(at(reinforce{}, 1, -3), -6, 3, 0);
  check(at(reinforce{}, 1, 0), 0, 0, 0);
}

// L = (βδ − T)²/(2β), slope βδ − T
TEST_CASE("The regression has the loss (βδ − T)²/(2β) and the slope βδ − T") {
  check(at(regression{.beta = 0.5}, 1, 3, -2), 16, -4, 0);
  check(at(regression{.beta = 0.5}, 7, -3, -2), 4, 2, 0);
  check(at(regression{.beta = 2}, 1, -4, -2), 0, 0, 0);
  for (const double wrong : {0., -1., NaN, infinity<double>})
    CHECK(error_of([&] { regression{wrong}.check(); }) ==
          "regression: expected a beta finite and above 0, got " + detail::concat(wrong));
}

// L = −min(ρA, clip(ρ, 1 − low, 1 + high)·A), slope by log ρ
TEST_CASE("PPO's clip bounds the ratio from above for A > 0, and from below for A < 0") {
  const ppo_clip clip{.low = 0.25, .high = 0.5};
  check(at(clip, 1, 2), -2, -2, 0);
  check(at(clip, 1.4, 2), -2.8, -2.8, 0);
  check(at(clip, 3, 2), -3, 0, 1);       // high, A > 0: clipped to 1.5
  check(at(clip, 3, -2), 6, 6, 0);       // high, A < 0: the unclipped one is worse
  check(at(clip, 0.5, 2), -1, -1, 0);    // low, A > 0: unclipped
  check(at(clip, 0.5, -2), 1.5, 0, -1);  // low, A < 0: clipped to 0.75
  check(at(clip, 3, 0), 0, 0, 0);        // A = 0: neither is clipped
  check(at(clip, 0.5, 0), 0, 0, 0);
  CHECK(ppo_clip{}.low == 0.2);
  CHECK(ppo_clip{}.high == 0.2);
  CHECK(ppo_clip{}.dual == 0);
}

TEST_CASE("A ratio surrogate does not depend on the log-probability itself") {
  check(at(ppo_clip{}, 1.1, 2, -100), -2.2, -2.2, 0);
}

// For A < 0 the loss is at most −dual·A.
TEST_CASE("The dual clip bounds the loss of a bad response that became likely") {
  const ppo_clip dual{.low = 0.25, .high = 0.5, .dual = 4};
  check(at(dual, 3, -2), 6, 6, 0);
  check(at(dual, 5, -2), 8, 0, 1);
  check(at(dual, 5, 2), -3, 0, 1);
  check(at(dual, 0.5, -2), 1.5, 0, -1);
  check(at(ppo_clip{.low = 0.25, .high = 0.5}, 5, -2), 10, 10, 0);
}

TEST_CASE("The clip is continuous at its bounds, and a ratio at a bound is not clipped") {
  const ppo_clip clip{.low = 0.25, .high = 1, .dual = 4};
  const auto exactly = [&](double ratio, double A) { return at(clip, ratio, A); };
  check(at(ppo_clip{.low = 0, .high = 0}, 1, 3), -3, -3, 0);
  check(at(ppo_clip{.low = 0, .high = 0}, 1, -3), 3, 3, 0);
  for (double edge : {0.75, 2.0, 4.0})
    for (double A : {-1.0, 1.0}) {
      const double below = exactly(edge * (1 - 1e-9), A).loss, above = exactly(edge * (1 + 1e-9), A).loss;
      CHECK(above == near(below, 1e-8));
    }
}

TEST_CASE("The three clips differ in the unit of their ratio") {
  CHECK(reinforce::ratio == ratio_of::nothing);
  CHECK(ppo_clip::ratio == ratio_of::token);
  CHECK(sequence_clip::ratio == ratio_of::sequence);
  CHECK(gspo_clip::ratio == ratio_of::sequence_geometric_mean);
  CHECK(cispo::ratio == ratio_of::token);
  check(at(sequence_clip{.low = 0.25, .high = 0.5}, 3, 2), -3, 0, 1);
  check(at(gspo_clip{.low = 0.25, .high = 0.5}, 0.5, -2), 1.5, 0, -1);
}

// L = −clip(ρ)·A·log π, the clipped ratio without gradient
TEST_CASE("A token that CISPO clips has a gradient") {
  const cispo clip{.low = 0.25, .high = 0.5};
  check(at(clip, 1, 2), 4, -2, 0);
  check(at(clip, 1.25, -2), -5, 2.5, 0);
  check(at(clip, 3, 2), 6, -3, 1);        // weight 1.5
  check(at(clip, 3, -2), -6, 3, 1);       // for either sign
  check(at(clip, 0.5, 2), 3, -1.5, -1);   // weight 0.75
  check(at(cispo{}, 100, 1), 10, -5, 1);  // by default at most 5, and no lower bound
  check(at(cispo{}, 1e-6, 1), 2e-6, -1e-6, 0);
}

TEST_CASE("A ratio above e^20 is extrapolated linearly in its logarithm, and nothing overflows") {
  const sequence_clip unclipped{.low = 1, .high = 1e12};
  const double e20 = std::exp(20.0);
  const auto at_cap = term_of(unclipped, 0.0, 20.0, -1.0), beyond = term_of(unclipped, 0.0, 22.0, -1.0);
  CHECK(at_cap.loss == near(e20, 1e-6));
  CHECK(at_cap.slope == near(e20, 1e-6));
  CHECK(beyond.loss == near(3 * e20, 1e-5));
  CHECK(beyond.slope == near(e20, 1e-6));  // the gradient never vanishes
  CHECK(term_of(unclipped, 0.0, std::nextafter(20.0, 21.0), -1.0).loss == near(e20, 1e-4));
  CHECK(term_of(unclipped, 0.0f, 1000.0f, -1.0f).loss == near(981 * e20, 1e-6 * 981 * e20));
  CHECK(term_of(unclipped, 0.0, -1000.0, -1.0).loss == 0);
  CHECK(term_of(ppo_clip{}, 0.0f, 1e30f, 1.0f).loss == -1.2f);
}

TEST_CASE("Single precision agrees with double") {
  for (double ratio : {0.1, 0.79, 1.0, 1.19, 5.0})
    for (double A : {-1.5, 1.5}) {
      const auto check_of = [&](const auto& f) {
        const auto d = term_of(f, -0.7, std::log(ratio), A);
        const auto s = term_of(f, -0.7f, static_cast<float>(std::log(ratio)), static_cast<float>(A));
        CHECK(static_cast<double>(s.loss) == near(d.loss, 1e-6 * (1 + std::abs(d.loss))));
        CHECK(static_cast<double>(s.slope) == near(d.slope, 1e-6 * (1 + std::abs(d.slope))));
        CHECK(static_cast<double>(s.clipped) == d.clipped);
      };
      check_of(reinforce{});
      check_of(ppo_clip{.dual = 3});
      check_of(cispo{.low = 0.2, .high = 0.2});
    }
}

TEST_CASE("Invalid clip bounds are rejected") {
  const auto rejected = [](const auto& f) { return error_of([&] { f.check(); }); };
  CHECK(rejected(ppo_clip{}) == "no error");
  CHECK(rejected(ppo_clip{.low = 0, .high = 0, .dual = 1.01}) == "no error");
  CHECK(rejected(ppo_clip{.low = 1, .high = 1e9}) == "no error");
  CHECK(rejected(ppo_clip{.low = -0.1}) == "ppo_clip: expected low in [0, 1], got -0.1");
  CHECK(rejected(ppo_clip{.low = 1.5}) == "ppo_clip: expected low in [0, 1], got 1.5");
  CHECK(rejected(ppo_clip{.low = NaN}) == "ppo_clip: expected low in [0, 1], got NaN");
  CHECK(rejected(ppo_clip{.high = -1}) == "ppo_clip: expected high finite and at least 0, got -1");
  CHECK(rejected(ppo_clip{.high = infinity<double>}) == "ppo_clip: expected high finite and at least 0, got inf");
  CHECK(rejected(ppo_clip{.dual = 1}) == "ppo_clip: expected dual of 0 (none) or above 1, got 1");
  CHECK(rejected(ppo_clip{.dual = -2}) == "ppo_clip: expected dual of 0 (none) or above 1, got -2");
  CHECK(rejected(ppo_clip{.dual = NaN}) == "ppo_clip: expected dual of 0 (none) or above 1, got NaN");
  CHECK(rejected(ppo_clip{.dual = infinity<double>}) == "ppo_clip: expected dual of 0 (none) or above 1, got inf");
  CHECK(rejected(sequence_clip{.low = 2}) == "sequence_clip: expected low in [0, 1], got 2");
  CHECK(rejected(gspo_clip{.dual = 0.5}) == "gspo_clip: expected dual of 0 (none) or above 1, got 0.5");
  CHECK(rejected(cispo{}) == "no error");
  CHECK(rejected(cispo{.low = 2}) == "cispo: expected low in [0, 1], got 2");
  CHECK(rejected(cispo{.high = NaN}) == "cispo: expected high finite and at least 0, got NaN");
}

TEST_CASE("The ends of a clip in place of its distances from 1 are an error") {
  CHECK(
      error_of([] { ppo_clip{.low = 0.8, .high = 1.2}.check(); }) ==
      "ppo_clip: expected low and high as distances from 1, such as 0.2 and 0.2, got 0.8 and 1.2, which are the ends");
  CHECK(error_of([] { cispo{.low = 0.8, .high = 1.28}.check(); }) ==
        "cispo: expected low and high as distances from 1, such as 0.2 and 0.2, got 0.8 and 1.28, which are the ends");
  CHECK(error_of([] { sequence_clip{.low = 1, .high = 1.2}.check(); }) == "no error");
  CHECK(error_of([] { cispo{.low = 0.8, .high = 4}.check(); }) == "no error");
  CHECK(error_of([] { ppo_clip{.low = 0.2, .high = 1.2}.check(); }) == "no error");
}
