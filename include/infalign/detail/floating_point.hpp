// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <bit>
#include <cstdint>
#include <limits>
#include <type_traits>

#include <infalign/detail/begin.hpp>

/// \file
/// NaN and infinity by their bits, because -ffast-math lets a compiler assume that `x != x` is false.
namespace INFALIGN_NAMESPACE::detail {

/// An unsigned integer as wide as S.
template <class S>
using bits_of = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;

/// The bits of infinity, shifted left by one so that the sign is gone. Those of a NaN are larger.
template <class S>
inline constexpr bits_of<S> infinity_bits = ~bits_of<S>{0} << std::numeric_limits<S>::digits;

/// True if x is NaN.
template <class S>
constexpr bool is_nan(S x) noexcept {
  return static_cast<bits_of<S>>(std::bit_cast<bits_of<S>>(x) << 1) > infinity_bits<S>;
}

/// True if x is neither NaN nor infinite.
template <class S>
constexpr bool is_finite(S x) noexcept {
  return static_cast<bits_of<S>>(std::bit_cast<bits_of<S>>(x) << 1) < infinity_bits<S>;
}

/// True if n numbers are all NaN.
template <class S, class Size>
bool all_nan(const S* x, Size n) noexcept {
  for (Size i = 0; i < n; ++i)
    if (!is_nan(x[i])) return false;
  return true;
}

/// Infinity, by its bits too.
template <class S>
inline constexpr S infinite = std::bit_cast<S>(static_cast<bits_of<S>>(infinity_bits<S> >> 1));

/// A quiet NaN.
template <class S>
inline constexpr S nan = std::bit_cast<S>(
    static_cast<bits_of<S>>(infinity_bits<S> >> 1 | bits_of<S>{1} << (std::numeric_limits<S>::digits - 2)));

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
