// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <bit>

#include <infalign/detail/begin.hpp>

/// \file
/// Functions applied to many numbers in [0, 1] at once.
namespace INFALIGN_NAMESPACE::detail {

/// Has the highest bit 0 if u is in [0, 1]. A negative number (−0 too) and a NaN have larger bits than 1.
template <real_scalar S>
constexpr bits_of<S> out_of_unit_interval(S u) noexcept {
  const auto bits = std::bit_cast<bits_of<S>>(u);
  return (std::bit_cast<bits_of<S>>(S{1}) - bits) | bits;
}
/// Has the highest bit 1 if y is infinite or NaN.
template <real_scalar S>
constexpr bits_of<S> not_finite(S y) noexcept {
  constexpr auto sign = bits_of<S>{1} << (sizeof(S) * 8 - 1);
  return (std::bit_cast<bits_of<S>>(y) & ~sign) + (sign - (infinity_bits<S> >> 1));
}
template <real_scalar S>
constexpr bool highest_bit(bits_of<S> bits) noexcept {
  return bits >> (sizeof(S) * 8 - 1) != 0;
}

/// True unless a prepared function says that its formula does not hold for its parameters.
template <class F>
INFALIGN_HOST_DEVICE bool fits(const F& f) {
  if constexpr (requires { f.fits; })
    return f.fits;
  else
    return true;
}

/// True if a prepared function may be used for u.
template <class F, real_scalar S>
INFALIGN_HOST_DEVICE bool covers(const F& f, S u) {
  return fits(f) && !highest_bit<S>(out_of_unit_interval(u));
}

/// result[i] = f(u[i]) for N numbers. Returns false if a u is outside [0, 1] or a result is not finite; `result` is
/// then unspecified.
template <int N, class F, real_scalar S>
bool apply_on_unit_interval(const F& f, const S* __restrict u, S* __restrict result) {
  bits_of<S> wrong = 0;
  for (int i = 0; i < N; ++i) wrong |= out_of_unit_interval(u[i]);
  if (highest_bit<S>(wrong)) return false;
  for (int i = 0; i < N; ++i) result[i] = static_cast<S>(f(u[i]));
  if constexpr (requires { requires F::finite; }) return true;
  for (int i = 0; i < N; ++i) wrong |= not_finite(result[i]);
  return !highest_bit<S>(wrong);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
