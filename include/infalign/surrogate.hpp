// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/kl.hpp>

#include <algorithm>
#include <limits>

/// Surrogate losses: functions of a log-probability whose gradient is, or approximates, the policy gradient.
///
/// ρ = π_θ/π_old is the ratio to the behaviour policy, the one that the responses were sampled from; ρ = 1 where the
/// batch names none.
namespace infalign {

/// What ρ is a ratio of: of nothing (on-policy only), of each token, or of the whole response, as the product over its
/// tokens or as their geometric mean.
enum class ratio_of { nothing, token, sequence, sequence_geometric_mean };

/// One term of the loss: its value, its derivative by the log-probability (by log ρ for a ratio), ρ, and whether
/// clipping holds it: −1 at the low end, +1 at the high, else 0.
template <real_scalar S>
struct surrogate_term {
  S loss, slope, ratio = 1;
  int clipped = 0;
};

/// A surrogate: a function of (log π_θ, log ρ, advantage), both of what `ratio` names, to a `surrogate_term`; of a token
/// where that is nothing. It may have a member `check()`; and a member `at(advantage)`, which gives a function of (log
/// π_θ, {ρ, dρ/d log ρ}) to the same term: the step then takes many exponentials at once, and what follows from the
/// advantage once a response.
template <class F>
concept surrogate = requires(const F& f, float s, double d) {
  { F::ratio } -> std::convertible_to<ratio_of>;
  { f(s, s, s) } -> std::same_as<surrogate_term<float>>;
  { f(d, d, d) } -> std::same_as<surrogate_term<double>>;
};

namespace detail {
inline void check_clip(const char* function, double low, double high) {
  if (!is_finite(low) || low < 0 || low > 1) fail(function, "low in [0, 1]", text(low));
  if (!is_finite(high) || high < 0) fail(function, "high finite and at least 0", text(high));
}

/// A `surrogate_term` whose numbers are all of one size, so that compilers can work on many at once.
template <real_scalar S>
struct vector_term {
  S loss, slope, ratio = 1, clipped = 0;
  operator surrogate_term<S>() const { return {loss, slope, ratio, static_cast<int>(clipped)}; }  // NOLINT: the same
};

/// 1 for true and 0 for false, in a way that compilers vectorise at -O2: of floats a choice may become a branch, of
/// doubles bits are not compared many at once.
template <real_scalar S>
[[gnu::always_inline]] constexpr S one_if(bool b) {
  if constexpr (sizeof(S) == 4)
    return std::bit_cast<S>((bits_of<S>{0} - static_cast<bits_of<S>>(b)) & std::bit_cast<bits_of<S>>(S{1}));
  else
    return b ? S{1} : S{0};
}

/// A ratio kept within [floor, ceiling], whether it was `inside` (1 or 0), and at which `end` it is held. Each by itself
/// of two comparisons, so that compilers need no branch and can work on many at once.
template <real_scalar S>
struct kept_ratio {
  S value, inside, end;

  [[gnu::always_inline]] kept_ratio(S ratio, S floor, S ceiling) {
    const S below = one_if<S>(ratio < floor), above = one_if<S>(ratio > ceiling);
    end = above - below;
    inside = 1 - above - below;
    value = std::min(std::max(ratio, floor), ceiling);
  }
};

}  // namespace detail

/// L = −A·log π. Unbiased on-policy; off-policy it is an error, not a biased gradient. (Williams, 1992.)
struct reinforce {
  static constexpr ratio_of ratio = ratio_of::nothing;

