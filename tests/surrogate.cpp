// SPDX-License-Identifier: MIT
#include <infalign/surrogate.hpp>

#include "catch.hpp"

#include <limits>

using namespace infalign;

namespace {

template <class F>
surrogate_term<double> at(const F& f, double ratio, double advantage, double log_probability = -2) {
  return f(log_probability, std::log(ratio), advantage);
}

void check(const surrogate_term<double>& term, double loss, double slope, double ratio, int clipped) {
  CHECK(term.loss == near(loss, 1e-14));
  CHECK(term.slope == near(slope, 1e-14));
  CHECK(term.ratio == near(ratio, 1e-14 * ratio));
  CHECK(term.clipped == clipped);
}

const double NaN = std::numeric_limits<double>::quiet_NaN();
const double infinity = std::numeric_limits<double>::infinity();

}  // namespace

// L = −A·log π
TEST_CASE("REINFORCE by hand") {
  check(at(reinforce{}, 1, 3), 6, -3, 1, 0);
  check(at(reinforce{}, 1, -3), -6, 3, 1, 0);
  check(at(reinforce{}, 1, 0), 0, 0, 1, 0);
}

// L = −min(ρA, clip(ρ, 1 − low, 1 + high)·A), slope by log ρ
TEST_CASE("PPO's clip by hand") {
  const ppo_clip clip{.low = 0.25, .high = 0.5};
  check(at(clip, 1, 2), -2, -2, 1, 0);
  check(at(clip, 1.4, 2), -2.8, -2.8, 1.4, 0);
  check(at(clip, 3, 2), -3, 0, 3, 1);         // high, A > 0: held at 1.5
  check(at(clip, 3, -2), 6, 6, 3, 0);         // high, A < 0: the worse of the two is the unclipped
  check(at(clip, 0.5, 2), -1, -1, 0.5, 0);    // low, A > 0: likewise
  check(at(clip, 0.5, -2), 1.5, 0, 0.5, -1);  // low, A < 0: held at 0.75
  check(at(clip, 3, 0), 0, 0, 3, 0);          // A = 0: neither is held
  check(at(clip, 0.5, 0), 0, 0, 0.5, 0);
  CHECK(ppo_clip{}.low == 0.2);
  CHECK(ppo_clip{}.high == 0.2);
  CHECK(ppo_clip{}.dual == 0);
}

TEST_CASE("The log-probability itself is not looked at by a ratio surrogate") {
  check(at(ppo_clip{}, 1.1, 2, -100), -2.2, -2.2, 1.1, 0);
}

// For A < 0 the loss is at most −dual·A.
TEST_CASE("The dual clip bounds the loss of a bad response that became likely") {
  const ppo_clip dual{.low = 0.25, .high = 0.5, .dual = 4};
  check(at(dual, 3, -2), 6, 6, 3, 0);
  check(at(dual, 5, -2), 8, 0, 5, 1);
  check(at(dual, 5, 2), -3, 0, 5, 1);
  check(at(dual, 0.5, -2), 1.5, 0, 0.5, -1);
  check(at(ppo_clip{.low = 0.25, .high = 0.5}, 5, -2), 10, 10, 5, 0);
}

TEST_CASE("At its bounds the clip is continuous, and does not hold yet") {
  const ppo_clip clip{.low = 0.25, .high = 1, .dual = 4};
  const auto exactly = [&](double ratio, double A) { return clip(-2.0, std::log(ratio), A); };
  check(at(ppo_clip{.low = 0, .high = 0}, 1, 3), -3, -3, 1, 0);
  check(at(ppo_clip{.low = 0, .high = 0}, 1, -3), 3, 3, 1, 0);
  for (double edge : {0.75, 2.0, 4.0})
    for (double A : {-1.0, 1.0}) {
      const double below = exactly(edge * (1 - 1e-9), A).loss, above = exactly(edge * (1 + 1e-9), A).loss;
      CHECK(above == near(below, 1e-8));
    }
}

TEST_CASE("The three clips differ in what their ratio is of") {
  CHECK(reinforce::ratio == ratio_of::nothing);
  CHECK(ppo_clip::ratio == ratio_of::token);
  CHECK(sequence_clip::ratio == ratio_of::sequence);
  CHECK(gspo_clip::ratio == ratio_of::sequence_geometric_mean);
  CHECK(cispo::ratio == ratio_of::token);
  check(at(sequence_clip{.low = 0.25, .high = 0.5}, 3, 2), -3, 0, 3, 1);
  check(at(gspo_clip{.low = 0.25, .high = 0.5}, 0.5, -2), 1.5, 0, 0.5, -1);
}

