// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/measure/win_rate.hpp>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// What users are shown, by another measure: the mean of a second value of the responses that a procedure outputs, such as
/// a gold reward, a length or a safety score.
///
/// Best-of-n by a proxy raises the proxy for every n. The n at which the mean of the true reward is largest shows where
/// over-optimisation begins.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// The responses of a prompt in order of score: for each distinct score, the number of responses up to it, and the mean
/// value of those that have it.
struct value_level {
  Eigen::Index at_most;
  double mean_value;
};

struct value_levels {
  Eigen::Index M;
  std::vector<value_level> levels;
};

/// The levels of each prompt.
template <reference_rewards A, reference_rewards B>
std::vector<value_levels> value_levels_of(const char* function, const A& scores, const B& values,
                                          unscored on_unscored) {
  decltype(auto) of_score = rows_of(scores);
  decltype(auto) of_value = rows_of(values);
  check_size(function, "rows of values, one for each row of scores", of_score.rows(), of_value.rows());
  std::vector<value_levels> result(static_cast<std::size_t>(of_score.rows()));
  std::vector<std::pair<double, double>> pairs;
  for (Eigen::Index p = 0; p < of_score.rows(); ++p) {
    const auto score = of_score.row(p);
    const auto value = of_value.row(p);
    if (score.size() != value.size())
      fail(function, concat(score.size(), " values, one for each score"), concat(value.size(), " at row ", p));
    pairs.clear();
    for (Eigen::Index m = 0; m < score.size(); ++m) {
      const double s = static_cast<double>(score[m]), v = static_cast<double>(value[m]);
      if (is_nan(s) || is_nan(v)) {
        if (on_unscored == unscored::propagate) continue;
        fail(function, concat(is_nan(s) ? "scores" : "values", " that are numbers"), concat("NaN", position(p, m)));
      }
      if (!is_finite(v)) fail(function, "finite values", concat(v, position(p, m)));
      pairs.push_back({s, v});
    }
    std::sort(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    auto& prompt = result[static_cast<std::size_t>(p)];
    prompt.M = size_of(pairs);
    for (auto i = pairs.begin(); i != pairs.end();) {
      const auto first = i;
      double sum = 0;
      for (; i != pairs.end() && i->first == first->first; ++i) sum += i->second;
      prompt.levels.push_back({static_cast<Eigen::Index>(i - pairs.begin()), sum / static_cast<double>(i - first)});
    }
  }
  return result;
}

/// The unbiased estimate for each prompt. NaN if nothing is scored.
template <sample_procedure T>
array<double> shown_values_of(const char* function, const std::vector<value_levels>& prompts, const T& procedure) {
  sample_cdfs<T> cdfs(function, {&procedure, 1});
  array<double> result(size_of(prompts));
  for (Eigen::Index p = 0; p < result.size(); ++p) {
    const auto& [M, levels] = prompts[static_cast<std::size_t>(p)];
    result[p] = M > 0 ? 0 : nan<double>;
    if (M == 0) continue;
    const double* const cdf = cdfs.of(M, p).data();
    double below = 0;
    for (const auto& level : levels) {
      result[p] += (cdf[level.at_most] - below) * level.mean_value;
      below = cdf[level.at_most];
    }
  }
  return result;
}

}  // namespace detail

/// The mean value of the response that a procedure outputs if it chooses by score, for each prompt. Unbiased.
///
///     Σ over distinct scores of (Ĝ(j) − Ĝ(i))·mean value of the responses with that score
///
/// i of the prompt's responses have a lower score, and j a score up to it; Ĝ = `sample_cdf`. Responses with equal scores are
/// output with equal probability.
///
/// Shapes: scores, values: P × M each, or any `reference_table` with rows of equal sizes. Result: P.
/// Cost: M log M per prompt.
/// NaN: an error; with `unscored::propagate` a response with a NaN score or value is left out, and the result of a prompt
/// without others is NaN.
/// Errors: throws if shapes differ, if a value is infinite, if the procedure is invalid, and if a prompt has fewer scored
/// responses than it draws.
template <reference_rewards A, reference_rewards B, sample_procedure T>
array<double> shown_values(const A& scores, const B& values, const T& procedure,
                           unscored on_unscored = unscored::error) {
  constexpr auto name = "shown_values";
  return detail::shown_values_of(name, detail::value_levels_of(name, scores, values, on_unscored), procedure);
}

/// The mean of `shown_values` over prompts, with its standard error and 95 % interval.
///
///     const auto length = shown_value(rewards, lengths, best_of{16});   // .mean, .standard_error, .low, .high
///
/// With `unscored::propagate` it leaves out prompts without scored responses.
template <reference_rewards A, reference_rewards B, sample_procedure T>
mean_estimate shown_value(const A& scores, const B& values, const T& procedure,
                          unscored on_unscored = unscored::error) {
  return detail::mean_of_scored(shown_values(scores, values, procedure, on_unscored));
}

/// The mean value against n: element n − 1 is `shown_value` with T{n}, for n from 1 to the smallest number of scored
/// responses of any prompt. Each prompt's responses are sorted once.
///
///     const auto curve = shown_value_curve<best_of>(proxy_rewards, gold_rewards);
///
/// Source: over-optimisation curves, Gao, Schulman and Hilton, arXiv:2210.10760; the n at which the true reward peaks,
/// Khalaf et al., arXiv:2506.19248.
template <sample_procedure T, reference_rewards A, reference_rewards B>
requires requires(int n) {
  T{n};
}
std::vector<mean_estimate> shown_value_curve(const A& scores, const B& values, unscored on_unscored = unscored::error) {
  constexpr auto name = "shown_value_curve";
  const auto prompts = detail::value_levels_of(name, scores, values, on_unscored);
  if (prompts.empty()) detail::fail(name, "at least one prompt", "none");
  Eigen::Index most = 0;
  for (const auto& prompt : prompts)
    if (prompt.M > 0) most = most > 0 ? std::min(most, prompt.M) : prompt.M;
  std::vector<mean_estimate> result;
  for (int n = 1; n <= most; ++n)
    result.push_back(detail::mean_of_scored(detail::shown_values_of(name, prompts, T{n})));
  return result;
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
