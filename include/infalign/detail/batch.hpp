// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/eigen.hpp>
#include <infalign/detail/overlap.hpp>
#include <infalign/detail/parallel.hpp>

#include <algorithm>
#include <string>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// A batch: rewards, and the prompt that each of them belongs to.
///
/// Users pass a batch in two ways: `rewards` (P × M, row p belongs to prompt p), or `prompt, rewards` (a flat batch,
/// reward i belongs to prompt[i]; its rewards are any `number_list`, such as a `std::vector`). `with_batch` turns both
/// into prompts and rewards. The prompts are `row_prompts` or `flat_prompts`; both have one interface, so that every
/// algorithm is written once.
namespace INFALIGN_NAMESPACE::detail {

/// The function that the user called, for error messages, and what it does with NaN.
struct caller {
  const char* function;
  unscored on_unscored = unscored::error;
};

/// Rows of numbers in memory, `stride` numbers apart. A flat batch is one row.
template <class S>
struct rows_view {
  S* data;
  Eigen::Index rows, columns, stride;

  S* row(Eigen::Index r) const { return data + r * stride; }
  Eigen::Index size() const { return rows * columns; }
  /// True if the numbers are contiguous.
  bool packed() const { return rows <= 1 || stride == columns; }
  rows_view as_one_row() const { return {data, 1, size(), size()}; }
  operator rows_view<const S>() const requires(!std::is_const_v<S>) { return {data, rows, columns, stride}; }
};

/// The prompts of a P × M batch.
struct row_prompts {
  Eigen::Index rows, columns;

  Eigen::Index size() const { return rows * columns; }
  /// The row of response i.
  Eigen::Index operator[](Eigen::Index i) const { return i / columns; }
  std::string position(Eigen::Index i) const { return position_in(i, columns); }

  /// Throws unless a table has one row for each prompt.
  void check(const char* function, Eigen::Index table_rows) const {
    if (rows != table_rows)
      fail(function, concat(table_rows, " rows of rewards, one for each row of the reference"), concat(rows));
  }

  /// Calls f(p, ahead, run, n) for the n rewards of prompt p, for each prompt. `ahead` is a prompt that will be visited
  /// soon.
  template <class S, class F>
  void for_each_run(const rows_view<S>& rewards, double work, Eigen::Index distance, const F& f) const {
    for_each_row(rows, work, [&](Eigen::Index p) { f(p, std::min(p + distance, rows - 1), rewards.row(p), columns); });
  }
};

/// The prompts of a flat batch.
template <prompt_index Prompts>
struct flat_prompts {
  const Prompts& prompt;
  // The rewards are one row in memory.
  Eigen::Index rows = 1, columns = static_cast<Eigen::Index>(prompt.size());

  Eigen::Index size() const { return columns; }
  /// The index of response i, as a number even if it is a char.
  auto operator[](Eigen::Index i) const { return +prompt[static_cast<decltype(prompt.size())>(i)]; }
  std::string position(Eigen::Index i) const { return detail::position(i); }

  /// Throws unless every index is a row of a table.
  void check(const char* function, Eigen::Index table_rows) const {
    const auto& self = *this;
    if (size() > 0 && table_rows == 0) fail(function, "a reference with a row for each prompt", "no rows");
    for (Eigen::Index i = 0; i < size(); ++i)
      if (std::cmp_less(self[i], 0) || std::cmp_greater_equal(self[i], table_rows))
        fail(function, concat("prompt indices from 0 to ", table_rows - 1), concat(self[i], position(i)));
  }

