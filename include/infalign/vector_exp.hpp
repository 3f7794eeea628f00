// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <cmath>

/// The exponential as a few additions and multiplications with no branch and no call, so that a loop over it is
/// vectorised by compilers at a plain -O2, and gives the same bits wherever in a batch a number stands.
namespace infalign::detail {

/// log 2 and 1/log 2.
inline constexpr double log_2 = 0.69314718055994530942, per_log_2 = 1.44269504088896340736;

/// The exponents that a number of type S has: 2^z is 0 from −bias on down, and overflows above bias.
template <real_scalar S>
inline constexpr int exponent_bias = std::numeric_limits<S>::max_exponent - 1;

/// 2^f − 1 − f·log 2 for |f| ≤ ½, within ε of itself relatively: f² times the polynomial of least relative error,
/// its terms in pairs, so that a processor can work on several at once.
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

/// 2^z = scale·(1 + fraction·log 2 + curve), with scale = 2^n for the integer n = z − fraction next to z. For −bias ≤ z
/// ≤ bias; scale is 0 where 2^n would not be a normal number.
template <real_scalar S>
struct power_of_two {
  S scale, fraction, curve;

  /// Of z + rest, where `rest` is what rounding left out of z.
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

  /// 2^z, within 2 ε.
  [[gnu::always_inline]] constexpr S value() const { return scale * (curve + (1 + fraction * static_cast<S>(log_2))); }
  /// 2^z − 1, within a few ε of itself where z is small too.
  [[gnu::always_inline]] constexpr S minus_one() const {
    return scale * curve + (scale * (fraction * static_cast<S>(log_2)) + (scale - 1));
  }
  /// 2^z − 1 − z·log 2, likewise.
  [[gnu::always_inline]] constexpr S minus_line(S z) const {
    return scale * curve + ((scale - 1) + static_cast<S>(log_2) * (scale * fraction - z));
  }
};

/// A number in [0, 1] has the highest bit of this 0: by its bits a negative one, −0 too, or a NaN has more than 1 has.
template <real_scalar S>
constexpr bits_of<S> out_of_unit_interval(S u) noexcept {
  const auto bits = std::bit_cast<bits_of<S>>(u);
  return (std::bit_cast<bits_of<S>>(S{1}) - bits) | bits;
}
template <real_scalar S>
constexpr bool highest_bit(bits_of<S> bits) noexcept {
  return bits >> (sizeof(S) * 8 - 1) != 0;
}

/// e^{tu} for u in [0, 1], as 2^{u·t/log 2}; `fits` where |t| leaves it within the range of S.
template <real_scalar S>
struct rate_of {
  S rate, rest;
  bool fits;

  explicit rate_of(double t)
      : rate(static_cast<S>(t * per_log_2)),
        rest(static_cast<S>(std::fma(t, per_log_2, -static_cast<double>(rate)) + t * low_bits)),
        fits(std::abs(t) <= (sizeof(S) == 4 ? 80 : 700)) {}

  [[gnu::always_inline]] power_of_two<S> operator()(S u) const {
    if constexpr (sizeof(S) == 4)
      return power_of_two<S>(rate * u);
    else
      return power_of_two<S>(rate * u, rest * u);
  }
  /// Whether u is one of those.
  bool takes(S u) const { return fits && !highest_bit<S>(out_of_unit_interval(u)); }

 private:
  static constexpr double low_bits = 2.0355273740931033e-17;  // of 1/log 2, below those of per_log_2
};

/// ±e^{tu} on [0, 1].
template <real_scalar S>
struct exponential_of : rate_of<S> {
  bits_of<S> sign;

  explicit exponential_of(double t) : rate_of<S>(t), sign(t > 0 ? 0 : bits_of<S>{1} << (sizeof(S) * 8 - 1)) {}

  [[gnu::always_inline]] S operator()(S u) const {
    return std::bit_cast<S>(std::bit_cast<bits_of<S>>(rate_of<S>::operator()(u).value()) ^ sign);
  }
};

/// (e^{tu} − 1)/(e^t − 1) on [0, 1], up to rounding above 1; does not `fit` a small t, of which too little would be
/// left where a compiler takes its terms in another order (-ffast-math).
template <real_scalar S>
struct normalized_exponential_of : rate_of<S> {
  S whole;

  explicit normalized_exponential_of(double t) : rate_of<S>(t), whole(1) {
    this->fits = this->fits && std::abs(t) > 0.25;
    if (this->fits) whole = risen(*this);
  }

  [[gnu::always_inline]] S operator()(S u) const {
    return minus_one(rate_of<S>::operator()(u)) / whole + S{0};  // not −0
  }

 private:
  /// Rounded once where 2^z is small, so that it does not fall.
  [[gnu::always_inline]] static S minus_one(const power_of_two<S>& p) {
    return p.scale * (p.curve + p.fraction * static_cast<S>(log_2)) + (p.scale - 1);
  }
  /// Not inlined: one number, however a caller's compiler contracts multiplications and additions.
  [[gnu::noinline]] static S risen(const rate_of<S>& rate) { return minus_one(rate(1)); }
};

/// result[i] = phi(u[i]) for N numbers. False, and anything there, where phi does not fit or one is not in [0, 1].
template <int N, class F, real_scalar S>
bool apply_to_many(const F& phi, const S* __restrict u, S* __restrict result) {
  if (!phi.fits) return false;
  bits_of<S> out = 0;
  for (int i = 0; i < N; ++i) out |= out_of_unit_interval(u[i]);
  if (highest_bit<S>(out)) return false;
  for (int i = 0; i < N; ++i) result[i] = phi(u[i]);
  return true;
}

}  // namespace infalign::detail
