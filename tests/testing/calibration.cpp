// SPDX-License-Identifier: MIT
#include <infalign/calibration/calibrate.hpp>
#include <infalign/testing/calibration.hpp>

#include "arrays.hpp"

#include <random>
#include <vector>

using namespace infalign;
using checks::calibration_function;
using Eigen::Index;

namespace {

/// A calibration by `place(below, tied, K)`.
template <class Place>
calibration_function by(const Place& place) {
  return [place](const matrix<double>& reference, const std::vector<int>& prompt, const array<double>& rewards) {
    return array<double>(array<double>::NullaryExpr(rewards.size(), [&](Index i) {
      const auto row = reference.row(prompt[static_cast<std::size_t>(i)]);
      return place(static_cast<double>((row < rewards[i]).count()), static_cast<double>((row == rewards[i]).count()),
                   static_cast<double>(row.size()));
    }));
  };
}

const calibration_function our_ranks = [](const auto& reference, const auto& prompt, const auto& rewards) {
  return calibrate(reference, prompt, rewards);
};
const auto strict = by([](double below, double, double K) { return below / K; });
const auto at_most = by([](double below, double tied, double K) { return (below + tied) / K; });
const auto shrunk = by([](double below, double tied, double K) { return (below + tied / 2 + 1) / (K + 2); });
const auto with_itself = by([](double below, double tied, double K) { return (below + tied + 1) / (K + 1); });

}  // namespace

TEST_CASE("calibrate passes every check of a calibration") {
  CHECK(checks::uniform_on_reference(our_ranks));
  CHECK(checks::is_mid_rank(our_ranks));
  CHECK(checks::covers_distribution(our_ranks));
  CHECK(checks::calibration_invariant_to_monotone_map(our_ranks));
}

TEST_CASE("Ranks that break ties one way are not uniform on the reference, and not mid-ranks") {
  for (const auto& f : {strict, at_most, with_itself}) {
    const auto r = checks::uniform_on_reference(f);
    CHECK(!r);
    CHECK(r.prompts == 1);
    CHECK(!checks::is_mid_rank(f));
    CHECK(!checks::covers_distribution(f));
    CHECK(checks::calibration_invariant_to_monotone_map(f));
  }
  // Two equal rewards: each has nothing below it.
  CHECK(checks::uniform_on_reference(strict).finding ==
        "Each reward of prompt 0 in turn, among the others as reference, has the mean result 0 instead of 0.5.");
}

TEST_CASE("A calibration that shrinks to the middle is uniform in the mean, but no mid-rank") {
  CHECK(checks::uniform_on_reference(shrunk));
  CHECK(!checks::is_mid_rank(shrunk));
  const auto r = checks::covers_distribution(shrunk);
  CHECK(!r);
  CHECK(r.counterexample.names == std::vector<std::string>{"reward", "probability", "mean result"});
}

TEST_CASE("The row of another prompt is found") {
  const calibration_function shifted = [](const auto& reference, std::vector<int> prompt, const auto& rewards) {
    for (int& p : prompt) p = (p + 1) % static_cast<int>(reference.rows());
    return calibrate(reference, prompt, rewards);
  };
  const auto r = checks::is_mid_rank(shifted);
  CHECK(!r);
  CHECK(r.prompts == 2);
  CHECK(r.responses == 2);
  CHECK(!checks::uniform_on_reference(shifted));
}

TEST_CASE("A z-score is no rank") {
  const calibration_function z = [](const matrix<double>& reference, const std::vector<int>& prompt,
                                    const array<double>& rewards) {
    array<double> result(rewards.size());
    for (Index i = 0; i < result.size(); ++i)
      result[i] = 0.5 + 0.1 * (rewards[i] - reference.row(prompt[static_cast<std::size_t>(i)]).mean());
    return result;
  };
  CHECK(checks::uniform_on_reference(z));  // its mean is right
  CHECK(!checks::calibration_invariant_to_monotone_map(z));
  CHECK(!checks::covers_distribution(z));
}

TEST_CASE("fresh_table rejects a table that the policy has left") {
  std::mt19937 random(1);
  const auto uniform = [&](double shift) {
    return table_of<double>(200, 4, [&] { return shift + static_cast<double>(random()) / 0x1p32; });
  };
  const matrix<double> table = uniform(0), fresh = uniform(0), better = uniform(0.3);
  CHECK(checks::fresh_table(table, fresh));
  const auto r = checks::fresh_table(table, better);
  CHECK(!r);
  CHECK(r.finding.starts_with("The mean calibrated reward of the new responses is 0.7"));
}