  /// Calls f(p, ahead, run, n) for each run of n neighbours that belong to one prompt p.
  template <class S, class F>
  void for_each_run(const rows_view<S>& rewards, double work, Eigen::Index distance, const F& f) const {
    const auto index = [&](Eigen::Index i) { return static_cast<Eigen::Index>((*this)[i]); };
    for_each_piece(size(), work, [&](Eigen::Index begin, Eigen::Index stop) {
      for (Eigen::Index first = begin, end = begin; first < stop; first = end) {
        const auto p = index(first);
        while (end < stop && index(end) == p) ++end;
        f(p, index(std::min(end + distance, stop - 1)), rewards.data + first, end - first);
      }
    });
  }
};

/// True if arguments begin with a batch: `rewards` or `prompt, rewards`.
template <class... Args>
inline constexpr bool begins_with_batch = false;
template <array_expression R, class... Options>
inline constexpr bool begins_with_batch<R, Options...> = true;
template <prompt_index Prompts, number_list R, class... Options>
inline constexpr bool begins_with_batch<Prompts, R, Options...> = true;
template <number_range R, class... Options>
inline constexpr bool begins_with_batch<R, Options...> = true;  // refused by `with_batch`, which says why

/// The arguments of a call on a batch: `[prompt,] rewards, options...`.
template <class... Args>
concept batch_arguments = begins_with_batch<Args...>;

/// Calls f(prompts, rewards, options...) for the arguments of a call on a batch. The rewards of a flat batch are a row.
template <class F, array_expression R, class... Options>
decltype(auto) with_batch(const char*, const F& f, const R& rewards, const Options&... options) {
  return f(row_prompts{rewards.rows(), rewards.cols()}, rewards, options...);
}
template <class F, prompt_index Prompts, number_list R, class... Options>
decltype(auto) with_batch(const char* function, const F& f, const Prompts& prompt, const R& rewards,
                          const Options&... options) {
  check_size(function, "prompt indices, one for each reward", size_of(rewards), size_of(prompt));
  return f(flat_prompts<Prompts>{prompt}, as_column(rewards).transpose(), options...);
}
template <class F, number_range R, class... Options>
void with_batch(const char*, const F&, const R&, const Options&...) {
  static_assert(!number_range<R>,
                "infalign: a std::vector or a std::span of rewards has no rows: pass prompt indices before it, or view "
                "it as P x M with Eigen::Map<const infalign::matrix<S>>");
}

/// An Eigen object whose numbers can be written to in place: a matrix, an array, a Map, a Ref or a block, of floats or
/// doubles.
template <class E>
concept result_buffer = array_expression<std::remove_reference_t<E>> &&
                            (int(std::remove_reference_t<E>::Flags) & Eigen::DirectAccessBit) != 0 &&
                        requires(E& e) {
  e.coeffRef(0, 0) = typename std::remove_reference_t<E>::Scalar{};
};

/// The rows of an Eigen object in memory, read-only or not. Its rows must be contiguous.
template <class S, class E>
rows_view<S> rows_in_memory(const char* function, E& e) {
  static_assert(E::IsVectorAtCompileTime || E::IsRowMajor,
                "infalign: rows must be contiguous; use infalign::matrix, which is row-major");
  if constexpr (int(E::ColsAtCompileTime) == 1) {
    return {e.data(), e.rows(), 1, e.innerStride()};
  } else {
    if (e.innerStride() != 1)
      fail(function, "rows contiguous in memory", concat("an inner stride of ", e.innerStride()));
    return {e.data(), e.rows(), e.cols(), e.outerStride()};
  }
}

/// The memory of a result, after a check that its shape is the batch's.
template <result_buffer E>
auto rows_of_result(const char* function, E& result, const row_prompts& prompts) {
  if (result.rows() != prompts.rows || result.cols() != prompts.columns)
    fail(function, concat("a result of ", prompts.rows, " x ", prompts.columns),
         concat(result.rows(), " x ", result.cols()));
  return rows_in_memory<typename E::Scalar>(function, result);
}
template <result_buffer E, prompt_index Prompts>
auto rows_of_result(const char* function, E& result, const flat_prompts<Prompts>& prompts) {
  static_assert(vector_expression<E>, "infalign: the result of a flat batch is a row or a column");
  check_size(function, "numbers in the result, one for each reward", prompts.size(), result.size());
  if (result.size() > 1 && result.innerStride() != 1)
    fail(function, "a result contiguous in memory", concat("an inner stride of ", result.innerStride()));
  return rows_view<typename E::Scalar>{result.data(), 1, result.size(), result.size()};
}

template <class S>
memory memory_of(const rows_view<S>& rows) {
  return {rows.data, rows.rows, rows.columns, rows.stride, 1};
}

/// Contiguous memory for the numbers of a batch.
template <class S, class Prompts>
rows_view<S> packed_rows(S* data, const Prompts& prompts) {
  return {data, prompts.rows, prompts.columns, prompts.columns};
}

/// A result of a batch's shape: a column for a flat batch and for rewards that are a column, else a matrix.
template <class Prompts, class R>
auto make_result(const Prompts& prompts, const R&) {
  if constexpr (std::same_as<Prompts, row_prompts> && int(R::ColsAtCompileTime) != 1)
    return matrix<typename R::Scalar>(prompts.rows, prompts.columns);
  else
    return array<typename R::Scalar>(prompts.size());
}

/// Copies rewards to memory of their shape. Not inlined: GCC warns of vector loads beyond a small object whose size it
/// knows.
template <class S, class R>
[[gnu::noinline]] void copy_rewards(const R& rewards, const rows_view<S>& to) {
  Eigen::Map<matrix<S>, 0, Eigen::OuterStride<>>(to.data, to.rows, to.columns, Eigen::OuterStride<>(to.stride)) =
      as_array(rewards);
}

/// Throws at the first NaN of a batch, unless NaN is propagated.
template <class Prompts, class S>
void check_scored(const caller& call, const Prompts& prompts, const rows_view<S>& rewards) {
  if (call.on_unscored == unscored::propagate) return;
  for (Eigen::Index r = 0; r < rewards.rows; ++r)
    for (Eigen::Index c = 0; c < rewards.columns; ++c)
      if (is_nan(rewards.row(r)[c]))
        fail(call.function, "rewards that are numbers", concat("NaN", prompts.position(r * rewards.columns + c)));
}

/// Returns the numbers that f makes of a batch: f(rows, prompts, options...) replaces the rewards in `rows` by them.
template <class F, class... Batch>
auto replaced(const char* function, const F& f, const Batch&... batch) {
  return with_batch(
      function,
      [&](const auto& batch_prompts, const auto& batch_rewards, const auto&... options) {
        auto result = make_result(batch_prompts, batch_rewards);
        const auto batch_rows = packed_rows(result.data(), batch_prompts);
        copy_rewards(batch_rewards, batch_rows);
        f(batch_rows, batch_prompts, options...);
        return result;
      },
      batch...);
}

/// Writes them to `result`, a buffer of the batch's shape with contiguous rows, instead. `into`: the function that the
/// user called, for errors of the buffer.
template <class Result, class F, class... Batch>
void replaced_into(const char* function, const char* into, Result& result, const F& f, const Batch&... batch) {
  with_batch(
      function,
      [&](const auto& batch_prompts, const auto& batch_rewards, const auto&... options) {
        const auto batch_rows = rows_of_result(into, result, batch_prompts);
        check_same_place(into, memory_of(batch_rows), memory_of(batch_rewards), "the rewards");
        copy_rewards(batch_rewards, batch_rows);
        f(batch_rows, batch_prompts, options...);
      },
      batch...);
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