// L = −clip(ρ)·A·log π, the clipped ratio held constant
TEST_CASE("CISPO by hand: a clipped token keeps its gradient") {
  const cispo clip{.low = 0.25, .high = 0.5};
  check(at(clip, 1, 2), 4, -2, 1, 0);
  check(at(clip, 1.25, -2), -5, 2.5, 1.25, 0);
  check(at(clip, 3, 2), 6, -3, 3, 1);          // weight 1.5
  check(at(clip, 3, -2), -6, 3, 3, 1);         // whatever the sign
  check(at(clip, 0.5, 2), 3, -1.5, 0.5, -1);   // weight 0.75
  check(at(cispo{}, 100, 1), 10, -5, 100, 1);  // by default at most 5, and no lower bound
  check(at(cispo{}, 1e-6, 1), 2e-6, -1e-6, 1e-6, 0);
}

TEST_CASE("A ratio above e^20 goes on as a straight line in its logarithm, and nothing overflows") {
  const sequence_clip unclipped{.low = 1, .high = 1e12};
  const double e20 = std::exp(20.0);
  const auto at_cap = unclipped(0.0, 20.0, -1.0), beyond = unclipped(0.0, 22.0, -1.0);
  CHECK(at_cap.loss == near(e20, 1e-6));
  CHECK(at_cap.slope == near(e20, 1e-6));
  CHECK(beyond.loss == near(3 * e20, 1e-5));
  CHECK(beyond.slope == near(e20, 1e-6));  // the gradient never vanishes
  CHECK(unclipped(0.0, std::nextafter(20.0, 21.0), -1.0).loss == near(e20, 1e-4));
  CHECK(unclipped(0.0f, 1000.0f, -1.0f).loss == near(981 * e20, 1e-6 * 981 * e20));
  CHECK(unclipped(0.0, -1000.0, -1.0).loss == 0);
  CHECK(ppo_clip{}(0.0f, 1e30f, 1.0f).loss == -1.2f);
}

TEST_CASE("Single precision agrees with double") {
  for (double ratio : {0.1, 0.79, 1.0, 1.19, 5.0})
    for (double A : {-1.5, 1.5}) {
      const auto same = [&](const auto& f) {
        const auto d = f(-0.7, std::log(ratio), A);
        const auto s = f(-0.7f, static_cast<float>(std::log(ratio)), static_cast<float>(A));
        CHECK(static_cast<double>(s.loss) == near(d.loss, 1e-6 * (1 + std::abs(d.loss))));
        CHECK(static_cast<double>(s.slope) == near(d.slope, 1e-6 * (1 + std::abs(d.slope))));
        CHECK(s.clipped == d.clipped);
      };
      same(reinforce{});
      same(ppo_clip{.dual = 3});
      same(cispo{.low = 0.2, .high = 0.2});
    }
}

TEST_CASE("A surrogate refuses parameters that clip nothing sensible") {
  const auto refused = [](const auto& f) { return error_of([&] { f.check(); }); };
  CHECK(refused(ppo_clip{}) == "no error");
  CHECK(refused(ppo_clip{.low = 0, .high = 0, .dual = 1.01}) == "no error");
  CHECK(refused(ppo_clip{.low = 1, .high = 1e9}) == "no error");
  CHECK(refused(ppo_clip{.low = -0.1}) == "ppo_clip: expected low in [0, 1], got -0.1");
  CHECK(refused(ppo_clip{.low = 1.5}) == "ppo_clip: expected low in [0, 1], got 1.5");
  CHECK(refused(ppo_clip{.low = NaN}) == "ppo_clip: expected low in [0, 1], got NaN");
  CHECK(refused(ppo_clip{.high = -1}) == "ppo_clip: expected high finite and at least 0, got -1");
  CHECK(refused(ppo_clip{.high = infinity}) == "ppo_clip: expected high finite and at least 0, got inf");
  CHECK(refused(ppo_clip{.dual = 1}) == "ppo_clip: expected dual of 0 (none) or above 1, got 1");
  CHECK(refused(ppo_clip{.dual = -2}) == "ppo_clip: expected dual of 0 (none) or above 1, got -2");
  CHECK(refused(ppo_clip{.dual = NaN}) == "ppo_clip: expected dual of 0 (none) or above 1, got NaN");
  CHECK(refused(ppo_clip{.dual = infinity}) == "ppo_clip: expected dual of 0 (none) or above 1, got inf");
  CHECK(refused(sequence_clip{.low = 2}) == "sequence_clip: expected low in [0, 1], got 2");
  CHECK(refused(gspo_clip{.dual = 0.5}) == "gspo_clip: expected dual of 0 (none) or above 1, got 0.5");
  CHECK(refused(cispo{}) == "no error");
  CHECK(refused(cispo{.low = 2}) == "cispo: expected low in [0, 1], got 2");
  CHECK(refused(cispo{.high = NaN}) == "cispo: expected high finite and at least 0, got NaN");
}
