// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// Controllers of the KL weight β. A trainer updates one after each step with the step's metrics; it is plain data to
/// save and restore.
///
///     adaptive_kl_per_sequence control{.beta = 0.05, .target = 6};
///     …
///     auto out = policy_gradient{k1_in_reward{control.beta}, leave_one_out{}}(batch, rewards);
///     control.update(out.metrics);
namespace INFALIGN_NAMESPACE {

/// The unit of a mean KL: per response, or per token.
enum class kl_unit { sequence, token };

/// A constant β.
struct fixed_kl {
  /// The KL weight β.
  double beta;

  /// Does nothing.
  template <class Metrics>
  void update(const Metrics&) {}
};

/// A β that moves the KL towards a target:
///
///     β ← β·(1 + clip(kl/target − 1, −0.2, 0.2)·min(n/horizon, 1))
///
/// for n responses with mean KL `kl`. The unit of `kl` and `target` is part of the type, because a target per token
/// that is read as one per response is wrong by a factor of the response's length.
///
/// Range: β stays above 0.
/// Errors: if beta, target or horizon is not finite and above 0, if kl is not finite, or if n is not finite or below 0.
/// β is then unchanged.
/// Source: Ziegler et al., arXiv:1909.08593, section 2.2.
template <kl_unit Unit>
struct adaptive_kl {
  /// The current KL weight β.
  double beta;
  /// The mean KL to reach, in this controller's unit.
  double target;
  /// So many responses at once change β by the full clipped error; fewer change it by less.
  double horizon = 10000;

  /// Throws unless the parameters are finite and above 0.
  void check() const {
    detail::check_positive("adaptive_kl", "a beta", beta);
    detail::check_positive("adaptive_kl", "a target", target);
    detail::check_positive("adaptive_kl", "a horizon", horizon);
  }

  /// Updates β from a mean KL of n responses.
  void update(double kl, double n) {
    check();
    if (!detail::is_finite(kl)) detail::fail("adaptive_kl", "a finite kl", detail::concat(kl));
    if (!detail::is_finite(n) || n < 0) detail::fail("adaptive_kl", "n of at least 0", detail::concat(n));
    beta *= 1 + std::clamp(kl / target - 1, -0.2, 0.2) * std::min(n / horizon, 1.0);
  }

  /// Updates β from the metrics of a step: the KL in this controller's unit, and the number of responses.
  template <class Metrics>
  void update(const Metrics& metrics) {
    update(Unit == kl_unit::sequence ? metrics.kl : metrics.kl_per_token, metrics.sequences);
  }
};

/// `adaptive_kl` with a KL per response, δ(y) summed over its tokens.
using adaptive_kl_per_sequence = adaptive_kl<kl_unit::sequence>;
/// `adaptive_kl` with a KL per token.
using adaptive_kl_per_token = adaptive_kl<kl_unit::token>;

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
