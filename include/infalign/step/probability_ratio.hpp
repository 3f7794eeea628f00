// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/vector_exp.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// A probability ratio e^x of a log-ratio x, as the parts of the step use it.
namespace INFALIGN_NAMESPACE {

/// A number and its derivative.
template <real_scalar S>
struct value_and_slope {
  S value;  ///< the number
  S slope;  ///< its derivative
};

namespace detail {

/// e^x is extrapolated linearly above this x.
inline constexpr double largest_log_ratio = 20;

/// x/log 2, clamped from below, where 2^z underflows to 0.
template <real_scalar S>
[[gnu::always_inline]] constexpr S exponent_of(S x) {
  return std::max(x * static_cast<S>(per_log_2), static_cast<S>(-exponent_bias<S>));
}
/// z, clamped from above at x = 20. A function of its own, because GCC turns the clamps into branches inside a longer loop.
template <real_scalar S>
[[gnu::always_inline]] constexpr S clamped_exponent(S z) {
  return std::min(z, static_cast<S>(largest_log_ratio * per_log_2));
}

}  // namespace detail

/// e^x of a log-ratio x, with its derivative.
///
/// Above x = 20 it is extrapolated linearly: it cannot overflow for |x| below 7e29 (float), and its gradient never
/// vanishes. The step computes many of them at a time without branches; a part that uses them without branches is
/// vectorised too.
///
/// Accuracy: each member to a few (|x| + 2)·ε of itself, for small x too.
template <real_scalar S>
struct probability_ratio {
  S value;             ///< e^x
  S slope;             ///< its derivative by x
  S slope_minus_one;   ///< slope − 1
  S value_minus_line;  ///< e^x − 1 − x

  /// Of one log-ratio.
  INFALIGN_HOST_DEVICE explicit probability_ratio(S x)
      : probability_ratio(x, detail::exponent_of(x), detail::clamped_exponent(detail::exponent_of(x))) {}

  /// Of a log-ratio x, from z = `exponent_of` x and `clamped_exponent` of z.
  [[gnu::always_inline]] INFALIGN_HOST_DEVICE probability_ratio(S x, S z, S clamped) {
    const detail::power_of_two<S> power(clamped);
    constexpr S log_2 = static_cast<S>(detail::log_2);
    slope = power.value();
    value = slope * (1 + log_2 * (z - clamped));
    slope_minus_one = power.minus_one();
    const S beyond = x * static_cast<S>(detail::per_log_2) - clamped;  // 0 unless x was clamped
    value_minus_line = power.minus_line(clamped) + slope_minus_one * (log_2 * beyond);
  }
};

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
