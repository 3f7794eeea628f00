// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/procedure.hpp>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

/// Win rates: how often what the aligned model shows beats what the reference model shows.
namespace infalign {

namespace detail {

inline void check_probabilities(const char* what, const array<double>& p) {
  constexpr auto function = "exact_win_rate";
  double sum = 0;
  for (Eigen::Index k = 0; k < p.size(); ++k) {
    if (!is_finite(p[k]) || p[k] < 0) fail(function, text(what, " probabilities of at least 0"), text(p[k], at(k)));
    sum += p[k];
  }
  if (!(std::abs(sum - 1) <= 1e-5)) fail(function, text(what, " probabilities that sum to 1"), text(sum));
}

}  // namespace detail

/// The inference-time win rate of a policy over a finite set of K responses to one prompt, exactly:
///
///     W = P(r(Y) > r(Z)) + ½·P(r(Y) = r(Z)),   Y ~ T₁(policy), Z ~ T₂(reference)
///
/// rewards, policy, reference: K each; the last two are probabilities over the same responses (to 1e-5, and
/// normalised). In [0, 1]; ½ where policy and procedures are the same. Accuracy: 1e-14 a response. Cost: K log K.
/// Throws where sizes differ, K = 0, a reward is NaN or the probabilities are none.
template <vector_expression R, vector_expression P, vector_expression Q, procedure T1, procedure T2>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T1& policy_procedure,
                      const T2& reference_procedure) {
  using namespace detail;
  const array<double> r = as_column(rewards).template cast<double>();
  array<double> p = as_column(policy).template cast<double>(), q = as_column(reference).template cast<double>();
  if (r.size() == 0) fail("exact_win_rate", "at least one response", "none");
  check_size("exact_win_rate", "policy probabilities, one for each reward", r.size(), p.size());
  check_size("exact_win_rate", "reference probabilities, one for each reward", r.size(), q.size());
  check_scored("exact_win_rate", r.data(), r.size(), 0, unscored::error);
  check_probabilities("policy", p);
  check_probabilities("reference", q);
  p /= p.sum();
  q /= q.sum();

  std::vector<Eigen::Index> order(static_cast<std::size_t>(r.size()));
  std::iota(order.begin(), order.end(), Eigen::Index{0});
  std::sort(order.begin(), order.end(), [&](Eigen::Index a, Eigen::Index b) { return r[a] < r[b]; });

  // Up the distinct rewards: what is shown has a reward of at most the k-th with probability G(F).
  double win_rate = 0, policy_cdf = 0, reference_cdf = 0, shown = 0, reference_shown = 0;
  for (std::size_t k = 0; k < order.size();) {
    const double level = r[order[k]];
    for (; k < order.size() && r[order[k]] == level; ++k) {
      policy_cdf += p[order[k]];
      reference_cdf += q[order[k]];
    }
    const bool top = k == order.size();
    const double next = policy_procedure.cdf(top ? 1.0 : std::min(policy_cdf, 1.0));
    const double reference_next = reference_procedure.cdf(top ? 1.0 : std::min(reference_cdf, 1.0));
    win_rate += (next - shown) * 0.5 * (reference_shown + reference_next);
    shown = next;
    reference_shown = reference_next;
  }
  return win_rate;
}

/// The same where policy and reference are used with one procedure.
template <vector_expression R, vector_expression P, vector_expression Q, procedure T>
double exact_win_rate(const R& rewards, const P& policy, const Q& reference, const T& both) {
  return exact_win_rate(rewards, policy, reference, both, both);
}

}  // namespace infalign
