// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/step/probability_ratio.hpp>

#include <algorithm>
#include <concepts>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// Surrogate losses: functions of a log-probability whose gradient is, or approximates, the policy gradient.
///
/// ρ = π_θ/π_old is the ratio to the policy that the responses were sampled from. On-policy ρ = 1.
namespace INFALIGN_NAMESPACE {

/// What ρ is a ratio of.
enum class ratio_of {
  nothing,                  ///< no ratio: on-policy only
  token,                    ///< of each token
  sequence,                 ///< of the whole response: the product over its tokens
  sequence_geometric_mean,  ///< the geometric mean over the tokens of a response
  sequence_to_reference     ///< of the whole response, π_θ/π_ref: ρ is 1, and δ is passed in place of log π_θ
};

/// One term of the loss.
template <real_scalar S>
struct surrogate_term {
  S loss;         ///< its value
  S slope;        ///< its derivative by the log-probability (by log ρ for a ratio)
  S clipped = 0;  ///< −1 if ρ is clipped at the low end, +1 at the high end, else 0
};

/// A surrogate: a struct with `ratio`, a `ratio_of`, and `prepare(advantage)`.
///
/// `prepare` returns a function of (log π_θ, `probability_ratio` ρ) to a `surrogate_term`, for the unit that `ratio`
/// names (a token if that is nothing). It is called for many tokens in a loop; without branches and calls it is
/// vectorised. An optional member `check()` throws if the parameters are wrong.
///
/// At masked tokens it is called with log π = 0 and ρ = 1, and the result is dropped.
template <class F>
concept surrogate = requires(const F& f, float s, double d) {
  { F::ratio } -> std::convertible_to<ratio_of>;
  { f.prepare(s)(s, probability_ratio<float>(s)) } -> std::same_as<surrogate_term<float>>;
  { f.prepare(d)(d, probability_ratio<double>(d)) } -> std::same_as<surrogate_term<double>>;
};

namespace detail {

/// True if a surrogate has one term for a response, false if it has one for each token.
template <surrogate F>
inline constexpr bool of_whole_response = F::ratio != ratio_of::nothing&& F::ratio != ratio_of::token;

inline void check_clip(const char* function, double low, double high) {
  if (!is_finite(low) || low < 0 || low > 1) fail(function, "low in [0, 1]", concat(low));
  if (!is_finite(high) || high < 0) fail(function, "high finite and at least 0", concat(high));
  if (low > 0.5 && low < 1 && high > 1 && high < 1.5)
    fail(function, "low and high as distances from 1, such as 0.2 and 0.2",
         concat(low, " and ", high, ", which are the ends"));
}

/// 1 for true and 0 for false, in a form that compilers vectorise at -O2: a choice between floats may become a branch,
/// and comparisons of doubles as bits are not vectorised.
template <real_scalar S>
[[gnu::always_inline]] constexpr S one_if(bool b) {
  if constexpr (sizeof(S) == 4)
    return std::bit_cast<S>((bits_of<S>{0} - static_cast<bits_of<S>>(b)) & std::bit_cast<bits_of<S>>(S{1}));
  else
    return b ? S{1} : S{0};
}

/// A ratio clipped to [floor, ceiling]. `inside`: 1 if it was in the interval, else 0. `end`: −1 if it was below, +1 if
/// above, else 0. Each is computed from two comparisons, so that compilers need no branch.
template <real_scalar S>
struct clipped_ratio {
  S value, inside, end;

  [[gnu::always_inline]] INFALIGN_HOST_DEVICE clipped_ratio(S ratio, S floor, S ceiling) {
    const S below = one_if<S>(ratio < floor), above = one_if<S>(ratio > ceiling);
    end = above - below;
    inside = 1 - above - below;
    value = std::min(std::max(ratio, floor), ceiling);
  }
};

}  // namespace detail

/// REINFORCE. Unbiased on-policy; with `old_log_probabilities` it is an error.
///
///     L = −A·log π
///
/// With `k1_in_reward{β}` and `group_mean` or `leave_one_out` it can be trained on responses of any policy, without
/// `old_log_probabilities`: the gradient is that of the squares of (R_m − βδ_m) − (R_k − βδ_k) over all pairs in a group,
/// whose minimum is the optimal policy (REBEL: Gao et al., arXiv:2404.16767, with the reference as base policy).
///
/// Source: Williams, 1992.
struct reinforce {
  /// No ratio.
  static constexpr ratio_of ratio = ratio_of::nothing;

  /// The terms of one advantage.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE static auto prepare(S advantage) {
    return [advantage](S log_probability, const probability_ratio<S>&) -> surrogate_term<S> {
      return {.loss = -advantage * log_probability, .slope = -advantage};
    };
  }
};

