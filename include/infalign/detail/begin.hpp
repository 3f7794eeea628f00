// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors

/// \file
/// The last include of every header. `end.hpp`, its last line, undoes what this file does. (Therefore no `#pragma once`.)

// The library's namespace has an inner, inline namespace that is named after the compiler flags that change what its
// functions compile to. Without it, two files of one program that are compiled with unlike flags would share functions,
// and a processor could meet instructions that it does not have. `infalign::calibrate` is written as ever.
#if !defined(INFALIGN_NAMESPACE)
#if defined(__AVX512F__)
#define INFALIGN_ABI_WIDTH avx512
#elif defined(__AVX2__)
#define INFALIGN_ABI_WIDTH avx2
#elif defined(__AVX__)
#define INFALIGN_ABI_WIDTH avx
#else
#define INFALIGN_ABI_WIDTH base
#endif
#if defined(__FMA__)
#define INFALIGN_ABI_FMA _fma
#else
#define INFALIGN_ABI_FMA
#endif
#if defined(_OPENMP)
#define INFALIGN_ABI_THREADS _openmp
#else
#define INFALIGN_ABI_THREADS
#endif
#if defined(__FAST_MATH__)
#define INFALIGN_ABI_MATH _fast_math
#else
#define INFALIGN_ABI_MATH
#endif
#if defined(__GNUC__) && !defined(__cpp_exceptions)
#define INFALIGN_ABI_ERRORS _no_exceptions
#else
#define INFALIGN_ABI_ERRORS
#endif
#define INFALIGN_ABI_JOIN(a, b, c, d, e) a##b##c##d##e
#define INFALIGN_ABI_NAME(a, b, c, d, e) INFALIGN_ABI_JOIN(a, b, c, d, e)
#define INFALIGN_NAMESPACE                                                                                          \
  infalign::inline INFALIGN_ABI_NAME(INFALIGN_ABI_WIDTH, INFALIGN_ABI_FMA, INFALIGN_ABI_THREADS, INFALIGN_ABI_MATH, \
                                     INFALIGN_ABI_ERRORS)
#endif

// A member that returns a view of its object. Clang then warns if the object is a temporary.
#if !defined(INFALIGN_LIFETIMEBOUND)
#if defined(__clang__)
#define INFALIGN_LIFETIMEBOUND [[clang::lifetimebound]]
#else
#define INFALIGN_LIFETIMEBOUND
#endif
#endif

// A function that CUDA kernels may call too. Compile with --expt-relaxed-constexpr, because it calls constexpr functions.
#if !defined(INFALIGN_HOST_DEVICE)
#if defined(__CUDACC__)
#define INFALIGN_HOST_DEVICE __host__ __device__
#else
#define INFALIGN_HOST_DEVICE
#endif
#endif

// Macros of other people's headers with names that are used here: <complex.h>, windows.h, Apple's AssertMacros.h.
#pragma push_macro("I")
#pragma push_macro("check")
#pragma push_macro("fail")
#pragma push_macro("max")
#pragma push_macro("min")
#undef I
#undef check
#undef fail
#undef max
#undef min

// Warnings that a program may ask for, and that are no faults here: rewards are compared for equality because ties count.
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wfloat-equal"
#endif
