// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/eigen.hpp>
#include <infalign/procedure.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// The win rate of a policy whose probabilities are known.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// Throws unless p is a probability distribution; then makes its sum exactly 1.
inline void normalize_probabilities(const char* what, array<double>& p) {
  constexpr auto function = "exact_win_rate";
  double sum = 0;
  for (Eigen::Index k = 0; k < p.size(); ++k) {
    if (!is_finite(p[k]) || p[k] < 0)
      fail(function, concat(what, " probabilities of at least 0"), concat(p[k], position(k)));
    sum += p[k];
  }
  if (!(std::abs(sum - 1) <= 1e-5)) fail(function, concat(what, " probabilities that sum to 1"), concat(sum));
  p /= p.sum();
}

}  // namespace detail

/// The inference-time win rate of a policy over a finite set of K responses to one prompt.
///
///     W = P(r(Y) > r(Z)) + ½·P(r(Y) = r(Z)),   Y ~ T₁(policy), Z ~ T₂(reference)
///
/// Shapes: rewards, policy, reference: K each. The last two are probabilities of the same responses, which sum to 1 (to
/// 1e-5; they are normalised).
/// Range: [0, 1]; ½ if policy and reference, and their procedures, are equal.
/// Accuracy: 1e-14 per response.
/// Cost: K log K.
/// Errors: throws if sizes differ, if K = 0, if a reward is NaN, and if probabilities or a procedure are invalid.
template <number_list R, number_list P, number_list Q, procedure T1, procedure T2>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T1& policy_procedure,
                      const T2& reference_procedure) {
  using namespace detail;
  check_part(policy_procedure);
  check_part(reference_procedure);
  const array<double> r = as_column(rewards).template cast<double>();
  array<double> p = as_column(policy).template cast<double>(), q = as_column(reference).template cast<double>();
  if (r.size() == 0) fail("exact_win_rate", "at least one response", "none");
  check_size("exact_win_rate", "policy probabilities, one for each reward", r.size(), p.size());
  check_size("exact_win_rate", "reference probabilities, one for each reward", r.size(), q.size());
  check_scored("exact_win_rate", r.data(), r.size(), 0, unscored::error);
  normalize_probabilities("policy", p);
  normalize_probabilities("reference", q);

  std::vector<Eigen::Index> order(static_cast<std::size_t>(r.size()));
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return r[a] < r[b]; });

  double policy_cdf = 0, reference_cdf = 0;        // of one response, up to the current reward
  double policy_output = 0, reference_output = 0;  // the CDFs of the outputs, below the current reward
  double win_rate = 0;
  for (std::size_t k = 0; k < order.size();) {
    const double reward = r[order[k]];
    for (; k < order.size() && r[order[k]] == reward; ++k) {
      policy_cdf += p[order[k]];
      reference_cdf += q[order[k]];
    }
    const bool top = k == order.size();
    const double policy_at_most = policy_procedure.cdf(top ? 1.0 : std::min(policy_cdf, 1.0)),
                 reference_at_most = reference_procedure.cdf(top ? 1.0 : std::min(reference_cdf, 1.0));
    win_rate += (policy_at_most - policy_output) * 0.5 * (reference_output + reference_at_most);
    policy_output = policy_at_most;
    reference_output = reference_at_most;
  }
  return win_rate;
}

/// As above, with one procedure for both.
template <number_list R, number_list P, number_list Q, procedure T>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T& both) {
  return exact_win_rate(rewards, policy, reference, both, both);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
