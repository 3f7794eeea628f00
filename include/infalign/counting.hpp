// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/parallel.hpp>
#include <infalign/reference.hpp>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <utility>

/// Counting: how many reference rewards of its prompt a reward is above, and how many it ties with. All that is known
/// of a reward's place comes from these two counts.
///
/// A count needs no sort: it is a few nanoseconds for a row of 128. Several responses to one prompt are counted
/// together, each in its own lane of a vector register, so that the row is read once and nothing is summed over lanes.
namespace infalign {

namespace detail {

/// #{z < r} and #{z = r} in one row of reference rewards.
struct counts {
  Eigen::Index below = 0, tied = 0;
};

/// How many rewards are counted together: 8 floats or 4 doubles.
template <real_scalar S>
inline constexpr int lanes = static_cast<int>(32 / sizeof(S));

/// #{z < r} and #{z ≤ r} for each of them.
template <real_scalar S>
struct lane_counts {
  std::conditional_t<sizeof(S) == 4, std::int32_t, std::int64_t> below[lanes<S>], at_most[lanes<S>];

  counts operator[](int j) const { return {below[j], at_most[j] - below[j]}; }
};

#if defined(__GNUC__)
// The compilers' vector types: they need no flags and no intrinsics, and are as wide as the registers that the flags
// allow.
#if defined(__AVX2__)
inline constexpr std::size_t register_bytes = 32;
#else
inline constexpr std::size_t register_bytes = 16;
#endif
template <real_scalar S>
struct vector_of {
  static constexpr int size = static_cast<int>(register_bytes / sizeof(S));
  using counter = std::conditional_t<sizeof(S) == 4, std::int32_t, std::int64_t>;
  typedef S numbers __attribute__((vector_size(register_bytes)));
  typedef counter counters __attribute__((vector_size(register_bytes)));
};

/// A register of rewards, and one each of their counts.
template <real_scalar S>
struct counting_register {
  using numbers = typename vector_of<S>::numbers;
  using counters = typename vector_of<S>::counters;
  numbers rewards;
  counters below{}, at_most{};

