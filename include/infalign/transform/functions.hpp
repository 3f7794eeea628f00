// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/vector_exp.hpp>

#include <bit>
#include <limits>

#include <infalign/detail/begin.hpp>

/// \file
/// Elementary functions without branches and calls, for transforms of one's own.
///
/// `std::log` is a call, which compilers do not vectorise. A transform that is written with these functions runs at the speed
/// of the library's own:
///
///     auto phi = [](auto u) { return vectorized::log1p(u); };
///     transform(calibrate(reference, rewards), phi);
///
/// Their arguments are numbers, of float or double, anywhere in the type's range. Like the standard functions, they return NaN for
/// NaN and infinity where the value is infinite. A subnormal exponential is 0.
namespace INFALIGN_NAMESPACE {

namespace detail {

/// condition ? a : b, by bits: compilers make a branch of the conditional operator if one side is a long computation.
template <real_scalar S>
[[gnu::always_inline]] constexpr S choose(bool condition, S a, S b) {
  using bits = bits_of<S>;
  const bits of_a = std::bit_cast<bits>(a), of_b = std::bit_cast<bits>(b);
  return std::bit_cast<S>(of_b ^ ((of_a ^ of_b) & (bits{0} - bits{condition})));
}

/// x, but at least `low` and at most `high`; `low` for NaN.
template <real_scalar S>
[[gnu::always_inline]] constexpr S clamped(S x, S low, S high) {
  const S above = choose(x > low, x, low);
  return choose(above < high, above, high);
}

/// log 2 as a sum: a number with so few digits that its products with exponents are exact, and the rest.
template <real_scalar S>
inline constexpr S log_2_high = sizeof(S) == 4 ? static_cast<S>(0.693145751953125) : static_cast<S>(0.6931471805601177);
template <real_scalar S>
inline constexpr S log_2_low = sizeof(S) == 4 ? static_cast<S>(1.42860682030941725553e-06)
                                              : static_cast<S>(-1.72394445256148347926e-13);

/// ((log(1 + s) − log(1 − s))/s − 2)/s² as a polynomial in z = s², for s² ≤ 0.0295: of a relative error of the logarithm of
/// 2.8e-9 (float) and 4.6e-18 (double).
[[gnu::always_inline]] constexpr float log_series(float z) {
  return 0.6666668503957586f + z * (0.3998878056602198f + z * 0.2957994939197279f);
}
[[gnu::always_inline]] constexpr double log_series(double z) {
  const double z2 = z * z, z4 = z2 * z2;
  return ((0.666666666666667 + 0.39999999999899505 * z) + z2 * (0.28571428625975487 + 0.2222221113479508 * z)) +
         z4 * ((0.18182889125261723 + 0.15331721600556042 * z) + z2 * 0.14616449685043406);
}

/// log x + more, for a normal number x > 0, and `more` small beside log x or x = 1. `shift`: a number that is added to the
/// exponent of x.
///
/// x = 2^k·m with m from √½ to √2, and log m = 2·artanh s with s = (m − 1)/(m + 1).
template <real_scalar S>
[[gnu::always_inline]] constexpr S log_of_normal(S x, S more, S shift) {
  using bits = bits_of<S>;
  constexpr int digits = std::numeric_limits<S>::digits - 1;
  constexpr bits one = std::bit_cast<bits>(S{1}), low = std::bit_cast<bits>(static_cast<S>(0.70710678118654752440)),
                 mantissa = (bits{1} << digits) - 1;
  constexpr S unit = static_cast<S>(bits{1} << digits);  // its last digit is worth 1
  const bits shifted = std::bit_cast<bits>(x) + (one - low);
  const S k = std::bit_cast<S>((shifted >> digits) | std::bit_cast<bits>(unit)) - (unit + exponent_bias<S>)+shift;
  const S f = std::bit_cast<S>((shifted & mantissa) + low) - 1;
  const S s = f / (2 + f), z = s * s, half = static_cast<S>(0.5) * f * f;
  return k * log_2_high<S> - ((half - (s * (half + z * log_series(z)) + (k * log_2_low<S> + more))) - f);
}

/// The largest x whose e^x is finite, and the least whose e^x is a normal number.
template <real_scalar S>
inline constexpr S largest_exponent = sizeof(S) == 4 ? static_cast<S>(88.72283) : static_cast<S>(709.782712893384);
template <real_scalar S>
inline constexpr S least_exponent = sizeof(S) == 4 ? static_cast<S>(-87.33654) : static_cast<S>(-708.3964185322641);

/// e^x = power·(1 + twice), for x from `least_exponent` to `largest_exponent`. The factor is 2 for x > 0, because 2^n itself may
/// overflow.
template <real_scalar S>
struct power_of_e {
  S twice;
  power_of_two<S> power;

