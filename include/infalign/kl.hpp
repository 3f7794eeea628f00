// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <cmath>

/// The KL term of J(θ) = E[R(y)] − β·KL(π_θ ‖ π_ref), by its estimator and by the place where it enters.
///
/// With δ = log π_θ(y) − log π_ref(y) for a response and δ_t for a token of it, the estimators are k1 = δ, k2 = ½δ² and
/// k3 = e^{−δ} − 1 + δ (J. Schulman, "Approximating KL divergence", 2020). As values, k1 and k3 are unbiased; the
/// gradients differ (the token losses' are approximations):
///
/// | type | gradient, in expectation under π_θ |
/// |---|---|
/// | `k1_in_reward`, `k1_reward_to_go` | that of β·KL(π_θ ‖ π_ref) |
/// | `k2_loss` | the same |
/// | `k3_loss` | that of the forward KL, β·KL(π_ref ‖ π_θ) |
/// | `k2_token_loss`, `k3_token_loss` | each token's own term of the above, without its effect on later ones |
///
/// k1 as a loss is not offered: its gradient is zero in expectation, so it regularises nothing. In the reward δ is
/// taken of the current π_θ and held constant. Off-policy a KL loss is weighted by π_θ/π_old, held constant, of the
/// response or of the token as the loss is; without that weight it would be a divergence to what π_old says.
namespace infalign {

/// Where a KL term enters the step.
enum class kl_place { none, reward, reward_to_go, sequence_loss, token_loss };

/// A number and its derivative.
template <real_scalar S>
struct value_and_slope {
  S value, slope;
};

/// A KL term: its weight `beta`, its `place`, and for a loss `estimate(δ)` with the derivative by δ.
template <class K>
concept kl_term = requires(const K& k) {
  { k.beta } -> std::convertible_to<double>;
  { K::place } -> std::convertible_to<kl_place>;
}
&&((K::place != kl_place::sequence_loss && K::place != kl_place::token_loss) || requires(const K& k, double delta) {
  { k.estimate(delta) } -> std::same_as<value_and_slope<double>>;
});

namespace detail {

/// e^x and its derivative, as a straight line beyond x = 20: its gradient never vanishes, and it overflows for no
/// log-ratio below 7e29 (float).
template <real_scalar S>
value_and_slope<S> capped_exp(S x) {
  constexpr S cap = 20;
  const S e = std::exp(std::min(x, cap));
  return {x > cap ? e * (1 + (x - cap)) : e, e};
}

template <real_scalar S>
value_and_slope<S> k2(S delta) {
  return {delta * delta / 2, delta};
}

template <real_scalar S>
value_and_slope<S> k3(S delta) {
  if (-delta > 20) {
    const auto [value, slope] = capped_exp(-delta);
    return {value - 1 + delta, 1 - slope};
  }
  const S slope = -std::expm1(-delta);  // not 1 − e^{−δ}: δ is small where training works
  if (std::abs(delta) > S{0.25}) return {delta - slope, slope};
  S value = 1;  // the series δ²/2·(1 − δ/3·(1 − δ/4·(…))), where the difference would cancel
  for (int k = 12; k > 2; --k) value = 1 - delta / static_cast<S>(k) * value;
  return {delta * delta / 2 * value, slope};
}

}  // namespace detail

/// No KL term: J = E[R].
struct no_kl {
  static constexpr double beta = 0;
  static constexpr kl_place place = kl_place::none;
};

/// R − β·δ in place of R, for the whole response. The default, and the textbook: unbiased for any baseline that is.
struct k1_in_reward {
  double beta;
  static constexpr kl_place place = kl_place::reward;
};

/// R − β·Σ_{s ≥ t} δ_s in place of R, token by token: the same mean, and mostly, where the KL weighs, less variance,
/// because a token is not blamed for those before it.
struct k1_reward_to_go {
  double beta;
  static constexpr kl_place place = kl_place::reward_to_go;
};

/// + β·½δ² in the loss of each response.
struct k2_loss {
  double beta;
  static constexpr kl_place place = kl_place::sequence_loss;
  template <real_scalar S>
  static value_and_slope<S> estimate(S delta) {
    return detail::k2(delta);
  }
};

/// + β·(e^{−δ} − 1 + δ) in the loss of each response: the forward KL. For −δ > 20 the exponential goes on as a straight
/// line.
struct k3_loss {
  double beta;
  static constexpr kl_place place = kl_place::sequence_loss;
  template <real_scalar S>
  static value_and_slope<S> estimate(S delta) {
    return detail::k3(delta);
  }
};

/// + β·½δ_t² in the loss of each token. An approximation.
struct k2_token_loss {
  double beta;
  static constexpr kl_place place = kl_place::token_loss;
  template <real_scalar S>
  static value_and_slope<S> estimate(S delta) {
    return detail::k2(delta);
  }
};

/// + β·(e^{−δ_t} − 1 + δ_t) in the loss of each token, as GRPO does (arXiv:2402.03300, eq. 4). An approximation.
struct k3_token_loss {
  double beta;
  static constexpr kl_place place = kl_place::token_loss;
  template <real_scalar S>
  static value_and_slope<S> estimate(S delta) {
    return detail::k3(delta);
  }
};

static_assert(kl_term<no_kl> && kl_term<k1_in_reward> && kl_term<k1_reward_to_go>);
static_assert(kl_term<k2_loss> && kl_term<k3_loss> && kl_term<k2_token_loss> && kl_term<k3_token_loss>);

}  // namespace infalign
