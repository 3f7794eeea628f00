// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/batch.hpp>
#include <infalign/detail/dispatch.hpp>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <type_traits>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Counting in one row of reference rewards: how many are below a reward, and how many are equal to it.
///
/// Counting needs no sort: it takes a few nanoseconds for a row of 128. Several responses to one prompt are counted
/// together, each in its own lane of a vector register: the row is read once, and nothing is summed across lanes.
namespace INFALIGN_NAMESPACE::detail {

/// #{z < r} and #{z = r} in one row of reference rewards.
struct counts {
  Eigen::Index below = 0, tied = 0;
};

/// The number of rewards that are counted together: 8 floats or 4 doubles.
template <real_scalar S>
inline constexpr int lanes = static_cast<int>(32 / sizeof(S));

/// An integer as wide as a reward.
template <real_scalar S>
using counter_of = std::make_signed_t<bits_of<S>>;

/// #{z < r} and #{z ≤ r} for each of N rewards.
template <real_scalar S, int N = lanes<S>>
struct lane_counts {
  counter_of<S> below[std::size_t{N}], at_most[std::size_t{N}];

  counts operator[](int j) const {
    return {static_cast<Eigen::Index>(below[j]), static_cast<Eigen::Index>(at_most[j] - below[j])};
  }
};

#if defined(__GNUC__) && !defined(INFALIGN_PLAIN_LOOPS)  // a test defines it, to test what other compilers compile
// The compilers' vector types. They need no flags and no intrinsics. Registers are passed by reference, because a function
// that takes or returns one has another calling convention with AVX than without.
template <real_scalar S, std::size_t Bytes>
struct vector_of {
  static constexpr int size = static_cast<int>(Bytes / sizeof(S));
  typedef S numbers __attribute__((vector_size(Bytes)));
  typedef counter_of<S> counters __attribute__((vector_size(Bytes)));

  [[gnu::always_inline]] static void load(numbers& to, const S* from) { std::memcpy(&to, from, sizeof to); }
};

/// A register of rewards, and registers of their counts.
template <real_scalar S, std::size_t Bytes>
struct counting_register {
  using vector = vector_of<S, Bytes>;
  typename vector::numbers rewards;
  typename vector::counters below{}, at_most{};

