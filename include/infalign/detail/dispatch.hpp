// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/instruction_set.hpp>

#include <cstddef>
#include <type_traits>

#include <infalign/detail/begin.hpp>

/// \file
/// The one place that chooses the instruction set of a loop.
///
/// Most programs are compiled for every processor of a kind: on x86-64 for SSE2, whose registers hold 16 bytes. Each loop
/// that takes time is therefore compiled twice, for the program's instruction set and for AVX2, whose registers hold 32
/// bytes. The processor is asked when the loop is run. Only functions that have the instruction set in their name are
/// compiled for it, so that programs may mix files with different flags.
///
/// There is one version if the program is compiled for AVX2 itself, for another kind of processor (NEON is part of every
/// AArch64), or by a compiler without these attributes.
namespace INFALIGN_NAMESPACE::detail {

/// The size of a vector register, as a type.
template <std::size_t bytes>
using register_size = std::integral_constant<std::size_t, bytes>;

#if defined(__AVX2__)
using baseline_register = register_size<32>;
#else
using baseline_register = register_size<16>;
#endif

/// f(size of a register), compiled for the program's instruction set. Not inlined, so that the compiler has all registers
/// for the loop.
template <class F>
[[gnu::noinline]] auto with_baseline(const F& f) {
  return f(baseline_register{});
}

#if INFALIGN_HAS_DISPATCH
/// f(size of a register), compiled for AVX2, with all that it calls. AVX2 has no fused multiplication and addition: results
/// have the same bits.
template <class F>
[[gnu::target("avx2"), gnu::flatten, gnu::noinline]] auto with_avx2(const F& f) {
  return f(register_size<32>{});
}
#endif

/// Calls f with the size of a register, at the width of the processor if that is worth it: the question and the call cost
/// about 2 ns.
template <class F>
[[gnu::always_inline]] inline auto at_full_width(const F& f, [[maybe_unused]] bool worth_it = true) {
#if INFALIGN_HAS_DISPATCH
  if (worth_it && active_instruction_set() == instruction_set::avx2) return with_avx2(f);
#endif
  return with_baseline(f);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
