// SPDX-License-Identifier: MIT
#include <infalign/step/advantage.hpp>
#include <infalign/testing.hpp>

#include "arrays.hpp"
#include "testing/museum.hpp"

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

// Every check of testing/ against every kind of pipeline: which finds what, and that none is alarmed by right code.

using namespace infalign;
using checks::pipeline;
using checks::response_batch;
using checks::scope;

namespace {

/// The number of cases for code that has to pass: INFALIGN_CHECK_CASES, or 200. tests/README.md has the results of 10,000.
int many_cases() {
  const char* chosen = std::getenv("INFALIGN_CHECK_CASES");
  return chosen ? std::atoi(chosen) : 200;
}

using check_of = std::function<checks::report(const pipeline&, const checks::options&)>;

const std::vector<std::pair<const char*, check_of>> all_checks{
    {"increasing", [](const auto& f, const auto& o) { return checks::increasing(f, "reward", false, o); }},
    {"strictly", [](const auto& f, const auto& o) { return checks::increasing(f, "reward", true, o); }},
    {"decreasing", [](const auto& f, const auto& o) { return checks::decreasing(f, "length", false, o); }},
    {"keeps_order", [](const auto& f, const auto& o) { return checks::keeps_order(f, "reward", o); }},
    {"dominates", [](const auto& f, const auto& o) { return checks::dominates(f, "reward", o); }},
    {"keeps_distinct", [](const auto& f, const auto& o) { return checks::keeps_distinct(f, "reward", o); }},
    {"keeps_ties", [](const auto& f, const auto& o) { return checks::keeps_ties(f, "reward", o); }},
    {"finite", [](const auto& f, const auto& o) { return checks::finite(f, o); }},
    {"in_range", [](const auto& f, const auto& o) { return checks::in_range(f, -1, 1, o); }},
    {"zero_mean", [](const auto& f, const auto& o) { return checks::zero_mean(f, o); }},
    {"zero_if_equal", [](const auto& f, const auto& o) { return checks::zero_for_equal_responses(f, o); }},
    {"shift prompt",
     [](const auto& f, const auto& o) { return checks::invariant_to_shift(f, "reward", scope::prompt, o); }},
    {"shift batch",
     [](const auto& f, const auto& o) { return checks::invariant_to_shift(f, "reward", scope::batch, o); }},
    {"scale", [](const auto& f, const auto& o) { return checks::invariant_to_scale(f, "reward", scope::batch, o); }},
    {"monotone map",
     [](const auto& f, const auto& o) { return checks::invariant_to_monotone_map(f, "reward", scope::prompt, o); }},
    {"scales_with", [](const auto& f, const auto& o) { return checks::scales_with(f, "reward", o); }},
    {"order", [](const auto& f, const auto& o) { return checks::invariant_to_order(f, o); }},
    {"prompts", [](const auto& f, const auto& o) { return checks::independent_prompts(f, o); }},
    {"responses", [](const auto& f, const auto& o) { return checks::independent_responses(f, o); }},
    {"baseline", [](const auto& f, const auto& o) { return checks::baseline_excludes_itself(f, "reward", o); }},
    {"ignores", [](const auto& f, const auto& o) { return checks::ignores_unscored(f, "reward", o); }},
    {"unscored NaN", [](const auto& f, const auto& o) { return checks::keeps_unscored(f, "reward", NaN, o); }},
    {"unscored 0", [](const auto& f, const auto& o) { return checks::keeps_unscored(f, "reward", 0, o); }},
    {"rejects NaN", [](const auto& f, const auto& o) { return checks::rejects(f, "reward", NaN, o); }},
    {"deterministic", [](const auto& f, const auto& o) { return checks::deterministic(f, o); }},
};

/// A pipeline, and a letter for each check: '.' if it has to pass, 'X' if it has to fail.
struct row {
  const char* name;
  pipeline f;
  const char* expected;
};

const std::vector<checks::input> inputs{{}, {.name = "length", .low = 1, .high = 64, .step = 1}};

template <class E>
pipeline advantages(const E& e, Eigen::Index least) {
  return {[e](const response_batch& b) { return advantage(b.prompt, b["reward"], e, unscored::propagate); }, inputs,
          false, least};
}

std::vector<row> table(std::atomic<int>& calls) {
  const auto of = [](auto f) { return pipeline{f, inputs}; };
  using array_of = array<double>;
  return {
      // clang-format off
      //                                                                                        increasing, strictly
      //                                                                                        |  decreasing
      //                                                                                        |  | keeps order, dominates
      //                                                                                        |  | | distinct, ties
      //                                                                                        |  | | | finite, range
      //                                                                                        |  | | | | zero mean, if equal
      //                                                                                        |  | | | | | shift, shift, scale, map
      //                                                                                        |  | | | | | |   scales with
      //                                                                                        |  | | | | | |   | order, prompts, responses
      //                                                                                        |  | | | | | |   | |  baseline
      //                                                                                        |  | | | | | |   | |  | ignores, NaN, 0, rejects
      //                                                                                        |  | | | | | |   | |  | |  deterministic
      {"identity", of([](const response_batch& b) { return b["reward"]; }),                     "........XXXXXXX.......XX."},
      {"negated", of([](const response_batch& b) -> array_of { return -b["reward"]; }),         "XX.XX...XXXXXXX....X..XX."},
      {"length penalty", of([](const response_batch& b) -> array_of {
         return b["reward"] - 0.125 * b["length"]; }),                                          "....X...XXXXXXXX......XX."},
      {"clip", of([](const response_batch& b) -> array_of {
         return b["reward"].max(-1.0).min(1.0); }),                                             ".X...X...XXXXXXX...X..XX."},
      {"NaN to 0", of([](const response_batch& b) -> array_of {
         return b["reward"].isNaN().select(0.0, b["reward"]); }),                               "........XXXXXXX......X.X."},
      {"by position", of([](const response_batch& b) -> array_of {
         return b["reward"] + 0.001 * array_of::LinSpaced(b.size(), 0, static_cast<double>(b.size())); }),
                                                                                                "......X.XXXXXXXXXXX.X.XX."},
      {"logarithm", of([](const response_batch& b) -> array_of { return b["reward"].log(); }),  "XX.XXX.XXXXXXXXX...X..XX."},
      {"every second call", of([&](const response_batch& b) -> array_of { return b["reward"] + 9 * (++calls % 2); }),
                                                                                                "XXX.....XXXXXXXXXXXXX.XXX"},
      {"refuses NaN", of([](const response_batch& b) {
         if (b["reward"].isNaN().any()) throw std::invalid_argument("NaN");
         return b["reward"]; }),                                                                "........XXXXXXX.....XXX.."},
      {"leave_one_out", advantages(leave_one_out{}, 2),                                         "........X....XX...X..X.X."},
      {"group_mean", advantages(group_mean{}, 2),                                               "........X....XX...XX.X.X."},
      {"batch_mean", advantages(batch_mean{}, 1),                                               ".X......XXXX.XX..XXX.X.X."},
      {"group_standardized", advantages(group_standardized{}, 2),                               "........X....XXX..XX.X.X."},
      {"batch_standardized", advantages(batch_standardized{}, 2),                               "XX......X..X.XXX.XXX.X.X."},
      {"in float", {[](const response_batch& b) {
          const array<float> r = b["reward"].cast<float>();
          return advantage(b.prompt, r, leave_one_out{}, unscored::propagate); }, inputs, false, 2},
                                                                                                "........X....XX...X..X.X."},
      {"as a matrix", {[](const response_batch& b) {
          return advantage(b.as_matrix("reward"), leave_one_out{}, unscored::propagate); }, inputs, true, 2},
                                                                                                "........X....XX...X..X.X."},
      // clang-format on
  };
}

}  // namespace

