// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// The exponential as a few additions and multiplications, with no branch and no call. Compilers vectorise a loop over
/// it at plain -O2, and a number has the same bits wherever it is in a batch.
namespace INFALIGN_NAMESPACE::detail {

/// log 2 and 1/log 2.
inline constexpr double log_2 = 0.69314718055994530942, per_log_2 = 1.44269504088896340736;

/// The largest exponent of S: 2^z is 0 for z ≤ −bias, and overflows above bias.
template <real_scalar S>
inline constexpr int exponent_bias = std::numeric_limits<S>::max_exponent - 1;

/// 2^f − 1 − f·log 2 for |f| ≤ ½, to a relative ε: f² times the polynomial of least relative error. Its terms are in
/// pairs, so that a processor can compute several at once.
[[gnu::always_inline]] constexpr float curve_of_power(float f) {
  const float f2 = f * f;
  const float low = 2.402265048e-1f + 5.550381088e-2f * f, high = 9.618172234e-3f + 1.338126932e-3f * f;
  return f2 * (low + f2 * (high + 1.541728378e-4f * f2));
}
[[gnu::always_inline]] constexpr double curve_of_power(double f) {
  const double f2 = f * f, f4 = f2 * f2;
  const double a = 2.4022650695910075e-1 + 5.550410866482151e-2 * f,
               b = 9.618129107618691e-3 + 1.3333558146465057e-3 * f;
  const double c = 1.5403530424730713e-4 + 1.5252733760523417e-5 * f,
               d = 1.3215451658518672e-6 + 1.0178099414307848e-7 * f;
  const double e = 7.070973612537841e-9 + 4.4483889667445983e-10 * f;
  return f2 * ((a + b * f2) + f4 * ((c + d * f2) + f4 * e));
}

/// 2^z = scale·(1 + fraction·log 2 + curve), with scale = 2^n for the integer n = z − fraction nearest to z. For −bias
/// ≤ z ≤ bias; scale is 0 if 2^n is not a normal number.
template <real_scalar S>
struct power_of_two {
  S scale, fraction, curve;

  /// For z + rest, `rest` being the rounding error of z.
  [[gnu::always_inline]] constexpr power_of_two(S z, S rest) : power_of_two(z) {
    fraction += rest;
    curve = curve_of_power(fraction);
  }
  [[gnu::always_inline]] explicit constexpr power_of_two(S z) {
    constexpr int bias = exponent_bias<S>;
    const auto exponent = static_cast<std::int32_t>(z + (static_cast<S>(bias) + S{0.5}));  // n + bias, at least 0
    fraction = z - static_cast<S>(exponent - bias);
    curve = curve_of_power(fraction);
    scale = std::bit_cast<S>(static_cast<bits_of<S>>(exponent) << (std::numeric_limits<S>::digits - 1));
  }

  /// 2^z, to 2 ε.
  [[gnu::always_inline]] constexpr S value() const { return scale * (curve + (1 + fraction * static_cast<S>(log_2))); }
  /// 2^z − 1, to a few relative ε, for small z too.
  [[gnu::always_inline]] constexpr S minus_one() const {
    return scale * curve + (scale * (fraction * static_cast<S>(log_2)) + (scale - 1));
  }
  /// 2^z − 1 − z·log 2, to a few relative ε, for small z too.
  [[gnu::always_inline]] constexpr S minus_line(S z) const {
    return scale * curve + ((scale - 1) + static_cast<S>(log_2) * (scale * fraction - z));
  }
};

/// 2^{u·t/log 2} = e^{tu} for u in [0, 1].
template <real_scalar S>
struct exp_rate {
  S rate, rest;
  bool fits;  ///< true if |t| is small enough for the range of S

  INFALIGN_HOST_DEVICE explicit exp_rate(double t)
      : rate(static_cast<S>(t * per_log_2)),
        rest(static_cast<S>(std::fma(t, per_log_2, -static_cast<double>(rate)) + t * low_bits)),
        fits(std::abs(t) <= (sizeof(S) == 4 ? 80 : 700)) {}

  [[gnu::always_inline]] INFALIGN_HOST_DEVICE power_of_two<S> power(S u) const {
    if constexpr (sizeof(S) == 4)
      return power_of_two<S>(rate * u);
    else
      return power_of_two<S>(rate * u, rest * u);
  }

 private:
  static constexpr double low_bits = 2.0355273740931033e-17;  // of 1/log 2, below those of per_log_2
};

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
