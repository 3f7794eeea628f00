// SPDX-License-Identifier: MIT
#include <infalign/testing/catch2.hpp>
#include <infalign/testing/threads.hpp>

#include "arrays.hpp"

#include <atomic>

using namespace infalign;
using checks::response_batch;

TEST_CASE("A function without state gives the same results in every thread") {
  CHECK_THAT(checks::same_in_threads({[](const response_batch& b) { return b["reward"]; }}, 3, {.cases = 20}),
             checks::passes());
  CHECK_THAT(checks::same_in_threads({[](const response_batch& b) -> array<double> { return b["reward"].log(); }}, 2,
                                     {.cases = 20}),
             checks::passes());
}

TEST_CASE("A function that other calls change does not") {
  std::atomic<int> calls = 0;
  const checks::pipeline counted{[&](const response_batch& b) -> array<double> { return b["reward"] + ++calls; }};
  const auto r = checks::same_in_threads(counted, 2, {.cases = 20});
  CHECK_THAT(r, checks::fails());
  CHECK(r.check == "same_in_threads(2)");
  CHECK(checks::passes().describe() == "passes");
  CHECK(checks::fails().describe() == "fails");
  CHECK(!checks::passes().match(r));
}