TEST_CASE("Each check finds what it is for, and only that") {
  std::atomic<int> calls = 0;
  for (const auto& [name, f, expected] : table(calls)) {
    REQUIRE(std::string(expected).size() == all_checks.size());
    for (std::size_t c = 0; c < all_checks.size(); ++c) {
      const bool passes = expected[c] == '.';
      const auto r = all_checks[c].second(
          f, passes ? checks::options{.seed = 7, .cases = many_cases()} : checks::options{.cases = 5000});
      INFO(name << ": " << r);
      CHECK(r.passed == passes);
      if (!passes) CHECK((r.prompts <= 2 && r.responses <= 4));
    }
  }
}

TEST_CASE("Each bug of the museum is found, in at most 2 prompts and 3 responses, and the right code passes") {
  int exhibits = 0;
  for (const std::uint64_t seed : {std::uint64_t{1}, std::uint64_t{2}, std::uint64_t{3}})
    for (const auto& bugs : {reward_bugs({.seed = seed}), step_bugs({.seed = seed})})
      for (const auto& bug : bugs) {
        INFO(bug.name << "\n" << bug.with_bug << bug.without_bug);
        CHECK(!bug.with_bug);
        CHECK(bug.without_bug);
        CHECK(bug.with_bug.prompts <= 2);
        CHECK(bug.with_bug.responses <= 3);
        CHECK(bug.source.find('#') != std::string::npos);
        ++exhibits;
      }
  CHECK(exhibits == 3 * 24);
}

TEST_CASE("The right versions of the museum pass in many cases") {
  const checks::options many{.seed = 11, .cases = many_cases()};
  for (const auto& bugs : {reward_bugs(many), step_bugs(many)})
    for (const auto& bug : bugs) {
      INFO(bug.name << "\n" << bug.without_bug);
      CHECK(bug.without_bug);
    }
}
