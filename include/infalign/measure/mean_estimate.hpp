// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/distributions.hpp>
#include <infalign/detail/eigen.hpp>

#include <cmath>

#include <infalign/detail/begin.hpp>

/// \file
/// Means over prompts, with standard errors and 95 % intervals.
///
/// The prompts are the sample. Responses to one prompt are not independent, so that a standard error over responses
/// would be too small.
namespace INFALIGN_NAMESPACE {

/// A mean over prompts with its uncertainty. For one prompt `standard_error`, `low` and `high` are NaN.
struct mean_estimate {
  double mean;            ///< The mean over prompts.
  double standard_error;  ///< s/√P, with s the sample standard deviation over the P prompts.
  double low;   ///< The lower end of the 95 % interval: mean − t·standard_error, with t the 97.5 % quantile of
                ///< Student's distribution with P − 1 degrees of freedom.
  double high;  ///< The upper end, mean + t·standard_error.
  Eigen::Index prompts;  ///< P.
};

/// The mean over prompts of one number for each prompt, such as `win_rates` or a difference of two `win_rates`. The mean
/// of a difference is a paired comparison: its error is that of the difference on each prompt.
///
/// Shapes: values: P ≥ 1.
/// Errors: throws if there is no value or one is not finite.
template <number_list V>
mean_estimate mean_over_prompts(const V& values) {
  const array<double> v = detail::as_column(values).template cast<double>();
  if (v.size() == 0) detail::fail("mean_over_prompts", "at least one prompt", "none");
  for (Eigen::Index p = 0; p < v.size(); ++p)
    if (!detail::is_finite(v[p]))
      detail::fail("mean_over_prompts", "finite values", detail::concat(v[p], detail::position(p)));
  const double P = static_cast<double>(v.size()), mean = v.mean();
  if (v.size() == 1) return {mean, detail::nan<double>, detail::nan<double>, detail::nan<double>, 1};
  const double error = std::sqrt((v - mean).square().sum() / (P - 1) / P);
  const double margin = detail::student_quantile(v.size() - 1) * error;
  return {mean, error, mean - margin, mean + margin, v.size()};
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
