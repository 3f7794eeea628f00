// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/batch.hpp>
#include <infalign/step/step_result.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// The scored rewards of a batch: their moments, and whether training can use them.
namespace INFALIGN_NAMESPACE::detail {

/// The mean of the scored, in double, and their number.
template <real_scalar S>
metric_mean scored_mean(const S* rewards, Eigen::Index size) {
  metric_mean mean;
  for (Eigen::Index i = 0; i < size; ++i)
    if (!is_nan(rewards[i])) mean.add(static_cast<double>(rewards[i]));
  return mean;
}

/// The sum of the squared differences of the scored from a mean.
template <real_scalar S>
double scored_squares(const S* rewards, Eigen::Index size, double mean) {
  double sum = 0;
  for (Eigen::Index i = 0; i < size; ++i)
    if (!is_nan(rewards[i])) sum += (static_cast<double>(rewards[i]) - mean) * (static_cast<double>(rewards[i]) - mean);
  return sum;
}

/// The sample standard deviation of n numbers with this sum of squared differences from their mean.
inline double deviation(double squares, double n) {
  return metric_std{.sum = 0, .squares = squares, .weight = n};
}

/// Throws if a reward is infinite, or NaN unless that is propagated: training needs numbers.
template <real_scalar S, class Prompts>
void check_trainable(const caller& call, const Prompts& prompts, const S* rewards) {
  check_scored(call, prompts, packed_rows(rewards, prompts));
  for (Eigen::Index i = 0; i < prompts.size(); ++i)
    if (!is_finite(rewards[i]) && !is_nan(rewards[i]))
      fail(call.function, "finite rewards", concat(rewards[i], prompts.position(i)));
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
