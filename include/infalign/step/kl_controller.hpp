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
///     if (control.at_bound()) …     // the target is out of reach: look at the learning rate
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
///     β ← clip(β·(1 + clip(kl/target − 1, −0.2, 0.2)·min(n/horizon, 1)), least, most)
///
/// for n responses with mean KL `kl`. The unit of `kl` and `target` is part of the type, because a target per token
/// that is read as one per response is wrong by a factor of the response's length.
///
/// It cannot wind up. Nothing but β is remembered, so β stays at a bound as long as the error has one sign, and leaves it
/// in the first step in which the error has the other. By default, the bounds are a hundredth of the first β and a
/// hundred times it. To restore a controller, restore all its members: a new one has bounds about its own first β.
///
/// Range: β is from `least` to `most`.
/// Errors: if beta, target, horizon, least or most is not finite and above 0, if beta is not from least to most, if kl is
/// not finite, or if n is not finite or below 0. β is then unchanged.
/// Source: Ziegler et al., arXiv:1909.08593, section 2.2.
template <kl_unit Unit>
struct adaptive_kl {
  /// The current KL weight β.
  double beta;
  /// The mean KL to reach, in this controller's unit.
  double target;
  /// So many responses at once change β by the full clipped error; fewer change it by less. With 512 responses a step and
  /// a horizon of 10,000, a step changes β by about 1 % at most: a factor of 2 takes 68 steps.
  double horizon = 10000;
  /// The smallest β.
  double least = beta / 100;
  /// The largest β.
  double most = beta * 100;

  /// Throws unless the parameters are finite and above 0, and β is within its bounds.
  void check() const {
    detail::check_positive("adaptive_kl", "a beta", beta);
    detail::check_positive("adaptive_kl", "a target", target);
    detail::check_positive("adaptive_kl", "a horizon", horizon);
    detail::check_positive("adaptive_kl", "a smallest beta (least)", least);
    detail::check_positive("adaptive_kl", "a largest beta (most)", most);
    if (beta < least || beta > most)
      detail::fail("adaptive_kl", detail::concat("a beta from ", least, " to ", most), detail::concat(beta));
  }

  /// True if β is at a bound. If it stays there, no β within the bounds reaches the target.
  bool at_bound() const { return beta <= least || beta >= most; }

  /// Updates β from a mean KL of n responses.
  void update(double kl, double n) {
    check();
    if (!detail::is_finite(kl)) detail::fail("adaptive_kl", "a finite kl", detail::concat(kl));
    if (!detail::is_finite(n) || n < 0) detail::fail("adaptive_kl", "n of at least 0", detail::concat(n));
    const double factor = 1 + std::clamp(kl / target - 1, -0.2, 0.2) * std::min(n / horizon, 1.0);
    beta = std::clamp(beta * factor, least, most);
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