  [[gnu::always_inline]] explicit constexpr power_of_e(S x)
      : twice(choose(x > 0, S{1}, S{0})), power(x * static_cast<S>(per_log_2) - twice) {
    const S n = (x * static_cast<S>(per_log_2) - twice) - power.fraction + twice;
    power.fraction = ((x - n * log_2_high<S>)-n * log_2_low<S>)*static_cast<S>(per_log_2);
    power.curve = curve_of_power(power.fraction);
  }
};

}  // namespace detail

/// Functions that compilers vectorise in a loop.
namespace vectorized {

/// e^x.
///
/// Accuracy: 2 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S exp(S x) {
  constexpr S least = detail::least_exponent<S>, largest = detail::largest_exponent<S>;
  const detail::power_of_e<S> y(detail::clamped(x, least, largest));
  S value = y.power.value() * (1 + y.twice);
  value = detail::choose(x > largest, detail::infinite<S>, value);
  value = detail::choose(x < least, S{0}, value);
  return detail::choose(detail::is_nan(x), x, value);
}

/// e^x − 1, to full accuracy for a small x too.
///
/// Accuracy: 4 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S expm1(S x) {
  const detail::power_of_e<S> y(detail::clamped(x, S{-1}, S{1}));
  detail::power_of_two<S> power = y.power;
  power.scale *= 1 + y.twice;
  return detail::choose((x > -1) & (x < 1), power.minus_one(), exp(x) - 1);
}

/// log x. −∞ at 0, NaN below.
///
/// Accuracy: 1 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S log(S x) {
  const bool subnormal = x < std::numeric_limits<S>::min();
  S value = detail::log_of_normal(detail::choose(subnormal, x * static_cast<S>(0x1p64), x), S{0},
                                  detail::choose(subnormal, S{-64}, S{0}));
  value = detail::choose(x > 0, value, detail::choose(x == 0, -detail::infinite<S>, detail::nan<S>));
  return detail::choose(x < detail::infinite<S>, value, x);
}

/// log(1 + x), to full accuracy for a small x too. −∞ at −1, NaN below.
///
/// Accuracy: 1 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S log1p(S x) {
  const S y = 1 + x;
  const S lost = detail::choose(x < 1, x - (y - 1), 1 - (y - x));  // of the rounding of y
  const bool inside = (y > 0) & (y < detail::infinite<S>);
  const S value = detail::log_of_normal(detail::choose(inside, y, S{1}), detail::choose(inside, lost / y, S{0}), S{0});
  const S beyond = detail::choose(y == 0, -detail::infinite<S>, detail::nan<S>);
  return detail::choose(inside, value, detail::choose(y > 0, y, beyond));
}

/// x^a for x ≥ 0.
///
/// Accuracy: 1 ulp for floats, 2·|a·log x| + 3 ulp for doubles.
template <real_scalar S>
[[gnu::always_inline]] constexpr S pow(S x, S a) {
  return static_cast<S>(exp(static_cast<double>(a) * log(static_cast<double>(x))));
}

/// tanh x.
///
/// Accuracy: 4 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S tanh(S x) {
  using bits = detail::bits_of<S>;
  constexpr bits sign = bits{1} << (sizeof(S) * 8 - 1);
  const S size = std::bit_cast<S>(std::bit_cast<bits>(x) & ~sign);
  const S e = expm1(-2 * size);
  const S y = -e / (e + 2);
  return std::bit_cast<S>((std::bit_cast<bits>(y) & ~sign) | (std::bit_cast<bits>(x) & sign));
}

/// 1/(1 + e^−x).
///
/// Accuracy: 4 ulp.
template <real_scalar S>
[[gnu::always_inline]] constexpr S sigmoid(S x) {
  return 1 / (1 + exp(-x));
}

}  // namespace vectorized
}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
