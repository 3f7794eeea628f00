// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/report.hpp>

#if __has_include(<catch2/matchers/catch_matchers.hpp>)
#include <catch2/matchers/catch_matchers.hpp>
#else
#include <catch2/catch.hpp>
#endif

#include <string>

#include <infalign/detail/begin.hpp>

/// \file
/// A matcher for Catch2, versions 2 and 3.
namespace INFALIGN_NAMESPACE::checks {

#if __has_include(<catch2/matchers/catch_matchers.hpp>)
/// The base class of matchers, which has another name in version 2.
using catch_matcher = Catch::Matchers::MatcherBase<report>;
#else
/// The base class of matchers, which has another name in version 2.
using catch_matcher = Catch::MatcherBase<report>;
#endif

/// Matches a report that passed. If it did not, Catch2 prints it.
///
///     CHECK_THAT(checks::increasing(pipeline, "reward"), checks::passes());
class passes : public catch_matcher {
 public:
  /// True if the check passed.
  bool match(const report& r) const override { return r.passed; }
  /// What is expected.
  std::string describe() const override { return "passes"; }
};

/// Matches a report that failed: for tests of what a pipeline is not.
class fails : public catch_matcher {
 public:
  /// True if the check failed.
  bool match(const report& r) const override { return !r.passed; }
  /// What is expected.
  std::string describe() const override { return "fails"; }
};

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
