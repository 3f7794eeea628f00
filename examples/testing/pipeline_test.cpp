// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#include "pipeline.hpp"

#include <infalign/testing.hpp>
#include <infalign/testing/catch2.hpp>
#include <infalign/testing/threads.hpp>

// The unit tests of a reward pipeline, with Catch2.

using namespace infalign;

namespace {

/// The pipeline, and the inputs that it is tried with.
const checks::pipeline rewards{
    [](const checks::response_batch& b) {
      std::vector<scores> batch;
      for (Eigen::Index i = 0; i < b.size(); ++i)
        batch.push_back({b.prompt[static_cast<std::size_t>(i)], b["helpful"][i], b["safe"][i], b["length"][i]});
      return rewards_of(batch);
    },
    {{.name = "helpful", .low = -8, .high = 8},
     {.name = "safe", .low = -2, .high = 2},
     {.name = "length", .low = 1, .high = 2048, .step = 1}}};

}  // namespace

TEST_CASE("More help and more safety are never worse, and more tokens are never better") {
  CHECK_THAT(checks::increasing(rewards, "helpful"), checks::passes());
  CHECK_THAT(checks::increasing(rewards, "safe"), checks::passes());
  CHECK_THAT(checks::decreasing(rewards, "length"), checks::passes());
}

TEST_CASE("Prompts do not affect each other, in any order of the batch") {
  CHECK_THAT(checks::independent_prompts(rewards), checks::passes());
  CHECK_THAT(checks::invariant_to_order(rewards), checks::passes());
}

TEST_CASE("The rewards of a prompt have mean 0, and those of equal responses are 0") {
  CHECK_THAT(checks::zero_mean(rewards), checks::passes());
  CHECK_THAT(checks::zero_for_equal_responses(rewards), checks::passes());
  CHECK_THAT(checks::finite(rewards), checks::passes());
}

TEST_CASE("A response without a score has no reward, and its siblings do not see it") {
  for (const auto* input : {"helpful", "safe", "length"}) {
    CHECK_THAT(checks::keeps_unscored(rewards, input), checks::passes());
    CHECK_THAT(checks::ignores_unscored(rewards, input), checks::passes());
  }
}

TEST_CASE("The same batch has the same rewards") {
  CHECK_THAT(checks::deterministic(rewards), checks::passes());
  CHECK_THAT(checks::same_in_threads(rewards, 2, {.cases = 20}), checks::passes());
}

// What the pipeline is not. If one of these starts to pass, the comment in pipeline.hpp is out of date.
TEST_CASE("The clip ties responses, and length can outweigh help") {
  CHECK_THAT(checks::keeps_distinct(rewards, "helpful"), checks::fails());
  CHECK_THAT(checks::dominates(rewards, "helpful"), checks::fails());
}
