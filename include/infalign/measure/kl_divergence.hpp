// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/groups.hpp>
#include <infalign/detail/parallel.hpp>
#include <infalign/detail/token_reader.hpp>
#include <infalign/measure/mean_estimate.hpp>
#include <infalign/step/token_batch.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// The KL of a policy to the reference, measured on responses that the policy gave.
namespace INFALIGN_NAMESPACE {

/// The KL of a policy to the reference, in nats per response, from responses sampled from the policy: the mean over
/// prompts of each prompt's mean log-ratio. It is unbiased.
///
///     KL(π ‖ π_ref) = E_{y ~ π}[log π(y) − log π_ref(y)]
///
/// Shapes: log_probabilities, reference_log_probabilities: P × M, of whole responses (sums over their tokens).
/// Errors: throws if the shapes differ or a number is not finite.
template <array_expression L, array_expression R>
mean_estimate kl_divergence(const L& log_probabilities, const R& reference_log_probabilities) {
  const matrix<double> now = detail::as_array(log_probabilities).template cast<double>(),
                       reference = detail::as_array(reference_log_probabilities).template cast<double>();
  detail::check_size("kl_divergence", "rows of reference_log_probabilities", now.rows(), reference.rows());
  detail::check_size("kl_divergence", "columns of reference_log_probabilities", now.cols(), reference.cols());
  if (now.size() == 0) detail::fail("kl_divergence", "at least one response to each prompt", "none");
  for (Eigen::Index p = 0; p < now.rows(); ++p)
    for (Eigen::Index m = 0; m < now.cols(); ++m)
      for (const double x : {now(p, m), reference(p, m)})
        if (!detail::is_finite(x))
          detail::fail("kl_divergence", "finite log-probabilities", detail::concat(x, detail::position(p, m)));
  return mean_over_prompts((now - reference).rowwise().mean().eval());
}

namespace detail {

/// The mean over groups of each group's mean log-ratio. `groups_of()` makes them, after the checks.
template <real_scalar S, class Mask, class GroupsOf>
mean_estimate kl_of_groups(const token_batch<S, Mask>& all, const GroupsOf& groups_of) {
  constexpr auto function = "kl_divergence";
  const token_batch<S, Mask> batch{.log_probabilities = all.log_probabilities,
                                   .reference_log_probabilities = all.reference_log_probabilities,
                                   .mask = all.mask};
  const auto B = batch.log_probabilities.rows();
  if (B == 0) fail(function, "at least one response", "none");
  if (!batch.reference_log_probabilities.given()) fail(function, "reference_log_probabilities", "none");
  check_batch(function, batch, "responses", B);
  check_logarithms(function, batch);
  const groups g = groups_of();
  array<double> ratios(B), means(g.count());
  const token_reader<S, Mask> reader(function, batch);
  for_each_row(B, static_cast<double>(batch.log_probabilities.cols()) * static_cast<double>(B),
               [&](Eigen::Index i) { ratios[i] = reader.sums(i).to_reference; });
  Eigen::Index next = 0;
  g.for_each(ratios.data(), [&](Eigen::Map<const array<double>> group, Eigen::Index) {
    double sum = 0;
    for (const double ratio : group) sum += ratio;
    means[next++] = sum / static_cast<double>(group.size());
  });
  return mean_over_prompts(means);
}

}  // namespace detail

/// As above, from the tokens of the responses: the log-ratio of a response is the sum over its unmasked tokens. Masked
/// tokens are ignored, even if they are NaN or log 0. A response without unmasked tokens has log-ratio 0.
///
///     kl_divergence(batch, M)         // M responses to each prompt, B = P·M in row-major order
///     kl_divergence(batch, prompt)    // a flat batch: response i belongs to prompt[i]
///
/// Shapes: log_probabilities and reference_log_probabilities B × T, B ≥ 1; the mask is optional. Other views are not read.
/// Errors: throws if shapes differ, there is no reference, an unmasked log-probability is not finite, a mask is not 0 or
/// 1, or B is not a multiple of M.
template <real_scalar S, class Mask>
mean_estimate kl_divergence(const token_batch<S, Mask>& batch, Eigen::Index M) {
  return detail::kl_of_groups(batch, [&] {
    const auto B = batch.log_probabilities.rows();
    if (M < 1 || B % M != 0)
      detail::fail("kl_divergence", detail::concat("a number of responses to each prompt that divides ", B),
                   detail::concat(M));
    return detail::groups(detail::row_prompts{B / M, M}, nullptr);
  });
}

/// The KL of a flat batch, in which prompts may have different numbers of responses.
///
/// Shapes: prompt B. Equal prompts have equal indices, in any order.
template <real_scalar S, class Mask, prompt_index Prompts>
mean_estimate kl_divergence(const token_batch<S, Mask>& batch, const Prompts& prompt) {
  return detail::kl_of_groups(batch, [&] {
    detail::check_size("kl_divergence", "prompt indices, one for each response", batch.log_probabilities.rows(),
                       static_cast<Eigen::Index>(prompt.size()));
    return detail::groups(detail::flat_prompts<Prompts>{prompt}, nullptr);
  });
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
