// SPDX-License-Identifier: MIT
#include <infalign/testing/invariance.hpp>

#include "arrays.hpp"
#include "pipelines.hpp"

#include <vector>

using namespace infalign;
using checks::pipeline;
using checks::response_batch;
using checks::scope;
using Eigen::Index;

namespace {

/// f(rewards of a prompt) for each prompt.
template <class F>
pipeline by_prompt(const F& f) {
  return {[f](const response_batch& b) {
    array<double> result(b.size());
    for (const auto& [p, group] : b.members()) result(group) = f(array<double>(b["reward"](group)));
    return result;
  }};
}

const pipeline minus_batch_mean{
    [](const response_batch& b) -> array<double> { return b["reward"] - b["reward"].mean(); }};
const auto over_largest =
    by_prompt([](const array<double>& r) -> array<double> { return r / std::max(1e-9, r.abs().maxCoeff()); });
const auto is_largest =
    by_prompt([](const array<double>& r) -> array<double> { return (r == r.maxCoeff()).cast<double>(); });

}  // namespace

TEST_CASE("A shift of one prompt is another change than a shift of the batch") {
  CHECK(!checks::invariant_to_shift(unchanged, "reward", scope::batch));
  CHECK(checks::invariant_to_shift(minus_batch_mean, "reward", scope::batch));
  CHECK(!checks::invariant_to_shift(minus_batch_mean, "reward", scope::prompt));
  CHECK(checks::invariant_to_shift(minus_mean, "reward", scope::batch));
  CHECK(checks::invariant_to_shift(minus_mean, "reward", scope::prompt));
  const auto r = checks::invariant_to_shift(unchanged, "reward", scope::prompt);
  CHECK(r.check == "invariant_to_shift(\"reward\", prompt)");
  CHECK(r.finding == "Adding 1 to \"reward\" in prompt 0 changes the result of response 0 from 0 to 1.");
  CHECK(r.counterexample.names == std::vector<std::string>{"prompt", "reward", "result", "result then", "reward then"});
}

TEST_CASE("Scales and monotone maps") {
  CHECK(error_of([] { checks::invariant_to_scale(unchanged, "length", scope::batch); }) ==
        "invariant_to_scale: expected the name of an input, got length");
  CHECK(checks::invariant_to_scale(unchanged, "reward", scope::batch).check == "invariant_to_scale(\"reward\", batch)");
  CHECK(checks::invariant_to_scale(over_largest, "reward", scope::prompt));
  CHECK(!checks::invariant_to_shift(over_largest, "reward", scope::prompt));
  CHECK(!checks::invariant_to_monotone_map(over_largest, "reward", scope::prompt));
  CHECK(!checks::invariant_to_scale(minus_mean, "reward", scope::batch));
  CHECK(checks::invariant_to_monotone_map(is_largest, "reward", scope::prompt));
  CHECK(checks::scales_with(minus_mean, "reward"));
  CHECK(checks::scales_with(unchanged, "reward"));
  const auto r = checks::scales_with(over_largest, "reward");
  CHECK(!r);
  CHECK(r.counterexample.names[2] == "result x 2");
}

TEST_CASE("Results stay with their responses, in any order and any cut") {
  for (const auto* f : {&unchanged, &minus_mean, &over_largest}) {
    CHECK(checks::invariant_to_order(*f));
    CHECK(checks::independent_prompts(*f));
  }
  CHECK(checks::invariant_to_order(minus_batch_mean));
  CHECK(!checks::independent_prompts(minus_batch_mean));
  CHECK(checks::independent_responses(unchanged));
  const auto siblings = checks::independent_responses(minus_mean);
  CHECK(!siblings);
  CHECK(siblings.responses == 2);

  const pipeline first{[](const response_batch& b) -> array<double> { return b["reward"] - b["reward"][0]; }};
  const auto r = checks::invariant_to_order(first);
  CHECK(!r);
  CHECK(r.responses == 2);
}

// Reversing a batch alone would not find the first, and sorting it alone would not find the second.
TEST_CASE("Every kind of reordering is tried") {
  const pipeline symmetric{[](const response_batch& b) -> array<double> {
    array<double> result = b["reward"];
    const Index last = b.size() - 1;
    for (Index i = 0; i <= last; ++i)  // 1 for every response with a neighbour of its prompt
      if ((i > 0 && b.prompt[static_cast<std::size_t>(i - 1)] == b.prompt[static_cast<std::size_t>(i)]) ||
          (i < last && b.prompt[static_cast<std::size_t>(i + 1)] == b.prompt[static_cast<std::size_t>(i)]))
        result[i] += 1;
    return result;
  }};
  CHECK(!checks::invariant_to_order(symmetric));
  const pipeline within{[](const response_batch& b) {
    array<double> result(b.size());
    for (const auto& [p, group] : b.members()) result(group) = b["reward"](group) - b["reward"][group[0]];
    return result;
  }};
  CHECK(!checks::invariant_to_order(within));
}

TEST_CASE("A baseline must not contain the reward that it is subtracted from") {
  const auto others = by_prompt([](const array<double>& r) -> array<double> {
    const double n = static_cast<double>(r.size());
    return n < 2 ? array<double>(0 * r) : array<double>(r - (r.sum() - r) / (n - 1));
  });
  const pipeline several{others.function, {{}}, false, 2};
  CHECK(checks::baseline_excludes_itself(several, "reward"));
  CHECK(checks::baseline_excludes_itself(unchanged, "reward"));
  const pipeline mean{minus_mean.function, {{}}, false, 2};
  const auto r = checks::baseline_excludes_itself(mean, "reward");
  CHECK(r.finding == "Adding 1 to the reward of response 0 changes its baseline, reward - result, from 0 to 0.5.");
}

TEST_CASE("A pipeline that needs equal groups gets no others") {
  const pipeline rows{[](const response_batch& b) {
                        const auto m = b.as_matrix("reward");
                        return matrix<double>(m.colwise() - m.rowwise().mean());
                      },
                      {{}},
                      true};
  CHECK(checks::invariant_to_order(rows));
  CHECK(checks::independent_prompts(rows));
  CHECK(checks::invariant_to_shift(rows, "reward", scope::prompt));
  const auto r = checks::invariant_to_scale(rows, "reward", scope::prompt);
  CHECK(r.responses == 2);
}
