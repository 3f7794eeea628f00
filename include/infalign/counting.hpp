// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/parallel.hpp>
#include <infalign/reference.hpp>
#include <infalign/row_counts.hpp>

#include <algorithm>
#include <utility>

/// Counting: how many reference rewards of its prompt each reward of a batch is above, and how many it ties with. All
/// that is known of a reward's place comes from these two counts.
namespace infalign {

namespace detail {

/// How many rows, or responses of a flat batch, ahead of counting memory is asked for: the more, the more of it is on
/// its way at a time.
inline constexpr Eigen::Index rows_ahead = 16;

/// Asks for a row that will be counted in soon: for its first 2 KiB, after which processors see for themselves what is
/// being read. Always inlined: a call that does nothing else is dropped by compilers.
template <real_scalar S>
[[gnu::always_inline]] inline void prefetch([[maybe_unused]] Eigen::Map<const array<S>> row) {
#if defined(__GNUC__)
  constexpr Eigen::Index line = 64 / sizeof(S);
  for (Eigen::Index k = 0; k < std::min(row.size(), 32 * line); k += line) __builtin_prefetch(row.data() + k);
#endif
}

template <class R, class T>
void check_scalars() {
  static_assert(std::same_as<typename R::Scalar, typename T::Scalar>,
                "infalign: reference and rewards must have the same scalar type (a float does not tie with "
                "the double it came from): cast one of them");
}

/// In which order f is called for rewards: `any` lets threads share them.
enum class calls { in_order, any };

/// Calls f(rewards, n, p, counts, scored) for P × M rewards, n that follow each other at a time, with their counts in row
/// p of the table, of which `scored` are numbers. f may write to them. Throws what every function that ranks rewards in
/// a table throws.
template <reference_rewards T, class Rewards, class F>
void count_rows(const char* function, const T& reference, Rewards& rewards, unscored policy, calls order, const F& f) {
  decltype(auto) table = rows_of(reference);
  if (rewards.rows() != table.rows())
    fail(function, text(table.rows(), " rows of rewards, one for each row of the reference"), text(rewards.rows()));
  const auto row_of = [&](Eigen::Index p) { return rewards.data() + p * rewards.outerStride(); };
  const bool packed = rewards.outerStride() == rewards.cols();
  if (policy == unscored::error && !(packed && has_finite_sum(rewards.data(), rewards.size())))
    for (Eigen::Index p = 0; p < rewards.rows(); ++p)
      for (Eigen::Index m = 0; m < rewards.cols(); ++m)
        if (is_nan(row_of(p)[m])) fail(function, "rewards that are numbers", text("NaN", at(p, m)));
  // About how many nanoseconds; threads are not woken for none.
  const double row_size = rewards.rows() > 0 ? static_cast<double>(table.row(0).size()) : 0;
  const double work = order == calls::any ? 0.1 * row_size * static_cast<double>(rewards.size()) : 0;
  for_each_row(rewards.rows(), work, [&](Eigen::Index p) {
    prefetch<typename T::Scalar>(table.row(std::min(p + rows_ahead, rewards.rows() - 1)));
    const auto row = table.row(p);
    const auto scored = count_scored(function, "reference", row.data(), row.size(), p, policy);
    auto* const of_prompt = row_of(p);
    count_each(row.data(), row.size(), scored, of_prompt, rewards.cols(),
               [&f, of_prompt, p, scored](Eigen::Index m, int n, const auto& c) { f(of_prompt + m, n, p, c, scored); });
  });
}

/// The same for a flat batch, whose reward i is ranked in row prompt[i]. Neighbours with one prompt are counted
/// together.
template <reference_rewards T, prompt_index I, class Rewards, class F>
void count_flat(const char* function, const T& reference, const I& prompt, Rewards& rewards, unscored policy,
                calls order, const F& f) {
  decltype(auto) table = rows_of(reference);
  check_size(function, "prompt indices, one for each reward", rewards.size(), static_cast<Eigen::Index>(prompt.size()));
  const auto index = [&](Eigen::Index i) { return +prompt[static_cast<decltype(prompt.size())>(i)]; };  // of char: int
  if (rewards.size() > 0 && table.rows() == 0) fail(function, "a reference with a row for each prompt", "no rows");
  for (Eigen::Index i = 0; i < rewards.size(); ++i)
    if (std::cmp_less(index(i), 0) || std::cmp_greater_equal(index(i), table.rows()))
      fail(function, text("prompt indices from 0 to ", table.rows() - 1), text(index(i), at(i)));
  if (!has_finite_sum(rewards.data(), rewards.size()))
    check_scored(function, rewards.data(), rewards.size(), 0, policy);
  const double work = order == calls::any ? 10 * static_cast<double>(rewards.size()) : 0;
  for_each_piece(rewards.size(), work, [&](Eigen::Index begin, Eigen::Index stop) {
    for (Eigen::Index first = begin, end = begin; first < stop; first = end) {
      while (end < stop && index(end) == index(first)) ++end;
      prefetch<typename T::Scalar>(table.row(static_cast<Eigen::Index>(index(std::min(end + rows_ahead, stop - 1)))));
      const auto p = static_cast<Eigen::Index>(index(first));
      auto* const run = rewards.data() + first;
      if (std::all_of(run, rewards.data() + end, [](auto r) { return is_nan(r); })) continue;
      const auto row = table.row(p);
      const auto scored = count_scored(function, "reference", row.data(), row.size(), p, policy);
      count_each(row.data(), row.size(), scored, run, end - first,
                 [&f, run, p, scored](Eigen::Index i, int n, const auto& c) { f(run + i, n, p, c, scored); });
    }
  });
}

}  // namespace detail
}  // namespace infalign
