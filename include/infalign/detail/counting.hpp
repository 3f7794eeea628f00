// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/calibration/reference.hpp>
#include <infalign/calibration/sorted.hpp>
#include <infalign/detail/batch.hpp>
#include <infalign/detail/row_search.hpp>

#include <algorithm>

#include <infalign/detail/begin.hpp>

/// \file
/// Counts for a whole batch: for each reward, how many reference rewards of its prompt are below it and how many are
/// equal.
namespace INFALIGN_NAMESPACE::detail {

/// The memory of a table whose rows follow each other in one buffer. That of other tables is not known.
template <class Table>
memory memory_of_rows(const Table& table) {
  if (table.rows() == 0) return {};
  const auto first = table.row(0), last = table.row(table.rows() - 1);
  return {first.data(), 1, static_cast<Eigen::Index>(last.data() - first.data()) + last.size(), 0, 1};
}
template <real_scalar S>
memory memory_of(const dense_rows<S>& table) {
  return memory_of_rows(table);
}
template <vector_expression Values, prompt_index Offsets>
memory memory_of(const ragged<Values, Offsets>& table) {
  return memory_of_rows(table);
}

/// Throws if a result is in the memory of the reference rewards.
template <class Result, reference_table Table>
void check_apart_from_reference(const char* function, const Result& result, const Table& table) {
  check_apart(function, memory_of(result), memory_of(table), "the reference rewards");
}

/// How many runs, or responses of a flat batch, the prefetch is ahead of the counting. More means more loads in flight.
inline constexpr Eigen::Index prefetch_distance = 16;

/// Prefetches what is read first in a row of reference rewards: the first 2 KiB, from where the hardware prefetcher follows;
/// or the numbers of the first four steps of a search. Always inlined, because compilers drop a call that does nothing else.
template <bool sorted, real_scalar S>
[[gnu::always_inline]] inline void prefetch([[maybe_unused]] Eigen::Map<const array<S>> row) {
#if defined(__GNUC__)
  constexpr Eigen::Index line = 64 / sizeof(S);
  if (sorted && row.size() > 32 * line)
    for (Eigen::Index k = 1; k < 16; ++k) __builtin_prefetch(row.data() + k * row.size() / 16);
  else
    for (Eigen::Index k = 0; k < std::min(row.size(), 32 * line); k += line) __builtin_prefetch(row.data() + k);
#endif
}

/// `count_scored` of a sorted row of reference rewards.
template <real_scalar S>
Eigen::Index count_sorted(const caller& call, Eigen::Map<const array<S>> row, Eigen::Index p) {
  const auto K = row.size();
  if (K > 0 && !is_nan(row[K - 1])) return K;
  if (call.on_unscored == unscored::error) return count_scored_one_by_one(call, "reference", row, p);
  return static_cast<Eigen::Index>(std::partition_point(row.begin(), row.end(), [](S r) { return !is_nan(r); }) -
                                   row.begin());
}

/// The order of the calls of `count_batch`. `any`: threads may share them.
enum class calls { in_order, any };

/// Counts every reward of a batch in the row of its prompt.
///
/// Calls f(rewards, n, p, counts, scored) for n rewards at a time that are contiguous in memory: prompt p, their
/// `lane_counts`, and the number of scored reference rewards. f may overwrite the n rewards. Runs without a scored
/// reward are skipped. If no reference reward is scored, and NaN is propagated, the rewards become NaN.
///
/// Errors: those of every function that ranks rewards in a table.
template <reference_rewards T, class Prompts, class S, class F>
void count_batch(const caller& call, const T& reference, const Prompts& prompts, const rows_view<S>& rewards,
                 calls order, const F& f) {
  using Scalar = std::remove_const_t<S>;
  static_assert(std::same_as<Scalar, typename T::Scalar>,
                "infalign: reference and rewards must have the same scalar type (a float does not tie with "
                "the double it came from): cast one of them");
  decltype(auto) table = rows_of(reference);
  prompts.check(call.function, table.rows());
  if (!(rewards.packed() && has_finite_sum(rewards.data, rewards.size()))) check_scored(call, prompts, rewards);
  const double row_size = table.rows() > 0 ? static_cast<double>(table.row(0).size()) : 0;
  const double work = order == calls::any ? (2 + 0.1 * row_size) * static_cast<double>(rewards.size()) : 0;  // ns
  prompts.for_each_run(
      rewards, work, prefetch_distance, [&](Eigen::Index p, Eigen::Index ahead, S* run, Eigen::Index n) {
        constexpr bool sorted = is_sorted_rewards<std::remove_cvref_t<decltype(table)>>;
        prefetch<sorted, Scalar>(table.row(ahead));
        if (all_nan(run, n)) return;
        const auto row = table.row(p);
        const auto scored = sorted ? count_sorted(call, row, p) : count_scored(call, "reference", row, p);
        if (scored == 0) {
          if constexpr (!std::is_const_v<S>) std::fill_n(run, n, nan<Scalar>);
          return;
        }
        const auto take = [&f, run, p, scored](Eigen::Index i, int lanes, const auto& c) {
          f(run + i, lanes, p, c, scored);
        };
        if constexpr (sorted)
          search_each(row.data(), scored, run, n, take);
        else
          count_each(row.data(), row.size(), scored, run, n, take);
      });
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
