// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/probability_ratio.hpp>

#include <concepts>

#include <infalign/detail/begin.hpp>

/// \file
/// The KL term of J(θ) = E[R(y)] − β·KL(π_θ ‖ π_ref): its estimator, and where it enters the step.
///
/// Write δ = log π_θ(y) − log π_ref(y) for a response and δ_t for a token. The estimators are k1 = δ, k2 = ½δ² and k3 =
/// e^{−δ} − 1 + δ (J. Schulman, "Approximating KL divergence", 2020). As values, k1 and k3 are unbiased. Their
/// gradients differ:
///
/// | type | expected gradient under π_θ |
/// |---|---|
/// | `k1_in_reward`, `k1_reward_to_go` | the gradient of β·KL(π_θ ‖ π_ref) |
/// | `k2_loss` | the gradient of β·KL(π_θ ‖ π_ref) |
/// | `k3_loss` | the gradient of the forward KL, β·KL(π_ref ‖ π_θ) |
/// | `k2_token_loss`, `k3_token_loss` | an approximation: each token's own term, without its effect on later tokens |
///
/// k1 as a loss is not offered: its expected gradient is zero, so it regularises nothing. In the reward, δ is computed
/// from the current π_θ and no gradient flows through it. Off-policy, a KL loss is multiplied by the importance ratio
/// π_θ/π_old (of the response for a sequence loss, of the token for a token loss; no gradient flows through it).
/// Without it the loss would estimate an expectation under π_old, not under π_θ.
namespace INFALIGN_NAMESPACE {

/// Where a KL term enters the step.
enum class kl_place {
  none,           ///< there is none
  reward,         ///< subtracted from the reward of a response
  reward_to_go,   ///< subtracted from the reward of a token: its own KL and that of later tokens
  sequence_loss,  ///< added to the loss of a response
  token_loss      ///< added to the loss of a token
};

namespace detail {

/// The loss of a KL term at δ: `loss(δ)`, or `loss(δ, ratio)` with the ratio e^{−δ}.
template <class KL, real_scalar S>
[[gnu::always_inline]] inline auto kl_loss(const KL& kl, S delta, const probability_ratio<S>& ratio) {
  if constexpr (requires { kl.loss(delta); })
    return kl.loss(delta);
  else
    return kl.loss(delta, ratio);
}

/// True if the term is part of the reward; true if it is part of the loss.
template <class KL>
inline constexpr bool kl_in_reward = KL::place == kl_place::reward || KL::place == kl_place::reward_to_go;
template <class KL>
inline constexpr bool kl_in_loss = KL::place == kl_place::sequence_loss || KL::place == kl_place::token_loss;

}  // namespace detail

/// A KL term: its weight `beta`, and its `place`.
///
/// A loss also has `loss(δ)`, or `loss(δ, ratio)` with the `probability_ratio` e^{−δ}. Both return the estimate and its
/// derivative by δ, as a `value_and_slope`. It is called for many tokens in a loop; without branches and calls it is
/// vectorised.
template <class K>
concept kl_term = requires(const K& k) {
  { k.beta } -> std::convertible_to<double>;
  { K::place } -> std::convertible_to<kl_place>;
}
&&(
    !detail::kl_in_loss<K> ||
    requires(const K& k, double delta) {
      { k.loss(delta) } -> std::same_as<value_and_slope<double>>;
    } ||
    requires(const K& k, double delta, const probability_ratio<double>& ratio) {
      { k.loss(delta, ratio) } -> std::same_as<value_and_slope<double>>;
    });

/// No KL term: J = E[R].
struct no_kl {
  /// 0.
  static constexpr double beta = 0;
  /// Nowhere.
  static constexpr kl_place place = kl_place::none;
};

/// R − β·δ in place of R, for the whole response. The textbook form: unbiased whenever the advantage estimator is.
struct k1_in_reward {
  /// Weight, above 0.
  double beta;
  /// In the reward.
  static constexpr kl_place place = kl_place::reward;
};

/// R − β·Σ_{s ≥ t} δ_s in place of R, token by token. Same expected gradient as `k1_in_reward`; usually less variance
/// when the KL term matters, because a token is charged only for its own and later KL.
struct k1_reward_to_go {
  /// Weight, above 0.
  double beta;
  /// In the reward of each token.
  static constexpr kl_place place = kl_place::reward_to_go;
};

/// The k2 estimate as a loss.
///
///     β·½δ²
template <kl_place Place>
struct k2_term {
  /// Weight, above 0.
  double beta;
  /// In the loss of a response or of a token.
  static constexpr kl_place place = Place;

  /// The estimate and its derivative by δ.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE static value_and_slope<S> loss(S delta) {
    return {delta * delta / 2, delta};
  }
};

/// The k3 estimate as a loss. For −δ > 20 the exponential is extrapolated linearly.
///
///     β·(e^{−δ} − 1 + δ)
template <kl_place Place>
struct k3_term {
  /// Weight, above 0.
  double beta;
  /// In the loss of a response or of a token.
  static constexpr kl_place place = Place;

  /// The estimate and its derivative by δ. `ratio` is e^{−δ}.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE static value_and_slope<S> loss(S, const probability_ratio<S>& ratio) {
    return {ratio.value_minus_line, -ratio.slope_minus_one};
  }
};

/// k2 in the loss of each response.
using k2_loss = k2_term<kl_place::sequence_loss>;
/// k2 in the loss of each token. An approximation.
using k2_token_loss = k2_term<kl_place::token_loss>;
/// k3 in the loss of each response: the forward KL.
using k3_loss = k3_term<kl_place::sequence_loss>;
/// k3 in the loss of each token, as in GRPO (arXiv:2402.03300, eq. 4). An approximation.
using k3_token_loss = k3_term<kl_place::token_loss>;

static_assert(kl_term<no_kl> && kl_term<k1_in_reward> && kl_term<k1_reward_to_go>);
static_assert(kl_term<k2_loss> && kl_term<k3_loss> && kl_term<k2_token_loss> && kl_term<k3_token_loss>);

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
