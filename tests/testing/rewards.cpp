// SPDX-License-Identifier: MIT
#include <infalign/testing/rewards.hpp>

#include "arrays.hpp"
#include "pipelines.hpp"

#include <stdexcept>

using namespace infalign;
using checks::pipeline;
using checks::response_batch;
using Eigen::Index;

TEST_CASE("in_range and finite look at every result") {
  CHECK(checks::in_range(unchanged, -4, 4));
  const auto low = checks::in_range(unchanged, -3.5, 4), high = checks::in_range(unchanged, -4, 3.25);
  CHECK(low.finding == "The result of response 0 is -4.");
  CHECK(high.finding == "The result of response 0 is 4.");
  CHECK(checks::finite(unchanged));
  for (const double bad : {NaN, infinity<double>, -infinity<double>}) {
    const pipeline at_two{
        [=](const response_batch& b) -> array<double> { return (b["reward"] == 2).select(bad, b["reward"]); }};
    const auto r = checks::finite(at_two);
    CHECK(!r);
    CHECK(r.check == "finite");
    CHECK(r.counterexample.columns[1][0] == 2);
  }
}

TEST_CASE("zero_mean is of each prompt") {
  CHECK(checks::zero_mean(minus_mean));
  const pipeline of_batch{[](const response_batch& b) -> array<double> { return b["reward"] - b["reward"].mean(); }};
  const auto r = checks::zero_mean(of_batch);
  CHECK(!r);
  CHECK(r.prompts == 2);
  CHECK(r.responses == 2);
}

TEST_CASE("Equal responses have the result 0") {
  CHECK(checks::zero_for_equal_responses(minus_mean));
  const auto r = checks::zero_for_equal_responses(unchanged);
  CHECK(r.finding == "All responses to prompt 0 are made equal to response 0, and the result of response 0 is 1.");
  CHECK(r.responses == 1);
}

TEST_CASE("An unscored response has the result that is claimed") {
  CHECK(checks::keeps_unscored(minus_mean, "reward"));
  const pipeline zero{
      [&](const response_batch& b) -> array<double> { return b["reward"].isNaN().select(0.0, minus_mean(b)); }};
  CHECK(checks::keeps_unscored(zero, "reward", 0));
  const auto r = checks::keeps_unscored(zero, "reward");
  CHECK(r.check == "keeps_unscored(\"reward\", NaN)");
  CHECK(r.finding == "If the reward of response 0 is NaN, its result is 0 instead of NaN.");
  CHECK(r.responses == 1);
  CHECK(!checks::keeps_unscored(minus_mean, "reward", 0));
}

TEST_CASE("An unscored response does not affect its siblings") {
  CHECK(checks::ignores_unscored(minus_mean, "reward"));
  const pipeline counts_as_zero{[](const response_batch& b) -> array<double> {
    const array<double> r = b["reward"].isNaN().select(0.0, b["reward"]);
    return b["reward"].isNaN().select(NaN, r - r.mean());
  }};
  CHECK(checks::keeps_unscored(counts_as_zero, "reward"));
  const auto r = checks::ignores_unscored(counts_as_zero, "reward");
  CHECK(!r);
  CHECK(r.responses == 2);
  CHECK(r.finding.ends_with("; if it is left out, 0."));
  CHECK(detail::is_nan(r.counterexample.columns.back().sum()));
  // A group of two that must not be made smaller is not tried.
  CHECK(checks::ignores_unscored({counts_as_zero.function, {{}}, true, 5}, "reward", {.cases = 1}).cases == 1);
}

TEST_CASE("rejects wants an exception wherever the wrong input is") {
  const pipeline strict{[](const response_batch& b) {
    if (!b["reward"].isFinite().all()) throw std::invalid_argument("not finite");
    return b["reward"];
  }};
  CHECK(checks::rejects(strict, "reward", NaN).check == "rejects(\"reward\", NaN)");
  CHECK(error_of([&] { checks::rejects(strict, "length", NaN); }) ==
        "rejects: expected the name of an input, got length");
  for (const double bad : {NaN, infinity<double>, -infinity<double>}) {
    CHECK(checks::rejects(strict, "reward", bad));
    CHECK(!checks::rejects(unchanged, "reward", bad));
  }
  CHECK(checks::rejects(unchanged, "reward", infinity<double>).finding ==
        "The reward inf of response 0 is accepted, with the result inf.");
  const pipeline looks_at_first{[](const response_batch& b) {
    if (detail::is_nan(b["reward"][0])) throw std::invalid_argument("NaN");
    return b["reward"];
  }};
  CHECK(!checks::rejects(looks_at_first, "reward", NaN));
}

TEST_CASE("deterministic finds what remembers") {
  CHECK(checks::deterministic(minus_mean));
  double calls = 0;
  CHECK(!checks::deterministic(
      pipeline{[&](const response_batch& b) -> array<double> { return b["reward"] + ++calls; }}));
  // A running maximum: the same batch twice in a row has the same results, another one in between changes them.
  double largest = 0;
  const auto r = checks::deterministic(pipeline{[&](const response_batch& b) -> array<double> {
    largest = std::max(largest, b["reward"].maxCoeff());
    return b["reward"] / (1 + largest);
  }});
  CHECK(!r);
  CHECK(r.finding.starts_with("Another batch in between changes"));
}
