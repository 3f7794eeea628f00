// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/check_batches.hpp>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks that a change of the inputs has no effect, or the effect that it should have.
///
///     const auto report = checks::independent_prompts(pipeline);
///
/// Cost: 2 to 20 calls of the pipeline for each case, on batches of at most 20 responses.
/// Errors: if no input has the name.
namespace INFALIGN_NAMESPACE::detail {

/// The check that maps of an input change nothing. Each map is applied to all its numbers in a batch, or in one prompt.
template <class Options>
checks::report check_invariant(const char* check, const checks::pipeline& f, const std::string& name, bool each_prompt,
                               const Options& o,
                               const std::vector<std::pair<std::string, std::function<double(double)>>>& changes) {
  return checks::check_batches(
      title(check, f, name, each_prompt ? ", prompt" : ", batch"), f, o, [&](const auto& b) -> checks::fault {
        const auto column = b.position(name);
        const auto before = f(b);
        const auto groups = b.members();
        for (const auto& named_change : changes) {
          const auto& text = named_change.first;
          const auto& change = named_change.second;
          const auto try_on = [&](const std::vector<Eigen::Index>* group, const std::string& of) {
            auto changed = b;
            auto& x = changed.columns[column];
            for (Eigen::Index i = 0; i < b.size(); ++i)
              if (!group || std::find(group->begin(), group->end(), i) != group->end()) x[i] = change(x[i]);
            auto found = compare_results(sentence({text, " \"", name, "\" in ", of}), before, "result then", f(changed),
                                         o.tolerance);
            if (!found.sentence.empty()) found.columns.add(name + " then", x);
            return found;
          };
          if (!each_prompt) {
            auto found = try_on(nullptr, "the batch");
            if (!found.sentence.empty()) return found;
          } else {
            for (const auto& [prompt, group] : groups) {
              auto found = try_on(&group, sentence({"prompt ", prompt}));
              if (!found.sentence.empty()) return found;
            }
          }
        }
        return {};
      });
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// Which responses a change is applied to together.
enum class scope {
  prompt,  ///< those of one prompt, the others unchanged
  batch    ///< all
};

/// Adding a constant to an input changes no result.
template <std::same_as<options> Options = options>
report invariant_to_shift(const pipeline& f, const std::string& name, scope of, const Options& o = {}) {
  return detail::check_invariant(
      "invariant_to_shift", f, name, of == scope::prompt, o,
      {{"Adding 1 to", [](double x) { return x + 1; }}, {"Subtracting 3 from", [](double x) { return x - 3; }}});
}

/// Multiplying an input by a positive constant changes no result.
template <std::same_as<options> Options = options>
report invariant_to_scale(const pipeline& f, const std::string& name, scope of, const Options& o = {}) {
  return detail::check_invariant(
      "invariant_to_scale", f, name, of == scope::prompt, o,
      {{"Doubling", [](double x) { return 2 * x; }}, {"Quartering", [](double x) { return x / 4; }}});
}

/// A strictly increasing map of an input changes no result, as for ranks.
template <std::same_as<options> Options = options>
report invariant_to_monotone_map(const pipeline& f, const std::string& name, scope of, const Options& o = {}) {
  return detail::check_invariant("invariant_to_monotone_map", f, name, of == scope::prompt, o,
                                 {{"Taking the cubes of", [](double x) { return x * x * x; }},
                                  {"Doubling what is above 0 of", [](double x) { return x > 0 ? 2 * x : x; }},
                                  {"Adding 1 to what is above 1 of", [](double x) { return x > 1 ? x + 1 : x; }}});
}

/// If an input is doubled, so are the results. With `no_baseline` or a difference from a mean they are.
template <std::same_as<options> Options = options>
report scales_with(const pipeline& f, const std::string& name, const Options& o = {}) {
  return check_batches(detail::title("scales_with", f, name), f, o, [&](const auto& b) -> fault {
    auto changed = b;
    changed[name] *= 2;
    const array<double> doubled = 2 * f(b);
    auto found =
        detail::compare_results(detail::sentence({"Doubling \"", name, "\" in the batch, instead of the results,"}),
                                doubled, "result then", f(changed), o.tolerance);
    if (!found.sentence.empty()) found.columns.names[0] = "result x 2";
    return found;
  });
}

/// The order of the responses and of the prompts in a batch changes no result: each stays with its response.
template <std::same_as<options> Options = options>
report invariant_to_order(const pipeline& f, const Options& o = {}) {
  return check_batches("invariant_to_order", f, o, [&](const auto& b) -> fault {
    const auto before = f(b);
    const auto try_order = [&](const std::string& text, const std::vector<Eigen::Index>& order) {
      const auto moved = f(b.only(order));
      array<double> after(b.size());
      for (std::size_t k = 0; k < order.size(); ++k) after[order[k]] = moved[static_cast<Eigen::Index>(k)];
      return detail::compare_results(text, before, "result then", after, o.tolerance);
    };
    std::vector<Eigen::Index> reversed, by_prompt, within(static_cast<std::size_t>(b.size()));
    for (Eigen::Index i = b.size() - 1; i >= 0; --i) reversed.push_back(i);
    for (const auto& [prompt, group] : b.members()) {
      by_prompt.insert(by_prompt.end(), group.begin(), group.end());
      for (std::size_t k = 0; k < group.size(); ++k)
        within[static_cast<std::size_t>(group[k])] = group[group.size() - 1 - k];
    }
    auto found = try_order("Reversing the batch", reversed);
    if (found.sentence.empty()) found = try_order("Reversing the responses to each prompt", within);
    if (found.sentence.empty()) found = try_order("Sorting the batch by prompt", by_prompt);
    return found;
  });
}

/// The results of a prompt are the same if it is alone in the batch: no other prompt affects them, and it does not matter
/// how a batch is cut. Not so with statistics of the batch, such as `batch_mean`.
template <std::same_as<options> Options = options>
report independent_prompts(const pipeline& f, const Options& o = {}) {
  return check_batches("independent_prompts", f, o, [&](const auto& b) -> fault {
    const auto together = f(b);
    array<double> alone(b.size());
    for (const auto& [prompt, group] : b.members()) {
      const auto results = f(b.only(group));
      for (std::size_t k = 0; k < group.size(); ++k) alone[group[k]] = results[static_cast<Eigen::Index>(k)];
    }
    return detail::compare_results("Cutting the batch into its prompts", together, "result alone", alone, o.tolerance);
  });
}

/// The result of a response does not depend on the other responses, of its prompt or of others. For a pipeline whose
/// `smallest_group` is 1.
template <std::same_as<options> Options = options>
report independent_responses(const pipeline& f, const Options& o = {}) {
  return check_batches("independent_responses", f, o, [&](const auto& b) -> fault {
    const auto together = f(b);
    array<double> alone(b.size());
    for (Eigen::Index i = 0; i < b.size(); ++i) alone[i] = f(b.only({i}))[0];
    return detail::compare_results("Cutting the batch into its responses", together, "result alone", alone,
                                   o.tolerance);
  });
}

/// What an advantage subtracts from a reward does not depend on that reward: input − result is the same if the input of
/// this response is another. Else the expected gradient is not that of the expected reward. For advantages that are not
/// divided by anything.
template <std::same_as<options> Options = options>
report baseline_excludes_itself(const pipeline& f, const std::string& name, const Options& o = {}) {
  return check_batches(detail::title("baseline_excludes_itself", f, name), f, o, [&](const auto& b) -> fault {
    const auto before = f(b);
    const auto groups = b.members();
    for (Eigen::Index i = 0; i < b.size(); ++i) {
      if (groups.at(b.prompt[static_cast<std::size_t>(i)]).size() < 2) continue;  // it is compared with nothing
      auto changed = b;
      changed[name][i] += 1;
      const auto after = f(changed);
      const double baseline = b[name][i] - before[i], then = changed[name][i] - after[i];
      if (!detail::differ(baseline, then, o.tolerance)) continue;
      fault found{detail::sentence({"Adding 1 to the ", name, " of response ", i, " changes its baseline, ", name,
                                    " - result, from ", baseline, " to ", then, "."}),
                  {}};
      found.columns.add("result", before);
      found.columns.add("result then", after);
      return found;
    }
    return {};
  });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
