// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <infalign/detail/begin.hpp>

/// \file
/// Eigen objects of any kind and order as the arrays that the library computes with.
namespace INFALIGN_NAMESPACE::detail {

/// The coefficients of e as an array expression, whether e is a matrix or an array.
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

/// A range as a view of its numbers.
template <number_range C>
auto as_column(const C& numbers) {
  return Eigen::Map<const array<std::remove_cvref_t<decltype(*numbers.data())>>>(numbers.data(), size_of(numbers));
}

/// An array of E's shape: a column for a column or a row by type, else a row-major matrix.
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

/// The position of coefficient i of a row-major matrix with `columns` columns, or of a flat batch (columns = 0).
inline std::string position_in(Eigen::Index i, Eigen::Index columns) {
  return columns > 0 ? position(i / columns, i % columns) : position(i);
}

/// Throws if one of `size` rewards is NaN, unless NaN is propagated.
template <real_scalar S>
void check_scored(const char* function, const S* rewards, Eigen::Index size, Eigen::Index columns,
                  unscored on_unscored) {
  if (on_unscored == unscored::propagate) return;
  for (Eigen::Index i = 0; i < size; ++i)
    if (is_nan(rewards[i])) fail(function, "rewards that are numbers", concat("NaN", position_in(i, columns)));
}

}  // namespace INFALIGN_NAMESPACE::detail

#include <infalign/detail/end.hpp>
