// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/eigen.hpp>
#include <infalign/testing/search.hpp>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The function under test: from the inputs of a batch of responses to one number for each response.
namespace INFALIGN_NAMESPACE::checks {

/// An input of the function under test. A case has one number of it for each response.
struct input {
  std::string name = "reward";  ///< Its name.
  double low = -4;              ///< The smallest value that is drawn.
  double high = 4;              ///< The largest value that is drawn.
  double step = 0.125;          ///< Values are `low` plus multiples of this: 1 for whole numbers.
};

/// A batch of B responses: the index of a prompt and the inputs of each.
struct response_batch {
  std::vector<int> prompt = {};             ///< B. Responses with equal indices belong to one prompt.
  std::vector<input> inputs = {};           ///< What the columns are.
  std::vector<array<double>> columns = {};  ///< B numbers for each input.
  bool equal_groups = false;        ///< True if all prompts have equally many responses, one prompt after another.
  Eigen::Index smallest_group = 1;  ///< Simplification keeps at least so many responses of each prompt.

  /// The number of responses.
  Eigen::Index size() const { return std::ssize(prompt); }
  /// The number of prompts.
  Eigen::Index prompts() const { return std::ssize(members()); }
  /// The position of an input. Errors: if no input has this name.
  std::size_t position(const std::string& name) const {
    for (std::size_t c = 0; c < inputs.size(); ++c)
      if (inputs[c].name == name) return c;
    detail::fail("response_batch", "the name of an input", name);
  }
  /// The numbers of an input, B.
  const array<double>& operator[](const std::string& name) const { return columns[position(name)]; }
  /// The numbers of an input, to change them.
  array<double>& operator[](const std::string& name) { return columns[position(name)]; }
  /// The numbers of an input as a P × M matrix. For a pipeline with `equal_groups`.
  matrix<double> as_matrix(const std::string& name) const {
    const auto& x = (*this)[name];
    matrix<double> rows(prompts(), prompts() > 0 ? size() / prompts() : 0);
    for (Eigen::Index i = 0; i < rows.size(); ++i) rows.data()[i] = x[i];
    return rows;
  }

  /// The positions of the responses to each prompt.
  std::map<int, std::vector<Eigen::Index>> members() const {
    std::map<int, std::vector<Eigen::Index>> result;
    for (Eigen::Index i = 0; i < size(); ++i) result[prompt[static_cast<std::size_t>(i)]].push_back(i);
    return result;
  }
  /// The responses at these positions, in this order.
  response_batch only(const std::vector<Eigen::Index>& positions) const {
    response_batch result = *this;
    result.prompt.clear();
    for (auto& column : result.columns) column.resize(std::ssize(positions));
    for (Eigen::Index k = 0; k < std::ssize(positions); ++k) {
      const auto i = positions[static_cast<std::size_t>(k)];
      result.prompt.push_back(prompt[static_cast<std::size_t>(i)]);
      for (std::size_t c = 0; c < columns.size(); ++c) result.columns[c][k] = columns[c][i];
    }
    return result;
  }
  /// All responses but those for which `leave_out(position)` is true.
  template <class F>
  response_batch without(const F& leave_out) const {
    std::vector<Eigen::Index> kept;
    for (Eigen::Index i = 0; i < size(); ++i)
      if (!leave_out(i)) kept.push_back(i);
    return only(kept);
  }

  /// Simpler batches: without a prompt, without a response, with a simpler number. See `search`.
  std::vector<response_batch> simpler() const;
  /// Writes the batch as a counterexample. See `search`.
  void show(report& r, const named_columns& results) const;
};

/// The function under test, and the batches that it takes.
///
///     const checks::pipeline shaped{
///         [](const checks::response_batch& b) -> array<double> { return b["reward"] - 0.01 * b["length"]; },
///         {{"reward"}, {.name = "length", .low = 1, .high = 512, .step = 1}}};
struct pipeline {
  /// From a batch to one number for each response, in the batch's order.
  std::function<array<double>(const response_batch&)> function;
  /// What it takes: by default, one input with the name "reward".
  std::vector<input> inputs;
  /// True if it needs equally many responses to each prompt, one prompt after another: `as_matrix` is then the batch.
  bool equal_groups = false;
  /// The number of responses to a prompt that it needs.
  Eigen::Index smallest_group = 1;

