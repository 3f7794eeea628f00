// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <cmath>

/// Means over prompts and what is known of their error. The prompts are the sample: what is measured on the responses
/// to one prompt depends on that prompt, so a standard error over responses would be too small.
namespace infalign {

/// A mean over prompts, its standard error s/√P (s the sample standard deviation over the P prompts), and the 95 %
/// interval [low, high], mean ∓ t·standard_error with t the 97.5 % quantile of Student's distribution with P − 1
/// degrees of freedom. For one prompt the last three are NaN.
struct estimate {
  double mean, standard_error, low, high;
  Eigen::Index prompts;
};

namespace detail {

/// P(|T| ≤ t) for Student's T with ν degrees of freedom: the finite sums in θ = atan(t/√ν). (Abramowitz and Stegun,
/// 26.7.3 and 26.7.4.)
inline double student_within(double t, int nu) {
  const double theta = std::atan(t / std::sqrt(nu)), c = std::cos(theta), s = std::sin(theta);
  double term = nu % 2 ? c : 1, sum = 0;
  for (int k = nu % 2 ? 3 : 2; k <= nu; k += 2) {
    sum += term;
    term *= c * c * (k - 1) / k;
  }
  constexpr double pi = 3.14159265358979323846;
  return nu % 2 ? 2 / pi * (theta + s * sum) : s * sum;
}

/// The 97.5 % quantile of Student's distribution, to 1e-9; above 1,000 degrees of freedom by its expansion about the
/// normal one (Abramowitz and Stegun, 26.7.5).
inline double student_quantile(Eigen::Index nu) {
  constexpr double z = 1.959963984540054;
  if (nu > 1000) {
    const double v = static_cast<double>(nu), z3 = z * z * z;
    return z + (z3 + z) / (4 * v) + (5 * z3 * z * z + 16 * z3 + 3 * z) / (96 * v * v);
  }
  double low = z, high = 13;
  while (high - low > 1e-10) {
    const double middle = (low + high) / 2;
    (student_within(middle, static_cast<int>(nu)) < 0.95 ? low : high) = middle;
  }
  return high;
}

}  // namespace detail

/// The mean over prompts of one number for each, such as `win_rates` or the difference of two of them: for a paired
/// comparison, whose error is that of the difference on each prompt.
///
/// values: P ≥ 1, all finite. Throws where there are none, or one is not finite.
template <vector_expression V>
estimate mean_over_prompts(const V& values) {
  const array<double> v = detail::as_column(values).template cast<double>();
  if (v.size() == 0) detail::fail("mean_over_prompts", "at least one prompt", "none");
  for (Eigen::Index p = 0; p < v.size(); ++p)
    if (!detail::is_finite(v[p])) detail::fail("mean_over_prompts", "finite values", detail::text(v[p], detail::at(p)));
  const double P = static_cast<double>(v.size()), mean = v.mean();
  if (v.size() == 1) return {mean, detail::nan<double>, detail::nan<double>, detail::nan<double>, 1};
  const double error = std::sqrt((v - mean).square().sum() / (P - 1) / P);
  const double margin = detail::student_quantile(v.size() - 1) * error;
  return {mean, error, mean - margin, mean + margin, v.size()};
}

/// KL(π ‖ π_ref) = E over y ~ π of log π(y) − log π_ref(y), from the log-probabilities of responses sampled from π: the
/// mean over prompts of each prompt's mean, which is unbiased, in nats per response.
///
/// log_probabilities, reference_log_probabilities: P × M, of whole responses (the sum over their tokens). Throws where
/// the shapes differ, or one is not finite.
template <array_expression L, array_expression R>
estimate kl_divergence(const L& log_probabilities, const R& reference_log_probabilities) {
  const matrix<double> now = detail::as_array(log_probabilities).template cast<double>(),
                       reference = detail::as_array(reference_log_probabilities).template cast<double>();
  detail::check_size("kl_divergence", "rows of reference_log_probabilities", now.rows(), reference.rows());
  detail::check_size("kl_divergence", "columns of reference_log_probabilities", now.cols(), reference.cols());
  if (now.size() == 0) detail::fail("kl_divergence", "at least one response to each prompt", "none");
  for (Eigen::Index p = 0; p < now.rows(); ++p)
    for (Eigen::Index m = 0; m < now.cols(); ++m)
      for (const double x : {now(p, m), reference(p, m)})
        if (!detail::is_finite(x))
          detail::fail("kl_divergence", "finite log-probabilities", detail::text(x, detail::at(p, m)));
  return mean_over_prompts((now - reference).rowwise().mean().eval());
}

}  // namespace infalign
