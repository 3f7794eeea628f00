// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>

#if defined(_OPENMP)
#include <omp.h>

#include <exception>
#endif

#include <infalign/detail/begin.hpp>

/// \file
/// Loops over rows, on several threads if the including program is compiled with OpenMP.
///
/// The number of threads is OpenMP's (`OMP_NUM_THREADS`, `omp_set_num_threads`; one inside a parallel region of the
/// caller). Rows are independent and nothing is summed across threads, so that results are identical in every bit for
/// any number of threads.
///
/// fork: a child process has only the thread that called fork, and GCC's OpenMP waits for ever for the others if the
/// parent has used them. Call `omp_set_num_threads(1)` in the child first: with one thread, OpenMP is not entered.
namespace INFALIGN_NAMESPACE::detail {

#if defined(_OPENMP)
/// Calls f(i) for i = 0 … n − 1 in OpenMP's threads.
template <class F>
void for_each_row_in_threads(Eigen::Index n, const F& f) {
#if defined(__cpp_exceptions) || defined(_CPPUNWIND)
  Eigen::Index failed = n;
  std::exception_ptr failure;
#pragma omp parallel for schedule(static)
  for (Eigen::Index i = 0; i < n; ++i) {
    try {
      f(i);
    } catch (...) {
#pragma omp critical(infalign_failure)
      if (i < failed) {
        failed = i;
        failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
#else
#pragma omp parallel for schedule(static)
  for (Eigen::Index i = 0; i < n; ++i) f(i);
#endif
}
#endif

/// Calls f(i) for i = 0 … n − 1. If calls throw, the exception of the smallest i is rethrown.
///
/// work: estimated total time in ns. Several threads are used above 50,000; with 0, f is called in order.
template <class F>
void for_each_row(Eigen::Index n, [[maybe_unused]] double work, const F& f) {
#if defined(_OPENMP)
  if (work > 50e3 && omp_get_max_threads() > 1) return for_each_row_in_threads(n, f);
#endif
  for (Eigen::Index i = 0; i < n; ++i) f(i);
}

/// Calls f(first, end) for consecutive pieces of 0 … n, which start at multiples of 1,024.
template <class F>
void for_each_piece(Eigen::Index n, double work, const F& f) {
#if defined(_OPENMP)
  constexpr Eigen::Index piece = 1'024;
  for_each_row((n + piece - 1) / piece, work, [&](Eigen::Index i) { f(i * piece, std::min((i + 1) * piece, n)); });
#else
  static_cast<void>(work);
  f(Eigen::Index{0}, n);
#endif
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
