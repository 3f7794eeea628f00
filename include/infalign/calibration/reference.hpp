// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>
#include <infalign/detail/eigen.hpp>

#include <utility>
#include <vector>

#include <infalign/detail/begin.hpp>

/// \file
/// Tables of reference rewards: the rows of a matrix, or rows of different lengths.
namespace INFALIGN_NAMESPACE {

/// A type with a row of reference rewards for each prompt: `rows()` is the number of prompts, and `row(p)` views the
/// rewards of prompt p, which are contiguous in memory. (Eigen objects need no such type: see `reference_rewards`.)
template <class T>
concept reference_table = real_scalar<typename T::Scalar> && requires(const T& table, Eigen::Index p) {
  { table.rows() } -> std::convertible_to<Eigen::Index>;
  { table.row(p) } -> std::same_as<Eigen::Map<const array<typename T::Scalar>>>;
};

/// A `reference_table` with rows of different lengths, stored one after another:
///
///     row p = values[offsets[p]] … values[offsets[p + 1] − 1]
///
///     ragged table(values, offsets);             // copies both; std::move them to avoid the copies
///     ragged view(Eigen::Map<…>(…), offsets);    // a view of the values, whose buffer must outlive it
///     ragged lines(vectors);                     // a copy of a std::vector<std::vector<float>>
///
/// Shapes: values N, offsets P + 1. A row may be empty, but a calibration rejects it.
/// Errors: if offsets do not start at 0, if they decrease, if they do not end at N, or if values are not contiguous.
template <vector_expression Values, prompt_index Offsets>
class ragged {
 public:
  /// The scalar type of the rewards.
  using Scalar = typename Values::Scalar;

  /// From values and offsets.
  ragged(Values values, Offsets offsets) : values_(std::move(values)), offsets_(std::move(offsets)) {
    static_assert(
        requires { values_.data(); },
        "infalign::ragged holds an Eigen vector or a Map of one: evaluate the expression first");
    check_layout();
  }

  /// From a vector for each row.
  explicit ragged(const std::vector<std::vector<Scalar>>& lines) requires std::same_as<Values, array<Scalar>> &&
      std::same_as<Offsets, std::vector<Eigen::Index>> {
    offsets_.reserve(lines.size() + 1);
    offsets_.push_back(0);
    for (const auto& line : lines) offsets_.push_back(offsets_.back() + static_cast<Eigen::Index>(line.size()));
    values_.resize(offsets_.back());
    Eigen::Index i = 0;
    for (const auto& line : lines)
      for (const Scalar reward : line) values_[i++] = reward;
  }

  /// The number of rows, P.
  Eigen::Index rows() const { return static_cast<Eigen::Index>(offsets_.size()) - 1; }

  /// The rewards of prompt p, 0 ≤ p < P, which is checked in debug builds only.
  Eigen::Map<const array<Scalar>> row(Eigen::Index p) const INFALIGN_LIFETIMEBOUND {
    eigen_assert(p >= 0 && p < rows());
    return {values_.data() + offset(p), offset(p + 1) - offset(p)};
  }

 private:
  Eigen::Index offset(Eigen::Index p) const {
    return static_cast<Eigen::Index>(offsets_[static_cast<decltype(offsets_.size())>(p)]);
  }

  void check_layout() const {
    if (values_.innerStride() != 1)
      detail::fail("ragged", "values that lie next to each other",
                   detail::concat("a stride of ", values_.innerStride()));
    if (offsets_.size() == 0) detail::fail("ragged", "offsets that start at 0", "no offsets");
    if (offset(0) != 0) detail::fail("ragged", "offsets that start at 0", detail::concat(offset(0)));
    for (Eigen::Index p = 0; p < rows(); ++p)
      if (offset(p + 1) < offset(p))
        detail::fail("ragged", "offsets that never decrease", detail::concat(offset(p + 1), detail::position(p + 1)));
    if (offset(rows()) != values_.size())
      detail::fail("ragged", detail::concat("offsets that end at the number of values, ", values_.size()),
                   detail::concat(offset(rows())));
  }

  Values values_;
  Offsets offsets_;
};

/// `ragged lines(vectors)` owns its values and offsets.
template <real_scalar S>
ragged(const std::vector<std::vector<S>>&) -> ragged<array<S>, std::vector<Eigen::Index>>;

namespace detail {

/// An Eigen object as a reference table: a view of its buffer if its rows are contiguous in memory, else a row-major
/// copy.
template <real_scalar S>
class dense_rows {
 public:
  using Scalar = S;
  template <array_expression E>
  explicit dense_rows(const E& e) : values_(as_array(e)) {}

  Eigen::Index rows() const { return values_.rows(); }
  Eigen::Index cols() const { return values_.cols(); }
  Eigen::Map<const array<S>> row(Eigen::Index p) const {
    return {values_.data() + p * values_.outerStride(), values_.cols()};
  }

 private:
  Eigen::Ref<const matrix<S>, 0, Eigen::OuterStride<>> values_;
};

template <class T>
inline constexpr bool is_map_or_ref = false;
template <class Plain, int Options, class Stride>
inline constexpr bool is_map_or_ref<Eigen::Map<Plain, Options, Stride>> = true;
template <class Plain, int Options, class Stride>
inline constexpr bool is_map_or_ref<Eigen::Ref<Plain, Options, Stride>> = true;

/// A Map or Ref whose type says that rows are contiguous in memory.
template <class T>
concept row_view = is_map_or_ref<T> &&(T::IsRowMajor != 0) && (T::InnerStrideAtCompileTime == 1);

/// The type in which a functor stores reference rewards: a `row_view` or a `reference_table` as it is, any other Eigen
/// object as a `matrix`.
template <class T>
struct stored_as {
  using type = T;
};
template <array_expression E>
requires(!row_view<E>) struct stored_as<E> {
  using type = matrix<typename E::Scalar>;
};

}  // namespace detail

/// The type of an argument of reference rewards: an Eigen object with a row for each prompt, or a `reference_table`.
template <class T>
concept reference_rewards = array_expression<T> || reference_table<T>;

namespace detail {

/// Any `reference_rewards` as a `reference_table`.
template <reference_rewards T>
decltype(auto) rows_of(const T& table) {
  if constexpr (array_expression<T>)
    return dense_rows<typename T::Scalar>(table);
  else
    return (table);
}

}  // namespace detail
}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
