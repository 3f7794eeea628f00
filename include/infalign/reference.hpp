// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/core.hpp>

#include <utility>
#include <vector>

/// Where the reference rewards of each prompt lie: the rows of a matrix, or rows of different lengths.
namespace infalign {

/// A table of reference rewards: `rows()` prompts; `row(p)` views the rewards of prompt p, contiguous in memory.
/// Any type that models it can be calibrated against; Eigen objects are taken as they are.
template <class T>
concept reference_table = real_scalar<typename T::Scalar> && requires(const T& table, Eigen::Index p) {
  { table.rows() } -> std::convertible_to<Eigen::Index>;
  { table.row(p) } -> std::same_as<Eigen::Map<const array<typename T::Scalar>>>;
};

/// Rows of different lengths, one after another: row p is values[offsets[p]] .. values[offsets[p + 1] − 1].
///
///     ragged table(values, offsets);             // owns copies; std::move both in to own them without
///     ragged view(Eigen::Map<…>(…), offsets);    // a Map is a view: the caller keeps the buffer alive
///     ragged lines(vectors);                     // from std::vector<std::vector<float>>, copied
///
/// Throws unless offsets start at 0, never decrease and end at the number of values. A row may be empty until it is
/// calibrated against.
template <vector_expression Values, prompt_index Offsets>
class ragged {
 public:
  using Scalar = typename Values::Scalar;

  ragged(Values values, Offsets offsets) : values_(std::move(values)), offsets_(std::move(offsets)) {
    static_assert(
        requires { values_.data(); },
        "infalign::ragged holds an Eigen vector or a Map of one: evaluate the expression first");
    check();
  }

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

  Eigen::Index rows() const { return static_cast<Eigen::Index>(offsets_.size()) - 1; }

  Eigen::Map<const array<Scalar>> row(Eigen::Index p) const {
    return {values_.data() + offset(p), offset(p + 1) - offset(p)};
  }

 private:
  Eigen::Index offset(Eigen::Index p) const {
    return static_cast<Eigen::Index>(offsets_[static_cast<decltype(offsets_.size())>(p)]);
  }

  void check() const {
    if (values_.innerStride() != 1)
      detail::fail("ragged", "values that lie next to each other", detail::text("a stride of ", values_.innerStride()));
    if (offsets_.size() == 0) detail::fail("ragged", "offsets that start at 0", "no offsets");
    if (offset(0) != 0) detail::fail("ragged", "offsets that start at 0", detail::text(offset(0)));
    for (Eigen::Index p = 0; p < rows(); ++p)
      if (offset(p + 1) < offset(p))
        detail::fail("ragged", "offsets that never decrease", detail::text(offset(p + 1), detail::at(p + 1)));
    if (offset(rows()) != values_.size())
      detail::fail("ragged", detail::text("offsets that end at the number of values, ", values_.size()),
                   detail::text(offset(rows())));
  }

  Values values_;
  Offsets offsets_;
};

template <real_scalar S>
ragged(const std::vector<std::vector<S>>&) -> ragged<array<S>, std::vector<Eigen::Index>>;

namespace detail {

/// An Eigen object seen as a reference table: its own buffer where the rows lie contiguous in memory, else a row-major
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

/// A Map or Ref whose rows are contiguous in memory by its type.
template <class T>
concept row_view = is_map_or_ref<T> &&(T::IsRowMajor != 0) && (T::InnerStrideAtCompileTime == 1);

/// What a functor keeps of the reference rewards it is built from: the view itself, the `reference_table` itself, or an
/// owned matrix.
template <class T>
struct kept_as {
  using type = T;
};
template <array_expression E>
requires(!row_view<E>) struct kept_as<E> {
  using type = matrix<typename E::Scalar>;
};

}  // namespace detail

/// What may be calibrated against: an Eigen object with a row for each prompt, or any `reference_table`.
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
}  // namespace infalign
