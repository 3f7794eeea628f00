// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

// A reward pipeline as trainers have it, without any library: pipeline_test.cpp tests it.

/// What one response was scored with. NaN: a reward model failed.
struct scores {
  int prompt;      ///< The index of its prompt.
  double helpful;  ///< From one reward model.
  double safe;     ///< From another; below 0 is unsafe.
  double length;   ///< In tokens.
};

/// Rewards for training: a safe response is as good as it is helpful, an unsafe one loses twice what it is unsafe by. Clipped
/// to [-5, 5], less 1 for each 1,000 tokens above 256, and normalised to mean 0 and standard deviation 1 in each prompt. A
/// response that has no score has no reward (NaN), and its siblings do not see it.
inline std::vector<double> rewards_of(const std::vector<scores>& batch) {
  std::vector<double> rewards;
  std::map<int, std::vector<std::size_t>> scored;
  for (std::size_t i = 0; i < batch.size(); ++i) {
    const auto& [prompt, helpful, safe, length] = batch[i];
    rewards.push_back(std::clamp(helpful + 2 * std::min(0.0, safe), -5.0, 5.0) - std::max(0.0, length - 256) / 1000);
    if (std::isnan(helpful) || std::isnan(safe) || std::isnan(length))
      rewards.back() = NAN;
    else
      scored[prompt].push_back(i);
  }
  for (const auto& [prompt, group] : scored) {
    double mean = 0, squares = 0;
    for (const auto i : group) mean += rewards[i] / static_cast<double>(group.size());
    for (const auto i : group) squares += (rewards[i] - mean) * (rewards[i] - mean);
    const double deviation = group.size() > 1 ? std::sqrt(squares / static_cast<double>(group.size() - 1)) : 0;
    for (const auto i : group) rewards[i] = (rewards[i] - mean) / (deviation + 1e-4);
  }
  return rewards;
}
