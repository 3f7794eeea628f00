// SPDX-License-Identifier: MIT
// Copyright (c) 2026 the infalign authors
#pragma once

#include <infalign/detail/errors.hpp>
#include <infalign/detail/floating_point.hpp>
#include <infalign/version.hpp>

#include <Eigen/Core>

#include <concepts>
#include <type_traits>

#include <infalign/detail/begin.hpp>

/// \file
/// The library's vocabulary: scalars, arrays, prompt indices, unscored rewards.

#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "infalign needs Eigen 3.4 or newer"
#endif

/// Inference-aware alignment: calibrated and transformed rewards, and the policy-gradient step that trains on them.
///
/// Method: Balashankar et al., "InfAlign: Inference-aware language model alignment", arXiv:2412.19792 (ICML 2025).
///
/// Errors: a wrong argument is a `std::invalid_argument` with the text "function: expected X, got Y at POSITION".
/// Readers and writers of files also throw `std::runtime_error` if the operating system or a file's text is at fault.
/// In a program that is compiled with -fno-exceptions, an error prints its text and ends the program by `std::abort`.
/// A function that returns its result checks all inputs first. A form that writes into the caller's buffer may have
/// written to it before it throws; the buffer's contents are then unspecified.
namespace INFALIGN_NAMESPACE {

/// A reward or a log-probability: float or double.
template <class S>
concept real_scalar = std::same_as<S, float> || std::same_as<S, double>;

/// Rows × columns, row-major like arrays of NumPy and Torch. Row p belongs to prompt p.
template <real_scalar S>
using matrix = Eigen::Array<S, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// A column: one number for each response of a flat batch.
template <real_scalar S>
using array = Eigen::Array<S, Eigen::Dynamic, 1>;

namespace detail {
template <class D>
void accept_dense(const Eigen::DenseBase<D>&);

/// The size of a container as an index.
template <class Container>
Eigen::Index size_of(const Container& c) {
  return static_cast<Eigen::Index>(c.size());
}
}  // namespace detail

/// Any Eigen matrix, array, map, block or expression of float or double.
template <class E>
concept array_expression = real_scalar<typename E::Scalar> && requires(const E& e) {
  detail::accept_dense(e);
};

/// An `array_expression` that is a row or a column by its type.
template <class E>
concept vector_expression = array_expression<E> && bool(E::IsVectorAtCompileTime);

/// Floats or doubles one after another in memory that are not an Eigen object: a `std::vector`, a `std::span` or a
/// `std::array`.
template <class C>
concept number_range = !array_expression<C> && requires(const C& c) {
  { c.size() } -> std::convertible_to<Eigen::Index>;
  requires real_scalar<std::remove_cvref_t<decltype(*c.data())>>;
};

/// Numbers that have no rows: a `vector_expression`, or a `number_range`, which is read in place.
template <class V>
concept number_list = vector_expression<V> || number_range<V>;

/// The index of a prompt for each response: a `std::vector<int>`, an Eigen array of integers, or any other type with
/// `size()` and `[i]`.
template <class Prompts>
concept prompt_index = requires(const Prompts& prompt) {
  { prompt.size() } -> std::convertible_to<Eigen::Index>;
  requires std::integral<std::remove_cvref_t<decltype(+prompt[0])>>;
};

/// What to do with a reward of NaN, which means that the response could not be scored. `error`: throw, and name its
/// position. `propagate`: its result is NaN (a gradient of 0 in the step), and no count, mean or advantage includes it.
enum class unscored { error, propagate };

}  // namespace INFALIGN_NAMESPACE

#include <infalign/detail/end.hpp>
