// SPDX-License-Identifier: MIT
#include <infalign/testing/log.hpp>

#include "arrays.hpp"

#include <vector>

using namespace infalign;

TEST_CASE("A log whose shaped rewards follow the raw ones passes") {
  const std::vector<int> prompt{7, 3, 7, 3, 7};
  const array<double> raw{{1, 5, 2, 5, NaN}}, shaped{{10, -1, 20, -1, NaN}};
  CHECK(checks::log_keeps_order(prompt, raw, shaped));
  CHECK(checks::log_keeps_distinct(prompt, raw, shaped));
  CHECK(checks::log_keeps_ties(prompt, raw, shaped));
  CHECK(checks::log_keeps_unscored(prompt, raw, shaped));
}

TEST_CASE("Prompts out of order are named, with two responses of the first") {
  const std::vector<int> prompt{240, 17, 17, 240, 17, 1, 1};
  const array<double> raw{{1, 1, 2, 3, 3, 0, 1}}, shaped{{5, 1, 2, 4, 0, 0, 9}};
  const auto r = checks::log_keeps_order(prompt, raw, shaped);
  CHECK(!r);
  CHECK(r.finding == "The shaped rewards are not a monotone function of the raw ones for 2 of 3 prompts: 17, 240.");
  CHECK(r.cases == 3);
  CHECK(r.counterexample.names == std::vector<std::string>{"prompt", "response", "raw", "shaped"});
  CHECK(same(r.counterexample.columns[0], array<double>{{17, 17}}));
  CHECK(same(r.counterexample.columns[1], array<double>{{1, 4}}));
  CHECK(same(r.counterexample.columns[2], array<double>{{1, 3}}));
  CHECK(same(r.counterexample.columns[3], array<double>{{1, 0}}));
  CHECK(checks::log_keeps_distinct(prompt, raw, shaped));
}

TEST_CASE("Only the first five prompts are named") {
  std::vector<int> prompt;
  array<double> raw(14), shaped(14);
  for (int i = 0; i < 14; ++i) {
    prompt.push_back(i / 2);
    raw[i] = i;
    shaped[i] = -i;
  }
  CHECK(checks::log_keeps_order(prompt, raw, shaped).finding.ends_with(" for 7 of 7 prompts: 0, 1, 2, 3, 4, ..."));
}

TEST_CASE("Clips, broken ties and lost NaN are found") {
  const std::vector<int> prompt{0, 0, 0};
  const array<double> raw{{1, 2, 2}};
  CHECK(!checks::log_keeps_distinct(prompt, raw, array<double>{{1, 1, 1}}));
  CHECK(checks::log_keeps_order(prompt, raw, array<double>{{1, 1, 1}}));
  CHECK(!checks::log_keeps_ties(prompt, raw, array<double>{{1, 2, 3}}));
  const auto r = checks::log_keeps_unscored(prompt, array<double>{{1, NaN, NaN}}, array<double>{{NaN, 0, NaN}});
  CHECK(r.finding == "A number for NaN, or NaN or an infinity for a number, in 2 of 3 responses.");
  CHECK(same(r.counterexample.columns[1], array<double>{{0}}));
  CHECK(!checks::log_keeps_unscored(prompt, raw, array<double>{{1, infinity<double>, 2}}));
  CHECK(checks::log_keeps_order(prompt, array<double>{{1, NaN, 3}}, array<double>{{1, -9, 3}}));
}

TEST_CASE("Columns of unlike sizes are errors") {
  CHECK(error_of([] {
          checks::log_keeps_order({0, 0}, array<double>{{1}}, array<double>{{1, 2}});
        }) == "log_keeps_order: expected 2 raw rewards, one for each prompt index, got 1");
  CHECK(error_of([] {
          checks::log_keeps_unscored({0}, array<double>{{1}}, array<double>{{1, 2}});
        }) == "log_keeps_unscored: expected 1 shaped rewards, one for each prompt index, got 2");
}
