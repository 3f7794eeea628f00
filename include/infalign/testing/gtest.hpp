// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/report.hpp>

#include <gtest/gtest.h>

#include <infalign/detail/begin.hpp>

/// \file
/// An assertion for GoogleTest.
namespace INFALIGN_NAMESPACE::checks {

/// Success if the check passed; else a failure with the report as its text.
///
///     EXPECT_TRUE(checks::passes(checks::increasing(pipeline, "reward")));
inline ::testing::AssertionResult passes(const report& r) {
  return r.passed ? ::testing::AssertionSuccess() : ::testing::AssertionFailure() << to_string(r);
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
