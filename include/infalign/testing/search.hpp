// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/report.hpp>

#include <concepts>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// How a check looks for a counterexample: random cases, then simpler ones of the first that fails.
///
/// Source: Claessen and Hughes, "QuickCheck", ICFP 2000.
namespace INFALIGN_NAMESPACE::checks {

/// Random numbers that are the same on every machine for a seed.
///
/// Source: SplitMix64; Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
class random_source {
 public:
  /// From a seed.
  explicit random_source(std::uint64_t seed) : state_(seed) {}

  /// A whole number from `low` to `high`, both included.
  Eigen::Index integer(Eigen::Index low, Eigen::Index high) {
    return low + static_cast<Eigen::Index>(bits() % static_cast<std::uint64_t>(high - low + 1));
  }
  /// True once in n calls.
  bool one_in(Eigen::Index n) { return integer(1, n) == 1; }

 private:
  std::uint64_t bits() {
    state_ += 0x9e3779b97f4a7c15u;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

  std::uint64_t state_;
};

/// What is wrong with a case: a sentence, and columns that show it. An empty sentence: nothing.
struct fault {
  std::string sentence;   ///< What is wrong.
  named_columns columns;  ///< Results to show beside the inputs, a number for each row of the case.
};

/// A case that `search` can simplify:
///
/// - `simpler()`: cases that are simpler than this one, the simplest first. Repeated simplification must end.
/// - `show(report, columns)`: writes the case as the report's counterexample, with more columns.
template <class Case>
concept searchable = requires(const Case& c, report& r, const named_columns& columns) {
  { c.simpler() } -> std::same_as<std::vector<Case>>;
  c.show(r, columns);
};

}  // namespace INFALIGN_NAMESPACE::checks
namespace INFALIGN_NAMESPACE::detail {

/// The fault of a case. An exception of the function under test is a fault too.
template <class Case, class Problem>
std::pair<checks::fault, bool> fault_of(const Problem& problem, const Case& c) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  try {
    return {problem(c), false};
  } catch (const std::exception& error) {
    return {{concat("The function throws: ", error.what()), {}}, true};
  }
#else
  return {problem(c), false};
#endif
}

}  // namespace INFALIGN_NAMESPACE::detail
namespace INFALIGN_NAMESPACE::checks {

/// Draws cases with `draw(random)` until `problem(case)` finds a fault, then simplifies the case as long as it has one.
///
/// Cost: `options.cases` calls of both, and up to `options.simplifications` more calls of `problem` if one fails.
template <class Draw, class Problem>
report search(std::string check, const options& o, const Draw& draw, const Problem& problem) {
  using Case = std::invoke_result_t<const Draw&, random_source&>;
  static_assert(searchable<Case>, "infalign::checks::search: a case needs simpler() and show()");
  report r{.check = std::move(check), .seed = o.seed};
  random_source random(o.seed);
  while (r.cases < o.cases) {
    Case smallest = draw(random);
    r.cases += 1;
    auto [found, thrown] = detail::fault_of(problem, smallest);
    if (found.sentence.empty()) continue;

    int tried = 0;
    for (bool again = true; again;) {
      again = false;
      for (auto& candidate : smallest.simpler()) {
        if (++tried > o.simplifications) break;
        auto [other, other_thrown] = detail::fault_of(problem, candidate);
        if (other.sentence.empty() || other_thrown != thrown)
          continue;  // an error is another fault than a wrong result
        smallest = std::move(candidate);
        found = std::move(other);
        again = true;
        break;
      }
    }
    r.passed = false;
    r.finding = found.sentence;
    smallest.show(r, found.columns);
    break;
  }
  return r;
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
