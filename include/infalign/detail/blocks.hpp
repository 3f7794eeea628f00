// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <bit>

#include <infalign/detail/begin.hpp>

/// \file
/// Loops over N numbers, N being known to the compiler. They have no branch and fixed order, so that compilers vectorise
/// them at -O2, and results have the same bits at every width of the registers.
namespace INFALIGN_NAMESPACE::detail {

/// Σ x of N numbers, 1 or 64: a tree of additions of halves.
template <int N, real_scalar S>
[[gnu::always_inline]] inline S sum_of(const S* x) {
  static_assert(N == 1 || N == 64);
  if constexpr (N == 1) {
    return x[0];
  } else {
    S sums[16], fewer[8], fewest[4];
    for (int j = 0; j < 16; ++j) sums[j] = (x[j] + x[j + 32]) + (x[j + 16] + x[j + 48]);
    for (int j = 0; j < 8; ++j) fewer[j] = sums[j] + sums[j + 8];
    for (int j = 0; j < 4; ++j) fewest[j] = fewer[j] + fewer[j + 4];
    return (fewest[0] + fewest[2]) + (fewest[1] + fewest[3]);
  }
}

/// result = x − y.
template <int N, real_scalar S>
[[gnu::always_inline]] inline void subtract(const S* __restrict x, const S* __restrict y, S* __restrict result) {
  for (int j = 0; j < N; ++j) result[j] = x[j] - y[j];
}

/// result = x, in another type.
template <int N, class From, real_scalar S>
[[gnu::always_inline]] inline void convert(const From* __restrict x, S* __restrict result) {
  for (int j = 0; j < N; ++j) result[j] = static_cast<S>(x[j]);
}

/// result = value.
template <int N, real_scalar S>
[[gnu::always_inline]] inline void fill(S value, S* __restrict result) {
  for (int j = 0; j < N; ++j) result[j] = value;
}

/// result = value·mask, for a mask of 0 and 1.
template <int N, class Mask, real_scalar S>
[[gnu::always_inline]] inline void scale_to(const Mask* __restrict mask, S value, S* __restrict result) {
  for (int j = 0; j < N; ++j) result[j] = value * static_cast<S>(mask[j]) + S{0};  // not −0
}

/// x = x·y.
template <int N, real_scalar S>
[[gnu::always_inline]] inline void multiply(S* __restrict x, const S* __restrict y) {
  for (int j = 0; j < N; ++j) x[j] *= y[j];
}

/// result = values at unmasked units, 0 at masked ones. By bits, so that a NaN at a masked unit becomes 0 too. The third
/// highest bit of 1 is set, that of 0 is not.
template <int N, real_scalar S>
[[gnu::always_inline]] inline void keep_unmasked(const S* __restrict values, const S* __restrict mask,
                                                 S* __restrict result) {
  using bits = bits_of<S>;
  for (int j = 0; j < N; ++j)
    result[j] = std::bit_cast<S>(std::bit_cast<bits>(values[j]) &
                                 (bits{0} - (std::bit_cast<bits>(mask[j]) >> (sizeof(S) * 8 - 3) & 1)));
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