  explicit counting_register(const S* r) { std::memcpy(&rewards, r, sizeof rewards); }
  void operator()(numbers x) {
    below -= x < rewards;  // true is −1
    at_most -= x <= rewards;
  }
  void store(lane_counts<S>& result, int first) const {
    std::memcpy(result.below + first, &below, sizeof below);
    std::memcpy(result.at_most + first, &at_most, sizeof at_most);
  }
};

/// The counts of `lanes` rewards in one row of numbers. Not inlined, where g++ 12 would keep the counters in memory.
template <real_scalar S>
[[gnu::noinline]] void count_lanes(const S* row, Eigen::Index K, const S* rewards, lane_counts<S>& result) {
  constexpr int size = vector_of<S>::size;
  constexpr typename vector_of<S>::numbers zero{};
  counting_register<S> a(rewards);
  if constexpr (size == lanes<S>) {
    for (Eigen::Index k = 0; k < K; ++k) a(row[k] - zero);
  } else {  // two registers, by name: compilers keep an array of them in memory
    counting_register<S> b(rewards + size);
    for (Eigen::Index k = 0; k < K; ++k) {
      const auto x = row[k] - zero;
      a(x);
      b(x);
    }
    b.store(result, size);
  }
  a.store(result, 0);
}

/// The counts of one reward in one row of numbers, the row in the lanes.
template <real_scalar S>
counts count_one(const S* row, Eigen::Index K, S reward) {
  using vector = vector_of<S>;
  typename vector::counters below{}, at_most{};
  Eigen::Index k = 0, sum_below = 0, sum_at_most = 0;
  for (; k + vector::size <= K; k += vector::size) {
    typename vector::numbers x;
    std::memcpy(&x, row + k, sizeof x);
    below -= x < reward;
    at_most -= x <= reward;
  }
  for (int j = 0; j < vector::size; ++j) {
    sum_below += below[j];
    sum_at_most += at_most[j];
  }
  for (; k < K; ++k) {
    sum_below += row[k] < reward;
    sum_at_most += row[k] <= reward;
  }
  return {sum_below, sum_at_most - sum_below};
}
#else
template <real_scalar S>
counts count_one(const S* row, Eigen::Index K, S reward) {
  bits_of<S> below = 0, at_most = 0;  // as wide as a reward, so that compilers can vectorise
  for (Eigen::Index k = 0; k < K; ++k) {
    below += row[k] < reward;
    at_most += row[k] <= reward;
  }
  return {static_cast<Eigen::Index>(below), static_cast<Eigen::Index>(at_most - below)};
}

template <real_scalar S>
void count_lanes(const S* row, Eigen::Index K, const S* rewards, lane_counts<S>& result) {
  for (int j = 0; j < lanes<S>; ++j) {
    const auto [below, tied] = count_one(row, K, rewards[j]);
    result.below[j] = static_cast<bits_of<S>>(below), result.at_most[j] = static_cast<bits_of<S>>(below + tied);
  }
}
#endif

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

/// The counts of one reward in a row with unscored rewards. Each is asked, because under -ffast-math a compiler may
/// take r < z for z ≥ r turned round, which a NaN answers wrongly.
template <real_scalar S>
counts count_scored_of(const S* row, Eigen::Index K, S reward) {
  counts c;
  for (Eigen::Index k = 0; k < K; ++k) {
    const bool number = !is_nan(row[k]);
    c.below += number & (row[k] < reward);
    c.tied += number & (row[k] == reward);
  }
  return c;
}

/// Whether the sum of a row is finite: then there is no NaN in it, and nothing tells so faster.
template <real_scalar S>
[[gnu::noinline]] bool has_finite_sum(const S* row, Eigen::Index K) {
  Eigen::Index k = 0;
  S sum = 0;
#if defined(__GNUC__)
  using numbers = typename vector_of<S>::numbers;
  constexpr int size = vector_of<S>::size;
  const auto load = [row](Eigen::Index from) {
    numbers x;
    std::memcpy(&x, row + from, sizeof x);
    return x;
  };
  numbers a{}, b{}, c{}, d{};  // four sums, which wait for each other little
  for (; k + 4 * size <= K; k += 4 * size) {
    a += load(k);
    b += load(k + size);
    c += load(k + 2 * size);
    d += load(k + 3 * size);
  }
  a = (a + b) + (c + d);
  for (int j = 0; j < size; ++j) sum += a[j];
#endif
  for (; k < K; ++k) sum += row[k];
  return is_finite(sum);
}

/// How many of K rewards in row p of a table are scored. Throws where one is not, unless NaN is to be left out, and
/// where none is.
template <real_scalar S>
[[gnu::noinline]] Eigen::Index count_scored_one_by_one(const char* function, const char* whose, const S* row,
                                                       Eigen::Index K, Eigen::Index p, unscored policy) {
  Eigen::Index scored = 0;
  for (Eigen::Index k = 0; k < K; ++k) scored += !is_nan(row[k]);
  if (scored < K && policy == unscored::error) {
    Eigen::Index k = 0;
    while (!is_nan(row[k])) ++k;
    fail(function, text(whose, " rewards that are numbers"), text("NaN", at(p, k)));
  }
  if (scored == 0) fail(function, text("at least one ", whose, " reward for each prompt"), text("none at row ", p));
  return scored;
}
template <real_scalar S>
Eigen::Index count_scored(const char* function, const char* whose, const S* row, Eigen::Index K, Eigen::Index p,
                          unscored policy) {
  if (K > 0 && has_finite_sum(row, K)) return K;
  return count_scored_one_by_one(function, whose, row, K, p, policy);
}

/// From so many responses to one prompt on, a row of such a size is sorted once and searched for each of them, at most
/// once and a half (-O3 -march=native) or twice and a half (-O2) as fast at 2,000 responses and K = 4,096. A search
/// costs some 60 ns for memory that is jumped to and branches that cannot be foreseen, as much as counting among 1,000,
/// so that smaller rows never gain.
inline constexpr Eigen::Index sorted_from = 1'024, least_sorted = 3'072, most_sorted = 8'192;

/// The counts of one reward in a sorted row of numbers.
template <real_scalar S>
counts count_sorted(const S* row, Eigen::Index K, S reward) {
  const S* const first = std::lower_bound(row, row + K, reward);
  return {first - row, std::upper_bound(first, row + K, reward) - first};
}

/// Calls f(first, n, counts) for the n rewards from `first` on that are counted together, of `size` in all, with their
/// counts in a row of K of which `scored` are numbers. A NaN's mean nothing. These rewards are not looked at after that,
/// so f may write there.
template <real_scalar S, class F>
void count_each(const S* row, Eigen::Index K, Eigen::Index scored, const S* rewards, Eigen::Index size, const F& f) {
  lane_counts<S> c;
  const auto one_by_one = [&](Eigen::Index i, const S* z, const auto& count) {
    for (; i < size; ++i) {
      const auto [below, tied] = count(z, K, rewards[i]);
      c.below[0] = static_cast<std::int32_t>(below), c.at_most[0] = static_cast<std::int32_t>(below + tied);
      f(i, 1, c);
    }
  };
  if (scored < K) return one_by_one(0, row, count_scored_of<S>);
  if (size >= sorted_from && K >= least_sorted && K <= most_sorted) {
    S sorted[most_sorted];
    std::sort(sorted, std::copy_n(row, K, sorted));
    return one_by_one(0, sorted, count_sorted<S>);
  }
  Eigen::Index i = 0;
  for (; size - i >= lanes<S>; i += lanes<S>) {
    count_lanes(row, K, rewards + i, c);
    f(i, lanes<S>, c);
  }
  if (const int rest = static_cast<int>(size - i); rest > lanes<S> / 2) {
    S r[lanes<S>] = {};
    std::copy_n(rewards + i, rest, r);
    count_lanes(row, K, r, c);
    return f(i, rest, c);
  }
  one_by_one(i, row, count_one<S>);
}

/// The rank of each of `lanes` rewards among `count`; `own` of its ties are the reward itself. Not inlined, and counted
/// in the lanes' own integers, so that compilers vectorise the loop.
template <real_scalar S, class Rank>
[[gnu::noinline]] void rank_lanes(const Rank& rank, const lane_counts<S>& c, int own, Eigen::Index count,
                                  S* __restrict ranks) {
  for (int j = 0; j < lanes<S>; ++j)
    ranks[j] = static_cast<S>(rank(c.below[j], c.at_most[j] - c.below[j] - own, count));
}

/// Writes the ranks of n rewards that were counted together. A NaN stays.
template <real_scalar S, class Rank>
void write_ranks(const Rank& rank, const lane_counts<S>& c, int n, int own, Eigen::Index count, const S* rewards,
                 S* result) {
  S ranks[lanes<S>];
  if (n == lanes<S>)
    rank_lanes(rank, c, own, count, ranks);
  else
    for (int j = 0; j < n; ++j) ranks[j] = static_cast<S>(rank(c[j].below, c[j].tied - own, count));
  for (int j = 0; j < n; ++j) result[j] = is_nan(rewards[j]) ? rewards[j] : ranks[j];
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
  for (Eigen::Index p = 0; p < rewards.rows() && policy == unscored::error; ++p)
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
