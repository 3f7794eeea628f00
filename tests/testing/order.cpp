// SPDX-License-Identifier: MIT
#include <infalign/testing/order.hpp>

#include "arrays.hpp"

#include <cmath>
#include <vector>

using namespace infalign;
using checks::pipeline;
using checks::response_batch;

namespace {

const std::vector<checks::input> with_length{{}, {.name = "length", .low = 1, .high = 8, .step = 1}};

/// The counterexample's column of this name.
array<double> column(const checks::report& r, const std::string& name) {
  for (std::size_t c = 0; c < r.counterexample.names.size(); ++c)
    if (r.counterexample.names[c] == name) return r.counterexample.columns[c];
  return {};
}

}  // namespace

TEST_CASE("increasing finds an input that lowers its own result, and says where") {
  const pipeline bump{[](const response_batch& b) -> array<double> { return (b["reward"] - 2).square(); }};
  const auto r = checks::increasing(bump, "reward");
  CHECK(!r);
  CHECK(r.check == "increasing(\"reward\")");
  CHECK(r.finding == "Raising the reward of response 0 (0) to 0.125 changes its result from 4 to 3.51562.");
  CHECK(same(column(r, "reward"), array<double>{{0}}));
  CHECK(same(column(r, "raised"), array<double>{{0.125}}));
  CHECK(same(column(r, "result"), array<double>{{4}}));
  CHECK(same(column(r, "result then"), array<double>{{3.515625}}));
}

TEST_CASE("increasing and decreasing look at the input that they are told") {
  const pipeline f{[](const response_batch& b) -> array<double> { return b["reward"] - b["length"]; }, with_length};
  CHECK(checks::increasing(f, "reward"));
  CHECK(!checks::increasing(f, "length"));
  CHECK(checks::decreasing(f, "length"));
  CHECK(!checks::decreasing(f, "reward"));
  CHECK(checks::increasing(f, "reward", true));
  CHECK(checks::decreasing(f, "length", true));
  CHECK(error_of([&] { checks::increasing(f, "tokens"); }) == "increasing: expected the name of an input, got tokens");
  CHECK(error_of([&] { checks::dominates(f, "tokens"); }) == "dominates: expected the name of an input, got tokens");
}

// A dip that is narrower than the step of the input, or that only values of other responses reach, is met too.
TEST_CASE("increasing finds dips and flat parts wherever they are") {
  for (const double at : {-3.875, -1.0, 0.0, 0.125, 2.5, 3.875}) {
    CAPTURE(at);
    const pipeline dip{[=](const response_batch& b) -> array<double> {
      return (b["reward"] == at).select(b["reward"] - 0.25, b["reward"]);
    }};
    CHECK(!checks::increasing(dip, "reward", false, {.cases = 2000}));
    const pipeline flat{[=](const response_batch& b) -> array<double> {
      return (b["reward"] == at).select(b["reward"] - 0.125, b["reward"]);
    }};
    CHECK(checks::increasing(flat, "reward"));
    CHECK(!checks::increasing(flat, "reward", true, {.cases = 2000}));
  }
}

TEST_CASE("A change that the tolerance allows is no fall, but it is no strict rise") {
  const pipeline rounded{[](const response_batch& b) -> array<double> { return b["reward"] * -1e-8; }};
  CHECK(checks::increasing(rounded, "reward"));
  CHECK(!checks::increasing(rounded, "reward", false, {.tolerance = 1e-10}));
  CHECK(!checks::increasing(rounded, "reward", true));
  const pipeline tiny{[](const response_batch& b) -> array<double> { return b["reward"] * 1e-8; }};
  CHECK(checks::increasing(tiny, "reward", true));
}

TEST_CASE("keeps_order compares responses to one prompt that differ in one input") {
  const pipeline by_length{[](const response_batch& b) -> array<double> { return b["reward"] - 10 * b["length"]; },
                           with_length};
  CHECK(checks::keeps_order(by_length, "reward"));
  const auto r = checks::dominates(by_length, "reward");
  CHECK(!r);
  CHECK(r.responses == 2);
  const auto reward = column(r, "reward"), length = column(r, "length"), result = column(r, "result");
  CHECK((reward[0] - reward[1]) * (length[0] - length[1]) > 0);
  CHECK((reward[0] - reward[1]) * (result[0] - result[1]) < 0);

  const pipeline reversed{[](const response_batch& b) -> array<double> { return -b["reward"]; }, with_length};
  CHECK(!checks::keeps_order(reversed, "reward"));
  CHECK(!checks::dominates(reversed, "reward"));
  const pipeline plain{[](const response_batch& b) { return b["reward"]; }, with_length};
  CHECK(checks::dominates(plain, "reward"));
}

TEST_CASE("Prompts are not compared with each other") {
  const pipeline shifted{[](const response_batch& b) {
    array<double> result = b["reward"];
    for (Eigen::Index i = 0; i < b.size(); ++i) result[i] -= 100 * b.prompt[static_cast<std::size_t>(i)];
    return result;
  }};
  CHECK(checks::keeps_order(shifted, "reward"));
  CHECK(checks::dominates(shifted, "reward"));
  CHECK(checks::keeps_ties(shifted, "reward"));
}

TEST_CASE("keeps_ties and keeps_distinct tell what is tied and what is not") {
  const pipeline clipped{[](const response_batch& b) -> array<double> { return b["reward"].min(1.0); }};
  CHECK(checks::keeps_ties(clipped, "reward"));
  const auto lost = checks::keeps_distinct(clipped, "reward");
  CHECK(!lost);
  CHECK(lost.finding.ends_with("a difference is lost."));
  const pipeline by_place{[](const response_batch& b) -> array<double> {
    return b["reward"] + 1e-3 * array<double>::LinSpaced(b.size(), 0, 1);
  }};
  CHECK(checks::keeps_distinct(by_place, "reward"));
  const auto broken = checks::keeps_ties(by_place, "reward");
  CHECK(!broken);
  CHECK(broken.finding ==
        "Responses 0 and 1 to prompt 0 have \"reward\" 0 and 0, and the results 0 and 0.001: a tie is broken.");
}
