// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing.hpp>

#include <string>
#include <vector>

// Bugs that trainers really had, each written anew in a few lines, beside the right code, with the check that tells them apart.

/// A bug: the reports of one check for the code with the bug and for the right code.
struct exhibit {
  std::string name;    ///< What was wrong.
  std::string source;  ///< The public issue or pull request.
  infalign::checks::report with_bug;
  infalign::checks::report without_bug;
};

/// Bugs in functions from rewards to rewards or advantages.
std::vector<exhibit> reward_bugs(const infalign::checks::options& o = {});
/// Bugs in steps, losses and KL estimates.
std::vector<exhibit> step_bugs(const infalign::checks::options& o = {});
