// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/batch.hpp>
#include <infalign/detail/dispatch.hpp>
#include <infalign/detail/unit_interval.hpp>

#include <algorithm>
#include <concepts>
#include <type_traits>
#include <utility>

#include <infalign/detail/begin.hpp>

/// \file
/// Transforms Φ: [0, 1] → ℝ of a calibrated reward u, for the way the model will be used (InfAlign, section 4).
///
/// The aligned policy is p ∝ π_ref·exp(Φ/β). Φ with β and a·Φ + b with a·β give the same policy.
namespace INFALIGN_NAMESPACE {

/// A transform: a function from a calibrated reward to the reward that is trained on. Any lambda is one. It is called in a
/// loop over 64 numbers, so compilers vectorise it if it has no branch and no call: see transform/functions.hpp. It may be
/// called more than once for a number.
///
/// Optional members:
/// - `check()` or `check(S)`: throws if its parameters are wrong (for scalar type S). The library calls it once for
///   each use.
/// - `prepare(S)`: returns a function f of one S in [0, 1] with the values of the transform, which is called in the loop in
///   its place. f may have a member `bool fits`: if false, the library does not use it. f may have `static constexpr bool
///   finite = true` if its values are always finite; then they are not checked.
template <class F>
concept reward_transform = !array_expression<F> && requires(const F& phi, double u) {
  { phi(u) } -> std::convertible_to<double>;
};

namespace detail {

/// Whether numbers outside [0, 1] are an error.
enum class domain { any, calibrated };

/// What an element-wise application of a transform does with its numbers.
struct transform_call {
  caller call;
  domain takes;
  Eigen::Index columns;  ///< of the matrix that the numbers belong to, 0 for a flat batch; for error messages
};

/// Φ of one number. NaN stays NaN, or throws.
template <real_scalar S, reward_transform F>
S transform_one(const transform_call& how, const F& phi, S u, Eigen::Index i) {
  if (is_nan(u)) {
    if (how.call.on_unscored == unscored::error)
      fail("transform", "rewards that are numbers", concat("NaN", position_in(i, how.columns)));
    return u;
  }
  if (how.takes == domain::calibrated && (u < 0 || u > 1))
    fail("transform", "calibrated rewards in [0, 1]", concat(u, position_in(i, how.columns)));
  const S y = static_cast<S>(phi(u));
  if (!is_finite(y))
    fail("transform", "a finite value of the transform", concat(y, " for ", u, position_in(i, how.columns)));
  return y;
}

/// The function of a transform that is called in a loop: what `prepare` returns, or the transform itself.
template <real_scalar S, reward_transform F>
decltype(auto) function_of_many(const F& phi) {
  if constexpr (requires { phi.prepare(S{}); })
    return phi.prepare(S{});
  else
    return (phi);
}

/// out[i] = Φ(in[i]) for n numbers, of which the first has index `first` in the batch. `out` may be `in`.
template <real_scalar S, reward_transform F>
void transform_numbers(const transform_call& how, const F& phi, const S* in, S* out, Eigen::Index first,
                       Eigen::Index n) {
  Eigen::Index i = 0;
  const auto one_by_one = [&](Eigen::Index end) {
    for (; i < end; ++i) out[i] = transform_one(how, phi, in[i], first + i);
  };
  constexpr Eigen::Index fewest = 4;  // that are worth a block
  if (n < fewest) return one_by_one(n);
  const auto& f = function_of_many<S>(phi);
  constexpr int N = 256 / sizeof(S);
  // Blocks of N, until one has a number that is an error, NaN, or outside [0, 1]. Returns how many numbers they have.
  const auto blocks = [&](const S* from, S* to, Eigen::Index size) {
    Eigen::Index done = 0;
    at_full_width([&](auto) {
      S copy[std::size_t{N}];
      for (; done + N <= size; done += N) {
        const S* u = from + done;
        if (from == to) u = std::copy_n(u, N, copy) - N;
        if (apply_on_unit_interval<N>(f, u, to + done)) continue;
        if (from == to) std::copy_n(copy, N, to + done);
        return;
      }
    });
    return done;
  };
  while (fits(f) && i + N <= n) {
    i += blocks(in + i, out + i, n - i);
    if (i + N <= n) one_by_one(i + N);
  }
  // What is left, as a block that is filled up with its last number: one by one, each would be prepared anew.
  const Eigen::Index left = n - i;
  if (requires { phi.prepare(S{}); } && fits(f) && left >= fewest) {
    S block[std::size_t{N}];
    std::fill(std::copy_n(in + i, left, block), block + N, in[n - 1]);
    if (blocks(block, block, N) == N) {
      std::copy_n(block, left, out + i);
      return;
    }
  }
  one_by_one(n);
}

/// out = Φ(in), both of one shape. `out` may be `in`.
template <real_scalar S, reward_transform F>
void transform_rows(transform_call how, const F& phi, rows_view<const S> in, rows_view<S> out) {
  check_part<S>(phi);
  if (in.packed() && out.packed()) in = in.as_one_row(), out = out.as_one_row();
  for (Eigen::Index r = 0; r < out.rows; ++r)
    for_each_piece(out.columns, static_cast<double>(out.columns), [&](Eigen::Index first, Eigen::Index end) {
      transform_numbers(how, phi, in.row(r) + first, out.row(r) + first, r * out.columns + first, end - first);
    });
}

/// out = Φ(u). u is read in place if it has rows in memory.
template <array_expression U, class S, reward_transform F>
void transform_expression(const U& u, const rows_view<S>& out, const F& phi, unscored on_unscored = unscored::error) {
  const transform_call how{
      {"transform", on_unscored}, domain::calibrated, int(U::ColsAtCompileTime) == 1 ? 0 : u.cols()};
  if constexpr ((int(U::Flags) & Eigen::DirectAccessBit) != 0 && (U::IsVectorAtCompileTime || U::IsRowMajor)) {
    if (u.innerStride() == 1 || int(U::ColsAtCompileTime) == 1)
      return transform_rows<S>(how, phi, rows_in_memory<const S>("transform", u), out);
  }
  copy_rewards(u, out);
  transform_rows<S>(how, phi, out, out);
}

}  // namespace detail

/// Writes transformed rewards to the caller's buffer. See `transform`.
///
/// Shapes: result has the shape of u; its rows are contiguous. It may be u's own buffer.
/// Cost: no allocation.
/// Errors: as `transform`, and if the result shares memory with u in other places; if it throws, the buffer's contents are unspecified.
template <class Result, array_expression U, reward_transform F>
requires detail::result_buffer<Result>
void transform_into(Result&& result, const U& u, const F& phi, unscored on_unscored = unscored::error) {
  const auto rows = detail::rows_of_result("transform_into", result, detail::row_prompts{u.rows(), u.cols()});
  detail::check_same_place("transform_into", detail::memory_of(rows), detail::memory_of(u), "u");
  detail::transform_expression(u, rows, phi, on_unscored);
}

/// Writes the transformed rewards of a `std::vector`, a `std::span` or another range.
template <class Result, number_range U, reward_transform F>
requires detail::result_buffer<Result>
void transform_into(Result&& result, const U& u, const F& phi, unscored on_unscored = unscored::error) {
  transform_into(result, detail::as_column(u), phi, on_unscored);
}

/// Transforms calibrated rewards, number by number.
///
///     result = Φ(u)
///
/// Shapes: u is any Eigen expression. Returns a column for a column, else a matrix.
/// NaN: an error; with `unscored::propagate` it stays NaN.
/// Errors: if u is outside [0, 1] (it was not calibrated), if Φ(u) is not finite (a logarithm at 0), or if Φ's
/// parameters are wrong.
template <array_expression U, reward_transform F>
auto transform(const U& u, const F& phi, unscored on_unscored = unscored::error) {
  const detail::row_prompts shape{u.rows(), u.cols()};
  auto result = detail::make_result(shape, u);
  detail::transform_expression(u, detail::rows_of_result("transform", result, shape), phi, on_unscored);
  return result;
}

/// Transforms the calibrated rewards of a `std::vector`, a `std::span` or another range. Returns a column.
template <number_range U, reward_transform F>
auto transform(const U& u, const F& phi, unscored on_unscored = unscored::error) {
  return transform(detail::as_column(u), phi, on_unscored);
}

/// Two transforms as one.
///
///     u ↦ second(first(u))
template <reward_transform First, reward_transform Second>
class transform_chain {
 public:
  /// `first` is applied first.
  transform_chain(First first, Second second) : first_(std::move(first)), second_(std::move(second)) {}

  /// Checks the parameters of both.
  template <real_scalar S>
  void check(S) const {
    detail::check_part<S>(first_);
    detail::check_part<S>(second_);
  }

  /// The value at u.
  template <real_scalar S>
  S operator()(S u) const {
    return static_cast<S>(second_(static_cast<S>(first_(u))));
  }

 private:
  First first_;
  Second second_;
};

/// transform | transform: one transform.
template <reward_transform First, reward_transform Second>
transform_chain<First, Second> operator|(First first, Second second) {
  return {std::move(first), std::move(second)};
}

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
