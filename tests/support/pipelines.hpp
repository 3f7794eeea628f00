// SPDX-License-Identifier: MIT
#pragma once

// Pipelines that several tests of the checks use.
#include <infalign/testing/pipeline.hpp>

#include <algorithm>

/// The rewards as they are.
inline const infalign::checks::pipeline unchanged{
    [](const infalign::checks::response_batch& b) { return b["reward"]; }};

/// Rewards less the mean of the scored ones of the prompt.
inline const infalign::checks::pipeline minus_mean{[](const infalign::checks::response_batch& b) {
  infalign::array<double> result(b.size());
  for (const auto& [p, group] : b.members()) {
    double sum = 0, n = 0;
    for (const auto i : group)
      if (!infalign::detail::is_nan(b["reward"][i])) sum += b["reward"][i], n += 1;
    for (const auto i : group) result[i] = b["reward"][i] - sum / std::max(1.0, n);
  }
  return result;
}};
