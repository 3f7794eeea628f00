// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/token_batch.hpp>
#include <infalign/testing/pipeline.hpp>

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// A batch of responses with the log-probabilities of their tokens, as cases for checks of a step.
namespace INFALIGN_NAMESPACE::checks {

/// A batch of B responses of up to T tokens.
struct token_case {
  std::vector<int> prompt = {};                     ///< B. Responses with equal indices belong to one prompt.
  array<double> rewards = {};                       ///< B.
  matrix<double> log_probabilities = {};            ///< B × T: log π of the policy in training.
  matrix<double> reference_log_probabilities = {};  ///< B × T: log π_ref.
  matrix<double> old_log_probabilities = {};        ///< B × T: log π_old. On-policy, equal to log π.
  matrix<double> sampler_log_probabilities = {};    ///< B × T: log π_sampler. Empty, but in `expected_ascent`.
  matrix<double> mask = {};                         ///< B × T: 1 for tokens that count. Each response has one.
  bool off_policy = true;                           ///< False: the function is told of no π_old.
  Eigen::Index smallest_group = 1;                  ///< Simplification keeps at least so many responses of a prompt.

  /// The number of responses, B.
  Eigen::Index size() const { return std::ssize(prompt); }
  /// The most tokens of a response, T.
  Eigen::Index tokens() const { return mask.cols(); }
  /// Views for `policy_gradient` and the like. The case must outlive them.
  token_batch<double> batch() const INFALIGN_LIFETIMEBOUND {
    token_batch<double> views{.log_probabilities = log_probabilities,
                              .reference_log_probabilities = reference_log_probabilities,
                              .mask = mask};
    if (off_policy) views.old_log_probabilities = old_log_probabilities;
    if (sampler_log_probabilities.size() > 0) views.sampler_log_probabilities = sampler_log_probabilities;
    return views;
  }
  /// The responses at these positions, in this order.
  token_case only(const std::vector<Eigen::Index>& positions) const;
  /// The case with `f(matrix)` for each of its matrices, the mask included.
  template <class F>
  token_case with_matrices(const F& f) const {
    token_case result = *this;
    for (auto* m :
         {&result.log_probabilities, &result.reference_log_probabilities, &result.old_log_probabilities, &result.mask})
      *m = f(*m);
    return result;
  }
  /// Simpler cases. See `search`.
  std::vector<token_case> simpler() const;
  /// Writes the case as a counterexample, with a row for each token. See `search`.
  void show(report& r, const named_columns& results) const;
};

inline token_case token_case::only(const std::vector<Eigen::Index>& positions) const {
  const auto rows = [&](const matrix<double>& m) {
    matrix<double> chosen(m.size() > 0 ? std::ssize(positions) : 0, m.cols());
    for (Eigen::Index k = 0; k < chosen.rows(); ++k)
      for (Eigen::Index t = 0; t < m.cols(); ++t) chosen(k, t) = m(positions[static_cast<std::size_t>(k)], t);
    return chosen;
  };
  token_case result = with_matrices(rows);
  result.sampler_log_probabilities = rows(sampler_log_probabilities);
  result.rewards.resize(std::ssize(positions));
  result.prompt.clear();
  for (const auto i : positions) {
    result.rewards[std::ssize(result.prompt)] = rewards[i];
    result.prompt.push_back(prompt[static_cast<std::size_t>(i)]);
  }
  return result;
}

inline std::vector<token_case> token_case::simpler() const {
  std::vector<token_case> result;
  std::map<int, int> numbers;
  for (const int p : prompt) numbers[p] += 1;
  const auto of = [&](Eigen::Index i) { return prompt[static_cast<std::size_t>(i)]; };
  const auto keep = [&](const auto& kept) {
    std::vector<Eigen::Index> positions;
    for (Eigen::Index i = 0; i < size(); ++i)
      if (kept(i)) positions.push_back(i);
    if (!positions.empty()) result.push_back(only(positions));
  };
  for (const auto& [p, count] : numbers) keep([&, left_out = p](Eigen::Index i) { return of(i) != left_out; });
  for (Eigen::Index i = 0; i < size(); ++i)
    if (numbers[of(i)] > smallest_group) keep([&](Eigen::Index j) { return j != i; });
  token_case renumbered = *this;
  int next = 0;
  for (auto& [p, number] : numbers) number = next++;
  for (int& p : renumbered.prompt) p = numbers[p];
  if (renumbered.prompt != prompt) result.push_back(std::move(renumbered));
  for (Eigen::Index t = 0; t < tokens() && tokens() > 1; ++t) {
    const auto without_column = [t](const matrix<double>& m) {
      matrix<double> fewer(m.rows(), m.cols() - 1);
      for (Eigen::Index i = 0; i < m.rows(); ++i)
        for (Eigen::Index u = 0; u < fewer.cols(); ++u) fewer(i, u) = m(i, u < t ? u : u + 1);
      return fewer;
    };
    const auto rest = without_column(mask);
    bool each_keeps_a_token = true;
    for (Eigen::Index i = 0; i < size(); ++i) {
      double left = 0;
      for (Eigen::Index u = 0; u < rest.cols(); ++u) left += rest(i, u);
      each_keeps_a_token = each_keeps_a_token && left > 0;
    }
    if (each_keeps_a_token) result.push_back(with_matrices(without_column));
  }
  const auto changed = [&](auto member, Eigen::Index k, double value) {
    if ((this->*member).data()[k] == value) return;
    result.push_back(*this);
    (result.back().*member).data()[k] = value;
    if (!off_policy) result.back().old_log_probabilities = result.back().log_probabilities;
  };
  const input number{};
  for (Eigen::Index i = 0; i < size(); ++i)
    for (const double x : detail::simpler_numbers(number, rewards[i])) changed(&token_case::rewards, i, x);
  for (Eigen::Index k = 0; k < mask.size(); ++k) {
    if (mask.data()[k] == 0) changed(&token_case::mask, k, 1);
    changed(&token_case::log_probabilities, k, -1);
    changed(&token_case::reference_log_probabilities, k, -1);
    if (off_policy) changed(&token_case::old_log_probabilities, k, -1);
  }
  return result;
}

inline void token_case::show(report& r, const named_columns& results) const {
  std::vector<int> distinct = prompt;
  std::sort(distinct.begin(), distinct.end());
  r.prompts = std::unique(distinct.begin(), distinct.end()) - distinct.begin();
  r.responses = size();
  const auto add = [&](const char* name, const auto& value) {
    array<double> column(mask.size());
    for (Eigen::Index k = 0; k < mask.size(); ++k) column[k] = static_cast<double>(value(k / tokens(), k % tokens()));
    r.counterexample.add(name, std::move(column));
  };
  add("prompt", [&](Eigen::Index i, Eigen::Index) { return prompt[static_cast<std::size_t>(i)]; });
  add("response", [](Eigen::Index i, Eigen::Index) { return i; });
  add("reward", [&](Eigen::Index i, Eigen::Index) { return rewards[i]; });
  add("mask", mask);
  add("log pi", log_probabilities);
  add("log ref", reference_log_probabilities);
  if (off_policy) add("log old", old_log_probabilities);
  for (std::size_t c = 0; c < results.columns.size(); ++c) r.counterexample.add(results.names[c], results.columns[c]);
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
