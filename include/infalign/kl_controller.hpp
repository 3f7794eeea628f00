// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>

/// Controllers of the KL weight β: plain data that a trainer updates after each step with the step's metrics, saves and
/// restores. The KL's unit is in the type, because a target per token read as one per sequence is wrong by the length
/// of a response.
///
///     adaptive_kl_per_sequence control{.beta = 0.05, .target = 6};
///     …
///     auto out = policy_gradient{k1_in_reward{control.beta}, leave_one_out{}}(batch, rewards);
///     control.update(out.metrics);
namespace infalign {

/// What a KL is counted per: a whole response, or one of its tokens.
enum class kl_unit { sequence, token };

/// β as it is.
struct fixed_kl {
  double beta;

  template <class Metrics>
  void update(const Metrics&) {}
};

/// β ← β·(1 + clip(kl/target − 1, ±0.2)·n/horizon) for n responses with a mean KL of `kl` in the controller's unit.
/// (Ziegler et al., arXiv:1909.08593, section 2.2.) Throws unless beta, target and horizon are finite and above 0, n at
/// least 0 and kl finite. n/horizon is taken as at most 1, so that beta stays above 0.
template <kl_unit Unit>
struct adaptive_kl {
  double beta;
  double target;
  double horizon = 10000;

  void update(double kl, double n) {
    constexpr auto name = "adaptive_kl";
    detail::check_positive(name, "a beta", beta);
    detail::check_positive(name, "a target", target);
    detail::check_positive(name, "a horizon", horizon);
    if (!detail::is_finite(kl)) detail::fail(name, "a finite kl", detail::text(kl));
    if (!detail::is_finite(n) || n < 0) detail::fail(name, "n of at least 0", detail::text(n));
    beta *= 1 + std::clamp(kl / target - 1, -0.2, 0.2) * std::min(n / horizon, 1.0);
  }

  /// From the metrics of a step: its KL in this controller's unit, and its number of sequences.
  template <class Metrics>
  void update(const Metrics& metrics) {
    update(Unit == kl_unit::sequence ? metrics.kl : metrics.kl_per_token, metrics.sequences);
  }
};

using adaptive_kl_per_sequence = adaptive_kl<kl_unit::sequence>;
using adaptive_kl_per_token = adaptive_kl<kl_unit::token>;

}  // namespace infalign
