// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>

#include <algorithm>
#include <string>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of order: does more of an input give more of the result?
///
///     const auto report = checks::increasing(pipeline, "reward");
///
/// Cost: some 20 calls of the pipeline for each case, on batches of at most 20 responses.
/// Errors: if no input has the name.
namespace INFALIGN_NAMESPACE::detail {

/// "reward of response 2 (1)": for findings.
inline std::string described(const checks::response_batch& b, std::size_t column, Eigen::Index i) {
  return sentence({b.inputs[column].name, " of response ", i, " (", b.columns[column][i], ")"});
}

/// Values to which an input of one response is raised: one step, to each larger value of the batch and just above it, and to
/// the top.
inline std::vector<double> raised_values(const checks::response_batch& b, std::size_t column, Eigen::Index i) {
  const auto& in = b.inputs[column];
  const double x = b.columns[column][i];
  std::vector<double> result;
  const auto add = [&](double y) {
    if (y > x && y <= in.high) result.push_back(y);
  };
  add(x + in.step);
  for (const double y : b.columns[column]) {
    add(y);
    add(y + in.step);
  }
  add(in.high);
  return result;
}

/// The check that a result moves in one direction with an input.
template <class Options>
checks::report check_monotone(const char* check, const checks::pipeline& f, const std::string& name, double sign,
                              bool strictly, const Options& o) {
  return checks::check_batches(title(check, f, name), f, o, [&](const auto& b) -> checks::fault {
    const auto column = b.position(name);
    const auto before = f(b);
    for (Eigen::Index i = 0; i < b.size(); ++i)
      for (const double y : raised_values(b, column, i)) {
        auto changed = b;
        changed.columns[column][i] = y;
        const auto after = f(changed);
        const double change = sign * (after[i] - before[i]),
                     small = o.tolerance * std::max({1.0, std::abs(before[i]), std::abs(after[i])});
        const bool equal = !differ(after[i], before[i], 0);
        if (equal ? !strictly : strictly ? change > 0 : change >= -small) continue;
        checks::fault found{
            sentence({"Raising the ", described(b, column, i), " to ", y,
                      equal ? " does not change its result, " : " changes its result from ", before[i]}),
            {}};
        found.sentence += equal ? "." : sentence({" to ", after[i], "."});
        found.columns.add("result", before);
        found.columns.add("raised", changed.columns[column]);
        found.columns.add("result then", after);
        return found;
      }
    return {};
  });
}

/// A check of pairs of responses to one prompt that differ in one input alone. `wrong(x, y, result of x, result of y)`
/// returns what is wrong, or null.
template <class Wrong>
checks::report check_pairs(const char* check, const checks::pipeline& f, const std::string& name,
                           const checks::options& o, const Wrong& wrong) {
  return checks::check_batches(title(check, f, name), f, o, [&](const auto& b) -> checks::fault {
    const auto column = b.position(name);
    for (const auto& [prompt, group] : b.members()) {
      auto alike = b;  // the responses to this prompt differ in this input alone
      for (std::size_t c = 0; c < b.columns.size(); ++c)
        if (c != column)
          for (const auto i : group) alike.columns[c][i] = b.columns[c][group[0]];
      const auto results = f(alike);
      for (const auto i : group)
        for (const auto j : group) {
          const double x = alike.columns[column][i], y = alike.columns[column][j];
          if (i == j || x > y) continue;
          const char* problem = wrong(x, y, results[i], results[j]);
          if (!problem) continue;
          checks::fault found{
              sentence({"Responses ", i, " and ", j, " to prompt ", prompt, " have \"", name, "\" ", x, " and ", y,
                        ", and the results ", results[i], " and ", results[j], ": ", problem, "."}),
              {}};
          for (std::size_t c = 0; c < b.columns.size(); ++c)
            if (c != column) found.columns.add(b.inputs[c].name + " then", alike.columns[c]);
          found.columns.add("result", results);
          return found;
        }
    }
    return {};
  });
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// If an input of one response rises and nothing else changes, its result does not fall.
///
/// strictly: it also has to rise, so that clips and roundings fail.
/// Errors (this and the next ones): if no input has the name.
template <std::same_as<options> Options = options>
report increasing(const pipeline& f, const std::string& name, bool strictly = false, const Options& o = {}) {
  return detail::check_monotone("increasing", f, name, 1, strictly, o);
}

/// If an input of one response rises and nothing else changes, its result does not rise.
template <std::same_as<options> Options = options>
report decreasing(const pipeline& f, const std::string& name, bool strictly = false, const Options& o = {}) {
  return detail::check_monotone("decreasing", f, name, -1, strictly, o);
}

/// Of two responses to a prompt that differ in one input alone, the one with more of it has no smaller result.
template <std::same_as<options> Options = options>
report keeps_order(const pipeline& f, const std::string& name, const Options& o = {}) {
  return detail::check_pairs("keeps_order", f, name, o, [&](double x, double y, double of_x, double of_y) {
    const double small = o.tolerance * std::max({1.0, std::abs(of_x), std::abs(of_y)});
    return x < y && !(of_x <= of_y + small) ? "the order is reversed" : nullptr;
  });
}

/// Of two responses to a prompt, the one with more of an input has no smaller result, whatever their other inputs are: a
/// length penalty, say, never makes a wrong answer better than a right one.
template <std::same_as<options> Options = options>
report dominates(const pipeline& f, const std::string& name, const Options& o = {}) {
  return check_batches(detail::title("dominates", f, name), f, o, [&](const auto& b) -> fault {
    const auto& x = b[name];
    const auto results = f(b);
    for (const auto& [prompt, group] : b.members())
      for (const auto i : group)
        for (const auto j : group) {
          const double small = o.tolerance * std::max({1.0, std::abs(results[i]), std::abs(results[j])});
          if (!(x[i] < x[j]) || results[i] <= results[j] + small) continue;
          fault found{
              detail::sentence({"Response ", i, " to prompt ", prompt, " has \"", name, "\" ", x[i], ", response ", j,
                                " has ", x[j], ", and the results are ", results[i], " and ", results[j], "."}),
              {}};
          found.columns.add("result", results);
          return found;
        }
    return {};
  });
}

/// Two responses to a prompt with equal inputs have equal results.
template <std::same_as<options> Options = options>
report keeps_ties(const pipeline& f, const std::string& name, const Options& o = {}) {
  return detail::check_pairs("keeps_ties", f, name, o, [&](double x, double y, double of_x, double of_y) {
    return x == y && detail::differ(of_x, of_y, o.tolerance) ? "a tie is broken" : nullptr;
  });
}

/// Two responses to a prompt that differ in one input have different results.
template <std::same_as<options> Options = options>
report keeps_distinct(const pipeline& f, const std::string& name, const Options& o = {}) {
  return detail::check_pairs("keeps_distinct", f, name, o, [](double x, double y, double of_x, double of_y) {
    return x < y && !detail::differ(of_x, of_y, 0) ? "a difference is lost" : nullptr;
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
