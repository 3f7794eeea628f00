// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>

#if defined(_OPENMP)
#include <exception>
#endif

/// Work on many rows. It is serial, unless the program that includes the library is compiled with OpenMP: then the rows
/// are shared out among its threads (`OMP_NUM_THREADS`, `omp_set_num_threads`; in a parallel region of the caller's
/// own, that thread alone). No row depends on another and nothing is summed across threads, so that the results are the
/// same bits for any number of them.
namespace infalign::detail {

/// Calls f(i) for i = 0 .. n − 1. What the first row that throws throws comes out. `work`: about how many nanoseconds
/// all of it takes; threads are woken only where that is worth it, and f is called in order where it is 0.
template <class F>
void for_each_row(Eigen::Index n, [[maybe_unused]] double work, const F& f) {
#if defined(_OPENMP)
  Eigen::Index failed = n;
  std::exception_ptr failure;
#pragma omp parallel for schedule(static) if (work > 50e3)
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
  for (Eigen::Index i = 0; i < n; ++i) f(i);
#endif
}

/// Calls f(first, end) for pieces of 0 .. n, each of a multiple of 1,024 but the last.
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

}  // namespace infalign::detail