  template <real_scalar S>
  surrogate_term<S> operator()(S log_probability, S, S advantage) const {
    return at(advantage)(log_probability, {1, 1});
  }
  template <real_scalar S>
  static auto at(S advantage) {
    return [advantage](S log_probability, value_and_slope<S>) -> detail::vector_term<S> {
      return {.loss = -advantage * log_probability, .slope = -advantage};
    };
  }
};

/// L = −min(ρA, clip(ρ, 1 − low, 1 + high)·A), and with dual > 1, for A < 0, at most −dual·A. (Schulman et al.,
/// arXiv:1707.06347, eq. 7; dual clip: Ye et al., arXiv:1912.09729.) Where ρ > e^20 it goes on as a straight line in
/// log ρ. Throws unless 0 ≤ low ≤ 1, high ≥ 0, and dual is 0 (none) or above 1.
template <ratio_of Ratio>
struct clipped_surrogate {
  double low = 0.2;
  double high = 0.2;
  double dual = 0;
  static constexpr ratio_of ratio = Ratio;
  static constexpr const char* name = Ratio == ratio_of::token      ? "ppo_clip"
                                      : Ratio == ratio_of::sequence ? "sequence_clip"
                                                                    : "gspo_clip";

  void check() const {
    detail::check_clip(name, low, high);
    if (dual != 0 && !(detail::is_finite(dual) && dual > 1))
      detail::fail(name, "dual of 0 (none) or above 1", detail::text(dual));
  }

  template <real_scalar S>
  surrogate_term<S> operator()(S log_probability, S log_ratio, S advantage) const {
    return at(advantage)(log_probability, detail::capped_exp(log_ratio));
  }
  template <real_scalar S>
  auto at(S advantage) const {
    // Clipped above for A > 0, below for A < 0, and above then too by the dual clip.
    constexpr S none = std::numeric_limits<S>::max();
    const S floor = advantage < 0 ? static_cast<S>(1 - low) : S{0};
    S ceiling = advantage > 0 ? static_cast<S>(1 + high) : none;
    if (advantage < 0 && dual > 0) ceiling = static_cast<S>(dual);
    return [=](S, value_and_slope<S> rho) -> detail::vector_term<S> {
      const detail::kept_ratio<S> held(rho.value, floor, ceiling);
      return {.loss = -held.value * advantage,
              .slope = -(rho.slope * held.inside) * advantage,
              .ratio = rho.value,
              .clipped = held.end};
    };
  }
};

/// PPO's clip, on the ratio of each token.
using ppo_clip = clipped_surrogate<ratio_of::token>;
/// The same on the ratio of the whole response, as RLOO trainers do. Without clipping (low = 1, high large) it is
/// unbiased off-policy, for the baselines that are so on-policy; but `max_at_n` and its kin take their rivals from
/// π_old.
using sequence_clip = clipped_surrogate<ratio_of::sequence>;
/// The same on the geometric mean of the token ratios. (GSPO: Zheng et al., arXiv:2507.18071.)
using gspo_clip = clipped_surrogate<ratio_of::sequence_geometric_mean>;

/// L = −clip(ρ, 1 − low, 1 + high)·A·log π with the clipped ratio held constant: no token loses its gradient. (CISPO:
/// arXiv:2506.13585.) Throws unless 0 ≤ low ≤ 1 and high ≥ 0.
struct cispo {
  double low = 1;
  double high = 4;
  static constexpr ratio_of ratio = ratio_of::token;

  void check() const { detail::check_clip("cispo", low, high); }

  template <real_scalar S>
  surrogate_term<S> operator()(S log_probability, S log_ratio, S advantage) const {
    return at(advantage)(log_probability, detail::capped_exp(log_ratio));
  }
  template <real_scalar S>
  auto at(S advantage) const {
    const S least = static_cast<S>(1 - low), most = static_cast<S>(1 + high);
    return [=](S log_probability, value_and_slope<S> rho) -> detail::vector_term<S> {
      const detail::kept_ratio<S> weight(rho.value, least, most);
      return {.loss = -weight.value * advantage * log_probability,
              .slope = -weight.value * advantage,
              .ratio = rho.value,
              .clipped = weight.end};
    };
  }
};

static_assert(surrogate<reinforce> && surrogate<ppo_clip> && surrogate<sequence_clip> && surrogate<gspo_clip> &&
              surrogate<cispo>);

}  // namespace infalign
