// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <atomic>

#include <infalign/detail/begin.hpp>

/// \def INFALIGN_HAS_DISPATCH
/// 1 if loops are compiled for several instruction sets, else 0.
#if defined(__GNUC__) && defined(__x86_64__) && !defined(__AVX2__) && !defined(_WIN32) && !defined(INFALIGN_PLAIN_LOOPS)
#define INFALIGN_HAS_DISPATCH 1
#else
#define INFALIGN_HAS_DISPATCH 0
#endif

/// \file
/// The instruction set that the library's loops use.
namespace INFALIGN_NAMESPACE {

/// The instruction set of a loop.
enum class instruction_set {
  baseline,  ///< The one that the program is compiled for.
  avx2       ///< AVX2, in a program that is compiled for any x86-64. It is used if the processor has it.
};

namespace detail {

/// What `limit_instruction_set` was called with.
inline std::atomic<instruction_set> instruction_set_limit{instruction_set::avx2};

}  // namespace detail

/// The instruction set that the library's loops use now. Results have the same bits with each.
///
/// Without GCC or Clang, on another kind of processor, or if the program is compiled for AVX2 itself, there is one version of
/// each loop: `baseline`.
///
/// Cost: 1 ns.
inline instruction_set active_instruction_set() noexcept {
#if INFALIGN_HAS_DISPATCH
  if (__builtin_cpu_supports("avx2")) return detail::instruction_set_limit.load(std::memory_order_relaxed);
#endif
  return instruction_set::baseline;
}

/// Makes all threads use at most this instruction set: for tests, and for measuring. It returns the limit before.
///
///     limit_instruction_set(instruction_set::baseline);
///
/// Files of a program that are compiled with unlike flags have limits of their own.
inline instruction_set limit_instruction_set(instruction_set most) noexcept {
  return detail::instruction_set_limit.exchange(most, std::memory_order_relaxed);
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