/// The clipped surrogate of PPO, with an optional dual clip.
///
///     L = −min(ρA, clip(ρ, 1 − low, 1 + high)·A),   and for dual > 1 and A < 0 at most −dual·A
///
/// For ρ > e^20 it is extrapolated linearly in log ρ.
///
/// Errors: unless 0 ≤ low ≤ 1, high ≥ 0, and dual is 0 (none) or above 1; and if low and high are ends, such as 0.8 and
/// 1.2, in place of distances from 1.
/// Source: Schulman et al., arXiv:1707.06347, eq. 7; dual clip: Ye et al., arXiv:1912.09729.
template <ratio_of Ratio>
struct clipped_surrogate {
  /// Distance of the lower end from 1, in [0, 1].
  double low = 0.2;
  /// Distance of the upper end from 1, at least 0.
  double high = 0.2;
  /// Largest ρ for A < 0, or 0 for none.
  double dual = 0;
  /// What is clipped.
  static constexpr ratio_of ratio = Ratio;
  /// Its name in error messages.
  static constexpr const char* name = Ratio == ratio_of::token      ? "ppo_clip"
                                      : Ratio == ratio_of::sequence ? "sequence_clip"
                                                                    : "gspo_clip";

  /// Checks the parameters.
  void check() const {
    detail::check_clip(name, low, high);
    if (!detail::is_finite(dual) || (dual != 0 && !(dual > 1)))
      detail::fail(name, "dual of 0 (none) or above 1", detail::concat(dual));
  }

  /// The terms of one advantage. ρ is clipped from above for A > 0, from below for A < 0, and then from above by the
  /// dual clip.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S advantage) const {
    constexpr S none = std::numeric_limits<S>::max();
    const S floor = advantage < 0 ? static_cast<S>(1 - low) : S{0};
    S ceiling = advantage > 0 ? static_cast<S>(1 + high) : none;
    if (advantage < 0 && dual > 0) ceiling = static_cast<S>(dual);
    return [=](S, const probability_ratio<S>& rho) -> surrogate_term<S> {
      const detail::clipped_ratio<S> clipped(rho.value, floor, ceiling);
      return {.loss = -clipped.value * advantage,
              .slope = -(rho.slope * clipped.inside) * advantage,
              .clipped = clipped.end};
    };
  }
};

/// PPO's clip on the ratio of each token.
using ppo_clip = clipped_surrogate<ratio_of::token>;
/// The clip on the ratio of the whole response, as in RLOO trainers. Without clipping (low = 1, high large) it is
/// unbiased off-policy if the advantage estimator is unbiased on-policy. (`max_at_n` and the related estimators then
/// compare with other responses of π_old.)
using sequence_clip = clipped_surrogate<ratio_of::sequence>;
/// The clip on the geometric mean of the token ratios. (GSPO: Zheng et al., arXiv:2507.18071.)
using gspo_clip = clipped_surrogate<ratio_of::sequence_geometric_mean>;

/// A clipped importance weight without gradient: no token loses its gradient.
///
///     L = −clip(ρ, 1 − low, 1 + high)·A·log π
///
/// Errors: unless 0 ≤ low ≤ 1 and high ≥ 0; and if they are ends in place of distances from 1.
/// Source: CISPO, arXiv:2506.13585.
struct cispo {
  /// Distance of the lower end from 1, in [0, 1].
  double low = 1;
  /// Distance of the upper end from 1, at least 0.
  double high = 4;
  /// The ratio of each token.
  static constexpr ratio_of ratio = ratio_of::token;

  /// Checks the parameters.
  void check() const { detail::check_clip("cispo", low, high); }

  /// The terms of one advantage.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S advantage) const {
    const S least = static_cast<S>(1 - low), most = static_cast<S>(1 + high);
    return [=](S log_probability, const probability_ratio<S>& rho) -> surrogate_term<S> {
      const detail::clipped_ratio<S> weight(rho.value, least, most);
      return {.loss = -weight.value * advantage * log_probability,
              .slope = -weight.value * advantage,
              .clipped = weight.end};
    };
  }
};

/// Least squares towards the optimal policy, on responses of any policy. δ is the log-ratio log π_θ − log π_ref of a
/// response.
///
///     L = (βδ − T)²/(2β),   slope βδ − T for each of its tokens
///
/// T is given as the reward, with `no_kl` and `no_baseline`: T = Φ(u) − β·log Z with `log_partition`, or r − V with
/// `optimal_values`. The minimum is the policy that maximises E[Φ] − β·KL if the responses cover all that it can give.
/// On-policy, the mean of −gradient is ∇(E[Φ] − β·KL), whatever Z. Off-policy, a Z that is too large collapses the policy.
/// If there are two or more responses to each prompt, prefer `k1_in_reward` with `group_mean` and `reinforce`, which need
/// no Z.
///
/// Errors: unless β is finite and above 0; without `reference_log_probabilities`.
/// Source: QRPO, Matrenok et al., arXiv:2507.08068, whose loss is 2β·L; A*-PO, arXiv:2505.20686.
struct regression {
  /// β, above 0.
  double beta;
  /// δ of the whole response.
  static constexpr ratio_of ratio = ratio_of::sequence_to_reference;

  /// Checks β.
  void check() const { detail::check_positive("regression", "a beta", beta); }

  /// The term of the target T.
  template <real_scalar S>
  INFALIGN_HOST_DEVICE auto prepare(S target) const {
    return [target, weight = static_cast<S>(beta)](S delta, const probability_ratio<S>&) -> surrogate_term<S> {
      const S excess = weight * delta - target;
      return {.loss = excess * (excess / (2 * weight)), .slope = excess};
    };
  }
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
