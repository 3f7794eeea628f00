// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/pipeline.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// What the checks of testing/ share: random batches, and the comparison of results.
namespace INFALIGN_NAMESPACE::detail {

/// True if two results differ. NaN equals NaN.
inline bool differ(double a, double b, double tolerance) {
  if (!is_finite(a) || !is_finite(b))
    return std::bit_cast<std::uint64_t>(a) != std::bit_cast<std::uint64_t>(b) && !(is_nan(a) && is_nan(b));
  return std::abs(a - b) > tolerance * std::max({1.0, std::abs(a), std::abs(b)});
}

/// The title of a check of one input: `increasing("reward")`, with more arguments behind the name.
///
/// Errors: if the pipeline has no input of this name.
inline std::string title(const char* check, const checks::pipeline& f, const std::string& name,
                         const std::string& more = "") {
  for (const auto& in : f.inputs)
    if (in.name == name) return concat(check, "(\"", name, "\"", more, ")");
  fail(check, "the name of an input", name);
}

/// The fault that results are not those expected, given in the same order. Without a fault, nothing.
inline checks::fault compare_results(const std::string& change, const array<double>& results, const char* label,
                                     const array<double>& expected, double tolerance) {
  for (Eigen::Index i = 0; i < results.size(); ++i) {
    if (!differ(results[i], expected[i], tolerance)) continue;
    checks::fault found{
        sentence({change, " changes the result of response ", i, " from ", results[i], " to ", expected[i], "."}), {}};
    found.columns.add("result", results);
    found.columns.add(label, expected);
    return found;
  }
  return {};
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
