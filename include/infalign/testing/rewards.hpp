// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>

#include <algorithm>
#include <cmath>
#include <exception>
#include <string>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of a pipeline's values: their range, unscored responses, errors, and state.
///
///     const auto report = checks::finite(pipeline);
///
/// Cost: 1 to 10 calls of the pipeline for each case, on batches of at most 20 responses.
/// Errors: if no input has the name.
namespace INFALIGN_NAMESPACE::detail {

/// The check that each result is `right`.
template <class Right>
checks::report check_results(std::string name, const checks::pipeline& f, const checks::options& o,
                             const Right& right) {
  return checks::check_batches(std::move(name), f, o, [&](const auto& b) -> checks::fault {
    const auto results = f(b);
    for (Eigen::Index i = 0; i < b.size(); ++i) {
      if (right(results[i])) continue;
      checks::fault found{sentence({"The result of response ", i, " is ", results[i], "."}), {}};
      found.columns.add("result", results);
      return found;
    }
    return {};
  });
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

// ---- Values ------------------------------------------------------------------------------------------------------------

/// All results are from `low` to `high`. NaN is not.
template <std::same_as<options> Options = options>
report in_range(const pipeline& f, double low, double high, const Options& o = {}) {
  const double below = low - o.tolerance * std::max(1.0, std::abs(low)),
               above = high + o.tolerance * std::max(1.0, std::abs(high));
  return detail::check_results(detail::sentence({"in_range(", low, ", ", high, ")"}), f, o,
                               [=](double x) { return !detail::is_nan(x) && x >= below && x <= above; });
}

/// All results are finite if all inputs are.
template <std::same_as<options> Options = options>
report finite(const pipeline& f, const Options& o = {}) {
  return detail::check_results("finite", f, o, [](double x) { return detail::is_finite(x); });
}

/// The results have the mean 0 in each prompt, as advantages have that are compared with the mean of their group.
template <std::same_as<options> Options = options>
report zero_mean(const pipeline& f, const Options& o = {}) {
  return check_batches("zero_mean", f, o, [&](const auto& b) -> fault {
    const auto results = f(b);
    for (const auto& [prompt, group] : b.members()) {
      double sum = 0, size = 1;
      for (const auto i : group) sum += results[i], size += std::abs(results[i]);
      if (detail::is_finite(sum) && std::abs(sum) <= o.tolerance * size) continue;
      fault found{detail::sentence({"The results of prompt ", prompt, " have the mean ",
                                    sum / static_cast<double>(group.size()), "."}),
                  {}};
      found.columns.add("result", results);
      return found;
    }
    return {};
  });
}

/// If all responses to a prompt have the same inputs, their results are 0: nothing can be learned from them. A group of
/// one is such a prompt.
template <std::same_as<options> Options = options>
report zero_for_equal_responses(const pipeline& f, const Options& o = {}) {
  return check_batches("zero_for_equal_responses", f, o, [&](const auto& b) -> fault {
    for (const auto& [prompt, group] : b.members()) {
      auto equal = b;
      for (auto& column : equal.columns)
        for (const auto i : group) column[i] = column[group[0]];
      const auto results = f(equal);
      for (const auto i : group) {
        if (!detail::differ(results[i], 0, o.tolerance)) continue;
        fault found{detail::sentence({"All responses to prompt ", prompt, " are made equal to response ", group[0],
                                      ", and the result of response ", i, " is ", results[i], "."}),
                    {}};
        found.columns.add("result", results);
        return found;
      }
    }
    return {};
  });
}

// ---- Unscored responses, errors ----------------------------------------------------------------------------------------

/// A response with a NaN input has the result `expected`: by default it has none either (NaN).
template <std::same_as<options> Options = options>
report keeps_unscored(const pipeline& f, const std::string& name, double expected = detail::nan<double>,
                      const Options& o = {}) {
  return check_batches(detail::title("keeps_unscored", f, name, detail::sentence({", ", expected})), f, o,
                       [&](const auto& b) -> fault {
                         for (Eigen::Index i = 0; i < b.size(); ++i) {
                           auto unscored = b;
                           unscored[name][i] = detail::nan<double>;
                           const auto results = f(unscored);
                           if (!detail::differ(results[i], expected, o.tolerance)) continue;
                           fault found{detail::sentence({"If the ", name, " of response ", i, " is NaN, its result is ",
                                                         results[i], " instead of ", expected, "."}),
                                       {}};
                           found.columns.add(name + " then", unscored[name]);
                           found.columns.add("result then", results);
                           return found;
                         }
                         return {};
                       });
}

/// The other responses to a prompt have the results that they have without a response whose input is NaN: it moves no mean,
/// and makes nothing else NaN. Tried in groups that stay large enough without it.
template <std::same_as<options> Options = options>
report ignores_unscored(const pipeline& f, const std::string& name, const Options& o = {}) {
  return check_batches(detail::title("ignores_unscored", f, name), f, o, [&](const auto& all) -> fault {
    for (const auto& [prompt, group] : all.members()) {
      const auto b = all.only(group);  // alone, so that a matrix stays one
      for (Eigen::Index i = 0; i < b.size() && b.size() > f.smallest_group; ++i) {
        auto unscored = b;
        unscored[name][i] = detail::nan<double>;
        const auto results = f(unscored), others = f(b.without([&](Eigen::Index j) { return j == i; }));
        for (Eigen::Index j = 0; j < b.size(); ++j) {
          if (j == i || !detail::differ(results[j], others[j < i ? j : j - 1], o.tolerance)) continue;
          const auto place = group[static_cast<std::size_t>(i)];
          fault found{detail::sentence({"If the ", name, " of response ", place, " is NaN, the result of response ",
                                        group[static_cast<std::size_t>(j)], " is ", results[j], "; if it is left out, ",
                                        others[j < i ? j : j - 1], "."}),
                      {}};
          found.columns.add(name + " then", all[name]);
          found.columns.columns.back()[place] = detail::nan<double>;
          return found;
        }
      }
    }
    return {};
  });
}

/// An input that is `wrong` (NaN, or an infinity) is refused with an exception.
template <std::same_as<options> Options = options>
report rejects(const pipeline& f, const std::string& name, double wrong, const Options& o = {}) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  return check_batches(detail::title("rejects", f, name, detail::sentence({", ", wrong})), f, o,
                       [&](const auto& b) -> fault {
                         for (Eigen::Index i = 0; i < b.size(); ++i) {
                           auto changed = b;
                           changed[name][i] = wrong;
                           array<double> results;
                           try {
                             results = f(changed);
                           } catch (const std::exception&) {
                             continue;
                           }
                           fault found{detail::sentence({"The ", name, " ", wrong, " of response ", i,
                                                         " is accepted, with the result ", results[i], "."}),
                                       {}};
                           found.columns.add("result", results);
                           return found;
                         }
                         return {};
                       });
#else
  return {.check = detail::title("rejects", f, name, detail::sentence({", ", wrong})),
          .passed = false,
          .seed = o.seed,
          .finding = "Not checked: this program has no exceptions."};
#endif
}

// ---- State -------------------------------------------------------------------------------------------------------------

/// A batch that is computed again has the same results, bit for bit, whatever was computed in between.
template <std::same_as<options> Options = options>
report deterministic(const pipeline& f, const Options& o = {}) {
  return check_batches("deterministic", f, o, [&](const auto& b) -> fault {
    const auto first = f(b);
    auto found = detail::compare_results("Calling the function again", first, "result then", f(b), 0);
    if (!found.sentence.empty()) return found;
    auto other = b;
    for (auto& column : other.columns) column = column.reverse().eval() + 1;
    static_cast<void>(f(other));
    return detail::compare_results("Another batch in between", first, "result then", f(b), 0);
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