  /// From any function of a batch that returns an Eigen vector, a P × M matrix, or a `std::vector`. An Eigen expression is
  /// refused, because its operands may be gone when it is evaluated.
  template <class F>
  requires std::invocable<const F&, const response_batch&> pipeline(F f, std::vector<input> takes = {{}},
                                                                    bool needs_equal_groups = false,
                                                                    Eigen::Index least = 1)
      : function([f = std::move(f)](const response_batch& b) { return as_results(f(b)); }),
        inputs(std::move(takes)),
        equal_groups(needs_equal_groups),
        smallest_group(least) {}

  /// The results for a batch. Errors: if there is not one for each response.
  array<double> operator()(const response_batch& batch) const {
    auto results = function(batch);
    detail::check_size("pipeline", "results, one for each response", batch.size(), results.size());
    return results;
  }

 private:
  template <class Results>
  static array<double> as_results(const Results& results) {
    if constexpr (array_expression<Results>) {
      static_assert(std::derived_from<Results, Eigen::PlainObjectBase<Results>>,
                    "infalign::checks::pipeline: the function returns an Eigen expression, whose operands may be gone: "
                    "let it return a vector, with -> infalign::array<double>");
      const matrix<typename Results::Scalar> rows = detail::as_array(results);
      return rows.template cast<double>().template reshaped<Eigen::RowMajor>();
    } else {
      array<double> copy(detail::size_of(results));
      for (Eigen::Index i = 0; i < copy.size(); ++i)
        copy[i] = static_cast<double>(results[static_cast<std::size_t>(i)]);
      return copy;
    }
  }
};

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::detail {

/// How far a drawn number is from the simplest of its input. Whole and positive numbers are simpler.
inline double complexity(const checks::input& from, double x) {
  if (!is_finite(x)) return 1e300;
  const double simplest = from.low > 0 ? from.low : 0;
  return std::abs(x - simplest) + (x == std::floor(x) ? 0 : 100) + (x < simplest ? 0.25 * from.step : 0);
}

/// Simpler numbers than x of an input, the simplest first.
inline std::vector<double> simpler_numbers(const checks::input& from, double x) {
  const double simplest = from.low > 0 ? from.low : 0, whole = std::max(1.0, from.step);
  const double half = simplest + from.step * std::trunc((x - simplest) / 2 / from.step);
  std::vector<double> result;
  for (const double y :
       {simplest, simplest + whole, half, simplest - (x - simplest), std::floor(x), std::ceil(x), x - whole, x + whole})
    if (y >= from.low && y <= from.high && complexity(from, y) < complexity(from, x)) result.push_back(y);
  return result;
}

/// Draws a batch of 1 to 4 prompts with up to 5 responses each. Every second batch has ties.
inline checks::response_batch draw_batch(const checks::pipeline& f, checks::random_source& random) {
  checks::response_batch batch{.inputs = f.inputs, .equal_groups = f.equal_groups, .smallest_group = f.smallest_group};
  const auto group_size = [&] {
    return f.smallest_group + random.integer(0, std::max<Eigen::Index>(4, 5 - f.smallest_group));
  };
  const auto P = random.integer(1, 4), M = group_size();
  for (Eigen::Index p = 0; p < P; ++p)
    for (Eigen::Index m = f.equal_groups ? M : group_size(); m > 0; --m) batch.prompt.push_back(static_cast<int>(p));
  if (!f.equal_groups && random.one_in(2))
    for (std::size_t i = batch.prompt.size(); i > 1; --i)
      std::swap(batch.prompt[i - 1],
                batch.prompt[static_cast<std::size_t>(random.integer(0, static_cast<Eigen::Index>(i) - 1))]);
  for (const auto& in : f.inputs) {
    const auto most = static_cast<Eigen::Index>(std::floor((in.high - in.low) / in.step));
    const auto number = [&] { return in.low + in.step * static_cast<double>(random.integer(0, most)); };
    const double pool[] = {number(), number(), number()};
    const bool ties = random.one_in(2);
    array<double> column(batch.size());
    for (double& x : column) x = ties ? pool[random.integer(0, 2)] : number();
    batch.columns.push_back(std::move(column));
  }
  return batch;
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

inline std::vector<response_batch> response_batch::simpler() const {
  std::vector<response_batch> result;
  const auto groups = members();
  const auto of = [&](Eigen::Index i) { return prompt[static_cast<std::size_t>(i)]; };
  const auto add_if_large_enough = [&](response_batch batch) {
    for (const auto& [p, group] : batch.members())
      if (std::ssize(group) < smallest_group) return;
    if (batch.size() > 0) result.push_back(std::move(batch));
  };
  for (const auto& [p, group] : groups)
    add_if_large_enough(without([&, left_out = p](Eigen::Index i) { return of(i) == left_out; }));
  if (equal_groups) {
    const auto M = groups.empty() ? 0 : size() / std::ssize(groups);
    for (Eigen::Index m = 0; m < M; ++m) add_if_large_enough(without([&](Eigen::Index i) { return i % M == m; }));
  } else {
    for (Eigen::Index i = 0; i < size(); ++i) add_if_large_enough(without([&](Eigen::Index k) { return k == i; }));
    for (Eigen::Index i = 0; i < size(); ++i)
      for (Eigen::Index j = 0; j < i; ++j)
        add_if_large_enough(without([&](Eigen::Index k) { return k == i || k == j; }));
  }
  int number = 0;
  response_batch renumbered = *this;
  for (const auto& [p, group] : groups) {
    for (const auto i : group) renumbered.prompt[static_cast<std::size_t>(i)] = number;
    ++number;
  }
  if (renumbered.prompt != prompt) result.push_back(std::move(renumbered));
  for (std::size_t c = 0; c < columns.size(); ++c)
    for (Eigen::Index i = 0; i < size(); ++i)
      for (const double x : detail::simpler_numbers(inputs[c], columns[c][i]))
        for (const bool with_ties : {true, false}) {
          const double old = columns[c][i];
          if (with_ties && std::count(columns[c].begin(), columns[c].end(), old) < 2) continue;
          result.push_back(*this);
          auto& changed = result.back().columns[c];
          if (with_ties)
            std::replace(changed.begin(), changed.end(), old, x);
          else
            changed[i] = x;
        }
  return result;
}

inline void response_batch::show(report& r, const named_columns& results) const {
  r.prompts = prompts();
  r.responses = size();
  array<double> indices(size());
  for (Eigen::Index i = 0; i < size(); ++i) indices[i] = prompt[static_cast<std::size_t>(i)];
  r.counterexample.add("prompt", std::move(indices));
  for (std::size_t c = 0; c < columns.size(); ++c) r.counterexample.add(inputs[c].name, columns[c]);
  for (std::size_t c = 0; c < results.columns.size(); ++c) r.counterexample.add(results.names[c], results.columns[c]);
}

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::checks {

/// A check of your own: draws batches for a pipeline until `problem(batch)` returns a `fault`, then simplifies the batch.
///
///     const auto report = checks::check_batches("sums to 1", f, {}, [&](const checks::response_batch& b) -> checks::fault {
///       const double sum = f(b).sum();
///       if (std::abs(sum - 1) < 1e-6) return {};
///       return {"The results sum to " + std::to_string(sum) + ".", {}};
///     });
///
/// Cost: as `search`.
template <class Problem>
report check_batches(std::string check, const pipeline& f, const options& o, const Problem& problem) {
  return search(
      std::move(check), o, [&](random_source& random) { return detail::draw_batch(f, random); }, problem);
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
