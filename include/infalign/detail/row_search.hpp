// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/row_counts.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// Counting by search in one sorted row of reference rewards. Several rewards are searched together, without branches, so
/// that the loads of one do not wait for those of another.
namespace INFALIGN_NAMESPACE::detail {

/// The number of rewards that are searched together.
inline constexpr int searched = 8;

/// The shortest sorted rows, in numbers, that are searched for 8 rewards together and for one: in a shorter row, counting is
/// faster. Counting reads a row in order; each step of a search waits for the one before.
template <real_scalar S>
inline constexpr Eigen::Index searched_together = 1024 / sizeof(S);
template <real_scalar S>
inline constexpr Eigen::Index searched_alone = 8192 / sizeof(S);

/// #{z < r} for each of N rewards in a sorted row of K ≥ 1, or #{z ≤ r}.
template <bool or_equal, int N, real_scalar S>
void search(const S* row, Eigen::Index K, const S* rewards, counter_of<S>* result) {
  const auto is_below = [](S z, S r) { return or_equal ? z <= r : z < r; };
  Eigen::Index first[std::size_t{N}] = {};
  for (Eigen::Index n = K; n > 1;) {
    const Eigen::Index half = n / 2;
    for (int j = 0; j < N; ++j)
      first[j] += half & -static_cast<Eigen::Index>(is_below(row[first[j] + half - 1], rewards[j]));
    n -= half;
  }
  for (int j = 0; j < N; ++j) result[j] = static_cast<counter_of<S>>(first[j] + is_below(row[first[j]], rewards[j]));
}

/// The counts of N rewards. The second search is left out if no reward is equal to one of the row.
template <int N, real_scalar S>
lane_counts<S, N> search_counts(const S* row, Eigen::Index K, const S* rewards) {
  lane_counts<S, N> c;
  search<false, N>(row, K, rewards, c.below);
  std::copy_n(c.below, N, c.at_most);
  bool tied = false;
  for (int j = 0; j < N; ++j) tied = tied || (c.below[j] < K && row[c.below[j]] == rewards[j]);
  if (tied) search<true, N>(row, K, rewards, c.at_most);
  return c;
}

/// As `count_each`, in a sorted row of K ≥ 1 without NaN.
template <real_scalar S, class F>
void search_each(const S* row, Eigen::Index K, const S* rewards, Eigen::Index size, const F& f) {
  Eigen::Index i = 0;
  if (K >= searched_together<S>)
    for (; i + searched <= size; i += searched) {
      const auto c = search_counts<searched>(row, K, rewards + i);
      for (int first = 0; first < searched; first += lanes<S>) {
        lane_counts<S> some;
        std::copy_n(c.below + first, lanes<S>, some.below);
        std::copy_n(c.at_most + first, lanes<S>, some.at_most);
        f(i + first, lanes<S>, some);
      }
    }
  if (K >= searched_alone<S>)
    for (; i < size; ++i) f(i, 1, search_counts<1>(row, K, rewards + i));
  if (i < size)
    count_each(row, K, K, rewards + i, size - i, [&](Eigen::Index first, int n, const auto& c) { f(i + first, n, c); });
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