  [[gnu::always_inline]] explicit counting_register(const S* r) { vector::load(rewards, r); }
  [[gnu::always_inline]] void operator()(const typename vector::numbers& x) {
    below -= x < rewards;  // a true lane is −1
    at_most -= x <= rewards;
  }
  [[gnu::always_inline]] void store(lane_counts<S>& result, int first) const {
    std::memcpy(result.below + first, &below, sizeof below);
    std::memcpy(result.at_most + first, &at_most, sizeof at_most);
  }
};

/// Calls f with a register that has one number of the row in all lanes, for each number. Four calls an iteration, so
/// that the loop costs little at any code alignment.
template <std::size_t Bytes, real_scalar S, class F>
[[gnu::always_inline]] inline void for_each_number(const S* row, Eigen::Index K, const F& f) {
  constexpr typename vector_of<S, Bytes>::numbers zero{};
  Eigen::Index k = 0;
  for (; k + 4 <= K; k += 4) {
    f(row[k] - zero);
    f(row[k + 1] - zero);
    f(row[k + 2] - zero);
    f(row[k + 3] - zero);
  }
  for (; k < K; ++k) f(row[k] - zero);
}

template <std::size_t Bytes, real_scalar S>
[[gnu::always_inline]] inline void count_lanes_in(const S* row, Eigen::Index K, const S* rewards,
                                                  lane_counts<S>& result) {
  using vector = vector_of<S, Bytes>;
  counting_register<S, Bytes> a(rewards);
  if constexpr (vector::size == lanes<S>) {
    for_each_number<Bytes>(
        row, K, [&](const typename vector::numbers& x) __attribute__((always_inline)) { a(x); });
  } else {  // two variables, because compilers store an array of registers in memory
    counting_register<S, Bytes> b(rewards + vector::size);
    for_each_number<Bytes>(
        row, K, [&](const typename vector::numbers& x) __attribute__((always_inline)) {
          a(x);
          b(x);
        });
    b.store(result, vector::size);
  }
  a.store(result, 0);
}

template <std::size_t Bytes, real_scalar S>
[[gnu::always_inline]] inline counts count_one_in(const S* row, Eigen::Index K, S reward) {
  using vector = vector_of<S, Bytes>;
  typename vector::counters below{}, at_most{};
  Eigen::Index k = 0, sum_below = 0, sum_at_most = 0;
  for (; k + vector::size <= K; k += vector::size) {
    typename vector::numbers x;
    vector::load(x, row + k);
    below -= x < reward;
    at_most -= x <= reward;
  }
  for (int j = 0; j < vector::size; ++j) {
    sum_below += static_cast<Eigen::Index>(below[j]);
    sum_at_most += static_cast<Eigen::Index>(at_most[j]);
  }
  for (; k < K; ++k) {
    sum_below += row[k] < reward;
    sum_at_most += row[k] <= reward;
  }
  return {sum_below, sum_at_most - sum_below};
}

template <std::size_t Bytes, real_scalar S>
[[gnu::always_inline]] inline S vector_sum_in(const S* row, Eigen::Index& k, Eigen::Index K) {
  using vector = vector_of<S, Bytes>;
  constexpr int size = vector::size;
  typename vector::numbers a{}, b{}, c{}, d{}, x;  // four independent sums, to hide the latency of addition
  for (; k + 4 * size <= K; k += 4 * size) {
    vector::load(x, row + k);
    a += x;
    vector::load(x, row + k + size);
    b += x;
    vector::load(x, row + k + 2 * size);
    c += x;
    vector::load(x, row + k + 3 * size);
    d += x;
  }
  a = (a + b) + (c + d);
  S sum = 0;
  for (int j = 0; j < size; ++j) sum += a[j];
  return sum;
}

/// The shortest row that is worth a question for the instruction set.
inline constexpr Eigen::Index long_row = 32;

/// The counts of `lanes` rewards in a row without NaN.
template <real_scalar S>
lane_counts<S> count_lanes(const S* row, Eigen::Index K, const S* rewards) {
  lane_counts<S> result;
  at_full_width([&](auto bytes) { count_lanes_in<bytes>(row, K, rewards, result); }, K >= long_row);
  return result;
}

/// The counts of one reward in a row without NaN. The numbers of the row are in the lanes.
template <real_scalar S>
counts count_one(const S* row, Eigen::Index K, S reward) {
  return at_full_width([&](auto bytes) { return count_one_in<bytes>(row, K, reward); }, K >= long_row);
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
lane_counts<S> count_lanes(const S* row, Eigen::Index K, const S* rewards) {
  lane_counts<S> result;
  for (int j = 0; j < lanes<S>; ++j) {
    const auto [below, tied] = count_one(row, K, rewards[j]);
    result.below[j] = static_cast<counter_of<S>>(below), result.at_most[j] = static_cast<counter_of<S>>(below + tied);
  }
  return result;
}
#endif

/// The counts of one reward in a row with NaN. Each number is tested, because under -ffast-math a compiler may replace
/// r < z by the negation of z ≤ r, which is wrong for NaN.
template <real_scalar S>
counts counts_among_scored(const S* row, Eigen::Index K, S reward) {
  counts c;
  for (Eigen::Index k = 0; k < K; ++k) {
    const bool number = !is_nan(row[k]);
    c.below += number & (row[k] < reward);
    c.tied += number & (row[k] == reward);
  }
  return c;
}

/// True if the sum is finite, which proves that the row has no NaN. This is the cheapest such test.
template <real_scalar S>
bool has_finite_sum(const S* row, Eigen::Index K) {
  Eigen::Index k = 0;
  S sum = 0;
#if defined(__GNUC__) && !defined(INFALIGN_PLAIN_LOOPS)
  sum = at_full_width([&](auto bytes) { return vector_sum_in<bytes>(row, k, K); }, K >= long_row);
#endif
  for (; k < K; ++k) sum += row[k];
  return is_finite(sum);
}

/// The number of scored rewards in row p of a table.
///
/// Errors: if one is NaN or there is none, unless NaN is propagated.
template <real_scalar S>
[[gnu::noinline]] Eigen::Index count_scored_one_by_one(const caller& call, const char* whose,
                                                       Eigen::Map<const array<S>> row, Eigen::Index p) {
  Eigen::Index scored = 0;
  for (const S r : row) scored += !is_nan(r);
  if (scored < row.size() && call.on_unscored == unscored::error) {
    const auto k = std::find_if(row.begin(), row.end(), is_nan<S>) - row.begin();
    fail(call.function, concat(whose, " rewards that are numbers"), concat("NaN", position(p, k)));
  }
  if (scored == 0 && call.on_unscored == unscored::error)
    fail(call.function, concat("at least one ", whose, " reward for each prompt"), concat("none at row ", p));
  return scored;
}
template <real_scalar S>
Eigen::Index count_scored(const caller& call, const char* whose, Eigen::Map<const array<S>> row, Eigen::Index p) {
  if (row.size() > 0 && has_finite_sum(row.data(), row.size())) return row.size();
  return count_scored_one_by_one(call, whose, row, p);
}

/// Counts `size` rewards in a row of K, of which `scored` are not NaN.
///
/// Calls f(first, n, counts) for n rewards at a time that are counted together. The counts of a NaN are unspecified. f
/// may overwrite its rewards.
template <real_scalar S, class F>
void count_each(const S* row, Eigen::Index K, Eigen::Index scored, const S* rewards, Eigen::Index size, const F& f) {
  const auto one_by_one = [&](Eigen::Index i, const S* z, const auto& count) {
    for (; i < size; ++i) {
      const auto [below, tied] = count(z, K, rewards[i]);
      f(i, 1, lane_counts<S, 1>{{static_cast<counter_of<S>>(below)}, {static_cast<counter_of<S>>(below + tied)}});
    }
  };
  if (scored < K) return one_by_one(0, row, counts_among_scored<S>);
  Eigen::Index i = 0;
  for (; size - i >= lanes<S>; i += lanes<S>) f(i, lanes<S>, count_lanes(row, K, rewards + i));
  if (const int rest = static_cast<int>(size - i); rest > lanes<S> / 2) {
    S r[lanes<S>] = {};
    std::copy_n(rewards + i, rest, r);
    return f(i, rest, count_lanes(row, K, r));
  }
  one_by_one(i, row, count_one<S>);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
