// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/testing/small_policy.hpp>

#include <cmath>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Checks of an estimate of the KL between a policy and its reference: which divergence it is, and what its gradient does.
namespace INFALIGN_NAMESPACE::checks {

/// An estimate for each of B responses: f(log π, log π_ref, mask), each B × T. Sums over tokens.
using kl_estimate =
    std::function<array<double>(const matrix<double>& log_probabilities,
                                const matrix<double>& reference_log_probabilities, const matrix<double>& mask)>;

/// A divergence between the policy and its reference.
enum class divergence {
  reverse,  ///< KL(π ‖ π_ref), which J(θ) = E[R] − β·KL has
  forward   ///< KL(π_ref ‖ π)
};

}  // namespace INFALIGN_NAMESPACE::checks

namespace INFALIGN_NAMESPACE::detail {

/// "KL(policy || reference)".
inline std::string name_of_divergence(checks::divergence d) {
  return d == checks::divergence::reverse ? "KL(policy || reference)" : "KL(reference || policy)";
}

/// The estimate for all responses of a small policy, at a table of log π.
inline array<double> kl_estimates(const checks::kl_estimate& f, const checks::small_policy& p,
                                  const matrix<double>& policy) {
  matrix<double> now = matrix<double>::Zero(p.size(), p.longest), reference = now, mask = now;
  for (Eigen::Index y = 0; y < p.size(); ++y) {
    Eigen::Index t = 0;
    for (const auto& [prefix, token] : p.response(y)) {
      now(y, t) = policy(prefix, token);
      reference(y, t) = p.reference(prefix, token);
      mask(y, t++) = 1;
    }
  }
  auto result = f(now, reference, mask);
  check_size("kl_estimate", "estimates, one for each response", p.size(), result.size());
  return result;
}

/// The gradient of Σ π(y)·f(y) by the logits, with the probabilities π(y) as constants: what back-propagation of a KL loss
/// gives.
inline matrix<double> gradient_as_loss(const checks::kl_estimate& f, const checks::small_policy& p) {
  const auto probability = p.probability(p.policy);
  matrix<double> g(p.prefixes, p.vocabulary);
  for (Eigen::Index k = 0; k < g.size(); ++k) {
    const auto at = [&](double h) {
      auto moved = p.policy;
      moved.data()[k] += h;
      return (probability * kl_estimates(f, p, moved)).sum();
    };
    const auto slope = [&](double h) { return (at(h) - at(-h)) / (2 * h); };
    g.data()[k] = (4 * slope(5e-4) - slope(1e-3)) / 3;
  }
  return p.through_softmax(g);
}

}  // namespace INFALIGN_NAMESPACE::detail

namespace INFALIGN_NAMESPACE::checks {

/// The mean of the estimate over responses of the policy is the divergence. The finding tells what it is instead.
///
/// Of the usual estimates, k1 = δ and k3 = e^{−δ} − 1 + δ of a response have the mean KL(π ‖ π_ref), with δ the sum of
/// log π − log π_ref; sums of k3 of tokens have it too; k2 = ½δ² has it nearly.
template <std::same_as<options> Options = options>
report estimates_kl(const kl_estimate& f, divergence wanted = divergence::reverse, const Options& o = {}) {
  return detail::check_policies(
      detail::sentence({"estimates_kl(", wanted == divergence::reverse ? "reverse" : "forward", ")"}), o,
      [&](const auto& p) -> std::string {
        const double mean = (p.probability(p.policy) * detail::kl_estimates(f, p, p.policy)).sum();
        const double reverse = p.kl(), forward = p.forward_kl();
        const auto near = [&](double x) { return std::abs(mean - x) <= o.tolerance; };
        if (near(wanted == divergence::reverse ? reverse : forward)) return {};
        std::string what = detail::sentence({"The mean estimate is ", mean});
        for (const auto& [value, name] : {std::pair{reverse, divergence::reverse}, {forward, divergence::forward}}) {
          if (near(value)) what += ", which is " + detail::name_of_divergence(name);
          if (near(-value)) what += ", which is -" + detail::name_of_divergence(name);
        }
        return detail::sentence(
            {what, ". KL(policy || reference) is ", reverse, ", KL(reference || policy) is ", forward, "."});
      });
}

/// Used as a loss, back-propagated through log π with responses of the policy, the estimate has the gradient of the
/// divergence. The finding tells which gradient it has.
///
/// Of the usual estimates: k1 has the gradient 0, k2 that of KL(π ‖ π_ref), k3 that of KL(π_ref ‖ π), all for whole
/// responses. Sums over tokens of k2 or k3 have neither.
template <std::same_as<options> Options = options>
report has_kl_gradient(const kl_estimate& f, divergence wanted = divergence::reverse, const Options& o = {}) {
  return detail::check_policies(
      detail::sentence({"has_kl_gradient(", wanted == divergence::reverse ? "reverse" : "forward", ")"}), o,
      [&](const auto& p) -> std::string {
        const auto got = detail::gradient_as_loss(f, p);
        const matrix<double> reverse = p.kl_gradient(), forward = p.forward_kl_gradient();
        const auto& right = wanted == divergence::reverse ? reverse : forward;
        const auto& other = wanted == divergence::reverse ? forward : reverse;
        auto problem = compare_gradients(detail::name_of_divergence(wanted), got, right, o.tolerance);
        const auto other_name =
            detail::name_of_divergence(wanted == divergence::reverse ? divergence::forward : divergence::reverse);
        if (!problem.empty() && compare_gradients(other_name, got, other, o.tolerance).empty())
          problem += " It is the gradient of " + other_name + ".";
        return problem;
      });
}

}  // namespace INFALIGN_NAMESPACE::checks

#include <infalign/detail/end.hpp>
