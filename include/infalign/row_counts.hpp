// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

/// Counting in one row of reference rewards: how many are below a reward, and how many tie with it.
///
/// A count needs no sort: it is a few nanoseconds for a row of 128. Several responses to one prompt are counted
/// together, each in its own lane of a vector register, so that the row is read once and nothing is summed over lanes.
namespace infalign::detail {

/// #{z < r} and #{z = r} in one row of reference rewards.
struct counts {
  Eigen::Index below = 0, tied = 0;
};

/// How many rewards are counted together: 8 floats or 4 doubles.
template <real_scalar S>
inline constexpr int lanes = static_cast<int>(32 / sizeof(S));

/// An integer as wide as a reward.
template <real_scalar S>
using counter_of = std::make_signed_t<bits_of<S>>;

/// #{z < r} and #{z ≤ r} for each of them.
template <real_scalar S>
struct lane_counts {
  counter_of<S> below[lanes<S>], at_most[lanes<S>];

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
  typedef S numbers __attribute__((vector_size(register_bytes)));
  typedef counter_of<S> counters __attribute__((vector_size(register_bytes)));

  [[gnu::always_inline]] static numbers load(const S* from) {
    numbers result;
    std::memcpy(&result, from, sizeof result);
    return result;
  }
};

/// A register of rewards, and one each of their counts.
template <real_scalar S>
struct counting_register {
  using numbers = typename vector_of<S>::numbers;
  using counters = typename vector_of<S>::counters;
  numbers rewards;
  counters below{}, at_most{};

  explicit counting_register(const S* r) : rewards(vector_of<S>::load(r)) {}
  void operator()(numbers x) {
    below -= x < rewards;  // true is −1
    at_most -= x <= rewards;
  }
  void store(lane_counts<S>& result, int first) const {
    std::memcpy(result.below + first, &below, sizeof below);
    std::memcpy(result.at_most + first, &at_most, sizeof at_most);
  }
};

/// Calls f with each number of a row in all lanes of a register, four times a turn: so that the turn itself costs
/// little, wherever the linker puts it.
template <real_scalar S, class F>
[[gnu::always_inline]] inline void for_each_number(const S* row, Eigen::Index K, const F& f) {
  constexpr typename vector_of<S>::numbers zero{};
  Eigen::Index k = 0;
  for (; k + 4 <= K; k += 4) {
    f(row[k] - zero);
    f(row[k + 1] - zero);
    f(row[k + 2] - zero);
    f(row[k + 3] - zero);
  }
  for (; k < K; ++k) f(row[k] - zero);
}

/// The counts of `lanes` rewards in one row of numbers. Not inlined, where g++ 12 would keep the counters in memory.
template <real_scalar S>
[[gnu::noinline]] void count_lanes(const S* row, Eigen::Index K, const S* rewards, lane_counts<S>& result) {
  constexpr int size = vector_of<S>::size;
  using numbers = typename vector_of<S>::numbers;
  counting_register<S> a(rewards);
  if constexpr (size == lanes<S>) {
    for_each_number(row, K, [&](numbers x) { a(x); });
  } else {  // two registers, by name: compilers keep an array of them in memory
    counting_register<S> b(rewards + size);
    for_each_number(row, K, [&](numbers x) {
      a(x);
      b(x);
    });
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
    const auto x = vector::load(row + k);
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
    result.below[j] = static_cast<counter_of<S>>(below), result.at_most[j] = static_cast<counter_of<S>>(below + tied);
  }
}
#endif

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
  using vector = vector_of<S>;
  constexpr int size = vector::size;
  typename vector::numbers a{}, b{}, c{}, d{};  // four sums, which wait for each other little
  for (; k + 4 * size <= K; k += 4 * size) {
    a += vector::load(row + k);
    b += vector::load(row + k + size);
    c += vector::load(row + k + 2 * size);
    d += vector::load(row + k + 3 * size);
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
      c.below[0] = static_cast<counter_of<S>>(below), c.at_most[0] = static_cast<counter_of<S>>(below + tied);
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

}  // namespace infalign::detail
