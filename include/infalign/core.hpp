// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <Eigen/Core>

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "infalign needs Eigen 3.4 or newer"
#endif

/// Inference-aware alignment: calibrated and transformed rewards, and the policy-gradient step that trains on them.
///
/// Source of the method: Balashankar et al., "InfAlign: Inference-aware language model alignment", arXiv:2412.19792
/// (ICML 2025).
///
/// Errors, everywhere: `std::invalid_argument` with the text "function: expected X, got Y at PLACE". Inputs are checked
/// before any result is handed over, so nothing half-made is seen.
namespace infalign {

/// A reward or a log-probability: float or double.
template <class S>
concept real_scalar = std::same_as<S, float> || std::same_as<S, double>;

/// Rows × columns, row-major as NumPy and Torch lay theirs out: row p holds what belongs to prompt p.
template <real_scalar S>
using matrix = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// One number per response of a flat batch.
template <real_scalar S>
using array = Eigen::Array<S, Eigen::Dynamic, 1>;

/// Where results are written: a `matrix`, or an `Eigen::Map` of a row-major buffer, or whole rows of either.
template <real_scalar S>
using row_major_buffer = Eigen::Ref<matrix<S>>;

namespace detail {
template <class D>
void take_dense(const Eigen::DenseBase<D>&);
}

/// Any Eigen matrix, array, map, block or expression of float or double.
template <class E>
concept array_expression = real_scalar<typename E::Scalar> && requires(const E& e) {
  detail::take_dense(e);
};

/// An `array_expression` that is a row or a column by its type: a flat batch.
template <class E>
concept vector_expression = array_expression<E> && bool(E::IsVectorAtCompileTime);

/// The index of a prompt for each response: a `std::vector<int>`, an Eigen array of integers, or anything else with
/// `size()` and `[i]`.
template <class I>
concept prompt_index = requires(const I& prompt) {
  { prompt.size() } -> std::convertible_to<Eigen::Index>;
  requires std::integral<std::remove_cvref_t<decltype(prompt[0])>>;
};

/// What NaN means in a reward: the response could not be scored. `error` refuses it and names its place; `carry` hands
/// it through, and leaves it out of every count, mean and baseline.
enum class unscored { error, carry };

namespace detail {

template <real_scalar S>
inline constexpr const char* name_of = std::same_as<S, float> ? "float" : "double";

/// The bits of x without its sign, shifted so that every NaN is above `nan_limit`. Integers, because -ffast-math lets a
/// compiler assume that `x != x` is false.
template <real_scalar S>
using bits_of = std::conditional_t<sizeof(S) == 4, std::uint32_t, std::uint64_t>;
template <real_scalar S>
inline constexpr bits_of<S> nan_limit = ~bits_of<S>{0} << std::numeric_limits<S>::digits;

template <real_scalar S>
constexpr bool is_nan(S x) noexcept {
  return static_cast<bits_of<S>>(std::bit_cast<bits_of<S>>(x) << 1) > nan_limit<S>;
}
template <real_scalar S>
constexpr bool is_finite(S x) noexcept {
  return static_cast<bits_of<S>>(std::bit_cast<bits_of<S>>(x) << 1) < nan_limit<S>;
}

/// A NaN, made of bits for the same reason.
template <real_scalar S>
inline constexpr S nan = std::bit_cast<S>(
    static_cast<bits_of<S>>(nan_limit<S> >> 1 | bits_of<S>{1} << (std::numeric_limits<S>::digits - 2)));

/// Strings and numbers, one after another, as an error message shows them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::string result;
  const auto append = [&result](const auto& part) {
    using Part = std::remove_cvref_t<decltype(part)>;
    if constexpr (std::integral<Part>) {
      result += std::to_string(part);
    } else if constexpr (std::floating_point<Part>) {
      char buffer[32];
      std::snprintf(buffer, sizeof buffer, "%.9g", static_cast<double>(part));
      result += is_nan(part) ? "NaN" : buffer;
    } else {
      result += part;
    }
  };
  (append(parts), ...);
  return result;
}

inline std::string at(Eigen::Index i) {
  return text(" at index ", i);
}
inline std::string at(Eigen::Index row, Eigen::Index column) {
  return text(" at row ", row, ", column ", column);
}

[[noreturn]] inline void fail(const char* function, const std::string& expected, const std::string& got) {
  throw std::invalid_argument(text(function, ": expected ", expected, ", got ", got));
}

inline void check_size(const char* function, const char* what, Eigen::Index expected, Eigen::Index got) {
  if (expected != got) fail(function, text(expected, " ", what), text(got));
}

/// Throws unless a result's buffer has the shape of what is written there.
template <class Buffer>
void check_result(const char* function, const Buffer& result, Eigen::Index rows, Eigen::Index columns) {
  if (result.rows() != rows || result.cols() != columns)
    fail(function, text("a result of ", rows, " x ", columns), text(result.rows(), " x ", result.cols()));
}

/// Throws unless x is finite and above zero: the rule for every weight, scale and tolerance.
inline void check_positive(const char* function, const char* what, double x) {
  if (!is_finite(x) || !(x > 0)) fail(function, text(what, " finite and above 0"), text(x));
}

/// The same coefficients as an array expression, whether they are of Eigen's matrix or array kind.
template <class D>
auto as_array(const Eigen::MatrixBase<D>& e) {
  return e.array();
}
template <class D>
const D& as_array(const Eigen::ArrayBase<D>& e) {
  return e.derived();
}

/// A row or a column as a column.
template <vector_expression E>
decltype(auto) as_column(const E& e) {
  if constexpr (int(E::RowsAtCompileTime) == 1)
    return as_array(e).transpose();
  else
    return as_array(e);
}

/// What holds one number for each coefficient of E: a column for a flat batch, else a row-major matrix.
template <array_expression E>
using batch_like = std::conditional_t<vector_expression<E>, array<typename E::Scalar>, matrix<typename E::Scalar>>;

/// E evaluated into its `batch_like`.
template <array_expression E>
batch_like<E> evaluated(const E& e) {
  if constexpr (vector_expression<E>)
    return as_column(e);
  else
    return as_array(e);
}

/// The place of coefficient i of a row-major matrix with `columns` columns, or of a flat batch (columns = 0).
inline std::string place(Eigen::Index i, Eigen::Index columns) {
  return columns > 0 ? at(i / columns, i % columns) : at(i);
}

/// Throws where one of `size` rewards is NaN, unless NaN is to be carried.
template <real_scalar S>
void check_scored(const char* function, const S* rewards, Eigen::Index size, Eigen::Index columns, unscored policy) {
  if (policy == unscored::carry) return;
  for (Eigen::Index i = 0; i < size; ++i)
    if (is_nan(rewards[i])) fail(function, "rewards that are numbers", text("NaN", place(i, columns)));
}

}  // namespace detail
}  // namespace infalign
