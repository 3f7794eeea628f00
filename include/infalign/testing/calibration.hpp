// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>
#include <infalign/measure/drift.hpp>
#include <infalign/testing/small_policy.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of a calibration: from rewards and a table of reference rewards to places in [0, 1].
namespace INFALIGN_NAMESPACE::checks {

/// The calibration under test: f(reference, prompt, rewards), with P × K, B and B numbers. Returns B.
using calibration_function = std::function<array<double>(const matrix<double>& reference,
                                                         const std::vector<int>& prompt, const array<double>& rewards)>;

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::detail {

/// A check of batches of K + 1 rewards for each prompt. `problem(rewards, prompt)` has a row of them for each
/// prompt, and the prompts' indices.
template <class Problem>
checks::report check_exchange(std::string name, const checks::options& o, const Problem& problem) {
  const checks::pipeline any{[](const checks::response_batch& b) { return b["reward"]; }, {{}}, true, 2};
  auto r = checks::check_batches(std::move(name), any, o, [&](const checks::response_batch& b) -> checks::fault {
    const auto all = b.as_matrix("reward");
    std::vector<int> prompt;
    for (Eigen::Index p = 0; p < all.rows(); ++p) prompt.push_back(static_cast<int>(p));
    return problem(all, prompt);
  });
  r.responses = r.prompts;  // the others are references
  return r;
}

/// Column k of each row as rewards, the other columns as reference.
inline std::pair<matrix<double>, array<double>> split_column(const matrix<double>& all, Eigen::Index k) {
  matrix<double> reference(all.rows(), all.cols() - 1);
  array<double> rewards(all.rows());
  for (Eigen::Index p = 0; p < all.rows(); ++p) {
    for (Eigen::Index c = 0; c < reference.cols(); ++c) reference(p, c) = all(p, c < k ? c : c + 1);
    rewards[p] = all(p, k);
  }
  return {reference, rewards};
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// A new response with the distribution of the reference has the mean ½, exactly, for any K and with ties.
///
/// K + 1 rewards of one distribution come in any order equally often. So the check makes each of the K + 1 rewards of a prompt
/// the new one in turn, and the mean of its K + 1 results has to be ½. It holds for mid-ranks, and for every calibration
/// that treats a reward and its negative alike.
template <std::same_as<options> Options = options>
report uniform_on_reference(const calibration_function& f, const Options& o = {}) {
  return detail::check_exchange(
      "uniform_on_reference", o, [&](const matrix<double>& all, const std::vector<int>& prompt) -> fault {
        array<double> results(all.size());  // row by row
        for (Eigen::Index k = 0; k < all.cols(); ++k) {
          const auto [reference, rewards] = detail::split_column(all, k);
          const auto of_column = f(reference, prompt, rewards);
          for (Eigen::Index p = 0; p < all.rows(); ++p) results[p * all.cols() + k] = of_column[p];
        }
        for (Eigen::Index p = 0; p < all.rows(); ++p) {
          double mean = 0;
          for (Eigen::Index k = 0; k < all.cols(); ++k)
            mean += results[p * all.cols() + k] / static_cast<double>(all.cols());
          if (!detail::differ(mean, 0.5, o.tolerance)) continue;
          fault found{detail::sentence({"Each reward of prompt ", p,
                                        " in turn, among the others as reference, has the mean result ", mean,
                                        " instead of 0.5."}),
                      {}};
          found.columns.add("result", results);
          return found;
        }
        return {};
      });
}

/// The results are mid-ranks, (number below + ½·number equal)/K, among the references of the response's own prompt.
template <std::same_as<options> Options = options>
report is_mid_rank(const calibration_function& f, const Options& o = {}) {
  return detail::check_exchange(
      "is_mid_rank", o, [&](const matrix<double>& all, const std::vector<int>& prompt) -> fault {
        const auto [reference, rewards] = detail::split_column(all, all.cols() - 1);
        const auto results = f(reference, prompt, rewards);
        for (Eigen::Index p = 0; p < all.rows(); ++p) {
          double below = 0, tied = 0;
          for (Eigen::Index k = 0; k < reference.cols(); ++k) {
            below += reference(p, k) < rewards[p];
            tied += reference(p, k) == rewards[p];
          }
          const double wanted = (below + tied / 2) / static_cast<double>(reference.cols());
          if (!detail::differ(results[p], wanted, o.tolerance)) continue;
          return {detail::sentence({"The last reward of prompt ", p, ", ", rewards[p], ", has the result ", results[p],
                                    " among the others as reference, and the mid-rank ", wanted, "."}),
                  {}};
        }
        return {};
      });
}

/// The mean of the result over all tables is the place in the true distribution:
///
///     E[u(r)] = P(reference below r) + ½·P(reference equal to r)
///
/// exactly: the tables of K ≤ 4 draws from a distribution on three rewards are enumerated. It does not hold for a
/// calibration that borrows from other prompts.
template <std::same_as<options> Options = options>
report covers_distribution(const calibration_function& f, const Options& o = {}) {
  report r{.check = "covers_distribution", .seed = o.seed};
  random_source random(o.seed);
  while (r.cases < std::min(o.cases, 20) && r.passed) {
    const Eigen::Index K = random.integer(1, 4);
    array<double> probability(3), mean = array<double>::Zero(3);
    double sum = 0, below = 0;
    for (double& x : probability) sum += x = static_cast<double>(random.integer(1, 8));
    for (double& x : probability) x /= sum;
    const array<double> atoms{{-1, 0.5, 2}};
    for_each_group(probability, K, [&](const auto& group, double weight) {
      matrix<double> reference(1, K);
      for (Eigen::Index k = 0; k < K; ++k) reference(0, k) = atoms[group[static_cast<std::size_t>(k)]];
      const auto results = f(reference, {0, 0, 0}, atoms);
      for (Eigen::Index a = 0; a < 3; ++a) mean[a] += weight * results[a];
    });
    r.cases += 1;
    for (Eigen::Index a = 0; a < 3; ++a) {
      const double wanted = below + probability[a] / 2;
      below += probability[a];
      if (!r.passed || !detail::differ(mean[a], wanted, o.tolerance)) continue;
      r.passed = false;
      r.finding = detail::sentence({"The mean result of the reward ", atoms[a], " over all tables of ", K, " draws is ",
                                    mean[a], ", and its place in the distribution is ", wanted, "."});
      r.counterexample.add("reward", atoms);
      r.counterexample.add("probability", probability);
      r.counterexample.add("mean result", mean);
      r.prompts = 1;
      r.responses = 3;
    }
  }
  return r;
}

/// A strictly increasing map of all rewards of a prompt, its references included, changes no result.
template <std::same_as<options> Options = options>
report calibration_invariant_to_monotone_map(const calibration_function& f, const Options& o = {}) {
  return detail::check_exchange("calibration_invariant_to_monotone_map", o,
                                [&](const matrix<double>& all, const std::vector<int>& prompt) -> fault {
                                  matrix<double> cubes = all;
                                  for (Eigen::Index k = 0; k < cubes.size(); ++k)
                                    cubes.data()[k] = std::pow(all.data()[k], 3);
                                  const auto results = [&](const matrix<double>& rows) {
                                    const auto [reference, rewards] = detail::split_column(rows, rows.cols() - 1);
                                    return f(reference, prompt, rewards);
                                  };
                                  auto found = detail::compare_results("Taking the cubes of all rewards", results(all),
                                                                       "result then", results(cubes), o.tolerance);
                                  found.columns = {};  // a number for each prompt, not for each response
                                  return found;
                                });
}

/// A table of reference rewards fits new responses of the reference policy: the `drift` test does not reject at `level`.
/// A fresh table fails with probability `level`.
///
/// Shapes: reference P × K, or any `reference_table` with P rows; rewards P × M, of new responses.
template <reference_rewards Reference, array_expression Rewards>
report fresh_table(const Reference& reference, const Rewards& rewards, double level = 0.001) {
  const auto result = drift(reference, rewards);
  return {.check = detail::sentence({"fresh_table(", level, ")"}),
          .passed = result.p_value >= level,
          .cases = 1,
          .finding = detail::sentence({"The mean calibrated reward of the new responses is ", result.mean,
                                       " instead of 0.5; the p-value is ", result.p_value, "."})};
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
