// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/report.hpp>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of a log: raw and shaped rewards of responses that a trainer has written.
namespace INFALIGN_NAMESPACE::detail {

/// The check of every two responses to one prompt. `wrong(x, y, shaped x, shaped y)` for x ≤ y: true if they are a
/// counterexample. The finding names the first prompts that have one.
inline checks::report check_log(const char* name, const char* problem, const std::vector<int>& prompt,
                                const array<double>& raw, const array<double>& shaped,
                                bool (*wrong)(double, double, double, double)) {
  check_size(name, "raw rewards, one for each prompt index", std::ssize(prompt), raw.size());
  check_size(name, "shaped rewards, one for each prompt index", std::ssize(prompt), shaped.size());
  // The scored responses of each prompt in a row, by their raw and then by their shaped rewards.
  std::vector<Eigen::Index> order;
  for (Eigen::Index i = 0; i < raw.size(); ++i)
    if (!is_nan(raw[i]) && !is_nan(shaped[i])) order.push_back(i);
  const auto prompt_of = [&](Eigen::Index i) { return prompt[static_cast<std::size_t>(i)]; };
  std::sort(order.begin(), order.end(), [&](Eigen::Index i, Eigen::Index j) {
    if (prompt_of(i) != prompt_of(j)) return prompt_of(i) < prompt_of(j);
    return raw[i] < raw[j] || (raw[i] == raw[j] && shaped[i] < shaped[j]);
  });

  checks::report r{.check = name};
  std::vector<int> bad;
  for (std::size_t begin = 0, end; begin < order.size(); begin = end) {
    const int p = prompt_of(order[begin]);
    for (end = begin; end < order.size() && prompt_of(order[end]) == p;) ++end;
    r.cases += 1;
    Eigen::Index i = 0, j = 0;
    const auto found = [&] {
      for (std::size_t a = begin; a < end; ++a)
        for (std::size_t b = a + 1; b < end; ++b) {
          i = order[a], j = order[b];
          if (wrong(raw[i], raw[j], shaped[i], shaped[j])) return true;
        }
      return false;
    };
    if (!found()) continue;
    if (bad.empty()) {
      const auto add = [&r](const char* column, double first, double second) {
        array<double> both(2);
        both[0] = first, both[1] = second;
        r.counterexample.add(column, std::move(both));
      };
      add("prompt", p, p);
      add("response", static_cast<double>(i), static_cast<double>(j));
      add("raw", raw[i], raw[j]);
      add("shaped", shaped[i], shaped[j]);
    }
    bad.push_back(p);
  }
  r.passed = bad.empty();
  if (r.passed) return r;
  r.prompts = 1;
  r.responses = 2;
  r.finding = sentence({problem, " for ", bad.size(), " of ", r.cases, " prompts: "});
  for (std::size_t k = 0; k < bad.size() && k < 5; ++k) r.finding += sentence({k ? ", " : "", bad[k]});
  r.finding += bad.size() > 5 ? ", ..." : ".";
  return r;
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// Within each prompt, a response with a larger raw reward has no smaller shaped reward: the shaped rewards are a monotone
/// function of the raw ones.
///
/// Shapes (this and the next ones): prompt, raw, shaped: B. Cost: a sort and, without a fault, all pairs of a prompt.
/// NaN: an unscored response is no counterexample here.
inline report log_keeps_order(const std::vector<int>& prompt, const array<double>& raw, const array<double>& shaped) {
  return detail::check_log("log_keeps_order", "The shaped rewards are not a monotone function of the raw ones", prompt,
                           raw, shaped,
                           [](double x, double y, double of_x, double of_y) { return x < y && of_x > of_y; });
}

/// Within each prompt, different raw rewards have different shaped ones: nothing is tied, as a clip does.
inline report log_keeps_distinct(const std::vector<int>& prompt, const array<double>& raw,
                                 const array<double>& shaped) {
  return detail::check_log("log_keeps_distinct", "Different raw rewards have equal shaped ones", prompt, raw, shaped,
                           [](double x, double y, double of_x, double of_y) { return x < y && of_x == of_y; });
}

/// Within each prompt, equal raw rewards have equal shaped ones.
inline report log_keeps_ties(const std::vector<int>& prompt, const array<double>& raw, const array<double>& shaped) {
  return detail::check_log("log_keeps_ties", "Equal raw rewards have different shaped ones", prompt, raw, shaped,
                           [](double x, double y, double of_x, double of_y) { return x == y && of_x != of_y; });
}

/// A response without a raw reward (NaN) has no shaped one, and a response with a finite one has a finite one.
inline report log_keeps_unscored(const std::vector<int>& prompt, const array<double>& raw,
                                 const array<double>& shaped) {
  report r{.check = "log_keeps_unscored", .cases = static_cast<int>(raw.size())};
  detail::check_size("log_keeps_unscored", "raw rewards, one for each prompt index", std::ssize(prompt), raw.size());
  detail::check_size("log_keeps_unscored", "shaped rewards, one for each prompt index", std::ssize(prompt),
                     shaped.size());
  Eigen::Index wrong = 0;
  for (Eigen::Index i = 0; i < raw.size(); ++i) {
    if (detail::is_nan(raw[i]) ? detail::is_nan(shaped[i]) : detail::is_finite(raw[i]) == detail::is_finite(shaped[i]))
      continue;
    if (++wrong > 1) continue;
    r.counterexample.add("prompt", array<double>::Constant(1, prompt[static_cast<std::size_t>(i)]));
    r.counterexample.add("response", array<double>::Constant(1, static_cast<double>(i)));
    r.counterexample.add("raw", array<double>::Constant(1, raw[i]));
    r.counterexample.add("shaped", array<double>::Constant(1, shaped[i]));
  }
  r.passed = wrong == 0;
  if (r.passed) return r;
  r.prompts = r.responses = 1;
  r.finding = detail::sentence(
      {"A number for NaN, or NaN or an infinity for a number, in ", wrong, " of ", raw.size(), " responses."});
  return r;
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
