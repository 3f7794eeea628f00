// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <initializer_list>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// What a check returns, and the options that every check takes.

/// Checks for unit tests of reward pipelines, whatever their framework. Each takes the function under test, draws cases
/// from a seed, and returns a report with the smallest counterexample that it found.
namespace INFALIGN_NAMESPACE::checks {  // not `testing`, a name that GoogleTest has

/// How a check searches. The same options give the same cases on every machine.
struct options {
  /// The seed of the cases.
  std::uint64_t seed = 1;
  /// The number of random cases, at least 1.
  int cases = 200;
  /// Two results are equal if they differ by at most `tolerance` times the larger of 1 and their sizes. It is for rounding
  /// inside the function under test: the inputs are multiples of 1/8 that a float holds exactly.
  double tolerance = 1e-6;
  /// The largest number of simpler cases that are tried for a counterexample.
  int simplifications = 5000;
};

/// Numbers in columns that have names.
struct named_columns {
  std::vector<std::string> names;      ///< One for each column.
  std::vector<array<double>> columns;  ///< A number for each row. All have the same size.

  /// Adds a column.
  void add(std::string name, array<double> values) {
    names.push_back(std::move(name));
    columns.push_back(std::move(values));
  }
};

/// What a check found. Converts to true if the check passed.
///
///     const auto report = checks::increasing(pipeline, "reward");
///     if (!report) std::cerr << report;
struct report {
  /// The name of the check, with its arguments.
  std::string check = {};
  /// False if a counterexample was found.
  bool passed = true;
  /// The number of cases that were tried, the failing one included. Simplified cases are not counted.
  int cases = 0;
  /// The seed that the cases were drawn from. 0 if nothing was drawn.
  std::uint64_t seed = 0;
  /// What is wrong, or what was measured, in a sentence. It may be empty if the check passed.
  std::string finding = {};
  /// The smallest counterexample that was found: inputs and results. Empty if the check passed.
  named_columns counterexample = {};
  /// The number of prompts in it.
  Eigen::Index prompts = 0;
  /// The number of responses in it.
  Eigen::Index responses = 0;

  /// True if the check passed.
  explicit operator bool() const { return passed; }
};

}  // namespace INFALIGN_NAMESPACE::checks
namespace INFALIGN_NAMESPACE::detail {

/// Six digits of a number.
inline std::string short_number(double x) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.6g", x + 0.0);  // 0 for -0
  return is_nan(x) ? "NaN" : buffer;
}

/// A text or a number. Not a template of many parts, because each list of types would cost compile time.
struct sentence_part {
  std::string text;

  sentence_part(const char* t) : text(t) {}
  sentence_part(std::string t) : text(std::move(t)) {}
  sentence_part(double x) : text(short_number(x)) {}
  template <std::integral I>
  sentence_part(I n) : text(std::to_string(n)) {}
};

/// Joins texts and numbers, with six digits, to a finding.
inline std::string sentence(std::initializer_list<sentence_part> parts) {
  std::string result;
  for (const auto& part : parts) result += part.text;
  return result;
}

}  // namespace INFALIGN_NAMESPACE::detail
namespace INFALIGN_NAMESPACE::checks {

/// A report as text of several lines: the check, the finding, and the counterexample.
inline std::string to_string(const report& r) {
  std::string text =
      detail::concat(r.passed ? "passed: " : "FAILED: ", r.check, " (", r.cases, r.cases == 1 ? " case" : " cases");
  if (r.seed != 0) text += detail::concat(", seed ", r.seed);
  text += ")\n";
  if (!r.finding.empty()) text += detail::concat("  ", r.finding, "\n");

  const auto& [names, columns] = r.counterexample;
  std::vector<std::string> lines;
  for (std::size_t c = 0; c < names.size(); ++c) {
    std::vector<std::string> cells{names[c]};
    std::size_t width = names[c].size();
    for (const double x : columns[c]) {
      cells.push_back(detail::short_number(x));
      width = std::max(width, cells.back().size());
    }
    lines.resize(cells.size(), "   ");
    for (std::size_t i = 0; i < cells.size(); ++i) lines[i] += std::string(width + 2 - cells[i].size(), ' ') + cells[i];
  }
  for (const auto& line : lines) text += line + "\n";
  return text;
}

/// Writes `to_string(r)`.
inline std::ostream& operator<<(std::ostream& out, const report& r) {
  return out << to_string(r);
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
